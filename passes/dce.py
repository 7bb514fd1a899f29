"""Dead code elimination: operations whose results nobody uses."""

from __future__ import annotations

from ..ir.core import Graph, Op, Region
from ..ir.kernel.form import KernelOp
from ..ir.ops.host import HostOp
from ..ir.types import type_symbols
from .analysis.levels import symbols_of
from .base import Pass


class Dce(Pass, name="dce"):
    """Remove operations whose results are unused and that do nothing else."""

    def run_graph(self, graph: Graph) -> bool:
        return remove_dead(graph)


def remove_dead(graph: Graph) -> bool:
    """Erase every dead operation of `graph`, the last first, so that one sweep suffices. True when there was one."""
    return _sweep(graph.body, _readers(graph.body))


_Readers = dict[str, set[Op]]


def _readers(body: Region) -> _Readers:
    """The operations whose types or attributes have a symbol, for the symbols that host operations find."""
    found: _Readers = {}
    if any(isinstance(op, HostOp) and op.fresh_sizes() for op in body.walk()):
        for op in body.walk():
            values = [*op.results, *(p for r in op.regions for p in r.params)]
            symbols = symbols_of(tuple(op.attributes.values())).union(*(type_symbols(v.type) for v in values))
            for name in symbols:
                found.setdefault(name, set()).add(op)
    return found


def _sweep(region: Region, readers: _Readers) -> bool:
    changed = False
    for op in reversed(region):
        if _erase_if_dead(op, readers):
            changed = True
        elif op.regions and not isinstance(op, KernelOp):
            # Regions of control flow; what a kernel's region writes is its result.
            for inner in op.regions:
                changed |= _sweep(inner, readers)
    return changed


def _erase_if_dead(op: Op, readers: _Readers) -> bool:
    if op.side_effects or op.terminator or any(r.uses for r in op.results):
        return False
    if isinstance(op, HostOp) and any(readers.get(name, set()) - {op} for name in op.fresh_sizes()):
        return False  # nobody reads the result, but somebody its size
    op.erase()
    return True
