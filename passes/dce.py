"""Dead code elimination: operations whose results nobody uses."""

from __future__ import annotations

from ..ir.core import Graph, Op
from .base import Pass


class Dce(Pass, name="dce"):
    """Remove operations whose results are unused and that do nothing else."""

    def run_graph(self, graph: Graph) -> bool:
        return remove_dead(graph)


def remove_dead(graph: Graph) -> bool:
    """Erase every dead operation of `graph`, the last first, so that one sweep suffices. True when there was one."""
    dead = [op for op in reversed(graph.body) if _erase_if_dead(op)]
    return bool(dead)


def _erase_if_dead(op: Op) -> bool:
    # Operations with regions at the top of a graph (kernels) have value semantics: what they write is their result.
    if op.side_effects or op.terminator or any(r.uses for r in op.results):
        return False
    op.erase()
    return True
