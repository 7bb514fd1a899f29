"""If, Loop and Scan whose course is known while importing: the branch that runs, or the rounds one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.expr import Expr
from ...ir.ops.arith import Where
from ...ir.ops.shape import Concat, Reshape, Slice
from .flow import choose, for_each, repeat
from .flow import scan as dynamic_scan
from .node import Node, converter
from .scope import Item, Unsupported
from .windows import fixed

MAX_ROUNDS = 1024  # rounds of a loop up to which it is unrolled

# Nodes that a branch may have which is computed whether it is taken or not.
_CHEAP = frozenset("Constant Identity Add Sub Mul Div Neg Abs Relu Cast Min Max And Or Not Sqrt Exp".split())  # noqa: SIM905


@converter("If")
def if_(node: Node) -> list[Item]:
    """If: the branch that is taken; where that is data, both, and a choice between their results."""
    condition = node.maybe_array(0)
    if condition is not None:
        if condition.size != 1:
            raise node.error(f"expected one condition, got {node.type(0)}")
        return node.inline("then_branch" if bool(condition.reshape(-1)[0]) else "else_branch", [])
    if not all(_is_cheap(node.graph(name)) for name in ("then_branch", "else_branch")):
        return choose(node)
    then, otherwise = node.inline("then_branch", []), node.inline("else_branch", [])
    pairs = list(zip(then, otherwise, strict=True))
    choice = node.value(0)
    if choice.tensor.shape != ():
        choice = node.make(Reshape, choice, ())
    value = node.scope.item_value
    if any(a.parts is not None or b.parts is not None or a.type != b.type or a.type.shape is None for a, b in pairs):
        found = choose(node)
        for item, (a, b) in zip(found, pairs, strict=True):
            if item.is_tensor and item.type.shape is None and _is_single(a) and _is_single(b):
                scalars = [node.make(Reshape, value(i), ()) for i in (a, b)]
                item.single = node.make(Where, choice, *scalars), max(len(a.type.dims), len(b.type.dims))
        return found
    return [Item(value=node.make(Where, choice, value(a), value(b))) for a, b in pairs]


def _is_single(item: Item) -> bool:
    """Whether it is a tensor of known rank with one element."""
    return item.is_tensor and item.type.shape is not None and all(d == 1 for d in item.type.dims)


def _is_cheap(graph: GraphProto) -> bool:
    """Whether a branch may as well be computed when the other one is taken."""
    return len(graph.node) <= 4 and all(n.op_type in _CHEAP for n in graph.node)


@converter("Loop")
def loop(node: Node) -> list[Item | None]:
    """Loop with a known number of rounds, or until a condition that is known in every round."""
    try:
        return _unrolled(node)
    except _UnknownCourse:
        return [*repeat(node)]


class _UnknownCourse(Exception):
    """Only the run knows how many rounds there are."""


def _unrolled(node: Node) -> list[Item | None]:
    body = node.graph("body")
    limit = _limit(node)
    carried = [node.item(i) for i in range(2, len(node.proto.input))]
    going = True
    if node.has(1):
        going = _truth(node, node.item(1))
    collected: list[list[Item]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    round = 0
    while going and (limit is None or round < limit):
        if round >= MAX_ROUNDS:
            raise _UnknownCourse
        number = Item(data=ConstantData.of(np.array(round, np.int64)))
        condition = Item(data=ConstantData.of(np.array(True)))
        results = node.inline("body", [number, condition, *carried])
        carried = results[1 : 1 + len(carried)]
        for column, item in zip(collected, results[1 + len(carried) :], strict=True):
            column.append(item)
        round += 1
        if limit is None or round < limit:
            going = _truth(node, results[0])
    return [*carried, *(_stacked(node, column, 0) for column in collected)]


def _limit(node: Node) -> int | None:
    if not node.has(0):
        return None
    array = node.maybe_array(0)
    if array is None:
        raise _UnknownCourse
    return int(array.reshape(-1)[0])


def _truth(node: Node, item: Item) -> bool:
    array = node.scope.item_array(item)
    if array is None:
        raise _UnknownCourse
    return bool(array.reshape(-1)[0])


def _stacked(node: Node, items: Sequence[Item], axis: int) -> Item | None:
    """Values of all rounds side by side along a new dimension; None for no rounds."""
    if not items:
        return None
    values = [node.scope.item_value(item) for item in items]
    parts: list[Value] = []
    for v in values:
        dims = node.dims_of(v)
        parts.append(node.make(Reshape, v, (*dims[:axis], 1, *dims[axis:])))
    return Item(value=parts[0] if len(parts) == 1 else node.make(Concat, tuple(parts), axis))


@converter("Scan")
def scan(node: Node) -> list[Item | None]:
    """Scan over inputs of a known length; before opset 9 with a batch in front."""
    if node.opset < 9:
        return _batched_scan(node)
    count = node.integer("num_scan_inputs")
    states = [node.item(i) for i in range(len(node.proto.input) - count)]
    inputs = [node.value(i) for i in range(len(states), len(node.proto.input))]
    axes = node.ints("scan_input_axes", [0] * count)
    axes = [node.axis(a, len(node.dims_of(x))) for a, x in zip(axes, inputs, strict=True)]
    directions = node.ints("scan_input_directions", [0] * count)
    lengths = [node.dims_of(x)[a] for a, x in zip(axes, inputs, strict=True)]
    if any(isinstance(n, Expr) or n > MAX_ROUNDS for n in lengths):
        return [*dynamic_scan(node, states, inputs, axes, directions)]
    return _rounds(node, states, inputs, axes, directions)


def _rounds(
    node: Node, states: list[Item], inputs: list[Value], axes: Sequence[int], directions: Sequence[int]
) -> list[Item | None]:
    lengths = {fixed(node, node.dims_of(x)[a], "the length of a scan") for a, x in zip(axes, inputs, strict=True)}
    if len(lengths) != 1:
        raise node.error(f"expected scan inputs of one length, got {sorted(lengths)}")
    (length,) = lengths
    if length > MAX_ROUNDS:
        raise Unsupported(f"a scan of more than {MAX_ROUNDS} rounds")
    outputs = len(node.graph("body").output) - len(states)
    collected: list[list[Item]] = [[] for _ in range(outputs)]
    for i in range(length):
        at = [length - 1 - i if d else i for d in directions]
        parts = [Item(value=_part(node, x, a, n)) for x, a, n in zip(inputs, axes, at, strict=True)]
        results = node.inline("body", [*states, *parts])
        states = results[: len(states)]
        for column, item in zip(collected, results[len(states) :], strict=True):
            column.append(item)
    kinds = node.ints("scan_output_directions", [0] * outputs)
    places = node.ints("scan_output_axes", [0] * outputs)
    columns = [c[::-1] if d else c for c, d in zip(collected, kinds, strict=True)]
    stacked: list[Item | None] = []
    for column, place in zip(columns, places, strict=True):
        rank = len(node.dims_of(node.scope.item_value(column[0]))) + 1 if column else 1
        stacked.append(_stacked(node, column, node.axis(place, rank)))
    return [*states, *stacked]


def _part(node: Node, x: Value, axis: int, index: int) -> Value:
    """Element `index` along `axis`, without that dimension."""
    dims = node.dims_of(x)
    starts = tuple(index if i == axis else 0 for i in range(len(dims)))
    stops = tuple(index + 1 if i == axis else d for i, d in enumerate(dims))
    cut = node.make(Slice, x, starts, stops, (1,) * len(dims))
    return node.make(Reshape, cut, tuple(d for i, d in enumerate(dims) if i != axis))


def _batched_scan(node: Node) -> list[Item | None]:
    """Scan of opset 8: sequence lengths, then states and inputs with a batch dimension in front."""
    if node.has(0):
        raise Unsupported("Scan with lengths of sequences")
    count = node.integer("num_scan_inputs")
    values = [node.value(i) for i in range(1, len(node.proto.input))]
    directions = node.ints("directions", [0] * count)

    def convert(parts: list[Value]) -> list[Item | None]:
        states, inputs = [Item(value=v) for v in parts[: len(parts) - count]], parts[len(parts) - count :]
        if all(isinstance(node.dims_of(x)[0], int) for x in inputs):
            return _rounds(node, states, inputs, [0] * count, directions)
        return [*dynamic_scan(node, states, inputs, [0] * count, directions)]

    batch = node.dims_of(values[0])[0]
    if isinstance(batch, Expr):
        return [*for_each(node, values, convert)]
    rows = [convert([_part(node, v, 0, n) for v in values]) for n in range(batch)]
    return [_stacked(node, [r for r in column if r is not None], 0) for column in zip(*rows, strict=True)]
