"""Quantisation of what the model computed: without a division, and not at all where it only undoes the step before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.core import Value
from ...ir.ops.activation import Relu
from ...ir.ops.arith import Add, Cast, Mul, Round
from ...ir.ops.base import TensorOp
from ...ir.ops.nn import MaxPool
from ...ir.ops.quant import Dequantize, Quantize
from ...ir.ops.shape import Concat, Reshape, Slice, Transpose
from ..canonicalize.match import constant, is_splat, only_use
from ..rewrite import Builder, Pattern


def quantize_again(op: Quantize, b: Builder) -> Sequence[Value] | None:
    """`quantize(dequantize(x))` with one and the same step -> `x`"""
    inner = op.x.op
    if not isinstance(inner, Dequantize) or inner.x.type != op.result.type:
        return None
    return [inner.x] if _same_step((op.scale, op.zero), (inner.scale, inner.zero)) else None


def dequantize_later(op: MaxPool | Reshape | Transpose | Slice | Concat, b: Builder) -> Sequence[Value] | None:
    """`move(dequantize(x))` -> `dequantize(move(x))` for what only chooses and arranges elements, in a single step"""
    moved = list(op.xs) if isinstance(op, Concat) else [op.x]
    steps = [v.op for v in moved]
    first = steps[0]
    if not isinstance(first, Dequantize):
        return None
    inner: dict[Value, Value] = {}
    for v, step in zip(moved, steps, strict=True):
        if not isinstance(step, Dequantize) or constant(step.x) is not None:
            return None
        if step.x.tensor.dtype != first.x.tensor.dtype or step.result.tensor.dtype != first.result.tensor.dtype:
            return None
        if not _same_step((first.scale, first.zero), (step.scale, step.zero)):
            return None
        inner[v] = step.x
    scale = constant(first.scale)
    if scale is None or not bool((scale.array() > 0).all()):
        return None  # a maximum would become a minimum
    made = op.clone(inner)
    assert isinstance(made, TensorOp)
    return [b(Dequantize(b(_typed(made)), first.scale, first.zero))]


def _typed(op: TensorOp) -> TensorOp:
    """`op` with result types that fit its new operands."""
    for result, type in zip(op.results, op.infer(), strict=True):
        result.type = type
    return op


def _same_step(a: tuple[Value, Value | None], z: tuple[Value, Value | None]) -> bool:
    """Whether both pairs of scale and zero point are the same constants, for a whole tensor."""
    (scale, zero), (other_scale, other_zero) = a, z
    if scale.tensor.elements != 1 or other_scale.tensor.elements != 1:
        return False
    return _equal(scale, other_scale) and _equal(zero, other_zero)


def _equal(a: Value | None, z: Value | None) -> bool:
    if a is z:
        return True
    first, second = constant(a), constant(z)
    if a is None or z is None:
        present = first or second
        return present is not None and not present.array().any()
    if first is None or second is None or first.dtype != second.dtype:
        return False
    return bool((first.array().reshape(()) == second.array().reshape(())).all())


def relu_before_quantize(op: Quantize, b: Builder) -> Sequence[Value] | None:
    """`quantize(relu(x), zero=0)` to u8 -> `quantize(x)`: what is below zero saturates there"""
    relu = only_use(op.x, Relu)
    if relu is None or op.result.tensor.dtype != "u8" or not (op.zero is None or is_splat(op.zero, 0)):
        return None
    scale = constant(op.scale)
    if scale is None or not bool((scale.array() > 0).all()):
        return None
    return [b(Quantize(relu.x, op.scale, op.zero, op.axis, op.block, op.dtype))]


def quantize_by_multiplication(op: Quantize, b: Builder) -> Sequence[Value] | None:
    """`quantize(x, scale, zero)` -> `cast(round(x * (1 / scale)) + zero)` of an x that the model computes: what lies
    half-way between two steps, but for rounding, may become the other one"""
    if op.x.op is None or op.x.tensor.dtype != "f32" or op.x.tensor.shape is None:
        return None
    scale = constant(op.scale)
    zero = None if op.zero is None else constant(op.zero)
    if scale is None or scale.elements != 1 or (op.zero is not None and zero is None):
        return None
    factor = 1.0 / float(scale.array().reshape(()))
    if not np.isfinite(np.float32(factor)) or abs(factor) < 1e-30:
        return None
    whole = b(Round(b(Mul(op.x, b.splat(factor, "f32")))))
    if zero is not None and bool(zero.array().any()):
        whole = b(Add(whole, b.splat(float(zero.array().reshape(())), "f32")))
    return [b(Cast(whole, op.result.tensor.dtype))]


PATTERNS: list[Pattern] = [quantize_again, dequantize_later, relu_before_quantize, quantize_by_multiplication]
