"""Dead code elimination: operations whose results nobody uses."""

from __future__ import annotations

from ..ir.core import Graph, Op, Region
from ..ir.kernel.form import KernelOp
from .base import Pass


class Dce(Pass, name="dce"):
    """Remove operations whose results are unused and that do nothing else."""

    def run_graph(self, graph: Graph) -> bool:
        return remove_dead(graph)


def remove_dead(graph: Graph) -> bool:
    """Erase every dead operation of `graph`, the last first, so that one sweep suffices. True when there was one."""
    return _sweep(graph.body)


def _sweep(region: Region) -> bool:
    changed = False
    for op in reversed(region):
        if _erase_if_dead(op):
            changed = True
        elif op.regions and not isinstance(op, KernelOp):
            # Regions of control flow; what a kernel's region writes is its result.
            for inner in op.regions:
                changed |= _sweep(inner)
    return changed


def _erase_if_dead(op: Op) -> bool:
    if op.side_effects or op.terminator or any(r.uses for r in op.results):
        return False
    op.erase()
    return True
