"""`python -m benchmarks.accuracy`: outputs against stored ones, and against ONNX Runtime at a second shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import info, make, node, rand, runtime

from benchmarks.accuracy import check, compared, kind_of, output_steps


def test_a_model_is_checked_at_two_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANISH_ZOO", str(tmp_path))
    (tmp_path / "zoo").mkdir()
    x = rand(12, 4)
    model = make([node("MatMul", ["x", "w"])], {"x": info("x", ["rows", 4])}, constants={"w": rand(4, 3, seed=1)})
    (tmp_path / "zoo" / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "zoo" / "m.inputs.npz", x=x)
    right = runtime(model, {"x": x})["y"]
    np.savez(tmp_path / "zoo" / "m.expected.npz", y=right)
    record = check("m")
    assert [run["shape"] for run in record["runs"]] == ["stored", "second"]
    assert [run["rows"] for run in record["runs"]] == [12, 7]
    assert record["verdict"] == "ok"
    np.savez(tmp_path / "zoo" / "m.expected.npz", y=right + 0.1)
    assert check("m")["verdict"] == "L2 above 1e-04"


def test_what_differs_is_told() -> None:
    right = {"y": rand(2, 5)}
    assert compared("stored", right, right, "f32", None)["verdict"] == "ok"
    assert "expected float32[2, 5]" in compared("stored", {"y": rand(5, 2)}, right, "f32", None)["verdict"]
    assert compared("stored", {"y": right["y"] * np.nan}, right, "f32", None)["l2"] == float("inf")
    near = {"y": right["y"] * 1.01}
    assert compared("stored", near, right, "int8", 0.02)["verdict"] == "ok"
    assert "ONNX Runtime's 5.0e-03" in compared("stored", near, right, "int8", 0.005)["verdict"]


def test_steps_of_quantized_outputs(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Reshape", ["d", "n"]), node("Neg", ["x"], ["o"]),
    ]  # fmt: skip
    constants = {"s": np.float32(0.5), "z": np.uint8(3), "n": np.array([6])}
    path = tmp_path / "m.onnx"
    path.write_bytes(make(nodes, {"x": rand(2, 3)}, ["y", "o"], constants).SerializeToString())
    assert output_steps(path) == {"y": 0.5}
    assert kind_of(path) == "int8"
