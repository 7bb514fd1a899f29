"""Quantized products become products of integers: exactly, with zero points, borders and scales where they belong."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from _lowering import lowered, program
from onnx import helper
from onnx_models import info, make, node, rand, runtime

from planish.compile import compile
from planish.frontend.onnx import read_onnx
from planish.ir.constants import Constant
from planish.ir.core import Module, OpT
from planish.ir.interp import run_graph, run_program
from planish.ir.ops.arith import Cast
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import Conv, MaxPool
from planish.ir.ops.quant import Dequantize, Quantize
from planish.ir.ops.shape import Pad
from planish.ir.program import Weight

PASS = "integer-products,canonicalize,fold,cse,dce"
DOWN = f"{PASS},form-kernels,fuse-kernels,dce,assign-layouts,lower-program,schedule-cpu,plan-memory"


def whole(dtype: Any, *shape: int) -> np.ndarray:
    """Integers of the whole range of a type."""
    info = np.iinfo(dtype)
    return np.random.default_rng(1).integers(info.min, info.max + 1, shape).astype(dtype)


def passed(model: onnx.ModelProto, passes: str = PASS) -> tuple[Module, Module]:
    module = read_onnx(model.SerializeToString())
    return module, lowered(module, passes)


def only(module: Module, cls: type[OpT]) -> OpT:
    """The one operation of a class."""
    (found,) = [op for op in module.main.body if isinstance(op, cls)]
    return found


def count(module: Module, *classes: type) -> int:
    return sum(isinstance(op, classes) for op in module.main.body)


def same(before: Module, after: Module, inputs: dict[str, Any]) -> None:
    """Both graphs give the same integers, or floats up to rounding."""
    want = run_graph(before, inputs)
    for name, got in run_graph(after, inputs).items():
        if want[name].dtype.kind == "f":
            np.testing.assert_allclose(got, want[name], rtol=1e-5, atol=1e-4)
        else:
            np.testing.assert_array_equal(got, want[name])


@pytest.mark.parametrize("adt", [np.uint8, np.int8])
@pytest.mark.parametrize(("wdt", "zw"), [(np.int8, 0), (np.uint8, 0), (np.uint8, 128), (np.int8, 5), (np.uint8, 100)])
def test_matmul_integer_multiplies_bytes(adt: Any, wdt: Any, zw: int) -> None:
    x = {"x": whole(adt, 3, 10)}
    constants = {"w": whole(wdt, 10, 6), "za": adt(7), "zw": wdt(zw)}
    before, after = passed(make([node("MatMulInteger", ["x", "w", "za", "zw"])], x, constants=constants))
    products = [op for op in after.main.body if isinstance(op, MatMul)]
    assert all(v.tensor.dtype in ("i8", "u8") for op in products for v in op.inputs)
    same(before, after, x)


def test_a_zero_point_that_is_computed_stays_outside_of_the_sum() -> None:
    x = {"x": whole(np.uint8, 4, 9), "za": np.uint8(200)}
    before, after = passed(make([node("MatMulInteger", ["x", "w", "za"])], x, constants={"w": whole(np.int8, 9, 5)}))
    assert only(after, MatMul).a.tensor.dtype == "u8"
    same(before, after, x)


@pytest.mark.parametrize("zero", [0, 131])
def test_the_border_of_a_convolution_is_the_zero_point(zero: int) -> None:
    x = {"x": whole(np.uint8, 1, 8, 6, 5)}
    constants = {"w": whole(np.int8, 12, 8, 3, 3), "z": np.uint8(zero)}
    n = node("ConvInteger", ["x", "w", "z"], pads=[1, 0, 1, 2], strides=[2, 1])
    before, after = passed(make([n], x, constants=constants))
    conv = only(after, Conv)
    assert (conv.x.tensor.dtype, conv.w.tensor.dtype) == ("u8", "i8")
    assert count(after, Pad) == (zero != 0)
    same(before, after, x)


def test_three_channels_become_a_group_of_four() -> None:
    x = {"x": whole(np.uint8, 1, 3, 6, 6)}
    n = node("ConvInteger", ["x", "w"], pads=[1, 1, 1, 1])
    before, after = passed(make([n], x, constants={"w": whole(np.int8, 16, 3, 3, 3)}))
    assert only(after, Conv).w.tensor.dims[1] == 4
    same(before, after, x)


def qdq_network() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Convolution, rectifier, pooling and a product, each between quantization and dequantization."""
    x = {"x": rand(1, 4, 8, 8)}
    constants = {
        "sx": np.float32(0.03), "zx": np.uint8(120), "w": whole(np.int8, 16, 4, 3, 3),
        "sw": (np.random.default_rng(2).random(16) * 0.01 + 0.001).astype(np.float32), "zw": np.zeros(16, np.int8),
        "b": rand(16, seed=3), "sy": np.float32(0.02), "zy": np.uint8(0),
        "v": whole(np.int8, 256, 10), "sv": np.float32(0.004), "so": np.float32(0.4), "zo": np.int8(-3),
        "shape": np.array([1, 256]),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        node("Conv", ["xd", "wd", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "sy", "zy"], ["rq"]),
        node("DequantizeLinear", ["rq", "sy", "zy"], ["rd"]),
        node("MaxPool", ["rd"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("QuantizeLinear", ["p", "sy", "zy"], ["pq"]),
        node("DequantizeLinear", ["pq", "sy", "zy"], ["pd"]),
        node("Reshape", ["pd", "shape"], ["flat"]),
        node("DequantizeLinear", ["v", "sv"], ["vd"]),
        node("MatMul", ["flat", "vd"], ["m"]),
        node("QuantizeLinear", ["m", "so", "zo"], ["mq"]),
        node("DequantizeLinear", ["mq", "so", "zo"]),
    ]
    return make(nodes, x, constants=constants), x


def test_a_chain_of_quantized_layers_stays_in_bytes() -> None:
    model, x = qdq_network()
    before, after = passed(model)
    assert only(after, Conv).w.tensor.dtype == "i8"
    assert only(after, MaxPool).x.tensor.dtype == "u8"
    # Only the input is quantized by a division, only the output is made floats; no float weights are left.
    assert (count(after, Quantize), count(after, Dequantize)) == (1, 1)
    large = [op for op in after.main.body if isinstance(op, Constant) and op.value.elements > 100]
    assert all(op.value.dtype == "i8" for op in large)
    step = 0.4
    np.testing.assert_allclose(run_graph(after, x)["y"], run_graph(before, x)["y"], atol=step * 1.01)


def test_lowered_and_compiled_quantized_layers_agree() -> None:
    model, x = qdq_network()
    _, low = passed(model, DOWN)
    want = runtime(model, x)["y"]
    got = run_program(low, x)["y"]
    np.testing.assert_allclose(got, want, atol=0.41)
    np.testing.assert_array_equal(compile(model).run(x)["y"], got)
    packed = [op.result.tensor for op in program(low).body if isinstance(op, Weight)]
    assert any(len(t.layout.blocks) == 2 and t.dtype == "i8" for t in packed)  # groups of four


def test_a_table_of_integers_is_read_before_it_is_scaled() -> None:
    x = {"i": np.array([3, 1, 3])}
    constants = {"t": whole(np.int8, 9, 4), "s": np.float32(0.5), "z": np.int8(2)}
    nodes = [node("DequantizeLinear", ["t", "s", "z"], ["d"]), node("Gather", ["d", "i"])]
    before, after = passed(make(nodes, x, constants=constants))
    assert only(after, Dequantize).x.tensor.dims == (3, 4)
    same(before, after, x)


def test_weights_of_a_float_product_become_floats_at_once() -> None:
    x = {"x": rand(3, 8)}
    constants = {"w": whole(np.int8, 8, 5), "s": np.float32(0.1)}
    nodes = [node("DequantizeLinear", ["w", "s"], ["d"]), node("MatMul", ["x", "d"])]
    before, after = passed(make(nodes, x, constants=constants))
    assert count(after, Dequantize, Cast) == 0
    same(before, after, x)


def test_nothing_is_done_without_constant_weights() -> None:
    x = {"x": whole(np.uint8, 3, 8), "w": whole(np.uint8, 8, 5)}
    _, after = passed(make([node("MatMulInteger", ["x", "w"])], x))
    assert only(after, MatMul).a.tensor.dtype == "i32"


def microsoft(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)


Q = {"s": np.float32(0.05), "z": np.uint8(120), "t": np.float32(0.08), "u": np.uint8(90)}
PICTURE, MATRIX = whole(np.uint8, 1, 3, 6, 6), whole(np.uint8, 4, 6)


@pytest.mark.parametrize(
    ("made", "x", "constants"),
    [
        (microsoft("QLinearAdd", ["x", "s", "z", "b", "t", "u", "s", "z"]), MATRIX, {"b": MATRIX[::-1]}),
        (microsoft("QLinearMul", ["x", "s", "z", "b", "t", "u", "s", "z"]), MATRIX, {"b": MATRIX[::-1]}),
        (microsoft("QLinearSigmoid", ["x", "s", "z", "r", "v"]), MATRIX, {"r": np.float32(1 / 256), "v": np.uint8(0)}),
        (microsoft("QLinearLeakyRelu", ["x", "s", "z", "t", "u"], alpha=0.1), MATRIX, {}),
        (microsoft("QLinearGlobalAveragePool", ["x", "s", "z", "t", "u"], channels_last=0), PICTURE, {}),
        (microsoft("QLinearAveragePool", ["x", "s", "z", "t", "u"], kernel_shape=[2, 2]), PICTURE, {}),
        (microsoft("QLinearConcat", ["s", "z", "x", "t", "u", "b", "s", "z"], axis=1), MATRIX, {"b": MATRIX[:, :2]}),
        (
            microsoft("QGemm", ["x", "s", "z", "w", "t", "v", "c", "r", "u"], transB=1, alpha=0.5),
            MATRIX,
            {"w": whole(np.int8, 5, 6), "v": np.int8(0), "c": np.arange(5, dtype=np.int32) * 50, "r": np.float32(0.5)},
        ),
        (
            microsoft("MatMulIntegerToFloat", ["x", "w", "s", "sw", "z"]),
            MATRIX,
            {"w": whole(np.int8, 6, 5), "sw": np.linspace(0.01, 0.05, 5).astype(np.float32)},
        ),
        (
            microsoft("DynamicQuantizeMatMul", ["x", "w", "t", "v"]),
            rand(4, 6),
            {"w": whole(np.int8, 6, 5), "v": np.int8(0)},
        ),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_quantized_operators_agree_with_onnx_runtime(made: Any, x: Any, constants: dict[str, Any]) -> None:
    used = {k: v for k, v in {**Q, **constants}.items() if k in made.input}
    model = make([made], {"x": x}, constants=used)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    want = runtime(model, {"x": x})["y"]
    _, after = passed(model)
    got = run_graph(after, {"x": x})["y"]
    assert got.dtype == want.dtype
    if want.dtype == np.float32:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    else:
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


def test_halves_are_computed_in_f32_and_rounded_once() -> None:
    x = {"x": rand(5, 16).astype(np.float16)}
    constants = {"w": rand(16, 24, seed=1).astype(np.float16), "b": rand(24, seed=2).astype(np.float16)}
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["s"]), node("Relu", ["s"])]
    before, after = passed(make(nodes, x, constants=constants), f"widen-halves,{PASS}")
    assert only(after, MatMul).result.tensor.dtype == "f32"
    assert count(after, Cast) == 2  # of the input and of the output
    exact = x["x"].astype(np.float64) @ constants["w"].astype(np.float64) + constants["b"].astype(np.float64)
    got = run_graph(after, x)["y"]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, np.maximum(exact, 0), rtol=2**-11, atol=1e-6)
    np.testing.assert_allclose(got, run_graph(before, x)["y"], rtol=4e-3, atol=4e-3)


def test_casts_of_the_model_itself_round() -> None:
    x = {"x": rand(64)}
    nodes = [node("Cast", ["x"], ["h"], to=10), node("Cast", ["h"], to=1)]
    before, after = passed(make(nodes, x), f"widen-halves,{PASS}")
    assert count(after, Cast) == 2
    same(before, after, x)


def test_weights_of_a_product_with_one_row_stay_halves() -> None:
    x = {"x": rand(1, 16).astype(np.float16)}
    model = make([node("MatMul", ["x", "w"])], x, constants={"w": rand(16, 24).astype(np.float16)})
    _, after = passed(model, "widen-halves,canonicalize,dce")
    assert isinstance(only(after, MatMul).b.op, Cast)


def test_bf16_products_are_compiled() -> None:
    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((9, 33), (33, 40)))
    model = make([node("MatMul", ["x", "w"])], {"x": info("x", (9, 33), 16)}, constants={"w": np.zeros(1)})
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", 16, w.shape, w.view(np.uint16).tobytes(), raw=True))
    got = compile(model).run({"x": x})["y"]
    want = x.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_allclose(np.asarray(got).view(ml_dtypes.bfloat16).astype(np.float64), want, rtol=8e-3, atol=8e-3)
