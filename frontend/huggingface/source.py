"""A folder as a `Source`: it can be read several times, for different shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

from ...ir.constants import ConstantData
from ...ir.core import Module
from ...ir.types import Type
from .. import Reading, SourceNode
from ..assembly import Assembly, Item, assembled, input_types
from ..checkpoints import Checkpoint
from .folder import Folder, open_folder, read_weights
from .layers import Net
from .registry import choose, choose_graph
from .sentence import sentence_embedding
from .vision import size_note
from .weights import Weights


class HuggingFaceSource:
    """A folder that has been opened: its configuration is read, its weights are known by name.

    `reading.graph` chooses one of the architecture's graphs; "" is the first of them.
    """

    def __init__(self, path: Path, reading: Reading | None = None) -> None:
        reading = reading or Reading()
        self.folder: Folder = open_folder(path)
        self.label = self.folder.label
        # What comes behind the network in folders of sentence-transformers reads its states, whatever head it was
        # trained with.
        self.model = choose(self.folder.config, bare=bool(self.folder.modules))
        self.graph = choose_graph(self.model, reading.graph, self.label)
        self._tensors: Mapping[str, ConstantData] | None = None
        self._more: tuple[str, ...] = ()

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs of the folder, the default first."""
        return self.model.all_graphs()

    def unranked(self) -> list[str]:
        """None: all ranks are known."""
        return []

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        """Names and types of the inputs."""
        return input_types(self.model.inputs(self.graph), self.label, ranks)

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """The graph. The module's attributes hold name, architecture, graph, source and notes."""
        outputs: list[str] = []
        notes: list[str] = []
        free = {port.name for port in self.model.inputs(self.graph) if "height" in (port.shape or ())}

        def build(assembly: Assembly) -> list[Item]:
            net, found = self._build(assembly)
            notes[:] = self._finish(net.weights)
            if "height" not in (shapes or {}):
                notes.extend(size_note(self.folder.model, name) for name in free - set(shapes or {}))
            outputs[:] = [*found, *self._more]
            return [*found.values(), *(net.values[name] for name in self._more)]

        module = assembled(
            self.label, self.model.inputs(self.graph), build, outputs=outputs, shapes=shapes, ranks=ranks
        )
        folder = self.folder.path.resolve().name
        module.attributes.update(
            name=folder if len(self.graphs) == 1 else f"{folder}_{self.graph}",
            architecture=self.model.name,
            graph=self.graph,
            source=folder,
            notes=notes,
        )
        return module

    def _build(self, assembly: Assembly) -> tuple[Net, dict[str, Item]]:
        """The network and its outputs by name."""
        if self._tensors is None:
            self._tensors = read_weights(self.folder.model)
        weights = Weights(self._tensors, self.label, self.model.base)
        net = Net(assembly, weights, self.folder.config)
        found = self.model.build(net, self.graph)
        if self.folder.modules:
            found = sentence_embedding(net, self.folder, found)
            weights.ignore("pooler.", f"{self.model.base}.pooler.")
        return net, found

    def _finish(self, weights: Weights) -> list[str]:
        """Raise `ModelError` for weights that do not fit; notes for the user."""
        notes = weights.finish()
        return notes if len(self.graphs) == 1 else []  # a graph of several may need a part of the weights only

    def nodes(self) -> list[SourceNode]:
        """The layers in the order in which they are built, named by their place in the tree of modules."""
        found: list[SourceNode] = []

        def build(assembly: Assembly) -> list[Item]:
            net, _ = self._build(assembly)
            found[:] = net.nodes
            return []

        assembled(self.label, self.model.inputs(self.graph), build, outputs=[])
        return found

    def with_outputs(self, names: Sequence[str]) -> HuggingFaceSource:
        """The same folder with more outputs."""
        copied = copy(self)
        copied._more = (*self._more, *names)
        return copied

    def with_weights(self, checkpoint: Checkpoint) -> HuggingFaceSource:
        """The same folder with the tensors of a checkpoint as its weights."""
        copied = copy(self)
        copied._tensors = checkpoint.tensors
        return copied


__all__ = ["HuggingFaceSource"]
