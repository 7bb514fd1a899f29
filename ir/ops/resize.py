"""Resizing: repeated elements, and weighted sums of elements that a table picks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, as_dim, as_expr, floordiv
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import accumulate_dtype, convert, may_equal, zero

__all__ = ["Repeat", "Resample"]


class Repeat(TensorOp, name="shape.repeat"):
    """Every element `factors[d]` times in a row along dimension d; any element type.

    Source: nearest-neighbour upsampling by whole factors (ONNX Resize, Upsample)."""

    x: Value
    factors: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is None:
            return [x]
        fits = len(self.factors) == x.rank and all(f >= 1 for f in self.factors)
        expect(fits, f"expected {x.rank} factors of at least 1, got {self.factors}")
        dims = (as_dim(as_expr(d) * f) for d, f in zip(x.dims, self.factors, strict=True))
        return [TensorType(x.dtype, tuple(dims))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            k.write(k.read(x, *(floordiv(p, f) for p, f in zip(point, self.factors, strict=True))), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        for axis, factor in enumerate(self.factors):
            x = np.repeat(x, factor, axis=axis)
        return x

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 1, 3, 4, 5), (1, 1, 2, 2))
        yield cls(fresh("f32", 2, 3), (3, 1))
        yield cls(fresh("u8", 2, 3, 4), (1, 2, 3))
        yield cls(fresh("f16", 5), (4,))


class Resample(TensorOp, name="nn.resample"):
    """`y[.., i, ..] = sum over t of weights[i, t] * x[.., indices[i, t], ..]` along dimension `axis`.

    `indices` (i64) and `weights` (floats) have the shape (size of the result, taps). Floats f16 and bf16 are summed in
    f32; integers are summed in the type of the weights, truncated and saturated. Source: ONNX Resize, linear and cubic.
    """

    x: Value
    indices: Value
    weights: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        x, indices, weights = self.x.tensor, self.indices.tensor, self.weights.tensor
        expect(indices.dtype == "i64", f"expected indices of i64, got {indices.dtype}")
        expect(is_float(weights.dtype), f"expected weights of floats, got {weights.dtype}")
        expect(DTYPES[x.dtype].kind != "complex", f"expected numbers, got {x.dtype}")
        if x.shape is None or indices.shape is None or weights.shape is None:
            return [TensorType(x.dtype, None)]
        expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        fits = indices.rank == weights.rank == 2
        fits = fits and all(may_equal(a, b) for a, b in zip(indices.dims, weights.dims, strict=True))
        expect(fits, f"expected indices and weights of one shape of rank 2, got {indices} and {weights}")
        return [TensorType(x.dtype, (*x.dims[: self.axis], indices.dims[0], *x.dims[self.axis + 1 :]))]

    @property
    def _sum_dtype(self) -> str:
        """The type in which it sums."""
        dtype = self.x.tensor.dtype
        return accumulate_dtype(dtype) if is_float(dtype) else self.weights.tensor.dtype

    def kernel(self, k: KernelBuilder) -> None:
        (x, indices, weights), (out,) = k.inputs, k.outputs
        acc, axis = self._sum_dtype, self.axis
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            with k.reduce(init=[zero(k, acc)], t=indices.tensor.dims[1]) as r:
                at = k.read(indices, point[axis], r.dims[0])
                value = convert(k, k.read(x, *point[:axis], at, *point[axis + 1 :]), acc)
                weight = convert(k, k.read(weights, point[axis], r.dims[0]), acc)
                r.yield_(k.mul(value, weight))
            k.write(convert(k, r.result, out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, indices, weights = operands
        acc, axis = DTYPES[self._sum_dtype].numpy, self.axis
        total = np.zeros((*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :]), acc)
        for t in range(indices.shape[1]):
            column = weights[:, t].astype(acc).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            total = total + np.take(x, indices[:, t], axis=axis).astype(acc) * column
        if is_float(self.x.tensor.dtype):
            return total.astype(x.dtype)
        info = np.iinfo(x.dtype)
        return np.clip(np.trunc(total.astype(np.float64)), info.min, info.max).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        cases: list[tuple[str, tuple[Dim, ...], int, int, int]] = [
            ("f32", (1, 2, 4, 5), 2, 7, 2),
            ("f32", (2, 6), 1, 3, 4),
            ("f64", (5,), 0, 9, 2),
            ("f16", (1, 3, 4), 2, 6, 4),
            ("u8", (3, 4), 1, 6, 2),
        ]
        for dtype, shape, axis, size, taps in cases:
            weights = "f64" if dtype == "f64" else "f32"
            yield cls(fresh(dtype, *shape), fresh("i64", size, taps), fresh(weights, size, taps), axis)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Indices inside."""
        x, indices, weights = (v.tensor for v in self.inputs)
        data = rng.integers(0, 99, x.static_shape) if not is_float(x.dtype) else rng.standard_normal(x.static_shape)
        return [
            np.asarray(data).astype(DTYPES[x.dtype].numpy),
            rng.integers(0, x.static_shape[self.axis], indices.static_shape),
            np.asarray(rng.random(weights.static_shape)).astype(DTYPES[weights.dtype].numpy),
        ]
