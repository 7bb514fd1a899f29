"""Arithmetic, logic, comparison, selection and conversion, element by element with NumPy's broadcasting.

The functions of one operand stand in `elementary`; they are re-exported here, as they share the `arith.` prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..scalar import Array, ScalarBuilder
from ..types import DTYPES, dtype_of, is_float
from .base import Elementwise, fresh
from .elementary import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Floor,
    IsInf,
    IsNaN,
    Log,
    Neg,
    Not,
    Reciprocal,
    Round,
    Rsqrt,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
)
from .pointwise import FLOATS, INTS, NUMBERS, Binary, in_f32, where

__all__ = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Cast", "Ceil", "Cos", "Cosh",
    "Div", "Equal", "Erf", "Exp", "Floor", "FloorMod", "Greater", "GreaterEqual", "IsInf", "IsNaN", "Less", "LessEqual",
    "Log", "Maximum", "Minimum", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Rem", "Round", "Rsqrt", "Shl", "Shr",
    "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Sub", "Tan", "Tanh", "Where", "Xor",
]  # fmt: skip


class Add(Binary, name="arith.add"):
    """`x + y`; integers wrap. Source: ONNX Add."""

    names = {"onnx": "Add"}
    fn = "add"
    numpy = np.add


class Sub(Binary, name="arith.sub"):
    """`x - y`; integers wrap. Source: ONNX Sub."""

    names = {"onnx": "Sub"}
    fn = "sub"
    numpy = np.subtract


class Mul(Binary, name="arith.mul"):
    """`x * y`; integers wrap. Source: ONNX Mul."""

    names = {"onnx": "Mul"}
    fn = "mul"
    numpy = np.multiply


def _truncated_division(x: Array, y: Array) -> Array:
    if x.dtype.kind not in "iu":
        return x / y
    # Floor division corrected toward zero.
    x, y = np.broadcast_arrays(x, y)
    quotient: Array = np.zeros(x.shape, x.dtype)
    np.floor_divide(x, y, out=quotient, where=y != 0)
    if x.dtype.kind == "i":
        inexact = (quotient * y != x) & ((x < 0) != (y < 0)) & (y != 0)
        quotient = quotient + inexact.astype(x.dtype)
        quotient = where((y == -1), np.negative(x), quotient)
    return quotient


class Div(Binary, name="arith.div"):
    """`x / y`; integers truncate toward zero, `x / 0` is 0, `MIN / -1` is MIN. Source: ONNX Div."""

    names = {"onnx": "Div"}
    fn = "div"
    numpy = staticmethod(_truncated_division)


def _remainder(floored: bool, x: Array, y: Array) -> Array:
    """Of the sign of y if `floored`, else of x."""
    if x.dtype.kind not in "iu":
        return (np.mod if floored else np.fmod)(x, y)
    x, y = np.broadcast_arrays(x, y)
    out = np.zeros_like(x) if floored else x.copy()
    (np.mod if floored else np.fmod)(x, y, out=out, where=y != 0)
    return out


class Rem(Binary, name="arith.rem"):
    """Remainder with the sign of `x`, as C's `%` and `fmod`; integers `x rem 0` is x. Source: ONNX Mod with fmod=1."""

    fn = "rem"
    numpy = staticmethod(partial(_remainder, False))


class FloorMod(Binary, name="arith.floor_mod"):
    """Remainder with the sign of `y`, as Python's `%`; integers modulo 0 are 0. Source: ONNX Mod with fmod=0."""

    fn = "floormod"
    numpy = staticmethod(partial(_remainder, True))


class Pow(Binary, name="arith.pow"):
    """`x ** y` of the element type of `x`; `y` may have another one. Source: ONNX Pow."""

    names = {"onnx": "Pow"}
    fn = "pow"
    numpy = staticmethod(np.power)

    def check_dtypes(self) -> None:
        dtypes = [v.tensor.dtype for v in self.inputs]
        expect(all(DTYPES[d].kind in ("float", "int", "uint") for d in dtypes), f"expected numbers, got {dtypes}")

    def _common(self) -> str:
        """The element type to compute in: that of x, but of y where a float exponent meets an integer base."""
        x, y = self.x.tensor.dtype, self.y.tensor.dtype
        return y if is_float(y) and not is_float(x) else x

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        x, y = operands
        common, dtype = self._common(), self.x.tensor.dtype
        x = x if dtype == common else b.cast(x, common)
        y = y if self.y.tensor.dtype == common else b.cast(y, common)
        power = b.apply("pow", x, y)
        return power if dtype == common else b.cast(power, dtype)

    def reference(self, *operands: Any) -> Any:
        x, y = operands
        common = DTYPES[self._common()].numpy
        return in_f32(np.power, x.astype(common), y.astype(common)).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOATS:
            yield cls(fresh(dtype, 2, 3), fresh(dtype, 3))
        yield cls(fresh("f32", 2, 3), fresh("i64"))
        yield cls(fresh("i32", 2, 3), fresh("u8", 1))
        yield cls(fresh("i32", 2, 3), fresh("i32", 2, 3))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Bases and exponents for which the power is defined."""
        arrays: list[Array] = []
        for value, low, high in ((self.x, 0.5, 3.0), (self.y, 0.0, 3.0)):
            t = value.tensor
            arrays.append(np.asarray(rng.uniform(low, high, t.static_shape)).astype(DTYPES[t.dtype].numpy))
        return arrays


class Minimum(Binary, name="arith.minimum"):
    """The smaller one; NaN where either is NaN. Source: ONNX Min (of two)."""

    fn = "min"
    numpy = np.minimum


class Maximum(Binary, name="arith.maximum"):
    """The larger one; NaN where either is NaN. Source: ONNX Max (of two)."""

    fn = "max"
    numpy = np.maximum


class Atan2(Binary, name="arith.atan2"):
    """Angle of the point with ordinate `x` and abscissa `y`, in -pi..pi: C's `atan2(x, y)`; floats."""

    fn = "atan2"
    numpy = np.arctan2
    sample_dtypes = FLOATS


class And(Binary, name="arith.and"):
    """Bitwise and of integers, logical and of bools. Source: ONNX And, BitwiseAnd."""

    fn = "and"
    numpy = np.bitwise_and
    sample_dtypes = ("bool", *INTS)


class Or(Binary, name="arith.or"):
    """Bitwise or of integers, logical or of bools. Source: ONNX Or, BitwiseOr."""

    fn = "or"
    numpy = np.bitwise_or
    sample_dtypes = ("bool", *INTS)


class Xor(Binary, name="arith.xor"):
    """Bitwise exclusive or of integers, logical one of bools. Source: ONNX Xor, BitwiseXor."""

    fn = "xor"
    numpy = np.bitwise_xor
    sample_dtypes = ("bool", *INTS)


def _shifted(left: bool, x: Array, y: Array) -> Array:
    width = x.dtype.itemsize * 8
    legal = (y >= 0) & (y < width)
    by = where(legal, y, 0)
    return where(legal, np.left_shift(x, by) if left else np.right_shift(x, by), 0)


class _Shift(Binary):
    """Bases of shifts: amounts that matter for samples."""

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Shift amounts inside and outside the width."""
        x, y = self.x.tensor, self.y.tensor
        numpy = DTYPES[x.dtype].numpy
        return [
            np.asarray(rng.integers(0, 100, x.static_shape)).astype(numpy),
            np.asarray(rng.integers(0, DTYPES[x.dtype].bits + 3, y.static_shape)).astype(numpy),
        ]


class Shl(_Shift, name="arith.shl"):
    """`x << y` of integers; shifts by the width or more give 0. Source: ONNX BitShift LEFT."""

    fn = "shl"
    numpy = staticmethod(partial(_shifted, True))
    sample_dtypes = ("u32", "u8", "u64", "i32")


class Shr(_Shift, name="arith.shr"):
    """`x >> y` of integers (arithmetic for signed ones); by the width or more gives 0. Source: ONNX BitShift RIGHT."""

    fn = "shr"
    numpy = staticmethod(partial(_shifted, False))
    sample_dtypes = ("u32", "u8", "u64", "i32")


class Equal(Binary, name="arith.equal"):
    """`x == y` as bool; false with NaN. Source: ONNX Equal."""

    names = {"onnx": "Equal"}
    fn = "eq"
    numpy = np.equal
    sample_dtypes = ("bool", *NUMBERS)


class Less(Binary, name="arith.less"):
    """`x < y` as bool; false with NaN. Source: ONNX Less."""

    names = {"onnx": "Less"}
    fn = "lt"
    numpy = np.less


class LessEqual(Binary, name="arith.less_equal"):
    """`x <= y` as bool; false with NaN. Source: ONNX LessOrEqual."""

    names = {"onnx": "LessOrEqual"}
    fn = "le"
    numpy = np.less_equal


class Greater(Binary, name="arith.greater"):
    """`x > y` as bool; false with NaN. Source: ONNX Greater."""

    names = {"onnx": "Greater"}
    fn = "gt"
    numpy = np.greater


class GreaterEqual(Binary, name="arith.greater_equal"):
    """`x >= y` as bool; false with NaN. Source: ONNX GreaterOrEqual."""

    names = {"onnx": "GreaterOrEqual"}
    fn = "ge"
    numpy = np.greater_equal


class Where(Elementwise, name="arith.where"):
    """`x` where `condition` (bool), else `y`; all three broadcast. Source: ONNX Where."""

    names = {"onnx": "Where"}

    condition: Value
    x: Value
    y: Value

    def check_dtypes(self) -> None:
        condition, x, y = (v.tensor.dtype for v in (self.condition, self.x, self.y))
        expect(condition == "bool", f"expected a bool condition, got {condition}")
        expect(x == y, f"expected x and y of one element type, got {x} and {y}")

    def result_dtype(self) -> str:
        return self.x.tensor.dtype

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        condition, x, y = operands
        return b.select(condition, x, y)

    def reference(self, *operands: Any) -> Any:
        return where(*operands)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in (*NUMBERS, "bool", "c64", "c128"):
            yield cls(fresh("bool", 2, 3), fresh(dtype, 2, 3), fresh(dtype, 3))
        yield cls(fresh("bool", 3, 1), fresh("f32"), fresh("f32", 2, 1, 4))


class Cast(Elementwise, name="arith.cast"):
    """`x` converted to element type `dtype`: floats to integers truncate and saturate (NaN gives 0), integers to
    narrower ones wrap, anything to bool is `x != 0`. Source: ONNX Cast."""

    x: Value
    dtype: str

    def check_dtypes(self) -> None:
        expect(self.dtype in DTYPES, f"expected an element type, got {self.dtype}")
        for dtype in (self.x.tensor.dtype, self.dtype):
            expect(DTYPES[dtype].kind not in ("string", "complex"), f"expected numbers or bools, got {dtype}")

    def result_dtype(self) -> str:
        return self.dtype

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        return b.cast(x, self.dtype)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        info, have = DTYPES[self.dtype], DTYPES[dtype_of(x)]
        if info.kind == "bool":
            return x != 0
        if have.kind != "float" or info.kind == "float":
            return x.astype(info.numpy)
        return saturated(x, self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        pairs: Sequence[tuple[str, str]] = [
            ("f32", "i32"), ("f32", "i8"), ("f32", "u8"), ("f32", "i64"), ("f32", "bool"), ("f32", "f16"),
            ("f32", "bf16"), ("f32", "f64"), ("f64", "f32"), ("f16", "f32"), ("bf16", "f32"), ("i64", "i32"),
            ("i64", "f32"), ("i32", "i8"), ("u8", "f32"), ("bool", "f32"), ("bool", "i64"), ("i32", "bool"),
        ]  # fmt: skip
        for have, want in pairs:
            yield cls(fresh(have, 2, 3), want)


def saturated(x: Array, dtype: str) -> Array:
    """Floats truncated toward zero and clamped to the range of the integer type `dtype`; NaN gives 0."""
    info = DTYPES[dtype]
    low, high = (-(2 ** (info.bits - 1)), 2 ** (info.bits - 1) - 1) if info.kind == "int" else (0, 2**info.bits - 1)
    whole = np.trunc(where(np.isnan(x), 0, x).astype(np.float64))
    # 2**63 - 1 is not a double: compare first, convert only what fits.
    inside = (whole > low) & (whole < high)
    exact = where(inside, whole, 0).astype(np.uint64 if info.kind == "uint" else np.int64)
    edge = where(whole >= high, exact.dtype.type(high), exact.dtype.type(low))
    return where(inside, exact, edge).astype(info.numpy)
