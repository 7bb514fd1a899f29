"""Weights in blocks of few bits (`com.microsoft`: MatMulNBits, GatherBlockQuantized, MatMulBnb4), and the quantized
operators that neither ONNX nor `qoperators.py` have.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping

import numpy as np
from onnx import NodeProto

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, as_expr, product
from ...ir.ops.arith import Add, And, Cast, Mul, Shr, Sub, Where
from ...ir.ops.linalg import MatMul
from ...ir.ops.quant import Dequantize, Quantize
from ...ir.ops.reduce import Mean, Sum
from ...ir.ops.shape import Expand, Gather, Reshape, Slice, Transpose
from ...ir.types import DTYPES
from .contrib import DOMAIN, as_value
from .node import Node, Results, converter
from .quant import qlinear_conv
from .recurrent import recurrent
from .scope import Item, Unsupported

# What the codes of 4 bits stand for (bitsandbytes): FP4, and NF4, the quantiles of a normal distribution.
_FP4 = (0.0, 0.00520833, 0.6666667, 1.0, 0.33333334, 0.5, 0.16666667, 0.25)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


# -- codes ----------------------------------------------------------------------------------------------------------


def unpacked(node: Node, index: int, bits: int, rows: int, columns: int) -> Value:
    """The codes that input `index` packs, the first in the low bits, as u8[rows, columns]. A row begins a byte."""
    data = node.constant(index)
    if data is not None:
        packed = data.array().reshape(rows, -1).view(np.uint8)
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = packed[:, :, None] >> shifts & np.uint8((1 << bits) - 1)
        return node.literal(np.ascontiguousarray(codes.reshape(rows, -1)[:, :columns]), "u8")
    size = as_dim(product(node.shape(index)))
    count = size // rows if isinstance(size, int) else None
    if count is None or size != count * rows:
        raise Unsupported("packed weights whose shape is not known")
    packed = node.make(Reshape, node.value(index), (rows, count, 1))
    by = node.literal(np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1), "u8")
    codes = node.make(And, node.make(Shr, packed, by), node.splat((1 << bits) - 1, "u8"))
    flat = node.make(Reshape, codes, (rows, count * (8 // bits)))
    return node.make(Slice, flat, (0, 0), (rows, columns), (1, 1))


def _multiplied(node: Node, weights: Value, bias: int) -> Value:
    """Input 0 times the transposed weights, plus a bias."""
    y = node.make(MatMul, node.value(0), node.make(Transpose, weights, (1, 0)))
    return node.make(Add, y, node.value(bias)) if bias and node.has(bias) else y


@converter("MatMulNBits", domain=DOMAIN)
def matmul_nbits(node: Node) -> Value:
    """MatMulNBits: a product with weights in blocks of codes, each block with a scale and a zero point."""
    rows, columns = node.integer("N"), node.integer("K")
    bits, block = node.integer("bits", 4), node.integer("block_size")
    if bits not in (2, 4, 8):
        raise Unsupported(f"codes of {bits} bits")
    if node.integer("weight_prepacked", 0):
        raise Unsupported("weights in the order of one device", "export with weight_prepacked 0")
    if rows < 1 or columns < 1 or block < 1:
        raise node.error(f"expected N, K and block_size of at least 1, got {rows}, {columns}, {block}")
    blocks = -(-columns // block)
    codes = unpacked(node, 1, bits, rows, columns)
    dtype = node.type(2).dtype
    scales = node.make(Reshape, node.value(2), (rows, blocks))
    if node.has(4):
        return _multiplied(node, _grouped(node, codes, scales, bits, (rows, blocks)), 5)
    if node.has(3) and node.type(3).dtype == dtype:  # zero points that are no whole numbers
        zero = node.make(Reshape, node.value(3), (rows, blocks))
        shift = _spread(node, node.make(Mul, zero, scales), block, columns)
        weights = node.make(Sub, node.make(Dequantize, codes, scales, None, 1, block), shift)
    else:
        zero = unpacked(node, 3, bits, rows, blocks) if node.has(3) else middle_codes(node, bits, rows, blocks)
        weights = node.make(Dequantize, codes, scales, zero, 1, block)
    return _multiplied(node, weights, 5)


def _grouped(node: Node, codes: Value, scales: Value, bits: int, shape: tuple[int, int]) -> Value:
    """Weights each column of which has the scale and zero point of the block that `g_idx` names (GPTQ's act-order)."""
    dtype, group = scales.tensor.dtype, node.value(4)
    if not node.has(3):
        zero = middle_codes(node, bits, *shape)
    elif node.type(3).dtype == dtype:
        zero = node.make(Reshape, node.value(3), shape)
    else:
        zero = unpacked(node, 3, bits, *shape)
    zero = zero if zero.tensor.dtype == dtype else node.make(Cast, zero, dtype)
    centred = node.make(Sub, node.make(Cast, codes, dtype), node.make(Gather, zero, group, 1))
    return node.make(Mul, centred, node.make(Gather, scales, group, 1))


def middle_codes(node: Node, bits: int, rows: int, blocks: int) -> Value:
    """The zero points where none are given: the middle of all codes, u8[rows, blocks]."""
    return node.splat(1 << (bits - 1), "u8", (rows, blocks))


def _spread(node: Node, x: Value, block: int, columns: int) -> Value:
    """Each element of a row as often as a block has columns."""
    rows, blocks = node.dims_of(x)
    wide = node.make(Expand, node.make(Reshape, x, (rows, blocks, 1)), (rows, blocks, block))
    flat = node.make(Reshape, wide, (rows, as_dim(as_expr(blocks) * block)))
    return node.make(Slice, flat, (0, 0), (rows, columns), (1, 1))


@converter("MatMulBnb4", domain=DOMAIN)
def matmul_bnb4(node: Node) -> Value:
    """MatMulBnb4: a product with weights of 4 bits (FP4 or NF4), of which the first is in the high bits of a byte, in
    blocks that have their largest size."""
    rows, columns, block = node.integer("N"), node.integer("K"), node.integer("block_size")
    data = node.constant(1)
    if data is None:
        raise Unsupported("weights that are not a constant")
    packed = data.array().reshape(-1).view(np.uint8)
    codes = np.stack([packed >> 4, packed & 15], 1).reshape(-1)[: rows * columns]
    values = _NF4 if node.integer("quant_type") else (*_FP4, *(-v for v in _FP4))
    table = node.literal(np.asarray(values, np.float32), "f32")
    count = -(-rows * columns // block)
    dtype = node.type(0).dtype
    numbers = node.make(Cast, node.make(Gather, table, node.literal(codes.astype(np.int32), "i32"), 0), dtype)
    scales = node.make(Reshape, node.value(2), (1, count))
    numbers = node.make(Reshape, numbers, (1, rows * columns))
    weights = node.make(Mul, numbers, _spread(node, scales, block, rows * columns))
    weights = node.make(Reshape, weights, (rows, columns))
    if not node.integer("transB", 1):
        return node.make(MatMul, node.value(0), weights)
    return _multiplied(node, weights, 0)


@converter("GatherBlockQuantized", domain=DOMAIN)
def gather_block_quantized(node: Node) -> Value:
    """GatherBlockQuantized: slices of a table of codes in blocks, as floats."""
    dims, dtype = node.shape(0), node.type(0).dtype
    rank, bits = len(dims), node.integer("bits", 4)
    axis = node.axis(node.integer("quantize_axis", 1), rank)
    gathered = node.axis(node.integer("gather_axis", 0), rank)
    block = node.integer("block_size", 128)
    if DTYPES[dtype].kind not in ("int", "uint"):
        raise Unsupported(f"a table of {dtype}")
    scales, zero = node.value(2), node.optional(3)
    table = node.value(0)
    if dtype == "u8" and bits < 8:
        table, zero = _unpacked_rows(node, 0, bits, dims), None
        if node.has(3):
            zero = _unpacked_rows(node, 3, bits, node.shape(3), node.dims_of(scales)[-1])
    if dtype == "u8" and zero is None:
        zero = node.make(Expand, node.splat(1 << (bits - 1), "u8"), node.dims_of(scales))
    if gathered == axis:
        return node.make(Gather, node.make(Dequantize, table, scales, zero, axis, block), node.value(1), gathered)
    at = node.value(1)
    parts = [None if x is None else node.make(Gather, x, at, gathered) for x in (table, scales, zero)]
    more = node.rank(1) - 1
    return node.make(Dequantize, *parts, axis + more if axis > gathered else axis, block)


def _unpacked_rows(node: Node, index: int, bits: int, dims: tuple[Dim, ...], most: Dim | None = None) -> Value:
    """Codes that are packed along the last dimension, of which there are at most `most` in a row."""
    whole = [d for d in dims if isinstance(d, int)]
    if len(whole) != len(dims):
        raise Unsupported("a table of codes whose shape is not known")
    columns = min(whole[-1] * (8 // bits), most if isinstance(most, int) else whole[-1] * (8 // bits))
    rows = int(np.prod(whole[:-1]))
    return node.make(Reshape, unpacked(node, index, bits, rows, columns), (*whole[:-1], columns))


# -- quantized operators --------------------------------------------------------------------------------------------


def _real(node: Node, index: int) -> Value:
    """Inputs `index`, `index` + 1 and `index` + 2 (data, scale, zero point) as floats."""
    scale, zero = node.make(Reshape, node.value(index + 1), ()), node.optional(index + 2)
    zero = None if zero is None else node.make(Reshape, zero, ())
    return node.make(Dequantize, node.value(index), scale, zero, 0, 0)


def _quantized(node: Node, y: Value, scale: int, dtype: str) -> Value:
    step, zero = node.make(Reshape, node.value(scale), ()), node.optional(scale + 1)
    zero = None if zero is None else node.make(Reshape, zero, ())
    return node.make(Quantize, y, step, zero, 0, 0, dtype)


@converter("QLinearReduceMean", domain=DOMAIN)
def qlinear_reduce_mean(node: Node) -> Value:
    """QLinearReduceMean: a mean, in another scale."""
    rank = node.rank(0)
    axes = tuple(sorted(node.axes(node.ints("axes", list(range(rank))), rank)))
    y = node.make(Mean, _real(node, 0), axes, node.integer("keepdims", 1) != 0)
    return _quantized(node, y, 3, node.type(0).dtype)


@converter("QLinearWhere", domain=DOMAIN)
def qlinear_where(node: Node) -> Value:
    """QLinearWhere: a choice between two tensors of any scale, in one scale."""
    y = node.make(Where, node.value(0), _real(node, 1), _real(node, 4))
    return _quantized(node, y, 7, node.type(1).dtype)


@converter("ReduceSumInteger", domain=DOMAIN)
def reduce_sum_integer(node: Node) -> Value:
    """ReduceSumInteger: an exact sum of small integers."""
    rank, wide = node.rank(0), "u32" if node.type(0).dtype == "u8" else "i32"
    axes = tuple(sorted(node.axes(node.ints("axes", list(range(rank))), rank)))
    return node.make(Sum, node.make(Cast, node.value(0), wide), axes, node.integer("keepdims", 1) != 0)


@converter("MulInteger", domain=DOMAIN)
def mul_integer(node: Node) -> Value:
    """MulInteger: products of integers, each less its zero point, in i32."""

    def centred(index: int) -> Value:
        x = node.make(Cast, node.value(index), "i32")
        if not node.has(index + 1):
            return x
        return node.make(Sub, x, node.make(Cast, node.make(Reshape, node.value(index + 1), ()), "i32"))

    return node.make(Mul, centred(0), centred(2))


@converter("QLinearConv", domain=DOMAIN)
def qlinear_conv_anywhere(node: Node) -> Results:
    """QLinearConv as ONNX has it; with `channels_last` between transpositions."""
    if not node.integer("channels_last", 0):
        return qlinear_conv(node)
    rank = node.rank(0)
    first = node.make(Transpose, node.value(0), (0, rank - 1, *range(1, rank - 1)))
    return node.make(Transpose, as_value(qlinear_conv(_instead(node, {0: first}))), (0, *range(2, rank), 1))


def _instead(node: Node, values: Mapping[int, Value], op_type: str = "") -> Node:
    """The node with other values as some of its inputs, perhaps as another operator."""
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    proto.op_type = op_type or node.op_type
    own: dict[str, Item | None] = {node.proto.input[i]: Item(value=v) for i, v in values.items()}
    scope = node.scope.child(ChainMap(own, node.scope.items))
    inner = Node(proto, node.opset, scope, node.tensors, node.used)
    inner.loc = node.loc
    return inner


@converter("DynamicQuantizeLSTM", domain=DOMAIN)
def dynamic_quantize_lstm(node: Node) -> Results:
    """DynamicQuantizeLSTM: LSTM with quantized weights. Inputs and states stay floats; that ONNX Runtime rounds them
    for each product is a way to compute, not what the operator means."""

    def real(index: int, scale: int) -> Value:
        dims = node.shape(scale)
        wide = (dims[0], 1, *(dims[1:] if len(dims) > 1 else (1,)))
        x, step = node.make(Cast, node.value(index), "f32"), node.make(Reshape, node.value(scale), wide)
        zero = node.make(Reshape, node.make(Cast, node.value(scale + 1), "f32"), wide)
        return node.make(Transpose, node.make(Mul, node.make(Sub, x, zero), step), (0, 2, 1))

    return recurrent(_instead(node, {1: real(1, 8), 2: real(2, 10)}, "LSTM"))
