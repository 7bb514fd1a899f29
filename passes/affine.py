"""Index maps: inversion, simplification, and what they cost. A map is a tuple of `Expr` over dimensions of stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..ir.expr import Call, Dim, Expr, Range, Sym, as_dim, as_expr, const, floordiv, mod, product, sym
from ..ir.kernel.form import LoopDim


def ranges_of(dims: Iterable[LoopDim]) -> dict[str, Range]:
    """What values the dimensions take: 0 .. extent-1, unbounded above where the extent is symbolic."""
    return {d.name: (0, d.extent - 1 if isinstance(d.extent, int) else None) for d in dims}


def calls(exprs: Iterable[Expr]) -> int:
    """Number of divisions, remainders, minima and maxima in `exprs`: what keeps a map from being linear."""
    return sum(_calls(e) for e in exprs)


def _calls(e: Expr) -> int:
    found = 0
    for monomial, _ in e.terms:
        for atom in monomial:
            if isinstance(atom, Call):
                found += 1 + sum(_calls(a) for a in atom.args)
    return found


def unit_dims(map: Sequence[Expr]) -> frozenset[str]:
    """Dimensions that step by one element through a row-major buffer accessed at `map`: those with coefficient 1 in
    the last coordinate that is not constant."""
    for e in reversed(map):
        if e.constant is None:
            return frozenset(name for name in e.symbols() if e.coefficient(name) == 1)
    return frozenset()


# -- simplification -----------------------------------------------------------------------------------------------


def tidy(e: Expr, ranges: Mapping[str, Range]) -> Expr:
    """`e` in simpler form: what ranges make superfluous is dropped, nested divisions are merged, and
    `n*(x // n) + x % n` becomes `x`."""
    for _ in range(8):
        after = _recombine(_merge_nested(e.simplify(ranges)))
        if after == e:
            break
        e = after
    return e


def _merge_nested(e: Expr) -> Expr:
    """`(x // a) // b` -> `x // (a*b)`, everywhere in `e`."""
    total = const(0)
    for monomial, c in e.terms:
        part = const(c)
        for atom in monomial:
            part = part * _atom(atom)
        total = total + part
    return total


def _atom(atom: Sym | Call) -> Expr:
    if isinstance(atom, Sym):
        return Expr({(atom,): 1})
    a, b = (_merge_nested(x) for x in atom.args)
    if atom.fn == "floordiv":
        n, inner = b.constant, _only_call(a)
        if n is not None and n > 0 and inner is not None and inner.fn == "floordiv":
            m = inner.args[1].constant
            if m is not None and m > 0:
                return floordiv(inner.args[0], m * n)
        return floordiv(a, b)
    if atom.fn == "mod":
        return mod(a, b)
    return Expr({(Call(atom.fn, (a, b)),): 1})


def _only_call(e: Expr) -> Call | None:
    match e.terms:
        case (((Call() as call,), 1),):
            return call
        case _:
            return None


def _recombine(e: Expr) -> Expr:
    """`c*n*(x // n) + c*(x % n)` -> `c*x`."""
    for monomial, c in e.terms:
        match monomial:
            case (Call(fn="mod", args=(x, n)),) if (size := n.constant) is not None:
                whole = floordiv(x, size)
                want = _merge_nested(whole) * (c * size)
                if want.terms and all(_coefficient(e, m) == k for m, k in want.terms if m):
                    return e - Expr({monomial: c}) - want + x * c
            case _:
                pass
    return e


def _coefficient(e: Expr, monomial: tuple[Sym | Call, ...]) -> int:
    """Coefficient of `monomial` in `e`."""
    return next((c for m, c in e.terms if m == monomial), 0)


# -- inversion ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Digit:
    """`(dim // unit) % size`, which stands in a coordinate with coefficient `weight`."""

    dim: str
    unit: int
    size: Dim
    weight: int
    coordinate: int


def coordinate(index: int) -> str:
    """The symbol that stands for coordinate `index` in what `invert` gives."""
    return f"#{index}"


def invert(map: Sequence[Expr], dims: Sequence[LoopDim], shape: Sequence[Dim]) -> dict[str, Expr] | None:
    """The inverse of `map`, from the dimensions `dims` to the coordinates of a buffer of `shape`: each dimension as an
    expression of the symbols `coordinate(0)`, ... None unless `map` is provably one-to-one and onto.

    What is understood: coordinates that are mixed-radix numbers of digits of dimensions, that is permutations, merges
    (`h*64 + d`), splits (`n // 64`, `n % 64`) and combinations.
    """
    extents = {d.name: d.extent for d in dims}
    ones = {name: const(0) for name, extent in extents.items() if extent == 1}
    ranges = ranges_of(dims)
    digits: list[_Digit] = []
    for k, e in enumerate(map):
        found = _digits(tidy(e.substitute(ones), ranges), k, extents)
        if found is None or product(d.size for d in found) != shape[k]:
            return None
        digits += found
    inverse: dict[str, Expr] = dict(ones)
    for name, extent in extents.items():
        if extent != 1:
            whole = _whole(sorted((d for d in digits if d.dim == name), key=lambda d: d.unit), extent, shape)
            if whole is None:
                return None
            inverse[name] = whole
    return inverse


def _digits(e: Expr, k: int, extents: Mapping[str, Dim]) -> list[_Digit] | None:
    """The digits of coordinate number k, the least significant first; None unless they are a mixed-radix number."""
    found: list[_Digit] = []
    for monomial, weight in e.terms:
        digit = _digit(monomial, weight, k, extents)
        if digit is None:
            return None
        found.append(digit)
    found.sort(key=lambda d: d.weight)
    expected: Dim = 1
    for d in found:
        if d.weight != expected:
            return None
        expected = as_dim(as_expr(expected) * d.size)
    return found


def _digit(monomial: tuple[Sym | Call, ...], weight: int, k: int, extents: Mapping[str, Dim]) -> _Digit | None:
    if len(monomial) != 1 or weight <= 0:
        return None
    atom, size, unit = monomial[0], 0, 1
    if isinstance(atom, Call) and atom.fn == "mod":
        size = atom.args[1].constant or 0
        match atom.args[0].terms:
            case (((inner,), 1),) if size > 0:
                atom = inner
            case _:
                return None
    if isinstance(atom, Call) and atom.fn == "floordiv":
        unit = atom.args[1].constant or 0
        match atom.args[0].terms:
            case (((Sym() as inner,), 1),) if unit > 0:
                atom = inner
            case _:
                return None
    if not isinstance(atom, Sym) or atom.name not in extents:
        return None
    extent = extents[atom.name]
    if unit == 1 and size == 0:
        return _Digit(atom.name, 1, extent, weight, k)
    if not isinstance(extent, int) or extent % (unit * max(size, 1)):
        return None
    return _Digit(atom.name, unit, size or extent // unit, weight, k)


def _whole(digits: Sequence[_Digit], extent: Dim, shape: Sequence[Dim]) -> Expr | None:
    """The dimension from its digits; None unless they make it up completely, each once."""
    total, unit = const(0), as_dim(1)
    for d in digits:
        if d.unit != unit:
            return None
        value = floordiv(sym(coordinate(d.coordinate)), d.weight)
        most_significant = as_dim(as_expr(d.weight) * d.size) == shape[d.coordinate]
        total = total + (value if most_significant else mod(value, d.size)) * d.unit
        unit = as_dim(as_expr(unit) * d.size)
    return total if unit == extent else None


def inside(map: Sequence[Expr], shape: Sequence[Dim], ranges: Mapping[str, Range]) -> bool:
    """True when `map` provably never leaves a buffer of `shape`."""
    for e, extent in zip(map, shape, strict=True):
        low, _ = e.bounds(ranges)
        room, _ = (as_expr(extent) - 1 - e).bounds(ranges)
        if low is None or low < 0 or room is None or room < 0:
            return False
    return True


def is_rearrangement(map: Sequence[Expr], shape: Sequence[Dim], target: Sequence[Dim]) -> bool:
    """True when `map`, from the coordinates `#k` of a buffer of `shape` to one of `target`, only reorders, adds and
    drops dimensions of extent 1: then it leaves `target` exactly when the coordinates leave `shape`."""
    names = {coordinate(k): d for k, d in enumerate(shape) if d != 1}
    for e, extent in zip(map, target, strict=True):
        if extent == 1 and e.constant == 0:
            continue
        if names.pop(e.symbol or "", None) != extent:
            return False
    return not names
