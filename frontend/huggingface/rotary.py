"""Rotary embeddings: queries and keys are turned in pairs of channels, by angles that grow with the position.

Kinds of scaling for longer contexts, as configurations name them: default, linear, dynamic, llama3, yarn, longrope.
Numbers are those of transformers' `modeling_rope_utils`, in f32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ir.errors import ModelError, UnsupportedError
from ..assembly import Item
from .config import Config
from .layers import Net

_F32 = np.float32


@dataclass(frozen=True)
class Rotary:
    """The angles of one kind of layer. `size` channels of each head are turned, `frequencies` [size / 2] are the
    angles of position 1, sines and cosines are multiplied by `factor`. `grown` gives other frequencies for the
    largest position of a run."""

    size: int
    frequencies: np.ndarray
    factor: float = 1.0
    grown: Callable[[Net, Item], Item] | None = None

    def tables(self, n: Net, name: str, positions: Item) -> tuple[Item, Item]:
        """Cosines and sines of `positions` (i64[batch, length]), [batch, 1, length, size / 2] each."""
        batch, length = n.dims(positions)

        def angles() -> Item:
            a = n.a
            where = a.op("Reshape", a.op("Cast", positions, to=1), [batch, 1, length, 1])
            each = a.constant(self.frequencies) if self.grown is None else self.grown(n, positions)
            return a.op("Mul", where, each)

        angle = n.leaf(f"{name}.angles", "Rotary", angles, positions)
        cosine, sine = (n.op(f"{name}.{kind.lower()}", kind, angle) for kind in ("Cos", "Sin"))
        if self.factor != 1.0:
            cosine, sine = (n.op(f"{name}.scaled", "Mul", x, n.a.like(self.factor, x)) for x in (cosine, sine))
        return cosine, sine

    def turned(self, n: Net, name: str, x: Item, tables: tuple[Item, Item]) -> Item:
        """[batch, heads, length, size of a head] with its first channels turned."""
        cosine, sine = tables
        whole = n.width(x)

        def build() -> Item:
            a, half = n.a, self.size // 2
            sizes = [half, half] if whole == self.size else [half, half, whole - self.size]
            left, right, *rest = a.ops("Split", x, sizes, outputs=len(sizes), axis=-1)
            first = a.op("Sub", a.op("Mul", left, cosine), a.op("Mul", right, sine))
            second = a.op("Add", a.op("Mul", right, cosine), a.op("Mul", left, sine))
            return a.op("Concat", first, second, *rest, axis=-1)

        return n.leaf(name, "RotaryEmbedding", build, x, cosine, sine)


def read_rotary(config: Config, head: int, default_base: float = 10_000.0, kind: str = "") -> Rotary:
    """The rotary embedding of a configuration, in its present form (`rope_parameters`, perhaps one for each kind of
    layer) or its old one (`rope_theta`, `rope_scaling`). `head` is the size of a head. Raises `UnsupportedError` for
    kinds of scaling that are not known."""
    given = config.part("rope_parameters")
    if kind and kind in given.values:
        given = given.part(kind)
    if not given.values:
        given = config.part("rope_scaling").merged({})
    base = given.number("rope_theta", default=config.number("rope_theta", default=default_base))
    partial = given.number("partial_rotary_factor", default=config.number("partial_rotary_factor", default=1.0))
    size = int(head * partial)
    longest = config.integer("max_position_embeddings", default=2048)
    scaling = given.text("rope_type", "type", default="default")
    if size < 2 or size % 2:
        raise UnsupportedError(f"{config.where}: expected an even number of channels to turn, got {size} of {head}")
    make = _KINDS.get(scaling)
    if make is None:
        raise UnsupportedError(
            f"{given.where}: rope_type: expected {', '.join(_KINDS)}, got {scaling!r}: export the model to ONNX, and "
            "compile that"
        )
    try:
        return make(given, base, size, longest)
    except (ArithmeticError, ValueError) as e:
        raise ModelError(f"{given.where}: expected numbers that {scaling} can be computed with: {e}") from e


def _powers(base: float, size: int) -> np.ndarray:
    """`base ^ (2 i / size)`."""
    return np.power(_F32(base), np.arange(0, size, 2, dtype=_F32) / _F32(size), dtype=_F32)


def _default(given: Config, base: float, size: int, longest: int) -> Rotary:
    return Rotary(size, (_F32(1) / _powers(base, size)).astype(_F32))


def _linear(given: Config, base: float, size: int, longest: int) -> Rotary:
    return Rotary(size, (_F32(1) / _powers(base, size) / _F32(given.number("factor"))).astype(_F32))


def _dynamic(given: Config, base: float, size: int, longest: int) -> Rotary:
    """The base grows when positions go beyond those of training."""
    factor, power = given.number("factor"), size / (size - 2)

    def grown(n: Net, positions: Item) -> Item:
        a = n.a
        reached = a.op("Add", a.op("ReduceMax", positions, keepdims=0), a.scalar(1, "i64"))
        length = a.op("Cast", a.op("Max", reached, a.scalar(longest, "i64")), to=1)
        stretch = a.op("Sub", a.op("Mul", length, a.scalar(factor / longest, "f32")), a.scalar(factor - 1, "f32"))
        grown = a.op("Mul", a.op("Pow", stretch, a.scalar(power, "f32")), a.scalar(base, "f32"))
        powers = -np.arange(0, size, 2, dtype=_F32) / _F32(size)
        return a.op("Pow", grown, a.constant(powers))

    return Rotary(size, _default(given, base, size, longest).frequencies, grown=grown)


def _llama3(given: Config, base: float, size: int, longest: int) -> Rotary:
    """Low frequencies are divided by a factor, high ones stay, those between change smoothly."""
    frequencies = _default(given, base, size, longest).frequencies.astype(np.float64)
    factor, low, high = (given.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = given.integer("original_max_position_embeddings", default=longest)
    wavelength = 2 * math.pi / frequencies
    smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    return Rotary(size, between.astype(_F32))


def _yarn(given: Config, base: float, size: int, longest: int) -> Rotary:
    """YaRN: a ramp between divided and plain frequencies, and a factor on sines and cosines."""
    original = given.integer("original_max_position_embeddings", default=longest)
    factor = given.number("factor", default=longest / original)

    def magnitude(scale: float, by: float = 1.0) -> float:
        return 1.0 if scale <= 1 else 0.1 * by * math.log(scale) + 1.0

    scale, all_dim = given.number("mscale", default=0.0), given.number("mscale_all_dim", default=0.0)
    inferred = magnitude(factor, scale) / magnitude(factor, all_dim) if scale and all_dim else magnitude(factor)
    attention = given.number("attention_factor", default=inferred)

    def turns(rotations: float) -> float:
        """The channel that makes so many rotations over the original length."""
        return size * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = turns(given.number("beta_fast", default=32.0)), turns(given.number("beta_slow", default=1.0))
    if given.flag("truncate", default=True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = np.clip((np.arange(size // 2) - low) / (high - low if high != low else 0.001), 0, 1)
    plain = 1.0 / _powers(base, size).astype(np.float64)
    return Rotary(size, (plain / factor * ramp + plain * (1 - ramp)).astype(_F32), attention)


def _longrope(given: Config, base: float, size: int, longest: int) -> Rotary:
    """LongRoPE: one divisor for each frequency, others for runs beyond the original length."""
    original = given.integer("original_max_position_embeddings", default=longest)
    factor = given.number("factor", default=longest / original)
    inferred = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    powers = _powers(base, size)
    if any(len(given.items(name)) != len(powers) for name in ("short_factor", "long_factor")):
        raise ValueError(f"short_factor and long_factor need {len(powers)} numbers")
    near, far = (
        (_F32(1) / (np.array(given.items(name), _F32) * powers)).astype(_F32)
        for name in ("short_factor", "long_factor")
    )

    def grown(n: Net, positions: Item) -> Item:
        a = n.a
        beyond = a.op("GreaterOrEqual", a.op("ReduceMax", positions, keepdims=0), a.scalar(original, "i64"))
        return a.op("Where", beyond, a.constant(far), a.constant(near))

    return Rotary(size, near, given.number("attention_factor", default=inferred), grown)


_KINDS: dict[str, Callable[[Config, float, int, int], Rotary]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}

__all__ = ["Rotary", "read_rotary"]
