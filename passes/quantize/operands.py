"""Quantised operands of products: 8-bit data, a zero point, a scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.ops.arith import Cast, Sub
from ...ir.ops.quant import Dequantize
from ...ir.ops.shape import Transpose
from ..canonicalize.match import constant, is_splat
from ..rewrite import Builder

_NARROW = ("i8", "u8")


@dataclass(frozen=True)
class Activations:
    """`(data - zero) * scale`: `data` is i8 or u8; `zero` (None: 0) is an integer for the whole tensor, or one that
    broadcasts against it along its last dimension; `scale` has one element, or is absent in a product of integers."""

    data: Value
    zero: Value | None
    scale: Value | None


@dataclass(frozen=True)
class Weights:
    """`(data - zero) * scale` of constants: `data` an array of i8 or u8; `zero` and `scale` (absent in a product of
    integers) of one element, or one for each coordinate along the axis of the result's columns."""

    data: np.ndarray
    zero: np.ndarray
    scale: np.ndarray | None

    @property
    def dtype(self) -> str:
        """Element type of the data."""
        return "u8" if self.data.dtype == np.uint8 else "i8"


def activations(value: Value) -> Activations | None:
    """`value` as a quantised tensor with one scale; None when it is not one."""
    match value.op:
        case Dequantize(x=x, scale=scale, zero=zero) if x.tensor.dtype in _NARROW and scale.tensor.elements == 1:
            return Activations(x, None if zero is None or is_splat(zero, 0) else zero, scale)
        case Cast(x=x, dtype="i32") if x.tensor.dtype in _NARROW:
            return Activations(x, None, None)
        case Sub(x=x, y=zero) if isinstance(x.op, Cast) and value.type == x.type:
            inner = activations(x)
            known = integers(zero)
            absent = known is not None and not known.any()
            return None if inner is None else replace(inner, zero=None if absent else zero)
        case _:
            return None


def weights(value: Value, axis: int) -> Weights | None:
    """`value` as quantised constant weights, whose scales and zero points may differ along `axis`; None when it is no
    such thing. Zero points are taken off the weights where 8 bits hold what is left."""
    found = _weights(value, axis)
    if found is None or not found.zero.any():
        return found
    shape = [-1 if d == axis else 1 for d in range(found.data.ndim)]
    centred = found.data.astype(np.int32) - (
        found.zero.reshape(shape) if found.zero.size > 1 else found.zero.reshape(())
    )
    for dtype in (np.int8, np.uint8):
        info = np.iinfo(dtype)
        if centred.size == 0 or (centred.min() >= info.min and centred.max() <= info.max):
            return replace(found, data=centred.astype(dtype), zero=np.zeros(1, np.int32))
    return found


def _weights(value: Value, axis: int) -> Weights | None:
    match value.op:
        case Transpose(x=x, perm=perm):
            inner = _weights(x, perm[axis])
            return None if inner is None else replace(inner, data=inner.data.transpose(perm))
        case Dequantize(x=x, scale=scale, zero=zero, axis=along, block=0):
            data, factor = constant(x), constant(scale)
            point = None if zero is None else constant(zero)
            if data is None or factor is None or data.dtype not in _NARROW or (zero is not None and point is None):
                return None
            if factor.elements != 1 and along != axis:
                return None
            return Weights(data.array(), _flat(point), factor.array().reshape(-1))
        case Cast(x=x, dtype="i32"):
            data = constant(x)
            return Weights(data.array(), _flat(None), None) if data is not None and data.dtype in _NARROW else None
        case Sub(x=x, y=y) if isinstance(x.op, Cast) and value.type == x.type:
            inner, point = _weights(x, axis), integers(y)
            if inner is None or point is None or not _along(point.shape, inner.data.shape, axis):
                return None
            return replace(inner, zero=point.astype(np.int32).reshape(-1))
        case _:
            return None


def integers(value: Value) -> np.ndarray | None:
    """The elements of a constant of integers, or of one that is only widened; None when it is not constant."""
    data = constant(value.op.x if isinstance(value.op, Cast) else value)
    if data is None and value.op is not None and value.op.op_name == "shape.reshape":
        inner = integers(value.op.inputs[0])
        return None if inner is None or not value.tensor.is_static else inner.reshape(value.tensor.static_shape)
    return None if data is None or data.dtype not in (*_NARROW, "i32") else data.array().astype(np.int32)


def _flat(data: ConstantData | None) -> np.ndarray:
    return np.zeros(1, np.int32) if data is None else data.array().astype(np.int32).reshape(-1)


def _along(shape: tuple[int, ...], whole: tuple[int, ...], axis: int) -> bool:
    """Whether an array of `shape` broadcasts against `whole` and differs along `axis` at most."""
    full = (1,) * (len(whole) - len(shape)) + shape
    return len(full) == len(whole) and all(n == 1 or d == axis for d, n in enumerate(full))


def wide(b: Builder, value: Value) -> Value:
    """`value` as i32."""
    return value if value.tensor.dtype == "i32" else b(Cast(value, "i32"))


__all__ = ["Activations", "Weights", "activations", "integers", "weights", "wide"]
