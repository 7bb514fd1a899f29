"""Constants by reference: where the bytes of a weight are, never the bytes themselves.

A `ConstantData` is a few words long, whatever it refers to. Its array is made when somebody asks for it, and is a
view into a memory-mapped file where that is possible; nothing is kept alive by it afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .core import Op
from .errors import ModelError
from .types import DTYPES, TensorType, Type, dtype_of


@dataclass(frozen=True)
class FileSource:
    """`bytes` bytes at `offset` of the file `path`, little-endian, C order."""

    path: str
    offset: int


@dataclass(frozen=True)
class PiecesSource:
    """The same in several pieces of the file `path`, each of (offset, bytes), which are joined when asked for."""

    path: str
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ArraySource:
    """An array in memory. Two are equal when they are the same object."""

    array: np.ndarray = field(compare=False)
    identity: int

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True)
class SplatSource:
    """One value for every element. `value` is a Python number, bool or str."""

    value: Any


@dataclass(frozen=True)
class LinearSource:
    """Made from another constant when asked for: `matrix` times `base`, whose trailing dimensions have as many elements
    together as the matrix has columns. Elements in order of the matrix's rows, then of the leading dimensions of
    `base`. Computed in f64 and rounded once. (Weights that Winograd's algorithm transforms, for one.)"""

    base: ConstantData
    matrix: tuple[tuple[float, ...], ...]

    def array(self, dtype: np.dtype[Any]) -> np.ndarray:
        """The elements, as [rows of the matrix, points of the leading dimensions]."""
        matrix = np.array(self.matrix, dtype=np.float64)
        data = self.base.array().reshape(-1, matrix.shape[1])
        result = np.empty((len(matrix), len(data)), dtype=dtype)
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK].astype(np.float64)
            result[:, start : start + len(piece)] = matrix @ piece.T
        return result


Source = FileSource | PiecesSource | ArraySource | SplatSource | LinearSource
_CHUNK = 1 << 14  # rows that are computed at once


@dataclass(frozen=True)
class ConstantData:
    """A constant tensor: element type, shape, where the data is, and a transposition to apply (`()` for none; it
    permutes the *stored* shape into `shape`, as `numpy.transpose` does)."""

    dtype: str
    shape: tuple[int, ...]
    source: Source
    transpose: tuple[int, ...] = ()

    @staticmethod
    def of(array: np.ndarray | float | int | bool, dtype: str | None = None) -> ConstantData:
        """A constant that holds `array` (converted to `dtype` if given)."""
        value = np.asarray(array)
        if dtype is not None:
            value = value.astype(DTYPES[dtype].numpy)
        value.setflags(write=False)
        return ConstantData(dtype_of(value), value.shape, ArraySource(value, id(value)))

    @staticmethod
    def splat(value: float | int | bool, dtype: str, shape: Sequence[int] = ()) -> ConstantData:
        """A constant whose every element is `value`."""
        return ConstantData(dtype, tuple(shape), SplatSource(value))

    @property
    def type(self) -> TensorType:
        """Its tensor type."""
        return TensorType(self.dtype, self.shape)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes when materialised."""
        return self.elements * DTYPES[self.dtype].bytes

    def array(self) -> np.ndarray:
        """The elements, read-only; a view (memory-mapped, broadcast or transposed) where possible."""
        match self.source:
            case SplatSource(value=value):
                one = np.array(value, dtype=DTYPES[self.dtype].numpy)
                return np.broadcast_to(one, self.shape)
            case ArraySource(array=array):
                data = array
            case LinearSource():
                data = self.source.array(DTYPES[self.dtype].numpy).reshape(self._stored_shape)
            case FileSource(path=path, offset=offset):
                data = _mapped(path, offset, self.nbytes).view(DTYPES[self.dtype].numpy).reshape(self._stored_shape)
            case PiecesSource(path=path, pieces=pieces):
                joined = np.concatenate([_mapped(path, offset, count) for offset, count in pieces])
                joined.setflags(write=False)
                data = joined.view(DTYPES[self.dtype].numpy).reshape(self._stored_shape)
        return data.transpose(self.transpose) if self.transpose else data

    @property
    def _stored_shape(self) -> tuple[int, ...]:
        if not self.transpose:
            return self.shape
        stored = [0] * len(self.shape)
        for new, old in enumerate(self.transpose):
            stored[old] = self.shape[new]
        return tuple(stored)

    def permuted(self, order: Sequence[int]) -> ConstantData:
        """`numpy.transpose(self, order)` without touching data."""
        base = self.transpose or tuple(range(len(self.shape)))
        transpose = tuple(base[i] for i in order)
        identity = transpose == tuple(range(len(transpose)))
        shape = tuple(self.shape[i] for i in order)
        return ConstantData(self.dtype, shape, self.source, () if identity else transpose)

    def splat_value(self) -> Any | None:
        """The value all elements share when that is known without reading much (splats, and arrays of up to 4096
        elements); else None."""
        if isinstance(self.source, SplatSource):
            return self.source.value
        if not 0 < self.elements <= 4096:
            return None
        array = self.array()
        first = array.reshape(-1)[0]
        return first.item() if bool((array == first).all()) else None

    def digest(self) -> str:
        """SHA-256 over type, shape and contents, for caches; computed when asked for."""
        h = hashlib.sha256(f"{self.type}".encode())
        if isinstance(self.source, SplatSource):
            h.update(repr(self.source.value).encode())
        elif isinstance(self.source, LinearSource):
            h.update(f"{self.source.base.digest()} {self.source.matrix} {self.transpose}".encode())
        else:
            array = self.array()
            text = self.dtype == "string"
            h.update(repr(array.tolist()).encode() if text else np.ascontiguousarray(array).view(np.uint8).data)
        return h.hexdigest()

    def __str__(self) -> str:
        match self.source:
            case SplatSource(value=value):
                return f"splat({value})"
            case FileSource(path=path, offset=offset):
                return f"file({path!r}, {offset})"
            case PiecesSource(path=path, pieces=pieces):
                return f"pieces({path!r}, {len(pieces)})"
            case ArraySource():
                return f"array{self.shape}"
            case LinearSource(base=base):
                return f"linear({base})"


@lru_cache(maxsize=64)
def _file(path: str, stamp: tuple[int, int]) -> np.memmap:
    return np.memmap(path, dtype=np.uint8, mode="r")


def _mapped(path: str, offset: int, nbytes: int) -> np.ndarray:
    if nbytes == 0:
        return np.zeros(0, np.uint8)
    try:
        stat = Path(path).stat()
    except OSError as e:
        raise ModelError(f"{path}: weights are missing: {e.strerror}") from e
    if offset + nbytes > stat.st_size:
        need = offset + nbytes
        raise ModelError(f"{path}: expected at least {need} bytes, got {stat.st_size}: the file is cut short")
    return np.asarray(_file(path, (stat.st_mtime_ns, stat.st_size)))[offset : offset + nbytes]


class Constant(Op, name="constant"):
    """A constant tensor; `value` refers to its data."""

    value: ConstantData
    names: ClassVar[dict[str, str]] = {}

    def infer(self) -> Sequence[Type]:
        return [self.value.type]

    def reference(self) -> np.ndarray:
        """The elements: the operation's NumPy meaning."""
        return self.value.array()
