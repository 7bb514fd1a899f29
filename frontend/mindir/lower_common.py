"""What lowerings share: element types that operands agree on, constants like a tensor, axes, sorting by a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...ir.expr import Dim, Expr, as_dim, as_expr, product
from ...ir.types import DTYPES
from .primitive import PRIMITIVES, Call, Datum, Item, Unsupported, primitive

_KINDS = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
_SIGNED = {8: "i8", 16: "i16", 32: "i32", 64: "i64"}


def kind_of(dtype: str) -> int:
    """0 for bool, 1 for integers, 2 for floats, 3 for complex numbers."""
    return _KINDS.get(DTYPES[dtype].kind, 2)


def common_dtype(a: str, b: str) -> str:
    """The element type in which MindSpore computes on tensors of `a` and `b`."""
    if a == b or kind_of(a) > kind_of(b):
        return a
    if kind_of(a) < kind_of(b):
        return b
    one, other = DTYPES[a], DTYPES[b]
    if one.bits == other.bits:  # u8 and i8; f16 and bf16
        if kind_of(a) == 1:
            return _SIGNED[min(64, one.bits * 2)]
        return "f32" if {a, b} == {"f16", "bf16"} else a
    wide, narrow = (one, other) if one.bits > other.bits else (other, one)
    if wide.kind == "uint" and narrow.kind == "int":
        return _SIGNED[min(64, wide.bits * 2)]
    return a if wide is one else b


def operands(call: Call, *data: Datum) -> list[Item]:
    """Data as tensors of one element type. Python's numbers take that of the tensors, but for floats beside integers,
    which make f32 of them."""
    plain = {i: d for i, d in enumerate(data) if isinstance(d, bool | int | float)}
    tensors = {i: call.item(d) for i, d in enumerate(data) if i not in plain}
    dtype = ""
    for item in tensors.values():
        own = call.element_type(item)
        dtype = common_dtype(dtype, own) if dtype else own
    for value in plain.values():
        kind = 0 if isinstance(value, bool) else 1 if isinstance(value, int) else 2
        if not dtype or kind > kind_of(dtype):
            dtype = ("bool", "i64", "f32")[kind]
    return [
        call.a.scalar(number(plain[i], dtype), dtype) if i in plain else call.cast(tensors[i], dtype)
        for i in range(len(data))
    ]


def pair(call: Call) -> tuple[Item, Item]:
    """The first two inputs, as `operands` makes them."""
    x, y = operands(call, call[0], call[1])
    return x, y


def number(value: object, dtype: str) -> float | int | bool:
    """A Python number for a constant of an element type."""
    assert isinstance(value, bool | int | float), value
    return (bool, int, float, float)[kind_of(dtype)](value)


def floating(call: Call, item: Item, least: str = "f32") -> Item:
    """A tensor as floats: integers and bools become `least`."""
    return item if kind_of(call.element_type(item)) >= 2 else call.cast(item, least)


def constant(call: Call, value: float | int | bool, like: Item) -> Item:
    """A constant of shape [] and the element type of `like`."""
    return call.a.scalar(number(value, call.element_type(like)), call.element_type(like))


def rank(call: Call, item: Item) -> int:
    """The number of dimensions."""
    return len(call.shape(item))


def axis_of(call: Call, axis: int, dims: int, what: str = "axis") -> int:
    """An axis that may count from the end as one from the start."""
    most = max(dims, 1)
    if not -most <= axis < most:
        raise call.error(f"{what}: expected -{most} to {most - 1}, got {axis}")
    return axis % most


def axes_of(call: Call, name: str, dims: int, empty: Sequence[int] | None = None) -> tuple[int, ...]:
    """Axes that an argument names, each from the start; `empty` is what None and () stand for (default: all)."""
    given = call.datum(name, None)
    found = () if given is None else call.ints(name)
    if not found:
        return tuple(range(dims)) if empty is None else tuple(empty)
    return tuple(sorted({axis_of(call, a, dims, name) for a in found}))


def elements(call: Call, dims: Iterable[Dim]) -> Item:
    """How many elements these dimensions have, as i64 of shape []."""
    count = as_dim(as_expr(product(list(dims))))
    return call.op("Squeeze", call.a.sizes([count]), [0])


def known(call: Call, dim: Dim, what: str) -> int:
    """A size that must be a number."""
    if isinstance(dim, Expr):
        raise Unsupported(f"{what} of {call.name} depends on the size of an input", "fix input shapes with --shape")
    return dim


def reshaped(call: Call, item: Item, dims: Sequence[Dim]) -> Item:
    """A tensor of other dimensions with the same elements."""
    return call.op("Reshape", item, list(dims), allowzero=1)


def flat(call: Call, item: Item) -> Item:
    """All elements in one dimension."""
    return call.op("Reshape", item, [-1])


def expanded(call: Call, item: Item, dims: Sequence[Dim]) -> Item:
    """A tensor broadcast to `dims`."""
    return call.op("Expand", item, list(dims))


def sliced(call: Call, item: Item, axis: int, start: Dim, end: Dim, step: int = 1) -> Item:
    """Elements of a range along one axis."""
    return call.op("Slice", item, [start], [end], [axis], [step])


def one_at(call: Call, item: Item, axis: int, index: Dim) -> Item:
    """The elements at one place of an axis, which goes away."""
    end = as_dim(as_expr(index) + 1) if isinstance(index, Expr) or index != -1 else np.iinfo(np.int64).max
    return call.op("Squeeze", sliced(call, item, axis, index, end), [axis])


def iota(call: Call, size: Dim, dtype: str = "i64") -> Item:
    """0, 1 ... size - 1."""
    zero, one = call.a.scalar(0, "i64"), call.a.scalar(1, "i64")
    return call.cast(call.op("Range", zero, call.op("Squeeze", call.a.sizes([size]), [0]), one), dtype)


def along(call: Call, size: Dim, axis: int, dims: int, dtype: str = "i64") -> Item:
    """0, 1 ... size - 1 along `axis` of `dims` dimensions, the others 1."""
    return reshaped(call, iota(call, size, dtype), [size if i == axis else 1 for i in range(dims)])


def scanned(call: Call, item: Item, axis: int, combine: Callable[[Item, Item], Item]) -> Item:
    """Running results of an associative function along an axis of known size, in logarithmically many steps."""
    size, step = known(call, call.shape(item)[axis], "the axis"), 1
    while step < size:
        head = sliced(call, item, axis, 0, step)
        tail = combine(sliced(call, item, axis, 0, size - step), sliced(call, item, axis, step, size))
        item = call.op("Concat", head, tail, axis=axis)
        step *= 2
    return item


def alias(name: str, of: str) -> None:
    """`name` is lowered as `of`, whose arguments have the same names."""
    primitive(name)(PRIMITIVES[of])


__all__ = [
    "alias",
    "along",
    "axes_of",
    "axis_of",
    "common_dtype",
    "constant",
    "elements",
    "expanded",
    "flat",
    "floating",
    "iota",
    "kind_of",
    "known",
    "number",
    "one_at",
    "operands",
    "pair",
    "rank",
    "reshaped",
    "scanned",
    "sliced",
]
