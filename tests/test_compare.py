"""`planish compare`: differences are measured, and the first layer that differs is found when a pass is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from _mindir import dense
from onnx_models import info, make, node

from planish import cli
from planish._lower import Options
from planish.benchmark import measure
from planish.comparison import Comparison, PlanishSide, ReferenceSide, Search, compare, difference
from planish.frontend import open_model
from planish.ir.core import Graph
from planish.ir.kernel.form import KernelOp, Scalar
from planish.passes.base import PASSES, Pass
from planish.shapes import Shapes

FUSED = "canonicalize,form-kernels,fuse-kernels,{},dce,assign-layouts,lower-program,schedule-cpu,plan-memory"


@pytest.fixture(autouse=True)
def broken_passes() -> Iterator[None]:
    """Passes that are wrong on purpose, as long as a test runs."""

    class BreakSigmoid(Pass, name="break-sigmoid"):
        """Compute tanh for sigmoid."""

        def run_graph(self, graph: Graph) -> bool:
            found = [op for op in graph.walk() if isinstance(op, Scalar) and op.fn == "sigmoid"]
            for op in found:
                op.set_attribute("fn", "tanh")
            return bool(found)

    class BreakFused(Pass, name="break-fused"):
        """The same, but only where it is fused with the addition."""

        def run_graph(self, graph: Graph) -> bool:
            kernels = [op for op in graph.body if isinstance(op, KernelOp) and "sigmoid+add" in op.loc]
            found = [op for k in kernels for op in k.walk() if isinstance(op, Scalar) and op.fn == "sigmoid"]
            for op in found:
                op.set_attribute("fn", "tanh")
            return bool(found)

    yield
    for one in (BreakSigmoid, BreakFused):
        del PASSES[one.pass_name]


def chain() -> onnx.ModelProto:
    """Two convolutions; between them a sigmoid, which fuses with an addition, and after that more."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w0"], ["a"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], name="relu"),
        node("MaxPool", ["b"], ["c"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Sigmoid", ["c"], ["d"], name="sigmoid"),
        node("Add", ["d", "c"], ["e"], name="add"),
        node("Conv", ["e", "w1"], ["f"], name="last", pads=[1, 1, 1, 1]),
        node("Softmax", ["f"], name="softmax", axis=1),
    ]
    weights = {
        "w0": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "w1": rng.standard_normal((8, 8, 3, 3)).astype(np.float32),
    }
    return make(nodes, {"x": info("x", [1, 3, 16, 16])}, constants=weights)


def looked_at(passes: str | None, layers: bool = False, budget: int = 1 << 20) -> Comparison:
    source = open_model(chain())
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)}
    options = Options(threads=1, workers=1, passes=passes, cpu="x86-64-v3")
    sides = PlanishSide(source, inputs, options, {}), ReferenceSide(source, inputs, Shapes())
    return compare(
        source, sides, "reference", options=options, asked=Shapes(), symbols={}, layers=layers, budget=budget
    )


def test_right_code_fits_layer_by_layer() -> None:
    found = looked_at(None, layers=True)
    assert found.fits
    assert [d.name for d in found.layers] == ["a", "b", "c", "d", "e", "f"]
    assert all(d.fits for d in found.layers)


@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_a_broken_operator_is_found(budget: int) -> None:
    found = looked_at(FUSED.format("break-sigmoid"), budget=budget)
    assert not found.fits
    assert found.first is not None
    assert (found.first.node.name, found.first.node.operator) == ("sigmoid", "Sigmoid")
    assert found.first.introduces
    assert [d.name for d in found.first.inputs] == ["c"]
    assert not found.first.inside


def test_an_error_that_only_fusion_makes_is_found_in_its_kernel() -> None:
    found = looked_at(FUSED.format("break-fused"))
    assert found.first is not None
    assert found.first.node.name == "add"
    assert "sigmoid" in found.first.inside


def test_groups_fit_into_the_budget() -> None:
    search = Search(open_model(chain()), (None, None), budget=3000)  # type: ignore[arg-type]
    search.sizes = {"a": 2000, "b": 900, "c": 200, "d": 2800, "e": 200}
    groups = [[n.name for n in group] for group in search.groups(search.nodes[:5])]
    assert groups == [["first", "relu"], ["pool", "sigmoid"], ["add"]]


def run(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    onnx.save(chain(), folder / "m.onnx")
    status = cli.main(["compare", str(folder / "m.onnx"), "--threads", "1", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_names_the_layer_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = run(tmp_path, capsys, "-p", FUSED.format("break-sigmoid"))
    assert status == 1
    assert re.search(r'the first layer that differs from onnxruntime is "sigmoid" \(Sigmoid\): relative L2', error)
    assert "First layer at fault" in out


def test_the_command_exits_with_0_if_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = run(tmp_path, capsys, "--json")
    facts = json.loads(out)
    assert (status, error) == (0, "")
    assert (facts["fits"], facts["first"]) == (True, None)
    assert [d["name"] for d in facts["outputs"]] == ["y"]


def test_a_model_of_another_format_is_written_as_onnx_for_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dense.mindir"
    file.write_bytes(dense())
    status = cli.main(["compare", str(file), "--threads", "1", "--layers", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (status, facts["fits"], facts["against"]) == (0, True, "onnxruntime")
    assert len(facts["layers"]) >= 1


def test_the_others_of_a_bench_get_a_model_of_another_format_as_onnx(tmp_path: Path) -> None:
    file = tmp_path / "dense.mindir"
    file.write_bytes(dense())
    found = measure(
        file, is_artifact=False, against=["onnxruntime"], threads=1, runs=1, inputs={}, say=lambda text: None
    )
    assert [r.name for r in found] == ["planish", "onnxruntime"]
    assert all(r.max_rel_err is not None and r.max_rel_err < 1e-5 for r in found)


def test_differences_are_relative_and_see_what_is_not_finite() -> None:
    want = np.array([1.0, 2.0, np.inf, np.nan], np.float32)
    assert difference("x", want.copy(), want).l2 == 0
    assert difference("x", want + np.array([0, 0.2, 0, 0], np.float32), want).largest == pytest.approx(0.1)
    assert difference("x", np.zeros(4, np.float32), want).l2 == np.inf
    assert "shape" in difference("x", np.zeros(3, np.float32), want).note
    assert not difference("x", np.array([1, 2]), np.array([1, 3])).fits
    assert difference("x", ["a"], ["a"]).fits
    assert not difference("x", [np.zeros(2)], [np.zeros(2), np.zeros(2)]).fits
