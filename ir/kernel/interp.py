"""The NumPy meaning of the kernel form.

Each dimension of a `map` or `reduce` becomes an array axis, so a scalar of a body is one array over the points around
it; axes it does not depend on have length 1. Scans run point by point. Sums of products become matrix products, and
grids are cut into pieces so that no array gets large. Memory is addressed through the layouts of the buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np

from ..core import Op, Region, Value
from ..errors import PlanishError
from ..expr import Dim, as_expr
from ..scalar import FUNCTIONS
from ..types import DTYPES, ScalarType
from .buffers import Buffer, bind_symbols, concrete
from .contract import contract
from .footprint import Footprints, product_of
from .form import Const, Index, Kernel, KernelOp, Local, LoopDim, Map, Read, Reduce, Scalar, Scan, Write

LIMIT = 1 << 22  # elements of one array before a grid is cut
_UFUNC: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


class EvaluationError(PlanishError):
    """The data of this run cannot be worked on, for instance because an index in it is out of range."""


def run_kernel(
    kernel: Kernel | KernelOp, inputs: Sequence[np.ndarray], symbols: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """The outputs of `kernel` for `inputs` (logical arrays, one per input buffer). `symbols` gives shape symbols that
    the shapes of the inputs do not tell. Raises `EvaluationError` where compiled code would stop with an error."""
    params = kernel.region.params if isinstance(kernel, KernelOp) else kernel.params
    body = kernel.region if isinstance(kernel, KernelOp) else kernel.body
    label = (kernel.loc or kernel.label) if isinstance(kernel, KernelOp) else kernel.name
    types = [p.tensor for p in params[: len(inputs)]]
    known = dict(symbols or {})
    names = [f"{label or 'kernel'}: input {p.name or i}" for i, p in enumerate(params[: len(inputs)])]
    bind_symbols(types, [np.shape(a) for a in inputs], names, known)
    buffers: list[Buffer] = []
    for p, array in zip(params, inputs, strict=False):
        buffers.append(Buffer.of(np.asarray(array, DTYPES[p.tensor.dtype].numpy), concrete(p.tensor, known)))
    outputs = [Buffer.empty(concrete(p.tensor, known)) for p in params[len(inputs) :]]
    execute(params, body, [*buffers, *outputs], known, label)
    return [b.array() for b in outputs]


def execute(
    params: Sequence[Value], body: Region, buffers: Sequence[Buffer], symbols: Mapping[str, int], label: str = ""
) -> None:
    """Run a kernel's body over memory: one buffer per parameter, outputs included."""
    machine = _Machine(params, body, buffers, symbols, label)
    with np.errstate(all="ignore"):
        machine.region(body, Frame({}, (), None, dict(symbols)))
    for buffer in {op.buffer for op in body.walk() if isinstance(op, Write)} & machine.buffers.keys():
        machine.buffers[buffer].clear_lanes()


@dataclass(frozen=True)
class Frame:
    """The points around a place of the kernel. `sizes` are the lengths of the axes by dimension, `places` the
    positions along each axis (from 0, for the copies of locals), `active` marks the points that exist where extents
    vary, `env` gives the values of dimensions and symbols (arrays have one axis per dimension)."""

    sizes: dict[str, int]
    places: tuple[np.ndarray, ...]
    active: np.ndarray | None
    env: dict[str, Any]

    @property
    def depth(self) -> int:
        """Number of axes."""
        return len(self.places)

    @property
    def grid(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self.sizes.values())

    def inside(self, dims: Sequence[LoopDim], box: Sequence[tuple[int, int]]) -> Frame:
        """The points of one piece of a stage: one more axis per dimension."""
        more = len(dims)
        env = {name: _expand(v, more) for name, v in self.env.items()}
        places = [_expand(p, more) for p in self.places]
        active = None if self.active is None else _expand(self.active, more)
        sizes = dict(self.sizes)
        for i, (dim, (low, high)) in enumerate(zip(dims, box, strict=True)):
            shape = [1] * (self.depth + more)
            shape[self.depth + i] = high - low
            values = np.arange(low, high).reshape(shape)
            extent = as_expr(dim.extent).evaluate(env)
            if isinstance(extent, np.ndarray):
                here = values < extent
                active = here if active is None else active & here
            env[dim.name] = values
            sizes[dim.name] = high - low
            places.append(values - low)
        return Frame(sizes, tuple(places), active, env)


def _expand(value: Any, more: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    array = cast("np.ndarray", value)
    return array.reshape(array.shape + (1,) * more)


class _Machine:
    def __init__(
        self, params: Sequence[Value], body: Region, buffers: Sequence[Buffer], symbols: Mapping[str, int], label: str
    ) -> None:
        self.buffers: dict[Value, Buffer] = dict(zip(params, buffers, strict=True))
        self.values: dict[Value, tuple[np.ndarray, int]] = {}
        self.symbols = symbols
        self.label = label
        self.footprints = Footprints(body, symbols)

    # -- values -------------------------------------------------------------------------------------------------

    def get(self, value: Value, frame: Frame) -> np.ndarray:
        array, depth = self.values[value]
        return _expand(array, frame.depth - depth)

    def put(self, value: Value, array: Any, frame: Frame) -> None:
        assert isinstance(value.type, ScalarType)
        array = np.asarray(array).astype(DTYPES[value.type.dtype].numpy, copy=False)
        self.values[value] = (array if array.ndim else array.reshape((1,) * frame.depth), frame.depth)

    def region(self, region: Region, frame: Frame, skip: Op | None = None) -> list[np.ndarray]:
        """Run the operations; the yielded arrays."""
        for op in region:
            if op.terminator:
                return [self.get(v, frame) for v in op.inputs] if skip is None else []
            if op is not skip:
                self.op(op, frame)
        return []

    def op(self, op: Op, frame: Frame) -> None:
        match op:
            case Scalar():
                args = [self.get(a, frame) for a in op.args]
                extra = {"dtype": op.dtype} if FUNCTIONS[op.fn].result == "cast" else {}
                self.put(op.result, FUNCTIONS[op.fn].evaluate(*args, **extra), frame)
            case Const():
                self.put(op.result, np.array(op.value).astype(DTYPES[op.dtype].numpy), frame)
            case Index():
                self.put(op.result, op.expr.evaluate(frame.env), frame)
            case Read():
                self.read(op, frame)
            case Write():
                self.write(op, frame)
            case Local():
                self.buffers[op.result] = Buffer.empty(concrete(op.result.tensor, self.symbols), frame.grid)
            case Map():
                for piece in self.pieces(op, frame):
                    self.region(op.region, frame.inside(op.dims, piece))
            case Reduce():
                self.reduce(op, frame)
            case Scan():
                self.scan(op, frame)
            case _:
                raise EvaluationError(f"{self.label}: expected an operation of the kernel form, got {op.text_name}")

    # -- memory -------------------------------------------------------------------------------------------------

    def coordinates(self, op: Read | Write, frame: Frame) -> list[Any]:
        env = frame.env
        if op.indices:
            env = {**env, **{f"${i}": self.get(v, frame).astype(np.int64) for i, v in enumerate(op.indices)}}
        return [as_expr(e).evaluate(env) for e in op.map]

    def read(self, op: Read, frame: Frame) -> None:
        buffer = self.buffers[op.buffer]
        coordinates = self.coordinates(op, frame)
        inside: Any = True
        for d, (c, extent) in enumerate(zip(coordinates, buffer.shape, strict=True)):
            good = (c >= 0) & (c < extent)
            if np.all(good):
                continue
            if op.fill is None:
                self.check(op, d, c, good, (0, extent), frame, None)
            inside = inside & good
            coordinates[d] = np.clip(c, 0, max(extent - 1, 0))
        if buffer.data.size == 0:
            found: Any = np.zeros((1,) * frame.depth, buffer.data.dtype)
        else:
            found = buffer.data[self.address(buffer, coordinates, frame)]
        if op.fill is not None and inside is not True:
            found = np.where(inside, found, self.get(op.fill, frame))
        self.put(op.result, found, frame)

    def write(self, op: Write, frame: Frame) -> None:
        buffer = self.buffers[op.buffer]
        coordinates = self.coordinates(op, frame)
        mask: Any = None if op.mask is None else self.get(op.mask, frame)
        if frame.active is not None:
            mask = frame.active if mask is None else mask & frame.active
        for d, (c, extent) in enumerate(zip(coordinates, buffer.shape, strict=True)):
            before, after = buffer.type.layout.padding(d)
            good = (c >= -before) & (c < extent + after)
            if not np.all(good):
                self.check(op, d, c, good, (-before, extent + after), frame, mask)
                coordinates[d] = np.clip(c, -before, extent + after - 1)
        index = np.asarray(self.address(buffer, coordinates, frame))
        value = self.get(op.value, frame)
        shape = (
            frame.grid
            if op.combine
            else np.broadcast_shapes(index.shape, value.shape, np.shape(mask) if mask is not None else ())
        )
        index, value = np.broadcast_to(index, shape), np.broadcast_to(value, shape)
        if mask is not None:
            kept = np.broadcast_to(mask, shape)
            index, value = index[kept], value[kept]
        if op.combine:
            self.scatter(buffer.data, index.reshape(-1), value.reshape(-1), op.combine)
        else:
            buffer.data[index] = value

    def scatter(self, data: np.ndarray, index: np.ndarray, value: np.ndarray, combine: str) -> None:
        if combine in _UFUNC and data.dtype.kind in "fiub" and data.dtype.itemsize > 1:
            _UFUNC[combine].at(data, index, value)
            return
        for i, v in zip(index, value, strict=True):
            data[i] = FUNCTIONS[combine].evaluate(data[i : i + 1], v.reshape(1))[0]

    def address(self, buffer: Buffer, coordinates: Sequence[Any], frame: Frame) -> Any:
        index = buffer.index(coordinates)
        if buffer.copies:
            copy: Any = 0
            for place, length in zip(frame.places, buffer.copies, strict=False):
                copy = copy * length + place
            index = index + copy * buffer.size
        return index

    def check(
        self, op: Read | Write, d: int, c: Any, good: Any, span: tuple[int, int], frame: Frame, mask: Any
    ) -> None:
        """Raise for coordinates outside `span` at points that exist and are not masked."""
        bad = ~np.asarray(good)
        for condition in (frame.active, mask):
            if condition is not None:
                bad = bad & condition
        if bad.any():
            value = int(np.broadcast_to(c, bad.shape)[bad][0])
            what = "read from" if isinstance(op, Read) else "write to"
            name = f"%{op.buffer.name}" if op.buffer.name else "a buffer"
            where = op.loc or self.label
            raise EvaluationError(
                f"{where + ': ' if where else ''}{what} {name}: expected an index in {span[0]} .. {span[1] - 1} "
                f"in dimension {d}, got {value}"
            )

    # -- stages -------------------------------------------------------------------------------------------------

    def extents(self, dims: Sequence[LoopDim], frame: Frame) -> list[int]:
        """The largest extent of each dimension over all points."""
        found: list[int] = []
        for i, dim in enumerate(dims):
            found.append(max(0, int(np.max(self._extent(dim.extent, dims[:i], found, frame)))))
        return found

    def _extent(self, extent: Dim, outer: Sequence[LoopDim], found: Sequence[int], frame: Frame) -> Any:
        if isinstance(extent, int):
            return extent
        if not extent.symbols() & {d.name for d in outer} or 0 in found:
            return extent.evaluate({**frame.env, **{d.name: 0 for d in outer}})
        return extent.evaluate(frame.inside(outer, [(0, n) for n in found]).env)

    def pieces(self, op: Map | Reduce, frame: Frame) -> Iterator[list[tuple[int, int]]]:
        """The grid of a stage in pieces none of whose arrays is large; nothing for an empty grid."""
        extents = self.extents(op.dims, frame)
        steps = self.footprints.steps(op, extents, frame.sizes, LIMIT)
        spans = [[(at, min(at + s, n)) for at in range(0, n, s)] for n, s in zip(extents, steps, strict=True)]
        return (list(piece) for piece in product(*spans))

    def reduce(self, op: Reduce, frame: Frame) -> None:
        total: list[np.ndarray] = [self.get(v, frame) for v in op.inits]
        for piece in self.pieces(op, frame):
            inner = frame.inside(op.dims, piece)
            part = self.folded(op, frame, inner, [b - a for a, b in piece])
            total = self.merge(op, total, part, frame)
        for value, array in zip(op.results, total, strict=True):
            self.put(value, array, frame)

    def folded(self, op: Reduce, frame: Frame, inner: Frame, extents: list[int]) -> list[np.ndarray]:
        """One piece of a reduction, folded over its axes."""
        factors = product_of(op)
        if factors is not None:
            self.region(op.region, inner, skip=factors)
            p, q = (self._live(self.get(a, inner), inner, None) for a in factors.args)
            return [contract(p, q, frame.depth, extents)]
        elements = self.region(op.region, inner)
        inits = [_expand(self.get(v, frame), len(extents)) for v in op.inits]
        axes = tuple(range(frame.depth, inner.depth))
        full: list[np.ndarray] = []
        for element, init in zip(elements, inits, strict=True):
            element = self._live(element, inner, init)
            shape = (*element.shape[: frame.depth], *extents)
            full.append(np.broadcast_to(element, shape))
        functions = _simple(op)
        if functions is not None:
            return [f.reduce(e, axis=axes, dtype=e.dtype) for f, e in zip(functions, full, strict=True)]
        return self.tree(op, [e.reshape(*e.shape[: frame.depth], -1) for e in full], frame)

    def _live(self, element: np.ndarray, inner: Frame, neutral: np.ndarray | None) -> np.ndarray:
        if inner.active is None:
            return element
        other = np.zeros((), element.dtype) if neutral is None else neutral
        return np.where(inner.active, element, other).astype(element.dtype, copy=False)

    def tree(self, op: Reduce, arrays: list[np.ndarray], frame: Frame) -> list[np.ndarray]:
        """Fold the last axis by combining neighbours."""
        inner = frame.inside([LoopDim("#fold", 1)], [(0, 1)])
        while (n := arrays[0].shape[-1]) > 1:
            merged = self.merge(op, [a[..., 0 : n - 1 : 2] for a in arrays], [a[..., 1::2] for a in arrays], inner)
            arrays = (
                merged if n % 2 == 0 else [_append(m, a[..., n - 1 :]) for m, a in zip(merged, arrays, strict=True)]
            )
        return [a[..., 0] for a in arrays]

    def merge(self, op: Reduce, a: Sequence[np.ndarray], b: Sequence[np.ndarray], frame: Frame) -> list[np.ndarray]:
        """`combine` of two sets of accumulators."""
        for param, array in zip(op.combine.params, [*a, *b], strict=True):
            self.put(param, array, frame)
        return self.region(op.combine, frame)

    def scan(self, op: Scan, frame: Frame) -> None:
        carried = [self.get(v, frame) for v in op.inits]
        for point in self.points(op.dims, frame):
            inner, active = point
            for param, array in zip(op.region.params, carried, strict=True):
                self.put(param, array, inner)
            step = self.region(op.region, inner)
            carried = step if active is None else [np.where(active, s, c) for s, c in zip(step, carried, strict=True)]
        for value, array in zip(op.results, carried, strict=True):
            self.put(value, array, frame)

    def points(self, dims: Sequence[LoopDim], frame: Frame) -> Iterator[tuple[Frame, np.ndarray | None]]:
        """The points of a scan in order; with each, where it exists (None: everywhere)."""
        if not dims:
            yield frame, frame.active
            return
        extent = as_expr(dims[0].extent).evaluate(frame.env)
        for i in range(max(0, int(np.max(extent)))):
            active = frame.active
            if isinstance(extent, np.ndarray):
                active = (extent > i) if active is None else active & (extent > i)
            inner = Frame(frame.sizes, frame.places, active, {**frame.env, dims[0].name: i})
            yield from self.points(dims[1:], inner)


def _append(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    return np.concatenate([np.broadcast_to(x, (*shape, x.shape[-1])) for x in (a, b)], axis=-1)


def _simple(op: Reduce) -> list[Any] | None:
    """The NumPy function of each accumulator when `combine` is one scalar function for each, else None."""
    n = len(op.inits)
    found: list[Any] = []
    for i, value in enumerate(op.combine.terminator.inputs):
        made = value.op
        if not isinstance(made, Scalar) or made.fn not in _UFUNC:
            return None
        if set(made.args) != {op.combine.params[i], op.combine.params[n + i]}:
            return None
        found.append(_UFUNC[made.fn])
    return found
