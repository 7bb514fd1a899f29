"""Where reads and writes of a kernel stand and how they walk through memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ...ir.core import Op, Region
from ...ir.expr import Dim, Expr, Range, as_dim, sym
from ...ir.kernel.form import LoopDim, Read, Stage, Write
from ...ir.types import TensorType


def stages_around(op: Op) -> list[Stage]:
    """The stages whose bodies `op` stands in, outermost first."""
    found: list[Stage] = []
    region = op.parent
    while isinstance(region, Region) and isinstance(region.parent, Op):
        if isinstance(region.parent, Stage):
            found.append(region.parent)
        region = region.parent.parent
    return found[::-1]


def dims_around(op: Op) -> list[LoopDim]:
    """The dimensions in scope at `op`, outermost stage first."""
    return [d for stage in stages_around(op) for d in stage.dims]


def ranges_of(dims: list[LoopDim]) -> dict[str, Range]:
    """Inclusive range of each dimension, for `Expr.bounds` and `Expr.simplify` (upper end unknown when symbolic)."""
    return {d.name: (0, d.extent - 1 if isinstance(d.extent, int) else None) for d in dims}


def accesses(region: Region) -> Iterator[Read | Write]:
    """All reads and writes below `region`, in order."""
    for op in region.walk():
        if isinstance(op, Read | Write):
            yield op


def offset_of(access: Read | Write) -> Expr:
    """Element offset in the buffer's storage as an expression over the dimensions in scope (and `$i`)."""
    return offset_in(access.buffer.tensor, access.map)


def offset_in(type: TensorType, map: tuple[Expr, ...]) -> Expr:
    """Element offset of the coordinates `map` in a buffer of `type`."""
    return type.layout.offset(type.dims, map)


def stride(access: Read | Write, dim: str) -> Dim | None:
    """How many elements further the access is when `dim` grows by one; None when that differs from point to point.

    In a blocked layout this is the step between blocks' neighbours only when it is the same everywhere; for the step
    inside a block use `adjacent`.
    """
    return _difference(offset_of(access), dim)


def stride_in(type: TensorType, map: tuple[Expr, ...], dim: str) -> Dim | None:
    """Like `stride`, for a map of a buffer of `type`."""
    return _difference(offset_in(type, map), dim)


def _difference(offset: Expr, dim: str) -> Dim | None:
    step = as_dim(offset.substitute({dim: sym(dim) + 1}) - offset)
    if isinstance(step, Expr) and dim in step.symbols():
        return None
    return step


def adjacent(access: Read | Write, dim: str) -> int:
    """Greatest power of two B such that, for every multiple b of B and fixed other dimensions, `dim` = b .. b+B-1 are
    neighbours in memory (stride 1); 0 when they are not even pairwise; a large number when there is no limit."""
    if stride(access, dim) == 1:
        return 1 << 30
    blocks = dict(access.buffer.tensor.layout.blocks)
    for d, coordinate in enumerate(access.map):
        size = blocks.get(d, 1)
        if size > 1 and coordinate.coefficient(dim) == 1 and coordinate.is_linear_in(dim):
            others = [c for e, c in enumerate(access.map) if e != d]
            rest = coordinate - sym(dim) + access.buffer.tensor.layout.padding(d)[0]
            aligned = rest.divisor({})
            inner = access.buffer.tensor.layout.blocks[-1] == (d, size)
            if inner and not any(dim in c.symbols() for c in others):
                step = size if aligned == 0 else math.gcd(size, aligned)
                return step & -step
    return 0


def bounds_of(access: Read | Write, ranges: Mapping[str, Range]) -> list[Range]:
    """Inclusive interval of each logical coordinate (None: unbounded, or data-dependent)."""
    return [c.bounds(ranges) for c in access.map]
