"""Schedules worth measuring beside the scheduler's own choice: bounded sets of variations, one kind at a time.

A search goes through `KINDS` in order: it measures the candidates of one kind against the best schedules so far, takes
the winner, and asks for those of the next kind around it. Every candidate fits its kernel (`database.misfit`). What
is varied: the dimension in the lanes, register tiles within the registers, order and blocks of loops, how far ahead
weights are fetched, how far reductions are unrolled and which of their dimensions is innermost, and, with several
threads, how many leading loops they share and the least part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.kernel.form import Kernel, Local, Map, Read, Reduce, Scan, Schedule, Stage
from ...ir.target_info import TargetInfo
from .costs import Costs, extent, lanes_of
from .cpu import distribute
from .database import Schedules, around, get_schedules, misfit, set_schedules, stages_of
from .tiles import row_limit, tile_cycles

KINDS = ("lanes", "tile", "order", "ahead", "unroll", "threads")
MOST = {"lanes": 3, "tile": 10, "order": 7, "ahead": 2, "unroll": 6, "threads": 5}  # candidates of a kind for one stage
_SHARE = 0.08  # of the kernel's work: stages with less are left alone
_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)


@dataclass(frozen=True)
class Candidate:
    """Schedules of all stages of a kernel; `kind` and `what` say for people what differs."""

    kind: str
    what: str
    schedules: Schedules


def candidates(kernel: Kernel, kind: str, best: Schedules, target: TargetInfo, threads: int) -> list[Candidate]:
    """Variations of `kind` around the schedules `best` of `kernel`, without `best` itself and duplicates."""
    kept = get_schedules(kernel)
    set_schedules(kernel, best)
    try:
        found = list(_candidates(kernel, kind, best, target, threads))
    finally:
        set_schedules(kernel, kept)
    unique = {c.schedules: c for c in reversed(found) if c.schedules != best}
    return [c for c in reversed(unique.values()) if not misfit(kernel, c.schedules, target)]


def _candidates(kernel: Kernel, kind: str, best: Schedules, target: TargetInfo, threads: int) -> Iterator[Candidate]:
    if kind == "threads" and threads < 2:
        return
    stages = stages_of(kernel)
    work = [_work(stage) * _times(stage) for stage in stages]
    total = sum(w for w, s in zip(work, stages, strict=True) if _is_top(s, kernel)) or 1.0
    for n in sorted(range(len(stages)), key=lambda i: -work[i]):
        stage, schedule = stages[n], best[n]
        if schedule is None or work[n] < _SHARE * total or isinstance(stage, Scan):
            continue
        count = 0
        for new in _variations(stage, schedule, kind, target):
            if new == schedule or count == MOST[kind]:
                continue
            count += 1
            if kind != "threads" and isinstance(stage, Map) and _is_top(stage, kernel):
                new = _distributed(stage, new, target)
            yield Candidate(kind, _difference(schedule, new), (*best[:n], new, *best[n + 1 :]))


def _variations(stage: Stage, schedule: Schedule, kind: str, target: TargetInfo) -> Iterator[Schedule]:
    match kind, stage:
        case "lanes", Map() if schedule.vector:
            yield from _lanes(stage, schedule, target)
        case "tile", Map():
            yield from _tiles(stage, schedule, target)
        case "order", Map():
            yield from _orders(stage, schedule)
        case "ahead", Map() if schedule.vector and any(isinstance(op, Reduce) for op in stage.body):
            yield from (replace(schedule, ahead=n) for n in (0, 1, 2))
        case "unroll", Reduce():
            yield from _unrolls(stage, schedule, target)
        case "threads", Map():
            yield from _threads(stage, schedule)
        case _:
            return


def _is_top(stage: Stage, kernel: Kernel) -> bool:
    return stage.parent is kernel.body


def _work(stage: Stage) -> float:
    """Operations of all points of `stage`, about; those inside included."""
    inner = sum(_work(op) if isinstance(op, Stage) else 1.0 for op in stage.body)
    return math.prod(extent(d.extent) for d in stage.dims) * inner


def _times(stage: Stage) -> float:
    """How often `stage` runs, nested as it is."""
    times = 1.0
    for other in around(stage)[1:]:
        times *= math.prod(extent(d.extent) for d in other.dims)
    return times


def _distributed(stage: Map, schedule: Schedule, target: TargetInfo) -> Schedule:
    """`schedule` with the scheduler's choice of parallel loops for it."""
    kept = stage.schedule
    stage.schedule = replace(schedule, parallel=0, grain=1)
    distribute(stage, target)
    found, stage.schedule = stage.schedule, kept
    assert found is not None
    return found


# -- lanes -------------------------------------------------------------------------------------------------------------


def _lanes(stage: Map, schedule: Schedule, target: TargetInfo) -> Iterator[Schedule]:
    """Other dimensions in the lanes, where that is not much more work, with the tile that a model likes best."""
    costs = Costs(stage, target)
    most = 2 * costs.body(stage, schedule.vector)
    order = list(dict.fromkeys(name for name, _ in schedule.loops))
    for d in (d.name for d in stage.dims if d.name != schedule.vector and extent(d.extent) >= costs.lanes):
        if costs.body(stage, d) <= most:
            loops = (*((name, 1) for name in order if name != d), (d, costs.lanes))
            yield next(_tiles(stage, replace(schedule, loops=loops, vector=d, ahead=0), target))


# -- register tiles ---------------------------------------------------------------------------------------------------


def _tiles(stage: Map, schedule: Schedule, target: TargetInfo) -> Iterator[Schedule]:
    """Other register tiles, those that a simple model of the core likes best first."""
    extents = {d.name: extent(d.extent) for d in stage.dims}
    reduce = max((op for op in stage.body if isinstance(op, Reduce)), key=_work, default=None)
    inner = _inner_dims(schedule, extents)[:2]
    scored: list[tuple[float, Schedule]] = []
    if not schedule.vector:
        if any(isinstance(op, Local) for op in stage.body):
            return  # blocks: a tile of them would need several of each local
        sizes = (1, 2, 3, 4, 6, 8)
        for tile in itertools.product(*([n for n in sizes if n <= extents[d]] for d in inner)):
            waste = math.prod(-(-extents[d] // n) * n / extents[d] for d, n in zip(inner, tile, strict=True))
            points = math.prod(tile)
            if points <= 16:
                scored.append((waste * (1 + abs(math.log2(points / 4)) / 8), _retiled(schedule, inner, tile)))
    else:
        for tile, vectors, step in _register_tiles(stage, schedule, inner, extents, target, reduce):
            cost = _cost(tile, vectors, step, inner, schedule.vector, extents, target, reduce)
            scored.append((cost, _retiled(schedule, [*inner, schedule.vector], [*tile, step])))
    scored.sort(key=lambda s: s[0])
    yield from _mixed([s for _, s in scored], schedule.vector)


def _register_tiles(
    stage: Map,
    schedule: Schedule,
    inner: Sequence[str],
    extents: Mapping[str, int],
    target: TargetInfo,
    reduce: Reduce | None,
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Tiles along `inner`, vectors, and elements along the vector dimension, that fit the registers."""
    lanes = lanes_of(stage, target)
    n = extents[schedule.vector]
    shared = reduce is not None and _shares(reduce, schedule.vector, inner)
    steps = {count * lanes for count in (1, 2, 3, 4, 6, 8) if count <= -(-n // lanes)} | {
        schedule.step(schedule.vector)
    }
    for step in sorted(steps):
        vectors = -(-step // lanes)
        if vectors > (8 if reduce is None else max(4, target.vector_registers // 4)):
            continue
        values = len(reduce.inits) if reduce is not None else 1
        limit = row_limit(target, vectors) if shared else (target.vector_registers - 4) // vectors
        limit = max(1, limit // values)
        sizes = [[r for r in _ROWS if r <= min(extents[d], 16 if d == inner[0] else 4)] for d in inner]
        for tile in itertools.product(*sizes):
            if math.prod(tile) <= limit:
                yield tile, vectors, step


def _cost(
    tile: Sequence[int],
    vectors: int,
    step: int,
    inner: Sequence[str],
    vector: str,
    extents: Mapping[str, int],
    target: TargetInfo,
    reduce: Reduce | None,
) -> float:
    """Cycles of all tiles, relative; what is left at the ends counts as tiles of their own."""
    rows = [_pieces(extents[d], t) for d, t in zip(inner, tile, strict=True)]
    columns = [(math.ceil(size * vectors / step), n) for size, n in _pieces(extents[vector], step)]
    total = 0.0
    for parts in itertools.product(columns, *rows):
        count = math.prod(n for _, n in parts)
        points = math.prod(size for size, _ in parts[1:])
        cycles = tile_cycles(points, parts[0][0], target)
        total += count * (cycles + (0.0 if reduce is not None else 4.0))
    return total


def _pieces(n: int, step: int) -> list[tuple[int, int]]:
    return [(size, count) for size, count in ((step, n // step), (n % step, 1)) if size and count]


def _shares(reduce: Reduce, vector: str, inner: Sequence[str]) -> bool:
    """Whether vectors that are read serve several rows of a tile: then broadcast values take registers, too."""
    reads = [r for r in reduce.walk() if isinstance(r, Read)]
    along = [r for r in reads if any(vector in e.symbols() for e in r.map)]
    return bool(inner) and any(not any(inner[0] in e.symbols() for e in r.map) for r in along) and len(reads) > 1


def _inner_dims(schedule: Schedule, extents: Mapping[str, int]) -> list[str]:
    """Dimensions of several points besides the vector one, innermost first."""
    last = {name: n for n, (name, _) in enumerate(schedule.loops)}
    names = [d for d in last if d != schedule.vector and extents[d] > 1]
    return sorted(names, key=lambda d: -last[d])


def _mixed(schedules: Sequence[Schedule], vector: str) -> Iterator[Schedule]:
    """The best of each number of vectors in turn: a model that errs about one errs about all of its tiles."""
    groups: dict[int, list[Schedule]] = {}
    for s in schedules:
        groups.setdefault(s.step(vector) if vector else 0, []).append(s)
    for row in itertools.zip_longest(*groups.values()):
        yield from (s for s in row if s is not None)


def _retiled(schedule: Schedule, dims: Sequence[str], steps: Sequence[int]) -> Schedule:
    """`schedule` with other last steps; blocks around them become multiples, or go if they are no larger."""
    tile = dict(zip(dims, steps, strict=True))
    loops: list[tuple[str, int]] = []
    last = {name: n for n, (name, _) in enumerate(schedule.loops)}
    for n, (d, step) in enumerate(schedule.loops):
        if d not in tile:
            loops.append((d, step))
        elif last[d] == n:
            loops.append((d, tile[d]))
        elif step > tile[d]:
            loops.append((d, -(-step // tile[d]) * tile[d]))
    return replace(schedule, loops=tuple(loops))


# -- order and blocks -------------------------------------------------------------------------------------------------


def _orders(stage: Map, schedule: Schedule) -> Iterator[Schedule]:
    """Other orders of the loops over tiles, and blocks of the outermost rows."""
    extents = {d.name: extent(d.extent) for d in stage.dims}
    single = [(d, 1) for d in extents if extents[d] == 1]
    last = {d: schedule.step(d) for d in extents if extents[d] > 1}
    inner = _inner_dims(schedule, extents)
    vector = [(schedule.vector, last[schedule.vector])] if schedule.vector in last else []
    rows = [(d, last[d]) for d in reversed(inner)]
    if not rows:
        return
    orders = [[*vector, *rows], [*rows[:-1], *vector, rows[-1]], [*rows, *vector]]
    outer, step = rows[0]
    for parts in (2, 4, 8, 16):
        block = math.ceil(extents[outer] / parts / step) * step
        if vector and step < block < extents[outer]:
            orders.insert(2, [(outer, block), *vector, *rows])
    if len(rows) > 1:
        orders.append([*vector, *reversed(rows)] if not vector else [*reversed(rows[:-1]), *vector, rows[-1]])
    if vector and -(-extents[schedule.vector] // vector[0][1]) >= 4:
        orders.append([(schedule.vector, 4 * vector[0][1]), *rows[:-1], *vector, rows[-1]])
    for loops in orders:
        yield replace(schedule, loops=(*single, *loops))


# -- reductions -------------------------------------------------------------------------------------------------------


def _unrolls(stage: Reduce, schedule: Schedule, target: TargetInfo) -> Iterator[Schedule]:
    """Other unrolling, another innermost dimension, a block of it outermost."""
    extents = {d.name: extent(d.extent) for d in stage.dims}
    if schedule.vector:
        lanes = lanes_of(stage, target)
        for count in (1, 2, 4, 8):
            if count * lanes < 2 * extents[schedule.vector]:
                yield _retiled(schedule, [schedule.vector], [count * lanes])
        return
    dims = list(dict.fromkeys(name for name, _ in schedule.loops))
    innermost = schedule.loops[-1][0]
    if len(dims) > 1 and extents[innermost] * extents[dims[-2]] <= 16:
        yield _retiled(schedule, dims[-2:], [extents[d] for d in dims[-2:]])
    for step in (1, 2, 4, 8, 3):
        if step <= extents[innermost]:
            yield _retiled(schedule, [innermost], [step])
    several = [d for d in dims if extents[d] > 1]
    if len(several) > 1:
        for d in several:
            if d != innermost:
                rest = [(name, 1) for name in dims if name != d]
                yield replace(schedule, loops=(*rest, (d, min(extents[d], 4))))
        step = schedule.step(innermost)
        for block in (32, 64, 128):
            if step < block < extents[innermost] and block % step == 0:
                rest = [(name, schedule.step(name)) for name in dims if name != innermost]
                yield replace(schedule, loops=((innermost, block), *rest, (innermost, step)))


# -- threads ----------------------------------------------------------------------------------------------------------


def _threads(stage: Map, schedule: Schedule) -> Iterator[Schedule]:
    """More or fewer leading loops that threads share, smaller and larger parts, and one thread."""
    if not schedule.parallel:
        return
    for change in (1, -1):
        depth = schedule.parallel + change
        if 1 <= depth <= len(schedule.loops) and len({d for d, _ in schedule.loops[:depth]}) == depth:
            yield replace(schedule, parallel=depth)
    if schedule.grain > 1:
        yield replace(schedule, grain=max(1, schedule.grain // 4))
    yield replace(schedule, grain=min(1 << 30, schedule.grain * 4))
    yield replace(schedule, parallel=0, grain=1)


def _difference(old: Schedule, new: Schedule) -> str:
    """What of `old` changed, in short."""
    if old.loops != new.loops:
        return " ".join(f"{d}:{step}" if step > 1 else d for d, step in new.loops)
    return f"parallel {new.parallel}, grain {new.grain}, ahead {new.ahead}"


__all__ = ["KINDS", "Candidate", "candidates"]
