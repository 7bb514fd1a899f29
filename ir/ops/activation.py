"""Activation functions of neural networks, element by element, with the `nn.` prefix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..scalar import Array, ScalarBuilder
from ..types import DTYPES, is_float
from .base import Elementwise, fresh
from .elementary import Erf
from .pointwise import FLOATS, Activation, in_f32, where

__all__ = [
    "Celu",
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "Silu",
    "Softplus",
    "Softsign",
    "ThresholdedRelu",
]


class Relu(Elementwise, name="nn.relu"):
    """`max(x, 0)` of any numbers; NaN stays NaN. Source: ONNX Relu."""

    names = {"onnx": "Relu"}

    x: Value

    def check_dtypes(self) -> None:
        dtype = self.x.tensor.dtype
        expect(DTYPES[dtype].kind in ("float", "int", "uint"), f"expected numbers, got {dtype}")

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        return b.max(x, b.const(0.0 if is_float(self.x.tensor.dtype) else 0, x))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.maximum(x, x.dtype.type(0))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in (*FLOATS, "i32", "i8"):
            yield cls(fresh(dtype, 3, 5))


class Silu(Activation, name="nn.silu"):
    """`x * sigmoid(x)`; floats. Source: PyTorch SiLU, ONNX Swish with alpha=1."""

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.mul(x, b.sigmoid(x))

    def numpy(self, x: Array) -> Array:
        return x / (1 + np.exp(-x))


class HardSwish(Activation, name="nn.hard_swish"):
    """`x * max(0, min(1, x / 6 + 0.5))`; floats. Source: ONNX HardSwish."""

    names = {"onnx": "HardSwish"}

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        inner = b.add(b.mul(x, b.const(1 / 6, x)), b.const(0.5, x))
        return b.mul(x, b.max(b.const(0.0, x), b.min(b.const(1.0, x), inner)))

    def numpy(self, x: Array) -> Array:
        return x * np.clip(x / 6 + 0.5, 0, 1)


def _softplus(b: ScalarBuilder[Any], x: Any) -> Any:
    """`log(1 + exp(x))` without overflow: `max(x, 0) + log1p(exp(-|x|))`."""
    return b.add(b.max(x, b.const(0.0, x)), b.apply("log1p", b.exp(b.neg(b.apply("abs", x)))))


class Softplus(Activation, name="nn.softplus"):
    """`log(1 + exp(x))`; floats. Source: ONNX Softplus."""

    names = {"onnx": "Softplus"}

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return _softplus(b, x)

    def numpy(self, x: Array) -> Array:
        return np.logaddexp(x, 0)


class Softsign(Activation, name="nn.softsign"):
    """`x / (1 + |x|)`; floats. Source: ONNX Softsign."""

    names = {"onnx": "Softsign"}

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.div(x, b.add(b.const(1.0, x), b.apply("abs", x)))

    def numpy(self, x: Array) -> Array:
        return x / (1 + np.abs(x))


class Mish(Activation, name="nn.mish"):
    """`x * tanh(softplus(x))`; floats. Source: ONNX Mish."""

    names = {"onnx": "Mish"}

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.mul(x, b.tanh(_softplus(b, x)))

    def numpy(self, x: Array) -> Array:
        return x * np.tanh(np.logaddexp(x, 0))


class LeakyRelu(Activation, name="nn.leaky_relu"):
    """`x` where not negative, else `alpha * x`; floats. Source: ONNX LeakyRelu."""

    names = {"onnx": "LeakyRelu"}

    alpha: float = 0.01

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.select(b.lt(x, b.const(0.0, x)), b.mul(x, b.const(self.alpha, x)), x)

    def numpy(self, x: Array) -> Array:
        return where(x < 0, x * x.dtype.type(self.alpha), x)

    @classmethod
    def sample_attributes(cls) -> dict[str, Any]:
        return {"alpha": 0.2}


class Elu(Activation, name="nn.elu"):
    """`x` where positive, else `alpha * (exp(x) - 1)`; floats. Source: ONNX Elu."""

    names = {"onnx": "Elu"}

    alpha: float = 1.0

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.select(b.gt(x, b.const(0.0, x)), x, b.mul(b.apply("expm1", x), b.const(self.alpha, x)))

    def numpy(self, x: Array) -> Array:
        return where(x > 0, x, self.alpha * (np.exp(np.minimum(x, 0)) - 1))

    @classmethod
    def sample_attributes(cls) -> dict[str, Any]:
        return {"alpha": 1.5}


class Celu(Activation, name="nn.celu"):
    """`max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`; floats. Source: ONNX Celu."""

    names = {"onnx": "Celu"}

    alpha: float = 1.0

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        zero, alpha = b.const(0.0, x), b.const(self.alpha, x)
        return b.add(b.max(zero, x), b.min(zero, b.mul(alpha, b.apply("expm1", b.div(x, alpha)))))

    def numpy(self, x: Array) -> Array:
        return np.maximum(x, 0) + np.minimum(0, self.alpha * (np.exp(x / self.alpha) - 1))

    @classmethod
    def sample_attributes(cls) -> dict[str, Any]:
        return {"alpha": 2.0}


class ThresholdedRelu(Activation, name="nn.thresholded_relu"):
    """`x` where above `alpha`, else 0; floats. Source: ONNX ThresholdedRelu."""

    names = {"onnx": "ThresholdedRelu"}

    alpha: float = 1.0

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.select(b.gt(x, b.const(self.alpha, x)), x, b.const(0.0, x))

    def numpy(self, x: Array) -> Array:
        return x * (x > self.alpha)

    @classmethod
    def sample_attributes(cls) -> dict[str, Any]:
        return {"alpha": 0.5}


class Selu(Activation, name="nn.selu"):
    """`gamma * x` where positive, else `gamma * alpha * (exp(x) - 1)`; floats. Source: ONNX Selu."""

    names = {"onnx": "Selu"}

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        negative = b.mul(b.const(self.gamma * self.alpha, x), b.apply("expm1", x))
        return b.select(b.gt(x, b.const(0.0, x)), b.mul(b.const(self.gamma, x), x), negative)

    def numpy(self, x: Array) -> Array:
        return self.gamma * where(x > 0, x, self.alpha * (np.exp(np.minimum(x, 0)) - 1))


class Gelu(Activation, name="nn.gelu"):
    """`x * P(X <= x)` for a standard normal X; floats. `approximate` is `none` (through erf) or `tanh`
    (`0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`). Source: ONNX Gelu."""

    names = {"onnx": "Gelu"}

    approximate: str = "none"

    def check_dtypes(self) -> None:
        super().check_dtypes()
        expect(self.approximate in ("none", "tanh"), f"expected approximate of none or tanh, got {self.approximate}")

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        if self.approximate == "tanh":
            cubic = b.add(x, b.mul(b.const(0.044715, x), b.mul(x, b.mul(x, x))))
            inner = b.tanh(b.mul(b.const(math.sqrt(2 / math.pi), x), cubic))
        else:
            inner = b.erf(b.mul(x, b.const(math.sqrt(0.5), x)))
        return b.mul(b.mul(b.const(0.5, x), x), b.add(b.const(1.0, x), inner))

    def numpy(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x * 0.5 * (1 + Erf.numpy(x / math.sqrt(2)))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOATS:
            for approximate in ("none", "tanh"):
                yield cls(fresh(dtype, 3, 5), approximate)


class HardSigmoid(Activation, name="nn.hard_sigmoid"):
    """`max(0, min(1, alpha * x + beta))`; floats. Source: ONNX HardSigmoid."""

    names = {"onnx": "HardSigmoid"}

    alpha: float = 0.2
    beta: float = 0.5

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        line = b.add(b.mul(b.const(self.alpha, x), x), b.const(self.beta, x))
        return b.max(b.const(0.0, x), b.min(b.const(1.0, x), line))

    def numpy(self, x: Array) -> Array:
        return np.clip(self.alpha * x + self.beta, 0, 1)


class PRelu(Elementwise, name="nn.prelu"):
    """`x` where not negative, else `slope * x`; the slope broadcasts to x; any numbers. Source: ONNX PRelu."""

    names = {"onnx": "PRelu"}

    x: Value
    slope: Value

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        x, slope = operands
        return b.select(b.lt(x, b.const(0.0 if is_float(self.x.tensor.dtype) else 0, x)), b.mul(x, slope), x)

    def reference(self, *operands: Any) -> Any:
        def prelu(x: Array, slope: Array) -> Array:
            return where(x < 0, slope * x, x)

        return in_f32(prelu, *operands)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in (*FLOATS, "i32"):
            yield cls(fresh(dtype, 2, 3, 4), fresh(dtype, 3, 1))
        yield cls(fresh("f32", 2, 3), fresh("f32"))


class Clip(Elementwise, name="nn.clip"):
    """`min(max(x, low), high)`; either bound (of rank 0) may be absent; any numbers. Source: ONNX Clip."""

    x: Value
    low: Value | None = None
    high: Value | None = None

    def check_dtypes(self) -> None:
        super().check_dtypes()
        for bound in (self.low, self.high):
            if bound is not None and bound.tensor.shape is not None:
                expect(bound.tensor.rank == 0, f"expected bounds of rank 0, got {bound.tensor}")

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        x, *bounds = operands
        if self.low is not None:
            x = b.max(x, bounds.pop(0))
        return b.min(x, bounds.pop(0)) if self.high is not None else x

    def reference(self, *operands: Any) -> Any:
        x, low, high = operands
        x = x if low is None else np.maximum(x, low)
        return np.array(x) if high is None else np.minimum(x, high)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in (*FLOATS, "i32", "u8", "i8"):
            yield cls(fresh(dtype, 3, 5), fresh(dtype), fresh(dtype))
        yield cls(fresh("f32", 3, 5), None, fresh("f32"))
        yield cls(fresh("f32", 3, 5), fresh("f32"), None)
        yield cls(fresh("f32", 3, 5), None, None)
