"""From object files and packed weights to a finished artifact: executable, shared or static library, or object.

The result is written beside its place and renamed, and is the same byte for byte wherever it is built: no path, no
time, no build identifier gets in. In executables and shared libraries the weights go into the extended last segment
(codegen/elf.py); in static libraries and objects the assembler includes them from a file.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from ..ir.errors import LinkError
from ..runtime.escape import c_string, log_text
from .elf import ElfError, embed_weights, write_sparse
from .llvm.descriptor import MAIN
from .toolchain import COMMAND_LINE, NATIVE, Compiler, find_compiler, is_foreign, runtime_objects

Emit = Literal["exe", "lib", "static", "obj"]

_LINK_FLAGS = (
    "-pthread", "-Wl,--build-id=none", "-Wl,--hash-style=gnu", "-Wl,-z,relro,-z,now,-z,noexecstack",
    "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,--strip-debug",
)  # fmt: skip

_GLUE = """\
/* Written by planish: ties this artifact's code and weights to its runtime. */
#include "internal.h"

#define HIDDEN __attribute__((visibility("hidden")))
extern const uint8_t planish_weights[] HIDDEN;
extern const planish_module {modules} HIDDEN;

HIDDEN const planish_model planish_artifact_models[] = {{{models}}};
HIDDEN const uint32_t planish_artifact_levels = {levels};

PLANISH_API planish_status planish_open_{identifier}(const planish_model **model, planish_message *message);
planish_status planish_open_{identifier}(const planish_model **model, planish_message *message) {{
  return planish_open_checked(planish_artifact_models, {levels}, model, message);
}}
"""

_WEIGHTS = """\
#ifdef __aarch64__
#define PAGE 65536
.section .lrodata,"a",%progbits
#else
#define PAGE 4096
.section .lrodata,"al",@progbits
#endif
.balign PAGE
.globl planish_weights
.hidden planish_weights
.type planish_weights,%object
planish_weights:
{content}
.size planish_weights, . - planish_weights
.section .note.GNU-stack,"",%progbits
"""


def entry_name(name: str) -> str:
    """The C function that opens the model called `name`, beside `planish_model_open`."""
    plain = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_" if found[0] != "_" else "_", name)
    if len(plain) > 64 or not plain:
        plain = plain[:40] + "_" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"planish_open_{plain}"


def exported_names(name: str) -> list[str]:
    """What an artifact lets others see: the functions of planish.h and the model's own entry."""
    header = (NATIVE / "planish.h").read_text()
    declared = re.findall(r"^PLANISH_API[^;(]*?(planish_\w+)\(", header, re.MULTILINE)
    return sorted({*declared, entry_name(name)})


def link(
    objects: Sequence[Path | bytes],
    weights: Iterable[bytes | memoryview],
    weights_bytes: int,
    emit: Emit,
    out: Path,
    *,
    static: bool = False,
    name: str,
    triple: str = "",
    modules: Sequence[str] = (MAIN,),
) -> None:
    """Link `objects` (files or their bytes) and the C runtime into the artifact `out` for LLVM's `triple`.

    The objects define the `modules` (runtime/native/planish_abi.h), of which the first that the CPU can run is opened:
    `planish_module_data`, or one for each level of CPUs, best first. `weights` yields the packed
    weights, `weights_bytes` in all; all-zero megabytes become holes of the file. `static` makes an executable that
    needs no shared library. `name` is what the artifact calls its model. Raises `LinkError` when there is no C
    compiler, it fails, or `out` cannot be written; then `out` is what it was before.
    """
    out = Path(out)
    compiler = find_compiler(triple)
    runtime = runtime_objects(compiler)
    with _writing(out, weights_bytes) as folder:
        chosen = _materialise(objects, folder)
        left_out = host_files() - _needed_host_files(chosen)
        left_out |= COMMAND_LINE if emit != "exe" else frozenset[str]()
        chosen += [path for stem, path in runtime.items() if stem not in left_out]
        _write_glue(folder, name, modules)
        result = folder / "result"
        if emit in ("exe", "lib"):
            _link_image(compiler, chosen, emit, folder, result, static=static, name=name)
            _embed(result, weights, weights_bytes)
        else:
            _link_object(compiler, chosen, weights, weights_bytes, folder, result, name=name, triple=triple)
            if emit == "static":
                _archive(folder, result, name, triple)
        result.replace(out)


@cache
def _host_functions() -> dict[str, str]:
    """The runtime's host functions (docs/HOST.md): symbol -> the C file, without `.c`, that has it."""
    found: dict[str, str] = {}
    for path in NATIVE.glob("host_*.c"):
        for name in re.findall(r"^PLANISH_HOST_FUNCTION\((\w+)\)", path.read_text(), re.MULTILINE):
            found[f"planish_host_{name}"] = path.stem
    return found


def host_files() -> set[str]:
    """The C files of the runtime that have host functions: linked where they are used."""
    return set(_host_functions().values())


def _needed_host_files(objects: Sequence[Path]) -> set[str]:
    """Those of `host_files` that these objects refer to."""
    needed: set[str] = set()
    for path in objects:
        body = path.read_bytes()
        names = {name.decode() for name in re.findall(rb"\0(planish_host_\w+)(?=\0)", body)}
        unknown = sorted(names - _host_functions().keys())
        if unknown:
            raise LinkError(f"linking: the runtime has no {', '.join(unknown)}")
        needed |= {_host_functions()[name] for name in names}
    return needed


@contextmanager
def _writing(out: Path, size: int) -> Generator[Path, None, None]:
    """A folder beside `out` to work in, removed at the end; failures to write become `LinkError`."""
    shown = log_text(str(out))
    if out.is_dir():
        raise LinkError(f"cannot write {shown}: it is a folder; give a file name")
    if out.exists() and not out.is_file():
        raise LinkError(f"cannot write {shown}: it is a device or pipe; give the name of a file")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name[:40]}-", dir=out.parent) as name:
            yield Path(name).resolve()
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(out.parent).free
            reason += f": {size:,} bytes of weights to write, {free:,} free; free some space or write elsewhere"
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            reason += "; make its folder first"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason += "; choose a folder that you may write to"
        raise LinkError(f"cannot write {shown}: {reason}") from error


def _materialise(objects: Sequence[Path | bytes], folder: Path) -> list[Path]:
    paths: list[Path] = []
    for number, item in enumerate(objects):
        if isinstance(item, bytes):
            path = folder / f"object{number}.o"
            path.write_bytes(item)
            paths.append(path)
        else:
            paths.append(Path(item).resolve())
    return paths


def _write_glue(folder: Path, name: str, modules: Sequence[str]) -> None:
    rows = [f"{{PLANISH_ABI_VERSION, &{module}, planish_weights, {c_string(name)}}}" for module in modules]
    identifier = entry_name(name).removeprefix("planish_open_")
    glue = _GLUE.format(
        modules=", ".join(modules), models=",\n    ".join(rows), levels=len(modules), identifier=identifier
    )
    (folder / "glue.c").write_text(glue)
    (folder / "weights.S").write_text(_WEIGHTS.format(content=".zero PAGE"))


def _compile_glue(compiler: Compiler, folder: Path) -> None:
    flags = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-g0", "-I", str(NATIVE)]
    compiler.run([*flags, "-c", "glue.c", "-o", "glue.o"], folder, "linking")
    compiler.run(["-c", "weights.S", "-o", "weights.o"], folder, "linking")


def _link_image(
    compiler: Compiler, objects: Sequence[Path], emit: Emit, folder: Path, result: Path, *, static: bool, name: str
) -> None:
    """Link an executable or a shared library with a page in the place of the weights."""
    flags = list(_LINK_FLAGS)
    if emit == "lib":
        exports = "".join(f"{symbol};" for symbol in exported_names(name))
        (folder / "exports.map").write_text(f"{{ global: {exports} local: *; }};\n")
        flags += ["-shared", "-Wl,-Bsymbolic", "-Wl,--version-script=exports.map", "-Wl,-z,defs"]
    else:
        flags += ["-static"] if static else ["-pie"]
    # No temporary file of the compiler's own in between: their random names would get into the symbol table.
    _compile_glue(compiler, folder)
    # Not a script of its own but one line in the linker's: GNU ld would put the section there anyway, lld would not.
    (folder / "weights.ld").write_text("SECTIONS { .lrodata : { *(.lrodata) } } INSERT AFTER .bss;\n")
    flags.append("-Wl,-T,weights.ld")
    compiler.run([*flags, "glue.o", "weights.o", *map(str, objects), "-lm", "-o", result.name], folder, "linking")


def _embed(result: Path, weights: Iterable[bytes | memoryview], size: int) -> None:
    with result.open("r+b") as file:
        try:
            embed_weights(file, weights, size)
        except ElfError as error:
            message = f"linking: {error}: this linker orders the file in a way that is not known; use GNU ld or lld"
            raise LinkError(message) from error


def _link_object(
    compiler: Compiler,
    objects: Sequence[Path],
    weights: Iterable[bytes | memoryview],
    size: int,
    folder: Path,
    result: Path,
    *,
    name: str,
    triple: str,
) -> None:
    """One relocatable object of everything. Several may be linked together: what they share is weak, the rest local."""
    with (folder / "weights.bin").open("wb") as file:
        for chunk in weights:
            write_sparse(file, chunk)
        written = file.tell()
        if written != size:
            raise ValueError(f"weights: expected {size} bytes, got {written}")
        file.truncate(max(size, 1))
    (folder / "weights.S").write_text(_WEIGHTS.format(content='.incbin "weights.bin"'))
    _compile_glue(compiler, folder)
    compiler.run(["-r", "-nostdlib", "glue.o", "weights.o", *map(str, objects), "-o", "all.o"], folder, "linking")
    (folder / "keep.txt").write_text("".join(f"{symbol}\n" for symbol in exported_names(name)))
    options = ["--keep-global-symbols=keep.txt", "--weaken-symbols=keep.txt"]
    _binutils("objcopy", triple).run([*options, "all.o", result.name], folder, "linking")


def _archive(folder: Path, result: Path, name: str, triple: str) -> None:
    member = entry_name(name).removeprefix("planish_open_")[:60] + ".o"
    result.rename(folder / member)
    _binutils("ar", triple).run(["rcsD", result.name, member], folder, "linking")


def _binutils(tool: str, triple: str) -> Compiler:
    arch, *_, libc = triple.split("-") if triple else ("", "")
    foreign = bool(triple) and is_foreign(triple)
    own = (f"{arch}-linux-{libc}-{tool}", f"{arch}-linux-gnu-{tool}") if foreign else (tool,)
    for name in (*own, f"llvm-{tool}"):
        path = shutil.which(name)
        if path:
            return Compiler((path,), "")
    package = "binutils" if own == (tool,) else f"binutils-{arch.replace('_', '-')}-linux-gnu or llvm"
    raise LinkError(f"linking: {own[0]} not found: install {package}, or use --emit lib, which does not need it")
