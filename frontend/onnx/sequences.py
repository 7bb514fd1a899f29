"""Sequences and optionals: tuples of values while importing; nothing of them is left in what is compiled."""

from __future__ import annotations

import numpy as np

from ...ir.constants import ConstantData
from ...ir.ops.shape import Concat, Reshape
from .node import Node, converter
from .scope import Item, Unsupported
from .shape import cut
from .windows import fixed


def _parts(node: Node, index: int) -> tuple[Item, ...]:
    item = node.item(index)
    if item.parts is None:
        raise node.error(f"expected a sequence as input {index}, got {item.type}")
    return item.parts


def _position(node: Node, index: int, length: int) -> int:
    at = int(node.array(index, "the position").reshape(-1)[0])
    if not -length <= at < length:
        raise node.error(f"position: expected a number in {-length}..{length - 1}, got {at}")
    return at % length


@converter("SequenceConstruct")
def construct(node: Node) -> Item:
    """SequenceConstruct: the inputs."""
    return Item(parts=tuple(node.item(i) for i in range(node.count)))


@converter("SequenceEmpty")
def empty(node: Node) -> Item:
    """SequenceEmpty."""
    return Item(parts=())


@converter("SequenceLength")
def length(node: Node) -> ConstantData:
    """SequenceLength: known while importing."""
    return ConstantData.of(np.array(len(_parts(node, 0)), np.int64))


@converter("SequenceAt")
def at(node: Node) -> Item:
    """SequenceAt a known position."""
    parts = _parts(node, 0)
    if not parts:
        raise node.error("the sequence is empty")
    return parts[_position(node, 1, len(parts))]


@converter("SequenceInsert")
def insert(node: Node) -> Item:
    """SequenceInsert at a known position, by default at the end."""
    parts = list(_parts(node, 0))
    place = _position(node, 2, len(parts) + 1) if node.has(2) else len(parts)
    if node.has(2) and int(node.array(2).reshape(-1)[0]) < 0:  # counts from the end of the sequence before
        place = int(node.array(2).reshape(-1)[0]) + len(parts)
    parts.insert(place, node.item(1))
    return Item(parts=tuple(parts))


@converter("SequenceErase")
def erase(node: Node) -> Item:
    """SequenceErase at a known position, by default the last one."""
    parts = list(_parts(node, 0))
    if not parts:
        raise node.error("the sequence is empty")
    del parts[_position(node, 1, len(parts)) if node.has(1) else -1]
    return Item(parts=tuple(parts))


@converter("ConcatFromSequence")
def concat(node: Node) -> Item:
    """ConcatFromSequence, along an axis or a new one."""
    values = [node.scope.item_value(item) for item in _parts(node, 0)]
    if not values:
        raise node.error("the sequence is empty")
    fresh = node.integer("new_axis", 0) != 0
    rank = len(node.dims_of(values[0])) + fresh
    axis = node.axis(node.integer("axis"), rank)
    if fresh:
        values = [node.make(Reshape, v, (*node.dims_of(v)[:axis], 1, *node.dims_of(v)[axis:])) for v in values]
    return Item(value=values[0] if len(values) == 1 else node.make(Concat, tuple(values), axis))


@converter("SplitToSequence")
def split(node: Node) -> Item:
    """SplitToSequence: by a size, by sizes, or in slices of 1 that may lose their dimension."""
    x, dims = node.value(0), node.shape(0)
    axis = node.axis(node.integer("axis", 0), len(dims))
    size = fixed(node, dims[axis], "the dimension that is split")
    keep = True
    if not node.has(1):
        sizes, keep = [1] * size, node.integer("keepdims", 1) != 0
    else:
        given = node.array(1, "the sizes")
        if given.ndim == 0:
            step = int(given)
            if step < 1:
                raise node.error(f"split: expected a size of at least 1, got {step}")
            sizes = [min(step, size - i) for i in range(0, size, step)]
        else:
            sizes = [int(n) for n in given]
    if sum(sizes) != size:
        raise node.error(f"expected sizes that sum up to {size}, got {sizes}")
    parts: list[Item] = []
    start = 0
    for n in sizes:
        part = cut(node, x, [(start, start + n, 1) if i == axis else (0, d, 1) for i, d in enumerate(dims)])
        if not keep:
            part = node.make(Reshape, part, tuple(d for i, d in enumerate(dims) if i != axis))
        parts.append(Item(value=part))
        start += n
    return Item(parts=tuple(parts))


@converter("SequenceMap")
def map_(node: Node) -> list[Item]:
    """SequenceMap: the body for each element; inputs that are no sequences are the same for all."""
    first = _parts(node, 0)
    columns = [node.item(i) for i in range(node.count)]
    rows: list[list[Item]] = []
    for i in range(len(first)):
        if any(c.parts is not None and len(c.parts) != len(first) for c in columns):
            raise node.error("expected sequences of one length")
        rows.append(node.inline("body", [c if c.parts is None else c.parts[i] for c in columns]))
    count = len(node.proto.output)
    return [Item(parts=tuple(row[i] for row in rows)) for i in range(count)]


@converter("Optional")
def optional(node: Node) -> Item:
    """Optional: the value itself, or nothing."""
    return node.item(0) if node.has(0) else Item(parts=())


@converter("OptionalHasElement")
def has_element(node: Node) -> ConstantData:
    """OptionalHasElement: known while importing."""
    return ConstantData.of(np.array(node.has(0) and node.item(0).parts != ()))


@converter("OptionalGetElement")
def get_element(node: Node) -> Item:
    """OptionalGetElement: the value itself."""
    item = node.item(0)
    if item.parts == ():
        raise Unsupported("the element of an optional that may be empty")
    return item
