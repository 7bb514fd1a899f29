"""Attention of all kinds in ONNX Runtime's domain (`com.microsoft`) against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _contrib import Array, agree_on, ints, node_model
from onnx_models import agree, rand, runtime

from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph
from planish.runtime import load

B, S, N, H = 2, 5, 2, 8  # batch, length, heads, size of a head


# -- Attention ------------------------------------------------------------------------------------------------------


def _attention(**more: Array | None) -> dict[str, Array | None]:
    inputs: dict[str, Array | None] = {
        "x": rand(B, S, 12), "w": rand(12, 3 * N * H, seed=1) * 0.3, "b": rand(3 * N * H, seed=2),
        "mask": None, "past": None, "bias": None,
    }  # fmt: skip
    return {**inputs, **more}


@pytest.mark.parametrize(
    "mask",
    [
        None,
        np.array([3, 5], np.int32),
        np.array([3, 5, 0, 1], np.int32),
        np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], np.int32),
        np.tril(np.ones((B, S, S), np.int32)),
    ],
    ids=["none", "ends", "ends and begins", "keys", "pairs"],
)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask: Array | None, causal: int) -> None:
    agree_on("Attention", _attention(mask=mask), num_heads=N, unidirectional=causal)


def test_attention_with_past_or_bias() -> None:
    past = rand(2, B, N, 3, H, seed=4)
    inputs = _attention(past=past, mask=ints(B, S + 3, seed=6))
    agree_on("Attention", inputs, outputs=2, num_heads=N, unidirectional=1, scale=0.25)
    agree_on("Attention", _attention(bias=rand(1, N, S, S, seed=5)), num_heads=N)


def test_attention_with_values_of_another_size() -> None:
    inputs = _attention(w=rand(12, 2 * N * H + N * 3, seed=1), b=rand(2 * N * H + N * 3))
    agree_on("Attention", inputs, num_heads=N, qkv_hidden_sizes=[N * H, N * H, N * 3])


def test_quantized_attention() -> None:
    x, w = ints(B, S, 12, high=255, dtype=np.uint8), ints(12, 3 * N * H, high=255, seed=1, dtype=np.uint8)
    scales = {"xs": np.float32(0.02), "ws": np.float32(0.01)}
    zeros = {"xz": np.uint8(128), "wz": np.uint8(120)}
    inputs = {"x": x, "w": w, "b": rand(3 * N * H), **scales, "mask": np.array([3, 5], np.int32), **zeros}
    agree_on("QAttention", inputs, constants=("w", "xs", "ws", "xz", "wz"), num_heads=N)


def _heads(keys: int = S, **more: Array | None) -> dict[str, Array | None]:
    names = ("q", "k", "v", "b", "mask", "bias", "past_k", "past_v")
    inputs: dict[str, Array | None] = dict.fromkeys(names)
    inputs |= {"q": rand(B, S, N * H), "k": rand(B, keys, N * H, seed=1), "v": rand(B, keys, N * H, seed=2)}
    return {**inputs, **more}


def test_multi_head_attention() -> None:
    agree_on("MultiHeadAttention", _heads(), num_heads=N)
    agree_on("MultiHeadAttention", _heads(b=rand(3 * N * H)), num_heads=N, unidirectional=1)
    agree_on("MultiHeadAttention", _heads(7, mask=ints(B, 7, seed=3)), num_heads=N, mask_filter_value=-50.0)
    agree_on("MultiHeadAttention", _heads(7, bias=rand(B, 1, S, 7, seed=3)), num_heads=N, scale=0.5)


def test_multi_head_attention_with_past() -> None:
    past = {"past_k": rand(B, N, 3, H, seed=5), "past_v": rand(B, N, 3, H, seed=6)}
    agree_on("MultiHeadAttention", _heads(**past), outputs=3, num_heads=N, unidirectional=1)


def test_multi_head_attention_of_keys_by_head() -> None:
    keys = {"k": rand(B, N, 7, H, seed=5), "v": rand(B, N, 7, H, seed=6)}
    agree_on("MultiHeadAttention", _heads(**keys), num_heads=N)


def test_packed_heads_are_the_same_as_apart() -> None:
    q, k, v = (rand(B, S, N, H, seed=i) for i in range(3))
    apart = {"q": q.reshape(B, S, -1), "k": k.reshape(B, S, -1), "v": v.reshape(B, S, -1)}
    model, feed = node_model("MultiHeadAttention", apart, num_heads=N)
    expected = runtime(model, feed)["y0"]
    packed = {"q": np.stack([q, k, v], 3)}
    pairs = {"q": q.reshape(B, S, -1), "k": np.stack([k, v], 3)}
    for inputs in (packed, pairs):
        model, feed = node_model("MultiHeadAttention", inputs, num_heads=N)
        got = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


# -- GroupQueryAttention --------------------------------------------------------------------------------------------


def _groups(
    length: int, cache: int | None, ends: list[int], total: int, **more: Array | None
) -> dict[str, Array | None]:
    names = ("q", "k", "v", "past_k", "past_v", "ends", "total", "cos", "sin", "positions", "bias", "sink")
    batch = len(ends)
    inputs: dict[str, Array | None] = dict.fromkeys(names)
    inputs |= {"q": rand(batch, length, 4 * 16), "k": rand(batch, length, 2 * 16, seed=1)}
    inputs |= {"v": rand(batch, length, 2 * 16, seed=2), "ends": np.array(ends, np.int32), "total": np.int32(total)}
    if cache is not None:
        inputs |= {"past_k": rand(batch, 2, cache, 16, seed=3), "past_v": rand(batch, 2, cache, 16, seed=4)}
    angles = rand(32, 8, seed=5)
    inputs |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    return {**inputs, **more}


@pytest.mark.parametrize("known", [True, False], ids=["total known", "total from data"])
@pytest.mark.parametrize(
    ("length", "cache", "ends", "total"),
    [(5, None, [4, 4], 5), (1, 6, [6], 7), (1, 9, [6, 3], 7), (3, 9, [6], 7)],
    ids=["prompt", "one more", "two of a long cache", "three more"],
)
def test_group_query_attention(length: int, cache: int | None, ends: list[int], total: int, known: bool) -> None:
    inputs = _groups(length, cache, ends, total)
    constants = ("total",) if known else ()
    agree_on("GroupQueryAttention", inputs, outputs=3, constants=constants, num_heads=4, kv_num_heads=2, do_rotary=1)


def test_group_query_attention_options() -> None:
    plain = {"num_heads": 4, "kv_num_heads": 2}
    agree_on("GroupQueryAttention", _groups(1, 9, [8, 8], 9), outputs=3, local_window_size=4, softcap=2.0, **plain)
    inputs = _groups(1, 6, [6], 7, bias=rand(1, 4, 1, 7, seed=8), sink=rand(4, seed=9))
    agree_on("GroupQueryAttention", inputs, outputs=3, constants=("total",), do_rotary=1, rotary_interleaved=1, **plain)
    agree_on("GroupQueryAttention", _groups(4, None, [3, 3], 4), outputs=3, smooth_softmax=1, scale=0.1, **plain)


def test_group_query_attention_of_packed_inputs() -> None:
    inputs = _groups(5, None, [4], 5, q=rand(1, 5, 8 * 16), k=None, v=None)
    agree_on("GroupQueryAttention", inputs, outputs=3, num_heads=4, kv_num_heads=2, do_rotary=1)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    angles = rand(16, 4, seed=5)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    positions = ints(B, S, high=16, dtype=np.int64)
    x = rand(B, S, N * H)
    agree_on("RotaryEmbedding", {"x": x, "at": positions, **tables}, interleaved=interleaved)
    agree_on("RotaryEmbedding", {"x": x, "at": np.array([3]), **tables}, interleaved=interleaved)
    agree_on("RotaryEmbedding", {"x": rand(B, N, S, H), "at": positions, **tables}, interleaved=interleaved)
    short = {"cos": tables["cos"][:, :2], "sin": tables["sin"][:, :2]}
    inputs = {"x": x, "at": positions, **short}
    agree_on("RotaryEmbedding", inputs, interleaved=interleaved, num_heads=N, rotary_embedding_dim=4)


@pytest.mark.parametrize("layout", [0, 1])
def test_rotary_embedding_by_three_positions(layout: int) -> None:
    angles = rand(16, 6, seed=5)
    inputs = {"x": rand(B, S, N * 12), "at": ints(3, B, S, high=16, dtype=np.int64)}
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    for turn in (0, 1):
        model, feed = node_model(
            "MRotaryEmbedding", {**inputs, **tables}, num_heads=N, interleaved=turn, mrope_section=[3, 2, 1],
            mrope_layout=layout,
        )  # fmt: skip
        agree(model, feed, rtol=1e-4, atol=1e-5)
    agree_on("MRotaryEmbedding", {**inputs, "x": rand(B, N, S, 12), **tables}, mrope_section=[1, 1, 4])


def test_attention_of_symbolic_lengths_compiles(tmp_path: Path) -> None:
    """A decoder's step: the cache, and how much of it there will be, are known when it runs."""
    model, feed = node_model("GroupQueryAttention", _groups(1, 6, [6], 7), 3, num_heads=4, kv_num_heads=2, do_rotary=1)
    for value in model.graph.input:
        if value.name.startswith("past"):
            value.type.tensor_type.shape.dim[2].dim_param = "past"
    compile_file(model, tmp_path / "m.so", opt=1)
    with load(tmp_path / "m.so", threads=1) as compiled:
        for past, end in ((6, 6), (9, 9), (9, 4)):
            feed = {k: np.asarray(v) for k, v in _groups(1, past, [end], end + 1).items() if v is not None}
            expected, got = runtime(model, feed), compiled.run(feed)
            for name, array in expected.items():
                np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_attention_of_a_symbolic_batch_and_length_compiles(tmp_path: Path) -> None:
    model, _ = node_model("Attention", _attention(mask=ints(B, S)), num_heads=N, unidirectional=1)
    for value in model.graph.input:
        if value.name in ("x", "mask"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
            value.type.tensor_type.shape.dim[1].dim_param = "length"
    compile_file(model, tmp_path / "m.so", opt=1)
    with load(tmp_path / "m.so", threads=1) as compiled:
        for batch, length in ((2, 5), (3, 7)):
            inputs = _attention(x=rand(batch, length, 12), mask=ints(batch, length, seed=length))
            feed = {k: v for k, v in inputs.items() if v is not None}
            np.testing.assert_allclose(compiled.run(feed)["y0"], runtime(model, feed)["y0"], rtol=1e-4, atol=1e-5)


def test_forms_that_are_not_there_say_so() -> None:
    model, _ = node_model(
        "GroupQueryAttention", _groups(1, 9, [6], 7), outputs=3, num_heads=4, kv_num_heads=2, k_quant_type="PER_TENSOR"
    )
    with pytest.raises(UnsupportedError, match="quantized cache"):
        read_onnx(model)
    model, _ = node_model("BeamSearch", {"x": rand(2)})
    with pytest.raises(UnsupportedError, match="not supported"):
        read_onnx(model)
