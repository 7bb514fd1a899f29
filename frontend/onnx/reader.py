"""The ONNX importer: a model file becomes a `Module` whose graph `main` computes what the model says.

The order of work: parse (`proto`), check the structure (`checks`), make parameters and constants, convert the nodes in
topological order (`node.CONVERTERS`, `symbolic.fold`), return the outputs. Everything that planish cannot compile is
collected and reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path

import onnx

from ...ir.assume import Assumptions, settled
from ...ir.constants import ConstantData
from ...ir.core import Graph, Module, Return, Value
from ...ir.expr import Dim
from ...ir.types import TensorType, Type, is_float
from .. import SourceNode
from ..checkpoints import Checkpoint, Matched, matched
from ..text import quote
from . import (
    arith,
    causal,
    contrib,
    contrib_attention,
    contrib_blocks,
    contrib_experts,
    contrib_layers,
    contrib_packed,
    contrib_pieces,
    control,
    deform,
    einsum,
    index,
    irregular,
    labels,
    learned,
    make,
    measured,
    names,
    nn,
    norm,
    qoperators,
    quant,
    recurrent,
    reduce,
    resize,
    sampling,
    sequences,
    shape,
    signal,
    training,
    trees,
)
from .annotations import wrong_annotations
from .checks import check_domains, check_names, check_text, opsets, ordered, used_names
from .inputs import Given, read_inputs, unranked_inputs
from .node import node_label
from .nodes import Frame, NodeImporter, known_shapes
from .proto import Loaded, load
from .report import Issue, unsupported
from .scope import Item, Scope, Unsupported
from .symbols import Symbols
from .tensors import DTYPE_NAMES, TensorReader, UnsupportedType, checked_shape, densified

# Importing these fills the table of converters.
_FAMILIES = (
    arith, causal, contrib, contrib_attention, contrib_blocks, contrib_experts, contrib_layers, contrib_packed,
    contrib_pieces, control, deform, einsum, index, irregular, labels, learned, make, measured, nn, norm, quant,
    recurrent, reduce, resize, sampling, sequences, shape, signal, qoperators, training, trees,
)  # fmt: skip
names.register()


class OnnxSource:
    """An ONNX model that has been opened, and can be read several times."""

    def __init__(self, source: Path | str | bytes | onnx.ModelProto) -> None:
        self._model = load(source)
        self._more: tuple[str, ...] = ()
        self._weights: Matched | None = None
        self.label = self._model.label

    def unranked(self) -> list[str]:
        """Names of the inputs that have no shape in the model."""
        return unranked_inputs(self._model.proto.graph)

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        """Names and types of the inputs as the file has them."""
        graph = self._model.proto.graph
        constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
        free = [i for i in graph.input if i.name not in constants]
        found, _ = read_inputs(free, Given({}, ranks or {}, {}), self.label, [])
        return [(name, type) for name, type in found if type is not None]

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """As `read_onnx`."""
        return Importer(self._model, shapes or {}, ranks or {}, self._more, self._weights).run()

    def nodes(self) -> list[SourceNode]:
        """The nodes of the graph in topological order. Raises `ModelError` if there is no such order."""
        versions = opsets(self._model.proto, self.label)
        return [
            SourceNode(
                node.name or f"{node.op_type}:{next((o for o in node.output if o), '')}",
                node_label(node),
                node.op_type,
                node.domain or "ai.onnx",
                versions.get("" if node.domain == "ai.onnx" else node.domain, 0),
                tuple(node.input),
                tuple(node.output),
            )
            for node in ordered(self._model.proto.graph, self.label)
        ]

    def with_outputs(self, names: Sequence[str]) -> OnnxSource:
        """The same file with more outputs."""
        copied = copy(self)
        copied._more = (*self._more, *names)
        return copied

    def with_weights(self, checkpoint: Checkpoint) -> OnnxSource:
        """The same file with tensors of a checkpoint in place of initializers. Those of floats with more than one
        element must all be there: other constants are part of the graph."""
        found = [
            t for t in self._model.proto.graph.initializer if t.data_type in DTYPE_NAMES and min(t.dims, default=0) >= 0
        ]
        wanted = {t.name: TensorType(DTYPE_NAMES[t.data_type], tuple(t.dims)) for t in found}
        optional = [t.name for t in found if not is_float(wanted[t.name].dtype) or math.prod(t.dims) <= 1]
        copied = copy(self)
        copied._weights = matched(wanted, checkpoint, self.label, optional)
        return copied


def read_onnx(
    path: Path | str | bytes | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Module:
    """Read an ONNX model: a file (weights and external data stay there, memory-mapped), its bytes, or a ModelProto.

    `shapes` fixes symbolic dimensions: ``{"input": [1, 3, 224, 224]}``; `ranks` gives inputs without a shape a rank:
    ``{"input": 4}``, with one symbol for each dimension. Without it their type is ``f32[*]``. Dimensions of inputs that
    must be equal, or have one size, for the operators to fit are so in the result. The module's attributes hold name,
    producer, opset, sha256, source (the file's name) and notes (lines for the user, if there are any). Raises
    `ModelError` for a file that is damaged or inconsistent, and one `UnsupportedError` that lists every node planish
    cannot compile.
    """
    return OnnxSource(path).read(shapes=shapes, ranks=ranks)


class Importer:
    """One import. Inputs that have an initializer too are constants (`attributes["overridable"]` names them)."""

    def __init__(
        self,
        model: Loaded,
        shapes: Mapping[str, Sequence[int]],
        ranks: Mapping[str, int],
        more: Sequence[str] = (),
        weights: Matched | None = None,
    ) -> None:
        """`more` are values that become outputs behind the graph's own, `weights` stand in for initializers."""
        self.model = model
        self.proto = model.proto.graph
        self.outputs = [*(o.name for o in self.proto.output), *more]
        self.file = model.label
        self.shapes = shapes
        self.ranks = ranks
        self.weights = weights
        self.tensors = TensorReader(model)
        self.issues: list[Issue] = []

    def run(self) -> Module:
        """Import the model."""
        check_text(self.model.proto, self.file)
        self.opsets = opsets(self.model.proto, self.file)
        return settled(self._module)

    def _module(self, equal: dict[str, Dim], assumed: Assumptions) -> Module:
        graph, self.issues = self.proto, list[Issue]()
        check_domains(graph, self.opsets, self.file)
        check_names(graph, self.file)
        order = ordered(graph, self.file)
        constants = self._constants()
        free = [i for i in graph.input if i.name not in constants]
        given = Given(self.shapes, self.ranks, equal)
        params, unnamed = read_inputs(free, given, self.file, self.issues)
        assumed.free.update(unnamed)
        good = {name: type for name, type in params if type is not None}
        main = Graph("main", list(good.values()), list(good), self.outputs)
        symbols = Symbols(equal)
        self.scope = Scope(main.body, symbols)
        self.scope.items.update({name: None for name, _ in params})
        self.scope.items.update({v.name: Item(value=v) for v in main.params})
        self.scope.items.update(constants)
        used = used_names(graph).union(self.outputs)
        frame = Frame(self.scope, self.opsets, used, shapes=known_shapes(graph))
        nodes = NodeImporter(self.model.proto, self.file, self.tensors, self.issues, assumed)
        for node in order:
            nodes.convert(node, frame)
        if self.issues:
            raise unsupported(self.issues, self.file)
        main.body.append(Return(tuple(self._outputs())))
        symbols.insert_binds(main.body)
        module = Module([main])
        module.attributes = self._attributes([i.name for i in graph.input if i.name in constants])
        notes = [*(self.weights.notes if self.weights else ()), *wrong_annotations(graph, self.scope.items)]
        if notes:
            module.attributes["notes"] = notes
        return module

    def _attributes(self, overridable: list[str]) -> dict[str, object]:
        proto = self.model.proto
        attributes: dict[str, object] = {
            "name": self.proto.name,
            "producer": " ".join(p for p in (proto.producer_name, proto.producer_version) if p),
            "opset": self.opsets.get("", 0),
            "sha256": self.model.sha256,
            "source": "" if self.model.path is None else self.model.path.name,
        }
        if self.weights is not None:
            attributes["weights"] = self.weights.source
        # Before IR version 4 every initializer had to be listed as an input: that says nothing.
        if proto.ir_version >= 4 and overridable:
            attributes["overridable"] = ", ".join(overridable)
        return attributes

    # -- what goes in ---------------------------------------------------------------------------------------------

    def _constants(self) -> dict[str, Item | None]:
        found: dict[str, Item | None] = {}
        counts = counting_initializers(self.proto.initializer)
        for i, tensor in enumerate(self.proto.initializer):
            if counts[tensor.name] != i:
                continue
            if self.weights is not None and tensor.name in self.weights.tensors:
                found[tensor.name] = Item(data=self.weights.tensors[tensor.name])
                continue
            place = self.model.raw[i] if i < len(self.model.raw) else None
            try:
                found[tensor.name] = Item(data=self.tensors.read(tensor, place=place))
            except UnsupportedType as e:
                self._issue_tensor(tensor.name, str(e))
                found[tensor.name] = None
        for sparse in self.proto.sparse_initializer:
            name = sparse.values.name
            try:
                found[name] = Item(data=self._densified(sparse))
            except UnsupportedType as e:
                self._issue_tensor(name, str(e))
                found[name] = None
        return found

    def _densified(self, sparse: onnx.SparseTensorProto) -> ConstantData:
        where = f"{self.file}: sparse initializer {quote(sparse.values.name)}"
        values = self.tensors.read(sparse.values, "sparse initializer")
        indices = self.tensors.read(sparse.indices, f"indices of sparse initializer {quote(sparse.values.name)}")
        return densified(values, indices, checked_shape(sparse.dims, where), where)

    def _issue_tensor(self, name: str, reason: str) -> None:
        self.issues.append(Issue(quote(name, 40), "(initializer)", "", reason, "store it in another type"))

    # -- what comes out -------------------------------------------------------------------------------------------

    def _outputs(self) -> list[Value]:
        self.scope.builder.loc = "outputs"
        values: list[Value] = []
        for name in self.outputs:
            try:
                values.append(self.scope.value(name))
            except Unsupported as e:
                self.issues.append(Issue(quote(name, 40), "(output)", "", e.reason, "give out tensors instead"))
        if self.issues:
            raise unsupported(self.issues, self.file)
        return values


def counting_initializers(initializers: Iterable[onnx.TensorProto]) -> dict[str, int]:
    """Which initializer counts, by name, in files that have several of one name. ONNX forbids that and so says nothing
    of it; files that do it are about, and were tested with ONNX Runtime: there the last one counts, except that data
    of more than 127 bytes stays what it was first (measured with 1.32; its bound for data kept inside the model)."""
    counts: dict[str, int] = {}
    for i, tensor in enumerate(initializers):
        if tensor.name not in counts or _data_bytes(tensor) <= 127:
            counts[tensor.name] = i
    return counts


def _data_bytes(tensor: onnx.TensorProto) -> int:
    try:
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        size = 1
    return math.prod(tensor.dims) * size
