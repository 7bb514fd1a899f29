"""Quantized operators: quantization and its inverse, and integer products, which are exact sums in i32."""

from __future__ import annotations

from ...ir.assume import assume_equal, require_zero
from ...ir.core import Value
from ...ir.expr import Dim, as_dim, as_expr, ceildiv
from ...ir.ops.arith import Add, Cast, Div, Mul, Round, Sub
from ...ir.ops.float8 import FLOAT8
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Conv
from ...ir.ops.quant import Dequantize, Quantize
from ...ir.ops.shape import Expand, Reshape, Slice
from .arith import converted
from .node import Node, converter
from .shape import taken
from .windows import kernel_shape, lengths, open_kernel, read_pads, read_window


@converter("QuantizeLinear")
def quantize_linear(node: Node) -> Value:
    """QuantizeLinear per tensor, per axis or per block; without a zero point to `output_dtype` (default u8)."""
    number = node.integer("output_dtype", 0)
    dtype = node.dtype(number) if number else "u8" if not node.has(2) else node.type(2).dtype
    if dtype in FLOAT8:
        return _quantize_float8(node, dtype)
    return node.make(Quantize, node.value(0), *_scale_and_zero(node), *_axis_and_block(node), dtype)


@converter("DequantizeLinear")
def dequantize_linear(node: Node) -> Value:
    """DequantizeLinear per tensor, per axis or per block."""
    if node.type(0).dtype in FLOAT8:
        scale = _spread(node, node.value(1))
        y = node.make(Mul, converted(node, node.value(0), scale.tensor.dtype), scale)
        number = node.integer("output_dtype", 0)
        return y if not number else converted(node, y, node.dtype(number))
    y = node.make(Dequantize, node.value(0), *_scale_and_zero(node), *_axis_and_block(node))
    number = node.integer("output_dtype", 0)
    return y if not number or node.dtype(number) == y.tensor.dtype else node.make(Cast, y, node.dtype(number))


def _quantize_float8(node: Node, dtype: str) -> Value:
    """Quantization to a small float: a division and a conversion. The zero point only says the type: it is 0."""
    scale = _spread(node, node.value(1))
    x = node.value(0)
    if x.tensor.dtype != scale.tensor.dtype:
        x = node.make(Cast, x, scale.tensor.dtype)
    return converted(node, node.make(Div, x, scale), dtype)


def _spread(node: Node, scale: Value) -> Value:
    """The scale in a shape that broadcasts to the input's."""
    axis, block = _axis_and_block(node)
    dims, rank = node.dims_of(scale), node.rank(0)
    if block:
        return _spread_blocks(node, scale, axis, block)
    if not dims or dims == (1,):
        return node.make(Reshape, scale, ()) if dims else scale
    return node.make(Reshape, scale, tuple(dims[0] if i == axis else 1 for i in range(rank)))


def _spread_blocks(node: Node, scale: Value, axis: int, block: int) -> Value:
    """Every scale as often along `axis` as it has elements of the input; the last block may have fewer."""
    dims, size = node.dims_of(scale), node.shape(0)[axis]
    apart = node.make(Reshape, scale, (*dims[: axis + 1], 1, *dims[axis + 1 :]))
    wide = node.make(Expand, apart, (*dims[: axis + 1], block, *dims[axis + 1 :]))
    total = as_dim(as_expr(dims[axis]) * block)
    joined = node.make(Reshape, wide, (*dims[:axis], total, *dims[axis + 1 :]))
    if total == size:
        return joined
    stops = (*dims[:axis], size, *dims[axis + 1 :])
    return node.make(Slice, joined, (0,) * len(dims), stops, (1,) * len(dims))


def _scale_and_zero(node: Node) -> tuple[Value, Value | None]:
    """Scale and zero point of one shape: either may be a scalar or a vector of one number."""
    scale, zero = node.value(1), node.optional(2)
    scale, zero = _enough_blocks(node, scale), None if zero is None else _enough_blocks(node, zero)
    if zero is None or node.dims_of(zero) == node.dims_of(scale):
        return scale, zero
    if zero.tensor.elements == 1:
        return scale, node.make(Reshape, zero, scale.tensor.dims)
    if not node.dims_of(scale) and len(node.dims_of(zero)) == 1:  # a scalar's zero point is one number
        assume_equal(node.dims_of(zero)[0], 1)
        return scale, node.make(Reshape, zero, ())
    return scale, zero


def _enough_blocks(node: Node, x: Value) -> Value:
    """Scales or zero points of blocks, one for each block of the input also where only the run knows how many."""
    axis, block = _axis_and_block(node)
    if not block or len(node.dims_of(x)) != node.rank(0):
        return x
    for i, (mine, its) in enumerate(zip(node.dims_of(x), node.shape(0), strict=True)):
        if i != axis:
            assume_equal(mine, its)
    have, want = node.dims_of(x)[axis], as_dim(ceildiv(node.shape(0)[axis], block))
    if have == want or (isinstance(have, int) and isinstance(want, int)):
        return x
    require_zero(as_expr(have) - want)
    return taken(node, x, axis, 0, want)


def _axis_and_block(node: Node) -> tuple[int, int]:
    rank, axis, block = node.rank(0), node.integer("axis", 1), node.integer("block_size", 0)
    # A scale of one number has no axis: the attribute then may be anything, as in files of opset 10.
    if node.rank(1) == 0 or node.shape(1) == (1,):
        return min(max(axis, 0), max(rank - 1, 0)), 0
    if block < 0:
        raise node.error(f"block_size: expected a number of at least 0, got {block}")
    return node.axis(axis, rank), block


@converter("MatMulInteger")
def matmul_integer(node: Node) -> Value:
    """MatMulInteger: `(a - a_zero) (b - b_zero)` in i32."""
    a = _centred(node, 0, 2, -2)
    return node.make(MatMul, a, _centred(node, 1, 3, -1))


@converter("QLinearMatMul")
def qlinear_matmul(node: Node) -> Value:
    """QLinearMatMul: an exact product of integers, scaled and rounded."""
    product = node.make(MatMul, _centred(node, 0, 2, -2), _centred(node, 3, 5, -1))
    dtype = node.type(7).dtype
    a, b, y = (converted(node, node.value(i), "f32") for i in (1, 4, 6))
    a = _as_column(node, a, node.rank(0))
    real = node.make(Mul, node.make(Cast, product, "f32"), node.make(Mul, a, b))
    if isinstance(next(iter(node.dims_of(y)), 1), int):
        return node.make(Quantize, real, _single(node, y), _single(node, node.value(7)), 0, 0, dtype)
    # One scale for all or one for each row: only the run knows.
    rank = len(node.dims_of(real))
    steps = node.make(Round, node.make(Div, real, _as_column(node, y, rank)))
    zero = _as_column(node, node.make(Cast, node.value(7), "f32"), rank)
    return node.make(Quantize, node.make(Add, steps, zero), node.splat(1.0, "f32"), None, 0, 0, dtype)


def _as_column(node: Node, scale: Value, rank: int) -> Value:
    """One scale for each row."""
    dims = node.dims_of(scale)
    return node.make(Reshape, scale, (*[1] * (rank - 2), dims[0], 1)) if len(dims) == 1 and dims != (1,) else scale


def _single(node: Node, x: Value) -> Value:
    """A scale or zero point of one number, as a scalar."""
    return node.make(Reshape, x, ()) if node.dims_of(x) == (1,) else x


@converter("ConvInteger")
def conv_integer(node: Node) -> Value:
    """ConvInteger: an exact sum in i32; what is outside of the picture counts as the zero point."""
    x, w = _centred(node, 0, 2, 1), _filters(node, 1, 3)
    return _integer_conv(node, x, w, None)


def _filters(node: Node, index: int, zero: int) -> Value:
    """Weights less their zero points, of which there is one or one for each filter."""
    w = node.make(Cast, node.value(index), "i32")
    if not node.has(zero):
        return w
    point = node.make(Cast, node.value(zero), "i32")
    if node.dims_of(point) not in ((), (1,)):
        point = node.make(Reshape, point, (node.dims_of(point)[0], *[1] * (node.rank(index) - 1)))
    return node.make(Sub, w, point)


def _integer_conv(node: Node, x: Value, w: Value, bias: Value | None) -> Value:
    space = len(node.dims_of(x)) - 2
    group = node.integer("group", 1)
    if open_kernel(node, node.dims_of(w)[2:]):
        given = (lengths(node, "strides", space), read_pads(node, space), lengths(node, "dilations", space))
        return node.make(Conv, x, w, bias, *given, group)
    kernel = kernel_shape(node, node.dims_of(w)[2:], space)
    window = read_window(node, kernel, node.dims_of(x)[2:])
    x = window.padded(node, x)
    return node.make(Conv, x, w, bias, window.strides, window.pads, window.dilations, group)


@converter("QLinearConv")
def qlinear_conv(node: Node) -> Value:
    """QLinearConv: an exact sum of integers, scaled and rounded."""
    x, w = _centred(node, 0, 2, 1), _filters(node, 3, 5)
    total = _integer_conv(node, x, w, node.optional(8))
    scale = node.make(Mul, node.value(1), node.value(4))
    if node.dims_of(scale) not in ((), (1,)):
        scale = node.make(Reshape, scale, (node.dims_of(scale)[0], *[1] * (node.rank(0) - 2)))
    real = node.make(Mul, node.make(Cast, total, "f32"), scale)
    dtype = node.type(7).dtype
    return node.make(Quantize, real, _single(node, node.value(6)), _single(node, node.value(7)), 1, 0, dtype)


def _centred(node: Node, index: int, zero: int, axis: int) -> Value:
    x = node.make(Cast, node.value(index), "i32")
    if not node.has(zero):
        return x
    point = node.make(Cast, node.value(zero), "i32")
    rank, dims = node.rank(index), node.dims_of(point)
    if len(dims) == 1 and axis == -2 and dims != (1,):  # one zero point for each row
        shape: tuple[Dim, ...] = (*([1] * (rank - 2)), dims[0], 1)
        point = node.make(Reshape, point, shape)
    return node.make(Sub, x, point)
