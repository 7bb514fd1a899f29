"""A module as a MindIR file."""

from __future__ import annotations

from ...ir.constants import ConstantData
from ...ir.core import Graph, Module, Value
from ...ir.errors import Issue
from ...ir.state import states_of
from ...ir.types import TensorType
from ..names import clean
from ..outside import Outside
from ..report import unwritable
from ..weights import WeightBytes
from ..wire import Message
from . import control, elementwise, moves, nn, proto, recurrent, windows
from .net import Net, Ref, graph_message

FAMILIES = (control, elementwise, moves, nn, recurrent, windows)
"""The files whose functions register themselves when they are imported."""
LIMIT = 1_000_000_000
"""Bytes of parameters that MindSpore writes into one file with the graph."""
_VERSION = 3  # of MindIR, as MindSpore 2.10 has it


class MindirModel:
    """A module in tensor form as a MindIR model. Raises `UnsupportedError` that lists all that MindIR cannot say.

    The module's weights are read when the file is written; it must not change before."""

    def __init__(self, module: Module, producer: str = "") -> None:
        self.producer = producer
        main = module.main
        self.net = Net("main")
        issues = self.net.file.issues
        self._monad = ""
        self._loads: list[str] = []
        self._states: dict[str, str] = {}
        states = {state.input: state for state in states_of(module)}
        for i, param in enumerate(main.params):
            if param.name in states:
                self._load(param, states[param.name].initial)
                continue
            if not isinstance(param.type, TensorType) or param.type.dtype not in proto.TENSOR_TYPES:
                issues.append(Issue(param.name, "input", "", f"MindIR has no type {param.type}", ""))
                continue
            self.net.define(param, self.net.port(param.type, clean(param.name) or str(i)))
        for op in main.body:
            if not op.terminator:
                self.net.add(op)
        if issues:
            raise unwritable(issues, "MindIR")
        self.net.loc = ""
        self.outputs = self._assigned(main, {state.output: state.input for state in states.values()})
        self.result = self.outputs[0] if len(self.outputs) == 1 else self.net.tuple_of(self.outputs)

    def _load(self, param: Value, initial: ConstantData) -> None:
        """A state of the model: a parameter that is read when the graph begins."""
        name = self.net.file.names.unique(f"main:{clean(param.name)}")
        self.net.file.parameters.append((name, initial, name.partition(":")[2]))
        self._monad = self._monad or self.net.start()
        self._states[param.name] = name
        ref = self.net.prim("Load", Ref(name), Ref(self._monad), type=initial.type, attributes={})
        self.net.define(param, ref)
        self._loads.append(ref.name)

    def _assigned(self, main: Graph, states: dict[str, str]) -> list[Ref]:
        """The results that are the user's, behind the assignments of what the model keeps."""
        results = list(zip(main.result_names, main.results, strict=True))
        found = [self.net.of(v) for name, v in results if name not in states]
        if not states:
            return found
        after = self.net.ordered("UpdateState", self._monad, *self._loads)
        for name, value in results:
            if name in states:
                new = self.net.of(value).name
                done = self.net.ordered("Assign", self._states[states[name]], new, after)
                after = self.net.ordered("UpdateState", after, done)
        return [self.net.prim("Depend", r, Ref(after), type=r.type, attributes={}) for r in found if r.type is not None]

    @property
    def count(self) -> int:
        """Nodes that compute, in all graphs."""
        return self.net.file.count

    @property
    def weights_size(self) -> int:
        """Bytes of all parameters."""
        return sum(WeightBytes(data).size for _, data, _ in self.net.file.parameters)

    @staticmethod
    def outside(stem: str) -> Outside:
        """Where the parameters of a model in `STEM.mindir` lie, if not in it: MindSpore looks there."""
        return Outside(f"{stem}_variables/data_0", bytes([1]).ljust(64, b"\0"), 64)

    def message(self, outside: Outside | None = None) -> Message:
        """The whole file, with the parameters in it or `outside`."""
        graph = graph_message(self.net, self.result, self.outputs, outside)
        model = Message().text(1, "1.1").text(2, "MindSpore").text(5, "2.10.0").message(7, graph)
        for function in self.net.file.functions:
            model.message(8, function)
        model.number(10, 1)
        for primitive in self.net.file.primitives:
            model.message(12, primitive)
        return model.number(13, _VERSION)


__all__ = ["LIMIT", "MindirModel"]
