"""Structural checks of an ONNX graph, and the order in which its nodes can be converted.

Every check is linear in the size of the graph; nothing recurses over nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from ...ir.errors import ModelError
from ..text import quote
from .node import node_label

DOMAINS = {"": "ai.onnx", "ai.onnx": "ai.onnx"}
NEWEST_OPSET = 28  # the newest opset of ai.onnx whose operators the converters were checked against


def label(node: NodeProto) -> str:
    """`node "n" (Conv)` for messages."""
    return f"node {node_label(node)} ({quote(node.op_type)[1:-1]})"


def opsets(model: ModelProto, file: str) -> dict[str, int]:
    """Version of each operator set that the model imports; `ai.onnx` is spelled ``""``."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            versions = f"{found[domain]} and {entry.version}"
            raise ModelError(f"{file}: opset {quote(domain or 'ai.onnx')} is imported twice, as {versions}")
    if not found and model.ir_version < 3:
        found[""] = 1  # files of that age import nothing
    version = found.get("")
    if version is not None and not 1 <= version <= NEWEST_OPSET:
        wanted = f"1..{NEWEST_OPSET}"
        raise ModelError(f"{file}: expected an ONNX opset in {wanted}, got {version}; export for an older opset")
    return found


def check_text(model: ModelProto, file: str) -> None:
    """All names must be UTF-8: protobuf gives bytes for those that are not."""
    for what, name in _names(model):
        if not isinstance(name, str):
            shown = name.decode("utf-8", "backslashreplace")
            raise ModelError(f"{file}: the {what} {quote(shown)} is not UTF-8; the file is damaged, fetch it again")


def _names(model: ModelProto) -> Iterator[tuple[str, str | bytes]]:
    graph = model.graph
    yield from (("producer", p) for p in (model.producer_name, model.producer_version))
    yield from (("name of an operator set", o.domain) for o in model.opset_import)
    yield "name of the graph", graph.name
    tensors = [*graph.initializer, *(s.values for s in graph.sparse_initializer)]
    for tensor in tensors:
        yield "name of an initializer", tensor.name
        yield from (("external data entry", text) for e in tensor.external_data for text in (e.key, e.value))
    for value in [*graph.input, *graph.output]:
        yield "name of an input or output", value.name
        yield from (("name of a dimension", d.dim_param) for d in value.type.tensor_type.shape.dim)
    for function in model.functions:
        yield from (("name in a function", text) for text in (function.name, function.domain, function.overload))
        yield from (("name in a function", text) for text in (*function.input, *function.output, *function.attribute))
    for node in [*graph.node, *(n for f in model.functions for n in f.node)]:
        yield from (("name in a node", text) for text in (node.name, node.op_type, node.domain))
        yield from (("name in a node", text) for text in (*node.input, *node.output))
        yield from (("name of an attribute", text) for a in node.attribute for text in (a.name, a.ref_attr_name))


def check_domains(graph: GraphProto, imported: dict[str, int], file: str) -> None:
    """Every node's operator set must be imported."""
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in imported:
            names = ", ".join(quote(d or "ai.onnx") for d in imported) or "none"
            raise ModelError(
                f"{file}: {label(node)}: operator set {quote(domain or 'ai.onnx')} is not imported by the model"
                f" (it imports {names}); the file is inconsistent, export it again"
            )
        if not node.op_type:
            raise ModelError(f"{file}: node {node_label(node)}: it names no operator")


def check_names(graph: GraphProto, file: str) -> None:
    """Every name is made once; there are outputs, and all are made."""
    made: dict[str, str] = {}
    initializers = [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
    for kind, names in (("input", [i.name for i in graph.input]), ("initializer", initializers)):
        seen: set[str] = set()
        for name in names:
            if not name:
                raise ModelError(f"{file}: an {kind} has no name")
            # Several initializers of one name occur in files that are about: `counting_initializers` in reader.py.
            if name in seen and kind == "input":
                raise ModelError(f"{file}: two {kind}s are called {quote(name)}")
            seen.add(name)
            made[name] = f"{kind} {quote(name)}"
    for node in graph.node:
        for name in node.output:
            if name in made:
                raise ModelError(f"{file}: {label(node)}: output {quote(name)} is also made by {made[name]}")
            if name:
                made[name] = label(node)
    if not graph.output:
        raise ModelError(f"{file}: the graph has no outputs: there is nothing to compute")
    wanted: set[str] = set()
    for output in graph.output:
        if output.name not in made:
            raise ModelError(f"{file}: output {quote(output.name)} of the graph is made by no node")
        if output.name in wanted:
            raise ModelError(f"{file}: two outputs of the graph are called {quote(output.name)}")
        wanted.add(output.name)
    _check_inputs(graph, made, file)


def _check_inputs(graph: GraphProto, made: dict[str, str], file: str) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name and name not in made:
                raise ModelError(
                    f"{file}: {label(node)}: input {i}, {quote(name)}, is made by no node and is no input of the graph"
                )


def ordered(graph: GraphProto | FunctionProto, file: str) -> list[NodeProto]:
    """The nodes, each after those that make its inputs; the file's own order wherever that allows it."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    waiting = [0] * len(graph.node)
    followers: list[list[int]] = [[] for _ in graph.node]
    for i, node in enumerate(graph.node):
        for source in {maker[name] for name in _reads(node) if name in maker}:
            followers[source].append(i)
            waiting[i] += 1
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order: list[NodeProto] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(graph.node[i])
        for follower in followers[i]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) < len(graph.node):
        raise ModelError(f"{file}: the graph has a cycle: {_cycle(graph, maker, waiting)}; the file is damaged")
    return order


def _cycle(graph: GraphProto | FunctionProto, maker: dict[str, int], waiting: list[int]) -> str:
    """The names of the nodes on one cycle."""
    at = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    path: list[int] = []
    while at not in seen:
        seen[at] = len(path)
        path.append(at)
        at = next(maker[n] for n in _reads(graph.node[at]) if n in maker and waiting[maker[n]])
    cycle = path[seen[at] :][::-1]
    first = cycle.index(min(cycle))
    names = [node_label(graph.node[i]) for i in cycle[first:] + cycle[:first]]
    shown = names if len(names) <= 8 else [*names[:7], f"... ({len(names) - 7} more)"]
    return " -> ".join([*shown, names[0]])


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that the node reads, those inside its subgraphs included (protobuf bounds their depth)."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            for graph in [attribute.g, *attribute.graphs]:
                for inner in graph.node:
                    yield from _reads(inner)


def used_names(graph: GraphProto) -> frozenset[str]:
    """Names that some node reads or the graph gives out."""
    return used_by(graph.node, {output.name for output in graph.output})


def used_by(nodes: Iterable[NodeProto], outputs: set[str]) -> frozenset[str]:
    """Names that some node reads, and those of `outputs`."""
    return frozenset(outputs.union(name for node in nodes for name in _reads(node)))
