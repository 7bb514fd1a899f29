"""MindSpore's `.ckpt`: protobuf values of a name and a tensor, one behind the other.

A tensor of more than 512 MB is several consecutive values of one name, each with the sizes of the whole. Values may
be strings (UTF-32) or maps of three tensors. `crc_num` and 10 bytes of CRC-32 may stand behind it all.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...ir.constants import ConstantData, FileSource, PiecesSource
from ...ir.errors import ModelError
from ..elements import by_reference, byte_count, checked_shape, from_bytes
from ..encryption import wrong_key
from ..protobuf import Buffer, Message, WireError
from ..text import quote
from .proto import Checkpoint

_VALUE, _TAG, _TENSOR, _MAP = 1, 1, 2, 3  # field numbers: of the file, of a value
_DIMS, _TYPE, _CONTENT = 1, 2, 3  # of a tensor
_CRC_MARK, _CRC_BYTES = b"crc_num", 10
_CACHE_MARK = ".__param_key__"
_MAP_PARTS = ("keys", "values", "status")
_KEEP = 1024  # bytes up to which a tensor is read at once
_DTYPES = {
    "Int8": "i8", "UInt8": "u8", "Int16": "i16", "UInt16": "u16", "Int32": "i32", "UInt32": "u32", "Int64": "i64",
    "UInt64": "u64", "Float16": "f16", "Float32": "f32", "Float64": "f64", "Bool": "bool", "BFloat16": "bf16",
    "Int4": "i8", "str": "string",
}  # fmt: skip
"""MindSpore's element types. "Int4" is two numbers in a byte, here the bytes as they are."""


def is_ckpt(head: bytes) -> bool:
    """Whether a file that starts with `head` is a plain `.ckpt`: a value whose first field is its name."""
    if head[:1] != b"\x0a":
        return False
    at = 1
    while at < min(len(head), 11) and head[at] & 0x80:
        at += 1
    return head[at + 1 : at + 2] == b"\x0a"


def read_ckpt(buffer: Buffer, path: Path, cipher: str, check_crc: bool) -> Checkpoint:
    """Read the checkpoint in `buffer`. Raises `ModelError`."""
    label = buffer.label
    try:
        buffer.view = _without_crc(buffer, check_crc)
        found = _gathered(buffer)
    except WireError as e:
        if cipher:
            raise wrong_key(label, cipher) from e
        what = f"cut short after {len(buffer.view)} bytes" if e.truncated else "damaged"
        raise ModelError(f"{label}: the checkpoint is {what} ({e}); save or fetch it again") from e
    texts = {name: part.text() for name, part in found.items() if part.dtype == "string"}
    tensors = {name: part.constant() for name, part in found.items() if part.dtype != "string"}
    return Checkpoint(label, path, "ckpt", tensors, texts=texts, cipher=cipher)


def _without_crc(buffer: Buffer, check: bool) -> memoryview:
    view, size = buffer.view, len(_CRC_MARK) + _CRC_BYTES
    if len(view) < size or bytes(view[-size:-_CRC_BYTES]) != _CRC_MARK:
        return view
    body = view[:-size]
    expected = int.from_bytes(view[-_CRC_BYTES:], "big")
    if check and (got := zlib.crc32(body)) != expected:
        raise ModelError(
            f"{buffer.label}: expected the checksum {expected:#010x}, got {got:#010x}; the file is damaged"
        )
    return body


@dataclass
class _Part:
    """A tensor of which `pieces` (start, end) have been found so far."""

    buffer: Buffer
    where: str
    type_name: str
    dims: tuple[int, ...]
    pieces: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def dtype(self) -> str:
        return _DTYPES[self.type_name]

    @property
    def got(self) -> int:
        return sum(end - start for start, end in self.pieces)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes. Scalars of 1.x have the size 0."""
        return () if self.dims == (0,) and self.got else self.dims

    def continues(self, other: _Part) -> bool:
        """Whether `other`, the next value of the same name, is the next piece of this tensor."""
        same = (self.type_name, self.dims) == (other.type_name, other.dims)
        return same and self.dtype != "string" and self.got < byte_count(self.dtype, self.shape)

    def text(self) -> str:
        """A string."""
        content = b"".join(bytes(self.buffer.view[start:end]) for start, end in self.pieces)
        try:
            return content.decode("utf-32-le")
        except UnicodeDecodeError as e:
            raise ModelError(f"{self.where}: a string in invalid UTF-32; the file is damaged") from e

    def constant(self) -> ConstantData:
        """A tensor, which stays in its file if it is large."""
        dtype, shape, path = self.dtype, self.shape, self.buffer.path
        fits = self.got == byte_count(dtype, shape)
        if path is not None and fits and self.got > _KEEP and by_reference(dtype):
            places = tuple((start, end - start) for start, end in self.pieces)
            source = FileSource(str(path), places[0][0]) if len(places) == 1 else PiecesSource(str(path), places)
            return ConstantData(dtype, shape, source)
        parts = [np.frombuffer(self.buffer.view[start:end], np.uint8) for start, end in self.pieces]
        return from_bytes(np.concatenate(parts), dtype, shape, self.where)


def _gathered(buffer: Buffer) -> dict[str, _Part]:
    """The tensors by name, their pieces together."""
    found: dict[str, _Part] = {}
    last = ""
    for value in buffer.message().messages(_VALUE):
        tag = value.text(_TAG).partition(_CACHE_MARK)[0]
        for name, part in _parts(buffer, value, tag):
            if name not in found:
                found[name] = part
            elif tag == last and found[name].continues(part):
                found[name].pieces += part.pieces
            else:
                raise ModelError(f"{buffer.label}: {quote(name)} is there twice; the file is damaged")
        last = tag
    if not found:
        raise ModelError(f"{buffer.label}: a checkpoint without tensors; save or fetch it again")
    return found


def _parts(buffer: Buffer, value: Message, tag: str) -> Iterator[tuple[str, _Part]]:
    where = f"{buffer.label}: {quote(tag)}"
    if not tag:
        raise ModelError(f"{buffer.label}: a tensor without a name; the file is damaged")
    tensor, map_tensor = value.message(_TENSOR), value.message(_MAP)
    if tensor is not None:
        yield tag, _part(buffer, tensor, where)
    elif map_tensor is not None:
        inner = list(map_tensor.messages(1))
        if len(inner) != len(_MAP_PARTS):
            raise ModelError(f"{where}: expected a map of keys, values and status, got {len(inner)} tensors")
        for name, child in zip(_MAP_PARTS, inner, strict=True):
            yield f"{tag}.{name}", _part(buffer, child, f"{where}: {name}")
    else:
        raise ModelError(f"{where}: a value without a tensor; the file is damaged")


def _part(buffer: Buffer, tensor: Message, where: str) -> _Part:
    name = tensor.text(_TYPE)
    if name not in _DTYPES:
        raise ModelError(f"{where}: expected an element type of MindSpore ({', '.join(_DTYPES)}), got {quote(name)}")
    place = tensor.place(_CONTENT)
    if place is None:
        raise ModelError(f"{where}: a tensor without contents; the file is damaged")
    dims = checked_shape(tensor.integers(_DIMS), where)
    if _DTYPES[name] != "string" and math.prod(dims or (1,)) and place[0] == place[1]:
        raise ModelError(f"{where}: expected {byte_count(_DTYPES[name], dims)} bytes, got none; the file is damaged")
    return _Part(buffer, where, name, dims, [place])
