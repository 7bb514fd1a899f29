"""What kind of file the user gave, by its content: a model, an artifact and which kind; the sections of an artifact."""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_RELOCATABLE, _EXECUTABLE = 1, 2
_DYNAMIC, _INTERPRETER = 2, 3
_FLAGS_1, _PIE = 0x6FFFFFFB, 0x08000000  # of the dynamic section: a position-independent executable
MACHINES = {62: "x86_64", 183: "aarch64"}
_NOBITS, _ALLOCATED, _WRITABLE, _CODE = 8, 2, 1, 4


class Kind(Enum):
    """What a file is; the value is how messages call it."""

    MODEL = "a model"
    EXECUTABLE = "an executable"
    LIBRARY = "a shared library"
    OBJECT = "an object file"
    STATIC = "a static library"


@dataclass(frozen=True)
class Section:
    """A section of an ELF file that is part of the running program; `role` is code, constants, data or weights."""

    name: str
    size: int
    role: str


def kind_of(path: Path) -> Kind:
    """The kind of `path`: ELF files and `ar` archives are artifacts, everything else is taken for a model.

    A folder is a model. Raises OSError if the file cannot be read.
    """
    if path.is_dir():
        return Kind.MODEL
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if head.startswith(b"!<arch>\n"):
            return Kind.STATIC
        if len(head) < _HEADER.size or not head.startswith(b"\x7fELF\x02\x01"):
            return Kind.MODEL
        _, kind, _, _, _, segments, _, _, _, _, count, *_ = _HEADER.unpack(head)
        if kind == _RELOCATABLE:
            return Kind.OBJECT
        file.seek(segments)
        table = file.read(_SEGMENT.size * count)
        whole = table[: len(table) // _SEGMENT.size * _SEGMENT.size]
        parts: list[tuple[int, ...]] = list(_SEGMENT.iter_unpack(whole))
        starts_alone = any(part[0] == _INTERPRETER for part in parts) or any(
            _is_pie(file, offset, size) for what, _, offset, _, _, size, *_ in parts if what == _DYNAMIC
        )
    return Kind.EXECUTABLE if starts_alone or kind == _EXECUTABLE else Kind.LIBRARY


def _is_pie(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether a dynamic section marks an executable: a static one has no interpreter."""
    file.seek(offset)
    table = file.read(min(size, 1 << 16))
    entries = struct.iter_unpack("<QQ", table[: len(table) // 16 * 16])
    return any(tag == _FLAGS_1 and value & _PIE for tag, value in entries)


def foreign_machine(path: Path) -> str:
    """The machine that an ELF file is for, if it is another than this one; else nothing.

    Raises OSError if the file cannot be read.
    """
    if path.is_dir():
        return ""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(b"\x7fELF"):
        return ""
    number = int.from_bytes(head[18:20], "little")
    machine = MACHINES.get(number, f"machine number {number}")
    own = platform.machine().lower()
    return "" if machine == {"arm64": "aarch64", "amd64": "x86_64"}.get(own, own) else machine


def sections_of(path: Path) -> list[Section]:
    """The loaded sections of an ELF file in file order; empty for other files and for one without section headers."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(b"\x7fELF\x02\x01"):
            return []
        _, _, _, _, _, _, offset, _, _, _, _, _, count, names_at = _HEADER.unpack(head)
        file.seek(offset)
        table = file.read(_SECTION.size * count)
        if len(table) < _SECTION.size * count or names_at >= count:
            return []
        headers: list[tuple[int, ...]] = list(_SECTION.iter_unpack(table))
        _, _, _, _, start, length, *_ = headers[int(names_at)]
        file.seek(start)
        names = file.read(length)
    found: list[Section] = []
    for name, kind, flags, _, _, size, *_ in headers:
        if flags & _ALLOCATED and size:
            text = names[name : names.find(b"\0", name)].decode(errors="replace")
            found.append(Section(text, size, _role(text, kind, flags)))
    return found


def _role(name: str, kind: int, flags: int) -> str:
    if name == ".lrodata":
        return "weights"
    if flags & _CODE:
        return "code"
    if flags & _WRITABLE or kind == _NOBITS:
        return "data"
    return "constants"
