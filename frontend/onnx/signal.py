"""Fourier transforms as products with matrices of sines and cosines, and tables for spectrograms."""

from __future__ import annotations

import math

import numpy as np

from ...ir.assume import require_zero
from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr
from ...ir.ops.linalg import MatMul
from ...ir.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from .calc import Calc, scalar
from .computed import computed, sized
from .declared import data, element, fallback, require
from .node import Node, converter
from .scope import Unsupported
from .windows import fixed

__all__ = ["dft", "mel_weight_matrix", "stft"]
_MOST = 1 << 13  # points of a transform: its matrix has the square of that


@converter("DFT")
def dft(node: Node) -> Value:
    """DFT along a known axis: forward, inverse, of real and of complex numbers, one-sided or whole."""
    if node.opset >= 20:
        axis = int(node.array(2, "the axis").reshape(-1)[0]) if node.has(2) else -2
    else:
        axis = node.integer("axis", 1)
    return dft_along(node, node.axis(axis, node.rank(0)))


def dft_along(node: Node, axis: int) -> Value:
    """DFT along an axis."""
    x, dims = node.value(0), node.shape(0)
    rank = len(dims)
    if axis == rank - 1:
        raise node.error("axis: the last dimension holds real and imaginary parts")
    if any(isinstance(d, Expr) for d in (dims[axis], dims[-1])):
        return _open(node, axis)
    size = fixed(node, dims[axis], "the transformed dimension")
    points = int(node.array(1, "dft_length").reshape(-1)[0]) if node.has(1) else size
    inverse, onesided = node.integer("inverse", 0) != 0, node.integer("onesided", 0) != 0
    if inverse and onesided:
        points = int(node.array(1).reshape(-1)[0]) if node.has(1) else 2 * (size - 1)
        x = _mirrored(node, x, axis, points)
    else:
        x = _fitted(node, x, axis, points)
    order = [i for i in range(rank) if i != axis]
    order.insert(rank - 2, axis)
    moved = node.make(Transpose, x, tuple(order))
    y = transform(node, moved, points, inverse, onesided and not inverse)
    back = node.make(Transpose, y, tuple(order.index(i) for i in range(rank)))
    if not (inverse and onesided):
        return back
    out = node.dims_of(back)  # of a mirrored spectrum the result is real
    return node.make(Slice, back, (0,) * rank, (*out[:-1], 1), (1,) * rank)


def _open(node: Node, axis: int | Calc) -> Value:
    """DFT of sizes, of a kind of numbers, or along an axis (a scalar) that only the run knows, by tables that are
    computed. Of an axis that is data, every dimension gets a table: that of the transform, or one that changes nothing.
    """
    rank, x = node.rank(0), as_complex(node, node.value(0))
    for a in [axis] if isinstance(axis, int) else range(rank - 1):
        x = _turned(node, x, a, None if isinstance(axis, int) else axis.equals(a))
    if not (node.integer("inverse", 0) and node.integer("onesided", 0)):
        return x.value
    out = node.dims_of(x.value)  # of half a spectrum the result is real
    return node.make(Slice, x.value, (0,) * rank, (*out[:-1], 1), (1,) * rank)


def as_complex(node: Node, x: Value) -> Calc:
    """`x`, whose last dimension is 1 or 2, as complex numbers: real ones get an imaginary part of 0."""
    dims = node.dims_of(x)
    if dims[-1] == 2:
        return Calc(node, x)
    last = as_expr(dims[-1])
    require_zero((last - 1) * (last - 2))
    pads = (*((0, 0) for _ in dims[1:]), (0, as_dim(2 - last)))
    return Calc(node, node.make(Pad, x, None, pads, "constant"))


def _turned(node: Node, x: Calc, axis: int, meant: Calc | None) -> Calc:
    """Complex `x` transformed along `axis`, if `meant` is true when the model runs (None: it is)."""
    dims = node.dims_of(x.value)
    rank, size = len(dims), dims[axis]
    half = node.integer("onesided", 0) != 0
    points = _points(node, size)
    bins = as_dim(as_expr(points) // 2 + 1) if half and not node.integer("inverse", 0) else points
    if meant is not None:
        (bins,) = sized(node, [meant.where(scalar(node, bins, "i64"), scalar(node, size, "i64"))], f"bins_{axis}")
    table = _open_table(node, size, points, bins)
    if meant is not None:
        one = Calc.iota(node, size, "i64").reshaped(size, 1).equals(Calc.iota(node, bins, "i64")).cast("f64")
        table = meant.where(table[0], one), meant.where(table[1], 0)
    real, imaginary = (t.cast(x.dtype) for t in table)
    order = [i for i in range(rank - 1) if i != axis] + [axis]
    moved = Calc(node, node.make(Transpose, x.value, (*order, rank - 1)))
    a, b = (_part(node, moved, i) for i in range(2))
    parts = [_product(a, real) - _product(b, imaginary), _product(a, imaginary) + _product(b, real)]
    shape = (*(dims[i] for i in order[:-1]), bins, 1)
    y = node.make(Concat, tuple(p.reshaped(*shape).value for p in parts), rank - 1)
    return Calc(node, node.make(Transpose, y, (*(order.index(i) for i in range(rank - 1)), rank - 1)))


def _points(node: Node, size: Dim) -> Dim:
    """The number of points of a transform of `size` numbers."""
    if node.has(1):
        known = node.known(1)
        if known is not None:
            return as_dim(known.dims.reshape(-1)[0])
        return sized(node, [Calc(node, node.value(1)).cast("i64").reshaped()], "points")[0]
    halved = node.integer("inverse", 0) and node.integer("onesided", 0)
    return as_dim((as_expr(size) - 1) * 2) if halved else size


def _open_table(node: Node, size: Dim, points: Dim, bins: Dim) -> tuple[Calc, Calc]:
    """Cosines and sines (size, bins). What lies behind the points of the transform counts nothing, and of half a
    spectrum every number counts for the one that it mirrors, too."""
    inverse = node.integer("inverse", 0) != 0
    count = scalar(node, points, "i64").maximum(1)
    row, column = Calc.iota(node, size, "i64").reshaped(size, 1), Calc.iota(node, bins, "i64").reshaped(1, bins)
    turns = row * column
    turns = turns - turns / count * count
    angle = turns.cast("f64") * (2 * math.pi * (1 if inverse else -1)) / count.cast("f64")
    if inverse and node.integer("onesided", 0):
        alone = row.equals(0) | (row * 2).equals(count)
        factor = alone.cast("f64") * -1.0 + 2
        weight = (row * 2 > count).where(factor * 0.0, factor)
    else:
        weight = (row < count).cast("f64")
    if inverse:
        weight = weight / count.cast("f64")
    return angle.cos() * weight, angle.sin() * weight


def _part(node: Node, x: Calc, index: int) -> Calc:
    dims = node.dims_of(x.value)
    starts, stops = (*[0] * (len(dims) - 1), index), (*dims[:-1], index + 1)
    return Calc(node, node.make(Slice, x.value, starts, stops, (1,) * len(dims))).reshaped(*dims[:-1])


def _product(x: Calc, table: Calc) -> Calc:
    return Calc(x.node, x.node.make(MatMul, x.value, table.value))


@computed("DFT")
def dft_along_computed(node: Node) -> Value:
    """DFT along an axis, or of a number of points, that is data."""
    rank = node.rank(0)
    if rank < 2:
        raise node.error(f"expected an input of rank 2 or more, got {node.type(0)}")
    if node.opset < 20 or not node.has(2):
        return _open(node, node.axis(node.integer("axis", 1) if node.opset < 20 else -2, rank))
    known = node.maybe_array(2)
    if known is not None:
        return _open(node, node.axis(int(known.reshape(-1)[0]), rank))
    axis = Calc(node, node.value(2)).cast("i64").reshaped()
    return _open(node, (axis < 0).where(axis + rank, axis))


@fallback("DFT")
def dft_by_data(node: Node, declared: tuple[int, ...]) -> Value:
    """DFT along an axis that is data: along each that leads to the declared shape, and then the one that is meant."""
    rank = len(declared)
    axis = element(data(node, 2), 0)
    axis = (axis < 0).where(axis + rank, axis)
    result: Calc | None = None
    valid = axis < 0
    for a in range(rank - 1):
        if fixed(node, node.shape(0)[a], "the input's shape") < 2:
            continue
        found = Calc(node, dft_along(node, a))
        if node.dims_of(found.value) == declared:
            result = found if result is None else axis.equals(a).where(found, result)
            valid = valid | axis.equals(a)
    if result is None:
        raise node.unknown(2, "the axis")
    return require(node, result.value, valid)


def _fitted(node: Node, x: Value, axis: int, points: int) -> Value:
    """Cut, or padded with zeros, to `points`."""
    dims = node.dims_of(x)
    size = fixed(node, dims[axis], "the transformed dimension")
    if size > points:
        stops = tuple(points if i == axis else d for i, d in enumerate(dims))
        return node.make(Slice, x, (0,) * len(dims), stops, (1,) * len(dims))
    pads = tuple((0, points - size if i == axis else 0) for i in range(len(dims)))
    return node.make(Pad, x, None, pads, "constant") if points > size else x


def _mirrored(node: Node, x: Value, axis: int, points: int) -> Value:
    """A one-sided spectrum made whole: the other half is conjugate."""
    dims = node.dims_of(x)
    rank = len(dims)
    if dims[-1] != 2:
        raise node.error(f"expected complex numbers, got {x.tensor}")
    x = _fitted(node, x, axis, points // 2 + 1)
    first, count = (points + 1) // 2 - 1, points - (points // 2 + 1)
    starts = tuple(first if i == axis else 0 for i in range(rank))
    stops = tuple(first - count if i == axis else d for i, d in enumerate(node.dims_of(x)))
    steps = tuple(-1 if i == axis else 1 for i in range(rank))
    other = Calc(node, node.make(Slice, x, starts, stops, steps))
    sign = Calc(node, node.literal(np.array([1, -1], np.float64))).cast(other.dtype)
    return node.make(Concat, (x, (other * sign).value), axis)


def transform(node: Node, x: Value, points: int, inverse: bool, onesided: bool) -> Value:
    """The transform along the last dimension but one of `x`, whose last one is 1 (real) or 2 (complex)."""
    if points < 1:
        raise node.error(f"expected a transform of at least 1 point, got {points}")
    if points > _MOST:
        raise Unsupported(f"a Fourier transform of {points} points")
    dims = node.dims_of(x)
    dtype = x.tensor.dtype
    parts = fixed(node, dims[-1], "the last dimension")
    if parts not in (1, 2):
        raise node.error(f"expected a last dimension of 1 or 2, got {x.tensor}")
    rows = points // 2 + 1 if onesided else points
    turns = np.outer(np.arange(rows), np.arange(points)) % max(points, 1)
    angle = 2 * math.pi * turns / max(points, 1) * (1 if inverse else -1)
    scale = 1 / points if inverse else 1
    real, imaginary = np.cos(angle) * scale, np.sin(angle) * scale
    # Real and imaginary parts are columns: [re im] of the result is a sum over the points of 2 x 2 blocks.
    table = np.stack([np.stack([real, imaginary], 1), np.stack([-imaginary, real], 1)], 0)[:parts]
    matrix: np.ndarray = table.transpose(3, 0, 1, 2).reshape(points * parts, rows * 2)
    flat = node.make(Reshape, x, (*dims[:-2], points * parts))
    product = node.make(MatMul, flat, Calc(node, node.literal(matrix)).cast(dtype).settled())
    return node.make(Reshape, product, (*dims[:-2], rows, 2))


@converter("Rfft", "Irfft", domain="com.microsoft")
def real_transform(node: Node) -> Value:
    """Rfft: half the spectrum of real numbers, [..., n] to [..., n // 2 + 1, 2]; Irfft: back. The last `signal_ndim`
    dimensions are transformed, of which only the last one is halved."""
    inverse, count = node.op_type == "Irfft", node.integer("signal_ndim", 1)
    if node.integer("normalized", 0) or not node.integer("onesided", 1):
        raise Unsupported("a transform that is normalized, or not one-sided", "use DFT of ai.onnx")
    x, rank = node.value(0), node.rank(0) + (not inverse)  # with the dimension of real and imaginary parts
    if not 1 <= count < rank:
        raise node.error(f"signal_ndim: expected 1 to {rank - 1}, got {count}")
    axes = range(rank - 1 - count, rank - 1)
    if not inverse:
        x = node.make(Reshape, x, (*node.shape(0), 1))
    for axis in axes if inverse else reversed(axes):
        halved = axis == rank - 2
        size = fixed(node, node.dims_of(x)[axis], "the transformed dimension")
        points = 2 * (size - 1) if inverse and halved else size
        order = [i for i in range(rank) if i != axis]
        order.insert(rank - 2, axis)
        moved = _mirrored(node, x, axis, points) if inverse and halved else x
        y = transform(node, node.make(Transpose, moved, tuple(order)), points, inverse, halved and not inverse)
        x = node.make(Transpose, y, tuple(order.index(i) for i in range(rank)))
    if not inverse:
        return x
    dims = node.dims_of(x)
    real = node.make(Slice, x, (0,) * rank, (*dims[:-1], 1), (1,) * rank)
    return node.make(Reshape, real, dims[:-1])


@converter("STFT")
def stft(node: Node) -> Value:
    """STFT with a known step and length of frames."""
    x, dims, rank = node.value(0), node.shape(0), node.rank(0)
    if rank not in (2, 3):
        raise node.error(f"expected a signal of rank 2 or 3, got {node.type(0)}")
    step = int(node.array(1, "frame_step").reshape(-1)[0])
    length = int(node.array(3, "frame_length").reshape(-1)[0]) if node.has(3) else None
    if length is None:
        length = fixed(node, node.shape(2)[0], "the window") if node.has(2) else fixed(node, dims[1], "the signal")
    size = fixed(node, dims[1], "the signal")
    parts: Dim = dims[2] if rank == 3 else 1
    frames = (size - length) // max(step, 1) + 1
    if step < 1 or frames < 1:
        raise node.error(f"expected frames of {length} every {step} inside of {size} samples")
    signal = node.make(Reshape, x, (dims[0], size, parts))
    rows = [
        node.make(
            Reshape,
            node.make(Slice, signal, (0, i * step, 0), (dims[0], i * step + length, parts), (1, 1, 1)),
            (dims[0], 1, length, parts),
        )
        for i in range(frames)
    ]
    framed = Calc(node, rows[0] if frames == 1 else node.make(Concat, tuple(rows), 1))
    if node.has(2):
        framed = framed * Calc(node, node.value(2)).reshaped(length, 1)
    return transform(node, framed.value, length, False, node.integer("onesided", 1) != 0)


@converter("MelWeightMatrix")
def mel_weight_matrix(node: Node) -> Value:
    """MelWeightMatrix of known numbers: a table."""
    given = [float(node.array(i, "its inputs").reshape(-1)[0]) for i in range(5)]
    (bins, points), (rate, low, high) = map(int, given[:2]), given[2:]
    dtype = node.dtype(node.integer("output_datatype", 1))
    columns = points // 2 + 1
    # ONNX divides by the number of edges, so that the last one stays below the upper frequency.
    step = (_mel(high) - _mel(low)) / (bins + 2)
    mels = np.linspace(_mel(low), _mel(high) - step, bins + 2)
    edges = ((points + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(int)
    table = np.zeros((columns, bins))
    for i in range(bins):
        left, centre, right = edges[i : i + 3]
        if left == centre:
            table[centre, i] = 1
        else:
            table[left : centre + 1, i] = (np.arange(left, centre + 1) - left) / (centre - left)
        if centre != right:
            table[centre:right, i] = (right - np.arange(centre, right)) / (right - centre)
    return Calc(node, node.literal(table)).cast(dtype).value


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)
