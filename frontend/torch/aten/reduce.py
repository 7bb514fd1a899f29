"""Operators that take dimensions together: sums, means, extremes, norms, softmax, running sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ....ir.expr import as_dim, as_expr, maximum, product
from .base import Build, Item, Number, aten, kind_of
from .pointwise import add, div, mul, sub

Axes = int | Sequence[int] | None


def reduced(b: Build, operator: str, x: Item, dim: Axes, keepdim: bool = False) -> Item:
    """A reduction of ONNX over dimensions; none or [] for all."""
    axes = b.axes(dim, b.rank(x))
    if not axes:
        return x
    return b.op(operator, x, b.vector(axes), keepdims=int(keepdim))


def _counted(b: Build, x: Item, dtype: str | None) -> Item:
    """Operand of a sum: integers and truth values are summed as i64."""
    if dtype is not None:
        return b.cast(x, dtype)
    return x if kind_of(b.dtype(x)) == "float" else b.cast(x, "i64")


@aten("sum", "sum.dim_IntList")
def sum_(b: Build, x: Item, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Item:
    return reduced(b, "ReduceSum", _counted(b, x, dtype), dim, keepdim)


@aten("nansum")
def nansum(b: Build, x: Item, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Item:
    clean = b.op("Where", b.op("IsNaN", b.real(x)), b.a.like(0, x), x)
    return sum_(b, clean, dim, keepdim, dtype)


@aten("mean", "mean.dim")
def mean(b: Build, x: Item, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Item:
    return reduced(b, "ReduceMean", x if dtype is None else b.cast(x, dtype), dim, keepdim)


@aten("prod", "prod.dim_int")
def prod(b: Build, x: Item, dim: Axes = None, keepdim: bool = False, dtype: str | None = None) -> Item:
    return reduced(b, "ReduceProd", _counted(b, x, dtype), dim, keepdim)


def _extreme(operator: str) -> Any:
    def lower(b: Build, x: Item, dim: Axes = None, keepdim: bool = False) -> Item:
        if b.dtype(x) == "bool":
            return b.cast(reduced(b, operator, b.cast(x, "i32"), dim, keepdim), "bool")
        return reduced(b, operator, x, dim, keepdim)

    return lower


amax = aten("amax", "max")(_extreme("ReduceMax"))
amin = aten("amin", "min")(_extreme("ReduceMin"))


@aten("aminmax")
def aminmax(b: Build, x: Item, dim: int | None = None, keepdim: bool = False) -> list[Item]:
    return [amin(b, x, dim, keepdim), amax(b, x, dim, keepdim)]


def _place(operator: str) -> Any:
    def lower(b: Build, x: Item, dim: int | None = None, keepdim: bool = False) -> Item:
        x = b.cast(x, "i32") if b.dtype(x) == "bool" else x
        if dim is None or not b.rank(x):
            flat = b.reshape(x, (as_dim(product(b.shape(x))),))
            found = b.op(operator, flat, axis=0, keepdims=0)
            return b.reshape(found, [1] * b.rank(x)) if keepdim else found
        return b.op(operator, x, axis=b.axis(dim, b.rank(x)), keepdims=int(keepdim))

    return lower


argmax = aten("argmax")(_place("ArgMax"))
argmin = aten("argmin")(_place("ArgMin"))


@aten("max.dim")
def max_dim(b: Build, x: Item, dim: int, keepdim: bool = False) -> list[Item]:
    return [amax(b, x, dim, keepdim), argmax(b, x, dim, keepdim)]


@aten("min.dim")
def min_dim(b: Build, x: Item, dim: int, keepdim: bool = False) -> list[Item]:
    return [amin(b, x, dim, keepdim), argmin(b, x, dim, keepdim)]


@aten("any", "any.dim", "any.dims")
def any_(b: Build, x: Item, dim: Axes = None, keepdim: bool = False) -> Item:
    return b.cast(reduced(b, "ReduceMax", b.cast(b.cast(x, "bool"), "i32"), dim, keepdim), "bool")


@aten("all", "all.dim", "all.dims")
def all_(b: Build, x: Item, dim: Axes = None, keepdim: bool = False) -> Item:
    return b.cast(reduced(b, "ReduceMin", b.cast(b.cast(x, "bool"), "i32"), dim, keepdim), "bool")


@aten("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(b: Build, x: Item, dim: Axes = None) -> Item:
    return reduced(b, "ReduceSum", b.cast(b.cast(x, "bool"), "i64"), dim)


# -- variance and norms -----------------------------------------------------------------------------------------------


def _variance(b: Build, x: Item, dim: Axes, correction: Number, keepdim: bool) -> tuple[Item, Item]:
    """Variance and mean."""
    axes = b.axes(dim, b.rank(x))
    middle = reduced(b, "ReduceMean", x, axes, True)
    centred = b.op("Sub", x, middle)
    squares = b.op("Mul", centred, centred)
    average = middle if keepdim else reduced(b, "ReduceMean", x, axes, False)
    if correction == 0:
        return reduced(b, "ReduceMean", squares, axes, keepdim), average
    count = as_dim(product(b.shape(x)[i] for i in axes))
    total = reduced(b, "ReduceSum", squares, axes, keepdim)
    if isinstance(count, int) or isinstance(correction, float):
        rest = b.op("Sub", b.tensor(count, b.dtype(x)), b.tensor(float(b.number(correction)), b.dtype(x)))
        return b.op("Div", total, b.op("Max", rest, b.a.like(0.0, rest))), average
    return b.op("Div", total, b.tensor(as_dim(maximum(as_expr(count) - correction, 0)), b.dtype(x))), average


def _ddof(unbiased: bool, correction: Number | None) -> Number:
    return (1 if unbiased else 0) if correction is None else correction


@aten("var", "var.dim", "var.correction")
def var(
    b: Build, x: Item, dim: Axes = None, unbiased: bool = True, correction: Number | None = None, keepdim: bool = False
) -> Item:
    return _variance(b, x, dim, _ddof(unbiased, correction), keepdim)[0]


@aten("std", "std.dim", "std.correction")
def std(
    b: Build, x: Item, dim: Axes = None, unbiased: bool = True, correction: Number | None = None, keepdim: bool = False
) -> Item:
    return b.op("Sqrt", _variance(b, x, dim, _ddof(unbiased, correction), keepdim)[0])


@aten("var_mean", "var_mean.dim", "var_mean.correction")
def var_mean(
    b: Build, x: Item, dim: Axes = None, unbiased: bool = True, correction: Number | None = None, keepdim: bool = False
) -> list[Item]:
    return list(_variance(b, x, dim, _ddof(unbiased, correction), keepdim))


@aten("std_mean", "std_mean.dim", "std_mean.correction")
def std_mean(
    b: Build, x: Item, dim: Axes = None, unbiased: bool = True, correction: Number | None = None, keepdim: bool = False
) -> list[Item]:
    variance, average = _variance(b, x, dim, _ddof(unbiased, correction), keepdim)
    return [b.op("Sqrt", variance), average]


@aten("linalg_vector_norm", "norm.ScalarOpt_dim", "norm.Scalar", "norm.ScalarOpt_dim_dtype", "linalg_norm")
def vector_norm(
    b: Build, x: Item, ord: Number | None = None, p: Number | None = None, dim: Axes = None, keepdim: bool = False,
    dtype: str | None = None,
) -> Item:  # fmt: skip
    given = ord if p is None else p
    order = b.number(2 if given is None else given)
    x = b.real(x) if dtype is None else b.cast(x, dtype)
    if order == 2:
        return reduced(b, "ReduceL2", x, dim, keepdim)
    size = b.op("Abs", x)
    if order == 1:
        return reduced(b, "ReduceSum", size, dim, keepdim)
    if math.isinf(order):
        return reduced(b, "ReduceMax" if order > 0 else "ReduceMin", size, dim, keepdim)
    if order == 0:
        return reduced(b, "ReduceSum", b.cast(b.cast(x, "bool"), b.dtype(x)), dim, keepdim)
    powers = b.op("Pow", size, b.a.like(float(order), x))
    return b.op("Pow", reduced(b, "ReduceSum", powers, dim, keepdim), b.a.like(1 / order, x))


@aten("logsumexp", "special_logsumexp")
def logsumexp(b: Build, x: Item, dim: Axes, keepdim: bool = False) -> Item:
    return reduced(b, "ReduceLogSumExp", b.real(x), dim, keepdim)


@aten("cosine_similarity")
def cosine_similarity(b: Build, x1: Item, x2: Item, dim: int = 1, eps: float = 1e-8) -> Item:
    left, right = b.reals(x1, x2)
    low = b.a.like(float(eps), left)
    sizes = [b.op("Max", vector_norm(b, v, dim=dim, keepdim=True), low) for v in (left, right)]
    return sum_(b, mul(b, div(b, left, sizes[0]), div(b, right, sizes[1])), dim)


@aten("pairwise_distance")
def pairwise_distance(b: Build, x1: Item, x2: Item, p: float = 2, eps: float = 1e-6, keepdim: bool = False) -> Item:
    return vector_norm(b, add(b, sub(b, x1, x2), float(eps)), p=p, dim=-1, keepdim=keepdim)


@aten("dist")
def dist(b: Build, x: Item, other: Item, p: Number = 2) -> Item:
    return vector_norm(b, sub(b, x, other), p=p)


@aten("cdist", "_cdist_forward")
def cdist(b: Build, x1: Item, x2: Item, p: float = 2, compute_mode: int | None = None) -> Item:
    rank = b.rank(x1)
    difference = sub(b, b.unsqueeze(x1, rank - 1), b.unsqueeze(x2, rank - 2))
    return vector_norm(b, difference, p=p, dim=-1)


# -- softmax ----------------------------------------------------------------------------------------------------------


def _softmax(operator: str) -> Any:
    def lower(b: Build, x: Item, dim: int, dtype: str | None = None, half_to_float: bool = False) -> Item:
        x = b.real(x) if dtype is None else b.cast(x, dtype)
        return b.op(operator, x, axis=b.axis(dim, b.rank(x)))

    return lower


softmax = aten("softmax.int", "_softmax", "special_softmax")(_softmax("Softmax"))
log_softmax = aten("log_softmax.int", "_log_softmax", "special_log_softmax")(_softmax("LogSoftmax"))


@aten("_safe_softmax")
def safe_softmax(b: Build, x: Item, dim: int, dtype: str | None = None) -> Item:
    """A softmax whose rows of nothing but -inf become 0."""
    soft = softmax(b, x, dim, dtype)
    none = b.op("IsInf", reduced(b, "ReduceMax", x, dim, True), detect_positive=0)
    return b.op("Where", none, b.a.like(0.0, soft), soft)


# -- running ----------------------------------------------------------------------------------------------------------


def _running(operator: str) -> Any:
    def lower(b: Build, x: Item, dim: int, dtype: str | None = None) -> Item:
        x = _counted(b, x, dtype)
        if not b.rank(x):
            return x
        return b.op(operator, x, b.tensor(b.axis(dim, b.rank(x)), "i64"))

    return lower


cumsum = aten("cumsum")(_running("CumSum"))
cumprod = aten("cumprod")(_running("CumProd"))


@aten("logcumsumexp")
def logcumsumexp(b: Build, x: Item, dim: int) -> Item:
    high = reduced(b, "ReduceMax", x, dim, True)
    return add(b, b.op("Log", cumsum(b, b.op("Exp", sub(b, x, high)), dim)), high)


@aten("diff")
def diff(b: Build, x: Item, n: int = 1, dim: int = -1, prepend: Item | None = None, append: Item | None = None) -> Item:
    at = b.axis(dim, b.rank(x))
    parts = [p for p in (prepend, x, append) if p is not None]
    x = parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=at)
    for _ in range(n):
        x = sub(b, b.slice(x, at, 1, None), b.slice(x, at, 0, -1))
    return x


__all__ = ["amax", "amin", "cumsum", "log_softmax", "mean", "reduced", "softmax", "sum_", "vector_norm"]
