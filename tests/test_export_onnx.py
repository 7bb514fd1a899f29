"""ONNX files that planish writes: valid, with names kept, read back as the same function, and run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
from _exported import difference, module_of
from _graphs import GraphMaker
from _samples import sample_arrays, tensor_ops
from onnx import TensorProto, helper, numpy_helper

from planish.exporting import export, write_onnx
from planish.frontend import read_model
from planish.frontend.assembly import Assembly, Input, assembled
from planish.ir import ops
from planish.ir.constants import ConstantData
from planish.ir.core import REGISTRY, Module
from planish.ir.errors import PlanishError, UnsupportedError
from planish.ir.interp import run_graph
from planish.ir.ops import reduce
from planish.ir.ops.base import TensorOp
from planish.ir.ops.host import HostOp, labels
from planish.ir.ops.number import Number
from planish.ir.types import OptionalType
from planish.writers.mindir import MindirModel
from planish.writers.onnx import OnnxModel


def written(module: Module) -> onnx.ModelProto:
    """The module as a model that ONNX's checker takes, shapes and all."""
    proto = OnnxModel(module).proto()
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run_onnx(model: onnx.ModelProto | Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs in ONNX Runtime."""
    options = cast("Any", onnxruntime).SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = cast("Any", onnxruntime).InferenceSession(data, options, ["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


@pytest.mark.parametrize("kind", tensor_ops(), ids=[kind.op_name for kind in tensor_ops()])
def test_every_operation_is_written_and_read_back_as_the_same_function(kind: type[TensorOp]) -> None:
    for op in kind.samples():
        module = module_of(op)
        inputs = {f"x{i}": a for i, a in enumerate(sample_arrays(op))}
        want = run_graph(module, inputs)
        again = read_model(written(module))
        # Attributes are f32 in ONNX.
        assert not difference(run_graph(again, inputs), want, 1e4 if "f64" in str(op) else 4.0), op


SPREAD: list[type[TensorOp]] = [
    ops.Add, ops.Atan2, ops.FloorMod, ops.Gelu, ops.Silu, ops.Clip, ops.Cast, ops.Conv, ops.ConvTranspose, ops.MaxPool,
    ops.MaxPoolIndices, ops.AveragePool, ops.BatchNorm, ops.LayerNorm, ops.Softmax, ops.MatMul, reduce.Sum, reduce.Mean,
    reduce.ArgMax, ops.TopK, ops.Reshape, ops.Slice, ops.Pad, ops.Expand, ops.Tile, ops.Iota, ops.Repeat, ops.Resample,
    ops.Gather, ops.GatherND, ops.ScatterElements, ops.Quantize, ops.LSTM, ops.TreeEnsemble, ops.DeformSample, ops.Det,
]  # fmt: skip


@pytest.mark.parametrize("kind", SPREAD, ids=[kind.op_name for kind in SPREAD])
def test_onnxruntime_computes_the_same(kind: type[TensorOp]) -> None:
    op = next(iter(kind.samples()))
    inputs = {f"x{i}": a for i, a in enumerate(sample_arrays(op))}
    module = module_of(op)
    assert not difference(run_onnx(written(module), inputs), run_graph(module, inputs), 16)


# -- networks ---------------------------------------------------------------------------------------------------------


def network(batch: int | str = "batch") -> Module:
    """A convolution, normalisation, pooling, attention-like products and sizes that are computed."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / 4).astype(np.float32)

    def read(a: Assembly) -> list[Any]:
        x = a.input("image")
        with a.at("stem"):
            y = a.op("Relu", a.op("Conv", x, weight(8, 3, 3, 3), weight(8), pads=[1, 1, 1, 1], strides=[2, 2]))
        with a.at("pool"):
            y = a.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        shape = a.op("Shape", y)
        rows = a.op("Concat", a.op("Slice", shape, np.array([0]), np.array([1])), np.array([8, -1]), axis=0)
        with a.at("tokens"):
            t = a.op("Transpose", a.op("Reshape", y, rows), perm=[0, 2, 1])
        with a.at("scores"):
            s = a.op("Softmax", a.op("MatMul", t, a.op("Transpose", t, perm=[0, 2, 1])), axis=-1)
        with a.at("norm"):
            z = a.op("LayerNormalization", a.op("MatMul", s, t), weight(8), weight(8), axis=-1)
        return [z, a.op("ReduceMean", z, np.array([1]), keepdims=0)]

    return assembled("net", [Input("image", "f32", (batch, 3, "h", "w"))], read, outputs=["tokens", "mean"])


def test_a_network_with_symbolic_sizes_runs_at_any_size(tmp_path: Path) -> None:
    module = network()
    proto = written(module)
    assert [i.name for i in proto.graph.input] == ["image"]
    assert [o.name for o in proto.graph.output] == ["tokens", "mean"]
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        "h",
        "w",
    ]
    for batch, h, w in ((1, 8, 8), (3, 16, 12)):
        image = np.random.default_rng(1).standard_normal((batch, 3, h, w)).astype(np.float32)
        want = run_graph(module, {"image": image})
        assert not difference(run_onnx(proto, {"image": image}), want)


def test_nodes_are_called_as_in_the_source_and_sizes_need_no_arithmetic() -> None:
    proto = written(network())
    assert {"stem", "pool", "tokens", "scores", "norm"} <= {node.name.split("_")[0] for node in proto.graph.node}
    assert not {"Shape", "Gather", "Mul", "Div"} & {node.op_type for node in proto.graph.node}


def test_sizes_that_are_sums_and_quotients_are_computed_in_the_file() -> None:
    def read(a: Assembly) -> list[Any]:
        n, m = a.shape(a.input("x"))
        return [a.make(Number, n * m + 3), a.make(Number, (n - 7) // 2), a.make(Number, m % 3 - n)]

    module = assembled("sizes", [Input("x", "f32", ("n", "m"))], read, outputs=["a", "b", "c"])
    proto = written(module)
    for n, m in ((1, 5), (4, 4), (10, 2)):
        x = np.zeros((n, m), np.float32)
        assert not difference(run_onnx(proto, {"x": x}), run_graph(module, {"x": x}))


def test_choices_and_loops_over_data() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[n] x, bool flag, int64 rounds) => (float[m] y, float[k, n] steps) <float[1] half = {0.5}> {
      y = If (flag) <then_branch = t () => (float[a] r) { r = Concat <axis = 0> (x, half) },
                     else_branch = e () => (float[b] s) { s = Mul (x, half) }>
      carried, steps = Loop (rounds, , x) <
        body = b (int64 i, bool on, float[n] v) => (bool go, float[n] u, float[n] o) {
        go = Identity (on) u = Add (v, half) o = Mul (u, v) }>
    }"""
    model = onnx.parser.parse_model(text)
    module = read_model(model)
    proto = written(module)
    for flag, rounds in ((True, 3), (False, 2)):
        inputs = {"x": np.arange(3, dtype=np.float32), "flag": np.array(flag), "rounds": np.array(rounds)}
        want = run_onnx(model, inputs)
        assert not difference(run_onnx(proto, inputs), want)
        assert not difference(run_graph(read_model(proto), inputs), want)


OUTER = """<ir_version: 8, opset_import: ["" : 18]>
g (float[2] x, bool flag) => (float[2] y, float[2] z) <float[2] w = {0.5, 2.0}> {
  y, z = If (flag) <then_branch = t () => (float[2] a, float[2] b) { a = Identity (x) b = Identity (w) },
                    else_branch = e () => (float[2] c, float[2] d) { c = Neg (x) d = Identity (c) }>
}"""


def test_branches_may_give_what_is_there_already() -> None:
    model = onnx.parser.parse_model(OUTER)
    module = read_model(model)
    for flag in (True, False):
        inputs = {"x": np.array([1, -3], np.float32), "flag": np.array(flag)}
        want = run_onnx(model, inputs)
        assert not difference(run_onnx(written(module), inputs), want)
        back = run_graph(read_model(MindirModel(module).message().bytes()), inputs)
        assert not difference(dict(zip(want, back.values(), strict=True)), want)


def test_an_open_rank_is_noted(tmp_path: Path) -> None:
    def read(a: Assembly) -> list[Any]:
        return [a.op("Neg", a.input("x"))]

    module = assembled("open", [Input("x", "f32", None)], read, outputs=["y"])
    report = write_onnx(module, tmp_path / "open.onnx")
    assert "input x: its rank is open" in report.notes[0].replace("'", "").replace('"', "")
    x = np.ones((2, 1, 3), np.float32)
    assert not difference(run_onnx(tmp_path / "open.onnx", {"x": x}), {"y": -x})


def test_results_sized_by_data_strings_and_sequences() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("StringConcat", ["s", "s"], ["twice"]),
        helper.make_node("SplitToSequence", ["x", "count"], ["parts"], axis=0),
        helper.make_node("SequenceAt", ["parts", "at"], ["part"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("s", TensorProto.STRING, [2]),
        helper.make_tensor_value_info("count", TensorProto.INT64, []),
        helper.make_tensor_value_info("at", TensorProto.INT64, []),
    ]
    outputs = [
        helper.make_tensor_value_info("places", TensorProto.INT64, [1, None]),
        helper.make_tensor_value_info("twice", TensorProto.STRING, [2]),
        helper.make_tensor_value_info("part", TensorProto.FLOAT, [None]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)]
    )
    given = {
        "x": np.array([1, 0, 2, 3], np.float32),
        "s": np.array(["a", "é"], object),
        "count": np.array(3),
        "at": np.array(1),
    }
    assert not difference(run_onnx(written(read_model(model)), given), run_onnx(model, given))


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_in_both_formats(seed: int) -> None:
    maker = GraphMaker(seed)
    module, inputs = maker.grow(12), maker.inputs()
    want = run_graph(module, inputs)
    assert not difference(run_onnx(written(module), inputs), want, 200)
    back = run_graph(read_model(MindirModel(module).message().bytes()), inputs)
    assert not difference(dict(zip(want, back.values(), strict=True)), want, 200)


# -- names, files -----------------------------------------------------------------------------------------------------


def test_hostile_names_are_kept_apart() -> None:
    names = ["Neg", "constant", "a b\n\"'", "ключ/🔑", "x" * 300]

    def read(a: Assembly) -> list[Any]:
        total = a.input(names[0])
        for name in names[1:]:
            with a.at("constant"):
                total = a.op("Add", a.op("Mul", total, np.array([2, 3], np.float32)), a.input(name))
        return [total, a.input(names[1]), a.input(names[2])]

    inputs = [Input(name, "f32", (2,)) for name in names]
    module = assembled("names", inputs, read, outputs=["add", "constant_1", names[2]])
    proto = written(module)
    assert [i.name for i in proto.graph.input] == names
    assert [o.name for o in proto.graph.output] == ["add", "constant_1", names[2]]
    arrays = [np.array([i, -i], np.float32) for i in range(len(names))]
    want = list(run_graph(module, dict(zip(names, arrays, strict=True))).values())
    got = list(run_onnx(proto, dict(zip(names, arrays, strict=True))).values())
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_an_output_that_is_an_input_a_weight_or_there_twice() -> None:
    def read(a: Assembly) -> list[Any]:
        x = a.input("x")
        y = a.op("Neg", x)
        return [x, y, y, a.constant(np.array([1, 2], np.int64), "w"), x]

    outputs = ["x", "y", "again", "w", "renamed"]
    module = assembled("same", [Input("x", "f32", (2,))], read, outputs=outputs)
    x = np.array([1, -2], np.float32)
    got = run_onnx(written(module), {"x": x})
    assert list(got) == outputs
    assert not difference(got, {"x": x, "y": -x, "again": -x, "w": np.array([1, 2]), "renamed": x})


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    report = export(written(network(2)), out, external=True)
    assert sorted(Path(f).name for f in report.files) == ["net.onnx"]  # all of its weights are small
    weight = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)

    def read(a: Assembly) -> list[Any]:
        return [a.op("MatMul", a.input("x"), a.constant(weight, "w"))]

    module = assembled("product", [Input("x", "f32", (1, 64))], read, outputs=["y"])
    report = export(written(module), out, external=True)
    assert report.files == {str(out): out.stat().st_size, str(out) + ".data": weight.nbytes}
    onnx.checker.check_model(str(out), full_check=True)
    x = np.ones((1, 64), np.float32)
    assert not difference(run_onnx(out, {"x": x}), {"y": x @ weight})
    assert not difference(run_graph(read_model(out), {"x": x}), {"y": x @ weight})


def test_bytes_depend_on_the_model_alone(tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    proto = written(network())
    for file in files:
        export(proto, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    export(files[0], files[1])
    export(files[1], files[0])  # and what is read back is written the same
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("dtype", ["i4", "u4", "bf16", "f16", "f8e4m3fn", "bool", "u64"])
def test_weights_of_every_width(dtype: str) -> None:
    data = ConstantData.of((np.arange(15).reshape(3, 5) % 7), dtype)

    def read(a: Assembly) -> list[Any]:
        return [a.constant(data, "w"), a.constant(data.permuted((1, 0)), "t"), a.input("x")]

    module = assembled("weights", [Input("x", "f32", (1,))], read, outputs=["y", "z", "x"])
    proto = written(module)
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    found = sorted(arrays.values(), key=lambda a: a.shape)
    assert [a.shape for a in found] == [(3, 5), (5, 3)]
    for array, want in zip(found, (data.array(), data.array().T), strict=True):
        assert np.array_equal(array.astype(np.float32), want.astype(np.float32))


def test_states_are_inputs_and_outputs_that_the_metadata_names() -> None:
    def read(a: Assembly) -> list[Any]:
        state = a.state("total", ConstantData.splat(0.0, "f32", (2,)))
        total = a.op("Add", state, a.input("x"))
        a.assign("total", total)
        return [total]

    proto = written(assembled("sum", [Input("x", "f32", (2,))], read, outputs=["y"]))
    assert [i.name for i in proto.graph.input] == ["x", "total"]
    assert [o.name for o in proto.graph.output] == ["y", "total.next"]
    assert {p.key: p.value for p in proto.metadata_props} == {
        "planish.states": '[{"input":"total","output":"total.next","initial":0.0}]'
    }


def test_everything_that_cannot_be_written_is_listed_together(tmp_path: Path) -> None:
    def read(a: Assembly) -> list[Any]:
        n = a.shape(a.input("x"))[0]
        with a.at("dice"):
            first = a.make(ops.Mersenne, n, 1)
        with a.at("more dice"):
            second = a.make(ops.Mersenne, n, 2)
        return [a.op("Add", first, second)]

    with pytest.raises(UnsupportedError, match='2 operations of the model .*\n.*"dice".*\n.*"more dice"'):
        OnnxModel(assembled("dice", [Input("x", "f32", ("n",))], read, outputs=["y"]))


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("net.bin", {}, "expected a format of onnx or mindir"),
        ("net.onnx", {"encrypt": b"0" * 16}, "only MindIR"),
        ("none/net.onnx", {}, "cannot write"),
        ("", {"to": "onnx"}, "expected a file to write, got a folder"),
    ],
)
def test_clear_errors(tmp_path: Path, out: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanishError, match=message):
        export(written(network()), tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_and_tells_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from planish.cli import main

    source, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    onnx.save(written(network()), str(source))
    assert main(["export", str(source), "-o", str(out), "--shape", "batch=2"]) == 0
    said = capsys.readouterr().out
    assert "out.onnx" in said and "opset 18" in said
    assert read_model(out).main.params[0].tensor.dims[0] == 2


def agree(a: Any, b: Any) -> bool:
    """Whether two values of any type are equal, numbers nearly."""
    match a:
        case list():
            items = cast("list[Any]", a)
            return len(items) == len(b) and all(map(agree, items, b))
        case dict():
            table = cast("dict[Any, Any]", a)
            return list(table) == list(b) and all(agree(v, b[k]) for k, v in table.items())
        case None:
            return b is None
        case _:
            x, y = np.asarray(a), np.asarray(b)
            if x.dtype.kind in "OUS":
                return x.shape == y.shape and bool(np.all(x == y))
            return x.shape == y.shape and bool(np.allclose(x, y, 1e-5, 1e-6, equal_nan=True))


HOST = [k for k in REGISTRY.values() if issubclass(k, HostOp) and k is not labels.PairProbability]


@pytest.mark.parametrize("kind", HOST, ids=[k.op_name for k in HOST])
def test_operations_that_the_runtime_executes_are_written(kind: type[HostOp]) -> None:
    for op in kind.samples():
        module = module_of(op)
        again = read_model(written(module))
        if not kind.deterministic or any(isinstance(v.type, OptionalType) for v in (*op.inputs, *op.results)):
            continue  # other numbers each time; what an empty optional is in Python
        inputs = {f"x{i}": a for i, a in enumerate(sample_arrays(op))}
        want, got = run_graph(module, inputs), run_graph(again, inputs)
        assert agree(list(want.values()), list(got.values())), op
