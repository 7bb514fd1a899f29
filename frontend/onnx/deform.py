"""DeformConv: samples at places that are data, then a product with the weights for each group."""

from __future__ import annotations

from ...ir.assume import assume_equal
from ...ir.core import Value
from ...ir.expr import as_dim, as_expr, floordiv, product
from ...ir.ops.arith import Add
from ...ir.ops.deform import DeformSample
from ...ir.ops.linalg import MatMul
from ...ir.ops.shape import Reshape
from .node import Node, converter
from .scope import Unsupported
from .windows import kernel_shape, read_pads

__all__ = ["deform_conv"]


@converter("DeformConv")
def deform_conv(node: Node) -> Value:
    """DeformConv over pictures, with groups, groups of offsets, a mask and a bias."""
    if node.rank(0) != 4:
        raise Unsupported(f"DeformConv over {node.rank(0) - 2} dimensions")
    weight = node.value(1)
    given = node.has_attribute("kernel_shape")
    rows, columns = kernel_shape(node, None if given else node.shape(1)[2:], 2)
    for size, tap in zip(node.shape(1)[2:], (rows, columns), strict=True):
        assume_equal(size, tap)
    (top, _), (left, _) = read_pads(node, 2)
    strides, dilations = node.ints("strides", [1, 1]), node.ints("dilations", [1, 1])
    group, offsets = node.integer("group", 1), node.integer("offset_group", 1)
    sampled = node.make(
        DeformSample, node.value(0), node.value(2), node.optional(4), (rows, columns), tuple(strides), (top, left),
        tuple(dilations), offsets,
    )  # fmt: skip
    n, channels, *_, height, width = node.dims_of(sampled)
    filters, depth = node.shape(1)[:2]
    if group > 0:
        assume_equal(as_dim(as_expr(depth) * group), channels)
    if group < 1 or (isinstance(filters, int) and filters % group):
        raise node.error(f"expected weights for {channels} channels in {group} groups, got {node.type(1)}")
    inner = product((floordiv(as_expr(channels), group), rows, columns))
    seen = node.make(Reshape, sampled, (n, group, as_dim(inner), as_dim(product((height, width)))))
    flat = node.make(Reshape, weight, (1, group, as_dim(floordiv(as_expr(filters), group)), as_dim(inner)))
    y = node.make(Reshape, node.make(MatMul, flat, seen), (n, filters, height, width))
    return node.make(Add, y, node.make(Reshape, node.value(3), (filters, 1, 1))) if node.has(3) else y
