"""Opening a checkpoint: which format, told by its content, and decryption."""

from __future__ import annotations

import mmap
from pathlib import Path

from ...ir.errors import ModelError
from ..encryption import cipher_of, decrypt, wrong_key
from ..protobuf import Buffer
from ..torch.states import holds_states, is_state_dict, read_states
from .ckpt import is_ckpt, read_ckpt
from .proto import Checkpoint
from .safetensors import is_safetensors, read_safetensors

_HEAD = 64
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the checkpoint itself; fetch the file with `git lfs pull`"),
    (b"<", "an HTML or XML page; the download probably gave an error page"),
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"\x89HDF", "an HDF5 file (perhaps of Keras); save the weights as safetensors"),
    (b"\x7fELF", "an ELF file"),
    (b"{", "JSON; name the checkpoint itself"),
)


def holds_tensors(path: Path) -> bool:
    """Whether a file is a checkpoint and not a model, by its first bytes; of an encrypted one the suffix tells. Raises
    OSError if it cannot be read."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if cipher_of(head):
        return path.suffix == ".ckpt"
    return is_ckpt(head) or is_safetensors(memoryview(head)) or (is_state_dict(head) and holds_states(path))


def read_checkpoint(path: Path | str, key: bytes | None = None, *, check_crc: bool = True) -> Checkpoint:
    """Read a checkpoint of any supported format, told by its content; `key` decrypts it. Checksums in the file are
    verified unless `check_crc` is False. Raises `ModelError` for what is no checkpoint, or damaged."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelError(f"{path}: expected a checkpoint file, got a folder")
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ModelError(f"{path}: the file is empty: expected a checkpoint; save or fetch it again")
            # Not closed by hand: the traceback of an error holds parts of the view. The last reference unmaps it.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as e:
        raise ModelError(f"{path}: no such file: expected a checkpoint") from e
    except (OSError, ValueError) as e:  # ValueError: a path with a NUL character
        raise ModelError(f"{path}: cannot read the checkpoint: {getattr(e, 'strerror', None) or e}") from e
    return _read(view, path.absolute(), str(path), key, check_crc)


def _read(view: memoryview, path: Path, label: str, key: bytes | None, check_crc: bool) -> Checkpoint:
    if cipher := cipher_of(view):
        plain = memoryview(decrypt(view, key, label))
        if not is_ckpt(bytes(plain[:_HEAD])):
            raise wrong_key(label, cipher)
        return read_ckpt(Buffer(plain, label, None), path, cipher, check_crc)
    head = bytes(view[:_HEAD])
    if is_safetensors(view):
        return read_safetensors(view, path, label, check_crc)
    if is_ckpt(head):
        return read_ckpt(Buffer(view, label, path), path, "", check_crc)
    if is_state_dict(head):
        return Checkpoint(label, path, "torch", read_states(path))
    found = next((what for start, what in _OTHERS if head.startswith(start)), "something else")
    raise ModelError(f"{label}: expected a checkpoint (.ckpt, safetensors or a PyTorch state dict), got {found}")


__all__ = ["Checkpoint", "holds_tensors", "read_checkpoint"]
