"""Lowerings of MindIR's Fourier and cosine transforms.

Between transforms complex numbers are pairs of f32 in a last dimension, as ONNX's DFT takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .lower_array import swapped
from .lower_common import axis_of, constant, known, one_at, rank, sliced
from .lower_complex import complex_of, halves, is_complex
from .lower_pad import padded
from .primitive import Call, Item, primitive

_NORMS = {0: "BACKWARD", 1: "FORWARD", 2: "ORTHO"}
_OTHER = {"BACKWARD": "FORWARD", "FORWARD": "BACKWARD", "ORTHO": "ORTHO"}


def _pairs(call: Call, x: Item) -> Item:
    """Complex numbers as pairs, real ones as tuples of one."""
    axis = rank(call, x)
    if not is_complex(call, x):
        return call.op("Unsqueeze", call.cast(x, "f32"), [axis])
    return call.op("Concat", *(call.op("Unsqueeze", part, [axis]) for part in halves(call, x)), axis=axis)


def _complex(call: Call, pairs: Item) -> Item:
    """Pairs as complex numbers."""
    axis = rank(call, pairs) - 1
    return complex_of(call, *(one_at(call, pairs, axis, i) for i in range(2)))


def _conjugated(call: Call, pairs: Item) -> Item:
    """Pairs with the other sign of the second."""
    if call.shape(pairs)[-1] != 2:
        return pairs
    return call.op("Mul", pairs, call.a.constant(np.array([1, -1], np.float32)))


def _norm(call: Call) -> str:
    """How the transform is scaled."""
    return call.word("norm", _NORMS) if call.datum("norm", None) is not None else "BACKWARD"


def transformed(
    call: Call, pairs: Item, axis: int, points: int | None, inverse: bool, norm: str, half: bool = False
) -> Item:
    """One transform along an axis. `half`: of real numbers the first half of the spectrum, and back from it."""
    size = known(call, call.shape(pairs)[axis], "the axis")
    count = points or (2 * (size - 1) if inverse and half else size)
    y = call.op(
        "DFT", pairs, call.a.scalar(count, "i64"), call.a.scalar(axis, "i64"), inverse=int(inverse), onesided=int(half)
    )
    # ONNX's inverse divides by the number of points, as "backward" does.
    scale = {"BACKWARD": 0.0, "FORWARD": 1.0 if inverse else -1.0, "ORTHO": 0.5 if inverse else -0.5}[norm]
    return y if scale == 0 else call.op("Mul", y, constant(call, float(count) ** scale, y))


def _axes(call: Call) -> tuple[list[int], list[int | None]]:
    """The dimensions to transform and how many points each gets."""
    dims = rank(call, call.tensor(0))
    if call.name.endswith("N"):
        sizes, axes = call.optional_ints("s"), call.optional_ints("dim")
        if axes is None:
            axes = tuple(range(dims)) if sizes is None else tuple(range(dims - len(sizes), dims))
    elif call.name.endswith("2"):
        sizes, axes = call.optional_ints("s"), call.ints("dim", (-2, -1))
    else:
        sizes, axes = call.optional_ints("n"), call.ints("dim", (-1,))
    points: list[int | None] = [None] * len(axes) if sizes is None else [s if s > 0 else None for s in sizes]
    return [axis_of(call, a, dims, "dim") for a in axes], points


@primitive("FFT", "FFT2", "FFTN", "IFFT", "IFFT2", "IFFTN")
def fft(call: Call) -> Item:
    """The transform of complex numbers and its inverse."""
    pairs, norm = _pairs(call, call.tensor(0)), _norm(call)
    for axis, points in zip(*_axes(call), strict=True):
        pairs = transformed(call, pairs, axis, points, call.name.startswith("I"), norm)
    return _complex(call, pairs)


def _to_half(call: Call, x: Item, norm: str) -> Item:
    """Half of the spectrum of real numbers, as pairs."""
    axes, points = _axes(call)
    pairs = transformed(call, _pairs(call, x), axes[-1], points[-1], False, norm, half=True)
    for axis, count in list(zip(axes, points, strict=True))[:-1]:
        pairs = transformed(call, pairs, axis, count, False, norm)
    return pairs


def _from_half(call: Call, pairs: Item, norm: str) -> Item:
    """Real numbers of half of their spectrum."""
    axes, points = _axes(call)
    for axis, count in list(zip(axes, points, strict=True))[:-1]:
        pairs = transformed(call, pairs, axis, count, True, norm)
    y = transformed(call, pairs, axes[-1], points[-1], True, norm, half=True)
    return one_at(call, y, rank(call, y) - 1, 0)


@primitive("RFFT", "RFFT2", "RFFTN")
def rfft(call: Call) -> Item:
    """Half of the spectrum of real numbers."""
    return _complex(call, _to_half(call, call.tensor(0), _norm(call)))


def _with_both(call: Call, pairs: Item) -> Item:
    """Pairs, also of real numbers."""
    return padded(call, pairs, [(0, 1)]) if call.shape(pairs)[-1] == 1 else pairs


@primitive("IRFFT", "IRFFT2", "IRFFTN")
def irfft(call: Call) -> Item:
    """Real numbers of half of their spectrum."""
    return _from_half(call, _with_both(call, _pairs(call, call.tensor(0))), _norm(call))


@primitive("HFFT", "HFFT2", "HFFTN")
def hfft(call: Call) -> Item:
    """The real spectrum of numbers of which half is given, as the other half is their conjugate."""
    pairs = _conjugated(call, _with_both(call, _pairs(call, call.tensor(0))))
    return _from_half(call, pairs, _OTHER[_norm(call)])


@primitive("IHFFT", "IHFFT2", "IHFFTN")
def ihfft(call: Call) -> Item:
    """The inverse of it."""
    return _complex(call, _conjugated(call, _to_half(call, call.tensor(0), _OTHER[_norm(call)])))


@primitive("FFTWithSize")
def fft_with_size(call: Call) -> Item:
    """Transforms of the last dimensions of all kinds."""
    x = call.tensor(0)
    dims, count = rank(call, x), call.integer("signal_ndim")
    inverse, real, norm = call.flag("inverse"), call.flag("real"), _norm(call)
    half = real and call.flag("onesided", True)
    axes = list(range(dims - count, dims))
    sizes = [s for s in call.optional_ints("signal_sizes") or () if s > 0]
    pairs = _pairs(call, x)
    if half and not inverse:
        pairs = transformed(call, pairs, axes.pop(), None, False, norm, half=True)
    last = axes.pop() if half and inverse else None
    for axis in axes:
        pairs = transformed(call, pairs, axis, None, inverse, norm)
    if last is not None:
        pairs = transformed(call, _with_both(call, pairs), last, sizes[-1] if sizes else None, True, norm, half=True)
    if real and inverse:
        return one_at(call, pairs, rank(call, pairs) - 1, 0)
    return _complex(call, pairs)


@primitive("FFTFreq", "RFFTFreq")
def fft_freq(call: Call) -> Item:
    """Frequencies of the points of a transform."""
    n, d = call.integer("n"), call.real("d", 1.0)
    found = np.fft.fftfreq(n, d) if call.name == "FFTFreq" else np.fft.rfftfreq(n, d)
    return call.cast(call.a.constant(found), call.dtype("dtype") or call.result_dtype or "f32")


# -- cosines -----------------------------------------------------------------------------------------------------------


def _cosines(points: int, norm: str) -> np.ndarray:
    """The matrix of the second cosine transform."""
    k, n = np.arange(points)[:, None], np.arange(points)[None]
    matrix = 2 * np.cos(math.pi * k * (2 * n + 1) / (2 * points))
    if norm == "ORTHO":
        matrix = matrix * np.sqrt(np.where(k == 0, 1 / (4 * points), 1 / (2 * points)))
    return matrix / (2 * points) if norm == "FORWARD" else matrix


def _cosine(call: Call, x: Item, axis: int, points: int | None, norm: str) -> Item:
    """The transform, or its inverse, along an axis."""
    size, last = known(call, call.shape(x)[axis], "the axis"), rank(call, x) - 1
    count = points or size
    x = swapped(call, x, axis, last) if axis != last else x
    x = sliced(call, x, last, 0, count) if count < size else padded(call, x, [(0, count - size)])
    matrix = _cosines(count, norm)
    if call.name.startswith("I"):
        matrix = np.linalg.inv(matrix)
    y = call.op("MatMul", x, matrix.T.astype(np.float32))
    return swapped(call, y, axis, last) if axis != last else y


@primitive("DCT", "IDCT", "DCTN", "IDCTN")
def dct(call: Call) -> Item:
    """The second cosine transform, and its inverse."""
    if call.integer("type", 2) != 2:
        call.refuse("cosine transforms of other types than 2")
    x, norm = call.cast(call.tensor(0), "f32"), _norm(call)
    dims = rank(call, x)
    several = call.name.endswith("N")
    sizes = call.optional_ints("s" if several else "n")
    axes: Sequence[int] | None = call.optional_ints("axes") if several else call.ints("axis", (-1,))
    if axes is None:
        axes = range(dims) if sizes is None else range(dims - len(sizes), dims)
    for i, axis in enumerate(axes):
        x = _cosine(call, x, axis_of(call, axis, dims), sizes[i] if sizes else None, norm)
    return x


__all__ = ["transformed"]
