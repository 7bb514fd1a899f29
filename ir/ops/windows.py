"""What convolutions and poolings share: windows that slide over spatial dimensions, and the types they compute in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..assume import assume_equal
from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim, as_expr, const, floordiv
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, ScalarType, is_float

Pads = tuple[tuple[int, int], ...]


def exact_matmul(a: Any, b: Any) -> Any:
    """`a @ b` of NumPy arrays. Integers go through f64, where that is exact: NumPy has fast products of floats only."""
    if a.dtype.kind in "iu" and a.size and b.size:
        sizes = [max(abs(int(x.min())), abs(int(x.max()))) for x in (a, b)]
        if sizes[0] * sizes[1] * a.shape[-1] < 1 << 53:
            whole = np.matmul(a.astype(np.float64), b.astype(np.float64))
            return whole.astype(np.int64).astype(a.dtype)
    return np.matmul(a, b)


def accumulate_dtype(dtype: str) -> str:
    """The element type of sums over elements of `dtype`: f32 for f16 and bf16, i32 for integers of 8 bits or less."""
    narrow = DTYPES[dtype].kind in ("int", "uint") and DTYPES[dtype].bits <= 8
    return "i32" if narrow else {"f16": "f32", "bf16": "f32"}.get(dtype, dtype)


def product_dtype(x: str, y: str) -> str:
    """Element type of a sum of products: that of the factors, which are alike; i32 for any two of i4, u4, i8, u8."""
    if accumulate_dtype(x) == accumulate_dtype(y) == "i32" and "i32" not in (x, y):
        return "i32"
    expect(x == y, f"expected two operands of one element type (or both of 8 bits or less), got {x} and {y}")
    expect(DTYPES[x].kind in ("float", "int", "uint"), f"expected numbers, got {x}")
    return x


def convert(k: KernelBuilder, value: Value, dtype: str) -> Value:
    """`value` as `dtype`; nothing where it already is."""
    return value if value.type == ScalarType(dtype) else k.cast(value, dtype)


def zero(k: KernelBuilder, dtype: str) -> Value:
    """The constant 0 of `dtype`."""
    return k.const(False if dtype == "bool" else 0.0 if is_float(dtype) else 0, dtype)


def least(dtype: str) -> Any:
    """The value below all others of an element type: -inf, the least integer, False."""
    info = DTYPES[dtype]
    if info.kind == "float":
        return -float("inf")
    expect(info.kind in ("int", "uint", "bool"), f"expected elements that have an order, got {dtype}")
    return {"int": -(1 << (info.bits - 1)), "uint": 0, "bool": False}[info.kind]


def greatest(dtype: str) -> Any:
    """The value above all others of an element type: inf, the greatest integer, True."""
    info = DTYPES[dtype]
    if info.kind == "float":
        return float("inf")
    expect(info.kind in ("int", "uint", "bool"), f"expected elements that have an order, got {dtype}")
    return {"int": (1 << (info.bits - 1)) - 1, "uint": (1 << info.bits) - 1, "bool": True}[info.kind]


def extents(dims: Mapping[str, Dim]) -> tuple[dict[str, Dim], dict[str, Expr]]:
    """Splits dimensions into those that need a loop and the coordinates (0) of those of size 1."""
    return {n: d for n, d in dims.items() if d != 1}, {n: const(0) for n, d in dims.items() if d == 1}


def spatial_names(rank: int) -> tuple[str, ...]:
    """Names of spatial dimensions: `h, w` for pictures."""
    return {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}.get(rank) or tuple(f"s{i}" for i in range(rank))


def window_names(rank: int) -> tuple[str, ...]:
    """Names of window dimensions: `i, j` for pictures."""
    return {1: ("j",), 2: ("i", "j"), 3: ("l", "i", "j")}.get(rank) or tuple(f"t{i}" for i in range(rank))


def may_equal(x: Dim, y: Dim) -> bool:
    """False when two dimensions are known to differ; else it is assumed that they are equal."""
    assume_equal(x, y)
    return not (isinstance(x, int) and isinstance(y, int)) or x == y


def count(dims: Sequence[int]) -> int:
    """Number of elements of a shape."""
    return int(np.prod(dims, dtype=np.int64))


def check_bias(bias: Value | None, outputs: Dim, dtype: str) -> None:
    """Raise `VerifyError` unless `bias` is absent or of shape (outputs) and `dtype`."""
    if bias is not None and bias.tensor.shape is not None:
        t = bias.tensor
        expect(t.dtype == dtype, f"expected a bias of {dtype}, got {t}")
        expect(t.rank == 1 and may_equal(t.dims[0], outputs), f"expected a bias of shape [{outputs}], got {t}")


@dataclass(frozen=True)
class Windows:
    """Windows of `size` whose elements are `dilations` apart, `strides` from each other, over dimensions that are
    padded by `pads` (before, after); one entry per spatial dimension."""

    size: tuple[Dim, ...]
    strides: tuple[int, ...]
    pads: Pads
    dilations: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.size)

    def check(self, rank: int) -> None:
        """Raise `VerifyError` unless there are entries for `rank` dimensions, with strides and dilations above 0."""
        for name, entries in (("sizes", self.size), ("strides", self.strides), ("dilations", self.dilations)):
            expect(len(entries) == rank, f"expected {rank} {name}, got {len(entries)}")
            positive = all(not isinstance(e, int) or e >= 1 for e in entries)
            expect(positive, f"expected {name} of at least 1, got {entries}")
        expect(len(self.pads) == rank, f"expected {rank} pairs of pads, got {len(self.pads)}")

    def results(self, dims: Sequence[Dim]) -> tuple[Dim, ...]:
        """Number of windows along each dimension."""
        found: list[Dim] = []
        for i, d in enumerate(dims):
            span = (as_expr(self.size[i]) - 1) * self.dilations[i] + 1
            room = as_expr(d) + self.pads[i][0] + self.pads[i][1] - span
            fixed = room.constant
            pads = f"{d} with pads {self.pads[i]}"
            expect(fixed is None or fixed >= 0, f"expected at least {span} elements in dimension {i + 2}, got {pads}")
            found.append(as_dim(floordiv(room, self.strides[i]) + 1))
        return tuple(found)

    def leaves(self, dims: Sequence[Dim]) -> bool:
        """True when a window may reach outside of `dims`."""
        for i, (d, n) in enumerate(zip(dims, self.results(dims), strict=True)):
            span = (as_expr(self.size[i]) - 1) * self.dilations[i]
            beyond = ((as_expr(n) - 1) * self.strides[i] + span - self.pads[i][0] - as_expr(d) + 1).constant
            if self.pads[i][0] > 0 or (self.pads[i][1] > 0 if beyond is None else beyond > 0):
                return True
        return False

    def starts(self, point: Sequence[Expr]) -> list[Expr]:
        """First coordinates of window `point`."""
        return [p * s - before for p, s, (before, _) in zip(point, self.strides, self.pads, strict=True)]

    def coordinates(self, point: Sequence[Expr], taps: Sequence[Expr]) -> list[Expr]:
        """Coordinates of element `taps` of window `point`."""
        return [p + t * d for p, t, d in zip(self.starts(point), taps, self.dilations, strict=True)]

    def view(self, x: Array, fill: Any) -> Array:
        """A NumPy view (N, C, windows..., size...) of x (N, C, spatial...), padded with `fill`."""
        if any(a or b for a, b in self.pads):
            x = np.pad(x, ((0, 0), (0, 0), *self.pads), constant_values=np.asarray(fill).astype(x.dtype))
        outer = [
            (d - (int(as_expr(k).offset) - 1) * dil - 1) // s + 1
            for d, k, s, dil in zip(x.shape[2:], self.size, self.strides, self.dilations, strict=True)
        ]
        size = [int(as_expr(k).offset) for k in self.size]
        lead, steps = x.strides[:2], x.strides[2:]
        strides = (
            *lead,
            *(a * s for a, s in zip(steps, self.strides, strict=True)),
            *(a * d for a, d in zip(steps, self.dilations, strict=True)),
        )
        return np.lib.stride_tricks.as_strided(x, (*x.shape[:2], *outer, *size), strides, writeable=False)
