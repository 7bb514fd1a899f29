"""A second shape for a test of the dynamic column: every dimension that the inputs have in common grows by one, and
ONNX's reference evaluator says what comes out. Where it refuses the inputs, there is no second shape."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .cases import Case
from .ranks import rank_inputs

_LARGEST = 1 << 14  # elements of an input up to which there is a second shape
_GROWTH = 1


def second_shape(
    case: Case, model: onnx.ModelProto, data: list[tuple[list[Any], list[Any]]]
) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs at another shape; nothing where there is none."""
    if not data or model.graph.initializer or "random" in case.name or "bernoulli" in case.name:
        return []
    inputs = data[0][0]
    if not all(isinstance(x, np.ndarray) and x.size <= _LARGEST for x in inputs):
        return []
    fixed = {*rank_inputs(model), *(n for node in model.graph.node for n in _lists(node))}
    names = [i.name for i in model.graph.input]
    # Integers are often shapes and places: they stay as they are, and so do the sizes of dimension 1, which broadcasts.
    grown = [x if n in fixed or x.dtype.kind in "iu" else _grown(x) for n, x in zip(names, inputs, strict=False)]
    if all(a.shape == b.shape for a, b in zip(inputs, grown, strict=True)):
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
    """Inputs with one number for each dimension of another: their length is not free."""
    first = {"Resize": 1, "Upsample": 1}.get(node.op_type)
    return [] if first is None else list(node.input[first:])


def _grown(x: np.ndarray) -> np.ndarray:
    """`x` with one more row, a copy of the first, along the first dimension above 1."""
    axis = next((i for i, n in enumerate(x.shape) if n > 1), None)
    return x if axis is None else np.concatenate([x, np.take(x, range(_GROWTH), axis)], axis)


def _alike(case: Case, found: Any, wanted: list[Any]) -> bool:
    try:
        for a, b in zip(found, wanted, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                return False
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), case.rtol, max(case.atol, 1e-5))
    except (AssertionError, AttributeError, TypeError, ValueError):
        return False
    return True
