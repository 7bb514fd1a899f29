"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import Build, Item, Unsupported, aten, pair

Sizes = int | Sequence[int]


@aten("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(
    b: Build, input: Item, weight: Item, bias: Item | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Item:  # fmt: skip
    space = b.rank(weight) - 2
    alone = b.rank(input) == space + 1  # without a batch
    x = b.unsqueeze(input, 0) if alone else input
    attributes: dict[str, Any] = {"strides": pair(stride, space), "dilations": pair(dilation, space), "group": groups}
    if isinstance(padding, str):
        attributes["pads"] = _same(b, weight, attributes["dilations"]) if padding == "same" else [0] * (2 * space)
    else:
        attributes["pads"] = pair(padding, space) * 2
    y = b.op("Conv", x, weight, bias, **attributes)
    return b.reshape(y, b.shape(y)[1:]) if alone else y


def _same(b: Build, weight: Item, dilations: Sequence[int]) -> list[int]:
    """Padding that keeps the size; where it is odd, the end has one more."""
    totals: list[int] = []
    for size, dilation in zip(b.shape(weight)[2:], dilations, strict=True):
        if not isinstance(size, int):
            raise Unsupported("a kernel whose size is not known")
        totals.append((size - 1) * dilation)
    return [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    b: Build, input: Item, weight: Item, bias: Item | None = None, stride: Sizes = 1, padding: Sizes = 0,
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> Item:  # fmt: skip
    space = b.rank(weight) - 2
    alone = b.rank(input) == space + 1
    x = b.unsqueeze(input, 0) if alone else input
    y = b.op("ConvTranspose", x, weight, bias, strides=pair(stride, space), pads=pair(padding, space) * 2,
             output_padding=pair(output_padding, space), dilations=pair(dilation, space), group=groups)  # fmt: skip
    return b.reshape(y, b.shape(y)[1:]) if alone else y


@aten("convolution", "_convolution", "mkldnn_convolution")
def convolution(
    b: Build, input: Item | None = None, weight: Item | None = None, bias: Item | None = None, stride: Sizes = 1,
    padding: Sizes = 0, dilation: Sizes = 1, transposed: bool = False, output_padding: Sizes = 0, groups: int = 1,
    x: Item | None = None, **rest: Any,
) -> Item:  # fmt: skip
    source = input if input is not None else x
    assert source is not None and weight is not None
    if transposed:
        return conv_transpose(b, source, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(b, source, weight, bias, stride, padding, dilation, groups)


__all__ = ["conv", "convolution"]
