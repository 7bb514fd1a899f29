"""Operators whose results share memory with their operand, and how a change of the result changes the operand.

What a view does to elements is undone by the functions here; they are needed only for programs that change tensors in
place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir.expr import as_dim, as_expr
from .base import Build, Item

COPIES = frozenset(
    {
        "aten.reshape.default",
        "aten.contiguous.default",
        "aten.flatten.using_ints",
        "aten.to.dtype",
        "aten.type_as.default",
    }
)
"""What may share memory or not: that depends on strides."""
_SAME = frozenset({"aten.alias.default", "aten.detach.default", "aten.positive.default", "aten.data.default"})
_SHAPED = frozenset(
    {
        "aten.view.default", "aten._unsafe_view.default", "aten.unsqueeze.default", "aten.squeeze.default",
        "aten.squeeze.dim", "aten.squeeze.dims", "aten.unflatten.int", "aten.view_as.default",
    }
)  # fmt: skip
_TURNED = frozenset({"aten.transpose.int", "aten.t.default", "aten.mT.default", "aten.permute.default",
                     "aten.numpy_T.default", "aten.swapaxes.default"})  # fmt: skip
_PARTS = frozenset({"aten.slice.Tensor", "aten.select.int", "aten.narrow.default", "aten.unbind.int",
                    "aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default",
                    "aten.split.sizes"})  # fmt: skip
_SPREAD = frozenset({"aten.expand.default", "aten.expand_as.default", "aten.diagonal.default", "aten.unfold.default",
                     "aten.movedim.int", "aten.movedim.intlist", "aten.broadcast_to.default"})  # fmt: skip
VIEWS = COPIES | _SAME | _SHAPED | _TURNED | _PARTS | _SPREAD


def back(b: Build, target: str, inputs: dict[str, Any], index: int) -> Callable[[Item, Item], Item] | None:
    """What makes of (base, changed view) the changed base; `index` says which of several results is the view."""
    if target in _SAME:
        return lambda base, new: new
    if target in _SHAPED:
        return lambda base, new: b.reshape(new, b.shape(base))
    if target in _TURNED:
        return lambda base, new: b.permute(new, _inverse(b, target, inputs, base))
    if target in _PARTS:
        return lambda base, new: _replaced(b, target, inputs, index, base, new)
    return None


def _inverse(b: Build, target: str, inputs: dict[str, Any], base: Item) -> list[int]:
    rank = b.rank(base)
    order = list(range(rank))
    if target == "aten.permute.default":
        order = [b.axis(d, rank) for d in inputs["dims"]]
    elif target == "aten.numpy_T.default":
        order.reverse()
    else:
        first, second = inputs.get("dim0", inputs.get("axis0", -2)), inputs.get("dim1", inputs.get("axis1", -1))
        if rank >= 2:
            i, j = b.axis(first, rank), b.axis(second, rank)
            order[i], order[j] = j, i
    return [order.index(i) for i in range(rank)]


def _replaced(b: Build, target: str, inputs: dict[str, Any], index: int, base: Item, new: Item) -> Item:
    """`base` with a part of one dimension replaced."""
    from .shape import ranges, select_scatter, slice_scatter

    dim = inputs.get("dim", 0)
    if target == "aten.select.int":
        return select_scatter(b, base, new, dim, inputs["index"])
    if target == "aten.unbind.int":
        return select_scatter(b, base, new, dim, index)
    if target == "aten.slice.Tensor":
        return slice_scatter(b, base, new, dim, inputs.get("start"), inputs.get("end"), inputs.get("step", 1))
    if target == "aten.narrow.default":
        start = inputs["start"]
        return slice_scatter(b, base, new, dim, start, as_dim(as_expr(start) + inputs["length"]))
    size = b.shape(base)[b.axis(dim, b.rank(base))]
    wanted = inputs.get("split_size", inputs.get("split_sizes"))
    start, stop = ranges(size, wanted, inputs.get("chunks"))[index]
    return slice_scatter(b, base, new, dim, start, stop)


__all__ = ["COPIES", "VIEWS", "back"]
