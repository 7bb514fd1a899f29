"""Col2Im and MaxUnpool where only the run knows sizes: every element goes to a place that is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.assume import require_zero
from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, floordiv, product
from ...ir.ops.shape import Expand, Reshape, ScatterElements, Slice
from .calc import Calc, scalar
from .computed import computed, vector
from .declared import data, element
from .node import Node
from .windows import lengths, read_pads

__all__ = ["col2im_computed"]


@computed("Col2Im")
def col2im_computed(node: Node) -> Value:
    """Col2Im: the sum, at each place of the picture, of the elements of all blocks that cover it."""
    dims = node.shape(0)
    if len(dims) != 3:
        raise node.error(f"expected columns of rank 3 (batch, channels * block, blocks), got {node.type(0)}")
    node.expect_length(2, node.shape(1)[0], "block_shape")
    image, block = (_sizes(node, i, what) for i, what in ((1, "image"), (2, "block")))
    space = len(image)
    if len(block) != space:
        raise node.error(f"expected as many sizes of blocks as of the image, got {len(block)} and {space}")
    strides, dilations, pads = (
        lengths(node, "strides", space),
        lengths(node, "dilations", space),
        read_pads(node, space),
    )
    counts: list[Dim] = []
    for i, b, s, d, p in zip(image, block, strides, dilations, pads, strict=True):
        counts.append(as_dim(floordiv(as_expr(i) + sum(p) - (as_expr(b) - 1) * d - 1, s) + 1))
    if any(isinstance(n, Expr) for n in counts):  # as symbols: products of sums would have more and more terms
        counts = node.sizes(vector(node, [scalar(node, n, "i64") for n in counts]).settled(), "counts")
    size, places = product(block), product(counts)
    channels = floordiv(dims[1], size)
    require_zero(as_expr(dims[1]) - channels * size)
    require_zero(as_expr(dims[2]) - places)
    (channels,) = node.sizes(vector(node, [scalar(node, as_dim(channels), "i64")]).settled(), "channels")
    flat, inside = _targets(node, image, [*zip(block, counts, strides, dilations, pads, strict=True)])
    total = as_dim(product(image))
    rows, width = as_dim(as_expr(dims[0]) * channels), as_dim(as_expr(size) * places)
    index = inside.where(flat, scalar(node, total, "i64")).reshaped(1, width)  # what is outside: one place at the end
    index = Calc(node, node.make(Expand, index.value, (rows, width)))
    x = node.make(Reshape, node.value(0), (rows, width))
    empty = node.make(Expand, node.splat(0, x.tensor.dtype), (rows, as_dim(as_expr(total) + 1)))
    summed = node.make(ScatterElements, empty, index.value, x, 1, "add")
    return node.make(Reshape, node.make(Slice, summed, (0, 0), (rows, total), (1, 1)), (dims[0], channels, *image))


def _sizes(node: Node, index: int, what: str) -> list[Dim]:
    array = node.maybe_array(index)
    return [int(n) for n in array.reshape(-1)] if array is not None else node.sizes(data(node, index).settled(), what)


_Axis = tuple[Dim, Dim, int, int, tuple[int, int]]  # size of the block, blocks, stride, dilation, padding


def _targets(node: Node, image: Sequence[Dim], axes: Sequence[_Axis]) -> tuple[Calc, Calc]:
    """The number in the picture of element (block..., blocks...), and whether it lies inside."""
    rank = len(axes)
    flat, inside = Calc(node, node.splat(0, "i64")), Calc(node, node.splat(True, "bool"))
    for i, (size, (block, count, stride, dilation, pads)) in enumerate(zip(image, axes, strict=True)):
        tap = Calc.iota(node, block, "i64").reshaped(*(block if d == i else 1 for d in range(2 * rank)))
        start = Calc.iota(node, count, "i64").reshaped(*(count if d == rank + i else 1 for d in range(2 * rank)))
        at, have = start * stride + tap * dilation - pads[0], scalar(node, size, "i64")
        flat = flat * have + at
        inside = inside & (at >= 0) & (at < have)
    return flat, inside


def computed_shape(node: Node, index: int, rank: int) -> tuple[Dim, ...]:
    """The shape that an input of `rank` numbers gives, as sizes that the run finds."""
    wanted = data(node, index)
    if node.dims_of(wanted.value) != (rank,):
        raise node.error(f"input {index}: expected {rank} numbers, got {node.type(index)}")
    return tuple(node.sizes(vector(node, [element(wanted, i) for i in range(rank)]).settled(), "shape"))
