"""Folders as models: their state, by which compiled models are found again.

Nothing of the compiler is imported here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

_PATTERNS = ("*.json", "*.safetensors", "*.bin")
_READ = ("config.json", "modules.json")  # small, and what the graph follows from
_MOST_READ = 1 << 20


def files_of(folder: Path) -> Iterator[Path]:
    """The files that a model compiled from `folder` can depend on, in order: configurations and weights, and those of
    its folders' (modules of sentence-transformers)."""
    for level in ("", "*/"):
        for pattern in _PATTERNS:
            yield from sorted(path for path in folder.glob(level + pattern) if path.is_file())


def folder_state(folder: Path) -> str:
    """Changes with the folder: its place, names, sizes and times of change of its files, and what the configurations
    say. Raises OSError if it cannot be read."""
    state = hashlib.sha256(str(folder.resolve()).encode())
    for path in files_of(folder):
        info = path.stat()
        state.update(f"{path.relative_to(folder)} {info.st_size} {info.st_mtime_ns}\n".encode())
        if path.name in _READ and info.st_size <= _MOST_READ:
            state.update(path.read_bytes())
    return state.hexdigest()


__all__ = ["files_of", "folder_state"]
