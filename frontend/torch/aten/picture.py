"""Operators that move the elements of pictures between channels, space and windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.expr import as_dim, as_expr, product
from .base import Build, Item, Unsupported, aten, few, kind_of


@aten("pixel_shuffle")
def pixel_shuffle(b: Build, x: Item, upscale_factor: int) -> Item:
    return b.op("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@aten("pixel_unshuffle")
def pixel_unshuffle(b: Build, x: Item, downscale_factor: int) -> Item:
    *first, c, h, w = b.shape(x)
    r = downscale_factor
    parts = b.reshape(x, (*first, c, as_dim(as_expr(h) // r), r, as_dim(as_expr(w) // r), r))
    n = len(first)
    turned = b.permute(parts, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
    return b.reshape(turned, (*first, as_dim(as_expr(c) * (r * r)), as_dim(as_expr(h) // r), as_dim(as_expr(w) // r)))


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(b: Build, x: Item, groups: int) -> Item:
    n, c, *space = b.shape(x)
    parts = b.reshape(x, (n, groups, as_dim(as_expr(c) // groups), *space))
    return b.reshape(b.permute(parts, [0, 2, 1, *range(3, 3 + len(space))]), b.shape(x))


@aten("im2col")
def im2col(
    b: Build, x: Item, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    stride: Sequence[int],
) -> Item:  # fmt: skip
    """Windows as columns: a convolution with filters of single ones, a group for each channel."""
    (kh, kw), channels = kernel_size, b.shape(x)[1]
    if not isinstance(channels, int) or kind_of(b.dtype(x)) != "float":
        raise Unsupported("unfold of channels whose number is not known")
    dtype = b.dtype(x)
    few(kh * kw * channels, "filters")
    ones = np.eye(kh * kw, dtype=np.float32).reshape(1, kh * kw, 1, kh, kw)
    filters = np.tile(ones, (channels, 1, 1, 1, 1)).reshape(channels * kh * kw, 1, kh, kw)
    weight = b.cast(b.a.constant(filters), dtype)
    y = b.op("Conv", x, weight, strides=list(stride), dilations=list(dilation), pads=[*padding, *padding],
             group=channels)  # fmt: skip
    n, c, h, w = b.shape(y)
    return b.reshape(y, (n, c, as_dim(product((h, w)))))


@aten("col2im")
def col2im(
    b: Build, x: Item, output_size: Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Item:  # fmt: skip
    return b.op("Col2Im", x, b.vector(output_size), b.vector(kernel_size), dilations=list(dilation),
                pads=[*padding, *padding], strides=list(stride))  # fmt: skip
