"""TensorProto to ConstantData: every element type, every way ONNX stores elements, weights by reference.

Elements stand in `raw_data` (little-endian), in a typed list (`float_data`, `int32_data` ...), or in another file. Raw
and external elements are referred to, never read; typed lists become arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike
from onnx import TensorProto

from ...ir.constants import ConstantData, FileSource
from ...ir.errors import ModelError
from ...ir.types import DTYPES
from ..elements import (
    by_reference,
    byte_count,
    check_bytes,
    checked_shape,
    constant,
    external_path,
    from_bytes,
    unpacked,
)
from ..text import quote
from .proto import Loaded

# ONNX's number of an element type -> planish's name
DTYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "f32",
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "i8",
    TensorProto.UINT16: "u16",
    TensorProto.INT16: "i16",
    TensorProto.INT32: "i32",
    TensorProto.INT64: "i64",
    TensorProto.STRING: "string",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "f16",
    TensorProto.DOUBLE: "f64",
    TensorProto.UINT32: "u32",
    TensorProto.UINT64: "u64",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.FLOAT8E4M3FN: "f8e4m3fn",
    TensorProto.FLOAT8E4M3FNUZ: "f8e4m3fnuz",
    TensorProto.FLOAT8E5M2: "f8e5m2",
    TensorProto.FLOAT8E5M2FNUZ: "f8e5m2fnuz",
    TensorProto.FLOAT8E8M0: "f8e8m0",
    TensorProto.UINT4: "u4",
    TensorProto.INT4: "i4",
    TensorProto.FLOAT4E2M1: "f4e2m1",
    TensorProto.UINT2: "u2",
    TensorProto.INT2: "i2",
    TensorProto.COMPLEX64: "c64",
    TensorProto.COMPLEX128: "c128",
}
_MAX_DENSE = 1 << 28  # elements up to which a sparse tensor is made dense


class UnsupportedType(Exception):
    """An element type that planish does not have; the text is its name."""


def dtype_name(number: int) -> str:
    """planish's name of an ONNX element type. Raises `UnsupportedType`."""
    if number not in DTYPE_NAMES:
        values = {value: name for name, value in TensorProto.DataType.items()}
        raise UnsupportedType(f"element type {values.get(number, number)}")
    return DTYPE_NAMES[number]


class TensorReader:
    """Reads the tensors of one model; knows where the bytes of its initializers are."""

    def __init__(self, model: Loaded) -> None:
        self.model = model

    def read(
        self, tensor: TensorProto, what: str = "initializer", place: tuple[int, int] | None = None
    ) -> ConstantData:
        """The tensor as a constant. `place` is where its raw bytes stand when they were left out of the proto. Raises
        `ModelError` when sizes do not fit, `UnsupportedType` for an element type planish does not have."""
        where = f"{self.model.label}: {what} {quote(tensor.name)}" if tensor.name else f"{self.model.label}: {what}"
        dtype = dtype_name(tensor.data_type)
        shape = checked_shape(tensor.dims, where)
        if tensor.HasField("segment"):
            raise ModelError(f"{where}: a tensor in segments, which ONNX never defined; export the model again")
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor, dtype, shape, where)
        if place is not None:
            return self._placed(place, dtype, shape, where)
        if tensor.HasField("raw_data"):
            return from_bytes(np.frombuffer(tensor.raw_data, np.uint8), dtype, shape, where)
        return _from_typed(tensor, dtype, shape, where)

    def _placed(self, place: tuple[int, int], dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
        offset, length = place
        if self.model.path is not None and by_reference(dtype):
            check_bytes(length, dtype, shape, where)
            return ConstantData(dtype, shape, FileSource(str(self.model.path), offset))
        if self.model.path is not None:
            data = np.fromfile(self.model.path, np.uint8, length, offset=offset)
        else:
            data = np.frombuffer(self.model.data, np.uint8, length, offset)
        return from_bytes(data, dtype, shape, where)

    def _external(self, tensor: TensorProto, dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
        entries = {e.key: e.value for e in tensor.external_data}
        path = external_path(self.model.folder, entries.get("location", ""), where)
        offset = _number(entries.get("offset", "0"), "offset", where)
        length = _number(entries.get("length", str(byte_count(dtype, shape))), "length", where)
        check_bytes(length, dtype, shape, where)
        size = path.stat().st_size
        if offset + length > size:
            raise ModelError(
                f"{where}: expected {length} bytes at offset {offset} of {path}, but that file has {size} bytes;"
                " it is cut short or belongs to another model"
            )
        if by_reference(dtype):
            return ConstantData(dtype, shape, FileSource(str(path), offset))
        return from_bytes(np.fromfile(path, np.uint8, length, offset=offset), dtype, shape, where)


def densified(values: ConstantData, indices: ConstantData, shape: tuple[int, ...], where: str) -> ConstantData:
    """A sparse tensor as a dense one: `values` at `indices`, flat (n) or by coordinates (n x rank), zeros elsewhere."""
    flat = indices.array().astype(np.int64)
    count = values.elements
    if math.prod(shape) > _MAX_DENSE:
        raise ModelError(f"{where}: a sparse tensor of shape {list(shape)} is too large to be stored as a dense one")
    if flat.shape == (count, len(shape)) and flat.ndim == 2:
        if count and not ((flat >= 0) & (flat < np.array(shape))).all():
            raise ModelError(f"{where}: expected indices inside {list(shape)}, got some outside")
        flat = np.ravel_multi_index(tuple(flat.T), shape) if count else np.zeros(0, np.int64)
    if flat.shape != (count,):
        raise ModelError(f"{where}: expected {count} indices, one for each value, got {indices.type}")
    if count and not (flat.min() >= 0 and flat.max() < math.prod(shape)):
        raise ModelError(f"{where}: expected indices in 0..{math.prod(shape) - 1}, got {flat.min()}..{flat.max()}")
    dense = np.zeros(math.prod(shape), DTYPES[values.dtype].numpy)
    dense[flat] = values.array().reshape(-1)
    return constant(dense.reshape(shape), values.dtype)


def _number(text: str, key: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ModelError(f"{where}: external data: expected {key} to be a number, got {quote(text)}")
    return int(text)


def _bits16(kind: DTypeLike) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: a.astype(np.uint16).view(np.dtype(kind))


def _bits8(kind: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: a.astype(np.uint8).view(kind)


# element type -> (field of TensorProto, from the field's numbers to elements; None: plain conversion)
_TYPED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "f32": ("float_data", None),
    "f64": ("double_data", None),
    "i64": ("int64_data", None),
    "u64": ("uint64_data", None),
    "u32": ("uint64_data", None),
    "f16": ("int32_data", _bits16(np.float16)),
    "bf16": ("int32_data", _bits16(ml_dtypes.bfloat16)),
    "bool": ("int32_data", lambda a: a != 0),
    "c64": ("float_data", lambda a: a.view(np.complex64)),  # real, imaginary, real, ...
    "c128": ("double_data", lambda a: a.view(np.complex128)),
}
_FIELD_TYPES = {"float_data": np.float32, "double_data": np.float64, "int64_data": np.int64, "uint64_data": np.uint64}


def _from_typed(tensor: TensorProto, dtype: str, shape: tuple[int, ...], where: str) -> ConstantData:
    count = math.prod(shape)
    if dtype == "string":
        _check_count(len(tensor.string_data), count, dtype, "string_data", where)
        strings = np.empty(count, np.object_)
        strings[:] = [s.decode("utf-8", "replace") for s in tensor.string_data]
        return constant(strings.reshape(shape), dtype)
    field, convert = _TYPED.get(dtype, ("int32_data", None))
    if DTYPES[dtype].kind == "float8":
        convert = _bits8(DTYPES[dtype].numpy)
    numbers = np.array(getattr(tensor, field), _FIELD_TYPES.get(field, np.int32))
    if 0 < DTYPES[dtype].bits < 8:
        _check_count(numbers.size, byte_count(dtype, shape), dtype, field, where)
        return constant(unpacked(numbers.astype(np.uint8), dtype, shape), dtype)
    each = 2 if DTYPES[dtype].kind == "complex" else 1
    _check_count(numbers.size, each * count, dtype, field, where)
    values = convert(numbers) if convert else numbers.astype(DTYPES[dtype].numpy)
    return constant(values.reshape(shape), dtype)


def _check_count(got: int, expected: int, dtype: str, field: str, where: str) -> None:
    if got != expected:
        raise ModelError(f"{where}: expected {expected} elements of {dtype} in {field}, got {got}")


__all__ = ["DTYPE_NAMES", "TensorReader", "UnsupportedType", "checked_shape", "densified", "dtype_name"]
