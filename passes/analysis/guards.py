"""What must hold for kernels to stay inside their buffers where numbers that are found at run time decide it.

Maps over the sizes of inputs are proved by the verifier. A number from the contents of a tensor (a symbol `?...`) can
be anything, and what relates it to sizes stands in checks that whoever built the operation has written. The conditions
here follow from the finished kernels alone: they are tested when a run begins, so that no wrong or missing check can
make a kernel leave its memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...ir.core import Region
from ...ir.expr import Call as ExprCall
from ...ir.expr import Expr, Sym, as_expr, const, floordiv, maximum, minimum, symbol_range
from ...ir.kernel.form import Kernel, Read, Stage, Write
from ...ir.program import Call, Program
from ...ir.types import TensorType

_NESTING = 8  # extents that depend on dimensions that depend on dimensions ...


def guards(program: Program, kernels: Mapping[str, Kernel]) -> dict[Expr, str]:
    """Expressions that must be at least 0, and the node of each."""
    found: dict[Expr, str] = {}
    seen: set[str] = set()
    for op in program.walk():
        for v in op.results:
            for d in v.tensor.dims if isinstance(v.type, TensorType) else ():
                _need(as_expr(d), {}, found, op.loc)
        if isinstance(op, Call) and op.kernel not in seen:
            seen.add(op.kernel)
            for need, dims in _accesses(kernels[op.kernel].body, {}):
                _need(need, dims, found, op.loc)
    return found


def _need(e: Expr, dims: Mapping[str, Expr], found: dict[Expr, str], loc: str) -> None:
    """Add `e >= 0`, wherever the dimensions have a point at all, unless it is sure or nothing of it is from data."""
    least: Expr | None = e
    for _ in range(_NESTING):
        if least is None or not least.symbols() & dims.keys():
            break
        least = _extreme(least, dims, high=False)
    if least is None or least.symbols() & dims.keys():
        return  # not linear enough to say; the verifier has tried it
    for extent in dims.values():
        if not extent.symbols() & dims.keys() and (_low(extent) or 0) < 1:
            least = maximum(least, 1 - extent)
    low = _low(least)
    if any(name.startswith("?") for name in least.symbols()) and (low is None or low < 0):
        found.setdefault(least, loc)


def _low(e: Expr) -> int | None:
    return e.bounds({name: symbol_range(name) for name in e.symbols()})[0]


def _accesses(region: Region, dims: Mapping[str, Expr]) -> Iterator[tuple[Expr, Mapping[str, Expr]]]:
    """What must be at least 0 for each read and write that no fill or mask guards, with the dimensions around it."""
    for op in region:
        inner = dims
        if isinstance(op, Stage):
            inner = {**dims, **{d.name: as_expr(d.extent) for d in op.dims}}
        if (isinstance(op, Read) and op.fill is None) or (isinstance(op, Write) and op.mask is None):
            yield from ((e, dims) for e in _sides(op))
        for nested in op.regions:
            yield from _accesses(nested, inner)


def _sides(op: Read | Write) -> Iterator[Expr]:
    type = op.buffer.tensor
    for d, (e, extent) in enumerate(zip(op.map, type.dims, strict=True)):
        if any(name.startswith("$") for name in e.symbols()):
            continue  # an index from data, which the kernel tests itself
        before, after = type.layout.padding(d) if isinstance(op, Write) else (0, 0)
        yield e + before
        yield as_expr(extent) + (after - 1) - e


def _extreme(e: Expr, dims: Mapping[str, Expr], *, high: bool) -> Expr | None:
    """The largest or smallest value of `e` over the dimensions, exactly; None where that is not simple."""
    total = const(0)
    used: set[str] = set()
    for monomial, c in e.terms:
        names = Expr({monomial: 1}).symbols() & dims.keys()
        if names & used:
            return None  # what two terms say of one dimension belongs together
        used |= names
        inside = [a for a in monomial if _atom_symbols(a) & dims.keys()]
        rest = Expr({tuple(a for a in monomial if a not in inside): c})
        if not inside:
            total = total + rest
            continue
        low = _low(rest if c > 0 else -rest)
        if len(inside) > 1 or low is None or low < 0:
            return None
        part = _atom(inside[0], dims, high=high if c > 0 else not high)
        if part is None:
            return None
        total = total + rest * part
    return total


def _atom_symbols(atom: Sym | ExprCall) -> frozenset[str]:
    return Expr({(atom,): 1}).symbols()


def _atom(atom: Sym | ExprCall, dims: Mapping[str, Expr], *, high: bool) -> Expr | None:
    if isinstance(atom, Sym):
        return dims[atom.name] - 1 if high else const(0)
    a, b = (_extreme(arg, dims, high=high) for arg in atom.args)
    if a is None or b is None or (_shared(atom, dims) and atom.fn not in ("min", "max")):
        return None
    match atom.fn:
        case "min":
            return minimum(a, b)
        case "max":
            return maximum(a, b)
        case "floordiv" if not atom.args[1].symbols() & dims.keys():
            return floordiv(a, b)
        case _:
            return None


def _shared(atom: ExprCall, dims: Mapping[str, Expr]) -> bool:
    return bool(atom.args[0].symbols() & atom.args[1].symbols() & dims.keys())


__all__ = ["guards"]
