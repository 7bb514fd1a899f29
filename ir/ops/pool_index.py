"""Maximum pooling that also says where the maxima are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..expr import as_expr, const
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type
from .base import TensorOp, fresh
from .windows import Windows, least, spatial_names, window_names

__all__ = ["MaxPoolIndices"]


class MaxPoolIndices(TensorOp, name="nn.max_pool_indices"):
    """The largest element of each window, and its flat index (i64) in the whole of `x`, row-major, or, with
    `column_major`, with the spatial dimensions in reverse. Of equal elements the first one in row-major order counts.
    Source: ONNX MaxPool."""

    x: Value
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    column_major: bool = False

    @property
    def windows(self) -> Windows:
        """The windows that slide over x."""
        return Windows(self.window, self.strides, self.pads, self.dilations)

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is None:
            return [x, TensorType("i64", None)]
        self.windows.check(x.rank - 2)
        shape = (*x.dims[:2], *self.windows.results(x.dims[2:]))
        return [TensorType(x.dtype, shape), TensorType("i64", shape)]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (values, indices) = k.inputs, k.outputs
        rank = self.windows.rank
        names = ("n", "c", *spatial_names(rank))
        lowest = k.const(least(x.tensor.dtype), x)
        last = k.const((1 << 63) - 1, "i64")
        with k.map(dict(zip(names, values.tensor.dims, strict=True))) as point:
            loops = dict(zip(window_names(rank), self.window, strict=True))
            with k.reduce(loops, init=[lowest, last], combine=_first_largest) as r:
                at = self.windows.coordinates(point[2:], r.dims)
                element = k.read(x, *point[:2], *at, fill=lowest)
                r.yield_(element, self._flat(k, [*point[:2], *at]))
            k.write(r.results[0], values, *point)
            k.write(self._reordered(k, r.results[1]), indices, *point)

    def _flat(self, k: KernelBuilder, at: Sequence[Any]) -> Value:
        """The flat index of the element at `at`; that of one outside loses every comparison."""
        dims = self.x.tensor.dims
        flat = const(0)
        for d, a in zip(dims, at, strict=True):
            flat = flat * d + a
        inside = k.const(True, "bool")
        for i in range(2, len(dims)):
            below = k.lt(k.index(at[i]), k.index(as_expr(dims[i])))
            here = k.apply("and", k.ge(k.index(at[i]), k.const(0, "i64")), below)
            inside = k.apply("and", inside, here)
        return k.select(inside, k.index(flat), k.const((1 << 63) - 1, "i64"))

    def _reordered(self, k: KernelBuilder, flat: Value) -> Value:
        """A row-major flat index as one with the spatial dimensions in reverse."""
        dims = self.x.tensor.dims
        if not self.column_major:
            return flat
        place: dict[int, Value] = {}
        for i in reversed(range(2, len(dims))):
            size = k.index(as_expr(dims[i]))
            place[i] = k.apply("rem", flat, size)
            flat = k.div(flat, size)
        for i in reversed(range(2, len(dims))):
            flat = k.add(k.mul(flat, k.index(as_expr(dims[i]))), place[i])
        return flat

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        low = least(self.x.tensor.dtype)
        shape = x.shape
        order = (0, 1, *reversed(range(2, x.ndim))) if self.column_major else tuple(range(x.ndim))
        numbers = np.arange(x.size, dtype=np.int64).reshape([shape[i] for i in order])
        places = numbers.transpose(np.argsort(order)) if self.column_major else numbers
        view, at = self.windows.view(x, low), self.windows.view(np.ascontiguousarray(places), -1)
        best, index = np.full(view.shape[: x.ndim], low, x.dtype), np.full(view.shape[: x.ndim], -1, np.int64)
        for tap in np.ndindex(*self.window):
            value, place = view[(..., *tap)], at[(..., *tap)]
            take = (place >= 0) & ((value > best) | (index < 0))
            best, index = np.where(take, value, best), np.where(take, place, index)
        return best, index

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 1, 2, 6, 5), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
        yield cls(fresh("f32", 2, 1, 5, 5), (3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1))
        yield cls(fresh("f32", 1, 2, 4, 6), (2, 3), (2, 1), ((0, 0), (1, 0)), (1, 1), True)
        yield cls(fresh("u8", 1, 1, 7), (3,), (2,), ((1, 1),), (1,))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Few different values, so that there are ties."""
        t = self.x.tensor
        return [rng.integers(1, 5, t.static_shape).astype(DTYPES[t.dtype].numpy)]


def _first_largest(b: KernelBuilder, acc: Sequence[Value], element: Sequence[Value]) -> Sequence[Value]:
    """The larger of two (value, index) pairs: by value, then by index."""
    (value, index), (other, at) = acc, element
    tie = b.apply("and", b.eq(other, value), b.lt(at, index))
    take = b.apply("or", b.gt(other, value), tie)
    return b.select(take, other, value), b.select(take, at, index)
