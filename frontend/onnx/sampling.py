"""Reads between elements: GridSample and RoiAlign, as gathers at computed places and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from ...ir.assume import assume_equal
from ...ir.core import Value
from ...ir.expr import Dim
from ...ir.ops.reduce import Max, Mean
from ...ir.ops.shape import Concat, Expand, GatherND, Reshape, Slice, Transpose
from .calc import Calc, scalar
from .declared import data, numbers, require
from .node import Node, converter
from .scope import Unsupported

Fetch = Callable[[Sequence[Calc]], Calc]  # whole coordinates -> elements there, channels last


def _channels_last(node: Node, x: Value) -> Value:
    rank = len(node.dims_of(x))
    return node.make(Transpose, x, (0, *range(2, rank), 1))


def _channels_first(node: Node, x: Value) -> Value:
    rank = len(node.dims_of(x))
    return node.make(Transpose, x, (0, rank - 1, *range(1, rank - 1)))


@converter("GridSample")
def grid_sample(node: Node) -> Value:
    """GridSample in all modes and paddings, over any number of spatial dimensions."""
    x, grid = node.value(0), node.value(1)
    space = node.rank(0) - 2
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.string("mode", "linear"), node.string("mode", "linear"))
    padding, aligned = node.string("padding_mode", "zeros"), node.integer("align_corners", 0) != 0
    if mode not in ("linear", "nearest", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise node.error(f"expected modes of GridSample, got {mode!r} and {padding!r}")
    sizes = node.shape(0)[2:]
    assume_equal(node.dims_of(grid)[0], node.shape(0)[0])
    last = _channels_last(node, x)
    places = node.dims_of(grid)[:-1]
    at = [_pixel(_column(node, grid, space - 1 - d), scalar(node, sizes[d], "f32"), aligned) for d in range(space)]
    if mode != "cubic" and padding != "zeros":
        at = [_into(c, scalar(node, n, "f32"), padding, aligned) for c, n in zip(at, sizes, strict=True)]

    def fetch(index: Sequence[Calc]) -> Calc:
        return _fetch(node, last, index, sizes, padding, aligned, places)

    if mode == "nearest":
        y = fetch([c.round() for c in at])
    else:
        y = _weighted(at, fetch, mode, places)
    return _channels_first(node, y.cast(x.tensor.dtype).value)


def _column(node: Node, grid: Value, index: int) -> Calc:
    dims = node.dims_of(grid)
    starts, stops = (*[0] * (len(dims) - 1), index), (*dims[:-1], index + 1)
    assume_equal(dims[-1], node.rank(0) if node.op_type == "RoiAlign" else node.rank(0) - 2)
    cut = node.make(Slice, grid, starts, stops, (1,) * len(dims))
    return Calc(node, node.make(Reshape, cut, tuple(dims[:-1]))).cast("f32")


def _pixel(position: Calc, size: Calc, aligned: bool) -> Calc:
    """From -1..1 to elements."""
    if aligned:
        return (position + 1) / 2 * (size - 1)
    return ((position + 1) * size - 1) / 2


def _into(at: Calc, size: Calc, padding: str, aligned: bool) -> Calc:
    """Coordinates outside brought inside."""
    if padding == "border":
        return at.maximum(0).minimum(size - 1)
    low = size * 0 if aligned else size * 0 - 0.5
    span = (size - 1) if aligned else size
    span = span.equals(0).where(span + 1, span)
    away = (at - low).abs()
    rounds = (away / span).floor()
    rest = away - rounds * span
    even = (rounds - (rounds / 2).floor() * 2).equals(0)
    back = even.where(rest + low, span - rest + low)
    return back.maximum(0).minimum(size - 1)


def _fetch(
    node: Node,
    x: Value,
    index: Sequence[Calc],
    sizes: Sequence[Dim],
    padding: str,
    aligned: bool,
    places: Sequence[Dim],
) -> Calc:
    """Elements (places, channels) of `x` (batch, space, channels) at whole coordinates, by the padding's rule."""
    inside: Calc | None = None
    columns: list[Value] = []
    for at, n in zip(index, sizes, strict=True):
        size = scalar(node, n, "f32")
        if padding == "zeros":
            here = (at >= 0) & (at <= size - 1)
            inside = here if inside is None else inside & here
            at = at.maximum(0).minimum(size - 1)
        else:
            at = _into(at, size, padding, aligned)
        columns.append(node.make(Reshape, at.cast("i64").value, (*places, 1)))
    table = columns[0] if len(columns) == 1 else node.make(Concat, tuple(columns), len(places))
    found = Calc(node, node.make(GatherND, x, table, 1))
    wide = "f64" if found.dtype == "f64" else "f32"
    found = found.cast(wide)
    return found if inside is None else inside.reshaped(*places, 1).where(found, 0)


def _weighted(at: Sequence[Calc], fetch: Fetch, mode: str, places: Sequence[Dim]) -> Calc:
    """The sum over all neighbours, each with the product of its weights along the dimensions."""
    taps = range(2) if mode == "linear" else range(-1, 3)
    low = [c.floor() for c in at]
    weights = [[_weight(c - (l + t), mode) for t in taps] for c, l in zip(at, low, strict=True)]
    total: Calc | None = None
    for chosen in product(range(len(taps)), repeat=len(at)):
        value = fetch([l + taps[t] for l, t in zip(low, chosen, strict=True)])
        factor = weights[0][chosen[0]]
        for d in range(1, len(at)):
            factor = factor * weights[d][chosen[d]]
        part = value * factor.cast(value.dtype).reshaped(*places, 1)
        total = part if total is None else total + part
    assert total is not None
    return total


def _weight(distance: Calc, mode: str) -> Calc:
    x = distance.abs()
    if mode == "linear":
        return 1 - x
    a = -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return (x <= 1).where(near, far)


@converter("RoiAlign")
def roi_align(node: Node) -> Value:
    """RoiAlign with a given number of samples in each bin."""
    samples = node.integer("sampling_ratio", 0)
    if samples <= 0:
        raise Unsupported("sampling_ratio 0: the number of samples depends on data", "export with a sampling_ratio")
    x, rois, batch = node.value(0), node.value(1), node.value(2)
    height, width = node.integer("output_height", 1), node.integer("output_width", 1)
    scale, half = node.real("spatial_scale", 1.0), node.string("coordinate_transformation_mode", "half_pixel" if
                                                                node.opset >= 16 else "output_half_pixel")  # fmt: skip
    count, sizes = node.dims_of(rois)[0], node.shape(0)[2:]
    assume_equal(node.dims_of(batch)[0], count)
    offset = 0.5 if half == "half_pixel" else 0.0
    corners = [_column(node, rois, i) * scale - offset for i in range(4)]
    bins = (height, width)
    at: list[Calc] = []
    for d in range(2):
        start, end = corners[1 - d], corners[3 - d]
        span = end - start if half == "half_pixel" else (end - start).maximum(1)
        steps = Calc.iota(node, bins[d] * samples, "f32") + 0.5
        shape = (count, bins[d] * samples)
        place = start.reshaped(count, 1) + steps.reshaped(1, shape[1]) * (span / (bins[d] * samples)).reshaped(count, 1)
        at.append(place.reshaped(count, shape[1], 1) if d == 0 else place.reshaped(count, 1, shape[1]))
    places = (count, height * samples, width * samples)
    largest = node.string("mode", "avg") == "max"  # then ONNX takes the largest of the weighted neighbours
    y = _bilinear_at(node, _channels_last(node, x), at, Calc(node, batch).cast("i64"), sizes, places, largest)
    channels = y.value.tensor.dims[-1]
    split = node.make(Reshape, y.value, (count, height, samples, width, samples, channels))
    kind = Max if largest else Mean
    return node.make(Transpose, node.make(kind, split, (2, 4), False), (0, 3, 1, 2))


def _bilinear_at(
    node: Node,
    x: Value,
    at: Sequence[Calc],
    batch: Calc,
    sizes: Sequence[Dim],
    places: Sequence[Dim],
    largest: bool,
) -> Calc:
    """Bilinear samples of pictures `batch`; what is more than one element outside is 0."""
    inside: Calc | None = None
    clamped: list[Calc] = []
    for c, n in zip(at, sizes, strict=True):
        size = scalar(node, n, "f32")
        here = (c >= -1) & (c <= size)
        inside = here if inside is None else inside & here
        clamped.append(c.maximum(0).minimum(size - 1))
    low = [c.floor() for c in clamped]
    picture = node.make(Expand, batch.reshaped(places[0], 1, 1).value, tuple(places))
    picture = node.make(Reshape, picture, (*places, 1))
    total: Calc | None = None
    for chosen in product(range(2), repeat=2):
        columns = [picture]
        factor: Calc | None = None
        for c, l, n, t in zip(clamped, low, sizes, chosen, strict=True):
            index = (l + t).minimum(scalar(node, n, "f32") - 1).cast("i64")
            whole = node.make(Expand, index.value, tuple(places))
            columns.append(node.make(Reshape, whole, (*places, 1)))
            part = (c - l) if t else 1 - (c - l)
            factor = part if factor is None else factor * part
        found = Calc(node, node.make(GatherND, x, node.make(Concat, tuple(columns), len(places)), 0))
        assert factor is not None
        weight = Calc(node, node.make(Expand, factor.value, tuple(places))).reshaped(*places, 1)
        value = found * weight.cast(found.dtype)
        total = value if total is None else total.maximum(value) if largest else total + value
    assert total is not None and inside is not None
    mask = Calc(node, node.make(Expand, inside.value, tuple(places))).reshaped(*places, 1)
    return mask.where(total, 0)


@converter("AffineGrid")
def affine_grid(node: Node) -> Value:
    """AffineGrid: every place of the picture under a linear map; `size` is known, or the declared shape tells it."""
    theta, known, declared = Calc(node, node.value(0)), node.known(1, node.binding), node.declared(0)
    if known is not None:
        sizes: list[Dim] = [*known.dims.reshape(-1)][2:]
    elif declared is not None:
        sizes = [*declared[1:-1]]
        batch = [declared[0], -1, *declared[1:-1]]
        size = data(node, 1)
        ok = size.equals(numbers(node, batch)) | numbers(node, batch).equals(-1)
        theta = Calc(node, require(node, theta.value, ok))
    else:
        raise node.unknown(1, "the size")
    space = len(sizes)
    have = node.dims_of(theta.value)[1:]
    for d, n in zip(have, (space, space + 1), strict=False):
        assume_equal(d, n)
    if len(have) != 2 or any(isinstance(d, int) and d != space + i for i, d in enumerate(have)):
        raise node.error(f"expected theta of shape [N, {space}, {space + 1}], got {node.type(0)}")
    aligned = node.integer("align_corners", 0) != 0
    count = node.dims_of(theta.value)[0]
    total: Calc | None = None
    for d in range(space + 1):
        shape = (count, *[1] * space, space)
        factor = Calc(node, _matrix_column(node, theta.value, d, space)).reshaped(*shape)
        if d < space:
            axis = space - 1 - d  # x is the last dimension
            place = _centres(node, sizes[axis], aligned).cast(theta.dtype)
            part = factor * place.reshaped(1, *(sizes[i] if i == axis else 1 for i in range(space)), 1)
        else:
            part = factor
        total = part if total is None else total + part
    assert total is not None
    return total.value


def _matrix_column(node: Node, theta: Value, d: int, space: int) -> Value:
    count = node.dims_of(theta)[0]
    return node.make(Slice, theta, (0, 0, d), (count, space, d + 1), (1, 1, 1))


def _centres(node: Node, size: Dim, aligned: bool) -> Calc:
    """-1 to 1: the corners, or the middles of the elements."""
    i, count = Calc.iota(node, size), scalar(node, size)
    if aligned:
        return i * 2 / (count - 1).maximum(1) - 1
    return (i * 2 + 1) / count - 1
