"""Determinants of square matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Expr, as_expr
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import accumulate_dtype, convert, may_equal

__all__ = ["Det"]


class Det(TensorOp, name="linalg.det"):
    """The determinant of each matrix in the last two dimensions of `x` (floats).

    Gaussian elimination in a copy, the largest element of a column being the pivot. Source: ONNX Det."""

    names = {"onnx": "Det"}

    x: Value

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(is_float(x.dtype), f"expected floats, got {x.dtype}")
        if x.shape is None:
            return [TensorType(x.dtype, None)]
        square = x.rank >= 2 and may_equal(x.dims[-2], x.dims[-1])
        expect(square, f"expected square matrices, got {x}")
        return [TensorType(x.dtype, x.dims[:-2])]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        dtype = accumulate_dtype(x.tensor.dtype)
        size = as_expr(x.tensor.dims[-1])
        with k.map({f"d{i}": d for i, d in enumerate(x.tensor.dims[:-2])}) as point:
            a = k.local(dtype, size, size)
            with k.map(r=size, c=size) as (r, c):
                k.write(convert(k, k.read(x, *point, r, c), dtype), a, r, c)
            with k.scan(step=size, init=[k.const(1.0, dtype)]) as s:
                (step,), (product,) = s.dims, s.carried
                pivot = self._pivot(k, a, step, size)
                moved = k.apply("ne", pivot, k.index(step))
                largest = k.read(a, pivot, step)
                with k.map(w=size) as (w,):
                    upper, lower = k.read(a, step, w), k.read(a, pivot, w)
                    k.write(lower, a, step, w)
                    k.write(upper, a, pivot, w)
                # A pivot of 0 makes the product 0: nothing depends on the rows below any more.
                none = k.eq(largest, k.const(0.0, dtype))
                safe = k.select(none, k.const(1.0, dtype), largest)
                with k.map(below=size - 1 - step) as (below,):
                    row = step + 1 + below
                    factor = k.div(k.read(a, row, step), safe)
                    with k.map(right=size - 1 - step) as (right,):
                        at = step + 1 + right
                        k.write(k.sub(k.read(a, row, at), k.mul(factor, k.read(a, step, at))), a, row, at)
                signed = k.select(moved, k.neg(largest), largest)
                s.yield_(k.mul(product, signed))
            k.write(convert(k, s.results[0], out.tensor.dtype), out, *point)

    def _pivot(self, k: KernelBuilder, a: Value, step: Expr, size: Expr) -> Value:
        """The row, from `step` on, of the largest element of column `step`."""

        def larger(b: KernelBuilder, acc: Sequence[Value], element: Sequence[Value]) -> Sequence[Value]:
            (value, row), (other, at) = acc, element
            tie = b.apply("and", b.eq(other, value), b.lt(at, row))
            take = b.apply("or", b.gt(other, value), tie)
            return b.select(take, other, value), b.select(take, at, row)

        least, last = k.const(-1.0, a.tensor.dtype), k.const((1 << 63) - 1, "i64")
        with k.reduce(candidate=size - step, init=[least, last], combine=larger) as r:
            row = step + r.dims[0]
            r.yield_(k.apply("abs", k.read(a, row, step)), k.index(row))
        # NaN compares with nothing: then any row will do.
        return k.min(r.results[1], k.index(size - 1))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 3))
        yield cls(fresh("f64", 2, 4, 4))
        yield cls(fresh("f32", 5, 1, 1))
        yield cls(fresh("f16", 2, 2, 2))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Zeros among the pivots."""
        t = self.x.tensor
        data = rng.integers(-3, 4, t.static_shape).astype(DTYPES[t.dtype].numpy)
        data[..., 0, 0] = 0 if t.static_shape[-1] > 1 else 2
        return [data]
