"""Lowerings of MindIR's primitives on pictures: resizing, sampling, patches, boxes, colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.expr import Dim, as_dim, as_expr
from ...ir.ops.resize import Resample
from .lower_common import constant, expanded, floating, iota, known, one_at, rank, reshaped, sliced
from .lower_index import scattered
from .lower_order import sorted_along
from .primitive import Call, Datum, Item, primitive

# -- resizing ----------------------------------------------------------------------------------------------------------


def resized(
    call: Call, x: Item, sizes: Sequence[Dim], mode: str, coordinates: str, nearest: str = "floor", cubic: float = -0.75
) -> Item:
    """The last dimensions of `x` in other sizes; integers are computed in f32."""
    y = floating(call, x) if mode != "nearest" else x
    first = rank(call, x) - len(sizes)
    return call.op(
        "Resize", y, None, None, list(sizes), mode=mode, coordinate_transformation_mode=coordinates,
        nearest_mode=nearest, cubic_coeff_a=cubic, axes=list(range(first, rank(call, x))),
    )  # fmt: skip


def _coordinates(call: Call) -> str:
    """Where the pixels of the result are in the picture."""
    if call.flag("align_corners", False):
        return "align_corners"
    return "half_pixel" if call.flag("half_pixel_centers", False) else "asymmetric"


@primitive("ResizeBilinearV2", "ResizeBilinear")
def resize_bilinear(call: Call) -> Item:
    """Pixels between pixels, linear in both directions."""
    return resized(call, call.tensor(0), call.dims("size"), "linear", _coordinates(call))


@primitive("ResizeNearestNeighbor", "ResizeNearestNeighborV2", "DynamicResizeNearestNeighbor")
def resize_nearest(call: Call) -> Item:
    """The nearest pixel."""
    coordinates = _coordinates(call)
    nearest = "floor" if coordinates == "asymmetric" else "round_prefer_ceil"
    return resized(call, call.tensor(0), call.dims("size"), "nearest", coordinates, nearest)


_STEPS = 1024  # MindSpore has its cubic weights in a table of as many places between two pixels


def _cubic_table(size: int, result: int, coordinates: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights (result, 4) of a cubic row as MindSpore has them, with Keys' weights (and none for pixels
    outside) where pixels have their centers."""
    half, align = coordinates == "half_pixel", coordinates == "align_corners"
    scale = np.float32((size - 1) / (result - 1) if align and result > 1 else size / result)
    at = np.arange(result, dtype=np.float32)
    place = (at + np.float32(0.5)) * scale - np.float32(0.5) if half else at * scale
    first = np.floor(place).astype(np.int64)
    offset = np.rint((place - first) * _STEPS) / _STEPS
    a = -0.5 if half else -0.75

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    weights = np.stack([far(offset + 1), near(offset), near(1 - offset), far(2 - offset)], 1)
    indices = first[:, None] + np.arange(-1, 3)
    if half:
        weights = np.where((indices < 0) | (indices >= size), 0, weights)
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(indices, 0, size - 1), weights.astype(np.float32)


@primitive("ResizeBicubic")
def resize_bicubic(call: Call) -> Item:
    """Cubic in both directions; integers give f32."""
    x, coordinates = floating(call, call.tensor(0)), _coordinates(call)
    dims, sizes = call.shape(x), call.dims("size")
    pairs = list(zip((2, 3), dims[2:], sizes, strict=True))
    if not all(isinstance(d, int) and isinstance(s, int) for _, d, s in pairs):
        return resized(call, x, sizes, "cubic", coordinates, cubic=-0.5 if coordinates == "half_pixel" else -0.75)
    for axis, have, want in pairs:
        indices, weights = _cubic_table(known(call, have, "a size"), known(call, want, "a size"), coordinates)
        x = call.make(Resample, x, indices, weights, axis)
    return x


_TRANSFORMS = {0: "ASYMMETRIC", 1: "ALIGN_CORNERS", 2: "HALF_PIXEL"}


@primitive("ResizeLinear1D")
def resize_linear(call: Call) -> Item:
    """Linear in the last dimension."""
    word = call.word("coordinate_transformation_mode", _TRANSFORMS).lower()
    return resized(call, call.tensor(0), call.dims("size"), "linear", word)


def _upsampled(call: Call, count: int, mode: str, cubic: float = -0.75) -> Item:
    """The last `count` dimensions in sizes that are given, or by factors."""
    x = call.tensor(0)
    align = mode != "nearest" and call.flag("align_corners", False)
    coordinates = "asymmetric" if mode == "nearest" else "align_corners" if align else "pytorch_half_pixel"
    if call.datum("output_size", None) is not None:
        return resized(call, x, call.dims("output_size"), mode, coordinates, cubic=cubic)
    found = call.datum("scales")
    scales = [float(s) for s in found if isinstance(s, int | float)] if isinstance(found, tuple) else []
    axes = list(range(rank(call, x) - count, rank(call, x)))
    return call.op(
        "Resize", x, None, np.array(scales, np.float32), None, mode=mode, coordinate_transformation_mode=coordinates,
        nearest_mode="floor", cubic_coeff_a=cubic, axes=axes,
    )  # fmt: skip


def _upsample(name: str, count: int, mode: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        return _upsampled(call, count, mode)


for _name, _count, _mode in (
    ("UpsampleNearest1D", 1, "nearest"), ("UpsampleNearest2D", 2, "nearest"), ("UpsampleNearest3D", 3, "nearest"),
    ("UpsampleLinear1D", 1, "linear"), ("UpsampleBilinear2D", 2, "linear"), ("UpsampleTrilinear3D", 3, "linear"),
    ("UpsampleBicubic2D", 2, "cubic"),
):  # fmt: skip
    _upsample(_name, _count, _mode)


def _areas(size: int, result: int, align: bool) -> np.ndarray:
    """Shares of the pixels of a row in those of the result."""
    scale = (size - 1) / (result - 1) if align and result > 1 else size / result
    weights = np.zeros((result, size))
    for i in range(result):
        start, end = i * scale, (i + 1) * scale
        for j in range(int(start), min(int(np.ceil(end)), size) if end > int(start) else int(start) + 1):
            weights[i, j] = max(min(end, j + 1) - max(start, j), 0) / scale
    return weights


@primitive("ResizeArea")
def resize_area(call: Call) -> Item:
    """Means of areas of pictures [n, height, width, channels], as f32."""
    x, align = call.cast(call.tensor(0), "f32"), call.flag("align_corners", False)
    n, h, w, c = call.shape(x)
    rows, columns = call.ints("size")
    down = _areas(known(call, h, "the height"), rows, align).astype(np.float32)
    across = _areas(known(call, w, "the width"), columns, align).astype(np.float32)
    y = call.op("MatMul", down, reshaped(call, x, [n, h, as_dim(as_expr(w) * c)]))
    return call.op("MatMul", across, reshaped(call, y, [n, rows, w, c]))


_INTERPOLATIONS = {0: "BILINEAR", 1: "NEAREST", 2: "BICUBIC"}
_BORDERS = {0: "ZEROS", 1: "BORDER", 2: "REFLECTION"}


@primitive("GridSampler2D", "GridSampler3D")
def grid_sampler(call: Call) -> Item:
    """Pixels at places of a grid."""
    mode = {"BILINEAR": "linear", "NEAREST": "nearest", "BICUBIC": "cubic"}[
        call.word("interpolation_mode", _INTERPOLATIONS)
    ]
    border = call.word("padding_mode", _BORDERS).lower()
    align = int(call.flag("align_corners", False))
    return call.op("GridSample", call.tensor(0), call.tensor(1), mode=mode, padding_mode=border, align_corners=align)


@primitive("AffineGrid")
def affine_grid(call: Call) -> Item:
    """The places of an affine map on a grid of a size."""
    return call.op(
        "AffineGrid",
        call.tensor(0),
        list(call.dims("output_size")),
        align_corners=int(call.flag("align_corners", False)),
    )


# -- patches -----------------------------------------------------------------------------------------------------------


def both(values: Sequence[int]) -> tuple[int, int]:
    """A number for each of two directions."""
    return (values[0], values[0]) if len(values) == 1 else (values[-2], values[-1])


def columns_of(
    call: Call, x: Item, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pads: Sequence[int]
) -> tuple[Item, int, int]:
    """[n, c, kh kw, windows] of pictures [n, c, h, w], and how many windows there are down and across. `pads`: top,
    left, bottom, right."""
    x = call.op("Pad", x, [0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]]) if any(pads) else x
    n, c, h, w = call.shape(x)
    height, width = known(call, h, "the height"), known(call, w, "the width")
    down = (height - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    across = (width - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    rows = np.arange(kernel[0])[:, None] * dilation[0] + np.arange(down)[None] * stride[0]
    columns = np.arange(kernel[1])[:, None] * dilation[1] + np.arange(across)[None] * stride[1]
    places = rows[:, None, :, None] * width + columns[None, :, None, :]
    places = places.reshape(kernel[0] * kernel[1], down * across)
    return call.op("Gather", reshaped(call, x, [n, c, height * width]), places, axis=2), down, across


@primitive("Im2Col")
def im2col(call: Call) -> Item:
    """Windows of pictures as columns: [n, c, kh kw, windows]."""
    kernel, stride, dilation = (both(call.ints(n)) for n in ("ksizes", "strides", "dilations"))
    given: Sequence[int] = call.ints("pads")
    pads = (*both(given), *both(given)) if len(given) < 4 else (given[0], given[2], given[1], given[3])
    return columns_of(call, call.tensor(0), kernel, stride, dilation, pads)[0]


@primitive("Im2ColExt")
def im2col_ext(call: Call) -> Item:
    """Windows of pictures as columns: [n, c kh kw, windows]."""
    x = call.tensor(0)
    single = rank(call, x) == 3
    x = call.op("Unsqueeze", x, [0]) if single else x
    kernel, stride, dilation, pads = (both(call.ints(n)) for n in ("kernel_size", "stride", "dilation", "padding"))
    y, down, across = columns_of(call, x, kernel, stride, dilation, (*pads, *pads))
    n, c = call.shape(x)[:2]
    y = reshaped(call, y, [n, as_dim(as_expr(c) * kernel[0] * kernel[1]), down * across])
    return call.op("Squeeze", y, [0]) if single else y


@primitive("Col2Im", "Col2ImExt")
def col2im(call: Call) -> Item:
    """Columns added to where their windows are in pictures."""
    x = call.tensor(0)
    dims = call.shape(x)
    single = call.name == "Col2ImExt" and rank(call, x) == 2
    if single:
        x = call.op("Unsqueeze", x, [0])
    elif call.name == "Col2Im":
        n, c, inner, windows = dims
        x = reshaped(call, x, [n, as_dim(as_expr(c) * inner), windows])
    kernel, stride, dilation, pads = (both(call.ints(n)) for n in ("kernel_size", "stride", "dilation", "padding"))
    size = list(both(call.ints("output_size")))
    y = call.op("Col2Im", x, size, list(kernel), strides=stride, dilations=dilation, pads=[*pads, *pads])
    return call.op("Squeeze", y, [0]) if single else y


@primitive("ExtractImagePatches")
def extract_image_patches(call: Call) -> Item:
    """Windows of pictures as channels: [n, kh kw c, down, across]."""
    x = call.tensor(0)
    kernel, stride, dilation = (both(call.ints(n)) for n in ("ksizes", "strides", "rates"))
    n, c, *size = call.shape(x)
    pads: list[int] = [0, 0, 0, 0]
    if call.word("padding", {1: "SAME", 2: "VALID"}) == "SAME":
        for i in range(2):
            have = known(call, size[i], "the picture")
            window = dilation[i] * (kernel[i] - 1) + 1
            missing = max((-(-have // stride[i]) - 1) * stride[i] + window - have, 0)
            pads[i], pads[i + 2] = missing // 2, missing - missing // 2
    y, down, across = columns_of(call, x, kernel, stride, dilation, pads)
    y = call.op("Transpose", y, perm=[0, 2, 1, 3])
    return reshaped(call, y, [n, as_dim(as_expr(c) * kernel[0] * kernel[1]), down, across])


# -- boxes -------------------------------------------------------------------------------------------------------------


@primitive("ROIAlign")
def roi_align(call: Call) -> Item:
    """Means of samples in the cells of boxes: `rois` has (picture, x1, y1, x2, y2) in each row."""
    x, rois = call.tensor(0), call.tensor(1)
    scale, end = call.real("spatial_scale"), call.integer("roi_end_mode", 1)
    boxes = sliced(call, rois, 1, 1, 5)
    # ONNX moves boxes by half a pixel of the feature map, MindSpore counts pixels from their corners.
    shift = np.array([[0.5 / scale, 0.5 / scale, 0.5 / scale + end, 0.5 / scale + end]])
    boxes = call.op("Add", boxes, call.cast(call.a.constant(shift), call.element_type(boxes)))
    return call.op(
        "RoiAlign", x, boxes, call.cast(one_at(call, rois, 1, 0), "i64"), mode="avg", spatial_scale=scale,
        output_height=call.integer("pooled_height"), output_width=call.integer("pooled_width"),
        sampling_ratio=call.integer("sample_num", 2), coordinate_transformation_mode="half_pixel",
    )  # fmt: skip


@primitive("NMSWithMask")
def nms_with_mask(call: Call) -> Datum:
    """(boxes by falling score, their places, which of them overlap no better one too much)."""
    boxes = call.tensor(0)
    count = call.shape(boxes)[0]
    _, order = sorted_along(call, one_at(call, boxes, 1, 4), 0, True)
    sorted_boxes = call.op("Gather", boxes, order, axis=0)
    corners = call.op("Unsqueeze", sliced(call, sorted_boxes, 1, 0, 4), [0])
    scores = reshaped(call, one_at(call, sorted_boxes, 1, 4), [1, 1, count])
    limit = call.a.constant(np.array([call.real("iou_threshold", 0.5)], np.float32))
    found = call.op("NonMaxSuppression", corners, scores, [count], limit)
    places = sliced(call, found, 1, 2, 3)
    none = expanded(call, call.a.scalar(0, "i32"), [count])
    ones = expanded(call, call.a.scalar(1, "i32"), [call.shape(places)[0]])
    mask = call.cast(scattered(call, none, places, ones), "bool")
    return sorted_boxes, call.cast(iota(call, count), "i32"), mask


@primitive("NonMaxSuppressionV3")
def non_max_suppression(call: Call) -> Item:
    """Places of the best boxes that do not overlap too much."""
    boxes, scores = call.op("Unsqueeze", call.tensor(0), [0]), call.op("Unsqueeze", call.tensor(1), [0, 1])
    count, iou, score = (call.tensor(n) for n in ("max_output_size", "iou_threshold", "score_threshold"))
    found = call.op(
        "NonMaxSuppression", boxes, scores, reshaped(call, call.cast(count, "i64"), [1]),
        reshaped(call, call.cast(iou, "f32"), [1]), reshaped(call, call.cast(score, "f32"), [1]),
    )  # fmt: skip
    return call.cast(one_at(call, found, 1, 2), "i32")


@primitive("IOU")
def iou(call: Call) -> Item:
    """Overlap of boxes (x1, y1, x2, y2), counted in pixels: [boxes of the second, boxes of the first]."""
    first, second = call.op("Unsqueeze", call.tensor(0), [0]), call.op("Unsqueeze", call.tensor(1), [1])
    one = constant(call, 1, first)

    def extent(low: Item, high: Item) -> Item:
        return call.op("Max", call.op("Add", call.op("Sub", high, low), one), constant(call, 0, low))

    def corner(item: Item, i: int) -> Item:
        return one_at(call, item, 2, i)

    def area(item: Item) -> Item:
        return call.op("Mul", *(extent(corner(item, i), corner(item, i + 2)) for i in range(2)))

    shared = call.op(
        "Mul",
        *(
            extent(
                call.op("Max", corner(first, i), corner(second, i)),
                call.op("Min", corner(first, i + 2), corner(second, i + 2)),
            )
            for i in range(2)
        ),
    )
    whole = area(second)
    if call.string("mode", "iou") == "iou":
        whole = call.op("Sub", call.op("Add", area(first), whole), shared)
    return call.op("Div", shared, whole)


# -- colours -----------------------------------------------------------------------------------------------------------


@primitive("RGBToHSV")
def rgb_to_hsv(call: Call) -> Item:
    """Hue, saturation and value of colours in the last dimension."""
    x = call.tensor(0)
    axis = rank(call, x) - 1
    r, g, b = (one_at(call, x, axis, i) for i in range(3))
    zero, six = constant(call, 0, x), constant(call, 6, x)
    value = call.op("Max", r, g, b)
    spread = call.op("Sub", value, call.op("Min", r, g, b))
    grey = call.op("Equal", spread, zero)
    step = call.op("Mul", six, call.op("Where", grey, constant(call, 1, x), spread))
    hues = [call.op("Div", call.op("Sub", p, q), step) for p, q in ((g, b), (b, r), (r, g))]
    hues = [call.op("Add", h, constant(call, i / 3, x)) for i, h in enumerate(hues)]
    hue = call.op("Where", call.op("Equal", value, g), hues[1], hues[2])
    hue = call.op("Where", call.op("Equal", value, r), hues[0], hue)
    hue = call.op("Where", grey, zero, hue)
    hue = call.op("Where", call.op("Less", hue, zero), call.op("Add", hue, constant(call, 1, x)), hue)
    dark = call.op("Equal", value, zero)
    saturation = call.op("Where", dark, zero, call.op("Div", spread, value))
    return call.op("Concat", *(call.op("Unsqueeze", i, [axis]) for i in (hue, saturation, value)), axis=axis)


@primitive("HSVToRGB")
def hsv_to_rgb(call: Call) -> Item:
    """Colours in the last dimension from hue, saturation and value."""
    x = call.tensor(0)
    axis = rank(call, x) - 1
    h, s, v = (one_at(call, x, axis, i) for i in range(3))
    zero, one = constant(call, 0, x), constant(call, 1, x)
    parts: list[Item] = []
    for offset in (5, 3, 1):
        k = call.op(
            "Mod",
            call.op("Add", call.op("Mul", h, constant(call, 6, x)), constant(call, offset, x)),
            constant(call, 6, x),
            fmod=1,
        )
        near = call.op("Min", call.op("Min", k, call.op("Sub", constant(call, 4, x), k)), one)
        part = call.op("Mul", call.op("Mul", v, s), call.op("Max", near, zero))
        parts.append(call.op("Unsqueeze", call.op("Sub", v, part), [axis]))
    return call.op("Concat", *parts, axis=axis)


__all__ = ["both", "columns_of", "resized"]
