"""Values that are no plain tensors: strings, sequences, maps and optionals, to and from `planish_value`.

In Python, strings are object arrays of `str`, sequences are lists, maps are dicts, an optional without a value is None.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int64, c_uint64
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ._native import Map, Strings, Tensor, Value
from .dtypes import dlpack_code, dtype_from_dlpack, is_packed, numpy_dtype, pack, packed_bytes, unpack
from .errors import InputError

Array = np.ndarray[Any, Any]
TENSOR, STRINGS, SEQUENCE, MAP, ABSENT = range(5)


@dataclass(frozen=True)
class TypeText:
    """A port's type: `kind` is "tensor", "string", "seq", "optional" or "map"; `dtype` a tensor's element type; `parts`
    the types inside."""

    kind: str
    dtype: str = ""
    parts: tuple[TypeText, ...] = ()


def parse_type(text: str) -> TypeText:
    """Read "f32", "f32[N,3]", "string", "seq<f32[N]>", "optional<...>", "map<string,f32>"."""
    head, bracket, rest = text.partition("<")
    if bracket and rest.endswith(">") and head in ("seq", "optional", "map"):
        inner = rest[:-1]
        parts = inner.split(",", 1) if head == "map" else [inner]
        return TypeText(head, "", tuple(parse_type(part) for part in parts))
    dtype = text.partition("[")[0]
    return TypeText("string" if dtype == "string" else "tensor", dtype)


def is_plain(dtype: str) -> bool:
    """Is this the type of a tensor of numbers, which travels without a copy?"""
    return parse_type(dtype).kind == "tensor"


class Prepared:
    """A native value, and all the memory that it points to."""

    def __init__(self, where: str, type: TypeText, value: Any, array: Callable[[Any, str], Array]) -> None:
        """`array` makes the NumPy array of an element type from what was passed. Raises `InputError`."""
        self._where = where
        self._array = array
        self._keep: list[Any] = []
        self.value = self._make(type, value)

    def _refuse(self, expected: str, value: Any) -> InputError:
        return InputError(f"{self._where}: expected {expected}, got {_kind_of(value)}")

    def _make(self, type: TypeText, value: Any) -> Value:
        if type.kind == "optional":
            return Value(kind=ABSENT) if value is None else self._make(type.parts[0], value)
        if type.kind == "seq":
            return self._sequence(type.parts[0], value)
        if type.kind == "map":
            return self._map(type, value)
        return self._strings(value) if type.kind == "string" else self._tensor(type.dtype, value)

    def _sequence(self, type: TypeText, value: Any) -> Value:
        if not isinstance(value, (list, tuple)):
            raise self._refuse("a list", value)
        values = cast(Sequence[Any], value)
        items = (Value * max(len(values), 1))(*(self._make(type, item) for item in values))
        self._keep.append(items)
        made = Value(kind=SEQUENCE)
        made.data.sequence.items = ctypes.cast(items, POINTER(Value))
        made.data.sequence.count = len(values)
        return made

    def _map(self, type: TypeText, value: Any) -> Value:
        if not isinstance(value, Mapping):
            raise self._refuse("a dict", value)
        entries = cast(Mapping[Any, Any], value)
        key, item = type.parts
        pair = (Value * 2)(self._column(key, list(entries.keys())), self._column(item, list(entries.values())))
        self._keep.append(pair)
        made = Value(kind=MAP)
        made.data.map = Map(ctypes.pointer(pair[0]), ctypes.pointer(pair[1]))
        return made

    def _column(self, type: TypeText, values: list[Any]) -> Value:
        """Keys or values of a map: one array where each is a scalar, else a sequence."""
        scalars = type.kind == "string" or (type.kind == "tensor" and all(np.ndim(v) == 0 for v in values))
        if not scalars:
            return self._sequence(type, values)
        if type.kind == "string":
            return self._strings(np.array(values, object).reshape(len(values)))
        return self._tensor(type.dtype, np.array(values, numpy_dtype(type.dtype)).reshape(len(values)))

    def _strings(self, value: Any) -> Value:
        array = np.asarray(value, object) if not isinstance(value, np.ndarray) else cast(Array, value)
        if array.dtype.kind not in "OUST":
            raise self._refuse("an array of str", value)
        data = [self._text(item) for item in array.ravel().tolist()]
        texts = (c_char_p * max(len(data), 1))(*data)
        lengths = (c_uint64 * max(len(data), 1))(*map(len, data))
        shape = (c_int64 * max(array.ndim, 1))(*array.shape)
        self._keep += [data, texts, lengths, shape]
        made = Value(kind=STRINGS)
        made.data.strings = Strings(ctypes.cast(texts, POINTER(c_char_p)), lengths, shape, array.ndim)
        return made

    def _text(self, item: Any) -> bytes:
        if isinstance(item, str):
            try:
                return item.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError as error:
                raise InputError(f"{self._where}: a string is no Unicode text: {error}") from error
        if isinstance(item, bytes):
            return item
        raise self._refuse("str or bytes as an element", item)

    def _tensor(self, dtype: str, value: Any) -> Value:
        array = self._array(value, dtype)
        shape = (c_int64 * max(array.ndim, 1))(*array.shape)
        code, bits = dlpack_code(dtype)
        memory = pack(array, dtype) if is_packed(dtype) else array
        self._keep += [memory, shape]
        made = Value(kind=TENSOR)
        tensor: Tensor = made.data.tensor
        tensor.data = memory.__array_interface__["data"][0]
        tensor.device_type, tensor.ndim, tensor.shape = 1, array.ndim, shape
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = code, bits, 1
        return made


def _kind_of(value: Any) -> str:
    return f"an array of {cast(Array, value).dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _dims(pointer: Any, rank: int) -> tuple[int, ...]:
    return tuple(pointer[d] for d in range(rank))


def _read_tensor(tensor: Tensor) -> Array:
    shape = _dims(tensor.shape, tensor.ndim)
    name = dtype_from_dlpack(tensor.dtype.code, tensor.dtype.bits)
    dtype, count = numpy_dtype(name), int(np.prod(shape, dtype=np.int64))
    size = packed_bytes(name, count) if is_packed(name) else count * dtype.itemsize
    memory = np.empty(size, np.uint8)
    if size:
        ctypes.memmove(memory.ctypes.data, tensor.data, size)
    return unpack(memory, name, shape) if is_packed(name) else memory.view(dtype).reshape(shape)


def _read_strings(strings: Strings) -> Array:
    shape = _dims(strings.shape, strings.ndim)
    count = int(np.prod(shape, dtype=np.int64))
    addresses = ctypes.cast(strings.data, POINTER(ctypes.c_void_p))
    array = np.empty(count, object)
    for i in range(count):
        data = ctypes.string_at(addresses[i] or 0, strings.lengths[i]) if strings.lengths[i] else b""
        array[i] = data.decode("utf-8", "surrogateescape")
    return array.reshape(shape)


def _column(value: Value) -> Iterable[Any]:
    made: Any = read_value(value)
    return cast(Array, made).tolist() if isinstance(made, np.ndarray) else made


def read_value(value: Value) -> Any:
    """A copy in Python of a native value."""
    if value.kind == TENSOR:
        return _read_tensor(value.data.tensor)
    if value.kind == STRINGS:
        return _read_strings(value.data.strings)
    if value.kind == SEQUENCE:
        return [read_value(value.data.sequence.items[i]) for i in range(value.data.sequence.count)]
    if value.kind == MAP:
        return dict(zip(_column(value.data.map.keys[0]), _column(value.data.map.values[0]), strict=True))
    return None
