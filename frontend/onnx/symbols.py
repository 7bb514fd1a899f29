"""Symbols that get their values while the model runs: elements of integer tensors, and sizes that operations find.

Elements become symbols only where a node needs them for a shape, and a `t.bind` is inserted only for those that some
type or attribute mentions in the end: importing tries what can be folded, and most of it leads to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from ...ir.assume import require_zero
from ...ir.core import Op, Region, Value
from ...ir.expr import Dim, Expr, sym
from ...ir.ops.host import Bind
from ...ir.types import type_symbols
from ..text import symbol_name

MAX_BOUND = 64  # elements up to which a tensor's contents may become symbols


class Symbols:
    """The symbols of one import. Their names come from the model's names, so that they are the same when the model is
    read again; `equal` is what was found about them before."""

    def __init__(self, equal: Mapping[str, Dim]) -> None:
        self.equal = equal
        self.places: dict[str, tuple[Value, int]] = {}  # symbol -> value whose element it is, and which one
        self._taken: set[str] = set()
        self._known: dict[Value, list[Dim]] = {}

    def size(self, name: str) -> str:
        """A new symbol of a size; `name` is what it is the size of."""
        return self._fresh(f"?n_{symbol_name(name)}")

    def _fresh(self, base: str) -> str:
        symbol, n = base, 1
        while symbol in self._taken:
            n += 1
            symbol = f"{base}_{n}"
        self._taken.add(symbol)
        return symbol

    def can_bind(self, value: Value) -> bool:
        """True when the elements of a value can be symbols."""
        t = value.tensor
        if t.dtype not in ("i64", "i32") or not t.is_static:
            return False
        return 0 < int(np.prod(t.static_shape, dtype=np.int64)) <= MAX_BOUND

    def elements(self, value: Value, name: str, kind: str = "i") -> list[Dim]:
        """The elements of a value, in row-major order: symbols, or what is known of them. `kind` is `n` for sizes: the
        run refuses any below 0."""
        if value not in self._known:
            count = int(np.prod(value.tensor.static_shape, dtype=np.int64))
            names = [self._fresh(f"?{kind}_{symbol_name(name)}_{i}") for i in range(count)]
            self.places.update({symbol: (value, i) for i, symbol in enumerate(names)})
            self._known[value] = [self._dim(symbol) for symbol in names]
        return self._known[value]

    def _dim(self, symbol: str) -> Dim:
        if symbol not in self.equal:
            return sym(symbol)
        require_zero(sym(symbol) - self.equal[symbol])
        return self.equal[symbol]

    def insert_binds(self, body: Region) -> None:
        """Insert a `t.bind` for every value of whose elements some symbol is used in `body`."""
        used = frozenset[str]().union(*(symbols_in(op) for op in body.walk()))
        values = {self.places[symbol][0] for symbol in used if symbol in self.places}
        names: dict[Value, list[str]] = {}
        for symbol, (value, _) in self.places.items():  # in the order of elements
            names.setdefault(value, []).append(symbol)
        for value, symbols in names.items():
            if value in values:
                _insert(Bind(value, tuple(symbols)), value)


def _insert(bind: Bind, value: Value) -> None:
    """Directly behind what makes the value."""
    op = value.op
    if op is not None:
        assert op.parent is not None
        bind.loc = op.loc
        op.parent.insert_after(op, bind)
        return
    region = cast("Region", value.owner)
    bind.loc = value.name
    if region.first is None:
        region.append(bind)
    else:
        region.insert_before(region.first, bind)


def symbols_in(op: Op) -> frozenset[str]:
    """Names of the symbols in the types of an operation's results and in its attributes."""
    found: set[str] = set()
    for result in op.results:
        found |= type_symbols(result.type)
    _collect(op.attributes.values(), found)
    for region in op.regions:
        for p in region.params:
            found |= type_symbols(p.type)
    return frozenset(found)


def _collect(values: Iterable[Any], found: set[str]) -> None:
    for value in values:
        if isinstance(value, Expr):
            found |= value.symbols()
        elif isinstance(value, tuple | list):
            _collect(cast("Iterable[Any]", value), found)
