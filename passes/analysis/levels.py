"""Levels of the operations of a region that becomes a plan (docs/HOST.md): what can run together as one program.

An ordinary operation's level is the number of the island that computes it. Islands and what stands between them
(*barriers*: host operations, `t.if`, `t.loop`) run in the order island 0, barriers of level 0, island 1, ...
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from ...ir.constants import Constant
from ...ir.core import Op, Region, Value
from ...ir.expr import Expr
from ...ir.ops.host.base import HostOp, defined_symbols
from ...ir.ops.host.bind import Bind, Check
from ...ir.ops.host.control import If, Loop
from ...ir.types import MapType, OptionalType, ScalarType, SequenceType, TensorType, TupleType, type_symbols

Ready = tuple[int, int]  # the first island, and the first level of barriers, that can have it
_AT_ONCE: Ready = (0, 0)


def is_barrier(op: Op) -> bool:
    """True for what the C runtime does itself, between islands."""
    return isinstance(op, HostOp | If | Loop)


def is_ordinary(op: Op) -> bool:
    """True for what islands compute."""
    return not (is_barrier(op) or op.terminator or isinstance(op, Bind | Check | Constant))


def symbols_of(value: Any) -> frozenset[str]:
    """Shape symbols in the value of an attribute."""
    match value:
        case Expr():
            return value.symbols()
        case TensorType() | ScalarType() | SequenceType() | OptionalType() | MapType() | TupleType():
            return type_symbols(value)
        case tuple() | list():
            return frozenset[str]().union(*map(symbols_of, cast("tuple[Any, ...]", value)))
        case _:
            return frozenset()


def used_symbols(op: Op) -> frozenset[str]:
    """The symbols whose values an operation needs, those that are only found inside its regions not counted."""
    if isinstance(op, HostOp | Bind):
        return frozenset()
    found = set[str]()
    if not op.regions:
        values = [*op.inputs, *op.results]
        # Symbols inside of sequences, optionals and maps stand for any size: nobody needs their values.
        types = [v.type for v in values if isinstance(v.type, TensorType)]
        return frozenset(found.union(*map(symbols_of, op.attributes.values()), *(t.symbols for t in types)))
    for region in op.regions:
        for inner in region:
            found |= used_symbols(inner)
    return frozenset(found - defined_symbols(op))


def outer_values(op: Op) -> list[Value]:
    """Values from outside that the operations in the regions of `op` use, constants not counted."""
    inside: set[Value] = set()
    found: dict[Value, None] = {}
    for region in op.regions:
        inside.update(region.params)
        for inner in region.walk():
            inside.update(inner.results)
            for nested in inner.regions:
                inside.update(nested.params)
    for region in op.regions:
        for inner in region.walk():
            found.update(dict.fromkeys(v for v in inner.inputs if not isinstance(v.op, Constant)))
    return [v for v in found if v not in inside]


class Levels:
    """The level of each operation of a region, `t.bind` and constants excepted, and the number of levels."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.values: dict[Value, Ready] = {}
        self.symbols: dict[str, Ready] = {}
        self.level: dict[Op, int] = {}
        for op in region:
            self._visit(op)
        self._sink()
        self.count = 1 + max(self.level.values(), default=-1)

    def _ready(self, values: Iterable[Value], symbols: Iterable[str]) -> Ready:
        found = [self.values.get(v, _AT_ONCE) for v in values] + [self.symbols.get(s, _AT_ONCE) for s in symbols]
        return max((f[0] for f in found), default=0), max((f[1] for f in found), default=0)

    def _visit(self, op: Op) -> None:
        if isinstance(op, Bind):
            island, barrier = self._ready([op.x], ())
            made = op.x.op is not None and op.x.op in self.level and is_ordinary(op.x.op)
            self.symbols.update(dict.fromkeys(op.symbols, (island + made, barrier)))
        elif is_barrier(op):
            _, level = self._ready([*op.inputs, *outer_values(op)], used_symbols(op))
            self.level[op] = level
            self.values.update(dict.fromkeys(op.results, (level + 1, level)))
            self.symbols.update(dict.fromkeys(getattr(op, "sizes", ()), (level + 1, level)))
        elif not op.terminator and not isinstance(op, Constant):
            level, _ = self._ready(op.inputs, used_symbols(op))
            self.level[op] = level
            self.values.update(dict.fromkeys(op.results, (level, level)))

    def _sink(self) -> None:
        """Compute where it is used what is made of constants, parameters and results of barriers alone: then it need
        not be kept from one island to the next."""
        free: set[Op] = set()
        for op in self.region:
            if is_ordinary(op) and all(self._is_given(v) or v.op in free for v in op.inputs):
                free.add(op)
        for op in reversed(self.region):
            users = [user for r in op.results for user in r.users]
            if op in free and users and all(u.parent is self.region and is_ordinary(u) for u in users):
                self.level[op] = min(self.level[u] for u in users)

    def _is_given(self, value: Value) -> bool:
        return value.op is None or value.op.parent is not self.region or not is_ordinary(value.op)
