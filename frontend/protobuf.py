"""The protobuf wire format, read just far enough: where each field of a message is, and what a number says.

Frontends walk files with this where a generated parser would copy weights, follow nesting without a bound, or refuse
fields whose meaning changed between versions: `Message` treats fields of an unexpected wire type as if they were not
there. Nothing here recurses; depth and number of fields are bounded for a whole file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..ir.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_DEEPEST = 96  # messages inside of one another; real files have about 12
_MOST_FIELDS = 30_000_000  # in one file; beyond it memory would run out first
_EMPTY: tuple[tuple[int, int, int], ...] = ()


class WireError(ValueError):
    """The bytes do not follow the wire format. `truncated`: they would, if the file went on."""

    def __init__(self, message: str, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


class WireField(NamedTuple):
    """One field: its number and wire type, where its tag starts, and where its value starts and ends."""

    number: int
    wire: int
    tag: int
    start: int
    end: int


def fields(view: memoryview, start: int, end: int) -> Iterator[WireField]:
    """The fields between `start` and `end`. Raises `WireError`."""
    at = start
    while at < end:
        tag, value = varint(view, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"byte {at}: field number 0")
        if wire == VARINT:
            _, stop = varint(view, value, end)
        elif wire == BYTES:
            length, value = varint(view, value, end)
            stop = value + length
        elif wire in (FIXED32, FIXED64):
            stop = value + (4 if wire == FIXED32 else 8)
        else:
            raise WireError(f"byte {at}: unknown wire type {wire}")
        if stop > end:
            raise WireError(f"byte {at}: a field that ends at byte {stop}, but the data ends at byte {end}", True)
        yield WireField(number, wire, at, value, stop)
        at = stop


def varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number at `at` (of up to 70 bits, unsigned) and where what follows it starts. Raises `WireError`."""
    if at < end and view[at] < 0x80:  # most numbers are small
        return view[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError(f"byte {at}: the data ends inside a number", True)
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError(f"byte {at}: a number of more than 10 bytes")


@dataclass
class Buffer:
    """The bytes of a file. `label` is what messages call it; `path` is the file in which `view` lies byte for byte
    (None: in memory only, such as what was decrypted); `spent` counts the fields that were read."""

    view: memoryview
    label: str
    path: Path | None
    spent: int = 0

    def message(self) -> Message:
        """All of it as one message."""
        return Message(self, 0, len(self.view))


class Message:
    """A message: between `start` and `end` of `buffer`. Raises `WireError` where the bytes follow no wire format."""

    __slots__ = ("_fields", "buffer", "depth")

    def __init__(self, buffer: Buffer, start: int, end: int, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise ModelError(f"{buffer.label}: messages nested more than {_DEEPEST} deep; the file is damaged")
        self.buffer = buffer
        self.depth = depth
        self._fields: dict[int, list[tuple[int, int, int]]] = {}
        for found in fields(buffer.view, start, end):
            self._fields.setdefault(found.number, []).append((found.wire, found.start, found.end))
            buffer.spent += 1
            if buffer.spent > _MOST_FIELDS:
                raise ModelError(f"{buffer.label}: more than {_MOST_FIELDS:,} fields; the file is damaged")

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def places(self, number: int) -> Iterator[tuple[int, int]]:
        """Where the values of a field of bytes, text or messages are."""
        return ((start, end) for wire, start, end in self._fields.get(number, _EMPTY) if wire == BYTES)

    def place(self, number: int) -> tuple[int, int] | None:
        """Where the last value of a field of bytes is; None if there is none."""
        found = self._fields.get(number, _EMPTY)
        return next(((start, end) for wire, start, end in reversed(found) if wire == BYTES), None)

    def messages(self, number: int) -> Iterator[Message]:
        """The values of a repeated message."""
        return (Message(self.buffer, start, end, self.depth + 1) for start, end in self.places(number))

    def message(self, number: int) -> Message | None:
        """A message; None if it is not there. Of several the last one counts."""
        place = self.place(number)
        return None if place is None else Message(self.buffer, *place, self.depth + 1)

    def contents(self, number: int) -> list[bytes]:
        """The values of a repeated field of bytes."""
        return [bytes(self.buffer.view[start:end]) for start, end in self.places(number)]

    def texts(self, number: int) -> list[str]:
        """The values of a repeated text. Raises `ModelError` where one is no UTF-8."""
        return [self._text(content, number) for content in self.contents(number)]

    def text(self, number: int) -> str:
        """A text; "" if it is not there."""
        place = self.place(number)
        return "" if place is None else self._text(bytes(self.buffer.view[slice(*place)]), number)

    def _text(self, content: bytes, number: int) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as e:
            label = self.buffer.label
            raise ModelError(f"{label}: text in invalid UTF-8 in field {number}; the file is damaged") from e

    def integers(self, number: int) -> list[int]:
        """The values of a repeated integer as signed 64-bit numbers, packed or not."""
        view, values = self.buffer.view, list[int]()
        for wire, start, end in self._fields.get(number, _EMPTY):
            if wire == VARINT:
                values.append(_signed(varint(view, start, end)[0]))
            elif wire == BYTES:
                at = start
                while at < end:
                    value, at = varint(view, at, end)
                    values.append(_signed(value))
        return values

    def integer(self, number: int, default: int = 0) -> int:
        """An integer (never a packed one)."""
        values = [place for place in self._fields.get(number, _EMPTY) if place[0] == VARINT]
        return _signed(varint(self.buffer.view, *values[-1][1:])[0]) if values else default

    def floats(self, number: int) -> list[float]:
        """The values of a repeated `float` (4 bytes), packed or not."""
        return self._numbers(number, FIXED32, "f", 4)

    def doubles(self, number: int) -> list[float]:
        """The values of a repeated `double` (8 bytes), packed or not."""
        return self._numbers(number, FIXED64, "d", 8)

    def _numbers(self, number: int, wire: int, code: str, size: int) -> list[float]:
        values: list[float] = []
        for found, start, end in self._fields.get(number, _EMPTY):
            if found in (wire, BYTES):
                count = (end - start) // size
                values.extend(struct.unpack_from(f"<{count}{code}", self.buffer.view, start))
        return values


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


__all__ = [
    "BYTES",
    "FIXED32",
    "FIXED64",
    "VARINT",
    "Buffer",
    "Message",
    "WireError",
    "WireField",
    "fields",
    "varint",
]
