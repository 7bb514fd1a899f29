"""Operators that make tensors from numbers: constants, ranges, shapes, masks."""

from __future__ import annotations

import math

import numpy as np
from onnx import AttributeProto

from ...ir.assume import assume_equal
from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, maximum, product
from ...ir.ops.arith import Add, Cast, Equal, GreaterEqual, Less, LessEqual, Mul, Sub, Where
from ...ir.ops.shape import Expand, Iota, Reshape, Slice
from .calc import Calc
from .computed import sized
from .node import Node, Result, converter
from .scope import Known, simplified
from .shape import checked_sizes
from .tensors import checked_shape, densified


@converter("Constant")
def constant(node: Node) -> Result:
    """Constant in all its forms."""
    if len(node.proto.attribute) != 1:
        raise node.error(f"expected exactly one value, got {len(node.proto.attribute)} attributes")
    attribute: AttributeProto = node.proto.attribute[0]
    match attribute.name:
        case "value":
            data = node.tensor("value")
            assert data is not None
            return data
        case "value_int":
            return ConstantData.of(np.array(node.integer("value_int"), np.int64))
        case "value_ints":
            return ConstantData.of(np.array(node.ints("value_ints"), np.int64))
        case "value_float":
            return ConstantData.of(np.array(node.real("value_float"), np.float32))
        case "value_floats":
            return ConstantData.of(np.array(node.floats("value_floats"), np.float32))
        case "value_string":
            return ConstantData.of(np.array(node.string("value_string"), np.object_))
        case "value_strings":
            return ConstantData.of(np.array([s.decode("utf-8", "replace") for s in attribute.strings], np.object_))
        case "sparse_value":
            sparse = attribute.sparse_tensor
            where = f"{node.tensors.model.label}: node {node.loc}: sparse_value"
            values, indices = (node.read_tensor(t, "sparse_value") for t in (sparse.values, sparse.indices))
            return densified(values, indices, checked_shape(sparse.dims, where), where)
        case other:
            raise node.error(f"unknown attribute {other!r}")


@converter("ConstantOfShape")
def constant_of_shape(node: Node) -> Result:
    """ConstantOfShape: one value, nothing stored."""
    shape = [as_dim(d) for d in node.dims(0, "the shape")]
    checked_sizes(shape)
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise node.error(f"expected dimensions of at least 0, got {shape}")
    data = node.tensor("value")
    if data is not None and data.elements != 1:
        raise node.error(f"value: expected one element, got {data.type}")
    value, dtype = (0.0, "f32") if data is None else (data.array().reshape(-1)[0].item(), data.dtype)
    numbers = [d for d in shape if isinstance(d, int)]
    if len(numbers) == len(shape):
        return ConstantData.splat(value, dtype, checked_shape(numbers, f"{node.tensors.model.label}: node {node.loc}"))
    return node.make(Expand, node.splat(value, dtype), tuple(shape))


@converter("Shape")
def shape(node: Node) -> Known:
    """Shape: known even where it is symbolic."""
    dims, rank = node.shape(0), node.rank(0)
    return Known.of(np.array([*dims], np.object_)[node.integer("start", 0) : node.integer("end", rank)])


@converter("Size")
def size(node: Node) -> Known:
    """Size: number of elements."""
    total = np.empty((), np.object_)
    total[()] = as_dim(product(node.shape(0)))
    return Known(total)


@converter("Range")
def range_(node: Node) -> Value:
    """Range from known scalars; the length may be symbolic."""
    dtype = node.type(0).dtype
    arrays = [node.maybe_array(i) for i in range(3)]
    for i, what in enumerate(("start", "limit", "delta")):
        if node.type(i).is_static and node.type(i).elements != 1:
            raise node.error(f"{what}: expected one number, got {node.type(i)}")
    numbers = [a.reshape(-1)[0].item() for a in arrays if a is not None]
    length = _count(node, numbers) if len(numbers) == 3 else _symbolic_count(node)
    index = node.make(Iota, (length,), 0, dtype)
    scaled = node.make(Mul, index, _scalar(node, 2))
    return node.make(Add, scaled, _scalar(node, 0))


def _count(node: Node, numbers: list[int | float]) -> int:
    """Number of elements of a range between numbers."""
    start, limit, delta = numbers
    if delta == 0 or not all(math.isfinite(n) for n in numbers):
        raise node.error(f"expected finite numbers and a delta other than 0, got {start}, {limit}, {delta}")
    whole = all(isinstance(n, int) for n in numbers)
    count = max(0, -((start - limit) // delta) if whole else math.ceil((limit - start) / delta))
    return checked_shape([count], f"{node.tensors.model.label}: node {node.loc}")[0]


def _symbolic_count(node: Node) -> Dim:
    first, last, step = (node.dims(i, what)[0] for i, what in enumerate(("start", "limit", "delta")))
    if isinstance(step, Expr) or step == 0:
        raise node.unknown(2, "delta")
    count = ceildiv(as_expr(last) - first, step) if step > 0 else ceildiv(as_expr(first) - last, -step)
    return simplified(maximum(count, 0))


def _scalar(node: Node, index: int) -> Value:
    value = node.value(index)
    return value if value.tensor.shape == () else node.make(Reshape, value, ())


@converter("EyeLike")
def eye_like(node: Node) -> Value:
    """EyeLike: ones on diagonal k."""
    dims = node.shape(0)
    if len(dims) != 2:
        raise node.error(f"expected a matrix, got {node.type(0)}")
    dtype = node.dtype(node.integer("dtype")) if node.has_attribute("dtype") else node.type(0).dtype
    mask = node.make(Equal, _diagonal(node, dims), node.splat(node.integer("k", 0), "i64"))
    return node.make(Cast, mask, dtype)


@converter("Trilu")
def trilu(node: Node) -> Value:
    """Trilu: keeps the upper or lower triangle of the last two dimensions."""
    x, dims = node.value(0), node.shape(0)
    if len(dims) < 2:
        raise node.error(f"expected an input of rank 2 or more, got {node.type(0)}")
    k = _scalar(node, 1) if node.has(1) else node.splat(0, "i64")
    kind = GreaterEqual if node.integer("upper", 1) else LessEqual
    mask = node.make(kind, _diagonal(node, dims[-2:]), k)
    return node.make(Where, mask, x, node.splat(0, x.tensor.dtype))


def _diagonal(node: Node, dims: tuple[Dim, ...]) -> Value:
    """Number of the diagonal of each element of a matrix: column - row."""
    columns = node.make(Iota, (1, dims[1]), 1, "i64")
    return node.make(Sub, columns, node.make(Iota, (dims[0], 1), 0, "i64"))


@converter("OneHot")
def one_hot(node: Node) -> Value:
    """OneHot: the second value at the index, the first one elsewhere; negative indices count from the end."""
    axis = node.axis(node.integer("axis", -1), node.rank(0) + 1)
    if not node.type(1).is_static:
        node.expect_length(1, 1, "depth")
    if node.type(1).dtype in ("i64", "i32"):
        (depth,) = node.dims(1, "depth")
    else:
        array = node.maybe_array(1)
        (depth,) = [int(array.reshape(-1)[0])] if array is not None else sized(node, [Calc(node, _scalar(node, 1))])
    if isinstance(depth, int) and depth < 0:
        raise node.error(f"depth: expected a number of at least 0, got {depth}")
    checked_sizes([depth])
    return one_hot_of(node, axis, depth)


def one_hot_of(node: Node, axis: int, depth: Dim) -> Value:
    """OneHot of a depth that is known."""
    indices, values = node.value(0), node.value(2)
    rank = node.rank(0) + 1
    assume_equal(values.tensor.dims[0], 2)
    if indices.tensor.dtype != "i64":
        indices = node.make(Cast, indices, "i64")
    zero, end = node.splat(0, "i64"), node.scope.number(depth, "i64")
    indices = node.make(Where, node.make(Less, indices, zero), node.make(Add, indices, end), indices)
    dims = node.shape(0)
    column = node.make(Reshape, indices, (*dims[:axis], 1, *dims[axis:]))
    positions = node.make(Iota, tuple(depth if i == axis else 1 for i in range(rank)), axis, "i64")
    off, on = (_element(node, values, i) for i in range(2))
    return node.make(Where, node.make(Equal, column, positions), on, off)


def _element(node: Node, x: Value, index: int) -> Value:
    return node.make(Reshape, node.make(Slice, x, (index,), (index + 1,), (1,)), ())
