"""Schedules for CPUs: which dimension lies in vector lanes, register tiles, order of loops, what runs in parallel.

Nothing here knows an operator. A stage's dimension for the lanes is the one with the lowest estimated cost (`costs`):
normally the one with stride 1 in what is written and read. Around reductions, further dimensions along which the
reduction's vectors are reused (rows) are tiled so that the accumulators fill the registers (`tiles`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...ir.core import Module
from ...ir.kernel.dots import native_dot, packed_sum
from ...ir.kernel.form import Kernel, Local, Map, Read, Reduce, Schedule, Stage, Write
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES
from ..base import Pass
from .costs import Costs, extent, lane_stride
from .rows import rows_first
from .tiles import Traffic, halved, panel_vectors, row_block, row_limit, row_tile, vectors_for
from .windows import ROW, Window, unrolled, window_schedule

_MICROSECONDS = 5.0  # what a thread's part of a stage should at least be worth
_FEW_REGISTERS = 4  # tiles for so few are a tenth of the code, and compile in a tenth of the time
_LINE = 8  # neighbours in a line of memory that a transposing tile takes at once
_PER_MICROSECOND = 3000.0  # vector instructions


class ScheduleCpu(Pass, name="schedule-cpu"):
    """Choose how every stage of every kernel runs: lanes, register tiles, order of loops, parallel loops."""

    plain: bool = False
    most: int = 192  # kernels that get large tiles; where there are more, the others get small ones

    def run(self, module: Module) -> bool:
        target = self.context.target
        kernels = [f for f in module.functions.values() if isinstance(f, Kernel)]
        minor = set[Kernel]() if self.plain or target is None else minor_kernels(kernels, self.most, target)
        for kernel in kernels:
            if kernel in minor and target is not None:
                kernel.attributes["minor"] = True
                schedule_kernel(kernel, replace(target, vector_registers=_FEW_REGISTERS))
            elif not self.plain and target is not None:
                schedule_kernel(kernel, target)
                if self.context.measured is not None:  # schedules that were faster than these
                    self.context.measured.apply(kernel, target, self.context.threads)
        return bool(kernels)


def minor_kernels(kernels: Sequence[Kernel], most: int, target: TargetInfo) -> set[Kernel]:
    """Of more than `most` kernels those that are estimated to cost least, at least all beyond `most`: compiling each
    takes as long as running it a million times, and each is a small part of the whole. The more kernels there are, the
    fewer are compiled with full effort (at least a third of `most`), so that thousands take a minute."""
    full = max(math.ceil(most / 3), most - max(0, len(kernels) - most))
    if len(kernels) <= full:
        return set()
    stages = {k: [op for op in k.body if isinstance(op, Stage)] for k in kernels}
    costs = {k: sum(Costs(op, target).best(op).cost for op in found) for k, found in stages.items()}
    return set(sorted(kernels, key=lambda k: -costs[k])[full:])


def schedule_kernel(kernel: Kernel, target: TargetInfo) -> None:
    """Set the schedule of every stage of `kernel`."""
    for op in kernel.body:
        if isinstance(op, Stage):
            costs = Costs(op, target)
            _schedule(op, costs, target, taken=False)
            if isinstance(op, Map):
                rows_first(op, _memory_order(op), costs.best(op).cost)
                _parallel(op, costs)


def _schedule(stage: Stage, costs: Costs, target: TargetInfo, taken: bool) -> None:
    """Schedule `stage` and those inside; `taken`: a stage around it lies in lanes."""
    vector = "" if taken else costs.best(stage).vector
    if isinstance(stage, Map):
        stage.schedule = _map(stage, vector, costs, target, taken)
    elif isinstance(stage, Reduce):
        stage.schedule = _reduce(stage, vector, costs)
    else:
        stage.schedule = None
    for op in stage.body:
        if isinstance(op, Stage):
            _schedule(op, costs, target, taken or bool(vector))


# -- maps -----------------------------------------------------------------------------------------------------------


def _map(stage: Map, vector: str, costs: Costs, target: TargetInfo, taken: bool) -> Schedule:
    order = _memory_order(stage)
    reduce = _main_reduce(stage)
    if not vector:
        tile = _dot_tile(stage, reduce, costs) if reduce is not None and not taken else {}
        if reduce is not None and not taken and not tile:
            tile = _rows_in_flight(stage, order)
        return Schedule(_loops(order, tile))
    n = extent(next(d.extent for d in stage.dims if d.name == vector))
    if reduce is None:
        if across := _transposed(stage, vector, costs):
            order = [*(d for d in order if d not in (vector, across)), vector, across]
            return Schedule(_loops(order, {vector: _LINE, across: costs.lanes}), across)
        most = 4 if costs.body(stage, vector) < 24 else 2
        tile = {vector: vectors_for(n, costs.lanes, most) * costs.lanes}
        order = [d for d in order if d != vector] + [vector]
        return Schedule(_loops(order, tile), vector)
    return _reduction_tile(stage, reduce, vector, n, order, costs, target)


def _transposed(stage: Map, vector: str, costs: Costs) -> str:
    """Where only reads are contiguous along `vector`: the dimension along which all writes are, if no more is
    gathered along that than is scattered now. Then whole vectors are stored, and tiles of `_LINE` neighbours use up the
    lines that are read: 0.4 to 0.8 of the time."""
    accesses = [op for op in stage.body if isinstance(op, Read | Write)]
    writes = [op for op in accesses if isinstance(op, Write)]
    if any(isinstance(op, Stage | Local) for op in stage.body) or any(op.indices for op in accesses):
        return ""
    if any(lane_stride(w, vector, costs.lanes) == 1 for w in writes):
        return ""
    for d in stage.dims:
        contiguous = all(lane_stride(w, d.name, costs.lanes) == 1 for w in writes)
        if contiguous and extent(d.extent) >= costs.lanes and costs.body(stage, d.name) <= costs.body(stage, vector):
            return d.name
    return ""


def _loops(order: list[str], tile: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((d, max(1, tile.get(d, 1))) for d in order)


def _memory_order(stage: Stage) -> list[str]:
    """The stage's dimensions, from large to small steps through what it writes (else reads)."""
    written = [op for op in stage.walk() if isinstance(op, Write)] or [
        op for op in stage.walk() if isinstance(op, Read)
    ]
    names = [d.name for d in stage.dims]
    if not any(isinstance(op, Read | Write) for op in stage.body) and any(isinstance(op, Local) for op in stage.body):
        return names  # blocks: the pass that made them knows what they share

    def step(name: str) -> float:
        for access in written:
            found = lane_stride(access, name, 1)
            if found is None:
                t = access.buffer.tensor
                here = t.layout.offset(t.dims, access.map)
                found = here.coefficient(name) or 1
            if found:
                return abs(found)
        return math.inf

    return sorted(names, key=lambda name: -step(name))


def _main_reduce(stage: Stage) -> Reduce | None:
    """The nested reduction with most points."""
    found = [op for op in stage.body if isinstance(op, Reduce)]
    return max(found, key=lambda r: math.prod(extent(d.extent) for d in r.dims), default=None)


def _reduction_tile(
    stage: Map, reduce: Reduce, vector: str, n: int, order: list[str], costs: Costs, target: TargetInfo
) -> Schedule:
    """A map of a reduction, with `vector` in lanes: a block of rows and vectors of accumulators."""
    extents = {d.name: extent(d.extent) for d in stage.dims}
    vectors_read = [r for r in reduce.walk() if isinstance(r, Read) and lane_stride(r, vector, costs.lanes) == 1]
    panel = _panel(vectors_read, vector)
    others = [d for d in order if d != vector and extents[d] > 1]
    rows = [d for d in others if not any(_uses(r, d) for r in vectors_read)]
    points = math.prod(extents[d] for d in rows)
    if panel:
        count = panel_vectors(max(1, panel // costs.lanes), points, target)
    else:
        count = vectors_for(n, costs.lanes, 2 if points >= 6 else 4)
    count = min(count, max(1, target.vector_registers // 4), -(-n // costs.lanes))
    if not rows:
        window = Window(reduce, vector, costs.lanes, unrolled(reduce, _read_order(reduce)), target)
        return window_schedule(window, order, others, extents)
    woven = _woven(stage, vector, costs.lanes)
    if woven and not panel:
        count = extents[woven]  # no broadcast value serves more than one of them: even, large tiles
        tiles = -(-extents[rows[-1]] // row_limit(target, count))
        tile = {rows[-1]: -(-extents[rows[-1]] // tiles), woven: count}
        return _blocked(stage, reduce, vector, costs.lanes, order, rows, tile, extents, target)
    packed = packed_sum(reduce)
    if packed is not None and not native_dot(target, packed.sum.dtypes[0]):  # registers for widened halves
        target = replace(target, vector_registers=target.vector_registers - 5)
    halves = halved(n, target, target.vector_bytes // costs.lanes)
    narrow, count = halves or (target, count)
    tile = dict(zip(rows, row_tile([extents[d] for d in rows], count, narrow), strict=True))
    step = count * costs.lanes * narrow.vector_bytes // target.vector_bytes
    if math.prod(tile.values()) * count * len(reduce.inits) > target.vector_registers:
        tile = {}
    chosen = _blocked(stage, reduce, vector, step, order, rows, tile, extents, target)
    return replace(chosen, ahead=1) if panel and _fetches(chosen, rows[-1], extents[rows[-1]], count) else chosen


def _fetches(schedule: Schedule, row: str, extent: int, count: int) -> bool:
    """Whether there are enough row tiles in a block to share the fetching of the next `count` vectors of weights."""
    steps = [step for name, step in schedule.loops if name == row]
    block = min(extent, steps[-2]) if len(steps) > 1 else extent
    return -(-block // steps[-1]) >= 2 * count


def _woven(stage: Map, vector: str, lanes: int) -> str:
    """A dimension whose points lie between the lanes of everything that the stage writes, and fill the gaps ("" if
    there is none): with all of them in one tile, whole vectors are stored."""
    found: set[str] = set()
    for write in (op for op in stage.walk() if isinstance(op, Write)):
        step = lane_stride(write, vector, lanes)
        fit = [d.name for d in stage.dims if d.extent == step and step in (2, 4) and lane_stride(write, d.name, 1) == 1]
        found.add(fit[0] if fit else "")
    return found.pop() if len(found) == 1 else ""


def _panel(reads: list[Read], vector: str) -> int:
    """Size of the blocks in which a packed operand holds `vector` (0: it is not packed)."""
    for r in reads:
        for d, size in r.buffer.tensor.layout.blocks:
            if r.map[d].coefficient(vector) == 1:
                return size
    return 0


def _uses(access: Read, dim: str) -> bool:
    return any(dim in e.symbols() for e in access.map)


def _blocked(
    stage: Map,
    reduce: Reduce,
    vector: str,
    step: int,
    order: list[str],
    rows: list[str],
    tile: dict[str, int],
    extents: dict[str, int],
    target: TargetInfo,
) -> Schedule:
    """Order the loops around a contraction's tile by what stays in the caches."""
    lead = [d for d in order if d != vector and d not in rows]
    depth = math.prod(extent(d.extent) for d in reduce.dims)
    size = max((DTYPES[r.buffer.tensor.dtype].bytes for r in reduce.walk() if isinstance(r, Read)), default=4)
    panel_bytes = depth * extents[vector] * size
    traffic = Traffic(_row_bytes(reduce, vector), panel_bytes, -(-extents[vector] // step))
    outer = rows[0]
    block = row_block(extents[outer], tile.get(outer, 1), traffic, target)
    loops: list[tuple[str, int]] = [(d, tile.get(d, 1)) for d in lead]
    if tile.get(outer, 1) < block < extents[outer]:
        loops.append((outer, block))
    elif block <= tile.get(outer, 1):
        loops.append((outer, tile.get(outer, 1)))
        rows = rows[1:]
    loops.append((vector, step))
    loops += [(d, tile.get(d, 1)) for d in rows]
    return Schedule(tuple(loops), vector)


def _row_bytes(reduce: Reduce, vector: str) -> float:
    """Bytes of the operands that do not depend on `vector`."""
    total = 0.0
    for r in {r.buffer: r for r in reduce.walk() if isinstance(r, Read) and not _uses(r, vector)}.values():
        t = r.buffer.tensor
        total += math.prod(extent(d) for d in t.dims) * DTYPES[t.dtype].bytes
    return total


def _dot_tile(stage: Map, reduce: Reduce, costs: Costs) -> dict[str, int]:
    """The reduction itself lies in lanes (a dot product): a small block of them shares its loads."""
    if len(reduce.inits) != 1 or not costs.best(reduce).vector or any(isinstance(op, Stage) for op in reduce.body):
        return {}
    reads = [r for r in reduce.body if isinstance(r, Read)]
    names = [d.name for d in stage.dims if extent(d.extent) > 1]
    shared = [d for d in names if any(_uses(r, d) for r in reads) and not all(_uses(r, d) for r in reads)]
    return {d: min(4, extent(next(x.extent for x in stage.dims if x.name == d))) for d in shared[-2:]}


def _rows_in_flight(stage: Map, order: list[str]) -> dict[str, int]:
    """Rows of several stages each (softmax, normalisations): a few together hide the latency of one row's sums."""
    extents = {d.name: d.extent for d in stage.dims}
    last = next((d for d in reversed(order) if extents[d] != 1), "")
    n = extents.get(last)
    if n is None or sum(isinstance(op, Stage) for op in stage.body) < 2:
        return {}
    return {last: next((t for t in (4, 3, 2) if isinstance(n, int) and n % t == 0), 1)}


# -- reductions -----------------------------------------------------------------------------------------------------


def _reduce(stage: Reduce, vector: str, costs: Costs) -> Schedule:
    """Loops from large to small steps through what is read; the innermost is unrolled, small windows completely."""
    order = _read_order(stage)
    extents = {d.name: extent(d.extent) for d in stage.dims}
    nested = any(isinstance(op, Stage) for op in stage.body)
    if vector:
        around = stage.parent.parent if stage.parent is not None else None
        tiled = isinstance(around, Map) and around.schedule is not None and any(s > 1 for _, s in around.schedule.loops)
        most = 1 if tiled else 4 if costs.body(stage, vector) < 24 else 2
        count = vectors_for(extents[vector], costs.lanes, most)
        order = [d for d in order if d != vector] + [vector]
        return Schedule(_loops(order, {vector: count * costs.lanes}), vector)
    if nested or not order:
        return Schedule(_loops(order, {}))
    packed = packed_sum(stage)
    if packed is not None:
        order = [d for d in order if d != packed.dim] + [packed.dim]
        tile = {packed.dim: 2 * packed.sum.group, **unrolled(stage, order)}
        if extents[packed.dim] <= packed.sum.group:  # one step: a row of the window is one round
            tile.update({d: extents[d] for d in order[-2:-1] if extents[d] <= ROW})
        return Schedule(_loops(order, tile))
    return Schedule(_loops(order, unrolled(stage, order) or {order[-1]: 2}))


def _read_order(stage: Reduce) -> list[str]:
    reads = [op for op in stage.body if isinstance(op, Read)]
    names = [d.name for d in stage.dims]

    def step(name: str) -> float:
        # The operand with the largest storage decides: it is the one that is streamed.
        best = 0.0
        for r in reads:
            t = r.buffer.tensor
            found = lane_stride(r, name, 1)
            if found is None:
                found = t.layout.offset(t.dims, r.map).coefficient(name)
            best = max(best, abs(found))
        return best

    return sorted(names, key=lambda name: -step(name))


# -- threads --------------------------------------------------------------------------------------------------------


def distribute(stage: Map, target: TargetInfo) -> None:
    """Choose which leading loops of the top-level `stage`, as it is scheduled, threads share."""
    _parallel(stage, Costs(stage, target))


def _parallel(stage: Map, costs: Costs) -> None:
    """Distribute leading loops: enough iterations for any number of threads, each part worth its start."""
    schedule = stage.schedule
    assert schedule is not None
    if _collides(stage):
        return
    extents = {d.name: extent(d.extent) for d in stage.dims}
    total = costs.best(stage).cost
    seen: list[str] = []
    count = 1
    for dim, step in schedule.loops:
        if dim in seen or (seen and count >= 256):
            break
        if len(seen) + 1 == len(schedule.loops) and seen and count >= 16:
            break  # the innermost loop stays a loop
        seen.append(dim)
        count *= -(-extents[dim] // step)
    per = total / max(1, count)
    grain = max(1, math.ceil(_MICROSECONDS * _PER_MICROSECOND / max(per, 1e-9)))
    stage.schedule = replace(schedule, parallel=len(seen), grain=grain)


def _collides(stage: Map) -> bool:
    """Whether points of the stage may write the same element: then it runs on one thread."""
    return any(isinstance(op, Write) and (op.combine or op.indices) for op in stage.walk())
