"""`.pt2` files and state dicts of PyTorch, read without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import _torch_list
import numpy as np
import pytest
from _torch_files import call, name, node, program, pt2, row, states, storage, table, tensor, text, written

import planish
from planish.cli import main
from planish.frontend import Reading, open_model, read_model
from planish.frontend.checkpoints import read_checkpoint
from planish.frontend.torch.sizes import parse_size
from planish.ir.constants import FileSource
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.interp import run_graph
from planish.runtime import InputError

W = np.arange(6, dtype=np.float32).reshape(3, 2)
B = np.array([1, -5, 2], np.float32)
S = "Symbol('s0', positive=True, integer=True)"
LINEAR = node("linear.default", "linear", input="x", weight="w", bias="b")
RELU = node("relu.default", "relu", self="linear")


def net(folder: Path) -> Path:
    whole = program({"x": [S, 2]}, {"w": W, "b": B}, [LINEAR, RELU], ["relu"], ranges={"s0": (0, 8)})
    return written(folder, pt2(whole, {"w": W, "b": B}))


def test_a_program_computes_what_its_operators_say(tmp_path: Path) -> None:
    module = read_model(net(tmp_path))
    assert str(module.main.params[0].type) == "f32[s0,2]"
    x = np.array([[1, 2], [3, -4]], np.float32)
    np.testing.assert_allclose(run_graph(module, {"x": x})["output"], np.maximum(x @ W.T + B, 0))


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    source = open_model(net(tmp_path))
    from planish.frontend.torch.source import TorchSource

    assert isinstance(source, TorchSource)
    assert all(isinstance(c.source, FileSource) for c in source.program.constants.values())


def test_a_program_compiles_runs_and_keeps_its_sizes(tmp_path: Path) -> None:
    model = planish.compile(net(tmp_path))
    x = np.array([[1, 2]], np.float32)
    np.testing.assert_allclose(model.run({"x": x})["output"], np.maximum(x @ W.T + B, 0))
    with pytest.raises(InputError, match="expected 0 to 8"):
        model.run({"x": np.zeros((9, 2), np.float32)})


def test_other_weights_take_the_place_of_the_programs_own(tmp_path: Path) -> None:
    data = states(table({"w": tensor("0", (3, 2), (1, 3), 6), "b": tensor("1", (3,), (1,), 3)}),
                  {"0": W.tobytes(), "1": B.tobytes()})  # fmt: skip
    path = written(tmp_path, data, "new.pt")
    source = open_model(net(tmp_path), Reading(weights=path))
    x = np.eye(2, dtype=np.float32)
    other = W.reshape(2, 3).T
    np.testing.assert_allclose(run_graph(source.read(), {"x": x})["output"], np.maximum(x @ other.T + B, 0))
    missing = written(tmp_path, states(table({"w": tensor("0", (3, 2), (2, 1), 6)}), {"0": W.tobytes()}), "less.pt")
    with pytest.raises(ModelError, match='"b"'):
        open_model(net(tmp_path), Reading(weights=missing))


def test_outputs_have_the_names_of_the_tree(tmp_path: Path) -> None:
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    two: dict[str, Any] = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf, leaf]}
    tree: dict[str, Any] = {"type": "builtins.dict", "context": '["a", "b"]', "children_spec": [leaf, two]}
    whole = program({"x": [2, 2]}, {"w": W, "b": B}, [LINEAR, RELU], ["relu", "linear", "x"],
                    tree=json.dumps([1, tree]))  # fmt: skip
    module = read_model(written(tmp_path, pt2(whole, {"w": W, "b": B})))
    assert module.main.result_names == ["a", "b_0", "b_1"]


def test_a_buffer_that_changes_is_a_state(tmp_path: Path) -> None:
    count = np.zeros(2, np.float32)
    nodes = [node("add_.Tensor", "add_", self="count", other="x"), node("mul.Tensor", "mul", self="count", other=2.0)]
    whole = program({"x": [2]}, {"count": count}, nodes, ["mul"], buffers=["count"])
    module = read_model(written(tmp_path, pt2(whole, {"count": count})))
    x, before = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
    found = run_graph(module, {"x": x, "count": before})
    np.testing.assert_array_equal(found["output"], 2 * (x + before))
    np.testing.assert_array_equal(found["count.next"], x + before)


def test_a_change_of_a_view_changes_what_it_is_a_view_of(tmp_path: Path) -> None:
    nodes = [
        node("add.Tensor", "y", self="x", other=0.0), node("slice.Tensor", "part", self="y", dim=1, start=1, end=2),
        node("select.int", "row", self="y", dim=0, index=0), node("mul_.Tensor", "done", self="part", other=10.0),
        node("add.Tensor", "z", self="row", other=0.0),
    ]  # fmt: skip
    whole = program({"x": [2, 3]}, {}, nodes, ["y", "z"])
    module = read_model(written(tmp_path, pt2(whole, {})))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    wanted = x * [1, 10, 1]
    found = run_graph(module, {"x": x})
    np.testing.assert_array_equal(found["output_0"], wanted)
    np.testing.assert_array_equal(found["output_1"], wanted[0])


def test_unsupported_operators_are_listed_together(tmp_path: Path) -> None:
    nodes = [
        node("lgamma.default", "a", self="x"),
        node("lgamma.default", "b", self="x"),
        node("i0.default", "c", self="a"),
    ]
    path = written(tmp_path, pt2(program({"x": [2]}, {}, nodes, ["b", "c"]), {}))
    with pytest.raises(UnsupportedError, match=r"3 nodes cannot be compiled: aten.lgamma.default \(2\), aten.i0") as e:
        read_model(path)
    assert "torch.onnx.export" in str(e.value)


def test_a_derived_size_is_checked_at_the_inputs(tmp_path: Path) -> None:
    double = f"Mul(Integer(2), {S})"
    nodes = [
        node("sum.default", "a", self="x"),
        node("sum.default", "b", self="y"),
        node("add.Tensor", "c", self="a", other="b"),
    ]
    whole = program({"x": [S], "y": [double]}, {}, nodes, ["c"])
    module = read_model(written(tmp_path, pt2(whole, {})))
    assert str(module.main.params[1].type) == "f32[2*s0]"


@pytest.mark.parametrize(
    ("said", "size"),
    [("Integer(3)", "3"), (S, "s0"), (f"Mul(Integer(2), {S})", "2*s0"), ("(s0//2) + 1", "floordiv(s0, 2) + 1"),
     ("Max(1, s0)", "max(1, s0)"), ("s0**2", "s0*s0"), ("2*s0 - 4", "2*s0 - 4")],
)  # fmt: skip
def test_sizes_are_read_as_pytorch_writes_them(said: str, size: str) -> None:
    assert str(parse_size(said, "net")) == size


@pytest.mark.parametrize(
    "said", ["__import__('os')", "s0.x", "open('a')", "1.5", "", "9**8**8", "(" * 500, "((9**8)**8)**8", "(s0+1)**99"]
)
def test_what_is_no_size_is_refused(said: str) -> None:
    with pytest.raises(ModelError, match="net: expected a size"):
        parse_size(said, "net")


# -- state dicts ------------------------------------------------------------------------------------------------------


def test_a_state_dict_keeps_strides_types_and_nesting(tmp_path: Path) -> None:
    half = np.array([1, 2, 3], np.float16)
    entries = {
        "turned": tensor("0", (2, 3), (1, 2), 6), "part": tensor("0", (2,), (2,), 6, 1),
        "half": tensor("1", (3,), (1,), 3, kind="HalfStorage"), "inner": table({"x": tensor("0", (), (), 6, 5)}),
        "epoch": b"K\x05", "note": text("hello"), "flags": row(b"\x88", b"N"),
        "parameter": call(name("torch._utils", "_rebuild_parameter"), tensor("0", (1,), (1,), 6), b"\x88", b"}"),
    }  # fmt: skip
    path = written(tmp_path, states(table(entries), {"0": W.tobytes(), "1": half.tobytes()}), "x.pt")
    found = read_checkpoint(path)
    assert found.kind == "torch"
    assert list(found.tensors) == ["turned", "part", "half", "inner.x", "parameter"]
    np.testing.assert_array_equal(found.tensors["turned"].array(), W.reshape(3, 2).T)
    np.testing.assert_array_equal(found.tensors["part"].array(), [1, 3])
    np.testing.assert_array_equal(found.tensors["half"].array(), half)
    assert found.tensors["inner.x"].array() == 5


def test_the_state_dict_of_a_training_checkpoint_is_found_by_its_key(tmp_path: Path) -> None:
    inner = table({"w": tensor("0", (6,), (1,), 6)})
    body = table({"state_dict": inner, "optimizer": table({"moments": tensor("0", (6,), (1,), 6)})})
    path = written(tmp_path, states(body, {"0": W.tobytes()}), "x.pt")
    assert list(read_checkpoint(path).tensors) == ["w"]


def test_inspect_lists_the_tensors_of_a_state_dict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, states(table({"w": tensor("0", (3, 2), (2, 1), 6)}), {"0": W.tobytes()}), "x.bin")
    assert main(["inspect", str(path), "--json"]) == 0
    assert '"w"' in capsys.readouterr().out


def test_a_storage_without_a_type_takes_that_of_the_tensor(tmp_path: Path) -> None:
    function = name("torch._utils", "_rebuild_tensor_v3")
    arguments = (storage("0", 4, "UntypedStorage"), b"K\x00", row(b"K\x02"), row(b"K\x01"), b"\x89", b"}")
    body = table({"w": call(function, *arguments, name("torch", "bfloat16"))})
    path = written(tmp_path, states(body, {"0": np.array([0x3F80, 0x4000], np.uint16).tobytes()}), "x.pt")
    np.testing.assert_array_equal(read_checkpoint(path).tensors["w"].array().astype(np.float32), [1, 2])


def test_reading_files_of_pytorch_does_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, planish; planish.compile(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(net(tmp_path))], check=True, timeout=60)


def test_the_documentation_lists_all_operators() -> None:
    text = _torch_list.DOCUMENT.read_text(encoding="utf-8")
    assert text.endswith(_torch_list.HEAD + _torch_list.listed()), "run python tests/_torch_list.py"
