"""Networks: padding, biases and scales into convolutions; rectifiers and clips into one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.ops.activation import Clip, Relu
from ...ir.ops.arith import Add, Maximum, Mul
from ...ir.ops.nn import Conv
from ...ir.ops.shape import Pad
from ..rewrite import Builder, Pattern
from .match import compute, constant, floating, is_splat, only_use, per_channel, splat


def pad_into_conv(op: Conv, b: Builder) -> Sequence[Value] | None:
    """`conv(pad(x, 0))` -> `conv(x)` with larger pads"""
    pad = op.x.op
    if not isinstance(pad, Pad) or pad.mode != "constant" or not (pad.value is None or is_splat(pad.value, 0)):
        return None
    if any(p != 0 for pair in pad.pads[:2] for p in pair):
        return None
    pads: list[tuple[int, int]] = []
    for (before, after), (more_before, more_after) in zip(op.pads, pad.pads[2:], strict=True):
        if not isinstance(more_before, int) or not isinstance(more_after, int) or min(more_before, more_after) < 0:
            return None
        pads.append((before + more_before, after + more_after))
    return [b(Conv(pad.x, op.w, op.bias, op.strides, tuple(pads), op.dilations, op.groups))]


def bias_into_conv(op: Add, b: Builder) -> Sequence[Value] | None:
    """`conv(x, w, bias) + c` -> `conv(x, w, bias + c)` for a constant per channel"""
    conv = only_use(op.x, Conv)
    c = channel_constant(op.y, conv) if conv is not None and op.x.type == op.result.type else None
    if conv is None or c is None:
        return None
    bias = c if conv.bias is None else _combine(np.add, conv.bias, c)
    return None if bias is None else [b(with_weights(conv, conv.w, b.constant(bias)))]


def scale_into_conv(op: Mul, b: Builder) -> Sequence[Value] | None:
    """`conv(x, w, bias) * c` -> `conv(x, w * c, bias * c)` for a constant per channel"""
    conv = only_use(op.x, Conv)
    c = channel_constant(op.y, conv) if conv is not None and op.x.type == op.result.type else None
    if conv is None or c is None or not floating(op.result):
        return None
    scaled = scale_weights(conv, c)
    bias = None if conv.bias is None else _combine(np.multiply, conv.bias, c)
    if scaled is None or (conv.bias is not None and bias is None):
        return None
    return [b(with_weights(conv, b.constant(scaled), None if bias is None else b.constant(bias)))]


def channel_constant(value: Value, conv: Conv) -> ConstantData | None:
    """`value` as a constant vector over the output channels of `conv`, of its element type; None when it is not."""
    data, channels = constant(value), conv.w.tensor.dims[0]
    if data is None or not isinstance(channels, int) or data.dtype != conv.result.tensor.dtype:
        return None
    return per_channel(data, conv.w.tensor.rank, channels)


def scale_weights(conv: Conv, factor: ConstantData) -> ConstantData | None:
    """The weights of `conv` with output channel o times `factor[o]`; None when they are not constant."""
    weights = constant(conv.w)
    if weights is None or weights.dtype != factor.dtype:
        return None
    column = (-1, *[1] * (len(weights.shape) - 1))
    spread = ConstantData.of(factor.array().reshape(column))
    return compute(np.multiply, weights, spread)


def with_weights(conv: Conv, w: Value, bias: Value | None) -> Conv:
    """`conv` with other weights and bias."""
    made = Conv(conv.x, w, bias, conv.strides, conv.pads, conv.dilations, conv.groups)
    made.loc = conv.loc
    return made


def _combine(fn: np.ufunc, bias: Value, c: ConstantData) -> ConstantData | None:
    data = constant(bias)
    return None if data is None else compute(fn, data, c)


def relu_of_relu(op: Relu, b: Builder) -> Sequence[Value] | None:
    """`relu(relu(x))` -> `relu(x)`; `relu(clip(x, low, high))` -> one clip"""
    inner = op.x.op
    if isinstance(inner, Relu):
        return [op.x]
    if not isinstance(inner, Clip) or only_use(op.x, Clip) is None:
        return None
    low, high = splat(inner.low), splat(inner.high)
    if (inner.low is not None and low is None) or (inner.high is not None and high is None):
        return None
    return [_clip(b, inner.x, max(low or 0, 0), None if high is None else max(high, 0))]


def clip_of_clip(op: Clip, b: Builder) -> Sequence[Value] | None:
    """A clip without bounds -> its operand; `clip(x, 0, none)` -> `relu(x)`; a clip of a clip or relu -> one clip"""
    if op.low is None and op.high is None:
        return [op.x]
    low, high = splat(op.low), splat(op.high)
    if (op.low is not None and low is None) or (op.high is not None and high is None):
        return None
    if op.high is None and low == 0:
        return [b(Relu(op.x))]
    inner = only_use(op.x, Clip) or only_use(op.x, Relu)
    if inner is None:
        return None
    bounds = (0, None) if isinstance(inner, Relu) else (splat(inner.low), splat(inner.high))
    if isinstance(inner, Clip) and any(
        v is not None and s is None for v, s in zip((inner.low, inner.high), bounds, strict=True)
    ):
        return None
    a, z = (float("-inf") if bounds[0] is None else bounds[0]), (float("inf") if bounds[1] is None else bounds[1])
    lo, hi = (float("-inf") if low is None else low), (float("inf") if high is None else high)
    # min(max(.., lo), hi) of the inner bounds; the outer ones win, as they act last.
    return [_clip(b, inner.x, _bound(min(max(a, lo), hi)), _bound(min(max(z, lo), hi)))]


def _bound(value: float | int) -> float | int | None:
    return None if value in (float("-inf"), float("inf")) else value


def _clip(b: Builder, x: Value, low: float | int | None, high: float | int | None) -> Value:
    dtype, number = x.tensor.dtype, float if floating(x) else int
    bounds = [None if v is None else b.splat(number(v), dtype) for v in (low, high)]
    return b(Clip(x, *bounds))


def maximum_with_zero(op: Maximum, b: Builder) -> Sequence[Value] | None:
    """`maximum(x, 0)` -> `relu(x)`"""
    return [b(Relu(op.x))] if is_splat(op.y, 0) and op.x.type == op.result.type else None


PATTERNS: list[Pattern] = [
    pad_into_conv,
    bias_into_conv,
    scale_into_conv,
    relu_of_relu,
    clip_of_clip,
    maximum_with_zero,
]
