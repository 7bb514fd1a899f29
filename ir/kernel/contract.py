"""Sums of products over axes of broadcast arrays, as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def contract(p: np.ndarray, q: np.ndarray, depth: int, extents: Sequence[int]) -> np.ndarray:
    """`sum(p * q)` over the last axes, from `depth` on, whose full lengths are `extents`. Both arrays have
    `depth + len(extents)` axes and broadcast against each other; an axis of length 1 is one they do not depend on."""
    scale = 1
    for axis, extent in enumerate(extents, depth):
        p_has, q_has = p.shape[axis] > 1, q.shape[axis] > 1
        if p_has and not q_has:
            p = p.sum(axis=axis, keepdims=True, dtype=p.dtype)
        elif q_has and not p_has:
            q = q.sum(axis=axis, keepdims=True, dtype=q.dtype)
        elif not p_has:
            scale *= extent
    both = [a for a in range(depth) if p.shape[a] > 1 and q.shape[a] > 1]
    only_p = [a for a in range(depth) if p.shape[a] > 1 and q.shape[a] == 1]
    only_q = [a for a in range(depth) if q.shape[a] > 1 and p.shape[a] == 1]
    rest = [a for a in range(depth) if p.shape[a] == 1 and q.shape[a] == 1]
    summed = list(range(depth, depth + len(extents)))
    left = _grouped(p, both, only_p, summed, [*only_q, *rest])
    right = _grouped(q, both, summed, only_q, [*only_p, *rest])
    result = _matmul(left, right)
    lengths = [max(p.shape[a], q.shape[a]) for a in [*both, *only_p, *only_q, *rest]]
    result = result.reshape(lengths).transpose(np.argsort([*both, *only_p, *only_q, *rest]) if depth else ())
    return result if scale == 1 else (result * np.asarray(scale, result.dtype)).astype(result.dtype)


def _grouped(x: np.ndarray, a: list[int], b: list[int], c: list[int], ones: list[int]) -> np.ndarray:
    lengths = [math.prod(x.shape[i] for i in group) for group in (a, b, c)]
    return x.transpose([*a, *b, *c, *ones]).reshape(lengths)


def _matmul(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if left.dtype.kind == "f":
        return left @ right
    # Integers: BLAS in f64 where all sums are exact, else NumPy's loop (which wraps, as the scalar language says).
    high = [float(np.abs(x.astype(np.float64)).max(initial=0)) for x in (left, right)]
    if high[0] * high[1] * left.shape[-1] < 2.0**53:
        exact = left.astype(np.float64) @ right.astype(np.float64)
        return exact.astype(np.int64).astype(left.dtype)
    return left @ right
