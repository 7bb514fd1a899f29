"""Element types by name, and the NumPy types that carry them.

Types that NumPy lacks are those of `ml_dtypes` if that package is there, else unsigned integers with the same bits.
Types of 4 and 2 bits are one element in a byte in NumPy, two or four in a byte in memory that the compiled code sees.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np

# name: (DLPack code, bits, NumPy name or None, ml_dtypes name or None, ONNX Runtime's name)
_TABLE: dict[str, tuple[int, int, str | None, str | None, str]] = {
    "bool": (6, 8, "bool", None, "bool"),
    "i8": (0, 8, "int8", None, "int8"),
    "i16": (0, 16, "int16", None, "int16"),
    "i32": (0, 32, "int32", None, "int32"),
    "i64": (0, 64, "int64", None, "int64"),
    "u8": (1, 8, "uint8", None, "uint8"),
    "u16": (1, 16, "uint16", None, "uint16"),
    "u32": (1, 32, "uint32", None, "uint32"),
    "u64": (1, 64, "uint64", None, "uint64"),
    "f16": (2, 16, "float16", None, "float16"),
    "f32": (2, 32, "float32", None, "float"),
    "f64": (2, 64, "float64", None, "double"),
    "c64": (5, 64, "complex64", None, "complex64"),
    "c128": (5, 128, "complex128", None, "complex128"),
    "bf16": (4, 16, None, "bfloat16", "bfloat16"),
    "i2": (0, 2, None, "int2", "int2"),
    "u2": (1, 2, None, "uint2", "uint2"),
    "i4": (0, 4, None, "int4", "int4"),
    "u4": (1, 4, None, "uint4", "uint4"),
    "f8e4m3fn": (10, 8, None, "float8_e4m3fn", "float8e4m3fn"),
    "f8e4m3fnuz": (11, 8, None, "float8_e4m3fnuz", "float8e4m3fnuz"),
    "f8e5m2": (12, 8, None, "float8_e5m2", "float8e5m2"),
    "f8e5m2fnuz": (13, 8, None, "float8_e5m2fnuz", "float8e5m2fnuz"),
    "f8e8m0": (14, 8, None, "float8_e8m0fnu", "float8e8m0"),
    "f4e2m1": (17, 4, None, "float4_e2m1fn", "float4e2m1"),
}


@cache
def _ml_dtypes() -> Any:
    if importlib.util.find_spec("ml_dtypes") is None:
        return None
    return importlib.import_module("ml_dtypes")  # not a dependency of ours: used if the user has it


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type that carries element type `name`. Raises `KeyError` for an unknown one."""
    _, _, plain, extension, _ = _TABLE[name]
    if plain:
        return np.dtype(plain)
    module = _ml_dtypes()
    if module is not None and extension and hasattr(module, extension):
        return np.dtype(getattr(module, extension))
    return raw_dtype(name)


def raw_dtype(name: str) -> np.dtype[Any]:
    """The unsigned integer that is as wide as an element of type `name` in NumPy."""
    return np.dtype(f"uint{max(_TABLE[name][1], 8)}")


@cache
def accepted_dtypes(name: str) -> tuple[np.dtype[Any], ...]:
    """NumPy types that may be passed for `name`: its own, and raw bits where NumPy lacks the type."""
    own = numpy_dtype(name)
    return (own,) if _TABLE[name][2] else (own, raw_dtype(name))


def dlpack_code(name: str) -> tuple[int, int]:
    """DLPack's type code and the bits of an element."""
    return _TABLE[name][:2]


@cache
def dtype_from_dlpack(code: int, bits: int) -> str:
    """The inverse of `dlpack_code`. Raises `KeyError` for a type that there is not."""
    for name, row in _TABLE.items():
        if row[:2] == (code, bits):
            return name
    raise KeyError(f"DLPack type code {code} of {bits} bits")


def is_packed(name: str) -> bool:
    """Are several elements in one byte?"""
    return _TABLE[name][1] < 8


def ort_type(name: str) -> str:
    """ONNX Runtime's name of a value of this type, such as "tensor(float)" or "seq(tensor(int64))"."""
    head, bracket, rest = name.partition("<")
    if bracket:
        parts = rest[:-1].split(",", 1) if head == "map" else [rest[:-1]]
        types = [ort_type(part) for part in parts]
        if head == "map":  # its key is no tensor
            types[0] = types[0].removeprefix("tensor(").removesuffix(")")
        return f"{head}({','.join(types)})"
    dtype = name.partition("[")[0]
    return f"tensor({_TABLE[dtype][4] if dtype in _TABLE else dtype})"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """planish's name of a NumPy type, or NumPy's own where there is none."""
    for name in _TABLE:
        if numpy_dtype(name) == dtype and (_TABLE[name][2] or numpy_dtype(name) != raw_dtype(name)):
            return name
    return str(dtype)


def packed_bytes(name: str, count: int) -> int:
    """Bytes of `count` elements of a packed type."""
    return (count * _TABLE[name][1] + 7) // 8


def pack(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Elements of a packed type, one in a byte -> two or four in a byte, the first in the low bits."""
    width = _TABLE[name][1]
    bits = array.view(np.uint8).ravel() & ((1 << width) - 1)
    bits = np.append(bits, np.zeros(-bits.size % (8 // width), np.uint8)).reshape(-1, 8 // width)
    shifted = bits << (np.arange(8 // width, dtype=np.uint8) * width)
    return np.bitwise_or.reduce(shifted.astype(np.uint8), axis=1)


def unpack(data: np.ndarray[Any, Any], name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The inverse of `pack`; signed integers are sign-extended when they are stored in plain bytes."""
    code, width = _TABLE[name][:2]
    shifts = np.arange(8 // width, dtype=np.uint8) * width
    bits = (data.reshape(-1, 1) >> shifts & ((1 << width) - 1)).astype(np.uint8)
    bits = bits.reshape(-1)[: int(np.prod(shape, dtype=np.int64))].reshape(shape)
    own = numpy_dtype(name)
    if code == 0:
        top = 1 << (width - 1)
        signed = (bits.astype(np.int8) ^ top) - top
        return signed.astype(own) if own != raw_dtype(name) else signed.view(np.uint8)
    return bits.view(own) if name == "f4e2m1" else bits.astype(own)
