"""Reductions: axes as attribute or input, and the norms, which are compositions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.assume import require_zero
from ...ir.core import Op, Value
from ...ir.expr import Dim, as_dim, as_expr, product
from ...ir.ops.arith import Abs, Add, Cast, Div, Equal, Exp, Log, Mul, Sqrt, Sub
from ...ir.ops.fold import Fold
from ...ir.ops.reduce import ArgMax, ArgMin, Max, Mean, Min, Prod, Sum
from ...ir.ops.shape import Iota, Reshape
from .calc import Calc, scalar
from .computed import flags, kept_dims, length_of, unknown_rank
from .declared import reduction
from .node import Node, converter
from .scope import FromData, Unsupported

_PLAIN: dict[str, type[Op]] = {
    "ReduceSum": Sum, "ReduceMean": Mean, "ReduceProd": Prod, "ReduceMax": Max, "ReduceMin": Min,
}  # fmt: skip


@dataclass(frozen=True)
class _Flags:
    """Axes that are data: `of` is 1 for each dimension that is reduced, else 0; `vector` is the same, computed."""

    of: tuple[Dim, ...]
    vector: Calc
    kept: int | None  # number of the other dimensions, where it is known

    def fold(self, node: Node, kind: type[Op], x: Value, keep: bool) -> Value:
        """A reduction of kind `kind`."""
        dims = node.dims_of(x)
        window = tuple(as_dim(as_expr(f) * d + 1 - f) for f, d in zip(self.of, dims, strict=True))
        y = node.make(Fold, x, window, _COMBINE[kind])
        if kind is Mean:
            y = node.make(Div, y, scalar(node, product(window), "i64").cast(x.tensor.dtype).value)
        if keep:
            return y
        if self.kept is None:
            raise unknown_rank(node, 1)
        shape = kept_dims(node, self.vector, dims, self.kept)
        require_zero(as_expr(product(node.dims_of(y))) - product(shape))
        return node.make(Reshape, y, tuple(shape))


_COMBINE: dict[type[Op], str] = {Sum: "add", Mean: "add", Prod: "mul", Max: "max", Min: "min"}
_Axes = tuple[int, ...] | _Flags


def _axes(node: Node) -> tuple[int, ...]:
    """The axes to reduce. Raises `FromData`."""
    rank = node.rank(0)
    given = node.ints_input(1, "axes") if node.has(1) else node.ints("axes", ())
    if not given:
        return () if node.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(node.axes(given, rank)))


def _over(node: Node, make: Callable[[_Axes], Value]) -> Value:
    """The reduction that `make` builds for the node's axes; where they are data, by the shape the model declares, or
    with sizes that the run finds."""
    try:
        axes = _axes(node)
    except FromData:
        declared = node.declared(0)
        if declared is not None and node.type(0).is_static:
            return reduction(node, declared, make)
        if node.shape(1) == (0,):
            return make(() if node.integer("noop_with_empty_axes", 0) else tuple(range(node.rank(0))))
        return make(_flags(node))
    return make(axes)


def _flags(node: Node) -> _Flags:
    rank, noop = node.rank(0), node.integer("noop_with_empty_axes", 0) != 0
    count = length_of(node, 1)
    if isinstance(count, int) and count > rank:
        raise node.error(f"axes: expected at most {rank}, got {count}")
    vector = flags(node, 1, rank, empty=not noop)
    elements = node.elements(vector.settled(), "axes")
    return _Flags(tuple(elements), vector, rank - count if isinstance(count, int) else None)


def _fold(node: Node, kind: type[Op], x: Value, axes: _Axes, keep: bool | None = None) -> Value:
    """One reduction, nothing for no axes."""
    keep = node.integer("keepdims", 1) != 0 if keep is None else keep
    if isinstance(axes, _Flags):
        return axes.fold(node, kind, x, keep)
    return node.make(kind, x, axes, keep) if axes else x


@converter(*_PLAIN)
def plain(node: Node) -> Value:
    """One operation."""
    x = node.value(0)
    if x.tensor.dtype == "bool":  # opset 20: of false and true
        y = _over(node, lambda axes: _fold(node, _PLAIN[node.op_type], node.make(Cast, x, "u8"), axes))
        return node.make(Cast, y, "bool")
    return _over(node, lambda axes: _fold(node, _PLAIN[node.op_type], x, axes))


@converter("ReduceL1")
def l1(node: Node) -> Value:
    """Sum of absolute values."""
    x = node.make(Abs, node.value(0))
    return _over(node, lambda axes: _fold(node, Sum, x, axes))


@converter("ReduceSumSquare")
def sum_square(node: Node) -> Value:
    """Sum of squares."""
    x = node.value(0)
    return _over(node, lambda axes: _fold(node, Sum, node.make(Mul, x, x), axes))


@converter("ReduceL2")
def l2(node: Node) -> Value:
    """Square root of the sum of squares."""
    return node.make(Sqrt, sum_square(node))


@converter("ReduceLogSum")
def log_sum(node: Node) -> Value:
    """Logarithm of the sum."""
    x = node.value(0)
    return _over(node, lambda axes: node.make(Log, _fold(node, Sum, x, axes)))


@converter("ReduceLogSumExp")
def log_sum_exp(node: Node) -> Value:
    """`log(sum(exp(x)))`, shifted by the maximum so that nothing overflows."""
    x = node.value(0)

    def make(axes: _Axes) -> Value:
        if not axes:
            return x
        top = _fold(node, Max, x, axes, True)
        total = _fold(node, Sum, node.make(Exp, node.make(Sub, x, top)), axes)
        if not node.integer("keepdims", 1):
            top = _fold(node, Max, x, axes, False)
        return node.make(Add, node.make(Log, total), top)

    return _over(node, make)


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
