"""Order: the largest elements and where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_expr, maximum
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .selection import Selection, key_dtype, key_of
from .symbols import static

__all__ = ["TopK"]

_SHORT = 64  # elements in a row up to which all of them are compared with each other


class TopK(TensorOp, name="reduce.top_k"):
    """The `count` largest (or smallest) elements along `axis`, in order, and their indices (i64). Of equal elements the
    one with the lower index comes first; NaN counts as larger than everything. Source: ONNX TopK."""

    x: Value
    count: Dim
    axis: int
    largest: bool = True

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(DTYPES[x.dtype].kind in ("float", "int", "uint"), f"expected numbers, got {x.dtype}")
        if x.shape is None:
            return [TensorType(x.dtype, None), TensorType("i64", None)]
        expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        size = x.dims[self.axis]
        fits = not isinstance(self.count, int) or (
            self.count >= 0 and (not isinstance(size, int) or self.count <= size)
        )
        expect(fits, f"expected at most {size} elements along axis {self.axis}, got {self.count}")
        shape = (*x.dims[: self.axis], self.count, *x.dims[self.axis + 1 :])
        return [TensorType(x.dtype, shape), TensorType("i64", shape)]

    def kernel(self, k: KernelBuilder) -> None:
        size = self.x.tensor.dims[self.axis]
        if isinstance(size, int) and size <= _SHORT:
            self._by_counting(k)
        else:
            self._by_selection(k)

    def _by_selection(self, k: KernelBuilder) -> None:
        """A row at a time (`ir.ops.selection`)."""
        (x,), (values, indices) = k.inputs, k.outputs
        dims = x.tensor.dims
        rows = {f"d{i}": d for i, d in enumerate(dims) if i != self.axis}
        with k.map(rows) as row:

            def element(at: Expr | Value) -> Value:
                return k.read(x, *row[: self.axis], at, *row[self.axis :])

            def key(at: Expr | Value) -> Value:
                return key_of(k, element(at), x.tensor.dtype, self.largest)

            chosen = Selection(k, key, dims[self.axis], self.count, key_dtype(x.tensor.dtype)).sorted()
            with k.map(place=self.count) as (place,):
                at, target = k.read(chosen, place), [*row[: self.axis], place, *row[self.axis :]]
                k.write(element(at), values, *target)
                k.write(at, indices, *target)

    def _by_counting(self, k: KernelBuilder) -> None:
        """Every element counts how many come before it, which is its place: n comparisons for each of n elements, all
        of them independent."""
        (x,), (values, indices) = k.inputs, k.outputs
        dims = x.tensor.dims
        with k.map({f"d{i}": d for i, d in enumerate(dims)}) as point:
            own, at = k.read(x, *point), k.index(point[self.axis])
            with k.reduce(init=[k.const(0, "i64")], j=dims[self.axis]) as r:
                other = k.read(x, *point[: self.axis], r.dims[0], *point[self.axis + 1 :])
                before = self._before(k, other, k.index(r.dims[0]), own, at)
                r.yield_(k.cast(before, "i64"))
            place = r.result
            inside = k.lt(place, k.index(self.count))
            # A place beyond the last one is not written; it must be a legal one all the same.
            safe = k.min(place, k.index(maximum(as_expr(self.count) - 1, 0)))
            target = [*point[: self.axis], safe, *point[self.axis + 1 :]]
            k.write(own, values, *target, mask=inside)
            k.write(at, indices, *target, mask=inside)

    def _before(self, k: KernelBuilder, other: Value, there: Value, own: Value, at: Value) -> Value:
        """True when `other`, which is at index `there`, comes before `own`, which is at index `at`."""
        better = k.gt(other, own) if self.largest else k.lt(other, own)
        same = k.eq(other, own)
        if is_float(self.x.tensor.dtype):
            nan, mine = k.apply("isnan", other), k.apply("isnan", own)
            only = (
                k.apply("and", nan, k.apply("not", mine)) if self.largest else k.apply("and", mine, k.apply("not", nan))
            )
            better = k.apply("or", better, only)
            same = k.apply("or", same, k.apply("and", nan, mine))
        return k.apply("or", better, k.apply("and", same, k.lt(there, at)))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        moved = np.moveaxis(x, self.axis, -1)
        wide = moved.astype(np.float64) if is_float(self.x.tensor.dtype) else moved
        if self.largest:  # stable from the other end: NumPy sorts upwards, NaN last
            order = wide.shape[-1] - 1 - np.argsort(np.flip(wide, -1), axis=-1, kind="stable")
            order = np.flip(order, -1)
        else:
            order = np.argsort(wide, axis=-1, kind="stable")
        (count,) = static([self.count], [self.x], operands)
        order = order[..., :count]
        values = np.take_along_axis(moved, order, -1)
        return (
            np.ascontiguousarray(np.moveaxis(values, -1, self.axis)),
            np.ascontiguousarray(np.moveaxis(order, -1, self.axis)).astype(np.int64),
        )

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 7), 3, 1)
        yield cls(fresh("f32", 5, 4), 2, 0, False)
        yield cls(fresh("f32", 2, 6, 3), 6, 1)
        yield cls(fresh("f32", 2, 70), 5, 1)
        yield cls(fresh("f64", 65, 2), 65, 0, False)
        yield cls(fresh("u32", 1, 66), 50, 1)
        for dtype in ("f64", "i32", "u8", "f16"):
            yield cls(fresh(dtype, 2, 9), 4, 1, dtype != "i32")

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Few different values, so that there are ties; a NaN."""
        t = self.x.tensor
        least = 0 if DTYPES[t.dtype].kind == "uint" else -2
        data = rng.integers(least, least + 5, t.static_shape).astype(DTYPES[t.dtype].numpy)
        if is_float(t.dtype):
            data.reshape(-1)[1] = np.nan
        return [data]
