"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .base import Build, Item, Unsupported, aten, few, pair
from .reduce import reduced

Sizes = int | Sequence[int]


def _alone(b: Build, x: Item, space: int) -> tuple[Item, bool]:
    """A picture without a batch gets one."""
    alone = b.rank(x) == space + 1
    return (b.unsqueeze(x, 0) if alone else x), alone


def _plain(b: Build, y: Item, alone: bool) -> Item:
    return b.reshape(y, b.shape(y)[1:]) if alone else y


def _max_pool(space: int, indices: bool) -> Any:
    def lower(
        b: Build, x: Item, kernel_size: Sizes, stride: Sizes = (), padding: Sizes = 0, dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> Any:  # fmt: skip
        x, alone = _alone(b, x, space)
        kernel = pair(kernel_size, space)
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": pair(stride, space) if isinstance(stride, int) or stride else kernel,
            "pads": pair(padding, space) * 2,
            "dilations": pair(dilation, space),
            "ceil_mode": int(ceil_mode),
        }
        if not indices:
            return _plain(b, b.op("MaxPool", x, **attributes), alone)
        values, places = b.a.ops("MaxPool", x, outputs=2, **attributes)
        return [_plain(b, values, alone), _plain(b, _inside(b, x, places, space), alone)]

    return lower


def _inside(b: Build, x: Item, places: Item, space: int) -> Item:
    """Places as PyTorch counts them, within a channel: ONNX counts through the whole tensor."""
    inner = 1
    for d in b.shape(x)[-space:]:
        if not isinstance(d, int):
            raise Unsupported("places of maxima in a picture whose size is not known")
        inner *= d
    return b.op("Mod", places, b.tensor(inner, "i64"))


for _space in (1, 2, 3):
    aten(f"max_pool{_space}d")(_max_pool(_space, False))
    aten(f"max_pool{_space}d_with_indices")(_max_pool(_space, True))


def _avg_pool(space: int) -> Any:
    def lower(
        b: Build, x: Item, kernel_size: Sizes, stride: Sizes = (), padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Item:  # fmt: skip
        x, alone = _alone(b, x, space)
        kernel = pair(kernel_size, space)
        y = b.op(
            "AveragePool", x, kernel_shape=kernel, pads=pair(padding, space) * 2, ceil_mode=int(ceil_mode),
            strides=pair(stride, space) if isinstance(stride, int) or stride else kernel,
            count_include_pad=int(count_include_pad or divisor_override is not None),
        )  # fmt: skip
        if divisor_override is not None:
            if ceil_mode:
                raise Unsupported("divisor_override with ceil_mode")
            y = b.op("Mul", y, b.tensor(float(np.prod(kernel)) / divisor_override, b.dtype(y)))
        return _plain(b, y, alone)

    return lower


for _space in (1, 2, 3):
    aten(f"avg_pool{_space}d")(_avg_pool(_space))


def _adaptive(kind: str, space: int) -> Any:
    def lower(b: Build, x: Item, output_size: Any) -> Item:
        """Windows of one size where the sizes divide, else a slice for each place."""
        rank = b.rank(x)
        wanted: list[Any] = list(pair(output_size, space))
        dims = b.shape(x)[rank - space :]
        sizes = [d if w is None else w for w, d in zip(wanted, dims, strict=True)]
        axes = list(range(rank - space, rank))
        reduction = "ReduceMean" if kind == "avg" else "ReduceMax"
        if all(s == 1 for s in sizes):
            return reduced(b, reduction, x, axes, True)
        known: list[tuple[int, int]] = []
        for d, s in zip(dims, sizes, strict=True):
            if d == s:
                known.append((1, 1))
            elif not isinstance(d, int):
                raise Unsupported("adaptive pooling of a picture whose size is not known", "fix the picture's size")
            else:
                known.append((d, int(b.number(s))))
        if all(d % s == 0 for d, s in known):
            kernel = [d // s for d, s in known]
            operator = "AveragePool" if kind == "avg" else "MaxPool"
            x, alone = _alone(b, x, space)
            return _plain(b, b.op(operator, x, kernel_shape=kernel, strides=kernel), alone)
        for axis, (d, s) in zip(axes, known, strict=True):
            if (d, s) != (1, 1):
                x = _pieces(b, reduction, x, axis, d, s)
        return x

    return lower


def _pieces(b: Build, reduction: str, x: Item, axis: int, size: int, count: int) -> Item:
    """One dimension in `count` windows, which overlap where the size does not divide."""
    parts: list[Item] = []
    for i in range(few(count, "windows")):
        low, high = i * size // count, -(-(i + 1) * size // count)
        parts.append(reduced(b, reduction, b.slice(x, axis, low, high), [axis], True))
    return b.op("Concat", *parts, axis=axis)


for _space in (1, 2, 3):
    _lower = _adaptive("avg", _space)
    aten(f"adaptive_avg_pool{_space}d")(_lower)
    if _space > 1:
        aten(f"_adaptive_avg_pool{_space}d")(_lower)


def _adaptive_max(space: int) -> Any:
    pool = _adaptive("max", space)

    def lower(b: Build, x: Item, output_size: Any) -> list[Item | None]:
        return [pool(b, x, output_size), None]

    return lower


for _space in (1, 2, 3):
    aten(f"adaptive_max_pool{_space}d")(_adaptive_max(_space))
