"""Constant folding, over the operations' own NumPy reference.

A result is kept only if it is at most 1 MB or no larger than its operands; reshapes, transpositions and broadcasts of
constants refer to the same bytes where they can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..ir.constants import ArraySource, Constant, ConstantData, SplatSource
from ..ir.core import Graph, Op, Region
from ..ir.errors import PlanishError
from ..ir.kernel.form import KernelOp
from ..ir.ops.base import Elementwise, TensorOp
from ..ir.ops.shape import Expand, Reshape, Transpose
from ..ir.types import DTYPES, TensorType
from .base import Pass
from .canonicalize.match import MATERIALIZE_BYTES, constant


class Fold(Pass, name="fold"):
    """Compute operations whose operands are all constant."""

    limit: int = MATERIALIZE_BYTES

    def run_graph(self, graph: Graph) -> bool:
        return self._fold(graph.body)

    def _fold(self, region: Region) -> bool:
        changed = False
        for op in region:
            if isinstance(op, TensorOp):
                folded = fold(op, self.limit)
                if folded is not None:
                    made = [region.insert_before(op, _constant(data, op.loc)) for data in folded]
                    operands = [v.op for v in op.inputs]
                    op.replace_by([m.result for m in made])
                    _drop_unused(operands)
                    changed = True
            elif not isinstance(op, KernelOp):
                for inner in op.regions:
                    changed |= self._fold(inner)
        return changed


def _constant(data: ConstantData, loc: str) -> Constant:
    made = Constant(data)
    made.loc = loc
    return made


def _drop_unused(operands: Sequence[Op | None]) -> None:
    for op in dict.fromkeys(operands):
        if op is not None and op.parent is not None and not any(r.uses for r in op.results):
            op.erase()


def fold(op: TensorOp, limit: int = MATERIALIZE_BYTES) -> list[ConstantData] | None:
    """The results of `op` as constants; None when an operand is not constant or a result would be too large."""
    operands = [constant(v) for v in op.operands]
    known = [d for d in operands if d is not None]
    if len(known) != len(op.inputs) or not op.deterministic or not all(_foldable(r.type) for r in op.results):
        return None
    if any(d.dtype == "string" for d in known):
        return None
    cheap = _by_reference(op, known)
    if cheap is not None:
        return [cheap]
    size = sum(_bytes(r.tensor) for r in op.results)
    if size > max(limit, sum(d.nbytes for d in known)):
        return None
    arrays = [None if d is None else d.array() for d in operands]
    return _evaluate(op, arrays)


def _evaluate(op: TensorOp, arrays: Sequence[np.ndarray | None]) -> list[ConstantData] | None:
    try:
        with np.errstate(all="ignore"):
            results: Any = op.reference(*arrays)
    except (PlanishError, ArithmeticError, IndexError, ValueError, NotImplementedError):
        return None  # what is wrong with it shows when the model runs, with the node's name
    found = cast("tuple[Any, ...]", results) if isinstance(results, tuple) else (results,)
    constants: list[ConstantData] = []
    for result, array in zip(op.results, found, strict=True):
        t = result.tensor
        array = np.asarray(array)
        if array.shape != t.static_shape:
            return None
        constants.append(ConstantData.of(np.ascontiguousarray(array).reshape(array.shape), t.dtype))
    return constants


def _foldable(t: object) -> bool:
    return isinstance(t, TensorType) and t.is_static and t.dtype != "string"


def _bytes(t: TensorType) -> int:
    return math.prod(t.static_shape) * DTYPES[t.dtype].bytes


def _by_reference(op: TensorOp, operands: Sequence[ConstantData]) -> ConstantData | None:
    """The result without touching data; None where that cannot be."""
    shape = op.results[0].tensor.static_shape
    if isinstance(op, Transpose):
        return operands[0].permuted(op.perm)
    splats = all(isinstance(d.source, SplatSource) for d in operands)
    if isinstance(op, Reshape) and not operands[0].transpose:
        match operands[0].source:
            case ArraySource(array=array):
                return ConstantData.of(array.reshape(shape))
            case source:
                return ConstantData(operands[0].dtype, shape, source)
    if splats and operands and isinstance(op, Reshape | Expand):
        return ConstantData(operands[0].dtype, shape, operands[0].source)
    if splats and operands and isinstance(op, Elementwise) and math.prod(shape) > 1:
        return _splat(op, shape)
    return None


def _splat(op: Elementwise, shape: tuple[int, ...]) -> ConstantData | None:
    """An elementwise operation on constants of one value each: one element is computed."""
    data = [constant(v) for v in op.operands]
    arrays = [None if d is None else d.array().reshape(-1)[0].reshape(()) for d in data]
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(op.reference(*arrays))
    except (PlanishError, ArithmeticError, IndexError, ValueError, NotImplementedError):
        return None
    return ConstantData.splat(value.reshape(-1)[0].item(), op.result.tensor.dtype, shape)
