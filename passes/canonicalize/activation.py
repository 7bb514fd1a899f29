"""Activation functions that a model spells out, with fewer divisions and exponentials.

Not exact: a constant's reciprocal is rounded once more (1.5 ulp instead of 0.5, which a smooth function does not
magnify), and the sigmoid is nearer to the truth than `1 + tanh`, which cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.core import Value
from ...ir.ops.arith import Add, Div, Mul
from ...ir.ops.elementary import Erf, Sigmoid, Tanh
from ..rewrite import Builder, Pattern
from .match import floating, is_splat, only_use, splat


def scale_before_function(op: Erf | Tanh | Sigmoid, b: Builder) -> Sequence[Value] | None:
    """`erf(x / c)` -> `erf(x * (1 / c))` for a number c"""
    division = only_use(op.x, Div)
    c = splat(division.y) if division is not None else None
    if division is None or not isinstance(c, float) or not floating(op.x) or division.x.type != op.x.type:
        return None
    if not 1e-4 <= abs(c) <= 1e4:
        return None  # the reciprocal stays a normal number in all float types
    return [b(type(op)(b(Mul(division.x, b.splat(1.0 / c, op.x.tensor.dtype)))))]


def sigmoid_of_double(op: Mul, b: Builder) -> Sequence[Value] | None:
    """`(tanh(u) + 1) * 0.5` -> `sigmoid(2 * u)`, also where another factor stands between: `x * 0.5 * (tanh(u) + 1)` ->
    `x * sigmoid(2 * u)`"""
    for one, other in ((op.x, op.y), (op.y, op.x)):
        if not floating(one) or one.type != op.result.type:
            continue
        u = _raised_tanh(one)
        if u is not None and is_splat(other, 0.5):
            return [_sigmoid(u, b)]
        product = only_use(other, Mul) if u is not None else only_use(one, Mul) if is_splat(other, 0.5) else None
        if product is None or product.result.type != op.result.type:
            continue
        for x, y in ((product.x, product.y), (product.y, product.x)):
            inner = u if u is not None else _raised_tanh(y)
            if inner is not None and inner.type == op.result.type and (u is None or is_splat(y, 0.5)):
                return [b(Mul(x, _sigmoid(inner, b)))]
    return None


def _raised_tanh(value: Value) -> Value | None:
    """`u` where `value` is `tanh(u) + 1` and has no other use."""
    total = only_use(value, Add)
    tanh = only_use(total.x, Tanh) if total is not None and is_splat(total.y, 1) else None
    return tanh.x if tanh is not None else None


def _sigmoid(u: Value, b: Builder) -> Value:
    return b(Sigmoid(b(Mul(u, b.splat(2.0, u.tensor.dtype)))))


PATTERNS: list[Pattern] = [scale_before_function, sigmoid_of_double]
