"""When the arena buffers of a program hold something: from the first to the last call that touches them."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.core import Op, Value
from ...ir.program import Alloc, Call, If, Program, View


@dataclass(frozen=True)
class Interval:
    """Calls are numbered in program order; the buffer is live from call `first` to call `last`, both included."""

    first: int
    last: int

    def overlaps(self, other: Interval) -> bool:
        """True when both are live at some call."""
        return self.first <= other.last and other.first <= self.last

    def union(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.first, other.first), max(self.last, other.last))


def storage(buffer: Value) -> Value:
    """The buffer that `buffer` is a view of (itself, when it is none)."""
    while isinstance(buffer.op, View):
        buffer = buffer.op.source
    return buffer


def calls(program: Program) -> list[Op]:
    """Calls and branches in program order: what the numbers of an `Interval` mean."""
    return [op for op in program.walk() if isinstance(op, Call | If)]


def liveness(program: Program) -> dict[Value, Interval]:
    """The interval of every `p.alloc` that some call uses, in order of first use; uses of a view are uses of what it
    views. Branches are taken as if both sides ran, one after the other."""
    live: dict[Value, Interval] = {}
    for number, op in enumerate(calls(program)):
        for buffer in op.inputs:
            root = storage(buffer)
            if isinstance(root.op, Alloc):
                known = live.get(root, Interval(number, number))
                live[root] = known.union(Interval(number, number))
    return live
