"""Quantized operators: quantization and its inverse, and integer products, which are exact sums in i32."""

from __future__ import annotations

from ...ir.core import Value
from ...ir.expr import Dim
from ...ir.ops.arith import Cast, Sub
from ...ir.ops.linalg import MatMul
from ...ir.ops.quant import Dequantize, Quantize
from ...ir.ops.shape import Reshape
from .node import Node, converter
from .scope import Unsupported


@converter("QuantizeLinear")
def quantize_linear(node: Node) -> Value:
    """QuantizeLinear per tensor or per axis; without a zero point the result is u8 (or `output_dtype`)."""
    zero = node.optional(2)
    number = node.integer("output_dtype", 0)
    dtype = node.dtype(number) if number else "u8"
    if zero is None:
        zero = node.splat(0, dtype, _static(node, 1))
    return node.make(Quantize, node.value(0), node.value(1), zero, _axis(node))


@converter("DequantizeLinear")
def dequantize_linear(node: Node) -> Value:
    """DequantizeLinear per tensor or per axis."""
    return node.make(Dequantize, node.value(0), node.value(1), node.optional(2), _axis(node))


def _static(node: Node, index: int) -> tuple[int, ...]:
    shape = node.shape(index)
    if not all(isinstance(d, int) for d in shape):
        raise Unsupported(f"input {index} of symbolic shape")
    return tuple(d for d in shape if isinstance(d, int))


def _axis(node: Node) -> int:
    if node.integer("block_size", 0):
        raise Unsupported("blocked scales")
    rank = node.rank(0)
    axis = node.integer("axis", 1)
    # A scale of one number has no axis: the attribute then may be anything, as in files of opset 10.
    if node.rank(1) == 0 or node.shape(1) == (1,):
        return min(max(axis, 0), max(rank - 1, 0))
    return node.axis(axis, rank)


@converter("MatMulInteger")
def matmul_integer(node: Node) -> Value:
    """MatMulInteger: `(a - a_zero) (b - b_zero)` in i32."""
    a = _centred(node, 0, 2, -2)
    return node.make(MatMul, a, _centred(node, 1, 3, -1))


def _centred(node: Node, index: int, zero: int, axis: int) -> Value:
    x = node.make(Cast, node.value(index), "i32")
    if not node.has(zero):
        return x
    point = node.make(Cast, node.value(zero), "i32")
    rank, dims = node.rank(index), point.tensor.dims
    if len(dims) == 1 and axis == -2 and dims != (1,):  # one zero point for each row
        shape: tuple[Dim, ...] = (*([1] * (rank - 2)), dims[0], 1)
        point = node.make(Reshape, point, shape)
    return node.make(Sub, x, point)
