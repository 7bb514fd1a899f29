"""Data movement: reshape, transpose, concatenate, slice, expand, pad, tile, iota, cumulative sum.

Gather and scatter stand in `indexing`; they are re-exported here, as they share the `shape.` prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim, as_expr, ceildiv, const, maximum, minimum, mod, product, symbol_ranges
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, broadcasts_to
from .base import TensorOp, broadcast_read, fresh
from .indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from .reshape import regroup
from .symbols import static
from .windows import convert, may_equal, zero

__all__ = [
    "Concat", "Expand", "Gather", "GatherElements", "GatherND", "Iota", "Pad", "Reshape", "ScatterElements",
    "ScatterND", "Slice", "Tile", "Transpose",
]  # fmt: skip


def _loops(dims: Sequence[Dim]) -> dict[str, Dim]:
    return {f"d{i}": d for i, d in enumerate(dims)}


def _at_least_zero(size: Expr) -> bool:
    """False where a size, such as `n - 4`, is one only by what is checked when the model runs."""
    if any(name.startswith("?") for name in size.symbols()):
        return True  # the verifier leaves all that relates such symbols to the checks
    low, _ = size.bounds(symbol_ranges(size))
    return low is not None and low >= 0


class Reshape(TensorOp, name="shape.reshape"):
    """The same elements in row-major order under another `shape`, which is complete (no -1, no 0 that copies).

    Any element type. Source: ONNX Reshape, Flatten, Squeeze, Unsqueeze.
    """

    x: Value
    shape: tuple[Dim, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is not None:
            want, have = as_expr(product(self.shape)), as_expr(x.elements)
            known = (want - have).constant
            expect(known is None or known == 0, f"expected a shape of {have} elements for {x}, got {list(self.shape)}")
        return [TensorType(x.dtype, tuple(self.shape))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        if 0 in (*x.tensor.dims, *out.tensor.dims):
            with k.map(_loops(out.tensor.dims)) as point:  # no point at all
                k.write(k.read(x, *[0] * x.tensor.rank, fill=zero(k, x.tensor.dtype)), out, *point)
            return
        loops, old, new = regroup(x.tensor.dims, out.tensor.dims)
        with k.map(loops) as symbols:
            names = dict(zip(loops, symbols, strict=True))
            # Sizes that are only said to be equal are equal, or the run ended before: the fill is never read.
            sure = as_expr(x.tensor.elements) == as_expr(out.tensor.elements)
            fill = None if sure else zero(k, x.tensor.dtype)
            value = k.read(x, *(e.substitute(names) for e in old), fill=fill)
            k.write(value, out, *(e.substitute(names) for e in new))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return x.reshape(static(self.shape, [self.x], [x]))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        pairs: list[tuple[tuple[Dim, ...], tuple[Dim, ...]]] = [
            ((2, 3, 4), (6, 4)),
            ((2, 3, 4), (2, 12)),
            ((6, 4), (2, 3, 4)),
            ((2, 12), (2, 3, 1, 4)),
            ((6, 4), (3, 8)),
            ((6, 4), (4, 6)),
            ((2, 6, 4, 5), (2, 4, 6, 5)),
            ((1, 2, 1, 3), (3, 2)),
            ((), (1, 1)),
            ((1,), ()),
            ((0, 3), (3, 0)),
            ((24,), (2, 3, 4)),
        ]
        for old, new in pairs:
            yield cls(fresh("f32", *old), new)
        for dtype in ("i64", "bool", "f16"):
            yield cls(fresh(dtype, 2, 6), (3, 4))


class Transpose(TensorOp, name="shape.transpose"):
    """Dimension i of the result is dimension `perm[i]` of `x`; any element type. Source: ONNX Transpose."""

    names = {"onnx": "Transpose"}

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        rank = len(self.perm) if x.shape is None else x.rank
        expect(sorted(self.perm) == list(range(rank)), f"expected a permutation of {rank} dimensions, got {self.perm}")
        return [TensorType(x.dtype, None if x.shape is None else tuple(x.dims[p] for p in self.perm))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            k.write(k.read(x, *(point[self.perm.index(d)] for d in range(len(point)))), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.ascontiguousarray(x.transpose(self.perm)).reshape([x.shape[p] for p in self.perm])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 5), (1, 0))
        yield cls(fresh("f32", 2, 3, 4), (0, 2, 1))
        yield cls(fresh("f32", 2, 3, 4, 5), (0, 2, 3, 1))
        yield cls(fresh("f32", 2, 3, 4), (2, 0, 1))
        yield cls(fresh("f32"), ())
        for dtype in ("i64", "u8", "f16", "bool"):
            yield cls(fresh(dtype, 2, 3, 4), (1, 2, 0))


class Concat(TensorOp, name="shape.concat"):
    """The operands one after the other along `axis`; the other dimensions agree; any element type.

    Source: ONNX Concat."""

    xs: tuple[Value, ...]
    axis: int

    def infer(self) -> Sequence[Type]:
        types = [x.tensor for x in self.xs]
        expect(len(types) > 0, "expected at least one operand")
        first = types[0]
        expect(all(t.dtype == first.dtype for t in types), f"expected one element type, got {[t.dtype for t in types]}")
        if any(t.shape is None for t in types):
            return [TensorType(first.dtype, None)]
        shown = ", ".join(map(str, types))
        expect(all(t.rank == first.rank for t in types), f"expected operands of one rank, got {shown}")
        expect(0 <= self.axis < first.rank, f"expected an axis of 0 to {first.rank - 1}, got {self.axis}")
        dims: list[Dim] = []
        for i, d in enumerate(first.dims):
            sizes = [t.dims[i] for t in types]
            if i == self.axis:
                dims.append(as_dim(sum((as_expr(s) for s in sizes), const(0))))
                continue
            known = next((s for s in sizes if isinstance(s, int)), d)
            expect(all(may_equal(s, known) for s in sizes), f"expected sizes that agree in dimension {i}, got {shown}")
            dims.append(known)
        return [TensorType(first.dtype, tuple(dims))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        offset = const(0)
        for x in k.inputs:
            pairs = list(zip(x.tensor.dims, out.tensor.dims, strict=True))
            sure = all(d == n for i, (d, n) in enumerate(pairs) if i != self.axis)  # else it is checked before
            dims = [d if i == self.axis else n for i, (d, n) in enumerate(pairs)]
            after = as_expr(out.tensor.dims[self.axis]) - offset - x.tensor.dims[self.axis]
            with k.map(_loops(dims)) as point:
                at = [p + offset if i == self.axis else p for i, p in enumerate(point)]
                value = k.read(x, *point, fill=None if sure else zero(k, x.tensor.dtype))
                # Sizes that could be below 0 were checked before: the mask is always true.
                mask = (
                    None if _at_least_zero(after) else k.lt(k.index(at[self.axis]), k.index(out.tensor.dims[self.axis]))
                )
                k.write(value, out, *at, mask=mask)
            offset = offset + x.tensor.dims[self.axis]

    def reference(self, *operands: Any) -> Any:
        return np.concatenate(operands, axis=self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls((fresh("f32", 2, 3), fresh("f32", 2, 1), fresh("f32", 2, 4)), 1)
        yield cls((fresh("f32", 1, 3, 2), fresh("f32", 2, 3, 2)), 0)
        yield cls((fresh("f32", 1, 3, 2, 2), fresh("f32", 1, 5, 2, 2)), 1)
        yield cls((fresh("f32", 3),), 0)
        for dtype in ("i64", "bool", "u8"):
            yield cls((fresh(dtype, 2), fresh(dtype, 0), fresh(dtype, 3)), 0)


class Slice(TensorOp, name="shape.slice"):
    """Elements `start, start + step, ...` before `stop` of each dimension; there is an entry for every dimension.

    Entries are normalised: for a positive step `0 <= start, stop <= size`; for a negative one `start < size` and
    `stop >= -1`, where -1 means "through the first element". Any element type. Source: ONNX Slice, Split.
    """

    x: Value
    starts: tuple[Dim, ...]
    stops: tuple[Dim, ...]
    steps: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is None:
            return [x]
        lengths = [len(self.starts), len(self.stops), len(self.steps)]
        expect(lengths == [x.rank] * 3, f"expected {x.rank} starts, stops and steps, got {lengths}")
        dims: list[Dim] = []
        for d, start, stop, step in zip(x.dims, self.starts, self.stops, self.steps, strict=True):
            expect(step != 0, "expected steps other than 0")
            if isinstance(d, int) and isinstance(start, int) and isinstance(stop, int):
                low, high = (0, d) if step > 0 else (-1, d - 1)
                inside = low <= start <= max(high, 0) and low <= stop <= max(high, 0)
                expect(inside, f"expected start and stop within {low} to {high} for size {d}, got {start} and {stop}")
            span = as_expr(stop) - start if step > 0 else as_expr(start) - stop
            size = as_dim(ceildiv(span, abs(step)))
            dims.append(max(size, 0) if isinstance(size, int) else size)
        return [TensorType(x.dtype, tuple(dims))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            at = [p * step + start for p, step, start in zip(point, self.steps, self.starts, strict=True)]
            k.write(k.read(x, *at), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        starts, stops = static(self.starts, [self.x], operands), static(self.stops, [self.x], operands)
        # NumPy reads a stop of -1 as "one before the end".
        ends = [None if stop < 0 else stop for stop in stops]
        return np.ascontiguousarray(x[tuple(map(slice, starts, ends, self.steps))]).reshape(
            [len(range(a, b, c)) for a, b, c in zip(starts, stops, self.steps, strict=True)]
        )

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 5, 6), (1, 0), (4, 6), (1, 1))
        yield cls(fresh("f32", 5, 6), (0, 1), (5, 6), (2, 3))
        yield cls(fresh("f32", 5, 6), (4, 5), (-1, 0), (-1, -2))
        yield cls(fresh("f32", 2, 6, 3), (0, 2, 0), (2, 4, 3), (1, 1, 1))
        yield cls(fresh("f32", 4), (2,), (2,), (1,))
        for dtype in ("i64", "bool", "f16"):
            yield cls(fresh(dtype, 7), (6,), (1,), (-2,))


class Expand(TensorOp, name="shape.expand"):
    """`x` broadcast to `shape`, which is the complete shape of the result. Any element type. Source: ONNX Expand."""

    x: Value
    shape: tuple[Dim, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is not None:
            fits = broadcasts_to(x.dims, self.shape)
            expect(fits, f"expected a shape that {x} broadcasts to, got {list(self.shape)}")
        return [TensorType(x.dtype, tuple(self.shape))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            k.write(broadcast_read(k, x, point, out.tensor.dims), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.broadcast_to(x, static(self.shape, [self.x], [x])).copy()

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 1), (2, 3, 4))
        yield cls(fresh("f32"), (2, 3))
        yield cls(fresh("f32", 2, 3), (2, 3))
        for dtype in ("i64", "bool"):
            yield cls(fresh(dtype, 1), (0, 4))


class Pad(TensorOp, name="shape.pad"):
    """`x` with elements added around it: `pads` are (before, after) of each dimension; negative ones cut off.

    `mode`: `constant` (`value`, of rank 0; absent: 0), `edge` (the outermost element), `reflect` (mirrored, without
    the outermost element again), `wrap` (periodic); the last three take no negative pads. Any element type.
    Source: ONNX Pad.
    """

    x: Value
    value: Value | None
    pads: tuple[tuple[Dim, Dim], ...]
    mode: str = "constant"

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        modes = ("constant", "edge", "reflect", "wrap")
        expect(self.mode in modes, f"expected a mode of {', '.join(modes)}, got {self.mode}")
        if self.value is not None:
            fits = self.value.tensor.dtype == x.dtype and self.value.tensor.shape in (None, ())
            expect(fits, f"expected a value of type {x.dtype}[], got {self.value.type}")
        if x.shape is None:
            return [x]
        expect(len(self.pads) == x.rank, f"expected {x.rank} pairs of pads, got {len(self.pads)}")
        for d, pair in zip(x.dims, self.pads, strict=True):
            for p in pair if self.mode != "constant" else ():
                most = d - 1 if self.mode == "reflect" and isinstance(d, int) else None
                fits = not isinstance(p, int) or (p >= 0 and (most is None or p <= most))
                limit = "at least 0" if most is None else f"0 to {most}"
                expect(fits, f"expected pads of {limit} for mode {self.mode}, got {p}")
        dims = [as_dim(as_expr(d) + before + after) for d, (before, after) in zip(x.dims, self.pads, strict=True)]
        expect(all(not isinstance(d, int) or d >= 0 for d in dims), f"expected pads that leave a size, got {self.pads}")
        return [TensorType(x.dtype, tuple(dims))]

    def kernel(self, k: KernelBuilder) -> None:
        x, (out,) = k.inputs[0], k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            if self.mode == "constant":
                fill = zero(k, x.tensor.dtype) if self.value is None else k.read(k.inputs[1])
                at = [p - before for p, (before, _) in zip(point, self.pads, strict=True)]
                k.write(k.read(x, *at, fill=fill if any(map(any, self.pads)) else None), out, *point)
            else:
                axes = zip(point, x.tensor.dims, self.pads, strict=True)
                at = [self._inside(p - pads[0], d, pads) for p, d, pads in axes]
                k.write(k.read(x, *at), out, *point)

    def _inside(self, p: Expr, d: Dim, pads: tuple[Dim, Dim]) -> Expr:
        """The coordinate whose element stands at `p`, which may be outside of a dimension of size `d`."""
        before, after = pads
        if self.mode == "wrap":
            return mod(p, d) if before != 0 or after != 0 else p
        if self.mode == "reflect":
            p = maximum(p, -p) if before != 0 else p
            p = minimum(p, 2 * (as_expr(d) - 1) - p) if after != 0 else p
            if all(isinstance(n, int) for n in (d, before, after)):
                return p
            before, after = 1, 1  # pads that reach no further than the data are only checked when the model runs
        p = maximum(p, 0) if before != 0 else p
        return minimum(p, as_expr(d) - 1) if after != 0 else p

    def reference(self, *operands: Any) -> Any:
        x, value = operands
        flat = static([p for pair in self.pads for p in pair], [self.x], [x])
        pads = list(zip(flat[::2], flat[1::2], strict=True))
        cut = x[tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape, pads, strict=True))]
        grow = [(max(0, a), max(0, b)) for a, b in pads]
        if self.mode == "constant":
            return np.pad(cut, grow, constant_values=x.dtype.type(0) if value is None else value)
        return np.pad(cut, grow, mode=cast("Any", self.mode))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 4), None, ((1, 2), (0, 1)))
        yield cls(fresh("f32", 3, 4), fresh("f32"), ((0, 0), (2, 0)))
        yield cls(fresh("f32", 3, 4), fresh("f32"), ((-1, 1), (2, -2)))
        yield cls(fresh("f32", 3, 4), None, ((0, 0), (0, 0)))
        for mode in ("edge", "reflect", "wrap"):
            yield cls(fresh("f32", 2, 4, 5), None, ((0, 0), (2, 3), (1, 0)), mode)
        for dtype in ("i64", "u8", "bool", "f16"):
            yield cls(fresh(dtype, 3), fresh(dtype), ((1, 2),))


class Tile(TensorOp, name="shape.tile"):
    """`x` repeated `repeats[i]` times along dimension i. Any element type. Source: ONNX Tile."""

    x: Value
    repeats: tuple[Dim, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is None:
            return [x]
        expect(len(self.repeats) == x.rank, f"expected {x.rank} repeats, got {len(self.repeats)}")
        return [TensorType(x.dtype, tuple(product(p) for p in zip(x.dims, self.repeats, strict=True)))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        loops: dict[str, Dim] = {}
        for i, (d, times) in enumerate(zip(x.tensor.dims, self.repeats, strict=True)):
            loops.update({f"r{i}": times} if times != 1 else {})
            loops[f"d{i}"] = d
        with k.map(loops) as symbols:
            at = dict(zip(loops, symbols, strict=True))
            inner = [at[f"d{i}"] for i in range(x.tensor.rank)]
            axes = enumerate(zip(x.tensor.dims, inner, strict=True))
            outer = [at.get(f"r{i}", const(0)) * d + p for i, (d, p) in axes]
            k.write(k.read(x, *inner), out, *outer)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.tile(x, static(self.repeats, [self.x], [x]))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 2, 3), (2, 1))
        yield cls(fresh("f32", 2, 3), (1, 1))
        yield cls(fresh("i64", 2, 1, 3), (3, 2, 2))
        yield cls(fresh("bool", 3), (0,))


class Iota(TensorOp, name="shape.iota"):
    """A tensor of `shape` and `dtype` (numbers) whose elements are their coordinate along `axis`.

    Source: ONNX Range (times a step, plus a start), masks, one-hot."""

    shape: tuple[Dim, ...]
    axis: int
    dtype: str

    def infer(self) -> Sequence[Type]:
        expect(self.dtype in DTYPES and self.dtype != "string", f"expected an element type, got {self.dtype}")
        expect(0 <= self.axis < len(self.shape), f"expected an axis of {list(self.shape)}, got {self.axis}")
        return [TensorType(self.dtype, tuple(self.shape))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            k.write(convert(k, k.index(point[self.axis]), self.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        shape = static(self.shape)
        numbers: Array = np.arange(shape[self.axis]).astype(DTYPES[self.dtype].numpy)
        return np.broadcast_to(numbers.reshape([-1 if i == self.axis else 1 for i in range(len(shape))]), shape).copy()

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls((5,), 0, "i64")
        yield cls((2, 3, 4), 1, "i32")
        for dtype in ("f32", "f16", "u8"):
            yield cls((3, 4), 1, dtype)
