"""Bases of the tensor form's operations: what every operation says about itself.

An operation states its meaning twice, independently: `reference` in NumPy, and `kernel` (for elementwise operations
`scalar`) for all targets. Tests hold one against the other on `samples()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Op, Value
from ..errors import expect
from ..expr import Dim, Expr, const, minimum, symbol_ranges
from ..kernel.builder import KernelBuilder
from ..scalar import Array, ScalarBuilder
from ..types import TensorType, Type, broadcast, is_float


class TensorOp(Op):
    """An operation over whole tensors."""

    deterministic: ClassVar[bool] = True  # False: never folded, never merged (random numbers)

    def reference(self, *operands: Any) -> Any:
        """The NumPy meaning: arrays in operand order (None where an optional one is absent) to one array, or to a
        tuple of arrays when there are several results. Plain, exact, and fast enough for whole networks."""
        raise NotImplementedError(f"{self.op_name} has no reference")

    def kernel(self, k: KernelBuilder) -> None:
        """The meaning for all targets: writes every element of `k.outputs` from `k.inputs` (the operands that are
        present, in order)."""
        raise NotImplementedError(f"{self.op_name} has no kernel form")

    @classmethod
    def has_kernel(cls) -> bool:
        """True when the operation has a kernel form."""
        return cls.kernel is not TensorOp.kernel

    @classmethod
    def samples(cls) -> Iterator[Self]:
        """Small instances over fresh parameter values; the generic tests run all of them."""
        yield from ()

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Arrays for a sample when random ones will not do (indices); None for random ones."""
        return None


class Elementwise(TensorOp):
    """Broadcasts its operands (all of them `Value` fields) and applies `scalar` to each element."""

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        """The meaning of one element."""
        raise NotImplementedError(f"{self.op_name} has no scalar form")

    def result_dtype(self) -> str:
        """Element type of the result: by default that of the first operand."""
        return self.inputs[0].tensor.dtype

    def check_dtypes(self) -> None:
        """By default all operands have one element type."""
        dtypes = [v.tensor.dtype for v in self.inputs]
        expect(all(d == dtypes[0] for d in dtypes), f"expected operands of one element type, got {dtypes}")

    def infer(self) -> Sequence[Type]:
        self.check_dtypes()
        types = [v.tensor for v in self.inputs]
        if any(t.shape is None for t in types):
            return [TensorType(self.result_dtype(), None)]
        shape = broadcast(t.dims for t in types)
        expect(shape is not None, "expected shapes that broadcast, got " + ", ".join(map(str, types)))
        return [TensorType(self.result_dtype(), shape)]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            operands = [broadcast_read(k, v, point, out.tensor.dims) for v in k.inputs]
            k.write(self.scalar(k, *operands), out, *point)


def broadcast_read(
    k: KernelBuilder,
    value: Value,
    point: Sequence[Expr],
    dims: Sequence[Dim],
    *,
    plain: int = 0,
    guarded: bool = False,
) -> Value:
    """The element of `value`, which broadcasts to a result of shape `dims`, at the result's coordinates `point`.

    Where only the run tells whether a dimension is 1, its last coordinate stands for all that follow. The last `plain`
    dimensions do not broadcast. `guarded`: other dimensions are only said to be equal, which is checked before, but
    not known to the verifier."""
    shape = value.tensor.dims
    at: list[Expr] = []
    tail = zip(shape, point[len(point) - len(shape) :], dims[len(dims) - len(shape) :], strict=True)
    for number, (d, p, n) in enumerate(tail):
        if number >= len(shape) - plain:
            at.append(p)
        elif d == n or d == 1:
            at.append(const(0) if d == 1 else p)  # the same for all readers: they are compared when kernels join
        elif isinstance(d, Expr) and (isinstance(n, Expr) or d.is_data or d.symbol is None):  # no input can say that
            low, _ = d.bounds(symbol_ranges(d, 1))
            guarded = guarded or low is None or low < 1  # no element: the result has none either
            at.append(minimum(p, d - 1))
        else:  # inference takes them to be equal
            at.append(p)
    fill = False if value.tensor.dtype == "bool" else 0.0 if is_float(value.tensor.dtype) else 0
    return k.read(value, *at, fill=k.const(fill, value.tensor.dtype) if guarded else None)


def fresh(dtype: str, *shape: Dim) -> Value:
    """A parameter value for samples."""
    return Value(TensorType(dtype, tuple(shape)))
