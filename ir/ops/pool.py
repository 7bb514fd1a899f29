"""Pooling: the maximum or the mean of sliding windows, N C spatial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import Pads, Windows, accumulate_dtype, convert, extents, least, spatial_names, window_names, zero


class _Pool(TensorOp):
    """Base: one value from each window of `x`, whose sizes are `window`."""

    sample_dtypes: ClassVar[tuple[str, ...]] = ()

    x: Value
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]

    @property
    def windows(self) -> Windows:
        """The windows that slide over x."""
        return Windows(self.window, self.strides, self.pads, self.dilations)

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is None:
            return [x]
        expect(x.rank >= 3, f"expected x of rank 3 or more, got {x}")
        self.windows.check(x.rank - 2)
        return [TensorType(x.dtype, (*x.dims[:2], *self.windows.results(x.dims[2:])))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        names = spatial_names(self.windows.rank)
        dims = {"n": out.tensor.dims[0], "c": out.tensor.dims[1], **dict(zip(names, out.tensor.dims[2:], strict=True))}
        with k.map(dims) as point:
            k.write(self.window_value(k, point), out, *point)

    def window_value(self, k: KernelBuilder, point: Sequence[Expr]) -> Value:
        """The result for the window at `point`, of the type of x."""
        raise NotImplementedError

    def element(self, k: KernelBuilder, point: Sequence[Expr], taps: Sequence[Expr], fill: Any) -> Value:
        """The element of the window at `point`; `fill` where that is outside of x."""
        (x,) = k.inputs
        outside = self.windows.leaves(x.tensor.dims[2:])
        at = self.windows.coordinates(point[2:], taps)
        return k.read(x, *point[:2], *at, fill=k.const(fill, x) if outside else None)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        none, same = ((0, 0), (0, 0)), ((1, 1), (1, 1))
        cases: list[tuple[tuple[Dim, ...], tuple[int, ...], tuple[int, ...], Pads, tuple[int, ...]]] = [
            ((1, 3, 6, 6), (2, 2), (2, 2), none, (1, 1)),
            ((2, 2, 7, 8), (3, 3), (2, 2), same, (1, 1)),
            ((1, 2, 7, 7), (3, 2), (1, 2), ((0, 1), (1, 0)), (2, 1)),
            ((1, 2, 4, 4), (4, 4), (1, 1), none, (1, 1)),
            ((1, 2, 5, 5), (1, 1), (2, 2), none, (1, 1)),
            ((1, 2, 6, 6), (3, 3), (3, 3), ((0, 2), (0, 2)), (1, 1)),
            ((2, 3, 9), (3,), (2,), ((1, 1),), (1,)),
            ((1, 2, 4, 5, 4), (2, 3, 2), (2, 1, 2), ((0, 0), (1, 1), (1, 1)), (1, 1, 1)),
        ]
        for shape, window, strides, pads, dilations in cases:
            yield cls(fresh("f32", *shape), window, strides, pads, dilations)
        for dtype in cls.sample_dtypes:
            yield cls(fresh(dtype, 1, 2, 5, 5), (3, 3), (2, 2), same, (1, 1))


class MaxPool(_Pool, name="nn.max_pool"):
    """The largest element of each window; what is outside of `x` does not count. NaN propagates.

    `x`: (N, C, spatial...) of any numbers; `pads` are (before, after) for each spatial dimension; ONNX's ceil mode
    is a longer padding. Source: ONNX MaxPool, GlobalMaxPool.
    """

    sample_dtypes = ("f64", "f16", "bf16", "i8", "u8", "i32")

    def window_value(self, k: KernelBuilder, point: Sequence[Expr]) -> Value:
        (x,) = k.inputs
        names, lowest = window_names(self.windows.rank), least(x.tensor.dtype)
        loops, fixed = extents(dict(zip(names, self.window, strict=True)))
        if not loops:
            return self.element(k, point, list(fixed.values()), lowest)
        with k.reduce(loops, init=[k.const(lowest, x)], combine="max") as r:
            taps = {**fixed, **dict(zip(loops, r.dims, strict=True))}
            r.yield_(self.element(k, point, [taps[t] for t in names], lowest))
        return r.result

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        view = self.windows.view(x, least(self.x.tensor.dtype))
        # One window position at a time is many times faster than a maximum over the view's short inner axes.
        taps = [view[(..., *tap)] for tap in np.ndindex(*self.window)]
        return np.maximum.reduce(taps) if len(taps) > 1 else taps[0].copy()


class AveragePool(_Pool, name="nn.average_pool"):
    """The mean of each window. `include_pad`: elements outside of `x` count as zeros; else they do not count.

    `x`: (N, C, spatial...) of floats (f16 and bf16 are summed in f32). ONNX's ceil mode is a longer padding; with
    `include_pad` that padding would count too, so there ONNX's own pads go into a `Pad` before it.
    Source: ONNX AveragePool, GlobalAveragePool.
    """

    include_pad: bool = False

    sample_dtypes = ("f64", "f16", "bf16")

    def infer(self) -> Sequence[Type]:
        expect(is_float(self.x.tensor.dtype), f"expected floats, got {self.x.tensor.dtype}")
        return super().infer()

    def window_value(self, k: KernelBuilder, point: Sequence[Expr]) -> Value:
        (x,) = k.inputs
        acc = accumulate_dtype(x.tensor.dtype)
        names = window_names(self.windows.rank)
        loops, fixed = extents(dict(zip(names, self.window, strict=True)))
        if not loops:
            return self.element(k, point, list(fixed.values()), 0.0)
        with k.reduce(loops, init=[zero(k, acc)]) as r:
            taps = {**fixed, **dict(zip(loops, r.dims, strict=True))}
            r.yield_(convert(k, self.element(k, point, [taps[t] for t in names], 0.0), acc))
        if self.include_pad or not self.windows.leaves(x.tensor.dims[2:]):
            mean = k.mul(r.result, k.const(1.0 / int(np.prod(self.window)), acc))
        else:
            mean = k.div(r.result, k.cast(self._inside(k, point), acc))
        return convert(k, mean, x.tensor.dtype)

    def _inside(self, k: KernelBuilder, point: Sequence[Expr]) -> Value:
        """Number of elements of the window at `point` that lie inside of x, at least 1, as i64."""
        (x,) = k.inputs
        total: Value | None = None
        windows = self.windows
        axes = zip(windows.starts(point[2:]), self.window, self.dilations, x.tensor.dims[2:], strict=True)
        for start, size, step, d in axes:
            # Taps t with 0 <= start + t*step < d: from ceil(-start/step) to floor((d-1-start)/step).
            first = k.max(k.index((-start + step - 1) // step), k.const(0, "i64"))
            last = k.min(k.index((-start + d - 1) // step), k.const(size - 1, "i64"))
            inside = k.add(k.sub(last, first), k.const(1, "i64"))
            total = inside if total is None else k.mul(total, inside)
        assert total is not None
        return k.max(total, k.const(1, "i64"))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        acc = DTYPES[accumulate_dtype(self.x.tensor.dtype)].numpy
        total = self._sum(x.astype(acc, copy=False))
        if self.include_pad:
            return (total / int(np.prod(self.window))).astype(x.dtype)
        ones = np.ones((1, 1, *x.shape[2:]), acc)
        return (total / np.maximum(self._sum(ones), 1)).astype(x.dtype)

    def _sum(self, x: Array) -> Array:
        view = self.windows.view(x, 0)
        return sum((view[(..., *tap)] for tap in np.ndindex(*self.window)), np.zeros((), x.dtype))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield from super().samples()
        yield cls(fresh("f32", 1, 2, 6, 6), (3, 3), (2, 2), ((1, 1), (1, 0)), (1, 1), include_pad=True)
        yield cls(fresh("f32", 1, 2, 7, 6), (3, 2), (1, 1), ((2, 3), (1, 1)), (3, 1))
