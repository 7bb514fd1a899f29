"""MindIR models made of a few lines, as the structures that a file is decoded into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from planish.frontend.mindir.proto import (
    PRIMITIVE,
    PRIMITIVE_FUNCTION,
    Abstract,
    Attribute,
    Closure,
    GraphProto,
    ModelFile,
    Monad,
    NodeProto,
    Primitive,
    Tensor,
    TensorAbstract,
    UnknownAbstract,
    Value,
    ValueInfo,
)
from planish.frontend.mindir.reader import MindirSource
from planish.ir.constants import ConstantData
from planish.ir.core import Module
from planish.ir.interp import run_graph
from planish.ir.types import dtype_of
from planish.ir.verifier import verify

Operand: TypeAlias = Any
"""The name of a value, a graph or a parameter, or a constant: an array, a number, a tuple, None, a monad, a `text`."""
U = Monad("U")


class text(str):
    """A string as a constant."""


def f32(*dims: int) -> TensorAbstract:
    """The type of a tensor."""
    return TensorAbstract("f32", dims)


def tensor(name: str, array: np.ndarray, ref_key: str = "") -> Tensor:
    """A tensor with elements."""
    return Tensor(name, ref_key, dtype_of(array), array.shape, ConstantData.of(array))


class File:
    """A MindIR model. The first graph is the model itself; graphs may call those that come later."""

    def __init__(self) -> None:
        self.graphs: list[GraphProto] = []
        self.primitives: dict[str, Primitive] = {}
        self.constants = 0

    def graph(
        self,
        name: str,
        inputs: Mapping[str, Abstract] | Sequence[str],
        nodes: Sequence[Sequence[Operand]],
        output: str,
        parameters: Mapping[str, np.ndarray] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """A graph. A node is (result, operator, inputs ..., perhaps a dictionary of attributes); the operator is a
        primitive, or "call NAME" for a graph or a value that is a function ("make NAME": one that gives a function).
        `keys` are inputs that stand for parameters."""
        types = (
            dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(inputs, cast("Abstract", UnknownAbstract()))
        )
        infos = tuple(ValueInfo(i, t, ref_key=(keys or {}).get(i, "")) for i, t in types.items())
        made: list[NodeProto] = []
        for spec in nodes:
            made += self._node(spec)
        tensors = tuple(tensor(f"{name}:{p}", a, p) for p, a in (parameters or {}).items())
        outputs = (ValueInfo(output, UnknownAbstract()),)
        self.graphs.append(GraphProto(name, tuple(made), tensors, infos, outputs, {}))

    def _node(self, spec: Sequence[Operand]) -> list[NodeProto]:
        output, operator, *operands = spec
        attributes: dict[str, Attribute] = {}
        if operands and isinstance(operands[-1], dict):
            attributes = {k: Attribute(k, "", v) for k, v in cast("dict[str, Value]", operands.pop()).items()}
        nodes: list[NodeProto] = []
        names: list[str] = []
        for operand in operands:
            if isinstance(operand, str) and not isinstance(operand, text):
                names.append(operand)
                continue
            self.constants += 1
            names.append(f"ValueNode_{self.constants}")
            given = tensor("value0", cast("np.ndarray", operand)) if isinstance(operand, np.ndarray) else operand
            if isinstance(given, text):
                given = str(given)
            nodes.append(NodeProto((), names[-1], names[-1], "Constant", {"value": Attribute("value", "", given)}))
        abstract: Abstract = UnknownAbstract()
        if operator.startswith(("call ", "make ")):
            target = operator[5:]
            abstract = Closure(("?",)) if operator.startswith("make ") else abstract
        else:
            target = f"{operator}:{len(self.primitives)}"
            kind = PRIMITIVE if attributes else PRIMITIVE_FUNCTION
            self.primitives[target] = Primitive(target, operator, attributes, kind)
        nodes.append(NodeProto(tuple(names), output, output, f"REF::{target}", {}, f"Default/{output}", abstract))
        return nodes

    def model(self) -> ModelFile:
        """The file."""
        main, *functions = self.graphs
        made = [n.output for g in self.graphs for n in g.nodes]
        assert len(made) == len(set(made)), "names are global: two nodes have the same one"
        return ModelFile(
            "net", None, "1.1", 3, "2.10.0", "MindSpore", main, tuple(functions), self.primitives, (), {}, "",
        )  # fmt: skip

    def source(self) -> MindirSource:
        """The file as a source."""
        return MindirSource(self.model())

    def module(self) -> Module:
        """The file as it is read, checked."""
        module = self.source().read()
        verify(module)
        return module

    def run(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """What the model gives for these inputs."""
        return list(run_graph(self.module(), inputs).values())
