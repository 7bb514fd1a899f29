"""Register tiles of reductions in which no row reuses a vector: depthwise convolutions, pooling, sums along outer
dimensions. What can be shared is what overlapping windows of neighbours read in common, and the weights of a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...ir.kernel.form import Read, Reduce, Schedule
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES
from .costs import extent
from .tiles import vectors_for

UNROLLED = 12  # reductions of at most so many points are unrolled completely (windows of 3 x 3)
ROW = 8  # the innermost dimension of a reduction is unrolled completely up to this extent
_MOST = 16  # points of a tile along one dimension
_FAR = 8  # accumulators of a tile whose operand comes from far away: more of them wait for more lines apart
_TILE = 6.0  # cycles of a tile besides its arithmetic: addresses and loops
_POINT = 3.0  # instructions that finish one accumulator


def unrolled(reduce: Reduce, order: Sequence[str]) -> dict[str, int]:
    """The dimensions of `reduce` that are unrolled completely, when its loops run in `order`."""
    extents = {d.name: d.extent for d in reduce.dims}
    points = math.prod(e if isinstance(e, int) else UNROLLED + 1 for e in extents.values())
    names = list(order) if points <= UNROLLED else list(order)[-1:]
    return {d: e for d in names if isinstance(e := extents[d], int) and (points <= UNROLLED or e <= ROW)}


@dataclass(frozen=True)
class Window:
    """A reduction whose `vector` dimension lies in lanes of `lanes` elements; `whole` of its own dimensions are
    unrolled completely."""

    reduce: Reduce
    vector: str
    lanes: int
    whole: Mapping[str, int]
    target: TargetInfo

    @property
    def reads(self) -> list[Read]:
        """What the reduction reads."""
        return [op for op in self.reduce.walk() if isinstance(op, Read)]

    @property
    def far(self) -> bool:
        """Whether what is read does not come from the second cache: then neighbouring lines come faster."""
        total = 0
        for t in {r.buffer: r.buffer.tensor for r in self.reads}.values():
            total += math.prod(extent(d) for d in t.dims) * DTYPES[t.dtype].bytes
        return total > self.target.l2_bytes

    def overlaps(self, dim: str) -> bool:
        """Whether neighbours along `dim` read common elements."""
        return self.loads({dim: 2}) < 2 * self.loads({})

    def loads(self, tile: Mapping[str, int]) -> int:
        """Vectors that one step under `tile` reads."""
        return sum(math.prod(self._places(r, tile)) for r in self.reads)

    def _places(self, read: Read, tile: Mapping[str, int]) -> list[int]:
        """How many different values each coordinate of `read` has."""
        found: list[int] = []
        for e in read.map:
            steps = [(e.coefficient(d), n) for d, n in (*tile.items(), *self.whole.items()) if e.coefficient(d)]
            points = itertools.product(*(range(n) for _, n in steps))
            found.append(len({sum(c * i for (c, _), i in zip(steps, p, strict=True)) for p in points}))
        return found

    def fits(self, tile: Mapping[str, int], vectors: int) -> bool:
        """Whether accumulators and what neighbours share stay in registers."""
        accumulators = math.prod(tile.values()) * vectors * len(self.reduce.inits)
        inner = max(tile, key=lambda d: list(tile).index(d), default="")
        rows = math.prod(n for d, n in tile.items() if d != inner)
        shared = 0
        if inner and self.overlaps(inner):
            row = {d: n if self._along(inner, d) else 1 for d, n in self.whole.items()}
            line = Window(self.reduce, self.vector, self.lanes, row, self.target)
            shared = max((math.prod(line._places(r, {inner: tile[inner]})) for r in self.reads), default=0)
        return accumulators + shared * rows * vectors + 1 <= self.target.vector_registers

    def _along(self, dim: str, own: str) -> bool:
        return any(e.coefficient(dim) and e.coefficient(own) for r in self.reads for e in r.map)

    def cycles(self, tile: Mapping[str, int], vectors: int) -> float:
        """Of one tile of `vectors` vectors: limited by arithmetic, by loads, or by the chain of one accumulator."""
        ports = self.target.fma_ports  # a register that takes both units takes both ways to the cache, too
        accumulators = math.prod(tile.values()) * vectors * len(self.reduce.inits)
        points = max(1, math.prod(self.whole.values()))
        rounds = math.prod(extent(d.extent) for d in self.reduce.dims) / points
        chain = points * self.target.fma_latency / 2  # half of it hides behind the tile before
        step = max(points * accumulators / ports, self.loads(tile) * vectors / ports, chain)
        return rounds * step + accumulators * _POINT / ports + _TILE


def _pieces(n: int, step: int) -> Iterator[tuple[int, int]]:
    """Tiles along `n` elements: their size and number."""
    if n // step:
        yield step, n // step
    if n % step:
        yield n % step, 1


def best_tile(window: Window, dims: Sequence[str], extents: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """The tile along `dims` (the innermost last) and its number of vectors with the fewest cycles for all points."""
    groups = -(-extents[window.vector] // window.lanes)

    def cost(sizes: Sequence[int], vectors: int) -> float:
        total = 0.0
        for parts in itertools.product(*(_pieces(extents[d], s) for d, s in zip(dims, sizes, strict=True))):
            tile = {d: size for d, (size, _) in zip(dims, parts, strict=True)}
            for v, count in _pieces(groups, vectors):
                total += math.prod(n for _, n in parts) * count * window.cycles(tile, v)
        return total

    counts = list(range(1, min(4, groups) + 1))
    most = _MOST
    if window.far:
        counts = [vectors_for(extents[window.vector], window.lanes, 4)]
        most = _FAR // counts[0]
    ranges = [range(1, min(most if d == dims[-1] else 4, extents[d]) + 1) for d in dims]
    choices = [
        (sizes, v)
        for sizes in itertools.product(*ranges)
        for v in counts
        if window.fits(dict(zip(dims, sizes, strict=True)), v)
    ]
    sizes, vectors = min(choices, key=lambda c: (cost(*c), math.prod(c[0]) * c[1]), default=([1] * len(dims), 1))
    return dict(zip(dims, sizes, strict=True)), vectors


def window_schedule(
    window: Window, order: Sequence[str], others: Sequence[str], extents: Mapping[str, int]
) -> Schedule:
    """The loops of a map of `window` over `order` (`others`: those of more than one point, without lanes): rows of
    neighbours that share, blocks of lanes of which the rows that a window needs stay in the first cache."""
    inner = others[-1:]
    if inner and window.overlaps(inner[0]) and len(others) > 1 and window.overlaps(others[-2]):
        inner = others[-2:]
    tile, vectors = best_tile(window, inner, extents)
    step = vectors * window.lanes
    last = inner[-1:]
    loops = [(d, tile.get(d, 1)) for d in order if d != window.vector and d not in last]
    block = _block(window, inner, extents, step) if len(inner) > 1 else 0
    if 0 < block < extents[window.vector]:
        at = next(i for i, (d, _) in enumerate(loops) if d == inner[0])
        loops.insert(at, (window.vector, block))
    if (window.vector, step) not in loops:
        loops.append((window.vector, step))
    loops += [(d, tile[d]) for d in last]
    return Schedule(tuple(loops), window.vector)


def _block(window: Window, inner: Sequence[str], extents: Mapping[str, int], step: int) -> int:
    """Elements of the vector dimension of which the rows of one window fit half of the first cache; 0 for all."""
    if window.far:
        return 0
    rows = Window(window.reduce, "", 1, {d.name: extent(d.extent) for d in window.reduce.dims}, window.target)
    size = max(DTYPES[r.buffer.tensor.dtype].bytes for r in window.reads)
    places = rows.loads({inner[-1]: extents[inner[-1]]})
    return max(1, window.target.l1_bytes // 2 // (places * size * step)) * step
