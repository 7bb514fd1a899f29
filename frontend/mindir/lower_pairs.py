"""Lowerings of MindIR's elementwise primitives of two and more operands: arithmetic, comparisons, logic, bits."""

from __future__ import annotations

import math

from ...ir.ops.arith import Atan2, Shl, Shr
from .lower_common import constant, floating, kind_of, operands, pair
from .lower_math import log1p, truncated, whole
from .primitive import Call, Item, primitive

# -- two operands ------------------------------------------------------------------------------------------------------


def _binary(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return arithmetic(call, operator, *pair(call))


def arithmetic(call: Call, operator: str, x: Item, y: Item) -> Item:
    """An arithmetic operator; of bools, sums are "or" and products "and"."""
    if call.element_type(x) == "bool" and operator in ("Add", "Mul", "Max", "Min"):
        operator = {"Add": "Or", "Max": "Or"}.get(operator, "And")
    return call.op(operator, x, y)


for _name, _operator in {
    "Add": "Add", "AddV2": "Add", "TensorAdd": "Add", "Sub": "Sub", "Mul": "Mul", "Muls": "Mul", "Maximum": "Max",
    "Minimum": "Min",
}.items():  # fmt: skip
    _binary(_name, _operator)


def divided(call: Call, x: Item, y: Item, rounding: str = "") -> Item:
    """`x / y`: true (integers become f32), or rounded by "floor" or "trunc"."""
    integers = kind_of(call.element_type(x)) < 2
    if not rounding:
        return call.op("Div", floating(call, x), floating(call, y))
    quotient = call.op("Div", x, y)
    if not integers:
        return whole(call, "Floor", quotient) if rounding == "floor" else truncated(call, quotient)
    if rounding == "trunc":
        return quotient
    # Integers truncate: one less where the signs differ and something remains.
    remainder = call.op("Mod", x, y, fmod=0)
    inexact = call.op("Sub", x, remainder)
    return call.op("Div", inexact, y)


@primitive("Div", "RealDiv", "Divs")
def div(call: Call) -> Item:
    """True division; of integers, what the file says: f32, or integers rounded toward zero."""
    x, y = pair(call)
    dtype = call.result_dtype or "f32"
    if kind_of(call.element_type(x)) < 2 and dtype in ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"):
        return divided(call, x, y, "trunc")
    return divided(call, x, y)


@primitive("FloorDiv", "FloorDivScalar")
def floor_div(call: Call) -> Item:
    """Division rounded down."""
    return divided(call, *pair(call), "floor")


@primitive("TruncateDiv")
def truncate_div(call: Call) -> Item:
    """Division rounded toward zero."""
    return divided(call, *pair(call), "trunc")


@primitive("DivMod", "DivMods")
def div_mod(call: Call) -> Item:
    """Division, rounded as the third argument says (None: not at all, 1: trunc, 2: floor)."""
    mode = call.datum("rounding_mode", None)
    words = {None: "", 1: "trunc", 2: "floor", "trunc": "trunc", "floor": "floor"}
    if not isinstance(mode, int | str | None) or mode not in words:
        raise call.error(f"rounding_mode: expected trunc or floor, got {mode!r}")
    return divided(call, *pair(call), words[mode])


def _remainder(fmod: int, *names: str) -> None:
    @primitive(*names)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return call.op("Mod", *pair(call), fmod=fmod)


_remainder(0, "FloorMod", "RemainderTensorTensor", "RemainderTensorScalar", "RemainderScalarTensor")
_remainder(1, "TruncateMod", "FmodTensor", "FmodScalar", "Mod")


def without(call: Call, test: Item, value: Item) -> Item:
    """`value`, and 0 where `test` holds."""
    return call.op("Where", test, constant(call, 0, value), value)


@primitive("DivNoNan")
def div_no_nan(call: Call) -> Item:
    """`x / y`, 0 where y is 0."""
    x, y = pair(call)
    return without(call, call.op("Equal", y, constant(call, 0, y)), call.op("Div", x, y))


@primitive("MulNoNan")
def mul_no_nan(call: Call) -> Item:
    """`x * y`, 0 where y is 0."""
    x, y = pair(call)
    return without(call, call.op("Equal", y, constant(call, 0, y)), call.op("Mul", x, y))


@primitive("Xdivy")
def xdivy(call: Call) -> Item:
    """`x / y`, 0 where x is 0."""
    x, y = pair(call)
    return without(call, call.op("Equal", x, constant(call, 0, x)), call.op("Div", x, y))


@primitive("Xlogy", "XLogYScalarOther", "XLogYScalarSelf")
def xlogy(call: Call) -> Item:
    """`x * log(y)`, 0 where x is 0 and y is not NaN."""
    x, y = (floating(call, i) for i in pair(call))
    return without(
        call,
        call.op("And", call.op("Equal", x, constant(call, 0, x)), call.op("Equal", y, y)),
        call.op("Mul", x, call.op("Log", y)),
    )


@primitive("Pow", "PowTensorScalar", "PowScalarTensor")
def pow_(call: Call) -> Item:
    """`x` to the power of `y`; squares and roots as such."""
    x, y = pair(call)
    exponent = call[1]
    array = call.a.array(call.item(exponent)) if isinstance(exponent, Item) else None
    value = (
        exponent
        if isinstance(exponent, int | float)
        else array.item()
        if array is not None and array.size == 1
        else None
    )
    same = not isinstance(exponent, Item) or call.shape(exponent) == ()
    if same and value == 2:
        return call.op("Mul", x, x)
    if same and value == 0.5 and kind_of(call.element_type(x)) == 2:
        return call.op("Sqrt", x)
    return call.op("Pow", x, y)


@primitive("Atan2", "Atan2Ext")
def atan2(call: Call) -> Item:
    """The angle of the point (other, input)."""
    return call.make(Atan2, *(floating(call, i) for i in pair(call)))


@primitive("SquaredDifference")
def squared_difference(call: Call) -> Item:
    """`(x - y) ** 2`."""
    d = call.op("Sub", *pair(call))
    return call.op("Mul", d, d)


def scaled_sum(call: Call, operator: str) -> Item:
    """`input + alpha * other`, or with a minus."""
    alpha = call.datum("alpha", 1)
    x, y = pair(call)
    if alpha != 1:
        x, y, factor = operands(call, x, y, alpha)
        y = call.op("Mul", y, factor)
    return arithmetic(call, operator, x, y)


@primitive("AddExt", "AddScalar")
def add_ext(call: Call) -> Item:
    """`input + alpha * other`."""
    return scaled_sum(call, "Add")


@primitive("SubExt", "SubScalar")
def sub_ext(call: Call) -> Item:
    """`input - alpha * other`."""
    return scaled_sum(call, "Sub")


@primitive("Addcmul", "AddcmulExt")
def addcmul(call: Call) -> Item:
    """`input + value * tensor1 * tensor2`."""
    x, a, b, value = operands(call, *(call.datum(n) for n in ("input", "tensor1", "tensor2", "value")))
    return call.op("Add", x, call.op("Mul", call.op("Mul", a, b), value))


@primitive("Addcdiv", "AddcdivExt")
def addcdiv(call: Call) -> Item:
    """`input + value * tensor1 / tensor2`."""
    x, a, b, value = operands(call, *(call.datum(n) for n in ("input", "tensor1", "tensor2", "value")))
    return call.op("Add", x, call.op("Mul", call.op("Div", a, b), value))


@primitive("Lerp", "LerpScalar")
def lerp(call: Call) -> Item:
    """`input + weight * (end - input)`."""
    x, end, weight = operands(call, *(call.datum(n) for n in ("input", "end", "weight")))
    return call.op("Add", x, call.op("Mul", weight, call.op("Sub", end, x)))


def log_add_exp(call: Call, x: Item, y: Item) -> Item:
    """`log(exp(x) + exp(y))`."""
    top, low = call.op("Max", x, y), call.op("Min", x, y)
    sum_ = call.op("Add", top, log1p(call, call.op("Exp", call.op("Sub", low, top))))
    return call.op("Where", call.op("Equal", low, top), call.op("Add", top, constant(call, math.log(2), x)), sum_)


@primitive("LogAddExp")
def log_add_exp_(call: Call) -> Item:
    """`log(exp(x) + exp(y))`."""
    return log_add_exp(call, *(floating(call, i) for i in pair(call)))


@primitive("LogAddExp2")
def log_add_exp2(call: Call) -> Item:
    """`log2(2 ** x + 2 ** y)`."""
    x, y = (floating(call, i) for i in pair(call))
    two = constant(call, math.log(2), x)
    return call.op("Div", log_add_exp(call, call.op("Mul", x, two), call.op("Mul", y, two)), two)


@primitive("Hypot")
def hypot(call: Call) -> Item:
    """`sqrt(x * x + y * y)` without overflow."""
    x, y = (call.op("Abs", i) for i in pair(call))
    top, low = call.op("Max", x, y), call.op("Min", x, y)
    ratio = without(call, call.op("Equal", top, constant(call, 0, x)), call.op("Div", low, top))
    return call.op("Mul", top, call.op("Sqrt", call.op("Add", call.op("Mul", ratio, ratio), constant(call, 1, x))))


@primitive("Heaviside")
def heaviside(call: Call) -> Item:
    """0 below zero, 1 above, `values` at zero."""
    x, values = pair(call)
    zero, one = constant(call, 0, x), constant(call, 1, x)
    step = call.op("Where", call.op("Less", x, zero), zero, one)
    return call.op("Where", call.op("Equal", x, zero), values, step)


@primitive("Fmax", "Fmin")
def f_extreme(call: Call) -> Item:
    """The larger or smaller of two, of which NaN is neither."""
    x, y = pair(call)
    if kind_of(call.element_type(x)) < 2:
        return call.op("Max" if call.name == "Fmax" else "Min", x, y)
    x, y = (call.op("Where", call.op("IsNaN", a), b, a) for a, b in ((x, y), (y, x)))
    return call.op("Max" if call.name == "Fmax" else "Min", x, y)


@primitive("AddN", "AccumulateNV2")
def add_n(call: Call) -> Item:
    """The sum of a tuple of tensors."""
    first = call[0]
    items = [call.item(d) for d in (first if isinstance(first, tuple) else call.given)]
    return items[0] if len(items) == 1 else call.op("Sum", *items)


# -- comparisons, logic, bits ------------------------------------------------------------------------------------------


def _comparison(name: str, operator: str, negate: bool = False) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        found = call.op(operator, *pair(call))
        return call.op("Not", found) if negate else found


for _name, _operator in {
    "Equal": "Equal", "EqScalar": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual",
    "GreaterEqualScalar": "GreaterOrEqual", "Less": "Less", "LessScalar": "Less", "LessEqual": "LessOrEqual",
}.items():  # fmt: skip
    _comparison(_name, _operator)
_comparison("NotEqual", "Equal", negate=True)


@primitive("EqualExt")
def equal_ext(call: Call) -> Item:
    """Whether two tensors of one shape are the same everywhere."""
    x, y = pair(call)
    if call.shape(x) != call.shape(y):
        return call.a.scalar(False, "bool")
    found = call.cast(call.op("Equal", x, y), "i32")
    return call.cast(call.op("ReduceMin", found, keepdims=0), "bool")


def _close(call: Call, relative: float, absolute: float, equal_nan: bool) -> Item:
    """`|x - y| <= absolute + relative * |y|`; infinities are close to themselves."""
    x, y = (floating(call, i) for i in pair(call))
    bound = call.op("Add", call.op("Mul", call.op("Abs", y), constant(call, relative, y)), constant(call, absolute, y))
    near = call.op("LessOrEqual", call.op("Abs", call.op("Sub", x, y)), bound)
    near = call.op("Or", call.op("Equal", x, y), call.op("And", near, call.op("Not", call.op("IsInf", y))))
    if equal_nan:
        near = call.op("Or", near, call.op("And", call.op("IsNaN", x), call.op("IsNaN", y)))
    return near


@primitive("IsClose")
def is_close(call: Call) -> Item:
    """Whether elements are equal within tolerances."""
    return _close(call, call.real("rtol"), call.real("atol"), call.flag("equal_nan"))


@primitive("ApproximateEqual")
def approximate_equal(call: Call) -> Item:
    """`|x - y| < tolerance`."""
    d = call.op("Abs", call.op("Sub", *pair(call)))
    return call.op("Less", d, constant(call, call.real("tolerance", 1e-5), d))


def truth(call: Call, item: Item) -> Item:
    """Where elements are not 0."""
    return call.cast(item, "bool")


def _logic(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return call.op(operator, *(truth(call, call.tensor(i)) for i in range(2)))


for _name, _operator in {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}.items():
    _logic(_name, _operator)


@primitive("LogicalNot")
def logical_not(call: Call) -> Item:
    """Where elements are 0."""
    return call.op("Not", truth(call, call.tensor(0)))


def _bits(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x, y = pair(call)
        return call.op(operator if call.element_type(x) == "bool" else f"Bitwise{operator}", x, y)


for _operator in ("And", "Or", "Xor"):
    for _suffix in ("", "Tensor", "Scalar"):
        _bits(f"Bitwise{_operator}{_suffix}", _operator)


@primitive("BitwiseNot", "Invert")
def bitwise_not(call: Call) -> Item:
    """All bits the other way; of bools, not."""
    x = call.tensor(0)
    return call.op("Not" if call.element_type(x) == "bool" else "BitwiseNot", x)


@primitive("LeftShift")
def left_shift(call: Call) -> Item:
    """`x << y`."""
    return call.make(Shl, *pair(call))


@primitive("RightShift")
def right_shift(call: Call) -> Item:
    """`x >> y`; of signed integers with the sign."""
    return call.make(Shr, *pair(call))


@primitive("Gcd", "Lcm")
def gcd(call: Call) -> Item:
    """Greatest common divisor by Euclid's algorithm, all elements at once; least common multiple."""
    x, y = pair(call)
    zero = constant(call, 0, x)
    a, b = _broadcast(call, x, y)

    def more(rest: Item) -> Item:
        return call.cast(
            call.op("ReduceMax", call.cast(call.op("Not", call.op("Equal", rest, zero)), "i32"), keepdims=0), "bool"
        )

    def step(_: Item, values: list[Item]) -> tuple[Item, list[Item]]:
        p, q = values
        done = call.op("Equal", q, zero)
        rest = call.op("Mod", p, call.op("Where", done, constant(call, 1, q), q), fmod=1)
        p, q = call.op("Where", done, p, q), call.op("Where", done, q, rest)
        return more(q), [p, q]

    divisor, _ = call.a.loop([a, b], step, condition=more(b))
    if call.name == "Gcd":
        return divisor
    safe = call.op("Where", call.op("Equal", divisor, zero), constant(call, 1, x), divisor)
    return call.op("Abs", call.op("Mul", x, call.op("Div", y, safe)))


def _broadcast(call: Call, x: Item, y: Item) -> tuple[Item, Item]:
    """Absolute values of two tensors, broadcast to one shape."""
    zero = call.op("Mul", call.op("Add", x, y), constant(call, 0, x))
    return call.op("Add", call.op("Abs", x), zero), call.op("Add", call.op("Abs", y), zero)


@primitive("ClampScalar", "ClampTensor")
def clamp(call: Call) -> Item:
    """Between bounds, either of which may be None."""
    x = call.tensor(0)
    for name, operator in (("min", "Max"), ("max", "Min")):
        bound = call.datum(name, None)
        if bound is not None:
            x = call.op(operator, *operands(call, x, bound))
    return x


__all__ = ["arithmetic", "divided", "log_add_exp", "truth", "without"]
