"""Reductions: axes as attribute or input, and the norms, which are compositions."""

from __future__ import annotations

from ...ir.core import Op, Value
from ...ir.ops.arith import Abs, Add, Cast, Equal, Exp, Log, Mul, Sqrt, Sub
from ...ir.ops.reduce import ArgMax, ArgMin, Max, Mean, Min, Prod, Sum
from ...ir.ops.shape import Iota
from .node import Node, converter
from .scope import Unsupported

_PLAIN: dict[str, type[Op]] = {
    "ReduceSum": Sum, "ReduceMean": Mean, "ReduceProd": Prod, "ReduceMax": Max, "ReduceMin": Min,
}  # fmt: skip


def _axes(node: Node) -> tuple[int, ...] | None:
    """The axes to reduce; None when nothing is to be reduced."""
    rank = node.rank(0)
    given = node.ints_input(1, "axes") if node.has(1) else node.ints("axes", ())
    if not given:
        return None if node.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(node.axes(given, rank)))


@converter(*_PLAIN)
def plain(node: Node) -> Value:
    """One operation."""
    axes, x = _axes(node), node.value(0)
    return x if axes is None else node.make(_PLAIN[node.op_type], x, axes, bool(node.integer("keepdims", 1)))


def _sum(node: Node, x: Value, axes: tuple[int, ...] | None) -> Value:
    return x if axes is None else node.make(Sum, x, axes, bool(node.integer("keepdims", 1)))


@converter("ReduceL1")
def l1(node: Node) -> Value:
    """Sum of absolute values."""
    return _sum(node, node.make(Abs, node.value(0)), _axes(node))


@converter("ReduceSumSquare")
def sum_square(node: Node) -> Value:
    """Sum of squares."""
    x = node.value(0)
    return _sum(node, node.make(Mul, x, x), _axes(node))


@converter("ReduceL2")
def l2(node: Node) -> Value:
    """Square root of the sum of squares."""
    return node.make(Sqrt, sum_square(node))


@converter("ReduceLogSum")
def log_sum(node: Node) -> Value:
    """Logarithm of the sum."""
    return node.make(Log, _sum(node, node.value(0), _axes(node)))


@converter("ReduceLogSumExp")
def log_sum_exp(node: Node) -> Value:
    """`log(sum(exp(x)))`, shifted by the maximum so that nothing overflows."""
    x, axes = node.value(0), _axes(node)
    if axes is None:
        return x
    top = node.make(Max, x, axes, True)
    total = node.make(Sum, node.make(Exp, node.make(Sub, x, top)), axes, bool(node.integer("keepdims", 1)))
    if not node.integer("keepdims", 1):
        top = node.make(Max, x, axes, False)
    return node.make(Add, node.make(Log, total), top)


@converter("ArgMax", "ArgMin")
def arg(node: Node) -> Value:
    """Index of the largest or smallest element."""
    kind: type[Op] = ArgMax if node.op_type == "ArgMax" else ArgMin
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    keep, last = bool(node.integer("keepdims", 1)), bool(node.integer("select_last_index", 0))
    return node.make(kind, node.value(0), axis, keep, last)


@converter("Hardmax")
def hardmax(node: Node) -> Value:
    """1 at the first maximum along the axis, else 0 (opset 13; before, as Softmax, over a flattened matrix)."""
    x, rank = node.value(0), node.rank(0)
    axis = node.axis(node.integer("axis", -1 if node.opset >= 13 else 1), rank)
    if node.opset < 13 and axis != rank - 1:
        raise Unsupported("Hardmax over several dimensions (opset < 13)")
    index = node.make(ArgMax, x, axis, True, False)
    shape = tuple(d if i == axis else 1 for i, d in enumerate(x.tensor.dims))
    return node.make(Cast, node.make(Equal, node.make(Iota, shape, axis, "i64"), index), x.tensor.dtype)
