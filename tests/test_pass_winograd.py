"""Winograd's algorithm: its matrices, where it applies, that it computes the same, how exactly, when it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from _lowering import TARGET, Net, agree, lowered
from onnx import helper, numpy_helper

from planish.compile import compile_file
from planish.ir.constants import Constant, LinearSource
from planish.ir.core import Module, Value
from planish.ir.interp import run_graph
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import KernelOp
from planish.ir.kernel.interp import run_kernel
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Add
from planish.ir.ops.conv import Conv
from planish.ir.text import parse_module, print_module
from planish.ir.types import tensor
from planish.passes import PassContext, PassManager
from planish.passes.pipelines import PIPELINES
from planish.passes.winograd.choose import Choice, options, select
from planish.passes.winograd.kernel import Plan
from planish.passes.winograd.match import Convolution, match
from planish.passes.winograd.transforms import SIZES, apply, transforms
from planish.runtime import load

FUSE = "form-kernels,fuse-kernels"


def layer(n: int, c: int, h: int, w: int, o: int, pads: Sequence[tuple[int, int]], epilogue: str = "") -> Module:
    """A 3x3 convolution; `epilogue` may have b(ias), r(elu), + (a residual that is the module's second input)."""
    rows, columns = (size + sum(pad) - 2 for size, pad in zip((h, w), pads, strict=True))
    net = Net(n, c, h, w, extra=[tensor("f32", n, o, rows, columns)] if "+" in epilogue else [])
    weight = net.constant(o, c, 3, 3)
    bias = net.constant(o) if "b" in epilogue else None
    y: Value = net(Conv(net.x, weight, bias, (1, 1), tuple(pads), (1, 1), 1))
    y = net(Add(net.graph.params[1], y)) if "+" in epilogue else y
    return net.module(net(Relu(y)) if "r" in epilogue else y)


def convolutions(module: Module, passes: str = FUSE) -> list[Convolution]:
    """What the pass would look at."""
    copy = lowered(module, passes)
    found = [match(op) for op in copy.main.body if isinstance(op, KernelOp)]
    return [c for c in found if c is not None]


@pytest.mark.parametrize("m", SIZES)
def test_matrices_are_exact(m: int) -> None:
    f = transforms(m)
    for i in range(m):
        for j in range(3):
            for d in range(f.t):
                products = (f.output[i][e] * f.weight[e][j] * f.input[e][d] for e in range(f.t))
                assert sum(products) == (1 if d == i + j else 0)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("part", ["input", "output"])
def test_straight_line_code_multiplies_by_the_matrix(m: int, part: str) -> None:
    matrix = getattr(transforms(m), part)
    k = KernelBuilder([tensor("f64", len(matrix[0]))], [tensor("f64", len(matrix))])
    with k.map(n=1) as (n,):
        xs = [k.read(k.inputs[0], n + i) for i in range(len(matrix[0]))]
        for i, value in enumerate(apply(k, matrix, xs)):
            k.write(value, k.outputs[0], n + i)
    x = np.random.default_rng(0).standard_normal(len(matrix[0]))
    (got,) = run_kernel(k.finish([]), [x])
    np.testing.assert_allclose(got, np.array(matrix, float) @ x, rtol=1e-12, atol=1e-12)


LAYERS = [
    (1, 4, 8, 8, 16, ((1, 1), (1, 1)), ""),
    (1, 5, 7, 9, 16, ((1, 1), (1, 1)), "br"),  # partial tiles in both directions
    (2, 3, 5, 6, 7, ((0, 0), (0, 0)), "b+r"),  # no padding, odd channels, images
    (1, 18, 13, 4, 33, ((2, 0), (0, 1)), "+"),  # uneven padding, more than one block
    (3, 16, 1, 1, 32, ((1, 1), (1, 1)), "r"),  # smaller than a tile
]


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("shape", LAYERS)
def test_computes_the_same_in_the_interpreter(m: int, shape: Any) -> None:
    module = layer(*shape)
    rewritten = lowered(module, f"{FUSE},winograd:only={m},dce")
    labels = [op.label for op in rewritten.main.body if isinstance(op, KernelOp)]
    assert any(label.endswith(f"~winograd{m}") for label in labels)
    rng = np.random.default_rng(1)
    inputs = {p.name: rng.standard_normal(p.tensor.static_shape).astype(np.float32) for p in module.main.params}
    want, got = run_graph(module, inputs)["y0"], run_graph(rewritten, inputs)["y0"]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("shape", LAYERS[1:3])
def test_computes_the_same_with_layouts_and_memory(shape: Any) -> None:
    module = layer(*shape)
    agree(module, lowered(module, f"{FUSE},winograd:only=4,dce,assign-layouts,lower-program,plan-memory"))


# -- compiled -----------------------------------------------------------------------------------------------------


def onnx_layer(
    n: int, c: int, h: int, w: int, o: int, pads: Sequence[tuple[int, int]], x: np.ndarray
) -> tuple[bytes, np.ndarray]:
    """Conv + bias + residual + relu as a model, and what it computes for `x`, 1 ... in double precision."""
    rng = np.random.default_rng(2)
    weight = (rng.standard_normal((o, c, 3, 3)) / np.sqrt(9 * c)).astype(np.float32)
    bias = rng.standard_normal(o).astype(np.float32)
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *pads))
    rows, columns = wide.shape[2] - 2, wide.shape[3] - 2
    y = np.zeros((n, o, rows, columns))
    for i in range(3):
        for j in range(3):
            taps = wide[:, :, i : i + rows, j : j + columns]
            y += np.einsum("nchw,oc->nohw", taps, weight[:, :, i, j].astype(np.float64), optimize=True)
    y = np.maximum(y + bias[:, None, None] + 1, 0)
    flat = [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=flat),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(v, kind, s) for v, s in (("x", x.shape), ("r", y.shape), ("y", y.shape))]
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    model = helper.make_model(
        helper.make_graph(nodes, "layer", values[:2], values[2:], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    return model.SerializeToString(), y


def run_compiled(
    model: bytes, x: np.ndarray, y: np.ndarray, folder: Path, m: int, cpu: str, threads: int
) -> np.ndarray:
    """What the compiled layer gives; every convolution with tiles of `m`."""
    passes = PIPELINES["O3"].replace("winograd,", "").replace("assign-layouts", f"winograd:only={m},assign-layouts")
    compile_file(model, folder / "layer.so", cpu=cpu, passes=passes, threads=threads)
    loaded = load(folder / "layer.so", threads=threads)
    return loaded.run({"x": x, "r": np.ones(y.shape, np.float32)})["y"]


@pytest.mark.parametrize(
    ("m", "cpu", "which"),
    [(2, "native", 1), (4, "native", 2), (4, "native", 3), (6, "native", 1), (6, "native", 4), (4, "x86-64-v3", 3),
     (2, "x86-64-v2", 1)],
)  # fmt: skip
def test_compiled_layers_agree(m: int, cpu: str, which: int, tmp_path: Path) -> None:
    for n, c, h, w, o, pads, _ in LAYERS[which : which + 1]:
        x = np.random.default_rng(4).standard_normal((n, c, h, w)).astype(np.float32)
        model, want = onnx_layer(n, c, h, w, o, pads, x)
        got = run_compiled(model, x, want, tmp_path, m, cpu, 1 + m % 4 // 2)
        assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max(), (n, c, h, w, o)


@pytest.mark.parametrize(("m", "bound"), [(2, 2e-6), (4, 5e-6), (6, 2e-5)])
@pytest.mark.parametrize("kind", ["relu", "offset"])
def test_error_of_a_layer_is_bounded(m: int, bound: float, kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((1, 512, 12, 12)).astype(np.float32)
    x = {"relu": np.maximum(x, 0), "offset": x + 4}[kind]
    model, want = onnx_layer(1, 512, 12, 12, 32, ((1, 1), (1, 1)), x)
    got = run_compiled(model, x, want, tmp_path, m, "native", 1)
    assert np.linalg.norm(got - want) <= bound * np.linalg.norm(want)


# -- choice -------------------------------------------------------------------------------------------------------


def test_leaves_small_and_strided_layers_alone() -> None:
    (conv,) = convolutions(layer(1, 3, 32, 32, 32, ((1, 1), (1, 1))))
    assert [c.plan for c in options(conv, TARGET, 1)] == [None]  # three channels: the transforms cost more
    for stride, groups in ((2, 1), (1, 8)):
        net = Net(1, 8, 9, 9)
        assert not convolutions(net.module(net.conv(net.x, 8, 3, stride=stride, pad=1, groups=groups)))


def test_takes_larger_tiles_where_pictures_are_large() -> None:
    (large,) = convolutions(layer(1, 128, 112, 112, 128, ((1, 1), (1, 1))))
    (small,) = convolutions(layer(1, 256, 7, 7, 256, ((1, 1), (1, 1))))
    best = options(large, TARGET, 1)[-1].plan
    assert best is not None and best.m == 6
    assert all(c.plan is None or c.plan.m == 2 for c in options(small, TARGET, 1))


def test_bytes_of_weights_are_those_of_whole_panels() -> None:
    (conv,) = convolutions(layer(1, 64, 56, 56, 80, ((1, 1), (1, 1))))
    direct, *others = options(conv, TARGET, 1)
    assert direct.bytes == 4 * 9 * 64 * 96
    assert others
    for choice in others:
        assert choice.plan is not None
        assert choice.bytes == 4 * (choice.plan.m + 2) ** 2 * 64 * 96


def test_weights_stay_within_bounds() -> None:
    plan = Plan(4, 1, 1, 1, 32)
    cheap = [Choice(None, 100.0, 10), Choice(plan, 40.0, 20), Choice(plan, 30.0, 60)]
    dear = [Choice(None, 100.0, 10), Choice(plan, 90.0, 40)]
    assert select([cheap, dear], 0) == [cheap[0], dear[0]]
    assert select([cheap, dear], 12) == [cheap[1], dear[0]]
    assert select([cheap, dear], 40) == [cheap[1], dear[1]]
    assert select([cheap, dear], 1000) == [cheap[2], dear[1]]


def test_growth_limits_the_model(tmp_path: Path) -> None:
    module = layer(1, 64, 56, 56, 64, ((1, 1), (1, 1)))
    for growth, applied in ((1.0, False), (8.0, True)):
        copy = module.clone()
        manager = PassManager.parse(f"{FUSE},winograd:growth={growth}", PassContext(TARGET))
        manager.run(copy)
        labels = [op.label for op in copy.main.body if isinstance(op, KernelOp)]
        assert any("winograd" in label for label in labels) == applied


def test_transformed_weights_are_a_reference_with_a_text() -> None:
    module = layer(1, 4, 6, 6, 16, ((1, 1), (1, 1)))
    copy = lowered(module, f"{FUSE},winograd:only=4,dce")
    (data,) = (op.value for op in copy.main.body if isinstance(op, Constant))
    assert isinstance(data.source, LinearSource)
    g = np.array(transforms(4).weight, dtype=np.float64)
    weights = convolutions(module)[0].weights.array().astype(np.float64)
    want = np.einsum("pi,ocij,qj->pqoc", g, weights, g).reshape(data.shape)
    np.testing.assert_allclose(data.array(), want, rtol=1e-6)
    resources: dict[str, np.ndarray] = {}
    text = print_module(copy, resources)
    again = parse_module(text, resources=resources)
    assert print_module(again, resources) == text
    (other,) = (op.value for op in again.main.body if isinstance(op, Constant))
    assert other.digest() == data.digest()
    np.testing.assert_array_equal(other.array(), data.array())


def test_any_number_of_images(tmp_path: Path) -> None:
    x = np.random.default_rng(4).standard_normal((3, 16, 9, 10)).astype(np.float32)
    text, want = onnx_layer(3, 16, 9, 10, 24, ((1, 1), (1, 1)), x)
    model = onnx.load_from_string(text)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    model = model.SerializeToString()
    passes = PIPELINES["O3"].replace("winograd,", "").replace("assign-layouts", "winograd:only=4,assign-layouts")
    report = compile_file(model, tmp_path / "any.so", passes=passes)
    assert any(r.name.startswith("winograd") and r.changed for r in report.passes)
    loaded = load(tmp_path / "any.so")
    for n in (1, 3):
        got = loaded.run({"x": x[:n], "r": np.ones(want[:n].shape, np.float32)})["y"]
        assert np.abs(got - want[:n]).max() <= 5e-6 * np.abs(want).max()
