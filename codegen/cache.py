"""The cache of compiled pieces: `$XDG_CACHE_HOME/planish`, private to its user.

What is cached is code that will run, so the folder is refused unless it belongs to the user and nobody else can write
to it; entries are written beside and renamed, and carry their own checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .toolchain import cache_folder

LIMIT_BYTES = 2 << 30
_MAGIC = b"planish-cache-1\n"


@dataclass(frozen=True)
class Cache:
    """One kind of entries, in a folder of its own. Keys are hex digests."""

    kind: str

    @property
    def folder(self) -> Path:
        """Where its entries lie."""
        folder = cache_folder() / self.kind
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def get(self, key: str) -> bytes | None:
        """The entry of `key`; None when there is none or it is damaged (then it is removed)."""
        path = self.folder / key
        try:
            data = path.read_bytes()
        except OSError:
            return None
        body = data[len(_MAGIC) + 32 :]
        if data.startswith(_MAGIC) and hashlib.sha256(body).digest() == data[len(_MAGIC) : len(_MAGIC) + 32]:
            with contextlib.suppress(OSError):
                os.utime(path)
            return body
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, body: bytes) -> None:
        """Store `body`. A cache that cannot be written is not an error: the next compilation repeats the work."""
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as f:
                    f.write(_MAGIC + hashlib.sha256(body).digest() + body)
                Path(name).replace(self.folder / key)
            except OSError:
                Path(name).unlink(missing_ok=True)

    def trim(self, limit: int = LIMIT_BYTES) -> None:
        """Remove the entries used longest ago until all together take at most `limit` bytes."""
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                info = path.stat()
                entries.append((info.st_mtime, info.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def digest(*parts: str | bytes) -> str:
    """A key from its parts (their boundaries count)."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()
