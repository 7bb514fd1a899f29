"""Lowerings of MindIR's primitives that sort, search, count and find distinct elements."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr
from .lower_common import (
    axis_of,
    common_dtype,
    constant,
    expanded,
    flat,
    iota,
    kind_of,
    known,
    one_at,
    rank,
    reshaped,
    sliced,
)
from .lower_index import scattered
from .primitive import Call, Datum, Item, primitive

# -- sorting -----------------------------------------------------------------------------------------------------------


def top(call: Call, x: Item, count: Dim, axis: int, largest: bool = True) -> tuple[Item, Item]:
    """The `count` largest (smallest) elements along an axis in order, and where they are (i64)."""
    dtype = call.element_type(x)
    y = call.cast(x, "u8") if dtype == "bool" else x
    values, places = call.ops("TopK", y, [count], outputs=2, axis=axis, largest=int(largest))
    return call.cast(values, dtype), places


def sorted_along(call: Call, x: Item, axis: int, descending: bool) -> tuple[Item, Item]:
    """All elements along an axis in order, equal ones as they stand, and where they were (i64)."""
    dims = call.shape(x)
    if not dims:
        return x, call.a.scalar(0, "i64")
    return top(call, x, dims[axis], axis, descending)


@primitive("TopK")
def top_k(call: Call) -> Datum:
    """(the k largest of the last dimension, where they are: i32)."""
    x = call.tensor(0)
    values, places = top(call, x, call.dim("k"), rank(call, x) - 1)
    return values, call.cast(places, "i32")


@primitive("TopkExt")
def topk_ext(call: Call) -> Datum:
    """(the k largest, smallest of a dimension, where they are: i64)."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", -1), rank(call, x), "dim")
    return top(call, x, call.dim("k"), axis, call.flag("largest", True))


@primitive("Sort")
def sort(call: Call) -> Datum:
    """(the elements along an axis in order, where they were: i32)."""
    x = call.tensor(0)
    values, places = sorted_along(
        call, x, axis_of(call, call.integer("axis", -1), rank(call, x)), call.flag("descending", False)
    )
    return values, call.cast(places, "i32")


@primitive("SortExt")
def sort_ext(call: Call) -> Datum:
    """(the elements along a dimension in order, where they were: i64)."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", -1), rank(call, x), "dim")
    return sorted_along(call, x, axis, call.flag("descending", False))


@primitive("ArgSort")
def arg_sort(call: Call) -> Item:
    """Where the elements of a dimension are, in order."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", -1), rank(call, x), "dim")
    return sorted_along(call, x, axis, call.flag("descending", False))[1]


def nth(call: Call, x: Item, index: int, axis: int, keep: bool) -> tuple[Item, Item]:
    """The element at place `index` of an axis in ascending order, and where it is."""
    if not rank(call, x):
        return x, call.a.scalar(0, "i64")
    values, places = top(call, x, index + 1, axis, False)
    if keep:
        return sliced(call, values, axis, index, index + 1), sliced(call, places, axis, index, index + 1)
    return one_at(call, values, axis, index), one_at(call, places, axis, index)


@primitive("Kthvalue")
def kth_value(call: Call) -> Datum:
    """(the k-th smallest of a dimension, where it is)."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", -1), rank(call, x), "dim")
    return nth(call, x, call.integer("k") - 1, axis, call.flag("keepdim", False))


def _middle(call: Call, x: Item, axis: int, keep: bool) -> tuple[Item, Item]:
    """The median: of an even number the lower one."""
    size = known(call, call.shape(x)[axis], "the axis") if rank(call, x) else 1
    return nth(call, x, (size - 1) // 2, axis, keep)


@primitive("MedianExt")
def median_ext(call: Call) -> Item:
    """The median of all elements."""
    return _middle(call, flat(call, call.tensor(0)), 0, False)[0]


@primitive("MedianDim")
def median_dim(call: Call) -> Datum:
    """(the median of a dimension, where it is)."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim", -1), rank(call, x), "dim")
    return _middle(call, x, axis, call.flag("keepdim", False))


@primitive("Median")
def median(call: Call) -> Datum:
    """(the median of an axis or of all, where it is)."""
    x = call.tensor(0)
    if call.flag("global_median", False):
        return _middle(call, flat(call, x), 0, False)
    return _middle(call, x, axis_of(call, call.integer("axis", 0), rank(call, x)), call.flag("keep_dims", False))


@primitive("NthElement")
def nth_element(call: Call) -> Item:
    """The n-th smallest (with `reverse` largest) of the last dimension, counted from 0."""
    x, n = call.tensor(0), call.integer("n")
    axis = rank(call, x) - 1
    if call.flag("reverse", False):
        n = known(call, call.shape(x)[axis], "the last dimension") - 1 - n
    return nth(call, x, n, axis, False)[0]


@primitive("InTopK")
def in_top_k(call: Call) -> Item:
    """Whether the element that `x2` names is among the k largest of its row: fewer than k are larger."""
    x, at = call.tensor(0), call.cast(call.tensor(1), "i64")
    own = call.op("GatherElements", x, call.op("Unsqueeze", at, [1]), axis=1)
    larger = call.op("ReduceSum", call.cast(call.op("Greater", x, own), "i64"), [1], keepdims=0)
    return call.op("Less", larger, call.a.scalar(call.integer("k"), "i64"))


# -- searching ---------------------------------------------------------------------------------------------------------


def places_in(call: Call, row: Item, values: Item, right: bool) -> Item:
    """How many elements of the last dimension of `row` stand before each value (i64). A row without batch serves
    values of any shape."""
    dtype = common_dtype(call.element_type(row), call.element_type(values))
    row, values = call.cast(row, dtype), call.cast(values, dtype)
    if rank(call, row) > 1:
        row = call.op("Unsqueeze", row, [rank(call, row) - 1])
    before = call.op("LessOrEqual" if right else "Less", row, call.op("Unsqueeze", values, [-1]))
    return call.op("ReduceSum", call.cast(before, "i64"), [-1], keepdims=0)


@primitive("SearchSorted")
def search_sorted(call: Call) -> Item:
    """Where values belong in sorted rows."""
    row, values = call.tensor("sorted_sequence"), call.tensor("values")
    if call.datum("sorter", None) is not None:
        row = call.op("GatherElements", row, call.cast(call.tensor("sorter"), "i64"), axis=rank(call, row) - 1)
    return call.cast(places_in(call, row, values, call.flag("right", False)), call.dtype("dtype") or "i64")


@primitive("LowerBound", "UpperBound")
def bound(call: Call) -> Item:
    """Where values belong in sorted rows, before or behind equal ones."""
    found = places_in(call, call.tensor(0), call.tensor(1), call.name == "UpperBound")
    return call.cast(found, call.dtype("out_type") or "i32")


@primitive("Bucketize")
def bucketize(call: Call) -> Item:
    """The number of boundaries at or below each element."""
    x = call.tensor(0)
    found = call.datum("boundaries")
    edges = np.array([float(v) for v in found if isinstance(v, int | float)] if isinstance(found, tuple) else [])
    row = call.cast(call.a.constant(edges.astype(np.float32)), "f32")
    return call.cast(places_in(call, row, x, True), call.result_dtype or "i32")


# -- distinct elements -------------------------------------------------------------------------------------------------


def distinct(call: Call, x: Item, sorted_: bool = True, axis: int | None = None) -> list[Item]:
    """[distinct elements, where they are first, their numbers for every element, how often they are] (i64)."""
    return call.ops("Unique", x, outputs=4, sorted=int(sorted_), axis=axis)


@primitive("Unique", "InnerUnique", "UniqueWithPad")
def unique(call: Call) -> Datum:
    """(distinct elements, their number for every element)."""
    x = call.tensor(0)
    found = distinct(call, flat(call, x), call.name == "InnerUnique" and call.flag("sorted", True))
    dtypes = [t.dtype for t in call.result_types]
    numbers = call.cast(found[2], dtypes[1] if len(dtypes) > 1 else "i64")
    if call.name == "InnerUnique":
        numbers = reshaped(call, numbers, call.shape(x))
    values = found[0]
    if call.name == "UniqueWithPad":
        size, have = as_expr(call.shape(x)[0]), call.shape(values)[0]
        pad = call.cast(reshaped(call, call.tensor(1), []), call.element_type(x))
        values = call.op("Pad", values, [0, as_dim(size - have)], pad)
    return values, numbers


@primitive("Unique2")
def unique2(call: Call) -> Datum:
    """(distinct elements, their number for every element, how often they are)."""
    x = call.tensor(0)
    values, _, numbers, counts = distinct(call, flat(call, x))
    return values, reshaped(call, numbers, call.shape(x)), counts


@primitive("UniqueDim")
def unique_dim(call: Call) -> Datum:
    """(distinct slices of a dimension, their number for every slice, how often they are)."""
    x = call.tensor(0)
    values, _, numbers, counts = distinct(call, x, True, axis_of(call, call.integer("dim"), rank(call, x), "dim"))
    return values, numbers, counts


@primitive("UniqueConsecutive")
def unique_consecutive(call: Call) -> Datum:
    """(elements that differ from the one before, the number of its run for every element, lengths of the runs)."""
    x = call.tensor(0)
    if call.datum("dim", None) is not None and rank(call, x) > 1:
        call.refuse("UniqueConsecutive along a dimension of several")
    row = flat(call, x)
    (size,) = call.shape(row)
    changes = call.op("Not", call.op("Equal", sliced(call, row, 0, 1, size), sliced(call, row, 0, 0, -1)))
    first = call.op("Concat", expanded(call, call.a.scalar(True, "bool"), [1]), changes, axis=0)
    numbers = call.op(
        "Sub", call.op("CumSum", call.cast(first, "i64"), call.a.scalar(0, "i64")), np.int64(1).reshape(1)
    )
    values = call.op("Compress", row, first, axis=0)
    starts = call.op("Compress", iota(call, size), first, axis=0)
    ends = call.op("Concat", sliced(call, starts, 0, 1, np.iinfo(np.int64).max), call.a.sizes([size]), axis=0)
    counts = call.op("Sub", ends, starts)
    dtypes = [t.dtype for t in call.result_types]
    numbers, counts = (call.cast(i, dtypes[n] if len(dtypes) == 3 else "i64") for n, i in ((1, numbers), (2, counts)))
    return values, reshaped(call, numbers, call.shape(x)), counts


# -- counting ----------------------------------------------------------------------------------------------------------


def counted(call: Call, places: Item, count: Dim, weights: Item | None, dtype: str) -> Item:
    """How often (or with what sum of weights) each of 0 to count - 1 occurs; others are left out."""
    at, size = call.cast(flat(call, places), "i64"), call.op("Squeeze", call.a.sizes([count]), [0])
    zero = call.a.scalar(0, "i64")
    inside = call.op("And", call.op("GreaterOrEqual", at, zero), call.op("Less", at, size))
    at = call.op("Where", inside, at, size)
    base = expanded(call, call.a.scalar(0, dtype), [as_dim(as_expr(count) + 1)])
    given = call.a.scalar(1, dtype) if weights is None else call.cast(flat(call, weights), dtype)
    updates = expanded(call, given, call.shape(at))
    return sliced(call, scattered(call, base, call.op("Unsqueeze", at, [1]), updates, "add"), 0, 0, count)


@primitive("Bincount")
def bincount(call: Call) -> Item:
    """How often each number below `size` occurs, or the sum of its weights."""
    weights = call.tensor("weights")
    return counted(call, call.tensor(0), call.dim("size"), weights, call.element_type(weights))


@primitive("BincountExt")
def bincount_ext(call: Call) -> Item:
    """How often each number occurs, or the sum of its weights, for numbers up to the largest or `minlength`."""
    x, least = call.tensor(0), call.integer("minlength", 0)
    top_ = call.op("Add", call.op("ReduceMax", call.cast(flat(call, x), "i64"), keepdims=1), np.array([1]))
    (count,) = call.a.dims(call.op("Max", top_, np.array([least])))
    weights = call.tensor("weights") if call.datum("weights", None) is not None else None
    return counted(call, x, count, weights, "i64" if weights is None else call.element_type(weights))


@primitive("HistcExt", "Histogram")
def histogram(call: Call) -> Item:
    """How many elements are in each of `bins` equal parts between min and max; from the data where both are equal."""
    x, bins = flat(call, call.tensor(0)), call.integer("bins", 100)
    dtype = call.element_type(x)
    low, high = call.real("min", 0.0), call.real("max", 0.0)
    x = x if kind_of(dtype) >= 2 else call.cast(x, "f32")
    if low == high:
        first, last = (call.op(f"Reduce{n}", x, keepdims=0) for n in ("Min", "Max"))
        one = constant(call, 1, x)
        alike = call.op("Equal", first, last)
        first = call.op("Where", alike, call.op("Sub", first, one), first)
        last = call.op("Where", alike, call.op("Add", last, one), last)
    else:
        first, last = constant(call, low, x), constant(call, high, x)
    scale = call.op("Div", constant(call, bins, x), call.op("Sub", last, first))
    at = call.op("Floor", call.op("Mul", call.op("Sub", x, first), scale))
    at = call.op("Where", call.op("Equal", x, last), constant(call, bins - 1, x), at)
    outside = call.op("Or", call.op("Less", x, first), call.op("Greater", x, last))
    at = call.op("Where", outside, constant(call, -1, x), at)
    return counted(call, at, bins, None, call.result_dtype or dtype)


@primitive("HistogramFixedWidth")
def histogram_fixed_width(call: Call) -> Item:
    """How many elements are in each of `nbins` equal parts of a range; those outside count at its ends."""
    x, bins, ends = flat(call, call.tensor(0)), call.integer("nbins"), call.cast(call.tensor(1), "f64")
    first, last = one_at(call, ends, 0, 0), one_at(call, ends, 0, 1)
    wide = call.cast(x, "f64")
    at = call.op(
        "Div",
        call.op("Mul", call.op("Sub", wide, first), call.a.scalar(float(bins), "f64")),
        call.op("Sub", last, first),
    )
    at = call.op("Clip", call.op("Floor", at), call.a.scalar(0.0, "f64"), call.a.scalar(float(bins - 1), "f64"))
    return counted(call, at, bins, None, call.result_dtype or "i32")


__all__ = ["counted", "distinct", "nth", "sorted_along", "top"]
