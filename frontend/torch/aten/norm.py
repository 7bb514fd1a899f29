"""Normalization: batch, layer, group, instance, RMS, local response, weight norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np

from ....ir.expr import Dim, as_dim, as_expr
from ....ir.types import DTYPES
from .base import Build, Item, Unsupported, aten
from .pointwise import mul
from .reduce import reduced


def _filled(b: Build, item: Item | None, count: Dim, value: float, dtype: str) -> Item:
    """A vector that is given, or `count` times `value`."""
    return item if item is not None else b.expand(b.tensor(value, dtype), (count,))


@aten("batch_norm")
def batch_norm(
    b: Build, input: Item, weight: Item | None, bias: Item | None, running_mean: Item | None,
    running_var: Item | None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Item:  # fmt: skip
    if training or running_mean is None or running_var is None:
        if running_mean is not None and training:
            raise Unsupported("batch_norm in training", "call module.eval() before exporting")
        return _by_batch(b, input, weight, bias, eps)
    channels, dtype = b.shape(input)[1], b.dtype(running_mean)
    scale, shift = _filled(b, weight, channels, 1.0, dtype), _filled(b, bias, channels, 0.0, dtype)
    return b.op("BatchNormalization", input, scale, shift, running_mean, running_var, epsilon=float(eps))


def _by_batch(b: Build, x: Item, weight: Item | None, bias: Item | None, eps: float) -> Item:
    """By the statistics of the batch, which keeps none."""
    rank = b.rank(x)
    axes = [i for i in range(rank) if i != 1]
    y = _standardised(b, x, axes, eps)
    return _per_channel(b, y, weight, bias, rank)


@aten("_native_batch_norm_legit_no_training")
def native_batch_norm(
    b: Build, input: Item, weight: Item | None, bias: Item | None, running_mean: Item, running_var: Item,
    momentum: float, eps: float,
) -> list[Item]:  # fmt: skip
    y = batch_norm(b, input, weight, bias, running_mean, running_var, False, momentum, eps)
    none = b.a.constant(np.zeros(0, np.float32))
    return [y, none, none]


def _standardised(b: Build, x: Item, axes: Sequence[int], eps: float) -> Item:
    """Mean 0 and variance 1 over dimensions."""
    wide = b.cast(x, "f32") if b.dtype(x) in ("f16", "bf16") else x
    centred = b.op("Sub", wide, reduced(b, "ReduceMean", wide, list(axes), True))
    variance = reduced(b, "ReduceMean", b.op("Mul", centred, centred), list(axes), True)
    root = b.op("Sqrt", b.op("Add", variance, b.a.like(float(eps), variance)))
    return b.cast(b.op("Div", centred, root), b.dtype(x))


def _per_channel(b: Build, x: Item, weight: Item | None, bias: Item | None, rank: int) -> Item:
    for operator, item in (("Mul", weight), ("Add", bias)):
        if item is not None:
            x = b.op(operator, x, b.reshape(b.cast(item, b.dtype(x)), (b.shape(x)[1], *[1] * (rank - 2))))
    return x


@aten("layer_norm")
def layer_norm(
    b: Build, input: Item, normalized_shape: Sequence[Dim], weight: Item | None = None, bias: Item | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True,
) -> Item:  # fmt: skip
    count = len(normalized_shape)
    if weight is None:
        weight = b.expand(b.tensor(1.0, b.dtype(input)), tuple(b.shape(input)[-count:]))
    return b.op("LayerNormalization", input, b.cast(weight, b.dtype(input)), bias, axis=-count, epsilon=float(eps))


@aten("native_layer_norm")
def native_layer_norm(
    b: Build, input: Item, normalized_shape: Sequence[Dim], weight: Item | None, bias: Item | None, eps: float
) -> list[Item]:
    y = layer_norm(b, input, normalized_shape, weight, bias, eps)
    none = b.a.constant(np.zeros(0, np.float32))
    return [y, none, none]


@aten("rms_norm")
def rms_norm(
    b: Build, input: Item, normalized_shape: Sequence[Dim], weight: Item | None = None, eps: float | None = None
) -> Item:
    count = len(normalized_shape)
    if weight is None:
        weight = b.expand(b.tensor(1.0, b.dtype(input)), tuple(b.shape(input)[-count:]))
    least = float(cast(Any, ml_dtypes.finfo(DTYPES[b.dtype(input)].numpy)).eps) if eps is None else float(eps)
    return b.op("RMSNormalization", input, b.cast(weight, b.dtype(input)), axis=-count, epsilon=least)


@aten("_fused_rms_norm")
def fused_rms_norm(
    b: Build, input: Item, normalized_shape: Sequence[Dim], weight: Item | None, eps: float | None
) -> list[Item]:
    return [rms_norm(b, input, normalized_shape, weight, eps), b.a.constant(np.zeros(0, np.float32))]


@aten("group_norm")
def group_norm(
    b: Build, input: Item, num_groups: int, weight: Item | None = None, bias: Item | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Item:  # fmt: skip
    n, channels, *space = b.shape(input)
    if weight is not None and bias is not None:
        return b.op("GroupNormalization", input, weight, bias, num_groups=num_groups, epsilon=float(eps))
    parts = b.reshape(input, (n, num_groups, as_dim(as_expr(channels) // num_groups), *space))
    y = _standardised(b, parts, range(2, 3 + len(space)), eps)
    return _per_channel(b, b.reshape(y, b.shape(input)), weight, bias, b.rank(input))


@aten("native_group_norm")
def native_group_norm(
    b: Build, input: Item, weight: Item | None, bias: Item | None, N: Dim, C: Dim, HxW: Dim, group: int, eps: float
) -> list[Item]:
    none = b.a.constant(np.zeros(0, np.float32))
    return [group_norm(b, input, group, weight, bias, eps), none, none]


@aten("instance_norm")
def instance_norm(
    b: Build, input: Item, weight: Item | None, bias: Item | None, running_mean: Item | None,
    running_var: Item | None, use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> Item:  # fmt: skip
    if not use_input_stats:
        return batch_norm(b, input, weight, bias, running_mean, running_var, False, momentum, eps)
    if weight is not None and bias is not None:
        return b.op("InstanceNormalization", input, weight, bias, epsilon=float(eps))
    y = _standardised(b, input, range(2, b.rank(input)), eps)
    return _per_channel(b, y, weight, bias, b.rank(input))


@aten("_weight_norm")
def weight_norm(b: Build, v: Item, g: Item, dim: int = 0) -> Item:
    axes = [i for i in range(b.rank(v)) if i != dim % b.rank(v)]
    size = reduced(b, "ReduceL2", v, axes, True)
    return mul(b, v, b.op("Div", g, size))


@aten("_weight_norm_interface")
def weight_norm_interface(b: Build, v: Item, g: Item, dim: int = 0) -> list[Item]:
    return [weight_norm(b, v, g, dim), b.a.constant(np.zeros(0, np.float32))]


__all__ = ["batch_norm", "layer_norm"]
