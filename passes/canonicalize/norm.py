"""Layer normalisation that a model spells out: mean, subtract, square, mean, add, square root, divide, scale, shift."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.core import Value
from ...ir.ops.arith import Add, Div, Mul, Sqrt, Sub
from ...ir.ops.nn import LayerNorm
from ...ir.ops.reduce import Mean
from ..rewrite import Builder, Pattern
from .match import constant, only_use, splat


def layer_norm(op: Div, b: Builder) -> Sequence[Value] | None:
    """`d / sqrt(mean(d * d) + epsilon)` where `d = x - mean(x)` -> `layer_norm(x)`"""
    centred, root = op.x.op, only_use(op.y, Sqrt)
    total = only_use(root.x, Add) if root is not None else None
    variance = only_use(total.x, Mean) if total is not None else None
    square = only_use(variance.x, Mul) if variance is not None else None
    if not isinstance(centred, Sub) or total is None or variance is None or square is None:
        return None
    mean, epsilon = only_use(centred.y, Mean), splat(total.y)
    same = square.x is op.x and square.y is op.x and mean is not None and mean.x is centred.x
    if not same or mean is None or epsilon is None or mean.attributes != variance.attributes:
        return None
    shape = centred.x.tensor.shape
    axes = sorted(mean.axes)
    if shape is None or not axes or not mean.keepdims or axes != list(range(axes[0], len(shape))):
        return None
    return [b(LayerNorm(centred.x, None, None, axes[0], float(epsilon)))]


def scale_into_layer_norm(op: Mul, b: Builder) -> Sequence[Value] | None:
    """`layer_norm(x) * c` -> `layer_norm(x, scale = c)`"""
    norm = only_use(op.x, LayerNorm)
    if norm is None or norm.scale is not None or norm.bias is not None or not _fits(op.y, norm):
        return None
    return [b(LayerNorm(norm.x, op.y, None, norm.axis, norm.epsilon))]


def shift_into_layer_norm(op: Add, b: Builder) -> Sequence[Value] | None:
    """`layer_norm(x, scale) + c` -> `layer_norm(x, scale, bias = c)`"""
    norm = only_use(op.x, LayerNorm)
    if norm is None or norm.bias is not None or not _fits(op.y, norm):
        return None
    return [b(LayerNorm(norm.x, norm.scale, op.y, norm.axis, norm.epsilon))]


def _fits(value: Value, norm: LayerNorm) -> bool:
    """True for a constant of exactly the normalised shape."""
    return constant(value) is not None and value.tensor.shape == norm.x.tensor.dims[norm.axis :]


PATTERNS: list[Pattern] = [layer_norm, scale_into_layer_norm, shift_into_layer_norm]
