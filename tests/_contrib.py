"""Models of one node of ONNX Runtime's domain (`com.microsoft`), held against ONNX Runtime or operators of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx_models import agree, make, runtime

from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph

Array = Any


def node_model(
    op: str,
    inputs: Mapping[str, Array | None],
    outputs: int = 1,
    constants: tuple[str, ...] = (),
    domain: str = "com.microsoft",
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """One node; inputs that are None are left out. Those in `constants` become initializers."""
    names = [k if v is not None else "" for k, v in inputs.items()]
    feed = {k: np.asarray(v) for k, v in inputs.items() if v is not None and k not in constants}
    made = [f"y{i}" for i in range(outputs)]
    proto = helper.make_node(op, names, made, domain=domain, **attributes)
    model = make([proto], feed, made, {k: inputs[k] for k in constants})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model, feed


def agree_on(op: str, inputs: Mapping[str, Array | None], outputs: int = 1, rtol: float = 1e-4, **more: Any) -> None:
    model, feed = node_model(op, inputs, outputs, **more)
    agree(model, feed, rtol=rtol, atol=1e-5)


def hold_to(op: str, inputs: Mapping[str, Array | None], model: onnx.ModelProto, **more: Any) -> None:
    """Hold a node against a model in operators of ONNX."""
    own, feed = node_model(op, inputs, **more)
    expected = runtime(model, feed)
    got = run_graph(read_onnx(own.SerializeToString()), feed)
    for a, b in zip(got.values(), expected.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def ints(*shape: int, high: int = 2, seed: int = 0, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)
