"""MindIR models as a `Source`: opened once, read for any shapes and ranks of their inputs."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.assume import Assumptions, settled
from ...ir.core import Module
from ...ir.errors import ModelError, PlanishError
from ...ir.expr import Dim
from ...ir.types import Type
from .. import SourceNode
from ..assembly import Assembly, Item, Unsupported, input_types
from ..onnx.inputs import Given
from ..text import quote
from . import lowerings
from .branches import Again, Plans
from .data import Broken
from .files import load
from .flow import Flow
from .graph import Interpreter
from .names import Labels
from .ports import Ports, output_names, results
from .proto import ModelFile, Monad, NodeProto, SequenceAbstract
from .weights import with_weights

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint

_HIDDEN = (
    "Depend", "depend", "Load", "UpdateState", "MakeTuple", "make_tuple", "MakeList", "make_list", "TupleGetItem",
    "tuple_getitem", "ListGetItem", "list_getitem", "Return", "return", "Partial", "partial", "Switch", "switch",
    "SwitchLayer", "switch_layer",
)  # fmt: skip
"""Primitives that compute nothing."""
_STACK = 20_000  # Python's limit of calls inside of one another, while a model with nested calls is read
_READINGS = 1000

_LOWERINGS = lowerings  # importing it fills the table


class MindirSource:
    """A MindIR model that has been opened."""

    def __init__(self, source: Path | str | bytes | ModelFile, key: bytes | None = None) -> None:
        self._model = source if isinstance(source, ModelFile) else load(source, key)
        self._more: tuple[str, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._flow = Flow(self._model)
        self._labels = Labels(self._model)
        self._ports = Ports(self._model)
        self.label = self._model.label

    def unranked(self) -> list[str]:
        """Names of the inputs whose rank the file leaves open."""
        return [i.name for i in self._ports.inputs if i.shape is None]

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        """Names and types of the inputs as the file has them."""
        return input_types(self._ports.inputs, self.label, ranks)

    def ranges(self) -> dict[str, tuple[int, int | None]]:
        """Bounds of open sizes that the file gives, by symbol (`Ranged`)."""
        return self._ports.ranges()

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """The model as `read_model` gives it. The module's attributes hold name, producer, sha256, source, and where
        the file has them preprocess (the steps of its data set), user_info and notes."""
        plans = Plans()

        def make(equal: dict[str, Dim], assumed: Assumptions) -> Module:
            a = Assembly(self.label, self._ports.inputs, Given(shapes or {}, ranks or {}, equal), assumed)
            return self._module(a, plans)

        with _deep_stack():
            for _ in range(_READINGS):
                try:
                    return settled(make)
                except Again:
                    continue
                except RecursionError:
                    break
        raise ModelError(f"{self.label}: its functions call each other too deeply; export it again without recursion")

    def _module(self, a: Assembly, plans: Plans) -> Module:
        machine = Interpreter(self._model, a, self._flow, self._labels, plans)
        try:
            datum, more = machine.main(self._ports.arguments(a), self._more)
            outputs = results(machine, datum)
            extra = [self._extra(machine, name, value) for name, value in zip(self._more, more, strict=True)]
        except Broken:
            assert a.issues, "a node could not be read, and no one said why"
            return a.finish([], [], {})
        except Unsupported as problem:
            a.refuse("the model", "(results)", problem)
            return a.finish([], [], {})
        for name, item in machine.states.items():
            a.assign(name, item)
        return a.finish(
            [*outputs, *extra],
            [*output_names(len(outputs), self._ports.inputs), *self._more],
            self._attributes(machine),
        )

    def _extra(self, machine: Interpreter, name: str, value: object) -> Item:
        found = results(machine, value)  # type: ignore[arg-type]
        if len(found) != 1:
            raise ModelError(f"{self.label}: {name} has {len(found)} results: name one of them, as {name}.0")
        return found[0]

    def _attributes(self, machine: Interpreter) -> dict[str, object]:
        model = self._model
        attributes: dict[str, object] = {
            "name": self._labels.graph(model.graph),
            "producer": " ".join(p for p in (model.producer, model.model_version) if p),
            "sha256": model.sha256,
            "source": "" if model.path is None else model.path.name,
        }
        if model.preprocessor:
            attributes["preprocess"] = [asdict(step) for step in model.preprocessor]
        if model.user_info:
            attributes["user_info"] = dict(model.user_info)
        if notes := [*self._ports.notes, *machine.notes, *self._notes]:
            attributes["notes"] = notes
        return attributes

    # -- nodes -------------------------------------------------------------------------------------------------------

    def nodes(self) -> list[SourceNode]:
        """The nodes that compute something, of the model's own graph and then of its functions."""
        model = self._model
        names = _Names(self._flow, self._labels)
        return [
            SourceNode(
                self._labels.node(node),
                quote(self._labels.node(node)),
                self._flow.operator(node) or "call",
                "mindspore",
                model.mind_ir_version,
                tuple(name for i in node.inputs for name in names.read(i)),
                tuple(names.made(node)),
            )
            for graph in (model.graph, *model.functions)
            for node in graph.nodes
            if node.op_type != "Constant" and self._flow.operator(node) not in _HIDDEN
        ]

    def with_outputs(self, names: Sequence[str]) -> MindirSource:
        """The same file with more outputs."""
        copied = copy(self)
        copied._more = (*self._more, *names)
        return copied

    def with_weights(self, checkpoint: Checkpoint) -> MindirSource:
        """The same file with the parameters of a checkpoint. Raises one `ModelError` that lists all that is missing or
        does not fit."""
        model, found = with_weights(self._model, checkpoint)
        copied = MindirSource(model)
        copied._more, copied._notes = self._more, (*self._notes, *found.notes)
        return copied


class _Names:
    """Names of values between nodes, past those nodes that compute nothing."""

    def __init__(self, flow: Flow, labels: Labels) -> None:
        self.flow, self.labels = flow, labels

    def made(self, node: NodeProto) -> list[str]:
        """Names of a node's results."""
        label = self.labels.node(node)
        if isinstance(node.abstract, SequenceAbstract):
            return [f"{label}.{i}" for i in range(len(node.abstract.items))]
        return [] if isinstance(node.abstract, Monad) else [label]

    def read(self, name: str) -> list[str]:
        """Names of the values that an input stands for."""
        for _ in range(100_000):
            if name not in self.flow.nodes:
                return [name]
            _, node = self.flow.nodes[name]
            operator = self.flow.operator(node)
            if node.op_type == "Constant" or operator == "UpdateState":
                return []
            if operator in ("Load", "Depend", "depend") and node.inputs:
                name = node.inputs[0]
                continue
            if operator in ("MakeTuple", "make_tuple", "MakeList", "make_list"):
                return [n for i in node.inputs for n in self.read(i)]
            if operator in ("TupleGetItem", "tuple_getitem", "ListGetItem", "list_getitem") and len(node.inputs) == 2:
                return self._element(node)
            return self.made(node)
        return []

    def _element(self, node: NodeProto) -> list[str]:
        found = self.read(node.inputs[0])
        _, index = self.flow.nodes.get(node.inputs[1], (None, None))
        value = index.attributes["value"].value if index is not None and "value" in index.attributes else None
        return [found[value]] if isinstance(value, int) and 0 <= value < len(found) else found


@contextmanager
def _deep_stack() -> Generator[None]:
    """Let Python call more deeply: graphs that call graphs are read by functions that call functions."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _STACK))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def read_mindir(
    source: Path | str | bytes,
    *,
    key: bytes | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Module:
    """Read a MindIR model: a file or its bytes, with `key` where it is encrypted. `shapes` and `ranks` are those of
    `Source.read`. Raises `ModelError` for a file that is damaged or inconsistent, and one `UnsupportedError` that lists
    every node planish cannot compile."""
    return MindirSource(source, key).read(shapes=shapes, ranks=ranks)


__all__ = ["MindirSource", "PlanishError", "read_mindir"]
