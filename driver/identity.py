"""What `planish.compile` was given, and the name that its result has in the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from planish._folders import folder_state
from planish._results import sources_digest
from planish._version import __version__
from planish.codegen.cache import Cache, digest
from planish.frontend import Identified, Reading, Source
from planish.frontend.encryption import cipher_of
from planish.frontend.torch import is_torch
from planish.ir.errors import PlanishError
from planish.tuning import Tuning

if TYPE_CHECKING:
    import onnx


def known_source(model: Any, example_inputs: Any, dynamic_shapes: Any) -> Path | bytes | onnx.ModelProto | Source:
    """The model as `compile_file` takes it: modules of PyTorch are exported."""
    if is_torch(model):
        from planish.torch_modules import source_of

        return source_of(model, example_inputs, dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise PlanishError("compile: example_inputs and dynamic_shapes are for modules of PyTorch; see shapes")
    return Path(cast(str, model)) if isinstance(model, str | os.PathLike) else model


def library_key(
    source: Path | bytes | onnx.ModelProto | Source, options: str, reading: Reading, tuning: Tuning | None
) -> str:
    """Names a compiled model by content: the model's bytes (files by path, size and time of change), how it is read,
    the options, the compiler's own sources. Of a key only its digest goes in."""
    if isinstance(source, Path):
        identity = _identity(source)
    elif isinstance(source, Source):
        if not isinstance(source, Identified):
            raise PlanishError(f"{source.label}: expected a file or a module, got a source without an identity")
        identity = source.identity()
    else:
        identity = source if isinstance(source, bytes) else source.SerializeToString(deterministic=True)
    weights = b"" if reading.weights is None else _identity(reading.weights)
    secret = "" if reading.key is None else digest("key", reading.key, identity)
    measured = repr(tuning.identity) if tuning else ""
    return digest(identity, weights, secret, reading.graph, options, measured, __version__, sources_digest())


@contextmanager
def library_place(
    source: Path | bytes | onnx.ModelProto | Source, options: str, reading: Reading, tuning: Tuning | None
) -> Generator[Path]:
    """Where the library of a compiled model is, or will be: in the cache, unless the model or its weights are
    encrypted. Who encrypts them does not want copies lying about: their library is gone once it is loaded."""
    key = library_key(source, options, reading, tuning)
    if _is_encrypted(source) or _is_encrypted(reading.weights):
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            yield Path(folder) / "model.so"
    else:
        yield Cache("models").folder / f"{key}.so"


def _is_encrypted(source: object) -> bool:
    if isinstance(source, bytes):
        return bool(cipher_of(source[:4]))
    if not isinstance(source, Path) or not source.is_file():
        return False
    with source.open("rb") as file:
        return bool(cipher_of(file.read(4)))


def _identity(file: Path) -> bytes:
    try:
        if file.is_dir():
            return folder_state(file).encode()
        info = file.stat()
    except OSError as e:
        raise PlanishError(f"{file}: cannot be read: {e.strerror}") from e
    return f"{file.resolve()} {info.st_size} {info.st_mtime_ns}".encode()


__all__ = ["known_source", "library_key", "library_place"]
