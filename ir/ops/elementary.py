"""Functions of one operand, element by element: elementary functions, signs, rounding, tests for NaN and infinity."""

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
from .pointwise import FLOATS, INTS, Activation, Unary


class _Domain(Unary):
    """A function that is defined only in part of the numbers: samples stay inside."""

    domain = (-1.0, 1.0)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Numbers of the domain."""
        t = self.x.tensor
        return [np.asarray(rng.uniform(*self.domain, t.static_shape)).astype(DTYPES[t.dtype].numpy)]


class Not(Unary, name="arith.not"):
    """Bitwise complement of integers, logical complement of bools. Source: ONNX Not, BitwiseNot."""

    fn = "not"
    numpy = np.invert
    sample_dtypes = ("bool", *INTS)


class Neg(Unary, name="arith.neg"):
    """`-x`; integers wrap. Source: ONNX Neg."""

    names = {"onnx": "Neg"}
    fn = "neg"
    numpy = np.negative
    sample_dtypes = (*FLOATS, "i32", "i64", "i8")


class Abs(Unary, name="arith.abs"):
    """Absolute value; that of the least integer is itself. Source: ONNX Abs."""

    names = {"onnx": "Abs"}
    fn = "abs"
    numpy = np.abs
    sample_dtypes = (*FLOATS, "i32", "i64", "u8")


class Sign(Unary, name="arith.sign"):
    """-1, 0 or 1; NaN for NaN. Source: ONNX Sign."""

    names = {"onnx": "Sign"}
    fn = "sign"
    numpy = np.sign
    sample_dtypes = (*FLOATS, "i32", "i64", "u8")


class Floor(Unary, name="arith.floor"):
    """The largest whole number not above `x`; floats. Source: ONNX Floor."""

    names = {"onnx": "Floor"}
    fn = "floor"
    numpy = np.floor


class Ceil(Unary, name="arith.ceil"):
    """The smallest whole number not below `x`; floats. Source: ONNX Ceil."""

    names = {"onnx": "Ceil"}
    fn = "ceil"
    numpy = np.ceil


class Round(Unary, name="arith.round"):
    """The nearest whole number, halves to even; floats. Source: ONNX Round."""

    names = {"onnx": "Round"}
    fn = "round"
    numpy = np.rint


class Exp(Unary, name="arith.exp"):
    """`e ** x`; floats. Source: ONNX Exp."""

    names = {"onnx": "Exp"}
    fn = "exp"
    numpy = np.exp


class Log(_Domain, name="arith.log"):
    """Natural logarithm; floats. Source: ONNX Log."""

    names = {"onnx": "Log"}
    fn = "log"
    numpy = np.log
    domain = (0.01, 20.0)


class Sqrt(_Domain, name="arith.sqrt"):
    """Square root; floats. Source: ONNX Sqrt."""

    names = {"onnx": "Sqrt"}
    fn = "sqrt"
    numpy = np.sqrt
    domain = (0.0, 20.0)


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


class Rsqrt(_Domain, name="arith.rsqrt"):
    """`1 / sqrt(x)`; floats."""

    fn = "rsqrt"
    numpy = staticmethod(_rsqrt)
    domain = (0.1, 20.0)


class Reciprocal(Activation, name="arith.reciprocal"):
    """`1 / x`; floats. Source: ONNX Reciprocal."""

    names = {"onnx": "Reciprocal"}

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        return b.div(b.const(1.0, x), x)

    def numpy(self, x: Array) -> Array:
        return np.reciprocal(x)


class Sin(Unary, name="arith.sin"):
    """Sine of radians; floats. Source: ONNX Sin."""

    names = {"onnx": "Sin"}
    fn = "sin"
    numpy = np.sin


class Cos(Unary, name="arith.cos"):
    """Cosine of radians; floats. Source: ONNX Cos."""

    names = {"onnx": "Cos"}
    fn = "cos"
    numpy = np.cos


class Tan(_Domain, name="arith.tan"):
    """Tangent of radians; floats. Source: ONNX Tan."""

    names = {"onnx": "Tan"}
    fn = "tan"
    numpy = np.tan


class Asin(_Domain, name="arith.asin"):
    """Arcsine in radians; floats, NaN outside -1..1. Source: ONNX Asin."""

    names = {"onnx": "Asin"}
    fn = "asin"
    numpy = np.arcsin


class Acos(_Domain, name="arith.acos"):
    """Arccosine in radians; floats, NaN outside -1..1. Source: ONNX Acos."""

    names = {"onnx": "Acos"}
    fn = "acos"
    numpy = np.arccos


class Atan(Unary, name="arith.atan"):
    """Arctangent in radians; floats. Source: ONNX Atan."""

    names = {"onnx": "Atan"}
    fn = "atan"
    numpy = np.arctan


class Sinh(Unary, name="arith.sinh"):
    """Hyperbolic sine; floats. Source: ONNX Sinh."""

    names = {"onnx": "Sinh"}
    fn = "sinh"
    numpy = np.sinh


class Cosh(Unary, name="arith.cosh"):
    """Hyperbolic cosine; floats. Source: ONNX Cosh."""

    names = {"onnx": "Cosh"}
    fn = "cosh"
    numpy = np.cosh


class Tanh(Unary, name="arith.tanh"):
    """Hyperbolic tangent; floats. Source: ONNX Tanh."""

    names = {"onnx": "Tanh"}
    fn = "tanh"
    numpy = np.tanh


class Asinh(Unary, name="arith.asinh"):
    """Inverse hyperbolic sine; floats. Source: ONNX Asinh."""

    names = {"onnx": "Asinh"}
    fn = "asinh"
    numpy = np.arcsinh


class Acosh(_Domain, name="arith.acosh"):
    """Inverse hyperbolic cosine; floats, NaN below 1. Source: ONNX Acosh."""

    names = {"onnx": "Acosh"}
    fn = "acosh"
    numpy = np.arccosh
    domain = (1.1, 20.0)


class Atanh(_Domain, name="arith.atanh"):
    """Inverse hyperbolic tangent; floats, NaN outside -1..1. Source: ONNX Atanh."""

    names = {"onnx": "Atanh"}
    fn = "atanh"
    numpy = np.arctanh
    domain = (-0.9, 0.9)


_erf = np.vectorize(math.erf, otypes=[np.float64])


class Erf(Unary, name="arith.erf"):
    """Error function; floats. Source: ONNX Erf."""

    names = {"onnx": "Erf"}
    fn = "erf"
    numpy = staticmethod(_erf)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


class Sigmoid(Unary, name="arith.sigmoid"):
    """`1 / (1 + exp(-x))`; floats. Source: ONNX Sigmoid."""

    names = {"onnx": "Sigmoid"}
    fn = "sigmoid"
    numpy = staticmethod(_sigmoid)


class IsNaN(Unary, name="arith.is_nan"):
    """True where `x` is NaN; floats. Source: ONNX IsNaN."""

    names = {"onnx": "IsNaN"}
    fn = "isnan"
    numpy = np.isnan

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Some NaN among numbers."""
        return [_with_specials(self.x, rng)]


class IsInf(Elementwise, name="arith.is_inf"):
    """True where `x` is infinite, of the signs that `positive` and `negative` ask for; floats. Source: ONNX IsInf."""

    x: Value
    positive: bool = True
    negative: bool = True

    def check_dtypes(self) -> None:
        expect(is_float(self.x.tensor.dtype), f"expected floats, got {self.x.tensor.dtype}")

    def result_dtype(self) -> str:
        return "bool"

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        if self.positive and self.negative:
            return b.apply("isinf", x)
        if not (self.positive or self.negative):
            return b.const(False, "bool")
        return b.eq(x, b.const(math.inf if self.positive else -math.inf, x))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.isinf(x) & (((x > 0) & self.positive) | ((x < 0) & self.negative))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOATS:
            yield cls(fresh(dtype, 3, 5))
        for positive, negative in ((True, False), (False, True), (False, False)):
            yield cls(fresh("f32", 3, 5), positive=positive, negative=negative)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Infinities and NaN among numbers."""
        return [_with_specials(self.x, rng)]


def _with_specials(value: Value, rng: np.random.Generator) -> Array:
    t = value.tensor
    x = rng.standard_normal(t.static_shape)
    special = rng.choice([math.nan, math.inf, -math.inf], t.static_shape)
    return np.asarray(np.where(rng.random(t.static_shape) < 0.5, special, x)).astype(DTYPES[t.dtype].numpy)
