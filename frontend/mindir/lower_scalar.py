"""Lowerings of MindIR's primitives of Python numbers, and of sequences of them.

Numbers that are known while a model is read stay numbers; those that are data are tensors of shape [].
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir.expr import Expr, as_dim, as_expr
from .data import Datum, Item, Parameter
from .lower_common import floating, kind_of, operands
from .primitive import Call, described, primitive

_DIVISIONS = ("ScalarDiv", "ScalarFloorDiv", "ScalarMod")


def _known(data: tuple[Datum, ...]) -> bool:
    return all(isinstance(d, bool | int | float | str) for d in data)


def _sizes(name: str, a: Datum, b: Datum) -> Datum:
    """Arithmetic of sizes that depend on symbols; None where it is none."""
    if not all(isinstance(d, int | Expr) and not isinstance(d, bool) for d in (a, b)):
        return None
    x, y = as_expr(a), as_expr(b)  # type: ignore[arg-type]
    match name:
        case "ScalarAdd":
            return as_dim(x + y)
        case "ScalarSub":
            return as_dim(x - y)
        case "ScalarMul" if isinstance(a, int) or isinstance(b, int):
            return as_dim(x * b if isinstance(b, int) else y * a)  # type: ignore[operator]
        case "ScalarFloorDiv" if isinstance(b, int) and b > 0:
            return as_dim(x // b)
        case "ScalarMod" if isinstance(b, int) and b > 0:
            return as_dim(x % b)
        case _:
            return None


def _binary(name: str, python: Callable[[Any, Any], Any], onnx: str) -> None:
    """A primitive of two numbers, under its names of all versions."""

    names = [name, "scalar_" + name.removeprefix("Scalar").lower()]

    @primitive(*names, *(["ScalarFloordiv"] if name == "ScalarFloorDiv" else []))
    def lowering(call: Call) -> Datum:  # pyright: ignore[reportUnusedFunction]
        a, b = call[0], call[1]
        if _known((a, b)):
            if name in _DIVISIONS and b == 0:
                raise call.error("a division of a number by 0")
            return python(a, b)
        found = _sizes(name, a, b)
        if found is not None:
            return found
        x, y = operands(call, a, b)
        if name == "ScalarDiv":
            x, y = floating(call, x), floating(call, y)
        if name == "ScalarMod":
            return call.op("Sub", x, call.op("Mul", _floor_div(call, x, y), y))
        return _floor_div(call, x, y) if onnx == "FloorDiv" else call.op(onnx, x, y)


def _floor_div(call: Call, x: Item, y: Item) -> Item:
    if kind_of(call.element_type(x)) == 2:
        return call.op("Floor", call.op("Div", x, y))
    rest = call.op("Mod", x, y)  # of y's sign
    return call.op("Div", call.op("Sub", x, rest), y)


_BINARY: list[tuple[str, Callable[..., Any], str]] = [
    ("ScalarAdd", operator.add, "Add"),
    ("ScalarSub", operator.sub, "Sub"),
    ("ScalarMul", operator.mul, "Mul"),
    ("ScalarDiv", operator.truediv, "Div"),
    ("ScalarFloorDiv", operator.floordiv, "FloorDiv"),
    ("ScalarMod", operator.mod, "Mod"),
    ("ScalarPow", operator.pow, "Pow"),
    ("ScalarMax", max, "Max"),
    ("ScalarMin", min, "Min"),
    ("ScalarEq", operator.eq, "Equal"),
    ("ScalarLt", operator.lt, "Less"),
    ("ScalarGt", operator.gt, "Greater"),
    ("ScalarLe", operator.le, "LessOrEqual"),
    ("ScalarGe", operator.ge, "GreaterOrEqual"),
]
for _name, _python, _onnx in _BINARY:
    _binary(_name, _python, _onnx)


@primitive("ScalarNe", "scalar_ne")
def not_equal(call: Call) -> Datum:
    """Whether two numbers differ."""
    if _known((call[0], call[1])):
        return call[0] != call[1]
    return call.op("Not", call.op("Equal", *operands(call, call[0], call[1])))


@primitive("ScalarUsub", "scalar_usub")
def negative(call: Call) -> Datum:
    """A number negated."""
    x = call[0]
    return -x if isinstance(x, int | float) else call.op("Neg", call.item(x))


@primitive("ScalarUadd", "scalar_uadd")
def positive(call: Call) -> Datum:
    """A number."""
    return call[0]


@primitive("ScalarLog", "scalar_log")
def logarithm(call: Call) -> Datum:
    """The natural logarithm of a number."""
    x = call[0]
    return float(np.log(x)) if isinstance(x, int | float) else call.op("Log", floating(call, call.item(x)))


@primitive("BoolNot", "bool_not")
def not_(call: Call) -> Datum:
    """Whether a bool is False."""
    x = call[0]
    return not x if isinstance(x, bool | int | float) else call.op("Not", call.cast(call.item(x), "bool"))


@primitive("Bool", "ScalarBool")
def bool_(call: Call) -> Datum:
    """A number as a bool."""
    x = call[0]
    return bool(x) if isinstance(x, bool | int | float) else call.cast(call.item(x), "bool")


@primitive("ScalarCast")
def scalar_cast(call: Call) -> Datum:
    """A number in another type."""
    x, dtype = call[0], call.dtype("input_y", "f32") or "f32"
    if isinstance(x, bool | int | float) and dtype != "f16":
        return (bool, int, float)[kind_of(dtype)](x)
    return call.cast(call.item(x), dtype)


@primitive("TensorToScalar", "tensor_to_scalar")
def tensor_to_scalar(call: Call) -> Datum:
    """The element of a tensor; a number where it is known."""
    x = call.tensor(0)
    array = call.a.array(x)
    if array is not None and array.size == 1:
        return array.reshape(-1)[0].item()
    return x if call.shape(x) == () else call.op("Reshape", x, np.zeros(0, np.int64))


@primitive("TensorToTuple", "TensorToList")
def tensor_to_tuple(call: Call) -> Datum:
    """The elements of a vector; numbers where they are known."""
    x = call.tensor(0)
    array = call.a.array(x)
    if array is not None:
        return tuple(e.item() for e in array.reshape(-1))
    shape = call.shape(x)
    count = shape[0] if len(shape) == 1 else None
    if not isinstance(count, int):
        call.refuse("a tensor of unknown size as a tuple", "fix input shapes with --shape")
    if kind_of(call.element_type(x)) == 1:
        return tuple(call.sizes(x))
    return tuple(call.op("Gather", x, np.array(i), axis=0) for i in range(count))


# -- sequences ---------------------------------------------------------------------------------------------------------


def _numbers(call: Call, datum: Datum) -> list[Any]:
    """A tuple of numbers that are known."""
    if isinstance(datum, tuple) and _known(datum):
        return list(datum)
    raise call.error(f"expected a tuple of numbers that are known, got {described(datum)}")


def _comparison(name: str, python: Callable[[Any, Any], bool]) -> None:
    @primitive(f"tuple_{name}", f"list_{name}")
    def lowering(call: Call) -> Datum:  # pyright: ignore[reportUnusedFunction]
        return python(_numbers(call, call[0]), _numbers(call, call[1]))


for _name, _compare in (
    ("equal", operator.eq), ("lt", operator.lt), ("le", operator.le), ("greater_than", operator.gt),
    ("greater_equal", operator.ge),
):  # fmt: skip
    _comparison(_name, _compare)


@primitive("SequenceMax", "SequenceMin")
def extreme(call: Call) -> Datum:
    """The largest or smallest number of a tuple."""
    return (max if call.name == "SequenceMax" else min)(_numbers(call, call[0]))


@primitive("SequenceCount")
def count(call: Call) -> Datum:
    """How often a number is in a tuple."""
    return _numbers(call, call[0]).count(call[1])


@primitive("SequenceIndex")
def index(call: Call) -> Datum:
    """Where a number is in a tuple first."""
    items = _numbers(call, call[0])
    if call[1] not in items:
        raise call.error(f"{described(call[1])} is not in the tuple")
    return items.index(call[1])


@primitive("InSequence", "in_sequence")
def contains(call: Call) -> Datum:
    """Whether a number is in a tuple."""
    return call[0] in _numbers(call, call[1])


@primitive("SequenceAddN")
def add_n(call: Call) -> Datum:
    """The sum of the tensors of a tuple."""
    items = call[0]
    if not isinstance(items, tuple) or not items:
        raise call.error(f"expected a tuple of tensors, got {described(items)}")
    total, *rest = map(call.item, items)
    for item in rest:
        total = call.op("Add", total, item)
    return total


@primitive("SequenceZerosLike")
def zeros_like(call: Call) -> Datum:
    """A tuple of zeros of the same types."""

    def zero(datum: Datum) -> Datum:
        if isinstance(datum, tuple):
            return tuple(map(zero, datum))
        if isinstance(datum, Item | Parameter):
            x = call.item(datum)
            return call.op("Sub", x, x) if kind_of(call.element_type(x)) else call.op("Xor", x, x)
        return type(datum)(0) if isinstance(datum, bool | int | float) else datum

    return zero(call[0])


@primitive("ListInsert")
def insert(call: Call) -> Datum:
    """A list with one element more."""
    given = call[0]
    if not isinstance(given, tuple):
        raise call.error(f"expected a list, got {described(given)}")
    items = list(given)
    (at,) = call.sizes(call[1], "index")
    if not isinstance(at, int):
        call.refuse("an index into a list that is computed from data")
    items.insert(at, call[2])
    return tuple(items)


@primitive("StringEq", "string_eq")
def string_equal(call: Call) -> Datum:
    """Whether two texts are equal."""
    return call[0] == call[1]


@primitive("StringLength")
def string_length(call: Call) -> Datum:
    """The number of characters of a text."""
    text = call[0]
    if not isinstance(text, str):
        raise call.error(f"expected a text, got {described(text)}")
    return len(text)
