"""CausalConvWithState: a convolution of every channel by itself that looks back only, and what the next call needs."""

from __future__ import annotations

from ...ir.assume import assume_equal
from ...ir.core import Value
from ...ir.expr import as_dim, as_expr
from ...ir.ops.activation import Silu
from ...ir.ops.arith import Cast
from ...ir.ops.nn import Conv
from ...ir.ops.reduce import Sum
from ...ir.ops.shape import Concat, Gather, Pad, Reshape, Slice
from .calc import Calc
from .node import Node, converter

__all__ = ["causal_conv_with_state"]


@converter("CausalConvWithState")
def causal_conv_with_state(node: Node) -> tuple[Value, Value]:
    """CausalConvWithState: input (batch, channels, length), filters (channels, 1, k), bias (channels), past state
    (batch, channels, k - 1); the result has the shape of the input, the new state that of the past one."""
    if node.rank(0) != 3 or node.rank(1) != 3:
        raise node.error(f"expected input and weight of rank 3, got {node.type(0)} and {node.type(1)}")
    mode = node.string("activation", "none")
    if mode not in ("none", "silu", "swish"):
        raise node.error(f"activation: expected none, silu or swish, got {mode!r}")
    batch, channels, length = node.shape(0)
    taps = node.shape(1)[2]
    assume_equal(node.shape(1)[0], channels)
    assume_equal(node.shape(1)[1], 1)
    before = as_dim(as_expr(taps) - 1)
    if node.has(3):
        for have, want in zip(node.shape(3), (batch, channels, before), strict=True):
            assume_equal(have, want)
        x = node.make(Concat, (node.value(3), node.value(0)), 2)
    else:
        x = node.make(Pad, node.value(0), None, ((0, 0), (0, 0), (before, 0)), "constant")
    y = _convolved(node, x)
    if mode != "none":
        wide = y if y.tensor.dtype == "f64" else node.make(Cast, y, "f32")
        y = node.make(Cast, node.make(Silu, wide), x.tensor.dtype)
    whole = as_dim(as_expr(length) + before)
    return y, node.make(Slice, x, (0, 0, length), (batch, channels, whole), (1, 1, 1))


def _convolved(node: Node, x: Value) -> Value:
    """One filter for each channel of `x`, which is padded already."""
    channels, length, taps = node.shape(0)[1], node.shape(0)[2], node.shape(1)[2]
    if isinstance(channels, int) and isinstance(taps, int):
        return node.make(Conv, x, node.value(1), node.optional(2), (1,), ((0, 0),), (1,), channels)
    at = Calc.iota(node, length, "i64").reshaped(length, 1) + Calc.iota(node, taps, "i64")
    dtype = "f64" if x.tensor.dtype == "f64" else "f32"
    windows = Calc(node, node.make(Gather, x, at.value, 2)).cast(dtype)
    filters = Calc(node, node.make(Reshape, node.value(1), (channels, 1, taps))).cast(dtype)
    total = Calc(node, node.make(Sum, (windows * filters).value, (3,), False))
    if node.has(2):
        total = total + Calc(node, node.value(2)).cast(dtype).reshaped(channels, 1)
    return total.cast(x.tensor.dtype).value
