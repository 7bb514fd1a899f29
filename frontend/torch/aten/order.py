"""Operators that sort: topk, sort, searches in sorted tensors, unique."""

from __future__ import annotations

from typing import Any

from ....ir.expr import Dim, as_dim, product
from .base import Build, Item, Operand, Unsupported, aten


@aten("topk")
def topk(b: Build, x: Item, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Item]:
    if not b.rank(x):
        return [x, b.tensor(0)]
    count = b.a.sizes([k])
    return b.a.ops("TopK", x, count, outputs=2, axis=b.axis(dim, b.rank(x)), largest=int(largest), sorted=int(sorted))


@aten("sort", "sort.stable")
def sort(b: Build, x: Item, dim: int = -1, descending: bool = False, stable: bool | None = None) -> list[Item]:
    narrow = b.dtype(x) == "bool"
    values, places = topk(b, b.cast(x, "i32") if narrow else x, _size(b, x, dim), dim, descending)
    return [b.cast(values, "bool") if narrow else values, places]


def _size(b: Build, x: Item, dim: int) -> Dim:
    return b.shape(x)[b.axis(dim, b.rank(x))] if b.rank(x) else 1


@aten("argsort", "argsort.stable")
def argsort(b: Build, x: Item, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Item:
    return sort(b, x, dim, descending)[1]


@aten("msort")
def msort(b: Build, x: Item) -> Item:
    return sort(b, x, 0)[0]


@aten("kthvalue")
def kthvalue(b: Build, x: Item, k: int, dim: int = -1, keepdim: bool = False) -> list[Item]:
    at = b.axis(dim, b.rank(x))
    parts = [b.slice(v, at, k - 1, k) for v in topk(b, x, k, dim, False)]
    rest = [d for i, d in enumerate(b.shape(parts[0])) if i != at]
    return parts if keepdim else [b.reshape(p, rest) for p in parts]


@aten("median.dim")
def median_dim(b: Build, x: Item, dim: int, keepdim: bool = False) -> list[Item]:
    size = _size(b, x, dim)
    if not isinstance(size, int):
        raise Unsupported("a median of a number of elements that is not known", "export it with a fixed size")
    return kthvalue(b, x, (size + 1) // 2, dim, keepdim)


@aten("median")
def median(b: Build, x: Item) -> Item:
    return median_dim(b, b.reshape(x, (as_dim(product(b.shape(x))),)), 0)[0]


def _cumulated(extreme: str) -> Any:
    def lower(b: Build, x: Item, dim: int) -> list[Item]:
        """Running extremes: every element against those before it, in a square, which suits short dimensions."""
        at = b.axis(dim, b.rank(x))
        size = b.shape(x)[at]
        if not isinstance(size, int) or size > 1024:
            raise Unsupported("a running extreme over more than 1024 elements, or a number that is not known")
        wide = b.expand(b.unsqueeze(x, at), (*b.shape(x)[:at], size, *b.shape(x)[at:]))
        place = b.vector(range(size))
        rest = [1] * (b.rank(x) - at - 1)
        row, column = b.reshape(place, (size, 1, *rest)), b.reshape(place, (1, size, *rest))
        low = float("-inf") if extreme == "Max" else float("inf")
        seen = b.op("Where", b.op("LessOrEqual", column, row), b.cast(wide, "f32"), b.tensor(low))
        values = b.op(f"Reduce{extreme}", seen, b.vector([at + 1]), keepdims=0)
        places = b.op(f"Arg{extreme}", seen, axis=at + 1, keepdims=0, select_last_index=1)
        return [b.cast(values, b.dtype(x)), places]

    return lower


aten("cummax")(_cumulated("Max"))
aten("cummin")(_cumulated("Min"))


@aten("bucketize.Tensor", "bucketize.Scalar", "searchsorted.Tensor", "searchsorted.Scalar")
def searchsorted(
    b: Build, x: Operand, boundaries: Item | None = None, sorted_sequence: Item | None = None, out_int32: bool = False,
    right: bool = False, side: str | None = None, sorter: Item | None = None,
) -> Item:  # fmt: skip
    """How many boundaries are below each element: all are compared."""
    edges = boundaries if boundaries is not None else sorted_sequence
    assert edges is not None
    if sorter is not None:
        raise Unsupported("searchsorted with a sorter")
    x, edges = b.common(x, edges)
    wide = b.unsqueeze(x, b.rank(x))
    row = b.unsqueeze(edges, b.rank(edges) - 1) if b.rank(edges) > 1 else edges
    beyond = right or side == "right"
    # Not (edge > x) and not (edge >= x), so that NaN is behind all boundaries.
    found = b.op("Not", b.op("Greater" if beyond else "GreaterOrEqual", row, wide))
    dtype = "i32" if out_int32 else "i64"
    return b.op("ReduceSum", b.cast(found, dtype), b.vector([b.rank(found) - 1]), keepdims=0)


@aten("isin.Tensor_Tensor", "isin.Tensor_Scalar", "isin.Scalar_Tensor")
def isin(
    b: Build, elements: Operand | None = None, test_elements: Operand | None = None, element: Operand | None = None,
    test_element: Operand | None = None, assume_unique: bool = False, invert: bool = False,
) -> Item:  # fmt: skip
    left = elements if elements is not None else element
    right = test_elements if test_elements is not None else test_element
    assert left is not None and right is not None
    one, many = b.common(left, right)
    flat = b.reshape(many, (as_dim(product(b.shape(many))),))
    same = b.op("Equal", b.unsqueeze(one, b.rank(one)), flat)
    found = b.cast(b.op("ReduceMax", b.cast(same, "i32"), b.vector([b.rank(same) - 1]), keepdims=0), "bool")
    return b.op("Not", found) if invert else found


@aten("_unique2")
def unique(
    b: Build, x: Item, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> list[Item]:
    values, _, inverse, counts = b.a.ops("Unique", x, outputs=4, sorted=1)
    return [values, b.reshape(inverse, b.shape(x)), counts]


__all__ = ["sort", "topk"]
