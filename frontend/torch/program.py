"""An exported program as plain data: what `.pt2` files and live `ExportedProgram`s have in common.

Arguments of nodes are Python values: `Ref` for what another node made, numbers, strings, None, nested lists of these,
and `Graph` for the branches of control flow. Element types have planish's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...ir.constants import ConstantData
from ...ir.expr import Dim

DROPPED = frozenset({"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking"})
"""Arguments that say where a tensor lies, not what it is."""


@dataclass(frozen=True)
class Ref:
    """The value of this name."""

    name: str


@dataclass
class Node:
    """An operation: `target` is `aten.add.Tensor`, `_operator.mul`, `higher_order.cond` ...; `inputs` are arguments
    with the names that the operator's schema gives them, `args` those without; `outputs` are `Ref`s, one for each
    result, and lists of them for results that are lists."""

    name: str
    target: str
    inputs: dict[str, object] = field(default_factory=dict[str, object])
    args: list[object] = field(default_factory=list[object])
    outputs: list[object] = field(default_factory=list[object])


@dataclass
class Graph:
    """Nodes in order; `inputs` are names, `results` arguments."""

    inputs: list[str]
    nodes: list[Node]
    results: list[object]


def walk(graph: Graph) -> Iterator[Node]:
    """All nodes of a graph and of the branches inside of it."""
    for node in graph.nodes:
        yield node
        for argument in (*node.inputs.values(), *node.args):
            if isinstance(argument, Graph):
                yield from walk(argument)


@dataclass(frozen=True)
class Port:
    """A user's input: a tensor, or (`shape` None) a number of type i64 that may be used as a size. `value` is set for
    what the program was exported with and takes no other of."""

    name: str
    dtype: str = ""
    shape: tuple[Dim, ...] | None = None
    value: object = None
    fixed: bool = False


@dataclass
class Program:
    """A whole exported program. `ports` are the user's inputs in the order of the flattened arguments, `constants` what
    parameters, buffers and lifted tensors hold, by the name of their input (`names`: as the module calls them);
    `stored` are those that a state dict has,
    `mutated` maps buffers and inputs to what they become, `outputs` are the user's results with their names,
    `ranges` the sizes that symbols may have (None: any)."""

    label: str
    graph: Graph
    ports: list[Port]
    constants: dict[str, ConstantData]
    names: dict[str, str]
    buffers: frozenset[str]
    mutated: dict[str, str] = field(default_factory=dict[str, str])
    outputs: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])
    stored: frozenset[str] = frozenset()
    ranges: dict[str, tuple[int, int | None]] = field(default_factory=dict[str, "tuple[int, int | None]"])
    producer: str = ""
    sha256: str = ""


__all__ = ["DROPPED", "Graph", "Node", "Port", "Program", "Ref", "walk"]
