"""Which part of a stage a thread takes: rows, so that it finds in its own caches what it wrote in the kernel before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...ir.core import Value
from ...ir.kernel.form import Map, Read
from ...ir.types import DTYPES
from .costs import extent

_PARTS = (8, 4, 2, 7)  # blocks of rows, if there must be some
_NEAR = 32.0  # bytes per cycle of what is read again for each block
_AGAIN = 0.03  # of a stage's time that this may take


def rows_first(stage: Map, order: Sequence[str], cycles: float) -> None:
    """Put blocks of rows outermost in the schedule of `stage`, where channels or groups were. `order`: its dimensions
    from the outermost in memory on; the first is the rows. What does not depend on rows is read once for each block,
    so there are only as many as is cheap beside the `cycles` of the whole."""
    schedule = stage.schedule
    assert schedule is not None
    extents = {d.name: extent(d.extent) for d in stage.dims}
    row = next((d for d in order if extents[d] > 1), "")
    lead = next((d for d, step in schedule.loops if extents[d] > step), "")
    if row in ("", lead, schedule.vector) or not lead:
        return
    step = next(s for d, s in schedule.loops if d == row)
    again = sum(_bytes(b) for b in {r.buffer: r for r in stage.walk() if isinstance(r, Read) and not _uses(r, row)})
    for parts in _PARTS:  # equal ones
        block, rest = divmod(extents[row], parts)
        if not rest and block > step and block % step == 0 and again * (parts - 1) / _NEAR <= _AGAIN * cycles:
            stage.schedule = replace(schedule, loops=((row, block), *schedule.loops))
            return


def _uses(read: Read, dim: str) -> bool:
    return any(dim in e.symbols() for e in read.map)


def _bytes(buffer: Value) -> int:
    t = buffer.tensor
    return math.prod(extent(d) for d in t.dims) * DTYPES[t.dtype].bytes
