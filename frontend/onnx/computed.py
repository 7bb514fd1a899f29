"""Operators whose geometry is data, in models that do not say which shapes come out.

Sizes of results are computed like any other integers, and become symbols (`Node.sizes`); where elements come from is
computed too, as indices. What follows from numbers alone never gets here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.assume import require_zero
from ...ir.core import Op, Value
from ...ir.expr import Dim, as_expr, product
from ...ir.ops.cumulative import CumProd, CumSum
from ...ir.ops.reduce import Max, Prod, Sum
from ...ir.ops.shape import Concat, Gather, Iota, Reshape
from .calc import Calc, scalar
from .declared import data, element
from .node import Converter, Node
from .scope import Unsupported

COMPUTED: dict[str, Converter] = {}
_FAR = 1 << 40  # ends from here on mean "to the end"; nothing computed from them overflows


def computed(*names: str) -> Callable[[Converter], Converter]:
    """Register a function as what converts the operators `names` when their geometry is data."""

    def register(function: Converter) -> Converter:
        COMPUTED.update(dict.fromkeys(names, function))
        return function

    return register


def vector(node: Node, parts: Sequence[Calc]) -> Calc:
    """Scalars as a vector of i64."""
    values = tuple(p.cast("i64").reshaped(1).value for p in parts)
    return Calc(node, values[0] if len(values) == 1 else node.make(Concat, values, 0))


def dims_vector(node: Node, dims: Sequence[Dim]) -> Calc:
    """A shape as a vector of i64."""
    return vector(node, [scalar(node, d, "i64") for d in dims])


def sized(node: Node, sizes: Sequence[Calc], what: str = "size") -> list[Dim]:
    """Computed sizes as dimensions."""
    return node.sizes(vector(node, sizes).settled(), what)


# -- shapes ---------------------------------------------------------------------------------------------------------


@computed("Reshape")
def reshape(node: Node) -> Value:
    """Reshape: 0 copies a dimension (unless allowzero), -1 takes what is left."""
    dims, wanted = node.shape(0), data(node, 1)
    rank = _length(node, wanted)
    if rank == 0:
        require_zero(as_expr(product(dims)) - 1)
        return node.make(Reshape, node.value(0), ())
    if not node.integer("allowzero", 0):
        copied = [*dims, *[0] * rank][:rank]
        wanted = wanted.equals(0).where(dims_vector(node, copied), wanted)
    hole = wanted.equals(-1)
    rest = Calc(node, node.make(Prod, hole.where(_ones(node, rank), wanted).value, (0,), False))
    left = scalar(node, product(dims), "i64") / rest.maximum(1)
    resolved = hole.where(left.reshaped(1), wanted) if rank == 1 else hole.where(_spread(node, left, rank), wanted)
    shape = node.sizes(resolved.settled(), "shape")
    total = as_expr(product(dims)) - product(shape)
    if total != 0:
        require_zero(total)
    return node.make(Reshape, node.value(0), tuple(shape))


def _length(node: Node, x: Calc) -> int:
    (size,) = node.dims_of(x.value)
    assert isinstance(size, int)
    return size


def _ones(node: Node, count: int) -> Calc:
    return Calc(node, node.literal(np.ones(count, np.int64)))


def _spread(node: Node, x: Calc, count: int) -> Calc:
    return x.reshaped(1) * _ones(node, count)


def flags(node: Node, index: int, rank: int, *, empty: bool = False) -> Calc:
    """1 for each of `rank` dimensions that is among the axes in input `index`, of any length, else 0. `empty`: no axes
    at all mean all of them."""
    axes = Calc(node, node.value(index)).cast("i64")
    count = length_of(node, index)
    axes = axes.reshaped(count, 1)
    at = (axes < 0).where(axes + rank, axes)
    hits = at.equals(Calc(node, node.make(Iota, (1, rank), 1, "i64"))).cast("i64")
    found = Calc(node, node.make(Max, hits.value, (0,), False)).maximum(0)
    if not empty or (isinstance(count, int) and count > 0):
        return found
    none = 1 - scalar(node, count, "i64").minimum(1)
    return found.maximum(_spread(node, none, rank)) if rank else found


def length_of(node: Node, index: int) -> Dim:
    """The number of elements of an input that is a vector or a scalar."""
    shape = node.shape(index)
    if len(shape) > 1:
        raise node.error(f"input {index}: expected a vector, got {node.type(index)}")
    return shape[0] if shape else 1


def unknown_rank(node: Node, index: int) -> Unsupported:
    """What to raise where only the run knows how many axes there are in an input."""
    reason = "the number of axes, and with it the rank of the result, is known only when the model runs"
    return Unsupported(reason, "give the input with the axes a fixed length", node.lengths(index))


@computed("Squeeze", "Unsqueeze")
def squeeze(node: Node) -> Value:
    """Squeeze and Unsqueeze: a Reshape. The number of axes must be known, as it decides the rank."""
    dims = node.shape(0)
    count = length_of(node, 1)
    if not isinstance(count, int):
        raise unknown_rank(node, 1)
    if node.op_type == "Squeeze":
        if count > len(dims):
            raise node.error(f"axes: expected at most {len(dims)}, got {count}")
        kept = kept_dims(node, flags(node, 1, len(dims)), dims, len(dims) - count)
        require_zero(as_expr(product(dims)) - product(kept))
        return node.make(Reshape, node.value(0), tuple(kept))
    rank = len(dims) + count
    fresh = flags(node, 1, rank)
    before = Calc(node, node.make(CumSum, fresh.value, 0, True, False))  # new dimensions in front of each
    at = Calc(node, node.make(Iota, (rank,), 0, "i64")) - before
    padded = dims_vector(node, [*dims, 1])
    source = Calc(node, node.make(Gather, padded.value, at.clamped(0, len(dims)).value, 0))
    shape = node.sizes(fresh.equals(1).where(_ones(node, rank), source).settled(), "shape")
    require_zero(as_expr(product(dims)) - product(shape))
    return node.make(Reshape, node.value(0), tuple(shape))


def kept_dims(node: Node, gone: Calc, dims: Sequence[Dim], count: int) -> list[Dim]:
    """Those `count` of `dims` whose flag is 0, in order."""
    if count <= 0 or not dims:
        return []
    rank = len(dims)
    place = Calc(node, node.make(CumSum, (1 - gone).value, 0, True, False)) + gone * rank  # those gone go nowhere
    columns = place.reshaped(1, rank).equals(Calc(node, node.make(Iota, (count, 1), 0, "i64"))).cast("i64")
    chosen = columns * dims_vector(node, dims).reshaped(1, rank)
    return node.sizes(Calc(node, node.make(Max, chosen.value, (1,), False)).settled(), "shape")


# -- places ---------------------------------------------------------------------------------------------------------


@computed("Slice")
def slice_(node: Node) -> Value:
    """Slice: starts, ends and steps are clamped when the model runs, and elements gathered. Of any number of entries
    each dimension takes the one that names it."""
    if node.opset < 10:
        raise node.unknown(0)
    x, rank = node.value(0), node.rank(0)
    columns = [entries(node, i) for i in (1, 2)]
    count = node.dims_of(columns[0].value)[0]
    axes = entries(node, 3) if node.has(3) else Calc.iota(node, count, "i64")
    axes = (axes < 0).where(axes + rank, axes)
    given = node.maybe_array(3) if node.has(3) else None
    named = None if given is None else node.axes([int(a) for a in given.reshape(-1)], rank)
    if not node.has(3) and isinstance(count, int):
        named = list(range(count))
    for axis in range(rank) if named is None else named:
        hit = axes.equals(axis)
        entry = [chosen(node, hit, c, default) for c, default in zip(columns, (0, _FAR), strict=True)]
        step = chosen(node, hit, entries(node, 4), 1) if node.has(4) else scalar(node, 1, "i64")
        x = _slice_along(node, x, axis, [*entry, step], f"size_{axis}")
    return x


def entries(node: Node, index: int) -> Calc:
    """A vector of integers of any length."""
    count = length_of(node, index)
    return Calc(node, node.value(index)).cast("i64").reshaped(count)


def chosen(node: Node, hit: Calc, column: Calc, default: int) -> Calc:
    """The element of `column` at the place where `hit` is true; `default` where it is nowhere."""
    other = Calc(node, node.splat(default, "i64"))
    total = hit.where(column, 0)
    found = Calc(node, node.make(Sum, total.value, (0,), False))
    there = Calc(node, node.make(Max, hit.cast("i64").value, (0,), False)) > 0
    return there.where(found, other)


def _slice_along(node: Node, x: Value, axis: int, entry: Sequence[Calc], what: str) -> Value:
    start, end, step = entry
    size = scalar(node, node.dims_of(x)[axis], "i64")
    start, end = start.clamped(-_FAR, _FAR), end.clamped(-_FAR, _FAR)
    down = step < 0
    low, high = (start < 0).where(start + size, start), (end < 0).where(end + size, end)
    first = down.where(low.maximum(0).minimum(size - 1), low.maximum(0).minimum(size))
    last = down.where(high.maximum(-1).minimum(size - 1), high.maximum(0).minimum(size))
    span = down.where(first - last, last - first)
    stride = step.abs().maximum(1)
    count = ((span + stride - 1) / stride).maximum(0)
    (length,) = sized(node, [step.equals(0).where(scalar(node, -1, "i64"), count)], what)  # a step of 0 is an error
    at = first + Calc.iota(node, length, "i64") * step
    return node.make(Gather, x, at.value, axis)


@computed("Range")
def range_(node: Node) -> Value:
    """Range of a computed number of elements."""
    start, limit, delta = (Calc(node, node.value(i)).reshaped() for i in range(3))
    wide = "f64" if start.dtype in ("f32", "f64", "f16", "bf16") else "i64"
    first, last, step = start.cast(wide), limit.cast(wide), delta.cast(wide)
    if wide == "f64":
        count = ((last - first) / step).ceil().clamped(0, float(1 << 40)).cast("i64")
    else:
        up = step > 0
        span = up.where(last - first, first - last).maximum(0)
        stride = step.abs().maximum(1)
        count = (span + stride - 1) / stride
    (length,) = sized(node, [step.equals(0).where(scalar(node, -1, "i64"), count)])  # a step of 0 is an error
    return (Calc.iota(node, length, "i64").cast(start.dtype) * delta + start).value


@computed("CumSum", "CumProd")
def cumulative(node: Node) -> Value:
    """CumSum along an axis that is data: along each, and then the one that is meant."""
    kind: type[Op] = CumSum if node.op_type == "CumSum" else CumProd
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    rank = node.rank(0)
    axis = _one(node, 1)
    axis = (axis < 0).where(axis + rank, axis)
    found = [Calc(node, node.make(kind, node.value(0), a, exclusive, reverse)) for a in range(rank)]
    result = found[0]
    for a in range(1, rank):
        result = axis.equals(a).where(found[a], result)
    return result.value


def _one(node: Node, index: int) -> Calc:
    """An input of one number."""
    x = Calc(node, node.value(index)).cast("i64")
    for d in node.dims_of(x.value):
        if d != 1:
            require_zero(as_expr(d) - 1)
    return x.reshaped()


@computed("CenterCropPad")
def center_crop_pad(node: Node) -> Value:
    """CenterCropPad to a computed shape."""
    dims, rank = node.shape(0), node.rank(0)
    axes = node.axes(node.ints("axes", range(rank)), rank)
    node.expect_length(1, len(axes), "the shape")
    x, wanted = node.value(0), data(node, 1)
    zero = node.splat(0, x.tensor.dtype)
    for i, axis in enumerate(axes):
        have, want = scalar(node, dims[axis], "i64"), element(wanted, i)
        (size,) = sized(node, [want], f"size_{axis}")
        # Both halves round down: what is cut before, or what is put before.
        shift = (have - want).maximum(0) / 2 - (want - have).maximum(0) / 2
        at = Calc.iota(node, size, "i64") + shift
        here = ((at >= 0) & (at < have)).reshaped(*(size if d == axis else 1 for d in range(rank)))
        safe = at.maximum(0).minimum(have - 1)
        x = here.where(Calc(node, node.make(Gather, x, safe.value, axis)), Calc(node, zero)).value
    return x


__all__ = [
    "COMPUTED",
    "chosen",
    "computed",
    "dims_vector",
    "entries",
    "flags",
    "kept_dims",
    "sized",
    "unknown_rank",
    "vector",
]
