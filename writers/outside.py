"""Weights in a file beside a model's own."""

from __future__ import annotations

from typing import BinaryIO

from .weights import WeightBytes

PAGE = 4096


class Outside:
    """A file of weights, of which the model's file says `location`. It starts with `header`; weights of a page or more
    start at a multiple of `align`, smaller ones at one of 64."""

    def __init__(self, location: str, header: bytes = b"", align: int = PAGE) -> None:
        self.location = location
        self.header = header
        self.align = align
        self._placed: list[tuple[int, WeightBytes]] = []
        self._end = len(header)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._end

    @property
    def is_empty(self) -> bool:
        """Whether no weight is in it."""
        return not self._placed

    def place(self, weight: WeightBytes) -> int:
        """Where the weight's bytes will be."""
        align = self.align if weight.size >= PAGE else 64
        offset = -(-self._end // align) * align
        self._placed.append((offset, weight))
        self._end = offset + weight.size
        return offset

    def write(self, out: BinaryIO) -> None:
        """All weights, with zeros between them."""
        out.write(self.header)
        end = len(self.header)
        for offset, weight in self._placed:
            out.write(bytes(offset - end))
            for piece in weight.chunks():
                out.write(piece)
            end = offset + weight.size


__all__ = ["Outside"]
