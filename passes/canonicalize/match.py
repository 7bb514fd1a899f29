"""What patterns ask about values: is it a constant, is it one number everywhere, is it used once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.constants import Constant, ConstantData, SplatSource
from ...ir.core import OpT, Value
from ...ir.types import DTYPES, TensorType, is_float

MATERIALIZE_BYTES = 1 << 20  # folding never makes larger constants, unless they replace as much


def constant(value: Value | None) -> ConstantData | None:
    """The data of a constant; None for everything else."""
    owner = value.op if value is not None else None
    return owner.value if isinstance(owner, Constant) else None


def splat(value: Value | None) -> Any | None:
    """The number that every element of a constant is; None when there is none."""
    data = constant(value)
    return data.splat_value() if data is not None and data.dtype != "string" else None


def is_splat(value: Value | None, number: float | int) -> bool:
    """True for a constant whose every element is `number`."""
    found = splat(value)
    return found is not None and not isinstance(found, str) and bool(found == number)


def used_once(value: Value) -> bool:
    """True when a single operation uses it."""
    return len(value.users) == 1


def only_use(value: Value, cls: type[OpT]) -> OpT | None:
    """The operation that defines `value`, if it is of class `cls` and `value` is used once; else None."""
    return value.op if isinstance(value.op, cls) and used_once(value) else None


def floating(value: Value) -> bool:
    """True for tensors of floats."""
    return isinstance(value.type, TensorType) and is_float(value.type.dtype)


def compute(fn: Callable[..., Any], *operands: ConstantData) -> ConstantData | None:
    """`fn` of constants of one element type, computed in double precision for floats and rounded once; None when the
    result would be too large to keep."""
    dtype = operands[0].dtype
    if all(isinstance(c.source, SplatSource) for c in operands):
        shape = np.broadcast_shapes(*(c.shape for c in operands))
        one = _wide(fn, dtype, [c.array().reshape(-1)[:1].reshape(()) for c in operands if c.elements])
        return ConstantData.splat(one.item(), dtype, shape) if all(c.elements for c in operands) else None
    size = math.prod(np.broadcast_shapes(*(c.shape for c in operands))) * DTYPES[dtype].bytes
    if size > max(MATERIALIZE_BYTES, sum(c.nbytes for c in operands)):
        return None
    return ConstantData.of(_wide(fn, dtype, [c.array() for c in operands]))


def _wide(fn: Callable[..., Any], dtype: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        if is_float(dtype):
            arrays = [a.astype(np.float64) for a in arrays]
        return np.asarray(fn(*arrays)).astype(DTYPES[dtype].numpy)


def per_channel(data: ConstantData, rank: int, channels: int) -> ConstantData | None:
    """`data`, which broadcasts against a tensor of `rank` with dimension 1 of size `channels`, as a vector of that many
    elements; None when it differs along other dimensions."""
    shape = (1,) * (rank - len(data.shape)) + data.shape
    if len(shape) != rank or any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, channels):
        return None
    if isinstance(data.source, SplatSource):
        return ConstantData.splat(data.source.value, data.dtype, (channels,))
    return ConstantData.of(np.ascontiguousarray(np.broadcast_to(data.array().reshape(-1), (channels,))))
