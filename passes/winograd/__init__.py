"""Winograd's minimal filtering for 3x3 convolutions: see `Winograd`."""

from __future__ import annotations

from ...ir.constants import Constant, ConstantData, LinearSource
from ...ir.core import Graph
from ...ir.kernel.form import KernelOp
from ..base import Pass
from .choose import options, select
from .kernel import Plan, build
from .match import Convolution, match
from .transforms import SIZES, transforms

_SMALL = 1 << 20  # bytes that weights may grow by in any case


class Winograd(Pass, name="winograd"):
    """Compute 3x3 convolutions with fewer multiplications where that is faster.

    `growth` bounds the bytes of all weights of the model as they are packed, relative to what they were (1 MB more is
    always fine); `most` is the largest tile of outputs (2, 4 or 6); `only` takes one size wherever the algorithm
    applies, faster or not (for tests).
    """

    growth: float = 1.5
    most: int = 6
    only: int = 0

    def run_graph(self, graph: Graph) -> bool:
        target = self.context.weights_target
        found = [match(op) for op in graph.body if isinstance(op, KernelOp)]
        convs = [c for c in found if c is not None]
        ways: list[Plan | None] = []
        if self.only:
            ways = [forced(c, self.only) for c in convs]
        elif target is not None:
            sizes = [m for m in SIZES if m <= self.most]
            before = sum(op.value.nbytes for op in graph.body if isinstance(op, Constant))
            choices = [options(c, target, self.context.threads, sizes) for c in convs]
            padding = sum(c[0].bytes - conv.weights.nbytes for c, conv in zip(choices, convs, strict=True))
            room = max((self.growth - 1) * before - padding, _SMALL) if self.growth > 1 else 0.0
            ways = [c.plan for c in select(choices, room)]
        for conv, plan in zip(convs, ways, strict=True):
            if plan is not None:
                rewrite(conv, plan)
        return any(plan is not None for plan in ways)


def forced(conv: Convolution, m: int) -> Plan:
    """Some plan with tiles of `m`, in blocks of about two rows of tiles: for tests."""
    _, h, w = conv.points
    groups = next(g for g in (32, 16, conv.outputs) if conv.outputs % g == 0)
    return Plan(m, 1, min(2, -(-h // m)), min(7, -(-w // m)), groups)


def rewrite(conv: Convolution, plan: Plan) -> KernelOp:
    """Replace a convolution by its Winograd form."""
    op = conv.kernel
    assert op.parent is not None
    matrix = transforms(plan.m).weights()
    shape = len(matrix), conv.outputs // plan.channels, plan.channels, conv.channels
    data = ConstantData("f32", shape, LinearSource(conv.weights, matrix))
    weight = op.args[conv.weight.buffer.index]
    constant = op.parent.insert_before(op, Constant(data, loc=weight.op.loc if weight.op else op.loc))
    constant.result.name = weight.name and f"{weight.name}_winograd"
    fused = build(conv, plan, constant.result)
    op.parent.insert_before(op, fused)
    op.replace_by(fused.results)
    if weight.op is not None and not weight.uses:
        weight.op.erase()
    return fused
