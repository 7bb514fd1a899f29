"""Sampling between the elements of a picture, at places that are data: what deformable convolutions read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Expr, as_expr, floordiv, minimum
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import accumulate_dtype, convert, may_equal

__all__ = ["DeformSample"]


class DeformSample(TensorOp, name="nn.deform_sample"):
    """The elements that each place of a window sees: `x` [n, c, h, w] at its own coordinates, moved by `offset`,
    between elements by bilinear interpolation, outside of the picture 0, times `mask`: [n, c, kernel..., oh, ow].

    `offset` is [n, 2 * groups * kernel..., oh, ow] (down, right), `mask` [n, groups * kernel..., oh, ow]; channels are
    in `groups` of equal size. `pads` are those before. Source: ONNX DeformConv."""

    x: Value
    offset: Value
    mask: Value | None
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    def infer(self) -> Sequence[Type]:
        x, offset = self.x.tensor, self.offset.tensor
        expect(is_float(x.dtype) and x.dtype == offset.dtype, f"expected floats of one type, got {x} and {offset}")
        if x.shape is None or offset.shape is None:
            return [TensorType(x.dtype, None)]
        expect(x.rank == offset.rank == 4, f"expected x and offset of rank 4, got {x} and {offset}")
        taps = self.groups * self.window[0] * self.window[1]
        fits = may_equal(offset.dims[1], 2 * taps) and may_equal(offset.dims[0], x.dims[0])
        expect(fits, f"expected an offset of shape [{x.dims[0]},{2 * taps},...], got {offset}")
        channels = x.dims[1]
        expect(
            not isinstance(channels, int) or channels % self.groups == 0,
            f"expected a multiple of {self.groups} channels, got {x}",
        )
        if self.mask is not None and self.mask.tensor.shape is not None:
            mask = self.mask.tensor
            want = (x.dims[0], taps, *offset.dims[2:])
            agree = mask.rank == 4 and all(may_equal(a, b) for a, b in zip(mask.dims, want, strict=True))
            expect(agree and mask.dtype == x.dtype, f"expected a mask of shape {list(want)}, got {mask}")
        return [TensorType(x.dtype, (*x.dims[:2], *self.window, *offset.dims[2:]))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        x, offset, *mask = k.inputs
        dtype = accumulate_dtype(x.tensor.dtype)
        n, c, h, w = out.tensor.dims[0], out.tensor.dims[1], out.tensor.dims[4], out.tensor.dims[5]
        each = floordiv(as_expr(c), self.groups)
        with k.map(n=n, c=c, i=self.window[0], j=self.window[1], y=h, x=w) as (b, channel, i, j, y, z):
            group = floordiv(channel, each)
            if not isinstance(c, int):  # a number of channels that does not fit must not lead outside
                group = minimum(group, self.groups - 1)
            tap = (group * self.window[0] + i) * self.window[1] + j
            corners = [
                self._place(k, offset, dtype, (b, tap * 2 + d, y, z), point, x.tensor.dims[2 + d])
                for d, point in enumerate((self._start(0, y, i), self._start(1, z, j)))
            ]
            total = k.const(0.0, dtype)
            for row, down, seen in corners[0]:
                for column, right, here in corners[1]:
                    value = convert(k, k.read(x, b, channel, row, column), dtype)
                    value = k.select(k.apply("and", seen, here), value, k.const(0.0, dtype))
                    total = k.add(total, k.mul(value, k.mul(down, right)))
            if mask:
                total = k.mul(total, convert(k, k.read(mask[0], b, tap, y, z), dtype))
            k.write(convert(k, total, x.tensor.dtype), out, b, channel, i, j, y, z)

    def _start(self, d: int, at: Expr, tap: Expr) -> Expr:
        return at * self.strides[d] + tap * self.dilations[d] - self.pads[d]

    def _place(
        self, k: KernelBuilder, offset: Value, dtype: str, at: Sequence[Expr], start: Expr, size: Any
    ) -> list[tuple[Value, Value, Value]]:
        """The two neighbours along one dimension: coordinate (inside), weight, whether it was inside."""
        moved = k.add(convert(k, k.read(offset, *at), dtype), k.cast(k.index(start), dtype))
        low = k.apply("floor", moved)
        part = k.sub(moved, low)
        zero, end = k.const(0, "i64"), k.index(as_expr(size))
        found: list[tuple[Value, Value, Value]] = []
        first = k.cast(low, "i64")
        for step, weight in ((0, k.sub(k.const(1.0, dtype), part)), (1, part)):
            # Far away is far away: a saturated coordinate does not wrap.
            place = k.add(k.min(k.max(first, k.const(-2, "i64")), end), k.const(step, "i64"))
            inside = k.apply("and", k.ge(place, zero), k.lt(place, end))
            safe = k.max(k.min(place, k.sub(end, k.const(1, "i64"))), zero)
            found.append((safe, weight, inside))
        return found

    def reference(self, *operands: Any) -> Any:
        x, offset, mask = operands
        n, channels, *size = x.shape
        height, width = offset.shape[2:]
        wide = x.astype(np.float64)
        out = np.zeros((n, channels, *self.window, height, width))
        moved = offset.astype(np.float64).reshape(n, self.groups, *self.window, 2, height, width)
        moved = np.repeat(moved, channels // self.groups, axis=1)
        grid = np.ogrid[tuple(slice(s) for s in out.shape)]
        at = [
            moved[..., d, :, :] + grid[4 + d] * self.strides[d] + grid[2 + d] * self.dilations[d] - self.pads[d]
            for d in range(2)
        ]
        low = [np.floor(a) for a in at]
        for down in (0, 1):
            for right in (0, 1):
                place = [(base + step).astype(np.int64) for base, step in zip(low, (down, right), strict=True)]
                weight = np.prod([1 - np.abs(a - p) for a, p in zip(at, place, strict=True)], axis=0)
                inside = np.all([(p >= 0) & (p < s) for p, s in zip(place, size, strict=True)], axis=0)
                safe = [np.clip(p, 0, s - 1) for p, s in zip(place, size, strict=True)]
                out += np.where(inside, wide[grid[0], grid[1], safe[0], safe[1]], 0) * weight
        if mask is not None:
            factors = mask.astype(np.float64).reshape(n, self.groups, *self.window, height, width)
            out *= np.repeat(factors, channels // self.groups, axis=1)
        return out.astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 1, 2, 4, 5), fresh("f32", 1, 8, 3, 4), None, (2, 2))
        yield cls(
            fresh("f32", 2, 4, 5, 5), fresh("f32", 2, 36, 3, 3), fresh("f32", 2, 18, 3, 3), (3, 3), (2, 2), (1, 1),
            (1, 1), 2,
        )  # fmt: skip
        yield cls(fresh("f64", 1, 1, 6, 6), fresh("f64", 1, 8, 4, 4), None, (2, 2), (1, 1), (0, 0), (2, 2))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Offsets that leave the picture here and there."""
        shapes = [v.tensor.static_shape for v in self.inputs]
        arrays = [rng.standard_normal(s) * (1.5 if i == 1 else 1) for i, s in enumerate(shapes)]
        return [a.astype(DTYPES[self.x.tensor.dtype].numpy) for a in arrays]
