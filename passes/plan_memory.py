"""Where buffers lie: offsets in the arena by exact liveness, in place where that is legal, and offsets of weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir.constants import FileSource, PiecesSource
from ..ir.core import Module, Op, Value
from ..ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, maximum, symbol_ranges
from ..ir.kernel.form import Kernel, Read, Write
from ..ir.program import Alloc, Call, Program, Weight
from .analysis.access import accesses, dims_around, ranges_of
from .analysis.liveness import Interval, calls, liveness, storage
from .base import Pass

# One cache line, and no more: buffers at equal offsets from page borders make loads wait for stores of others (4K
# aliasing).
ALIGNMENT = 64
PAGE = 4096
_BIG_WEIGHT = 256 * 1024
_PERIOD = 64  # calls


class PlanMemory(Pass, name="plan-memory"):
    """Give every arena buffer and every weight its offset.

    Sets `arena_bytes`, `arena_lower_bound` (the most bytes live at one call, 0 when sizes are symbolic) and
    `weights_bytes` of the program.
    """

    in_place: bool = True

    def run(self, module: Module) -> bool:
        programs = [f for f in module.functions.values() if isinstance(f, Program)]
        for program in programs:
            blocks = arena_blocks(program, module, in_place=self.in_place)
            fixed = [b for b in blocks if isinstance(b.size, int)]
            end = _place_fixed(fixed)
            total = _place_symbolic([b for b in blocks if not isinstance(b.size, int)], end)
            for block in blocks:
                for op in block.allocs:
                    op.set_attribute("offset", block.offset)
            program.attributes["arena_bytes"] = total
            program.attributes["arena_lower_bound"] = _most_live(fixed) if len(fixed) == len(blocks) else 0
            program.attributes["weights_bytes"] = _place_weights(program)
        return bool(programs)


@dataclass(eq=False)
class Block:
    """Arena buffers that share one place: one, or several when kernels run in place. `size` is in bytes, aligned."""

    allocs: list[Alloc]
    live: Interval
    size: Dim
    offset: Dim = 0


# -- what has to be placed ------------------------------------------------------------------------------------------


def arena_blocks(program: Program, module: Module, *, in_place: bool = True) -> list[Block]:
    """All blocks of a program, in order of first use. A buffer that no call uses gets a block of size 0."""
    live = liveness(program)
    blocks: dict[Value, Block] = {}
    for value, interval in live.items():
        assert isinstance(value.op, Alloc)
        blocks[value] = Block([value.op], interval, _aligned(value.tensor.storage_bytes))
    if in_place:
        for number, op in enumerate(calls(program)):
            kernel = module.functions.get(op.kernel) if isinstance(op, Call) else None
            if isinstance(op, Call) and isinstance(kernel, Kernel):
                _share(op, kernel, number, live, blocks)
    unused = [op for op in program.walk() if isinstance(op, Alloc) and op.result not in live]
    found = list(dict.fromkeys(blocks.values()))
    return found + [Block([op], Interval(-1, -1), 0) for op in unused]


def _share(op: Call, kernel: Kernel, number: int, live: dict[Value, Interval], blocks: dict[Value, Block]) -> None:
    """Let outputs of `op` take the place of inputs that die there."""
    inputs = len(kernel.params) - kernel.outputs
    taken: set[Value] = set()
    for target in range(inputs, len(op.args)):
        out = op.args[target]
        if out not in blocks or live[out].first != number:
            continue
        for source in range(inputs):
            value = op.args[source]
            dies = value in blocks and blocks[value].live.last == number and value.type == out.type
            if dies and value not in taken and runs_in_place(op, kernel, source, target):
                _merge(blocks, value, out)
                taken.add(value)
                break


def _merge(blocks: dict[Value, Block], value: Value, out: Value) -> None:
    block, other = blocks[value], blocks[out]
    block.allocs += other.allocs
    block.live = block.live.union(other.live)
    for op in other.allocs:
        blocks[op.result] = block


def runs_in_place(op: Call, kernel: Kernel, source: int, target: int) -> bool:
    """True when argument `target` of the call may be the same memory as argument `source`, of the same type: no other
    argument is a part of that memory, and every point reads only the element that it writes, before it writes it."""
    roots = [storage(a) for a in op.args]
    if any(r is roots[source] and a is not op.args[source] for r, a in zip(roots, op.args, strict=True)):
        return False
    if roots.count(roots[target]) > 1:
        return False
    readers = [p for p, a in zip(kernel.params, op.args, strict=True) if a is op.args[source]]
    written = kernel.params[target]
    writes = [a for a in accesses(kernel.body) if isinstance(a, Write) and a.buffer is written]
    reads = [a for a in accesses(kernel.body) if isinstance(a, Read) and (a.buffer in readers or a.buffer is written)]
    if len(writes) != 1 or writes[0].indices or writes[0].combine:
        return False
    return all(_same_point(read, writes[0]) for read in reads if read.buffer is not written) and all(
        r.buffer is not written for r in reads
    )


def _same_point(read: Read, write: Write) -> bool:
    """`read` stands before `write` in the same region, at the same coordinates."""
    if read.parent is not write.parent or read.indices:
        return False
    ranges = ranges_of(dims_around(write))
    if any(r.simplify(ranges) != w.simplify(ranges) for r, w in zip(read.map, write.map, strict=True)):
        return False
    after: Op | None = read.next
    while after is not None and after is not write:
        after = after.next
    return after is write


def _aligned(size: Dim) -> Dim:
    """`size` rounded up to the alignment."""
    if isinstance(size, Expr) and size.divisor({}) % ALIGNMENT == 0:
        return size
    return as_dim(ceildiv(size, ALIGNMENT) * ALIGNMENT)


def _most_live(blocks: Sequence[Block]) -> int:
    """Most bytes live at one call: no plan needs less."""
    change: dict[int, int] = {}
    for block in blocks:
        change[block.live.first] = change.get(block.live.first, 0) + _int(block.size)
        change[block.live.last + 1] = change.get(block.live.last + 1, 0) - _int(block.size)
    return max(itertools.accumulate(change[t] for t in sorted(change)), default=0)


def _int(size: Dim) -> int:
    assert isinstance(size, int)
    return size


# -- placing --------------------------------------------------------------------------------------------------------


def _place_fixed(blocks: Sequence[Block]) -> int:
    """Offsets for blocks of known size; gives the end of the last. The best of a few greedy orders is taken."""
    orders: list[Callable[[Block], tuple[int, ...]]] = [
        lambda b: (-_int(b.size), b.live.first),
        lambda b: (-_int(b.size) * (b.live.last - b.live.first + 1), b.live.first),
        lambda b: (b.live.first, -_int(b.size)),
        lambda b: (b.live.first - b.live.last, -_int(b.size)),
    ]
    bound = _most_live(blocks)
    best: tuple[int, list[int]] | None = None
    for order in orders:
        offsets = _greedy(sorted(blocks, key=order))
        end = max((offsets[b] + _int(b.size) for b in blocks), default=0)
        if best is None or end < best[0]:
            best = end, [offsets[b] for b in blocks]
        if best[0] <= bound:
            break
    assert best is not None
    for block, offset in zip(blocks, best[1], strict=True):
        block.offset = offset
    return best[0]


def _greedy(blocks: Sequence[Block]) -> dict[Block, int]:
    """Each block in turn into the smallest gap, between those that are placed and live at the same time, that holds
    it; else behind them."""
    offsets: dict[Block, int] = {}
    periods: dict[int, list[Block]] = {}  # who lives when, so that not all blocks are compared with all
    for block in blocks:
        size = _int(block.size)
        times = range(block.live.first // _PERIOD, block.live.last // _PERIOD + 1)
        others = {b for t in times for b in periods.setdefault(t, [])}
        near = sorted((offsets[b], offsets[b] + _int(b.size)) for b in others if b.live.overlaps(block.live))
        for t in times:
            periods[t].append(block)
        at, best, gap = 0, -1, 0
        for low, high in near:
            if low - at >= size and (best < 0 or low - at < gap):
                best, gap = at, low - at
            at = max(at, high)
        offsets[block] = at if best < 0 else best
    return offsets


def _place_symbolic(blocks: Sequence[Block], start: int) -> Dim:
    """Offsets for blocks whose size depends on the shape, from `start` on: blocks that are never live together and
    whose sizes compare for every shape share a slot, slots lie one after the other. Gives the end."""
    slots: list[tuple[Dim, list[Block]]] = []
    for block in sorted(blocks, key=lambda b: (-_sample(b.size), b.live.first)):
        fits = [
            i
            for i, (size, users) in enumerate(slots)
            if _at_least(size, block.size) and not any(u.live.overlaps(block.live) for u in users)
        ]
        if fits:
            slots[min(fits, key=lambda i: _sample(slots[i][0]))][1].append(block)
        else:
            slots.append((block.size, [block]))
    at: Dim = start
    for size, users in slots:
        for user in users:
            user.offset = at
        at = as_dim(as_expr(at) + size)
    return at


def _sample(size: Dim) -> int:
    """The size when every symbol is 64, to order by."""
    e = as_expr(size)
    return int(e.evaluate(dict.fromkeys(e.symbols(), 64)))


def _at_least(a: Dim, b: Dim) -> bool:
    """True when `a >= b` for all shapes."""
    if a == b or as_expr(a) == maximum(a, b):
        return True
    difference = as_expr(a) - b
    low, _ = difference.bounds(symbol_ranges(difference))
    return low is not None and low >= 0


def _place_weights(program: Program) -> int:
    """Offsets of the weights in order of first use; gives the size of the section."""
    at = 0
    for op in program.walk():
        if isinstance(op, Weight):
            at = _place_weight(op, at)
    return -(-at // ALIGNMENT) * ALIGNMENT


def _place_weight(op: Weight, at: int) -> int:
    """Give `op` the first good offset from `at` on; gives its end."""
    size = _int(op.result.tensor.storage_bytes)
    align = PAGE if size >= _BIG_WEIGHT else ALIGNMENT
    op.set_attribute("offset", -(-at // align) * align)
    return op.offset + size


def share_weights(programs: Sequence[Program]) -> None:
    """Lay the weights of planned programs out anew, in one section for all: what several of them have, in one layout,
    is there once."""
    at = 0
    places: dict[object, int] = {}
    for program in programs:
        for op in program.walk():
            if not isinstance(op, Weight):
                continue
            # Data in memory may be the same though it was computed (folded, say) for each program.
            source = op.value if isinstance(op.value.source, FileSource | PiecesSource) else op.value.digest()
            key = (source, op.result.tensor)
            if key in places:
                op.set_attribute("offset", places[key])
            else:
                at = _place_weight(op, at)
                places[key] = op.offset
    for program in programs:
        program.attributes["weights_bytes"] = -(-at // ALIGNMENT) * ALIGNMENT
