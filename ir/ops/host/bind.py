"""Symbols from the contents of tensors, and conditions on symbols that the run must fulfil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...core import Op, Value
from ...errors import PlanishError, expect
from ...expr import Expr
from ...quote import quote
from ...types import Type


class Bind(Op, name="t.bind"):
    """Gives `symbols` the values of the elements of `x` (i64 or i32, a known number of elements), in row-major order.

    It stands before everything that uses the symbols."""

    side_effects: ClassVar[bool] = True
    x: Value
    symbols: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(x.dtype in ("i64", "i32"), f"expected integers (i64 or i32), got {x}")
        expect(x.is_static, f"expected a known number of elements, got {x}")
        count = int(np.prod(x.static_shape, dtype=np.int64))
        expect(count == len(self.symbols), f"expected {count} symbols for {x}, got {len(self.symbols)}")
        return ()

    def values(self, x: Any) -> dict[str, int]:
        """The symbols' values for the array `x`."""
        return dict(zip(self.symbols, map(int, np.asarray(x).reshape(-1)), strict=True))


class Check(Op, name="t.check"):
    """Ends the run with `message` unless every expression in `zero` is 0 and every one in `nonnegative` at least 0."""

    side_effects: ClassVar[bool] = True
    zero: tuple[Expr, ...] = ()
    nonnegative: tuple[Expr, ...] = ()
    message: str = "the shapes do not fit"

    def infer(self) -> Sequence[Type]:
        return ()

    @property
    def symbols_read(self) -> frozenset[str]:
        """The symbols in its conditions."""
        return frozenset[str]().union(*(e.symbols() for e in (*self.zero, *self.nonnegative)))

    def test(self, symbols: Mapping[str, int]) -> None:
        """Raise `PlanishError` that names the node, the message and the numbers, if a condition does not hold."""
        failed = [f"{e} = {e.evaluate(symbols)}" for e in self.zero if e.evaluate(symbols) != 0]
        failed += [f"{e} = {e.evaluate(symbols)}" for e in self.nonnegative if e.evaluate(symbols) < 0]
        if failed:
            where = f"node {quote(self.loc)}: " if self.loc else ""
            raise PlanishError(f"{where}{self.message}: {failed[0]}")
