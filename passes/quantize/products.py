"""Matrix products and convolutions of quantised tensors with constant weights, as products of 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.core import Value
from ...ir.ops.arith import Add, Cast, Mul, Sub
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Conv
from ...ir.ops.shape import Pad, Reshape
from ...ir.ops.windows import Pads
from ..rewrite import Builder, Pattern
from .operands import Activations, Weights, activations, integers, weights, wide

_GROUP = 4  # elements of 8 bits that one lane of 32 adds up
_FEW_CHANNELS = 8  # so many are rounded up to whole groups


def matmul_of_quantised(op: MatMul, b: Builder) -> Sequence[Value] | None:
    """`matmul((a - za) * sa, (w - zw) * sw)` -> `(matmul(a, w) - za * sum(w) - ...) * (sa * sw)`"""
    if op.a.tensor.shape is None or op.a.tensor.rank < 2 or op.b.tensor.rank != 2:
        return None
    a, w = activations(op.a), weights(op.b, 1)
    if a is None or w is None or (a.scale is None) != (w.scale is None) or not _last_is_one(a.zero):
        return None
    total = b(MatMul(a.data, b.constant(np.ascontiguousarray(w.data))))
    total = _less_zero_of_a(b, total, a, w.data.sum(axis=0, dtype=np.int32))
    if w.zero.any():  # sum a - K za for each row, times the zero point of each column
        depth = w.data.shape[0]
        ones = b.constant(np.ones((depth, 1), np.int8))
        sums = b(MatMul(a.data, ones))
        if a.zero is not None:
            sums = b(Sub(sums, b(Mul(wide(b, a.zero), b.splat(depth, "i32")))))
        total = b(Sub(total, b(Mul(sums, b.constant(w.zero.astype(np.int32))))))
    return [_scaled(b, total, a, w, (), op.result.tensor.dtype)]


def conv_of_quantised(op: Conv, b: Builder) -> Sequence[Value] | None:
    """`conv((x - zx) * sx, (w - zw) * sw)` -> `(conv(x, w) - zx * sum(w)) * (sx * sw)`; borders hold the zero point"""
    if op.x.tensor.shape is None:
        return None
    x, w = activations(op.x), weights(op.w, 0)
    if x is None or w is None or (x.scale is None) != (w.scale is None) or not _one(x.zero) or w.zero.any():
        return None
    data, weight, pads = _padded(b, op, x, w.data)
    space = (1,) * len(pads)
    total = b(Conv(data, b.constant(weight), None, op.strides, pads, op.dilations, op.groups))
    sums = w.data.reshape(len(w.data), -1).sum(axis=1, dtype=np.int32)
    total = _less_zero_of_a(b, total, x, sums.reshape(-1, *space))
    if op.bias is not None and x.scale is None:
        total = b(Add(total, b(Reshape(op.bias, (len(w.data), *space)))))
    result = _scaled(b, total, x, w, space, op.result.tensor.dtype)
    if op.bias is not None and x.scale is not None:
        result = b(Add(result, b(Reshape(op.bias, (len(w.data), *space)))))
    return [result]


def _padded(b: Builder, op: Conv, x: Activations, weight: np.ndarray) -> tuple[Value, np.ndarray, Pads]:
    """Picture, weights and padding such that borders which are not zero are part of the picture, and a few channels are
    a whole group of four."""
    data, pads, more = x.data, op.pads, 0
    if op.groups == 1 and weight.shape[1] < _FEW_CHANNELS and weight.shape[1] % _GROUP and weight[0].size > _GROUP:
        more = -weight.shape[1] % _GROUP
        weight = np.pad(weight, [(0, more if d == 1 else 0) for d in range(weight.ndim)])
    border = x.zero is not None and any(p for pair in pads for p in pair)
    if not border and not more:
        return data, np.ascontiguousarray(weight), pads
    point = None
    if x.zero is not None:
        same = x.zero.tensor.dtype == data.tensor.dtype
        point = _as_scalar(b, x.zero if same else b(Cast(x.zero, data.tensor.dtype)))
    inner = pads if border else ((0, 0),) * len(pads)
    data = b(Pad(data, point, ((0, 0), (0, more), *inner)))
    return data, np.ascontiguousarray(weight), ((0, 0),) * len(pads) if border else pads


def _one(value: Value | None) -> bool:
    return value is None or value.tensor.elements == 1


def _last_is_one(value: Value | None) -> bool:
    return value is None or (value.tensor.shape is not None and (value.tensor.rank == 0 or value.tensor.dims[-1] == 1))


def _as_scalar(b: Builder, value: Value) -> Value:
    return value if value.tensor.rank == 0 else b(Reshape(value, ()))


def _less_zero_of_a(b: Builder, total: Value, a: Activations, sums: np.ndarray) -> Value:
    """`total` less the zero point of the activations times the `sums` of the weights for each column."""
    if a.zero is None:
        return total
    zero = integers(a.zero)
    with np.errstate(over="ignore"):
        if zero is not None and zero.size == 1:
            return b(Add(total, b.constant(np.negative(sums * zero.reshape(()).astype(np.int32)))))
    zero_value = wide(b, a.zero)
    if zero_value.tensor.elements == 1:
        zero_value = _as_scalar(b, zero_value)
    return b(Sub(total, b(Mul(zero_value, b.constant(sums)))))


def _scaled(b: Builder, total: Value, a: Activations, w: Weights, space: tuple[int, ...], dtype: str) -> Value:
    """The sums of integers as what they stand for."""
    if a.scale is None or w.scale is None:
        return total
    column = w.scale.astype(np.float32)
    column = column.reshape(()) if column.size == 1 else column.reshape(-1, *space)
    known = _floats(a.scale)
    real = b(Cast(total, "f32"))
    if known is not None:
        factor = b.constant((known.astype(np.float64).reshape(()) * column).astype(np.float32))
        result = b(Mul(real, factor))
    else:
        scale = a.scale if a.scale.tensor.dtype == "f32" else b(Cast(a.scale, "f32"))
        result = b(Mul(real, b(Mul(_as_scalar(b, scale), b.constant(column)))))
    return result if dtype == "f32" else b(Cast(result, dtype))


def _floats(value: Value) -> np.ndarray | None:
    op = value.op
    return op.value.array() if op is not None and op.op_name == "constant" else None  # type: ignore[attr-defined]


PATTERNS: list[Pattern] = [matmul_of_quantised, conv_of_quantised]
