"""Lowerings of MindIR's primitives that read and write by index or by mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr, product
from ...ir.types import DTYPES
from .data import Parameter, described
from .lower_common import (
    along,
    axis_of,
    constant,
    expanded,
    flat,
    floating,
    kind_of,
    operands,
    rank,
    reshaped,
    sliced,
)
from .primitive import Call, Datum, Item, primitive

# -- reading -----------------------------------------------------------------------------------------------------------


def wide(call: Call, indices: Item) -> Item:
    """Indices as i64."""
    return call.cast(indices, "i64")


@primitive("Gather", "GatherV2", "SparseGatherV2")
def gather(call: Call) -> Item:
    """Slices of an axis by index; the first `batch_dims` dimensions of both belong together."""
    x, indices = call.tensor(0), call.tensor(1)
    dims, axis = rank(call, x), call.integer("axis", 0)
    axis = axis_of(call, axis, dims)
    batch = call.integer("batch_dims", 0) if call.name == "Gather" else 0
    if batch < 0:
        batch += rank(call, indices)
    if batch == 0:
        return call.op("Gather", x, indices, axis=axis)
    order = [*range(batch), axis, *(i for i in range(batch, dims) if i != axis)]
    y = call.op("Transpose", x, perm=order)
    y = call.op("GatherND", y, call.op("Unsqueeze", wide(call, indices), [-1]), batch_dims=batch)
    inner = rank(call, indices) - batch  # dimensions that the indices put in the place of the axis
    outer = axis - batch
    first, last = batch + inner, batch + inner + outer
    back = [*range(batch), *range(first, last), *range(batch, first), *range(last, rank(call, y))]
    return call.op("Transpose", y, perm=back)


@primitive("GatherD")
def gather_d(call: Call) -> Item:
    """One element along `dim` for every index."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    return call.op("GatherElements", x, call.tensor("index"), axis=axis)


@primitive("GatherNd", "GatherNdExt")
def gather_nd(call: Call) -> Item:
    """Elements or slices by vectors of indices."""
    return call.op("GatherND", call.tensor(0), wide(call, call.tensor(1)))


@primitive("IndexSelect")
def index_select(call: Call) -> Item:
    """Slices of a dimension by index."""
    x = call.tensor(0)
    return call.op("Gather", x, call.tensor("index"), axis=axis_of(call, call.integer("dim"), rank(call, x), "dim"))


@primitive("Take")
def take(call: Call) -> Item:
    """Elements by their place in the flat tensor."""
    return call.op("Gather", flat(call, call.tensor(0)), call.tensor(1), axis=0)


@primitive("EmbeddingLookup")
def embedding_lookup(call: Call) -> Item:
    """Rows by index less `offset`; 0 where there is no such row."""
    table, indices, offset = call.tensor(0), wide(call, call.tensor(1)), call.tensor(2)
    at = call.op("Sub", indices, wide(call, offset))
    zero, size = call.a.scalar(0, "i64"), call.op("Squeeze", call.a.sizes(call.shape(table)[:1]), [0])
    inside = call.op("And", call.op("GreaterOrEqual", at, zero), call.op("Less", at, size))
    rows = call.op("Gather", table, call.op("Where", inside, at, zero), axis=0)
    mask = reshaped(call, inside, [*call.shape(at), *[1] * (rank(call, rows) - rank(call, at))])
    return call.op("Where", mask, rows, constant(call, 0, rows))


@primitive("Embedding")
def embedding(call: Call) -> Item:
    """Rows of `weight` by index. Raises `Unsupported` where rows would be renormalized."""
    if call.datum("max_norm", None) is not None:
        call.refuse("Embedding with max_norm, which changes its weights")
    return call.op("Gather", call.tensor(1), call.tensor(0), axis=0)


@primitive("Index", "InnerIndex")
def index(call: Call) -> Item:
    """`input[indices]` with integer tensors for the first dimensions, or one mask."""
    x, indices = call.tensor(0), [call.item(d) for d in call.tuple("indices")]
    if len(indices) == 1 and call.element_type(indices[0]) == "bool":
        count = rank(call, indices[0])
        rows = reshaped(call, x, [as_dim(as_expr(product(call.shape(x)[:count]))), *call.shape(x)[count:]])
        return call.op("Compress", rows, flat(call, indices[0]), axis=0)
    if any(call.element_type(i) == "bool" for i in indices):
        call.refuse("an index of masks and integers")
    return call.op("GatherND", x, _vectors(call, indices, call.shape(x)))


def _vectors(call: Call, indices: Sequence[Item], dims: Sequence[Dim]) -> Item:
    """Integer tensors, broadcast, as one tensor of vectors of indices, none negative."""
    zero = call.a.scalar(0, "i64")
    fixed: list[Item] = []
    for item, dim in zip(indices, dims, strict=False):
        at = wide(call, item)
        size = call.op("Squeeze", call.a.sizes([dim]), [0])
        fixed.append(call.op("Where", call.op("Less", at, zero), call.op("Add", at, size), at))
    total = fixed[0]
    for other in fixed[1:]:
        total = call.op("Add", total, other)
    blank = call.op("Mul", total, zero)
    parts = [call.op("Unsqueeze", call.op("Add", f, blank), [-1]) for f in fixed]
    return parts[0] if len(parts) == 1 else call.op("Concat", *parts, axis=-1)


# -- masks -------------------------------------------------------------------------------------------------------------


@primitive("Select", "SelectV2")
def select(call: Call) -> Item:
    """The second where the condition holds, else the third."""
    return call.op("Where", call.cast(call.tensor(0), "bool"), *operands(call, call[1], call[2]))


def like_first(call: Call, x: Item, value: Datum) -> Item:
    """A value as a tensor of the element type of `x`."""
    return call.cast(call.item(value, x), call.element_type(x))


@primitive("MaskedFill", "MaskedFillScalar")
def masked_fill(call: Call) -> Item:
    """`value` where the mask holds."""
    x = call.tensor(0)
    return call.op("Where", call.cast(call.tensor("mask"), "bool"), like_first(call, x, call.datum("value")), x)


def _with_mask(call: Call) -> tuple[Item, Item, tuple[Dim, ...]]:
    """The first two inputs, broadcast to one shape, flat; and that shape."""
    x, mask = call.tensor(0), call.cast(call.tensor(1), "bool")
    shape = call.shape(call.op("Where", mask, x, x))
    return flat(call, expanded(call, x, shape)), flat(call, expanded(call, mask, shape)), shape


@primitive("MaskedSelect")
def masked_select(call: Call) -> Item:
    """The elements where the mask holds, in one dimension."""
    x, mask, _ = _with_mask(call)
    return call.op("Compress", x, mask, axis=0)


@primitive("MaskedScatter")
def masked_scatter(call: Call) -> Item:
    """The elements of `source` in order where the mask holds."""
    x, mask, shape = _with_mask(call)
    count = call.op("CumSum", call.cast(mask, "i64"), call.a.scalar(0, "i64"))
    at = call.op("Max", call.op("Sub", count, call.a.scalar(1, "i64")), call.a.scalar(0, "i64"))
    source = call.op("Gather", flat(call, call.tensor("source")), at, axis=0)
    return reshaped(call, call.op("Where", mask, source, x), shape)


@primitive("NonZero", "InnerNonZero")
def non_zero(call: Call) -> Item:
    """Where elements are not 0, one vector of indices a row."""
    return call.op("Transpose", call.op("NonZero", call.tensor(0)), perm=[1, 0])


@primitive("NonZeroExt")
def non_zero_ext(call: Call) -> Datum:
    """Where elements are not 0, one tensor for each dimension."""
    x = call.tensor(0)
    found = call.op("NonZero", x)
    return tuple(call.op("Squeeze", sliced(call, found, 0, i, i + 1), [0]) for i in range(rank(call, x)))


# -- writing -----------------------------------------------------------------------------------------------------------


def scattered(call: Call, x: Item, indices: Item, updates: Item, reduction: str = "none") -> Item:
    """ScatterND; besides ONNX's reductions "sub" and "div"."""
    x, updates = x, call.cast(updates, call.element_type(x))
    if reduction == "sub":
        updates, reduction = call.op("Neg", updates), "add"
    elif reduction == "div":
        if kind_of(call.element_type(x)) < 2:
            call.refuse("division of integers by index")
        updates, reduction = call.op("Reciprocal", updates), "mul"
    return call.op("ScatterND", x, wide(call, indices), updates, reduction=reduction)


_REDUCTIONS = {
    "Update": "none", "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min",
}  # fmt: skip


def _tensor_scatter(name: str, reduction: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return scattered(call, call.tensor(0), call.tensor(1), call.tensor(2), reduction)


def kept(call: Call, result: Item) -> Item:
    """The result of a primitive that writes into its first argument: a parameter holds it from here on, and what else
    the argument is called stands for it."""
    target = call[0]
    if isinstance(target, Parameter):
        call.machine.assign(target, result)
    elif isinstance(target, Item):
        call.machine.overwrite(target, result)
    else:
        raise call.error(f"expected a tensor, got {described(target)}")
    return result


def _parameter_scatter(name: str, reduction: str, vectors: bool) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        indices = call.tensor(1)
        if not vectors:
            indices = call.op("Unsqueeze", indices, [-1])
        return kept(call, scattered(call, call.tensor(0), indices, call.tensor(2), reduction))


for _name, _reduction in _REDUCTIONS.items():
    _tensor_scatter(f"TensorScatter{_name}", _reduction)
    _parameter_scatter(f"ScatterNd{_name}", _reduction, True)
    _parameter_scatter(f"Scatter{_name}", _reduction, False)


@primitive("ScatterNd")
def scatter_nd(call: Call) -> Item:
    """Zeros of a shape, to which updates are added by index."""
    updates = call.tensor(1)
    zeros = expanded(call, constant(call, 0, updates), call.dims("shape"))
    return scattered(call, zeros, call.tensor(0), updates, "add")


def scatter_elements(call: Call, x: Item, indices: Item, source: Item, axis: int, reduction: str) -> Item:
    """ScatterElements with an update of the element type of `x`, of a shape of at least that of the indices."""
    source = call.cast(source, call.element_type(x))
    dims, have = call.shape(indices), call.shape(source)
    if not have:
        source = expanded(call, source, dims)
    elif have != dims:  # more updates than indices: those that have one
        source = call.op("Slice", source, [0] * len(dims), list(dims), list(range(len(dims))))
    return call.op("ScatterElements", x, indices, source, axis=axis, reduction=reduction)


_REDUCE = {0: "NONE", 1: "ADD", 2: "MULTIPLY", 3: "UPDATE"}
_REDUCTION = {"NONE": "none", "UPDATE": "none", "ADD": "add", "MULTIPLY": "mul", "MUL": "mul"}


@primitive("TensorScatterElements")
def tensor_scatter_elements(call: Call) -> Item:
    """One update along `axis` for every index."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("axis", 0), rank(call, x))
    name = call.first("reduce", "reduction")
    return scatter_elements(call, x, call.tensor(1), call.tensor(2), axis, _REDUCTION[call.word(name, _REDUCE, "none")])


@primitive("Scatter", "ScatterAddExt", "ScatterValue")
def scatter(call: Call) -> Item:
    """One update along `dim` for every index."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    reduction = "add" if "ScatterAdd" in call.name else _REDUCTION[call.word("reduce", _REDUCE)]
    return scatter_elements(call, x, call.tensor("index"), call.item(call.datum("src"), x), axis, reduction)


def _rows(call: Call, x: Item, axis: int, places: Item) -> Item:
    """Indices of ScatterElements that name whole slices of an axis."""
    dims = list(call.shape(x))
    count = call.shape(places)[0]
    shape = [count if i == axis else 1 for i in range(len(dims))]
    return expanded(call, reshaped(call, places, shape), [*dims[:axis], count, *dims[axis + 1 :]])


@primitive("IndexAddExt", "IndexAdd")
def index_add(call: Call) -> Item:
    """Slices added to those of a dimension that an index names."""
    x, old = call.tensor(0), call.name == "IndexAdd"
    axis = axis_of(call, call.integer("axis" if old else "dim"), rank(call, x))
    source = like_first(call, x, call.datum("input_y" if old else "source"))
    if not old and call.datum("alpha", 1) != 1:
        source = call.op("Mul", source, like_first(call, x, call.datum("alpha")))
    places = call.tensor("indices" if old else "index")
    y = scatter_elements(call, x, _rows(call, x, axis, flat(call, places)), source, axis, "add")
    return kept(call, y) if old and isinstance(call[0], Parameter) else y


@primitive("IndexFillScalar", "IndexFillTensor", "IndexFill")
def index_fill(call: Call) -> Item:
    """`value` in the slices of a dimension that an index names."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    places = _rows(call, x, axis, flat(call, call.tensor("index")))
    return scatter_elements(call, x, places, like_first(call, x, call.datum("value")), axis, "none")


@primitive("KVCacheScatterUpdate")
def kv_cache_update(call: Call) -> Item:
    """Rows of a cache written along an axis at one place for each batch."""
    cache, places, updates = call.tensor(0), wide(call, call.tensor(1)), call.tensor(2)
    axis, dims = axis_of(call, call.integer("axis"), rank(call, cache)), call.shape(call.tensor(2))
    start = reshaped(call, places, [dims[0], *[1] * (len(dims) - 1)])
    at = expanded(call, call.op("Add", start, along(call, dims[axis], axis, len(dims))), dims)
    return kept(call, scatter_elements(call, cache, at, updates, axis, "none"))


# -- segments ----------------------------------------------------------------------------------------------------------


def lowest(dtype: str, most: bool = False) -> float | int:
    """The least number of an element type, or the largest."""
    if kind_of(dtype) >= 2:
        return float("inf") if most else -float("inf")
    info = np.iinfo(DTYPES[dtype].numpy)
    return int(info.max if most else info.min)


def segments(call: Call, x: Item, ids: Item, count: Dim, reduction: str, start: float | int) -> Item:
    """Rows of `x` combined by the segment that `ids` names for each; rows of segments below 0 are left out."""
    own = rank(call, ids)
    rest = call.shape(x)[own:]
    rows = reshaped(call, x, [as_dim(as_expr(product(call.shape(ids)))), *rest])
    at, zero = flat(call, wide(call, ids)), call.a.scalar(0, "i64")
    beyond = call.op("Squeeze", call.a.sizes([count]), [0])
    at = call.op("Where", call.op("Less", at, zero), beyond, at)
    base = expanded(call, call.a.scalar(start, call.element_type(x)), [as_dim(as_expr(count) + 1), *rest])
    total = scattered(call, base, call.op("Unsqueeze", at, [1]), rows, reduction)
    return sliced(call, total, 0, 0, count)


_SEGMENTS = {"Sum": "add", "Prod": "mul", "Max": "max", "Min": "min"}


def _start(dtype: str, reduction: str) -> float | int:
    return {"add": 0, "mul": 1}[reduction] if reduction in ("add", "mul") else lowest(dtype, reduction == "min")


def _finite_start(dtype: str, reduction: str) -> float | int:
    """What MindSpore leaves in empty segments: the extreme of finite numbers."""
    start = _start(dtype, reduction)
    if isinstance(start, float) and np.isinf(start):
        most = {"f16": 65504.0, "f64": 1.7976931348623157e308}.get(dtype, 3.4028234663852886e38)
        return most if start > 0 else -most
    return start


def _unsorted(name: str, reduction: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = call.tensor(0)
        start = _finite_start(call.element_type(x), reduction)
        return segments(call, x, call.tensor(1), call.dim("num_segments"), reduction, start)


def _sorted(name: str, reduction: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x, ids = call.tensor(0), wide(call, call.tensor(1))
        last = call.op("Add", call.op("ReduceMax", ids, keepdims=1), np.array([1]))
        (count,) = call.a.dims(last)
        y = segments(call, x, ids, count, reduction, _start(call.element_type(x), reduction))
        if reduction in ("max", "min"):
            y = call.op("Where", call.op("IsInf", floating(call, y)), constant(call, 0, y), y)
        return y


for _name, _reduction in _SEGMENTS.items():
    _unsorted(f"UnsortedSegment{_name}", _reduction)
    _sorted(f"Segment{_name}", _reduction)


@primitive("SegmentMean")
def segment_mean(call: Call) -> Item:
    """The mean of the rows of each segment."""
    x, ids = call.tensor(0), wide(call, call.tensor(1))
    (count,) = call.a.dims(call.op("Add", call.op("ReduceMax", ids, keepdims=1), np.array([1])))
    ones = expanded(call, constant(call, 1, x), call.shape(ids))
    number = segments(call, ones, ids, count, "add", 0)
    shape = [count, *[1] * (rank(call, x) - 1)]
    number = call.op("Max", reshaped(call, number, shape), constant(call, 1, x))
    return call.op("Div", segments(call, x, ids, count, "add", 0), number)


__all__ = ["kept", "like_first", "lowest", "scatter_elements", "scattered", "segments", "wide"]
