"""Convolution, pooling, matrix products and softmax."""

from __future__ import annotations

import math

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, product
from ...ir.ops.arith import Add, Mul
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import LRN, AveragePool, Conv, ConvTranspose, LogSoftmax, MaxPool, Softmax
from ...ir.ops.reduce import Max, Mean
from ...ir.ops.shape import Pad, Reshape, Transpose
from ...ir.types import is_float
from .node import Node, converter
from .scope import Unsupported
from .windows import Window, fixed, kernel_shape, read_pads, read_window


def spatial_rank(node: Node) -> int:
    """Number of dimensions after batch and channel of input 0."""
    rank = node.rank(0)
    if rank < 3:
        raise node.error(f"expected an input of rank 3 or more (batch, channels, space), got {node.type(0)}")
    return rank - 2


@converter("Conv")
def conv(node: Node) -> Value:
    """Conv: auto_pad and kernel_shape are resolved."""
    space = spatial_rank(node)
    kernel = kernel_shape(node, node.shape(1)[2:], space)
    w = read_window(node, kernel, node.shape(0)[2:])
    operands = (node.value(0), node.value(1), node.optional(2))
    return node.make(Conv, *operands, w.strides, w.pads, w.dilations, node.integer("group", 1))


@converter("ConvTranspose")
def conv_transpose(node: Node) -> Value:
    """ConvTranspose: `output_shape` and auto_pad become pads and output_pads."""
    space = spatial_rank(node)
    kernel = kernel_shape(node, node.shape(1)[2:], space)
    strides = tuple(node.ints("strides", [1] * space))
    dilations = tuple(node.ints("dilations", [1] * space))
    output_pads = node.ints("output_padding", [0] * space)
    if not len(strides) == len(dilations) == len(output_pads) == space:
        raise node.error(f"expected {space} strides, dilations and output paddings")
    mode = node.string("auto_pad", "NOTSET")
    pads = list(read_pads(node, space)) if mode == "NOTSET" else [(0, 0)] * space
    wanted = node.optional_ints("output_shape")
    if wanted is not None and len(wanted) == space + 2:
        wanted = wanted[2:]
    if wanted is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(space):
            size = fixed(node, node.shape(0)[2 + i], "output_shape")
            target = wanted[i] if wanted is not None else size * strides[i]
            full = strides[i] * (size - 1) + output_pads[i] + (kernel[i] - 1) * dilations[i] + 1
            total = max(0, full - target)
            output_pads[i] += max(0, target - full)
            small = total // 2
            pads[i] = (small, total - small) if mode == "SAME_UPPER" else (total - small, small)
    operands = (node.value(0), node.value(1), node.optional(2))
    group = node.integer("group", 1)
    return node.make(ConvTranspose, *operands, strides, tuple(pads), dilations, group, tuple(output_pads))


@converter("MaxPool")
def max_pool(node: Node) -> Value:
    """MaxPool without the indices."""
    if node.wants(1):
        raise Unsupported("the output Indices is used", "remove what uses it")
    w = _pool_window(node)
    return node.make(MaxPool, node.value(0), w.kernel, w.strides, w.pads, w.dilations)


@converter("AveragePool")
def average_pool(node: Node) -> Value:
    """AveragePool. The padding that only ceil mode adds never counts, so with count_include_pad the counted padding
    becomes a Pad of its own."""
    w = _pool_window(node)
    include = node.integer("count_include_pad", 0) != 0
    x, pads = node.value(0), w.pads
    if include and any(w.extra):
        counted = tuple((b, a - e) for (b, a), e in zip(w.pads, w.extra, strict=True))
        x = node.make(Pad, x, None, ((0, 0), (0, 0), *counted), "constant")
        pads, include = tuple((0, e) for e in w.extra), False
    return node.make(AveragePool, x, w.kernel, w.strides, pads, w.dilations, include)


def _pool_window(node: Node) -> Window:
    space = spatial_rank(node)
    return read_window(node, kernel_shape(node, None, space), node.shape(0)[2:])


@converter("GlobalAveragePool")
def global_average_pool(node: Node) -> Value:
    """GlobalAveragePool: a mean over the spatial dimensions."""
    space = spatial_rank(node)
    return node.make(Mean, node.value(0), tuple(range(2, space + 2)), True)


@converter("GlobalMaxPool")
def global_max_pool(node: Node) -> Value:
    """GlobalMaxPool: a maximum over the spatial dimensions."""
    space = spatial_rank(node)
    return node.make(Max, node.value(0), tuple(range(2, space + 2)), True)


@converter("LRN")
def lrn(node: Node) -> Value:
    """LRN over channels."""
    size, bias = node.integer("size"), node.real("bias", 1.0)
    return node.make(LRN, node.value(0), size, node.real("alpha", 1e-4), node.real("beta", 0.75), bias)


@converter("MatMul")
def matmul(node: Node) -> Value:
    """MatMul: NumPy's rules."""
    return node.make(MatMul, node.value(0), node.value(1))


@converter("Gemm")
def gemm(node: Node) -> Value:
    """Gemm: `alpha * A' B' + beta * C`. A transposed constant is the same bytes seen in another order."""
    a, b = _operand(node, 0, "transA"), _operand(node, 1, "transB")
    y = node.make(MatMul, a, b)
    dtype = y.tensor.dtype
    y = _scaled(node, y, node.real("alpha", 1.0), dtype)
    if not node.has(2):
        return y
    beta = node.real("beta", 1.0)
    return y if beta == 0 else node.make(Add, y, _scaled(node, node.value(2), beta, dtype))


def _operand(node: Node, index: int, flag: str) -> Value:
    if node.rank(index) != 2:
        raise node.error(f"expected a matrix as input {index}, got {node.type(index)}")
    if not node.integer(flag, 0):
        return node.value(index)
    data = node.constant(index)
    if data is not None:
        return node.scope.constant(data.permuted((1, 0)))
    return node.make(Transpose, node.value(index), (1, 0))


def _scaled(node: Node, x: Value, factor: float, dtype: str) -> Value:
    if factor == 1:
        return x
    value = factor if is_float(dtype) else int(factor)
    if not is_float(dtype) and value != factor:
        raise Unsupported(f"a factor of {factor} on {dtype}")
    return node.make(Mul, x, node.splat(value, dtype))


@converter("Softmax")
def softmax(node: Node) -> Value:
    """Softmax along one axis (opset 13), or over all dimensions from `axis` on (before)."""
    return _softmax(node, Softmax)


@converter("LogSoftmax")
def log_softmax(node: Node) -> Value:
    """LogSoftmax, as Softmax."""
    return _softmax(node, LogSoftmax)


def _softmax(node: Node, kind: type[Softmax] | type[LogSoftmax]) -> Value:
    x, rank = node.value(0), node.rank(0)
    if rank == 0:
        raise Unsupported("a softmax of a scalar")
    axis = node.axis(node.integer("axis", -1 if node.opset >= 13 else 1), rank)
    if node.opset >= 13:
        return node.make(kind, x, axis)
    # Before opset 13 the input counts as a matrix [dims before axis, dims from axis on].
    dims = x.tensor.dims
    long = [i for i in range(axis, rank) if dims[i] != 1]
    if len(long) <= 1:
        return node.make(kind, x, long[0] if long else axis)
    shape = (as_dim(product(dims[:axis])), as_dim(product(dims[axis:])))
    y = node.make(kind, node.make(Reshape, x, shape), 1)
    return node.make(Reshape, y, dims)


def element_count(dims: tuple[Dim, ...]) -> int | None:
    """Number of elements when all dimensions are numbers."""
    return math.prod(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None
