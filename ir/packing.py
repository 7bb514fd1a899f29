"""Physical images of tensors: from a NumPy array to the bytes of its layout, and back.

Packing is streamed: an image is made in chunks of a few megabytes, cut along the outermost physical dimensions, each
read from the (memory-mapped) array when it is asked for. Weights of any size pass through without being in memory.
Sub-byte element types take one byte each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .core import Function
from .program import Weight
from .types import DTYPES, Layout, TensorType

Chunk: TypeAlias = bytes | memoryview
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class _Axis:
    """One outer physical dimension: its logical dimension, that one's size, block and padding before, its extent."""

    dim: int
    size: int
    block: int
    before: int
    extent: int


def _axes(layout: Layout, shape: Sequence[int]) -> list[_Axis]:
    order = layout.order or tuple(range(len(shape)))
    extents = layout.physical(shape)
    axes: list[_Axis] = []
    for d, extent in zip(order, extents, strict=False):
        assert isinstance(extent, int)
        axes.append(_Axis(d, shape[d], layout.block(d), layout.padding(d)[0], extent))
    return axes


def packed_bytes(type: TensorType) -> int:
    """Bytes of storage of a tensor of static shape in its layout."""
    size = type.storage_bytes
    assert isinstance(size, int), f"{type} is not static"
    return size


def pack(array: np.ndarray, layout: Layout, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The image of `array` in `layout`, in order, in chunks of about `chunk_bytes`; padding holds zeros.

    Chunks are read-only buffers of bytes; where layout and array agree they are views of the array.
    """
    if array.dtype == object:
        raise ValueError("strings have no physical image")
    if array.size and layout.is_row_major and array.flags.c_contiguous:
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, chunk_bytes):
            yield flat[start : start + chunk_bytes].data
        return
    axes = _axes(layout, array.shape)
    lanes = math.prod(size for _, size in layout.blocks)
    for spans in _cuts(axes, lanes, max(1, chunk_bytes // max(1, array.dtype.itemsize))):
        box = _box(array, layout, axes, spans)
        if box.size:
            yield box.reshape(-1).view(np.uint8).data


def _cuts(axes: Sequence[_Axis], lanes: int, limit: int) -> Iterator[list[tuple[int, int]]]:
    """Cut the storage into runs of about `limit` elements, in order: for each, the span of every outer axis. The
    leading axes are walked one by one, the next one in runs, the others are whole in every piece."""
    if not axes:
        yield []
        return
    behind = [math.prod(a.extent for a in axes[i + 1 :]) * lanes for i in range(len(axes))]
    split = next((i for i, size in enumerate(behind) if size <= limit), len(axes) - 1)
    run = max(1, limit // max(1, behind[split]))
    whole = [(0, a.extent) for a in axes[split + 1 :]]
    for prefix in itertools.product(*(range(a.extent) for a in axes[:split])):
        for start in range(0, axes[split].extent, run):
            yield [*((p, p + 1) for p in prefix), (start, min(start + run, axes[split].extent)), *whole]


def _box(array: np.ndarray, layout: Layout, axes: Sequence[_Axis], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The image of the part of the storage whose outer physical coordinates lie in `spans`."""
    rank = len(axes)
    source: list[slice] = [slice(None)] * rank
    target: list[slice] = [slice(None)] * rank
    padded = [0] * rank
    for axis, (low, high) in zip(axes, spans, strict=True):
        first = low * axis.block - axis.before  # logical coordinate of the box's first element
        padded[axis.dim] = (high - low) * axis.block
        begin, end = max(0, first), min(axis.size, first + padded[axis.dim])
        end = max(begin, end)
        source[axis.dim] = slice(begin, end)
        target[axis.dim] = slice(begin - first, end - first)
    whole = all(s.stop - s.start == n for s, n in zip(target, padded, strict=True))
    if whole:
        box = array[tuple(source)]
    else:
        box = np.zeros(padded, dtype=array.dtype)
        box[tuple(target)] = array[tuple(source)]
    return np.ascontiguousarray(_blocked(box, layout, axes))


def _blocked(box: np.ndarray, layout: Layout, axes: Sequence[_Axis]) -> np.ndarray:
    """A box of whole blocks in logical order as an array of physical dimensions."""
    shape: list[int] = []
    place: dict[int, int] = {}  # logical dimension -> where its outer part is in `shape`
    lanes: dict[int, int] = {}  # ... and where its block is
    for d, size in enumerate(box.shape):
        block = layout.block(d)
        place[d] = len(shape)
        shape.append(size // block)
        if block > 1 or any(b == d for b, _ in layout.blocks):
            lanes[d] = len(shape)
            shape.append(block)
    order = [place[a.dim] for a in axes] + [lanes[d] for d, _ in layout.blocks]
    return box.reshape(shape).transpose(order)


def packed(array: np.ndarray, layout: Layout) -> bytes:
    """The whole image at once (for tests and small constants)."""
    return b"".join(bytes(chunk) for chunk in pack(array, layout))


def storage_index(type: TensorType) -> np.ndarray:
    """For each logical element of a tensor of static shape, its element offset in the storage (an i64 array of the
    logical shape)."""
    shape = type.static_shape
    grids: list[np.ndarray] = list(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True))
    total: np.ndarray = np.zeros(shape, dtype=np.int64)
    axes = _axes(type.layout, shape)
    for axis in axes:
        total = total * axis.extent + (grids[axis.dim] + axis.before) // axis.block
    for d, size in type.layout.blocks:
        total = total * size + (grids[d] + type.layout.padding(d)[0]) % size
    return total


def unpack(image: Chunk | np.ndarray, type: TensorType) -> np.ndarray:
    """The logical array that `image` (storage bytes, or an array of elements) holds in the layout of `type`."""
    elements = np.frombuffer(image, dtype=np.uint8).view(DTYPES[type.dtype].numpy)
    return elements[storage_index(type)]


def weights_image(program: Function, *variants: Function, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The weights section of a planned program, in order, from its first to its last byte (`weights_bytes` of them);
    gaps hold zeros. Weights must not overlap. `variants` are programs whose weights lie in the same section; what
    several have at one offset is the same."""
    at = 0
    weights = _weights_of(program)
    placed = {(op.offset, op.result.tensor) for op in weights}
    for op in (op for variant in variants for op in _weights_of(variant)):
        if (op.offset, op.result.tensor) not in placed:
            placed.add((op.offset, op.result.tensor))
            weights.append(op)
    for op in sorted(weights, key=lambda op: (op.offset, packed_bytes(op.result.tensor))):
        if op.offset < at:
            raise ValueError(f"weights: expected an offset of at least {at}, got {op.offset}: plan-memory has not run")
        yield from _zeros(op.offset - at, chunk_bytes)
        yield from pack(op.value.array(), op.result.tensor.layout, chunk_bytes)
        at = op.offset + packed_bytes(op.result.tensor)
    yield from _zeros(int(program.attributes["weights_bytes"]) - at, chunk_bytes)


def _weights_of(program: Function) -> list[Weight]:
    return [op for op in program.walk() if isinstance(op, Weight)]


def _zeros(count: int, chunk_bytes: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, chunk_bytes))
        count -= chunk_bytes
