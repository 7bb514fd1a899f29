"""Host operations on sequences and optionals. Source: ONNX Sequence*, Optional*, SplitToSequence and others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ...core import Value
from ...errors import PlanishError, expect
from ...expr import sym
from ...types import OptionalType, SequenceType, TensorType, Type
from .base import Held, HostOp, a_size

__all__ = [
    "ConcatFromSequence", "OptionalGet", "OptionalHas", "OptionalMake", "SequenceAt", "SequenceConstruct",
    "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence",
]  # fmt: skip


def _place(position: Any, length: int, most: int) -> int:
    """A position that may count from the end."""
    at = int(np.reshape(position, -1)[0])
    if not -length <= at < most:
        raise PlanishError(f"position: expected a number in {-length}..{most - 1}, got {at}")
    return at + length if at < 0 else at


class SequenceEmpty(HostOp, name="host.seq_empty"):
    """A sequence without elements; its type is given."""

    function: ClassVar[str] = "seq_empty"

    def reference(self, *operands: Any) -> Any:
        return []

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([], types=[SequenceType(TensorType("f32", None))])


class SequenceConstruct(HostOp, name="host.seq_construct"):
    """The sequence of the operands; its type is given."""

    function: ClassVar[str] = "seq_construct"
    xs: tuple[Value, ...]

    def reference(self, *operands: Any) -> Any:
        return list(operands)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = np.zeros((2, 3), np.float32)
        yield cls.sample([(x, x + 1)], types=[SequenceType(TensorType("f32", (2, 3)))])


class SequenceAt(HostOp, name="host.seq_at"):
    """The element at a position, which may count from the end."""

    function: ClassVar[str] = "seq_at"
    sequence: Value
    at: Value
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        sequence, place = operands
        return sequence[_place(place, len(sequence), len(sequence))]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        parts, size = [np.zeros(2, np.float32), np.ones(3, np.float32)], a_size()
        yield cls.sample([parts, np.array(-1)], (size,), types=[TensorType("f32", (sym(size),))])


class SequenceInsert(HostOp, name="host.seq_insert"):
    """The sequence with `x` in front of a position (absent: at the end)."""

    function: ClassVar[str] = "seq_insert"
    sequence: Value
    x: Value
    at: Value | None

    def reference(self, *operands: Any) -> Any:
        sequence, x, place = operands
        at = len(sequence) if place is None else _place(place, len(sequence), len(sequence) + 1)
        return [*sequence[:at], x, *sequence[at:]]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        kind = [SequenceType(TensorType("f32", None))]
        for at in (np.array(0), None):
            yield cls.sample([[np.zeros(2, np.float32)], np.ones(3, np.float32), at], types=kind)


class SequenceErase(HostOp, name="host.seq_erase"):
    """The sequence without the element at a position (absent: the last one)."""

    function: ClassVar[str] = "seq_erase"
    sequence: Value
    at: Value | None

    def infer(self) -> Sequence[Type]:
        return [self.sequence.type]

    def reference(self, *operands: Any) -> Any:
        sequence, place = operands
        at = len(sequence) - 1 if place is None else _place(place, len(sequence), len(sequence))
        return [*sequence[:at], *sequence[at + 1 :]]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for at in (np.array(-2), None):
            yield cls.sample([[np.zeros(2, np.float32), np.ones(3, np.float32)], at])


class SequenceLength(HostOp, name="host.seq_length"):
    """The number of elements: i64."""

    function: ClassVar[str] = "seq_length"
    sequence: Value

    def infer(self) -> Sequence[Type]:
        expect(isinstance(self.sequence.type, SequenceType), f"expected a sequence, got {self.sequence.type}")
        return [TensorType("i64", ())]

    def reference(self, *operands: Any) -> Any:
        return np.array(len(operands[0]), np.int64)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([[np.zeros(2, np.float32), np.ones(3, np.float32)]])


class SplitToSequence(HostOp, name="host.split_to_sequence"):
    """Parts of `x` along `axis`: of one size (a scalar), of given sizes, or (absent) of size 1, which lose it
    without `keepdims`."""

    function: ClassVar[str] = "split_to_sequence"
    x: Value
    split: Value | None
    axis: int = 0
    keepdims: int = 1

    def reference(self, *operands: Any) -> Any:
        x, split = operands
        size = x.shape[self.axis]
        if split is None:
            parts = np.split(x, size, self.axis) if size else []
            return parts if self.keepdims else [np.squeeze(p, self.axis) for p in parts]
        sizes = np.full(-(-size // int(split)), int(split)) if np.ndim(split) == 0 else np.asarray(split)
        return np.split(x, np.cumsum(sizes)[:-1], self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x, kind = np.arange(10, dtype=np.float32).reshape(5, 2), [SequenceType(TensorType("f32", None))]
        for split in (np.array(2), np.array([1, 4]), None):
            yield cls.sample([x, split], 0, 1, types=kind)
        yield cls.sample([x, None], 1, 0, types=kind)


class ConcatFromSequence(HostOp, name="host.concat_from_sequence"):
    """The elements of a sequence side by side along `axis`, or along a new one."""

    function: ClassVar[str] = "concat_from_sequence"
    sequence: Value
    axis: int
    new_axis: int = 0
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        return np.stack(operands[0], self.axis) if self.new_axis else np.concatenate(operands[0], self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        parts, size = [np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)], a_size()
        yield cls.sample([parts], 0, 0, (size,), types=[TensorType("f32", (sym(size), 2))])
        size = a_size()
        yield cls.sample([parts], -1, 1, (size,), types=[TensorType("f32", (2, 2, sym(size)))])


class OptionalMake(HostOp, name="host.optional_make"):
    """An optional that holds the operand, or nothing; its type is given."""

    function: ClassVar[str] = "optional_make"
    x: Value | None

    def reference(self, *operands: Any) -> Any:
        return operands[0]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.ones(2, np.float32)], types=[OptionalType(TensorType("f32", (2,)))])
        yield cls.sample([None], types=[OptionalType(TensorType("f32", (2,)))])


class OptionalHas(HostOp, name="host.optional_has"):
    """Whether an optional holds something: bool."""

    function: ClassVar[str] = "optional_has"
    x: Value | None

    def infer(self) -> Sequence[Type]:
        return [TensorType("bool", ())]

    def reference(self, *operands: Any) -> Any:
        return np.array(operands[0] is not None)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([Held(np.ones(2, np.float32))])
        yield cls.sample([None])


class OptionalGet(HostOp, name="host.optional_get"):
    """What an optional holds; the run ends where that is nothing."""

    function: ClassVar[str] = "optional_get"
    x: Value
    sizes: tuple[str, ...] = ()

    def infer(self) -> Sequence[Type]:
        if self.sizes or not isinstance(self.x.type, OptionalType):
            return super().infer()
        return [self.x.type.item]

    def reference(self, *operands: Any) -> Any:
        if operands[0] is None:
            raise PlanishError("the optional is empty")
        return operands[0]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([Held(np.ones(2, np.float32))])
