"""`planish check` and `--strict`: what becomes of every node, and everything that cannot be compiled at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import info, make, node

from planish import cli
from planish._lower import Options
from planish.codegen.llvm.target import targets_for
from planish.compile import compile_file
from planish.frontend import open_model
from planish.ir.errors import UnsupportedError
from planish.preflight import Preflight, preflight, split_nodes


def report(model: onnx.ModelProto, opt: int = 3) -> Preflight:
    return preflight(open_model(model), targets_for("x86-64-v3", "x86_64-linux-gnu")[0], Options(opt=opt))


def mixed() -> onnx.ModelProto:
    """A convolution with its activation, a constant, a view, and a size that is found at run time."""
    w = np.ones((8, 4, 3, 3), np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Concat", ["one", "two"], ["shape"], name="shape", axis=0),
        node("Reshape", ["r", "shape"], ["v"], name="view"),
        node("NonZero", ["v"], name="found"),
    ]
    constants = {"w": w, "one": np.array([8]), "two": np.array([-1])}
    return make(nodes, {"x": info("x", [1, 4, 16, 16])}, constants=constants)


def test_every_node_has_a_path() -> None:
    found = {n.node: n for n in report(mixed()).nodes}
    assert list(found) == ["conv", "relu", "shape", "view", "found"]
    assert [found[name].path for name in ("conv", "relu", "shape", "found")] == ["fast", "fast", "free", "runtime"]
    assert (found["conv"].operator, found["conv"].opset, found["conv"].dtype) == ("Conv", 17, "f32")
    assert found["conv"].kernel == found["relu"].kernel
    assert found["found"].detail == "planish_host_nonzero"


def test_shares_add_up_but_for_copies_of_outputs_and_contractions_take_most() -> None:
    nodes = report(mixed()).nodes
    assert 0.5 < sum(n.share or 0.0 for n in nodes) <= 1.0
    assert max(nodes, key=lambda n: n.share or 0.0).node == "conv"


def test_without_schedules_loops_are_plain() -> None:
    conv = report(mixed(), opt=0).nodes[0]
    assert conv.path == "loop"
    assert conv.is_slow
    assert "-O1" in conv.advice


def test_a_recurrence_over_time_is_told() -> None:
    model = make([node("CumSum", ["x", "axis"], name="sum")], {"x": info("x", [4096])}, constants={"axis": np.int64(0)})
    (found,) = report(model).nodes
    assert (found.path, found.detail) == ("loop", "each step needs the one before it")


def refused() -> onnx.ModelProto:
    nodes = [
        node("ImageDecoder", ["x"], ["a"], name="picture"),
        node("Frob", ["y"], ["b"], name="frob", domain="my"),
        node("Relu", ["b"], ["z"], name="relu"),
    ]
    inputs = {"x": info("x", [10], onnx.TensorProto.UINT8), "y": info("y", [3])}
    model = make(nodes, inputs, ["a", "z"], opset=20)
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    return model


def test_everything_that_cannot_be_compiled_comes_at_once_with_a_way_out() -> None:
    found = report(refused())
    assert not found.compiles
    assert [(issue.operator, bool(issue.advice)) for issue in found.issues] == [
        ("ai.onnx.ImageDecoder", True),
        ("my.Frob", True),
    ]
    assert [n.path for n in found.nodes] == ["refused", "refused", "not reached"]


def run(model: onnx.ModelProto, folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    onnx.save(model, folder / "m.onnx")
    status = cli.main(["check", str(folder / "m.onnx"), *words])
    return status, capsys.readouterr().out


def test_the_status_is_1_only_if_something_cannot_be_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run(mixed(), tmp_path, capsys, "--all")
    assert status == 0
    assert "5 nodes, it compiles" in text
    assert all(name in text for name in ("conv", "relu", "shape", "view", "found", "planish_host_nonzero"))
    status, text = run(refused(), tmp_path, capsys)
    assert status == 1
    assert "frob" in text


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = json.loads(run(mixed(), tmp_path, capsys, "--json")[1])
    assert facts["compiles"]
    assert facts["paths"]["runtime"] == {"NonZero": 1}
    assert len(facts["nodes"]) == 5


def test_strict_refuses_slow_paths_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"strict: 1 node takes a slow path.*\n.*\n  found +NonZero +runtime"):
        compile_file(mixed(), tmp_path / "m.so", strict=True)
    with pytest.raises(UnsupportedError, match=r"2 nodes cannot be compiled"):
        compile_file(refused(), tmp_path / "m.so", strict=True)
    assert not (tmp_path / "m.so").exists()


def test_names_with_a_plus_are_found() -> None:
    assert split_nodes("a+b+c", {"a+b": 1, "c": 1}) == ["a+b", "c"]
    assert split_nodes("a+b+c", {"a": 1}) == ["a", "b", "c"]
