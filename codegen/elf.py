"""Put packed weights into a linked ELF file by extending its last loadable segment.

The linker saw one placeholder page in the section `.lrodata`, which it was told to place last, in a segment of its own.
Here that section and that segment grow to the size of the weights, and what followed in the file (symbols, strings, the
section headers) moves behind them. The section headers stay true, so `strip` and `objcopy` keep the weights; no weight
passes through the linker, which could not address more than 2 GB.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

PAGE = {62: 4096, 183: 65536}  # the largest page by e_machine: x86-64, AArch64
PLACEHOLDER = b".lrodata"

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD, _NOBITS, _ALLOC = 1, 8, 2
_COPY = 1 << 20
_UNIT = 4096  # of holes


class ElfError(Exception):
    """The linked file does not look as the linker flags of codegen/link.py make it look."""


@dataclass
class _Section:
    name: int
    kind: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int

    def pack(self) -> bytes:
        return _SECTION.pack(
            self.name,
            self.kind,
            self.flags,
            self.addr,
            self.offset,
            self.size,
            self.link,
            self.info,
            self.align,
            self.entry,
        )


@dataclass
class _Segment:
    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    def pack(self) -> bytes:
        return _SEGMENT.pack(
            self.kind, self.flags, self.offset, self.vaddr, self.paddr, self.filesz, self.memsz, self.align
        )


@dataclass
class _Elf:
    """The parts of an ELF file that change: the header's section offset, the segments, the sections."""

    header: list[int | bytes]
    segments: list[_Segment]
    sections: list[_Section]
    names: bytes

    @property
    def machine(self) -> int:
        """The number of the architecture."""
        machine = self.header[2]
        assert isinstance(machine, int)
        return machine

    def section(self, name: bytes) -> _Section:
        for section in self.sections:
            if self.names[section.name : self.names.index(b"\0", section.name)] == name:
                return section
        raise ElfError(f"no section {name.decode()}")


def embed_weights(file: BinaryIO, weights: Iterable[bytes | memoryview], size: int) -> None:
    """Make `size` bytes of weights the content of the placeholder section of the linked ELF `file`, in place.

    `file` is open for reading and writing. Chunks of `weights` that are all zero stay holes of the file. Raises
    `ElfError` if the file has no placeholder in its last segment, `ValueError` if the chunks are not `size` bytes, and
    `OSError` from writing. With `size` 0 the placeholder stays.
    """
    if size == 0:
        return
    elf = _read(file)
    page = PAGE[elf.machine]
    section = elf.section(PLACEHOLDER)
    segment = _last_segment(elf, section, page)
    # A linker may let the section begin inside a page and pad: the placeholder page is its end.
    start = section.offset + section.size - page
    tail = sorted((s for s in elf.sections if s.offset >= start + page and s.size), key=lambda s: s.offset)
    if any(s.flags & _ALLOC and s.kind != _NOBITS for s in tail):
        raise ElfError("loaded sections follow the weights in the file")
    moved = [_content(file, s) for s in tail]
    file.truncate(start)
    end = _stream(file, weights, start, size)
    for part, content in zip(tail, moved, strict=True):
        part.offset = -(-end // max(part.align, 1)) * max(part.align, 1)
        file.seek(part.offset)
        file.write(content)
        end = part.offset + len(content)
    section.size = start + size - section.offset
    segment.filesz = segment.memsz = start + size - segment.offset
    _write_headers(file, elf, -(-end // 8) * 8)


def _read(file: BinaryIO) -> _Elf:
    file.seek(0)
    header: list[int | bytes] = list(_HEADER.unpack(file.read(_HEADER.size)))
    ident = header[0]
    if not isinstance(ident, bytes) or ident[:6] != b"\x7fELF\x02\x01":
        raise ElfError("not a 64-bit little-endian ELF file")
    numbers = [part for part in header if isinstance(part, int)]
    if header[2] not in PAGE:
        raise ElfError("neither x86-64 nor AArch64")
    phoff, shoff, phnum, shnum, shstrndx = numbers[4], numbers[5], numbers[9], numbers[11], numbers[12]
    file.seek(phoff)
    segments = [_Segment(*fields) for fields in _SEGMENT.iter_unpack(file.read(_SEGMENT.size * phnum))]
    file.seek(shoff)
    sections = [_Section(*fields) for fields in _SECTION.iter_unpack(file.read(_SECTION.size * shnum))]
    return _Elf(header, segments, sections, _content(file, sections[shstrndx]))


def _content(file: BinaryIO, section: _Section) -> bytes:
    if section.kind == _NOBITS:
        return b""
    file.seek(section.offset)
    return file.read(section.size)


def _last_segment(elf: _Elf, section: _Section, page: int) -> _Segment:
    loads = [s for s in elf.segments if s.kind == _LOAD]
    last = max(loads, key=lambda s: s.vaddr)
    if not last.vaddr <= section.addr < last.vaddr + last.memsz:
        raise ElfError("the weights are not in the last segment")
    end = section.addr + section.size
    if end != last.vaddr + last.memsz or end % page or section.size < page:
        raise ElfError("the weights do not end the last segment, or do not begin a page")
    return last


def _stream(file: BinaryIO, weights: Iterable[bytes | memoryview], offset: int, size: int) -> int:
    """Write the weights from `offset` on, and zeros up to the next page's border; gives that."""
    file.seek(offset)
    written = 0
    for chunk in weights:
        written += len(chunk)
        if written > size:
            break
        write_sparse(file, chunk)
    if written != size:
        raise ValueError(f"weights: expected {size} bytes, got {'more' if written > size else written}")
    end = offset + -(-size // _UNIT) * _UNIT
    file.truncate(end)
    file.seek(end)
    return end


def write_sparse(file: BinaryIO, chunk: bytes | memoryview) -> None:
    """Write `chunk` at the file's position, leaving all-zero megabytes as holes; the caller truncates to the end."""
    view = memoryview(chunk).cast("B")
    for start in range(0, len(view), _COPY):
        part = view[start : start + _COPY]
        if len(part) >= _UNIT and not np.frombuffer(part, np.uint8).any():
            file.seek(len(part), os.SEEK_CUR)
        else:
            file.write(part)


def _write_headers(file: BinaryIO, elf: _Elf, offset: int) -> None:
    file.seek(offset)
    file.write(b"".join(section.pack() for section in elf.sections))
    file.truncate()
    elf.header[6] = offset
    file.seek(0)
    file.write(_HEADER.pack(*elf.header))
    phoff = elf.header[5]
    assert isinstance(phoff, int)
    file.seek(phoff)
    file.write(b"".join(segment.pack() for segment in elf.segments))
