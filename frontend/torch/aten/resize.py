"""Pictures in other sizes: interpolation, sampling on grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.expr import Dim, Expr, as_dim, as_expr
from .base import Build, Item, Unsupported, aten


def _resized(
    b: Build, x: Item, sizes: Sequence[Dim] | None, scales: Sequence[float | None] | None, mode: str, aligned: bool,
    *, exact: bool = False, antialias: bool = False,
) -> Item:  # fmt: skip
    """Resize the spatial dimensions to `sizes`; coordinates follow from the given scales, where there are some."""
    space = b.rank(x) - 2
    given = [s for s in scales or [] if s is not None]
    factors = [float(s) for s in given] if len(given) == space else None
    dims = b.shape(x)[2:]
    if sizes is None:
        if factors is None:
            raise Unsupported("neither size nor scale")
        sizes = [_scaled(d, f) for d, f in zip(dims, factors, strict=True)]
    coordinates = "align_corners" if aligned else "asymmetric" if mode == "nearest" and not exact else "half_pixel"
    if mode != "nearest" and not aligned:
        coordinates = "pytorch_half_pixel" if mode == "linear" and not antialias else "half_pixel"
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": "round_prefer_ceil" if exact else "floor",
        "cubic_coeff_a": -0.5 if antialias else -0.75,
        "antialias": int(antialias),
        "exclude_outside": int(antialias),
    }
    if factors is not None and not aligned and _fits(dims, sizes, factors):
        scale = b.a.constant(np.asarray(factors, np.float32))
        empty = b.a.constant(np.zeros(0, np.float32))
        return b.op("Resize", x, empty, scale, **{**attributes, "axes": list(range(2, 2 + space))})

    wanted = b.a.sizes(list(sizes))
    return b.op("Resize", x, None, None, wanted, **{**attributes, "axes": list(range(2, 2 + space))})


def _scaled(size: Dim, factor: float) -> Dim:
    if isinstance(size, int):
        return int(size * factor)
    if factor == int(factor):
        return as_dim(as_expr(size) * int(factor))
    if 1 / factor == int(1 / factor):
        return as_dim(as_expr(size) // int(1 / factor))
    raise Unsupported(f"a size that is not known, times {factor}", "fix the picture's size")


def _fits(dims: Sequence[Dim], sizes: Sequence[Dim], factors: Sequence[float]) -> bool:
    """Whether the scales give these sizes: else only the sizes count."""
    for d, s, f in zip(dims, sizes, factors, strict=True):
        if isinstance(d, Expr) or isinstance(s, Expr):
            if f != int(f):
                return False
        elif int(d * np.float32(f)) != s:
            return False
    return True


def _enter(name: str, space: int, mode: str, *, exact: bool = False) -> None:
    suffix = ("d", "h", "w")[3 - space :]

    def scales_of(named: dict[str, Any]) -> list[float | None] | None:
        if named.get("scale_factors") is not None:
            return list(named["scale_factors"])
        keys = ["scales"] if space == 1 else [f"scales_{s}" for s in suffix]
        found = [named.get(k) for k in keys]
        return found if any(f is not None for f in found) else None

    def lower(
        b: Build, x: Item | None = None, input: Item | None = None, output_size: Sequence[Dim] | None = None,
        align_corners: bool = False, **named: Any,
    ) -> Item:  # fmt: skip
        source = x if x is not None else input
        assert source is not None
        smooth = name.endswith("_aa")
        return _resized(b, source, output_size, scales_of(named), mode, align_corners, exact=exact, antialias=smooth)

    aten(name, f"{name}.vec")(lower)


for _name, _space in {"nearest1d": 1, "nearest2d": 2, "nearest3d": 3}.items():
    _enter(f"upsample_{_name}", _space, "nearest")
    _enter(f"_upsample_nearest_exact{_space}d", _space, "nearest", exact=True)
for _name, _space in {"linear1d": 1, "bilinear2d": 2, "trilinear3d": 3}.items():
    _enter(f"upsample_{_name}", _space, "linear")
_enter("upsample_bicubic2d", 2, "cubic")
_enter("_upsample_bilinear2d_aa", 2, "linear")
_enter("_upsample_bicubic2d_aa", 2, "cubic")


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(
    b: Build, input: Item, grid: Item, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Item:
    mode = ("linear", "nearest", "cubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    return b.op("GridSample", input, grid, mode=mode, padding_mode=padding, align_corners=int(align_corners))


@aten("affine_grid_generator")
def affine_grid(b: Build, theta: Item, size: Sequence[Dim], align_corners: bool) -> Item:
    return b.op("AffineGrid", theta, b.a.sizes(list(size)), align_corners=int(align_corners))
