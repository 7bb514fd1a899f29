"""Operators on single elements: arithmetic, functions, activations, comparisons, conversions."""

from __future__ import annotations

import math
from typing import Any, cast

from ....ir.expr import as_dim, as_expr
from ....ir.ops.activation import Silu
from ....ir.ops.arith import Atan2, Rsqrt
from ....ir.types import DTYPES
from .base import Build, Item, Number, Operand, aten, kind_of

_INF = float("inf")

# -- functions of one operand -----------------------------------------------------------------------------------------

_REAL = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh", "acosh": "Acosh",
    "atanh": "Atanh", "erf": "Erf", "special_erf": "Erf", "sigmoid": "Sigmoid", "special_expit": "Sigmoid",
    "reciprocal": "Reciprocal", "mish": "Mish", "hardswish": "HardSwish",
    "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
}  # fmt: skip
_SAME = {"neg": "Neg", "abs": "Abs", "sign": "Sign", "relu": "Relu", "sgn": "Sign", "negative": "Neg"}
_ROUNDED = {"floor": "Floor", "ceil": "Ceil", "round": "Round"}


def _unary(operator: str, kind: str) -> Any:
    def lower(b: Build, x: Operand) -> Item:
        item = b.real(x) if kind == "real" else b.tensor(x)
        if kind == "rounded" and kind_of(b.dtype(item)) != "float":
            return item
        return b.op(operator, item)

    return lower


for _table, _kind in ((_REAL, "real"), (_SAME, "same"), (_ROUNDED, "rounded")):
    for _name, _operator in _table.items():
        aten(_name)(_unary(_operator, _kind))


@aten("rsqrt")
def rsqrt(b: Build, x: Operand) -> Item:
    return b.a.make(Rsqrt, b.real(x))


@aten("silu")
def silu(b: Build, x: Operand) -> Item:
    return b.a.make(Silu, b.real(x))


def _scaled_log(factor: float) -> Any:
    def lower(b: Build, x: Operand) -> Item:
        item = b.real(x)
        return b.op("Mul", b.op("Log", item), b.a.like(factor, item))

    return lower


aten("log2")(_scaled_log(1 / math.log(2)))
aten("log10")(_scaled_log(1 / math.log(10)))


@aten("exp2", "special_exp2")
def exp2(b: Build, x: Operand) -> Item:
    item = b.real(x)
    return b.op("Pow", b.a.like(2.0, item), item)


@aten("log1p")
def log1p(b: Build, x: Operand) -> Item:
    """`x log(1 + x) / ((1 + x) - 1)`: the rounding of 1 + x cancels."""
    item = b.real(x)
    one = b.a.like(1.0, item)
    above = b.op("Add", item, one)
    whole = b.op("Mul", item, b.op("Div", b.op("Log", above), b.op("Sub", above, one)))
    plain = b.op("Or", b.op("Equal", above, one), b.op("Not", b.op("Less", above, b.a.like(1e30, item))))
    return b.op("Where", plain, b.op("Where", b.op("Equal", above, one), item, b.op("Log", above)), whole)


@aten("expm1", "special_expm1")
def expm1(b: Build, x: Operand) -> Item:
    """`tanh(x / 2) (exp(x) + 1)`, exact for small x, and `exp(x) - 1` for large."""
    item = b.real(x)
    one, grown = b.a.like(1.0, item), b.op("Exp", item)
    near = b.op("Mul", b.op("Tanh", b.op("Mul", item, b.a.like(0.5, item))), b.op("Add", grown, one))
    return b.op("Where", b.op("Less", b.op("Abs", item), one), near, b.op("Sub", grown, one))


@aten("erfc", "special_erfc")
def erfc(b: Build, x: Operand) -> Item:
    item = b.real(x)
    return b.op("Sub", b.a.like(1.0, item), b.op("Erf", item))


@aten("square")
def square(b: Build, x: Item) -> Item:
    return b.op("Mul", x, x)


@aten("trunc", "fix")
def trunc(b: Build, x: Item) -> Item:
    if kind_of(b.dtype(x)) != "float":
        return x
    return b.op("Where", b.op("Less", x, b.a.like(0.0, x)), b.op("Ceil", x), b.op("Floor", x))


@aten("round.decimals")
def round_decimals(b: Build, x: Item, decimals: int = 0) -> Item:
    if kind_of(b.dtype(x)) != "float":
        return x
    factor = b.a.like(10.0**decimals, x)
    return b.op("Div", b.op("Round", b.op("Mul", x, factor)), factor)


@aten("frac")
def frac(b: Build, x: Item) -> Item:
    return b.op("Sub", x, trunc(b, x))


@aten("logical_not")
def logical_not(b: Build, x: Operand) -> Item:
    return b.op("Not", b.cast(b.tensor(x), "bool"))


@aten("bitwise_not")
def bitwise_not(b: Build, x: Item) -> Item:
    return b.op("Not" if b.dtype(x) == "bool" else "BitwiseNot", x)


@aten("isnan")
def isnan(b: Build, x: Item) -> Item:
    return b.op("IsNaN", b.real(x))


@aten("isinf")
def isinf(b: Build, x: Item) -> Item:
    return b.op("IsInf", b.real(x))


@aten("isposinf")
def isposinf(b: Build, x: Item) -> Item:
    return b.op("IsInf", b.real(x), detect_negative=0)


@aten("isneginf")
def isneginf(b: Build, x: Item) -> Item:
    return b.op("IsInf", b.real(x), detect_positive=0)


@aten("isfinite")
def isfinite(b: Build, x: Item) -> Item:
    return b.op("Less", b.op("Abs", b.real(x)), b.a.like(_INF, b.real(x)))


@aten("nan_to_num")
def nan_to_num(
    b: Build, x: Item, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Item:
    if kind_of(b.dtype(x)) != "float":
        return x
    limits = _float_limits(b.dtype(x))
    result = b.op("Where", b.op("IsNaN", x), b.a.like(nan or 0.0, x), x)
    high = b.a.like(limits if posinf is None else posinf, x)
    low = b.a.like(-limits if neginf is None else neginf, x)
    result = b.op("Where", b.op("IsInf", x, detect_negative=0), high, result)
    return b.op("Where", b.op("IsInf", x, detect_positive=0), low, result)


def _float_limits(dtype: str) -> float:
    import ml_dtypes

    return float(cast(Any, ml_dtypes.finfo(DTYPES[dtype].numpy)).max)


# -- functions of two operands ----------------------------------------------------------------------------------------


def _times(b: Build, x: Operand, alpha: Number) -> Operand:
    """`alpha x`; numbers stay numbers."""
    if alpha == 1:
        return x
    if not isinstance(x, Item) and not isinstance(alpha, float) and not isinstance(x, float):
        return as_dim(as_expr(int(x) if isinstance(x, bool) else x) * alpha)
    if isinstance(x, int | float) and isinstance(alpha, int | float):
        return x * alpha
    return mul(b, x, alpha)


def _arithmetic(b: Build, operator: str, x: Operand, other: Operand) -> Item:
    left, right = b.common(x, other)
    if b.dtype(left) == "bool":  # PyTorch takes + and * of truth values for | and &
        return b.op({"Add": "Or", "Mul": "And", "Sub": "Xor"}[operator], left, right)
    return b.op(operator, left, right)


@aten("add.Tensor", "add.Scalar")
def add(b: Build, x: Operand, other: Operand, alpha: Number = 1) -> Item:
    return _arithmetic(b, "Add", x, _times(b, other, alpha))


@aten("sub.Tensor", "sub.Scalar", "subtract.Tensor")
def sub(b: Build, x: Operand, other: Operand, alpha: Number = 1) -> Item:
    return _arithmetic(b, "Sub", x, _times(b, other, alpha))


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(b: Build, x: Operand, other: Operand, alpha: Number = 1) -> Item:
    return _arithmetic(b, "Sub", other, _times(b, x, alpha))


@aten("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def mul(b: Build, x: Operand, other: Operand) -> Item:
    return _arithmetic(b, "Mul", x, other)


@aten("div.Tensor", "div.Scalar", "true_divide.Tensor", "divide.Tensor")
def div(b: Build, x: Operand, other: Operand) -> Item:
    return b.op("Div", *b.reals(x, other))


@aten("div.Tensor_mode", "div.Scalar_mode", "divide.Tensor_mode")
def div_mode(b: Build, x: Operand, other: Operand, rounding_mode: str | None = None) -> Item:
    if rounding_mode is None:
        return div(b, x, other)
    left, right = b.common(x, other)
    if kind_of(b.dtype(left)) == "float":
        quotient = b.op("Div", left, right)
        return b.op("Floor", quotient) if rounding_mode == "floor" else trunc(b, quotient)
    if rounding_mode == "trunc":
        return b.op("Div", left, right)
    return b.op("Div", b.op("Sub", left, b.op("Mod", left, right)), right)


@aten("floor_divide", "floor_divide.Scalar")
def floor_divide(b: Build, x: Operand, other: Operand) -> Item:
    return div_mode(b, x, other, "floor")


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(b: Build, x: Operand, other: Operand) -> Item:
    left, right = b.common(x, other)
    if kind_of(b.dtype(left)) != "float":
        return b.op("Mod", left, right)
    rest = b.op("Mod", left, right, fmod=1)
    zero = b.a.like(0.0, left)
    differs = b.op("Less", b.op("Mul", b.op("Sign", rest), b.op("Sign", right)), zero)
    return b.op("Where", differs, b.op("Add", rest, right), rest)


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(b: Build, x: Operand, other: Operand) -> Item:
    return b.op("Mod", *b.common(x, other), fmod=1)


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar", "float_power.Tensor_Scalar")
def power(b: Build, x: Operand, exponent: Operand) -> Item:
    left, right = b.common(x, exponent)
    if not isinstance(exponent, Item | float) or (isinstance(exponent, float) and kind_of(b.dtype(left)) == "float"):
        simple = {2: lambda: b.op("Mul", left, left), 1: lambda: left, 0.5: lambda: b.op("Sqrt", left)}
        simple[3] = lambda: b.op("Mul", b.op("Mul", left, left), left)
        if kind_of(b.dtype(left)) == "float":
            simple[-1] = lambda: b.op("Reciprocal", left)
            simple[-0.5] = lambda: rsqrt(b, left)
        if not isinstance(exponent, Item) and exponent in simple:
            return simple[exponent]()  # type: ignore[index]
    return b.op("Pow", left, right)


@aten("atan2", "arctan2")
def atan2(b: Build, x: Operand, other: Operand) -> Item:
    return b.a.make(Atan2, *b.reals(x, other))


def _extreme(operator: str, logical: str) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        left, right = b.common(x, other)
        return b.op(logical if b.dtype(left) == "bool" else operator, left, right)

    return lower


maximum = aten("maximum", "max.other")(_extreme("Max", "Or"))
minimum = aten("minimum", "min.other")(_extreme("Min", "And"))


def _without_nan(extreme: Any) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        left, right = b.common(x, other)
        if kind_of(b.dtype(left)) != "float":
            return extreme(b, left, right)
        chosen = b.op("Where", b.op("IsNaN", right), left, extreme(b, left, right))
        return b.op("Where", b.op("IsNaN", left), right, chosen)

    return lower


aten("fmax")(_without_nan(maximum))
aten("fmin")(_without_nan(minimum))


@aten("clamp", "clamp.Tensor", "clip")
def clamp(b: Build, x: Item, min: Operand | None = None, max: Operand | None = None) -> Item:
    dtype = b.result_type(x, *(v for v in (min, max) if v is not None))
    x = b.cast(x, dtype)
    if all(v is None or not isinstance(v, Item) or b.rank(v) == 0 for v in (min, max)):
        bounds = [None if v is None else b.tensor(v, dtype) for v in (min, max)]
        return b.op("Clip", x, *bounds)
    if min is not None:
        x = b.op("Max", x, b.tensor(min, dtype))
    return x if max is None else b.op("Min", x, b.tensor(max, dtype))


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(b: Build, x: Item, min: Operand) -> Item:
    return clamp(b, x, min)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(b: Build, x: Item, max: Operand) -> Item:
    return clamp(b, x, None, max)


def _comparison(operator: str, negated: bool = False) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        left, right = b.common(x, other)
        if b.dtype(left) == "bool" and operator != "Equal":
            left, right = b.cast(left, "i32"), b.cast(right, "i32")
        found = b.op(operator, left, right)
        return b.op("Not", found) if negated else found

    return lower


_COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
_LONG = {"eq": "equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "ne": "not_equal"}
for _name, _operator in [*_COMPARISONS.items(), ("ne", "Equal")]:
    _lower = _comparison(_operator, _name == "ne")
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_lower)
    if _name not in ("eq",):
        aten(f"{_LONG[_name]}.Tensor")(_lower)


@aten("isclose")
def isclose(b: Build, x: Item, other: Item, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Item:
    left, right = b.reals(x, other)
    allowed = b.op("Add", b.op("Mul", b.op("Abs", right), b.a.like(rtol, left)), b.a.like(atol, left))
    near = b.op("LessOrEqual", b.op("Abs", b.op("Sub", left, right)), allowed)
    near = b.op("Or", near, b.op("Equal", left, right))
    if equal_nan:
        near = b.op("Or", near, b.op("And", b.op("IsNaN", left), b.op("IsNaN", right)))
    return near


def _logical(operator: str) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        return b.op(operator, b.tensor(x, "bool"), b.tensor(other, "bool"))

    return lower


for _name, _operator in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    aten(f"logical_{_name}")(_logical(_operator))


def _bitwise(name: str) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        left, right = b.common(x, other)
        return b.op(name if b.dtype(left) == "bool" else f"Bitwise{name}", left, right)

    return lower


for _name, _operator in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    aten(f"bitwise_{_name}.Tensor", f"bitwise_{_name}.Scalar", f"__{_name}__.Tensor", f"__{_name}__.Scalar")(
        _bitwise(_operator)
    )


def _shift(direction: str) -> Any:
    def lower(b: Build, x: Operand, other: Operand) -> Item:
        left, right = b.common(x, other)
        return b.op("BitShift", left, right, direction=direction)

    return lower


for _name, _operator in {"left": "LEFT", "right": "RIGHT"}.items():
    aten(f"bitwise_{_name}_shift.Tensor", f"bitwise_{_name}_shift.Tensor_Scalar")(_shift(_operator))
    aten(f"__{_name[0]}shift__.Tensor", f"__{_name[0]}shift__.Scalar")(_shift(_operator))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(b: Build, condition: Item, x: Operand, other: Operand) -> Item:
    return b.op("Where", b.cast(condition, "bool"), *b.common(x, other))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(b: Build, x: Item, mask: Item, value: Operand) -> Item:
    return b.op("Where", b.cast(mask, "bool"), b.tensor(value, b.dtype(x)), x)


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(b: Build, x: Item, end: Item, weight: Operand) -> Item:
    return add(b, x, mul(b, weight, sub(b, end, x)))


@aten("addcmul")
def addcmul(b: Build, x: Item, tensor1: Item, tensor2: Item, value: Number = 1) -> Item:
    return add(b, x, _times(b, mul(b, tensor1, tensor2), value))


@aten("addcdiv")
def addcdiv(b: Build, x: Item, tensor1: Item, tensor2: Item, value: Number = 1) -> Item:
    return add(b, x, _times(b, div(b, tensor1, tensor2), value))


@aten("hypot")
def hypot(b: Build, x: Item, other: Item) -> Item:
    left, right = b.reals(x, other)
    return b.op("Sqrt", b.op("Add", b.op("Mul", left, left), b.op("Mul", right, right)))


@aten("copysign.Tensor", "copysign.Scalar")
def copysign(b: Build, x: Operand, other: Operand) -> Item:
    left, right = b.reals(x, other)
    size = b.op("Abs", left)
    zero = b.a.like(0.0, left)
    # The sign of -0 is seen in its reciprocal.
    negative = b.op("Less", b.op("Where", b.op("Equal", right, zero), b.op("Reciprocal", right), right), zero)
    return b.op("Where", negative, b.op("Neg", size), size)


@aten("heaviside")
def heaviside(b: Build, x: Item, values: Item) -> Item:
    left, right = b.common(x, values)
    zero, one = b.a.like(0, left), b.a.like(1, left)
    step = b.op("Where", b.op("Less", left, zero), zero, one)
    return b.op("Where", b.op("Equal", left, zero), right, step)


@aten("xlogy.Tensor", "xlogy.Scalar_Other", "xlogy.Scalar_Self", "special_xlogy")
def xlogy(b: Build, x: Operand, other: Operand) -> Item:
    left, right = b.reals(x, other)
    zero = b.a.like(0.0, left)
    none = b.op("And", b.op("Equal", left, zero), b.op("Not", b.op("IsNaN", right)))
    return b.op("Where", none, zero, b.op("Mul", left, b.op("Log", right)))


@aten("logaddexp")
def logaddexp(b: Build, x: Item, other: Item) -> Item:
    left, right = b.reals(x, other)
    low = b.op("Neg", b.op("Abs", b.op("Sub", left, right)))
    return b.op("Add", b.op("Max", left, right), log1p(b, b.op("Exp", low)))


__all__ = ["add", "clamp", "div", "expm1", "maximum", "minimum", "mul", "sub", "where"]
