"""The base of operations that functions of the C runtime execute, and which symbols an operation gives values to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, ClassVar, Self, cast
from weakref import WeakKeyDictionary

import numpy as np

from ...core import Op, Region, Value
from ...expr import sym
from ...types import MapType, OptionalType, SequenceType, TensorType, Type, dtype_of
from ..base import TensorOp

_NUMBERS = count()


class HostOp(TensorOp):
    """Runs `planish_host_<function>` of the C runtime. Operands and results have any type.

    `reference` is its meaning in Python: string tensors are object arrays of str, sequences are lists, absent optionals
    are None, maps are dicts. A dimension of a result that depends on data is a symbol `?n...` of its own, made by who
    builds the operation and passed in the attribute `sizes` (every subclass with such results has one), so that
    inference stays a function of the operation. Attributes, `sizes` apart, go to the C function: numbers, strings,
    lists of them, constants."""

    function: ClassVar[str] = ""

    @classmethod
    def sample(cls, operands: Sequence[Any], *attributes: Any, types: Sequence[Type] | None = None) -> Self:
        """An instance for tests that is to be called with `operands`: arrays, lists, dicts, None for an absent one, a
        tuple for a field of several values."""
        values = [tuple(map(_parameter, o)) if isinstance(o, tuple) else _parameter(o) for o in operands]  # type: ignore[reportUnknownArgumentType]
        op = cls(*values, *attributes, types=types)
        flat = [v for o in operands for v in (cast("tuple[Any, ...]", o) if isinstance(o, tuple) else (o,))]
        _SAMPLED[op] = [v for v in flat if v is not None]
        return op

    def sample_inputs(self, rng: np.random.Generator) -> list[Any] | None:
        """What `sample` was given."""
        return _SAMPLED.get(self)

    def fresh_sizes(self) -> tuple[str, ...]:
        """The symbols that its results' shapes give values to."""
        return tuple(getattr(self, "sizes", ()))


class ShapeOf(HostOp, name="host.shape"):
    """The shape of a tensor of any element type and of any, even unknown, rank: i64 of as many elements.

    `sizes` is empty where the rank is known, else the symbol of the rank. Source: ONNX Shape."""

    function: ClassVar[str] = "shape"
    x: Value
    sizes: tuple[str, ...] = ()

    def infer(self) -> Sequence[Type]:
        shape = self.x.tensor.shape
        return [TensorType("i64", (sym(self.sizes[0]) if shape is None else len(shape),))]

    def reference(self, *operands: Any) -> Any:
        return np.array(np.shape(operands[0]), np.int64)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.zeros((2, 0, 3), np.float32)])
        yield cls.sample([words("a", "b")])


_SAMPLED: WeakKeyDictionary[HostOp, list[Any]] = WeakKeyDictionary()


def type_of(value: Any) -> Type:
    """The type of a value of a sample: elements of sequences have any rank; numbers in maps are scalars."""
    if isinstance(value, list):
        first = type_of(cast("list[Any]", value)[0])
        return SequenceType(TensorType(first.dtype, None) if isinstance(first, TensorType) else first)
    if isinstance(value, dict):
        key, item = next(iter(cast("dict[Any, Any]", value).items()))
        return MapType("string" if isinstance(key, str) else "i64", TensorType(dtype_of(np.asarray(item)), ()))
    array = np.asarray(value)
    return TensorType("string" if array.dtype == object else dtype_of(array), array.shape)


class Held:
    """An operand of a sample in an optional."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _parameter(value: Any) -> Value | None:
    if value is None:
        return None
    return Value(OptionalType(type_of(value.value)) if isinstance(value, Held) else type_of(value))


def words(*texts: str) -> Any:
    """A tensor of strings for samples."""
    return np.array(texts, object)


def a_size() -> str:
    """A symbol for samples, of which several may stand in one graph."""
    return f"?s{next(_NUMBERS)}"


def defined_symbols(scope: Op | Region) -> set[str]:
    """Symbols that the operations in `scope`, nested ones included, give values to."""
    found: set[str] = set()
    for op in scope.walk():
        for name in ("symbols", "sizes", "rounds"):
            if op.op_name in ("t.bind", "t.if", "t.loop") or isinstance(op, HostOp):
                found.update(getattr(op, name, ()))
    return found
