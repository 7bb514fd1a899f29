"""Models of other formats as ONNX files, for tools that read nothing else (ONNX Runtime, OpenVINO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from planish.frontend import Reading, Source

_ONNX = b"\x08"  # the first byte of ONNX files: ir_version, a number, comes first in every writer that is known


def is_onnx(file: Path, reading: Reading) -> bool:
    """Whether others can take the file itself: an ONNX model with its own weights."""
    if reading.weights is not None or file.is_dir():
        return False
    with file.open("rb") as stream:
        return stream.read(1) in (_ONNX, b"")


def write_as_onnx(
    source: Source,
    out: Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> None:
    """Write a model that is open as the ONNX file `out`, as it is read. Raises `UnsupportedError` for operations that
    ONNX has no words for."""
    from planish.exporting import write_onnx
    from planish.passes import PassManager

    module = source.read(shapes=shapes, ranks=ranks)
    PassManager.parse("dce").run(module)
    write_onnx(module, out)


__all__ = ["is_onnx", "write_as_onnx"]
