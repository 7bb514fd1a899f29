"""Reads and writes at positions that are data: gather, scatter, cumulative sums."""

from __future__ import annotations

import numpy as np

from ...ir.assume import assume_equal, require_nonnegative
from ...ir.core import Op, Value
from ...ir.expr import Expr, as_expr
from ...ir.ops.cumulative import CumProd, CumSum
from ...ir.ops.order import TopK
from ...ir.ops.shape import Expand, Gather, GatherElements, GatherND, ScatterElements, ScatterND
from .calc import Calc, scalar
from .node import Node, converter
from .scope import Unsupported
from .shape import checked_sizes


def _indices(node: Node, index: int, size: object) -> Value:
    """The indices; constant ones that count from the end are made non-negative, and checked."""
    data = node.scope.array(node.proto.input[index]) if node.has(index) else None
    if data is None or not isinstance(size, int) or data.size == 0:
        return node.value(index)
    low, high = int(data.min()), int(data.max())
    if low < -size or high >= size:
        raise node.error(f"input {index}: expected indices in {-size}..{size - 1}, got {low if low < -size else high}")
    if low >= 0:
        return node.value(index)
    return node.literal(np.where(data < 0, data + size, data).astype(data.dtype))


@converter("Gather")
def gather(node: Node) -> Value:
    """Gather along an axis."""
    rank = node.rank(0)
    if rank == 0:
        raise node.error("expected an input of rank 1 or more, got a scalar")
    axis = node.axis(node.integer("axis", 0), rank)
    return node.make(Gather, node.value(0), _indices(node, 1, node.shape(0)[axis]), axis)


@converter("GatherElements")
def gather_elements(node: Node) -> Value:
    """GatherElements along an axis."""
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    return node.make(GatherElements, node.value(0), _indices(node, 1, node.shape(0)[axis]), axis)


@converter("GatherND")
def gather_nd(node: Node) -> Value:
    """GatherND."""
    if node.lengths(1):
        reason = "the size of its tuples of indices, and with it the rank of the result, is symbolic"
        raise Unsupported(reason, "fix the shape of the indices", node.lengths(1))
    return node.make(GatherND, node.value(0), node.value(1), node.integer("batch_dims", 0))


@converter("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Value:
    """ScatterElements along an axis, with a reduction."""
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    operands = (node.value(0), _indices(node, 1, node.shape(0)[axis]), node.value(2))
    return node.make(ScatterElements, *operands, axis, _reduction(node))


@converter("ScatterND")
def scatter_nd(node: Node) -> Value:
    """ScatterND, with a reduction."""
    return node.make(ScatterND, node.value(0), node.value(1), node.value(2), _reduction(node))


def _reduction(node: Node) -> str:
    reduction = node.string("reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        raise node.error(f"reduction: expected none, add, mul, max or min, got {reduction!r}")
    return reduction


@converter("CumSum", "CumProd")
def cumulative(node: Node) -> Value:
    """CumSum and CumProd along a known axis."""
    kind: type[Op] = CumSum if node.op_type == "CumSum" else CumProd
    if not node.type(1).is_static:
        node.expect_length(1, 1, "the axis")
    axes = node.ints_input(1, "the axis")
    if len(axes) != 1:
        raise node.error(f"axis: expected one number, got {axes}")
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    return node.make(kind, node.value(0), node.axis(axes[0], node.rank(0)), exclusive, reverse)


@converter("TopK")
def top_k(node: Node) -> tuple[Value, ...]:
    """TopK; how many is an attribute before opset 10."""
    rank = node.rank(0)
    axis = node.axis(node.integer("axis", -1), rank)
    if node.opset >= 10 and not node.type(1).is_static:
        node.expect_length(1, 1, "k")
    count = node.integer("k") if node.opset < 10 else node.dims(1, "k")[0]
    size = node.shape(0)[axis]
    if isinstance(count, Expr):
        checked_sizes([count])
        require_nonnegative(as_expr(size) - count)
    return node.make_all(TopK, node.value(0), count, axis, node.integer("largest", 1) != 0)


@converter("ReverseSequence")
def reverse_sequence(node: Node) -> Value:
    """ReverseSequence: the first elements along the time axis, as many as each sequence has, in reverse."""
    x, dims = node.value(0), node.shape(0)
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    if {time, batch} != {0, 1}:
        raise node.error(f"expected axes 0 and 1 for time and batch, got {time} and {batch}")
    assume_equal(node.shape(1)[0], dims[batch])
    position = Calc.iota(node, dims[time], "i64").reshaped(*((dims[0], 1) if time == 0 else (1, dims[1])))
    length = Calc(node, node.value(1)).cast("i64").reshaped(*((1, dims[1]) if time == 0 else (dims[0], 1)))
    at = (position < length).where(length - 1 - position, position)
    at = at.reshaped(*at.value.tensor.dims, *[1] * (len(dims) - 2))
    return node.make(GatherElements, x, node.make(Expand, at.value, dims), time)


@converter("TensorScatter")
def tensor_scatter(node: Node) -> Value:
    """TensorScatter: writes an update into a cache at a place of its own for each element of the batch."""
    x, update, dims = node.value(0), node.value(1), node.shape(0)
    axis = node.axis(node.integer("axis", -2), len(dims))
    length = node.shape(1)[axis]
    position = Calc.iota(node, length, "i64").reshaped(*(length if i == axis else 1 for i in range(len(dims))))
    if node.has(2):
        assume_equal(node.shape(2)[0], dims[0])
        start = Calc(node, node.value(2)).cast("i64").reshaped(dims[0], *[1] * (len(dims) - 1))
        position = position + start
    if node.string("mode", "linear") == "circular":
        size = scalar(node, dims[axis], "i64")
        position = position - position / size * size
    at = node.make(Expand, position.value, node.shape(1))
    return node.make(ScatterElements, x, at, update, axis, "none")
