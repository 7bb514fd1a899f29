"""Elementwise operations: arithmetic, logic, comparison, conversion, activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir.core import REGISTRY, Op
from ...ir.ops import activation, arith, float8
from ...ir.ops.base import Elementwise
from ...ir.types import DTYPES, is_float
from .graph import WRITERS, Scope, Tensor, writes
from .schemas import NUMBERS


def plain(scope: Scope, op: Elementwise) -> Tensor:
    """An operation that is an ONNX operator without attributes."""
    return scope.node(op.names["onnx"], *map(scope.of, op.inputs), dtype=_other(op))


def _other(op: Op) -> str | None:
    """The element type of the result where it is not that of the first operand."""
    dtype = op.result.tensor.dtype
    return None if dtype == op.inputs[0].tensor.dtype and dtype != "bool" else dtype


def register_plain() -> None:
    """Every elementwise operation whose fields are operands and that has an ONNX name."""
    for kind in list(REGISTRY.values()):
        if issubclass(kind, Elementwise) and "onnx" in kind.names and all(f.kind == "operand" for f in kind.fields):
            WRITERS.setdefault(kind, plain)


@writes(arith.Not)
def not_(scope: Scope, op: arith.Not) -> Tensor:
    """Not of bools, BitwiseNot of integers."""
    x = scope.of(op.x)
    return scope.node("Not" if x.dtype == "bool" else "BitwiseNot", x)


@writes(arith.And, arith.Or, arith.Xor)
def logic(scope: Scope, op: arith.And | arith.Or | arith.Xor) -> Tensor:
    """And, Or and Xor of bools, Bitwise* of integers."""
    x, y = scope.of(op.x), scope.of(op.y)
    name = type(op).__name__
    return scope.node(name if x.dtype == "bool" else f"Bitwise{name}", x, y)


@writes(arith.Where)
def where(scope: Scope, op: arith.Where) -> Tensor:
    """Where."""
    x = scope.of(op.x)
    return scope.node("Where", scope.of(op.condition), x, scope.of(op.y), dtype=x.dtype)


@writes(arith.Rsqrt)
def rsqrt(scope: Scope, op: arith.Rsqrt) -> Tensor:
    """The reciprocal of the root."""
    return scope.node("Reciprocal", scope.node("Sqrt", scope.of(op.x)))


@writes(arith.Atan2)
def atan2(scope: Scope, op: arith.Atan2) -> Tensor:
    """The angle's tangent, then its half-plane; 0 at the origin."""
    y, x = scope.of(op.x), scope.of(op.y)
    zero = scope.like(0, x)
    half = scope.node("Where", less(scope, y, zero), scope.like(-math.pi, x), scope.like(math.pi, x), dtype=x.dtype)
    turn = scope.node("Where", less(scope, x, zero), half, zero, dtype=x.dtype)
    angle = scope.node("Add", scope.node("Atan", scope.node("Div", y, x)), turn)
    origin = scope.node("And", equal(scope, x, zero), equal(scope, y, zero))
    return scope.node("Where", origin, zero, angle, dtype=x.dtype)


def less(scope: Scope, x: Tensor, y: Tensor) -> Tensor:
    """`x < y`."""
    return scope.node("Less", x, y, dtype="bool")


def equal(scope: Scope, x: Tensor, y: Tensor) -> Tensor:
    """`x == y`."""
    return scope.node("Equal", x, y, dtype="bool")


@writes(arith.Rem)
def rem(scope: Scope, op: arith.Rem) -> Tensor:
    """Mod with the sign of x."""
    return scope.node("Mod", scope.of(op.x), scope.of(op.y), fmod=1)


@writes(arith.FloorMod)
def floor_mod(scope: Scope, op: arith.FloorMod) -> Tensor:
    """Of floats: the remainder with the sign of x, moved by one divisor where the signs differ."""
    x, y = scope.of(op.x), scope.of(op.y)
    if not is_float(x.dtype):
        return scope.node("Mod", x, y)
    rest, zero = scope.node("Mod", x, y, fmod=1), scope.like(0, x)
    differ = scope.node("Xor", less(scope, rest, zero), less(scope, y, zero))
    moved = scope.node("And", differ, scope.node("Not", equal(scope, rest, zero)))
    return scope.node("Where", moved, scope.node("Add", rest, y), rest, dtype=x.dtype)


@writes(arith.Shl, arith.Shr)
def shift(scope: Scope, op: arith.Shl | arith.Shr) -> Tensor:
    """BitShift of unsigned integers; signed ones by products and quotients of powers of two, as i64."""
    x, y = scope.of(op.x), scope.of(op.y)
    left = isinstance(op, arith.Shl)
    if DTYPES[x.dtype].kind == "uint":
        return scope.node("BitShift", x, y, direction="LEFT" if left else "RIGHT")
    wide, by = scope.cast(x, "i64"), scope.cast(y, "i64")
    zero = scope.scalar(0, "i64")
    inside = scope.node("And", less(scope, by, scope.scalar(DTYPES[x.dtype].bits, "i64")), not_less(scope, by, zero))
    by = scope.node("Where", inside, by, zero, dtype="i64")
    if left:
        shifted = scope.node("Mul", wide, _power(scope, by))
    else:  # in two steps: 2^63 is no i64
        half = scope.node("Div", by, scope.scalar(2, "i64"))
        shifted = _halved(scope, _halved(scope, wide, half), scope.node("Sub", by, half))
    return scope.cast(scope.node("Where", inside, shifted, zero, dtype="i64"), x.dtype)


def _power(scope: Scope, by: Tensor) -> Tensor:
    """`2 ** by` as i64."""
    power = scope.node("BitShift", scope.scalar(1, "u64"), scope.cast(by, "u64"), direction="LEFT")
    return scope.cast(power, "i64")


def _halved(scope: Scope, x: Tensor, by: Tensor) -> Tensor:
    """`floor(x / 2 ** by)`."""
    power = _power(scope, by)
    return scope.node("Div", scope.node("Sub", x, scope.node("Mod", x, power)), power)


def not_less(scope: Scope, x: Tensor, y: Tensor) -> Tensor:
    """`x >= y`."""
    return scope.node("GreaterOrEqual", x, y, dtype="bool")


@writes(arith.Cast)
def cast(scope: Scope, op: arith.Cast) -> Tensor:
    """Cast."""
    x = scope.of(op.x)
    return scope.identity(x) if x.dtype == op.dtype else scope.cast(x, op.dtype)


@writes(float8.FromFloat8)
def from_float8(scope: Scope, op: float8.FromFloat8) -> Tensor:
    """Cast."""
    return scope.cast(scope.of(op.x), "f32")


@writes(float8.ToFloat8)
def to_float8(scope: Scope, op: float8.ToFloat8) -> Tensor:
    """Cast, with how it saturates and rounds."""
    mode = op.rounding if op.dtype == "f8e8m0" and op.rounding != "up" else None
    saturate = None if op.saturate or op.dtype == "f4e2m1" else 0
    return scope.node("Cast", scope.of(op.x), dtype=op.dtype, to=NUMBERS[op.dtype], saturate=saturate, round_mode=mode)


@writes(float8.Bitcast)
def bitcast(scope: Scope, op: float8.Bitcast) -> Tensor:
    """BitCast."""
    return scope.node("BitCast", scope.of(op.x), dtype=op.dtype, to=NUMBERS[op.dtype])


@writes(arith.IsInf)
def is_inf(scope: Scope, op: arith.IsInf) -> Tensor:
    """IsInf."""
    x = scope.of(op.x)
    if x.dtype == "bf16":
        x = scope.cast(x, "f32")
    signs: dict[str, Any] = {
        "detect_positive": None if op.positive else 0,
        "detect_negative": None if op.negative else 0,
    }
    return scope.node("IsInf", x, dtype="bool", **signs)


@writes(activation.Silu)
def silu(scope: Scope, op: activation.Silu) -> Tensor:
    """`x * Sigmoid(x)`."""
    x = scope.of(op.x)
    return scope.node("Mul", x, scope.node("Sigmoid", x))


@writes(activation.LeakyRelu, activation.Elu, activation.Celu, activation.ThresholdedRelu)
def with_alpha(scope: Scope, op: activation.LeakyRelu | activation.Elu) -> Tensor:
    """LeakyRelu, Elu, Celu and ThresholdedRelu."""
    return scope.node(op.names["onnx"], scope.of(op.x), alpha=float(op.alpha))


@writes(activation.Selu)
def selu(scope: Scope, op: activation.Selu) -> Tensor:
    """Selu."""
    return scope.node("Selu", scope.of(op.x), alpha=float(op.alpha), gamma=float(op.gamma))


@writes(activation.HardSigmoid)
def hard_sigmoid(scope: Scope, op: activation.HardSigmoid) -> Tensor:
    """HardSigmoid."""
    return scope.node("HardSigmoid", scope.of(op.x), alpha=float(op.alpha), beta=float(op.beta))


@writes(activation.Gelu)
def gelu(scope: Scope, op: activation.Gelu) -> Tensor:
    """Gelu."""
    return scope.node("Gelu", scope.of(op.x), approximate=op.approximate)


@writes(activation.Clip)
def clip(scope: Scope, op: activation.Clip) -> Tensor:
    """Clip."""
    x = scope.of(op.x)
    if op.low is None and op.high is None:
        return scope.identity(x)
    return scope.node("Clip", x, scope.maybe(op.low), scope.maybe(op.high))


def filled(scope: Scope, value: float, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A constant of one value."""
    return scope.constant(np.full(shape, value, DTYPES[dtype].numpy))


@writes(arith.Minimum, arith.Maximum)
def extreme(scope: Scope, op: arith.Minimum | arith.Maximum) -> Tensor:
    """Min and Max of two."""
    return scope.node("Min" if isinstance(op, arith.Minimum) else "Max", scope.of(op.x), scope.of(op.y))
