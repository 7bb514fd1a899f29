"""The protobuf wire format, read just far enough: where each field of a message is, and what a number says.

Frontends walk files with this where a generated parser would copy weights, follow nesting without a bound, or refuse
fields whose meaning changed between versions. Nothing here recurses or allocates more than one small tuple per field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


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


__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "WireError", "WireField", "fields", "varint"]
