"""`GraphCell`: a network that was loaded from a MindIR file, compiled when it is called."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from planish._results import sources_digest
from planish._version import __version__
from planish.codegen.cache import Cache, digest
from planish.frontend.checkpoints import Checkpoint
from planish.frontend.mindir.proto import (
    Abstract,
    ModelFile,
    Monad,
    ScalarAbstract,
    SequenceAbstract,
    TensorAbstract,
    UnknownAbstract,
)
from planish.frontend.mindir.reader import MindirSource
from planish.ir.constants import ConstantData, FileSource
from planish.ir.types import DTYPES, dtype_of
from planish.mindspore.errors import ArgumentTypeError, LoadValueError
from planish.mindspore.tensor import Array, Parameter, Tensor
from planish.runtime import Model, load


class FuncGraph:
    """What `load` gives: a network for `GraphCell`."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"FuncGraph({self.model.label})"


class GraphCell:
    """A network from a MindIR file. `graph` is what `planish.mindspore.load` gives; `params_init` has tensors by the
    names of parameters whose values they replace.

    It is compiled when it is called first; inputs of other sizes or types than the file has compile it again, as
    MindSpore infers it again. Parameters that the network assigns keep their values from call to call.
    """

    def __init__(
        self, graph: FuncGraph, params_init: Mapping[str, Tensor] | None = None, obf_random_seed: int | None = None
    ) -> None:
        """Raises `TypeError` for arguments of other types, `ValueError` for `obf_random_seed`: obfuscated networks
        cannot be read."""
        if not isinstance(graph, FuncGraph):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"GraphCell: graph: expected what load gives, got {type(graph).__name__}")
        if obf_random_seed is not None:
            raise LoadValueError("GraphCell: obf_random_seed: obfuscated networks cannot be read")
        self.graph = graph
        model = graph.model
        self._parameters = {
            tensor.parameter: Parameter(tensor.data.array(), tensor.parameter)
            for part in (model.graph, *model.functions)
            for tensor in part.parameters
            if tensor.data is not None
        }
        self._compiled: dict[str, Model] = {}
        self._last: tuple[Model, tuple[int, ...]] | None = None
        for name, value in (params_init or {}).items():
            if not isinstance(name, str) or not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentTypeError("GraphCell: params_init: expected tensors by names")
            if name in self._parameters:
                self._parameters[name].set_data(value)

    # -- parameters ----------------------------------------------------------------------------------------------------

    def parameters_dict(self, recurse: bool = True) -> dict[str, Parameter]:
        """Parameters by name."""
        return dict(self._parameters)

    def parameters_and_names(self, name_prefix: str = "", expand: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Names and parameters."""
        prefix = f"{name_prefix}." if name_prefix else ""
        return ((prefix + name, parameter) for name, parameter in self._parameters.items())

    def get_parameters(self, expand: bool = True) -> Iterator[Parameter]:
        """Parameters."""
        return iter(self._parameters.values())

    def trainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Parameters as a list."""
        return list(self._parameters.values())

    def set_train(self, mode: bool = True) -> GraphCell:
        """Nothing: the file says whether dropout and the like are in it."""
        return self

    # -- calls ---------------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Any:
        """Run it on tensors, arrays or numbers (tuples of them where the network takes tuples), and give a `Tensor`,
        or a tuple of them as the network returns it. Raises `PlanishError`."""
        source = self.source(inputs)
        model = self._model(source)
        ports = [port.name for port in model.inputs]
        feed = dict(zip(ports, _leaves(inputs), strict=True))
        dtypes = {port.name: port.dtype for port in model.inputs}
        arrays = {name: _as_array(value, dtypes[name]) for name, value in feed.items()}
        versions = tuple(p.version for p in self._parameters.values())
        kept = [port.name for port in model.states if port.name in self._parameters]
        if kept and self._last is not None and self._last != (model, versions):
            model.set_states({name: self._parameters[name].data for name in kept})
        found = [Tensor(value) for value in model.run(arrays).values()]
        for name in kept:
            self._parameters[name].refresh(model.get_states()[name])
        self._last = (model, versions)
        return _structured(self.graph.model, found)

    construct = __call__

    def source(self, inputs: Sequence[Any]) -> MindirSource:
        """The network with its present parameters, for inputs of these types. Raises `ValueError` for another number of
        them."""
        model = self.graph.model
        given = list(inputs)
        roots = [i for i, info in enumerate(model.graph.inputs) if not _is_hidden(model, i) and info.name]
        if len(given) != len(roots):
            raise LoadValueError(f"{model.label}: expected {len(roots)} inputs, got {len(given)}")
        changed = list(model.graph.inputs)
        for index, value in zip(roots, given, strict=True):
            changed[index] = replace(changed[index], abstract=_retyped(changed[index].abstract, value))
        source = MindirSource(replace(model, graph=replace(model.graph, inputs=tuple(changed))))
        held = {name: p for name, p in self._parameters.items() if p.version}
        if not held:
            return source
        whole = {name: _data(model, name, p) for name, p in self._parameters.items()}
        return source.with_weights(Checkpoint("parameters", Path("parameters"), "memory", whole))

    def _model(self, source: MindirSource) -> Model:
        """The compiled network, from memory or the cache. An encrypted one leaves nothing in the cache."""
        key = digest(*self._identity(source), __version__, sources_digest())
        if key not in self._compiled:
            if self.graph.model.cipher:
                with tempfile.TemporaryDirectory(prefix="planish-") as folder:
                    self._compiled[key] = _built(source, Path(folder) / "net.so")
            else:
                self._compiled[key] = _built(source, Cache("models").folder / f"{key}.so")
        return self._compiled[key]

    def _identity(self, source: MindirSource) -> list[str]:
        """What the compiled network depends on."""
        model = self.graph.model
        tensors = {t.parameter: t.data for g in (model.graph, *model.functions) for t in g.parameters}
        parts = [model.sha256, repr(source.input_types())]
        for name, parameter in self._parameters.items():
            data = _data(model, name, parameter) if parameter.version else tensors[name]
            parts.append(f"{name} {_identity_of(data)}")
        return parts


def _built(source: MindirSource, place: Path) -> Model:
    from planish.compile import compile_file

    if not place.exists():
        compile_file(source, place, emit="lib", self_test=False)
    return load(place)


def _data(model: ModelFile, name: str, parameter: Parameter) -> ConstantData:
    """A parameter as a constant: the file's own unless the user has changed it."""
    if not parameter.version:
        for graph in (model.graph, *model.functions):
            for tensor in graph.parameters:
                if tensor.parameter == name and tensor.data is not None:
                    return tensor.data
    return ConstantData.of(parameter.given)


def _identity_of(data: ConstantData | None) -> str:
    if data is None:
        return ""
    if isinstance(data.source, FileSource):  # reading gigabytes to name them would take seconds
        info = Path(data.source.path).stat()
        return f"{data.source.path} {data.source.offset} {data.type} {info.st_size} {info.st_mtime_ns}"
    return data.digest()


def _is_hidden(model: ModelFile, index: int) -> bool:
    """Whether an input of the graph is none of the network's: a monad, or a parameter."""
    info = model.graph.inputs[index]
    keys = {t.parameter for g in (model.graph, *model.functions) for t in g.parameters}
    return isinstance(info.abstract, Monad) or info.ref_key in keys


def _retyped(abstract: Abstract, value: Any) -> Abstract:
    """The type of an input, with the element type and sizes of what is given where the file has others."""
    match abstract:
        case SequenceAbstract():
            if not isinstance(value, tuple | list):
                raise ArgumentTypeError(f"expected a {abstract.kind} as input, got {type(value).__name__}")
            items = cast("Sequence[Any]", value)
            if not abstract.dynamic and len(items) != len(abstract.items):
                raise LoadValueError(f"expected a {abstract.kind} of {len(abstract.items)}, got one of {len(items)}")
            inner = [abstract.element or UnknownAbstract()] * len(items) if abstract.dynamic else abstract.items
            retyped = (_retyped(one, item) for one, item in zip(inner, items, strict=True))
            return SequenceAbstract(abstract.kind, tuple(retyped))
        case ScalarAbstract():
            return abstract
        case TensorAbstract() | UnknownAbstract():
            tensor = value if isinstance(value, Tensor) else Tensor(value)
            shape, dtype = tensor.open_shape, dtype_of(np.empty(0, tensor.dtype))
            if isinstance(abstract, TensorAbstract) and dtype == abstract.dtype and _fits(abstract.dims, shape):
                return abstract
            return TensorAbstract(dtype, shape)
        case _:
            return abstract


def _fits(dims: tuple[int, ...] | None, shape: tuple[int, ...] | None) -> bool:
    """Whether a compiled network for `dims` (-1: any size) takes `shape`."""
    if dims is None or shape is None:
        return dims == shape
    return len(dims) == len(shape) and all(d in (-1, size) for d, size in zip(dims, shape, strict=True))


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _leaves(value)
        else:
            yield value


def _as_array(value: Any, dtype: str) -> Array:
    """What the model takes: numbers of Python's own become its type, arrays stay as they are."""
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, np.ndarray):
        return cast("Array", value)
    return np.asarray(value, DTYPES[dtype].numpy)


def _structured(model: ModelFile, found: Sequence[Tensor]) -> Any:
    """The results in the tuples that the network returns them in."""
    abstracts = {node.output: node.abstract for node in model.graph.nodes}
    outputs = [abstracts.get(info.name, info.abstract) for info in model.graph.outputs]
    whole = outputs[0] if len(outputs) == 1 else SequenceAbstract("tuple", tuple(outputs))
    remaining = iter(found)

    def build(abstract: Abstract) -> Any:
        if isinstance(abstract, SequenceAbstract) and not abstract.dynamic:
            return tuple(build(item) for item in abstract.items if not isinstance(item, Monad))
        return None if abstract is None else next(remaining)

    try:
        result = build(whole)
    except StopIteration:  # the types in the file are not those of what it computes
        result = None
    if result is None or next(remaining, None) is not None:
        return found[0] if len(found) == 1 else tuple(found)
    return result


__all__ = ["FuncGraph", "GraphCell"]
