"""Lowerings of MindIR's convolutions.

MindSpore writes paddings dimension by dimension (top, bottom, left, right), ONNX all the first ones, then all the last
ones. "same" puts the odd element behind, as ONNX's SAME_UPPER. Strides and the like have entries for batch and
channels in front, or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .lower_common import known, rank
from .primitive import FORMATS, PAD_MODES, Call, Datum, Item, primitive


def spatial(call: Call, name: str, dims: int, default: int = 1) -> list[int]:
    """An argument with a number for each spatial dimension: one for all, or with batch and channels in front."""
    found = list(call.ints(name, (default,)))
    if len(found) == 1:
        return found * dims
    if len(found) == dims + 2:
        last = call.word(call.first("data_format", "format"), FORMATS, "NCHW").endswith("C")
        return found[1:-1] if last else found[2:]
    if len(found) != dims:
        raise call.error(f"{name}: expected {dims} numbers, got {len(found)}")
    return found


def ordered(pads: Sequence[int], dims: int) -> list[int] | None:
    """Paddings as ONNX has them, from one number, one for each dimension, or two."""
    if len(pads) == 1:
        return list(pads) * (2 * dims)
    if len(pads) == dims:
        return [*pads, *pads]
    return [*pads[0::2], *pads[1::2]] if len(pads) == 2 * dims else None


def paddings(call: Call, dims: int) -> tuple[str | None, list[int] | None]:
    """ONNX's auto_pad and pads for MindSpore's modes of padding (until 1.1 pooling called them `padding`)."""
    old = isinstance(call.datum("padding", None), str) and not call.has("pad_mode")
    mode = call.word("padding" if old else "pad_mode", PAD_MODES, "VALID")
    if mode == "SAME":
        return "SAME_UPPER", None
    if mode == "VALID":
        return None, [0] * (2 * dims)
    name = call.first("pad_list", "pad", "pads", "padding")
    return None, explicit(call, name, dims)


def explicit(call: Call, name: str, dims: int) -> list[int]:
    """Paddings that an argument gives, as ONNX has them."""
    given = call.ints(name, (0,))
    found = ordered(given, dims)
    if found is None:
        raise call.error(f"{name}: expected {2 * dims} numbers, got {len(given)}")
    return found


def is_channels_last(call: Call) -> bool:
    """Whether the channels are the last dimension."""
    return call.word(call.first("data_format", "format"), FORMATS, "NCHW").endswith("C")


def channels_first(call: Call, x: Item) -> Item:
    """A tensor whose channels are the last dimension, with them in front."""
    dims = rank(call, x)
    return call.op("Transpose", x, perm=[0, dims - 1, *range(1, dims - 1)])


def channels_last(call: Call, x: Item) -> Item:
    """The way back."""
    dims = rank(call, x)
    return call.op("Transpose", x, perm=[0, *range(2, dims), 1])


def _groups(call: Call) -> int:
    return call.integer(call.first("group", "groups"), 1)


def _convolution(call: Call, weight: Item, group: int, dims: int) -> Item:
    x = call.tensor("x")
    last = is_channels_last(call)
    auto, pads = paddings(call, dims)
    if last:
        x, weight = channels_first(call, x), channels_first(call, weight)
    y = call.op(
        "Conv", x, call.cast(weight, call.element_type(x)), group=group, strides=spatial(call, "stride", dims),
        dilations=spatial(call, "dilation", dims), auto_pad=auto, pads=pads,
    )  # fmt: skip
    return channels_last(call, y) if last else y


@primitive("Conv2D", "Conv3D")
def convolution(call: Call) -> Datum:
    """A convolution without bias. The weight is [out, in / groups, window ...] (NHWC: [out, window ..., in])."""
    return _convolution(call, call.tensor("w"), _groups(call), 2 if call.name == "Conv2D" else 3)


@primitive("DepthwiseConv2dNative")
def depthwise(call: Call) -> Datum:
    """A window for each channel, or several: the weight is [multiplier, channels, height, width]."""
    weight = call.tensor("w")
    times, channels, height, width = (known(call, d, "the weight's shape") for d in call.shape(weight))
    turned = call.op("Transpose", weight, perm=[1, 0, 2, 3])
    shaped = call.op("Reshape", turned, np.array([channels * times, 1, height, width], np.int64))
    return _convolution(call, shaped, channels, 2)


# -- transposed --------------------------------------------------------------------------------------------------------


def _transposed(call: Call, x: Item, weight: Item, dims: int, size: Sequence[int] | None, extra: Sequence[int]) -> Item:
    """A transposed convolution: to spatial sizes `size`, or to what paddings and `extra` leave."""
    strides, dilations = spatial(call, "stride", dims), spatial(call, "dilation", dims)
    window = [known(call, d, "the weight's shape") for d in call.shape(weight)[2:]]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
    given = call.ints("pad_list") if call.datum("pad_list", None) is not None else ()
    if call.word("pad_mode", PAD_MODES, "VALID") == "SAME" and not given:
        total = [max(span - stride, 0) for span, stride in zip(spans, strides, strict=True)]
        pads = [*(t // 2 for t in total), *(t - t // 2 for t in total)]
    elif given:
        pads = ordered(given, dims) or [0] * (2 * dims)
    else:
        pads = paddings(call, dims)[1] or [0] * (2 * dims)
    more = list(extra)
    if size is not None:
        for i, n in enumerate(call.shape(x)[2:]):
            full = (known(call, n, "the input's shape") - 1) * strides[i] + spans[i] - pads[i] - pads[dims + i]
            more[i] = size[i] - full
    if min(more) < 0:
        pads[dims:] = [p + max(0, -m) for p, m in zip(pads[dims:], more, strict=True)]
        more = [max(0, m) for m in more]
    return call.op(
        "ConvTranspose", x, call.cast(weight, call.element_type(x)), group=_groups(call), strides=strides,
        dilations=dilations, pads=pads, output_padding=more,
    )  # fmt: skip


@primitive("Conv2DTranspose", "Conv2DBackpropInput")
def conv_transpose(call: Call) -> Datum:
    """A convolution backwards, to an image of a given shape. The weight is [in, out / groups, height, width]."""
    x = call.tensor(0)
    shape = call.sizes(call[2], "shape") if len(call) > 2 else ()
    sizes = [d for d in shape[2:] if isinstance(d, int)]
    size = sizes if len(sizes) == 2 and all(isinstance(d, int) for d in call.shape(x)[2:]) else None
    return _transposed(call, x, call.tensor(1), 2, size, [0, 0])


@primitive("Conv3DTranspose")
def conv3d_transpose(call: Call) -> Datum:
    """A convolution backwards in three dimensions."""
    return _transposed(call, call.tensor(0), call.tensor(1), 3, None, spatial(call, "output_padding", 3, 0))


# -- PyTorch's kind ----------------------------------------------------------------------------------------------------


def _ext(call: Call, dims: int, auto: str | None, pads: list[int] | None) -> Item:
    """A convolution with bias whose arguments are inputs. An input without batch gets one."""
    x, weight = call.tensor("input"), call.tensor("weight")
    single = rank(call, x) == dims + 1
    x = call.op("Unsqueeze", x, np.array([0])) if single else x
    bias = call.tensor("bias") if call.has("bias") else None
    strides, dilations = spatial(call, "stride", dims), spatial(call, "dilation", dims)
    backwards = call.name.startswith("ConvTranspose") or (call.has("transposed") and call.flag("transposed"))
    y = call.op(
        "ConvTranspose" if backwards else "Conv", x, weight, bias, group=call.integer("groups", 1), strides=strides,
        dilations=dilations, auto_pad=auto, pads=pads,
        output_padding=spatial(call, "output_padding", dims, 0) if backwards else None,
    )  # fmt: skip
    return call.op("Squeeze", y, np.array([0])) if single else y


@primitive("Conv1DExt", "Conv2DExt", "Conv3DExt", "Convolution", "ConvTranspose2D")
def convolution_ext(call: Call) -> Datum:
    """A convolution with bias; `padding` is one number for each dimension, on both sides."""
    dims = rank(call, call.tensor("weight")) - 2
    return _ext(call, dims, None, explicit(call, "padding", dims))


@primitive("ConvolutionStr", "Conv1DPadding", "Conv2DPadding", "Conv3DPadding")
def convolution_padding(call: Call) -> Datum:
    """A convolution with bias, padded to the size of its input or not at all."""
    dims = rank(call, call.tensor("weight")) - 2
    mode = call.word("padding", PAD_MODES, "VALID")
    return _ext(call, dims, "SAME_UPPER", None) if mode == "SAME" else _ext(call, dims, None, [0] * (2 * dims))
