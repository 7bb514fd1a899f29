"""State dicts of PyTorch: `.pt`, `.pth` and `.bin` files, read without torch and without running what is in them.

`torch.save` writes a zip archive (`data.pkl` and one member for each storage), or, before torch 1.6, several pickles
and then the storages one behind the other. Tensors stay in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...ir.constants import ConstantData
from ...ir.errors import ModelError
from ...ir.types import DTYPES
from ..text import quote
from .container import Container, is_archive, placed_tensor, stored_extent
from .pickles import MOST_BYTES, Storage, StoredTensor, unpickled

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file of torch before 1.6
_LEGACY = (b"\x80\x02\x8a\x0a", b"\x80\x03\x8a\x0a", b"\x80\x04\x8a\x0a")
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights", "ema_state_dict")
_DEEPEST = 12
_MOST = 1 << 20  # entries
_COUNT = struct.Struct("<q")


def is_state_dict(head: bytes) -> bool:
    """Whether a file that begins so may be a state dict that `torch.save` wrote: an archive or an old file."""
    return is_archive(head) or head.startswith(_LEGACY)


def holds_states(path: Path) -> bool:
    """Whether a file is a state dict, and not an exported program in the same kind of archive."""
    with path.open("rb") as file:
        head = file.read(4)
    if not is_archive(head):
        return head.startswith(_LEGACY)
    members = Container(path).members
    return "data.pkl" in members and not any(n.startswith("models/") for n in members)


def read_states(path: Path) -> dict[str, ConstantData]:
    """The tensors of a state dict by name; nested dictionaries give names with dots. Raises `ModelError` for what holds
    anything but tensors, numbers, texts and containers, or is damaged."""
    with path.open("rb") as file:
        head = file.read(4)
        if not is_archive(head):
            file.seek(0)
            return _named(*_read_old(file, path), str(path))
    archive = Container(path)
    if "data.pkl" not in archive.members:
        raise ModelError(f"{path}: expected a state dict that torch.save wrote, got an archive without data.pkl")
    if any(n.startswith("code/") for n in archive.members):
        raise ModelError(f"{path}: a TorchScript archive: save module.state_dict(), or use torch.export.save")
    if "byteorder" in archive.members and archive.read("byteorder") != b"little":
        raise ModelError(f"{path}: expected little-endian numbers, got others: save it on another machine")
    if archive.members["data.pkl"].file_size > MOST_BYTES:
        raise ModelError(f"{archive.where('data.pkl')}: expected at most {MOST_BYTES} bytes")
    value = unpickled(archive.read("data.pkl"), archive.where("data.pkl"))

    def tensor(stored: StoredTensor, where: str) -> ConstantData:
        member = f"data/{stored.storage.key}"
        return archive.tensor(member, stored.dtype, stored.shape, stored.strides, stored.offset, where)

    return _named(value, tensor, str(path))


# -- names ------------------------------------------------------------------------------------------------------------


def _named(value: object, tensor: Callable[[StoredTensor, str], ConstantData], label: str) -> dict[str, ConstantData]:
    """The tensors of the value by name; training checkpoints hold the state dict under a key."""
    if not isinstance(value, dict):
        kind = "one tensor" if isinstance(value, StoredTensor) else f"a {type(value).__name__}"
        raise ModelError(f"{label}: expected a dictionary of tensors, got {kind}")
    entries = cast("dict[object, object]", value)
    for key in _NESTED:
        inner = entries.get(key)
        if isinstance(inner, dict) and any(isinstance(v, StoredTensor) for v in cast("dict[Any, Any]", inner).values()):
            entries = cast("dict[object, object]", inner)
            break
    found: dict[str, StoredTensor] = {}
    _collect(entries, "", found, [0], 0, label)
    return {name: tensor(stored, f"{label}: tensor {quote(name)}") for name, stored in found.items()}


def _collect(
    entries: dict[object, object], prefix: str, found: dict[str, StoredTensor], count: list[int], depth: int, label: str
) -> None:
    """Gather the tensors of nested dictionaries; `count` is how many entries were seen."""
    if depth > _DEEPEST:
        raise ModelError(f"{label}: expected dictionaries nested at most {_DEEPEST} deep")
    for key, value in entries.items():
        count[0] += 1
        if count[0] > _MOST:
            raise ModelError(f"{label}: expected at most {_MOST} entries")
        name = f"{prefix}{key if isinstance(key, str | int) else '?'}"
        if isinstance(value, StoredTensor):
            found[name] = value
        elif isinstance(value, dict):
            _collect(cast("dict[object, object]", value), f"{name}.", found, count, depth + 1, label)


# -- files of torch before 1.6 ----------------------------------------------------------------------------------------


def _read_old(file: BinaryIO, path: Path) -> tuple[object, Callable[[StoredTensor, str], ConstantData]]:
    """Pickles of a magic number, a version, facts about the system, the value and the keys of the storages; then, for
    each key, a count of elements and the elements."""
    size = path.stat().st_size
    parts: list[Any] = []
    for i in range(5):
        parts.append(unpickled(file, f"{path}: pickle {i}"))
        if i == 0 and parts[0] != _MAGIC:
            raise ModelError(f"{path}: expected a state dict that torch.save wrote, got another pickle")
    _, _, system, value, keys = parts
    if isinstance(system, dict) and cast("dict[str, object]", system).get("little_endian") is False:
        raise ModelError(f"{path}: expected little-endian numbers, got others")
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in cast("list[object]", keys)):
        raise ModelError(f"{path}: expected the keys of storages, got something else")
    widths = {s.key: DTYPES[s.dtype].bytes if s.dtype else 1 for s in _storages(value, [0], 0)}
    places: dict[str, tuple[int, int]] = {}
    at = file.tell()
    for key in cast("list[str]", keys):
        file.seek(at)
        head = file.read(_COUNT.size)
        count = _COUNT.unpack(head)[0] if len(head) == _COUNT.size else -1
        length = count * widths.get(key, 1)
        if count < 0 or key not in widths or at + _COUNT.size + length > size:
            raise ModelError(f"{path}: storage {quote(key)} leaves the file, which is cut short or damaged")
        places[key] = at + _COUNT.size, length
        at += _COUNT.size + length

    def tensor(stored: StoredTensor, where: str) -> ConstantData:
        if stored.storage.key not in places:
            raise ModelError(f"{where}: its storage {quote(stored.storage.key)} is missing")
        return _placed(path, stored, *places[stored.storage.key], where)

    return value, tensor


def _storages(value: object, count: list[int], depth: int) -> list[Storage]:
    """All storages that tensors of nested dictionaries lie in."""
    found: list[Storage] = []
    if isinstance(value, StoredTensor):
        found.append(value.storage)
    elif isinstance(value, dict) and depth <= _DEEPEST:
        for inner in cast("dict[object, object]", value).values():
            count[0] += 1
            if count[0] <= _MOST:
                found += _storages(inner, count, depth + 1)
    return found


def _placed(path: Path, stored: StoredTensor, start: int, length: int, where: str) -> ConstantData:
    """A tensor in a storage of `length` bytes at `start`."""
    width = DTYPES[stored.dtype].bytes
    extent = stored_extent(stored.shape, stored.strides, stored.offset, where)
    if extent * width > length:
        raise ModelError(f"{where}: expected {extent * width} bytes in its storage, got {length}")
    return placed_tensor(path, stored.dtype, stored.shape, stored.strides, start, stored.offset, extent, where)


__all__ = ["holds_states", "is_state_dict", "read_states"]
