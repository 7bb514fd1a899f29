"""Batches without padding, and biases by relative position, of ONNX Runtime's domain: it has them for GPUs only, so
that they are held against NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from _contrib import Array, node_model
from onnx_models import rand

import planish
from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph

LENGTHS = np.array([1, 4, 2], np.int32)  # of three sequences in a batch of length 4
B, S, N, D = 3, 4, 2, 8  # batch, length, heads, size of a head
PLACES = np.array([0, 4, 5, 6, 7, 8, 9, 1, 2, 3, 10, 11], np.int32)  # of tokens, then of padding
CUMULATED = np.array([0, 1, 5, 7], np.int32)


def run(op: str, inputs: Mapping[str, Array | None], outputs: int = 1, **more: Any) -> list[Array]:
    """The results, interpreted; compiled ones must be the same."""
    model, feed = node_model(op, inputs, outputs, **more)
    found = list(run_graph(read_onnx(model.SerializeToString()), feed).values())
    for got, want in zip(planish.compile(model).run(feed).values(), found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return found


def test_padding_is_removed_and_restored() -> None:
    x = rand(B, S, 5)
    tokens, places, cumulated, longest = run("RemovePadding", {"x": x, "n": LENGTHS}, 4)
    np.testing.assert_array_equal(tokens, x.reshape(-1, 5)[PLACES[:7]])
    np.testing.assert_array_equal(places.reshape(-1), PLACES)
    assert (cumulated.tolist(), longest.tolist()) == (CUMULATED.tolist(), [4])
    assert {a.dtype.name for a in (places, cumulated, longest)} == {"int32"}
    (back,) = run("RestorePadding", {"t": tokens, "places": places})
    kept = np.arange(S) < LENGTHS[:, None]
    np.testing.assert_array_equal(back, np.where(kept[:, :, None], x, 0))


def attention(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """Attention within each sequence; q, k, v: [tokens, heads * size]."""
    out: list[Array] = []
    for b, (start, end) in enumerate(pairwise(CUMULATED)):
        parts = [x[start:end].reshape(end - start, N, -1).transpose(1, 0, 2) for x in (q, k, v)]
        scores = parts[0] @ parts[1].transpose(0, 2, 1) / np.sqrt(D)
        if bias is not None:
            scores = scores + bias[b if len(bias) > 1 else 0][:, : end - start, : end - start]
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out.append((weights @ parts[2]).transpose(1, 0, 2).reshape(end - start, -1))
    return np.concatenate(out)


@pytest.mark.parametrize("bias", [None, (1, N), (B, 1)])
def test_attention_of_packed_tokens(bias: tuple[int, int] | None) -> None:
    x, w, b = rand(7, 6), rand(6, 3 * N * D, seed=1) / 2, rand(3 * N * D, seed=2)
    added = None if bias is None else rand(*bias, S, S, seed=3)
    inputs = {"x": x, "w": w, "b": b, "places": PLACES.reshape(B, S), "cumulated": CUMULATED, "bias": added}
    (got,) = run("PackedAttention", inputs, num_heads=N)
    q, k, v = np.split(x @ w + b, 3, 1)
    np.testing.assert_allclose(got, attention(q, k, v, added), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("together", [False, True])
def test_multi_head_attention_of_packed_tokens(together: bool) -> None:
    q, k, v, b = (*(rand(7, N * D, seed=i) for i in range(3)), rand(3 * N * D, seed=3))
    where: dict[str, Array | None] = {"places": PLACES.reshape(B, S), "cumulated": CUMULATED}
    if together:
        qkv = np.stack([x.reshape(7, N, D) for x in (q, k, v)], 2)
        given: dict[str, Array | None] = {"q": qkv, "k": None, "v": None, "b": None}
        want = attention(q, k, v)
    else:
        given = {"q": q, "k": k, "v": v, "b": b}
        want = attention(*(x + part for x, part in zip((q, k, v), np.split(b, 3), strict=True)))
    (got,) = run("PackedMultiHeadAttention", {**given, **where}, num_heads=N)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("both", [0, 1])
def test_bias_by_relative_position(both: int) -> None:
    buckets, queries, keys, farthest = 8, 5, 30, 20
    table = rand(N, buckets)  # stands transposed under the shape [buckets, heads]
    lengths = {"q": np.array([queries]), "k": np.array([keys])}
    inputs = {"t": table.reshape(buckets, N), **lengths}
    (got,) = run("RelativePositionBias", inputs, constants=("q", "k"), is_bidirectional=both, max_distance=farthest)
    n = buckets // 2 if both else buckets
    for i in range(queries):
        for j in range(keys):
            d = abs(j - i) if both else max(i - j, 0)
            far = n // 2 + int(np.log(max(d, 1) / (n // 2)) / np.log(farthest / (n // 2)) * (n - n // 2))
            bucket = (n if both and j > i else 0) + (d if d < n // 2 else min(far, n - 1))
            np.testing.assert_array_equal(got[0, :, i, j], table[:, bucket])


def test_gated_bias_by_relative_position() -> None:
    x, b, rel = rand(B, S, N * D), rand(N * D, seed=1), rand(1, N, S, S, seed=2)
    w, c, eco = rand(D, 6, seed=3), rand(6, seed=4), rand(1, N, 1, 1, seed=5)
    (got,) = run("GatedRelativePositionBias", {"x": x, "b": b, "r": rel, "w": w, "c": c, "e": eco}, num_heads=N)
    q = (x + b).reshape(B, S, N, D).transpose(0, 2, 1, 3)
    gates = 1 / (1 + np.exp(-(q @ w + c).reshape(B, N, S, 2, 3).sum(-1)))
    u, r = gates[..., :1], gates[..., 1:]
    np.testing.assert_allclose(got, (u * (r * eco - 1) + 2) * rel, rtol=1e-4, atol=1e-5)
