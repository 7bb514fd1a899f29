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

_MOVES = (MaxPool, Reshape, Transpose, Slice, Concat)  # what they give are some of the elements that they take


def quantize_again(op: Quantize, b: Builder) -> Sequence[Value] | None:
    """`quantize(dequantize(x))` -> `x`, and so around operations that only choose elements, all steps being equal"""
    if isinstance(op.x.op, Dequantize):
        return [op.x.op.x] if _undoes(op, op.x.op) and op.x.op.x.type == op.result.type else None
    mover = op.x.op
    if not isinstance(mover, _MOVES) or len(op.x.users) != 1 or len(mover.results) != 1:
        return None
    moved = list(mover.xs) if isinstance(mover, Concat) else [mover.x]
    steps = [v.op for v in moved]
    inner: dict[Value, Value] = {v: v for v in mover.inputs}
    for v, step in zip(moved, steps, strict=True):
        if not isinstance(step, Dequantize) or not _undoes(op, step) or step.x.tensor.dtype != op.result.tensor.dtype:
            return None
        inner[v] = step.x
    made = mover.clone(inner)
    assert isinstance(made, TensorOp)
    return [b(_typed(made))]


def _typed(op: TensorOp) -> TensorOp:
    """`op` with result types that fit its new operands."""
    for result, type in zip(op.results, op.infer(), strict=True):
        result.type = type
    return op


def _undoes(op: Quantize, step: Dequantize) -> bool:
    """Whether both have one constant step for the whole tensor, the same one."""
    if step.scale.tensor.elements != 1 or op.scale.tensor.elements != 1 or step.block or op.block:
        return False
    pairs = [(op.scale, step.scale), (op.zero, step.zero)]
    for a, z in pairs:
        if a is z:
            continue
        first, second = constant(a), constant(z)
        if a is None or z is None:
            present = first or second
            if present is None or present.array().any():
                return False
            continue
        if first is None or second is None or first.dtype != second.dtype:
            return False
        if not bool((first.array().reshape(()) == second.array().reshape(())).all()):
            return False
    return True


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


PATTERNS: list[Pattern] = [quantize_again, relu_before_quantize, quantize_by_multiplication]
