"""Normalisations: batch, layer and local response normalisation, softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, product
from ..kernel.builder import KernelBuilder, StageHandle
from ..scalar import Array
from ..types import DTYPES, Type, broadcasts_to, is_float
from .base import TensorOp, broadcast_read, fresh
from .pointwise import FLOATS, in_f32
from .windows import accumulate_dtype, convert, may_equal, spatial_names, zero


def _check_floats(value: Value) -> None:
    expect(is_float(value.tensor.dtype), f"expected floats, got {value.tensor.dtype}")


class BatchNorm(TensorOp, name="nn.batch_norm"):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias` for each channel, with given statistics (inference).

    `x`: (N, C, ...) of rank 2 or more; the others: (C). Floats; f16 and bf16 are computed in f32.
    Source: ONNX BatchNormalization with training_mode=0.
    """

    x: Value
    scale: Value
    bias: Value
    mean: Value
    var: Value
    epsilon: float

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        _check_floats(self.x)
        for value in self.inputs[1:]:
            t = value.tensor
            _check_floats(value)
            if x.shape is not None and t.shape is not None:
                expect(x.rank >= 2, f"expected x of rank 2 or more, got {x}")
                fits = t.rank == 1 and may_equal(t.dims[0], x.dims[1])
                expect(fits, f"expected scale, bias, mean and var of shape [{x.dims[1]}], got {t}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        x, *channel = k.inputs
        (out,) = k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        names = ("n", "c", *spatial_names(x.tensor.rank - 2))
        with k.map(dict(zip(names, x.tensor.dims, strict=True))) as point:
            value = convert(k, k.read(x, *point), acc)
            scale, bias, mean, var = (convert(k, k.read(v, point[1]), acc) for v in channel)
            factor = k.div(scale, k.sqrt(k.add(var, k.const(self.epsilon, acc))))
            y = k.add(k.mul(k.sub(value, mean), factor), bias)
            k.write(convert(k, y, out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, *rest = operands
        acc = DTYPES[accumulate_dtype(self.x.tensor.dtype)].numpy
        scale, bias, mean, var = (v.astype(acc).reshape(-1, *[1] * (x.ndim - 2)) for v in rest)
        factor = scale / np.sqrt(var + acc.type(self.epsilon))
        return (x.astype(acc) * factor + (bias - mean * factor)).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        shapes: list[tuple[Dim, ...]] = [(2, 3, 4, 5), (2, 3), (1, 4, 6), (1, 2, 2, 3, 2)]
        for shape in shapes:
            yield cls(fresh("f32", *shape), *(fresh("f32", shape[1]) for _ in range(4)), epsilon=1e-5)
        for dtype in FLOATS[1:]:
            yield cls(fresh(dtype, 2, 3, 4), *(fresh(dtype, 3) for _ in range(4)), epsilon=1e-3)
        yield cls(fresh("f16", 2, 3, 4), *(fresh("f32", 3) for _ in range(4)), epsilon=1e-3)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Variances that are positive."""
        arrays = [rng.standard_normal(v.tensor.static_shape).astype(DTYPES[v.tensor.dtype].numpy) for v in self.inputs]
        arrays[4] = np.abs(arrays[4]) + arrays[4].dtype.type(0.1)
        return arrays


class LRN(TensorOp, name="nn.lrn"):
    """Local response normalisation: `x / (bias + alpha / size * s) ** beta`, where s is the sum of squares of `size`
    neighbouring channels, from `c - (size-1)//2`.

    `x`: (N, C, ...) of floats. Source: ONNX LRN.
    """

    names = {"onnx": "LRN"}

    x: Value
    size: int
    alpha: float
    beta: float
    bias: float

    def infer(self) -> Sequence[Type]:
        _check_floats(self.x)
        x = self.x.tensor
        expect(x.shape is None or x.rank >= 2, f"expected x of rank 2 or more, got {x}")
        expect(self.size >= 1, f"expected a size of at least 1, got {self.size}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        (x,) = k.inputs
        (out,) = k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        names = ("n", "c", *spatial_names(x.tensor.rank - 2))
        with k.map(dict(zip(names, x.tensor.dims, strict=True))) as point:
            with k.reduce(j=self.size, init=[zero(k, acc)]) as r:
                channel = point[1] + r.dims[0] - (self.size - 1) // 2
                near = convert(k, k.read(x, point[0], channel, *point[2:], fill=zero(k, x.tensor.dtype)), acc)
                r.yield_(k.mul(near, near))
            base = k.add(k.mul(r.result, k.const(self.alpha / self.size, acc)), k.const(self.bias, acc))
            y = k.div(convert(k, k.read(x, *point), acc), self._power(k, base))
            k.write(convert(k, y, out.tensor.dtype), out, *point)

    def _power(self, k: KernelBuilder, base: Value) -> Value:
        """`base ** beta`; the powers that networks use are square roots, which cost far less."""
        if self.beta == 0.5:
            return k.sqrt(base)
        if self.beta == 0.75:
            root = k.sqrt(base)
            return k.mul(root, k.sqrt(root))
        return k.apply("pow", base, k.const(self.beta, base))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands

        def normalise(x: Array) -> Array:
            before = (self.size - 1) // 2
            pads = [(0, 0), (before, self.size - 1 - before), *[(0, 0)] * (x.ndim - 2)]
            squares = np.pad(x * x, pads)
            total = sum(squares[:, i : i + x.shape[1]] for i in range(self.size))
            return x / (self.bias + self.alpha / self.size * total) ** self.beta

        return in_f32(normalise, x)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 2, 7, 3, 4), 5, 1e-2, 0.75, 1.0)
        yield cls(fresh("f32", 1, 4, 3), 4, 0.5, 0.5, 2.0)
        yield cls(fresh("f32", 2, 5), 3, 0.5, 0.6, 1.5)
        yield cls(fresh("f32", 1, 2, 3, 3), 5, 0.5, 1.0, 1.0)
        for dtype in FLOATS[1:]:
            yield cls(fresh(dtype, 1, 5, 3), 3, 0.5, 0.75, 1.0)


class LayerNorm(TensorOp, name="nn.layer_norm"):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias` with mean and variance over dimensions `axis` and after.

    `scale` and `bias` broadcast to x; either may be absent. Floats; f16 and bf16 are computed in f32.
    Source: ONNX LayerNormalization with stash_type=1.
    """

    x: Value
    scale: Value | None
    bias: Value | None
    axis: int
    epsilon: float

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        _check_floats(self.x)
        if x.shape is not None:
            expect(0 <= self.axis < x.rank, f"expected an axis of 0 to {x.rank - 1}, got {self.axis}")
        for value in (self.scale, self.bias):
            if value is not None and x.shape is not None and value.tensor.shape is not None:
                t = value.tensor
                expect(broadcasts_to(t.dims, x.dims), f"expected scale and bias that broadcast to {x}, got {t}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        x, *rest = k.inputs
        (out,) = k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        dims = {f"d{i}": d for i, d in enumerate(x.tensor.dims)}
        outer = dict(list(dims.items())[: self.axis])
        inner = dict(list(dims.items())[self.axis :])
        with k.map(outer) as row:
            size = k.cast(k.index(product(inner.values())), acc)
            with k.reduce(inner, init=[zero(k, acc)]) as total:
                total.yield_(convert(k, k.read(x, *row, *total.dims), acc))
            mean = k.div(total.result, size)
            with k.reduce(inner, init=[zero(k, acc)]) as squares:
                centred = k.sub(convert(k, k.read(x, *row, *squares.dims), acc), mean)
                squares.yield_(k.mul(centred, centred))
            deviation = k.sqrt(k.add(k.div(squares.result, size), k.const(self.epsilon, acc)))
            factor = k.div(k.const(1.0, acc), deviation)
            with k.map(inner) as column:
                point = [*row, *column]
                y = k.mul(k.sub(convert(k, k.read(x, *point), acc), mean), factor)
                given = iter(convert(k, broadcast_read(k, v, point, x.tensor.dims), acc) for v in rest)
                y = y if self.scale is None else k.mul(y, next(given))
                y = y if self.bias is None else k.add(y, next(given))
                k.write(convert(k, y, out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, scale, bias = operands
        acc = DTYPES[accumulate_dtype(self.x.tensor.dtype)].numpy
        wide = x.astype(acc)
        axes = tuple(range(self.axis, x.ndim))
        centred = wide - wide.mean(axis=axes, keepdims=True)
        y = centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + acc.type(self.epsilon))
        y = y if scale is None else y * scale.astype(acc)
        y = y if bias is None else y + bias.astype(acc)
        return y.astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 2, 3, 8), fresh("f32", 8), fresh("f32", 8), 2, 1e-5)
        yield cls(fresh("f32", 2, 3, 8), fresh("f32", 3, 8), None, 1, 1e-5)
        yield cls(fresh("f32", 4, 6), None, fresh("f32", 1), 0, 1e-3)
        yield cls(fresh("f32", 4, 6), None, None, 1, 1e-3)
        for dtype in FLOATS[1:]:
            yield cls(fresh(dtype, 3, 8), fresh(dtype, 8), fresh(dtype, 8), 1, 1e-5)


class _Softmax(TensorOp):
    """Base: rows along `axis` are shifted by their maximum, so that no exponential overflows."""

    x: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        _check_floats(self.x)
        expect(x.shape is None or 0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        (x,) = k.inputs
        (out,) = k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        dims = {f"d{i}": d for i, d in enumerate(x.tensor.dims)}
        along = {f"d{self.axis}": dims.pop(f"d{self.axis}")}
        with k.map(dims) as row:

            def at(column: Expr) -> list[Expr]:
                return [*row[: self.axis], column, *row[self.axis :]]

            def read(stage: StageHandle) -> Value:
                return convert(k, k.read(x, *at(stage.dims[0])), acc)

            with k.reduce(along, init=[k.const(-np.inf, acc)], combine="max") as top:
                top.yield_(read(top))
            with k.reduce(along, init=[zero(k, acc)]) as total:
                total.yield_(k.exp(k.sub(read(total), top.result)))
            scale = self.of_total(k, total.result)
            with k.map(along) as (column,):
                shifted = k.sub(convert(k, k.read(x, *at(column)), acc), top.result)
                k.write(convert(k, self.of_element(k, shifted, scale), out.tensor.dtype), out, *at(column))

    def of_total(self, k: KernelBuilder, total: Value) -> Value:
        """What the sum of exponentials contributes to every element of the row."""
        raise NotImplementedError

    def of_element(self, k: KernelBuilder, shifted: Value, scale: Value) -> Value:
        """The result from an element less the row's maximum."""
        raise NotImplementedError

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 5), 1)
        yield cls(fresh("f32", 2, 3, 4), 1)
        yield cls(fresh("f32", 2, 3, 4), 0)
        yield cls(fresh("f32", 7), 0)
        yield cls(fresh("f32", 4, 1), 1)
        for dtype in FLOATS[1:]:
            yield cls(fresh(dtype, 3, 5), 1)


class Softmax(_Softmax, name="nn.softmax"):
    """`exp(x) / sum(exp(x))` along `axis`; floats, f16 and bf16 in f32. Source: ONNX Softmax (opset 13)."""

    def of_total(self, k: KernelBuilder, total: Value) -> Value:
        return k.div(k.const(1.0, total), total)

    def of_element(self, k: KernelBuilder, shifted: Value, scale: Value) -> Value:
        return k.mul(k.exp(shifted), scale)

    def reference(self, *operands: Any) -> Any:
        def softmax(x: Array) -> Array:
            e = np.exp(x - x.max(axis=self.axis, keepdims=True))
            return e / e.sum(axis=self.axis, keepdims=True)

        return in_f32(softmax, *operands)


class LogSoftmax(_Softmax, name="nn.log_softmax"):
    """`x - log(sum(exp(x)))` along `axis`; floats, f16 and bf16 in f32. Source: ONNX LogSoftmax (opset 13)."""

    def of_total(self, k: KernelBuilder, total: Value) -> Value:
        return k.log(total)

    def of_element(self, k: KernelBuilder, shifted: Value, scale: Value) -> Value:
        return k.sub(shifted, scale)

    def reference(self, *operands: Any) -> Any:
        def log_softmax(x: Array) -> Array:
            shifted = x - x.max(axis=self.axis, keepdims=True)
            return shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))

        return in_f32(log_softmax, *operands)
