"""Lowerings of MindIR's primitives that move elements: shapes, joins, parts, orders of dimensions, repetition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr, floordiv, product
from .lower_common import (
    axis_of,
    expanded,
    known,
    one_at,
    rank,
    reshaped,
    sliced,
)
from .primitive import Call, Datum, Item, primitive

_END = np.iinfo(np.int64).max

# -- the same elements in other shapes ---------------------------------------------------------------------------------


@primitive("Reshape", "View")
def reshape(call: Call) -> Item:
    """Other dimensions, one of which may be -1."""
    shape = call.first("shape", "tensor_shape")
    datum = call[1] if len(call.given) > 1 else call.datum(shape)
    if isinstance(datum, Item):  # perhaps not known: left to the run
        return call.op("Reshape", call.tensor(0), datum, allowzero=1)
    return reshaped(call, call.tensor(0), call.sizes(datum, "shape"))


@primitive("ViewAs")
def view_as(call: Call) -> Item:
    """The dimensions of another tensor."""
    return reshaped(call, call.tensor(0), call.shape(call.tensor(1)))


def joined(call: Call, x: Item, start: int, end: int) -> Item:
    """Dimensions start to end (inclusive) as one."""
    dims = call.shape(x)
    if not dims:
        return reshaped(call, x, [1])
    return reshaped(call, x, [*dims[:start], as_dim(as_expr(product(dims[start : end + 1]))), *dims[end + 1 :]])


@primitive("Flatten")
def flatten(call: Call) -> Item:
    """All dimensions but the first as one."""
    x = call.tensor(0)
    dims = call.shape(x)
    return joined(call, x, 1, len(dims) - 1) if len(dims) > 1 else reshaped(call, x, [*dims, 1])


@primitive("FlattenExt")
def flatten_ext(call: Call) -> Item:
    """Dimensions `start_dim` to `end_dim` as one."""
    x, dims = call.tensor(0), rank(call, call.tensor(0))
    start, end = (
        axis_of(call, call.integer(n, d), dims, n) if dims else 0 for n, d in (("start_dim", 0), ("end_dim", -1))
    )
    if start > end:
        raise call.error(f"start_dim: expected at most end_dim {end}, got {start}")
    return joined(call, x, start, end)


@primitive("ExpandDims", "ExpandDimsView", "Unsqueeze")
def expand_dims(call: Call) -> Item:
    """A dimension of size 1 more."""
    x = call.tensor(0)
    axis = call.integer("dim" if call.name == "ExpandDimsView" else "axis")
    return call.op("Unsqueeze", x, [axis_of(call, axis, rank(call, x) + 1)])


@primitive("Squeeze")
def squeeze(call: Call) -> Item:
    """Dimensions of size 1 less: the named ones, or all."""
    x = call.tensor(0)
    dims = call.shape(x)
    given = call.optional_ints("axis")
    axes = [axis_of(call, a, len(dims)) for a in given] if given else [i for i, d in enumerate(dims) if d == 1]
    return call.op("Squeeze", x, axes) if axes else x


@primitive("Transpose", "TransposeView")
def transpose(call: Call) -> Item:
    """Dimensions in another order."""
    x = call.tensor(0)
    datum = call[1] if len(call.given) > 1 else call.datum(call.first("perm", "input_perm", "dims"))
    dims = rank(call, x)
    order = [axis_of(call, known(call, p, "the order"), dims) for p in call.sizes(datum, "the order")]
    return call.op("Transpose", x, perm=order)


def swapped(call: Call, x: Item, one: int, other: int) -> Item:
    """Two dimensions in each other's place."""
    order = list(range(rank(call, x)))
    order[one], order[other] = order[other], order[one]
    return call.op("Transpose", x, perm=order)


@primitive("TransposeExtView")
def transpose_ext(call: Call) -> Item:
    """Two dimensions change places."""
    x, dims = call.tensor(0), rank(call, call.tensor(0))
    return swapped(call, x, *(axis_of(call, call.integer(n), dims, n) for n in ("dim0", "dim1"))) if dims else x


@primitive("TExt")
def t_ext(call: Call) -> Item:
    """A matrix transposed; vectors as they are."""
    x = call.tensor(0)
    return swapped(call, x, 0, 1) if rank(call, x) == 2 else x


@primitive("BroadcastTo", "BroadcastToView", "DynamicBroadcastTo")
def broadcast_to(call: Call) -> Item:
    """Repeated along dimensions of size 1 and new ones; -1 keeps a dimension."""
    x = call.tensor(0)
    shape, own = list(call.dims("shape")), list(call.shape(x))
    own = [1] * (len(shape) - len(own)) + own
    return expanded(call, x, [o if d == -1 else d for d, o in zip(shape, own, strict=True)])


@primitive("ExpandAs")
def expand_as(call: Call) -> Item:
    """Broadcast to the shape of another tensor."""
    return expanded(call, call.tensor(0), call.shape(call.tensor(1)))


# -- joining -----------------------------------------------------------------------------------------------------------


@primitive("Concat", "SequenceConcat")
def concat(call: Call) -> Item:
    """Tensors behind each other along an axis."""
    first = call[0]
    items = [call.item(d) for d in first] if isinstance(first, tuple) else [call.tensor(i) for i in _positions(call)]
    axis = call.integer("axis", 0)
    return items[0] if len(items) == 1 else call.op("Concat", *items, axis=axis_of(call, axis, rank(call, items[0])))


def _positions(call: Call) -> range:
    """The inputs of a node that has tensors where others have a tuple."""
    return range(sum(isinstance(d, Item) for d in call.given))


def stacked(call: Call, items: Sequence[Item], axis: int) -> Item:
    """Tensors of one shape along a new axis."""
    axis = axis_of(call, axis, rank(call, items[0]) + 1)
    parts = [call.op("Unsqueeze", i, [axis]) for i in items]
    return parts[0] if len(parts) == 1 else call.op("Concat", *parts, axis=axis)


@primitive("Stack", "Pack", "StackExt", "SequenceStack", "ParallelConcat")
def stack(call: Call) -> Item:
    """Tensors along a new axis."""
    first = call[0]
    items = [call.item(d) for d in first] if isinstance(first, tuple) else [call.tensor(i) for i in _positions(call)]
    if call.name == "ParallelConcat":
        return items[0] if len(items) == 1 else call.op("Concat", *items, axis=0)
    return stacked(call, items, call.integer("dim" if call.name == "StackExt" else "axis", 0))


@primitive("TupleToTensor", "ListToTensor", "ScalarToTensor", "TupleToArray")
def to_tensor(call: Call) -> Item:
    """Python's numbers as a tensor."""
    item = call.item(call[0])
    dtype = call.dtype("dtype") or call.result_dtype
    return item if dtype is None else call.cast(item, dtype)


# -- parts -------------------------------------------------------------------------------------------------------------


def parts(call: Call, x: Item, axis: int, sizes: Sequence[Dim]) -> tuple[Item, ...]:
    """Parts of these sizes along an axis."""
    if len(sizes) == 1:
        return (x,)
    return tuple(call.ops("Split", x, list(sizes), outputs=len(sizes), axis=axis))


@primitive("Split")
def split(call: Call) -> Datum:
    """`output_num` equal parts along an axis."""
    x = call.tensor(0)
    axis, count = axis_of(call, call.integer("axis", 0), rank(call, x)), call.integer("output_num", 1)
    size = call.shape(x)[axis]
    if isinstance(size, int) and size % count:
        raise call.error(f"output_num: expected a divisor of {size}, got {count}")
    return parts(call, x, axis, [as_dim(floordiv(size, count))] * count)


@primitive("SplitV", "SplitWithSize", "SplitWithSizeView")
def split_with_size(call: Call) -> Datum:
    """Parts of the given sizes along an axis, one of which may be -1."""
    x = call.tensor(0)
    old = call.name == "SplitV"
    axis = axis_of(call, call.integer("split_dim" if old else "dim", None if old else 0), rank(call, x))
    sizes = list(call.dims("size_splits" if old else "split_size"))
    if -1 in sizes:
        rest = as_expr(call.shape(x)[axis])
        for s in sizes:
            rest = rest - (s if s != -1 else 0)
        sizes[sizes.index(-1)] = as_dim(rest)
    return parts(call, x, axis, sizes)


def in_pieces(call: Call, x: Item, axis: int, step: int) -> tuple[Item, ...]:
    """Parts of `step` elements, the last perhaps smaller."""
    size = known(call, call.shape(x)[axis], "the axis")
    return parts(call, x, axis, [min(step, size - i) for i in range(0, size, step)] or [0])


@primitive("SplitTensor", "SplitTensorView")
def split_tensor(call: Call) -> Datum:
    """Parts of `split_size` elements along a dimension."""
    x = call.tensor(0)
    return in_pieces(call, x, axis_of(call, call.integer("dim", 0), rank(call, x)), call.integer("split_size"))


@primitive("Chunk", "ChunkView")
def chunk(call: Call) -> Datum:
    """At most `chunks` parts of equal size along a dimension."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", 0), rank(call, x))
    size = known(call, call.shape(x)[axis], "the axis")
    return in_pieces(call, x, axis, max(1, -(-size // call.integer("chunks"))))


@primitive("Unstack", "Unpack", "UnstackExtView", "SequenceUnstack")
def unstack(call: Call) -> Datum:
    """The slices along an axis."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim" if call.name == "UnstackExtView" else "axis", 0), rank(call, x))
    size = known(call, call.shape(x)[axis], "the axis")
    return tuple(call.op("Squeeze", p, [axis]) for p in parts(call, x, axis, [1] * size))


@primitive("Slice")
def slice_(call: Call) -> Item:
    """`size` elements from `begin` on along every dimension; -1: all that follow."""
    x = call.tensor(0)
    begin, size, dims = call.dims("begin"), call.dims("size"), call.shape(x)
    ends = [d if s == -1 else as_dim(as_expr(b) + s) for b, s, d in zip(begin, size, dims, strict=True)]
    return call.op("Slice", x, list(begin), ends, list(range(len(dims))))


@primitive("SliceExt", "SliceExtView")
def slice_ext(call: Call) -> Item:
    """Every `step`th element from `start` to `end` along a dimension."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", 0), rank(call, x), "dim")
    start = call.dim("start") if call.datum("start", None) is not None else 0
    end = call.dim("end") if call.datum("end", None) is not None else _END
    return sliced(call, x, axis, start, end, call.integer("step", 1))


@primitive("Narrow", "NarrowView")
def narrow(call: Call) -> Item:
    """`length` elements from `start` on along a dimension."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    start, length = call.dim("start"), call.dim("length")
    if isinstance(start, int) and start < 0:
        start = as_dim(as_expr(call.shape(x)[axis]) + start)
    return sliced(call, x, axis, start, as_dim(as_expr(start) + length))


@primitive("SelectExtView")
def select_ext(call: Call) -> Item:
    """The slice at an index of a dimension."""
    x = call.tensor(0)
    return one_at(call, x, axis_of(call, call.integer("dim"), rank(call, x), "dim"), call.dim("index"))


@primitive("StridedSlice")
def strided_slice(call: Call) -> Item:
    """NumPy's slicing: `begin`, `end` and `strides` for each entry of an index, and masks whose bits say which entries
    are open at an end, the ellipsis, new dimensions, or single elements. Bits behind the entries mean nothing."""
    x = call.tensor(0)
    begin, end, steps = call.dims("begin"), call.dims("end"), call.ints("strides")
    masks = {n: call.integer(f"{n}_mask", 0) for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    axes: list[int] = []
    bounds: list[tuple[Dim, Dim, int]] = []
    shrunk: list[int] = []
    fresh: list[int] = []  # places of new dimensions in the result
    axis = place = 0
    new = [i for i in range(len(steps)) if masks["new_axis"] >> i & 1 and not masks["ellipsis"] >> i & 1]
    for i in range(len(steps)):
        bit = {n: bool(m >> i & 1) for n, m in masks.items()}
        if bit["ellipsis"]:
            skipped = rank(call, x) - (len(steps) - 1 - len(new))
            axis, place = axis + skipped, place + skipped
        elif bit["new_axis"]:
            fresh.append(place)
            place += 1
        else:
            first, last = _bounds(begin[i], end[i], steps[i], bit)
            axes.append(axis)
            bounds.append((first, last, steps[i] if not bit["shrink_axis"] else 1))
            if bit["shrink_axis"]:
                shrunk.append(axis)
            else:
                place += 1
            axis += 1
    return _applied(call, x, axes, bounds, shrunk, fresh)


def _bounds(begin: Dim, end: Dim, step: int, bit: dict[str, bool]) -> tuple[Dim, Dim]:
    """First and last of one entry, as ONNX's Slice takes them."""
    if bit["shrink_axis"]:
        return begin, _END if begin == -1 else as_dim(as_expr(begin) + 1)
    first = (0 if step > 0 else _END) if bit["begin"] else begin
    last = (_END if step > 0 else -_END) if bit["end"] else end
    return first, last


def _applied(
    call: Call,
    x: Item,
    axes: Sequence[int],
    bounds: Sequence[tuple[Dim, Dim, int]],
    shrunk: Sequence[int],
    fresh: Sequence[int],
) -> Item:
    """The slice of `x`, without the dimensions `shrunk` and with new ones at `fresh`."""
    if axes:
        first, last, steps = (list(b) for b in zip(*bounds, strict=True))
        x = call.op("Slice", x, first, last, list(axes), steps)
    if shrunk:
        x = call.op("Squeeze", x, list(shrunk))
    return call.op("Unsqueeze", x, list(fresh)) if fresh else x


@primitive("TransShape")
def trans_shape(call: Call) -> Item:
    """The same elements in the shape that the file has for the result."""
    return reshaped(call, call.tensor(0), call.dims("out_shape"))


__all__ = ["joined", "parts", "stacked", "swapped"]
