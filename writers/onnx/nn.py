"""Layers: convolutions, pooling, normalisation, products, determinants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir.expr import Dim, as_expr
from ...ir.ops import conv, conv_transpose, deform, linalg, norm, pool, pool_index
from ...ir.ops.determinant import Det
from ...ir.types import DTYPES, is_float
from ..report import Cannot
from .graph import Scope, Tensor, least_value, whole, writes
from .integers import bytes_of


def pairs(pads: Sequence[tuple[Dim, Dim]]) -> list[Dim]:
    """(before, after) pairs in ONNX's order."""
    return [p[0] for p in pads] + [p[1] for p in pads]


def _spatial(op: conv.Conv | conv_transpose.ConvTranspose) -> dict[str, Any]:
    dims = op.w.tensor.shape
    window = dims[2:] if dims is not None and all(isinstance(d, int) for d in dims[2:]) else None
    return {
        "kernel_shape": None if window is None else list(window),
        "strides": list(op.strides),
        "pads": whole(pairs(op.pads), "pads"),
        "dilations": list(op.dilations),
        "group": op.groups,
    }


@writes(conv.Conv)
def convolution(scope: Scope, op: conv.Conv) -> Tensor:
    """Conv; of bytes ConvInteger; of other integers in f64, which holds their sums up to 2^53."""
    bias = scope.maybe(op.bias)
    if is_float(op.x.tensor.dtype):
        return scope.node("Conv", scope.of(op.x), scope.of(op.w), bias, **_spatial(op))
    x, w = bytes_of(scope, op.x, None), bytes_of(scope, op.w, 0)
    if x is not None and w is not None:
        y = scope.node("ConvInteger", x[0], w[0], x[1], w[1], dtype="i32", **_spatial(op))
    else:
        wide = [scope.cast(scope.of(v), "f64") for v in (op.x, op.w)]
        y = scope.cast(scope.cast(scope.node("Conv", *wide, **_spatial(op)), "i64"), op.result.tensor.dtype)
    if bias is None:
        return y
    rank = op.w.tensor.rank
    return scope.node("Add", y, scope.node("Reshape", bias, scope.vector([1, -1, *[1] * (rank - 2)])))


@writes(conv_transpose.ConvTranspose)
def transposed(scope: Scope, op: conv_transpose.ConvTranspose) -> Tensor:
    """ConvTranspose. Pads below 0 are further output."""
    attributes = _spatial(op)
    more = list(op.output_pads)
    if any(p < 0 for p in attributes["pads"]):
        raise Cannot("pads below 0 of a transposed convolution")
    x, w, bias = scope.of(op.x), scope.of(op.w), scope.maybe(op.bias)
    return scope.node("ConvTranspose", x, w, bias, **attributes, output_padding=more if any(more) else None)


@writes(linalg.MatMul)
def matmul(scope: Scope, op: linalg.MatMul) -> Tensor:
    """MatMul; of bytes MatMulInteger."""
    a, b = op.a.tensor, op.b.tensor
    dtype = op.result.tensor.dtype
    if dtype == "i32" and a.shape is not None and b.shape is not None:
        x, y = bytes_of(scope, op.a, None), bytes_of(scope, op.b, b.rank - 1)
        if x is not None and y is not None:
            return scope.node("MatMulInteger", x[0], y[0], x[1], y[1], dtype="i32")
    given = scope.of(op.a), scope.of(op.b)
    if is_float(a.dtype) or a.dtype in ("i32", "i64", "u32", "u64"):
        return scope.node("MatMul", *given)
    return scope.cast(scope.node("MatMul", *(scope.cast(t, "i32") for t in given)), dtype)


@writes(Det)
def det(scope: Scope, op: Det) -> Tensor:
    """Det."""
    return scope.node("Det", scope.of(op.x))


# -- pooling ----------------------------------------------------------------------------------------------------------


def _windows(op: pool.MaxPool | pool.AveragePool | pool_index.MaxPoolIndices, pads: Sequence[int]) -> dict[str, Any]:
    return {
        "kernel_shape": list(op.window),
        "strides": list(op.strides),
        "pads": list(pads),
        "dilations": list(op.dilations) if any(d != 1 for d in op.dilations) else None,
    }


def _is_wide(op: pool.MaxPool | pool.AveragePool | pool_index.MaxPoolIndices) -> bool:
    """Whether pads reach as far as a window, which ONNX Runtime refuses."""
    return any(p >= n for pair, n in zip(op.pads, op.window, strict=True) for p in pair)


def _padded(scope: Scope, x: Tensor, op: pool.MaxPool | pool.AveragePool, fill: float) -> Tensor:
    amounts = whole(pairs(((0, 0), (0, 0), *op.pads)), "pads")
    return scope.node("Pad", x, scope.vector(amounts), scope.like(fill, x))


def _pooled(x: Tensor) -> str:
    """The element type in which a maximum over windows is found."""
    return x.dtype if x.dtype in ("f16", "f32", "f64", "i8", "u8") else "f32" if x.dtype == "bf16" else "f64"


@writes(pool.MaxPool)
def max_pool(scope: Scope, op: pool.MaxPool) -> Tensor:
    """MaxPool; what it does not take goes through a wider type."""
    x = scope.of(op.x)
    wide = scope.cast(x, _pooled(x))
    pads = whole(pairs(op.pads), "pads")
    if _is_wide(op):
        wide, pads = _padded(scope, wide, op, least_value(wide.dtype)), [0] * len(pads)
    return scope.cast(scope.node("MaxPool", wide, **_windows(op, pads)), x.dtype)


@writes(pool_index.MaxPoolIndices)
def max_pool_indices(scope: Scope, op: pool_index.MaxPoolIndices) -> list[Tensor]:
    """MaxPool with its second output."""
    if _is_wide(op):
        raise Cannot("indices of maxima with pads as large as the window")
    x = scope.of(op.x)
    order = 1 if op.column_major else None
    attributes = _windows(op, whole(pairs(op.pads), "pads"))
    wide = scope.cast(x, _pooled(x))
    y, index = scope.nodes_of("MaxPool", wide, dtypes=(None, "i64"), storage_order=order, **attributes)
    return [scope.cast(y, x.dtype), index]


@writes(pool.AveragePool)
def average_pool(scope: Scope, op: pool.AveragePool) -> Tensor:
    """AveragePool; with wide pads the mean with zeros over the mean of ones."""
    x = scope.of(op.x)
    pads = whole(pairs(op.pads), "pads")
    include = 1 if op.include_pad else None
    if not _is_wide(op):
        return scope.node("AveragePool", x, **_windows(op, pads), count_include_pad=include)
    plain = _windows(op, [0] * len(pads))
    y = scope.node("AveragePool", _padded(scope, x, op, 0), **plain)
    if op.include_pad:
        return y
    ones = scope.node("Expand", scope.like(1, x), scope.node("Shape", x, dtype="i64"))
    return scope.node("Div", y, scope.node("AveragePool", _padded(scope, ones, op, 0), **plain))


# -- normalisation ----------------------------------------------------------------------------------------------------


@writes(norm.BatchNorm)
def batch_norm(scope: Scope, op: norm.BatchNorm) -> Tensor:
    """BatchNormalization."""
    return scope.node("BatchNormalization", *map(scope.of, op.inputs), epsilon=float(op.epsilon))


@writes(norm.LayerNorm)
def layer_norm(scope: Scope, op: norm.LayerNorm) -> Tensor:
    """LayerNormalization. A scale or bias of another shape than the normalised dimensions is applied behind it."""
    x, dims = scope.of(op.x), op.x.tensor.dims
    inner = dims[op.axis :]
    inside = [v is None or v.tensor.shape == inner for v in (op.scale, op.bias)]
    scale = scope.maybe(op.scale) if all(inside) else None
    bias = scope.maybe(op.bias) if all(inside) else None
    if scale is None:
        scale = ones(scope, x.dtype, inner)
    y = scope.node("LayerNormalization", x, scale, bias, axis=op.axis, epsilon=float(op.epsilon))
    if all(inside):
        return y
    if op.scale is not None:
        y = scope.node("Mul", y, scope.of(op.scale))
    return y if op.bias is None else scope.node("Add", y, scope.of(op.bias))


def ones(scope: Scope, dtype: str, dims: Sequence[Dim]) -> Tensor:
    """A tensor of ones."""
    if all(isinstance(d, int) for d in dims):
        return scope.constant(np.ones([d for d in dims if isinstance(d, int)], DTYPES[dtype].numpy))
    return scope.node("Expand", scope.scalar(1, dtype), scope.sizes(dims))


@writes(norm.Softmax, norm.LogSoftmax)
def softmax(scope: Scope, op: norm.Softmax | norm.LogSoftmax) -> Tensor:
    """Softmax and LogSoftmax."""
    return scope.node(type(op).__name__, scope.of(op.x), axis=op.axis)


@writes(norm.LRN)
def lrn(scope: Scope, op: norm.LRN) -> Tensor:
    """LRN."""
    reals: dict[str, Any] = {"alpha": float(op.alpha), "beta": float(op.beta), "bias": float(op.bias)}
    return scope.node("LRN", scope.of(op.x), size=op.size, **reals)


@writes(deform.DeformSample)
def deform_sample(scope: Scope, op: deform.DeformSample) -> Tensor:
    """DeformConv with one output per channel and tap: weights that are 1 at their own tap."""
    dims, out = op.x.tensor.dims, op.offset.tensor.dims[2:]
    (channels,) = whole(dims[1:2], "channels")
    after: list[Dim] = []
    for i in range(2):
        span = (op.window[i] - 1) * op.dilations[i] + 1
        after.append((as_expr(out[i]) - 1) * op.strides[i] + span - op.pads[i] - dims[2 + i])
    fixed = [as_expr(a).constant for a in after]
    pads = whole([*op.pads, *(d if c is None else c for d, c in zip(after, fixed, strict=True))], "pads")
    taps = op.window[0] * op.window[1]
    x = scope.of(op.x)
    weights = np.tile(np.eye(taps).reshape(taps, 1, *op.window), (channels, 1, 1, 1)).astype(DTYPES[x.dtype].numpy)
    attributes: dict[str, Any] = {
        "strides": list(op.strides),
        "pads": pads,
        "dilations": list(op.dilations),
        "group": channels,
    }
    inputs = (x, scope.constant(weights), scope.of(op.offset), None, scope.maybe(op.mask))
    y = scope.node("DeformConv", *inputs, **attributes, offset_group=op.groups, kernel_shape=list(op.window))
    return scope.node("Reshape", y, scope.sizes((dims[0], channels, *op.window, *out)))
