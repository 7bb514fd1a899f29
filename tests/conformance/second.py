"""A second shape for a test of the dynamic column: every dimension that the inputs have in common grows by one, and
ONNX's reference evaluator says what comes out. Where it refuses the inputs, there is no second shape.

It alone is the judge, though it takes some inputs that the operators' definitions do not allow (sizes of a Split that
do not add up, boxes of five numbers), which then count as failures: ONNX Runtime as a second judge would refuse 162
tests, nearly all for an element type that its Python interface does not take."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .cases import Case

_LARGEST = 1 << 14  # elements of an input up to which there is a second shape
_GROWTH = 1
# Inputs that are shapes, axes or tuples of indices: operator -> number of the input
_SHAPES = {
    "Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Squeeze": 1, "Unsqueeze": 1, "AffineGrid": 1, "Col2Im": 1,
    "GatherND": 1, "RandomNormal": 0, "RandomUniform": 0,
}  # fmt: skip


def second_shape(
    case: Case, model: onnx.ModelProto, data: list[tuple[list[Any], list[Any]]]
) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs at another shape; nothing where there is none."""
    if not data or model.graph.initializer or "random" in case.name or "bernoulli" in case.name:
        return []
    inputs = data[0][0]
    if not all(isinstance(x, np.ndarray) and x.size <= _LARGEST for x in inputs):
        return []
    fixed = {name for node in model.graph.node for name in _lists(node)}
    names = [i.name for i in model.graph.input]
    size = _common(inputs)
    # One size grows wherever it occurs. Shapes and places that are inputs stay as they are: their length is a rank.
    grown = [x if n in fixed else _grown(x, size) for n, x in zip(names, inputs, strict=False)]
    if size is None:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(model).run(None, dict(zip(names, grown, strict=False)))
            same = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=False)))
    except Exception:
        return []
    if not _alike(case, same, data[0][1]) or not all(isinstance(v, np.ndarray) for v in found):
        return []  # the evaluator does not even agree with the test itself
    return [(grown, list(found))]


def _lists(node: onnx.NodeProto) -> list[str]:
    """Inputs with one number for each dimension of another, or whose length is a rank: it is not free."""
    if node.op_type in ("Resize", "Upsample"):
        return list(node.input[1:])
    reduces_away = node.op_type.startswith("Reduce") and any(a.name == "keepdims" and a.i == 0 for a in node.attribute)
    index = _SHAPES.get(node.op_type, 1 if reduces_away else len(node.input))
    return list(node.input[index : index + 1])


def _common(inputs: list[Any]) -> int | None:
    """The size that grows: the first one above 1 of an input of numbers that is no integer, else of any input."""
    real = [x for x in inputs if x.dtype.kind not in "iu"] or inputs
    return next((n for x in real for n in x.shape if n > 1), None)


def _grown(x: np.ndarray, size: int | None) -> np.ndarray:
    """`x` with one more row, a copy of the first, along every dimension of `size`."""
    for axis in (i for i, n in enumerate(x.shape) if n == size):
        x = np.concatenate([x, np.take(x, range(_GROWTH), axis)], axis)
    return x


def _alike(case: Case, found: Any, wanted: list[Any]) -> bool:
    try:
        for a, b in zip(found, wanted, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                return False
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), case.rtol, max(case.atol, 1e-5))
    except (AssertionError, AttributeError, TypeError, ValueError):
        return False
    return True
