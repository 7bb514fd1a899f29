"""Reductions over any dimensions, and the place of the largest or smallest element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, const, product
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .pointwise import FLOATS, where
from .windows import accumulate_dtype, convert, extents, greatest, least

__all__ = ["ArgMax", "ArgMin", "Max", "Mean", "Min", "Prod", "Sum"]


def _kept(x: TensorType, axes: Sequence[int], keepdims: bool) -> tuple[Dim, ...] | None:
    """Shape of the result of reducing `axes`."""
    if x.shape is None:
        return None
    expect(all(0 <= a < x.rank for a in axes) and len(set(axes)) == len(axes), f"expected axes of {x}, got {axes}")
    return tuple(1 if i in axes else d for i, d in enumerate(x.dims) if keepdims or i not in axes)


class Reduction(TensorOp):
    """Base: folds the elements along `axes` (any; none: the element itself) with `combine`, starting from `start`.

    The reduced dimensions are 1 in the result if `keepdims`, else absent. f16 and bf16 are folded in f32.
    """

    combine: ClassVar[Literal["add", "mul", "max", "min"]] = "add"
    kinds: ClassVar[tuple[str, ...]] = ("float", "int", "uint")

    x: Value
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(DTYPES[x.dtype].kind in self.kinds, f"expected elements of kind {self.kinds}, got {x.dtype}")
        return [TensorType(x.dtype, _kept(x, self.axes, self.keepdims))]

    def start(self, dtype: str) -> Any:
        """The neutral element of the fold."""
        raise NotImplementedError

    def accumulator(self) -> str:
        """The element type to fold in."""
        return accumulate_dtype(self.x.tensor.dtype)

    def epilogue(self, k: KernelBuilder, total: Value) -> Value:
        """What is done with the folded value."""
        return total

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        acc = self.accumulator()
        every = {f"d{i}": d for i, d in enumerate(x.tensor.dims)}
        names = [f"d{a}" for a in sorted(self.axes)]
        outer = {n: d for n, d in every.items() if n not in names}
        loops, fixed = extents({n: every[n] for n in names})
        with k.map(outer) as symbols:
            point = {**dict(zip(outer, symbols, strict=True)), **fixed}

            def read(taps: dict[str, Expr]) -> Value:
                coordinates = {**point, **taps}
                return convert(k, k.read(x, *(coordinates[n] for n in every)), acc)

            if loops:
                with k.reduce(loops, init=[k.const(self.start(acc), acc)], combine=self.combine) as r:
                    r.yield_(read(dict(zip(loops, r.dims, strict=True))))
                total = r.result
            else:
                total = read({})
            at = [const(0) if n in names else point[n] for n in every if self.keepdims or n not in names]
            k.write(convert(k, self.epilogue(k, total), out.tensor.dtype), out, *at)

    def numpy(self, x: Array, **options: Any) -> Array:
        """The fold in NumPy, of an array of the accumulator's type."""
        raise NotImplementedError

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        if not self.axes:
            return x.copy()
        wide = x.astype(DTYPES[self.accumulator()].numpy, copy=False)
        return np.asarray(self.numpy(wide, axis=tuple(self.axes), keepdims=self.keepdims)).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        cases: list[tuple[tuple[Dim, ...], tuple[int, ...], bool]] = [
            ((3, 4), (1,), True),
            ((3, 4), (0,), False),
            ((2, 3, 4), (0, 2), False),
            ((2, 3, 4, 5), (2, 3), True),
            ((5,), (0,), False),
            ((3, 1), (1,), False),
            ((3, 4), (), True),
            ((3, 0), (1,), True),
        ]
        for shape, axes, keepdims in cases:
            yield cls(fresh("f32", *shape), axes, keepdims)
        for dtype in (*FLOATS[1:], "i32", "i64", *(("bool", "u8") if "bool" in cls.kinds else ())):
            yield cls(fresh(dtype, 3, 4), (1,), False)


class Sum(Reduction, name="reduce.sum"):
    """The sum, 0 of nothing; integers wrap. Source: ONNX ReduceSum."""

    combine = "add"

    def start(self, dtype: str) -> Any:
        return 0.0 if is_float(dtype) else 0

    def numpy(self, x: Array, **options: Any) -> Array:
        return np.sum(x, dtype=x.dtype, **options)


class Mean(Reduction, name="reduce.mean"):
    """The sum divided by the number of elements; integers truncate toward zero. Source: ONNX ReduceMean."""

    combine = "add"

    def start(self, dtype: str) -> Any:
        return 0.0 if is_float(dtype) else 0

    def epilogue(self, k: KernelBuilder, total: Value) -> Value:
        acc = self.accumulator()
        n = product(self.x.tensor.dims[a] for a in self.axes)
        if isinstance(n, int) and is_float(acc):
            return total if n == 1 else k.mul(total, k.const(1.0 / n if n else float("nan"), acc))
        return k.div(total, k.cast(k.index(n), acc))

    def numpy(self, x: Array, **options: Any) -> Array:
        total = np.sum(x, dtype=x.dtype, **options)
        n = x.size // max(1, total.size)
        if x.dtype.kind in "iu":
            return np.sign(total) * (np.abs(total) // max(1, n))
        return total / x.dtype.type(n)


class Prod(Reduction, name="reduce.prod"):
    """The product, 1 of nothing; integers wrap. Source: ONNX ReduceProd."""

    combine = "mul"

    def start(self, dtype: str) -> Any:
        return 1.0 if is_float(dtype) else 1

    def numpy(self, x: Array, **options: Any) -> Array:
        return np.multiply.reduce(x, dtype=x.dtype, **options)


class _Extreme(Reduction):
    """Base of the largest and smallest element: no wider type is needed."""

    kinds = ("float", "int", "uint", "bool")

    def accumulator(self) -> str:
        return self.x.tensor.dtype


class Max(_Extreme, name="reduce.max"):
    """The largest element; NaN where there is one; of nothing the least value. Source: ONNX ReduceMax."""

    combine = "max"

    def start(self, dtype: str) -> Any:
        return least(dtype)

    def numpy(self, x: Array, **options: Any) -> Array:
        return np.maximum.reduce(x, initial=x.dtype.type(least(self.x.tensor.dtype)), **options)


class Min(_Extreme, name="reduce.min"):
    """The smallest element; NaN where there is one; of nothing the greatest value. Source: ONNX ReduceMin."""

    combine = "min"

    def start(self, dtype: str) -> Any:
        return greatest(dtype)

    def numpy(self, x: Array, **options: Any) -> Array:
        return np.minimum.reduce(x, initial=x.dtype.type(greatest(self.x.tensor.dtype)), **options)


class _ArgExtreme(TensorOp):
    """Base: the index along `axis` of the best element, the first one, or the last one if `last`; i64. NaN counts as
    the best possible value."""

    better: ClassVar[str] = ""

    x: Value
    axis: int
    keepdims: bool = True
    last: bool = False

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(DTYPES[x.dtype].kind in ("float", "int", "uint"), f"expected numbers, got {x.dtype}")
        if x.shape is not None:
            expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
            expect(x.dims[self.axis] != 0, f"expected a dimension {self.axis} that is not empty, got {x}")
        return [TensorType("i64", _kept(x, (self.axis,), self.keepdims))]

    def worst(self, dtype: str) -> Any:
        """The value that any other beats."""
        return least(dtype) if self.better == "gt" else greatest(dtype)

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        dtype = x.tensor.dtype
        dims = {f"d{i}": d for i, d in enumerate(x.tensor.dims)}
        along = {f"d{self.axis}": dims.pop(f"d{self.axis}")}
        # The index that loses every tie, so that the start is neutral even where all elements equal the worst value.
        start = [k.const(self.worst(dtype), dtype), k.const(-1 if self.last else (1 << 63) - 1, "i64")]
        with k.map(dims) as row:
            with k.reduce(along, init=start, combine=self._pick) as r:
                value = k.read(x, *row[: self.axis], r.dims[0], *row[self.axis :])
                if is_float(dtype):
                    best = k.const(greatest(dtype) if self.better == "gt" else least(dtype), dtype)
                    value = k.select(k.apply("isnan", value), best, value)
                r.yield_(value, k.index(r.dims[0]))
            at = [*row[: self.axis], *([const(0)] if self.keepdims else []), *row[self.axis :]]
            k.write(r.results[1], out, *at)

    def _pick(self, b: KernelBuilder, acc: Sequence[Value], element: Sequence[Value]) -> Sequence[Value]:
        """The better of two (value, index) pairs: by value, then by index."""
        (value, index), (other, at) = acc, element
        tie = b.apply("and", b.eq(other, value), b.gt(at, index) if self.last else b.lt(at, index))
        take = b.apply("or", b.apply(self.better, other, value), tie)
        return b.select(take, other, value), b.select(take, at, index)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        dtype = self.x.tensor.dtype
        if is_float(dtype):
            best = greatest(dtype) if self.better == "gt" else least(dtype)
            x = where(np.isnan(x), x.dtype.type(best), x).astype(np.float64)
        values: Array = np.flip(x, self.axis) if self.last else x
        found: Array = (np.argmax if self.better == "gt" else np.argmin)(values, axis=self.axis, keepdims=self.keepdims)
        return np.asarray(x.shape[self.axis] - 1 - found if self.last else found).astype(np.int64)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 4), 1, True)
        yield cls(fresh("f32", 3, 4), 0, False)
        yield cls(fresh("f32", 2, 3, 4), 1, False, True)
        yield cls(fresh("f32", 5), 0, False)
        for dtype in (*FLOATS[1:], "i32", "u8"):
            for last in (False, True):
                yield cls(fresh(dtype, 3, 9), 1, False, last)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Few different values, so that there are ties; a row of the worst value."""
        t = self.x.tensor
        x = rng.integers(0, 3, t.static_shape).astype(DTYPES[t.dtype].numpy)
        x[0] = self.worst(t.dtype)
        return [x]


class ArgMax(_ArgExtreme, name="reduce.arg_max"):
    """Index of the largest element along `axis`, i64; NaN counts as infinity. Source: ONNX ArgMax."""

    better = "gt"


class ArgMin(_ArgExtreme, name="reduce.arg_min"):
    """Index of the smallest element along `axis`, i64; NaN counts as minus infinity. Source: ONNX ArgMin."""

    better = "lt"
