"""The scalar language: what one element goes through inside a kernel, and what each function does at the edges.

Every backend and the interpreter implement this one table (`FUNCTIONS`) and run the same edge values (`EDGES`):

- Integer arithmetic wraps; `div` and `rem` of integers truncate toward zero, `x / 0` gives 0, `x rem 0` gives x,
  `MIN / -1` gives MIN; `floormod` has the divisor's sign (0 for divisor 0). Shifts by the width or more give 0.
- `min` and `max` propagate NaN (LLVM's `maxnum` and C's `fmax` do not); of -0 and +0 either may be given.
- Comparisons with NaN are false, `ne` is true. `sign(NaN)` is NaN, `sign(0)` is 0.
- `round` rounds halves to even. Casts: float to integer truncates and saturates, NaN gives 0; integer to a narrower
  integer wraps; anything to bool is `x != 0` (NaN gives true); to f16/bf16 rounds to nearest even. `bitcast` keeps the
  bits; both types are equally wide (a 4-bit float is its code in a byte).
- f32 and f64 functions are within 2 ulp of the exact value (`tanh`, `erf`, `sigmoid` 4 ulp); f16 and bf16 are
  computed in f32 and rounded once per function.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from .types import DTYPES

T = TypeVar("T")
Array = Any


@dataclass(frozen=True)
class ScalarFn:
    """One function of the language. `arity` is its number of arguments; `result` says its type: `same` as the last
    argument, `bool`, or `cast` (an attribute of the operation); `domain` lists kinds of element types it takes;
    `evaluate` is its meaning on NumPy arrays of one element type (already broadcast)."""

    name: str
    arity: int
    result: str
    domain: frozenset[str]
    evaluate: Callable[..., Array]


_FLOAT = frozenset({"float"})
_NUMBER = frozenset({"float", "int", "uint"})
_INT = frozenset({"int", "uint"})
_BITS = frozenset({"int", "uint", "bool"})
_ANY = frozenset({"float", "int", "uint", "bool"})
_STORED = frozenset({"float", "int", "uint", "float8", "complex"})
_MOVED = _ANY | _STORED


def _is_int(x: Array) -> bool:
    return np.asarray(x).dtype.kind in "iu"


def _div(x: Array, y: Array) -> Array:
    if not _is_int(x):
        return x / y
    safe = np.where(y == 0, 1, y).astype(y.dtype)
    if x.dtype.kind == "u":
        return np.where(y == 0, 0, x // safe).astype(x.dtype)
    low = (x == np.iinfo(x.dtype).min) & (y == -1)
    safe = np.where(low, 1, safe).astype(y.dtype)
    quotient = x // safe
    quotient = quotient + ((x - quotient * safe != 0) & ((x < 0) != (safe < 0)))
    return np.where(y == 0, 0, quotient).astype(x.dtype)


def _rem(x: np.ndarray, y: np.ndarray) -> Array:
    if not _is_int(x):
        return np.fmod(x, y)
    return np.where(y == 0, x, x - _div(x, y) * y).astype(x.dtype)


def _floormod(x: Array, y: Array) -> Array:
    if not _is_int(x):
        return np.mod(x, y)
    return np.where(y == 0, 0, np.mod(x, np.where(y == 0, 1, y).astype(y.dtype))).astype(x.dtype)


def _shift(left: bool) -> Callable[[Array, Array], Array]:
    def evaluate(x: Array, y: Array) -> Array:
        width = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < width)
        by = np.where(inside, y, 0).astype(x.dtype)
        return np.where(inside, (x << by) if left else (x >> by), 0).astype(x.dtype)

    return evaluate


def _wide(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Compute f16 and bf16 in f32 and round once."""

    def evaluate(x: Array) -> Array:
        x = np.asarray(x)
        return f(x.astype(np.float32)).astype(x.dtype) if x.dtype.itemsize == 2 else f(x).astype(x.dtype)

    return evaluate


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64))


def _sigmoid(x: Array) -> Array:
    wide: np.ndarray = x.astype(np.float64)
    return np.where(wide >= 0, 1 / (1 + np.exp(-np.abs(wide))), np.exp(-np.abs(wide)) / (1 + np.exp(-np.abs(wide))))


def _sign(x: Array) -> Array:
    return np.sign(x).astype(x.dtype)


def cast(x: Array, dtype: str) -> Array:
    """`x` converted to `dtype` by the rules in the module's docstring."""
    x = np.asarray(x)
    info = DTYPES[dtype]
    if info.kind == "bool":
        return x != 0
    if info.kind in ("int", "uint") and x.dtype.kind not in "iub" and DTYPES.get(dtype):
        return _saturate(x.astype(np.float64), info.bits, info.kind == "int").astype(info.numpy)
    return x.astype(info.numpy)


def bitcast(x: Array, dtype: str) -> Array:
    """The bits of `x` as element type `dtype`, which is as wide."""
    x = np.asarray(x)
    return np.frombuffer(x.tobytes(), DTYPES[dtype].numpy).reshape(x.shape)


def _saturate(x: Array, bits: int, signed: bool) -> Array:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    whole = np.trunc(np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf))
    if bits < 64:
        return np.clip(whole, low, high).astype(np.int64)
    kind = np.int64 if signed else np.uint64
    inside = np.where((whole >= low) & (whole < float(high)), whole, 0).astype(kind)
    return np.where(whole >= float(high), kind(high), np.where(whole < low, kind(low), inside))


def _fn(
    name: str, arity: int, domain: frozenset[str], evaluate: Callable[..., Array], result: str = "same"
) -> ScalarFn:
    return ScalarFn(name, arity, result, domain, evaluate)


FUNCTIONS: dict[str, ScalarFn] = {
    f.name: f
    for f in [
        _fn("add", 2, _NUMBER, operator.add),
        _fn("sub", 2, _NUMBER, operator.sub),
        _fn("mul", 2, _NUMBER, operator.mul),
        _fn("div", 2, _NUMBER, _div),
        _fn("rem", 2, _NUMBER, _rem),
        _fn("floormod", 2, _NUMBER, _floormod),
        _fn("pow", 2, _NUMBER, np.power),
        _fn("min", 2, _ANY, np.minimum),
        _fn("max", 2, _ANY, np.maximum),
        _fn("atan2", 2, _FLOAT, np.arctan2),
        _fn("neg", 1, _NUMBER, np.negative),
        _fn("abs", 1, _NUMBER, np.abs),
        _fn("sign", 1, _NUMBER, _sign),
        _fn("floor", 1, _FLOAT, np.floor),
        _fn("ceil", 1, _FLOAT, np.ceil),
        _fn("trunc", 1, _FLOAT, np.trunc),
        _fn("round", 1, _FLOAT, np.rint),
        _fn("exp", 1, _FLOAT, _wide(np.exp)),
        _fn("log", 1, _FLOAT, _wide(np.log)),
        _fn("log1p", 1, _FLOAT, _wide(np.log1p)),
        _fn("expm1", 1, _FLOAT, _wide(np.expm1)),
        _fn("sqrt", 1, _FLOAT, _wide(np.sqrt)),
        _fn("rsqrt", 1, _FLOAT, _wide(lambda x: 1 / np.sqrt(x))),
        _fn("sin", 1, _FLOAT, _wide(np.sin)),
        _fn("cos", 1, _FLOAT, _wide(np.cos)),
        _fn("tan", 1, _FLOAT, _wide(np.tan)),
        _fn("asin", 1, _FLOAT, _wide(np.arcsin)),
        _fn("acos", 1, _FLOAT, _wide(np.arccos)),
        _fn("atan", 1, _FLOAT, _wide(np.arctan)),
        _fn("sinh", 1, _FLOAT, _wide(np.sinh)),
        _fn("cosh", 1, _FLOAT, _wide(np.cosh)),
        _fn("tanh", 1, _FLOAT, _wide(np.tanh)),
        _fn("asinh", 1, _FLOAT, _wide(np.arcsinh)),
        _fn("acosh", 1, _FLOAT, _wide(np.arccosh)),
        _fn("atanh", 1, _FLOAT, _wide(np.arctanh)),
        _fn("erf", 1, _FLOAT, _wide(_erf)),
        _fn("sigmoid", 1, _FLOAT, _wide(_sigmoid)),
        _fn("and", 2, _BITS, np.bitwise_and),
        _fn("or", 2, _BITS, np.bitwise_or),
        _fn("xor", 2, _BITS, np.bitwise_xor),
        _fn("not", 1, _BITS, np.invert),
        _fn("shl", 2, _INT, _shift(True)),
        _fn("shr", 2, _INT, _shift(False)),
        _fn("eq", 2, _ANY, np.equal, "bool"),
        _fn("ne", 2, _ANY, np.not_equal, "bool"),
        _fn("lt", 2, _ANY, np.less, "bool"),
        _fn("le", 2, _ANY, np.less_equal, "bool"),
        _fn("gt", 2, _ANY, np.greater, "bool"),
        _fn("ge", 2, _ANY, np.greater_equal, "bool"),
        _fn("isnan", 1, _FLOAT, np.isnan, "bool"),
        _fn("isinf", 1, _FLOAT, np.isinf, "bool"),
        _fn("select", 3, _MOVED, np.where),  # (condition: bool, x, y)
        _fn("cast", 1, _ANY, cast, "cast"),
        _fn("bitcast", 1, _STORED, bitcast, "cast"),
    ]
}


class ScalarBuilder(ABC, Generic[T]):
    """Writes scalar code, whatever `T` is: operations inserted into a kernel (`ir.kernel.builder`), or something else
    that a tool wants to compute. An elementwise operation states its meaning through it, once for all targets."""

    @abstractmethod
    def apply(self, fn: str, *args: T, dtype: str = "") -> T:
        """Function `fn` of the table; `dtype` is the result's element type for `cast`."""

    @abstractmethod
    def const(self, value: float | int | bool, like: T | str) -> T:
        """A constant of the element type of `like` (a value, or the name of an element type)."""

    def cast(self, x: T, dtype: str) -> T:
        """`x` as `dtype`."""
        return self.apply("cast", x, dtype=dtype)

    def select(self, condition: T, x: T, y: T) -> T:
        """`x` where `condition`, else `y`."""
        return self.apply("select", condition, x, y)

    def add(self, x: T, y: T) -> T:
        return self.apply("add", x, y)

    def sub(self, x: T, y: T) -> T:
        return self.apply("sub", x, y)

    def mul(self, x: T, y: T) -> T:
        return self.apply("mul", x, y)

    def div(self, x: T, y: T) -> T:
        return self.apply("div", x, y)

    def min(self, x: T, y: T) -> T:
        return self.apply("min", x, y)

    def max(self, x: T, y: T) -> T:
        return self.apply("max", x, y)

    def neg(self, x: T) -> T:
        return self.apply("neg", x)

    def exp(self, x: T) -> T:
        return self.apply("exp", x)

    def log(self, x: T) -> T:
        return self.apply("log", x)

    def sqrt(self, x: T) -> T:
        return self.apply("sqrt", x)

    def tanh(self, x: T) -> T:
        return self.apply("tanh", x)

    def sigmoid(self, x: T) -> T:
        return self.apply("sigmoid", x)

    def erf(self, x: T) -> T:
        return self.apply("erf", x)

    def lt(self, x: T, y: T) -> T:
        return self.apply("lt", x, y)

    def gt(self, x: T, y: T) -> T:
        return self.apply("gt", x, y)

    def eq(self, x: T, y: T) -> T:
        return self.apply("eq", x, y)

    def ge(self, x: T, y: T) -> T:
        return self.apply("ge", x, y)

    def le(self, x: T, y: T) -> T:
        return self.apply("le", x, y)


def edges(dtype: str) -> np.ndarray:
    """Edge values of an element type, for differential tests of every backend: zeros, ones, extremes, halves, NaN,
    infinities, denormals."""
    info = DTYPES[dtype]
    if info.kind == "bool":
        return np.array([False, True])
    if info.kind == "float":
        tiny = {"f16": 6e-8, "bf16": 1e-40, "f32": 1e-45, "f64": 5e-324}[dtype]
        big = {"f16": 65504.0, "bf16": 3.3895314e38, "f32": 3.4028235e38, "f64": 1.7976931348623157e308}[dtype]
        plain = [0.0, 1.0, 0.5, 1.5, 2.5, 0.1, 3.0, 88.0, 100.0, 1e-3, tiny, big, math.inf]
        with np.errstate(all="ignore"):
            return np.array([*plain, *(-v for v in plain), math.nan], dtype=np.float64).astype(info.numpy)
    low, high = (
        (0, (1 << info.bits) - 1) if info.kind == "uint" else (-(1 << (info.bits - 1)), (1 << (info.bits - 1)) - 1)
    )
    chosen = [v for v in (low, low + 1, -1, 0, 1, 2, 3, 7, high - 1, high) if low <= v <= high]
    return np.array(chosen, dtype=np.int64 if info.kind == "int" else np.uint64).astype(info.numpy)
