"""Lowerings of MindIR's elementwise primitives of one operand: elementary functions, rounding, tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from .lower_common import constant, floating, kind_of
from .primitive import Call, Item, primitive

Build: TypeAlias = Callable[[Call, Item], Item]

# -- one operand -------------------------------------------------------------------------------------------------------

_SAME = {"Neg": "Neg", "Sign": "Sign"}
_ROUND = {"Ceil": "Ceil", "Floor": "Floor", "Rint": "Round"}
_FLOATING = {
    "ACos": "Acos", "AcosExt": "Acos", "Acosh": "Acosh", "AcoshExt": "Acosh", "Asin": "Asin", "AsinExt": "Asin",
    "Asinh": "Asinh", "AsinhExt": "Asinh", "Atan": "Atan", "AtanExt": "Atan", "Atanh": "Atanh", "Cos": "Cos",
    "Cosh": "Cosh", "Erf": "Erf", "Exp": "Exp", "Reciprocal": "Reciprocal", "Inv": "Reciprocal", "Sin": "Sin",
    "Sinh": "Sinh", "Sqrt": "Sqrt", "Tan": "Tan",
}  # fmt: skip


def _unary(name: str, operator: str, floats: bool) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = call.tensor(0)
        return call.op(operator, floating(call, x) if floats else x)


for _name, _operator in _SAME.items():
    _unary(_name, _operator, False)
for _name, _operator in _FLOATING.items():
    _unary(_name, _operator, True)


def whole(call: Call, operator: str, x: Item) -> Item:
    """A rounding operator; integers are whole already."""
    return call.op(operator, x) if kind_of(call.element_type(x)) >= 2 else x


def _rounding(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return whole(call, operator, call.tensor(0))


for _name, _operator in _ROUND.items():
    _rounding(_name, _operator)


@primitive("Round")
def round_(call: Call) -> Item:
    """Half to even, at a decimal place."""
    x, decimals = call.tensor(0), call.integer("decimals", 0)
    if decimals == 0 or kind_of(call.element_type(x)) < 2:
        return whole(call, "Round", x)
    scale = constant(call, 10.0 ** abs(decimals), x)
    up, down = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    return call.op(down, call.op("Round", call.op(up, x, scale)), scale)


def truncated(call: Call, x: Item) -> Item:
    """Toward zero."""
    if kind_of(call.element_type(x)) < 2:
        return x
    negative = call.op("Less", x, constant(call, 0, x))
    return call.op("Where", negative, call.op("Ceil", x), call.op("Floor", x))


@primitive("Trunc")
def trunc(call: Call) -> Item:
    """The whole part."""
    return truncated(call, call.tensor(0))


@primitive("Frac")
def frac(call: Call) -> Item:
    """What is behind the point."""
    x = call.tensor(0)
    return call.op("Sub", x, truncated(call, x))


@primitive("Log")
def log(call: Call) -> Item:
    """Natural logarithm of `scale * x + shift`, divided by that of `base` where it has one."""
    x = floating(call, call.tensor(0))
    attributes = call.target.attributes
    scale, shift, base = (
        call.real(n, d) if n in attributes else d for n, d in (("scale", 1.0), ("shift", 0.0), ("base", -1.0))
    )
    if scale != 1:
        x = call.op("Mul", x, constant(call, scale, x))
    if shift != 0:
        x = call.op("Add", x, constant(call, shift, x))
    y = call.op("Log", x)
    return y if base <= 0 else call.op("Div", y, constant(call, math.log(base), y))


def _scaled_log(name: str, base: float) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        y = call.op("Log", floating(call, call.tensor(0)))
        return call.op("Mul", y, constant(call, 1 / math.log(base), y))


_scaled_log("Log2", 2.0)
_scaled_log("Log10", 10.0)


def log1p(call: Call, x: Item) -> Item:
    """`log(1 + x)` without loss near 0: by the logarithm of the rounded sum, corrected by what the rounding was."""
    one = constant(call, 1, x)
    u = call.op("Add", x, one)
    d = call.op("Sub", u, one)
    plain = call.op("Log", u)
    corrected = call.op("Mul", plain, call.op("Div", x, d))
    tiny, huge = call.op("Equal", d, constant(call, 0, x)), call.op("IsInf", u, detect_negative=0)
    return call.op("Where", tiny, x, call.op("Where", huge, plain, corrected))


def expm1(call: Call, x: Item) -> Item:
    """`exp(x) - 1` without loss near 0: by tanh, `2 tanh(x / 2) / (1 - tanh(x / 2))`, where x is small."""
    half = call.op("Tanh", call.op("Mul", x, constant(call, 0.5, x)))
    one = constant(call, 1, x)
    near = call.op("Div", call.op("Add", half, half), call.op("Sub", one, half))
    small = call.op("Less", call.op("Abs", x), one)
    return call.op("Where", small, near, call.op("Sub", call.op("Exp", x), one))


def _composed(name: str, build: Build) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return build(call, floating(call, call.tensor(0)))


def _exp2(call: Call, x: Item) -> Item:
    return call.op("Exp", call.op("Mul", x, constant(call, math.log(2), x)))


def _erfc(call: Call, x: Item) -> Item:
    return call.op("Sub", constant(call, 1, x), call.op("Erf", x))


def _rsqrt(call: Call, x: Item) -> Item:
    return call.op("Reciprocal", call.op("Sqrt", x))


def _sinc(call: Call, x: Item) -> Item:
    zero, one = constant(call, 0, x), constant(call, 1, x)
    angle = call.op("Mul", x, constant(call, math.pi, x))
    return call.op("Where", call.op("Equal", x, zero), one, call.op("Div", call.op("Sin", angle), angle))


for _name, _build in {
    "Log1p": log1p, "Expm1": expm1, "Exp2": _exp2, "Erfc": _erfc, "Rsqrt": _rsqrt, "Sinc": _sinc,
}.items():  # fmt: skip
    _composed(_name, _build)


@primitive("Square")
def square(call: Call) -> Item:
    """`x * x`."""
    x = call.tensor(0)
    return call.op("Mul", x, x)


@primitive("Logit")
def logit(call: Call) -> Item:
    """`log(x / (1 - x))` of x clamped to [eps, 1 - eps] where eps is given and not negative."""
    x = floating(call, call.tensor(0))
    eps = call.datum("eps", -1.0)
    if isinstance(eps, int | float) and eps >= 0:
        x = call.op("Clip", x, constant(call, eps, x), constant(call, 1 - eps, x))
    return call.op("Log", call.op("Div", x, call.op("Sub", constant(call, 1, x), x)))


_ERFINV = (
    (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
     0.246640727, 1.50140941),
    (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
     1.00167406, 2.83297682),
)  # fmt: skip


@primitive("Erfinv")
def erfinv(call: Call) -> Item:
    """Inverse of erf: Giles' polynomials in `w = -log(1 - x * x)`, then a step of Newton's method."""
    x = floating(call, call.tensor(0))
    dtype, x = call.element_type(x), call.cast(floating(call, x), "f64")
    one = constant(call, 1, x)
    product = call.op("Mul", call.op("Sub", one, x), call.op("Add", one, x))
    w = call.op("Neg", call.op("Log", product))
    parts: list[Item] = []
    for coefficients, at in zip(
        _ERFINV,
        (
            call.op("Sub", w, constant(call, 2.5, x)),
            call.op("Sub", call.op("Sqrt", w), constant(call, 3.0, x)),
        ),
        strict=True,
    ):
        p = constant(call, coefficients[0], x)
        for c in coefficients[1:]:
            p = call.op("Add", call.op("Mul", p, at), constant(call, c, x))
        parts.append(p)
    y = call.op("Mul", call.op("Where", call.op("Less", w, constant(call, 5.0, x)), *parts), x)
    slope = call.op("Exp", call.op("Neg", call.op("Mul", y, y)))
    error = call.op(
        "Div", call.op("Sub", call.op("Erf", y), x), call.op("Mul", slope, constant(call, 1.1283791670955126, x))
    )
    edge = call.op("Mul", x, constant(call, math.inf, x))
    inside = call.op("Less", call.op("Abs", x), one)
    return call.cast(call.op("Where", inside, call.op("Sub", y, error), edge), dtype)


def _test(name: str, build: Callable[[Call, Item], Item], of_integers: bool) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = call.tensor(0)
        if kind_of(call.element_type(x)) < 2:
            everywhere = call.op("Equal", x, x)
            return everywhere if of_integers else call.op("Not", everywhere)
        return build(call, x)


def _finite(call: Call, x: Item) -> Item:
    return call.op("Not", call.op("Or", call.op("IsNaN", x), call.op("IsInf", x)))


_test("IsFinite", _finite, True)
_test("IsNan", lambda call, x: call.op("IsNaN", x), False)
_test("IsInf", lambda call, x: call.op("IsInf", x), False)
_test("IsNegInf", lambda call, x: call.op("IsInf", x, detect_positive=0), False)


@primitive("NanToNum")
def nan_to_num(call: Call) -> Item:
    """NaN and infinities become numbers: 0 and the largest ones, where none are given."""
    x = call.tensor(0)
    dtype = call.element_type(x)
    if kind_of(dtype) < 2:
        return x
    most = {"f16": 65504.0, "bf16": 3.3895313892515355e38, "f32": 3.4028234663852886e38}.get(
        dtype, 1.7976931348623157e308
    )
    values = {"nan": 0.0, "posinf": most, "neginf": -most}
    nan, high, low = (
        constant(call, call.real(n) if call.datum(n, None) is not None else d, x) for n, d in values.items()
    )
    x = call.op("Where", call.op("IsNaN", x), nan, x)
    x = call.op("Where", call.op("IsInf", x, detect_negative=0), high, x)
    return call.op("Where", call.op("IsInf", x, detect_positive=0), low, x)


__all__ = ["expm1", "log1p", "truncated", "whole"]
