"""Protobuf messages that are written piece by piece: weights stay where they are until their bytes are due.

A `Message` knows its size before any of its bytes exist, as nesting in protobuf needs it; `write` then streams.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol


class Blob(Protocol):
    """Bytes that are made when they are written."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """All of them, in pieces of a few megabytes."""
        ...


def varint(value: int) -> bytes:
    """A number of up to 64 bits; one below 0 takes ten bytes, as int32 and int64 have it."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append((value & 0x7F) | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


class Message:
    """Fields in the order in which they are added. `size` is in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes | Blob] = []

    def number(self, field: int, value: int) -> Message:
        """An integer, a bool or an enumeration."""
        return self._add(varint(field << 3) + varint(value))

    def numbers(self, field: int, values: Iterable[int]) -> Message:
        """A repeated integer, not packed: what proto2 expects."""
        for value in values:
            self.number(field, value)
        return self

    def real(self, field: int, value: float) -> Message:
        """A float of 32 bits."""
        return self._add(varint(field << 3 | 5) + struct.pack("<f", value))

    def double(self, field: int, value: float) -> Message:
        """A float of 64 bits."""
        return self._add(varint(field << 3 | 1) + struct.pack("<d", value))

    def text(self, field: int, value: str) -> Message:
        """A string; what UTF-8 cannot hold is replaced."""
        return self.data(field, value.encode("utf-8", "replace"))

    def data(self, field: int, value: bytes) -> Message:
        """Bytes."""
        return self._add(varint(field << 3 | 2) + varint(len(value)) + value)

    def blob(self, field: int, value: Blob) -> Message:
        """Bytes that are made when they are written."""
        self._add(varint(field << 3 | 2) + varint(value.size))
        self._parts.append(value)
        self.size += value.size
        return self

    def message(self, field: int, value: Message) -> Message:
        """A message inside; it must be complete."""
        self._add(varint(field << 3 | 2) + varint(value.size))
        self._parts.extend(value._parts)
        self.size += value.size
        return self

    def append(self, encoded: bytes) -> Message:
        """Fields that are encoded already."""
        return self._add(encoded)

    def _add(self, data: bytes) -> Message:
        self.size += len(data)
        self._parts.append(data)
        return self

    def write(self, out: BinaryIO) -> None:
        """All bytes."""
        for piece in self.pieces():
            out.write(piece)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All bytes in order, small ones joined."""
        gathered: list[bytes] = []
        for part in self._parts:
            if isinstance(part, bytes):
                gathered.append(part)
                continue
            yield b"".join(gathered)
            gathered.clear()
            yield from part.chunks()
        yield b"".join(gathered)

    def bytes(self) -> bytes:
        """All bytes at once."""
        return b"".join(self.pieces())


__all__ = ["Blob", "Message", "varint"]
