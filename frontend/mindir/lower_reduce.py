"""Lowerings of MindIR's reductions: sums, extremes and where they are, moments, norms, running results."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lower_common import (
    along,
    axes_of,
    axis_of,
    constant,
    elements,
    flat,
    floating,
    kind_of,
    rank,
    scanned,
    sliced,
)
from .lower_pairs import log_add_exp, truth
from .primitive import Call, Datum, Item, primitive

_INTEGER_SUMS = "i64"  # the element type in which the *Ext reductions sum integers and bools


def reduced(call: Call, operator: str, x: Item, axes: Sequence[int], keep: bool) -> Item:
    """An ONNX reduction over axes (from the start); over none it changes nothing."""
    if not axes and rank(call, x):
        return x
    return call.op(operator, x, list(axes), keepdims=int(keep))


def _plain(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = call.tensor(0)
        if name == "ReduceSum" and call.flag("skip_mode", False) and not call.tuple("axis"):
            return x
        dtype = call.element_type(x)
        if dtype == "bool":
            x = call.cast(x, "i32")
        y = reduced(call, operator, x, axes_of(call, "axis", rank(call, x)), call.flag("keep_dims", False))
        return call.cast(y, dtype) if dtype == "bool" and operator != "ReduceMean" else y


for _name, _operator in {
    "ReduceSum": "ReduceSum", "ReduceMean": "ReduceMean", "ReduceMax": "ReduceMax", "ReduceMin": "ReduceMin",
    "ReduceProd": "ReduceProd",
}.items():  # fmt: skip
    _plain(_name, _operator)


def logical(call: Call, x: Item, axes: Sequence[int], keep: bool, every: bool) -> Item:
    """Whether all elements (or any) are true."""
    x = call.cast(truth(call, x), "i32")
    return call.cast(reduced(call, "ReduceMin" if every else "ReduceMax", x, axes, keep), "bool")


@primitive("ReduceAll", "ReduceAny")
def reduce_logic(call: Call) -> Item:
    """Whether all, any elements along axes are true."""
    x = call.tensor(0)
    keep = call.flag("keep_dims", False)
    return logical(call, x, axes_of(call, "axis", rank(call, x)), keep, call.name == "ReduceAll")


@primitive("Any", "AnyExt")
def any_ext(call: Call) -> Item:
    """Whether all, any elements along dimensions are true."""
    x = call.tensor(0)
    axes = axes_of(call, "dim", rank(call, x))
    return logical(call, x, axes, call.flag("keepdim", False), every=False)


def _typed(call: Call, x: Item, integers: str) -> Item:
    """A tensor in the element type that an *Ext reduction computes in."""
    dtype = call.dtype("dtype")
    if dtype is None and kind_of(call.element_type(x)) < 2:
        dtype = integers
    return x if dtype is None else call.cast(x, dtype)


def _extended(name: str, operator: str, integers: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = _typed(call, call.tensor(0), integers)
        if name == "Nansum" and kind_of(call.element_type(x)) == 2:
            x = call.op("Where", call.op("IsNaN", x), constant(call, 0, x), x)
        y = reduced(call, operator, x, axes_of(call, "dim", rank(call, x)), call.flag("keepdim", False))
        declared = call.result_dtype  # a mean of integers may be declared to be an integer
        return call.cast(y, declared) if name == "MeanExt" and declared is not None and kind_of(declared) == 1 else y


_extended("SumExt", "ReduceSum", _INTEGER_SUMS)
_extended("Nansum", "ReduceSum", _INTEGER_SUMS)
_extended("MeanExt", "ReduceMean", "f32")
_extended("ProdExt", "ReduceProd", _INTEGER_SUMS)


@primitive("Max", "Min")
def extreme(call: Call) -> Item:
    """The largest, smallest element of all."""
    x = call.tensor(0)
    return reduced(call, f"Reduce{call.name}", x, range(rank(call, x)), False)


def place_of_extreme(call: Call, x: Item, axis: int, keep: bool, largest: bool) -> Item:
    """Where the extreme along an axis is, the first of equals, as i64."""
    if not rank(call, x):
        return call.a.scalar(0, "i64")
    x = call.cast(x, "i32") if call.element_type(x) == "bool" else x
    return call.op("ArgMax" if largest else "ArgMin", x, axis=axis, keepdims=int(keep))


@primitive("ArgMaxWithValue", "ArgMinWithValue")
def arg_with_value(call: Call) -> Datum:
    """(where the extreme is, the extreme) along an axis."""
    x, keep = call.tensor(0), call.flag("keep_dims", False)
    axis, largest = axis_of(call, call.integer("axis", 0), rank(call, x)), call.name == "ArgMaxWithValue"
    where = place_of_extreme(call, x, axis, keep, largest)
    dtypes = [t.dtype for t in call.result_types]
    value = reduced(call, "ReduceMax" if largest else "ReduceMin", x, [axis], keep) if rank(call, x) else x
    return call.cast(where, dtypes[0] if dtypes and dtypes[0] in ("i32", "i64") else "i64"), value


@primitive("MaxDim", "MinDim")
def extreme_dim(call: Call) -> Datum:
    """(the extreme, where it is) along a dimension."""
    x, keep, largest = call.tensor(0), call.flag("keepdim", False), call.name == "MaxDim"
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    value = reduced(call, "ReduceMax" if largest else "ReduceMin", x, [axis], keep) if rank(call, x) else x
    return value, place_of_extreme(call, x, axis, keep, largest)


@primitive("Argmax", "Argmin")
def argmax(call: Call) -> Item:
    """Where the extreme along an axis is, as `output_type` (i32)."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("axis", -1), rank(call, x))
    return call.cast(place_of_extreme(call, x, axis, False, call.name == "Argmax"), call.dtype("output_type") or "i32")


@primitive("ArgminV2")
def argmin_v2(call: Call) -> Item:
    """Where the smallest element along an axis is."""
    x = call.tensor(0)
    return call.cast(
        place_of_extreme(call, x, axis_of(call, call.integer("axis"), rank(call, x)), False, False),
        call.result_dtype or "i64",
    )


@primitive("ArgMaxExt", "ArgMinExt")
def argmax_ext(call: Call) -> Item:
    """Where the extreme along a dimension is; of all elements where `dim` is None. i64."""
    x, largest = call.tensor(0), call.name == "ArgMaxExt"
    if call.datum("dim", None) is not None:
        axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
        return place_of_extreme(call, x, axis, call.flag("keepdim", False), largest)
    return place_of_extreme(call, flat(call, x), 0, False, largest)


@primitive("CountNonZero")
def count_nonzero(call: Call) -> Item:
    """How many elements along dimensions are not 0, as i64."""
    x = call.tensor(0)
    ones = call.cast(truth(call, x), "i64")
    return reduced(call, "ReduceSum", ones, axes_of(call, "dim", rank(call, x)), False)


# -- moments and norms -------------------------------------------------------------------------------------------------


def moments(call: Call, x: Item, axes: Sequence[int], keep: bool, correction: float) -> tuple[Item, Item]:
    """(variance, mean) along axes; the sum of squares is divided by the number of elements less `correction`."""
    x = floating(call, x)
    mean = reduced(call, "ReduceMean", x, axes, True)
    d = call.op("Sub", x, mean)
    squares = reduced(call, "ReduceSum", call.op("Mul", d, d), axes, keep)
    dims = call.shape(x)
    count = call.cast(elements(call, [dims[a] for a in axes]), call.element_type(x))
    divisor = call.op("Max", call.op("Sub", count, constant(call, correction, x)), constant(call, 0, x))
    if not keep and axes:
        mean = call.op("Squeeze", mean, list(axes))
    return call.op("Div", squares, divisor), mean


@primitive("Var", "Std", "VarMean", "StdMean")
def variance(call: Call) -> Datum:
    """Variance or its root along dimensions, and the mean."""
    x = call.tensor(0)
    axes, keep = axes_of(call, "dim", rank(call, x)), call.flag("keepdim", False)
    spread, mean = moments(call, x, axes, keep, call.real("correction", 1))
    if call.name.startswith("Std"):
        spread = call.op("Sqrt", spread)
    return (spread, mean) if call.name.endswith("Mean") else spread


@primitive("ReduceStd")
def reduce_std(call: Call) -> Datum:
    """(standard deviation, mean) along axes."""
    x = call.tensor(0)
    axes, keep = axes_of(call, "axis", rank(call, x)), call.flag("keep_dims", False)
    spread, mean = moments(call, x, axes, keep, 1 if call.flag("unbiased", True) else 0)
    return call.op("Sqrt", spread), mean


def vector_norm(call: Call, x: Item, p: float, axes: Sequence[int], keep: bool) -> Item:
    """The p-norm along axes; p may be 0 (how many are not 0) or infinite."""
    size = call.op("Abs", x)
    if math.isinf(p):
        return reduced(call, "ReduceMax" if p > 0 else "ReduceMin", size, axes, keep)
    if p == 0:
        return reduced(call, "ReduceSum", call.cast(truth(call, x), call.element_type(x)), axes, keep)
    if p == 1:
        return reduced(call, "ReduceSum", size, axes, keep)
    if p == 2:
        return call.op("Sqrt", reduced(call, "ReduceSum", call.op("Mul", x, x), axes, keep))
    total = reduced(call, "ReduceSum", call.op("Pow", size, constant(call, p, x)), axes, keep)
    return call.op("Pow", total, constant(call, 1 / p, x))


@primitive("Norm", "LinalgVectorNorm", "LpNormV2")
def norm(call: Call) -> Item:
    """The p-norm of vectors along dimensions."""
    x = floating(call, call.tensor(0))
    dtype = call.dtype("dtype") if call.name != "LpNormV2" else None
    if dtype is not None:
        x = call.cast(x, dtype)
    p = call.real("ord" if call.name == "LinalgVectorNorm" else "p", 2.0)
    y = vector_norm(call, x, p, axes_of(call, "dim", rank(call, x)), call.flag("keepdim", False))
    if call.name == "LpNormV2":
        y = call.op("Max", y, constant(call, call.real("epsilon", 1e-12), y))
    return y


@primitive("LpNorm")
def lp_norm(call: Call) -> Item:
    """The p-norm along axes, at least epsilon."""
    x = floating(call, call.tensor(0))
    axes = axes_of(call, "axis", rank(call, x))
    y = vector_norm(call, x, call.real("p", 2), axes, call.flag("keep_dims", False))
    return call.op("Max", y, constant(call, call.real("epsilon", 1e-12), y))


@primitive("EuclideanNorm")
def euclidean_norm(call: Call) -> Item:
    """The 2-norm along axes."""
    x = call.tensor(0)
    y = vector_norm(call, floating(call, x), 2, axes_of(call, "axes", rank(call, x)), call.flag("keep_dims", False))
    return call.cast(y, call.element_type(x))


@primitive("L2Loss")
def l2_loss(call: Call) -> Item:
    """Half the sum of squares."""
    x = call.tensor(0)
    total = reduced(call, "ReduceSum", call.op("Mul", x, x), range(rank(call, x)), False)
    return call.op("Mul", total, constant(call, 0.5, total))


@primitive("SquareSumAll")
def square_sum_all(call: Call) -> Datum:
    """The sums of squares of two tensors."""
    squares = [call.op("Mul", x, x) for x in (call.tensor(0), call.tensor(1))]
    return tuple(reduced(call, "ReduceSum", s, range(rank(call, s)), False) for s in squares)


@primitive("LogSumExp")
def log_sum_exp(call: Call) -> Item:
    """`log(sum(exp(x)))` along dimensions, without overflow."""
    x = floating(call, call.tensor(0))
    axes, keep = axes_of(call, "dim", rank(call, x)), call.flag("keepdim", False)
    return reduced(call, "ReduceLogSumExp", x, axes, keep)


@primitive("L2Normalize")
def l2_normalize(call: Call) -> Item:
    """`x / sqrt(max(sum(x * x), epsilon))` along axes."""
    x = call.tensor(0)
    total = reduced(call, "ReduceSum", call.op("Mul", x, x), axes_of(call, "axis", rank(call, x)), True)
    return call.op("Div", x, call.op("Sqrt", call.op("Max", total, constant(call, call.real("epsilon", 1e-4), total))))


@primitive("Renorm")
def renorm(call: Call) -> Item:
    """Slices along `dim` whose p-norm exceeds `maxnorm` are scaled down to it."""
    x, dims = call.tensor(0), rank(call, call.tensor(0))
    axis = axis_of(call, call.integer("dim"), dims, "dim")
    most = constant(call, call.real("maxnorm"), x)
    size = vector_norm(call, x, call.real("p"), [i for i in range(dims) if i != axis], True)
    factor = call.op("Div", most, call.op("Add", size, constant(call, 1e-7, x)))
    return call.op("Mul", x, call.op("Where", call.op("Greater", size, most), factor, constant(call, 1, x)))


# -- running results ---------------------------------------------------------------------------------------------------


def cumulative(call: Call, operator: str, x: Item, axis: int, exclusive: bool = False, reverse: bool = False) -> Item:
    """A running sum or product along an axis."""
    if not rank(call, x):
        return x
    number = call.a.scalar(axis, "i64")
    if operator == "CumProd":
        return call.op("CumProd", x, number, exclusive=int(exclusive), reverse=int(reverse))
    return call.op("CumSum", x, number, exclusive=int(exclusive), reverse=int(reverse))


@primitive("CumSum", "CumProd")
def cum_sum(call: Call) -> Item:
    """A running sum, product; without the element itself, from the end."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("axis"), rank(call, x))
    return cumulative(call, call.name, x, axis, call.flag("exclusive", False), call.flag("reverse", False))


@primitive("CumsumExt")
def cumsum_ext(call: Call) -> Item:
    """A running sum; of integers in i64."""
    x = _typed(call, call.tensor(0), _INTEGER_SUMS)
    return cumulative(call, "CumSum", x, axis_of(call, call.integer("dim"), rank(call, x), "dim"))


@primitive("Cummax", "Cummin", "CumminExt")
def cummax(call: Call) -> Datum:
    """(running extreme, where it is: the last of equals) along an axis."""
    x = call.tensor(0)
    name = "dim" if call.name == "CumminExt" else "axis"
    dims = call.shape(x)
    axis = axis_of(call, call.integer(name), len(dims), name)
    operator = "Max" if call.name == "Cummax" else "Min"
    y = scanned(call, x, axis, lambda a, b: call.op(operator, a, b))
    at = along(call, dims[axis], axis, len(dims))
    here = call.op("Where", call.op("Equal", x, y), at, call.a.scalar(0, "i64"))
    where = scanned(call, here, axis, lambda a, b: call.op("Max", a, b))
    dtypes = [t.dtype for t in call.result_types]
    return y, call.cast(where, dtypes[1] if len(dtypes) == 2 else "i64")


@primitive("CumulativeLogsumexp")
def cumulative_logsumexp(call: Call) -> Item:
    """A running `log(sum(exp(x)))`."""
    x = call.tensor(0)
    dims = call.shape(x)
    axis = axis_of(call, call.integer("axis"), len(dims))
    reverse = call.flag("reverse", False)
    if reverse:
        x = _reversed(call, x, axis)
    y = scanned(call, x, axis, lambda a, b: log_add_exp(call, a, b))
    if call.flag("exclusive", False):
        lowest = call.op("Expand", constant(call, -3.4028234663852886e38, x), [*dims[:axis], 1, *dims[axis + 1 :]])
        y = call.op("Concat", lowest, sliced(call, y, axis, 0, -1), axis=axis)
    return _reversed(call, y, axis) if reverse else y


def _reversed(call: Call, x: Item, axis: int) -> Item:
    """The elements along an axis from the end."""
    least = -(2**63)
    return sliced(call, x, axis, -1, least, -1)


@primitive("Trace", "TraceExt")
def trace(call: Call) -> Item:
    """The sum of the main diagonal of a matrix; of integers in i64 for TraceExt."""
    x = call.tensor(0)
    if call.name == "TraceExt" and kind_of(call.element_type(x)) < 2:
        x = call.cast(x, _INTEGER_SUMS)
    rows, columns = call.shape(x)
    same = call.op("Equal", along(call, rows, 0, 2), along(call, columns, 1, 2))
    return reduced(call, "ReduceSum", call.op("Where", same, x, constant(call, 0, x)), (0, 1), False)


__all__ = ["cumulative", "logical", "moments", "place_of_extreme", "reduced", "vector_norm"]
