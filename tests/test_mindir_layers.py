"""Lowerings of MindIR's layers that no sample has, against NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from _mindir_graphs import File, Operand, f32, tensor

from planish.frontend.mindir.proto import Attribute, GraphProto, ModelFile, NodeProto, Value, ValueInfo
from planish.frontend.mindir.reader import MindirSource
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(operator: str, *operands: Operand, outputs: int = 0, **attributes: object) -> list[np.ndarray]:
    """One primitive on arrays: the results (of a tuple the first `outputs`). Arrays are inputs or, of integers,
    constants."""
    file = File()
    inputs: dict[str, np.ndarray] = {}
    for n, operand in enumerate(operands):
        if isinstance(operand, np.ndarray) and operand.dtype == np.float32:
            inputs[f"i{n}"] = cast("np.ndarray", operand)
    used = [f"i{n}" if f"i{n}" in inputs else a for n, a in enumerate(operands)]
    nodes: list[Sequence[Operand]] = [("y", operator, *used, *([attributes] if attributes else []))]
    nodes += [(f"t{n}", "TupleGetItem", "y", n) for n in range(outputs)]
    if outputs:
        nodes.append(("r", "MakeTuple", *(f"t{n}" for n in range(outputs))))
    file.graph("main", {name: f32(*a.shape) for name, a in inputs.items()}, nodes, "r" if outputs else "y")
    return file.run(**inputs)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def windows(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A convolution, stride 1, no padding, no groups."""
    views = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))  # type: ignore[call-overload]
    return np.einsum("ncyxhw,ochw->noyx", views, weight)


def test_attention_of_all_layouts() -> None:
    batch, heads, few, long, width = 2, 4, 2, 5, 3
    q, k, v = normal(batch, heads, long, width), normal(batch, few, long, width), normal(batch, few, long, width)
    mask = np.triu(np.ones((long, long), bool), 1)
    scores = np.einsum("bhqd,bhkd->bhqk", q, k.repeat(2, 1)) * 0.5
    expected = np.einsum("bhqk,bhkd->bhqd", softmax(np.where(mask, -1e30, scores)), v.repeat(2, 1))
    turns = {"BNSD": (0, 1, 2, 3), "BSND": (0, 2, 1, 3), "BSH": (0, 2, 1, 3), "SBH": (2, 0, 1, 3)}
    for number, layout in enumerate(("BSH", "BNSD", "SBH", "BSND")):
        args = [a.transpose(turns[layout]) for a in (q, k, v)]
        wanted = expected.transpose(turns[layout])
        if layout.endswith("H"):
            args = [a.reshape(*a.shape[:2], -1) for a in args]
            wanted = wanted.reshape(*wanted.shape[:2], -1)
        args = [np.ascontiguousarray(a) for a in args]
        rest = [None, None, None, mask, None, None, None, heads, 1.0, 0.5, 9999, 9999, 0, number, 0]
        (y,) = run("FlashAttentionScore", *args, *rest, outputs=4)
        np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_attention_of_packed_sequences_is_refused() -> None:
    q = normal(1, 4, 5, 3)
    lengths = np.array([5], np.int64)
    rest = [None, None, None, None, None, lengths, None, 4, 1.0, 0.5, 9999, 9999, 0, 1, 0]
    with pytest.raises(UnsupportedError, match="actual_seq_qlen"):
        run("FlashAttentionScore", q, q, q, *rest, outputs=4)


def test_channels_may_come_last() -> None:
    x, weight = normal(2, 6, 5, 3), normal(4, 3, 2, 3)
    (y,) = run(
        "Conv2D", x, np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), kernel_size=(3, 2), pad_mode="valid",
        stride=(1, 1, 1, 1), dilation=(1, 1, 1, 1), group=1, format="NHWC",
    )  # fmt: skip
    np.testing.assert_allclose(y, windows(x.transpose(0, 3, 1, 2), weight).transpose(0, 2, 3, 1), atol=1e-5)
    (z,) = run("MaxPool", x, kernel_size=(1, 2, 1, 1), strides=(1, 2, 1, 1), pad_mode="VALID", format="NHWC")
    np.testing.assert_array_equal(z, x.reshape(2, 3, 2, 5, 3).max(2))
    scale, bias, mean, variance = normal(3), normal(3), normal(3), np.abs(normal(3))
    (n,) = run("BatchNorm", x, scale, bias, mean, variance, False, 1e-5, 0.1, 1, outputs=1)
    np.testing.assert_allclose(n, (x - mean) / np.sqrt(variance + 1e-5) * scale + bias, atol=1e-5)


def test_arguments_may_be_attributes_as_in_older_files() -> None:
    x, scale, bias, mean = normal(2, 3, 4, 4), normal(3), normal(3), normal(3)
    variance = np.abs(normal(3))
    expected = (x - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None] * scale[:, None, None]
    (y,) = run("BatchNorm", x, scale, bias, mean, variance, outputs=1, is_training=False, epsilon=1e-3, format="NCHW")
    np.testing.assert_allclose(y, expected + bias[:, None, None], atol=1e-5)
    a, b = normal(4, 2), normal(3, 4)
    (p,) = run("MatMul", a, b, transpose_x1=True, transpose_x2=True)
    np.testing.assert_allclose(p, a.T @ b.T, atol=1e-5)
    (m,) = run("MaxPool", x, ksize=(1, 1, 3, 3), strides=(1, 1, 2, 2), padding="SAME", data_format="NCHW")
    assert m.shape == (2, 3, 2, 2)
    (s,) = run("Softmax", a, axis=(0,))
    np.testing.assert_allclose(s, softmax(a.T).T, atol=1e-6)


def test_nodes_of_1_x_name_primitives_themselves() -> None:
    x, weight, bias = normal(2, 5), normal(4, 5), normal(4)
    made: list[tuple[str, str, tuple[str, ...], dict[str, Value]]] = [
        ("y", "MatMul", ("net:x", "net:w"), {"transpose_a": False, "transpose_b": True}),
        ("z", "BiasAdd", ("y", "net:b"), {"format": "NCHW"}),
        ("s", "Softmax", ("z",), {"axis": (-1,)}),
        ("t", "S-Prim-MakeTuple", ("s", "z"), {}),
        ("one", "Constant", (), {"value": 1}),
        ("r", "tuple_getitem", ("t", "one"), {}),
        ("o", "S-Prim-make_tuple", ("r", "s"), {}),
    ]
    nodes = [
        NodeProto(inputs, name, name, operator, {k: Attribute(k, "", v) for k, v in attributes.items()})
        for name, operator, inputs, attributes in made
    ]
    parameters = (tensor("net:w", weight), tensor("net:b", bias))
    graph = GraphProto("net", tuple(nodes), parameters, (ValueInfo("net:x", f32(2, 5)),), (ValueInfo("o", None),), {})
    file = ModelFile("net", None, "0.1.0", 0, "1.1.0", "MindSpore", graph, (), {}, (), {}, "")
    z, s = run_graph(MindirSource(file).read(), {"x": x}).values()
    np.testing.assert_allclose(z, x @ weight.T + bias, atol=1e-5)
    np.testing.assert_allclose(s, softmax(z), atol=1e-6)


def test_what_is_written_into_a_tensor_is_what_its_names_stand_for() -> None:
    file = File()
    file.graph("main", {"x": f32(3)}, [
        ("y", "ReLU", "x"), ("before", "Neg", "y"), ("z", "InplaceAddExt", "y", "x", 2), ("after", "Neg", "y"),
        ("r", "MakeTuple", "before", "z", "after"),
    ], "r")  # fmt: skip
    x = np.array([1, -2, 3], np.float32)
    before, z, after = file.run(x=x)
    np.testing.assert_array_equal(before, -np.maximum(x, 0))
    np.testing.assert_array_equal(z, np.maximum(x, 0) + 2 * x)
    np.testing.assert_array_equal(after, -z)


def test_a_depthwise_convolution_may_have_several_windows_for_each_channel() -> None:
    x, weight = normal(1, 3, 5, 5), normal(2, 3, 3, 3)
    (y,) = run("DepthwiseConv2dNative", x, weight, kernel_size=(3, 3), pad_mode="valid", stride=1, dilation=1, group=1)
    parts = [windows(x[:, c : c + 1], weight[m : m + 1, c : c + 1]) for c in range(3) for m in range(2)]
    np.testing.assert_allclose(y, np.concatenate(parts, 1), atol=1e-5)


def test_padding_by_name_and_inputs_without_batch() -> None:
    x, weight, bias = normal(3, 6, 5), normal(4, 3, 3, 3), normal(4)
    (y,) = run("ConvolutionStr", x, weight, bias, (1, 1), 1, (1, 1), False, (0, 0), 1)
    padded = np.pad(x[None], ((0, 0), (0, 0), (1, 1), (1, 1)))
    np.testing.assert_allclose(y, windows(padded, weight)[0] + bias[:, None, None], atol=1e-5)


def test_dropout_hands_its_input_over() -> None:
    x = normal(2, 3)
    y, mask = run("Dropout", x, 0.5, 0, 0, outputs=2)
    np.testing.assert_array_equal(y, x)
    assert mask.min() == 1
    file = File()
    file.graph("main", {"x": f32(2)}, [("d", "Dropout", "x", 0.5, 0, 0), ("y", "TupleGetItem", "d", 0)], "y")
    (note,) = cast("list[str]", file.module().attributes["notes"])
    assert "dropout hands its input over" in note


def test_normalizations_give_their_statistics() -> None:
    x, gamma, beta = normal(3, 4, 5), normal(4, 5), normal(4, 5)
    y, mean, variance = run("LayerNorm", x, gamma, beta, 1, 1, 1e-5, outputs=3)
    flat = x.reshape(3, 20)
    np.testing.assert_allclose(mean.reshape(-1), flat.mean(1), atol=1e-6)
    np.testing.assert_allclose(variance.reshape(-1), flat.var(1), atol=1e-5)
    wanted = (flat - flat.mean(1)[:, None]) / np.sqrt(flat.var(1) + 1e-5)[:, None]
    np.testing.assert_allclose(y, wanted.reshape(x.shape) * gamma + beta, atol=1e-5)
    z, root, total = run("AddRmsNorm", x, x, normal(5), 1e-6, outputs=3)
    np.testing.assert_array_equal(total, x + x)
    np.testing.assert_allclose(root[..., 0], 1 / np.sqrt((4 * x * x).mean(-1) + 1e-6), rtol=1e-5)
    assert z.shape == x.shape


def test_places_of_largest_elements_are_those_in_their_image() -> None:
    x = normal(2, 3, 4, 4)
    y, at = run("MaxPoolWithArgmax", x, outputs=2, kernel_size=(1, 1, 2, 2), strides=(1, 1, 2, 2), pad_mode="VALID")
    np.testing.assert_array_equal(y, np.take_along_axis(x.reshape(2, 3, 16), at.reshape(2, 3, 4), 2).reshape(y.shape))
    assert at.dtype == np.int32


@pytest.mark.parametrize("largest", [False, True])
def test_parts_that_overlap(largest: bool) -> None:
    x = normal(1, 2, 7, 5)
    name = "AdaptiveMaxPool2D" if largest else "AdaptiveAvgPool2D"
    (y,) = run(name, x, output_size=(3, None))
    fold = np.max if largest else np.mean
    rows = [fold(x[:, :, a:b], axis=2) for a, b in ((0, 3), (2, 5), (4, 7))]
    np.testing.assert_allclose(y, np.stack(rows, 2), atol=1e-6)


def test_a_lowering_says_what_is_missing() -> None:
    with pytest.raises(UnsupportedError, match="argument num_groups of GroupNorm is missing"):
        run("GroupNorm", normal(2, 4, 3), outputs=3)
    with pytest.raises(UnsupportedError, match="expected 2 numbers, got 3"):
        run("MaxPool", normal(2, 4, 3, 3), kernel_size=(1, 2, 3), strides=1, pad_mode="VALID")


def test_primitives_without_a_lowering_are_listed_together() -> None:
    file = File()
    nodes = [("a", "AllGather", "x"), ("b", "NoSuchThing", "x"), ("c", "Add", "a", "b"), ("d", "SGD", "c")]
    file.graph("main", {"x": f32(2)}, nodes, "d")
    with pytest.raises(UnsupportedError) as caught:
        file.module()
    assert [(i.operator, i.node) for i in caught.value.issues] == [
        ("AllGather", '"Default/a"'), ("NoSuchThing", '"Default/b"'), ("SGD", '"Default/d"'),
    ]  # fmt: skip
    assert "not known" in caught.value.issues[1].reason
