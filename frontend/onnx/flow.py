"""Control flow whose course only the run knows: If, Loop, Scan and SequenceMap as operations with regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.assume import require_zero
from ...ir.core import Op, Region, Value, Yield
from ...ir.errors import VerifyError
from ...ir.expr import Dim, as_expr
from ...ir.ops.host import Check, If, Loop, fixed_point, sequences
from ...ir.ops.shape import Gather, Reshape, Transpose
from ...ir.types import OptionalType, SequenceType, TensorType, Type
from .calc import Calc, scalar
from .node import Node
from .scope import Item

_ROUND = TensorType("i64", ())


def choose(node: Node) -> list[Item]:
    """If: one of two regions."""
    condition = _scalar(node, node.value(0))
    regions: list[Region] = []
    for name in ("then_branch", "else_branch"):
        region, values = node.region(name, [], [], [])
        region.append(Yield(tuple(values)))
        regions.append(region)
    return _items(node, lambda: If.build(condition, regions[0], regions[1], lambda: node.size("dim"), node.loc))


def _scalar(node: Node, x: Value) -> Value:
    return x if x.tensor.shape == () else node.make(Reshape, x, ())


def _items(node: Node, build: object) -> list[Item]:
    try:
        op = build() if callable(build) else None
    except VerifyError as e:
        raise node.error(str(e)) from e
    assert isinstance(op, Op)
    node.scope.builder.insert(op)
    return [Item(value=r) for r in op.results]


def repeat(node: Node) -> list[Item]:
    """Loop: a region that runs again and again."""
    limit = _scalar(node, node.value(0)) if node.has(0) else None
    condition = _scalar(node, node.value(1)) if node.has(1) else None
    going = node.literal(np.array(True))
    carried = node.carried("body", [node.item(i) for i in range(2, len(node.proto.input))], 2)

    def make(types: Sequence[Type]) -> Region:
        region, (again, *values) = node.region("body", [_ROUND, *types], [1], [going])
        for i, (v, t) in enumerate(zip(values, types, strict=False)):
            if isinstance(t, OptionalType) and not isinstance(v.type, OptionalType):
                made = sequences.OptionalMake(v, types=[OptionalType(v.type)], loc=node.loc)
                values[i] = region.append(made).result
        region.append(Yield((_inside(node, region, again), *values)))
        return region

    return _loop(node, limit, condition, carried, make)


def _inside(node: Node, region: Region, condition: Value) -> Value:
    if condition.tensor.shape == ():
        return condition
    return region.append(Reshape(condition, (), loc=node.loc)).result


def _loop(
    node: Node, limit: Value | None, condition: Value | None, carried: Sequence[Value], make: object
) -> list[Item]:
    def fresh() -> str:
        return node.size("dim")

    try:
        body, rounds = fixed_point([v.type for v in carried], make, fresh)  # type: ignore[arg-type]
    except VerifyError as e:
        raise node.error(str(e)) from e
    return _items(node, lambda: Loop.build(limit, condition, carried, body, fresh, rounds, node.loc))


def scan(
    node: Node, states: Sequence[Item], inputs: Sequence[Value], axes: Sequence[int], directions: Sequence[int]
) -> list[Item]:
    """Scan over inputs of a length that only the run knows: a loop that reads the inputs at its round."""
    length = _same(node, [node.dims_of(x)[a] for x, a in zip(inputs, axes, strict=True)])
    carried = [node.scope.item_value(s) for s in states]
    last = scalar(node, as_expr(length) - 1, "i64").value

    def make(types: Sequence[Type]) -> Region:
        region = Region([_ROUND, *types])
        with node.inside(region):
            round = Calc(node, region.params[0])
            parts: list[Value] = []
            for x, a, backwards in zip(inputs, axes, directions, strict=True):
                at = Calc(node, last) - round if backwards else round
                parts.append(node.make(Gather, x, at.value, a))
            items = [Item(value=v) for v in (*region.params[1:], *parts)]
            values = [node.scope.item_value(item) for item in node.inline("body", items)]
            node.scope.builder.insert(Yield((node.literal(np.array(True)), *values)))
        return region

    results = _loop(node, scalar(node, length, "i64").value, None, carried, make)
    return [*results[: len(carried)], *(_placed(node, r, i, length) for i, r in enumerate(results[len(carried) :]))]


def _same(node: Node, sizes: Sequence[Dim]) -> Dim:
    """The first of sizes that must be equal."""
    for size in sizes[1:]:
        if size != sizes[0]:
            require_zero(as_expr(size) - sizes[0])
    return sizes[0]


def for_each(
    node: Node, values: Sequence[Value], convert: Callable[[list[Value]], Sequence[Item | None]]
) -> list[Item]:
    """What `convert` makes of each element along dimension 0 of `values`, of a size that only the run knows, stacked
    along dimension 0."""
    batch = _same(node, [node.dims_of(v)[0] for v in values])

    def make(types: Sequence[Type]) -> Region:
        region = Region([_ROUND, *types])
        with node.inside(region):
            parts = [node.make(Gather, v, region.params[0], 0) for v in values]
            results = [node.scope.item_value(r) for r in convert(parts) if r is not None]
            node.scope.builder.insert(Yield((node.literal(np.array(True)), *results)))
        return region

    stacked = [node.scope.item_value(r) for r in _loop(node, scalar(node, batch, "i64").value, None, [], make)]
    return [Item(value=_of_length(node, y, batch)) for y in stacked]


def _of_length(node: Node, y: Value, length: Dim) -> Value:
    """What a loop of `length` rounds stacked: so many elements along dimension 0."""
    count, *rest = node.dims_of(y)
    if count == length:
        return y
    # Inserted here, not collected: this may stand in the region of a loop around it.
    node.scope.builder.insert(
        Check((as_expr(count) - length,), (), f"the rounds of a loop ({node.op_type})", loc=node.loc)
    )
    return node.make(Reshape, y, (length, *rest))


def _placed(node: Node, item: Item, index: int, length: Dim) -> Item:
    """A scanned output in its direction, along its axis."""
    y = _of_length(node, node.scope.item_value(item), length)
    rest = node.dims_of(y)[1:]
    outputs = index + 1
    if node.ints("scan_output_directions", [0] * outputs)[index]:
        at = scalar(node, as_expr(length) - 1, "i64") - Calc.iota(node, length, "i64")
        y = node.make(Gather, y, at.value, 0)
    place = node.axis(node.ints("scan_output_axes", [0] * outputs)[index], len(rest) + 1)
    if place:
        order = list(range(1, len(rest) + 1))
        order.insert(place, 0)
        y = node.make(Transpose, y, tuple(order))
    return Item(value=y)


def map_values(node: Node, columns: Sequence[Item]) -> list[Item]:
    """SequenceMap over sequences that only the run knows: a loop that reads elements and appends results."""
    given = [node.scope.item_value(c) for c in columns]
    (limit,) = node.host(sequences.SequenceLength, given[0])
    count = len(node.proto.output)
    blanks = [SequenceType(t) for t in _result_types(node, given)]
    carried = [node.host(sequences.SequenceEmpty, types=[t])[0] for t in blanks]

    def make(types: Sequence[Type]) -> Region:
        region = Region([_ROUND, *types])
        with node.inside(region):
            items = [Item(value=_element(node, v, region.params[0])) for v in given]
            results = [node.scope.item_value(item) for item in node.inline("body", items)]
            longer: list[Value] = []
            for p, r, t in zip(region.params[1:], results, types, strict=True):
                longer.append(node.host(sequences.SequenceInsert, p, r, None, types=[t])[0])
            node.scope.builder.insert(Yield((node.literal(np.array(True)), *longer)))
        return region

    return _loop(node, limit, None, carried, make)[:count]


def _element(node: Node, value: Value, round: Value) -> Value:
    if not isinstance(value.type, SequenceType):
        return value
    type, sizes = node.renewed(value.type.item)
    return node.host(sequences.SequenceAt, value, round, sizes, types=[type])[0]


def _result_types(node: Node, given: Sequence[Value]) -> list[Type]:
    """Types of the body's results for one round, with symbols of their own for sizes."""
    region = Region([_ROUND])
    with node.inside(region):
        items = [Item(value=_element(node, v, region.params[0])) for v in given]
        values = [node.scope.item_value(item) for item in node.inline("body", items)]
    types = [node.renewed(v.type)[0] for v in values]
    from ...ir.ops.host import discard

    discard(region)
    return types
