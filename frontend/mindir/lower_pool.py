"""Lowerings of MindIR's pooling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr, product
from .lower_common import constant, floating, known, rank
from .lower_conv import channels_first, channels_last, is_channels_last, paddings, spatial
from .primitive import Call, Datum, Item, primitive

_OWN_NUMBERS = {3: "i32", 4: "i64"}
"""Element types of places as MaxPoolWithArgmaxV2 has them, besides MindSpore's usual numbers."""


class _Windows:
    """The windows of a pooling primitive: sizes, strides, dilations, paddings as ONNX has them (`auto` is auto_pad)."""

    def __init__(self, call: Call, dims: int, pad: str = "") -> None:
        self.dims = dims
        self.kernel = spatial(call, call.first("kernel_size", "ksize"), dims)
        stride = call.first("strides", "stride")
        given = call.datum(stride, None) not in (None, ())
        self.strides = spatial(call, stride, dims) if given else list(self.kernel)
        self.dilations = spatial(call, "dilation", dims) if call.has("dilation") else [1] * dims
        # Paddings that an argument gives are the same on both sides, and may have batch and channels in front.
        self.auto, self.pads = (None, spatial(call, pad, dims, 0) * 2) if pad else paddings(call, dims)
        self.ceil = bool(call.has("ceil_mode") and call.flag("ceil_mode"))

    def max(self, call: Call, x: Item, outputs: int = 1) -> list[Item]:
        """The largest element of each window; with two outputs, where it is among all elements of `x`, too."""
        return call.ops(
            "MaxPool", x, outputs=outputs, kernel_shape=self.kernel, strides=self.strides, dilations=self.dilations,
            auto_pad=self.auto, pads=self.pads, ceil_mode=int(self.ceil),
        )  # fmt: skip

    def mean(self, call: Call, x: Item, *, include_pad: bool, divisor: int = 0) -> Item:
        """The mean of each window; with `divisor`, its sum by that."""
        if divisor and self.ceil:
            call.refuse("divisor_override together with ceil_mode", "leave one of them out")
        y = call.op(
            "AveragePool", x, kernel_shape=self.kernel, strides=self.strides, auto_pad=self.auto, pads=self.pads,
            ceil_mode=int(self.ceil), count_include_pad=int(include_pad or divisor != 0),
        )  # fmt: skip
        return call.op("Mul", y, constant(call, math.prod(self.kernel) / divisor, y)) if divisor else y


def _dims(call: Call) -> int:
    """The number of spatial dimensions that a primitive's name tells."""
    return 3 if "3D" in call.name else 1 if "1D" in call.name else 2


def _batched(call: Call, x: Item, dims: int) -> tuple[Item, bool]:
    """An input with a batch in front, and whether it had none."""
    return (call.op("Unsqueeze", x, np.array([0])), True) if rank(call, x) == dims + 1 else (x, False)


def _single(call: Call, x: Item, single: bool) -> Item:
    return call.op("Squeeze", x, np.array([0])) if single else x


# -- largest elements --------------------------------------------------------------------------------------------------


@primitive("MaxPool", "MaxPoolV1", "MaxPool3D")
def max_pool(call: Call) -> Datum:
    """The largest element of each window."""
    x, last = call.tensor(0), is_channels_last(call)
    windows = _Windows(call, _dims(call))
    (y,) = windows.max(call, channels_first(call, x) if last else x)
    return channels_last(call, y) if last else y


def _with_indices(call: Call, windows: _Windows, dtype: str) -> Datum:
    """The largest element of each window, and where it is in its image."""
    x = call.tensor(0)
    (y,) = windows.max(call, x)
    _, at = windows.max(call, x, outputs=2)
    size = call.op("ReduceProd", call.op("Shape", x, start=2), keepdims=0)
    return y, call.cast(call.op("Mod", at, size), dtype)


@primitive("MaxPool3DWithArgmax", "MaxPoolWithIndices", "MaxPoolWithArgmaxV2")
def max_pool_with_argmax(call: Call) -> Datum:
    """The largest elements of windows, and where they are in their image (a flat index)."""
    given = call.datum("argmax_type", None)
    dtype = (
        _OWN_NUMBERS[given] if isinstance(given, int) and given in _OWN_NUMBERS else call.dtype("argmax_type", "i64")
    )
    return _with_indices(call, _Windows(call, _dims(call), "pads"), dtype or "i64")


@primitive("MaxPoolWithArgmax")
def max_pool_with_argmax_same(call: Call) -> Datum:
    """The same with a mode of padding."""
    return _with_indices(call, _Windows(call, 2), "i32")


@primitive("MaxPoolWithMask")
def max_pool_with_mask(call: Call) -> Datum:
    """The largest elements of windows; the mask is for gradients only, and None."""
    (y,) = _Windows(call, 2, "pads").max(call, call.tensor(0))
    return y, None


@primitive("FuncMaxPool2D")
def max_pool_function(call: Call) -> Datum:
    """The largest elements of windows, perhaps with their places."""
    windows = _Windows(call, 2, "padding")
    if call.flag("return_indices", False):
        return _with_indices(call, windows, "i64")
    (y,) = windows.max(call, call.tensor(0))
    return y if len(call.result_types) < 2 else (y, None)


def _unpool(call: Call, x: Item, at: Item, size: Sequence[Dim]) -> Item:
    """The elements of `x` in images of zeros, at flat indices."""
    shape = call.shape(x)
    flat = as_dim(as_expr(product(list(size))))
    rows = [call.op("Reshape", item, [shape[0], shape[1], -1]) for item in (x, at)]
    zeros = call.op("Expand", constant(call, 0, x), [shape[0], shape[1], flat])
    y = call.op("ScatterElements", zeros, call.cast(rows[1], "i64"), rows[0], axis=2)
    return call.op("Reshape", y, [shape[0], shape[1], *size])


@primitive("MaxUnpool2D", "MaxUnpool3D", "MaxUnpool2DExt")
def max_unpool(call: Call) -> Datum:
    """Largest elements back at their places, zeros elsewhere."""
    dims = _dims(call)
    x, at = call.tensor(0), call.tensor(1)
    name = call.first("output_shape", "output_size")
    if call.datum(name, None) not in (None, ()):
        return _unpool(call, x, at, call.dims(name)[-dims:])
    kernel = spatial(call, call.first("ksize", "kernel_size"), dims)
    stride = call.first("strides", "stride")
    given = call.datum(stride, None) not in (None, (), 0)
    strides = spatial(call, stride, dims) if given else kernel
    pads = spatial(call, call.first("pads", "padding"), dims, 0)
    sizes = [
        as_dim((as_expr(n) - 1) * s - 2 * p + k)
        for n, s, p, k in zip(call.shape(x)[-dims:], strides, pads, kernel, strict=True)
    ]
    return _unpool(call, x, at, sizes)


# -- means -------------------------------------------------------------------------------------------------------------


@primitive("AvgPool", "AvgPoolV1")
def avg_pool(call: Call) -> Datum:
    """The mean of each window, padding left out."""
    x, last = call.tensor(0), is_channels_last(call)
    y = _Windows(call, 2).mean(call, channels_first(call, x) if last else x, include_pad=False)
    return channels_last(call, y) if last else y


def _divisor(call: Call) -> int:
    return call.integer("divisor_override") if call.has("divisor_override") else 0


@primitive("AvgPool3D")
def avg_pool_3d(call: Call) -> Datum:
    """The mean of each window in three dimensions."""
    include = call.flag("count_include_pad", True)
    return _Windows(call, 3).mean(call, call.tensor(0), include_pad=include, divisor=_divisor(call))


@primitive("AvgPool1D", "AvgPool2D", "AvgPool3DExt")
def avg_pool_function(call: Call) -> Datum:
    """The mean of each window, all arguments being inputs."""
    dims = _dims(call)
    x, single = _batched(call, call.tensor(0), dims)
    include = call.flag("count_include_pad", True)
    y = _Windows(call, dims, "padding").mean(call, x, include_pad=include, divisor=_divisor(call))
    return _single(call, y, single)


# -- to a given size ---------------------------------------------------------------------------------------------------


def _bins(size: int, bins: int) -> list[tuple[int, int]]:
    """Where each of `bins` parts of `size` elements begins and ends; they overlap where it cannot be divided."""
    return [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]


def _target(call: Call, dims: int, shape: Sequence[Dim]) -> list[Dim]:
    """The spatial sizes that `output_size` asks for; None and -1 keep what is there."""
    datum = call.datum("output_size")
    parts = call.sizes(datum) if isinstance(datum, Item) else datum if isinstance(datum, tuple) else (datum,)
    if len(parts) == 1:
        parts *= dims
    found: list[Dim] = []
    for part, size in zip(parts, shape[-dims:], strict=True):
        wanted = -1 if part is None else call.sizes(part, "output_size")[0]
        found.append(size if wanted == -1 else wanted)
    return found


def _by_bins(call: Call, x: Item, axis: int, wanted: Dim, largest: bool) -> Item:
    """One dimension brought to `wanted` bins."""
    size = call.shape(x)[axis]
    if size == wanted:
        return x
    if wanted == 1:
        return call.op("ReduceMax" if largest else "ReduceMean", x, np.array([axis]))
    count, whole = known(call, wanted, "output_size"), known(call, size, "a size")
    bins = _bins(whole, count)
    if largest:
        parts = [call.op("Slice", x, np.array([a]), np.array([b]), np.array([axis])) for a, b in bins]
        return call.op("Concat", *(call.op("ReduceMax", p, np.array([axis])) for p in parts), axis=axis)
    weights = np.zeros((whole, count), np.float32)
    for i, (a, b) in enumerate(bins):
        weights[a:b, i] = 1 / (b - a)
    dims = rank(call, x)
    order = [d for d in range(dims) if d != axis] + [axis]
    back = list(np.argsort(order))
    factor = call.cast(call.a.constant(weights), call.element_type(x))
    y = call.op("MatMul", call.op("Transpose", x, perm=order), factor)
    return call.op("Transpose", y, perm=[int(b) for b in back])


def _adaptive(call: Call, dims: int, largest: bool) -> Item:
    x = floating(call, call.tensor(0))
    shape = call.shape(x)
    wanted = _target(call, dims, shape)
    sizes = list(zip(shape[-dims:], wanted, strict=True))
    if all(isinstance(n, int) and isinstance(w, int) and w and n % w == 0 for n, w in sizes) and len(shape) > dims + 1:
        steps = [int(n) // int(w) for n, w in sizes]  # type: ignore[arg-type]
        return call.op("MaxPool" if largest else "AveragePool", x, kernel_shape=steps, strides=steps)
    for i, size in enumerate(wanted):
        x = _by_bins(call, x, len(shape) - dims + i, size, largest)
    return x


@primitive(
    "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool2DExt", "AdaptiveAvgPool3D", "AdaptiveAvgPool3DExt"
)
def adaptive_mean(call: Call) -> Datum:
    """Means of as many parts of an image as are asked for."""
    return _adaptive(call, _dims(call), largest=False)


def _places(call: Call, dims: int) -> Item:
    """Where the largest element of each part is in its image (a flat index): the first of equals."""
    x = call.tensor(0)
    shape = call.shape(x)
    wanted = [known(call, d, "output_size") for d in _target(call, dims, shape)]
    sizes = [known(call, d, "a size") for d in shape[-dims:]]
    parts = [_bins(size, count) for size, count in zip(sizes, wanted, strict=True)]
    image = np.arange(math.prod(sizes)).reshape(sizes)
    cells = [image[tuple(slice(*bounds) for bounds in cell)].reshape(-1) for cell in itertools.product(*parts)]
    most = max(len(cell) for cell in cells)
    # Parts are of different sizes: shorter ones have their first element several times, which is then never the first.
    table = np.stack([np.pad(cell, (0, most - len(cell)), constant_values=cell[0]) for cell in cells])
    outer = list(shape[:-dims])
    values = call.op("Gather", call.op("Reshape", x, [*outer, math.prod(sizes)]), table, axis=len(outer))
    at = call.op("ArgMax", values, axis=len(outer) + 1, keepdims=0)
    found = call.op("Gather", table.reshape(-1), call.op("Add", at, np.arange(len(cells)) * most), axis=0)
    return call.cast(call.op("Reshape", found, [*outer, *wanted]), call.result_types[1].dtype)


@primitive("AdaptiveMaxPool1D", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D")
def adaptive_max(call: Call) -> Datum:
    """Largest elements of as many parts of an image as are asked for, and (of known sizes) where they are."""
    dims = _dims(call)
    y = _adaptive(call, dims, largest=True)
    if len(call.result_types) < 2:
        return y
    sizes = call.shape(call.tensor(0))[-dims:]
    return y, _places(call, dims) if all(isinstance(s, int) for s in sizes) else None
