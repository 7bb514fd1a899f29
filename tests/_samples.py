"""Samples of tensor operations with inputs, and comparison within the tolerance of an element type."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from planish.ir import ops
from planish.ir.core import REGISTRY
from planish.ir.ops.base import TensorOp
from planish.ir.ops.host import HostOp
from planish.ir.types import DTYPES, dtype_of

# Largest difference relative to the largest value: some roundings of each type.
TOLERANCE = {"f16": 2e-3, "bf16": 1.6e-2, "f32": 5e-6, "f64": 1e-12}


def tensor_ops() -> list[type[TensorOp]]:
    """All tensor operations of the package that kernels compute, by name."""
    package = ops.__name__
    found = [
        c
        for c in REGISTRY.values()
        if issubclass(c, TensorOp) and not issubclass(c, HostOp) and c.__module__.startswith(package)
    ]
    return sorted(found, key=lambda c: c.op_name)


def host_ops() -> list[type[HostOp]]:
    """All operations of the package that functions of the C runtime compute, by name."""
    found = [c for c in REGISTRY.values() if issubclass(c, HostOp) and c.__module__.startswith(ops.__name__)]
    return sorted(found, key=lambda c: c.op_name)


def samples() -> Iterator[tuple[str, TensorOp]]:
    """All samples of all operations, with a name for each."""
    for kind in tensor_ops():
        for i, op in enumerate(kind.samples()):
            yield f"{kind.op_name}-{i}", op


def sample_arrays(op: TensorOp) -> list[Any]:
    """Inputs for a sample, one per operand that is present; the same ones every time."""
    rng = np.random.default_rng(zlib.crc32(repr(op).encode()))
    chosen = op.sample_inputs(rng)
    if chosen is not None:
        return chosen
    arrays: list[Any] = []
    for value in op.inputs:
        info, shape = DTYPES[value.tensor.dtype], value.tensor.static_shape
        match info.kind:
            case "float":
                data: Any = rng.standard_normal(shape) * 2
            case "bool":
                data = rng.integers(0, 2, shape)
            case _:
                data = rng.integers(0 if info.kind == "uint" else -9, 10, shape)
        arrays.append(np.asarray(data).astype(info.numpy))
    return arrays


def operands(op: TensorOp, arrays: list[Any]) -> list[Any]:
    """`arrays` in operand order, with None where an optional operand is absent."""
    given = iter(arrays)
    return [None if v is None else next(given) for v in op.operands]


def reference(op: TensorOp, arrays: list[Any]) -> list[Any]:
    """What the reference gives, as a list."""
    with np.errstate(all="ignore"):
        result = op.reference(*operands(op, arrays))
    return [*result] if op.results[1:] else [result]


def assert_close(got: Any, want: Any, factor: float = 1.0) -> None:
    """Raise AssertionError unless both have one type, one shape, NaN and infinities at the same places, and differ by
    at most `factor` times the tolerance of the element type (relative to the largest value); integers are equal."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    dtype = dtype_of(want)
    if DTYPES[dtype].kind == "float8":  # NaN differs from itself, and may have either sign
        same = np.array_equal(got.astype(np.float32), want.astype(np.float32), equal_nan=True)
        assert same, f"expected {want}, got {got}"
        return
    if dtype not in TOLERANCE:
        assert np.array_equal(got, want), f"expected {want}, got {got}"
        return
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    assert np.array_equal(np.isfinite(a), finite)
    assert np.array_equal(a[~finite], b[~finite], equal_nan=True)
    largest = max(1.0, float(np.abs(b[finite]).max(initial=0)))
    error = float(np.abs(a[finite] - b[finite]).max(initial=0)) / largest
    assert error <= factor * TOLERANCE[dtype], f"largest difference {error:.3g} of the largest value"
