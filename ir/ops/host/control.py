"""Control flow over data: a choice of two regions, and a loop with carried values.

Both are built through `build`, which finds the types of the results; the verifier holds the types to the regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from ...core import Op, Region, Use, Value
from ...errors import VerifyError, expect
from ...expr import Dim, Expr, as_expr, sym
from ...types import MapType, OptionalType, SequenceType, TensorType, TupleType, Type, type_symbols
from .base import defined_symbols

Fresh = Callable[[], str]  # a new symbol's name, `?n...`


class If(Op, name="t.if"):
    """Runs `then` if `condition` (bool, one element) is true, else `otherwise`; the regions have no parameters and end
    in a `yield` of the results. `sizes` are the symbols of dimensions that the branches do not agree on."""

    condition: Value
    then: Region
    otherwise: Region
    sizes: tuple[str, ...] = ()

    @classmethod
    def build(cls, condition: Value, then: Region, otherwise: Region, fresh: Fresh, loc: str = "") -> Self:
        """An `If` with the types that both branches fit. Raises `VerifyError` where there is none."""
        first, second = ([v.type for v in r.terminator.inputs] for r in (then, otherwise))
        expect(len(first) == len(second), f"expected as many results of both branches, got {len(first)}, {len(second)}")
        maker = _Maker(fresh, defined_symbols(then) | defined_symbols(otherwise))
        types = [maker.join(a, b) for a, b in zip(first, second, strict=True)]
        return cls(condition, then, otherwise, tuple(maker.made), types=types, loc=loc)

    def verify(self) -> None:
        _condition(self.condition)
        for region in (self.then, self.otherwise):
            expect(not region.params, "expected branches without parameters")
            _fit(self.results, [v.type for v in region.terminator.inputs], set(self.sizes))


class Loop(Op, name="t.loop"):
    """Runs `body` up to `limit` times (i64, one element; absent: without limit), while `condition` (bool, one element;
    absent: true) holds.

    The body's parameters are the round (i64[]) and one for each of `carried`; it yields (go on: bool, the carried
    values, the scanned values). Results: the carried values, then each scanned value stacked along a new dimension 0.
    `rounds` are the symbols in the types of the body's parameters that change from round to round, `sizes` those in
    the types of the results."""

    limit: Value | None
    condition: Value | None
    carried: tuple[Value, ...]
    body: Region
    sizes: tuple[str, ...] = ()
    rounds: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        limit: Value | None,
        condition: Value | None,
        carried: Sequence[Value],
        body: Region,
        fresh: Fresh,
        rounds: Sequence[str] = (),
        loc: str = "",
    ) -> Self:
        """A `Loop` with the types that no round and every number of rounds fit. `rounds` is what `fixed_point` gave."""
        yields = [v.type for v in body.terminator.inputs]
        n = len(carried)
        expect(len(yields) > n, f"expected a condition and {n} carried values from the body, got {len(yields)} values")
        maker = _Maker(fresh, defined_symbols(body) | set(rounds))
        types = [maker.join(a.type, b) for a, b in zip(carried, yields[1 : n + 1], strict=True)]
        for item in yields[n + 1 :]:
            expect(isinstance(item, TensorType), f"expected tensors to stack, got {item}")
            assert isinstance(item, TensorType)
            shape = None if item.shape is None else tuple(maker.dim(d, d) for d in item.shape)
            types.append(TensorType(item.dtype, None if shape is None else (sym(maker.name()), *shape)))
        return cls(limit, condition, tuple(carried), body, tuple(maker.made), tuple(rounds), types=types, loc=loc)

    def verify(self) -> None:
        if self.limit is not None:
            expect(self.limit.tensor.dtype == "i64", f"expected a limit of i64, got {self.limit.type}")
        if self.condition is not None:
            _condition(self.condition)
        params, n = self.body.params, len(self.carried)
        yields = [v.type for v in self.body.terminator.inputs]
        expect(len(params) == n + 1, f"expected {n + 1} parameters of the body, got {len(params)}")
        expect(len(yields) == len(self.results) + 1, f"expected {len(self.results) + 1} values, got {len(yields)}")
        expect(params[0].type == TensorType("i64", ()), f"expected the round as i64[], got {params[0].type}")
        _condition(self.body.terminator.inputs[0])
        _fit(params[1:], [v.type for v in self.carried], set(self.rounds))
        _fit(params[1:], yields[1 : n + 1], set(self.rounds))
        _fit(self.results[:n], [v.type for v in self.carried], set(self.sizes))
        _fit(self.results[:n], yields[1 : n + 1], set(self.sizes))


def fixed_point(
    initial: Sequence[Type], make: Callable[[Sequence[Type]], Region], fresh: Fresh
) -> tuple[Region, tuple[str, ...]]:
    """A loop's body whose carried parameters have types that the initial values and every round's fit.

    `make` builds the body for the types of the carried parameters (the parameter of the round comes before them); it is
    called again with wider types until nothing changes. Gives the body and its `rounds`. Raises `VerifyError` where no
    type fits, as between two element types."""
    types, rounds = list(initial), list[str]()
    while True:
        body = make(types)
        yields = [v.type for v in body.terminator.inputs][1 : len(types) + 1]
        expect(len(yields) == len(types), f"expected {len(types)} carried values from the body, got {len(yields)}")
        maker = _Maker(fresh, defined_symbols(body), set(rounds))
        wider = [maker.join(a, b) for a, b in zip(types, yields, strict=True)]
        if wider == types:
            used = {name for t in types for name in type_symbols(t)}
            return body, tuple(name for name in rounds if name in used)
        types = wider
        rounds += maker.made
        discard(body)


def discard(region: Region) -> None:
    """Take back the uses that the operations of a region which goes nowhere made of values outside."""
    for op in region.walk():
        for i, v in enumerate(op.operands):
            if v is not None:
                v.uses.pop(Use(op, i), None)


def joined(a: Type, b: Type, fresh: Fresh, hidden: set[str] | None = None) -> tuple[Type, tuple[str, ...]]:
    """The type that values of both types have, and the new symbols in it: dimensions that differ, or that have a symbol
    of `hidden`, become new symbols; ranks that differ become unknown. Raises `VerifyError` where there is none."""
    maker = _Maker(fresh, hidden or set())
    return maker.join(a, b), tuple(maker.made)


class _Maker:
    """Joins types. Symbols in `hidden` do not leave; those in `wide` stand for any size already."""

    def __init__(self, fresh: Fresh, hidden: set[str], wide: set[str] | None = None) -> None:
        self.fresh = fresh
        self.hidden = hidden
        self.wide = wide or set[str]()
        self.made: list[str] = []

    def name(self) -> str:
        self.made.append(self.fresh())
        return self.made[-1]

    def dim(self, a: Dim, b: Dim) -> Dim:
        symbols = as_expr(a).symbols() | as_expr(b).symbols()
        if a == b and not symbols & self.hidden:
            return a
        if isinstance(a, Expr) and a.symbol in self.wide:
            return a
        return sym(self.name())

    def join(self, a: Type, b: Type) -> Type:
        match a, b:
            case TensorType(), TensorType() if a.dtype == b.dtype:
                if a.shape is None or b.shape is None or a.rank != b.rank:
                    return TensorType(a.dtype, None)
                return TensorType(a.dtype, tuple(self.dim(p, q) for p, q in zip(a.dims, b.dims, strict=True)))
            case SequenceType(), SequenceType():
                return SequenceType(self.join(a.item, b.item))
            case OptionalType(), OptionalType():
                return OptionalType(self.join(a.item, b.item))
            case OptionalType(), _:  # what is there is its own optional
                return OptionalType(self.join(a.item, b))
            case _, OptionalType():
                return OptionalType(self.join(a, b.item))
            case MapType(), MapType() if a.key == b.key:
                return MapType(a.key, self.join(a.item, b.item))
            case TupleType(), TupleType() if len(a.items) == len(b.items):
                return TupleType(tuple(self.join(p, q) for p, q in zip(a.items, b.items, strict=True)))
            case _:
                raise VerifyError(f"expected values of one type, got {a} and {b}")


def _condition(value: Value) -> None:
    expect(value.tensor.dtype == "bool", f"expected a condition of bool, got {value.type}")


def _fit(values: Sequence[Value], types: Sequence[Type], open: set[str]) -> None:
    """Every one of `types` is one that the value at its place has, for some values of the symbols `open`."""
    for value, type in zip(values, types, strict=False):
        expect(_fits(value.type, type, open), f"expected {value.type}, got {type}")


def _fits(wide: Type, narrow: Type, open: set[str]) -> bool:
    match wide, narrow:
        case TensorType(), TensorType():
            if wide.dtype != narrow.dtype or wide.shape is None:
                return wide.dtype == narrow.dtype
            if narrow.shape is None or len(narrow.shape) != len(wide.shape):
                return False
            pairs = zip(wide.shape, narrow.shape, strict=True)
            return all(w == n or (isinstance(w, Expr) and w.symbol in open) for w, n in pairs)
        case SequenceType(), SequenceType():
            return _fits(wide.item, narrow.item, open)
        case OptionalType(), OptionalType():
            return _fits(wide.item, narrow.item, open)
        case OptionalType(), _:
            return _fits(wide.item, narrow, open)
        case MapType(), MapType():
            return wide.key == narrow.key and _fits(wide.item, narrow.item, open)
        case _:
            return wide == narrow


__all__: Sequence[str] = ["If", "Loop", "discard", "fixed_point", "joined"]
