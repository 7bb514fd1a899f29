"""Convolution over any number of spatial dimensions, N C spatial; plain, strided, dilated, grouped, depthwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim, as_expr, floordiv
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, TensorType, Type
from .base import TensorOp, fresh
from .windows import (
    Windows,
    accumulate_dtype,
    check_bias,
    convert,
    count,
    exact_matmul,
    extents,
    may_equal,
    product_dtype,
    spatial_names,
    window_names,
    zero,
)

Point = dict[str, Expr]
XChannel = Callable[[Point, Expr], Expr]  # parallel point and summed channel -> channel of x
OChannel = Callable[[Point], Expr]  # parallel point -> channel of the result


class Conv(TensorOp, name="nn.conv"):
    """Cross-correlation: `y[n,o,h,w] = bias[o] + sum of x[n,c,h*s+i*d-p,w*s+j*d-p] * w[o,c,i,j]` over c, i and j.

    `x`: (N, C, spatial...), `w`: (O, C/groups, window...), `bias`: (O) or absent. Outside of `x` there are zeros.
    `pads` has (before, after) for each spatial dimension. Floats (f16 and bf16 are summed in f32), or integers:
    x and w of 8 bits or less give i32. Source: ONNX Conv, ConvInteger without zero points.
    """

    x: Value
    w: Value
    bias: Value | None
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    groups: int = 1

    @property
    def windows(self) -> Windows:
        """The windows that slide over x."""
        return Windows(self.w.tensor.dims[2:], self.strides, self.pads, self.dilations)

    def infer(self) -> Sequence[Type]:
        x, w = self.x.tensor, self.w.tensor
        dtype = product_dtype(x.dtype, w.dtype)
        if x.shape is None or w.shape is None:
            return [TensorType(dtype, None)]
        expect(x.rank >= 3 and w.rank == x.rank, f"expected x and w of one rank, at least 3, got {x} and {w}")
        self.windows.check(x.rank - 2)
        channels = as_dim(as_expr(w.dims[1]) * self.groups)
        expect(may_equal(channels, x.dims[1]), f"expected x with {channels} channels for w {w}, got {x}")
        outputs = w.dims[0]
        expect(not isinstance(outputs, int) or outputs % self.groups == 0, f"expected {outputs} % {self.groups} == 0")
        check_bias(self.bias, outputs, dtype)
        return [TensorType(dtype, (x.dims[0], outputs, *self.windows.results(x.dims[2:])))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        n, outputs, *space = out.tensor.dims
        names = spatial_names(len(space))
        dims, channels, x_channel, o_channel = self._channels(outputs)
        with k.map({"n": n, **dims, **dict(zip(names, space, strict=True))}) as symbols:
            point = dict(zip(["n", *dims, *names], symbols, strict=True))
            value = self._sum(k, point, channels, x_channel, o_channel)
            if self.bias is not None:
                bias = k.read(k.inputs[2], o_channel(point))
                value = k.add(value, convert(k, bias, accumulate_dtype(out.tensor.dtype)))
            at = [point["n"], o_channel(point), *(point[s] for s in names)]
            k.write(convert(k, value, out.tensor.dtype), out, *at)

    def _channels(self, outputs: Dim) -> tuple[dict[str, Dim], Dim, XChannel, OChannel]:
        """Parallel channel dimensions, the extent of the channel sum, and maps to channels of x and of the result."""
        groups, inside = self.groups, self.w.tensor.dims[1]
        per_group = as_dim(floordiv(outputs, groups))
        if groups == 1:
            return {"o": outputs}, inside, lambda p, c: c, lambda p: p["o"]
        if inside == 1:  # depthwise: no dimension for the group, every output channel has its one input channel
            return {"o": outputs}, 1, lambda p, c: floordiv(p["o"], per_group), lambda p: p["o"]
        x_channel: XChannel = lambda p, c: p["g"] * inside + c  # noqa: E731
        return {"g": groups, "o": per_group}, inside, x_channel, lambda p: p["g"] * per_group + p["o"]

    def _sum(self, k: KernelBuilder, point: Point, channels: Dim, x_channel: XChannel, o_channel: OChannel) -> Value:
        x, w = k.inputs[:2]
        windows = self.windows
        names = window_names(windows.rank)
        acc = accumulate_dtype(k.outputs[0].tensor.dtype)
        loops, fixed = extents({"c": channels, **dict(zip(names, windows.size, strict=True))})

        def product(taps: Point) -> Value:
            space = windows.coordinates([point[s] for s in spatial_names(windows.rank)], [taps[t] for t in names])
            fill = zero(k, x.tensor.dtype) if windows.leaves(x.tensor.dims[2:]) else None
            a = k.read(x, point["n"], x_channel(point, taps["c"]), *space, fill=fill)
            b = k.read(w, o_channel(point), taps["c"], *(taps[t] for t in names))
            return k.mul(convert(k, a, acc), convert(k, b, acc))

        if not loops:
            return product(fixed)
        with k.reduce(loops, init=[zero(k, acc)]) as r:
            r.yield_(product({**fixed, **dict(zip(loops, r.dims, strict=True))}))
        return r.result

    def reference(self, *operands: Any) -> Any:
        x, w, bias = operands
        dtype = DTYPES[product_dtype(self.x.tensor.dtype, self.w.tensor.dtype)].numpy
        acc = DTYPES[accumulate_dtype(self.result.tensor.dtype)].numpy
        x, w, groups = x.astype(acc, copy=False), w.astype(acc, copy=False), self.groups
        windows = Windows(w.shape[2:], self.strides, self.pads, self.dilations)
        view = windows.view(x, 0)
        rank, (n, c), outputs = windows.rank, x.shape[:2], w.shape[0]
        space = view.shape[2 : 2 + rank]
        order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
        columns = view.transpose(order).reshape(n, groups, c // groups * count(w.shape[2:]), count(space))
        y = exact_matmul(w.reshape(1, groups, outputs // groups, columns.shape[2]), columns)
        y = y.reshape(n, outputs, *space)
        if bias is not None:
            y = y + bias.astype(acc).reshape(-1, *[1] * rank)
        return y.astype(dtype, copy=False)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        def conv(
            x: Sequence[Dim], w: Sequence[Dim], strides: Any = (1, 1), pads: Any = ((0, 0), (0, 0)),
            dilations: Any = (1, 1), groups: int = 1, bias: bool = True, dtype: str = "f32", wtype: str = "",
        ) -> Self:  # fmt: skip
            result = product_dtype(dtype, wtype or dtype)
            b = fresh(result, w[0]) if bias else None
            return cls(fresh(dtype, *x), fresh(wtype or dtype, *w), b, strides, pads, dilations, groups)

        same = ((1, 1), (1, 1))
        yield conv((1, 3, 5, 6), (4, 3, 3, 3), pads=same)
        yield conv((2, 3, 7, 7), (4, 3, 3, 3), strides=(2, 2), pads=((1, 0), (0, 2)), bias=False)
        yield conv((1, 8, 4, 5), (6, 8, 1, 1))
        yield conv((1, 8, 5, 5), (6, 8, 1, 1), strides=(2, 2))
        yield conv((1, 2, 9, 8), (3, 2, 3, 2), dilations=(2, 3), strides=(1, 2), pads=((2, 2), (0, 1)))
        yield conv((1, 4, 6, 6), (4, 1, 3, 3), pads=same, groups=4)
        yield conv((1, 3, 6, 6), (6, 1, 3, 3), pads=same, groups=3, strides=(2, 1))
        yield conv((2, 6, 5, 5), (4, 3, 3, 3), pads=same, groups=2)
        yield conv((1, 4, 3, 3), (4, 1, 1, 1), groups=4)
        yield conv((1, 4, 4, 4), (2, 4, 4, 4))
        yield conv((2, 3, 11), (4, 3, 5), (2,), ((2, 1),), (1,))
        yield conv((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), (1, 2, 1), ((0, 1), (1, 1), (1, 1)), (1, 1, 2))
        for dtype in ("f64", "f16", "bf16", "i32"):
            yield conv((1, 3, 5, 5), (2, 3, 3, 3), pads=same, dtype=dtype)
        yield conv((1, 3, 5, 5), (2, 3, 3, 3), pads=same, dtype="u8", wtype="i8")
        yield conv((1, 3, 5, 5), (2, 3, 3, 3), dtype="i8")
