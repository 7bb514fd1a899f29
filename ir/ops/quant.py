"""Quantisation: floats to narrow integers and back, with a scale and a zero point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Expr, const, floordiv
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .arith import saturated
from .base import TensorOp, fresh
from .pointwise import wide_dtype
from .windows import convert, may_equal

__all__ = ["Dequantize", "Quantize"]


class _Quantisation(TensorOp):
    """Base: `scale` and `zero` hold one number for the tensor (rank 0, or one element), one for each coordinate along
    `axis` (rank 1), or, with a `block` above 0, one for each block of so many coordinates along `axis` (rank of x)."""

    x: Value
    scale: Value
    zero: Value | None
    axis: int = 0
    block: int = 0

    def check(self) -> None:
        """Raise `VerifyError` unless scale and zero point fit each other and x."""
        x, scale = self.x.tensor, self.scale.tensor
        expect(is_float(scale.dtype), f"expected a scale of floats, got {scale}")
        if self.zero is not None:
            zero = self.zero.tensor.shape
            fits = zero == scale.shape
            if zero is not None and scale.shape is not None and len(zero) == len(scale.shape):
                fits = all(may_equal(a, b) for a, b in zip(zero, scale.shape, strict=True))
            expect(fits, f"expected a zero point of the shape of scale, got {self.zero.type}")
        if x.shape is None or scale.shape is None or scale.rank == 0 or scale.dims == (1,):
            return
        expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        if self.block:
            expect(scale.rank == x.rank, f"expected a scale of rank {x.rank} for blocks, got {scale}")
        else:
            fits = scale.rank == 1 and may_equal(scale.dims[0], x.dims[self.axis])
            expect(fits, f"expected a scale of shape [{x.dims[self.axis]}], got {scale}")

    def parameter_at(self, buffer: Value, point: Sequence[Expr]) -> list[Expr]:
        """Coordinates in scale or zero point for the element of x at `point`."""
        dims = buffer.tensor.dims
        if len(dims) == 0 or dims == (1,):
            return [const(0)] * len(dims)
        if not self.block:
            return [point[self.axis]]
        return [floordiv(p, self.block) if i == self.axis else p for i, p in enumerate(point)]

    def spread(self, parameter: Array, shape: Sequence[int]) -> Array:
        """A scale or zero point that broadcasts to an x of `shape`."""
        if parameter.size == 1:
            return parameter.reshape(())
        if self.block:
            return np.repeat(parameter, self.block, axis=self.axis).take(range(shape[self.axis]), axis=self.axis)
        return parameter.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])


class Quantize(_Quantisation, name="quant.quantize"):
    """`saturate(round(x / scale) + zero)` as integers of `dtype` (default: that of `zero`, u8 without one); halves
    round to even. `x`: floats or i32. Source: ONNX QuantizeLinear, with saturation.
    """

    dtype: str = ""

    def infer(self) -> Sequence[Type]:
        self.check()
        x = self.x.tensor
        expect(is_float(x.dtype) or x.dtype == "i32", f"expected floats or i32, got {x.dtype}")
        dtype = self.result_dtype()
        narrow = DTYPES[dtype].kind in ("int", "uint") and DTYPES[dtype].bits <= 16
        expect(narrow, f"expected a result of integers of 16 bits or less, got {dtype}")
        fits = self.zero is None or self.zero.tensor.dtype == dtype
        expect(fits, f"expected a zero point of {dtype}, got {self.zero and self.zero.type}")
        return [TensorType(dtype, x.shape)]

    def result_dtype(self) -> str:
        """Element type of the result."""
        return self.dtype or (self.zero.tensor.dtype if self.zero is not None else "u8")

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        x, scale, *zero = k.inputs
        wide = "f64" if x.tensor.dtype == "f64" else "f32"
        with k.map({f"d{i}": d for i, d in enumerate(x.tensor.dims)}) as point:
            ratio = k.div(
                convert(k, k.read(x, *point), wide),
                convert(k, k.read(scale, *self.parameter_at(scale, point)), wide),
            )
            whole = k.apply("round", ratio)
            for buffer in zero:
                whole = k.add(whole, convert(k, k.read(buffer, *self.parameter_at(buffer, point)), wide))
            k.write(k.cast(whole, out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, scale, zero = operands
        wide = np.float64 if x.dtype == np.float64 else np.float32
        whole = np.rint(x.astype(wide) / self.spread(scale, x.shape).astype(wide))
        if zero is not None:
            whole = whole + self.spread(zero, x.shape).astype(wide)
        return saturated(whole, self.result_dtype())

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 4), fresh("f32"), fresh("u8"))
        yield cls(fresh("f32", 3, 4), fresh("f32"), None)
        yield cls(fresh("f32", 3, 4), fresh("f32", 1), None, dtype="i8")
        yield cls(fresh("f32", 3, 4, 2), fresh("f32", 4), fresh("i8", 4), 1)
        yield cls(fresh("f32", 3, 5), fresh("f32", 3, 3), fresh("i8", 3, 3), 1, 2)
        yield cls(fresh("f16", 3, 4), fresh("f16"), fresh("u8"))
        yield cls(fresh("f32", 3, 4), fresh("f32"), fresh("i16"))
        yield cls(fresh("i32", 3, 4), fresh("f32"), fresh("u8"))
        yield cls(fresh("f32", 3, 4), fresh("f32"), None, dtype="i4")
        yield cls(fresh("f32", 3, 4), fresh("f32"), None, dtype="u4")

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Positive scales, powers of two so that halves are exact; some results saturate."""
        arrays = [rng.integers(-99, 99, self.x.tensor.static_shape) * 0.5, _scales(rng, self.scale)]
        if self.zero is not None:
            arrays.append(rng.integers(0, 9, self.zero.tensor.static_shape))
        return [np.asarray(a).astype(DTYPES[v.tensor.dtype].numpy) for a, v in zip(arrays, self.inputs, strict=True)]


class Dequantize(_Quantisation, name="quant.dequantize"):
    """`(x - zero) * scale`, of scale's element type. `x`: integers of 32 bits or less.

    Source: ONNX DequantizeLinear."""

    def infer(self) -> Sequence[Type]:
        self.check()
        x = self.x.tensor
        narrow = DTYPES[x.dtype].kind in ("int", "uint") and DTYPES[x.dtype].bits <= 32
        expect(narrow, f"expected integers of 32 bits or less, got {x.dtype}")
        fits = self.zero is None or self.zero.tensor.dtype == x.dtype
        expect(fits, f"expected a zero point of {x.dtype}, got {self.zero and self.zero.type}")
        return [TensorType(self.scale.tensor.dtype, x.shape)]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        x, scale, *zero = k.inputs
        wide = wide_dtype(scale.tensor.dtype)
        with k.map({f"d{i}": d for i, d in enumerate(x.tensor.dims)}) as point:
            value = convert(k, k.read(x, *point), "i32")
            for buffer in zero:
                value = k.sub(value, convert(k, k.read(buffer, *self.parameter_at(buffer, point)), "i32"))
            factor = convert(k, k.read(scale, *self.parameter_at(scale, point)), wide)
            k.write(convert(k, k.mul(k.cast(value, wide), factor), out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, scale, zero = operands
        wide = DTYPES[wide_dtype(self.scale.tensor.dtype)].numpy
        value = x.astype(np.int32)
        if zero is not None:
            value = value - self.spread(zero, x.shape).astype(np.int32)
        return (value.astype(wide) * self.spread(scale, x.shape).astype(wide)).astype(scale.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("u8", 3, 4), fresh("f32"), fresh("u8"))
        yield cls(fresh("i8", 3, 4), fresh("f32", 1), None)
        yield cls(fresh("i8", 3, 4, 2), fresh("f32", 4), fresh("i8", 4), 1)
        yield cls(fresh("i8", 5, 3), fresh("f32", 3, 3), fresh("i8", 3, 3), 0, 2)
        yield cls(fresh("i32", 3, 4), fresh("f32"), None)
        yield cls(fresh("u8", 3, 4), fresh("f16"), fresh("u8"))
        yield cls(fresh("u16", 3, 4), fresh("f64"), fresh("u16"))
        yield cls(fresh("i4", 4, 3), fresh("f32", 2, 3), None, 0, 2)
        yield cls(fresh("u4", 3, 4), fresh("f32"), fresh("u4"))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Positive scales."""
        arrays = [rng.integers(0, 99, self.x.tensor.static_shape), _scales(rng, self.scale)]
        if self.zero is not None:
            arrays.append(rng.integers(0, 9, self.zero.tensor.static_shape))
        return [np.asarray(a).astype(DTYPES[v.tensor.dtype].numpy) for a, v in zip(arrays, self.inputs, strict=True)]


def _scales(rng: np.random.Generator, scale: Value) -> Array:
    return np.exp2(rng.integers(-4, 2, scale.tensor.static_shape))
