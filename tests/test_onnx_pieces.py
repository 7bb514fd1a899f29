"""Small operators of ONNX Runtime's domain: pieces of pictures and sequences, transforms of real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _contrib import Array, agree_on, ints, node_model
from onnx_models import info, make, node, rand, runtime

import planish
from planish.frontend.onnx import read_onnx
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph


def result(op: str, inputs: dict[str, Array], outputs: int = 1, **more: Any) -> list[Array]:
    """The interpreted results."""
    model, feed = node_model(op, inputs, outputs, **more)
    return list(run_graph(read_onnx(model.SerializeToString()), feed).values())


BOXES = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [0.9, 0.8, 0.2, 0.1], [-0.2, 0.1, 1.3, 0.5]], np.float32)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("crop", [(3, 4), (1, 5), (2, 1)])
def test_crops_of_one_size(mode: str, crop: tuple[int, int]) -> None:
    inputs = {"x": rand(2, 3, 6, 7), "boxes": BOXES, "batch": np.array([0, 1, 1, 0], np.int32)}
    more: dict[str, Any] = {"mode": mode, "extrapolation_value": 9.0}
    agree_on("CropAndResize", {**inputs, "size": np.array(crop, np.int32)}, constants=("size",), **more)


@pytest.mark.parametrize(("dim", "size", "step"), [(-1, 3, 2), (1, 2, 1), (0, 2, 1)])
def test_slices_of_one_size(dim: int, size: int, step: int) -> None:
    agree_on("UnfoldTensor", {"x": rand(2, 4, 8)}, dim=dim, size=size, step=step)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_repeated_ngrams_are_blocked(size: int) -> None:
    ids = np.array([[1, 2, 3, 1, 2, 4, 1, 2], [5, 5, 5, 5, 5, 5, 5, 5]], np.int64)
    agree_on("NGramRepeatBlock", {"ids": ids, "scores": rand(2, 6)}, ngram_size=size)


def test_ngrams_of_sequences_of_any_length() -> None:
    ids = info("ids", [2, "length"], 7)
    model = make([node("NGramRepeatBlock", ["ids", "scores"], domain="com.microsoft", ngram_size=3)],
                 {"ids": ids, "scores": rand(2, 4)})  # fmt: skip
    model.opset_import.add(domain="com.microsoft", version=1)
    compiled = planish.compile(model)
    for length in (9, 3, 1):
        feed = {"ids": ints(2, length, high=3, dtype=np.int64), "scores": rand(2, 4)}
        np.testing.assert_array_equal(compiled.run(feed)["y"], runtime(model, feed)["y"])


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("last", [0, 1])
def test_causal_convolution(past: bool, last: int) -> None:
    def turned(a: Array) -> Array:
        return np.ascontiguousarray(a.transpose(0, 2, 1)) if last else a

    state = turned(rand(2, 5, 6, seed=3)) if past else None
    inputs = {"x": turned(rand(2, 5, 7)), "w": rand(5, 1, 4, seed=1), "b": rand(5, seed=2), "past": state}
    agree_on("CausalConvWithState", inputs, outputs=2, activation="silu", dilation=2, channels_last=last)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention(rule: str) -> None:
    inputs: dict[str, Array | None] = {
        "q": rand(2, 3, 8), "k": rand(2, 3, 8, seed=1) / 3, "v": rand(2, 3, 6, seed=2),
        "past": rand(2, 2, 4, 3, seed=3),
        "decay": -np.abs(rand(2, 3, 2, seed=4)) if "gated" in rule else None,
        "beta": np.abs(rand(2, 3, 2, seed=5)) / 3 if "delta" in rule else None,
    }  # fmt: skip
    agree_on("LinearAttention", inputs, outputs=2, q_num_heads=2, kv_num_heads=2, update_rule=rule)


def test_gated_sum() -> None:
    agree_on("GatedAdd", {"x": rand(2, 3, 4), "y": rand(2, 3, 4, seed=1), "g": rand(2, 3, 1, seed=2)})


@pytest.mark.parametrize("count", [1, 2])
def test_transforms_of_real_numbers(count: int) -> None:
    x = rand(3, 6, 8)
    spectrum = np.fft.rfftn(x, axes=range(3 - count, 3))
    (got,) = result("Rfft", {"x": x}, signal_ndim=count)
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], spectrum, rtol=1e-4, atol=1e-4)
    (back,) = result("Irfft", {"x": got}, signal_ndim=count)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)


def test_rotary_embedding_of_gemma() -> None:
    angle, q, qr, k, kr = rand(2, 3, 4), *(rand(2, 2, 3, 4, seed=i).astype(np.float16) for i in range(1, 5))
    got = result("GemmaRotaryEmbedding", {"e": angle, "q": q, "qr": qr, "k": k, "kr": kr}, 2)
    sine, cosine = (f(angle).astype(np.float16)[:, None] for f in (np.sin, np.cos))
    for one, want in zip(got, (q * cosine + qr * sine, k * cosine + kr * sine), strict=True):
        assert one.dtype == np.float16
        np.testing.assert_allclose(one, want, rtol=1e-2, atol=1e-2)


def test_rows_of_a_table() -> None:
    table, at = rand(9, 4), ints(2, 3, high=9, dtype=np.int64)
    np.testing.assert_array_equal(result("TorchEmbedding", {"t": table, "at": at})[0], table[at])


@pytest.mark.parametrize(("op", "advice"), [("BeamSearch", "export the decoder alone"), ("EPContext", "original")])
def test_what_is_not_supported_has_a_way_out(op: str, advice: str) -> None:
    model, _ = node_model(op, {"x": rand(2)})
    with pytest.raises(PlanishError, match=advice):
        read_onnx(model.SerializeToString())
