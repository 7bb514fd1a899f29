"""Convolution, pooling, matrix products and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, floordiv, maximum, product
from ...ir.ops.arith import Abs, Add, Div, Mul, Pow, Sqrt
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import LRN, AveragePool, Conv, ConvTranspose, LogSoftmax, MaxPool, Softmax
from ...ir.ops.pool_index import MaxPoolIndices
from ...ir.ops.reduce import Max, Mean, Sum
from ...ir.ops.shape import Expand, Pad, Reshape, ScatterElements, Transpose
from ...ir.types import DTYPES, is_float
from .calc import Calc, scalar
from .declared import data, numbers, require
from .node import Node, Results, converter
from .scope import Unsupported
from .unfold import col2im_computed, computed_shape
from .windows import Window, kernel_shape, lengths, open_kernel, read_pads, read_window


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
    operands = (node.value(0), node.value(1), node.optional(2))
    if open_kernel(node, node.shape(1)[2:]):
        dilations = lengths(node, "dilations", space)
        given = (lengths(node, "strides", space), read_pads(node, space), dilations)
        return node.make(Conv, *operands, *given, _group(node))
    kernel = kernel_shape(node, node.shape(1)[2:], space)
    w = read_window(node, kernel, node.shape(0)[2:])
    operands = (w.padded(node, operands[0]), *operands[1:])
    return node.make(Conv, *operands, w.strides, w.pads, w.dilations, _group(node))


def _group(node: Node) -> int:
    group = node.integer("group", 1)
    channels = node.shape(0)[1]
    if group < 1 or (isinstance(channels, int) and channels % group):
        raise node.error(f"group: expected a number that divides {channels} channels, got {group}")
    return group


@converter("ConvTranspose")
def conv_transpose(node: Node) -> Value:
    """ConvTranspose: `output_shape` and auto_pad become pads and output_pads."""
    space = spatial_rank(node)
    strides = tuple(node.ints("strides", [1] * space))
    dilations = tuple(node.ints("dilations", [1] * space))
    output_pads = node.ints("output_padding", [0] * space)
    if not len(strides) == len(dilations) == len(output_pads) == space:
        raise node.error(f"expected {space} strides, dilations and output paddings")
    kernel = _kernel_dims(node, space)
    mode = node.string("auto_pad", "NOTSET")
    pads = list(read_pads(node, space)) if mode == "NOTSET" else [(0, 0)] * space
    wanted = node.optional_ints("output_shape")
    if wanted is not None and len(wanted) == space + 2:
        wanted = wanted[2:]
    if wanted is None and mode not in ("SAME_UPPER", "SAME_LOWER"):
        return _transposed(node, node.optional(2), strides, tuple(pads), dilations, output_pads)
    changes: list[tuple[Dim, Dim]] = []  # what to add before and after each dimension of the whole result
    for i in range(space):
        size = as_expr(node.shape(0)[2 + i])
        target = size * strides[i] if wanted is None else as_expr(wanted[i])
        full = (size - 1) * strides[i] + output_pads[i] + (as_expr(kernel[i]) - 1) * dilations[i] + 1
        total = maximum(full - target, 0)
        small = floordiv(total, 2)
        before, after = (small, total - small) if mode == "SAME_UPPER" else (total - small, small)
        changes.append((as_dim(-before), as_dim(maximum(target - full, 0) - after)))
    if not all(isinstance(c, int) for pair in changes for c in pair):
        y = _transposed(node, None, strides, tuple(pads), dilations, output_pads)
        y = node.make(Pad, y, None, ((0, 0), (0, 0), *changes), "constant")
        if not node.has(2):
            return y
        bias = node.make(Reshape, node.value(2), (*node.shape(2), *[1] * space))
        return node.make(Add, y, bias)
    known = [(int(b), int(a)) for b, a in changes if isinstance(b, int) and isinstance(a, int)]
    pads = [(-b, max(0, -a)) for b, a in known]
    more = [p + max(0, a) for p, (_, a) in zip(output_pads, known, strict=True)]
    return _transposed(node, node.optional(2), strides, tuple(pads), dilations, more)


def _transposed(
    node: Node,
    bias: Value | None,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, ...],
    output_pads: Sequence[int],
) -> Value:
    rest = (strides, pads, dilations, _group(node), tuple(output_pads))
    return node.make(ConvTranspose, node.value(0), node.value(1), bias, *rest)


def _kernel_dims(node: Node, space: int) -> tuple[Dim, ...]:
    """The size of the kernel, as far as it is known."""
    sizes = node.shape(1)[2:]
    if node.has_attribute("kernel_shape") or not any(isinstance(d, Expr) for d in sizes):
        return kernel_shape(node, sizes, space)
    return sizes


@converter("MaxPool")
def max_pool(node: Node) -> Value | tuple[Value, ...]:
    """MaxPool, with the indices where somebody uses them."""
    w = _pool_window(node)
    if node.wants(1):
        if w.open:
            raise Unsupported("places of maxima with padding that depends on a symbol", "fix the input's shape")
        column_major = node.integer("storage_order", 0) != 0
        window = (w.kernel, w.strides, w.pads, w.dilations)
        return node.make_all(MaxPoolIndices, node.value(0), *window, column_major)
    x = w.padded(node, node.value(0), lowest=True)
    return node.make(MaxPool, x, w.kernel, w.strides, w.pads, w.dilations)


@converter("MaxUnpool")
def max_unpool(node: Node) -> Value:
    """MaxUnpool: zeros, and the elements at the places that MaxPool gave."""
    x, indices, dims = node.value(0), node.value(1), node.shape(0)
    space = spatial_rank(node)
    kernel = node.ints("kernel_shape")
    strides, pads = node.ints("strides", [1] * space), read_pads(node, space)
    if len(kernel) != space or len(strides) != space:
        raise node.error(f"expected {space} sizes and strides of windows")
    sizes = [
        as_dim((as_expr(d) - 1) * s + k - sum(p)) for d, s, k, p in zip(dims[2:], strides, kernel, pads, strict=True)
    ]
    shape: tuple[Dim, ...] = (*dims[:2], *sizes)
    if node.has(2):
        known, declared = node.known(2), node.declared(0)
        if known is not None:
            shape = tuple(known.dims.reshape(-1))
        elif declared is None:
            node.expect_length(2, len(dims), "the output's shape")
            shape = computed_shape(node, 2, len(dims))
        else:
            shape = declared
            indices = require(node, indices, data(node, 2).equals(numbers(node, list(declared))))
        # Places are counted in the shape that follows from the windows: the given one has more room at the end.
        indices = _moved(node, indices, (*dims[:2], *sizes), shape)
    flat, count = as_dim(product(shape)), as_dim(product(dims))
    zeros = node.make(Expand, node.splat(0, x.tensor.dtype), (flat,))
    values, places = node.make(Reshape, x, (count,)), node.make(Reshape, indices, (count,))
    return node.make(Reshape, node.make(ScatterElements, zeros, places, values, 0, "none"), shape)


def _moved(node: Node, indices: Value, old: tuple[Dim, ...], new: tuple[Dim, ...]) -> Value:
    """Flat indices in shape `old` as those of the same places in shape `new`."""
    rest, total = Calc(node, indices), Calc(node, node.splat(0, "i64"))
    for i in range(len(old)):
        inside = scalar(node, as_dim(product(old[i + 1 :])), "i64")
        place = rest / inside
        rest = rest - place * inside
        total = total + place * scalar(node, as_dim(product(new[i + 1 :])), "i64")
    return total.value


@converter("AveragePool")
def average_pool(node: Node) -> Value:
    """AveragePool. The padding that only ceil mode adds never counts, so with count_include_pad the counted padding
    becomes a Pad of its own."""
    return averaged(node, node.value(0), _pool_window(node), node.integer("count_include_pad", 0) != 0)


def averaged(node: Node, x: Value, w: Window, include: bool) -> Value:
    """Means over the windows `w` of `x`; `include`: the padding counts, but for what only ceil mode adds."""
    if w.open:
        return _averaged_open(node, x, w, include)
    pads = w.pads
    if include and any(w.extra):
        extra = [e for e in w.extra if isinstance(e, int)]
        counted = tuple((b, a - e) for (b, a), e in zip(w.pads, extra, strict=True))
        x = node.make(Pad, x, None, ((0, 0), (0, 0), *counted), "constant")
        pads, include = tuple((0, e) for e in extra), False
    return node.make(AveragePool, x, w.kernel, w.strides, pads, w.dilations, include)


def _averaged_open(node: Node, x: Value, w: Window, include: bool) -> Value:
    """As `averaged`, where only the run knows the padding: a sum over all that is in a window, divided by the share of
    it that counts."""
    dims = node.dims_of(x)
    counts = node.make(Expand, node.splat(1, x.tensor.dtype), (1, 1, *dims[2:]))
    if include:  # the padding after the data is what the attribute says, which ceil mode may have cut as well
        one, pads = node.splat(1, x.tensor.dtype), read_pads(node, len(w.kernel))
        counts = node.make(Pad, counts, one, ((0, 0), (0, 0), *pads), "constant")
        rest = tuple((0, as_dim(as_expr(a) - p)) for (_, a), (_, p) in zip(w.open, pads, strict=True))
        counts = node.make(Pad, counts, None, ((0, 0), (0, 0), *rest), "constant")
    else:
        counts = w.padded(node, counts)
    total, share = (
        node.make(AveragePool, v, w.kernel, w.strides, w.pads, w.dilations, True) for v in (w.padded(node, x), counts)
    )
    return node.make(Div, total, share)


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


@converter("LpPool")
def lp_pool(node: Node) -> Value:
    """LpPool: the p-th root of the sum of p-th powers in each window."""
    w = _pool_window(node)
    x, p = w.padded(node, node.value(0)), _norm(node)
    powers = _power(node, node.make(Abs, x), p)
    mean = node.make(AveragePool, powers, w.kernel, w.strides, w.pads, w.dilations, True)
    total = node.make(Mul, mean, node.splat(math.prod(w.kernel), x.tensor.dtype))
    return _power(node, total, 1 / p)


@converter("GlobalLpPool")
def global_lp_pool(node: Node) -> Value:
    """GlobalLpPool: the norm over the spatial dimensions."""
    x, p = node.value(0), _norm(node)
    axes = tuple(range(2, spatial_rank(node) + 2))
    return _power(node, node.make(Sum, _power(node, node.make(Abs, x), p), axes, True), 1 / p)


def _norm(node: Node) -> float:
    p = node.real_or_integer("p", 2)
    if not p > 0:
        raise node.error(f"p: expected a number above 0, got {p}")
    return p


def _power(node: Node, x: Value, p: float) -> Value:
    if p == 1:
        return x
    if p == 2:
        return node.make(Mul, x, x)
    return node.make(Sqrt, x) if p == 0.5 else node.make(Pow, x, node.splat(p, x.tensor.dtype))


@converter("Col2Im")
def col2im(node: Node) -> Results:
    """Col2Im: a transposed convolution whose filters are single ones, one for each place of the block."""
    x, image, block = node.value(0), node.ints_input(1, "image_shape"), node.ints_input(2, "block_shape")
    space, size = len(image), math.prod(block)
    strides, dilations = node.ints("strides", [1] * space), node.ints("dilations", [1] * space)
    pads = read_pads(node, space)
    n, wide = node.shape(0)[:2]
    if not isinstance(wide, int):
        return col2im_computed(node)
    if wide % size:
        raise node.error(f"expected a multiple of {size} channels, got {wide}")
    extent = [(b - 1) * d + 1 for b, d in zip(block, dilations, strict=True)]
    counts = [(i + sum(p) - e) // s + 1 for i, p, e, s in zip(image, pads, extent, strides, strict=True)]
    columns = node.make(Reshape, x, (n, wide, *counts))
    ones = np.tile(np.eye(size, dtype=np.float32), (wide // size, 1)).reshape(wide, 1, *block)
    filters = node.literal(ones.astype(DTYPES[x.tensor.dtype].numpy), x.tensor.dtype)
    extra = [i + sum(p) - (c - 1) * s - e for i, p, c, s, e in zip(image, pads, counts, strides, extent, strict=True)]
    groups = wide // size
    return node.make(
        ConvTranspose, columns, filters, None, tuple(strides), pads, tuple(dilations), groups, tuple(extra)
    )


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
