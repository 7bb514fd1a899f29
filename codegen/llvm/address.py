"""Integer expressions as code: loop counters, coordinates, offsets.

While code is written, every dimension of a stage has a *base*: an `Expr` over the counters of the loops that are open
(`L1`, `L2`, ... with known ranges), so divisions by block sizes vanish in the canonical form instead of in the
machine. `Expressions` turns such an `Expr` into instructions, once per scope.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager

from ...ir.expr import Atom, Call, Expr, Monomial, Range, Sym, const, floordiv, mod, sym
from .builder import Builder, Ty, V, i64, lane_constant, number


class Expressions:
    """Values of symbols, known ranges, and the code that was already written for an expression in an open scope."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.ranges: dict[str, Range] = {}
        self._values: dict[str, V] = {}
        self._depths: dict[str, int] = {}
        self._scopes: list[dict[Expr, V]] = [{}]
        self._fresh = 0

    def bind(self, name: str, value: V, range: Range) -> None:
        """Say what symbol `name` is, here and in inner scopes."""
        self._values[name] = value
        self._depths[name] = len(self._scopes)
        self.ranges[name] = range

    def fresh(self, prefix: str, value: V, range: Range) -> Expr:
        """A new symbol for `value`."""
        self._fresh += 1
        self.bind(f"{prefix}{self._fresh}", value, range)
        return sym(f"{prefix}{self._fresh}")

    def lane(self, lanes: int) -> Expr:
        """The symbol of the lane number, 0 .. lanes-1."""
        name = f"@{lanes}"
        if name not in self._values:
            self._values[name] = lane_constant(Ty("i64", lanes), range(lanes))
            self._depths[name] = 0
            self.ranges[name] = (0, lanes - 1)
        return sym(name)

    def has_lanes(self, e: Expr) -> bool:
        """True when its value differs between lanes."""
        return any(name in self._values and self._values[name].ty.lanes for name in e.symbols())

    @contextmanager
    def scope(self) -> Generator[None]:
        """Code that does not dominate what follows: its values are forgotten at the end."""
        self._scopes.append({})
        yield
        self._scopes.pop()

    def simplify(self, e: Expr) -> Expr:
        """`e` with what the ranges make superfluous removed."""
        if not _has_call(e):
            return e
        return recombine(self._split_calls(e.simplify(self.ranges)))

    def _split_calls(self, e: Expr) -> Expr:
        """`(g*x + r) // (g*n)` is `x // n` for 0 <= r < g, and the remainder is `g*(x % n) + r`."""
        total = const(0)
        for monomial, c in e.terms:
            part = const(c)
            for atom in monomial:
                part = part * (self._split_call(atom) if isinstance(atom, Call) else Expr({(atom,): 1}))
            total = total + part
        return total

    def _split_call(self, atom: Call) -> Expr:
        a, n = atom.args[0], atom.args[1].constant
        whole = Expr({(atom,): 1})
        if atom.fn not in ("floordiv", "mod") or n is None or n <= 1:
            return whole
        for g in sorted({math.gcd(c, n) for m, c in a.terms if m} - {1, n}, reverse=True):
            high = Expr({m: c // g for m, c in a.terms if c % g == 0 or not m})
            rest = a - high * g
            low, top = rest.bounds(self.ranges)
            if low is not None and low >= 0 and top is not None and top < g:
                quotient = floordiv(high, n // g) if atom.fn == "floordiv" else mod(high, n // g) * g + rest
                return quotient.simplify(self.ranges)
        return whole

    def value(self, e: Expr) -> V:
        """Code for `e`: an i64, or a vector of them when it depends on the lane."""
        fixed = e.constant
        if fixed is not None:
            return i64(fixed)
        for scope in reversed(self._scopes):
            if e in scope:
                return scope[e]
        v = self._sum(e)
        self._scopes[-1][e] = v
        return v

    def _depth(self, monomial: Monomial) -> int:
        return max((self._depths.get(s, 0) for s in Expr({monomial: 1}).symbols()), default=0)

    def _sum(self, e: Expr) -> V:
        # What belongs to outer loops is added first, so that it can be hoisted as one value.
        depths = {m: self._depth(m) for m, _ in e.terms}
        deepest = max(depths.values())
        outer = Expr({m: c for m, c in e.terms if depths[m] < deepest})
        total: V | None = self.value(outer) if outer.terms else None
        for m, c in e.terms:
            if depths[m] == deepest:
                part = self._product(m, c)
                total = part if total is None else self._op("add", total, part)
        assert total is not None
        return total

    def _op(self, name: str, a: V, b: V) -> V:
        a, b = self.b.same_lanes(a, b)
        return self.b.op(name, a, b)

    def _product(self, monomial: Monomial, c: int) -> V:
        total: V | None = None
        for atom in monomial:
            v = self._atom(atom)
            total = v if total is None else self._op("mul", total, v)
        if total is None:
            return i64(c)
        return total if c == 1 else self._op("mul", total, i64(c))

    def _atom(self, atom: Atom) -> V:
        if isinstance(atom, Sym):
            return self._values[atom.name]
        whole = Expr({(atom,): 1})
        for scope in reversed(self._scopes):
            if whole in scope:
                return scope[whole]
        a, b = self.b.same_lanes(self.value(atom.args[0]), self.value(atom.args[1]))
        if atom.fn in ("min", "max"):
            v = self.b.intrinsic("s" + atom.fn, a, b)
        else:
            low = atom.args[0].bounds(self.ranges)[0]
            v = self._divide(atom, a, b, low is not None and low >= 0)
        self._scopes[-1][whole] = v
        return v

    def _divide(self, atom: Call, a: V, b: V, nonnegative: bool) -> V:
        emit, quotient = self.b, atom.fn == "floordiv"
        if any(name.startswith("?") for name in atom.args[1].symbols()):
            # A number found at run time: where it is no divisor, the shapes are refused before anything runs.
            b = emit.intrinsic("smax", b, emit.splat(i64(1), b.ty.lanes) if b.ty.lanes else i64(1))
        n = atom.args[1].constant
        if nonnegative:
            return emit.op("udiv" if quotient else "urem", a, b)
        if n is not None and n > 0 and n & (n - 1) == 0:
            amount = n.bit_length() - 1 if quotient else n - 1
            return emit.op("ashr" if quotient else "and", a, emit.splat(i64(amount), a.ty.lanes))
        zero = number(0, a.ty)
        r = emit.op("srem", a, b)
        off = emit.op("and", emit.compare("ne", r, zero), emit.compare("slt", emit.op("xor", r, b), zero))
        if quotient:
            return emit.op("add", emit.op("sdiv", a, b), emit.convert("sext", off, "i64"))
        return emit.select(off, emit.op("add", r, b), r)


def _has_call(e: Expr) -> bool:
    return any(isinstance(a, Call) for m, _ in e.terms for a in m)


def recombine(e: Expr) -> Expr:
    """`n*(x // n) + x % n` becomes `x` (times any factor)."""
    terms: dict[Monomial, int] = dict(e.terms)
    for monomial, c in e.terms:
        for position, atom in enumerate(monomial):
            if not (isinstance(atom, Call) and atom.fn == "mod") or monomial not in terms:
                continue
            n = atom.args[1].constant
            rest = monomial[:position] + monomial[position + 1 :]
            twin = Expr({(Call("floordiv", atom.args),): 1}) * Expr({rest: 1})
            ((other, _),) = twin.terms
            if n is not None and terms.get(other) == n * c:
                kept = Expr({m: k for m, k in terms.items() if m not in (monomial, other)})
                return recombine(kept + atom.args[0] * Expr({rest: c}))
    return e
