"""Sequences and optionals. Those of known length are tuples of values while importing, and nothing of them is left in
what is compiled; all others are values that the C runtime handles."""

from __future__ import annotations

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.expr import Expr, sym
from ...ir.ops.host import joined, sequences
from ...ir.ops.shape import Concat, Reshape
from ...ir.types import OptionalType, SequenceType, TensorType, Type
from .flow import map_values
from .node import Node, converter
from .scope import Item, Unsupported
from .shape import cut


def _parts(node: Node, index: int) -> tuple[Item, ...] | None:
    """The elements of a sequence, where their number is known."""
    item = node.item(index)
    if item.parts is None and (item.value is None or not isinstance(item.value.type, SequenceType)):
        raise node.error(f"expected a sequence as input {index}, got {item.type}")
    return item.parts


def _position(node: Node, index: int, length: int) -> int | None:
    """A position counted from the start; None where only the run knows it."""
    array = node.maybe_array(index)
    if array is None:
        return None
    at = int(array.reshape(-1)[0])
    if not -length <= at < length:
        raise node.error(f"position: expected a number in {-length}..{length - 1}, got {at}")
    return at % length


def _sequence(node: Node, index: int) -> tuple[Value, Type]:
    """A sequence as a value, and the type of its elements."""
    value = node.value(index)
    if not isinstance(value.type, SequenceType):
        raise node.error(f"expected a sequence as input {index}, got {value.type}")
    return value, value.type.item


@converter("SequenceConstruct")
def construct(node: Node) -> Item:
    """SequenceConstruct: the inputs."""
    return Item(parts=tuple(node.item(i) for i in range(node.count)))


@converter("SequenceEmpty")
def empty(node: Node) -> Item:
    """SequenceEmpty."""
    return Item(parts=(), dtype=node.dtype(node.integer("dtype", 1)))


@converter("SequenceLength")
def length(node: Node) -> ConstantData | Value:
    """SequenceLength."""
    parts = _parts(node, 0)
    if parts is None:
        return node.host(sequences.SequenceLength, node.value(0))[0]
    return ConstantData.of(np.array(len(parts), np.int64))


@converter("SequenceAt")
def at(node: Node) -> Item:
    """SequenceAt a position."""
    parts = _parts(node, 0)
    if parts == ():
        raise node.error("the sequence is empty")
    place = None if parts is None else _position(node, 1, len(parts))
    if parts is not None and place is not None:
        return parts[place]
    value, item = _sequence(node, 0)
    type, sizes = node.renewed(item)
    return Item(value=node.host(sequences.SequenceAt, value, node.value(1), sizes, types=[type])[0])


@converter("SequenceInsert")
def insert(node: Node) -> Item:
    """SequenceInsert at a position, by default at the end."""
    parts = _parts(node, 0)
    if parts is not None and (not node.has(2) or node.maybe_array(2) is not None):
        listed = list(parts)
        place = _position(node, 2, len(parts) + 1) if node.has(2) else len(parts)
        assert place is not None
        if node.has(2) and int(node.array(2).reshape(-1)[0]) < 0:  # counts from the end of the sequence before
            place = int(node.array(2).reshape(-1)[0]) + len(parts)
        listed.insert(place, node.item(1))
        return Item(parts=tuple(listed))
    value, item = _sequence(node, 0)
    x = node.value(1)
    item = x.type if parts == () else joined(item, x.type, lambda: node.size("item"))[0]
    args = (value, x, node.optional(2))
    return Item(value=node.host(sequences.SequenceInsert, *args, types=[SequenceType(item)])[0])


@converter("SequenceErase")
def erase(node: Node) -> Item:
    """SequenceErase at a position, by default the last one."""
    parts = _parts(node, 0)
    if parts == ():
        raise node.error("the sequence is empty")
    place = None if parts is None else _position(node, 1, len(parts)) if node.has(1) else len(parts) - 1
    if parts is not None and place is not None:
        return Item(parts=(*parts[:place], *parts[place + 1 :]))
    return Item(value=node.host(sequences.SequenceErase, node.value(0), node.optional(1))[0])


@converter("ConcatFromSequence")
def concat(node: Node) -> Item:
    """ConcatFromSequence, along an axis or a new one."""
    parts, fresh = _parts(node, 0), node.integer("new_axis", 0) != 0
    if parts is None:
        return _concat_values(node, fresh)
    values = [node.scope.item_value(item) for item in parts]
    if not values:
        raise node.error("the sequence is empty")
    rank = len(node.dims_of(values[0])) + fresh
    axis = node.axis(node.integer("axis"), rank)
    if fresh:
        values = [node.make(Reshape, v, (*node.dims_of(v)[:axis], 1, *node.dims_of(v)[axis:])) for v in values]
    return Item(value=values[0] if len(values) == 1 else node.make(Concat, tuple(values), axis))


def _concat_values(node: Node, fresh: bool) -> Item:
    value, item = _sequence(node, 0)
    axis, type, sizes = node.integer("axis"), item, ()
    if isinstance(item, TensorType) and item.shape is not None:
        rank = len(item.shape) + fresh
        axis = node.axis(axis, rank)
        dims = [*item.shape[:axis], *([None] if fresh else []), *item.shape[axis:]]
        dims[axis] = None  # as many as there are elements, or as they have together
        names = {i: node.size(str(i)) for i, d in enumerate(dims) if d is None or isinstance(d, Expr)}
        type = TensorType(
            item.dtype, tuple(sym(names[i]) if d is None or i in names else d for i, d in enumerate(dims))
        )
        sizes = tuple(names.values())
    args = (value, axis, int(fresh), sizes)
    return Item(value=node.host(sequences.ConcatFromSequence, *args, types=[type])[0])


@converter("SplitToSequence")
def split(node: Node) -> Item:
    """SplitToSequence: by a size, by sizes, or in slices of 1 that may lose their dimension."""
    x, dims = node.value(0), node.shape(0)
    axis = node.axis(node.integer("axis", 0), len(dims))
    size = dims[axis]
    given = node.maybe_array(1) if node.has(1) else None
    keep = node.has(1) or node.integer("keepdims", 1) != 0
    if isinstance(size, Expr) or (node.has(1) and given is None):
        rest = tuple(sym(node.size(str(axis))) if i == axis else d for i, d in enumerate(dims) if keep or i != axis)
        if not node.has(1) and keep:
            rest = tuple(1 if i == axis else d for i, d in enumerate(dims))
        types = [SequenceType(TensorType(x.tensor.dtype, rest))]
        return Item(value=node.host(sequences.SplitToSequence, x, node.optional(1), axis, int(keep), types=types)[0])
    if given is None:
        sizes = [1] * size
    elif given.ndim == 0:
        step = int(given)
        if step < 1:
            raise node.error(f"split: expected a size of at least 1, got {step}")
        sizes = [min(step, size - i) for i in range(0, size, step)]
    else:
        sizes = [int(n) for n in given]
    return _cut_parts(node, x, axis, sizes, keep)


def _cut_parts(node: Node, x: Value, axis: int, sizes: list[int], keep: bool) -> Item:
    dims = node.dims_of(x)
    if sum(sizes) != dims[axis]:
        raise node.error(f"expected sizes that sum up to {dims[axis]}, got {sizes}")
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
    if first is None or any(c.parts is None and not c.is_tensor for c in columns):
        return map_values(node, columns)
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


def _optional(node: Node, index: int) -> Value | None:
    """An optional of which only the run knows whether it holds something."""
    value = node.item(index).value
    return value if value is not None and isinstance(value.type, OptionalType) else None


@converter("OptionalHasElement")
def has_element(node: Node) -> ConstantData | Value:
    """OptionalHasElement."""
    value = _optional(node, 0) if node.has(0) else None
    if value is not None:
        return node.host(sequences.OptionalHas, value)[0]
    return ConstantData.of(np.array(node.has(0) and node.item(0).parts != ()))


@converter("OptionalGetElement")
def get_element(node: Node) -> Item:
    """OptionalGetElement: the value itself."""
    value = _optional(node, 0)
    if value is not None:
        assert isinstance(value.type, OptionalType)
        type, sizes = node.renewed(value.type.item)
        return Item(value=node.host(sequences.OptionalGet, value, sizes, types=[type])[0])
    item = node.item(0)
    if item.parts == ():
        raise Unsupported("the element of an optional that is empty")
    return item
