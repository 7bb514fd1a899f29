"""Files of models in memory: mapped, so that what is not read is not there."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..ir.errors import ModelError

T = TypeVar("T")


def read_mapped(path: Path, what: str, read: Callable[[memoryview, Path], T]) -> T:
    """What `read` makes of the bytes of a file and its absolute path; `what` is what messages expect it to be. Raises
    `ModelError` for a file that is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ModelError(f"{path}: the file is empty: expected {what}; fetch or export it again")
            # Not closed by hand: the traceback of an error holds parts of the view. The last reference unmaps it.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return read(view, path.absolute())
    except (OSError, ValueError) as e:  # ValueError: a path with a NUL character
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise ModelError(f"{path}: cannot read the model: {reason}") from e


__all__ = ["read_mapped"]
