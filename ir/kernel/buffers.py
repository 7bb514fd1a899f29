"""Memory as the interpreters see it: flat arrays addressed through the layouts, so that a wrong layout shows.

Memory that nobody has written holds poison: NaN for floats, 0xAA bytes for integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import PlanishError
from ..expr import Expr, as_expr, sym
from ..types import DTYPES, Layout, TensorType


class Buffer:
    """Storage of one tensor: `data` is flat, `type` is static. A local of a kernel has one copy per point of the
    stages around it: then `copies` is the shape of those points and `data` holds the copies one after another."""

    def __init__(self, data: np.ndarray, type: TensorType, copies: tuple[int, ...] = ()) -> None:
        self.data = data
        self.type = type
        self.shape = type.static_shape
        self.copies = copies
        self.size = storage_elements(type)
        self._offset = _offset(type.layout, self.shape)

    @staticmethod
    def empty(type: TensorType, copies: tuple[int, ...] = ()) -> Buffer:
        """Memory that nobody has written."""
        return Buffer(poison(type.dtype, storage_elements(type) * int(np.prod(copies, dtype=np.int64))), type, copies)

    @staticmethod
    def of(array: np.ndarray, type: TensorType) -> Buffer:
        """A tensor in the layout of `type`: its zero halo and the padded lanes of its blocks hold zeros, the rest of
        the padding poison."""
        if type.layout.is_row_major:
            return Buffer(np.array(array).reshape(-1), type)
        buffer = Buffer.empty(type)
        buffer.clear_lanes()
        layout, shape = type.layout, buffer.shape
        spans = [(-layout.zeros(d)[0], extent + layout.zeros(d)[1]) for d, extent in enumerate(shape)]
        if any(low or high != extent for (low, high), extent in zip(spans, shape, strict=True)):
            buffer.data[buffer.index(_grid(spans))] = np.zeros((), buffer.data.dtype)
        buffer.data[buffer.index(_grid([(0, n) for n in shape]))] = array
        return buffer

    def clear_lanes(self) -> None:
        """Store zeros in the padded lanes of blocks, as writers do."""
        layout = self.type.layout
        for d, block in layout.blocks:
            before, after = layout.padding(d)
            used = before + self.shape[d] + after
            rounded = -(-used // block) * block
            if rounded == used:
                continue
            spans = [(-layout.padding(i)[0], n + layout.padding(i)[1]) for i, n in enumerate(self.shape)]
            spans[d] = (self.shape[d] + after, self.shape[d] + after + rounded - used)
            self.data[self.index(_grid(spans))] = np.zeros((), self.data.dtype)

    def array(self) -> np.ndarray:
        """The logical tensor."""
        if self.type.layout.is_row_major:
            return self.data.reshape(self.shape)
        return self.data[np.broadcast_to(self.index(_grid([(0, n) for n in self.shape])), self.shape)]

    def index(self, coordinates: Sequence[Any]) -> Any:
        """Element offsets of logical coordinates (ints or arrays that broadcast against each other)."""
        return self._offset.evaluate({f"#{d}": c for d, c in enumerate(coordinates)})


def _grid(spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    return list(np.meshgrid(*(np.arange(a, b) for a, b in spans), indexing="ij", sparse=True)) if spans else []


@lru_cache(maxsize=4096)
def _offset(layout: Layout, shape: tuple[int, ...]) -> Expr:
    return layout.offset(shape, [sym(f"#{d}") for d in range(len(shape))])


def storage_elements(type: TensorType) -> int:
    """Elements of storage of a static tensor type, padding included."""
    size = type.layout.size(type.static_shape)
    assert isinstance(size, int)
    return size


def poison(dtype: str, elements: int) -> np.ndarray:
    """A flat array of what unwritten memory reads as."""
    info = DTYPES[dtype]
    if info.kind == "float":
        return np.full(elements, np.nan, info.numpy)
    if info.kind == "bool":
        return np.ones(elements, np.bool_)
    if info.kind == "string":
        return np.full(elements, None, object)
    if info.bits < 8:
        return np.full(elements, -6 if info.kind == "int" else 10, np.int8).astype(info.numpy)
    return np.full(elements * info.numpy.itemsize, 0xAA, np.uint8).view(info.numpy)


def concrete(type: TensorType, symbols: Mapping[str, int]) -> TensorType:
    """The type with its shape symbols replaced by numbers."""
    if type.is_static:
        return type
    shape = tuple(int(as_expr(d).evaluate(symbols)) for d in type.dims)
    return TensorType(type.dtype, shape, type.layout)


def bind_symbols(
    types: Sequence[TensorType], shapes: Sequence[Sequence[int]], names: Sequence[str], symbols: dict[str, int]
) -> None:
    """Learn shape symbols from the shapes of inputs and check those shapes. Raises `PlanishError` that names the
    input, its dimension, and what was expected."""
    for type, shape, name in zip(types, shapes, names, strict=True):
        if len(shape) != type.rank:
            raise PlanishError(f"{name}: expected {type.rank} dimensions ({type}), got {len(shape)}")
        for d, n in zip(type.dims, shape, strict=True):
            if isinstance(d, Expr) and d.symbol is not None:
                symbols.setdefault(d.symbol, int(n))
    for type, shape, name in zip(types, shapes, names, strict=True):
        for axis, (d, n) in enumerate(zip(type.dims, shape, strict=True)):
            missing = as_expr(d).symbols() - symbols.keys()
            if missing:
                raise PlanishError(f"{name}: the value of the symbol {sorted(missing)[0]} in {type} is not known")
            want = as_expr(d).evaluate(symbols)
            if want != n:
                raise PlanishError(f"{name}: expected {want} in dimension {axis} ({type}), got {n}")
