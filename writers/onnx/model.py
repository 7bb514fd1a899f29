"""A module as an ONNX file: names, operator sets, and bytes that are streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from ...ir.constants import ConstantData, SplatSource
from ...ir.core import Module
from ...ir.state import State, states_of
from ...ir.types import TensorType
from ..names import Names, clean
from ..outside import Outside
from ..report import unwritable
from ..weights import WeightBytes
from ..wire import Message
from . import arith, control, host, nn, recurrent, reduce, shape
from .control import write_region
from .graph import Model, Node, Scope, Tensor
from .schemas import NUMBERS
from .types import type_proto

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_INSIDE = 1024  # weights of so many bytes stay in the model's own file
FAMILIES = (arith, control, host, nn, recurrent, reduce, shape)
"""The files whose functions register themselves when they are imported."""
LIMIT = 2_000_000_000
"""Bytes of a model's file that every reader of protobuf takes."""


class OnnxModel:
    """A module in tensor form as an ONNX model. Raises `UnsupportedError` that lists all that ONNX cannot say.

    The module's weights are read when the file is written; it must not change before."""

    def __init__(self, module: Module, producer: str = "") -> None:
        arith.register_plain()
        self.model = Model()
        self.graph = Scope(self.model)
        self.producer = producer
        self.states = states_of(module)
        main = module.main
        for i, param in enumerate(main.params):
            tensor = Tensor(param.type.dtype if isinstance(param.type, TensorType) else "", param.name or str(i))
            self.graph.inputs.append((tensor, param.type))
            self.graph.define(param, tensor)
        write_region(self.graph, main.body)
        if self.model.issues:
            raise unwritable(self.model.issues, "ONNX")
        wanted = list(main.result_names) or [str(i) for i in range(len(main.results))]
        self.graph.outputs = [(self.graph.of(v), v.type) for v in main.results]
        self._name(wanted)
        used = _prune(self.graph)
        self.constants = [(data, t) for data, t in self.model.constants.items() if t in used]
        for state in self.states:  # what a state is before the first run, where one number does not say it
            if not isinstance(state.initial.source, SplatSource):
                self.constants.append((state.initial, Tensor(state.initial.dtype, _initial(state))))
        self._name_rest()

    # -- names -----------------------------------------------------------------------------------------------------

    def _name(self, outputs: list[str]) -> None:
        """Inputs and outputs first: they keep their names."""
        self.names = Names()
        for tensor, _ in self.graph.inputs:
            tensor.name = self.names.unique(tensor.hint)
        for i, ((tensor, type), name) in enumerate(zip(self.graph.outputs, outputs, strict=True)):
            name = clean(name) or str(i)
            if tensor.name == name and tensor.home is None:
                continue  # an input that is an output
            if tensor.name or tensor.home is not self.graph:
                tensor = self.graph.identity(tensor)
            tensor.name = self.names.unique(name)
            self.graph.outputs[i] = (tensor, type)

    def _name_rest(self) -> None:
        for _, tensor in self.constants:
            tensor.name = self.names.unique(tensor.hint or "constant")
        self._name_nodes(self.graph)

    def _name_nodes(self, scope: Scope) -> None:
        if scope.outer is not None:
            for tensor, _ in scope.inputs:
                tensor.name = self.names.unique(tensor.hint)
        for node in scope.nodes:
            for value in node.attributes.values():
                if isinstance(value, Scope):
                    self._own_outputs(value)
                    self._name_nodes(value)
            for tensor in node.outputs:
                tensor.name = tensor.name or self.names.unique(tensor.hint)

    def _own_outputs(self, scope: Scope) -> None:
        """Every output of a branch or body is made there, once."""
        seen: set[Tensor] = set()
        for i, (tensor, type) in enumerate(scope.outputs):
            if tensor.home is not scope or tensor in seen:
                tensor = scope.identity(tensor)
                scope.outputs[i] = (tensor, type)
            seen.add(tensor)

    # -- messages --------------------------------------------------------------------------------------------------

    def skeleton(self) -> tuple[ModelProto, GraphProto]:
        """The model without its graph, and the graph without its initializers."""
        versions = [helper.make_opsetid(domain, v) for domain, v in sorted(self.model.versions.items())]
        model = ModelProto(producer_name="planish", producer_version=self.producer)
        model.opset_import.extend(versions)
        model.ir_version = max(8, helper.find_min_ir_version_for(versions, True))
        if self.states:
            text = json.dumps([_state(s) for s in self.states], separators=(",", ":"))
            model.metadata_props.add(key="planish.states", value=text)
        graph = self._graph(self.graph, "main", Names())
        return model, graph

    def _graph(self, scope: Scope, name: str, names: Names) -> GraphProto:
        graph = GraphProto(name=name)
        for listed, target in ((scope.inputs, graph.input), (scope.outputs, graph.output)):
            target.extend(ValueInfoProto(name=t.name, type=type_proto(type)) for t, type in listed)
        for node in scope.nodes:
            graph.node.append(self._node(node, names))
        return graph

    def _node(self, node: Node, names: Names) -> NodeProto:
        proto = NodeProto(op_type=node.op_type, domain=node.domain)
        proto.name = names.unique(node.loc or node.outputs[0].name if node.outputs else node.op_type)
        proto.input.extend("" if t is None else t.name for t in node.inputs)
        proto.output.extend(t.name for t in node.outputs)
        for key, value in node.attributes.items():
            proto.attribute.append(self._attribute(key, value, names))
        return proto

    def _attribute(self, key: str, value: Any, names: Names) -> AttributeProto:
        if isinstance(value, Scope):
            return helper.make_attribute(key, self._graph(value, key, names))
        if isinstance(value, TypeProto):
            return AttributeProto(name=key, type=AttributeProto.TYPE_PROTO, tp=value)
        if value == []:
            return helper.make_attribute(key, [], attr_type=AttributeProto.INTS)
        if isinstance(value, str):
            return helper.make_attribute(key, value.encode("utf-8", "replace"))
        return helper.make_attribute(key, value)

    def _initializer(self, data: ConstantData, name: str, outside: Outside | None) -> Message:
        weight = WeightBytes(data)
        message = Message().numbers(1, data.shape).number(2, NUMBERS[data.dtype])
        if data.dtype == "string":
            for text in data.array().reshape(-1):
                message.data(6, text if isinstance(text, bytes) else str(text).encode("utf-8", "replace"))
            return message.text(8, name)
        message.text(8, name)
        if outside is None or weight.size <= _INSIDE:
            return message.blob(9, weight)
        offset = outside.place(weight)
        for key, value in (("location", outside.location), ("offset", str(offset)), ("length", str(weight.size))):
            message.message(13, Message().text(1, key).text(2, value))
        return message.number(14, TensorProto.EXTERNAL)

    def message(self, outside: Outside | None = None) -> Message:
        """The whole model; with `outside`, weights of more than a kilobyte are placed there."""
        model, graph = self.skeleton()
        inside = Message().append(graph.SerializeToString(deterministic=True))
        for data, tensor in self.constants:
            inside.message(_INITIALIZER, self._initializer(data, tensor.name, outside))
        return Message().append(model.SerializeToString(deterministic=True)).message(_GRAPH, inside)

    @property
    def weights_size(self) -> int:
        """Bytes of all weights."""
        return sum(WeightBytes(data).size for data, _ in self.constants)

    def proto(self) -> ModelProto:
        """The model in memory, weights and all: below 2 GB."""
        return onnx.load_model_from_string(self.message().bytes())


def _prune(graph: Scope) -> set[Tensor]:
    """Drop nodes that nobody needs, in branches and bodies, too; gives all tensors that are read."""
    used = {tensor for tensor, _ in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(t in used for t in node.outputs):
            continue
        kept.append(node)
        used.update(t for t in node.inputs if t is not None)
        for value in node.attributes.values():
            if isinstance(value, Scope):
                used |= _prune(value)
    graph.nodes = kept[::-1]
    return used


def _initial(state: State) -> str:
    return f"{state.input}.initial"


def _state(state: State) -> dict[str, Any]:
    source = state.initial.source
    initial = source.value if isinstance(source, SplatSource) else _initial(state)
    return {"input": state.input, "output": state.output, "initial": initial}


def operators(proto: ModelProto) -> Iterator[str]:
    """Names of the operators of a model's nodes, those of branches and bodies too."""

    def walk(graph: GraphProto) -> Iterator[str]:
        for node in graph.node:
            yield node.op_type
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from walk(attribute.g)

    return walk(proto.graph)


__all__ = ["FAMILIES", "LIMIT", "OnnxModel", "operators"]
