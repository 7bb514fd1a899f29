"""Quantised constants that are not multiplied as integers."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.ops.indexing import Gather
from ...ir.ops.quant import Dequantize
from ..canonicalize.match import constant, only_use
from ..rewrite import Builder, Pattern


def gather_from_stored(op: Gather, b: Builder) -> Sequence[Value] | None:
    """`gather(dequantize(table), at)` -> `dequantize(gather(table, at))`: the table stays as small as it is"""
    step = only_use(op.x, Dequantize)
    if step is None or constant(step.x) is None or step.scale.tensor.elements != 1 or step.block:
        return None
    return [b(Dequantize(b(Gather(step.x, op.indices, op.axis)), step.scale, step.zero))]


def dequantize_now(op: Dequantize, b: Builder) -> Sequence[Value] | None:
    """A dequantised constant -> a constant of floats"""
    operands = [constant(v) for v in op.operands]
    if any(v is not None and d is None for v, d in zip(op.operands, operands, strict=True)):
        return None
    if any(isinstance(user, Gather) for user in op.result.users):
        return None
    arrays = [None if d is None else d.array() for d in operands]
    return [b.constant(ConstantData.of(op.reference(*arrays)))]


PATTERNS: list[Pattern] = [gather_from_stored, dequantize_now]
