"""Winograd's minimal filtering for 3x3 convolutions: see `Winograd`."""

from __future__ import annotations

import numpy as np

from ...ir.constants import Constant, ConstantData
from ...ir.core import Graph
from ...ir.kernel.form import KernelOp
from ..base import Pass
from .kernel import Plan, build
from .match import Convolution, match
from .transforms import transforms


class Winograd(Pass, name="winograd"):
    """Compute 3x3 convolutions with fewer multiplications where that is faster."""

    m: int = 4
    rows: int = 2
    columns: int = 100
    channels: int = 64

    def run_graph(self, graph: Graph) -> bool:
        changed = False
        for op in graph.body:
            conv = match(op) if isinstance(op, KernelOp) else None
            plan = self._plan(conv) if conv is not None else None
            if conv is not None and plan is not None:
                rewrite(conv, plan)
                changed = True
        return changed

    def _plan(self, conv: Convolution) -> Plan | None:
        n, h, w = conv.points
        if conv.channels < 16 or conv.outputs % 32:
            return None
        channels = self.channels if conv.outputs % self.channels == 0 else 32
        return Plan(self.m, 1, min(self.rows, -(-h // self.m)), min(self.columns, -(-w // self.m)), channels)


def rewrite(conv: Convolution, plan: Plan) -> KernelOp:
    """Replace a convolution by its Winograd form."""
    op = conv.kernel
    assert op.parent is not None
    u = transforms(plan.m).weights(conv.weights.array()).astype(np.float32)
    u = u.reshape(u.shape[0], -1, plan.channels, conv.channels)
    constant = op.parent.insert_before(op, Constant(ConstantData.of(u), loc=conv.weights and op.args[conv.weight.buffer.index].op.loc))
    fused = build(conv, plan, constant.result)
    op.parent.insert_before(op, fused)
    for old, new in zip(op.results, fused.results, strict=True):
        new.name = old.name
    op.replace_by(fused.results)
    return fused
