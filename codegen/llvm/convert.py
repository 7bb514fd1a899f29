"""Element types in registers and in memory, and conversions between them (the casts of the scalar language).

In registers bool is `i1`, integers of 4 and 2 bits are `i4` and `i2`, f16 and bf16 are their bits in `i16`, complex
numbers theirs in `i64` and `i128`; in memory bool and these integers take one byte. No conversion needs a helper of the
compiler's library: what the target lacks is integer code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES
from .builder import Builder, Ty, V, number

_WHOLE = {f"{sign}{bits}": f"i{bits}" for sign in "iu" for bits in (8, 16, 32, 64)}
_BYTE = dict.fromkeys(("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1"), "i8")
_OTHER = {"f16": "i16", "bf16": "i16", "f32": "float", "f64": "double", "bool": "i1", "c64": "i64", "c128": "i128"}
_NARROW = {"i4": "i4", "u4": "i4", "i2": "i2", "u2": "i2"}
REGISTER = _WHOLE | _OTHER | _BYTE | _NARROW
MEMORY = REGISTER | dict.fromkeys(("bool", *_NARROW), "i8")


def is_small_float(dtype: str) -> bool:
    """True for the floats that are computed in f32."""
    return dtype in ("f16", "bf16")


class Converter:
    """Emits conversions for one target."""

    def __init__(self, b: Builder, target: TargetInfo) -> None:
        self.b = b
        self.target = target
        self._half = target.has("f16c") or target.architecture == "aarch64"  # instructions for f16

    def constant(self, value: Any, dtype: str) -> V:
        """A scalar constant of `dtype`: a number, a bool, or a complex number."""
        ty = Ty(REGISTER[dtype])
        if is_small_float(dtype):
            with np.errstate(over="ignore"):
                bits = np.array(value, dtype=np.float64).astype(DTYPES[dtype].numpy).view(np.uint16)
            return number(int(bits), ty)
        if dtype == "bool":
            return number(bool(value), ty)
        if DTYPES[dtype].kind == "complex":
            return number(int.from_bytes(np.array(value, DTYPES[dtype].numpy).tobytes(), "little"), ty)
        if DTYPES[dtype].kind in ("int", "uint"):
            return number(int(value) & ((1 << ty.bits) - 1), ty)
        return number(float(value), ty)

    def from_memory(self, v: V, dtype: str) -> V:
        """What was loaded, as a register."""
        if dtype == "bool":
            return self.b.compare("ne", v, number(0, v.ty))
        return self.b.convert("trunc", v, REGISTER[dtype]) if dtype in _NARROW else v

    def to_memory(self, v: V, dtype: str) -> V:
        """A register as what is stored."""
        if dtype in ("bool", "u4", "u2"):
            return self.b.convert("zext", v, "i8")
        return self.b.convert("sext", v, "i8") if dtype in _NARROW else v

    def cast(self, v: V, source: str, target: str) -> V:
        """`v` of type `source` as `target`, by the rules of the scalar language."""
        if source == target:
            return v
        to, of = DTYPES[target].kind, DTYPES[source].kind
        if is_small_float(source):
            if target == "bool":
                return self.b.compare("ne", self.b.op("and", v, number(0x7FFF, v.ty)), number(0, v.ty))
            v, source = self.widen(v, source), "f32"
        if to == "bool":
            return self.b.compare("une" if of == "float" else "ne", v, number(0, v.ty))
        if to == "float":
            return self._to_float(v, source, target)
        if of == "float":
            return self._saturate(v, target)
        elem = REGISTER[target]
        if Ty(elem).bits == v.ty.bits:
            return v
        if Ty(elem).bits < v.ty.bits:
            return self.b.convert("trunc", v, elem)
        return self.b.convert("sext" if of == "int" else "zext", v, elem)

    def _saturate(self, v: V, target: str) -> V:
        ty = v.ty.of(REGISTER[target])
        if DTYPES[target].bits <= 16:
            return self._saturate_narrow(v, target)
        name = "fptosi" if DTYPES[target].kind == "int" else "fptoui"
        return self.b.call(f"llvm.{name}.sat.{ty.mangled}.{v.ty.mangled}", ty, [v])

    def _saturate_narrow(self, v: V, target: str) -> V:
        """By clamping and 32-bit integers: for vectors of narrow ones LLVM converts lane by lane."""
        b, info = self.b, DTYPES[target]
        signed = info.kind == "int"
        low, high = (-(1 << (info.bits - 1)), (1 << (info.bits - 1)) - 1) if signed else (0, (1 << info.bits) - 1)
        least, most = number(low, v.ty), number(high, v.ty)
        if signed:
            v = b.select(b.compare("ord", v, v), v, number(0, v.ty))
        v = b.select(b.compare("ogt", v, least), v, least)  # NaN fails, and becomes the 0 of unsigned types
        v = b.select(b.compare("olt", v, most), v, most)
        return b.convert("trunc", b.convert("fptosi", v, "i32"), REGISTER[target])

    def _to_float(self, v: V, source: str, target: str) -> V:
        if DTYPES[source].kind != "float":
            how = "sitofp" if DTYPES[source].kind == "int" else "uitofp"
            wide = self.b.convert(how, v, "double" if target == "f64" else "float")
            return self.narrow(wide, target) if is_small_float(target) else wide
        if target == "f64":
            return self.b.convert("fpext", v, "double")
        if is_small_float(target):
            return self.narrow(self._round_to_odd(v) if source == "f64" else v, target)
        return self.b.convert("fptrunc", v, "float") if source == "f64" else v

    def _round_to_odd(self, v: V) -> V:
        # Truncate and keep a sticky bit, so that the next rounding is as if it were the only one.
        b = self.b
        near = b.convert("fptrunc", v, "float")
        back = b.convert("fpext", near, "double")
        bits = b.bitcast(near, near.ty.of("i32"))
        over = b.compare("ogt", b.intrinsic("fabs", back), b.intrinsic("fabs", v))
        toward_zero = b.op("sub", bits, b.convert("zext", over, "i32"))
        inexact = b.compare("one", back, v)
        odd = b.op("or", toward_zero, b.convert("zext", inexact, "i32"))
        return b.bitcast(odd, near.ty)

    def widen(self, v: V, dtype: str) -> V:
        """f16 or bf16 bits as f32."""
        b = self.b
        if dtype == "bf16":
            return b.bitcast(b.op("shl", b.convert("zext", v, "i32"), number(16, v.ty.of("i32"))), v.ty.of("float"))
        if self._half:
            return b.convert("fpext", b.bitcast(v, v.ty.of("half")), "float")
        i32 = v.ty.of("i32")
        bits = b.convert("zext", v, "i32")
        shifted = b.op("shl", b.op("and", bits, number(0x7FFF, i32)), number(13, i32))
        scaled = b.op("fmul", b.bitcast(shifted, v.ty.of("float")), number(2.0**112, v.ty.of("float")))
        special = b.compare("ugt", b.op("and", bits, number(0x7FFF, i32)), number(0x7BFF, i32))
        plain = b.bitcast(scaled, i32)
        full = b.select(special, b.op("or", plain, number(0x7F800000, i32)), plain)
        sign = b.op("shl", b.op("and", bits, number(0x8000, i32)), number(16, i32))
        return b.bitcast(b.op("or", full, sign), v.ty.of("float"))

    def narrow(self, v: V, dtype: str) -> V:
        """f32 as f16 or bf16 bits, rounded to nearest even."""
        b, i32 = self.b, v.ty.of("i32")
        if dtype == "f16" and self._half:
            return b.bitcast(b.convert("fptrunc", v, "half"), v.ty.of("i16"))
        bits = b.bitcast(v, i32)
        if dtype == "f16":
            return self._narrow_half(bits)
        odd = b.op("and", b.op("lshr", bits, number(16, i32)), number(1, i32))
        rounded = b.op("add", b.op("add", bits, number(0x7FFF, i32)), odd)
        quiet = b.op("or", bits, number(0x400000, i32))
        chosen = b.select(b.compare("uno", v, v), quiet, rounded)
        return b.convert("trunc", b.op("lshr", chosen, number(16, i32)), "i16")

    def _narrow_half(self, bits: V) -> V:
        # After F. Giesen, "float->half variants": round the normal range by adding, the denormal one by a float add.
        b, i32 = self.b, bits.ty

        def c(n: int) -> V:
            return number(n, i32)

        sign = b.op("and", bits, c(0x80000000))
        f = b.op("xor", bits, sign)
        special = b.select(b.compare("ugt", f, c(0x7F800000)), c(0x7E00), c(0x7C00))
        magic = number(0.5, i32.of("float"))
        denormal = b.op("sub", b.bitcast(b.op("fadd", b.bitcast(f, i32.of("float")), magic), i32), c(126 << 23))
        odd = b.op("and", b.op("lshr", f, c(13)), c(1))
        normal = b.op("lshr", b.op("add", b.op("add", f, c(((15 - 127) * (1 << 23) + 0xFFF) & 0xFFFFFFFF)), odd), c(13))
        small = b.select(b.compare("ult", f, c(0x38800000)), denormal, normal)
        result = b.select(b.compare("uge", f, c(0x47800000)), special, small)
        return b.convert("trunc", b.op("or", result, b.op("lshr", sign, c(16))), "i16")
