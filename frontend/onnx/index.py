"""Reads and writes at positions that are data: gather, scatter, cumulative sums."""

from __future__ import annotations

import numpy as np

from ...ir.core import Value
from ...ir.ops.shape import CumSum, Gather, GatherElements, GatherND, ScatterElements, ScatterND
from .node import Node, converter
from .scope import Unsupported


def _indices(node: Node, index: int, size: object) -> Value:
    """The indices; constant ones that count from the end are made non-negative, and checked."""
    data = node.scope.array(node.proto.input[index]) if node.has(index) else None
    if data is None or not isinstance(size, int) or data.size == 0:
        return node.value(index)
    low, high = int(data.min()), int(data.max())
    if low < -size or high >= size:
        raise node.error(f"input {index}: expected indices in {-size}..{size - 1}, got {low if low < -size else high}")
    if low >= 0:
        return node.value(index)
    return node.literal(np.where(data < 0, data + size, data).astype(data.dtype))


@converter("Gather")
def gather(node: Node) -> Value:
    """Gather along an axis."""
    rank = node.rank(0)
    if rank == 0:
        raise node.error("expected an input of rank 1 or more, got a scalar")
    axis = node.axis(node.integer("axis", 0), rank)
    return node.make(Gather, node.value(0), _indices(node, 1, node.shape(0)[axis]), axis)


@converter("GatherElements")
def gather_elements(node: Node) -> Value:
    """GatherElements along an axis."""
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    return node.make(GatherElements, node.value(0), _indices(node, 1, node.shape(0)[axis]), axis)


@converter("GatherND")
def gather_nd(node: Node) -> Value:
    """GatherND."""
    return node.make(GatherND, node.value(0), node.value(1), node.integer("batch_dims", 0))


@converter("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Value:
    """ScatterElements along an axis, with a reduction."""
    axis = node.axis(node.integer("axis", 0), node.rank(0))
    operands = (node.value(0), _indices(node, 1, node.shape(0)[axis]), node.value(2))
    return node.make(ScatterElements, *operands, axis, _reduction(node))


@converter("ScatterND")
def scatter_nd(node: Node) -> Value:
    """ScatterND, with a reduction."""
    return node.make(ScatterND, node.value(0), node.value(1), node.value(2), _reduction(node))


def _reduction(node: Node) -> str:
    reduction = node.string("reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        raise node.error(f"reduction: expected none, add, mul, max or min, got {reduction!r}")
    return reduction


@converter("CumSum")
def cum_sum(node: Node) -> Value:
    """CumSum along a known axis."""
    axes = node.ints_input(1, "the axis")
    if len(axes) != 1:
        raise Unsupported("CumSum along several axes")
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    return node.make(CumSum, node.value(0), node.axis(axes[0], node.rank(0)), exclusive, reverse)
