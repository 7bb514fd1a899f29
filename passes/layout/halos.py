"""Padding of buffers: a halo of zeros where windows reach outside, and a pitch that spreads rows over the cache."""

from __future__ import annotations

from ...ir.core import Graph, Value
from ...ir.kernel.form import Const, KernelOp, Read
from ...ir.types import DTYPES, Layout
from ..analysis.access import accesses, dims_around, ranges_of
from ..analysis.movement import box, moves
from .orders import contractions, is_param, outer

Pads = tuple[tuple[int, int], ...]
# A halo is not worth more memory than this many times the tensor.
_MOST_GROWTH = 3.0
_CACHE_PERIOD = 4096  # bytes after which addresses meet in the same set of the first cache
_LINE = 64


def halo_of(read: Read) -> Pads | None:
    """How far `read` reaches outside its buffer, when what it finds there is 0; None when that is unknown."""
    if read.fill is None or not read.buffer.tensor.is_static or read.indices:
        return None
    fill = read.fill.op
    if not (isinstance(fill, Const) and fill.value == 0):
        return None
    ranges = ranges_of(dims_around(read))
    pads: list[tuple[int, int]] = []
    for coordinate, extent in zip(read.map, read.buffer.tensor.static_shape, strict=True):
        low, high = coordinate.bounds(ranges)
        if low is None or high is None:
            return None
        pads.append((max(0, -low), max(0, high - extent + 1)))
    return tuple(pads)


def merged(a: Pads, b: Pads) -> Pads:
    """The larger of both at every side."""
    return tuple((max(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))


def halos(graph: Graph) -> dict[Value, Pads]:
    """The halo of zeros that every value should have, by what its readers need. What is read through a slice or lies
    in a concatenation hands its need on to the whole."""
    need: dict[Value, Pads] = {}

    def want(value: Value, pads: Pads) -> None:
        total = merged(need.get(value, pads), pads)
        if any(p != (0, 0) for p in total) and _modest(value, total):
            need[value] = total

    kernels = [op for op in graph.body if isinstance(op, KernelOp)]
    for op in kernels:
        for read in accesses(op.region):
            if isinstance(read, Read) and is_param(op, read.buffer):
                pads = halo_of(read)
                if pads is not None:
                    want(outer(op, read.buffer), pads)
    for op in kernels:
        for value, whole, pads in _parts(op, need):
            want(whole, pads)
            if value in need and whole not in need:
                del need[value]
    return need


def _parts(op: KernelOp, need: dict[Value, Pads]) -> list[tuple[Value, Value, Pads]]:
    """(part, whole, need of the whole) for each operand of a concatenation that needs a halo, without the sides where
    it has neighbours."""
    found: list[tuple[Value, Value, Pads]] = []
    for move in moves(op) or []:
        part, value = box(move), outer(op, move.read.buffer)
        if part is None or value not in need or len(op.results) != 1 or not op.result.tensor.is_static:
            continue
        shape = op.result.tensor.static_shape
        pads = tuple(p if part.extents[d] == shape[d] else (0, 0) for d, p in enumerate(need[value]))
        found.append((value, op.result, pads))
    return found


def _modest(value: Value, pads: Pads) -> bool:
    shape = value.tensor.static_shape
    grown = value.tensor.with_layout(Layout(pad=pads)).layout.size(shape)
    plain = value.tensor.elements
    return isinstance(grown, int) and isinstance(plain, int) and grown <= _MOST_GROWTH * max(1, plain)


def pitch_padding(value: Value, order: tuple[int, ...]) -> int:
    """Elements to add behind the innermost dimension so that neighbouring rows do not meet in the same cache sets."""
    shape = value.tensor.shape or ()
    last = order[-1]
    inner = shape[last]
    rows = [d for i, d in enumerate(shape) if i != last and d != 1]
    width = DTYPES[value.tensor.dtype].bytes
    if not isinstance(inner, int) or not rows or inner * width % _CACHE_PERIOD or not _is_operand(value):
        return 0
    return _LINE // width


def _is_operand(value: Value) -> bool:
    """True when a contraction reads rows of it."""
    for use in value.uses:
        if isinstance(use.op, KernelOp):
            buffers = {b for v, b in zip(use.op.args, use.op.buffers, strict=True) if v is value}
            if any(c.a.main.buffer in buffers for c in contractions(use.op)):
                return True
    return False
