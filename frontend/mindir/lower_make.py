"""Lowerings of MindIR's primitives that make tensors: constants, ranges, conversions, sizes, diagonals, triangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr, minimum
from ...ir.ops.float8 import Bitcast
from .data import DType
from .lower_common import (
    along,
    axis_of,
    constant,
    elements,
    expanded,
    flat,
    iota,
    known,
    number,
    operands,
    rank,
    reshaped,
    sliced,
)
from .lower_index import scattered
from .primitive import Call, Datum, Item, primitive

# -- conversions -------------------------------------------------------------------------------------------------------


@primitive("Cast", "ToDtype", "ToDevice")
def cast(call: Call) -> Item:
    """Another element type."""
    x = call.tensor(0)
    dtype = call.dtype("dtype") or call.dtype("dst_type") or (call.result_dtype if call.name == "Cast" else None)
    return x if dtype is None else call.cast(x, dtype)


@primitive("TypeAs", "ToOther")
def type_as(call: Call) -> Item:
    """The element type of another tensor."""
    return call.cast(call.tensor(0), call.element_type(call.tensor(1)))


@primitive("ViewDtype")
def view_dtype(call: Call) -> Item:
    """The same bits as another element type of the same width."""
    x, dtype = call.tensor(0), call.dtype("dtype")
    if dtype is None:
        return x
    like = call.a.scalar(0, dtype)
    return call.make(Bitcast, x, call.element_type(like))


@primitive(
    "Identity", "Copy", "Clone", "Contiguous", "CopyToHost", "CopyToDevice", "Detach", "FormatCast", "StopGradient",
    "AShardIdentity", "GetData", "CheckNumerics", "IdentityN", "ConvertToDynamic",
)  # fmt: skip
def identity(call: Call) -> Datum:
    """The input itself."""
    datum = call[0]
    return tuple(call.item(d) for d in datum) if isinstance(datum, tuple) else call.item(datum)


# -- sizes -------------------------------------------------------------------------------------------------------------


@primitive("Shape")
def shape(call: Call) -> Datum:
    """The sizes as a tuple of numbers."""
    return tuple(call.shape(call.tensor(0)))


@primitive("TensorShape", "DynamicShape")
def tensor_shape(call: Call) -> Item:
    """The sizes as a tensor."""
    return call.op("Shape", call.tensor(0))


@primitive("Rank")
def rank_(call: Call) -> Datum:
    """The number of dimensions."""
    return rank(call, call.tensor(0))


@primitive("Size")
def size(call: Call) -> Datum:
    """The number of elements."""
    total: Dim = 1
    for dim in call.shape(call.tensor(0)):
        total = as_dim(as_expr(total) * dim)
    return total


@primitive("DType")
def dtype_(call: Call) -> Datum:
    """The element type."""
    return DType(call.element_type(call.tensor(0)))


# -- constants ---------------------------------------------------------------------------------------------------------


def filled(call: Call, dims: Sequence[Dim], value: Datum, dtype: str | None) -> Item:
    """A tensor that has one value everywhere."""
    item = call.item(value)
    if isinstance(value, bool | int | float) and dtype is not None:
        item = call.a.scalar(number(value, dtype), dtype)
    item = call.cast(item, dtype) if dtype is not None else item
    if rank(call, item):
        item = reshaped(call, item, [])
    return expanded(call, item, dims)


@primitive("Ones", "Zeros", "Empty")
def ones(call: Call) -> Item:
    """Ones or zeros of a shape; new memory is zeros."""
    name = "shape" if call.name == "Ones" else "size"
    dims = call.sizes(call[0], name)
    return filled(call, dims, int(call.name == "Ones"), call.dtype("dtype") or call.result_dtype or "f32")


@primitive("OnesLike", "ZerosLike", "OnesLikeExt", "ZerosLikeExt", "EmptyLike")
def ones_like(call: Call) -> Item:
    """Ones or zeros of the shape of a tensor."""
    x = call.tensor(0)
    dtype = call.dtype("dtype") if call.name not in ("OnesLike", "ZerosLike") else None
    return filled(call, call.shape(x), int(call.name.startswith("Ones")), dtype or call.element_type(x))


@primitive("NewOnes", "NewZeros", "NewEmpty")
def new_ones(call: Call) -> Item:
    """Ones or zeros of a shape, of the element type of a tensor if no other is given."""
    dtype = call.dtype("dtype") or call.element_type(call.tensor(0))
    return filled(call, call.dims("size"), int(call.name == "NewOnes"), dtype)


@primitive("FillScalar", "FillTensor", "NewFull")
def fill_scalar(call: Call) -> Item:
    """One value in a tensor of a shape."""
    dtype = call.dtype("dtype") or (call.element_type(call.tensor(0)) if call.name == "NewFull" else call.result_dtype)
    return filled(call, call.dims("size"), call.datum("fill_value"), dtype)


@primitive("FullLike")
def full_like(call: Call) -> Item:
    """One value in a tensor of the shape of another."""
    x = call.tensor(0)
    return filled(call, call.shape(x), call.datum("fill_value"), call.dtype("dtype") or call.element_type(x))


@primitive("Fill", "FillV2")
def fill(call: Call) -> Item:
    """One value in a tensor of a shape."""
    dtype = call.dtype("type") if call.name == "Fill" else None
    return filled(call, call.dims("shape"), call.datum("value"), dtype or call.result_dtype)


@primitive("Fills")
def fills(call: Call) -> Item:
    """One value in a tensor of the shape and element type of another."""
    x = call.tensor(0)
    return filled(call, call.shape(x), call.datum("value"), call.element_type(x))


@primitive("Eps")
def eps(call: Call) -> Item:
    """The step of the element type above 1, everywhere."""
    x = call.tensor(0)
    step = {"f16": 2.0**-10, "bf16": 2.0**-7, "f64": 2.0**-52}.get(call.element_type(x), 2.0**-23)
    return filled(call, call.shape(x), step, call.element_type(x))


# -- ranges ------------------------------------------------------------------------------------------------------------


def ranged(call: Call, start: Datum, end: Datum, step: Datum, dtype: str | None) -> Item:
    """start, start + step ... below end."""
    items = operands(call, start, end, step)
    y = call.op("Range", *(reshaped(call, i, []) for i in items))
    return y if dtype is None else call.cast(y, dtype)


@primitive("Range", "RangeV2", "make_range")
def range_(call: Call) -> Item:
    """start, start + step ... below end."""
    return ranged(call, call[0], call[1], call[2], call.result_dtype)


@primitive("Arange")
def arange(call: Call) -> Item:
    """start, start + step ... below end."""
    return ranged(call, call[0], call[1], call[2], call.dtype("dtype") or call.result_dtype)


def spaced(call: Call, start: Datum, end: Datum, count: int, dtype: str) -> Item:
    """`count` numbers from start to end at equal distances, each computed from the nearer end."""
    wide = "f64" if dtype == "f64" else "f32"
    first, last = (call.cast(call.item(d), wide) for d in (start, end))
    batch = rank(call, first)
    if batch:
        first, last = (call.op("Unsqueeze", i, [batch]) for i in (first, last))
    if count == 1:
        return call.cast(first if batch else reshaped(call, first, [1]), dtype)
    at = call.cast(iota(call, count), wide)
    step = call.op("Div", call.op("Sub", last, first), call.a.scalar(float(count - 1), wide))
    low = call.op("Add", first, call.op("Mul", at, step))
    behind = call.op("Sub", call.a.scalar(float(count - 1), wide), at)
    high = call.op("Sub", last, call.op("Mul", behind, step))
    half = call.op("Less", at, call.a.scalar(float(count) / 2, wide))
    return call.cast(call.op("Where", half, low, high), dtype)


@primitive("LinSpace", "LinSpaceExt")
def lin_space(call: Call) -> Item:
    """Numbers at equal distances, both ends among them."""
    dtype = call.dtype("dtype") if call.name == "LinSpaceExt" else None
    count = call.integer("steps" if call.name == "LinSpaceExt" else "num")
    return spaced(call, call[0], call[1], count, dtype or call.result_dtype or "f32")


@primitive("LogSpace")
def log_space(call: Call) -> Item:
    """Powers of a base whose exponents are at equal distances."""
    dtype = call.dtype("dtype") or "f32"
    exponents = spaced(call, call[0], call[1], call.integer("steps", 10), dtype)
    return call.op("Pow", constant(call, call.real("base", 10), exponents), exponents)


@primitive("Meshgrid")
def meshgrid(call: Call) -> Datum:
    """Vectors as the coordinates of a grid; with indexing "xy" the first two dimensions change places."""
    items = [flat(call, call.item(d)) for d in call.tuple("inputs")]
    swap = call.word("indexing", {0: "IJ", 1: "XY"}, "xy") == "XY" and len(items) > 1
    order = [1, 0, *range(2, len(items))] if swap else list(range(len(items)))
    dims = [call.shape(items[i])[0] for i in order]
    results: list[Item] = []
    for i, item in enumerate(items):
        at = order.index(i)
        shape = [dims[at] if j == at else 1 for j in range(len(items))]
        results.append(expanded(call, reshaped(call, item, shape), dims))
    return tuple(results)


@primitive("TrilIndices", "TriuIndices")
def tril_indices(call: Call) -> Item:
    """Coordinates of a triangle, rows and columns."""
    rows, columns, offset = (call.integer(n, 0) for n in ("row", "col", "offset"))
    of = np.tril_indices if call.name == "TrilIndices" else np.triu_indices
    found = np.stack(of(rows, offset, columns)) if rows and columns else np.zeros((2, 0), np.int64)
    return call.cast(call.a.constant(found.astype(np.int64)), call.dtype("dtype") or "i32")


def _window(name: str, parts: Sequence[float]) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        length = call.integer("length")
        count = length if call.flag("periodic", True) else length - 1
        angle = 2 * np.pi * np.arange(length) / max(count, 1)
        weights = list(parts)
        if name == "HammingWindow":
            weights = [call.real("alpha", 0.54), -call.real("beta", 0.46)]
        window = sum(w * np.cos(i * angle) for i, w in enumerate(weights))
        if not weights:
            window = 1 - np.abs(2 * np.arange(length) / max(count, 1) - 1)
        return call.cast(call.a.constant(np.asarray(window, np.float64)), call.dtype("dtype") or "f32")


for _name, _parts in {
    "BartlettWindow": (),
    "BlackmanWindow": (0.42, -0.5, 0.08),
    "HammingWindow": (0.54, -0.46),
}.items():
    _window(_name, _parts)

# -- one hot -----------------------------------------------------------------------------------------------------------


def one_hot(call: Call, indices: Item, depth: Dim, on: Datum, off: Datum, axis: int) -> Item:
    """`on` at the index along a new axis, elsewhere `off`; of indices outside: all `off`."""
    dims = rank(call, indices)
    axis = axis_of(call, axis, dims + 1)
    at = call.op("Unsqueeze", call.cast(indices, "i64"), [axis])
    test = call.op("Equal", at, along(call, depth, axis, dims + 1))
    values = operands(call, on, off)
    return call.op("Where", test, *(reshaped(call, v, []) for v in values))


@primitive("OneHot")
def one_hot_(call: Call) -> Item:
    """`on_value` at each index along a new axis."""
    given = call.given
    on, off = given[2], given[3]
    return one_hot(call, call.tensor(0), call.dim("depth"), on, off, call.integer("axis", -1))


@primitive("OneHotExt")
def one_hot_ext(call: Call) -> Item:
    """`on_value` at each index along a new axis; without a number of classes as many as there are."""
    indices, count = call.tensor(0), call.dim("num_classes")
    if count == -1:
        largest = call.op("ReduceMax", call.cast(indices, "i64"), keepdims=0)
        (count,) = call.a.dims(reshaped(call, call.op("Add", largest, call.a.scalar(1, "i64")), [1]))
    return one_hot(call, indices, count, call.datum("on_value"), call.datum("off_value"), call.integer("axis", -1))


# -- diagonals and triangles -------------------------------------------------------------------------------------------


@primitive("Eye")
def eye(call: Call) -> Item:
    """Ones on the diagonal of a matrix."""
    rows, columns = call.dim("n"), call.dim("m")
    same = call.op("Equal", along(call, rows, 0, 2), along(call, columns, 1, 2))
    return call.cast(same, call.dtype("dtype") or call.result_dtype or "f32")


def triangle(call: Call, x: Item, diagonal: int, upper: bool) -> Item:
    """A triangle of the matrices in the last two dimensions, elsewhere 0."""
    dims = rank(call, x)
    rows, columns = call.shape(x)[-2:]
    d = call.op("Sub", along(call, columns, dims - 1, dims), along(call, rows, dims - 2, dims))
    edge = call.a.scalar(diagonal, "i64")
    test = call.op("GreaterOrEqual" if upper else "LessOrEqual", d, edge)
    return call.op("Where", test, x, constant(call, 0, x))


@primitive("Tril", "Triu", "TrilExt")
def tril(call: Call) -> Item:
    """A triangle of matrices."""
    return triangle(call, call.tensor(0), call.integer("diagonal", 0), call.name == "Triu")


@primitive("MatrixBandPart")
def matrix_band_part(call: Call) -> Item:
    """A band of matrices: `lower` and `upper` diagonals beside the main one, all where they are negative."""
    x, low, high = call.tensor(0), call.integer("lower"), call.integer("upper")
    if low >= 0:
        x = triangle(call, x, -low, True)
    return triangle(call, x, high, False) if high >= 0 else x


@primitive("Diag")
def diag(call: Call) -> Item:
    """A tensor as the diagonal of one of twice the dimensions."""
    x = call.tensor(0)
    dims = call.shape(x)
    count = elements(call, dims)
    (n,) = call.a.dims(reshaped(call, count, [1]))
    return reshaped(call, on_diagonal(call, flat(call, x), n, 0), [*dims, *dims])


def on_diagonal(call: Call, vector: Item, count: Dim, offset: int) -> Item:
    """A matrix with a vector on a diagonal, elsewhere 0."""
    side = as_dim(as_expr(count) + abs(offset))
    row = call.op("Expand", reshaped(call, vector, [count, 1] if offset > 0 else [1, count]), [count, count])
    before, after = ((0, offset), (offset, 0)) if offset > 0 else ((-offset, 0), (0, -offset))
    wide = call.op("Pad", row, [before[0], before[1], after[0], after[1]])
    d = call.op("Sub", along(call, side, 1, 2), along(call, side, 0, 2))
    return call.op("Where", call.op("Equal", d, call.a.scalar(offset, "i64")), wide, constant(call, 0, vector))


def diagonal_of(call: Call, x: Item, offset: int, one: int, other: int) -> Item:
    """A diagonal of the matrices in two dimensions, as the last dimension."""
    dims = list(call.shape(x))
    order = [i for i in range(len(dims)) if i not in (one, other)] + [one, other]
    if order != list(range(len(dims))):
        x = call.op("Transpose", x, perm=order)
    *batch, rows, columns = (dims[i] for i in order)
    first_row, first_column = max(-offset, 0), max(offset, 0)
    length = as_dim(minimum(as_expr(rows) - first_row, as_expr(columns) - first_column))
    axis = len(dims) - 2
    x = sliced(
        call,
        sliced(call, x, axis, first_row, as_dim(as_expr(length) + first_row)),
        axis + 1,
        first_column,
        as_dim(as_expr(length) + first_column),
    )
    at = reshaped(call, iota(call, length), [*[1] * len(batch), length, 1])
    at = expanded(call, at, [*batch, length, 1])
    return call.op("Squeeze", call.op("GatherElements", x, at, axis=axis + 1), [axis + 1])


@primitive("Diagonal", "DiagonalView")
def diagonal(call: Call) -> Item:
    """A diagonal of the matrices in two dimensions, as the last dimension."""
    x, dims = call.tensor(0), rank(call, call.tensor(0))
    one, other = (axis_of(call, call.integer(n, i), dims, n) for i, n in enumerate(("dim1", "dim2")))
    return diagonal_of(call, x, call.integer("offset", 0), one, other)


@primitive("DiagExt")
def diag_ext(call: Call) -> Item:
    """A matrix with a vector on its diagonal, or the diagonal of a matrix."""
    x, offset = call.tensor(0), call.integer("diagonal", 0)
    dims = call.shape(x)
    return on_diagonal(call, x, dims[0], offset) if len(dims) == 1 else diagonal_of(call, x, offset, 0, 1)


@primitive("DiagPart")
def diag_part(call: Call) -> Item:
    """The diagonal of a tensor whose first half of dimensions is like its second."""
    x = call.tensor(0)
    dims = call.shape(x)[: rank(call, x) // 2]
    count = 1
    for d in dims:
        count *= known(call, d, "a dimension")
    return reshaped(call, diagonal_of(call, reshaped(call, x, [count, count]), 0, 0, 1), dims)


@primitive("FillDiagonal")
def fill_diagonal(call: Call) -> Item:
    """A number on the main diagonal; with `wrap` again below, for matrices that are high."""
    x = call.tensor(0)
    dims = [known(call, d, "a dimension") for d in call.shape(x)]
    step = int(sum(np.cumprod([1, *dims[::-1]])[:-1]))
    end = (
        int(np.prod(dims)) if call.flag("wrap", False) or len(dims) > 2 else min(dims[1] * dims[1], int(np.prod(dims)))
    )
    places = np.arange(0, end, step)[:, None]
    value = expanded(call, constant(call, call.real("fill_value"), x), [len(places)])
    return reshaped(call, scattered(call, flat(call, x), call.a.constant(places), value), dims)


@primitive("TraceV2")
def trace_v2(call: Call) -> Item:
    """The sum of a diagonal."""
    x, dims = call.tensor(0), rank(call, call.tensor(0))
    one, other = (axis_of(call, call.integer(n), dims, n) for n in ("axis1", "axis2"))
    found = diagonal_of(call, x, call.integer("offset"), one, other)
    dtype = call.dtype("dtype") or call.result_dtype or call.element_type(x)
    return call.op("ReduceSum", call.cast(found, dtype), [-1], keepdims=0)


__all__ = ["diagonal_of", "filled", "on_diagonal", "one_hot", "spaced", "triangle"]
