"""Which values of a graph of kernels share memory: concatenations and slices as views, outputs in the caller's buffers.

A *placement* says, for a value, that its memory is part of another value's: `inside` (a box of it, so the layout's
padding stands for the neighbours) or `alias` (the same bytes under another type). Everything else is a buffer of its
own. `Placement` decides; `lower-program` emits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ir.core import Graph, Value
from ..ir.expr import Dim, as_expr, const
from ..ir.kernel.form import KernelOp
from ..ir.types import ROW_MAJOR, Layout, TensorType
from .analysis.movement import Box, Move, box, covers, moves, same_bytes
from .packed import is_packed


@dataclass(frozen=True)
class Inside:
    """The value is the box of `host` that starts at `starts`."""

    host: Value
    starts: tuple[int, ...]


class Placement:
    """Memory of the values of `graph`. Results: `inside`, `alias` (value -> source), `outputs` (value -> number of the
    model output whose buffer it is), and for each concatenation the stages that still must run, in `remaining`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inside: dict[Value, Inside] = {}
        self.alias: dict[Value, Value] = {}
        self.outputs: dict[Value, int] = {}
        self.remaining: dict[KernelOp, list[Move]] = {}
        self._moves: dict[KernelOp, list[Move]] = {}
        self._direct_outputs()
        for op in graph.body:
            if isinstance(op, KernelOp) and len(op.results) == 1:
                found = moves(op)
                if found:
                    self._moves[op] = found
        # Later concatenations first: in a chain of growing ones the last holds all the others.
        for op in reversed(self._moves):
            self._concatenation(op, self._moves[op])
        for op, found in self._moves.items():
            if len(found) == 1 and op not in self.remaining:
                self._slice(op, found[0])
        for op, found in self._moves.items():
            if len(found) == 1 and op not in self.remaining:
                self._same_bytes(op, found[0])

    # -- questions ----------------------------------------------------------------------------------------------

    def type(self, value: Value) -> TensorType:
        """The type of the value's memory: its own, or, inside another one, with the padding that says where."""
        place = self.inside.get(value)
        if place is None:
            return value.tensor
        host = self.type(place.host)
        return value.tensor.with_layout(view_layout(host, place.starts, value.tensor.static_shape))

    def host(self, value: Value) -> Value:
        """The value that `type(value)` is a view of."""
        if value in self.alias:
            return self.alias[value]
        while value in self.inside:
            value = self.inside[value].host
        return value

    def root(self, value: Value) -> Value:
        """The value whose buffer holds this one's memory."""
        while value in self.inside or value in self.alias:
            value = self.inside[value].host if value in self.inside else self.alias[value]
        return value

    def executes(self, op: KernelOp) -> bool:
        """False for kernels that became views altogether."""
        if op in self.remaining:
            return bool(self.remaining[op])
        return not (len(op.results) == 1 and op in self._moves and self._is_view_of_operand(op))

    def _is_view_of_operand(self, op: KernelOp) -> bool:
        result = op.result
        place = self.inside.get(result)
        return result in self.alias or (place is not None and place.host in op.args)

    # -- decisions ----------------------------------------------------------------------------------------------

    def _direct_outputs(self) -> None:
        for i, value in enumerate(self.graph.results):
            own = isinstance(value.op, KernelOp) and value.tensor.layout == ROW_MAJOR
            own = own and not is_packed(value.tensor.dtype)  # a kernel of its own writes those
            if own and len(value.uses) == 1:
                self.outputs[value] = i

    def _own(self, value: Value) -> bool:
        """True when the value has a buffer of its own so far, and a kernel writes it."""
        placed = value in self.inside or value in self.alias or value in self.outputs
        return isinstance(value.op, KernelOp) and not placed and value.tensor.is_static

    def _concatenation(self, op: KernelOp, found: Sequence[Move]) -> None:
        """Let the producers of the operands write into the result where possible."""
        pieces = _pieces(op, found)
        if pieces is None or not op.result.tensor.is_static:
            return
        self.remaining[op] = []
        for move, value, part in pieces:
            if self._own(value) and self.root(op.result) is not value and _fits(value.tensor, op.result.tensor):
                self.inside[value] = Inside(op.result, _ints(part.target))
            else:
                self.remaining[op].append(move)

    def _slice(self, op: KernelOp, move: Move) -> None:
        """A box of a buffer is a view of it."""
        source, result, part = op.args[op.buffers.index(move.read.buffer)], op.result, box(move)
        if part is None or not self._own(result) or not isinstance(source.op, KernelOp) or not source.tensor.is_static:
            return
        whole = covers(part.extents, part.target, result.tensor.dims)
        numbers = all(isinstance(s, int) for s in part.source)
        if whole and numbers and self.root(source) is not result and _fits(result.tensor, source.tensor):
            self.inside[result] = Inside(source, _ints(part.source))

    def _same_bytes(self, op: KernelOp, move: Move) -> None:
        """A reshape of a contiguous buffer is the same bytes."""
        source, result = op.args[op.buffers.index(move.read.buffer)], op.result
        placed = result in self.inside or result in self.outputs
        if placed or (source.op is not None and not isinstance(source.op, KernelOp)):
            return
        layout = result.tensor.layout
        memory = self.type(source)
        if layout.blocks or any(a or b for a, b in layout.pad) or memory.storage_bytes != result.tensor.storage_bytes:
            return
        if same_bytes(move, memory, result.tensor) and self.root(source) is not result:
            self.alias[result] = source


def _pieces(op: KernelOp, found: Sequence[Move]) -> list[tuple[Move, Value, Box]] | None:
    """The parts of a concatenation of whole operands; None when the kernel is something else."""
    pieces: list[tuple[Move, Value, Box]] = []
    total = const(0)
    for move in found:
        part = box(move)
        if part is None or move.read.buffer not in op.buffers:
            return None
        value = op.args[op.buffers.index(move.read.buffer)]
        numbers = all(isinstance(t, int) for t in part.target)
        if not numbers or not covers(part.extents, part.source, value.tensor.dims):
            return None
        pieces.append((move, value, part))
        total = total + value.tensor.elements
    disjoint = total == as_expr(op.result.tensor.elements)  # together they write every element: each of them once
    return pieces if len(pieces) > 1 and disjoint else None


def _ints(dims: Sequence[Dim]) -> tuple[int, ...]:
    numbers = [d for d in dims if isinstance(d, int)]
    assert len(numbers) == len(dims)
    return tuple(numbers)


def _fits(part: TensorType, whole: TensorType) -> bool:
    """True when a box of `whole` can have the layout that `part` was meant to have."""

    def order(t: TensorType) -> tuple[int, ...]:
        return t.layout.order or tuple(range(t.rank))

    return not part.layout.blocks and not whole.layout.blocks and order(part) == order(whole)


def view_layout(host: TensorType, starts: Sequence[int], shape: Sequence[int]) -> Layout:
    """Layout of the box of `host` (static, unblocked) that begins at `starts` and has `shape`: the neighbours are
    padding, and of the host's zeros those at its own border remain."""
    pad: list[tuple[int, int]] = []
    zero: list[tuple[int, int]] = []
    for d, (start, extent) in enumerate(zip(starts, shape, strict=True)):
        rest = host.static_shape[d] - start - extent
        before, after = host.layout.padding(d)
        pad.append((before + start, after + rest))
        zb, za = host.layout.zeros(d)
        zero.append((zb if start == 0 else 0, za if rest == 0 else 0))
    return Layout(
        host.layout.order,
        (),
        tuple(pad) if any(p != (0, 0) for p in pad) else (),
        tuple(zero) if any(z != (0, 0) for z in zero) else (),
    )


def from_its_start(type: TensorType) -> tuple[TensorType, int]:
    """The same view of a larger buffer, from its first element (or zero of its halo) on: what padding lies before that
    counts as behind. Gives the type and the element of the storage where it begins."""
    if not type.layout.pad or type.layout.blocks or not type.is_static:
        return type, 0
    pad: list[tuple[int, int]] = []
    for d in range(type.rank):
        (before, after), (zeros, _) = type.layout.padding(d), type.layout.zeros(d)
        pad.append((zeros, before - zeros + after))
    moved = type.with_layout(replace(type.layout, pad=tuple(pad)))
    origin = [-zeros for zeros, _ in pad]
    start = type.layout.offset(type.dims, origin).evaluate({})
    return moved, int(start)
