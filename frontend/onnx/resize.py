"""Resize and Upsample: one dimension after the other, by tables of indices and weights.

The tables are formulas over values (`calc`): constants where sizes and scales are known while importing, computed when
the model runs where they are not. Source of the formulas: ONNX's reference implementation of Resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, as_expr, floordiv
from ...ir.ops.reduce import Sum
from ...ir.ops.resize import Repeat, Resample
from ...ir.ops.shape import Gather, Slice
from .calc import Calc, scalar
from .computed import sized
from .declared import data, element, hold_to, numbers
from .node import Node, converter
from .scope import Unsupported

_PROBE = 24  # elements on which a nearest-neighbour table is compared with repetition


@dataclass
class _Axis:
    """One dimension to resize. `scale`: a number, or a scalar computed when the model runs."""

    axis: int
    size: Dim
    result: Dim
    scale: float | Calc
    roi: tuple[Calc, Calc] | None = None

    @property
    def same(self) -> bool:
        """True when nothing happens along it."""
        known = isinstance(self.scale, float) and abs(self.scale - 1) < 1e-9
        return known and self.result == self.size and self.roi is None


@dataclass(frozen=True)
class _Mode:
    """The attributes that say how."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    antialias: bool
    exclude_outside: bool


@converter("Resize")
def resize(node: Node) -> Value:
    """Resize in all modes."""
    if node.opset < 11:
        axes = _by_scales(node, 1, list(range(node.rank(0))))
        return _run(node, axes, _Mode(node.string("mode", "nearest"), "asymmetric", "floor", -0.75, False, False))
    mode = _Mode(
        node.string("mode", "nearest"),
        node.string("coordinate_transformation_mode", "half_pixel"),
        node.string("nearest_mode", "round_prefer_floor"),
        node.real("cubic_coeff_a", -0.75),
        node.integer("antialias", 0) != 0,
        node.integer("exclude_outside", 0) != 0,
    )
    rank = node.rank(0)
    chosen = node.axes(node.ints("axes", range(rank)), rank)
    given = node.has(2) and node.type(2).shape != (0,)
    axes = _by_scales(node, 2, chosen) if given else _by_sizes(node, chosen)
    if mode.coordinates == "tf_crop_and_resize":
        _add_roi(node, axes)
    return _run(node, axes, mode)


@converter("Upsample")
def upsample(node: Node) -> Value:
    """Upsample: a Resize by scales."""
    every = list(range(node.rank(0)))
    if node.opset < 7:
        scales = {2: node.real("height_scale"), 3: node.real("width_scale")}
        axes = [_scaled(node, a, scales.get(a, 1.0)) for a in every]
    elif node.opset < 9:
        scales = node.floats("scales")
        if len(scales) != len(every):
            raise node.error(f"scales: expected {len(every)} numbers, got {len(scales)}")
        axes = [_scaled(node, a, s) for a, s in zip(every, scales, strict=True)]
    else:
        axes = _by_scales(node, 1, every)
    mode = {"bilinear": "linear"}.get(node.string("mode", "nearest"), node.string("mode", "nearest"))
    return _run(node, axes, _Mode(mode, "asymmetric", "floor", -0.75, False, False))


def _by_scales(node: Node, index: int, axes: Sequence[int]) -> list[_Axis]:
    array = node.maybe_array(index)
    if array is not None:
        if array.size != len(axes):
            raise node.error(f"scales: expected {len(axes)} numbers, got {array.size}")
        return [_scaled(node, a, float(s)) for a, s in zip(axes, array.reshape(-1), strict=True)]
    declared, dims = node.declared(0), node.shape(0)
    if declared is None:
        node.expect_length(index, len(axes), "scales")
        scales = [_element(node, node.value(index), i) for i in range(len(axes))]
        found = [(scalar(node, dims[a]) * s).floor() for a, s in zip(axes, scales, strict=True)]
        sizes = sized(node, found)
        return [_Axis(a, dims[a], n, s) for a, n, s in zip(axes, sizes, scales, strict=True)]
    return [_Axis(a, dims[a], declared[a], _element(node, node.value(index), i)) for i, a in enumerate(axes)]


def _scaled(node: Node, axis: int, scale: float) -> _Axis:
    size = node.shape(0)[axis]
    if not 0 < scale < 1e6:
        raise node.error(f"scales: expected numbers above 0, got {scale}")
    if isinstance(size, int):
        return _Axis(axis, size, int(size * scale), scale)
    ratio = Fraction(scale).limit_denominator(1 << 12)
    if abs(float(ratio) - scale) > 1e-7 * scale:
        raise Unsupported(f"a scale of {scale} along the symbolic dimension {size}", "fix the input's shape")
    return _Axis(axis, size, as_dim(floordiv(as_expr(size) * ratio.numerator, ratio.denominator)), float(ratio))


def _by_sizes(node: Node, axes: Sequence[int]) -> list[_Axis]:
    dims = node.shape(0)
    known = node.known(3)
    if known is None:
        return _by_declared_sizes(node, axes)
    sizes = list(known.dims.reshape(-1))
    if len(sizes) != len(axes):
        raise node.error(f"sizes: expected {len(axes)} numbers, got {len(sizes)}")
    found = [_Axis(a, dims[a], n, _ratio(node, n, dims[a])) for a, n in zip(axes, sizes, strict=True)]
    policy = node.string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return found
    scales = [f.scale for f in found if isinstance(f.scale, float)]
    if len(scales) < len(found) or policy not in ("not_larger", "not_smaller"):
        raise Unsupported(f"keep_aspect_ratio_policy {policy} over symbolic dimensions", "fix the input's shape")
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [_Axis(f.axis, f.size, int(scale * int(as_expr(f.size).offset) + 0.5), scale) for f in found]


def _by_declared_sizes(node: Node, axes: Sequence[int]) -> list[_Axis]:
    """Sizes that are data: the declared shape says what comes out, the data what the scales are."""
    declared, dims = node.declared(0), node.shape(0)
    node.expect_length(3, len(axes), "sizes")
    if declared is None:
        return _by_computed_sizes(node, axes)
    if node.string("keep_aspect_ratio_policy", "stretch") == "stretch":
        sizes = [declared[a] for a in axes]
        hold_to(node, 0, data(node, 3).equals(numbers(node, sizes)))
        return [_Axis(a, dims[a], n, _ratio(node, n, dims[a])) for a, n in zip(axes, sizes, strict=True)]
    scales = [_element(node, node.value(3), i) / scalar(node, dims[a]) for i, a in enumerate(axes)]
    policy = node.string("keep_aspect_ratio_policy", "stretch")
    one = _common(scales, policy)
    return [_Axis(a, dims[a], declared[a], one) for a in axes]


def _common(scales: Sequence[Calc], policy: str) -> Calc:
    """The one scale that keeps the aspect ratio."""
    one = scales[0]
    for other in scales[1:]:
        one = one.minimum(other) if policy == "not_larger" else one.maximum(other)
    return one


def _by_computed_sizes(node: Node, axes: Sequence[int]) -> list[_Axis]:
    """Sizes that only the run knows."""
    dims, policy = node.shape(0), node.string("keep_aspect_ratio_policy", "stretch")
    wanted = [element(data(node, 3), i) for i in range(len(axes))]
    scales = [w.cast("f64") / scalar(node, dims[a]) for w, a in zip(wanted, axes, strict=True)]
    if policy != "stretch":
        one = _common(scales, policy)
        scales = [one] * len(axes)
        wanted = [(one * scalar(node, dims[a]) + 0.5).floor() for a in axes]
    sizes = sized(node, wanted)
    return [_Axis(a, dims[a], n, s) for a, n, s in zip(axes, sizes, scales, strict=True)]


def _ratio(node: Node, result: Dim, size: Dim) -> float | Calc:
    if isinstance(result, int) and isinstance(size, int):
        if size == 0:
            raise node.error("expected an input with elements")
        return result / size
    return scalar(node, result) / scalar(node, size)


def _add_roi(node: Node, axes: Sequence[_Axis]) -> None:
    if not node.has(1):
        raise node.error(f"roi: expected {2 * len(axes)} numbers")
    node.expect_length(1, 2 * len(axes), "roi")
    roi = node.value(1)
    for i, a in enumerate(axes):
        a.roi = _element(node, roi, i), _element(node, roi, len(axes) + i)


def _element(node: Node, x: Value, index: int) -> Calc:
    return Calc(node, node.make(Slice, x, (index,), (index + 1,), (1,))).reshaped().cast("f64")


# -- one dimension --------------------------------------------------------------------------------------------------


def _run(node: Node, axes: Sequence[_Axis], mode: _Mode) -> Value:
    if mode.mode not in ("nearest", "linear", "cubic"):
        raise node.error(f"mode: expected nearest, linear or cubic, got {mode.mode!r}")
    x = node.value(0)
    factors = [_whole_factor(node, a, mode) for a in axes]
    if mode.mode == "nearest" and any(f > 1 for f in factors):
        spread = [1] * len(node.shape(0))
        for a, f in zip(axes, factors, strict=True):
            spread[a.axis] = max(f, 1)
        x = node.make(Repeat, x, tuple(spread))
    for a, f in zip(axes, factors, strict=True):
        if not a.same and f <= 1:
            x = _along(node, x, a, mode)
    return x


def _whole_factor(node: Node, a: _Axis, mode: _Mode) -> int:
    """The factor by which a nearest-neighbour resize repeats elements, 0 when it does something else."""
    if mode.mode != "nearest" or a.same or a.roi is not None:
        return 0
    if not isinstance(a.scale, float) or not a.scale.is_integer() or as_expr(a.size) * int(a.scale) != a.result:
        return 0
    factor = int(a.scale)
    size = a.size if isinstance(a.size, int) else _PROBE
    probe = _Axis(0, size, size * factor, a.scale)
    table = node.scope.evaluated(_nearest(node, _positions(node, probe, mode), probe, mode).value)
    same = table is not None and np.array_equal(table, np.arange(size * factor) // factor)
    # Aligned corners depend on the size, everything else is the same at all of them.
    return factor if same and (isinstance(a.size, int) or mode.coordinates != "align_corners") else 0


def _along(node: Node, x: Value, a: _Axis, mode: _Mode) -> Value:
    at = _positions(node, a, mode)
    if mode.mode == "nearest":
        y = node.make(Gather, x, _nearest(node, at, a, mode).cast("i64").settled(), a.axis)
    else:
        dtype = "f64" if x.tensor.dtype == "f64" else "f32"
        indices, weights = _table(node, at, a, mode)
        y = node.make(Resample, x, indices.cast("i64").settled(), weights.cast(dtype).settled(), a.axis)
    if a.roi is None:
        return y
    last = scalar(node, a.size) - 1
    outside = ((at < 0) | (at > last)).reshaped(a.result, *[1] * (len(y.tensor.dims) - a.axis - 1))
    value = Calc(node, node.splat(node.real("extrapolation_value", 0.0), "f32")).cast(y.tensor.dtype)
    return outside.where(value, Calc(node, y)).value


def _positions(node: Node, a: _Axis, mode: _Mode) -> Calc:
    """Where in the input each element of the result lies, as f64."""
    i = Calc.iota(node, a.result)
    scale = a.scale if isinstance(a.scale, Calc) else Calc(node, node.splat(a.scale, "f64"))
    size = scalar(node, a.size)
    whole = size * scale  # the size that the scale asks for, not rounded
    one = whole.equals(1)
    half = (i + 0.5) / scale - 0.5
    match mode.coordinates:
        case "half_pixel":
            return half
        case "asymmetric":
            return i / scale
        case "align_corners":
            return one.where(i * 0, i * (size - 1) / one.where(whole, whole - 1))
        case "pytorch_half_pixel":
            return one.where(i * 0 - 0.5, half)
        case "half_pixel_symmetric":
            return half + size / 2 * (1 - scalar(node, a.result) / whole)
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        case "tf_crop_and_resize":
            assert a.roi is not None
            start, end = a.roi
            span = (end - start) * (size - 1)
            return one.where(i * 0 + span / 2, i * span / one.where(whole, whole - 1)) + start * (size - 1)
        case other:
            raise node.error(f"coordinate_transformation_mode: unknown mode {other!r}")


def _nearest(node: Node, at: Calc, a: _Axis, mode: _Mode) -> Calc:
    match mode.nearest:
        case "floor":
            index = at.floor()
        case "ceil":
            index = at.ceil()
        case "round_prefer_floor":
            index = (at - 0.5).ceil()
        case "round_prefer_ceil":
            index = (at + 0.5).floor()
        case other:
            raise node.error(f"nearest_mode: unknown mode {other!r}")
    return index.clamped(0, scalar(node, a.size) - 1)


def _table(node: Node, at: Calc, a: _Axis, mode: _Mode) -> tuple[Calc, Calc]:
    """Indices and weights (size of the result, taps) of a linear or cubic resize."""
    reach = 1 if mode.mode == "linear" else 2
    scale, first, taps = _footprint(node, a, reach) if mode.antialias else (1.0, 1 - reach, 2 * reach)
    low = at.floor()
    whole = at.equals(low)
    # Of two neighbours the left one counts as near: the way from there is in (0, 1].
    ratio, place = ((whole.where(low * 0 + 1, at - low)), whole.where(low - 1, low))
    ratio, place = (c.reshaped(a.result, 1) for c in (ratio, place))
    steps = Calc.iota(node, taps).reshaped(1, taps) + first
    distances = (steps - ratio) * scale
    weights = _linear(distances) if reach == 1 else _cubic(distances, mode.cubic)
    indices = steps + place
    last = scalar(node, a.size) - 1
    if mode.exclude_outside:
        weights = ((indices < 0) | (indices > last)).where(weights * 0, weights)
    if mode.antialias or mode.exclude_outside:
        total = Calc(node, node.make(Sum, weights.value, (1,), True))
        weights = weights / total.equals(0).where(total + 1, total)
    return indices.clamped(0, last), weights


def _footprint(node: Node, a: _Axis, reach: int) -> tuple[float | Calc, float | Calc, Dim]:
    """What antialiasing widens where a dimension shrinks: the scale of distances, the place of the first tap next to
    that of the element on the left, and the number of taps, which is a symbol where only the run knows the scale."""
    if not isinstance(a.scale, Calc):
        scale = min(a.scale, 1.0)
        first = int(np.floor(-reach / scale)) + 1
        return scale, first, 2 - 2 * first
    shrunk = a.scale.minimum(1)
    start = (-reach / shrunk).floor() + 1
    (taps,) = sized(node, [2 - 2 * start], f"taps_{a.axis}")
    return shrunk, start, taps


def _linear(distance: Calc) -> Calc:
    return (1 - distance.abs()).maximum(0)


def _cubic(distance: Calc, a: float) -> Calc:
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return (x <= 1).where(near, (x < 2).where(far, 0))
