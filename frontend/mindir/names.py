"""What nodes, graphs, inputs and results of a MindIR file are called in planish.

MindIR's own names carry counters ("98_50___main___LeNet5_construct_23:CNode_30:4"). Nodes are called by their place in
the network ("Default/conv1-Conv2d/Conv2D-op0"), where that is one node's only; inputs by the argument of `construct`;
results output0, output1 ... in their order, tuples flattened: MindSpore's users know them by position only.
"""

from __future__ import annotations

import re
from collections import Counter

from .proto import GraphProto, ModelFile, NodeProto

_CONSTRUCT = re.compile(r"_construct[._]?\d*$")


def bare(name: str) -> str:
    """A name without that of its graph in front: "net_23:x" is "x"."""
    return name.partition(":")[2] or name


class Labels:
    """Names of the nodes of a file, each of one node only."""

    def __init__(self, model: ModelFile) -> None:
        graphs = (model.graph, *model.functions)
        nodes = [n for g in graphs for n in g.nodes if n.op_type != "Constant"]
        scopes = Counter(n.scope for n in nodes)
        short = Counter(bare(n.output) for n in nodes)
        self._labels: dict[str, str] = {}
        taken: set[str] = set()
        for n in nodes:
            label = n.output
            if "/" in n.scope and scopes[n.scope] == 1:
                label = n.scope
            elif short[bare(n.output)] == 1:
                label = bare(n.output)
            if label in taken:
                label = n.output
            taken.add(label)
            self._labels[n.output] = label
        self._graphs = {g.name: self._short(g.name) for g in graphs}

    def _short(self, name: str) -> str:
        """The network in a graph's name: "98_50___main___LeNet5_construct_23" is LeNet5."""
        rest = name.lstrip("0123456789_").removeprefix("main___")
        return _CONSTRUCT.sub("", rest) or name

    def node(self, node: NodeProto) -> str:
        """What messages, reports and operations call a node."""
        return self._labels.get(node.output, node.output)

    def graph(self, graph: GraphProto) -> str:
        """What messages call a graph."""
        return self._graphs.get(graph.name, graph.name)


__all__ = ["Labels", "bare"]
