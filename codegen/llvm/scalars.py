"""Every function of the scalar language (`ir/scalar.py`) as LLVM code, for scalars and vectors alike.

f16 and bf16 are computed in f32 and rounded once per function. f32 uses the inline functions of `vecmath` where it has
them; f64 and rare functions call libm lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES
from .builder import Builder, V, number
from .convert import REGISTER, Converter, is_small_float
from .vecmath import VectorMath

# What an object may call, each with an `f` twin for f32.
LIBM = (
    "exp",
    "log",
    "log1p",
    "expm1",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "pow",
    "fmod",
    "atan2",
)
LIBM_SYMBOLS = frozenset([*LIBM, *(f"{n}f" for n in LIBM)]) | {
    f"{name}{suffix}" for name in ("floor", "ceil", "trunc", "rint", "nearbyint", "fma", "sqrt") for suffix in ("", "f")
}
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_PREDICATES = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_ROUND = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint", "sqrt": "sqrt"}
_INLINE = frozenset({"exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "sigmoid", "erf"})


class Scalars:
    """Emits scalar functions for one function body and target."""

    def __init__(self, b: Builder, target: TargetInfo) -> None:
        self.b = b
        self.fma_name = "fma" if target.fused else "fmuladd"
        self.convert = Converter(b, target)
        self.math = VectorMath(b, self.fma_name, target)

    def apply(self, fn: str, args: list[V], dtype: str, to: str = "") -> V:
        """Function `fn` on registers of element type `dtype` (the last argument's); `to` is the target of `cast`."""
        args = self.b.same_lanes(*args)
        if fn == "cast":
            return self.convert.cast(args[0], dtype, to)
        if fn == "bitcast":
            ty = args[0].ty.of(REGISTER[to])
            return args[0] if ty == args[0].ty else self.b.bitcast(args[0], ty)
        if fn == "select":
            return self.b.select(args[0], args[1], args[2])
        if is_small_float(dtype):
            return self._small_float(fn, args, dtype)
        if DTYPES[dtype].kind == "float":
            return self._float(fn, args)
        if fn in _PREDICATES:
            signed = DTYPES[dtype].kind == "int" and fn not in ("eq", "ne")
            prefix = "" if fn in ("eq", "ne") else "s" if signed else "u"
            return self.b.compare(prefix + _PREDICATES[fn], args[0], args[1])
        return self._bits(fn, args) or self._int(fn, args, DTYPES[dtype].kind == "int")

    def multiply_add(self, x: V, y: V, z: V) -> V:
        """`x * y + z` of f32 or f64, rounded once where the target can."""
        x, y, z = self.b.same_lanes(x, y, z)
        return self.b.intrinsic(self.fma_name, x, y, z)

    def _small_float(self, fn: str, args: list[V], dtype: str) -> V:
        b = self.b
        if fn == "neg":
            return b.op("xor", args[0], number(0x8000, args[0].ty))
        if fn == "abs":
            return b.op("and", args[0], number(0x7FFF, args[0].ty))
        result = self._float(fn, [self.convert.widen(a, dtype) for a in args])
        return result if result.ty.elem == "i1" else self.convert.narrow(result, dtype)

    # -- floats -------------------------------------------------------------------------------------------------

    def _float(self, fn: str, args: list[V]) -> V:
        b, x = self.b, args[0]
        if fn in _FLOAT_OPS:
            return b.op(_FLOAT_OPS[fn], x, args[1])
        if fn in _PREDICATES:
            return b.compare(("u" if fn == "ne" else "o") + _PREDICATES[fn], x, args[1])
        if fn in _ROUND:
            return b.intrinsic(_ROUND[fn], x)
        if fn in ("min", "max"):
            return self._extreme(fn, x, args[1])
        special: dict[str, Callable[[], V]] = {
            "neg": lambda: b.negate(x),
            "abs": lambda: b.intrinsic("fabs", x),
            "sign": lambda: self._float_sign(x),
            "isnan": lambda: b.compare("uno", x, x),
            "isinf": lambda: b.compare("oeq", b.intrinsic("fabs", x), number(float("inf"), x.ty)),
            "rsqrt": lambda: b.op("fdiv", number(1.0, x.ty), b.intrinsic("sqrt", x)),
            "floormod": lambda: self._float_floormod(x, args[1]),
        }
        if fn in special:
            return special[fn]()
        if x.ty.elem == "float" and fn in _INLINE:
            return getattr(self.math, fn)(x)
        if fn == "sigmoid":
            return self._wide_sigmoid(x)
        return self._libm({"rem": "fmod"}.get(fn, fn), *args)

    def _libm(self, name: str, *args: V) -> V:
        elem = args[0].ty.of(args[0].ty.elem)
        full = name + ("f" if elem.elem == "float" else "")
        return self.b.per_lane(lambda *lane: self.b.call(full, lane[0].ty, lane), *args)

    def _extreme(self, fn: str, x: V, y: V) -> V:
        # NaN wins. A comparison with NaN is false and keeps x; a constant, which is not NaN, goes on the other side.
        b = self.b
        if not x.text.startswith("%"):
            x, y = y, x
        best = b.select(b.compare("ogt" if fn == "max" else "olt", y, x), y, x)
        if not y.text.startswith("%") and "0x7FF8" not in y.text and "0xFFF8" not in y.text:
            return best
        return b.select(b.compare("uno", y, y), y, best)

    def _float_sign(self, x: V) -> V:
        b = self.b
        zero, one = number(0.0, x.ty), number(1.0, x.ty)
        positive = b.select(b.compare("ogt", x, zero), one, x)
        return b.select(b.compare("olt", x, zero), number(-1.0, x.ty), positive)

    def _float_floormod(self, x: V, y: V) -> V:
        b = self.b
        zero = number(0.0, x.ty)
        r = self._libm("fmod", x, y)
        differ = b.op("xor", b.compare("olt", r, zero), b.compare("olt", y, zero))
        moved = b.select(differ, b.op("fadd", r, y), r)
        nothing = b.op("and", b.compare("oeq", r, zero), b.compare("one", y, zero))
        return b.select(nothing, b.intrinsic("copysign", zero, y), moved)

    def _wide_sigmoid(self, x: V) -> V:
        b = self.b
        one = number(1.0, x.ty)
        e = self._libm("exp", b.negate(b.intrinsic("fabs", x)))
        positive = b.compare("oge", x, number(0.0, x.ty))
        return b.op("fdiv", b.select(positive, one, e), b.op("fadd", one, e))

    # -- integers and bool --------------------------------------------------------------------------------------

    def _bits(self, fn: str, args: list[V]) -> V | None:
        b, x = self.b, args[0]
        if fn in ("and", "or", "xor"):
            return b.op(fn, x, args[1])
        if fn == "not":
            return b.op("xor", x, number(1 if x.ty.elem == "i1" else -1, x.ty))
        if x.ty.elem == "i1" and fn in ("min", "max"):
            return b.op("and" if fn == "min" else "or", x, args[1])
        return None

    def _int(self, fn: str, args: list[V], signed: bool) -> V:
        b, x, y = self.b, args[0], args[-1]
        zero = number(0, x.ty)
        prefix = "s" if signed else "u"
        match fn:
            case "add" | "sub" | "mul":
                return b.op(fn, x, y)
            case "min" | "max":
                return b.intrinsic(prefix + fn, x, y)
            case "neg":
                return b.op("sub", zero, x)
            case "abs":
                return b.select(b.compare("slt", x, zero), b.op("sub", zero, x), x) if signed else x
            case "sign":
                above = b.convert("zext", b.compare(f"{prefix}gt", x, zero), x.ty.elem)
                return b.op("or", above, b.convert("sext", b.compare("slt", x, zero), x.ty.elem)) if signed else above
            case "shl" | "shr":
                inside = b.compare("ult", y, number(x.ty.bits, x.ty))
                by = b.select(inside, y, zero)
                moved = b.op("shl" if fn == "shl" else "ashr" if signed else "lshr", x, by)
                return b.select(inside, moved, zero)
            case "div" | "rem" | "floormod":
                return self._divide(fn, x, y, signed)
            case "pow":
                return self._int_pow(x, y, signed)
            case _:
                raise NotImplementedError(f"scalar.{fn} of {x.ty}")

    def _divide(self, fn: str, x: V, y: V, signed: bool) -> V:
        b = self.b
        zero, one = number(0, x.ty), number(1, x.ty)
        by_zero = b.compare("eq", y, zero)
        unsafe = by_zero
        if signed:
            least = b.compare("eq", x, number(-(1 << (x.ty.bits - 1)), x.ty))
            unsafe = b.op("or", by_zero, b.op("and", least, b.compare("eq", y, number(-1, x.ty))))
        safe = b.select(unsafe, one, y)
        if fn == "div":
            return b.select(by_zero, zero, b.op("sdiv" if signed else "udiv", x, safe))
        r = b.op("srem" if signed else "urem", x, safe)
        if fn == "rem":
            return b.select(by_zero, x, r)
        if signed:
            differ = b.compare("slt", b.op("xor", r, y), zero)
            off = b.op("and", differ, b.compare("ne", r, zero))
            r = b.select(off, b.op("add", r, y), r)
        return b.select(by_zero, zero, r)

    def _int_pow(self, x: V, y: V, signed: bool) -> V:
        # Square and multiply; a negative exponent gives the truncated quotient 1 / x**|y|.
        b = self.b
        zero, one = number(0, x.ty), number(1, x.ty)
        result, base = one, x
        for bit in range(x.ty.bits):
            if signed and bit == x.ty.bits - 1:
                break
            chosen = b.compare("ne", b.op("and", y, number(1 << bit, x.ty)), zero)
            result = b.select(chosen, b.op("mul", result, base), result)
            base = b.op("mul", base, base)
        if not signed:
            return result
        odd = b.compare("ne", b.op("and", y, one), zero)
        minus = b.compare("eq", x, number(-1, x.ty))
        inverse = b.select(minus, b.select(odd, x, one), b.select(b.compare("eq", x, one), one, zero))
        return b.select(b.compare("slt", y, zero), inverse, result)
