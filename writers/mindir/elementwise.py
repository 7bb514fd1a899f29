"""Elementwise operations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir.core import Op, Value
from ...ir.ops import activation, arith
from ...ir.ops.base import Elementwise
from ...ir.types import DTYPES, TensorType, is_float
from .net import Net, Ref, lowers, type_of
from .proto import type_id

_NAMES: dict[type[Elementwise], str] = {
    arith.Add: "Add", arith.Sub: "Sub", arith.Mul: "Mul", arith.Minimum: "Minimum", arith.Maximum: "Maximum",
    arith.Atan2: "Atan2", arith.Less: "Less", arith.LessEqual: "LessEqual", arith.Greater: "Greater",
    arith.GreaterEqual: "GreaterEqual", arith.Equal: "Equal", arith.Abs: "Abs", arith.Neg: "Neg", arith.Exp: "Exp",
    arith.Sqrt: "Sqrt", arith.Rsqrt: "Rsqrt", arith.Reciprocal: "Reciprocal", arith.Sin: "Sin", arith.Cos: "Cos",
    arith.Tan: "Tan", arith.Asin: "Asin", arith.Acos: "ACos", arith.Atan: "Atan", arith.Sinh: "Sinh",
    arith.Cosh: "Cosh", arith.Tanh: "Tanh", arith.Asinh: "Asinh", arith.Acosh: "Acosh", arith.Atanh: "Atanh",
    arith.Erf: "Erf", arith.Floor: "Floor", arith.Ceil: "Ceil", arith.Sigmoid: "Sigmoid",
    activation.Relu: "ReLU", activation.Silu: "SiLU",
}  # fmt: skip
_WITH_ATTRIBUTES: dict[type[Elementwise], str] = {
    arith.IsNaN: "IsNan", activation.Mish: "Mish", activation.Softplus: "Softplus", activation.Softsign: "Softsign",
}  # fmt: skip


@lowers(*_NAMES)
def plain(net: Net, op: Elementwise) -> Ref:
    """A primitive with the same operands."""
    return net.prim(_NAMES[type(op)], *map(net.of, op.inputs), type=type_of(op))


@lowers(*_WITH_ATTRIBUTES)
def old(net: Net, op: Elementwise) -> Ref:
    """A primitive of the older kind, without options."""
    return net.prim(_WITH_ATTRIBUTES[type(op)], *map(net.of, op.inputs), type=type_of(op), attributes={})


@lowers(arith.Sign)
def sign(net: Net, op: arith.Sign) -> Ref | Value:
    """Sign, which takes no bytes."""
    dtype = op.x.tensor.dtype
    if not is_float(dtype) and DTYPES[dtype].bits < 32:
        return cast_to(net, net.make(arith.Sign, cast_to(net, op.x, "i32")), dtype)
    return net.prim("Sign", net.of(op.x), type=type_of(op))


@lowers(arith.Log)
def log(net: Net, op: arith.Log) -> Ref:
    """Log."""
    return net.prim("Log", net.of(op.x), type=type_of(op))


@lowers(arith.Div)
def div(net: Net, op: arith.Div) -> Ref | Value:
    """Div; of integers the quotient of absolute values with a sign, as MindSpore's Div gives floats and rounds down."""
    if is_float(op.x.tensor.dtype):
        return net.prim("Div", net.of(op.x), net.of(op.y), type=type_of(op))
    if DTYPES[op.x.tensor.dtype].kind == "uint":
        return net.prim("FloorDiv", net.of(op.x), net.of(op.y), type=type_of(op))
    x, y = net.make(arith.Abs, op.x), net.make(arith.Abs, op.y)
    size = net.prim("FloorDiv", net.of(x), net.of(y), type=type_of(op))
    sign = net.make(arith.Mul, net.make(arith.Sign, op.x), net.make(arith.Sign, op.y))
    return net.prim("Mul", size, net.of(sign), type=type_of(op))


@lowers(arith.FloorMod)
def floor_mod(net: Net, op: arith.FloorMod) -> Ref:
    """FloorMod."""
    return net.prim("FloorMod", net.of(op.x), net.of(op.y), type=type_of(op))


@lowers(arith.Rem)
def rem(net: Net, op: arith.Rem) -> Ref | Value:
    """Mod of floats; of integers what the quotient leaves."""
    if is_float(op.x.tensor.dtype):
        return net.prim("Mod", net.of(op.x), net.of(op.y), type=type_of(op), attributes={})
    whole = net.make(arith.Mul, net.make(arith.Div, op.x, op.y), op.y)
    return net.make(arith.Sub, op.x, whole)


@lowers(arith.Pow)
def power(net: Net, op: arith.Pow) -> Ref | Value:
    """Pow of operands of one type."""
    if op.x.tensor.dtype != op.y.tensor.dtype:
        wide = op.y.tensor.dtype if is_float(op.y.tensor.dtype) else op.x.tensor.dtype
        result = net.make(arith.Pow, cast_to(net, op.x, wide), cast_to(net, op.y, wide))
        return cast_to(net, result, op.x.tensor.dtype)
    return net.prim("Pow", net.of(op.x), net.of(op.y), type=type_of(op))


def cast_to(net: Net, x: Value, dtype: str) -> Value:
    """`x` as another element type; nothing where it is."""
    return x if x.tensor.dtype == dtype else net.make(arith.Cast, x, dtype)


@lowers(arith.Round)
def round_(net: Net, op: arith.Round) -> Ref:
    """Round to no decimals."""
    return net.prim("Round", net.of(op.x), 0, type=type_of(op))


@lowers(arith.Not)
def not_(net: Net, op: arith.Not) -> Ref | Value:
    """LogicalNot; of integers `-1 - x`."""
    dtype = op.x.tensor.dtype
    if dtype == "bool":
        return net.prim("LogicalNot", net.of(op.x), type=type_of(op))
    top = (1 << DTYPES[dtype].bits) - 1 if DTYPES[dtype].kind == "uint" else -1
    return net.make(arith.Sub, net.number(top, dtype), op.x)


@lowers(arith.And, arith.Or, arith.Xor)
def logic(net: Net, op: arith.And | arith.Or | arith.Xor) -> Ref:
    """Logical* of bools, Bitwise* of integers."""
    x, y = net.of(op.x), net.of(op.y)
    name = type(op).__name__
    if x.dtype != "bool":
        return net.prim(f"Bitwise{name}", x, y, type=type_of(op), attributes={})
    return net.prim("NotEqual" if name == "Xor" else f"Logical{name}", x, y, type=type_of(op))


@lowers(arith.Where)
def where(net: Net, op: arith.Where) -> Ref:
    """Select."""
    return net.prim("Select", net.of(op.condition), net.of(op.x), net.of(op.y), type=type_of(op))


@lowers(arith.Cast)
def cast(net: Net, op: arith.Cast) -> Ref:
    """Cast; to bool by a comparison."""
    x = net.of(op.x)
    if op.dtype == "bool" and x.dtype != "bool":
        return net.prim("NotEqual", x, net.like(0, x), type=type_of(op))
    return net.prim("Cast", x, type_id(op.dtype), type=type_of(op))


@lowers(arith.IsInf)
def is_inf(net: Net, op: arith.IsInf) -> Value:
    """Comparisons with infinity."""
    dtype = op.x.tensor.dtype
    found = [
        net.make(arith.Equal, op.x, net.number(sign * math.inf, dtype))
        for sign, wanted in ((1, op.positive), (-1, op.negative))
        if wanted
    ]
    if not found:
        return net.make(arith.Less, op.x, net.number(-math.inf, dtype))
    return found[0] if len(found) == 1 else net.make(arith.Or, found[0], found[1])


@lowers(arith.Shl, arith.Shr)
def shift(net: Net, op: arith.Shl | arith.Shr) -> Value:
    """Products and quotients of powers of two, as i64; nothing stays of shifts by the width or more."""
    dtype, bits = op.x.tensor.dtype, DTYPES[op.x.tensor.dtype].bits
    x, y = cast_to(net, op.x, "i64"), cast_to(net, op.y, "i64")
    table = net.array(np.array([1 << i if i < 63 else -(1 << 63) for i in range(64)], np.int64))
    from ...ir.ops.indexing import Gather

    zero = net.number(0, "i64")
    inside = net.make(
        arith.And, net.make(arith.Less, y, net.number(bits, "i64")), net.make(arith.GreaterEqual, y, zero)
    )
    factor = net.make(Gather, table, net.make(arith.Where, inside, y, zero), 0)
    if isinstance(op, arith.Shl):
        shifted = net.make(arith.Mul, x, factor)
    else:
        rest = net.make(arith.FloorMod, x, factor)
        shifted = net.make(arith.Div, net.make(arith.Sub, x, rest), factor)
    return cast_to(net, net.make(arith.Where, inside, shifted, zero), dtype)


# -- activations ------------------------------------------------------------------------------------------------------


def wide(function: Any) -> Any:
    """Computes f16 and bf16 in f32, as planish does."""

    def lowered(net: Net, op: Op) -> Any:
        x: Value = getattr(op, "x")  # noqa: B009 (operations of this family have one)
        dtype = x.tensor.dtype
        if dtype not in ("f16", "bf16"):
            return function(net, op, x)
        return cast_to(net, function(net, op, cast_to(net, x, "f32")), dtype)

    return lowered


def _number(net: Net, x: Value, value: float) -> Value:
    return net.number(value, x.tensor.dtype)


def _leaky(net: Net, op: activation.LeakyRelu, x: Value) -> Value:
    scaled = net.make(arith.Mul, x, _number(net, x, op.alpha))
    if 0 <= op.alpha <= 1:
        return net.make(arith.Maximum, scaled, x)
    return net.make(arith.Where, net.make(arith.Less, x, _number(net, x, 0)), scaled, x)


def _expm1(net: Net, x: Value) -> Value:
    ref = net.prim("Expm1", net.of(x), type=x.tensor)
    made = Value(x.tensor)
    net.define(made, ref)
    return made


def _elu(net: Net, op: activation.Elu, x: Value) -> Value:
    low = net.make(arith.Minimum, x, _number(net, x, 0))
    bent = net.make(arith.Mul, _expm1(net, low), _number(net, x, op.alpha))
    return net.make(arith.Where, net.make(arith.Greater, x, _number(net, x, 0)), x, bent)


def _selu(net: Net, op: activation.Selu, x: Value) -> Value:
    inner = net.make(activation.Elu, x, op.alpha)
    return net.make(arith.Mul, inner, _number(net, x, op.gamma))


def _celu(net: Net, op: activation.Celu, x: Value) -> Value:
    zero, alpha = _number(net, x, 0), _number(net, x, op.alpha)
    bent = net.make(arith.Mul, _expm1(net, net.make(arith.Div, net.make(arith.Minimum, x, zero), alpha)), alpha)
    return net.make(arith.Add, net.make(arith.Maximum, x, zero), bent)


def _thresholded(net: Net, op: activation.ThresholdedRelu, x: Value) -> Value:
    above = net.make(arith.Greater, x, _number(net, x, op.alpha))
    return net.make(arith.Where, above, x, _number(net, x, 0))


def _clamped(net: Net, x: Value, alpha: float, beta: float) -> Value:
    line = net.make(arith.Add, net.make(arith.Mul, x, _number(net, x, alpha)), _number(net, x, beta))
    low = net.make(arith.Maximum, line, _number(net, x, 0))
    return net.make(arith.Minimum, low, _number(net, x, 1))


def _hard_sigmoid(net: Net, op: activation.HardSigmoid, x: Value) -> Value:
    return _clamped(net, x, op.alpha, op.beta)


def _hard_swish(net: Net, op: activation.HardSwish, x: Value) -> Value:
    return net.make(arith.Mul, x, _clamped(net, x, 1 / 6, 0.5))


def _gelu(net: Net, op: activation.Gelu, x: Value) -> Value:
    """By erf, or by tanh as a sigmoid: MindSpore's tanh is approximate."""
    if op.approximate == "tanh":
        cube = net.make(arith.Mul, x, net.make(arith.Mul, x, x))
        inner = net.make(arith.Add, x, net.make(arith.Mul, cube, _number(net, x, 0.044715)))
        scaled = net.make(arith.Mul, inner, _number(net, x, 2 * math.sqrt(2 / math.pi)))
        return net.make(arith.Mul, x, net.make(arith.Sigmoid, scaled))
    bent = net.make(arith.Erf, net.make(arith.Mul, x, _number(net, x, math.sqrt(0.5))))
    half = net.make(arith.Mul, x, _number(net, x, 0.5))
    return net.make(arith.Mul, half, net.make(arith.Add, bent, _number(net, x, 1)))


for _kind, _function in (
    (activation.LeakyRelu, _leaky),
    (activation.Elu, _elu),
    (activation.Selu, _selu),
    (activation.Celu, _celu),
    (activation.ThresholdedRelu, _thresholded),
    (activation.HardSigmoid, _hard_sigmoid),
    (activation.HardSwish, _hard_swish),
    (activation.Gelu, _gelu),
):
    lowers(_kind)(wide(_function))


@lowers(activation.PRelu)
def prelu(net: Net, op: activation.PRelu) -> Value:
    """A choice between x and a product."""
    low = net.make(arith.Less, op.x, net.number(0, op.x.tensor.dtype))
    return net.make(arith.Where, low, net.make(arith.Mul, op.x, op.slope), op.x)


@lowers(activation.Clip)
def clip(net: Net, op: activation.Clip) -> Value:
    """Maximum, then Minimum."""
    x = op.x
    if op.low is not None:
        x = net.make(arith.Maximum, x, op.low)
    return x if op.high is None else net.make(arith.Minimum, x, op.high)


def tensor_like(x: Value, dtype: str) -> TensorType:
    """The type of `x` with another element type."""
    return TensorType(dtype, x.tensor.shape)
