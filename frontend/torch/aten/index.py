"""Operators that read and write at places: indexing, gathering, scattering, embeddings, what is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.expr import Dim, as_dim, product
from .base import Build, Item, Number, Operand, Unsupported, aten, few
from .pointwise import add, mul
from .shape import broadcast_tensors


@aten("index_select")
def index_select(b: Build, x: Item, dim: int, index: Item) -> Item:
    return b.op("Gather", x, b.reshape(index, (-1,)) if b.rank(index) == 0 else index, axis=b.axis(dim, b.rank(x)))


@aten("embedding")
def embedding(
    b: Build, weight: Item, indices: Item, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Item:
    return b.op("Gather", weight, indices, axis=0)


@aten("embedding_bag", "_embedding_bag", "embedding_bag.padding_idx", "_embedding_bag_forward_only")
def embedding_bag(
    b: Build, weight: Item, indices: Item, offsets: Item, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: Item | None = None, include_last_offset: bool = False,
    padding_idx: int | None = -1,
) -> list[Item]:  # fmt: skip
    """Sums (mode 0) or means (1) of rows: a product with the matrix of what belongs to which bag."""
    if mode == 2 or (padding_idx is not None and padding_idx >= 0):
        raise Unsupported("embedding_bag of maxima, or with a padding index")
    rows = b.op("Gather", weight, indices, axis=0)
    if per_sample_weights is not None:
        rows = mul(b, rows, b.unsqueeze(per_sample_weights, 1))
    count = b.shape(indices)[0]
    place = b.op("Range", b.tensor(0, "i64"), b.tensor(count, "i64"), b.tensor(1, "i64"))
    starts = b.cast(offsets, "i64")
    begins = b.slice(starts, 0, 0, -1) if include_last_offset else starts
    ends = b.slice(starts, 0, 1, None) if include_last_offset else b.op(
        "Concat", b.slice(starts, 0, 1, None), b.op("Reshape", b.tensor(count, "i64"), b.vector([1])), axis=0
    )  # fmt: skip
    inside = b.op("And", b.op("GreaterOrEqual", place, b.unsqueeze(begins, 1)),
                  b.op("Less", place, b.unsqueeze(ends, 1)))  # fmt: skip
    matrix = b.cast(inside, b.dtype(rows))
    total = b.op("MatMul", matrix, rows)
    if mode == 1:
        sizes = b.op("ReduceSum", matrix, b.vector([1]), keepdims=1)
        total = b.op("Div", total, b.op("Max", sizes, b.a.like(1.0, sizes)))
    none = b.vector([])
    return [total, none, none, none]


@aten("gather")
def gather(b: Build, x: Item, dim: int, index: Item, sparse_grad: bool = False) -> Item:
    if not b.rank(x):
        return b.expand(x, b.shape(index))
    at = b.axis(dim, b.rank(x))
    return b.op("GatherElements", _cut(b, x, index, at), index, axis=at)


def _cut(b: Build, x: Item, index: Item, at: int) -> Item:
    """PyTorch takes an index that is smaller than the tensor in other dimensions than that of the index."""
    for i, (own, theirs) in enumerate(zip(b.shape(x), b.shape(index), strict=True)):
        if i != at and own != theirs:
            x = b.slice(x, i, 0, theirs)
    return x


@aten("take_along_dim")
def take_along_dim(b: Build, x: Item, indices: Item, dim: int | None = None) -> Item:
    if dim is None:
        flat = b.reshape(x, (as_dim(product(b.shape(x))),))
        return b.op("GatherElements", flat, b.reshape(indices, (as_dim(product(b.shape(indices))),)), axis=0)
    at = b.axis(dim, b.rank(x))
    wanted = [i if k == at or o == 1 else o for k, (o, i) in enumerate(zip(b.shape(x), b.shape(indices), strict=True))]
    own = [o if k == at else w for k, (o, w) in enumerate(zip(b.shape(x), wanted, strict=True))]
    return b.op("GatherElements", b.expand(x, own), b.expand(indices, wanted), axis=at)


@aten("take")
def take(b: Build, x: Item, index: Item) -> Item:
    return b.op("Gather", b.reshape(x, (as_dim(product(b.shape(x))),)), index, axis=0)


# -- indexing ---------------------------------------------------------------------------------------------------------


def _resolved(b: Build, indices: Sequence[Item | None]) -> list[Item | None]:
    """Masks as the places where they are true: one vector for each of their dimensions."""
    found: list[Item | None] = []
    for index in indices:
        if index is not None and b.dtype(index) in ("bool", "u8"):
            found += nonzero_numpy(b, b.cast(index, "bool"))
        else:
            found.append(None if index is None else b.cast(index, "i64"))
    return found


def _together(b: Build, indices: Sequence[Item]) -> list[Item]:
    """Index tensors broadcast against each other."""
    return broadcast_tensors(b, indices) if len(indices) > 1 else list(indices)


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(b: Build, x: Item, indices: Sequence[Item | None]) -> Item:
    """NumPy's indexing by tensors: the indexed dimensions go to the front, unless they stand side by side."""
    if len(indices) == 1 and indices[0] is not None and b.dtype(indices[0]) == "bool":
        mask = indices[0]
        if b.rank(mask) == b.rank(x):
            return masked_select(b, x, mask)
    listed = _resolved(b, indices)
    axes = [i for i, v in enumerate(listed) if v is not None]
    given = [v for v in listed if v is not None]
    if not axes:
        return x
    if len(axes) == 1:
        return b.op("Gather", x, given[0], axis=axes[0])
    rank, joined = b.rank(x), _together(b, given)
    rest = [i for i in range(rank) if i not in axes]
    turned = b.permute(x, [*axes, *rest])
    places = b.op("Concat", *(b.unsqueeze(g, b.rank(g)) for g in joined), axis=b.rank(joined[0]))
    y = b.op("GatherND", turned, places)
    wide = b.rank(joined[0])
    side = axes[-1] - axes[0] + 1 == len(axes)
    if side and axes[0]:
        order = [*range(wide, wide + axes[0]), *range(wide), *range(wide + axes[0], b.rank(y))]
        return b.permute(y, order)
    return y


@aten("index_put", "_unsafe_index_put")
def index_put(
    b: Build, x: Item, indices: Sequence[Item | None], values: Item, accumulate: bool = False, unsafe: bool = False
) -> Item:
    values = b.cast(values, b.dtype(x))
    if len(indices) == 1 and indices[0] is not None and b.dtype(indices[0]) == "bool" and not accumulate:
        mask = indices[0]
        if all(d == 1 for d in b.shape(values)):
            wide = b.reshape(mask, [*b.shape(mask), *[1] * (b.rank(x) - b.rank(mask))])
            return b.op("Where", wide, b.reshape(values, ()), x)
    listed = _resolved(b, indices)
    axes = [i for i, v in enumerate(listed) if v is not None]
    joined = _together(b, [v for v in listed if v is not None])
    rank = b.rank(x)
    rest = [i for i in range(rank) if i not in axes]
    order = [*axes, *rest]
    turned = b.permute(x, order)
    places = b.op("Concat", *(b.unsqueeze(g, b.rank(g)) for g in joined), axis=b.rank(joined[0]))
    inner = [b.shape(turned)[len(axes) + i] for i in range(len(rest))]
    wide = [*b.shape(joined[0]), *inner]
    side = axes[-1] - axes[0] + 1 == len(axes)
    if side and axes[0]:  # values are in the order of the result of indexing
        count = b.rank(joined[0])
        shown = [*inner[: axes[0]], *b.shape(joined[0]), *inner[axes[0] :]]
        values = b.permute(b.expand(values, shown), [
            *range(axes[0], axes[0] + count), *range(axes[0]), *range(axes[0] + count, len(shown))
        ])  # fmt: skip
    put = b.op("ScatterND", turned, places, b.expand(values, wide), reduction="add" if accumulate else "none")
    return b.permute(put, [order.index(i) for i in range(rank)])


@aten("nonzero")
def nonzero(b: Build, x: Item) -> Item:
    return b.permute(b.op("NonZero", x), [1, 0])


@aten("nonzero_numpy")
def nonzero_numpy(b: Build, x: Item) -> list[Item]:
    places = b.op("NonZero", x)
    count = b.shape(places)[1]
    return [b.reshape(b.slice(places, 0, i, i + 1), (count,)) for i in range(b.rank(x))]


@aten("argwhere")
def argwhere(b: Build, x: Item) -> Item:
    return nonzero(b, x)


@aten("masked_select")
def masked_select(b: Build, x: Item, mask: Item) -> Item:
    x, mask = broadcast_tensors(b, [x, mask])
    return b.op("Compress", x, b.reshape(mask, (as_dim(product(b.shape(mask))),)))


@aten("masked_scatter")
def masked_scatter(b: Build, x: Item, mask: Item, source: Item) -> Item:
    """Elements where the mask is true come from `source`, one after the other."""
    wide = b.expand(mask, b.shape(x))
    flat = b.reshape(wide, (as_dim(product(b.shape(x))),))
    order = b.op("Sub", b.op("CumSum", b.cast(flat, "i64"), b.tensor(0, "i64")), b.tensor(1, "i64"))
    order = b.op("Max", order, b.tensor(0, "i64"))
    flat_source = b.reshape(source, (as_dim(product(b.shape(source))),))
    chosen = b.reshape(b.op("Gather", flat_source, order, axis=0), b.shape(x))
    return b.op("Where", wide, b.cast(chosen, b.dtype(x)), x)


# -- scattering -------------------------------------------------------------------------------------------------------

_REDUCTIONS = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min"}


@aten("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce")
def scatter(
    b: Build, x: Item, dim: int, index: Item, src: Item | None = None, value: Number | None = None,
    reduce: str | None = None,
) -> Item:  # fmt: skip
    source = src if src is not None else b.expand(b.tensor(0 if value is None else value, b.dtype(x)), b.shape(index))
    return _scattered(b, x, dim, index, source, "none" if reduce is None else _REDUCTIONS[reduce])


@aten("scatter_add")
def _scatter_add(b: Build, x: Item, dim: int, index: Item, src: Item) -> Item:
    return _scattered(b, x, dim, index, src, "add")


def _scattered(b: Build, x: Item, dim: int, index: Item, source: Item, reduction: str) -> Item:
    at = b.axis(dim, b.rank(x))
    if not b.rank(x):
        return source if reduction == "none" else add(b, x, source)
    for i, d in enumerate(b.shape(index)):
        if b.shape(source)[i] != d:
            source = b.slice(source, i, 0, d)
    return b.op("ScatterElements", x, index, b.cast(source, b.dtype(x)), axis=at, reduction=reduction)


@aten("scatter_reduce.two")
def scatter_reduce(b: Build, x: Item, dim: int, index: Item, src: Item, reduce: str, include_self: bool = True) -> Item:
    if not include_self:
        start: Any = {"sum": 0, "mean": 0, "prod": 1, "amax": float("-inf"), "amin": float("inf")}[reduce]
        if isinstance(start, float) and b.dtype(x) not in ("f32", "f64", "f16", "bf16"):
            raise Unsupported("scatter_reduce of integers without the tensor itself")
        x = _scattered(b, x, dim, index, b.expand(b.tensor(start, b.dtype(x)), b.shape(index)), "none")
    if reduce != "mean":
        return _scattered(b, x, dim, index, src, _REDUCTIONS[reduce])
    total = _scattered(b, x, dim, index, src, "add")
    ones = b.expand(b.tensor(1, b.dtype(x)), b.shape(index))
    base = b.expand(b.tensor(1, b.dtype(x)), b.shape(x))
    if not include_self:
        base = _scattered(b, base, dim, index, b.expand(b.tensor(0, b.dtype(x)), b.shape(index)), "none")
    return b.op("Div", total, _scattered(b, base, dim, index, ones, "add"))


def _rows(b: Build, x: Item, dim: int, index: Item, wanted: Sequence[Dim]) -> Item:
    """A vector of places along one dimension, spread over the others."""
    at = b.axis(dim, b.rank(x))
    column = b.reshape(index, [b.shape(index)[0] if b.rank(index) else 1, *[1] * (b.rank(x) - 1 - at)])
    return b.expand(column, wanted)


@aten("index_add")
def index_add(b: Build, x: Item, dim: int, index: Item, source: Item, alpha: Number = 1) -> Item:
    source = source if alpha == 1 else mul(b, source, alpha)
    return _scattered(b, x, dim, _rows(b, x, dim, index, b.shape(source)), source, "add")


@aten("index_copy")
def index_copy(b: Build, x: Item, dim: int, index: Item, source: Item) -> Item:
    return _scattered(b, x, dim, _rows(b, x, dim, index, b.shape(source)), source, "none")


@aten("index_fill.int_Scalar", "index_fill.int_Tensor")
def index_fill(b: Build, x: Item, dim: int, index: Item, value: Operand) -> Item:
    at = b.axis(dim, b.rank(x))
    wanted = [b.shape(index)[0] if i == at else d for i, d in enumerate(b.shape(x))]
    source = b.expand(b.tensor(value, b.dtype(x)), wanted)
    return _scattered(b, x, dim, _rows(b, x, dim, index, wanted), source, "none")


@aten("one_hot")
def one_hot(b: Build, x: Item, num_classes: int = -1) -> Item:
    if num_classes < 0:
        raise Unsupported("one_hot without a number of classes", "give num_classes")
    classes = b.a.constant(np.arange(few(num_classes, "classes"), dtype=np.int64))
    return b.cast(b.op("Equal", b.unsqueeze(x, b.rank(x)), classes), "i64")


__all__ = ["embedding", "index", "nonzero_numpy"]
