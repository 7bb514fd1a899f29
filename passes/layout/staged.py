"""Contractions between locals: what their operands are made from, and what becomes of their results.

A kernel in stages (Winograd, for one) fills a local from its inputs, sums products of it into another local, and
writes its outputs from that. The dimension that the contraction wants innermost is followed through the locals to the
buffers outside: what is accessed in the stage that fills (or empties) the local moves along with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.kernel.form import Local, Read, Reduce, Write
from ..analysis.access import stages_around


def is_local(access: Read | Write) -> bool:
    """True when a buffer inside the kernel is accessed."""
    return isinstance(access.buffer.op, Local)


def sources(read: Read, coordinate: int) -> Iterator[tuple[Read, int]]:
    """The reads that the local behind `read` is made from, each with its coordinate that moves along with `coordinate`
    of the local."""
    for use in read.buffer.users:
        if isinstance(use, Write):
            for other, i in _together(use, coordinate):
                if isinstance(other, Read) and not is_local(other):
                    yield other, i


def sinks(write: Write, coordinate: int) -> Iterator[tuple[Write, int]]:
    """The writes that are made from the local behind `write`, with the coordinates that move along."""
    for use in write.buffer.users:
        if isinstance(use, Read):
            for other, i in _together(use, coordinate):
                if isinstance(other, Write) and not is_local(other):
                    yield other, i


def stored(reduce: Reduce) -> list[Write]:
    """Where the results of a reduction are written, as they are."""
    return [use for r in reduce.results for use in r.users if isinstance(use, Write)]


def _together(access: Read | Write, coordinate: int) -> Iterator[tuple[Read | Write, int]]:
    """Accesses in the stage whose dimension moves `coordinate` of `access`, with their coordinates that it moves."""
    names = access.map[coordinate].symbols()
    for stage in reversed(stages_around(access)):
        own = names & {d.name for d in stage.dims}
        if own:
            for other in stage.walk():
                if isinstance(other, Read | Write):
                    yield from ((other, i) for i, e in enumerate(other.map) if e.symbols() & own)
            return
