"""Broken and hostile model files: each gives one message that names the file, the thing and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import info, make, node, rand

from planish.frontend import read_model
from planish.frontend.onnx import read_onnx
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.ir.interp import run_graph


def _good() -> onnx.ModelProto:
    return make([node("Gemm", ["x", "w"], name="fc")], {"x": rand(2, 64)}, constants={"w": rand(64, 8)})


def _file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"m\.onnx: the file is empty"),
        (b"<!DOCTYPE html><html></html>", r"m\.onnx: expected an ONNX model, got an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"a Git LFS pointer.*`git lfs pull`"),
        (b"PK\x03\x04rest", r"expected a zip archive as PyTorch writes it, got a damaged one"),
        (b"\x1f\x8brest", r"gzip data"),
        (b'{"graph": {}}', r"got JSON"),
        (b"hello, this is plain text", r"expected an ONNX model \(protobuf\), got something else"),
        (b"\x00" * 100, r"expected an ONNX model \(protobuf\), got something else"),
        (b"\xff" * 100, r"expected an ONNX model \(protobuf\), got something else"),
        (b"\x08\x0a", r"expected an ONNX model, got protobuf without a graph"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(_file(tmp_path, data))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no\.onnx: no such file"):
        read_model(tmp_path / "no.onnx")
    with pytest.raises(ModelError, match=r"config\.json: no such file: expected a Hugging Face folder"):
        read_model(tmp_path)


def test_every_truncation_is_a_model_error(tmp_path: Path) -> None:
    data = _good().SerializeToString()
    for size in [*range(1, len(data), 37), len(data) - 1]:
        with pytest.raises(ModelError, match=r"m\.onnx: "):
            read_model(_file(tmp_path, data[:size]))
    with pytest.raises(ModelError, match=rf"the file is cut short after {len(data) - 9} bytes"):
        read_model(_file(tmp_path, data[:-9]))


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_never_crash(seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = np.frombuffer(_good().SerializeToString(), np.uint8)
    for _ in range(60):
        data = good.copy()
        at = rng.integers(0, min(len(data), 400 if rng.random() < 0.5 else len(data)), rng.integers(1, 6))
        data[at] = rng.integers(0, 256, len(at))
        try:
            read_onnx(data.tobytes())
        except PlanishError as e:
            assert str(e).startswith("model: ")


def _cycle() -> onnx.ModelProto:
    nodes = [node("Relu", ["c"], ["a"], name="one"), node("Relu", ["a"], ["b"], name="two")]
    nodes.append(node("Add", ["b", "x"], ["c"], name="three"))
    return make(nodes, {"x": rand(2)}, outputs=["c"])


def _with(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = _good()
    change(model)
    return model


def _set_dims(dims: list[int]) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_cycle(), r'the graph has a cycle: "one" -> "two" -> "three" -> "one"'),
        (make([node("Relu", ["z"], name="r")], {"x": rand(2)}), r'node "r" \(Relu\): input 0, "z", is made by no node'),
        (make([node("Relu", ["x"])], {"x": rand(2)}, outputs=["q"]), r'output "q" of the graph is made by no node'),
        (make([node("Relu", ["x"])], {"x": rand(2)}, outputs=[]), r"the graph has no outputs"),
        (make([node("Relu", ["x"])], {"x": rand(2)}, outputs=["y", "y"]), r'two outputs of the graph are called "y"'),
        (
            make([node("Relu", ["x"], name="a"), node("Abs", ["x"], name="b")], {"x": rand(2)}),
            r'node "b" \(Abs\): output "y" is also made by node "a" \(Relu\)',
        ),
        (
            make([node("Relu", ["x"], ["x"], name="a")], {"x": rand(2)}, outputs=["x"]),
            r'output "x" is also made by input "x"',
        ),
        (make([node("Relu", ["x"], domain="my.ops")], {"x": rand(2)}), r'operator set "my.ops" is not imported by the'),
        (make([node("Relu", ["x"])], {"x": rand(2)}, opset=99), r"expected an ONNX opset in 1\.\.28, got 99"),
        (make([node("Relu", [])], {"x": rand(2)}), r"\(Relu\): input 0 is missing"),
        (make([node("Softmax", ["x"], axis=5)], {"x": rand(2)}), r"axis: expected a number in -1\.\.0, got 5"),
        (make([node("Softmax", ["x"], axis=1.5)], {"x": rand(2)}), r"attribute axis: expected INT, got FLOAT"),
        (make([node("Cast", ["x"])], {"x": rand(2)}), r"attribute to is missing"),
        (make([node("Add", ["x", "w"])], {"x": rand(2)}, constants={"w": rand(3)}), r"\(Add\): expected shapes that"),
        (
            make([node("Reshape", ["x", "s"])], {"x": rand(6)}, constants={"s": np.array([4, -1])}),
            r"shape \[4, -1\]: expected a divisor of the input's 6 elements",
        ),
        (
            make([node("Gather", ["x", "i"])], {"x": rand(6)}, constants={"i": np.array([2, 6])}),
            r"input 1: expected indices in -6\.\.5, got 6",
        ),
        (
            make([node("MaxPool", ["x"], kernel_shape=[3], pads=[-1, 0])], {"x": rand(1, 1, 6)}),
            r"pads: expected 2 numbers of at least 0, got \[-1, 0\]",
        ),
        (make([node("Relu", ["x"])], {"x": info("x", [-5])}), r'input "x": dimension 0: expected a size of at least 0'),
        (make([node("Relu", ["x"])], {"x": onnx.ValueInfoProto(name="x")}), r'input "x": it has no type'),
        (_with(_set_dims([64, 9])), r'initializer "w": expected 2304 bytes for f32\[64,9\], got 2048'),
        (_with(_set_dims([64, -8])), r'initializer "w": expected dimensions of at least 0, got \[64, -8\]'),
        (_with(_set_dims([2**62, 2**62])), r'initializer "w": dimensions .* are too large'),
        (_with(lambda m: m.opset_import.append(helper.make_opsetid("", 9))), r'opset "ai.onnx" is imported twice'),
    ],
)
def test_inconsistent_models(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(model.SerializeToString())


def test_typed_data_of_the_wrong_length() -> None:
    model = _good()
    model.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], float_data=[1, 2]))
    with pytest.raises(ModelError, match=r'initializer "w": expected 3 elements of f32 in float_data, got 2'):
        read_onnx(model)


def test_nodes_may_stand_in_any_order() -> None:
    nodes = [node("Relu", ["b"], ["y"]), node("Neg", ["a"], ["b"]), node("Abs", ["x"], ["a"])]
    x = rand(4)
    np.testing.assert_array_equal(run_graph(read_onnx(make(nodes, {"x": x})), {"x": x})["y"], np.maximum(-abs(x), 0))


def test_unsupported_nodes_are_listed_all_at_once() -> None:
    nodes = [node("Baz", ["x"], ["a"], name="first"), node("Foo", ["a"], ["b"], name="second")]
    nodes += [node("Relu", ["b"], ["y"], name="fine"), node("Bar", ["x", "x", "x"], ["q"], name="third")]
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(make(nodes, {"x": rand(4)}))
    assert str(caught.value).splitlines() == [
        "model: 3 nodes cannot be compiled: ai.onnx.Bar (1), ai.onnx.Baz (1), ai.onnx.Foo (1)",
        "  node      operator     opset  reason                         what can be done",
        '  "first"   ai.onnx.Baz  17     the operator is not supported',
        '  "second"  ai.onnx.Foo  17     the operator is not supported',
        '  "third"   ai.onnx.Bar  17     the operator is not supported',
    ]


def test_the_list_of_unsupported_nodes_is_capped() -> None:
    nodes = [node("Foo", ["x"], [f"y{i}"]) for i in range(500)]
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(make(nodes, {"x": rand(4)}, outputs=["y0"]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 53
    assert lines[0] == "model: 500 nodes cannot be compiled: ai.onnx.Foo (500)"
    assert lines[-1] == "  ... and 450 more"


def test_unsupported_types_are_listed_with_the_nodes() -> None:
    model = make(
        [node("Relu", ["x"], name="r"), node("Foo", ["y"], ["z"])], {"x": info("x", [2], TensorProto.COMPLEX64)}
    )
    with pytest.raises(UnsupportedError, match=r'"r" +ai.onnx.Relu +17 +arithmetic on complex') as caught:
        read_onnx(model)
    assert "ai.onnx.Foo" in str(caught.value)


_HOSTILE = ['a"b', "a\nb", "*/ int main() {", "%d %s", "a\\", "\u202eevil", "", " ", "x" * 10_000, "名前"]


@pytest.mark.parametrize("name", _HOSTILE, ids=range(len(_HOSTILE)))
def test_hostile_names_import(name: str) -> None:
    nodes = [node("Relu", [name + "in"], [name + "mid"], name=name), node("Abs", [name + "mid"], [name + "out"])]
    model = make(nodes, {name + "in": rand(2)}, outputs=[name + "out"], name=name)
    module = read_onnx(model)
    assert [p.name for p in module.main.params] == [name + "in"]
    assert module.main.result_names == [name + "out"]
    broken = make([node("Foo", [name + "in"], ["y"], name=name)], {name + "in": rand(2)})
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(broken)
    assert len(str(caught.value)) < 1000
    assert len(str(caught.value).splitlines()) == 3
