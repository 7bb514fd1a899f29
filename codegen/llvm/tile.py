"""Register tiles: which values depend on which dimensions, and the points of an unrolled tile.

Inside a stage's innermost loops a few dimensions are unrolled (`Tile`). A value has one register for every point of
the tiles that it depends on, and lanes if it depends on the one tile that lies in vector lanes. `dependencies` finds
what each value of a kernel depends on, before any code is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...ir.core import Op, Region, Value
from ...ir.expr import Expr, const, sym
from ...ir.kernel.form import Index, Local, Read, Reduce, Scalar, Scan, Stage, Write
from ...ir.types import TensorType
from .builder import V

Deps = dict[Value, frozenset[str]]


@dataclass(frozen=True)
class Tile:
    """The unrolled part of one dimension: `count` points; with `lanes`, each point is a vector of that many
    consecutive coordinates. Only the first `active` lanes of the last point exist (None: all); `mask` says which,
    when that is known only at run time."""

    dim: str
    count: int
    lanes: int = 0
    active: int | None = None
    mask: V | None = None

    @property
    def unit(self) -> int:
        """Coordinates from one point to the next."""
        return self.lanes or 1


@dataclass(frozen=True)
class Context:
    """Where code is being written: the base of every dimension in scope (an expression over loop counters), and the
    open tiles, outermost first. `'d` stands for the coordinate of `d` inside its tile."""

    coords: Mapping[str, Expr] = field(default_factory=dict[str, Expr])
    tiles: Mapping[str, Tile] = field(default_factory=dict[str, Tile])
    memo: dict[object, Expr] = field(default_factory=dict[object, Expr], compare=False)

    @property
    def vector(self) -> Tile | None:
        """The tile that lies in lanes."""
        return next((t for t in self.tiles.values() if t.lanes), None)

    def moved(self, coords: Mapping[str, Expr]) -> Context:
        """The same tiles with other bases for some dimensions."""
        return Context({**self.coords, **coords}, self.tiles)

    def tiled(self, tiles: Iterable[Tile]) -> Context:
        """With further tiles inside."""
        added = {t.dim: t for t in tiles}
        return Context({**self.coords, **{"'" + d: const(0) for d in added}}, {**self.tiles, **added})

    def names(self, dims: Iterable[str]) -> tuple[str, ...]:
        """Those of the open tiles that are among `dims`, outermost first."""
        wanted = frozenset(dims)
        return tuple(d for d in self.tiles if d in wanted)

    def points(self, names: Iterable[str]) -> Iterator[dict[str, int]]:
        """All points of the tiles `names`, the last one fastest."""
        names = tuple(names)
        for point in itertools.product(*(range(self.tiles[n].count) for n in names)):
            yield dict(zip(names, point, strict=True))


def intra(dim: str) -> Expr:
    """The symbol for the coordinate of `dim` inside its tile."""
    return sym("'" + dim)


def dependencies(region: Region) -> Deps:
    """For every value in `region`: the stage dimensions it may differ along. Local buffers count as values: what is
    written into them decides."""
    deps: Deps = {}
    while True:
        before = sum(map(len, deps.values()))
        _region(region, frozenset(), deps)
        if sum(map(len, deps.values())) == before:
            return deps


def _add(deps: Deps, value: Value, *more: frozenset[str]) -> None:
    deps[value] = deps.get(value, frozenset()).union(*more)


def _of(deps: Deps, values: Iterable[Value | None]) -> frozenset[str]:
    return frozenset[str]().union(*(deps.get(v, frozenset[str]()) for v in values if v is not None))


def _symbols(exprs: Iterable[Expr], dims: frozenset[str]) -> frozenset[str]:
    return frozenset[str]().union(*(e.symbols() for e in exprs)) & dims


def _region(region: Region, dims: frozenset[str], deps: Deps) -> None:
    for op in region:
        match op:
            case Read():
                _add(deps, op.result, _symbols(op.map, dims), _of(deps, [op.buffer, *op.indices, op.fill]) & dims)
            case Index():
                _add(deps, op.result, _symbols([op.expr], dims))
            case Scalar():
                _add(deps, op.result, _of(deps, op.args))
            case Local():
                # The dimensions outside the declaration: along those there is one buffer per point.
                deps[op.result] = deps.get(op.result, frozenset()) & dims
            case Write():
                everything = dims if op.combine else frozenset[str]()
                used = _of(deps, [op.value, op.mask, *op.indices])
                if op.buffer.op is not None:
                    _add(deps, op.buffer, _symbols(op.map, dims), used, everything)
            case Stage():
                _stage(op, dims, deps)
            case _:
                for result in op.results:
                    _add(deps, result)


def _stage(op: Stage, dims: frozenset[str], deps: Deps) -> None:
    own = frozenset(d.name for d in op.dims)
    if isinstance(op, Reduce | Scan):
        carried = _of(deps, [*op.inits, *op.results])
        for p in op.body.params:
            _add(deps, p, carried)
        _region(op.body, dims | own, deps)
        carried |= _of(deps, op.body.terminator.inputs)
        if isinstance(op, Reduce):
            for p in op.combine.params:
                _add(deps, p, carried | own)
            _region(op.combine, dims | own, deps)
            carried |= _of(deps, op.combine.terminator.inputs)
        for r in op.results:
            _add(deps, r, carried & dims)
    else:
        _region(op.body, dims | own, deps)


def outer_uses(stage: Stage) -> list[Value]:
    """Values defined outside `stage` that are used inside it (buffers excluded), in order."""
    inside: set[Region] = set()
    for op in stage.walk():
        inside.update(op.regions)
    found: dict[Value, None] = {}
    for op in stage.walk():
        used = op.inputs if op is not stage else list(getattr(op, "inits", ()))
        for v in used:
            home = v.owner if isinstance(v.owner, Region) else v.op.parent if v.op else None
            if home not in inside and not isinstance(v.op, Local):
                found[v] = None
    return [v for v in found if v.op is not None or not _is_buffer(v)]


def _is_buffer(v: Value) -> bool:
    return isinstance(v.type, TensorType)


def writes(op: Op) -> bool:
    """True when `op` or something inside it writes a buffer."""
    return any(isinstance(inner, Write) for inner in op.walk())
