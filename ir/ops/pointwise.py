"""Bases and helpers that the elementwise families (`arith`, `elementary`, `activation`) share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim
from ..scalar import FUNCTIONS, Array, ScalarBuilder
from ..types import DTYPES, is_float
from .base import Elementwise, fresh

FLOATS = ("f32", "f64", "f16", "bf16")
NUMBERS = ("f32", "f64", "f16", "bf16", "i32", "i64", "u8", "i8")
INTS = ("i32", "i64", "u8", "i16")
where: Callable[[Array, Array, Array], Array] = np.where  # NumPy's own annotation leaves its result open


def wide_dtype(dtype: str) -> str:
    """The element type in which `dtype` is computed when several steps follow each other: f32 for f16 and bf16."""
    return "f32" if dtype in ("f16", "bf16") else dtype


def in_f32(f: Callable[..., Array], *arrays: Array) -> Array:
    """`f(*arrays)`, with f16 and bf16 computed in f32 and rounded once."""
    dtype = arrays[0].dtype
    with np.errstate(all="ignore"):
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            return np.asarray(f(*(a.astype(np.float32) for a in arrays))).astype(dtype)
        return np.asarray(f(*arrays)).astype(dtype)


def shape_samples(dtype: str) -> Iterator[tuple[Value, Value]]:
    """Pairs of operands that broadcast in different ways: equal, by a row, each against the other, scalar."""
    shapes: list[tuple[tuple[Dim, ...], tuple[Dim, ...]]] = [
        ((3, 5), (3, 5)),
        ((2, 3, 4), (4,)),
        ((2, 1, 4), (3, 1)),
        ((), (2, 3)),
    ]
    for x, y in shapes:
        yield fresh(dtype, *x), fresh(dtype, *y)


class ScalarFunction(Elementwise):
    """One function of the scalar language; `fn` is its name, `numpy` its independent meaning."""

    fn: ClassVar[str] = ""
    numpy: ClassVar[Callable[..., Array]]

    def check_dtypes(self) -> None:
        super().check_dtypes()
        dtype = self.inputs[0].tensor.dtype
        domain = FUNCTIONS[self.fn].domain
        expect(DTYPES[dtype].kind in domain, f"expected an element type of kind {sorted(domain)}, got {dtype}")

    def result_dtype(self) -> str:
        return "bool" if FUNCTIONS[self.fn].result == "bool" else self.inputs[0].tensor.dtype

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        return b.apply(self.fn, *operands)

    def reference(self, *operands: Any) -> Any:
        if FUNCTIONS[self.fn].result == "bool":
            return np.asarray(type(self).numpy(*operands))
        return in_f32(type(self).numpy, *operands)


class Unary(ScalarFunction):
    """A function of each element."""

    sample_dtypes: ClassVar[tuple[str, ...]] = FLOATS

    x: Value

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in cls.sample_dtypes:
            yield cls(fresh(dtype, 3, 5))
        yield cls(fresh(cls.sample_dtypes[0]))


class Binary(ScalarFunction):
    """A function of two operands that broadcast against each other."""

    sample_dtypes: ClassVar[tuple[str, ...]] = NUMBERS

    x: Value
    y: Value

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for x, y in shape_samples(cls.sample_dtypes[0]):
            yield cls(x, y)
        for dtype in cls.sample_dtypes[1:]:
            yield cls(fresh(dtype, 2, 3), fresh(dtype, 3))


class Activation(Elementwise):
    """A formula of floats over one tensor and attributes. `formula` and `numpy` see f16 and bf16 as f32, so that they
    round once, not at each step."""

    x: Value

    def check_dtypes(self) -> None:
        super().check_dtypes()
        expect(is_float(self.x.tensor.dtype), f"expected floats, got {self.x.tensor.dtype}")

    def formula(self, b: ScalarBuilder[Any], x: Any) -> Any:
        """The meaning of one element, of type f32 or f64."""
        raise NotImplementedError

    def numpy(self, x: Array) -> Array:
        """The same in NumPy."""
        raise NotImplementedError

    def scalar(self, b: ScalarBuilder[Any], *operands: Any) -> Any:
        (x,) = operands
        dtype = self.x.tensor.dtype
        wide = wide_dtype(dtype)
        return self.formula(b, x) if wide == dtype else b.cast(self.formula(b, b.cast(x, wide)), dtype)

    def reference(self, *operands: Any) -> Any:
        return in_f32(self.numpy, *operands)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype in FLOATS:
            yield cls(fresh(dtype, 3, 5), **cls.sample_attributes())

    @classmethod
    def sample_attributes(cls) -> dict[str, Any]:
        """Attributes for samples."""
        return {}
