"""`planish.onnx_backend`: ONNX's backend interface on the compiler, for ONNX's own tests and for programs that use it.

import planish.onnx_backend as backend
outputs = backend.prepare(model, opt=3).run([x])
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep

from planish.compile import compile_file
from planish.ir.errors import PlanishError
from planish.runtime import Model, load

_NAMES = ("opt", "symbolic", "threads", "passes", "cache", "emit")


class PlanishRep(BackendRep):
    """A compiled model; `run` takes the inputs in the order of the graph's inputs, or by name."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the order of the graph. `inputs`: arrays or TensorProtos. Raises `PlanishError`."""
        del kwargs
        ports = self.model.inputs
        if isinstance(inputs, Mapping):
            named = cast("Mapping[str, Any]", inputs)
        else:
            listed = _listed(inputs)
            if len(listed) > len(ports):
                raise PlanishError(f"inputs: expected {len(ports)}, got {len(listed)}")
            named = {port.name: value for port, value in zip(ports, listed, strict=False)}
        arrays = {str(name): _array(value) for name, value in named.items()}
        return tuple(self.model.run(arrays).values())


class PlanishBackend(Backend):
    """ONNX's `Backend`. Keyword arguments: `opt` (0..3, default 3); `symbolic` (true: every dimension of every input
    becomes a symbol of its own before anything is compiled); `threads`, `passes`, `cache` as in `planish.compile`."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> PlanishRep:
        """Compile `model`. Raises `PlanishError`. The model is not given to ONNX's own checker."""
        if not cls.supports_device(device):
            raise PlanishError(f"device: expected CPU, got {device}")
        options = {name: kwargs[name] for name in _NAMES if name in kwargs}
        symbolic, threads = bool(options.pop("symbolic", False)), options.pop("threads", 1)
        options.pop("emit", None)
        source = made_symbolic(model) if symbolic else model
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            place = Path(folder) / "model.so"
            compile_file(source, place, workers=1, threads=threads, **options)
            return PlanishRep(load(place, threads=threads))

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node on arrays: a model of one node is compiled for them. `opset_version`: default the newest."""
        del outputs_info  # the compiler infers them
        version = int(kwargs.pop("opset_version", onnx.defs.onnx_opset_version()))
        arrays = [_array(value) for value in _listed(inputs)]
        names = [name for name in dict.fromkeys(node.input) if name]
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in zip(names, arrays, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], "node", infos, results)
        opsets = [helper.make_opsetid(node.domain, version)]
        if node.domain:
            opsets.append(helper.make_opsetid("", onnx.defs.onnx_opset_version()))
        return cls.prepare(helper.make_model(graph, opset_imports=opsets), device, **kwargs).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Artifacts run on the CPU."""
        return device.split(":")[0].upper() == "CPU"


def made_symbolic(model: ModelProto) -> ModelProto:
    """A copy of `model` in which every dimension of every input, or of its elements, has a symbol of its own; output
    shapes and annotations inside are dropped."""
    copy = ModelProto()
    copy.CopyFrom(model)
    constants = {t.name for t in copy.graph.initializer}
    for number, info in enumerate(copy.graph.input):
        if info.name in constants:
            continue
        for axis, dim in enumerate(_element_dims(info.type)):
            dim.dim_param = f"i{number}_{axis}"
    del copy.graph.value_info[:]
    for info in copy.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    return copy


def _element_dims(type: TypeProto) -> Sequence[TensorShapeProto.Dimension]:
    """The dimensions of a tensor, or of those in a sequence or optional."""
    match type.WhichOneof("value"):
        case "sequence_type":
            return _element_dims(type.sequence_type.elem_type)
        case "optional_type":
            return _element_dims(type.optional_type.elem_type)
        case "tensor_type":
            return type.tensor_type.shape.dim if type.tensor_type.HasField("shape") else ()
        case _:
            return ()


def _listed(inputs: Any) -> list[Any]:
    return list(cast("Sequence[Any]", inputs)) if isinstance(inputs, list | tuple) else [inputs]


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


prepare = PlanishBackend.prepare
run_model = PlanishBackend.run_model
run_node = PlanishBackend.run_node
supports_device = PlanishBackend.supports_device
