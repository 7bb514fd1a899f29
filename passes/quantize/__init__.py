"""Products of quantised operands as products of integers: see `IntegerProducts`."""

from __future__ import annotations

from ...ir.core import Graph
from ..base import Pass
from ..rewrite import PatternSet, apply_patterns
from . import products, steps, stored
from .halves import WidenHalves

__all__ = ["IntegerProducts", "WidenHalves"]

INTEGER_PRODUCTS = PatternSet([*products.PATTERNS, *steps.PATTERNS])
STORED = PatternSet(stored.PATTERNS)


class IntegerProducts(Pass, name="integer-products"):
    """Compute products of quantised tensors with constant quantised weights in integers.

    `sum (a - za)(w - zw)` becomes `sum a w - za sum w - ...`, of 8-bit factors, with what does not depend on `a` known
    here; scales move behind the sum. So the weights stay 8 bits wide. Zero points of the weights are taken off them
    where 8 bits hold the rest. Weights that are not multiplied so become floats now, once.
    """

    def run_graph(self, graph: Graph) -> bool:
        changed = apply_patterns(graph, INTEGER_PRODUCTS)
        return apply_patterns(graph, STORED) or changed
