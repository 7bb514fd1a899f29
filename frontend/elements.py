"""Elements of tensors as files store them: how many bytes, where they may be, and the constants made of them."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import SupportsInt

import numpy as np

from ..ir.constants import ArraySource, ConstantData
from ..ir.errors import ModelError
from ..ir.types import DTYPES
from .text import quote

_MAX_ELEMENTS = 1 << 48  # beyond any address space; sizes stay exact in 64 bits


def checked_shape(
    dims: Iterable[SupportsInt], where: str, error: Callable[[str], ModelError] = ModelError
) -> tuple[int, ...]:
    """The dimensions of a tensor, none negative and not absurdly large; `error` makes of a message what is raised."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise error(f"{where}: expected dimensions of at least 0, got {list(shape)}")
    if math.prod(d for d in shape if d) > _MAX_ELEMENTS:
        raise error(f"{where}: dimensions {list(shape)} are too large: no tensor has that many elements")
    return shape


def byte_count(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes that ONNX stores for a tensor (elements of 4 and 2 bits are packed)."""
    return (math.prod(shape) * DTYPES[dtype].bits + 7) // 8


def external_path(folder: Path | None, location: str, where: str) -> Path:
    """The file that holds external data: a regular file inside the model's folder. Raises `ModelError`."""
    if folder is None:
        raise ModelError(f"{where}: its data is in the file {quote(location)}, but the model was not read from a file;"
                         " give the path of the model instead of its bytes")  # fmt: skip
    shown = quote(location)
    relative = Path(location)
    if not location or "\0" in location or relative.is_absolute() or ".." in relative.parts:
        raise ModelError(f"{where}: external data in {shown}: expected a path inside the model's folder; refused")
    path = folder / relative
    try:
        resolved = path.resolve()
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError) as e:
        raise ModelError(
            f"{where}: its data is missing: expected the file {path}; put it there (it comes with the model)"
        ) from e
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(
            f"{where}: external data in {shown} is a link out of the model's folder; refused: copy the file there"
        )
    if not stat.S_ISREG(mode):
        raise ModelError(f"{where}: external data in {shown} is not a regular file; refused")
    return resolved


def by_reference(dtype: str) -> bool:
    """Whether elements in a file can be used where they are."""
    # bool: a file may hold bytes other than 0 and 1; elements of less than a byte are packed; strings are no bytes
    return DTYPES[dtype].bits >= 8 and dtype not in ("bool", "string")


def check_bytes(got: int, dtype: str, shape: tuple[int, ...], where: str) -> None:
    """Raise `ModelError` unless `got` is the number of bytes that a tensor takes."""
    expected = byte_count(dtype, shape)
    if dtype == "string":
        raise ModelError(f"{where}: strings cannot be stored as raw bytes")
    if got != expected:
        shown = ",".join(map(str, shape))
        raise ModelError(f"{where}: expected {expected} bytes for {dtype}[{shown}], got {got}")


def from_bytes(data: np.ndarray, dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
    """A tensor of little-endian `data` (u8), as files store it. Raises `ModelError` if its size does not fit."""
    check_bytes(data.size, dtype, shape, where)
    if dtype == "bool":
        return constant((data != 0).reshape(shape), dtype)
    if 0 < DTYPES[dtype].bits < 8:
        return constant(unpacked(data, dtype, shape), dtype)
    return constant(data.view(DTYPES[dtype].numpy).reshape(shape), dtype)


def constant(array: np.ndarray, dtype: str) -> ConstantData:
    """A constant that holds `array`, which must be of the type that NumPy has for `dtype`, and must not change."""
    array.setflags(write=False)
    return ConstantData(dtype, array.shape, ArraySource(array, id(array)))


def unpacked(data: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Elements that are packed two or four in a byte, the first in the low bits."""
    width = DTYPES[dtype].bits
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    codes = (data.reshape(-1, 1) >> shifts & ((1 << width) - 1)).astype(np.uint8)
    codes = codes.reshape(-1)[: math.prod(shape)].reshape(shape)
    if DTYPES[dtype].kind == "float8":
        return codes.view(DTYPES[dtype].numpy)
    top = 1 << (width - 1) if DTYPES[dtype].kind == "int" else 0
    return ((codes.astype(np.int8) ^ top) - top).astype(DTYPES[dtype].numpy)
