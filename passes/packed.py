"""Elements of less than a byte at the model's border: callers pack them, kernels take one byte for each."""

from __future__ import annotations

from ..ir.core import Region, Value, Yield
from ..ir.expr import Dim, as_dim, as_expr, ceildiv, floordiv, minimum, mod
from ..ir.kernel.builder import KernelBuilder
from ..ir.types import DTYPES, TensorType

__all__ = ["flat", "is_packed", "pack_region", "packed_type", "unpack_region"]


def is_packed(dtype: str) -> bool:
    """True for element types of which several share a byte in the caller's memory."""
    return 0 < DTYPES[dtype].bits < 8


def flat(type: TensorType) -> TensorType:
    """The elements of a row-major tensor in one dimension."""
    return TensorType(type.dtype, (as_dim(type.elements),))


def packed_type(type: TensorType) -> TensorType:
    """The caller's memory of a tensor of `type`: u8, the first element in the low bits of the first byte."""
    return TensorType("u8", (_bytes(type),))


def _bytes(type: TensorType) -> Dim:
    return as_dim(ceildiv(as_expr(type.elements), 8 // DTYPES[type.dtype].bits))


def unpack_region(type: TensorType) -> Region:
    """A kernel from `packed_type(type)` to `flat(type)`."""
    bits = DTYPES[type.dtype].bits
    k = KernelBuilder([packed_type(type)], [flat(type)])
    with k.map({"i": flat(type).dims[0]}) as (i,):
        byte = k.cast(k.read(k.inputs[0], floordiv(i, 8 // bits)), "i32")
        by = k.cast(k.index(mod(i, 8 // bits) * bits), "i32")
        code = k.cast(k.apply("and", k.apply("shr", byte, by), k.const((1 << bits) - 1, "i32")), "u8")
        k.write(_from_code(k, code, type.dtype), k.outputs[0], i)
    k.region.append(Yield(()))
    return k.region


def pack_region(type: TensorType) -> Region:
    """A kernel from `flat(type)` to `packed_type(type)`; bits behind the last element are 0."""
    bits, count = DTYPES[type.dtype].bits, flat(type).dims[0]
    k = KernelBuilder([flat(type)], [packed_type(type)])
    with k.map({"i": _bytes(type)}) as (i,):
        byte = k.const(0, "i32")
        for part in range(8 // bits):
            at = i * (8 // bits) + part
            element = k.read(k.inputs[0], minimum(at, as_expr(count) - 1))
            code = k.apply("and", k.cast(_code(k, element, type.dtype), "i32"), k.const((1 << bits) - 1, "i32"))
            code = k.select(k.lt(k.index(at), k.index(count)), code, k.const(0, "i32"))
            byte = k.apply("or", byte, k.apply("shl", code, k.const(part * bits, "i32")))
        k.write(k.cast(byte, "u8"), k.outputs[0], i)
    k.region.append(Yield(()))
    return k.region


def _from_code(k: KernelBuilder, code: Value, dtype: str) -> Value:
    return k.apply("bitcast", code, dtype=dtype) if DTYPES[dtype].kind == "float8" else k.cast(code, dtype)


def _code(k: KernelBuilder, element: Value, dtype: str) -> Value:
    return k.apply("bitcast", element, dtype="u8") if DTYPES[dtype].kind == "float8" else k.cast(element, "u8")
