"""Where the coordinates of a read or write can lie, over the dimensions around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..expr import Dim, Expr, Range, as_dim, as_expr, const, symbol_range
from .form import LoopDim

BUDGET = 1 << 17  # points that are tried before only edges are
# Values that are tried for symbols at even and at odd places (in order of their names).
TRIED = ((1, 1), (2, 3), (3, 2), (7, 5), (16, 17), (33, 31), (64, 64), (129, 1), (1, 129))


@dataclass(frozen=True)
class Domain:
    """The dimensions around a point of a kernel, outermost first; `parallel` are those of maps."""

    dims: tuple[LoopDim, ...] = ()
    names: frozenset[str] = frozenset()
    parallel: frozenset[str] = frozenset()

    def inside(self, dim: LoopDim, *, parallel: bool) -> Domain:
        """The domain with one more dimension, innermost."""
        more = self.parallel | {dim.name} if parallel else self.parallel
        return Domain((*self.dims, dim), self.names | {dim.name}, more)

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """An interval for each dimension."""
        found: dict[str, Range] = {}
        for d in self.dims:
            high = d.extent - 1 if isinstance(d.extent, int) else (d.extent - 1).bounds(found)[1]
            found[d.name] = (0, high)
        return found

    def extent(self, name: str) -> Dim | None:
        """The extent of a dimension; None when it has no such dimension."""
        return next((d.extent for d in self.dims if d.name == name), None)


def outside(e: Expr, low: Dim, high: Dim, domain: Domain) -> str | None:
    """None when `low <= e <= high` everywhere in the domain, else a text that says which values `e` takes."""
    if isinstance(low, int) and isinstance(high, int):
        least, most = e.bounds(domain.ranges)
        if least is not None and most is not None and low <= least and most <= high:
            return None
    above, below = e - high, as_expr(low) - e
    if _never_positive(above, domain) and _never_positive(below, domain):
        return None
    if not (above.symbols() | below.symbols() <= domain.names):
        return _try_symbols(e, low, high, domain)
    values = _points(e, domain, {})
    if values is None or bool(((values >= as_expr(low).constant) & (values <= as_expr(high).constant)).all()):
        return None
    return f"{e} in {values.min()} .. {values.max()}"


def _never_positive(e: Expr, domain: Domain) -> bool:
    """True if `e <= 0` is proved: from the innermost dimension outwards, each goes to the end where `e` is largest."""
    for d in reversed(domain.dims):
        if e.is_linear_in(d.name):
            c = e.coefficient(d.name)
            if c:
                e = e.substitute({d.name: as_expr(d.extent) - 1 if c > 0 else const(0)})
    ranges = domain.ranges
    known = {name: ranges.get(name) or symbol_range(name) for name in e.symbols()}
    high = e.bounds(known)[1]
    return high is not None and high <= 0


def _try_symbols(e: Expr, low: Dim, high: Dim, domain: Domain) -> str | None:
    bounds = as_expr(low), as_expr(high)
    exprs = [e, *bounds, *(as_expr(d.extent) for d in domain.dims)]
    symbols = sorted(frozenset[str]().union(*(x.symbols() for x in exprs)) - domain.names)
    if any(name.startswith("?") for name in symbols):
        return None  # what relates numbers that are found at run time stands in checks
    for pair in TRIED:
        env: dict[str, int] = {s: pair[i % 2] for i, s in enumerate(symbols)}
        values = _points(e, domain, env)
        if values is None:
            continue
        lo, hi = (b.evaluate(env) for b in bounds)
        if (values < lo).any() or (values > hi).any():
            where = ", ".join(f"{k} = {v}" for k, v in env.items())
            return f"{e} in {values.min()} .. {values.max()} where {where}"
    return None


def _points(e: Expr, domain: Domain, env: dict[str, int]) -> np.ndarray | None:
    """The values of `e` over the domain (over its edges if it is large); None for an empty domain."""
    dims = _involved(e, domain)
    ranges: dict[str, Range] = {name: (value, value) for name, value in env.items()}
    highs: list[int] = []
    for d in dims:
        high = as_expr(d.extent).bounds(ranges)[1]
        if high is None or high <= 0:
            return None
        ranges[d.name] = (0, high - 1)
        highs.append(high)
    small = math.prod(highs) <= BUDGET
    axes = [np.arange(h) if small or h <= 64 else _edges(h) for h in highs]
    if math.prod(len(a) for a in axes) > 1 << 22:
        axes = [a if len(a) <= 4 else np.array([0, 1, a[-2], a[-1]]) for a in axes]
    grid = dict(zip((d.name for d in dims), np.meshgrid(*axes, indexing="ij", sparse=True), strict=True))
    values = {**env, **grid}
    inside: np.ndarray | bool = True
    for d in dims:
        if isinstance(d.extent, Expr):
            inside = inside & (values[d.name] < d.extent.evaluate(values))
    result = np.asarray(e.evaluate(values))
    if isinstance(inside, bool):
        return result.reshape(-1)
    values_all, inside_all = np.broadcast_arrays(result, inside)
    kept = values_all[inside_all]
    return kept if kept.size else None


def _edges(extent: int) -> np.ndarray:
    near = np.arange(34)
    return np.unique(np.concatenate([near, extent // 2 + near[:2], extent - 1 - near]))


def _involved(e: Expr, domain: Domain) -> list[LoopDim]:
    wanted = set(e.symbols())
    kept: list[LoopDim] = []
    for d in reversed(domain.dims):
        if d.name in wanted:
            kept.append(d)
            wanted |= as_expr(d.extent).symbols()
    return kept[::-1]


# -- what writes cover ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """Coordinates `low[i] <= x[i] < high[i]`, all of which are written."""

    low: tuple[Dim, ...]
    high: tuple[Dim, ...]

    @staticmethod
    def union_covers(boxes: Iterable[Box], shape: Sequence[Dim]) -> bool | None:
        """False when the boxes certainly leave out a part of `shape`, True when they certainly do not, else None."""
        boxes = list(boxes)
        if len(boxes) == 1:
            (box,) = boxes
            gaps = [*(as_expr(v) for v in box.low), *(as_expr(s) - h for s, h in zip(shape, box.high, strict=True))]
            fixed = [g.constant for g in gaps]
            if any(g is not None and g > 0 for g in fixed):
                return False
            return True if all(g is not None for g in fixed) else None
        if not all(isinstance(v, int) for v in (*shape, *(v for b in boxes for v in (*b.low, *b.high)))):
            return None
        total = sum(math.prod(_clipped(b, shape)) for b in boxes)
        return False if total < math.prod(int(as_expr(s).constant or 0) for s in shape) else None


def _clipped(box: Box, shape: Sequence[Dim]) -> Iterator[int]:
    for low, high, extent in zip(box.low, box.high, shape, strict=True):
        assert isinstance(low, int) and isinstance(high, int) and isinstance(extent, int)
        yield max(0, min(high, extent) - max(low, 0))


def cover(map: Sequence[Dim], domain: Domain) -> Box | None:
    """The box that the coordinates `map` fill completely; None when they fill no box, or it cannot be told."""
    lows: list[Dim] = []
    highs: list[Dim] = []
    used: set[str] = set()
    for coordinate in map:
        e = as_expr(coordinate)
        mine = e.symbols() & domain.names
        if mine & used or not all(e.is_linear_in(name) for name in mine):
            return None
        used |= mine
        found = _interval(e, sorted(mine), domain)
        if found is None:
            return None
        lows.append(found[0])
        highs.append(found[1])
    return Box(tuple(lows), tuple(highs))


def _interval(e: Expr, names: list[str], domain: Domain) -> tuple[Dim, Dim] | None:
    """The interval that `e`, linear in the dimensions `names`, fills without gaps."""
    low, size = e.substitute(dict.fromkeys(names, 0)), as_expr(1)
    for coefficient, name in sorted((e.coefficient(name), name) for name in names if e.coefficient(name)):
        extent = domain.extent(name)
        assert extent is not None
        filled = size.constant
        if coefficient < 0 or filled is None or coefficient > filled or as_expr(extent).symbols() & domain.names:
            return None
        size = size + (as_expr(extent) - 1) * coefficient
    return as_dim(low), as_dim(low + size)


__all__ = ["Box", "Domain", "cover", "outside"]
