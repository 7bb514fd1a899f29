"""Operators whose sizes, axes or numbers of points only the run knows, against NumPy or the same model with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _lowering import lowered
from onnx import helper
from onnx_models import info, make, node

from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.frontend.onnx.reader import OnnxSource
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph, run_program
from planish.onnx_backend import made_symbolic
from planish.runtime import InputError, load
from planish.variants import read_variants

RNG = np.random.default_rng(11)


def both(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """The output `y` of a model as it is, and with every dimension symbolic."""
    read = (read_onnx(m.SerializeToString()) for m in (model, made_symbolic(model)))
    first, second = (run_graph(module, inputs)["y"] for module in read)
    return first, second


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiasing_by_a_scale_that_is_data(mode: str) -> None:
    x, scales = RNG.standard_normal((1, 1, 6, 7)).astype(np.float32), np.array([1, 1, 0.4, 0.75], np.float32)
    resize = node("Resize", ["x", "", "scales"], mode=mode, antialias=1)
    known = make([resize], {"x": x}, constants={"scales": scales}, opset=18)
    open_ = make([resize], {"x": info("x", ["a", "b", "c", "d"]), "scales": scales}, opset=18)
    want = run_graph(read_onnx(known.SerializeToString()), {"x": x})["y"]
    got = run_graph(read_onnx(open_.SerializeToString()), {"x": x, "scales": scales})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("points", [None, 5, 8, 13])
def test_fourier_transforms_of_symbolic_sizes(points: int | None) -> None:
    x = RNG.standard_normal((2, 8, 1)).astype(np.float32)
    given = [] if points is None else ["n"]
    inputs: dict[str, Any] = {"x": x, **({} if points is None else {"n": np.array(points, np.int64)})}

    def transformed(inputs: dict[str, Any], **attributes: Any) -> Any:
        model = make([node("DFT", ["x", *given], axis=1, **attributes)], inputs)
        return run_graph(read_onnx(made_symbolic(model).SerializeToString()), inputs)["y"]

    want = np.fft.rfft(x[..., 0].astype(np.float64), points, axis=1)
    half = transformed(inputs, onesided=1)
    np.testing.assert_allclose(half[..., 0] + 1j * half[..., 1], want, rtol=1e-4, atol=1e-5)
    back = transformed({**inputs, "x": half}, onesided=1, inverse=1)
    again = np.fft.irfft(half[..., 0] + 1j * half[..., 1], points, axis=1)
    np.testing.assert_allclose(back[..., 0], again, rtol=1e-4, atol=1e-5)


def test_a_one_sided_transform_along_an_axis_that_is_data() -> None:
    x = RNG.standard_normal((3, 4, 6, 1)).astype(np.float32)
    model = make([node("DFT", ["x", "", "axis"], onesided=1)], {"x": x, "axis": np.array(0, np.int64)}, opset=20)
    module = read_onnx(made_symbolic(model).SerializeToString())
    for axis in (1, -2, 0):
        y = run_graph(module, {"x": x, "axis": np.array(axis, np.int64)})["y"]
        want = np.fft.rfft(x[..., 0].astype(np.float64), axis=axis if axis >= 0 else axis + 1)
        np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], want, rtol=1e-4, atol=1e-5)


def test_a_spectrogram_of_numbers_that_may_be_complex() -> None:
    inputs: dict[str, Any] = {"x": RNG.standard_normal((1, 20, 2)).astype(np.float32), "step": np.array(4, np.int64)}
    inputs |= {"w": np.hanning(8).astype(np.float32)}
    model = make([node("STFT", ["x", "step", "w"], onesided=0)], inputs)
    constants = {k: inputs[k] for k in ("step", "w")}
    known = make([node("STFT", ["x", "step", "w"], onesided=0)], {"x": inputs["x"]}, constants=constants)
    want = run_graph(read_onnx(known.SerializeToString()), {"x": inputs["x"]})["y"]
    got = run_graph(read_onnx(made_symbolic(model).SerializeToString()), inputs)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_scans_of_opset_8_over_a_symbolic_batch() -> None:
    two = [info(name, [2]) for name in ("sum_in", "next", "sum_out", "scan_out")]
    nodes = [node("Add", ["sum_in", "next"], ["sum_out"]), node("Identity", ["sum_out"], ["scan_out"])]
    body = helper.make_graph(nodes, "body", two[:2], two[2:])
    scan = node("Scan", ["", "initial", "x"], ["last", "y"], num_scan_inputs=1, body=body)
    x = RNG.standard_normal((3, 4, 2)).astype(np.float32)
    model = make([scan], {"initial": np.zeros((3, 2), np.float32), "x": x}, opset=8)
    want, got = both(model, {"initial": np.zeros((3, 2), np.float32), "x": x})
    np.testing.assert_allclose(want, np.cumsum(x, 1), rtol=1e-6)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_declared_shape_that_says_too_little_is_no_hindrance() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    inputs: dict[str, Any] = {"x": x, "pads": np.array([1, 0, 0, 2]), "axes": np.array([1, 0])}
    model = make([node("Pad", ["x", "pads", "", "axes"])], inputs, opset=18)
    model.graph.output[0].CopyFrom(info("y", [5, 5]))
    got = run_graph(read_onnx(model.SerializeToString()), inputs)["y"]
    np.testing.assert_array_equal(got, np.pad(x, ((0, 2), (1, 0))))


def test_parts_of_a_dimension_that_must_be_large_enough_join_again() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["m"]),
        node("Sub", ["m", "four"], ["rest"]),
        node("Concat", ["four", "rest"], ["sizes"], axis=0),
        node("Split", ["x", "sizes"], ["a", "b"], axis=1),
        node("Neg", ["a"], ["c"]),
        node("Split", ["c", "halves"], ["d", "e"], axis=1),
        node("Concat", ["e", "d", "b"], axis=1),
    ]
    constants = {"halves": np.array([2, 2]), "one": np.array([1]), "four": np.array([4])}
    model = make(nodes, {"x": info("x", ["n", "m"])}, constants=constants)
    x = RNG.standard_normal((2, 7)).astype(np.float32)
    passes = "split-host,form-kernels,assign-layouts,lower-program,plan-memory"
    got = run_program(lowered(read_onnx(model.SerializeToString()), passes), {"x": x})["y"]
    np.testing.assert_array_equal(got, np.concatenate([-x[:, 2:4], -x[:, :2], x[:, 4:]], 1))


@pytest.mark.parametrize("width", [1, 4])
def test_a_size_that_no_input_can_state_may_be_1(width: int) -> None:
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("Mul", ["r", "four"])]
    constants = {"shape": np.array([2, -1]), "four": np.arange(4, dtype=np.float32)}
    model = make(nodes, {"x": info("x", ["a", "b"])}, constants=constants)
    x = RNG.standard_normal((width, 2)).astype(np.float32)
    got = run_graph(read_onnx(model.SerializeToString()), {"x": x})["y"]
    np.testing.assert_array_equal(got, x.reshape(2, -1) * constants["four"])
    with pytest.raises(PlanishError, match="Mul"):
        run_graph(read_onnx(model.SerializeToString()), {"x": np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize(("count", "noop", "want"), [(0, 0, ()), (0, 1, (2, 3, 4)), (2, 0, (3,))])
def test_a_reduction_over_axes_that_are_data_of_a_known_number(count: int, noop: int, want: tuple[int, ...]) -> None:
    inputs: dict[str, Any] = {"x": np.ones((2, 3, 4), np.float32), "axes": np.array([0, 2][:count], np.int64)}
    model = make([node("ReduceSum", ["x", "axes"], keepdims=0, noop_with_empty_axes=noop)], inputs)
    got = run_graph(read_onnx(model.SerializeToString()), inputs)["y"]
    assert got.shape == want and got.sum() == 24


def test_lengths_that_decide_ranks_are_variants() -> None:
    model = make([node("Unsqueeze", ["x", "axes"])], {"x": info("x", ["n", "m"]), "axes": np.zeros(1, np.int64)})
    variants = read_variants(OnnxSource(made_symbolic(model).SerializeToString()))
    assert variants.by_length and [v.sizes for v in variants.found] == [{"i1_0": n} for n in range(7)]
    for length, variant in enumerate(variants.found):
        axes = np.arange(length, dtype=np.int64)
        y = run_graph(variant.module, {"x": np.ones((2, 3), np.float32), "axes": axes})["y"]
        assert y.shape == (*[1] * length, 2, 3)


def test_only_lengths_for_which_the_operators_fit_are_variants() -> None:
    inputs = {"x": info("x", ["n", "m"]), "axes": np.zeros(1, np.int64)}
    model = made_symbolic(make([node("Squeeze", ["x", "axes"])], inputs))
    variants = read_variants(OnnxSource(model.SerializeToString()))
    assert [v.sizes["i1_0"] for v in variants.found] == [0, 1, 2]


def test_a_compiled_model_takes_any_length_that_decides_a_rank(tmp_path: Path) -> None:
    axes = np.zeros(1, np.int64)
    model = make([node("ReduceSum", ["x", "axes"], keepdims=0)], {"x": info("x", ["n", "m"]), "axes": axes})
    compile_file(made_symbolic(model), tmp_path / "m.so", workers=1, threads=1, opt=0)
    loaded = load(tmp_path / "m.so")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for axes in ([], [1], [-2], [1, 0]):
        (y,) = loaded.run({"x": x, "axes": np.array(axes, np.int64)}).values()
        np.testing.assert_array_equal(y, x.sum(tuple(axes) or (0, 1)))
    with pytest.raises(InputError, match="axes"):
        loaded.run({"x": x, "axes": np.ones(9, np.int64)})


def test_a_squeeze_without_axes_keeps_symbols_and_refuses_those_that_are_1() -> None:
    module = read_onnx(make([node("Squeeze", ["x"])], {"x": info("x", ["n", 1, 4])}).SerializeToString())
    assert run_graph(module, {"x": np.zeros((2, 1, 4), np.float32)})["y"].shape == (2, 4)
    with pytest.raises(PlanishError, match="Squeeze"):
        run_graph(module, {"x": np.zeros((1, 1, 4), np.float32)})


def test_next_to_a_vector_it_does_not_matter_whether_a_number_is_a_scalar() -> None:
    def branch(nodes: list[Any], shape: list[int]) -> Any:
        return helper.make_graph(nodes, "branch", [], [info("z", shape)])

    then, other = branch([node("Neg", ["one"], ["z"])], []), branch([node("Div", ["v", "v"], ["z"])], [1])
    nodes = [node("If", ["c"], ["z"], then_branch=then, else_branch=other), node("Mul", ["x", "z"], ["m"])]
    nodes.append(node("Transpose", ["m"]))
    inputs: dict[str, Any] = {"c": np.array(True), "v": np.array([3], np.float32), "x": np.ones((2, 3), np.float32)}
    model = make(nodes, inputs, constants={"one": np.array(1, np.float32)})
    module = read_onnx(model.SerializeToString())
    for c, want in ((True, -1.0), (False, 1.0)):
        y = run_graph(module, {**inputs, "c": np.array(c)})["y"]
        np.testing.assert_array_equal(y, np.full((3, 2), want, np.float32))
