"""Running sums and products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import as_expr
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, Type, is_float
from .base import TensorOp, fresh
from .windows import accumulate_dtype, convert

__all__ = ["CumProd", "CumSum"]


class Cumulative(TensorOp):
    """Running results along `axis`; `exclusive`: without the element itself; `reverse`: from the end.

    Numbers; integers wrap, f16 and bf16 are accumulated in f32."""

    function: ClassVar[str]  # of the scalar language
    start: ClassVar[int]  # what is there before the first element
    ufunc: ClassVar[np.ufunc]

    x: Value
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(DTYPES[x.dtype].kind in ("float", "int", "uint"), f"expected numbers, got {x.dtype}")
        expect(x.shape is None or 0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        dims = {f"d{i}": d for i, d in enumerate(x.tensor.dims)}
        along = {f"d{self.axis}": dims.pop(f"d{self.axis}")}
        first = k.const(float(self.start) if is_float(acc) else self.start, acc)
        with k.map(dims) as row, k.scan(along, init=[first]) as s:
            (position,), (before,) = s.dims, s.carried
            if self.reverse:
                position = as_expr(x.tensor.dims[self.axis]) - 1 - position
            at = [*row[: self.axis], position, *row[self.axis :]]
            after = k.apply(self.function, before, convert(k, k.read(x, *at), acc))
            k.write(convert(k, before if self.exclusive else after, x.tensor.dtype), out, *at)
            s.yield_(after)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        values = np.flip(x, self.axis) if self.reverse else x
        wide = values.astype(DTYPES[accumulate_dtype(self.x.tensor.dtype)].numpy)
        total = self.ufunc.accumulate(wide, axis=self.axis, dtype=wide.dtype)
        if self.exclusive:
            total = np.roll(total, 1, axis=self.axis)
            total[(slice(None),) * self.axis + (slice(0, 1),)] = self.start
        return np.ascontiguousarray(np.flip(total, self.axis) if self.reverse else total).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for exclusive in (False, True):
            for reverse in (False, True):
                yield cls(fresh("f32", 2, 5), 1, exclusive, reverse)
        yield cls(fresh("f32", 2, 3, 4), 1)
        yield cls(fresh("f32", 5), 0)
        for dtype in ("f64", "i32", "i64", "f16", "bf16"):
            yield cls(fresh(dtype, 3, 4), 0)


class CumSum(Cumulative, name="shape.cum_sum"):
    """Running sums. Source: ONNX CumSum."""

    function: ClassVar[str] = "add"
    start: ClassVar[int] = 0
    ufunc: ClassVar[np.ufunc] = np.add


class CumProd(Cumulative, name="shape.cum_prod"):
    """Running products. Source: ONNX CumProd."""

    function: ClassVar[str] = "mul"
    start: ClassVar[int] = 1
    ufunc: ClassVar[np.ufunc] = np.multiply
