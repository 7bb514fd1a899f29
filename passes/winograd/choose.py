"""Which convolutions are worth Winograd's algorithm, with which tiles and blocks: a model of cycles and of memory.

The arithmetic that is saved (9 m^2 / t^2 multiplications become one) is weighed against the transforms, what the last
tiles compute in vain, and the transformed weights, which are t^2 / 9 times as many bytes and are read once per block.
Calibrated on a core with one and on one with two 512-bit multiply-adds per cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...ir.target_info import TargetInfo
from ..schedule.tiles import rows_for, tile_cycles
from .kernel import Plan
from .match import Convolution
from .transforms import SIZES, TAPS

_FEW = 16  # channels below which a dimension does not fill vectors and panels
_MARGIN = 0.9  # of the direct kernel's time that an alternative may take at most
_COLD = 4.5  # bytes per cycle of weights that come from memory: a network's do not stay in a cache
_HIDDEN = 0.5  # of the time of the products, in which weights may arrive
_GAIN = 0.96  # of the time with smaller tiles that larger ones may take at most: they are less exact
_NEAR, _FAR = 32.0, 16.0  # bytes per cycle from the second and the third cache, while the core computes
_ROOM = 0.6  # of the second cache for the transformed tiles of a block
_MOST_TILES = 64  # in a block
_PANEL_STEP = 3.0  # steps of a sum that the first and the last of a register tile cost


@dataclass(frozen=True)
class Choice:
    """A way to compute a convolution: `plan` (None: directly), estimated cycles of all threads together, and bytes of
    its weights."""

    plan: Plan | None
    cycles: float
    bytes: int


def options(conv: Convolution, target: TargetInfo, threads: int, sizes: Sequence[int] = SIZES) -> list[Choice]:
    """The direct way, then those that are faster, from few bytes of weights to many."""
    direct = Choice(None, _direct(conv, target), 4 * TAPS**2 * conv.channels * _packed(conv.outputs, target))
    if min(conv.channels, conv.outputs) < _FEW:
        return [direct]
    found = [direct]
    for m in sorted(sizes):
        best = min(_choices(conv, m, target, threads), key=lambda c: c.cycles, default=None)
        if best is not None and best.cycles < _MARGIN * direct.cycles and best.cycles < _GAIN * found[-1].cycles:
            found.append(best)
    return found


def select(options: Sequence[Sequence[Choice]], room: float) -> list[Choice]:
    """One choice for each convolution so that the weights grow by at most `room` bytes: steps that save most cycles
    per byte first."""
    chosen = [0] * len(options)
    while True:
        best: tuple[float, int, int] | None = None
        for n, ways in enumerate(options):
            now = ways[chosen[n]]
            for k, way in enumerate(ways[chosen[n] + 1 :], chosen[n] + 1):
                more = way.bytes - now.bytes
                rate = (now.cycles - way.cycles) / max(more, 1)
                if more <= room and (best is None or rate > best[0]):
                    best = rate, n, k
        if best is None:
            return [ways[k] for ways, k in zip(options, chosen, strict=True)]
        _, n, k = best
        room -= options[n][k].bytes - options[n][chosen[n]].bytes
        chosen[n] = k


def _packed(columns: int, target: TargetInfo) -> int:
    """Columns of weights that are stored, in whole panels."""
    lanes = target.lanes(4)
    panel = lanes if columns <= lanes else 2 * lanes
    return -(-columns // panel) * panel


def _direct(conv: Convolution, target: TargetInfo) -> float:
    """Cycles of the direct kernel."""
    points = math.prod(conv.points)
    weights = 4 * TAPS**2 * conv.channels * conv.outputs
    vectors = -(-conv.outputs // target.lanes(4))
    product = points * TAPS**2 * conv.channels * vectors / target.fma_ports / 0.95
    return product + _arrival(weights, product)


def _arrival(size: int, product: float) -> float:
    """Cycles spent waiting for `size` bytes of weights from memory, besides those in which `product` is computed."""
    return max(size / _COLD - _HIDDEN * product, 0.3 * size / _COLD)


def _choices(conv: Convolution, m: int, target: TargetInfo, threads: int) -> Iterator[Choice]:
    t = m + TAPS - 1
    n, h, w = conv.points
    down, across = -(-h // m), -(-w // m)
    channels = _group(conv.outputs)
    size = 4 * t * t * conv.channels * (conv.outputs // channels) * _packed(channels, target)
    # Wide blocks: neighbours along a row share lines of the image and pages of memory.
    shapes = [(1, c) for c in _parts(across)] + [(r, across) for r in _parts(down) if r > 1]
    for rows, columns in shapes:
        for images in _parts(n) if (rows, columns) == (down, across) else (1,):
            plan = Plan(m, images, rows, columns, channels)
            if plan.tiles <= _MOST_TILES:
                yield Choice(plan, _cycles(conv, plan, size, target, threads), size)


def _parts(extent: int) -> list[int]:
    """Sizes of equal parts, the last of which may be smaller."""
    return sorted({-(-extent // parts) for parts in range(1, extent + 1)})


def _group(outputs: int) -> int:
    """Output channels at a time: few, so that their products stay near."""
    return next((g for g in (32, 48, 64, 80, 96, 112) if outputs % g == 0), outputs)


def _cycles(conv: Convolution, plan: Plan, size: int, target: TargetInfo, threads: int) -> float:
    lanes, ports = target.lanes(4), target.fma_ports
    edge = (plan.m + TAPS - 1) ** 2
    tiles, blocks = plan.tiles, math.prod(plan.blocks(conv))
    inputs, outputs = -(-conv.channels // lanes), -(-conv.outputs // lanes)
    vectors = min(2, outputs)
    rows = rows_for(tiles, vectors, target)
    full, rest = divmod(tiles, rows)
    step = full * tile_cycles(rows, vectors, target) + (tile_cycles(rest, vectors, target) if rest else 0)
    product = edge * step * (conv.channels + _PANEL_STEP) * -(-outputs // vectors)
    # Per tile and vector of channels: 180 cycles in and 380 out for m = 4, of which stores are a good part.
    effort = 0.5 + edge / 8
    change = tiles * edge * (inputs * effort + outputs * (effort + 1.0 + 10.0 * plan.m**2 / edge))
    change *= 0.5 + 0.5 / ports
    near = 4 * edge * tiles * (conv.channels + plan.channels)
    spill = max(0.0, 4 * edge * tiles * conv.channels - _ROOM * target.l2_bytes) * 2 / _FAR
    held = near + size <= 0.9 * target.l2_bytes
    stream = 0.3 * size / (_NEAR if held else _FAR)
    groups = conv.outputs // plan.channels
    parts = blocks if blocks > 1 else groups
    idle = -(-parts // threads) * threads / parts
    return blocks * (product + change + spill + stream) * idle + _arrival(size, blocks * product)
