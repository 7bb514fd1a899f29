"""Quasi-affine integer expressions: symbolic dimensions, index maps and size formulas share this one language.

An `Expr` is a polynomial with integer coefficients over *atoms*: symbols, floor divisions, remainders, minima and
maxima. It is kept in one canonical form, so `==` decides equality of polynomials. Division rounds toward minus
infinity and the remainder has the divisor's sign, as in Python.

A *dimension* (`Dim`) is an `int` where the value is known and an `Expr` where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias, Union

from .atoms import Atom, Call, Monomial, Sym, atom_key, term_key

Dim: TypeAlias = Union[int, "Expr"]
Range: TypeAlias = tuple[int | None, int | None]  # inclusive bounds, None is unbounded


class Expr:
    """An immutable integer expression in canonical form. Build it with `sym`, `const` and Python's operators."""

    __slots__ = ("_hash", "_symbols", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        kept = [term for term in terms.items() if term[1]]
        if len(kept) > 1:
            kept.sort(key=term_key)
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(kept)
        self._hash: int | None = None
        self._symbols: frozenset[str] | None = None

    @staticmethod
    def _ordered(terms: tuple[tuple[Monomial, int], ...]) -> Expr:
        """The expression of these terms, which are in order and none of which is 0."""
        made = object.__new__(Expr)
        made.terms = terms
        made._hash = made._symbols = None
        return made

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def constant(self) -> int | None:
        """The value, when the expression has no symbols; else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    @property
    def offset(self) -> int:
        """The constant term."""
        return next((c for m, c in self.terms if not m), 0)

    @property
    def symbol(self) -> str | None:
        """The name, when the expression is exactly one symbol; else None."""
        match self.terms:
            case (((Sym(name=name),), 1),):
                return name
            case _:
                return None

    @property
    def is_data(self) -> bool:
        """True when a symbol of it is found while the model runs, and is no dimension of an input (`symbol_range`)."""
        return any(name.startswith("?") for name in self.symbols())

    def symbols(self) -> frozenset[str]:
        """Names of all symbols in it."""
        if self._symbols is None:
            self._symbols = frozenset().union(*(atom.symbols() for monomial, _ in self.terms for atom in monomial))
        return self._symbols

    def coefficient(self, name: str) -> int:
        """Coefficient of the bare symbol `name` in the linear part (0 when absent)."""
        return next((c for m, c in self.terms if m == (Sym(name),)), 0)

    def is_linear_in(self, name: str) -> bool:
        """True when `name` occurs only as `constant * name`."""
        return all(m == (Sym(name),) or all(name not in atom.symbols() for atom in m) for m, _ in self.terms)

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def __add__(self, other: Dim) -> Expr:
        more = as_expr(other)
        if not more.terms:
            return self
        if not self.terms:
            return more
        total = dict(self.terms)
        for m, c in more.terms:
            total[m] = total.get(m, 0) + c
        return Expr(total)

    def __mul__(self, other: Dim) -> Expr:
        more = as_expr(other)
        fixed = more.constant
        if fixed is None and self.constant is not None:
            return more * self
        if fixed is not None:
            if fixed == 1:
                return self
            return Expr._ordered(tuple([(m, c * fixed) for m, c in self.terms]) if fixed else ())
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in more.terms:
                m = tuple(sorted(m1 + m2, key=atom_key)) if m1 and m2 else m1 or m2
                total[m] = total.get(m, 0) + c1 * c2
        return Expr(total)

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: Dim) -> Expr:
        return self + as_expr(other) * -1

    def __radd__(self, other: int) -> Expr:
        return self + other

    def __rmul__(self, other: int) -> Expr:
        return self * other

    def __rsub__(self, other: int) -> Expr:
        return as_expr(other) - self

    def __floordiv__(self, other: Dim) -> Expr:
        return floordiv(self, other)

    def __mod__(self, other: Dim) -> Expr:
        return mod(self, other)

    def __rfloordiv__(self, other: int) -> Expr:
        return floordiv(as_expr(other), self)

    def __rmod__(self, other: int) -> Expr:
        return mod(as_expr(other), self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.constant == other
        return isinstance(other, Expr) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.terms)
        return self._hash

    # -- use ----------------------------------------------------------------------------------------------------

    def substitute(self, env: Mapping[str, Dim]) -> Expr:
        """Replace symbols by expressions; symbols that `env` lacks stay."""
        if not any(name in env for name in self.symbols()):
            return self
        total = const(0)
        for monomial, c in self.terms:
            product = const(c)
            for atom in monomial:
                match atom:
                    case Sym(name=name):
                        product = product * env.get(name, Expr({(atom,): 1}))
                    case Call(fn=fn, args=(a, b)):
                        product = product * _CALLS[fn](a.substitute(env), b.substitute(env))
            total = total + product
        return total

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value under `env`, which gives each symbol an int (or a NumPy integer array: then element by element)."""
        total: Any = 0
        for monomial, c in self.terms:
            product: Any = c
            for atom in monomial:
                if isinstance(atom, Sym):
                    value = env[atom.name]
                else:
                    value = _EVALUATE[atom.fn](atom.args[0].evaluate(env), atom.args[1].evaluate(env))
                product = product * value
            total = total + product
        return total

    def bounds(self, ranges: Mapping[str, Range]) -> Range:
        """Inclusive interval that holds every value; a symbol that `ranges` lacks is unbounded."""
        low: int | None = 0
        high: int | None = 0
        for monomial, c in self.terms:
            lo, hi = _product_bounds([_atom_bounds(a, ranges) for a in monomial])
            lo, hi = (_scale(lo, c), _scale(hi, c)) if c > 0 else (_scale(hi, c), _scale(lo, c))
            low = None if low is None or lo is None else low + lo
            high = None if high is None or hi is None else high + hi
        return low, high

    def simplify(self, ranges: Mapping[str, Range]) -> Expr:
        """Use ranges to drop divisions and remainders that do nothing: for d in 0..7 `d // 8 -> 0`, `d % 8 -> d`."""
        total = const(0)
        for monomial, c in self.terms:
            product = const(c)
            for atom in monomial:
                product = product * _simplify_atom(atom, ranges)
            total = total + product
        return total

    def divisor(self, multiples: Mapping[str, int]) -> int:
        """The largest known number that divides every value (0 for the constant 0), when symbol s is a multiple of
        `multiples[s]` (1 when absent)."""
        import math

        found = 0
        for monomial, c in self.terms:
            part = abs(c)
            for atom in monomial:
                part *= multiples.get(atom.name, 1) if isinstance(atom, Sym) else 1
            found = math.gcd(found, part)
        return found

    def __repr__(self) -> str:
        return f"Expr({self})"

    def __str__(self) -> str:
        """Text form: `2*h + i - 1`, `floordiv(c, 16)`. `parse_expr` in `ir.text` reads it back."""
        if not self.terms:
            return "0"
        text = ""
        for monomial, c in self.terms:
            factors = [str(a) for a in monomial]
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            body = "*".join(factors)
            if text:
                text += f" - {body}" if c < 0 else f" + {body}"
            else:
                text = f"-{body}" if c < 0 else body
        return text


def symbol_range(name: str, least: int = 0) -> Range:
    """The values that a shape symbol may have: `?i...` is an element of a tensor, any i64; `?n...` a size found at run
    time, 0 or more; all others are the sizes of inputs, of which the caller knows that they are at least `least`;
    `symbol_bounds` may say more."""
    if name.startswith("?i"):
        return None, None
    low, high = _BOUNDS.get().get(name, (0, None))
    return (low or 0, high) if name.startswith("?") else (max(least, low or 0), high)


_BOUNDS: ContextVar[Mapping[str, Range]] = ContextVar("bounds", default=MappingProxyType({}))


@contextmanager
def symbol_bounds(ranges: Mapping[str, Range]) -> Generator[None]:
    """Inside the block the sizes of inputs have these bounds, which are checked when the model runs."""
    token = _BOUNDS.set({**_BOUNDS.get(), **ranges})
    try:
        yield
    finally:
        _BOUNDS.reset(token)


def bounds_given(symbols: Iterable[str]) -> tuple[tuple[str, Range], ...]:
    """What `symbol_bounds` says of these symbols: part of what code depends on."""
    known = _BOUNDS.get()
    return tuple((name, known[name]) for name in symbols if name in known)


def symbol_ranges(e: Expr, least: int = 0) -> dict[str, Range]:
    """`symbol_range` of every symbol in `e`."""
    return {name: symbol_range(name, least) for name in e.symbols()}


# -- constructors -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 12)
def const(value: int) -> Expr:
    """The constant expression `value`."""
    return Expr({(): value})


@lru_cache(maxsize=1 << 12)
def sym(name: str) -> Expr:
    """The expression that is the symbol `name`."""
    return Expr({(Sym(name),): 1})


def as_expr(value: Dim) -> Expr:
    """`value` as an expression."""
    return value if isinstance(value, Expr) else const(int(value))


def as_dim(value: Dim) -> Dim:
    """`value` as a dimension: an int where it is constant."""
    if isinstance(value, Expr):
        fixed = value.constant
        return value if fixed is None else fixed
    return int(value)


def _split(e: Expr, n: int) -> tuple[Expr, Expr]:
    """`e == n * quotient + rest` with the rest's terms not divisible by n and its constant in 0..n-1."""
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in e.terms:
        if not m:
            quotient[m], rest[m] = divmod(c, n)
        elif c % n == 0:
            quotient[m] = c // n
        else:
            rest[m] = c
    return Expr(quotient), Expr(rest)


def floordiv(a: Dim, b: Dim) -> Expr:
    """`a // b`, rounded toward minus infinity; what divides evenly is pulled out."""
    a, b = as_expr(a), as_expr(b)
    n = b.constant
    if n is not None and n > 0:
        quotient, rest = _split(a, n)
        fixed = rest.constant
        if fixed is not None:
            return quotient + fixed // n
        return quotient + Expr({(Call("floordiv", (rest, b)),): 1})
    if a == b:
        return const(1)
    return Expr({(Call("floordiv", (a, b)),): 1})


def mod(a: Dim, b: Dim) -> Expr:
    """`a % b` with the sign of b; multiples of b are dropped."""
    a, b = as_expr(a), as_expr(b)
    n = b.constant
    if n is not None and n > 0:
        _, rest = _split(a, n)
        fixed = rest.constant
        if fixed is not None:
            return const(fixed % n)
        return Expr({(Call("mod", (rest, b)),): 1})
    if a == b:
        return const(0)
    return Expr({(Call("mod", (a, b)),): 1})


def ceildiv(a: Dim, b: Dim) -> Expr:
    """`a // b` rounded up."""
    return floordiv(as_expr(a) + as_expr(b) - 1, b)


def minimum(a: Dim, b: Dim) -> Expr:
    """The smaller of the two."""
    return _extreme("min", as_expr(a), as_expr(b))


def maximum(a: Dim, b: Dim) -> Expr:
    """The larger of the two."""
    return _extreme("max", as_expr(a), as_expr(b))


def _extreme(fn: str, a: Expr, b: Expr) -> Expr:
    difference = (a - b).constant
    if difference is not None:
        return b if (difference > 0) == (fn == "min") else a
    for one, other in ((a, b), (b, a)):  # max(a, max(a, b)) is max(a, b)
        if _is_call(one, fn, other):
            return one
    first, second = sorted((a, b), key=str)
    return Expr({(Call(fn, (first, second)),): 1})


def _is_call(e: Expr, fn: str, arg: Expr) -> bool:
    match e.terms:
        case (((Call(fn=name, args=args),), 1),):
            return name == fn and arg in args
        case _:
            return False


def product(dims: Iterable[Dim]) -> Dim:
    """Product of dimensions (1 for none)."""
    total: Dim = 1
    for d in dims:
        total = as_expr(total) * d if isinstance(total, Expr) or isinstance(d, Expr) else total * d
    return as_dim(total)


_CALLS: dict[str, Callable[[Dim, Dim], Expr]] = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else a + (b - a) * (b < a)


def _most(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else a + (b - a) * (b > a)


def _divisor(b: Any) -> Any:
    return 1 if isinstance(b, int) and b == 0 else b


_EVALUATE: dict[str, Callable[[Any, Any], Any]] = {
    # A divisor found at run time may be 0: then the shapes are refused, whatever this gives.
    "floordiv": lambda a, b: a // _divisor(b),
    "mod": lambda a, b: a % _divisor(b),
    "min": _least,
    "max": _most,
}


# -- intervals ----------------------------------------------------------------------------------------------------


def _scale(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def _product_bounds(parts: list[Range]) -> Range:
    lo: int | None = 1
    hi: int | None = 1
    for low, high in parts:
        if lo is None or hi is None or low is None or high is None:
            nonnegative = (lo is not None and lo >= 0) and (low is not None and low >= 0)
            lo = lo * low if nonnegative and lo is not None and low is not None else None
            hi = None
            continue
        corners = [lo * low, lo * high, hi * low, hi * high]
        lo, hi = min(corners), max(corners)
    return lo, hi


def _atom_bounds(atom: Atom, ranges: Mapping[str, Range]) -> Range:
    if isinstance(atom, Sym):
        return ranges.get(atom.name, (None, None))
    (alo, ahi), (blo, bhi) = (arg.bounds(ranges) for arg in atom.args)
    match atom.fn:
        case "min":
            lows = None if alo is None or blo is None else min(alo, blo)
            return lows, min((h for h in (ahi, bhi) if h is not None), default=None)
        case "max":
            highs = None if ahi is None or bhi is None else max(ahi, bhi)
            return max((v for v in (alo, blo) if v is not None), default=None), highs
        case "mod":
            if bhi is None or blo is None or blo <= 0:
                return (0, None) if blo is not None and blo > 0 else (None, None)
            if alo is not None and ahi is not None and alo >= 0 and ahi < blo:
                return alo, ahi
            return 0, bhi - 1
        case _:
            if blo is None or blo != bhi or blo <= 0:
                return (0, ahi) if alo is not None and alo >= 0 and blo is not None and blo > 0 else (None, None)
            return (None if alo is None else alo // blo), (None if ahi is None else ahi // blo)


def _simplify_atom(atom: Atom, ranges: Mapping[str, Range]) -> Expr:
    if isinstance(atom, Sym):
        lo, hi = ranges.get(atom.name, (None, None))
        return const(lo) if lo is not None and lo == hi else Expr({(atom,): 1})
    a, b = (arg.simplify(ranges) for arg in atom.args)
    n = b.constant
    (alo, ahi), (blo, bhi) = a.bounds(ranges), b.bounds(ranges)
    divides = atom.fn in ("floordiv", "mod") and n is not None and n > 0
    if divides and n is not None and alo is not None and ahi is not None and alo // n == ahi // n:
        return const(alo // n) if atom.fn == "floordiv" else a - (alo // n) * n
    if atom.fn in ("min", "max"):
        a_smaller = ahi is not None and blo is not None and ahi <= blo
        b_smaller = bhi is not None and alo is not None and bhi <= alo
        if a_smaller:
            return a if atom.fn == "min" else b
        if b_smaller:
            return b if atom.fn == "min" else a
    return _CALLS[atom.fn](a, b)
