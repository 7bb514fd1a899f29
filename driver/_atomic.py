"""Write a file beside its place and rename it: readers see the old file or the whole new one, never a half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path, *, executable: bool = False) -> Generator[Path]:
    """A temporary path in `path`'s folder; it becomes `path` if the block succeeds and is removed if it fails.

    Raises OSError naming `path`, not the temporary file, if the folder is missing or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {os.strerror(error.errno or 0)}", str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod((0o777 if executable else 0o666) & ~mask)  # mkstemp made it private
        try:
            temporary.replace(path)
        except OSError as error:
            raise OSError(error.errno, f"cannot write: {os.strerror(error.errno or 0)}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
