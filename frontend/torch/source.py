"""Exported programs as sources: what `open_model` gives for a `.pt2` file or an `ExportedProgram`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...ir.constants import ConstantData
from ...ir.core import Module
from ...ir.errors import ModelError
from ...ir.expr import Expr
from ...ir.types import Type
from .. import SourceNode
from ..assembly import Assembly, Input, Item, assembled, input_types
from ..text import quote
from .lower import Lowerer
from .program import Program, Ref


class TorchSource:
    """An exported program that has been opened, and can be read several times."""

    def __init__(self, program: Program, more: Sequence[str] = ()) -> None:
        self._program = program
        self._more = tuple(more)
        self.label = program.label

    @staticmethod
    def open(path: Path) -> TorchSource:
        """The program in a `.pt2` file. Raises `ModelError` and `UnsupportedError`."""
        from .schema import read_pt2

        return TorchSource(read_pt2(path))

    @staticmethod
    def of(exported: Any, label: str = "") -> TorchSource:
        """A live `torch.export.ExportedProgram`."""
        from .live import read_exported

        return TorchSource(read_exported(exported, label or "ExportedProgram"))

    @property
    def program(self) -> Program:
        """The program as plain data."""
        return self._program

    def unranked(self) -> list[str]:
        """Programs know the ranks of all inputs."""
        return []

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        """Names and types of the inputs."""
        return input_types(self._inputs(), self.label, ranks)

    def _inputs(self) -> list[Input]:
        found: list[Input] = []
        for port in self._program.ports:
            if port.fixed:
                continue
            dims = port.shape if port.shape is not None else ()
            shape = tuple(d if isinstance(d, int) else d.symbol for d in dims)
            found.append(Input(port.name, port.dtype, shape))
        return found

    def ranges(self) -> dict[str, tuple[int, int | None]]:
        """The sizes that symbols of inputs may have, as the program was exported for."""
        names = {d.symbol for p in self._program.ports for d in p.shape or () if isinstance(d, Expr) and d.symbol}
        return {name: limits for name, limits in self._program.ranges.items() if name in names}

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """The program as `read_model` gives it."""

        def build(assembly: Assembly) -> list[Item]:
            return Lowerer(self._program, assembly).run(self._more)

        attributes = {"name": self._program.label, "producer": self._program.producer, "sha256": self._program.sha256}
        outputs = [*(name for name, _ in self._program.outputs), *self._more]
        return assembled(
            self.label, self._inputs(), build, outputs=outputs, attributes=attributes, shapes=shapes, ranks=ranks
        )

    def nodes(self) -> list[SourceNode]:
        """The nodes of the program, in its order."""
        found: list[SourceNode] = []
        for node in self._program.graph.nodes:
            space, _, operator = node.target.partition(".")
            inputs, outputs = _refs([*node.inputs.values(), *node.args]), _refs(node.outputs)
            label = f"node {quote(node.name)} ({operator})"
            found.append(SourceNode(node.name, label, operator, space, 0, tuple(inputs), tuple(outputs)))
        return found

    def with_outputs(self, names: Sequence[str]) -> TorchSource:
        """The same program with more outputs."""
        return TorchSource(self._program, (*self._more, *names))

    def with_weights(self, tensors: Mapping[str, ConstantData]) -> TorchSource:
        """The same program with other parameters and buffers, by the names that the module has for them. Raises
        `ModelError` where one is missing or does not fit."""
        constants = dict(self._program.constants)
        problems: list[str] = []
        for name, key in self._program.names.items():
            old, new = constants[name], tensors.get(key)
            if new is None:
                problems.append(f"{quote(key)} is missing")
            elif (new.shape, new.dtype) != (old.shape, old.dtype):
                problems.append(f"{quote(key)}: expected {old.type}, got {new.type}")
            else:
                constants[name] = new
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise ModelError(f"{self.label}: the weights do not fit: {shown}")
        return TorchSource(replace(self._program, constants=constants), self._more)


def _refs(arguments: Sequence[object]) -> list[str]:
    found: list[str] = []
    for argument in arguments:
        if isinstance(argument, Ref):
            found.append(argument.name)
        elif isinstance(argument, list):
            found += _refs(argument)  # pyright: ignore[reportUnknownArgumentType]
    return found


def is_exported(model: object) -> bool:
    """Whether something is a `torch.export.ExportedProgram`; torch is not imported for that."""
    return any(c.__name__ == "ExportedProgram" and c.__module__.startswith("torch.") for c in type(model).__mro__)


__all__ = ["TorchSource", "is_exported"]
