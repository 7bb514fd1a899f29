"""A MindIR file with the parameters of a checkpoint in place of its own."""

from __future__ import annotations

from dataclasses import replace

from ...ir.constants import ConstantData
from ...ir.types import DTYPES, TensorType
from ..checkpoints import Checkpoint, Matched, matched
from .proto import GraphProto, ModelFile


def with_weights(model: ModelFile, checkpoint: Checkpoint) -> tuple[ModelFile, Matched]:
    """The model with the checkpoint's tensors, and what was found. Every parameter must be there. Raises one
    `ModelError` that lists all that does not fit."""
    parameters = [tensor for graph in (model.graph, *model.functions) for tensor in graph.parameters]
    wanted = {t.parameter: TensorType(t.dtype, t.dims) for t in parameters if t.dtype in DTYPES and -1 not in t.dims}
    found = matched(wanted, checkpoint, model.label)
    graph = _graph(model.graph, found.tensors)
    functions = tuple(_graph(function, found.tensors) for function in model.functions)
    return replace(model, graph=graph, functions=functions), found


def _graph(graph: GraphProto, tensors: dict[str, ConstantData]) -> GraphProto:
    parameters = tuple(replace(t, data=tensors.get(t.parameter, t.data)) for t in graph.parameters)
    return replace(graph, parameters=parameters)
