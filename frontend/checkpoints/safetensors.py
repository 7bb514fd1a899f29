"""safetensors: a header in JSON (element types, shapes, places), then the tensors' bytes. They stay in the file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np

from ...ir.constants import ConstantData, FileSource
from ...ir.errors import ModelError
from ..elements import by_reference, byte_count, checked_shape, from_bytes
from ..text import quote
from .proto import Checkpoint

_LARGEST_HEADER = 100_000_000  # bytes, as in the format's own reader
_METADATA = "__metadata__"
_CRC = "crc_num"
_DTYPES = {
    "BOOL": "bool", "U8": "u8", "I8": "i8", "U16": "u16", "I16": "i16", "U32": "u32", "I32": "i32", "U64": "u64",
    "I64": "i64", "F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64", "F8_E4M3": "f8e4m3fn",
    "F8_E5M2": "f8e5m2", "F8_E8M0": "f8e8m0", "F8_E4M3FNUZ": "f8e4m3fnuz", "F8_E5M2FNUZ": "f8e5m2fnuz",
    "F4": "f4e2m1",
}  # fmt: skip


def is_safetensors(view: memoryview) -> bool:
    """Whether a file is safetensors: a length of at most 100 MB, and a JSON object behind it."""
    if len(view) < 10 or int.from_bytes(view[:8], "little") > _LARGEST_HEADER:
        return False
    return view[8] == ord("{")


def read_safetensors(view: memoryview, path: Path, label: str, check_crc: bool = True) -> Checkpoint:
    """Read the header. Raises `ModelError` where it is damaged or does not describe the bytes behind it exactly."""
    (length,) = struct.unpack_from("<Q", view)
    start = 8 + length
    if start > len(view):
        raise ModelError(
            f"{label}: expected a header of {length} bytes, got a file of {len(view)} bytes; it is cut short"
        )
    header = _header(bytes(view[8:start]), label)
    metadata = _metadata(header.pop(_METADATA, {}), label)
    places: list[tuple[int, int, str]] = []
    tensors: dict[str, ConstantData] = {}
    for name, entry in header.items():
        where = f"{label}: {quote(name)}"
        dtype, shape, begin, end = _entry(entry, where)
        if end > len(view) - start:
            raise ModelError(
                f"{where}: expected its bytes at {begin}..{end}, got a file with {len(view) - start} bytes of tensors;"
                " it is cut short"
            )
        places.append((begin, end, name))
        tensors[name] = _tensor(view, path, dtype, shape, start + begin, start + end, where)
    _check_places(places, len(view) - start, label)
    if check_crc and _CRC in metadata:
        _check_crc(metadata[_CRC], places, view[start:], label)
    return Checkpoint(label, path, "safetensors", tensors, metadata)


def _header(text: bytes, label: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            raise ModelError(f"{label}: {quote(twice)} is there twice in the header; the file is damaged")
        return found

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as e:  # ValueError: also invalid UTF-8, and numbers of thousands of digits
        reason = "nested too deep" if isinstance(e, RecursionError) else str(e)[:200]
        raise ModelError(f"{label}: the header of the safetensors file is not valid JSON: {reason}") from e
    if not isinstance(header, dict):
        raise ModelError(f"{label}: expected the header to be a JSON object, got {type(header).__name__}")
    return cast("dict[str, Any]", header)


def _metadata(found: object, label: str) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in cast("dict[str, object]", found).values()):
        raise ModelError(f"{label}: expected {_METADATA} to be an object of texts; the file is damaged")
    return cast("dict[str, str]", found)


def _entry(entry: object, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """Element type, shape, begin and end of a tensor."""
    if not isinstance(entry, dict):
        raise ModelError(f"{where}: expected an object with dtype, shape and data_offsets; the file is damaged")
    found = cast("Mapping[str, object]", entry)
    dtype, shape, offsets = (found.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        shown = quote(dtype) if isinstance(dtype, str) else repr(dtype)[:40]
        raise ModelError(f"{where}: expected a dtype that planish has ({', '.join(_DTYPES)}), got {shown}")
    if not _are_counts(shape):
        raise ModelError(f"{where}: expected a shape of whole numbers of at least 0, got {_shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(f"{where}: expected data_offsets [begin, end], got {_shown(offsets)}")
    sizes = checked_shape(shape, where)
    begin, end = offsets
    expected = byte_count(_DTYPES[dtype], sizes)
    if end - begin != expected:
        raise ModelError(f"{where}: expected {expected} bytes for {dtype}{_shown(list(sizes))}, got {end - begin}")
    return _DTYPES[dtype], sizes, begin, end


def _are_counts(found: object) -> TypeGuard[list[int]]:
    return isinstance(found, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in cast("list[object]", found)
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:76] + " ..."


def _tensor(
    view: memoryview, path: Path, dtype: str, shape: tuple[int, ...], start: int, end: int, where: str
) -> ConstantData:
    if by_reference(dtype):
        return ConstantData(dtype, shape, FileSource(str(path), start))
    return from_bytes(np.frombuffer(view[start:end], np.uint8).copy(), dtype, shape, where)


def _check_places(places: list[tuple[int, int, str]], size: int, label: str) -> None:
    """The tensors' bytes must cover all that is behind the header, none of them twice."""
    at = 0
    for begin, end, name in sorted(places):
        if begin != at:
            what = "overlaps another tensor" if begin < at else f"leaves {begin - at} bytes before it unused"
            raise ModelError(f"{label}: {quote(name)} {what}; the file is damaged")
        at = end
    if at != size:
        raise ModelError(f"{label}: expected {at} bytes of tensors behind the header, got {size}; the file is damaged")


def _check_crc(text: str, places: list[tuple[int, int, str]], data: memoryview, label: str) -> None:
    """MindSpore's checksum: of names and bytes, by name."""
    got = 0
    for begin, end, name in sorted(places, key=lambda place: place[2]):
        got = zlib.crc32(data[begin:end], zlib.crc32(name.encode(), got))
    if text != str(got):
        raise ModelError(f"{label}: expected the checksum {quote(text)}, got {got}; the file is damaged")
