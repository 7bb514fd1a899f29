"""PyTorch's zip archives (`.pt`, `.pth`, `.pt2`): members by name, and where in the file their bytes are.

PyTorch stores members as they are, aligned to 64 bytes, so that weights stay in the file. Names are looked up, never
used as paths, and nothing is unpacked onto the disk.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

from ...ir.constants import ConstantData, FileSource
from ...ir.errors import ModelError
from ...ir.types import DTYPES
from ..elements import by_reference, from_bytes
from ..text import quote

_LOCAL = struct.Struct("<4s22xHH")
_MOST_MEMBERS = 1 << 18
_MOST_UNPACKED = 1 << 28  # bytes of a compressed member (PyTorch compresses none), and of one read into memory


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return head.startswith(b"PK\x03\x04")


def is_pt2(path: Path) -> bool:
    """Whether a file is an archive that holds an exported program. Raises `ModelError` for a damaged archive."""
    with path.open("rb") as file:
        if not is_archive(file.read(4)):
            return False
    members = Container(path).members
    return any(n.startswith("models/") for n in members) or "serialized_exported_program.json" in members


class Container:
    """A zip archive that is open for reading. All members of PyTorch's archives lie in one folder, whose name (that of
    the file when it was written) is left out of the members' names here. Raises `ModelError` for what is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, struct.error) as e:
            raise ModelError(f"{path}: expected a zip archive as PyTorch writes it, got a damaged one: {e}") from e
        if len(infos) > _MOST_MEMBERS:
            raise ModelError(f"{path}: expected at most {_MOST_MEMBERS} members, got {len(infos)}")
        tops = {info.filename.partition("/")[0] for info in infos}
        cut = len(next(iter(tops))) + 1 if len(tops) == 1 else 0
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename[cut:]
            if name in self.members:
                raise ModelError(f"{path}: expected one member {quote(name)}, got several")
            self.members[name] = info

    def where(self, name: str) -> str:
        """What messages call a member."""
        return f"{self.path}: {quote(name)}"

    def offset(self, name: str) -> tuple[int, int]:
        """Where the bytes of a member that is not compressed begin, and how many there are."""
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ModelError(f"{self.where(name)}: expected plain bytes, got compressed or encrypted ones")
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise ModelError(f"{self.where(name)}: the archive's table points to something else: the file is damaged")
        _, name_length, extra_length = _LOCAL.unpack(head)
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if start + info.file_size > self.size or info.file_size != info.compress_size:
            raise ModelError(
                f"{self.where(name)}: expected {info.file_size} bytes at {start}, the file has {self.size}: it is cut "
                "short or damaged"
            )
        return start, info.file_size

    def read(self, name: str) -> bytes:
        """The bytes of a member."""
        info = self._info(name)
        if info.file_size > _MOST_UNPACKED:
            raise ModelError(f"{self.where(name)}: expected at most {_MOST_UNPACKED} bytes, got {info.file_size}")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(info) as file:
                data = file.read(info.file_size + 1)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError) as e:
            raise ModelError(f"{self.where(name)}: cannot be read: {e}") from e
        except Exception as e:  # zlib's and lzma's own errors have no common class
            raise ModelError(f"{self.where(name)}: cannot be unpacked: {e}") from e
        if len(data) != info.file_size:
            raise ModelError(f"{self.where(name)}: expected {info.file_size} bytes, got {len(data)}")
        return data

    def tensor(
        self, name: str, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, where: str
    ) -> ConstantData:
        """A tensor in a member: element strides and offset are PyTorch's. Bytes stay in the file where they can."""
        start, size = self.offset(name)
        extent = stored_extent(shape, strides, offset, where)
        width = DTYPES[dtype].bytes
        if extent * width > size:
            raise ModelError(f"{where}: expected {extent * width} bytes in {quote(name)}, got {size}")
        return placed_tensor(self.path, dtype, shape, strides, start, offset, extent, where)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self.members:
            raise ModelError(f"{self.path}: expected a member {quote(name)}, which is missing")
        return self.members[name]


def placed_tensor(
    path: Path, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], start: int, offset: int, extent: int,
    where: str,
) -> ConstantData:  # fmt: skip
    """A tensor whose storage begins at byte `start` of a file and has at least `extent` elements. The bytes stay in the
    file where they can."""
    width = DTYPES[dtype].bytes
    order = storage_order(shape, strides)
    if order is not None and by_reference(dtype):
        stored = tuple(shape[i] for i in order)
        data = ConstantData(dtype, stored, FileSource(str(path.resolve()), start + offset * width))
        return data.permuted([order.index(i) for i in range(len(order))])
    raw = np.memmap(path, np.uint8, "r", start, (extent * width,)) if extent else np.zeros(0, np.uint8)
    flat = from_bytes(np.asarray(raw), dtype, (extent,), where).array()
    return ConstantData.of(strided(flat, shape, strides, offset))


def stored_extent(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, where: str) -> int:
    """Elements of storage that a tensor reaches to. Raises `ModelError` for what no tensor is."""
    if len(shape) != len(strides) or len(shape) > 32 or offset < 0 or min((*shape, *strides, 0)) < 0:
        raise ModelError(
            f"{where}: expected sizes, strides and an offset of at least 0, got {list(shape)}, {list(strides)}, "
            f"{offset}"
        )
    if 0 in shape:
        return 0
    total = 1
    for size in shape:
        total *= size
    extent = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # Strides of 0 could make a small file a tensor of any size.
    if max(total, extent) > 1 << 48 or (total > 1 << 20 and total > 64 * extent):
        raise ModelError(f"{where}: sizes {list(shape)} with strides {list(strides)} are too large for what is stored")
    return extent


def storage_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order in which the dimensions of a tensor lie in memory, outermost first, if they lie there without gaps."""
    plain = tuple(range(len(shape)))
    long = sorted((i for i in plain if shape[i] != 1), key=lambda i: (-strides[i], i))
    for order in (plain, (*(i for i in plain if shape[i] == 1), *long)):
        step = 1
        for i in reversed(order):
            if shape[i] != 1 and strides[i] != step:
                break
            step *= shape[i]
        else:
            return order
    return None


def strided(flat: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    """A row-major copy of a tensor that lies in `flat`; `stored_extent` has checked that it does."""
    if 0 in shape:
        return np.zeros(shape, flat.dtype)
    steps = tuple(s * flat.itemsize for s in strides)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False))


__all__ = ["Container", "is_archive", "is_pt2", "placed_tensor", "storage_order", "stored_extent", "strided"]
