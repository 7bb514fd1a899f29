"""Exported programs as sources: what `open_model` gives for a `.pt2` file or an `ExportedProgram`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ir.core import Module
from ...ir.expr import Expr
from ...ir.types import Type
from .. import SourceNode
from ..assembly import Assembly, Input, Item, assembled, input_types
from ..text import quote
from .lower import Lowerer, changed_inputs, in_place, names_in
from .program import Program, walk

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint


class TorchSource:
    """An exported program that has been opened, and can be read several times."""

    def __init__(self, program: Program, more: Sequence[str] = (), notes: Sequence[str] = ()) -> None:
        self._program = program
        self._notes = tuple(notes)
        self._more = tuple(more)
        self.label = program.label

    @staticmethod
    def open(path: Path) -> TorchSource:
        """The program in a `.pt2` file. Raises `ModelError` and `UnsupportedError`."""
        from .schema import read_pt2

        return TorchSource(read_pt2(path))

    @staticmethod
    def of(exported: Any, label: str = "", names: Mapping[str, str] | None = None) -> TorchSource:
        """A live `torch.export.ExportedProgram`; `names` are what symbols are called instead of PyTorch's names."""
        from .live import read_exported

        return TorchSource(read_exported(exported, label or "ExportedProgram", names))

    @property
    def program(self) -> Program:
        """The program as plain data."""
        return self._program

    def identity(self) -> bytes:
        """What the program is, by content: its graph, and digests of its weights."""
        weights = {self._program.names[name]: data.digest() for name, data in self._program.constants.items()}
        return repr((self._program.sha256, sorted(weights.items()), sorted(self._program.ranges.items()))).encode()

    @property
    def mutates(self) -> bool:
        """Whether the program changes tensors in place."""
        return any(in_place(node.target) for node in walk(self._program.graph))

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
        # PyTorch takes sizes of 0 and 1 out because it would specialise for them; here they are like any other.
        found = {name: (low if low > 2 else 0, high) for name, (low, high) in self._program.ranges.items()}
        return {name: limits for name, limits in found.items() if name in names and limits != (0, None)}

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """The program as `read_model` gives it."""

        def build(assembly: Assembly) -> list[Item]:
            return Lowerer(self._program, assembly).run(self._more)

        program = self._program
        attributes: dict[str, object] = {
            "name": program.label.removesuffix(".pt2"), "producer": program.producer, "sha256": program.sha256
        }  # fmt: skip
        if notes := (*self._notes, *changed_inputs(program)):
            attributes["notes"] = notes
        outputs = [*(name for name, _ in self._program.outputs), *self._more]
        return assembled(
            self.label, self._inputs(), build, outputs=outputs, attributes=attributes, shapes=shapes, ranks=ranks
        )

    def nodes(self) -> list[SourceNode]:
        """The nodes of the program, in its order."""
        found: list[SourceNode] = []
        for node in self._program.graph.nodes:
            space, _, operator = node.target.partition(".")
            inputs, outputs = names_in([*node.inputs.values(), *node.args]), names_in(node.outputs)
            label = f"node {quote(node.name)} ({operator})"
            found.append(SourceNode(node.name, label, operator, space, 0, tuple(inputs), tuple(outputs)))
        return found

    def with_outputs(self, names: Sequence[str]) -> TorchSource:
        """The same program with more outputs."""
        return TorchSource(self._program, (*self._more, *names), self._notes)

    def with_weights(self, checkpoint: Checkpoint) -> TorchSource:
        """The same program with parameters and buffers of a checkpoint, by the names that the module has for them.
        Raises one `ModelError` that lists all that is missing or does not fit."""
        from ..checkpoints import matched

        program = self._program
        # Buffers that are not persistent, and constants of the graph, are in no state dict.
        optional = [k for name, k in program.names.items() if name not in program.stored]
        wanted = {key: program.constants[name].type for name, key in program.names.items()}
        found = matched(wanted, checkpoint, self.label, optional)
        constants = {name: found.tensors.get(program.names[name], old) for name, old in program.constants.items()}
        return TorchSource(replace(program, constants=constants), self._more, (*self._notes, *found.notes))


__all__ = ["TorchSource"]
