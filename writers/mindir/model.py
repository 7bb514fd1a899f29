"""A module as a MindIR file."""

from __future__ import annotations

from ...ir.core import Module
from ...ir.errors import Issue
from ...ir.types import TensorType
from ..names import clean
from ..report import unwritable
from ..wire import Message
from . import elementwise, moves, nn, proto, recurrent, windows
from .net import Net, Ref

FAMILIES = (elementwise, moves, nn, recurrent, windows)
"""The files whose functions register themselves when they are imported."""
LIMIT = 2_000_000_000
"""Bytes of a file that every reader of protobuf takes."""
_VERSION = 3  # of MindIR, as MindSpore 2.10 has it


class MindirModel:
    """A module in tensor form as a MindIR model. Raises `UnsupportedError` that lists all that MindIR cannot say.

    The module's weights are read when the file is written; it must not change before."""

    def __init__(self, module: Module, producer: str = "") -> None:
        self.producer = producer
        main = module.main
        self.net = Net("main")
        self.inputs: list[Ref] = []
        for i, param in enumerate(main.params):
            if not isinstance(param.type, TensorType) or param.type.dtype not in proto.TENSOR_TYPES:
                self.net.issues.append(Issue(param.name, "input", "", f"MindIR has no type {param.type}", ""))
                continue
            ref = Ref(self.net.port(clean(param.name), i), param.type)
            self.inputs.append(ref)
            self.net.define(param, ref)
        for op in main.body:
            if not op.terminator:
                self.net.add(op)
        if self.net.issues:
            raise unwritable(self.net.issues, "MindIR")
        self.net.loc = ""
        self.outputs = [self.net.of(v) for v in main.results]
        self.result = self.outputs[0] if len(self.outputs) == 1 else self.net.tuple_of(self.outputs)

    @property
    def count(self) -> int:
        """Nodes of the graph that compute."""
        return self.net.count

    def message(self) -> Message:
        """The whole file."""
        graph = Message()
        for node in self.net.nodes:
            graph.message(1, node)
        graph.text(2, self.net.name)
        for name, data, key in self.net.parameters:
            graph.message(3, proto.tensor_data(data, name, key))
        for ref in self.inputs:
            assert ref.type is not None
            graph.message(5, Message().text(1, ref.name).message(2, proto.tensor(ref.type)))
        graph.message(6, self._output())
        model = Message().text(1, "1.1").text(2, "MindSpore").text(5, "2.10.0").message(7, graph).number(10, 1)
        for primitive in self.net.primitives:
            model.message(12, primitive)
        return model.number(13, _VERSION)

    def _output(self) -> Message:
        info = Message().text(1, self.result.name)
        if self.result.type is not None:
            return info.message(2, proto.tensor(self.result.type))
        return info.text(4, "Tuple").message(5, proto.inferred([r.type for r in self.outputs if r.type is not None]))


__all__ = ["LIMIT", "MindirModel"]
