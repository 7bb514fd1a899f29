"""Operators of ONNX Runtime's domain (`com.microsoft`) against ONNX Runtime; those that its CPU does not have, against
the same in operators of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _contrib import Array, agree_on, hold_to, ints, node_model
from onnx import helper, numpy_helper
from onnx_models import agree, make, node, rand, runtime

from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph

B, S, N, H = 2, 5, 2, 8  # batch, length, heads, size of a head


# -- normalisation, embeddings --------------------------------------------------------------------------------------


def test_skip_layer_normalization() -> None:
    inputs = {"x": rand(B, S, 8), "s": rand(B, S, 8, seed=1), "g": rand(8, seed=2), "b": rand(8, seed=3)}
    for more in ({}, {"bias": rand(8, seed=4)}, {"s": rand(S, 8, seed=5)}, {"b": None, "s": rand(1, S, 8)}):
        model, feed = node_model("SkipLayerNormalization", {**inputs, **more}, 4, epsilon=1e-5)
        del model.graph.output[1:3]
        model.graph.node[0].output[1:3] = ["", ""]
        agree(model, feed, rtol=1e-4, atol=1e-5)


def test_skip_simplified_layer_normalization() -> None:
    inputs = {"x": rand(B, S, 8), "s": rand(B, S, 8, seed=1), "g": rand(8, seed=2), "b": rand(8, seed=3)}
    model, feed = node_model("SkipSimplifiedLayerNormalization", inputs, 4, epsilon=1e-5)
    del model.graph.output[1:3]
    model.graph.node[0].output[1:3] = ["", ""]
    agree(model, feed, rtol=1e-4, atol=1e-5)


def test_simplified_layer_normalization() -> None:
    agree_on("SimplifiedLayerNormalization", {"x": rand(B, S, 8), "g": rand(8)}, domain="", axis=-1, epsilon=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_embed_layer_normalization(masked: bool) -> None:
    inputs: dict[str, Array | None] = {
        "ids": ints(B, S, high=9), "types": ints(B, S), "words": rand(9, 8), "places": rand(7, 8, seed=1),
        "segments": rand(2, 8, seed=2), "g": rand(8, seed=3), "b": rand(8, seed=4),
        "mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32) if masked else None,
    }  # fmt: skip
    agree_on("EmbedLayerNormalization", inputs, outputs=3)
    agree_on("EmbedLayerNormalization", {**inputs, "at": ints(1, S, high=7)}, outputs=2)


def test_embed_layer_normalization_without_segments() -> None:
    inputs = {"ids": ints(B, S, high=9), "types": None, "words": rand(9, 8), "places": rand(7, 8, seed=1)}
    agree_on("EmbedLayerNormalization", {**inputs, "segments": None, "g": rand(8), "b": rand(8)}, outputs=2)


def test_quantized_embed_layer_normalization() -> None:
    tables = {n: ints(9, 8, high=255, seed=i, dtype=np.uint8) for i, n in enumerate(("words", "places", "segments"))}
    vectors = {n: ints(8, high=255, seed=i, dtype=np.uint8) for i, n in enumerate(("g", "b"))}
    scales = {f"s{i}": np.float32(0.01 * (i + 1)) for i in range(5)}
    zeros = {f"z{i}": np.uint8(100 + i) for i in range(5)}
    inputs = {"ids": ints(B, S, high=9), "types": ints(B, S), **tables, **vectors, "mask": None, **scales, **zeros}
    agree_on("QEmbedLayerNormalization", inputs, outputs=2)


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
        model, feed = node_model(op, inputs, groups=2, activation=1, channels_last=last)
        got = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
        np.testing.assert_allclose(got.transpose(back) if last else got, expected, rtol=1e-4, atol=1e-5)

    check("GroupNorm", {**given, "x": turned(x)}, runtime(make(reference, given, opset=21), given)["y"])
    summed = {**given, "x": x + skip}
    expected = runtime(make(reference, summed, opset=21), summed)["y"]
    check("SkipGroupNorm", {**given, "x": turned(x), "skip": turned(skip)}, expected)


# -- activations, products ------------------------------------------------------------------------------------------


def test_activations() -> None:
    x = rand(B, S, 8)
    agree_on("Gelu", {"x": x})
    agree_on("BiasGelu", {"x": x, "b": rand(8, seed=1)})
    agree_on("FastGelu", {"x": x, "b": rand(8, seed=1)})
    agree_on("QuickGelu", {"x": x}, alpha=1.5)


def test_bias_split_gelu_and_bias_add() -> None:
    x, b = rand(B, S, 8), rand(8, seed=1)
    reference = make(
        [node("Add", ["x", "b"], ["t"]), node("Split", ["t"], ["l", "r"], axis=-1, num_outputs=2),
         node("Gelu", ["r"], ["g"]), node("Mul", ["l", "g"])], {"x": x, "b": b}, opset=20,
    )  # fmt: skip
    hold_to("BiasSplitGelu", {"x": x, "b": b}, reference)
    reference = make([node("Sum", ["x", "b", "s"])], {"x": x, "b": b, "s": x})
    hold_to("BiasAdd", {"x": x, "b": b, "s": rand(B, S, 8, seed=2)}, reference)


def test_bias_softmax() -> None:
    x, bias = rand(2, 3, 4, 5), rand(1, 1, 4, 5, seed=1)
    for axis in (3, 2):
        nodes = [node("Add", ["x", "b"], ["t"]), node("Softmax", ["t"], axis=axis)]
        hold_to(
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
    agree_on("FusedConv", inputs, pads=[1, 1, 1, 1], **more)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_fused_gemm(activation: str) -> None:
    inputs = {"a": rand(6, 4), "b": rand(5, 6, seed=1), "c": rand(5, seed=2)}
    more: dict[str, Any] = {"activation_alpha": 0.3} if activation == "LeakyRelu" else {}
    agree_on("FusedGemm", inputs, transA=1, transB=1, alpha=0.5, beta=2.0, activation=activation, **more)


@pytest.mark.parametrize("turned", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.5}])
def test_fused_matmul(turned: dict[str, Any]) -> None:
    a = rand(2, 3, 6, 4) if "transA" in turned else rand(2, 3, 4, 6)
    b = rand(3, 5, 6, seed=1) if "transB" in turned else rand(3, 6, 5, seed=1)
    agree_on("FusedMatMul", {"a": a, "b": b}, **turned)
    agree_on("FusedMatMul", {"a": a, "b": b}, constants=("b",), **turned)


def test_fused_matmul_of_batches_in_the_middle() -> None:
    agree_on("FusedMatMul", {"a": rand(4, 2, 3, 6), "b": rand(2, 3, 6, 5, seed=1)}, transBatchA=1)
    agree_on("FusedMatMul", {"a": rand(6, 2, 3, 4), "b": rand(2, 3, 6, 5, seed=1)}, transBatchA=1, transA=1)


def test_gemm_fast_gelu() -> None:
    inputs = {"x": rand(B, S, 8), "w": rand(8, 4, seed=1), "b": rand(4, seed=2)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["t"]), node("Gelu", ["t"], approximate="tanh")]
    hold_to("GemmFastGelu", inputs, make(nodes, inputs, opset=20))


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
def test_convolution_with_channels_last(op: str) -> None:
    x, w, b = rand(1, 6, 5, 3), rand(4, 3, 3, 3, seed=1), rand(4, seed=2)
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("Conv", ["t", "w", "b"], ["c"], strides=[2, 1]),
        node("Relu", ["c"], ["r"]), node("Transpose", ["r" if op == "NhwcFusedConv" else "c"], perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    inputs = {"x": x, "w": w, "b": b}
    more = {"activation": "Relu"} if op == "NhwcFusedConv" else {}
    hold_to(op, inputs, make(nodes, inputs), strides=[2, 1], **more)


def test_max_pool_with_channels_last() -> None:
    agree_on("NhwcMaxPool", {"x": ints(1, 6, 5, 3, high=255, dtype=np.uint8)}, kernel_shape=[2, 2], strides=[2, 1])


@pytest.mark.parametrize("op", ["ComplexMul", "ComplexMulConj"])
def test_complex_mul(op: str) -> None:
    a, b = rand(3, 4, 2), rand(3, 4, 2, seed=1)
    model, feed = node_model(op, {"a": a, "b": b})
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
        "packed": ints(rows, packed, high=256, seed=3, dtype=np.uint8),
        "real": rand(rows, blocks, seed=4) + 2 ** (bits - 1),
    }[zeros]
    inputs = {
        "a": rand(2, 3, columns), "b": ints(rows, blocks, block * bits // 8, high=256, dtype=np.uint8),
        "scales": rand(rows, blocks, seed=1), "zero": zero, "g": None, "bias": rand(rows, seed=5),
    }  # fmt: skip
    constants = tuple(k for k in ("b", "scales", "zero") if inputs[k] is not None) if constant else ()
    agree_on("MatMulNBits", inputs, constants=constants, K=columns, N=rows, bits=bits, block_size=block)


def test_matmul_of_blocks_in_another_order() -> None:
    rows, columns, block = 6, 64, 16
    inputs: dict[str, Array | None] = {
        "a": rand(3, columns), "b": ints(rows, columns // block, block // 2, high=256, dtype=np.uint8),
        "scales": np.abs(rand(rows, columns // block, seed=1)), "zero": None,
        "g_idx": ints(columns, high=columns // block, seed=3),
    }  # fmt: skip
    more: dict[str, Any] = {"K": columns, "N": rows, "bits": 4, "block_size": block}
    agree_on("MatMulNBits", inputs, constants=("b", "scales", "g_idx"), **more)
    # With zero points ONNX Runtime takes 8 all the same.
    packed = ints(rows, columns // block // 2, high=256, seed=2, dtype=np.uint8)
    given = {**inputs, "zero": packed}
    model, feed = node_model("MatMulNBits", given, constants=("b", "scales", "zero", "g_idx"), **more)
    parts: list[Array] = [given["b"], packed]
    codes, zero = (np.stack((x & 15, x >> 4), -1).reshape(rows, -1).astype(int) for x in parts)
    group = inputs["g_idx"]
    weights = (codes - zero[:, group]) * np.asarray(inputs["scales"])[:, group]
    got = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
    np.testing.assert_allclose(got, feed["a"] @ weights.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [0, 1])
def test_matmul_of_four_bits(kind: int) -> None:
    rows, columns, block = 6, 32, 16
    inputs = {
        "a": rand(3, columns), "b": ints(rows * columns // 2, high=256, dtype=np.uint8),
        "scales": np.abs(rand(rows * columns // block, seed=1)),
    }  # fmt: skip
    agree_on("MatMulBnb4", inputs, constants=("b", "scales"), K=columns, N=rows, block_size=block, quant_type=kind)


@pytest.mark.parametrize(("axis", "gathered"), [(1, 0), (0, 1), (1, 1)])
def test_gather_from_blocks(axis: int, gathered: int) -> None:
    from onnx import TensorProto

    codes, at = ints(32, 32, high=16, dtype=np.uint8), ints(2, 3, high=32, dtype=np.int64)
    shape = (32, 2) if axis == 1 else (2, 32)
    model, feed = node_model(
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
        "t": ints(9, 32 * bits // 8, high=256, dtype=np.uint8), "i": ints(2, 3, high=9, dtype=np.int64),
        "s": rand(9, 2), "z": ints(9, -(-2 * bits // 8), high=256, dtype=np.uint8, seed=2),
    }  # fmt: skip
    more = {"quantize_axis": 1, "gather_axis": 0, "block_size": 16, "bits": bits}
    agree_on("GatherBlockQuantized", inputs, constants=("t", "s", "z"), **more)
    agree_on("GatherBlockQuantized", {**inputs, "z": None}, constants=("t", "s"), **more)


# -- quantized operators --------------------------------------------------------------------------------------------


def test_quantized_operators() -> None:
    x, scale, zero = ints(3, 4, 5, high=255, dtype=np.uint8), np.float32(0.02), np.uint8(120)
    parameters = {"s": scale, "z": zero, "ys": np.float32(0.015), "yz": np.uint8(110)}
    model, feed = node_model("QLinearReduceMean", {"x": x, **parameters}, axes=[1], keepdims=1)
    mean = (0.02 * (x.astype(np.float32) - 120)).mean(1, keepdims=True)
    got = run_graph(read_onnx(model), feed)["y0"]
    assert np.abs(got.astype(np.float32) - (mean / 0.015 + 110)).max() <= 0.51
    one = {"x": x, "xs": scale, "xz": zero}
    two = {"b": ints(3, 4, 5, high=255, seed=1, dtype=np.uint8), "bs": np.float32(0.01), "bz": np.uint8(9)}
    last = {"ys": np.float32(0.02), "yz": np.uint8(100)}
    where = {"c": ints(3, 1, 5).astype(bool), **one, **two, **last}
    agree_on("QLinearWhere", where, constants=("xs", "xz", "bs", "bz", "ys", "yz"))
    agree_on("QuantizeLinear", {"x": rand(3, 4), "s": scale, "z": zero})
    agree_on("DequantizeLinear", {"x": x, "s": scale, "z": zero})


@pytest.mark.parametrize("last", [0, 1])
def test_quantized_convolution(last: int) -> None:
    x = ints(1, 3, 6, 5, high=255, dtype=np.uint8)
    inputs = {
        "x": np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x, "xs": np.float32(0.02), "xz": np.uint8(120),
        "w": ints(4, 3, 3, 3, high=255, dtype=np.uint8), "ws": np.float32(0.01), "wz": np.uint8(130),
        "ys": np.float32(0.05), "yz": np.uint8(100), "b": ints(4, high=99),
    }  # fmt: skip
    constants = tuple(k for k in inputs if k != "x")
    agree_on("QLinearConv", inputs, constants=constants, channels_last=last)


# -- others ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 6])
def test_inverse(size: int) -> None:
    x = rand(2, 3, size, size)
    x[0, 0, 0, 0] = 0  # needs an exchange of rows
    agree_on("Inverse", {"x": x}, rtol=1e-3)


def test_early_forms_of_operators() -> None:
    agree_on("Trilu", {"x": rand(3, 4), "k": np.int64(1)}, upper=0)
    agree_on("GatherND", {"x": rand(3, 4), "i": ints(2, 2, high=3, dtype=np.int64)})
    agree_on("ExpandDims", {"x": rand(3, 4), "axis": np.int32(-1)}, constants=("axis",))
    agree_on(
        "Pad", {"x": rand(3, 4), "pads": np.array([1, 0, 0, 2]), "v": np.array([2.0], np.float32)}, constants=("pads",)
    )
    agree_on("GridSample", {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 3, 2, seed=1) * 0.5}, mode="bilinear")
    agree_on("Range", {"a": np.int64(2), "b": np.int64(6)}, constants=("a", "b"))
    agree_on("CDist", {"a": rand(3, 4), "b": rand(5, 4, seed=1)}, metric="euclidean")
    agree_on("Unique", {"x": np.array([2.0, 1, 1, 3, 2], np.float32)}, outputs=3)


def test_is_all_finite() -> None:
    for bad in (1.0, np.inf, np.nan):
        model, feed = node_model("IsAllFinite", {"a": rand(3), "b": np.array([[0, bad]], np.float32)})
        assert bool(run_graph(read_onnx(model), feed)["y0"]) == np.isfinite(bad)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lstm_of_quantized_weights(direction: str) -> None:
    count, hidden = (2 if direction == "bidirectional" else 1), 4
    steps = np.full(count, 0.01, np.float32)
    inputs: dict[str, Array | None] = {
        "x": rand(6, 2, 5), "w": ints(count, 5, 4 * hidden, high=255, dtype=np.uint8),
        "r": ints(count, hidden, 4 * hidden, high=255, seed=1, dtype=np.uint8), "b": rand(count, 8 * hidden),
        "lengths": None, "h": None, "c": None, "p": None, "ws": steps, "wz": np.full(count, 128, np.uint8),
        "rs": steps, "rz": np.full(count, 127, np.uint8),
    }  # fmt: skip
    constants = ("w", "r", "ws", "wz", "rs", "rz")
    model, feed = node_model("DynamicQuantizeLSTM", inputs, 3, constants, direction=direction, hidden_size=hidden)
    expected, got = runtime(model, feed), run_graph(read_onnx(model), feed)
    for name, array in expected.items():  # ONNX Runtime rounds inputs and states to steps of their own
        assert np.abs(got[name] - array).max() < 0.05, name


def test_gates() -> None:
    gate, up = rand(2, 3, 8), rand(2, 3, 8, seed=1)

    def sigmoid(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    def check(expected: Array, op: str, inputs: dict[str, Array | None], **more: Any) -> None:
        model, feed = node_model(op, inputs, **more)
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
