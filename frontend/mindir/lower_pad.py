"""Lowerings of MindIR's primitives that pad."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.expr import Dim, as_dim, as_expr
from .lower_common import constant, known, rank, reshaped, sliced
from .lower_index import like_first
from .lower_moves import turned
from .primitive import Call, Item, primitive

_MODES = {"CONSTANT": "constant", "REFLECT": "reflect", "EDGE": "edge", "CIRCULAR": "wrap"}


def padded(
    call: Call, x: Item, pads: Sequence[tuple[Dim, Dim]], mode: str = "constant", value: Item | None = None
) -> Item:
    """`pads` (before, after) for each of the last dimensions."""
    pads = [(0, 0)] * (rank(call, x) - len(pads)) + list(pads)
    numbers = [p[i] for i in range(2) for p in pads]
    if all(n == 0 for n in numbers):
        return x
    return call.op("Pad", x, numbers, value, mode=mode)


def from_the_end(numbers: Sequence[Dim]) -> list[tuple[Dim, Dim]]:
    """Pairs whose first is that of the last dimension, in order of dimensions."""
    return list(zip(numbers[::2], numbers[1::2], strict=True))[::-1]


@primitive("Pad")
def pad(call: Call) -> Item:
    """Zeros around."""
    numbers = call.ints("paddings")
    return padded(call, call.tensor(0), list(zip(numbers[::2], numbers[1::2], strict=True)))


@primitive("PadV3")
def pad_v3(call: Call) -> Item:
    """Around the last dimensions: a constant, reflections, the edge, or the other side."""
    x, numbers = call.tensor(0), call.dims("paddings")
    if not call.flag("paddings_contiguous", True):
        half = len(numbers) // 2
        numbers = tuple(n for pair in zip(numbers[:half], numbers[half:], strict=True) for n in pair)
    mode = _MODES[call.string("mode", "constant").upper()]
    value = None
    if mode == "constant" and call.has("constant_value"):
        value = reshaped(call, like_first(call, x, call.datum("constant_value")), [])
    return padded(call, x, from_the_end(numbers), mode, value)


@primitive("ConstantPadND")
def constant_pad(call: Call) -> Item:
    """A constant around the last dimensions."""
    x = call.tensor(0)
    value = reshaped(call, like_first(call, x, call.datum("value", 0.0)), [])
    return padded(call, x, from_the_end(call.dims("padding")), "constant", value)


@primitive("ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D")
def reflection_pad(call: Call) -> Item:
    """Reflections around the last dimensions."""
    return padded(call, call.tensor(0), from_the_end(call.dims("padding")), "reflect")


@primitive("ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D")
def replication_pad(call: Call) -> Item:
    """The edge repeated around the last dimensions."""
    return padded(call, call.tensor(0), from_the_end(call.dims("padding")), "edge")


@primitive("MirrorPad")
def mirror_pad(call: Call) -> Item:
    """Reflections, with the edge (SYMMETRIC) or without (REFLECT)."""
    x, numbers = call.tensor(0), call.ints("paddings")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if call.string("mode", "REFLECT").upper() == "REFLECT":
        return padded(call, x, pairs, "reflect")
    for axis, (before, after) in enumerate(pairs):
        size = call.shape(x)[axis]
        parts = [x]
        if before:
            parts.insert(0, turned(call, sliced(call, x, axis, 0, before), [axis]))
        if after:
            parts.append(turned(call, sliced(call, x, axis, as_dim(as_expr(size) - after), size), [axis]))
        x = call.op("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


@primitive("Padding")
def padding(call: Call) -> Item:
    """The last dimension, of size 1, filled up with zeros to `pad_dim_size`."""
    x = call.tensor(0)
    size = known(call, call.shape(x)[-1], "the last dimension")
    return padded(call, x, [(0, call.integer("pad_dim_size", 8) - size)], value=constant(call, 0, x))


__all__ = ["from_the_end", "padded"]
