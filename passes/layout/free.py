"""Transpositions that cost nothing: the result keeps the bytes of its source and gets the order they lie in."""

from __future__ import annotations

from ...ir.constants import Constant
from ...ir.core import Return
from ...ir.expr import Dim, Expr, as_expr
from ...ir.kernel.form import KernelOp
from ...ir.types import Layout, TensorType
from ..analysis.access import stride_in
from ..analysis.movement import Move, moves, same_bytes
from .orders import row_major


def free_layout(op: KernelOp) -> Layout | None:
    """The layout that makes the result of `op`, a kernel that only moves data, the same bytes as its source, whose
    type is final. None when there is none, when row-major is it, when the result leaves the model, or when its last
    dimension would no longer be contiguous: then a copy pays, since its readers walk along that one."""
    found = moves(op)
    if found is None or len(found) != 1 or len(op.results) != 1:
        return None
    (move,) = found
    source, result = op.args[op.buffers.index(move.read.buffer)], op.result
    memory = source.tensor
    leaves = any(isinstance(user, Return) for user in result.users)
    if leaves or isinstance(source.op, Constant) or memory.layout.blocks or memory.layout.pad:
        return None
    order = _order(move, memory, result.tensor)
    if order is None or order == row_major(result.tensor.rank):
        return None
    layout = Layout(order)
    return layout if same_bytes(move, memory, result.tensor.with_layout(layout)) else None


def _order(move: Move, source: TensorType, result: TensorType) -> tuple[int, ...] | None:
    """Dimensions of the result by their steps in the source's memory, the widest first."""
    extents = {d.name: d.extent for d in move.stage.dims}
    steps: list[tuple[int, int]] = []
    for d, coordinate in enumerate(move.write.map):
        names = [name for name in coordinate.symbols() if extents.get(name, 1) != 1]
        if result.dims[d] == 1:
            continue
        if len(names) != 1 or coordinate.coefficient(names[0]) != 1:
            return None
        step = stride_in(source, move.read.map, names[0])
        if step is None:
            return None
        steps.append((_size(step), d))
    if not steps or max(d for _, d in steps) != min(steps, key=lambda s: s[0])[1] or min(steps)[0] != 1:
        return None
    moving = [d for _, d in sorted(steps, key=lambda s: (-s[0], s[1]))]
    return (*(d for d in range(result.rank) if d not in moving), *moving)


def _size(step: Dim) -> int:
    """A step as a number to order by: symbols taken as 64."""
    if not isinstance(step, Expr):
        return step
    return int(as_expr(step).evaluate(dict.fromkeys(step.symbols(), 64)))
