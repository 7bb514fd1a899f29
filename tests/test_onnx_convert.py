"""Converters against ONNX Runtime on small models: what changes with the opset, windows, and forms of one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import agree, make, node, rand

from planish.ir.constants import Constant, SplatSource

F32 = np.float32


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(7, 3, 2, (0, 0)), (8, 3, 2, (1, 1)), (8, 3, 3, (0, 2)), (6, 2, 3, (1, 1)), (5, 3, 2, (1, 0)), (9, 4, 4, (0, 1))],
)
def test_pooling_pads_and_ceil_mode(
    op: str, ceil: int, size: int, kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": ceil}
    attributes["pads"] = [pads[0]] * 2 + [pads[1]] * 2
    x = {"x": rand(1, 2, size, size + 1)}
    agree(make([node(op, ["x"], **attributes)], x), x)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "Conv"])
def test_auto_pad(op: str, mode: str) -> None:
    x = {"x": rand(1, 2, 7, 8)}
    constants = {"w": rand(3, 2, 3, 4, seed=1)} if op == "Conv" else {}
    attributes: dict[str, Any] = {"auto_pad": mode, "kernel_shape": [3, 4], "strides": [2, 3]}
    agree(make([node(op, ["x", *constants], **attributes)], x, constants=constants), x, atol=1e-5)


def test_average_pool_counts_given_padding_but_not_what_ceil_mode_adds() -> None:
    x = {"x": np.arange(1, 7, dtype=F32).reshape(1, 1, 6)}
    n = node("AveragePool", ["x"], kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1, count_include_pad=1)
    from planish.frontend.onnx import read_onnx
    from planish.ir.interp import run_graph

    got = run_graph(read_onnx(make([n], x, opset=19)), x)["y"]
    # Windows: (pad 1 2) / 3, (2 3 4) / 3, (4 5 6) / 3; nothing is left for a fourth one.
    np.testing.assert_allclose(got.reshape(-1), [1, 3, 5])


@pytest.mark.parametrize("group", [1, 2, 4])
def test_convolution_groups_strides_dilations(group: int) -> None:
    x = {"x": rand(2, 4, 9, 10)}
    w = {"w": rand(8, 4 // group, 3, 2, seed=1), "b": rand(8, seed=2)}
    n = node("Conv", ["x", "w", "b"], group=group, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 1])
    agree(make([n], x, constants=w), x, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
        {"strides": [3, 2], "output_shape": [14, 9]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"dilations": [2, 1], "group": 2},
    ],
)
def test_transposed_convolution(attributes: dict[str, Any]) -> None:
    x = {"x": rand(1, 4, 5, 4)}
    w = {"w": rand(4, 3, 3, 3, seed=1)}
    agree(make([node("ConvTranspose", ["x", "w"], **attributes)], x, constants=w), x, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [9, 13])
def test_softmax_before_13_flattens(op: str, axis: int, opset: int) -> None:
    x = {"x": rand(2, 3, 4)}
    agree(make([node(op, ["x"], axis=axis)], x, opset=opset), x)


@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("constant", [True, False])
def test_gemm(trans: tuple[int, int], constant: bool) -> None:
    a, b = rand(*((4, 3) if trans[0] else (3, 4))), rand(*((5, 4) if trans[1] else (4, 5)), seed=1)
    n = node("Gemm", ["a", "b", "c"], transA=trans[0], transB=trans[1], alpha=0.5, beta=2.0)
    free, fixed = ({"a": a}, {"b": b}) if constant else ({"a": a, "b": b}, {})
    module = agree(make([n], free, constants={**fixed, "c": rand(5, seed=2)}), free)
    transposed = any(op.op_name == "shape.transpose" for op in module.main.body)
    assert transposed == bool(trans[0] or (trans[1] and not constant))  # a constant is read in another order instead


@pytest.mark.parametrize("opset", [6, 10, 11, 12])
def test_clip_bounds_move_from_attributes_to_inputs(opset: int) -> None:
    x = {"x": rand(3, 4)}
    if opset < 11:
        agree(make([node("Clip", ["x"], min=-0.5, max=0.25)], x, opset=opset), x)
    else:
        agree(make([node("Clip", ["x", "", "h"])], x, constants={"h": F32(0.25)}, opset=opset), x)


@pytest.mark.parametrize("opset", [9, 13])
def test_slices_by_attribute_and_by_input(opset: int) -> None:
    x = {"x": rand(5, 6)}
    if opset < 10:
        agree(make([node("Slice", ["x"], starts=[1, -4], ends=[100, -1], axes=[0, 1])], x, opset=opset), x)
        return
    lists = {"s": [4, -1], "e": [-100, 0], "a": [0, 1], "t": [-2, -1]}
    constants = {k: np.array(v, np.int64) for k, v in lists.items()}
    agree(make([node("Slice", ["x", "s", "e", "a", "t"])], x, constants=constants, opset=opset), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("opset", [10, 17])
def test_padding(mode: str, opset: int) -> None:
    x = {"x": rand(4, 5)}
    pads = [1, 0, 2, 3]
    if opset < 11:
        extra: dict[str, Any] = {"value": 1.5} if mode == "constant" else {}
        agree(make([node("Pad", ["x"], pads=pads, mode=mode, **extra)], x, opset=opset), x)
    else:
        constants = {"p": np.array(pads, np.int64), "v": F32(1.5)}
        names = ["x", "p", "v"] if mode == "constant" else ["x", "p"]
        agree(make([node("Pad", names, mode=mode)], x, constants=constants, opset=opset), x)


def test_negative_padding_cuts() -> None:
    x = {"x": rand(4, 5)}
    agree(make([node("Pad", ["x", "p"])], x, constants={"p": np.array([-1, 1, 0, -2], np.int64)}), x)


@pytest.mark.parametrize(
    ("op", "keep"), [(f"Reduce{k}", keep) for k in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2") for keep in (0, 1)]
)
@pytest.mark.parametrize("opset", [11, 18])
def test_reductions(op: str, keep: int, opset: int) -> None:
    x = {"x": rand(2, 3, 4)}
    if opset < 13 or (op != "ReduceSum" and opset < 18):
        agree(make([node(op, ["x"], axes=[-1, 0], keepdims=keep)], x, opset=opset), x)
    else:
        constants = {"a": np.array([-1, 0], np.int64)}
        agree(make([node(op, ["x", "a"], keepdims=keep)], x, constants=constants, opset=opset), x)


def test_reduction_over_no_axes_is_over_all_or_none() -> None:
    x = {"x": rand(2, 3)}
    empty = {"a": np.array([], np.int64)}
    agree(make([node("ReduceSum", ["x", "a"], noop_with_empty_axes=1)], x, constants=empty), x)
    agree(make([node("ReduceSum", ["x"])], x), x)


@pytest.mark.parametrize("spatial", [(), (3,), (3, 4)])
def test_batch_normalization(spatial: tuple[int, ...]) -> None:
    x = {"x": rand(2, 3, *spatial)}
    constants = {k: rand(3, seed=i) for i, k in enumerate("sbm")} | {"v": np.abs(rand(3, seed=9)) + F32(0.1)}
    for opset in (9, 15):
        agree(make([node("BatchNormalization", ["x", *"sbmv"], epsilon=1e-3)], x, constants=constants, opset=opset), x)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
def test_variadic_operators(op: str) -> None:
    x = {"a": rand(2, 3), "b": rand(3, seed=1), "c": rand(2, 1, seed=2)}
    agree(make([node(op, list(x))], x), x)
    agree(make([node(op, ["a"])], {"a": x["a"]}), {"a": x["a"]})


def test_split_with_sizes_and_without() -> None:
    x = {"x": rand(2, 7)}
    outs = ("a", "b")
    agree(make([node("Split", ["x", "s"], outs, axis=1)], x, outs, {"s": np.array([3, 4], np.int64)}, 13), x)
    agree(make([node("Split", ["x"], outs, axis=-1, split=[2, 5])], x, outs, opset=11), x)
    agree(make([node("Split", ["x"], outs, axis=1, num_outputs=2)], x, outs, opset=18), x)


def test_old_broadcasting_by_axis() -> None:
    from planish.frontend.onnx import read_onnx
    from planish.ir.interp import run_graph

    x = {"a": rand(2, 3, 4), "b": rand(3, seed=1)}
    got = run_graph(read_onnx(make([node("Add", ["a", "b"], broadcast=1, axis=1)], x, opset=6)), x)["y"]
    np.testing.assert_array_equal(got, x["a"] + x["b"][:, None])


def test_constant_in_all_forms() -> None:
    values: dict[str, Any] = {
        "value_int": 3, "value_ints": [1, 2], "value_float": 0.5, "value_floats": [0.5, 1.5],
    }  # fmt: skip
    for key, value in values.items():
        n = node("Constant", [], ["c"], **{key: value})
        x = {"x": np.ones(2, np.asarray(value).dtype if "int" in key else F32)}
        agree(make([n, node("Add", ["x", "c"])], x), x)


def test_constant_of_shape_is_one_value() -> None:
    x = {"x": rand(2, 3)}
    module = agree(make([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"])], x,
                        constants={"s": np.array([2, 3], np.int64)}), x)  # fmt: skip
    (constant,) = (op for op in module.main.body if isinstance(op, Constant))
    assert isinstance(constant.value.source, SplatSource)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_with_its_statistics(axis: int) -> None:
    x = {"x": rand(2, 3, 4)}
    shape = (3, 4) if axis == 1 else (4,)
    constants = {"s": rand(*shape, seed=1), "b": rand(*shape, seed=2)}
    outs = ("y", "m", "d")
    n = node("LayerNormalization", ["x", "s", "b"], outs, axis=axis)
    agree(make([n], x, outs, constants), x, atol=1e-5)


@pytest.mark.parametrize(("op", "opset"), [("InstanceNormalization", 17), ("GroupNormalization", 21)])
def test_channel_normalizations(op: str, opset: int) -> None:
    x = {"x": rand(2, 4, 5)}
    extra: dict[str, Any] = {"num_groups": 2} if op == "GroupNormalization" else {}
    constants = {"s": rand(4, seed=1), "b": rand(4, seed=2)}
    agree(make([node(op, ["x", "s", "b"], **extra)], x, constants=constants, opset=opset), x, atol=1e-5)


@pytest.mark.parametrize("indices", [[[0, 2], [1, -1]], 1, [-3]])
def test_gather_indices_from_the_end(indices: Any) -> None:
    x = {"x": rand(2, 3, 4)}
    agree(make([node("Gather", ["x", "i"], axis=1)], x, constants={"i": np.array(indices, np.int64)}), x)


def test_quantize_and_dequantize_per_axis() -> None:
    x = {"x": rand(3, 4) * F32(3)}
    constants = {"s": np.array([0.1, 0.2, 0.05], F32), "z": np.array([1, -2, 3], np.int8)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0),
    ]
    agree(make(nodes, x, ("q", "y"), constants), x)


def test_matmul_integer_takes_zero_points() -> None:
    rng = np.random.default_rng(0)
    x = {"a": rng.integers(0, 255, (3, 4)).astype(np.uint8), "b": rng.integers(-128, 127, (4, 5)).astype(np.int8)}
    constants = {"za": np.uint8(7), "zb": np.int8(-3)}
    agree(make([node("MatMulInteger", ["a", "b", "za", "zb"])], x, constants=constants), x)


def test_dropout_is_the_identity() -> None:
    x = {"x": rand(2, 3)}
    module = agree(make([node("Dropout", ["x"])], x, opset=12), x)
    assert [op.op_name for op in module.main.body] == ["return"]
