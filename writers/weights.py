"""The bytes of constants as files have them: little-endian, row-major, elements below a byte packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.constants import ConstantData
from ..ir.types import DTYPES

CHUNK = 1 << 24  # bytes that are in memory at once; a multiple of everything that is packed


@dataclass(frozen=True)
class WeightBytes:
    """The bytes of one constant, read while they are written."""

    data: ConstantData

    @property
    def size(self) -> int:
        """Bytes in a file."""
        return (self.data.elements * DTYPES[self.data.dtype].bits + 7) // 8

    def chunks(self) -> Iterator[bytes | memoryview]:
        """All bytes in pieces of at most `CHUNK`."""
        array = self.data.array()
        bits = DTYPES[self.data.dtype].bits
        if bits < 8:
            yield packed(array, bits)
            return
        for piece in _pieces(array):
            flat = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
            for start in range(0, flat.size, CHUNK):
                yield flat[start : start + CHUNK].data


def packed(array: np.ndarray, bits: int) -> bytes:
    """Elements of 2 or 4 bits, the first in the low bits of the first byte."""
    codes = np.unpackbits(np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    return np.packbits(codes[:, :bits], bitorder="little").tobytes()


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of an array in row-major order; one that has to be rearranged, by as few rows as make up a chunk."""
    if array.flags.c_contiguous or array.nbytes <= CHUNK or array.ndim == 0:
        yield array
        return
    row = max(1, array[:1].nbytes)
    if row > CHUNK:
        for part in array:
            yield from _pieces(part)
        return
    step = CHUNK // row
    for start in range(0, len(array), step):
        yield array[start : start + step]


__all__ = ["CHUNK", "WeightBytes", "packed"]
