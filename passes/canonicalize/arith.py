"""Arithmetic: what does nothing, constants on the right, constants merged.

Floating point: rewrites are exact except that the sign of a zero may change (`x + 0`), and that two constants of one
chain are combined once, in double precision, where the model rounds in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.core import Op, Value
from ...ir.ops.arith import Abs, Add, And, Cast, Div, Maximum, Minimum, Mul, Neg, Not, Or, Pow, Sub, Where, Xor
from ...ir.types import DTYPES, TensorType
from ..rewrite import Builder, Pattern
from .match import compute, constant, floating, is_splat, only_use, splat


def move_constant_right(op: Add | Mul | Maximum | Minimum | And | Or | Xor, b: Builder) -> Sequence[Value] | None:
    """`op(c, x)` -> `op(x, c)`"""
    if constant(op.x) is None or constant(op.y) is not None:
        return None
    return [b(type(op)(op.y, op.x))]


def drop_add_of_zero(op: Add | Sub, b: Builder) -> Sequence[Value] | None:
    """`x + 0`, `x - 0` -> `x`"""
    return [op.x] if is_splat(op.y, 0) and op.x.type == op.result.type else None


def drop_multiply_by_one(op: Mul | Div | Pow, b: Builder) -> Sequence[Value] | None:
    """`x * 1`, `x / 1`, `x ** 1` -> `x`"""
    return [op.x] if is_splat(op.y, 1) and op.x.type == op.result.type else None


def multiply_out(op: Pow, b: Builder) -> Sequence[Value] | None:
    """`x ** 2` -> `x * x`, `x ** 3` -> `x * x * x`; of floats `x ** -1` -> `1 / x`: a library call per element
    otherwise. Within 1.5 ulp; higher powers would round too often."""
    if op.x.type != op.result.type:
        return None
    if is_splat(op.y, -1) and floating(op.result):
        return [b(Div(b.splat(1.0, op.result.tensor.dtype), op.x))]
    if is_splat(op.y, 2):
        return [b(Mul(op.x, op.x))]
    return [b(Mul(b(Mul(op.x, op.x)), op.x))] if is_splat(op.y, 3) else None


def drop_double(op: Neg | Not, b: Builder) -> Sequence[Value] | None:
    """`-(-x)`, `not (not x)` -> `x`"""
    inner = op.x.op
    return [inner.x] if isinstance(inner, Neg | Not) and type(inner) is type(op) else None


def drop_repeated(op: Abs, b: Builder) -> Sequence[Value] | None:
    """`abs(abs(x))` -> `abs(x)`"""
    return [op.x] if isinstance(op.x.op, Abs) else None


def subtract_constant(op: Sub, b: Builder) -> Sequence[Value] | None:
    """`x - c` -> `x + (-c)` for floats, so that additions can merge"""
    c = constant(op.y)
    if c is None or constant(op.x) is not None or not floating(op.result):
        return None
    negative = compute(np.negative, c)
    return None if negative is None else [b(Add(op.x, b.constant(negative)))]


def divide_by_power_of_two(op: Div, b: Builder) -> Sequence[Value] | None:
    """`x / c` -> `x * (1/c)` where every element of c is a power of two with a normal reciprocal: exact"""
    c = constant(op.y)
    if c is None or constant(op.x) is not None or not floating(op.result) or c.elements > 4096 or c.elements == 0:
        return None
    mantissa, exponent = np.frexp(np.abs(c.array().astype(np.float64)))
    limit = {"f16": 14, "f64": 1000}.get(c.dtype, 120)
    if not ((mantissa == 0.5) & (np.abs(exponent) < limit)).all():
        return None
    inverse = compute(np.reciprocal, c)
    return None if inverse is None else [b(Mul(op.x, b.constant(inverse)))]


def merge_constants(op: Add | Mul, b: Builder) -> Sequence[Value] | None:
    """`(x + a) + c` -> `x + (a + c)`, `(x * a) * c` -> `x * (a * c)`; for floats not where the constants would cancel
    each other or leave the range of normal numbers"""
    inner = only_use(op.x, type(op))
    if inner is None:
        return None
    first, second = constant(inner.y), constant(op.y)
    if first is None or second is None:
        return None
    merged = compute(np.add if isinstance(op, Add) else np.multiply, first, second)
    if merged is None or (floating(op.result) and not _harmless(op, first.array(), second.array(), merged.array())):
        return None
    result = type(op)(inner.x, b.constant(merged))
    return [b(result)] if result.result.type == op.result.type else None


def _harmless(op: Op, first: np.ndarray, second: np.ndarray, merged: np.ndarray) -> bool:
    if not np.isfinite(merged.astype(np.float64)).all():
        return False
    if isinstance(op, Add):  # x + 1e8 - 1e8 is meant to round
        largest = np.maximum(np.abs(first.astype(np.float64)).max(), np.abs(second.astype(np.float64)).max())
        return bool(np.abs(merged.astype(np.float64)).max() >= largest * 0.25)
    info = np.finfo(merged.dtype) if merged.dtype.kind == "f" else None
    smallest = float(info.tiny) if info is not None else 1e-38
    vanishes = (np.abs(merged.astype(np.float64)) < smallest) & (first != 0) & (second != 0)
    return not bool(vanishes.any())


def distribute_scale(op: Mul, b: Builder) -> Sequence[Value] | None:
    """`(x * a + s) * c` -> `x * (a * c) + s * c` for constants: one scale and one shift (batch norm, then Mul)"""
    c, shift = constant(op.y), only_use(op.x, Add)
    scale = only_use(shift.x, Mul) if shift is not None else None
    if c is None or shift is None or scale is None or not floating(op.result):
        return None
    a, s = constant(scale.y), constant(shift.y)
    if a is None or s is None:
        return None
    factor, offset = compute(np.multiply, a, c), compute(np.multiply, s, c)
    if factor is None or offset is None:
        return None
    result = Add(b(Mul(scale.x, b.constant(factor))), b.constant(offset))
    return [b(result)] if result.result.type == op.result.type else None


def drop_cast(op: Cast, b: Builder) -> Sequence[Value] | None:
    """A cast to the same type -> its operand; `cast(cast(x, wide), narrow)` -> `x` where x is of the narrow type"""
    if op.x.type == op.result.type:
        return [op.x]
    inner = op.x.op
    if isinstance(inner, Cast) and inner.x.type == op.result.type and _widens(inner.x.tensor, inner.result.tensor):
        return [inner.x]
    return None


def _widens(narrow: TensorType, wide: TensorType) -> bool:
    """True when every value of `narrow` is a value of `wide`."""
    a, z = DTYPES[narrow.dtype], DTYPES[wide.dtype]
    if a.name == "bool":
        return z.kind in ("float", "int", "uint")
    if a.kind == z.kind and a.kind in ("int", "uint"):
        return a.bits <= z.bits
    exact = {("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64")}
    return (a.name, z.name) in exact


def choose(op: Where, b: Builder) -> Sequence[Value] | None:
    """`where(true, x, y)` -> `x`, `where(false, x, y)` -> `y`"""
    condition = splat(op.condition)
    if condition is None:
        return None
    chosen = op.x if condition else op.y
    return [chosen] if chosen.type == op.result.type else None


PATTERNS: list[Pattern] = [
    move_constant_right,
    drop_add_of_zero,
    drop_multiply_by_one,
    multiply_out,
    drop_double,
    drop_repeated,
    subtract_constant,
    divide_by_power_of_two,
    merge_constants,
    distribute_scale,
    drop_cast,
    choose,
]
