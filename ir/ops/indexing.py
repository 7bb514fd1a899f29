"""Gather and scatter: reads and writes at places that data says. Indices count from the end when they are negative;
an index outside of its dimension is an error when the kernel runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type
from .base import TensorOp, fresh
from .windows import convert, may_equal

__all__ = ["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"]

COMBINE = {"none": "", "add": "add", "mul": "mul", "max": "max", "min": "min"}
UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _loops(dims: Sequence[Dim]) -> dict[str, Dim]:
    return {f"d{i}": d for i, d in enumerate(dims)}


def _check_indices(indices: Value) -> None:
    dtype = indices.tensor.dtype
    expect(DTYPES[dtype].kind in ("int", "uint"), f"expected indices of an integer type, got {dtype}")


def _normal(k: KernelBuilder, index: Value, size: Dim, dtype: str) -> Value:
    """`index`, read as `dtype`, as an i64 that counts from the start."""
    index = convert(k, index, "i64")
    if DTYPES[dtype].kind == "uint":
        return index
    return k.select(k.lt(index, k.const(0, "i64")), k.add(index, k.index(size)), index)


def _random_indices(rng: np.random.Generator, value: Value, size: int) -> Array:
    t = value.tensor
    low = -size if DTYPES[t.dtype].kind == "int" else 0
    return rng.integers(low, size, t.static_shape).astype(DTYPES[t.dtype].numpy)


def _random(rng: np.random.Generator, value: Value) -> Array:
    t = value.tensor
    return np.asarray(rng.standard_normal(t.static_shape) * 3).astype(DTYPES[t.dtype].numpy)


class Gather(TensorOp, name="shape.gather"):
    """`x[..., indices, ...]` at dimension `axis`: the result has the dimensions of `indices` in its place.

    Any element type; indices of any integer type. Source: ONNX Gather.
    """

    names = {"onnx": "Gather"}

    x: Value
    indices: Value
    axis: int = 0

    def infer(self) -> Sequence[Type]:
        x, indices = self.x.tensor, self.indices.tensor
        _check_indices(self.indices)
        expect(x.shape is None or 0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
        if x.shape is None or indices.shape is None:
            return [TensorType(x.dtype, None)]
        return [TensorType(x.dtype, (*x.dims[: self.axis], *indices.dims, *x.dims[self.axis + 1 :]))]

    def kernel(self, k: KernelBuilder) -> None:
        (x, indices), (out,) = k.inputs, k.outputs
        middle = slice(self.axis, self.axis + indices.tensor.rank)
        with k.map(_loops(out.tensor.dims)) as point:
            index = _normal(k, k.read(indices, *point[middle]), x.tensor.dims[self.axis], indices.tensor.dtype)
            k.write(k.read(x, *point[: middle.start], index, *point[middle.stop :]), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, indices = operands
        return np.take(x, indices.astype(np.int64), axis=self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 5, 3), fresh("i64", 4), 0)
        yield cls(fresh("f32", 5, 3), fresh("i64", 2, 2), 1)
        yield cls(fresh("f32", 5, 3), fresh("i64"), 0)
        yield cls(fresh("i64", 4), fresh("i32", 3), 0)
        yield cls(fresh("f16", 2, 4, 3), fresh("u8", 2), 1)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Indices inside, of both signs."""
        return [_random(rng, self.x), _random_indices(rng, self.indices, self.x.tensor.static_shape[self.axis])]


class GatherElements(TensorOp, name="shape.gather_elements"):
    """Every index picks the element with its own coordinates, but itself at dimension `axis`.

    `indices` has the rank of `x` and the shape of the result. Source: ONNX GatherElements.
    """

    names = {"onnx": "GatherElements"}

    x: Value
    indices: Value
    axis: int = 0

    def infer(self) -> Sequence[Type]:
        x, indices = self.x.tensor, self.indices.tensor
        _check_indices(self.indices)
        if x.shape is not None and indices.shape is not None:
            expect(x.rank == indices.rank, f"expected indices of rank {x.rank}, got {indices}")
            expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
            for i, (d, n) in enumerate(zip(x.dims, indices.dims, strict=True)):
                fits = i == self.axis or (n <= d if isinstance(d, int) and isinstance(n, int) else may_equal(n, d))
                expect(fits, f"expected at most {d} indices in dimension {i}, got {n}")
        return [TensorType(x.dtype, indices.shape)]

    def kernel(self, k: KernelBuilder) -> None:
        (x, indices), (out,) = k.inputs, k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            index = _normal(k, k.read(indices, *point), x.tensor.dims[self.axis], indices.tensor.dtype)
            k.write(k.read(x, *point[: self.axis], index, *point[self.axis + 1 :]), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, indices = operands
        cut = x[tuple(slice(None) if i == self.axis else slice(n) for i, n in enumerate(indices.shape))]
        return np.take_along_axis(cut, indices.astype(np.int64), axis=self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 4, 5), fresh("i64", 3, 5), 0)
        yield cls(fresh("f32", 4, 5), fresh("i32", 2, 7), 1)
        yield cls(fresh("i32", 6), fresh("i64", 3), 0)

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Indices inside, of both signs."""
        return [_random(rng, self.x), _random_indices(rng, self.indices, self.x.tensor.static_shape[self.axis])]


def _tuple_size(indices: TensorType) -> int:
    """Length of the index tuples, the last dimension of `indices`, which must be known."""
    expect(indices.rank >= 1, f"expected indices of rank 1 or more, got {indices}")
    size = indices.dims[-1]
    expect(isinstance(size, int), f"expected indices whose last dimension is known, got {indices}")
    assert isinstance(size, int)
    return size


def _tuple(k: KernelBuilder, indices: Value, at: Sequence[Any], x: Value, first: int) -> list[Value]:
    """The index tuple at `at`, of dimensions `first` and after of `x`."""
    size, dtype = _tuple_size(indices.tensor), indices.tensor.dtype
    return [_normal(k, k.read(indices, *at, i), x.tensor.dims[first + i], dtype) for i in range(size)]


class GatherND(TensorOp, name="shape.gather_nd"):
    """Every tuple along the last dimension of `indices` picks an element or a slice of `x`.

    The first `batch_dims` dimensions of x and indices run together; the tuples index the dimensions after them.
    Source: ONNX GatherND.
    """

    names = {"onnx": "GatherND"}

    x: Value
    indices: Value
    batch_dims: int = 0

    def infer(self) -> Sequence[Type]:
        x, indices, batch = self.x.tensor, self.indices.tensor, self.batch_dims
        _check_indices(self.indices)
        if x.shape is None or indices.shape is None:
            return [TensorType(x.dtype, None)]
        inner = batch + _tuple_size(indices)
        expect(inner <= x.rank, f"expected x of rank {inner} or more, got {x}")
        expect(batch < indices.rank, f"expected indices of rank {batch + 1} or more, got {indices}")
        agree = all(may_equal(a, b) for a, b in zip(x.dims[:batch], indices.dims[:batch], strict=True))
        expect(agree, f"expected {batch} leading dimensions that agree, got {x} and {indices}")
        return [TensorType(x.dtype, (*indices.dims[:-1], *x.dims[inner:]))]

    def kernel(self, k: KernelBuilder) -> None:
        (x, indices), (out,) = k.inputs, k.outputs
        outer = indices.tensor.rank - 1
        with k.map(_loops(out.tensor.dims)) as point:
            picked = _tuple(k, indices, point[:outer], x, self.batch_dims)
            k.write(k.read(x, *point[: self.batch_dims], *picked, *point[outer:]), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, indices = operands
        batch, depth = self.batch_dims, indices.shape[-1]
        grid: Sequence[Array] = np.ix_(*(np.arange(n) for n in indices.shape[:batch])) if batch else ()
        lead: list[Array] = [g.reshape(*g.shape, *[1] * (indices.ndim - 1 - batch)) for g in grid]
        result = x[(*lead, *(indices[..., i].astype(np.int64) for i in range(depth)))]
        return np.asarray(result).reshape([*indices.shape[:-1], *x.shape[batch + depth :]])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 4, 5), fresh("i64", 3, 2))
        yield cls(fresh("f32", 4, 5, 2), fresh("i64", 2, 3, 1))
        yield cls(fresh("f32", 3, 4, 5), fresh("i64", 3, 2), 1)
        yield cls(fresh("f32", 3, 4, 5), fresh("i32", 3, 2, 1), 1)
        yield cls(fresh("i64", 2, 3, 4), fresh("i64", 3))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Indices inside, of both signs."""
        return [_random(rng, self.x), _random_tuples(rng, self.indices, self.x.tensor.static_shape[self.batch_dims :])]


def _random_tuples(rng: np.random.Generator, indices: Value, sizes: Sequence[int]) -> Array:
    """Index tuples, all different where there are enough, of both signs."""
    shape = indices.tensor.static_shape
    depth, tuples = shape[-1], int(np.prod(shape[:-1]))
    room = int(np.prod(sizes[:depth]))
    flat = rng.permutation(room)[:tuples] if room >= tuples else rng.integers(0, room, tuples)
    found = np.stack(np.unravel_index(flat, sizes[:depth]), axis=-1) if depth else np.zeros((tuples, 0), np.int64)
    negative = rng.random(found.shape) < 0.3
    signed = np.where(negative, found - np.array(sizes[:depth]), found)
    return signed.reshape(shape).astype(DTYPES[indices.tensor.dtype].numpy)


class _Scatter(TensorOp):
    """Base: a copy of `x`, in which `updates` are put at places that `indices` say."""

    reductions: ClassVar[tuple[str, ...]] = ("none", "add", "mul", "max", "min")

    x: Value
    indices: Value
    updates: Value

    def check(self, reduction: str) -> None:
        """Raise `VerifyError` unless the types fit."""
        x, updates = self.x.tensor, self.updates.tensor
        _check_indices(self.indices)
        expect(x.dtype == updates.dtype, f"expected updates of {x.dtype}, got {updates.dtype}")
        expect(reduction in COMBINE, f"expected a reduction of {', '.join(COMBINE)}, got {reduction}")
        legal = reduction == "none" or DTYPES[x.dtype].kind in ("float", "int", "uint")
        expect(legal, f"expected numbers for reduction {reduction}, got {x.dtype}")

    def copy(self, k: KernelBuilder) -> None:
        """Write x to the result."""
        with k.map(_loops(k.outputs[0].tensor.dims)) as point:
            k.write(k.read(k.inputs[0], *point), k.outputs[0], *point)


class ScatterElements(_Scatter, name="shape.scatter_elements"):
    """Every update goes to its own coordinates, but to its index at dimension `axis`.

    `indices` and `updates` have one shape, of the rank of `x`. `reduction`: `none` (places must differ), or `add`,
    `mul`, `max`, `min` with what is there. Source: ONNX ScatterElements.
    """

    names = {"onnx": "ScatterElements"}

    axis: int = 0
    reduction: str = "none"

    def infer(self) -> Sequence[Type]:
        x, indices, updates = self.x.tensor, self.indices.tensor, self.updates.tensor
        self.check(self.reduction)
        if x.shape is not None and indices.shape is not None and updates.shape is not None:
            same = x.rank == indices.rank == updates.rank
            expect(same, f"expected indices and updates of rank {x.rank}, got {indices} and {updates}")
            expect(0 <= self.axis < x.rank, f"expected an axis of {x}, got {self.axis}")
            agree = all(may_equal(a, b) for a, b in zip(indices.dims, updates.dims, strict=True))
            for i, (d, n) in enumerate(zip(x.dims, indices.dims, strict=True)):
                fits = i == self.axis or isinstance(n, int) or may_equal(n, d)
                expect(fits, f"expected at most {d} indices in dimension {i}, got {n}")
            expect(agree, f"expected indices and updates of one shape, got {indices} and {updates}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        x, indices, updates = k.inputs
        self.copy(k)
        with k.map(_loops(updates.tensor.dims)) as point:
            index = _normal(k, k.read(indices, *point), x.tensor.dims[self.axis], indices.tensor.dtype)
            at = [*point[: self.axis], index, *point[self.axis + 1 :]]
            k.write(k.read(updates, *point), k.outputs[0], *at, combine=COMBINE[self.reduction])

    def reference(self, *operands: Any) -> Any:
        x, indices, updates = operands
        result = x.copy()
        size = x.shape[self.axis]
        index = indices.astype(np.int64)
        at: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
        at[self.axis] = np.where(index < 0, index + size, index)
        if self.reduction == "none":
            result[tuple(at)] = updates
        else:
            UFUNCS[self.reduction].at(result, tuple(at), updates)
        return result

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 4, 5), fresh("i64", 4, 5), fresh("f32", 4, 5), 0)
        yield cls(fresh("i64", 4, 5), fresh("i32", 2, 3), fresh("i64", 2, 3), 1)
        for reduction in cls.reductions[1:]:
            yield cls(fresh("f32", 3, 4), fresh("i64", 3, 6), fresh("f32", 3, 6), 1, reduction)
        yield cls(fresh("i32", 4), fresh("i64", 9), fresh("i32", 9), 0, "add")

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Indices that differ along the axis for `none`, any otherwise."""
        size, t = self.x.tensor.static_shape[self.axis], self.indices.tensor
        if self.reduction == "none":
            keys = rng.random([size if i == self.axis else n for i, n in enumerate(t.static_shape)])
            order = np.argsort(keys, self.axis)
            chosen = np.take(order, np.arange(t.static_shape[self.axis]), self.axis)
            indices = np.where(rng.random(chosen.shape) < 0.3, chosen - size, chosen).astype(DTYPES[t.dtype].numpy)
        else:
            indices = _random_indices(rng, self.indices, size)
        return [_random(rng, self.x), indices, _random(rng, self.updates)]


class ScatterND(_Scatter, name="shape.scatter_nd"):
    """Every tuple along the last dimension of `indices` says where an element or a slice of `updates` goes.

    `updates`: (indices' dimensions but the last..., x's dimensions after the indexed ones...). `reduction`: `none`
    (places must differ), or `add`, `mul`, `max`, `min` with what is there. Source: ONNX ScatterND.
    """

    names = {"onnx": "ScatterND"}

    reduction: str = "none"

    def infer(self) -> Sequence[Type]:
        x, indices, updates = self.x.tensor, self.indices.tensor, self.updates.tensor
        self.check(self.reduction)
        if x.shape is not None and indices.shape is not None and updates.shape is not None:
            if indices.rank:  # the ranks tell how long the tuples are
                may_equal(indices.dims[-1], x.rank + indices.rank - 1 - updates.rank)
            depth = _tuple_size(indices)
            expect(depth <= x.rank, f"expected x of rank {depth} or more, got {x}")
            want = (*indices.dims[:-1], *x.dims[depth:])
            agree = len(want) == updates.rank and all(may_equal(a, b) for a, b in zip(want, updates.dims, strict=True))
            expect(agree, f"expected updates of shape {list(want)}, got {updates}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        x, indices, updates = k.inputs
        self.copy(k)
        outer = indices.tensor.rank - 1
        with k.map(_loops(updates.tensor.dims)) as point:
            at = [*_tuple(k, indices, point[:outer], x, 0), *point[outer:]]
            k.write(k.read(updates, *point), k.outputs[0], *at, combine=COMBINE[self.reduction])

    def reference(self, *operands: Any) -> Any:
        x, indices, updates = operands
        result = x.copy()
        at = tuple(indices[..., i].astype(np.int64) for i in range(indices.shape[-1]))
        if self.reduction == "none":
            result[at] = updates
        else:
            UFUNCS[self.reduction].at(result, at, updates)
        return result

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 4, 5), fresh("i64", 3, 2), fresh("f32", 3))
        yield cls(fresh("f32", 4, 5), fresh("i64", 2, 1), fresh("f32", 2, 5))
        for reduction in cls.reductions[1:]:
            yield cls(fresh("f32", 3, 4), fresh("i64", 2, 3, 1), fresh("f32", 2, 3, 4), reduction)
        yield cls(fresh("i64", 3, 4), fresh("i32", 5, 2), fresh("i64", 5), "add")

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Index tuples that differ where there are enough."""
        indices = _random_tuples(rng, self.indices, self.x.tensor.static_shape)
        return [_random(rng, self.x), indices, _random(rng, self.updates)]
