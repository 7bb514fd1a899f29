"""Quantized operators that quantizers write besides ONNX's own (domain `com.microsoft`): the operator on floats between
dequantization and quantization. Passes turn products of such into products of integers."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.core import Value
from ...ir.ops.activation import LeakyRelu
from ...ir.ops.arith import Add, Cast, Div, Maximum, Minimum, Mul, Neg, Round, Sigmoid, Sub
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Softmax
from ...ir.ops.quant import Dequantize, Quantize
from ...ir.ops.reduce import Max, Mean, Min
from ...ir.ops.shape import Concat, Reshape, Transpose
from .nn import averaged
from .node import Node, converter
from .windows import kernel_shape, read_window

_DOMAIN = "com.microsoft"


def _real(node: Node, index: int, axis: int = 0) -> Value:
    """Inputs `index`, `index` + 1 and `index` + 2 (data, scale, zero point) as floats."""
    return _dequantized(node, node.value(index), node.value(index + 1), node.optional(index + 2), axis)


def _dequantized(node: Node, x: Value, scale: Value, zero: Value | None, axis: int = 0) -> Value:
    if zero is not None and node.dims_of(zero) != node.dims_of(scale):
        zero = node.make(Reshape, zero, node.dims_of(scale))
    return node.make(Dequantize, x, scale, zero, axis, 0)


def _quantized(node: Node, y: Value, scale: int, dtype: str) -> Value:
    """`y` with the scale and zero point of inputs `scale` and `scale` + 1; without a zero point as `dtype`."""
    step, zero = node.value(scale), node.optional(scale + 1)
    if zero is not None and node.dims_of(zero) != node.dims_of(step):
        zero = node.make(Reshape, zero, node.dims_of(step))
    return node.make(Quantize, y, step, zero, 0, 0, dtype if zero is None else zero.tensor.dtype)


def _binary(kind: type[Add] | type[Mul]) -> Callable[[Node], Value]:
    def convert(node: Node) -> Value:
        """Two quantized operands, one quantized result: exact in f32 up to one rounding, as the operator asks for."""
        y = node.make(kind, _real(node, 0), _real(node, 3))
        return _quantized(node, y, 6, node.type(0).dtype)

    return convert


converter("QLinearAdd", domain=_DOMAIN)(_binary(Add))
converter("QLinearMul", domain=_DOMAIN)(_binary(Mul))


@converter("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=_DOMAIN)
def qlinear_unary(node: Node) -> Value:
    """QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax: the function of floats, quantized."""
    x = _real(node, 0)
    if node.op_type == "QLinearSigmoid":
        y = node.make(Sigmoid, x)
    elif node.op_type == "QLinearLeakyRelu":
        y = node.make(LeakyRelu, x, node.real("alpha", 0.01))
    else:
        y = node.make(Softmax, x, node.axis(node.integer("axis", -1), node.rank(0)))
    return _quantized(node, y, 3, node.type(0).dtype)


@converter("QLinearGlobalAveragePool", "QLinearAveragePool", domain=_DOMAIN)
def qlinear_pool(node: Node) -> Value:
    """QLinearAveragePool and QLinearGlobalAveragePool, channels first or (`channels_last`) last."""
    last, rank = node.integer("channels_last", 0) != 0, node.rank(0)
    x = _real(node, 0)
    if node.op_type == "QLinearGlobalAveragePool":
        first = 1 if last else 2
        y = node.make(Mean, x, tuple(range(first, first + rank - 2)), True)
        return _quantized(node, y, 3, node.type(0).dtype)
    if last:
        x = node.make(Transpose, x, (0, rank - 1, *range(1, rank - 1)))
    w = read_window(node, kernel_shape(node, None, rank - 2), node.dims_of(x)[2:])
    y = averaged(node, x, w, node.integer("count_include_pad", 0) != 0)
    if last:
        y = node.make(Transpose, y, (0, *range(2, rank), 1))
    return _quantized(node, y, 3, node.type(0).dtype)


@converter("QLinearConcat", domain=_DOMAIN)
def qlinear_concat(node: Node) -> Value:
    """QLinearConcat: parts of any scale, in one scale."""
    parts = [_real(node, i) for i in range(2, node.count, 3)]
    axis = node.axis(node.integer("axis"), node.rank(2))
    y = parts[0] if len(parts) == 1 else node.make(Concat, tuple(parts), axis)
    return _quantized(node, y, 0, node.type(2).dtype)


@converter("QGemm", domain=_DOMAIN)
def qgemm(node: Node) -> Value:
    """QGemm: `alpha * a b + c`, where c has the scale of the product; floats without a scale for the result."""
    a, b = _real(node, 0), _real(node, 3, 0 if node.integer("transB", 0) else 1)
    if node.integer("transA", 0):
        a = node.make(Transpose, a, (1, 0))
    if node.integer("transB", 0):
        b = node.make(Transpose, b, (1, 0))
    y = node.make(MatMul, a, b)
    alpha = node.real("alpha", 1.0)
    if alpha != 1.0:
        y = node.make(Mul, y, node.splat(alpha, "f32"))
    if node.has(6):
        scale = node.make(Mul, node.value(1), node.value(4))
        if alpha != 1.0:
            scale = node.make(Mul, scale, node.splat(alpha, "f32"))
        y = node.make(Add, y, node.make(Mul, node.make(Cast, node.value(6), "f32"), scale))
    return _quantized(node, y, 7, node.type(0).dtype) if node.has(7) else y


@converter("MatMulIntegerToFloat", domain=_DOMAIN)
def matmul_integer_to_float(node: Node) -> Value:
    """MatMulIntegerToFloat: a product of quantized matrices as floats, plus a bias."""
    b = _dequantized(node, node.value(1), node.value(3), node.optional(5), node.rank(1) - 1)
    y = node.make(MatMul, _dequantized(node, node.value(0), node.value(2), node.optional(4)), b)
    return node.make(Add, y, node.value(6)) if node.has(6) else y


@converter("DynamicQuantizeMatMul", domain=_DOMAIN)
def dynamic_quantize_matmul(node: Node) -> Value:
    """DynamicQuantizeMatMul: a matrix of floats, made u8 by its own range, times a quantized one, plus a bias."""
    data, scale, zero = _by_range(node, node.value(0))
    b = _dequantized(node, node.value(1), node.value(2), node.optional(3), node.rank(1) - 1)
    y = node.make(MatMul, node.make(Dequantize, data, scale, zero, 0, 0), b)
    return node.make(Add, y, node.value(4)) if node.has(4) else y


def _by_range(node: Node, x: Value) -> tuple[Value, Value, Value]:
    """`x` in u8, with the scale and zero point that its range asks for."""
    axes = tuple(range(len(node.dims_of(x))))
    zero, top = node.splat(0.0, "f32"), node.splat(255.0, "f32")
    low = node.make(Minimum, node.make(Min, x, axes, False), zero)
    high = node.make(Maximum, node.make(Max, x, axes, False), zero)
    scale = node.make(Div, node.make(Sub, high, low), top)
    point = node.make(Round, node.make(Div, node.make(Neg, low), scale))
    point = node.make(Cast, node.make(Minimum, node.make(Maximum, point, zero), top), "u8")
    return node.make(Quantize, x, scale, point, 0, 0, "u8"), scale, point
