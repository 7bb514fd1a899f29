"""Frontends: each package turns one file format into the intermediate representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..ir.core import Module
from ..ir.errors import ModelError
from ..ir.types import Type

if TYPE_CHECKING:
    import onnx

    from .checkpoints import Checkpoint

_HEAD = 64  # bytes that tell one format from another


@dataclass(frozen=True)
class SourceNode:
    """A node of a model file: `name` is what operations made of it have as `loc`, `label` what messages call it;
    `inputs` and `outputs` are names of values ("" where one is left out)."""

    name: str
    label: str
    operator: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How a model is opened: `weights` is a checkpoint whose tensors take the place of the model's own by name, `key`
    decrypts, `graph` names one of several graphs that a folder holds (prefill, decode, encoder ...)."""

    weights: Path | None = None
    key: bytes | None = field(default=None, repr=False)
    graph: str = ""


@runtime_checkable
class Source(Protocol):
    """A model that has been opened: it can be read several times, for different shapes and ranks of its inputs."""

    label: str
    """What messages call it."""

    def unranked(self) -> list[str]:
        """Names of the inputs whose rank the model leaves open, in order."""
        ...

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        """Names and types of the inputs as the file has them, with a symbol for every size that it leaves open."""
        ...

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        """The model as `read_model` gives it."""
        ...

    def nodes(self) -> list[SourceNode]:
        """The nodes of the model itself (not those inside of them) in an order in which they can run."""
        ...

    def with_outputs(self, names: Sequence[str]) -> Source:
        """The same model with these values, outputs of its nodes, as outputs behind its own."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A source that knows which sizes its symbols may have."""

    def ranges(self) -> Mapping[str, tuple[int, int | None]]:
        """Least and most size (None: any) by symbol of its inputs."""
        ...


@runtime_checkable
class Identified(Protocol):
    """A source that has no file, and says itself what it is."""

    def identity(self) -> bytes:
        """What the model is, by content, for caches."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """A source whose weights can be those of a checkpoint instead of its own."""

    def with_weights(self, checkpoint: Checkpoint) -> Source:
        """The same model with tensors of a checkpoint by name. Raises one `ModelError` that lists all that is missing
        or does not fit."""
        ...


def read_model(
    source: str | Path | bytes | onnx.ModelProto | Source,
    *,
    reading: Reading | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Module:
    """Read a model of any supported format, told by its content, or the bytes of one, or a `ModelProto`.

    `shapes` fixes symbolic dimensions of inputs, `ranks` the ranks of inputs that the model leaves open: their
    dimensions are symbols then. Raises `ModelError` for what is no model, `UnsupportedError` for one that planish
    cannot compile.
    """
    return open_model(source, reading).read(shapes=shapes, ranks=ranks)


def open_model(source: str | Path | bytes | onnx.ModelProto | Source, reading: Reading | None = None) -> Source:
    """Open a model without importing its operators yet; one that is open stays as it is, but for the weights that
    `reading` names. Raises `ModelError` for what is no model, and for weights that do not fit."""
    reading = reading or Reading()
    opened = source if isinstance(source, Source) else _opened(source, reading)
    if reading.weights is None:
        return opened
    if not isinstance(opened, Weighted):
        raise ModelError(f"{opened.label}: takes no other weights: they can be given for ONNX and MindIR models")
    from .checkpoints import read_checkpoint

    return opened.with_weights(read_checkpoint(reading.weights, reading.key))


def _opened(source: str | Path | bytes | onnx.ModelProto, reading: Reading) -> Source:
    if isinstance(source, str | Path):
        source = Path(source)
        if source.is_dir():
            from .huggingface import HuggingFaceSource

            return HuggingFaceSource(source, reading)
        _check_readable(source)
        if _is_checkpoint(source):
            raise ModelError(f"{source}: a checkpoint holds tensors only: give the model, and this file as its weights")
    if isinstance(source, Path) and _is_pt2(source):
        from .torch.source import TorchSource

        return TorchSource.open(source)
    if isinstance(source, Path | bytes) and _is_mindir(source):
        from .mindir.reader import MindirSource

        return MindirSource(source, reading.key)
    # Imported here: the packages take long to load, and most of planish works without them.
    from .onnx import OnnxSource

    return OnnxSource(source)


def _is_checkpoint(path: Path) -> bool:
    from .checkpoints import holds_tensors

    return holds_tensors(path)


def _is_pt2(path: Path) -> bool:
    from .torch.container import is_pt2

    return is_pt2(path)


def _is_mindir(source: Path | bytes) -> bool:
    """Whether a file, or its bytes, is MindIR: plain, or encrypted as MindSpore does it."""
    from .encryption import cipher_of
    from .mindir.files import is_mindir

    if isinstance(source, bytes):
        return is_mindir(source[:_HEAD]) or bool(cipher_of(source[:_HEAD]))
    with source.open("rb") as file:
        head = file.read(_HEAD)
    return is_mindir(head) or bool(cipher_of(head)) or (bool(head) and source.suffix == ".mindir")


def _check_readable(path: Path) -> None:
    """Raise `ModelError` if there is no file to read."""
    try:
        with path.open("rb") as file:
            file.read(_HEAD)
    except FileNotFoundError as e:
        raise ModelError(f"{path}: no such file: expected an ONNX model") from e
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: cannot read the model: {getattr(e, 'strerror', None) or e}") from e


__all__ = ["Identified", "Ranged", "Reading", "Source", "SourceNode", "Weighted", "open_model", "read_model"]
