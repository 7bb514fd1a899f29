"""Operators of ONNX Runtime's domain (`com.microsoft`) against ONNX Runtime; those that its CPU does not have, against
the same in operators of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import agree, make, node, rand, runtime

from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph
from planish.runtime import load

Array = Any
B, S, N, H = 2, 5, 2, 8  # batch, length, heads, size of a head


def _model(
    op: str,
    inputs: Mapping[str, Array | None],
    outputs: int = 1,
    constants: tuple[str, ...] = (),
    domain: str = "com.microsoft",
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """One node; inputs that are None are left out. Those in `constants` become initializers."""
    names = [k if v is not None else "" for k, v in inputs.items()]
    feed = {k: np.asarray(v) for k, v in inputs.items() if v is not None and k not in constants}
    made = [f"y{i}" for i in range(outputs)]
    proto = helper.make_node(op, names, made, domain=domain, **attributes)
    model = make([proto], feed, made, {k: inputs[k] for k in constants})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model, feed


def _agree(op: str, inputs: Mapping[str, Array | None], outputs: int = 1, rtol: float = 1e-4, **more: Any) -> None:
    model, feed = _model(op, inputs, outputs, **more)
    agree(model, feed, rtol=rtol, atol=1e-5)


def _like(op: str, inputs: Mapping[str, Array | None], model: onnx.ModelProto, **more: Any) -> None:
    """Hold a node against a model in operators of ONNX."""
    own, feed = _model(op, inputs, **more)
    expected = runtime(model, feed)
    got = run_graph(read_onnx(own.SerializeToString()), feed)
    for a, b in zip(got.values(), expected.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _ints(*shape: int, high: int = 2, seed: int = 0, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


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
    _agree("Attention", _attention(mask=mask), num_heads=N, unidirectional=causal)


def test_attention_with_past_or_bias() -> None:
    past = rand(2, B, N, 3, H, seed=4)
    inputs = _attention(past=past, mask=_ints(B, S + 3, seed=6))
    _agree("Attention", inputs, outputs=2, num_heads=N, unidirectional=1, scale=0.25)
    _agree("Attention", _attention(bias=rand(1, N, S, S, seed=5)), num_heads=N)


def test_attention_with_values_of_another_size() -> None:
    inputs = _attention(w=rand(12, 2 * N * H + N * 3, seed=1), b=rand(2 * N * H + N * 3))
    _agree("Attention", inputs, num_heads=N, qkv_hidden_sizes=[N * H, N * H, N * 3])


def test_quantized_attention() -> None:
    x, w = _ints(B, S, 12, high=255, dtype=np.uint8), _ints(12, 3 * N * H, high=255, seed=1, dtype=np.uint8)
    scales = {"xs": np.float32(0.02), "ws": np.float32(0.01)}
    zeros = {"xz": np.uint8(128), "wz": np.uint8(120)}
    inputs = {"x": x, "w": w, "b": rand(3 * N * H), **scales, "mask": np.array([3, 5], np.int32), **zeros}
    _agree("QAttention", inputs, constants=("w", "xs", "ws", "xz", "wz"), num_heads=N)


def _heads(keys: int = S, **more: Array | None) -> dict[str, Array | None]:
    names = ("q", "k", "v", "b", "mask", "bias", "past_k", "past_v")
    inputs: dict[str, Array | None] = dict.fromkeys(names)
    inputs |= {"q": rand(B, S, N * H), "k": rand(B, keys, N * H, seed=1), "v": rand(B, keys, N * H, seed=2)}
    return {**inputs, **more}


def test_multi_head_attention() -> None:
    _agree("MultiHeadAttention", _heads(), num_heads=N)
    _agree("MultiHeadAttention", _heads(b=rand(3 * N * H)), num_heads=N, unidirectional=1)
    _agree("MultiHeadAttention", _heads(7, mask=_ints(B, 7, seed=3)), num_heads=N, mask_filter_value=-50.0)
    _agree("MultiHeadAttention", _heads(7, bias=rand(B, 1, S, 7, seed=3)), num_heads=N, scale=0.5)


def test_multi_head_attention_with_past() -> None:
    past = {"past_k": rand(B, N, 3, H, seed=5), "past_v": rand(B, N, 3, H, seed=6)}
    _agree("MultiHeadAttention", _heads(**past), outputs=3, num_heads=N, unidirectional=1)


def test_multi_head_attention_of_keys_by_head() -> None:
    keys = {"k": rand(B, N, 7, H, seed=5), "v": rand(B, N, 7, H, seed=6)}
    _agree("MultiHeadAttention", _heads(**keys), num_heads=N)


def test_packed_heads_are_the_same_as_apart() -> None:
    q, k, v = (rand(B, S, N, H, seed=i) for i in range(3))
    apart = {"q": q.reshape(B, S, -1), "k": k.reshape(B, S, -1), "v": v.reshape(B, S, -1)}
    model, feed = _model("MultiHeadAttention", apart, num_heads=N)
    expected = runtime(model, feed)["y0"]
    packed = {"q": np.stack([q, k, v], 3)}
    pairs = {"q": q.reshape(B, S, -1), "k": np.stack([k, v], 3)}
    for inputs in (packed, pairs):
        model, feed = _model("MultiHeadAttention", inputs, num_heads=N)
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
    _agree("GroupQueryAttention", inputs, outputs=3, constants=constants, num_heads=4, kv_num_heads=2, do_rotary=1)


def test_group_query_attention_options() -> None:
    plain = {"num_heads": 4, "kv_num_heads": 2}
    _agree("GroupQueryAttention", _groups(1, 9, [8, 8], 9), outputs=3, local_window_size=4, softcap=2.0, **plain)
    inputs = _groups(1, 6, [6], 7, bias=rand(1, 4, 1, 7, seed=8), sink=rand(4, seed=9))
    _agree("GroupQueryAttention", inputs, outputs=3, constants=("total",), do_rotary=1, rotary_interleaved=1, **plain)
    _agree("GroupQueryAttention", _groups(4, None, [3, 3], 4), outputs=3, smooth_softmax=1, scale=0.1, **plain)


def test_group_query_attention_of_packed_inputs() -> None:
    inputs = _groups(5, None, [4], 5, q=rand(1, 5, 8 * 16), k=None, v=None)
    _agree("GroupQueryAttention", inputs, outputs=3, num_heads=4, kv_num_heads=2, do_rotary=1)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    angles = rand(16, 4, seed=5)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    positions = _ints(B, S, high=16, dtype=np.int64)
    x = rand(B, S, N * H)
    _agree("RotaryEmbedding", {"x": x, "at": positions, **tables}, interleaved=interleaved)
    _agree("RotaryEmbedding", {"x": x, "at": np.array([3]), **tables}, interleaved=interleaved)
    _agree("RotaryEmbedding", {"x": rand(B, N, S, H), "at": positions, **tables}, interleaved=interleaved)
    short = {"cos": tables["cos"][:, :2], "sin": tables["sin"][:, :2]}
    inputs = {"x": x, "at": positions, **short}
    _agree("RotaryEmbedding", inputs, interleaved=interleaved, num_heads=N, rotary_embedding_dim=4)


# -- normalisation, embeddings --------------------------------------------------------------------------------------


def test_skip_layer_normalization() -> None:
    inputs = {"x": rand(B, S, 8), "s": rand(B, S, 8, seed=1), "g": rand(8, seed=2), "b": rand(8, seed=3)}
    for more in ({}, {"bias": rand(8, seed=4)}, {"s": rand(S, 8, seed=5)}, {"b": None, "s": rand(1, S, 8)}):
        model, feed = _model("SkipLayerNormalization", {**inputs, **more}, 4, epsilon=1e-5)
        del model.graph.output[1:3]
        model.graph.node[0].output[1:3] = ["", ""]
        agree(model, feed, rtol=1e-4, atol=1e-5)


def test_skip_simplified_layer_normalization() -> None:
    inputs = {"x": rand(B, S, 8), "s": rand(B, S, 8, seed=1), "g": rand(8, seed=2), "b": rand(8, seed=3)}
    model, feed = _model("SkipSimplifiedLayerNormalization", inputs, 4, epsilon=1e-5)
    del model.graph.output[1:3]
    model.graph.node[0].output[1:3] = ["", ""]
    agree(model, feed, rtol=1e-4, atol=1e-5)


def test_simplified_layer_normalization() -> None:
    _agree("SimplifiedLayerNormalization", {"x": rand(B, S, 8), "g": rand(8)}, domain="", axis=-1, epsilon=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_embed_layer_normalization(masked: bool) -> None:
    inputs: dict[str, Array | None] = {
        "ids": _ints(B, S, high=9), "types": _ints(B, S), "words": rand(9, 8), "places": rand(7, 8, seed=1),
        "segments": rand(2, 8, seed=2), "g": rand(8, seed=3), "b": rand(8, seed=4),
        "mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32) if masked else None,
    }  # fmt: skip
    _agree("EmbedLayerNormalization", inputs, outputs=3)
    _agree("EmbedLayerNormalization", {**inputs, "at": _ints(1, S, high=7)}, outputs=2)


def test_embed_layer_normalization_without_segments() -> None:
    inputs = {"ids": _ints(B, S, high=9), "types": None, "words": rand(9, 8), "places": rand(7, 8, seed=1)}
    _agree("EmbedLayerNormalization", {**inputs, "segments": None, "g": rand(8), "b": rand(8)}, outputs=2)


def test_quantized_embed_layer_normalization() -> None:
    tables = {n: _ints(9, 8, high=255, seed=i, dtype=np.uint8) for i, n in enumerate(("words", "places", "segments"))}
    vectors = {n: _ints(8, high=255, seed=i, dtype=np.uint8) for i, n in enumerate(("g", "b"))}
    scales = {f"s{i}": np.float32(0.01 * (i + 1)) for i in range(5)}
    zeros = {f"z{i}": np.uint8(100 + i) for i in range(5)}
    inputs = {"ids": _ints(B, S, high=9), "types": _ints(B, S), **tables, **vectors, "mask": None, **scales, **zeros}
    _agree("QEmbedLayerNormalization", inputs, outputs=2)


@pytest.mark.parametrize("last", [0, 1])
def test_group_norm(last: int) -> None:
    x, skip, gamma, beta = rand(2, 6, 3, 5), rand(2, 6, 3, 5, seed=1), rand(6, seed=2), rand(6, seed=3)
    given = {"x": x, "g": gamma, "b": beta}
    reference = [
        node("GroupNormalization", ["x", "g", "b"], ["n"], num_groups=2),
        node("Sigmoid", ["n"], ["s"]), node("Mul", ["n", "s"]),
    ]  # fmt: skip
    order, back = (0, 2, 3, 1), (0, 3, 1, 2)

    def turned(a: Array) -> Array:
        return np.ascontiguousarray(a.transpose(order)) if last else a

    def check(op: str, inputs: dict[str, Array], expected: Array) -> None:
        model, feed = _model(op, inputs, groups=2, activation=1, channels_last=last)
        got = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
        np.testing.assert_allclose(got.transpose(back) if last else got, expected, rtol=1e-4, atol=1e-5)

    check("GroupNorm", {**given, "x": turned(x)}, runtime(make(reference, given, opset=21), given)["y"])
    summed = {**given, "x": x + skip}
    expected = runtime(make(reference, summed, opset=21), summed)["y"]
    check("SkipGroupNorm", {**given, "x": turned(x), "skip": turned(skip)}, expected)


# -- activations, products ------------------------------------------------------------------------------------------


def test_activations() -> None:
    x = rand(B, S, 8)
    _agree("Gelu", {"x": x})
    _agree("BiasGelu", {"x": x, "b": rand(8, seed=1)})
    _agree("FastGelu", {"x": x, "b": rand(8, seed=1)})
    _agree("QuickGelu", {"x": x}, alpha=1.5)


def test_bias_split_gelu_and_bias_add() -> None:
    x, b = rand(B, S, 8), rand(8, seed=1)
    reference = make(
        [node("Add", ["x", "b"], ["t"]), node("Split", ["t"], ["l", "r"], axis=-1, num_outputs=2),
         node("Gelu", ["r"], ["g"]), node("Mul", ["l", "g"])], {"x": x, "b": b}, opset=20,
    )  # fmt: skip
    _like("BiasSplitGelu", {"x": x, "b": b}, reference)
    reference = make([node("Sum", ["x", "b", "s"])], {"x": x, "b": b, "s": x})
    _like("BiasAdd", {"x": x, "b": b, "s": rand(B, S, 8, seed=2)}, reference)


def test_bias_softmax() -> None:
    x, bias = rand(2, 3, 4, 5), rand(1, 1, 4, 5, seed=1)
    for axis in (3, 2):
        nodes = [node("Add", ["x", "b"], ["t"]), node("Softmax", ["t"], axis=axis)]
        _like(
            "BiasSoftmax",
            {"x": x, "b": bias},
            make(nodes, {"x": x, "b": bias}, opset=12),
            axis=axis,
            is_inner_broadcast=0,
        )


@pytest.mark.parametrize("activation", ["", "Relu", "LeakyRelu", "Clip", "HardSigmoid", "Tanh", "Sigmoid"])
def test_fused_conv(activation: str) -> None:
    parameters = {"LeakyRelu": [0.2], "Clip": [-0.5, 0.5], "HardSigmoid": [0.3, 0.4]}.get(activation)
    more: dict[str, Any] = {"activation": activation} if activation else {}
    more |= {"activation_params": parameters} if parameters else {}
    inputs = {"x": rand(1, 3, 6, 6), "w": rand(4, 3, 3, 3, seed=1), "b": rand(4, seed=2), "z": rand(1, 4, 6, 6, seed=3)}
    _agree("FusedConv", inputs, pads=[1, 1, 1, 1], **more)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_fused_gemm(activation: str) -> None:
    inputs = {"a": rand(6, 4), "b": rand(5, 6, seed=1), "c": rand(5, seed=2)}
    more: dict[str, Any] = {"activation_alpha": 0.3} if activation == "LeakyRelu" else {}
    _agree("FusedGemm", inputs, transA=1, transB=1, alpha=0.5, beta=2.0, activation=activation, **more)


@pytest.mark.parametrize("turned", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.5}])
def test_fused_matmul(turned: dict[str, Any]) -> None:
    a = rand(2, 3, 6, 4) if "transA" in turned else rand(2, 3, 4, 6)
    b = rand(3, 5, 6, seed=1) if "transB" in turned else rand(3, 6, 5, seed=1)
    _agree("FusedMatMul", {"a": a, "b": b}, **turned)
    _agree("FusedMatMul", {"a": a, "b": b}, constants=("b",), **turned)


def test_fused_matmul_of_batches_in_the_middle() -> None:
    _agree("FusedMatMul", {"a": rand(4, 2, 3, 6), "b": rand(2, 3, 6, 5, seed=1)}, transBatchA=1)
    _agree("FusedMatMul", {"a": rand(6, 2, 3, 4), "b": rand(2, 3, 6, 5, seed=1)}, transBatchA=1, transA=1)


def test_gemm_fast_gelu() -> None:
    inputs = {"x": rand(B, S, 8), "w": rand(8, 4, seed=1), "b": rand(4, seed=2)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["t"]), node("Gelu", ["t"], approximate="tanh")]
    _like("GemmFastGelu", inputs, make(nodes, inputs, opset=20))


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
def test_convolution_with_channels_last(op: str) -> None:
    x, w, b = rand(1, 6, 5, 3), rand(4, 3, 3, 3, seed=1), rand(4, seed=2)
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("Conv", ["t", "w", "b"], ["c"], strides=[2, 1]),
        node("Relu", ["c"], ["r"]), node("Transpose", ["r" if op == "NhwcFusedConv" else "c"], perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    inputs = {"x": x, "w": w, "b": b}
    more = {"activation": "Relu"} if op == "NhwcFusedConv" else {}
    _like(op, inputs, make(nodes, inputs), strides=[2, 1], **more)


def test_max_pool_with_channels_last() -> None:
    _agree("NhwcMaxPool", {"x": _ints(1, 6, 5, 3, high=255, dtype=np.uint8)}, kernel_shape=[2, 2], strides=[2, 1])


@pytest.mark.parametrize("op", ["ComplexMul", "ComplexMulConj"])
def test_complex_mul(op: str) -> None:
    a, b = rand(3, 4, 2), rand(3, 4, 2, seed=1)
    model, feed = _model(op, {"a": a, "b": b})
    x, y = a.view(np.complex64), b.view(np.complex64)
    expected = (x * (y.conj() if op == "ComplexMulConj" else y)).view(np.float32)
    np.testing.assert_allclose(run_graph(read_onnx(model), feed)["y0"], expected, rtol=1e-5, atol=1e-6)


# -- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "zeros"), [(2, "none"), (2, "packed"), (4, "none"), (4, "packed"), (4, "real"), (8, "none"), (8, "packed")]
)
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
def test_matmul_nbits(bits: int, zeros: str, constant: bool) -> None:
    rows, columns, block = 6, 40, 16
    blocks = -(-columns // block)
    packed = -(-blocks * bits // 8)
    zero = {
        "none": None,
        "packed": _ints(rows, packed, high=256, seed=3, dtype=np.uint8),
        "real": rand(rows, blocks, seed=4) + 2 ** (bits - 1),
    }[zeros]
    inputs = {
        "a": rand(2, 3, columns), "b": _ints(rows, blocks, block * bits // 8, high=256, dtype=np.uint8),
        "scales": rand(rows, blocks, seed=1), "zero": zero, "g": None, "bias": rand(rows, seed=5),
    }  # fmt: skip
    constants = tuple(k for k in ("b", "scales", "zero") if inputs[k] is not None) if constant else ()
    _agree("MatMulNBits", inputs, constants=constants, K=columns, N=rows, bits=bits, block_size=block)


@pytest.mark.parametrize("kind", [0, 1])
def test_matmul_of_four_bits(kind: int) -> None:
    rows, columns, block = 6, 32, 16
    inputs = {
        "a": rand(3, columns), "b": _ints(rows * columns // 2, high=256, dtype=np.uint8),
        "scales": np.abs(rand(rows * columns // block, seed=1)),
    }  # fmt: skip
    _agree("MatMulBnb4", inputs, constants=("b", "scales"), K=columns, N=rows, block_size=block, quant_type=kind)


@pytest.mark.parametrize(("axis", "gathered"), [(1, 0), (0, 1), (1, 1)])
def test_gather_from_blocks(axis: int, gathered: int) -> None:
    from onnx import TensorProto

    codes, at = _ints(32, 32, high=16, dtype=np.uint8), _ints(2, 3, high=32, dtype=np.int64)
    shape = (32, 2) if axis == 1 else (2, 32)
    model, feed = _model(
        "GatherBlockQuantized", {"t": codes, "i": at, "s": rand(*shape), "z": np.full(shape, 7, np.uint8)},
        constants=("t", "s", "z"), quantize_axis=axis, gather_axis=gathered, block_size=16,
    )  # fmt: skip
    for tensor in model.graph.initializer:
        if tensor.name in ("t", "z"):
            values = numpy_helper.to_array(tensor).reshape(-1)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.UINT4, tensor.dims, values.tolist()))
    agree(model, feed)


@pytest.mark.parametrize("bits", [4, 8])
def test_gather_from_packed_blocks(bits: int) -> None:
    inputs = {
        "t": _ints(9, 32 * bits // 8, high=256, dtype=np.uint8), "i": _ints(2, 3, high=9, dtype=np.int64),
        "s": rand(9, 2), "z": _ints(9, -(-2 * bits // 8), high=256, dtype=np.uint8, seed=2),
    }  # fmt: skip
    more = {"quantize_axis": 1, "gather_axis": 0, "block_size": 16, "bits": bits}
    _agree("GatherBlockQuantized", inputs, constants=("t", "s", "z"), **more)
    _agree("GatherBlockQuantized", {**inputs, "z": None}, constants=("t", "s"), **more)


# -- quantized operators --------------------------------------------------------------------------------------------


def test_quantized_operators() -> None:
    x, scale, zero = _ints(3, 4, 5, high=255, dtype=np.uint8), np.float32(0.02), np.uint8(120)
    parameters = {"s": scale, "z": zero, "ys": np.float32(0.015), "yz": np.uint8(110)}
    model, feed = _model("QLinearReduceMean", {"x": x, **parameters}, axes=[1], keepdims=1)
    mean = (0.02 * (x.astype(np.float32) - 120)).mean(1, keepdims=True)
    got = run_graph(read_onnx(model), feed)["y0"]
    assert np.abs(got.astype(np.float32) - (mean / 0.015 + 110)).max() <= 0.51
    one = {"x": x, "xs": scale, "xz": zero}
    two = {"b": _ints(3, 4, 5, high=255, seed=1, dtype=np.uint8), "bs": np.float32(0.01), "bz": np.uint8(9)}
    last = {"ys": np.float32(0.02), "yz": np.uint8(100)}
    where = {"c": _ints(3, 1, 5).astype(bool), **one, **two, **last}
    _agree("QLinearWhere", where, constants=("xs", "xz", "bs", "bz", "ys", "yz"))
    _agree("QuantizeLinear", {"x": rand(3, 4), "s": scale, "z": zero})
    _agree("DequantizeLinear", {"x": x, "s": scale, "z": zero})


@pytest.mark.parametrize("last", [0, 1])
def test_quantized_convolution(last: int) -> None:
    x = _ints(1, 3, 6, 5, high=255, dtype=np.uint8)
    inputs = {
        "x": np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x, "xs": np.float32(0.02), "xz": np.uint8(120),
        "w": _ints(4, 3, 3, 3, high=255, dtype=np.uint8), "ws": np.float32(0.01), "wz": np.uint8(130),
        "ys": np.float32(0.05), "yz": np.uint8(100), "b": _ints(4, high=99),
    }  # fmt: skip
    constants = tuple(k for k in inputs if k != "x")
    _agree("QLinearConv", inputs, constants=constants, channels_last=last)


# -- others ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 6])
def test_inverse(size: int) -> None:
    x = rand(2, 3, size, size)
    x[0, 0, 0, 0] = 0  # needs an exchange of rows
    _agree("Inverse", {"x": x}, rtol=1e-3)


def test_early_forms_of_operators() -> None:
    _agree("Trilu", {"x": rand(3, 4), "k": np.int64(1)}, upper=0)
    _agree("GatherND", {"x": rand(3, 4), "i": _ints(2, 2, high=3, dtype=np.int64)})
    _agree("ExpandDims", {"x": rand(3, 4), "axis": np.int32(-1)}, constants=("axis",))
    _agree(
        "Pad", {"x": rand(3, 4), "pads": np.array([1, 0, 0, 2]), "v": np.array([2.0], np.float32)}, constants=("pads",)
    )
    _agree("GridSample", {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 3, 2, seed=1) * 0.5}, mode="bilinear")
    _agree("Range", {"a": np.int64(2), "b": np.int64(6)}, constants=("a", "b"))
    _agree("CDist", {"a": rand(3, 4), "b": rand(5, 4, seed=1)}, metric="euclidean")
    _agree("Unique", {"x": np.array([2.0, 1, 1, 3, 2], np.float32)}, outputs=3)


def test_is_all_finite() -> None:
    for bad in (1.0, np.inf, np.nan):
        model, feed = _model("IsAllFinite", {"a": rand(3), "b": np.array([[0, bad]], np.float32)})
        assert bool(run_graph(read_onnx(model), feed)["y0"]) == np.isfinite(bad)


def test_forms_that_are_not_there_say_so() -> None:
    model, _ = _model(
        "GroupQueryAttention", _groups(1, 9, [6], 7), outputs=3, num_heads=4, kv_num_heads=2, k_quant_type="PER_TENSOR"
    )
    with pytest.raises(UnsupportedError, match="quantized cache"):
        read_onnx(model)
    model, _ = _model("BeamSearch", {"x": rand(2)})
    with pytest.raises(UnsupportedError, match="not supported"):
        read_onnx(model)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lstm_of_quantized_weights(direction: str) -> None:
    count, hidden = (2 if direction == "bidirectional" else 1), 4
    steps = np.full(count, 0.01, np.float32)
    inputs: dict[str, Array | None] = {
        "x": rand(6, 2, 5), "w": _ints(count, 5, 4 * hidden, high=255, dtype=np.uint8),
        "r": _ints(count, hidden, 4 * hidden, high=255, seed=1, dtype=np.uint8), "b": rand(count, 8 * hidden),
        "lengths": None, "h": None, "c": None, "p": None, "ws": steps, "wz": np.full(count, 128, np.uint8),
        "rs": steps, "rz": np.full(count, 127, np.uint8),
    }  # fmt: skip
    constants = ("w", "r", "ws", "wz", "rs", "rz")
    model, feed = _model("DynamicQuantizeLSTM", inputs, 3, constants, direction=direction, hidden_size=hidden)
    expected, got = runtime(model, feed), run_graph(read_onnx(model), feed)
    for name, array in expected.items():  # ONNX Runtime rounds inputs and states to steps of their own
        assert np.abs(got[name] - array).max() < 0.05, name


def test_gates() -> None:
    gate, up = rand(2, 3, 8), rand(2, 3, 8, seed=1)

    def sigmoid(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    def check(expected: Array, op: str, inputs: dict[str, Array | None], **more: Any) -> None:
        model, feed = _model(op, inputs, **more)
        np.testing.assert_allclose(run_graph(read_onnx(model), feed)["y0"], expected, rtol=1e-4, atol=1e-5)

    wanted = gate * sigmoid(1.5 * gate) * (up + 1)
    check(wanted, "SwiGLU", {"g": gate, "u": up}, activation_alpha=1.5, activation_beta=1.0)
    check(wanted, "SwiGLU", {"g": np.concatenate([gate, up], -1)}, activation_alpha=1.5, activation_beta=1.0)
    low, wide = np.minimum(gate, 0.5), np.clip(up, -0.5, 0.5)
    check(low * sigmoid(low) * wide, "SwiGLU", {"g": gate, "u": up}, limit=0.5)
    check(2 * gate * sigmoid(2 * gate), "ScaledSiLU", {"x": gate}, alpha=2.0)
    scale, groups = rand(4, seed=2), gate.reshape(2, 3, 2, 4)
    normal = groups / np.sqrt((groups**2).mean(-1, keepdims=True) + 1e-5) * scale
    check(normal.reshape(2, 3, 8) * sigmoid(up), "GatedRMSNorm", {"x": gate, "s": scale, "g": up}, activation="sigmoid")


def test_attention_of_symbolic_lengths_compiles(tmp_path: Path) -> None:
    """A decoder's step: the cache, and how much of it there will be, are known when it runs."""
    model, feed = _model("GroupQueryAttention", _groups(1, 6, [6], 7), 3, num_heads=4, kv_num_heads=2, do_rotary=1)
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
    model, _ = _model("Attention", _attention(mask=_ints(B, S)), num_heads=N, unidirectional=1)
    for value in model.graph.input:
        if value.name in ("x", "mask"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
            value.type.tensor_type.shape.dim[1].dim_param = "length"
    compile_file(model, tmp_path / "m.so", opt=1)
    with load(tmp_path / "m.so", threads=1) as compiled:
        for batch, length in ((2, 5), (3, 7)):
            inputs = _attention(x=rand(batch, length, 12), mask=_ints(batch, length, seed=length))
            feed = {k: v for k, v in inputs.items() if v is not None}
            np.testing.assert_allclose(compiled.run(feed)["y0"], runtime(model, feed)["y0"], rtol=1e-4, atol=1e-5)
