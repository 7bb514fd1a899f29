"""The C compiler that links artifacts, and the compiled C runtime in the cache.

The runtime's sources are compiled once per compiler, flags and content; the objects are kept in
`$XDG_CACHE_HOME/planish` with their checksums. That folder holds code, so it must be the user's own and closed to
others; an entry is written aside and renamed, and its checksums are verified at each use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .. import runtime
from ..ir.errors import LinkError

NATIVE = Path(runtime.__file__).parent / "native"
# The executable alone has these: command line, NumPy files, self-test.
COMMAND_LINE = frozenset(
    {
        "main",
        "cli_run",
        "cli_bench",
        "cli_info",
        "cli_value",
        "npy",
        "npz_read",
        "npz_write",
        "block",
        "crc32",
        "selftest",
    }
)
# Baseline code: it must run, and say what is missing, on a CPU that cannot run the model.
COMPILE_FLAGS = (
    "-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections",
    "-fno-strict-aliasing", "-fstack-protector-strong", "-g0", "-pthread", "-Werror=implicit-function-declaration",
)  # fmt: skip
_GLIBC = "2.31"  # the oldest that artifacts for other machines run with (Debian 11, Ubuntu 20.04)
_KEEP = 8  # cache entries
_JOBS = 4  # compilers at a time
_ONE_BUILD = threading.Lock()


@dataclass(frozen=True)
class Compiler:
    """A C compiler: its command and the text that identifies it."""

    command: tuple[str, ...]
    version: str

    def run(self, arguments: Sequence[str], cwd: Path, what: str) -> None:
        """Run it in `cwd`. Raises `LinkError` with the end of what it printed if it fails."""
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = subprocess.run(
                [*self.command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise LinkError(f"{what}: cannot run {shlex.join(self.command)}: {error.strerror}") from error
        if done.returncode:
            lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
            hint = ": no space left on the device; free some" if "No space left" in lines else ""
            raise LinkError(f"{what}: {shlex.join(self.command)} failed with status {done.returncode}{hint}\n{lines}")


def find_compiler(triple: str = "") -> Compiler:
    """The compiler for LLVM's `triple`, by default for this machine: `$CC`, `cc`, `gcc` or `clang`, or the `ziglang`
    package; for another machine or C library `$CC` if it makes code for it, else `ziglang`. Raises `LinkError` if there
    is none."""
    chosen = os.environ.get("CC", "").strip()
    if triple and is_foreign(triple):
        return _cross_compiler(triple, chosen)
    if chosen:
        return _identify(tuple(shlex.split(chosen)), "the environment variable CC")
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return _identify((path,), name)
    if importlib.util.find_spec("ziglang"):
        return _identify((sys.executable, "-m", "ziglang", "cc", "-fno-sanitize=all"), "the package ziglang")
    raise LinkError(
        "linking: no C compiler found: install gcc or clang (Debian: apt install gcc libc6-dev), set CC, "
        "or pip install ziglang"
    )


def is_foreign(triple: str) -> bool:
    """Whether the compiler of this machine makes no code for `triple`."""
    arch, *_, libc = triple.split("-")
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    return arch != machine or libc != "gnu"


def _cross_compiler(triple: str, chosen: str) -> Compiler:
    arch, *_, libc = triple.split("-")
    if chosen:
        compiler = _identify(tuple(shlex.split(chosen)), "the environment variable CC")
        made = subprocess.run([*compiler.command, "-dumpmachine"], capture_output=True, text=True, errors="replace")
        words = made.stdout.strip().split("-")
        if words[0] == arch and words[-1] == libc:
            return compiler
    if importlib.util.find_spec("ziglang"):
        zig = f"{arch}-linux-{libc}" + (f".{_GLIBC}" if libc == "gnu" else "")
        command = (sys.executable, "-m", "ziglang", "cc", "-target", zig, "-fno-sanitize=all")
        return _identify(command, "the package ziglang")
    raise LinkError(
        f"linking for {triple}: expected a compiler for that machine, got none: pip install planish[cross], or set CC "
        f"to a cross compiler"
    )


def _identify(command: tuple[str, ...], origin: str) -> Compiler:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise LinkError(f"linking: {origin}: cannot run {shlex.join(command)}: {error.strerror}") from error
    if done.returncode:
        raise LinkError(f"linking: {origin}: {shlex.join(command)} --version failed: expected a C compiler")
    return Compiler(command, done.stdout)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/planish` (default `~/.cache/planish`), made if missing.

    Raises `LinkError` if it cannot be made, or if others could have put code there.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base).absolute() / "planish"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.stat()
    except OSError as error:
        raise LinkError(
            f"cache: cannot make {folder}: {error.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from error
    if info.st_uid != os.getuid():
        raise LinkError(f"cache: {folder} belongs to another user, who could change the code in it; set XDG_CACHE_HOME")
    if info.st_mode & 0o022:
        raise LinkError(f"cache: others may write to {folder}; run chmod 700 {shlex.quote(str(folder))}")
    return folder


def runtime_sources() -> list[Path]:
    """The C files of the runtime, sorted."""
    return sorted(NATIVE.glob("*.c"))


def prepare_runtime(compiler: Compiler) -> None:
    """Begin to compile the runtime, in the background, if the cache lacks it; `runtime_objects` then waits for it."""

    def build() -> None:
        with contextlib.suppress(LinkError):  # `runtime_objects` says it
            runtime_objects(compiler)

    threading.Thread(target=build).start()


def runtime_objects(compiler: Compiler, flags: Sequence[str] = ()) -> dict[str, Path]:
    """Compile the runtime, or take it from the cache: source name without `.c` -> object file."""
    sources = runtime_sources()
    everything = (*COMPILE_FLAGS, *flags)
    digest = hashlib.sha256(f"{compiler.command}\0{compiler.version}\0{everything}".encode())
    for path in [*sources, *sorted(NATIVE.glob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    entry = cache_folder() / f"runtime-{digest.hexdigest()[:32]}"
    with _ONE_BUILD:
        if not _is_sound(entry, sources):
            _build(compiler, everything, sources, entry)
    return {source.stem: entry / f"{source.stem}.o" for source in sources}


def _checksums(folder: Path, sources: Sequence[Path]) -> str:
    names = [f"{source.stem}.o" for source in sources]
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def _is_sound(entry: Path, sources: Sequence[Path]) -> bool:
    try:
        return (entry / "SHA256SUMS").read_text() == _checksums(entry, sources)
    except (OSError, UnicodeDecodeError):
        return False


def _build(compiler: Compiler, flags: Sequence[str], sources: Sequence[Path], entry: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="building-", dir=entry.parent) as name:
            aside = Path(name) / "entry"
            aside.mkdir()
            prefix = f"-ffile-prefix-map={NATIVE}=."
            common = [*flags, prefix, "-I", str(NATIVE), "-c"]
            with ThreadPoolExecutor(_JOBS) as pool:
                calls = [
                    pool.submit(compiler.run, [*common, str(s), "-o", f"{s.stem}.o"], aside, "compiling the C runtime")
                    for s in sources
                ]
                for call in calls:
                    call.result()
            (aside / "SHA256SUMS").write_text(_checksums(aside, sources))
            if entry.exists():  # damaged
                shutil.rmtree(entry)
            try:
                aside.rename(entry)
            except OSError:
                if not _is_sound(entry, sources):  # else somebody else was faster
                    raise
        _forget_old(entry)
    except OSError as error:
        raise LinkError(f"cache: cannot write to {entry.parent}: {error.strerror}") from error


def _forget_old(entry: Path) -> None:
    """Keep the cache bounded: the newest entries only."""
    entries = sorted(entry.parent.glob("runtime-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in entries[_KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
