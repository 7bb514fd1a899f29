"""Canonicalization: the tensor form in the one shape that later passes expect. One file of patterns per family."""

from __future__ import annotations

from ...ir.core import Graph
from ..base import Pass
from ..rewrite import PatternSet, apply_patterns
from . import activation, arith, nn, norm, shape

CANONICAL = PatternSet([*arith.PATTERNS, *shape.PATTERNS, *nn.PATTERNS, *norm.PATTERNS, *activation.PATTERNS])


class Canonicalize(Pass, name="canonicalize"):
    """Bring operations into the one form that later passes expect."""

    limit: int = 64

    def run_graph(self, graph: Graph) -> bool:
        return apply_patterns(graph, CANONICAL, rounds=self.limit)
