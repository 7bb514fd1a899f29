"""What must be true of any MindIR file: every name is defined once, and before it is used; calls do not multiply
without bound."""

from __future__ import annotations

from ...ir.errors import ModelError
from ..text import quote
from .proto import GraphProto, ModelFile, NodeProto

REFERENCE = "REF::"
_SHOWN = 5
MAX_NODES = 200_000  # that calls of functions may expand to, all together


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
    _check_size(model)


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


def _check_size(model: ModelFile) -> None:
    """Functions are read once for each call of them. Those that call themselves count once: they are loops."""
    graphs = {graph.name: graph for graph in (model.graph, *model.functions)}
    called = {
        name: [used for node in graph.nodes for used in _used(node) if used in graphs] for name, graph in graphs.items()
    }
    sizes: dict[str, int] = {}
    entered: set[str] = set()
    stack = [model.graph.name]
    while stack:
        name = stack[-1]
        waiting = [other for other in called[name] if other not in sizes and other not in entered]
        if waiting and name not in entered:
            entered.add(name)
            stack.extend(dict.fromkeys(waiting))
            continue
        entered.add(name)
        stack.pop()
        sizes[name] = len(graphs[name].nodes) + sum(sizes.get(other, 0) for other in called[name])
        if sizes[name] > MAX_NODES:
            raise ModelError(
                f"{model.label}: function {quote(name)}: its calls expand to more than {MAX_NODES:,} nodes; too large"
            )
