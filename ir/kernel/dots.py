"""Sums of products of narrow elements, several of which fit one 32-bit lane: 4 of 8 bits, 2 of bf16.

Machines have instructions that multiply such groups and add them up in one lane. What a kernel must look like for them
stands here once, for layouts (which put the elements of a group side by side), schedules and emitters.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import Value
from ..expr import sym
from ..target_info import TargetInfo
from ..types import DTYPES, ScalarType, TensorType
from .form import Read, Reduce, Scalar

_LANE_BYTES = 4
_SUMS = {"i8": "i32", "u8": "i32", "bf16": "f32"}


@dataclass(frozen=True)
class NarrowSum:
    """A reduction that adds products of two narrow factors: both of 8 bits into i32, or both bf16 into f32.

    `x` and `y` are the factors before they are widened; `group` is how many elements of them one lane holds."""

    reduce: Reduce
    x: Value
    y: Value
    group: int

    @property
    def dtypes(self) -> tuple[str, str]:
        """Element types of the factors."""
        return _dtype(self.x), _dtype(self.y)


def narrow_sum(reduce: Reduce) -> NarrowSum | None:
    """`reduce` as a sum of narrow products; None when it is none."""
    if len(reduce.inits) != 1:
        return None
    merged, product = reduce.combine.terminator.inputs[0].op, reduce.region.terminator.inputs[0].op
    match merged, product:
        case Scalar(fn="add", args=args), Scalar(fn="mul", args=(a, b)):
            x, y = _narrow(a), _narrow(b)
            if set(args) != set(reduce.combine.params) or x is None or y is None:
                return None
            accumulator = _dtype(a)
            if _SUMS.get(_dtype(x)) != accumulator or _SUMS.get(_dtype(y)) != accumulator:
                return None
            return NarrowSum(reduce, x, y, _LANE_BYTES // DTYPES[_dtype(x)].bytes)
        case _:
            return None


def _narrow(value: Value) -> Value | None:
    """The value that `value` is a widening of."""
    op = value.op
    return (
        op.args[0] if isinstance(op, Scalar) and op.fn == "cast" and isinstance(op.args[0].type, ScalarType) else None
    )


def _dtype(value: Value) -> str:
    assert isinstance(value.type, ScalarType)
    return value.type.dtype


def group_dim(read: Read) -> tuple[int, int]:
    """The innermost block of the buffer's layout, if it is what fills a 32-bit lane: its coordinate and its size; else
    (-1, 1). Neighbours along other dimensions are then whole lanes apart."""
    t = read.buffer.type
    if not isinstance(t, TensorType) or len(t.layout.blocks) < 2:
        return -1, 1
    dim, size = t.layout.blocks[-1]
    return (dim, size) if size * DTYPES[t.dtype].bytes == _LANE_BYTES else (-1, 1)


def summed_group(read: Read, reduce: Reduce) -> str:
    """The dimension of `reduce` along which `read` finds the elements of one lane side by side ("": none)."""
    at, _ = group_dim(read)
    if at < 0:
        return ""
    return next((d.name for d in reduce.dims if read.map[at] == sym(d.name)), "")


@dataclass(frozen=True)
class Packed:
    """A sum of narrow products one factor of which is packed in lanes: `lanes` is the read of it, `other` the factor
    that meets it, `dim` the dimension of the reduction that fills a lane."""

    sum: NarrowSum
    lanes: Read
    other: Value
    dim: str


def packed_sum(reduce: Reduce) -> Packed | None:
    """`reduce` as a sum of packed products, by the layouts of its buffers; None when nothing is packed so."""
    found = narrow_sum(reduce)
    if found is None:
        return None
    for own, other in ((found.x, found.y), (found.y, found.x)):
        if isinstance(own.op, Read) and not own.op.indices and own.op.fill is None:
            dim = summed_group(own.op, reduce)
            if dim and not isinstance(_extent(reduce, dim), int):
                return None
            if dim and group_dim(own.op)[1] == found.group:
                return Packed(found, own.op, other, dim)
    return None


def _extent(reduce: Reduce, dim: str) -> object:
    return next(d.extent for d in reduce.dims if d.name == dim)


def native_dot(target: TargetInfo, dtype: str = "u8") -> str:
    """The instruction that multiplies groups of `dtype` and adds them up in a lane ("": the target has none)."""
    if dtype == "bf16":
        return "vdpbf16ps" if target.has("avx512bf16") else ""
    if target.has("avx512vnni") or (target.has("avxvnni") and target.vector_bytes <= 32):
        return "vpdpbusd"
    return "usdot" if target.has("i8mm") else "sdot" if target.has("dotprod") else ""
