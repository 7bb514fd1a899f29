"""Operators over windows whose sizes only the run knows, against the same model with its sizes as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import info, make, node

from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph
from planish.onnx_backend import made_symbolic

RNG = np.random.default_rng(7)
CASES: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("MaxPool", [(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [(1, 2, 7, 8)], {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", [(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    (
        "AveragePool",
        [(1, 2, 7, 8)],
        {"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    ("Conv", [(1, 2, 7, 8), (3, 2, 3, 3)], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", [(1, 2, 4, 5), (2, 3, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", [(1, 2, 4, 5), (2, 3, 3, 3), (3,)], {"strides": [3, 2], "output_shape": [10, 8]}),
    ("CausalConvWithState", [(2, 3, 5), (3, 1, 4), (3,)], {"activation": "silu"}),
]


@pytest.mark.parametrize(("kind", "shapes", "attributes"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_sizes_that_only_the_run_knows(kind: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> None:
    arrays = {f"x{i}": RNG.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}
    inputs = {name: info(name, list(a.shape)) for name, a in arrays.items()}
    model = make([node(kind, list(arrays), **attributes)], inputs)
    if kind == "CausalConvWithState":
        model.opset_import[0].version = onnx.defs.get_schema(kind).since_version
    want, got = (run_graph(read_onnx(m.SerializeToString()), arrays)["y"] for m in (model, made_symbolic(model)))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
