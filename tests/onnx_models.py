"""Tiny ONNX models made in memory, and running them: helpers of the tests of the ONNX frontend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from planish.frontend.onnx import read_onnx
from planish.ir.core import Module
from planish.ir.interp import run_graph

Array = Any
ort: Any = onnxruntime  # its annotations are incomplete
Shape = Sequence[int | str | None]


def info(name: str, shape: Shape | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def make(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Array | onnx.ValueInfoProto],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
    name: str = "g",
) -> onnx.ModelProto:
    """A model. Inputs given as arrays get their shape and element type from them."""
    infos = [
        v
        if isinstance(v, onnx.ValueInfoProto)
        else info(k, np.shape(v), helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype))
        for k, v in inputs.items()
    ]
    outs = [onnx.ValueInfoProto(name=o) for o in outputs]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), name, infos, outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> NodeProto:
    """A node."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def runtime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs that ONNX Runtime gives, unoptimized."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names: list[str] = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def agree(model: onnx.ModelProto, inputs: Mapping[str, Array], rtol: float = 1e-5, atol: float = 1e-6) -> Module:
    """Import the model's bytes, run it, and hold it against ONNX Runtime. Returns the module."""
    module = read_onnx(model.SerializeToString())
    got, expected = run_graph(module, inputs), runtime(model, inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape, name
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=rtol, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=name)
    return module


def rand(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Reproducible numbers, about normal."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
