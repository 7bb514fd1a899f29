"""The fourteen kernels of docs/KERNEL.md: their text, inputs for them, and their meaning in plain NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from planish.ir.core import Module
from planish.ir.kernel.form import Kernel
from planish.ir.text import parse_module

PAGE = Path(__file__).parent.parent / "docs" / "KERNEL.md"
Arrays = list[np.ndarray]


def texts() -> dict[str, str]:
    """Kernel name -> text, for every `ir` block of the page."""
    blocks = re.findall(r"^```ir\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return {re.findall(r"@(\w+)", block)[0]: block for block in blocks}


def module(name: str) -> Module:
    """A module with one kernel of the page."""
    return parse_module(texts()[name], f"KERNEL.md/{name}")


def kernel(name: str) -> Kernel:
    """One kernel of the page."""
    found = module(name).functions[name]
    assert isinstance(found, Kernel)
    return found


@dataclass(frozen=True)
class Case:
    """Inputs for one kernel, what it must give, and the shape symbols."""

    inputs: Arrays
    expected: Arrays
    symbols: dict[str, int] = field(default_factory=dict[str, int])


def case(name: str) -> Case:
    """A case for the kernel `name`; the same one each time."""
    return CASES[name](np.random.default_rng(list(name.encode())))


def _f32(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _convolve(x: np.ndarray, w: np.ndarray, stride: int = 1, pad: int = 1, groups: int = 1) -> np.ndarray:
    """Loops over the window only: plain enough to be believed."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, _, height, width = x.shape
    o, per, k, _ = w.shape
    rows, columns = (height - k) // stride + 1, (width - k) // stride + 1
    y = np.zeros((n, o, rows, columns), np.result_type(x, w))
    for g in range(groups):
        outs = slice(g * o // groups, (g + 1) * o // groups)
        for ci in range(per):
            for i in range(k):
                for j in range(k):
                    part = x[:, g * per + ci, i : i + stride * rows : stride, j : j + stride * columns : stride]
                    y[:, outs] += part[:, None] * w[None, outs, ci, i, j][..., None, None]
    return y


def _grouped(rng: np.random.Generator) -> Case:
    x, w, b = _f32(rng, 1, 8, 9, 9), _f32(rng, 12, 2, 3, 3), _f32(rng, 12)
    return Case([x, w, b], [_convolve(x, w, groups=4) + b[None, :, None, None]])


def _depthwise(rng: np.random.Generator) -> Case:
    x, w = _f32(rng, 3, 8, 9, 9), _f32(rng, 8, 1, 3, 3)
    return Case([x, w], [_convolve(x, w, stride=2, groups=8)], {"n": 3})


def _transposed(rng: np.random.Generator) -> Case:
    x, w = _f32(rng, 1, 4, 5, 5), _f32(rng, 4, 6, 3, 3)
    full = np.zeros((1, 6, 12, 12), np.float32)
    for i in range(3):
        for j in range(3):
            full[:, :, i : i + 10 : 2, j : j + 10 : 2] += np.einsum("nchw,co->nohw", x, w[:, :, i, j])
    return Case([x, w], [full[:, :, 1:11, 1:11]])


def _quantized(rng: np.random.Generator) -> Case:
    x, w = rng.integers(0, 256, (1, 4, 6, 6), np.uint8), rng.integers(-128, 128, (8, 4, 3, 3), np.int8)
    xz, wz = np.array(120, np.uint8), rng.integers(-3, 4, 8, np.int8)
    scale, yz = rng.uniform(0.0005, 0.002, 8).astype(np.float32), np.array(100.0, np.float32)
    total = _convolve(x.astype(np.int32) - 120, w.astype(np.int32) - wz.astype(np.int32)[:, None, None, None])
    real = np.rint(total.astype(np.float32) * scale[None, :, None, None]) + yz
    return Case([x, xz, w, wz, scale, yz], [np.clip(real, 0, 255).astype(np.uint8)])


def _winograd(rng: np.random.Generator) -> Case:
    x, w = _f32(rng, 1, 4, 8, 8), _f32(rng, 6, 4, 3, 3)
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
    at = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
    return Case([x, w, g, bt, at], [_convolve(x, w)])


def _depthwise_pointwise(rng: np.random.Generator) -> Case:
    x, d, p = _f32(rng, 1, 8, 10, 10), _f32(rng, 8, 1, 3, 3), _f32(rng, 16, 8)
    middle = np.maximum(_convolve(x, d, groups=8), 0)
    return Case([x, d, p], [np.einsum("nchw,oc->nohw", middle, p)])


def _max_pool(rng: np.random.Generator) -> Case:
    x = rng.integers(-3, 4, (2, 3, 9, 9)).astype(np.float32)  # few values: ties are common
    y, at = np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 3, 4, 4), np.int64)
    for n, c, h, w in np.ndindex(*y.shape):
        window = x[n, c, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3]
        i, j = np.unravel_index(window.argmax(), (3, 3))
        y[n, c, h, w] = window.max()
        at[n, c, h, w] = ((n * 3 + c) * 9 + 2 * h + i) * 9 + 2 * w + j
    return Case([x], [y, at])


def _softmax_rows(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax(rng: np.random.Generator) -> Case:
    x = _f32(rng, 5, 20) * 10
    return Case([x], [_softmax_rows(x)], {"n": 5})


def _attention(rng: np.random.Generator) -> Case:
    q, k, v = (_f32(rng, 2, 11, 8) for _ in range(3))
    scores = np.einsum("hid,hjd->hij", q, k) * np.float32(0.35355338)
    scores = np.where(np.tri(11, dtype=bool), scores, -np.inf)
    return Case([q, k, v], [(_softmax_rows(scores) @ v).astype(np.float32)], {"s": 11})


def _lstm(rng: np.random.Generator) -> Case:
    x, w, r, b, h, c = (_f32(rng, *s) for s in [(4, 2, 5), (12, 5), (12, 3), (12,), (2, 3), (2, 3)])
    inputs = [x, w, r, b, h, c]
    ys: Arrays = []
    for step in x:
        gi, go, gf, gc = np.split(step @ w.T + h @ r.T + b, 4, axis=1)
        c = c / (1 + np.exp(-gf)) + np.tanh(gc) / (1 + np.exp(-gi))
        h = np.tanh(c) / (1 + np.exp(-go))
        ys.append(h)
    return Case(inputs, [np.stack(ys), h, c], {"t": 4})


def _cumsum(rng: np.random.Generator) -> Case:
    x = _f32(rng, 4, 13)
    return Case([x], [np.cumsum(x, axis=1, dtype=np.float32)], {"n": 13})


def _scatter(rng: np.random.Generator) -> Case:
    x, at, u = _f32(rng, 6, 4), rng.integers(0, 6, 9), _f32(rng, 9, 4)
    y = x.copy()
    np.add.at(y, at, u)
    return Case([x, at, u], [y], {"n": 9})


def _concat(rng: np.random.Generator) -> Case:
    x = _f32(rng, 1, 4, 6, 6)
    return Case([x], [np.maximum(x, 0)])


def _int4(rng: np.random.Generator) -> Case:
    x, w, scale = _f32(rng, 7, 96), rng.integers(-8, 8, (10, 96)), _f32(rng, 10, 3)
    full = w.astype(np.float32) * np.repeat(scale, 32, axis=1)
    return Case([x, w.astype(ml_dtypes.int4), scale], [x @ full.T], {"m": 7})


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "grouped_convolution": _grouped,
    "depthwise_convolution": _depthwise,
    "transposed_convolution": _transposed,
    "quantized_convolution": _quantized,
    "winograd": _winograd,
    "depthwise_pointwise": _depthwise_pointwise,
    "max_pool_indices": _max_pool,
    "softmax": _softmax,
    "causal_attention": _attention,
    "lstm": _lstm,
    "cumulative_sum": _cumsum,
    "scatter_add": _scatter,
    "concat_part": _concat,
    "int4_matmul": _int4,
}
