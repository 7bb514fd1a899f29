"""Finished artifacts in the cache: compiling the same model again in the same way is a copy.

`planish compile` asks here before it imports the compiler. An entry is the artifact and a line of JSON with its
checksum and what the command printed. Its key holds everything that the artifact depends on: the model's bytes, the
options, planish's own sources, the versions of the packages that read models and make code, the C compiler, and this
machine's CPU. Models with external data are not kept, nor are large artifacts: copies of those help little.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import mmap
import os
import platform
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from planish._atomic import written_beside
from planish._folders import folder_state
from planish._version import __version__
from planish.codegen.cache import Cache, digest
from planish.codegen.toolchain import find_compiler
from planish.ir.errors import PlanishError

MOST_BYTES = 512 << 20  # of an artifact that is kept
_ARTIFACTS = Cache("artifacts")
_CHUNK = 1 << 20
# What stands before the name of a data file: in ONNX, the first entry of a tensor's external data; MindSpore's folder.
_EXTERNAL = (b"\n\x08location\x12", b"_variables/data_")
_ENCRYPTED = b"\x5e\x3a\x7f"  # bytes 1 to 3 of a file that MindSpore encrypted (planish.frontend.encryption)
_PACKAGES = ("llvmlite", "ml_dtypes", "numpy", "onnx", "ziglang")
_CPU = ("vendor_id", "cpu family", "model", "stepping", "flags")
_CPU_ARM = ("CPU implementer", "CPU part", "CPU variant", "Features")


def key_of(model: Path, out: Path, options: Mapping[str, object], weights: Path | None = None) -> str | None:
    """The key of the artifact that compiling `model` with `options` gives, and with the tensors of the checkpoint
    `weights` if there is one; None for what is not kept or not there."""
    contents: list[str] = []
    try:
        for path in [model] if weights is None else [model, weights]:
            if path.is_dir():
                contents.append(folder_state(path))
                continue
            with path.open("rb") as file:
                content = _content(file)
            if content is None:
                return None
            contents.append(content)
    except (OSError, ValueError):  # the compiler says it better
        return None
    settings = json.dumps(dict(sorted(options.items())), default=str)
    # A model without a name takes that of its artifact.
    return digest(*contents, out.stem, settings, __version__, sources_digest(), _environment())


def _content(file: BinaryIO) -> str | None:
    if not 0 < os.fstat(file.fileno()).st_size <= MOST_BYTES:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        # Who encrypts a model does not want copies of it lying about.
        if view[1:4] == _ENCRYPTED or any(view.find(mark) >= 0 for mark in _EXTERNAL):
            return None
        return hashlib.sha256(view).hexdigest()


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Changes with every change of planish itself: someone who works on a pass never gets yesterday's artifact."""
    names = ("planish", *(f"planish.{part}" for part in ("codegen", "frontend", "ir", "passes", "runtime")))
    specs = [spec for name in names if (spec := importlib.util.find_spec(name))]
    folders = {Path(place) for spec in specs for place in spec.submodule_search_locations or ()}
    files = sorted({p for folder in folders for p in folder.rglob("*") if p.suffix in (".py", ".c", ".h")})
    return digest(*(f"{p} {(info := p.stat()).st_size} {info.st_mtime_ns}" for p in files))


def _environment() -> str:
    """What else makes a difference: packages, C compiler, CPU, and how many threads there are by default."""
    versions: list[str] = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    try:
        compiler = find_compiler()
        linker = f"{compiler.command} {compiler.version}"
    except PlanishError:
        linker = ""
    return repr((versions, linker, os.environ.get("CC"), platform.machine(), _cpu(), len(os.sched_getaffinity(0))))


def _cpu() -> list[str]:
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        first = ""
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU + _CPU_ARM]
    return lines + [path.read_text(encoding="ascii") for path in caches]


def restore(key: str, out: Path) -> dict[str, Any] | None:
    """Write the artifact `key` to `out` and return the facts that were kept with it; None if it is not there, or
    damaged, or `out` is no place for a file (then `out` is untouched)."""
    entry, notes = _places(key)
    if not out.parent.is_dir() or (out.exists() and not out.is_file()):
        return None
    try:
        kept: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        source = entry.open("rb")
    except (OSError, ValueError):
        return None
    with source:
        try:
            with written_beside(out, executable=bool(kept["executable"])) as place:
                if _copy(source, place) != kept["sha256"]:
                    raise ValueError
        except (ValueError, KeyError):
            entry.unlink(missing_ok=True)
            return None
    for path in (entry, notes):  # used now
        with contextlib.suppress(OSError):
            os.utime(path)
    facts: dict[str, Any] = kept["facts"]
    return facts


def keep(key: str, out: Path, facts: Mapping[str, object]) -> None:
    """Keep a copy of the artifact `out` and its `facts`. A cache that cannot be written is no error."""
    entry, notes = _places(key)
    with contextlib.suppress(OSError):
        info = out.stat()
        if info.st_size > min(MOST_BYTES, shutil.disk_usage(_ARTIFACTS.folder).free // 4):
            return
        entry.unlink(missing_ok=True)
        try:
            # The same file under another name: whoever changes it in place changes the entry, which its checksum tells.
            os.link(out, entry)
            checksum = _checksum(entry)
        except OSError:  # another file system
            with written_beside(entry) as place, out.open("rb") as source:
                checksum = _copy(source, place)
        kept = {"sha256": checksum, "executable": bool(info.st_mode & 0o100), "facts": facts}
        with written_beside(notes) as place:
            place.write_text(json.dumps(kept), encoding="utf-8")
        _ARTIFACTS.trim()


def _places(key: str) -> tuple[Path, Path]:
    entry = _ARTIFACTS.folder / key
    return entry, entry.with_suffix(".json")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: BinaryIO, place: Path) -> str:
    """Copy a file, and give the SHA-256 of what was copied."""
    checksum = hashlib.sha256()
    with place.open("wb") as target:
        while chunk := source.read(_CHUNK):
            checksum.update(chunk)
            target.write(chunk)
    return checksum.hexdigest()


__all__ = ["MOST_BYTES", "keep", "key_of", "restore", "sources_digest"]
