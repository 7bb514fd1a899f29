"""Convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir.core import Value
from ...ir.expr import Dim
from ...ir.ops import (
    arith,
    conv,
    conv_transpose,
    pool,
    pool_index,
    shape,
)
from ...ir.types import DTYPES, TensorType, is_float
from ..report import Cannot
from .elementwise import cast_to
from .net import Net, Ref, Sizes, lowers, numbers, type_of

_VALID = 2  # MindSpore's PadMode
_NCHW = 0  # and Format


def _wider(x: Value, y: int) -> tuple[Dim, ...]:
    """The shape of `x` with `y` dimensions of size 1 behind the channels."""
    return (*x.tensor.dims[:2], *[1] * y, *x.tensor.dims[2:])


def as_picture(net: Net, x: Value) -> Value:
    """A sequence (N, C, W) as a picture (N, C, 1, W)."""
    return net.make(shape.Reshape, x, _wider(x, 1))


def flat(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """(before, after) pairs one behind the other."""
    return tuple(p for pair in pads for p in pair)


# -- convolutions -----------------------------------------------------------------------------------------------------


def _attributes(op: conv.Conv | conv_transpose.ConvTranspose, channels: int, mode: str) -> dict[str, Any]:
    pads = flat(op.pads)
    return {
        "kernel_size": tuple(numbers(op.w.tensor.dims[2:], "the sizes of windows")),
        "mode": 1,
        "out_channel": channels,
        "pad": pads,
        "pad_mode": mode,
        "format": "NCHW",
        "pad_list": pads,
        "groups": op.groups,
        "stride": (1, 1, *op.strides),
        "group": op.groups,
        "dilation": (1, 1, *op.dilations),
    }


@lowers(conv.Conv)
def convolution(net: Net, op: conv.Conv) -> Value | Ref:
    """Conv2D and Conv3D, then a bias; sequences are pictures of one row."""
    x = op.x.tensor
    if not is_float(x.dtype):
        raise Cannot("a convolution of integers", "export the model with weights that are dequantized")
    if x.rank == 3:
        picture, w = as_picture(net, op.x), as_picture(net, op.w)
        wide = ((1, *op.strides), ((0, 0), *op.pads), (1, *op.dilations))
        return net.make(shape.Reshape, net.make(conv.Conv, picture, w, op.bias, *wide, op.groups), type_of(op).dims)
    (channels,) = numbers(op.w.tensor.dims[:1], "channels")
    if x.rank == 4:
        y = net.prim(
            "Conv2D", net.of(op.x), net.of(op.w), type=type_of(op), attributes=_attributes(op, channels, "pad")
        )
    elif x.rank == 5:
        y = _conv3d(net, op, channels)
    else:
        raise Cannot(f"a convolution over {x.rank - 2} dimensions")
    if op.bias is None:
        return y
    if x.rank == 4:
        return net.prim("BiasAdd", y, net.of(op.bias), _NCHW, type=type_of(op))
    column = net.make(shape.Reshape, op.bias, (1, channels, *[1] * (x.rank - 2)))
    return net.prim("Add", y, net.of(column), type=type_of(op))


def _conv3d(net: Net, op: conv.Conv, channels: int) -> Ref:
    if op.groups != 1:
        raise Cannot("a convolution over 3 dimensions in groups")
    attributes: dict[str, Any] = _attributes(op, channels, "pad") | {
        "offset_x": 0,
        "format": "NCDHW",
        "stride": tuple(op.strides),
        "dilations": (1, 1, *op.dilations),
        "strides": (1, 1, *op.strides),
        "dilation": tuple(op.dilations),
    }
    return net.prim("Conv3D", net.of(op.x), net.of(op.w), type=type_of(op), attributes=attributes)


@lowers(conv_transpose.ConvTranspose)
def transposed(net: Net, op: conv_transpose.ConvTranspose) -> Value | Ref:
    """Conv2DTranspose, whose result's size is an input."""
    x = op.x.tensor
    if not is_float(x.dtype) or x.rank not in (3, 4) or any(p < 0 for p in flat(op.pads)):
        raise Cannot("a transposed convolution other than of floats over 1 or 2 dimensions")
    if x.rank == 3:
        wide = ((1, *op.strides), ((0, 0), *op.pads), (1, *op.dilations), op.groups, (0, *op.output_pads))
        y = net.make(conv_transpose.ConvTranspose, as_picture(net, op.x), as_picture(net, op.w), op.bias, *wide)
        return net.make(shape.Reshape, y, type_of(op).dims)
    (channels,) = numbers(op.w.tensor.dims[:1], "channels")
    refs, sizes = (net.of(op.x), net.of(op.w)), Sizes(type_of(op).dims)
    attributes = _attributes(op, channels, "PAD")
    y = net.prim("Conv2DTranspose", *refs, sizes, type=type_of(op), attributes=attributes)
    return y if op.bias is None else net.prim("BiasAdd", y, net.of(op.bias), _NCHW, type=type_of(op))


# -- pooling ----------------------------------------------------------------------------------------------------------


def _even(pads: Sequence[tuple[int, int]], window: Sequence[int]) -> bool:
    return all(a == b and 2 * a <= n for (a, b), n in zip(pads, window, strict=True))


def _bordered(net: Net, x: Value, pads: Sequence[tuple[int, int]], fill: float) -> Value:
    if not any(map(any, pads)):
        return x
    value = net.number(fill, x.tensor.dtype)
    return net.make(shape.Pad, x, value, ((0, 0), (0, 0), *pads))


def _deep(net: Net, op: pool.MaxPool | pool_index.MaxPoolIndices, x: Value) -> list[Value]:
    """MaxPool3DWithArgmax over the dimensions that there are."""
    lack = 5 - x.tensor.rank
    if lack < 0:
        raise Cannot(f"a maximum over windows of {x.tensor.rank - 2} dimensions")
    attributes: dict[str, Any] = {
        "ksize": (1,) * lack + op.window,
        "strides": (1,) * lack + op.strides,
        "pads": (0,) * lack + tuple(a for a, _ in op.pads),
        "dilation": (1,) * lack + op.dilations,
        "ceil_mode": False,
        "format": "NCDHW",
        "argmax_type": "int64",
    }
    dims = op.results[0].tensor.dims
    wide = (*dims[:2], *[1] * lack, *dims[2:])
    types = [TensorType(x.tensor.dtype, wide), TensorType("i64", wide)]
    deep = net.make(shape.Reshape, x, _wider(x, lack))
    refs = net.prims("MaxPool3DWithArgmax", net.of(deep), types=types, attributes=attributes)
    found: list[Value] = []
    for ref, type in zip(refs, types, strict=True):
        value = Value(type)
        net.define(value, ref)
        found.append(net.make(shape.Reshape, value, dims))
    return found


@lowers(pool.MaxPool)
def max_pool(net: Net, op: pool.MaxPool) -> Ref | Value:
    """MaxPool without pads; even pads and dilations as MindSpore writes them; else a border of infinities before."""
    x, dtype = op.x, op.x.tensor.dtype
    if dtype not in ("f32", "f64"):
        wide = "f32" if is_float(dtype) or DTYPES[dtype].bits < 32 else "f64"
        windows = (op.window, op.strides, op.pads, op.dilations)
        return cast_to(net, net.make(pool.MaxPool, cast_to(net, x, wide), *windows), dtype)
    rank, dilated = len(op.window), any(d != 1 for d in op.dilations)
    padded = any(map(any, op.pads))
    if rank == 3 or dilated or (padded and _even(op.pads, op.window)):
        if not _even(op.pads, op.window):
            x = _bordered(net, x, op.pads, -math.inf)
            return net.make(pool.MaxPool, x, op.window, op.strides, ((0, 0),) * rank, op.dilations)
        return _deep(net, op, x)[0]
    if rank == 1:
        wide = ((1, *op.window), (1, *op.strides), ((0, 0), *op.pads), (1, 1))
        return net.make(shape.Reshape, net.make(pool.MaxPool, as_picture(net, x), *wide), type_of(op).dims)
    x = _bordered(net, x, op.pads, -math.inf)
    attributes: dict[str, Any] = {
        "pad_mode": "VALID",
        "kernel_size": (1, 1, *op.window),
        "format": "NCHW",
        "strides": (1, 1, *op.strides),
    }
    return net.prim("MaxPool", net.of(x), type=type_of(op), attributes=attributes)


@lowers(pool_index.MaxPoolIndices)
def max_pool_indices(net: Net, op: pool_index.MaxPoolIndices) -> list[Value]:
    """MaxPool3DWithArgmax, whose places count within a channel."""
    if op.column_major or not _even(op.pads, op.window) or op.x.tensor.dtype not in ("f32", "f64"):
        raise Cannot("places of maxima in column order, with uneven pads or of other types than f32")
    y, at = _deep(net, op, op.x)
    n, c, *space = numbers(op.x.tensor.dims, "sizes")
    base = np.arange(n * c, dtype=np.int64).reshape(n, c, *[1] * len(space)) * math.prod(space)
    return [y, net.make(arith.Add, at, net.array(base))]


@lowers(pool.AveragePool)
def average_pool(net: Net, op: pool.AveragePool) -> Ref | Value:
    """AvgPool without pads, AvgPool3D with even ones; else the mean with zeros over that of ones."""
    x, dtype, rank = op.x, op.x.tensor.dtype, len(op.window)
    if any(d != 1 for d in op.dilations):
        raise Cannot("a mean over dilated windows")
    if dtype != "f32":
        windows = (op.window, op.strides, op.pads, op.dilations, op.include_pad)
        return cast_to(net, net.make(pool.AveragePool, cast_to(net, x, "f32"), *windows), dtype)
    if rank == 1:
        wide = ((1, *op.window), (1, *op.strides), ((0, 0), *op.pads), (1, 1), op.include_pad)
        return net.make(shape.Reshape, net.make(pool.AveragePool, as_picture(net, x), *wide), type_of(op).dims)
    if rank == 2 and not any(map(any, op.pads)):
        return net.prim("AvgPool", net.of(x), op.window, op.strides, _VALID, _NCHW, type=type_of(op))
    if not _even(op.pads, op.window):
        plain = (op.window, op.strides, ((0, 0),) * rank, op.dilations)
        y = net.make(pool.AveragePool, _bordered(net, x, op.pads, 0.0), *plain)
        if op.include_pad:
            return y
        ones = net.make(shape.Expand, net.number(1, dtype), (1, 1, *x.tensor.dims[2:]))
        return net.make(arith.Div, y, net.make(pool.AveragePool, _bordered(net, ones, op.pads, 0.0), *plain))
    return _average_deep(net, op)


def _average_deep(net: Net, op: pool.AveragePool) -> Value:
    lack = 3 - len(op.window)
    if lack < 0:
        raise Cannot(f"a mean over windows of {len(op.window)} dimensions")
    pads = (0,) * (2 * lack) + flat(op.pads)
    attributes: dict[str, Any] = {
        "kernel_size": (1, 1, *(1,) * lack, *op.window),
        "strides": (1, 1, *(1,) * lack, *op.strides),
        "pad": pads,
        "ceil_mode": False,
        "divisor_override": 0,
        "pad_mode": "PAD",
        "format": "NCDHW",
        "pad_list": pads,
        "count_include_pad": op.include_pad,
    }
    dims = type_of(op).dims
    deep = net.make(shape.Reshape, op.x, _wider(op.x, lack))
    made = Value(TensorType("f32", (*dims[:2], *[1] * lack, *dims[2:])))
    net.define(made, net.prim("AvgPool3D", net.of(deep), type=made.tensor, attributes=attributes))
    return net.make(shape.Reshape, made, dims)
