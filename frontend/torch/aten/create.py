"""Operators that make tensors of nothing: constants, ranges, triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.expr import Dim, Expr, as_dim
from .base import Build, Item, Number, Operand, aten, few


def _filled(b: Build, size: Sequence[Dim], value: Operand, dtype: str | None) -> Item:
    return b.expand(b.tensor(value, dtype), tuple(as_dim(d) for d in size))


def _constant(value: Number) -> Any:
    def lower(b: Build, size: Sequence[Dim], dtype: str | None = None, names: object = None) -> Item:
        return _filled(b, size, value, dtype or "f32")

    return lower


aten("zeros", "empty.memory_format")(_constant(0))
aten("ones")(_constant(1))


@aten("empty_strided")
def empty_strided(b: Build, size: Sequence[Dim], stride: object = None, dtype: str | None = None) -> Item:
    return _filled(b, size, 0, dtype or "f32")


@aten("full")
def full(b: Build, size: Sequence[Dim], fill_value: Operand, dtype: str | None = None) -> Item:
    return _filled(b, size, fill_value, dtype)


def _like(value: Number) -> Any:
    def lower(b: Build, x: Item, dtype: str | None = None) -> Item:
        return _filled(b, b.shape(x), value, dtype or b.dtype(x))

    return lower


aten("zeros_like", "empty_like", "zero")(_like(0))
aten("ones_like")(_like(1))


@aten("full_like")
def full_like(b: Build, x: Item, fill_value: Operand, dtype: str | None = None) -> Item:
    return _filled(b, b.shape(x), fill_value, dtype or b.dtype(x))


@aten("fill.Scalar", "fill.Tensor")
def fill(b: Build, x: Item, value: Operand) -> Item:
    return _filled(b, b.shape(x), value, b.dtype(x))


def _new(value: Number) -> Any:
    def lower(b: Build, x: Item, size: Sequence[Dim], dtype: str | None = None, stride: object = None) -> Item:
        return _filled(b, size, value, dtype or b.dtype(x))

    return lower


aten("new_zeros", "new_empty", "new_empty_strided")(_new(0))
aten("new_ones")(_new(1))


@aten("new_full")
def new_full(b: Build, x: Item, size: Sequence[Dim], fill_value: Operand, dtype: str | None = None) -> Item:
    return _filled(b, size, fill_value, dtype or b.dtype(x))


@aten("scalar_tensor")
def scalar_tensor(b: Build, s: Operand, dtype: str | None = None) -> Item:
    return b.tensor(s, dtype or ("f32" if not isinstance(s, Item) else None))


@aten("copy")
def copy(b: Build, x: Item, src: Operand) -> Item:
    return b.expand(b.tensor(src, b.dtype(x)), b.shape(x))


@aten("arange", "arange.start", "arange.start_step")
def arange(b: Build, end: Operand, start: Operand = 0, step: Operand = 1, dtype: str | None = None) -> Item:
    given = [start, end, step]
    if any(isinstance(v, Item) for v in given):
        target = dtype or b.result_type(*given)
        return b.op("Range", *(b.tensor(v, target) for v in given))
    target = dtype or ("f32" if any(isinstance(v, float) for v in given) else "i64")
    if any(isinstance(v, Expr) for v in given):
        whole = "i64" if not any(isinstance(v, float) for v in given) else target
        return b.cast(b.op("Range", *(b.tensor(v, whole) for v in given)), target)
    low, high, by = (v for v in given if not isinstance(v, Item | Expr))
    count = max(0, math.ceil((high - low) / by))
    if count > 1 << 20:
        return b.cast(b.op("Range", *(b.tensor(v, target) for v in given)), target)
    values = low + np.arange(count, dtype=np.float64 if isinstance(low + by, float) else np.int64) * by
    return b.vector(values, target)


@aten("linspace")
def linspace(b: Build, start: Number, end: Number, steps: int, dtype: str | None = None) -> Item:
    values = np.linspace(b.number(start), b.number(end), few(steps, "steps"))
    return b.vector(values, dtype or "f32")


@aten("eye", "eye.m")
def eye(b: Build, n: Dim, m: Dim | None = None, dtype: str | None = None) -> Item:
    wide = n if m is None else m
    row, column = (b.op("Range", b.tensor(0, "i64"), b.tensor(d, "i64"), b.tensor(1, "i64")) for d in (n, wide))
    return b.cast(b.op("Equal", b.unsqueeze(row, 1), b.unsqueeze(column, 0)), dtype or "f32")


def _triangle(upper: int) -> Any:
    def lower(b: Build, x: Item, diagonal: Dim = 0) -> Item:
        narrow = b.dtype(x)
        if narrow == "bool" and x.known is None and x.data is None:
            return b.cast(b.op("Trilu", b.cast(x, "i32"), b.tensor(diagonal, "i64"), upper=upper), "bool")
        return b.op("Trilu", x, b.tensor(diagonal, "i64"), upper=upper)

    return lower


aten("tril")(_triangle(0))
aten("triu")(_triangle(1))


def _triangle_indices(upper: bool) -> Any:
    def lower(b: Build, row: int, col: int, offset: int = 0, dtype: str | None = None) -> Item:
        few(row * col, "places")
        found = np.triu_indices(row, offset, col) if upper else np.tril_indices(row, offset, col)
        return b.vector(np.stack(found), dtype or "i64")

    return lower


aten("tril_indices")(_triangle_indices(False))
aten("triu_indices")(_triangle_indices(True))
