"""Operators that move elements: shapes, orders of dimensions, parts, joining, repeating, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

from ....ir.expr import Dim, as_dim, as_expr, minimum, product
from .base import Build, Item, Number, Operand, Unsupported, aten, few

# -- shapes -----------------------------------------------------------------------------------------------------------


@aten("view", "_unsafe_view", "view_copy")
def view(b: Build, x: Item, size: Sequence[Dim]) -> Item:
    return b.reshape(x, size)


@aten("reshape", "_reshape_copy", "_reshape_alias")
def reshape(b: Build, x: Item, shape: Sequence[Dim] = (), size: Sequence[Dim] = (), stride: object = None) -> Item:
    return b.reshape(x, shape or size)


@aten("view_as", "reshape_as")
def view_as(b: Build, x: Item, other: Item) -> Item:
    return b.reshape(x, b.shape(other))


@aten("flatten.using_ints", "ravel")
def flatten(b: Build, x: Item, start_dim: int = 0, end_dim: int = -1) -> Item:
    dims = b.shape(x)
    if not dims:
        return b.reshape(x, (1,))
    low, high = b.axis(start_dim, len(dims)), b.axis(end_dim, len(dims))
    return b.reshape(x, (*dims[:low], as_dim(product(dims[low : high + 1])), *dims[high + 1 :]))


@aten("unflatten.int")
def unflatten(b: Build, x: Item, dim: int, sizes: Sequence[Dim]) -> Item:
    dims = b.shape(x)
    at = b.axis(dim, len(dims))
    inner = b.inferred([dims[at]], sizes) if -1 in sizes else list(sizes)
    return b.reshape(x, (*dims[:at], *inner, *dims[at + 1 :]))


@aten("squeeze", "squeeze.dim", "squeeze.dims", "squeeze_copy")
def squeeze(b: Build, x: Item, dim: int | Sequence[int] | None = None) -> Item:
    dims = b.shape(x)
    if not dims:
        return x
    axes = range(len(dims)) if dim is None else b.axes(dim, len(dims))
    return b.reshape(x, [d for i, d in enumerate(dims) if i not in axes or d != 1])


@aten("unsqueeze", "unsqueeze_copy")
def unsqueeze(b: Build, x: Item, dim: int) -> Item:
    return b.unsqueeze(x, dim % (b.rank(x) + 1))


def _at_least(count: int) -> Any:
    def lower(b: Build, x: Item) -> Item:
        dims = list(b.shape(x))
        if len(dims) >= count:
            return x
        if count == 3 and dims:  # PyTorch puts the last one behind
            return b.reshape(x, [*[1] * (2 - len(dims)), *dims, 1])
        return b.reshape(x, [*[1] * (count - len(dims)), *dims])

    return lower


at_least_1d = aten("atleast_1d")(_at_least(1))
at_least_2d = aten("atleast_2d")(_at_least(2))
at_least_3d = aten("atleast_3d")(_at_least(3))


# -- orders -----------------------------------------------------------------------------------------------------------


@aten("permute", "permute_copy")
def permute(b: Build, x: Item, dims: Sequence[int]) -> Item:
    return b.permute(x, dims)


@aten("transpose.int", "swapaxes", "swapdims", "transpose_copy.int")
def transpose(b: Build, x: Item, dim0: int = 0, dim1: int = 0, axis0: int | None = None, axis1: int = 0) -> Item:
    rank = b.rank(x)
    first, second = (dim0, dim1) if axis0 is None else (axis0, axis1)
    if rank == 0:
        return x
    i, j = b.axis(first, rank), b.axis(second, rank)
    order = list(range(rank))
    order[i], order[j] = j, i
    return b.permute(x, order)


@aten("t", "numpy_T", "t_copy")
def reversed_dims(b: Build, x: Item) -> Item:
    return b.permute(x, list(reversed(range(b.rank(x)))))


@aten("mT", "adjoint", "matrix_H", "mH")
def matrix_transpose(b: Build, x: Item) -> Item:
    return b.turned(x)


@aten("movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist")
def movedim(b: Build, x: Item, source: int | Sequence[int], destination: int | Sequence[int]) -> Item:
    rank = b.rank(x)
    here, there = b.axes(source, rank), b.axes(destination, rank)
    order = [-1] * rank
    for i, j in zip(here, there, strict=True):
        order[j] = i
    rest = iter(i for i in range(rank) if i not in here)
    return b.permute(x, [next(rest) if i < 0 else i for i in order])


@aten("flip", "fliplr", "flipud")
def flip(b: Build, x: Item, dims: Sequence[int] = (1,)) -> Item:
    rank = b.rank(x)
    axes = b.axes(list(dims), rank) if dims else []
    if not axes:
        return x
    far = -(1 << 62)
    return b.op("Slice", x, b.vector([-1] * len(axes)), b.vector([far] * len(axes)), b.vector(axes),
                b.vector([-1] * len(axes)))  # fmt: skip


@aten("rot90")
def rot90(b: Build, x: Item, k: int = 1, dims: Sequence[int] = (0, 1)) -> Item:
    i, j = b.axes(list(dims), b.rank(x))
    match k % 4:
        case 1:
            return transpose(b, flip(b, x, [j]), i, j)
        case 2:
            return flip(b, x, [i, j])
        case 3:
            return flip(b, transpose(b, x, i, j), [j])
        case _:
            return x


@aten("roll")
def roll(b: Build, x: Item, shifts: int | Sequence[int], dims: int | Sequence[int] = ()) -> Item:
    amounts = [shifts] if isinstance(shifts, int) else list(shifts)
    if not isinstance(dims, int) and not dims:
        flat = roll(b, b.reshape(x, (as_dim(product(b.shape(x))),)), amounts, [0])
        return b.reshape(flat, b.shape(x))
    for amount, axis in zip(amounts, b.axes(dims, b.rank(x)), strict=True):
        size = b.shape(x)[axis]
        at: Dim = -amount % size if isinstance(size, int) and size else -amount
        if at:
            low = at if isinstance(size, int) or at > 0 else as_dim(as_expr(size) + at)
            x = b.op("Concat", b.slice(x, axis, low, None), b.slice(x, axis, 0, low), axis=axis)
    return x


# -- parts ------------------------------------------------------------------------------------------------------------


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(b: Build, x: Item, dim: int = 0, start: Dim | None = None, end: Dim | None = None, step: int = 1) -> Item:
    return b.slice(x, dim, start, end, step)


@aten("narrow", "narrow_copy")
def narrow(b: Build, x: Item, dim: int, start: Dim, length: Dim) -> Item:
    if isinstance(start, int) and start < 0:
        start = as_dim(as_expr(b.shape(x)[b.axis(dim, b.rank(x))]) + start)
    return b.slice(x, dim, start, as_dim(as_expr(start) + length))


@aten("select.int", "select_copy.int")
def select(b: Build, x: Item, dim: int, index: Operand) -> Item:
    at = b.axis(dim, b.rank(x))
    if isinstance(index, int) and x.known is None and b.dtype(x) not in ("i64", "i32"):
        size = b.shape(x)[at]
        low = as_dim(as_expr(size) + index) if index < 0 else index
        part = b.slice(x, at, low, as_dim(as_expr(low) + 1))
        if b.shape(part)[at] == 1:
            return b.reshape(part, [d for i, d in enumerate(b.shape(part)) if i != at])
    return b.op("Gather", x, b.tensor(index, "i64"), axis=at)


def ranges(size: Dim, wanted: Any, chunks: int | None = None) -> list[tuple[Dim, Dim]]:
    """Where the parts of a dimension begin and end: `wanted` is the size of each, or a list of sizes; or `chunks`."""
    if isinstance(wanted, list | tuple):
        lengths = cast("Sequence[Dim]", wanted)
        found: list[tuple[Dim, Dim]] = []
        at: Dim = 0
        for length in lengths:
            stop = as_dim(as_expr(at) + length)
            found.append((at, stop))
            at = stop
        return found
    if not isinstance(size, int):
        raise Unsupported("a split of a size that is not known", "export it with a fixed size, or give sizes")
    if chunks is not None:
        wanted = max(1, -(-size // chunks))
    step = int(wanted)
    if step <= 0:
        return [(0, 0)]
    few(size // step, "parts")
    return [(i, min(i + step, size)) for i in range(0, max(size, 1), step)]


@aten("split.Tensor", "split_with_sizes", "split.sizes", "chunk", "unsafe_split.Tensor", "unsafe_chunk",
      "split_with_sizes_copy", "split_copy.Tensor", "unsafe_split_with_sizes")  # fmt: skip
def split(
    b: Build, x: Item, split_size: Any = None, split_sizes: Any = None, chunks: int | None = None, dim: int = 0
) -> list[Item]:
    size = b.shape(x)[b.axis(dim, b.rank(x))]
    wanted = split_sizes if split_size is None else split_size
    return [b.slice(x, dim, start, stop) for start, stop in ranges(size, wanted, chunks)]


@aten("tensor_split.sections")
def tensor_split(b: Build, x: Item, sections: int, dim: int = 0) -> list[Item]:
    size = b.shape(x)[b.axis(dim, b.rank(x))]
    if not isinstance(size, int):
        raise Unsupported("a split of a size that is not known")
    small, more = divmod(size, sections)
    return split(b, x, split_sizes=[small + (i < more) for i in range(few(sections, "parts"))], dim=dim)


@aten("tensor_split.indices")
def tensor_split_at(b: Build, x: Item, indices: Sequence[Dim], dim: int = 0) -> list[Item]:
    size = b.shape(x)[b.axis(dim, b.rank(x))]
    edges: list[Dim] = [0, *indices, size]
    return [b.slice(x, dim, low, high) for low, high in pairwise(edges)]


@aten("unbind.int", "unbind_copy.int")
def unbind(b: Build, x: Item, dim: int = 0) -> list[Item]:
    at = b.axis(dim, b.rank(x))
    size = b.shape(x)[at]
    if not isinstance(size, int):
        raise Unsupported("unbind of a size that is not known", "export it with a fixed size")
    rest = [d for i, d in enumerate(b.shape(x)) if i != at]
    return [b.reshape(b.slice(x, at, i, i + 1), rest) for i in range(few(size, "slices"))]


@aten("slice_scatter")
def slice_scatter(
    b: Build, x: Item, src: Item, dim: int = 0, start: Dim | None = None, end: Dim | None = None, step: int = 1
) -> Item:
    at = b.axis(dim, b.rank(x))
    size = b.shape(x)[at]
    low = b.clipped(0 if start is None else start, size)
    high = b.clipped(size if end is None else end, size)
    src = b.cast(src, b.dtype(x))
    if low == 0 and high == size and step == 1:
        return b.expand(src, b.shape(x))
    wanted = [b.shape(src)[at] if i == at else d for i, d in enumerate(b.shape(x))]
    src = b.expand(src, wanted)
    if step == 1:
        return _joined(b, [b.slice(x, at, 0, low), src, b.slice(x, at, high, None)], at)
    places = b.op("Range", b.tensor(low, "i64"), b.tensor(high, "i64"), b.tensor(step, "i64"))
    places = b.reshape(places, [wanted[at], *[1] * (len(wanted) - 1 - at)])
    return b.op("ScatterElements", x, b.expand(places, wanted), src, axis=at)


def _joined(b: Build, parts: Sequence[Item], axis: int) -> Item:
    some = [p for p in parts if b.shape(p)[axis] != 0]
    return some[0] if len(some) == 1 else b.op("Concat", *(some or parts[:1]), axis=axis)


@aten("select_scatter")
def select_scatter(b: Build, x: Item, src: Item, dim: int, index: Operand) -> Item:
    at = b.axis(dim, b.rank(x))
    src = b.unsqueeze(b.cast(src, b.dtype(x)), at) if b.rank(src) < b.rank(x) else b.cast(src, b.dtype(x))
    if isinstance(index, Item):
        raise Unsupported("a place to write to that is computed from data")
    size = b.shape(x)[at]
    if isinstance(index, float):
        raise Unsupported(f"the place {index}")
    low = as_dim(as_expr(size) + index) if isinstance(index, int) and index < 0 else as_dim(as_expr(index))
    return slice_scatter(b, x, src, at, low, as_dim(as_expr(low) + 1))


@aten("diagonal", "diagonal_copy")
def diagonal(b: Build, x: Item, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Item:
    rank = b.rank(x)
    i, j = b.axis(dim1, rank), b.axis(dim2, rank)
    x = b.permute(x, [*(d for d in range(rank) if d not in (i, j)), i, j])
    rows, columns = b.shape(x)[-2:]
    high: Dim = as_dim(minimum(as_expr(rows) + min(offset, 0), as_expr(columns) - max(offset, 0)))
    count = b.op("Range", b.tensor(0, "i64"), b.tensor(high, "i64"), b.tensor(1, "i64"))
    first = as_expr(columns) * -offset if offset < 0 else as_expr(offset)
    steps = b.op("Mul", count, b.tensor(as_dim(as_expr(columns) + 1), "i64"))
    places = b.op("Add", steps, b.tensor(as_dim(first), "i64"))
    flat = b.reshape(x, (*b.shape(x)[:-2], as_dim(product((rows, columns)))))
    return b.op("Gather", flat, places, axis=rank - 2)


@aten("diag_embed")
def diag_embed(b: Build, x: Item, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Item:
    rank = b.rank(x) + 1
    if offset or {b.axis(dim1, rank), b.axis(dim2, rank)} != {rank - 2, rank - 1}:
        raise Unsupported("diag_embed with an offset or other dimensions than the last")
    size = b.shape(x)[-1]
    count = b.op("Range", b.tensor(0, "i64"), b.tensor(size, "i64"), b.tensor(1, "i64"))
    same = b.op("Equal", b.unsqueeze(count, 0), b.unsqueeze(count, 1))
    return b.op("Where", same, b.unsqueeze(x, rank - 2), b.tensor(0, b.dtype(x)))


@aten("unfold", "unfold_copy")
def unfold(b: Build, x: Item, dimension: int, size: int, step: int) -> Item:
    at = b.axis(dimension, b.rank(x))
    count = as_dim((as_expr(b.shape(x)[at]) - size) // step + 1)
    start = b.op("Range", b.tensor(0, "i64"), b.tensor(count, "i64"), b.tensor(1, "i64"))
    places = b.op(
        "Add", b.unsqueeze(b.op("Mul", start, b.tensor(step, "i64")), 1), b.vector(range(few(size, "elements")))
    )
    parts = b.op("Gather", x, places, axis=at)
    rank = b.rank(parts)
    return b.permute(parts, [*(i for i in range(rank) if i != at + 1), at + 1])


# -- joining and repeating --------------------------------------------------------------------------------------------


@aten("cat", "concat", "concatenate")
def cat(b: Build, tensors: Sequence[Item], dim: int = 0) -> Item:
    dtype = b.result_type(*tensors)
    some = [t for t in tensors if b.shape(t) != (0,)] or list(tensors[:1])
    parts = [b.cast(t, dtype) for t in some]
    return parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=b.axis(dim, b.rank(parts[0])))


@aten("stack")
def stack(b: Build, tensors: Sequence[Item], dim: int = 0) -> Item:
    at = dim % (b.rank(tensors[0]) + 1)
    return cat(b, [b.unsqueeze(t, at) for t in tensors], at)


@aten("hstack")
def hstack(b: Build, tensors: Sequence[Item]) -> Item:
    wide = [at_least_1d(b, t) for t in tensors]
    return cat(b, wide, 0 if b.rank(wide[0]) == 1 else 1)


@aten("vstack")
def vstack(b: Build, tensors: Sequence[Item]) -> Item:
    return cat(b, [at_least_2d(b, t) for t in tensors])


@aten("dstack")
def dstack(b: Build, tensors: Sequence[Item]) -> Item:
    return cat(b, [at_least_3d(b, t) for t in tensors], 2)


@aten("column_stack")
def column_stack(b: Build, tensors: Sequence[Item]) -> Item:
    return cat(b, [b.unsqueeze(t, 1) if b.rank(t) == 1 else t for t in tensors], 1)


@aten("expand", "expand_copy")
def expand(b: Build, x: Item, size: Sequence[Dim], implicit: bool = False) -> Item:
    dims = b.shape(x)
    own = [1] * (len(size) - len(dims)) + list(dims)
    return b.expand(x, [o if isinstance(s, int) and s == -1 else s for s, o in zip(size, own, strict=True)])


@aten("broadcast_to")
def broadcast_to(b: Build, x: Item, size: Sequence[Dim]) -> Item:
    return expand(b, x, size)


@aten("expand_as")
def expand_as(b: Build, x: Item, other: Item) -> Item:
    return b.expand(x, b.shape(other))


@aten("broadcast_tensors")
def broadcast_tensors(b: Build, tensors: Sequence[Item]) -> list[Item]:
    widest: list[Dim] = []
    for t in tensors:
        dims = list(b.shape(t))
        count = max(len(dims), len(widest))
        one, two = [1] * (count - len(dims)) + dims, [1] * (count - len(widest)) + widest
        widest = [d if e == 1 else e for d, e in zip(one, two, strict=True)]
    return [b.expand(t, widest) for t in tensors]


@aten("meshgrid", "meshgrid.indexing")
def meshgrid(b: Build, tensors: Sequence[Item], indexing: str = "ij") -> list[Item]:
    count = len(tensors)
    wide = [
        b.reshape(t, [as_dim(product(b.shape(t))) if i == at else 1 for i in range(count)])
        for at, t in enumerate(tensors)
    ]
    grids = broadcast_tensors(b, wide)
    if indexing == "xy" and count >= 2:
        grids = [transpose(b, g, 0, 1) for g in grids]
    return grids


@aten("repeat")
def repeat(b: Build, x: Item, repeats: Sequence[Dim]) -> Item:
    dims = [*[1] * (len(repeats) - b.rank(x)), *b.shape(x)]
    return b.op("Tile", b.reshape(x, dims), [as_dim(r) for r in repeats])


@aten("tile")
def tile(b: Build, x: Item, dims: Sequence[Dim]) -> Item:
    return repeat(b, x, [*[1] * (b.rank(x) - len(dims)), *dims])


@aten("repeat_interleave.self_int")
def repeat_interleave(b: Build, x: Item, repeats: Dim, dim: int | None = None, output_size: object = None) -> Item:
    if dim is None:
        x, dim = b.reshape(x, (as_dim(product(b.shape(x))),)), 0
    at = b.axis(dim, b.rank(x))
    dims = b.shape(x)
    wide = b.expand(b.unsqueeze(x, at + 1), (*dims[: at + 1], repeats, *dims[at + 1 :]))
    return b.reshape(wide, (*dims[:at], as_dim(product((dims[at], repeats))), *dims[at + 1 :]))


# -- padding ----------------------------------------------------------------------------------------------------------


@aten("pad", "constant_pad_nd")
def pad(b: Build, x: Item, pad: Sequence[Dim], mode: str = "constant", value: Number | None = None) -> Item:
    """`pad` has (before, after) of the last dimension first."""
    count, rank = len(pad) // 2, b.rank(x)
    pairs = [(pad[2 * i], pad[2 * i + 1]) for i in reversed(range(count))]
    amounts: list[Dim] = [*[0] * (rank - count), *(p[0] for p in pairs), *[0] * (rank - count), *(p[1] for p in pairs)]
    if all(isinstance(a, int) and a == 0 for a in amounts):
        return x
    onnx_mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    filled = b.tensor(value, b.dtype(x)) if mode == "constant" and value else None
    return b.op("Pad", x, amounts, filled, mode=onnx_mode)


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(b: Build, x: Item, padding: Sequence[Dim]) -> Item:
    return pad(b, x, padding, "reflect")


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(b: Build, x: Item, padding: Sequence[Dim]) -> Item:
    return pad(b, x, padding, "replicate")


__all__ = ["cat", "expand", "flatten", "pad", "ranges", "select", "select_scatter", "slice_scatter", "transpose"]
