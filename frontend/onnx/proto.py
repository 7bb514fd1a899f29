"""From a file, bytes or a ModelProto to a parsed model whose weights stay where they are.

Nothing of the onnx package's C++ side (checker, shape inference, version conversion) runs here: a model is untrusted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ...ir.errors import ModelError
from ..mapped import read_mapped
from ..protobuf import WireError
from .wire import skeleton

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "fetch the file with `git lfs pull`"),
    (b"<", "an HTML or XML page, not a model", "the download probably gave an error page: fetch the file again"),
    (b"PK\x03\x04", "a ZIP archive (perhaps a PyTorch checkpoint)", "export the model to ONNX, or unpack it first"),
    (b"\x1f\x8b", "gzip data", "unpack it first"),
    (b"\x89HDF", "an HDF5 file (perhaps a Keras model)", "export the model to ONNX"),
    (b"{", "JSON", "give the binary ONNX file"),
    (b"ir_version", "ONNX in protobuf text form", "give the binary ONNX file"),
)


@dataclass(frozen=True)
class Loaded:
    """A parsed model. `label` is what messages call the file; `folder` is where external data may lie (None: nowhere);
    `raw[i]` is the (offset, length), in the file `path` or in `data`, of what initializer i lacks in `proto`."""

    proto: onnx.ModelProto
    label: str
    path: Path | None
    sha256: str
    raw: list[tuple[int, int] | None]
    data: bytes = b""

    @property
    def folder(self) -> Path | None:
        """The model's folder."""
        return None if self.path is None else self.path.parent


def load(source: Path | str | bytes | onnx.ModelProto) -> Loaded:
    """Parse a model. Raises `ModelError` for what is not one."""
    if isinstance(source, onnx.ModelProto):
        digest = hashlib.sha256(source.SerializeToString(deterministic=True)).hexdigest()
        return Loaded(_checked(source, "model"), "model", None, digest, [None] * len(source.graph.initializer))
    if isinstance(source, bytes):
        return _parse(source, "model", None, source)
    path = Path(source)
    return read_mapped(path, "an ONNX model", lambda view, place: _parse(view, str(path), place, b""))


def _parse(data: bytes | memoryview, label: str, path: Path | None, kept: bytes) -> Loaded:
    if len(data) == 0:
        raise ModelError(f"{label}: empty: expected an ONNX model")
    head = bytes(data[:64]).lstrip()
    for start, what, advice in _SIGNATURES:
        if head.startswith(start):
            raise ModelError(f"{label}: expected an ONNX model, got {what}; {advice}")
    try:
        bones = skeleton(data)
    except WireError as e:
        raise _wire_error(e, data, label) from e
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bones.data)
    except DecodeError as e:
        raise ModelError(f"{label}: not a valid ONNX model: {e}; the file is damaged, fetch or export it again") from e
    return Loaded(_checked(proto, label), label, path, hashlib.sha256(data).hexdigest(), bones.raw, kept)


def _wire_error(e: WireError, data: bytes | memoryview, label: str) -> ModelError:
    # ModelProto starts with ir_version (field 1, a number) in every writer that is known.
    if e.truncated and data[0] == 0x08:
        return ModelError(f"{label}: the file is cut short after {len(data)} bytes ({e}); fetch or export it again")
    return ModelError(
        f"{label}: expected an ONNX model (protobuf), got something else ({e}); if it is encrypted, decrypt it first"
    )


def _checked(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    if not proto.HasField("graph"):
        raise ModelError(f"{label}: expected an ONNX model, got protobuf without a graph; is it another kind of file?")
    return proto
