"""Size arithmetic: an expression over shape symbols as nodes on i64[1]."""

from __future__ import annotations

from ...ir.expr import Atom, Call, Expr, Sym, symbol_ranges
from .graph import Scope, Tensor


def size_nodes(scope: Scope, e: Expr) -> Tensor:
    """i64[1] with the value of `e`."""
    total: Tensor | None = None
    rest = 0
    # A sum starts with a term that is added, so that `n - 1` is one Sub.
    for monomial, factor in sorted(e.terms, key=lambda term: term[1] < 0):
        if not monomial:
            rest = factor
            continue
        part = _product(scope, monomial, abs(factor) if total is not None else factor)
        total = part if total is None else scope.node("Add" if factor > 0 else "Sub", total, part)
    if total is None:
        return scope.vector([rest])
    if rest:
        total = scope.node("Add" if rest > 0 else "Sub", total, scope.vector([abs(rest)]))
    return total


def _product(scope: Scope, atoms: tuple[Atom, ...], factor: int) -> Tensor:
    found: Tensor | None = None
    for atom in atoms:
        value = _atom(scope, atom)
        found = value if found is None else scope.node("Mul", found, value)
    assert found is not None
    return found if factor == 1 else scope.node("Mul", found, scope.vector([factor]))


def _atom(scope: Scope, atom: Atom) -> Tensor:
    match atom:
        case Sym(name=name):
            return scope.symbol(name)
        case Call(fn=fn, args=(a, b)):
            x, y = scope.size(a), scope.size(b)
            if fn in ("min", "max"):
                return scope.node("Min" if fn == "min" else "Max", x, y)
            if fn == "mod":
                return scope.node("Mod", x, y)
            if _counts(a) and _counts(b):  # truncating is rounding down
                return scope.node("Div", x, y)
            return scope.node("Div", scope.node("Sub", x, scope.node("Mod", x, y)), y)


def _counts(e: Expr) -> bool:
    """Never below 0."""
    low, _ = e.bounds(symbol_ranges(e))
    return low is not None and low >= 0


__all__ = ["size_nodes"]
