"""The interpreter of MindIR: it runs a model's graphs on data that stand for tensors, and so builds the tensor form.

MindIR is a functional language: graphs are functions, which are passed around, bound to arguments and called, also
recursively; tuples, numbers and functions exist only while a model is read. What is known then leaves nothing behind;
branches and loops whose course is data become regions (branches.py, loops.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...ir.errors import ModelError
from ..assembly import Assembly, Item, Unsupported
from .branches import Branches, Plans
from .checks import MAX_NODES
from .data import Broken, Datum, Either, Function, Jump, Later, Parameter, from_value, tensor_constant
from .flow import Flow
from .kinds import without_lowering
from .loops import Loops, Purpose
from .names import Labels
from .primitive import PRIMITIVES, Call
from .proto import PRIMITIVE, Closure, GraphProto, ModelFile, Monad, NodeProto, Primitive, Value
from .table import known

MAX_DEPTH = 400
"""Calls inside of calls; recursion whose course is known ends before."""


@dataclass
class Frame:
    """A graph that is running, and the values of its names so far."""

    graph: GraphProto
    values: dict[str, Datum] = field(default_factory=dict[str, Datum])


class Interpreter:
    """One reading of a model into an `Assembly`. `Machine` for lowerings."""

    def __init__(self, model: ModelFile, a: Assembly, flow: Flow, labels: Labels, plans: Plans) -> None:
        self.model = model
        self.a = a
        self.flow = flow
        self.labels = labels
        self.plans = plans
        self.states: dict[str, Item] = {}
        """What parameters hold that were assigned."""
        self.stops: frozenset[str] = frozenset()
        """Graphs that `run` jumps to instead of calling them: headers of loops around, what follows branches."""
        self.path: tuple[str, ...] = ()
        """The calls that are under way, by their nodes."""
        self.notes: list[str] = []
        self.branches = Branches(self)
        self.loops = Loops(self)
        self._parameters: dict[str, Parameter] = {}
        self._constants: dict[str, Datum] = {}
        self._weights: dict[str, Item] = {}
        self._frames: list[Frame] = []
        self._latest: dict[str, Datum] = {}
        self._outside: dict[str, Datum] = {}  # by label, of nodes outside of branches and loops
        self._active: dict[str, list[int]] = {}
        self._refused: set[str] = set()
        self._evaluated = 0
        self._pending: set[str] = set()
        self._read_parameters()

    def _read_parameters(self) -> None:
        by_key: dict[str, Parameter] = {}
        for graph in self.flow.graphs.values():
            for tensor in graph.parameters:
                parameter = by_key.setdefault(tensor.parameter, Parameter(tensor.parameter, tensor))
                self._parameters[tensor.name] = parameter
        self.parameters = by_key

    def overwrite(self, item: Item, result: Item) -> None:
        """From here on names of the tensor `item` stand for `result`, which was written into it: those of the graph
        that runs, and outside of branches and loops those of its callers."""
        for frame in self._frames if not self.branches.depth else self._frames[-1:]:
            for name, datum in frame.values.items():
                if datum is item:
                    frame.values[name] = result

    def note(self, text: str) -> None:
        """Tell the user something about the model, once."""
        if text not in self.notes:
            self.notes.append(text)

    # -- parameters --------------------------------------------------------------------------------------------------

    def current(self, parameter: Parameter) -> Item:
        """What a parameter holds now: a constant, unless some node of the model assigns it."""
        name = parameter.name
        if name in self.states:
            return self.states[name]
        if name in self.plans.assigned:
            assert parameter.tensor.data is not None
            return self.a.state(name, parameter.tensor.data)
        if name not in self._weights:
            self._weights[name] = tensor_constant(self.a, parameter.tensor)
        return self._weights[name]

    def assign(self, parameter: Parameter, item: Item) -> None:
        """From here on the parameter holds `item`, in this run of the model and in those after it."""
        if parameter.tensor.data is None:
            raise Unsupported(f"parameter {parameter.name} has no elements in the file")
        self.plans.note(self.plans.assigned, parameter.name)
        have, got = parameter.tensor.data.type, self.a.type(item)
        if have.dtype != got.dtype:
            item = self.a.cast(item, have.dtype)
        if have.shape != got.shape:
            raise Unsupported(f"parameter {parameter.name} is {have} and is assigned {got}")
        self.states[parameter.name] = item

    def choose(self, condition: Item, then: Datum, otherwise: Datum) -> Datum:
        """One of two data that hold no functions."""
        found = self.branches.branch(condition, lambda: then, lambda: otherwise)
        assert not isinstance(found, Jump)
        return found

    # -- names -------------------------------------------------------------------------------------------------------

    def value(self, name: str) -> Datum:
        """What a name stands for. Raises `Broken` if its node could not be read, `ModelError` if there is none."""
        for frame in reversed(self._frames):
            if name in frame.values:
                return self._whole(frame.values[name])
        if name in self._parameters:
            return self._parameters[name]
        if name in self._constants:
            return self._constants[name]
        if name in self.flow.graphs:
            return Function(self.flow.graphs[name])
        if name in self.model.primitives:
            return Function(self.model.primitives[name])
        if name in self.flow.nodes:
            return self._elsewhere(name)
        if name in self._latest:
            return self._whole(self._latest[name])
        raise ModelError(f"{self.a.label}: name {name!r} is used and defined nowhere")

    def _whole(self, datum: Datum) -> Datum:
        if isinstance(datum, Broken):
            raise Broken
        return datum

    def _elsewhere(self, name: str) -> Datum:
        """A node that did not run yet, or not in the graphs that run."""
        graph, node = self.flow.nodes[name]
        if node.op_type == "Constant":
            self._constants[name] = self.constant(node)
            return self._constants[name]
        for frame in self._frames:
            if frame.graph is graph:
                if name in self._pending:
                    raise ModelError(f"{self.a.label}: node {name!r} depends on itself")
                self._pending.add(name)
                self.evaluate(frame, node)
                self._pending.discard(name)
                return self._whole(frame.values[name])
        if name in self._latest:
            return self._whole(self._latest[name])
        raise ModelError(f"{self.a.label}: node {name!r} is used where its graph does not run")

    def constant(self, node: NodeProto) -> Datum:
        """The value of a node Constant."""
        if "value" not in node.attributes:
            raise ModelError(f"{self.a.label}: constant {node.output!r} has no value")
        return self._from_value(node.attributes["value"].value)

    def _from_value(self, value: Value) -> Datum:
        if isinstance(value, Closure):
            if len(value.names) != 1:
                raise Unsupported("a constant that stands for several functions")
            return self.value(value.names[0].removeprefix("REF::"))
        if isinstance(value, tuple | list):
            return tuple(self._from_value(v) for v in value)
        return from_value(self.a, value)

    # -- calls -------------------------------------------------------------------------------------------------------

    def apply(self, function: Datum, given: Sequence[Datum]) -> Datum:
        """What a function gives for these arguments behind those that are bound to it."""
        joins, self.branches.joins = self.branches.joins, frozenset()
        try:
            with self.going_to(frozenset(), None):
                result = self.run(function, given)
        finally:
            self.branches.joins = joins
        assert not isinstance(result, Jump)
        return result

    @contextmanager
    def going_to(self, stops: frozenset[str], purpose: Purpose | None) -> Generator[None]:
        """Run what is called in the block with other `stops`, and for another purpose in a loop."""
        outer = self.stops, self.loops.purpose
        self.stops, self.loops.purpose = stops, purpose
        try:
            yield
        finally:
            self.stops, self.loops.purpose = outer

    def run(self, function: Datum, given: Sequence[Datum]) -> Datum | Jump:
        """Like `apply`, but gives a `Jump` where the call's last act is a call of one of `stops`."""
        while True:
            outcome = self.step(function, tuple(given))
            if not isinstance(outcome, Jump):
                return outcome
            function, given = outcome.function, outcome.arguments
            if isinstance(function, Function) and self.is_stop(function):
                return Jump(Function(function.target), (*function.arguments, *given))

    def is_stop(self, function: Datum) -> bool:
        """Whether `run` jumps to a function."""
        return isinstance(function, Function) and function.name in self.stops

    def step(self, function: Datum, given: tuple[Datum, ...]) -> Datum | Jump:
        """One call, up to the call that it ends with."""
        if isinstance(function, Either):
            return self.branches.either(function, given)
        if isinstance(function, Later):
            return Jump(self.apply(function.function, function.arguments), given)
        if not isinstance(function, Function):
            raise Unsupported("a call of something that is no function")
        given = (*function.arguments, *given)
        target = function.target
        if isinstance(target, Primitive):
            return self.lower(target, given, target.name, None)
        if target.name in self.stops:
            return Jump(Function(target), given)
        if self.flow.is_loop(target.name, self.stops):
            return self.loops.loop(target, given)
        return self.body(target, given)

    def body(self, graph: GraphProto, given: Sequence[Datum]) -> Datum | Jump:
        """Run a graph up to the call that it ends with, which is given as a `Jump`."""
        entered = self._active.setdefault(graph.name, [])
        if entered and entered[0] < self.branches.depth:
            raise Unsupported("recursion whose course depends on data", "write it as a loop")
        if len(self._frames) > MAX_DEPTH:
            raise Unsupported(f"more than {MAX_DEPTH} calls inside of one another", "write the recursion as a loop")
        frame = Frame(graph)
        self._frames.append(frame)
        entered.append(self.branches.depth)
        try:
            self._bind(frame, given)
            tail = self.flow.tail(graph)
            for node in graph.nodes:
                if tail is None or node.output not in tail.skipped:
                    self.evaluate(frame, node)
            if tail is not None:
                return Jump(self._callee(tail.node), tuple(self.value(n) for n in tail.node.inputs))
            results = tuple(self.value(o.name) for o in graph.outputs)
            return results[0] if len(results) == 1 else results
        finally:
            entered.pop()
            self._frames.pop()

    def _bind(self, frame: Frame, given: Sequence[Datum]) -> None:
        """Give a graph's inputs their values. A monad may be left out, and parameters that the input names."""
        inputs = list(frame.graph.inputs)
        if len(given) != len(inputs):
            given = [d for d in given if not isinstance(d, Monad)]
            frame.values.update({i.name: i.abstract for i in inputs if isinstance(i.abstract, Monad)})
            inputs = [i for i in inputs if not isinstance(i.abstract, Monad)]
        for i in inputs[len(given) :]:
            if i.ref_key not in self.parameters:
                name = self.labels.graph(frame.graph)
                raise ModelError(f"{self.a.label}: function {name}: expected {len(inputs)} arguments, got {len(given)}")
            frame.values[i.name] = self.parameters[i.ref_key]
        frame.values.update(zip((i.name for i in inputs), given, strict=False))
        self._latest.update(frame.values)

    def _callee(self, node: NodeProto) -> Datum:
        name = self.flow.callee(node)
        if name in self.flow.graphs:
            return Function(self.flow.graphs[name])
        if node.op_type == name and name not in self.flow.nodes:  # 1.x: the primitive itself
            own = name.removeprefix("S-Prim-")
            return Function(Primitive(own, own, node.attributes, PRIMITIVE))
        if name in self.model.primitives:
            return Function(self.model.primitives[name])
        return self.value(name)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def evaluate(self, frame: Frame, node: NodeProto) -> None:
        """Run a node. What planish cannot do is noted, and what uses its result is left out then."""
        if node.op_type == "Constant":
            return
        label = self.labels.node(node)
        self._evaluated += 1
        if self._evaluated > MAX_NODES:
            raise ModelError(f"{self.a.label}: calls and loops expand to more than {MAX_NODES:,} nodes; too large")
        outer, self.path = self.path, (*self.path, node.output)
        with self.a.at(label):
            try:
                frame.values[node.output] = self._result(node)
            except Broken:
                frame.values[node.output] = Broken()
            except Unsupported as problem:
                self._refuse(label, self._operator(node), problem)
                frame.values[node.output] = Broken()
            finally:
                self.path = outer
        self._latest[node.output] = frame.values[node.output]
        if not self.branches.depth:
            self._outside[label] = frame.values[node.output]

    def _operator(self, node: NodeProto) -> str:
        return self.flow.operator(node) or "call"

    def _refuse(self, label: str, operator: str, problem: Unsupported) -> None:
        if label not in self._refused:
            self._refused.add(label)
            self.a.refuse(label, operator, problem)

    def _result(self, node: NodeProto) -> Datum:
        name = self.flow.operator(node)
        if name and name not in PRIMITIVES:
            reason = without_lowering(name) if known(name) else "a primitive that is not known"
            raise Unsupported(reason, "compute it outside of the model, or export the network without it")
        function = self._callee(node)
        given = [self.value(n) for n in node.inputs]
        if isinstance(function, Function) and isinstance(function.target, Primitive):
            return self.lower(function.target, (*function.arguments, *given), self.labels.node(node), node)
        if isinstance(function, Either) and isinstance(node.abstract, Closure):
            # Functions do not leave a branch: each is made where it is called, in a branch by the same condition.
            then, otherwise = (Later(side, tuple(given)) for side in (function.then, function.otherwise))
            return Either(function.condition, then, otherwise)
        return self.apply(function, given)

    def lower(self, target: Primitive, given: Sequence[Datum], label: str, node: NodeProto | None) -> Datum:
        """What a primitive gives."""
        name = target.op_type.removeprefix("S-Prim-")
        if name not in PRIMITIVES:
            raise Unsupported(without_lowering(name))
        abstract = None if node is None else node.abstract
        try:
            return PRIMITIVES[name](Call(self, self.a, target, given, label, abstract))
        except (LookupError, ValueError, ArithmeticError, TypeError) as e:
            # Lowerings take it that lists of numbers are as long as they must be.
            raise ModelError(f"{self.a.label}: {label}: arguments of {name} that do not fit each other ({e})") from e

    # -- the model ---------------------------------------------------------------------------------------------------

    def main(self, given: Sequence[Datum], more: Sequence[str]) -> tuple[Datum, list[Datum]]:
        """The results of the model, and the values of nodes by label: those that are in no branch or loop; where a
        function is called several times, in its last call. Raises `Broken` if nodes could not be read (they are noted
        then)."""
        graph = self.model.graph
        frame = Frame(graph)
        self._frames.append(frame)
        self._bind(frame, given)
        for node in graph.nodes:
            self.evaluate(frame, node)
        results = tuple(self.value(o.name) for o in graph.outputs)
        return results[0] if len(results) == 1 else results, [self._inside(name) for name in more]

    def _inside(self, name: str) -> Datum:
        label, _, rest = (name, "", "") if name in self._outside else name.rpartition(".")
        if label not in self._outside:
            raise ModelError(
                f"{self.a.label}: {name} is computed in a branch or loop, or nowhere: it cannot be an output"
            )
        datum = self._whole(self._outside[label])
        if not rest:
            return datum
        if not isinstance(datum, tuple) or not rest.isdecimal() or int(rest) >= len(datum):
            raise ModelError(f"{self.a.label}: node {label} has no result {name}")
        return datum[int(rest)]


__all__ = ["Frame", "Interpreter"]
