"""Tables and spectrograms whose sizes are data: what `signal` does with known numbers."""

from __future__ import annotations

import math

from ...ir.core import Value
from ...ir.expr import Dim
from ...ir.ops.arith import Log
from ...ir.ops.linalg import MatMul
from ...ir.ops.shape import Concat, Gather, Reshape, Slice
from .calc import Calc, scalar
from .computed import computed, sized
from .node import Node
from .signal import as_complex

__all__ = ["mel_weights", "spectrogram"]
_MEL = 2595 / math.log(10)


def _number(node: Node, index: int, dtype: str) -> Calc:
    return Calc(node, node.value(index)).cast(dtype).reshaped()


def _between(x: Calc, low: Calc, high: Calc) -> Calc:
    """True for `low <= x < high`."""
    return (x >= low) & (x < high)


@computed("MelWeightMatrix")
def mel_weights(node: Node) -> Value:
    """MelWeightMatrix of numbers that only the run knows."""
    bins, points = (_number(node, i, "i64") for i in range(2))
    rate, low, high = (_number(node, i, "f64") for i in range(2, 5))
    rows, columns = sized(node, [points / 2 + 1, bins])
    first, last = (Calc(node, node.make(Log, (f / 700 + 1).value)) * _MEL for f in (low, high))
    step = (last - first) / (bins + 2).cast("f64")
    scale = (points + 1).cast("f64")

    def edge(offset: int) -> Calc:
        mel = (Calc.iota(node, columns) + offset) * step + first
        return ((((mel / _MEL).exp() - 1) * 700) * scale / rate).floor()

    left, centre, right = (edge(i) for i in range(3))
    at = Calc.iota(node, rows).reshaped(rows, 1)
    one = at * 0.0 + 1
    wide, narrow = (centre - left).maximum(1), (right - centre).maximum(1)
    rising = _between(at, left, centre + 1).where((at - left) / wide, 0.0)
    rising = (left.equals(centre) & at.equals(centre)).where(one, rising)
    weights = _between(at, centre, right).where((right - at) / narrow, rising)
    return weights.cast(node.dtype(node.integer("output_datatype", 1))).value


@computed("STFT")
def spectrogram(node: Node) -> Value:
    """STFT of a step or a length that only the run knows."""
    dims = node.shape(0)
    if len(dims) not in (2, 3) or (len(dims) == 3 and isinstance(dims[2], int) and dims[2] not in (1, 2)):
        raise node.error(f"expected a signal [batch, samples, 1 or 2], got {node.type(0)}")
    step = _number(node, 1, "i64").maximum(1)
    if node.has(3):
        (length,) = sized(node, [_number(node, 3, "i64")], "length")
    else:
        length = node.shape(2)[0] if node.has(2) else dims[1]
    (frames,) = sized(node, [(scalar(node, dims[1], "i64") - scalar(node, length, "i64")) / step + 1], "frames")
    parts = 1 if len(dims) == 2 or dims[2] == 1 else 2
    x = node.value(0) if parts == 1 else as_complex(node, node.value(0)).value
    signal = node.make(Reshape, x, (dims[0], dims[1], parts))
    at = Calc.iota(node, frames, "i64").reshaped(frames, 1) * step + Calc.iota(node, length, "i64")
    framed = Calc(node, node.make(Gather, signal, at.value, 1))
    if node.has(2):
        framed = framed * Calc(node, node.value(2)).reshaped(length, 1)
    bins = sized(node, [scalar(node, length, "i64") / 2 + 1], "bins")[0] if node.integer("onesided", 1) else length
    return _transformed(node, framed, (dims[0], frames, length), parts, bins)


def _transformed(node: Node, framed: Calc, dims: tuple[Dim, ...], parts: int, bins: Dim) -> Value:
    """The Fourier transform of each frame, by a table that is computed."""
    count = scalar(node, dims[2], "i64")
    turns = Calc.iota(node, dims[2], "i64").reshaped(dims[2], 1) * Calc.iota(node, bins, "i64")
    angle = (turns - turns / count * count).cast("f64") * (-2 * math.pi) / count.cast("f64")
    real, imaginary = (t.cast(framed.dtype).value for t in (angle.cos(), angle.sin()))

    def part(index: int) -> Value:
        stops = (*dims, index + 1)
        return node.make(Reshape, node.make(Slice, framed.value, (0, 0, 0, index), stops, (1,) * 4), dims)

    def by(x: Value, table: Value) -> Calc:
        return Calc(node, node.make(MatMul, x, table))

    found = [by(part(0), real), by(part(0), imaginary)]
    if parts == 2:
        found = [found[0] - by(part(1), imaginary), found[1] + by(part(1), real)]
    shape = (dims[0], dims[1], bins, 1)
    return node.make(Concat, tuple(f.reshaped(*shape).value for f in found), 3)
