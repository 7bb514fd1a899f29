"""Which graphs of a file call which others last: what loops, branches and what follows them are told by.

MindIR has functions where other formats have blocks. A while loop is a graph (its header) that chooses between its
body and what comes after it, and the body's last act is to call the header; two branches go on where both call the
same graph at last. So a call in the last place (a *tail*) is a jump: the caller has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .proto import GraphProto, ModelFile, NodeProto

_REF = "REF::"
_STATE = ("UpdateState", "MakeTuple", "make_tuple")
_PASSED = ("Depend", "depend")


@dataclass(frozen=True)
class Tail:
    """The call that a graph ends with; `skipped` are the nodes that have nothing to do but hand over its result."""

    node: NodeProto
    skipped: frozenset[str]


@dataclass
class Flow:
    """The tails of a file's graphs. Names of graphs stand for them."""

    model: ModelFile
    _tails: dict[str, Tail | None] = field(default_factory=dict[str, "Tail | None"])
    _successors: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _loops: dict[frozenset[str], set[str]] = field(default_factory=dict[frozenset[str], set[str]])

    @cached_property
    def graphs(self) -> dict[str, GraphProto]:
        """All graphs by name."""
        return {g.name: g for g in (*self.model.functions, self.model.graph)}

    @cached_property
    def nodes(self) -> dict[str, tuple[GraphProto, NodeProto]]:
        """All nodes by the name of their output, with their graph."""
        return {n.output: (g, n) for g in self.graphs.values() for n in g.nodes}

    def operator(self, node: NodeProto) -> str:
        """The primitive that a node calls; "" where it calls a graph or a value."""
        reference = node.op_type.removeprefix(_REF)
        if node.op_type.startswith(_REF):
            found = self.model.primitives.get(reference)
            return "" if found is None else found.op_type.removeprefix("S-Prim-")
        return "" if reference in self.graphs else reference.removeprefix("S-Prim-")

    def callee(self, node: NodeProto) -> str:
        """The name of the graph or value that a node calls."""
        return node.op_type.removeprefix(_REF)

    def tail(self, graph: GraphProto) -> Tail | None:
        """The call in the last place of a graph, if there is one."""
        if graph.name not in self._tails:
            self._tails[graph.name] = self._find_tail(graph)
        return self._tails[graph.name]

    def _find_tail(self, graph: GraphProto) -> Tail | None:
        own = {n.output: n for n in graph.nodes}
        if len(graph.outputs) != 1:
            return None
        last = own.get(graph.outputs[0].name)
        while last is not None and self.operator(last) in _PASSED and last.inputs:
            last = own.get(last.inputs[0])
        if last is None or last.op_type == "Constant" or self.operator(last):
            return None
        later = {last.output}
        for node in graph.nodes:  # in topological order
            if node.output == last.output or later.isdisjoint(node.inputs):
                continue
            if self.operator(node) not in (*_STATE, *_PASSED):
                return None
            later.add(node.output)
        return Tail(last, frozenset(later))

    def successors(self, name: str) -> list[str]:
        """The graphs that a graph may call in its last place; none where it returns, or calls what only the run of
        the interpreter knows."""
        if name not in self._successors:
            tail = self.tail(self.graphs[name])
            found: Iterable[str] = () if tail is None else self._targets(self.callee(tail.node))
            self._successors[name] = list(dict.fromkeys(found))
        return self._successors[name]

    def _targets(self, name: str) -> Iterable[str]:
        if name in self.graphs:
            return [name]
        if name not in self.nodes:
            return []
        _, node = self.nodes[name]
        operator = self.operator(node)
        inputs = node.inputs
        if operator in ("Switch", "switch"):
            inputs = inputs[1:]
        elif operator in ("Partial", "partial"):
            inputs = inputs[:1]
        elif operator in ("SwitchLayer", "switch_layer"):
            inputs = inputs[1:]
        elif operator not in (*_STATE, *_PASSED):
            return []
        return [found for each in inputs for found in self._targets(each)]

    # -- loops -------------------------------------------------------------------------------------------------------

    def is_loop(self, name: str, stops: frozenset[str]) -> bool:
        """Whether a graph calls itself at last, past none of `stops`."""
        if stops not in self._loops:
            after = {n: [] if n in stops else self.successors(n) for n in self.graphs}
            self._loops[stops] = in_cycles(after)
        return name in self._loops[stops]

    def reaches(self, name: str, goal: str, stops: frozenset[str]) -> bool:
        """Whether `name` is `goal`, or calls it at last, past none of `stops`."""
        return goal in self._reached(name, stops - {goal}, goal)

    def leaves(self, name: str, header: str, stops: frozenset[str]) -> bool:
        """Whether a graph in the loop of `header` may end otherwise than with a call of it."""
        return any(n != header and (n in stops or not self.successors(n)) for n in self._reached(name, stops, header))

    def ends(self, name: str, stops: frozenset[str]) -> set[str]:
        """What a graph may end with: graphs of `stops`, and graphs that return. What is no graph ("") returns."""
        if name == "":
            return {""}
        return {n for n in self._reached(name, stops, "") if n in stops or not self.successors(n)}

    def _reached(self, name: str, stops: frozenset[str], goal: str) -> set[str]:
        found: set[str] = set()
        todo = [name]
        while todo:
            n = todo.pop()
            if n not in found:
                found.add(n)
                if n not in stops and n != goal:
                    todo += self.successors(n)
        return found

    # -- what follows branches ----------------------------------------------------------------------------------------

    def join(self, names: Sequence[str], stops: frozenset[str], taken: Callable[[str], bool]) -> str | None:
        """The first graph that all of these call at last, whatever happens, or are; past none of `stops`. Only graphs
        that are `taken` count."""
        region = {n for name in names for n in self._reached(name, stops, "")}
        after = {n: set[str]() if n in stops else set(filter(taken, self.successors(n))) for n in region}
        certain = {n: {n} if not after[n] else set(region) for n in region}  # what runs after n in any case
        changed = True
        while changed:
            changed = False
            for n in region:
                if after[n]:
                    found = {n}.union(set[str].intersection(*(certain[s] for s in after[n])))
                    changed |= found != certain[n]
                    certain[n] = found
        common = set[str].intersection(*(certain[n] for n in names))
        return max(common, key=lambda n: (len(certain[n]), n), default=None)


def in_cycles(after: Mapping[str, Sequence[str]]) -> set[str]:
    """The nodes of a graph from which a way leads back to them. Source: Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    open_: set[str] = set()
    found: set[str] = set()
    for root in after:
        work = [(root, iter(after[root]))] if root not in order else []
        while work:
            name, rest = work[-1]
            if name not in order:
                order[name] = low[name] = len(order)
                stack.append(name)
                open_.add(name)
            child = next(rest, None)
            if child is not None:
                if child not in order:
                    work.append((child, iter(after[child])))
                elif child in open_:
                    low[name] = min(low[name], order[child])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[name])
            if low[name] == order[name]:
                found |= _component(name, stack, open_, after)
    return found


def _component(name: str, stack: list[str], open_: set[str], after: Mapping[str, Sequence[str]]) -> set[str]:
    """Take a component that ends with `name` from the stack; give it if it is a cycle."""
    members = {stack.pop()}
    while name not in members:
        members.add(stack.pop())
    open_ -= members
    return members if len(members) > 1 or name in after[name] else set()


__all__ = ["Flow", "Tail", "in_cycles"]
