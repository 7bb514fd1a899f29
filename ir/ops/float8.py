"""Conversions to and from the floats of 8 and 4 bits, in integer arithmetic, so that no target needs to know them.

Such a float is a sign, `exponent` bits and `mantissa` bits; `f8e8m0` is an exponent alone. Names and values are those
of ml_dtypes; source: ONNX, "Float stored in 8 bits" and "in 4 bits", and the OCP MX specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..scalar import Array, ScalarBuilder
from ..types import DTYPES
from .base import Elementwise, fresh

__all__ = ["FLOAT8", "Bitcast", "FromFloat8", "ToFloat8"]


@dataclass(frozen=True)
class Format:
    """`largest` is the code of the largest number, `overflow` what an unsaturated conversion makes of larger ones,
    `nan` the code of NaN (or of what stands for it); with `unsigned_zero` there is no -0 (its code is NaN)."""

    exponent: int
    mantissa: int
    bias: int
    largest: int
    overflow: int
    nan: int
    unsigned_zero: bool = False
    bits: int = 8

    @property
    def sign(self) -> int:
        """The sign's bit."""
        return 1 << (self.bits - 1)


FLOAT8: dict[str, Format] = {
    "f8e4m3fn": Format(4, 3, 7, 0x7E, 0x7F, 0x7F),
    "f8e4m3fnuz": Format(4, 3, 8, 0x7F, 0x80, 0x80, True),
    "f8e5m2": Format(5, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8e5m2fnuz": Format(5, 2, 16, 0x7F, 0x80, 0x80, True),
    "f8e8m0": Format(8, 0, 127, 0xFE, 0xFF, 0xFF),
    "f4e2m1": Format(2, 1, 1, 0x7, 0x7, 0x8, bits=4),  # no infinity, no NaN: ml_dtypes makes -0 of it
}


class ToFloat8(Elementwise, name="arith.to_float8"):
    """`x` (f32) as the small float `dtype`, rounded to nearest even. With `saturate` what is too large, infinity
    included, becomes the largest number, else infinity or, where there is none, NaN.

    `rounding` is that of f8e8m0, which has no sign and no mantissa: up, down or nearest. Source: ONNX Cast."""

    x: Value
    dtype: str
    saturate: bool = True
    rounding: str = "up"

    def check_dtypes(self) -> None:
        expect(self.x.tensor.dtype == "f32", f"expected f32, got {self.x.tensor.dtype}")
        expect(self.dtype in FLOAT8, f"expected one of {', '.join(FLOAT8)}, got {self.dtype}")
        modes = ("up", "down", "nearest")
        expect(self.rounding in modes, f"expected rounding {', '.join(modes)}, got {self.rounding}")

    def result_dtype(self) -> str:
        return self.dtype

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        form = FLOAT8[self.dtype]
        size = b.apply("abs", x)
        bits = b.apply("bitcast", size, dtype="i32")
        if self.dtype == "f8e8m0":
            code = self._exponent(b, bits)
        else:
            code = _encode(b, size, bits, form)
        top = b.const(form.largest, "i32")
        over = b.gt(code, top)
        code = b.select(over, top if self.saturate else b.const(form.overflow, "i32"), code)
        if self.dtype != "f8e8m0":
            low = b.lt(b.apply("bitcast", x, dtype="i32"), b.const(0, "i32"))
            if form.unsigned_zero:
                low = b.apply("and", low, b.gt(code, b.const(0, "i32")))
            code = b.select(low, b.apply("or", code, b.const(form.sign, "i32")), code)
        code = b.select(b.apply("isnan", x), b.const(form.nan, "i32"), code)
        return b.apply("bitcast", b.cast(code, "u8"), dtype=self.dtype)

    def _exponent(self, b: ScalarBuilder[Any], bits: Any) -> Any:
        """The exponent; a number that is no power of two is rounded."""
        add = {"up": 0x7FFFFF, "down": 0, "nearest": 0x400000}[self.rounding]
        # Denormals are below the least power of two, 2^-127, whose own exponent field is 0 as well.
        return b.apply("shr", b.add(bits, b.const(add, "i32")), b.const(23, "i32"))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        kind = DTYPES[self.dtype].numpy
        if self.dtype == "f8e8m0":
            return _powers(x, self.saturate, self.rounding).view(kind)
        found = x.astype(kind)
        if not self.saturate:
            return found
        info = FLOAT8[self.dtype]
        largest = np.array(info.largest, np.uint8).view(kind)
        over = ~np.isnan(x) & ~np.isfinite(found.astype(np.float32))
        return np.where(over, np.copysign(largest.astype(np.float32), x), found.astype(np.float32)).astype(kind)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOAT8:
            for saturate in (True, False):
                yield cls(fresh("f32", 3, 40), dtype, saturate)
        yield cls(fresh("f32", 40), "f8e8m0", True, "down")
        yield cls(fresh("f32", 40), "f8e8m0", True, "nearest")

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """All sizes, and the special values."""
        shape = self.x.tensor.static_shape
        data = rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, shape))
        data.reshape(-1)[:8] = [0, -0.0, np.nan, np.inf, -np.inf, 448, 464, 61440]
        return [(np.abs(data) if self.dtype == "f8e8m0" else data).astype(np.float32)]


def _encode(b: ScalarBuilder[Any], size: Any, bits: Any, form: Format) -> Any:
    """The code without sign of |x|, beyond `largest` where it is too large."""
    drop = 23 - form.mantissa
    odd = b.apply("and", b.apply("shr", bits, b.const(drop, "i32")), b.const(1, "i32"))
    rounded = b.add(b.add(bits, b.const((1 << (drop - 1)) - 1, "i32")), odd)
    normal = b.sub(b.apply("shr", rounded, b.const(drop, "i32")), b.const((127 - form.bias) << form.mantissa, "i32"))
    small = b.min(b.mul(size, b.const(2.0 ** (form.bias - 1 + form.mantissa), "f32")), b.const(256.0, "f32"))
    denormal = b.cast(b.apply("round", small), "i32")
    return b.select(b.lt(size, b.const(2.0 ** (1 - form.bias), "f32")), denormal, normal)


def _powers(x: Array, saturate: bool, rounding: str) -> Array:
    """Codes of f8e8m0, by way of logarithms."""
    with np.errstate(all="ignore"):
        mantissa, exponent = np.frexp(x.astype(np.float64))  # x = mantissa * 2^exponent, mantissa in [0.5, 1)
        up = {"up": mantissa > 0.5, "down": mantissa > 1, "nearest": mantissa >= 0.75}[rounding]
        power = np.where(x == 0, -127, exponent - 1 + up)
    code = np.clip(np.where(np.isinf(x), 999, power) + 127, 0, 999)
    code = np.where(code > 254, 254 if saturate else 255, code)
    return np.where(np.isnan(x), 255, code).astype(np.uint8)


class FromFloat8(Elementwise, name="arith.from_float8"):
    """A float of 8 or 4 bits as f32, which holds all of them. Source: ONNX Cast."""

    x: Value

    def check_dtypes(self) -> None:
        expect(self.x.tensor.dtype in FLOAT8, f"expected one of {', '.join(FLOAT8)}, got {self.x.tensor.dtype}")

    def result_dtype(self) -> str:
        return "f32"

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        dtype = self.x.tensor.dtype
        form = FLOAT8[dtype]
        code = b.cast(b.apply("bitcast", x, dtype="u8"), "i32")
        nan = b.const(float("nan"), "f32")
        if dtype == "f8e8m0":
            power = b.apply("bitcast", b.apply("shl", code, b.const(23, "i32")), dtype="f32")
            least = b.select(b.eq(code, b.const(0, "i32")), b.const(2.0**-127, "f32"), power)
            return b.select(b.eq(code, b.const(0xFF, "i32")), nan, least)
        plain = b.apply("and", code, b.const(form.sign - 1, "i32"))
        shifted = b.apply("shl", plain, b.const(23 - form.mantissa, "i32"))
        normal = b.apply("bitcast", b.add(shifted, b.const((127 - form.bias) << 23, "i32")), dtype="f32")
        denormal = b.mul(b.cast(plain, "f32"), b.const(2.0 ** (1 - form.bias - form.mantissa), "f32"))
        size = b.select(b.lt(plain, b.const(1 << form.mantissa, "i32")), denormal, normal)
        if dtype == "f8e5m2":
            size = b.select(b.eq(plain, b.const(0x7C, "i32")), b.const(float("inf"), "f32"), size)
            size = b.select(b.gt(plain, b.const(0x7C, "i32")), nan, size)
        elif not form.unsigned_zero and form.nan < form.sign:
            size = b.select(b.eq(plain, b.const(form.nan, "i32")), nan, size)
        signed = b.select(b.gt(code, b.const(form.sign - 1, "i32")), b.neg(size), size)
        return b.select(b.eq(code, b.const(0x80, "i32")), nan, signed) if form.unsigned_zero else signed

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return x.astype(np.float32)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOAT8:
            yield cls(fresh(dtype, 1 << FLOAT8[dtype].bits))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """All codes."""
        return [np.arange(self.x.tensor.static_shape[0], dtype=np.uint8).view(DTYPES[self.x.tensor.dtype].numpy)]


class Bitcast(Elementwise, name="arith.bitcast"):
    """The bits of `x` as element type `dtype`, which is as wide. Source: ONNX BitCast."""

    x: Value
    dtype: str

    def check_dtypes(self) -> None:
        expect(self.dtype in DTYPES, f"expected an element type, got {self.dtype}")
        kinds = {DTYPES[d].kind for d in (self.x.tensor.dtype, self.dtype)}
        expect(
            kinds <= {"float", "int", "uint", "float8", "complex"},
            f"expected numbers, got {self.x.tensor.dtype}, {self.dtype}",
        )
        wide, have = DTYPES[self.dtype].bits, DTYPES[self.x.tensor.dtype].bits
        expect(wide == have and wide >= 8, f"expected an element type of {have} bits, got {self.dtype}")

    def result_dtype(self) -> str:
        return self.dtype

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        return x if self.x.tensor.dtype == self.dtype else b.apply("bitcast", x, dtype=self.dtype)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.frombuffer(np.ascontiguousarray(x).tobytes(), DTYPES[self.dtype].numpy).reshape(x.shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        pairs = [("f32", "i32"), ("i32", "f32"), ("f64", "u64"), ("u8", "i8"), ("f16", "u16"), ("i16", "bf16")]
        pairs += [("c64", "f64")]
        for have, want in pairs:
            yield cls(fresh(have, 2, 3), want)
