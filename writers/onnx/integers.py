"""Products of bytes: `sum (a - za)(w - zw)`, which planish has as operations of i32, is one operator in ONNX."""

from __future__ import annotations

from ...ir.constants import Constant
from ...ir.core import Value
from ...ir.ops import arith, shape
from .graph import Scope, Tensor

_BYTES = ("i8", "u8")


def bytes_of(scope: Scope, value: Value, axis: int | None) -> tuple[Tensor, Tensor | None] | None:
    """The bytes and the zero point that an i32 is made of; `axis` is the dimension along which there may be several
    zero points (None: one). None where it is made otherwise."""
    zero: Value | None = None
    source = value
    if isinstance(value.op, arith.Sub):
        source, zero = value.op.x, value.op.y
    narrow = _narrow(source)
    if narrow is None:
        return None
    if zero is None:
        return scope.of(narrow), None
    found = _zero(zero, axis, value.tensor.rank)
    if found is None or found.tensor.dtype != narrow.tensor.dtype:
        return None
    if isinstance(found.op, Constant) and found.op.value.splat_value() == 0:
        return scope.of(narrow), None
    point = scope.of(found)
    return scope.of(narrow), scope.squeeze(point) if found.tensor.dims == (1,) else point


def _narrow(value: Value) -> Value | None:
    """The bytes that a value is made of, if nothing but their type changed."""
    if value.tensor.dtype in _BYTES:
        return value
    made = value.op
    return made.x if isinstance(made, arith.Cast) and made.x.tensor.dtype in _BYTES else None


def _zero(value: Value, axis: int | None, rank: int) -> Value | None:
    """A zero point as ONNX has it, [] or [n], from one that broadcasts."""
    dims = value.tensor.shape
    if dims is None or not value.tensor.is_static:
        return None
    along = [i + rank - len(dims) for i, d in enumerate(dims) if d != 1]
    if along and along != [axis]:
        return None
    while isinstance(value.op, shape.Reshape) and value.tensor.rank > 1:
        value = value.op.x
    narrow = _narrow(value)
    return narrow if narrow is not None and narrow.tensor.rank <= 1 else None


__all__ = ["bytes_of"]
