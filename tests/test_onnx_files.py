"""Models as they are about: weights in other files, sparse ones, inputs with defaults, annotations that are absent or
wrong, nodes in no order. Each gives what ONNX Runtime gives for the model as it should be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import info, make, node, rand, runtime

from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph
from planish.ir.text import print_module
from planish.runtime import load


def _network() -> onnx.ModelProto:
    """Two layers with weights, and a shape that is computed."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["c"]), node("Relu", ["c"], ["d"]),
        node("Shape", ["d"], ["s"]), node("Reshape", ["v", "s"], ["e"]), node("Sub", ["d", "e"], ["y"]),
    ]  # fmt: skip
    constants = {"w": rand(8, 6, seed=1), "b": rand(6, seed=2), "v": rand(3 * 6, seed=3)}
    return make(nodes, {"x": rand(3, 8)}, constants=constants)


X = {"x": rand(3, 8)}


def _expect(model: onnx.ModelProto | Path, expected: np.ndarray) -> None:
    module = read_onnx(model)
    np.testing.assert_allclose(run_graph(module, X)["y"], expected, rtol=1e-5, atol=1e-6)


def test_every_order_of_nodes_is_the_same_model() -> None:
    model = _network()
    expected = runtime(model, X)["y"]
    for seed in range(5):
        nodes = [model.graph.node[int(i)] for i in np.random.default_rng(seed).permutation(len(model.graph.node))]
        shuffled = onnx.ModelProto()
        shuffled.CopyFrom(model)
        del shuffled.graph.node[:]
        shuffled.graph.node.extend(nodes)
        _expect(shuffled, expected)


def test_annotations_may_be_absent() -> None:
    model = _network()
    assert not model.graph.value_info
    assert not model.graph.output[0].HasField("type")
    _expect(model, runtime(model, X)["y"])


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (info("c", [3, 7]), r"f32\[3,7\]; it is f32\[3,6\]"),
        (info("c", [3, 6], TensorProto.INT64), r"i64\[3,6\]; it is f32\[3,6\]"),
        (info("c", [18]), r"f32\[18\]; it is f32\[3,6\]"),
    ],
)
def test_wrong_annotations_are_noted_and_ignored(annotation: onnx.ValueInfoProto, shown: str) -> None:
    model = _network()
    expected = runtime(model, X)["y"]
    model.graph.value_info.append(annotation)
    module = read_onnx(model)
    (note,) = cast(Sequence[str], module.attributes["notes"])
    np.testing.assert_allclose(run_graph(module, X)["y"], expected, rtol=1e-5, atol=1e-6)
    assert re.search(shown, note), note
    assert "notes = [" in print_module(module)


def test_right_and_symbolic_annotations_are_not_noted() -> None:
    model = _network()
    model.graph.value_info.extend([info("c", [3, 6]), info("a", ["n", None]), info("d", None)])
    assert "notes" not in read_onnx(model).attributes


def test_a_wrong_output_shape_is_noted_by_the_compiler(tmp_path: Path) -> None:
    model = _network()
    expected = runtime(model, X)["y"]
    model.graph.output[0].CopyFrom(info("y", [1, 1]))
    report = compile_file(model, tmp_path / "m.so", opt=0)
    assert any("'y'" in note or '"y"' in note for note in report.notes), report.notes
    with load(tmp_path / "m.so", threads=1) as compiled:
        np.testing.assert_allclose(compiled.run(X)["y"], expected, rtol=1e-5, atol=1e-6)


def test_many_wrong_annotations_are_counted() -> None:
    model = _network()
    for i in range(9):
        model.graph.node.append(node("Neg", ["d"], [f"n{i}"]))
        model.graph.value_info.append(info(f"n{i}", [1]))
    notes = cast(Sequence[str], read_onnx(model).attributes["notes"])
    assert len(notes) == 6
    assert "4 more" in notes[-1]


def test_weights_in_one_file_and_in_many(tmp_path: Path) -> None:
    model = _network()
    expected = runtime(model, X)["y"]
    for many in (False, True):
        path = tmp_path / f"m{int(many)}.onnx"
        onnx.save_model(
            model, path, save_as_external_data=True, all_tensors_to_one_file=not many, size_threshold=0,
            location=None if many else "weights.bin", convert_attribute=True,
        )  # fmt: skip
        model = _network()  # saving changed it
        _expect(path, expected)


def test_sparse_weights(tmp_path: Path) -> None:
    model = _network()
    (w,) = [t for t in model.graph.initializer if t.name == "w"]
    dense = numpy_helper.to_array(w).copy()
    dense[np.abs(dense) < 0.8] = 0
    w.CopyFrom(numpy_helper.from_array(dense, "w"))
    expected = runtime(model, X)["y"]
    model.graph.initializer.remove(w)
    where = np.flatnonzero(dense).astype(np.int64)
    values = numpy_helper.from_array(dense.reshape(-1)[where], "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(where, "w_at"), dense.shape)
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    _expect(path, expected)


def test_initializers_may_be_inputs() -> None:
    model = _network()
    expected = runtime(model, X)["y"]
    model.graph.input.extend([info("w", [8, 6]), info("b", [6]), info("v", [18])])
    module = read_onnx(model)
    assert [p.name for p in module.main.params] == ["x"]
    assert module.attributes["overridable"] == "w, b, v"
    np.testing.assert_allclose(run_graph(module, X)["y"], expected, rtol=1e-5, atol=1e-6)


def test_nodes_of_bodies_may_stand_in_any_order() -> None:
    then = helper.make_graph([node("Neg", ["t"], ["u"]), node("Add", ["x", "x"], ["t"])], "then", [], [info("u", None)])
    other = helper.make_graph([node("Exp", ["x"], ["u"])], "else", [], [info("u", None)])
    model = make([node("If", ["c"], then_branch=then, else_branch=other)], {**X, "c": info("c", [], TensorProto.BOOL)})
    for condition in (True, False):
        got = run_graph(read_onnx(model), {**X, "c": np.array(condition)})["y"]
        np.testing.assert_allclose(got, -2 * X["x"] if condition else np.exp(X["x"]), rtol=1e-6)


def test_nodes_of_functions_may_stand_in_any_order() -> None:
    model = make([node("Twice", ["x"], domain="own")], X)
    body = [node("Neg", ["t"], ["b"]), node("Add", ["a", "a"], ["t"])]
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    np.testing.assert_allclose(run_graph(read_onnx(model), X)["y"], -2 * X["x"], rtol=1e-6)
