"""Tensors of a MindIR file: where their elements are (in the file, in a data file beside it, in typed lists)."""

from __future__ import annotations

import math
from pathlib import Path

import ml_dtypes
import numpy as np

from ...ir.constants import ConstantData, FileSource
from ...ir.errors import ModelError, UnsupportedError
from ...ir.types import DTYPES
from ..elements import by_reference, byte_count, checked_shape, constant, external_path, from_bytes
from ..encryption import cipher_of, decrypt
from ..protobuf import Buffer, Message
from ..text import quote
from .proto import Tensor
from .schema import COMPRESSIONS, DTYPE_NAMES, External, Tensors

_KEEP = 1024  # bytes up to which a tensor of a file is read at once
_LISTS = {"f32": Tensors.FLOATS, "f64": Tensors.DOUBLES, "i64": Tensors.INT64S, "u64": Tensors.UINT64S}
_UNKNOWN_RANK = (-2,)


class TensorReader:
    """Reads the tensors of one file. `folder` is where its data files may be (None: nowhere), `key` decrypts those."""

    def __init__(self, buffer: Buffer, folder: Path | None, key: bytes | None) -> None:
        self.buffer = buffer
        self.folder = folder
        self.key = key
        self._decrypted: dict[Path, np.ndarray] = {}

    def read(self, message: Message, what: str = "tensor") -> Tensor:
        """A tensor with its elements, if it has any. Raises `ModelError` where sizes do not fit."""
        name = message.text(Tensors.NAME)
        number = message.integer(Tensors.DTYPE)
        where = f"{self.buffer.label}: {what} {quote(name)}" if name else f"{self.buffer.label}: {what}"
        if not 0 <= number < len(DTYPE_NAMES):
            raise ModelError(f"{where}: expected an element type of 0 to {len(DTYPE_NAMES) - 1}, got {number}")
        dtype = DTYPE_NAMES[number]
        dims = tuple(message.integers(Tensors.DIMS))
        if dims != _UNKNOWN_RANK and any(d < -1 for d in dims):
            raise ModelError(f"{where}: expected dimensions of at least -1, got {list(dims)}")
        checked_shape((d for d in dims if d > 0), where)
        return Tensor(
            name,
            message.text(Tensors.REF_KEY),
            dtype,
            dims,
            self._elements(message, dtype, dims, where),
            tuple(message.integers(Tensors.MIN_DIMS)),
            tuple(message.integers(Tensors.MAX_DIMS)),
        )

    def _elements(self, message: Message, dtype: str, dims: tuple[int, ...], where: str) -> ConstantData | None:
        external = message.message(Tensors.EXTERNAL)
        raw = message.place(Tensors.RAW)
        lists = (Tensors.FLOATS, Tensors.INT32S, Tensors.STRINGS, Tensors.INT64S, Tensors.DOUBLES, Tensors.UINT64S)
        if external is None and raw is None and not any(number in message for number in lists):
            return None
        if compression := message.integer(Tensors.COMPRESSION):
            name = COMPRESSIONS[compression] if 0 < compression < len(COMPRESSIONS) else compression
            raise UnsupportedError(f"{where}: compressed weights ({name}); export the model without compression")
        shape = checked_shape(dims, where)
        if dtype == "none":
            raise ModelError(f"{where}: elements without an element type; the file is damaged")
        if raw is not None:
            return self._raw(raw, dtype, shape, where)
        if external is not None:
            return self._external(external, dtype, shape, where)
        return _listed(message, dtype, shape, where)

    def _raw(self, place: tuple[int, int], dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
        start, end = place
        if dtype == "string":
            return _strings([bytes(self.buffer.view[start:end])], shape, where)
        expected = byte_count(dtype, shape)
        if self.buffer.path is not None and expected == end - start > _KEEP and by_reference(dtype):
            return ConstantData(dtype, shape, FileSource(str(self.buffer.path), start))
        data = np.frombuffer(self.buffer.view[start:end], np.uint8)
        # A mapped file is let go after it was read; what was decrypted stays anyway.
        return from_bytes(data if self.buffer.path is None else data.copy(), dtype, shape, where)

    def _external(self, message: Message, dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
        path = external_path(self.folder, message.text(External.LOCATION), where)
        offset = message.integer(External.OFFSET)
        length = message.integer(External.LENGTH, byte_count(dtype, shape))
        content = self._content(path)
        size = path.stat().st_size if content is None else content.size
        if length < 0 or not 0 <= offset <= size - length:
            raise ModelError(
                f"{where}: expected {length} bytes at offset {offset} of {path}, but that file has {size} bytes;"
                " it is cut short or belongs to another model"
            )
        if content is not None:
            return from_bytes(content[offset : offset + length], dtype, shape, where)
        if length == byte_count(dtype, shape) and by_reference(dtype):
            return ConstantData(dtype, shape, FileSource(str(path), offset))
        return from_bytes(np.fromfile(path, np.uint8, length, offset=offset), dtype, shape, where)

    def _content(self, path: Path) -> np.ndarray | None:
        """What an encrypted data file holds; None for one that is plain. Data files start with the byte 1, and
        zeros."""
        if path not in self._decrypted:
            with path.open("rb") as file:
                head = file.read(64)
                if not cipher_of(head):
                    return None
                content = head + file.read()
            plain = decrypt(memoryview(content), self.key, str(path))
            self._decrypted[path] = np.frombuffer(plain, np.uint8)
        return self._decrypted[path]


def _listed(message: Message, dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
    """A tensor whose elements stand in a typed list: 16-bit floats as bits, small integers as 32-bit ones."""
    if dtype == "string":
        return _strings(message.contents(Tensors.STRINGS), shape, where)
    number = _LISTS.get(dtype, Tensors.UINT64S if dtype == "u32" else Tensors.INT32S)
    values = {
        Tensors.FLOATS: message.floats,
        Tensors.DOUBLES: message.doubles,
    }.get(number, message.integers)(number)
    if len(values) != math.prod(shape):
        raise ModelError(f"{where}: expected {math.prod(shape)} elements of {dtype}, got {len(values)}")
    if dtype in ("f16", "bf16"):
        kind = np.float16 if dtype == "f16" else ml_dtypes.bfloat16
        array = (np.array(values, np.int64) & 0xFFFF).astype(np.uint16).view(kind)
    elif DTYPES[dtype].kind == "float":
        array = np.array(values, DTYPES[dtype].numpy)
    else:
        array = np.array(values, np.int64).astype(DTYPES[dtype].numpy)
    return constant(array.reshape(shape), dtype)


def _strings(contents: list[bytes], shape: tuple[int, ...], where: str) -> ConstantData:
    if len(contents) != math.prod(shape):
        raise ModelError(f"{where}: expected {math.prod(shape)} strings, got {len(contents)}")
    array = np.empty(len(contents), np.object_)
    array[:] = [content.decode("utf-8", "replace") for content in contents]
    return constant(array.reshape(shape), "string")
