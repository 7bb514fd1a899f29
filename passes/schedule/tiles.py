"""Register tiles and orders of loops, chosen by small models of the core and its caches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir.target_info import TargetInfo


def vectors_for(n: int, lanes: int, most: int) -> int:
    """Vectors of a tile along a dimension of `n` elements: as many as `most`, fewer when that wastes less."""
    whole = -(-n // lanes)
    if whole <= most:
        return max(1, whole)
    return min(range(1, most + 1), key=lambda v: (-(-whole // v) * (v + 0.5), -v))


def halved(n: int, target: TargetInfo, size: int) -> tuple[TargetInfo, int] | None:
    """Where a wide register takes both units of the core, half of one is as fast by lane: the target with such halves,
    and how many of them hold `n` elements of `size` bytes, if an odd number in one tile does (24 are three of 8)."""
    if target.vector_bytes != 64 or target.fma_ports != 1:
        return None
    half = replace(target, vector_bytes=32, fma_ports=2)
    count = -(-n // half.lanes(size))
    return (half, count) if count % 2 and count <= 5 else None


def row_limit(target: TargetInfo, vectors: int) -> int:
    """Rows of a contraction's tile: accumulators, the vectors of one step and the broadcast values that LLVM loads
    ahead must fit the registers. Measured: 10 x 2, 7 x 3 and 6 x 4 of 32 registers, 5 x 2 and 3 x 3 of 16 run without
    spills; one row more spills. With one vector, 32-register targets multiply from memory without loading ahead.
    Without multiply-add a product needs a register of its own: 4 x 2 and 2 x 4 of 16."""
    if not target.fused:
        return max(1, (target.vector_registers - vectors) // (vectors + 1))
    if vectors == 1:
        return max(1, target.vector_registers // 2 - (target.vector_registers < 32))
    return max(1, (target.vector_registers + 2 - vectors) // (vectors + 1))


def tile_cycles(rows: int, vectors: int, target: TargetInfo) -> float:
    """Cycles of one step of a reduction under a tile of `rows` broadcast values and `vectors` vectors: limited by
    multiply-adds, by loads, or by the latency of one accumulator's chain."""
    ports = target.fma_ports
    return max(rows * vectors / ports, (rows + vectors) / 2, float(target.fma_latency)) + 0.5


def panel_vectors(panel: int, rows: int, target: TargetInfo) -> int:
    """How many of the `panel` vectors that a packed panel has to take at a time, for a product of `rows` rows: those
    that make the best tile. Weights may be packed for wider vectors than the target's."""

    def cost(vectors: int) -> float:
        tile = max(1, min(row_limit(target, vectors), rows))
        return tile_cycles(tile, vectors, target) / (tile * vectors)

    fitting = [v for v in range(1, max(1, target.vector_registers // 4) + 1) if panel % v == 0]
    return min(fitting, key=lambda v: (cost(v), v))


def rows_for(n: int, vectors: int, target: TargetInfo) -> int:
    """Rows of a tile along a dimension of `n` elements."""
    limit = max(1, min(row_limit(target, vectors), n))

    def cost(rows: int) -> float:
        full, rest = divmod(n, rows)
        total = full * tile_cycles(rows, vectors, target)
        if rest:
            total += tile_cycles(rest, vectors, target)
            total *= 1.04  # code of its own
        return total

    return min(range(1, limit + 1), key=lambda r: (cost(r), -r))


def row_tile(extents: Sequence[int], vectors: int, target: TargetInfo) -> list[int]:
    """Tile of several row dimensions, the last one innermost: along the last, and, when that is short, along the one
    before it too."""
    tile = [1] * len(extents)
    if not extents:
        return tile
    tile[-1] = rows_for(extents[-1], vectors, target)
    limit = row_limit(target, vectors)
    if len(extents) > 1 and tile[-1] == extents[-1] and 2 * tile[-1] <= limit:
        inner = tile[-1]

        def cost(rows: int) -> float:
            full, rest = divmod(extents[-2], rows)
            return full * tile_cycles(rows * inner, vectors, target) + (
                tile_cycles(rest * inner, vectors, target) if rest else 0
            )

        tile[-2] = min(range(1, min(limit // inner, extents[-2]) + 1), key=lambda r: (cost(r), -r))
    return tile


_PARTS = 16  # blocks are the unit that threads share: at least so many


@dataclass(frozen=True)
class Traffic:
    """What a contraction reads: bytes of all rows (`a`), of all columns (`b`); number of column tiles."""

    a: float
    b: float
    column_tiles: int


def row_block(rows: int, step: int, traffic: Traffic, target: TargetInfo) -> int:
    """How many of `rows` (the outermost row dimension, tiled by `step`) to take through all columns before the next:
    `rows` puts columns outermost, `step` puts rows outermost."""

    def level(size: float) -> float:  # relative cost of a byte that lives there
        if size <= 0.6 * target.l2_bytes:
            return 1.0
        return 4.0 if size <= 0.5 * target.l3_bytes else 10.0

    def cost(block: int) -> float:
        part = traffic.a * min(1.0, block / rows)
        passes = math.ceil(rows / block)
        first = 4.0 * (traffic.a + traffic.b)
        return (
            first + traffic.a * (traffic.column_tiles - 1) * level(part) + traffic.b * (passes - 1) * level(traffic.b)
        )

    blocks, block = [rows], step
    while block < rows:
        if math.ceil(rows / block) * traffic.column_tiles >= _PARTS:
            blocks.append(block)
        block *= 2
    best = min(blocks, key=lambda b: (cost(b), -b))
    even = math.ceil(rows / math.ceil(rows / best))  # blocks of one size, for threads that work in step
    return min(rows, -(-even // step) * step)
