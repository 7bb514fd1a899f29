"""What must be true of any MindIR file: every name is defined once, and before it is used."""

from __future__ import annotations

from ...ir.errors import ModelError
from ..text import quote
from .proto import GraphProto, ModelFile, NodeProto

REFERENCE = "REF::"
_SHOWN = 5


def check(model: ModelFile) -> None:
    """Raise `ModelError` if names do not fit each other. Graphs come in the order of the file, all names are global:
    a graph may use what an earlier one defined."""
    functions: set[str] = set()
    for graph in (model.graph, *model.functions):
        if graph.name in functions:
            raise ModelError(f"{model.label}: two graphs are called {quote(graph.name)}; the file is damaged")
        functions.add(graph.name)
    defined = functions | model.primitives.keys()
    for graph in (model.graph, *model.functions):
        _check_graph(model, graph, defined)


def _check_graph(model: ModelFile, graph: GraphProto, defined: set[str]) -> None:
    where = f"{model.label}: graph {quote(graph.name)}"
    own = [tensor.name for tensor in graph.parameters] + [info.name for info in graph.inputs] + [*graph.map_parameters]
    for name in own:
        _define(name, defined, where)
    for node in graph.nodes:
        unknown = [name for name in _used(node) if name not in defined]
        if unknown:
            shown = ", ".join(quote(name) for name in unknown[:_SHOWN])
            raise ModelError(
                f"{where}: node {quote(node.output)} uses {shown}, which nothing before it defines; the file is damaged"
            )
        _define(node.output, defined, where)
    if not graph.outputs:
        raise ModelError(f"{where}: no outputs: nothing to compute")
    for info in graph.outputs:
        if info.name not in defined:
            raise ModelError(f"{where}: its output {quote(info.name)} is not defined; the file is damaged")


def _define(name: str, defined: set[str], where: str) -> None:
    if not name:
        raise ModelError(f"{where}: a value without a name; the file is damaged")
    if name in defined:
        raise ModelError(f"{where}: {quote(name)} is defined twice; the file is damaged")
    defined.add(name)


def _used(node: NodeProto) -> list[str]:
    """Names that a node needs: its inputs and what it calls."""
    called = [node.op_type.removeprefix(REFERENCE)] if node.op_type.startswith(REFERENCE) else []
    return [*node.inputs, *called]
