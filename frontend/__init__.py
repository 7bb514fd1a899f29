"""Frontends: each package turns one file format into the intermediate representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..ir.core import Module
from ..ir.errors import ModelError

if TYPE_CHECKING:
    import onnx

_HEAD = 64  # bytes that tell one format from another


def read_model(
    source: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[int]] | None = None
) -> Module:
    """Read a model file of any supported format, told by its content, or the bytes of one, or a `ModelProto`.

    `shapes` fixes symbolic dimensions of inputs. Raises `ModelError` for what is no model, `UnsupportedError` for one
    that planish cannot compile.
    """
    if isinstance(source, str | Path):
        source = Path(source)
        _check_readable(source)
    # Imported here: the onnx package takes long to load, and most of planish works without it.
    from .onnx import read_onnx

    return read_onnx(source, shapes=shapes)


def _check_readable(path: Path) -> None:
    """Raise `ModelError` if there is no file to read."""
    try:
        if path.is_dir():
            raise ModelError(f"{path}: expected an ONNX model file, got a folder; name the .onnx file in it")
        with path.open("rb") as file:
            file.read(_HEAD)
    except FileNotFoundError as e:
        raise ModelError(f"{path}: no such file: expected an ONNX model") from e
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: cannot read the model: {getattr(e, 'strerror', None) or e}") from e


__all__ = ["read_model"]
