"""MindIR files that planish writes, read back; tests/test_export_mindspore.py loads them in MindSpore itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from _exported import difference, module_of
from _networks import NAMES, network, network_inputs
from _samples import sample_arrays, tensor_ops

from planish.exporting import export, write_mindir
from planish.frontend import Reading, read_model
from planish.frontend.assembly import Assembly, Input, assembled
from planish.ir.constants import ConstantData
from planish.ir.core import Module
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph
from planish.ir.ops.base import TensorOp
from planish.ir.ops.number import Number
from planish.ir.state import states_of
from planish.writers.mindir import MindirModel

# What MindIR, or MindSpore on a CPU, has no primitive for.
UNWRITABLE = {
    "arith.bitcast", "arith.from_float8", "arith.to_float8", "nn.deform_sample",
}  # fmt: skip
# Written, but not read by planish.
UNREAD = {"linalg.det"}
# Samples with NaN among the smallest: negated for MindSpore's TopK they are the largest.
DIFFERENT = {("reduce.top_k", 1), ("reduce.top_k", 4)}


def again(module: Module) -> Module:
    """The module written and read back."""
    return read_model(MindirModel(module).message().bytes())


@pytest.mark.parametrize("kind", tensor_ops(), ids=[kind.op_name for kind in tensor_ops()])
def test_every_operation_is_written_and_read_back_as_the_same_function(kind: type[TensorOp]) -> None:
    written = 0
    for number, op in enumerate(kind.samples()):
        module = module_of(op)
        inputs = {f"x{i}": a for i, a in enumerate(sample_arrays(op))}
        try:
            model = MindirModel(module)
        except UnsupportedError:
            continue
        written += 1
        if kind.op_name in UNREAD or (kind.op_name, number) in DIFFERENT:
            continue
        got = run_graph(read_model(model.message().bytes()), inputs)
        want = run_graph(module, inputs)
        # MindSpore computes means and normalisations of f64 in f32.
        factor = 1e7 if "f64" in str(op) else 16
        assert not difference(dict(zip(want, got.values(), strict=True)), want, factor), op
    assert (written == 0) == (kind.op_name in UNWRITABLE)


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_read_back_as_the_same_function(name: str) -> None:
    module, inputs = network(name), network_inputs(name)
    want = run_graph(module, inputs)
    got = run_graph(again(module), inputs)
    assert not difference(dict(zip(want, got.values(), strict=True)), want, 2000 if name == "halves" else 64)


def test_inputs_weights_and_nodes_keep_their_names(tmp_path: Path) -> None:
    def read(a: Assembly) -> list[Any]:
        with a.at("head/product"):
            return [a.op("MatMul", a.input("x:1"), a.constant(np.ones((4, 2), np.float32), "head.weight"))]

    module = assembled("named", [Input("x:1", "f32", (3, 4))], read, outputs=["y"])
    back = again(module)
    assert [p.name for p in back.main.params] == ["x:1"]
    assert {op.loc for op in back.main.body if op.op_name == "linalg.matmul"} == {"Default/head/product"}
    data = MindirModel(module).message().bytes()
    assert b"head.weight" in data


def test_sizes_that_only_the_run_knows_are_computed_from_shapes() -> None:
    def read(a: Assembly) -> list[Any]:
        n, m = a.shape(a.input("x"))
        flat = a.op("Reshape", a.input("x"), a.sizes([n * m]))
        wide = a.op("Expand", flat, a.sizes([n + 2, n * m]))
        return [wide, a.make(Number, (n * m + 1) // 2)]

    module = assembled("sizes", [Input("x", "f32", ("n", "m"))], read, outputs=["a", "b"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    want = run_graph(module, {"x": x})
    got = run_graph(again(module), {"x": x})
    assert not difference(dict(zip(want, got.values(), strict=True)), want)


def test_everything_that_cannot_be_written_is_listed_together() -> None:
    def read(a: Assembly) -> list[Any]:
        with a.at("first"):
            x = a.op("Cast", a.input("x"), to=17)
        return [x, a.op("NonZero", a.input("x"))]

    module = assembled("two", [Input("x", "f32", (2,))], read, outputs=["a", "b"])
    with pytest.raises(UnsupportedError, match='2 operations of the model .*\n.*"first".*\n.*host.nonzero'):
        MindirModel(module)


def test_encrypted_files_need_their_key(tmp_path: Path) -> None:
    out, key = tmp_path / "net.mindir", b"0123456789abcdef"
    write_mindir(network("lenet"), out, key)
    assert out.read_bytes()[:4] == bytes.fromhex("d85e3a7f")
    inputs = network_inputs("lenet")
    got = run_graph(read_model(out, reading=Reading(key=key)), inputs)
    want = run_graph(network("lenet"), inputs)
    assert not difference(dict(zip(want, got.values(), strict=True)), want, 64)


def test_export_of_a_file_of_another_format(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.mindir", "b.onnx", "c.mindir"))
    write_mindir(network("residual"), first)
    export(first, second)
    export(second, third)
    inputs = network_inputs("residual")
    want = run_graph(network("residual"), inputs)
    got = run_graph(read_model(third), inputs)
    assert not difference(dict(zip(want, got.values(), strict=True)), want, 64)


def test_bytes_depend_on_the_model_alone() -> None:
    one, two = (MindirModel(network("attention")).message() for _ in range(2))
    assert one.bytes() == two.bytes()
    assert len(one.bytes()) == one.size


def test_large_constants_are_parameters_and_small_ones_nodes() -> None:
    def read(a: Assembly) -> list[Any]:
        big = a.constant(ConstantData.of(np.ones(100, np.int64)), "ids")
        return [a.op("Add", a.op("Mul", a.input("x"), big), np.array(3))]

    module = assembled("c", [Input("x", "i64", (100,))], read, outputs=["y"])
    model = MindirModel(module)
    assert [key for _, _, key in model.net.file.parameters] == ["ids"]


def test_parameters_in_a_file_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "net.mindir"
    report = write_mindir(network("lenet"), out, external=True)
    data = tmp_path / "net_variables" / "data_0"
    assert report.files == {str(out): out.stat().st_size, str(data): data.stat().st_size}
    assert data.read_bytes()[:64] == bytes([1]).ljust(64, b"\0")
    inputs = network_inputs("lenet")
    want, got = run_graph(network("lenet"), inputs), run_graph(read_model(out), inputs)
    assert not difference(dict(zip(want, got.values(), strict=True)), want, 64)


CONTROL = """<ir_version: 8, opset_import: ["" : 18]>
g (float[3] x, bool flag, int64 rounds) => (float[3] y, float[3] total, float[4, 3] steps) <float[1] half = {0.5}> {
  y = If (flag) <then_branch = t () => (float[3] r) { r = Add (x, half) },
                 else_branch = e () => (float[3] s) { s = Mul (x, half) }>
  total = Loop (rounds, flag, x) <body = b (int64 i, bool on, float[3] v) => (bool go, float[3] u) {
    limit = Constant <value = float {9.0}> ()
    u = Add (v, y) sum = ReduceSum <keepdims = 0> (u) go = Less (sum, limit) }>
  four = Constant <value = int64 {4}> ()
  last, steps = Loop (four, , x) <body = c (int64 j, bool had, float[3] w) => (bool more, float[3] next, float[3] row) {
    more = Identity (had) next = Add (w, half) row = Mul (next, y) }>
}"""


def test_choices_and_loops_over_data() -> None:
    module = read_model(onnx.parser.parse_model(CONTROL))
    back = again(module)
    for flag, rounds in ((True, 5), (True, 2), (False, 2), (True, 0)):
        inputs = {"x": np.arange(3, dtype=np.float32), "flag": np.array(flag), "rounds": np.array(rounds)}
        want = run_graph(module, inputs)
        got = run_graph(back, inputs)
        assert not difference(dict(zip(want, got.values(), strict=True)), want), inputs


def test_states_are_parameters_that_are_assigned() -> None:
    def read(a: Assembly) -> list[Any]:
        total = a.op("Add", a.state("total", ConstantData.of(np.ones(2, np.float32))), a.input("x"))
        a.assign("total", total)
        return [a.op("Neg", total)]

    module = assembled("sum", [Input("x", "f32", (2,))], read, outputs=["y"])
    back = again(module)
    (state,) = states_of(back)
    assert state.initial.array().tolist() == [1, 1]
    x = np.array([1, 2], np.float32)
    found = run_graph(back, {"x": x, state.input: np.array([5, 5], np.float32)})
    assert [v.tolist() for v in found.values()] == [[-6, -7], [6, 7]]
