"""Transposed convolution over any number of spatial dimensions, N C spatial."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim, as_expr, ceildiv, const, floordiv, mod
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import (
    Windows,
    accumulate_dtype,
    check_bias,
    convert,
    count,
    extents,
    may_equal,
    product_dtype,
    spatial_names,
    window_names,
    zero,
)

MAX_PHASES = 16  # stages that a kernel is split into, at most


class ConvTranspose(TensorOp, name="nn.conv_transpose"):
    """Transposed convolution: every element of `x` adds `x * w` to the window of the result that it stands for.

    `x`: (N, C, spatial...), `w`: (C, O/groups, window...), `bias`: (O) or absent. The result has
    `(size-1)*stride + (window-1)*dilation + 1 - before - after + output_pad` elements along each dimension.
    Floats; f16 and bf16 are summed in f32. Source: ONNX ConvTranspose.
    """

    names = {"onnx": "ConvTranspose"}

    x: Value
    w: Value
    bias: Value | None
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    groups: int
    output_pads: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        x, w = self.x.tensor, self.w.tensor
        dtype = product_dtype(x.dtype, w.dtype)
        expect(is_float(dtype), f"expected floats, got {dtype}")
        if x.shape is None or w.shape is None:
            return [TensorType(dtype, None)]
        expect(x.rank >= 3 and w.rank == x.rank, f"expected x and w of one rank, at least 3, got {x} and {w}")
        Windows(w.dims[2:], self.strides, self.pads, self.dilations).check(x.rank - 2)
        expect(may_equal(w.dims[0], x.dims[1]), f"expected x with {w.dims[0]} channels for w {w}, got {x}")
        outputs = as_dim(as_expr(w.dims[1]) * self.groups)
        check_bias(self.bias, outputs, dtype)
        space = [self._size(i, d) for i, d in enumerate(x.dims[2:])]
        return [TensorType(dtype, (x.dims[0], outputs, *space))]

    def _size(self, i: int, d: Dim) -> Dim:
        span = (as_expr(self.w.tensor.dims[2 + i]) - 1) * self.dilations[i] + 1
        return as_dim((as_expr(d) - 1) * self.strides[i] + span - sum(self.pads[i]) + self.output_pads[i])

    def kernel(self, k: KernelBuilder) -> None:
        """One stage for each phase (result coordinate modulo stride), in which all maps are linear; a single stage
        with a test for divisibility when there would be too many phases."""
        if int(np.prod(self.strides)) > MAX_PHASES or not all(isinstance(d, int) for d in self.w.tensor.dims[2:]):
            self._stage(k, [_Whole(self, i) for i in range(len(self.strides))])
            return
        for remainders in itertools.product(*(range(s) for s in self.strides)):
            self._stage(k, [_Phase(self, i, r) for i, r in enumerate(remainders)])

    def _stage(self, k: KernelBuilder, axes: Sequence[_Axis]) -> None:
        (out,) = k.outputs
        names = spatial_names(len(axes))
        each, acc = self.w.tensor.dims[1], accumulate_dtype(out.tensor.dtype)
        groups: dict[str, Dim] = {"g": self.groups} if self.groups > 1 else {}
        space = {name: axis.extent for name, axis in zip(names, axes, strict=True)}
        dims = {"n": out.tensor.dims[0], **groups, "o": each, **space}
        if any(d == 0 for d in space.values()):
            return
        with k.map(dims) as symbols:
            point = {"g": const(0), **dict(zip(dims, symbols, strict=True))}
            at = [axis.result(point[name]) for name, axis in zip(names, axes, strict=True)]
            value = self._sum(k, point, [point[name] for name in names], axes)
            channel = point["g"] * each + point["o"]
            if self.bias is not None:
                value = k.add(value, convert(k, k.read(k.inputs[2], channel), acc))
            k.write(convert(k, value, out.tensor.dtype), out, point["n"], channel, *at)

    def _sum(self, k: KernelBuilder, point: dict[str, Expr], space: Sequence[Expr], axes: Sequence[_Axis]) -> Value:
        x, w = k.inputs[:2]
        acc = accumulate_dtype(x.tensor.dtype)
        if any(axis.taps == 0 for axis in axes):
            return zero(k, acc)
        names = window_names(len(axes))
        inside = as_dim(floordiv(w.tensor.dims[0], self.groups))
        loops, fixed = extents({"c": inside, **{t: axis.taps for t, axis in zip(names, axes, strict=True)}})

        def product(taps: dict[str, Expr]) -> Value:
            channel = point["g"] * inside + taps["c"]
            pairs = [(p, taps[t], axis) for p, t, axis in zip(space, names, axes, strict=True)]
            at = [axis.source(p, t) for p, t, axis in pairs]
            a = convert(k, k.read(x, point["n"], channel, *at, fill=zero(k, x.tensor.dtype)), acc)
            for p, t, axis in pairs:
                remainder = axis.remainder(p, t)
                if remainder != 0:
                    a = k.select(k.eq(k.index(remainder), k.const(0, "i64")), a, zero(k, acc))
            b = k.read(w, channel, point["o"], *(axis.tap(t) for _, t, axis in pairs))
            return k.mul(a, convert(k, b, acc))

        if not loops:
            return product(fixed)
        with k.reduce(loops, init=[zero(k, acc)]) as r:
            r.yield_(product({**fixed, **dict(zip(loops, r.dims, strict=True))}))
        return r.result

    def reference(self, *operands: Any) -> Any:
        x, w, bias = operands
        dtype = x.dtype
        acc = DTYPES[accumulate_dtype(self.x.tensor.dtype)].numpy
        x, w, groups = x.astype(acc, copy=False), w.astype(acc, copy=False), self.groups
        n, c, *space = x.shape
        window, each = w.shape[2:], w.shape[1]
        weight = w.reshape(groups, c // groups, each * count(window)).transpose(0, 2, 1)
        columns = np.matmul(weight[None], x.reshape(n, groups, c // groups, -1))
        columns = columns.reshape(n, groups * each, *window, *space)
        axes = list(zip(space, window, self.strides, self.dilations, self.output_pads, strict=True))
        full = np.zeros((n, groups * each, *((d - 1) * s + (m - 1) * dl + 1 + o for d, m, s, dl, o in axes)), acc)
        for tap in np.ndindex(*window):  # window positions, not elements
            at = [slice(t * dl, t * dl + (d - 1) * s + 1, s) for t, (d, _, s, dl, _) in zip(tap, axes, strict=True)]
            full[(slice(None), slice(None), *at)] += columns[(slice(None), slice(None), *tap)]
        crop = [slice(before, z - after) for (before, after), z in zip(self.pads, full.shape[2:], strict=True)]
        y = full[(slice(None), slice(None), *crop)]
        if bias is not None:
            y = y + bias.astype(acc).reshape(-1, *[1] * len(space))
        return np.ascontiguousarray(y.astype(dtype))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        def conv(
            x: Sequence[Dim], w: Sequence[Dim], strides: Any = (1, 1), pads: Any = ((0, 0), (0, 0)),
            dilations: Any = (1, 1), groups: int = 1, output_pads: Any = (0, 0), bias: bool = True, dtype: str = "f32",
        ) -> Self:  # fmt: skip
            b = fresh(dtype, as_dim(as_expr(w[1]) * groups)) if bias else None
            return cls(fresh(dtype, *x), fresh(dtype, *w), b, strides, pads, dilations, groups, output_pads)

        yield conv((1, 3, 4, 5), (3, 2, 3, 3))
        yield conv((2, 3, 4, 4), (3, 2, 3, 3), strides=(2, 2), pads=((1, 1), (0, 1)), output_pads=(1, 0), bias=False)
        yield conv((1, 2, 3, 3), (2, 3, 2, 2), strides=(2, 3))
        yield conv((1, 2, 3, 3), (2, 3, 1, 1), strides=(2, 2))
        yield conv((1, 2, 4, 4), (2, 2, 3, 2), strides=(3, 2), dilations=(2, 2), pads=((1, 0), (1, 1)))
        yield conv((1, 4, 3, 4), (4, 2, 3, 3), strides=(2, 1), groups=2)
        yield conv((1, 3, 3, 4), (3, 1, 2, 2), strides=(2, 2), groups=3)
        yield conv((1, 2, 3, 2), (2, 1, 5, 5), strides=(5, 5), pads=((1, 0), (0, 0)))
        yield conv((2, 3, 6), (3, 2, 4), (2,), ((1, 1),), (1,), output_pads=(0,))
        yield conv((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), (2, 1, 2), ((0, 0), (1, 0), (1, 1)), (1,) * 3, 1, (0, 0, 1))
        for dtype in ("f64", "f16", "bf16"):
            yield conv((1, 2, 3, 3), (2, 2, 3, 3), strides=(2, 2), dtype=dtype)


class _Axis:
    """How one spatial dimension is walked: `extent` of the loop over results, number of `taps` of the sum."""

    extent: Dim
    taps: Dim

    def result(self, p: Expr) -> Expr:
        """Coordinate of the result at loop index `p`."""
        raise NotImplementedError

    def source(self, p: Expr, t: Expr) -> Expr:
        """Coordinate of x at loop index `p` and tap `t`."""
        raise NotImplementedError

    def tap(self, t: Expr) -> Expr:
        """Coordinate of w at tap `t`."""
        raise NotImplementedError

    def remainder(self, p: Expr, t: Expr) -> Expr:
        """Not 0 where x has no element for `p` and `t`, as it lies between two."""
        return const(0)


class _Phase(_Axis):
    """Result coordinates `p * stride + r`: only every `step`-th tap falls on an element of x."""

    def __init__(self, op: ConvTranspose, i: int, r: int) -> None:
        self.stride, dilation, before = op.strides[i], op.dilations[i], op.pads[i][0]
        window = op.w.tensor.dims[2 + i]
        assert isinstance(window, int)
        self.step = self.stride // math.gcd(dilation, self.stride)
        hits = [t for t in range(window) if (r + before - t * dilation) % self.stride == 0]
        self.r, self.first, self.taps = r, hits[0] if hits else 0, len(hits)
        self.base = (r + before - self.first * dilation) // self.stride
        self.back = self.step * dilation // self.stride
        self.extent = as_dim(ceildiv(as_expr(op.result.tensor.dims[2 + i]) - r, self.stride))

    def result(self, p: Expr) -> Expr:
        return p * self.stride + self.r

    def source(self, p: Expr, t: Expr) -> Expr:
        return p + self.base - t * self.back

    def tap(self, t: Expr) -> Expr:
        return t * self.step + self.first


class _Whole(_Axis):
    """All result coordinates in one loop, all taps, and a remainder that says which count."""

    def __init__(self, op: ConvTranspose, i: int) -> None:
        self.stride, self.dilation, self.before = op.strides[i], op.dilations[i], op.pads[i][0]
        self.extent, self.taps = op.result.tensor.dims[2 + i], op.w.tensor.dims[2 + i]

    def result(self, p: Expr) -> Expr:
        return p

    def source(self, p: Expr, t: Expr) -> Expr:
        return floordiv(p + self.before - t * self.dilation, self.stride)

    def tap(self, t: Expr) -> Expr:
        return t

    def remainder(self, p: Expr, t: Expr) -> Expr:
        return mod(p + self.before - t * self.dilation, self.stride)
