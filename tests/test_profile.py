"""`planish bench --profile`: costs of kernels, marks in the program, the roofline, the rows and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_models import info, make, node

from planish.codegen.llvm.program import StageRef, emit_program, profile_points
from planish.codegen.llvm.roofline import Roofline, measure_roofline
from planish.codegen.llvm.target import target_for
from planish.compile import compile_file
from planish.ir.expr import as_expr
from planish.ir.program import Program
from planish.ir.text import parse_module
from planish.passes.analysis.cost import KernelCost, kernel_cost
from planish.profile import Profile, Row, profile_model
from planish.runtime import load

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx"

CONV = """
kernel @k(%x: f32[1,8,N,N], %w: f32[16,8,3,3]) -> (%y: f32[1,16,N - 2,N - 2]) {
  k.map <o: 16, h: N - 2, w: N - 2> {
    %0 = k.const {value = 0.0, dtype = "f32"} : f32
    %1 = k.reduce(%0) <c: 8, i: 3, j: 3> {
      %2 = k.read(%x) <0, c, h + i, j + w> : f32
      %3 = k.read(%w) <o, c, i, j> : f32
      %4 = scalar.mul(%2, %3) : f32
      yield %4
    } { (%2: f32, %3: f32)
      %4 = scalar.add(%2, %3) : f32
      yield %4
    } : f32
    k.write(%1, %y) <0, o, h, w>
  }
}
"""
GATHER = """
kernel @k(%table: f32[1000,4], %index: i64[3], %x: f32[8]) -> (%y: f32[3,4], %z: f32[2]) {
  k.map <n: 3, c: 4> {
    %0 = k.read(%index) <n> : i64
    %1 = k.read(%table, indices = [%0]) <$0, c> : f32
    %2 = scalar.exp(%1) : f32
    k.write(%2, %y) <n, c>
  }
  k.map <s: 2> {
    %0 = k.read(%x) <4*s> : f32
    k.write(%0, %z) <s>
  }
}
"""
PROGRAM = """
kernel @k(%x: f32[4]) -> (%y: f32[4]) {
  k.map <i: 4> {
    %0 = k.read(%x) <i> : f32
    k.write(%0, %y) <i>
  }
}
program @program() attributes {arena_bytes = 0, weights_bytes = 0, inputs = [], outputs = []} {
  %x = p.input {index = 0, label = "x"} : f32[4]
  %y = p.output {index = 0, label = "y"} : f32[4]
  p.call(%x, %y) {kernel = "k", label = "Identity"} loc("first")
  p.call(%x, %y) {kernel = "k"} loc("second")
}
"""


def cost(text: str, **symbols: int) -> KernelCost:
    return kernel_cost(parse_module(text).functions["k"], symbols)


def test_a_contraction_counts_two_flops_per_point_and_every_byte_once() -> None:
    found = cost(CONV, N=10)
    assert found.flops == 2 * 16 * 8 * 8 * 8 * 9
    assert found.reads == (8 * 10 * 10 * 4, 16 * 8 * 9 * 4, 0)
    assert found.writes == (0, 0, 16 * 8 * 8 * 4)


def test_a_gather_touches_as_many_elements_as_it_reads() -> None:
    found = cost(GATHER)
    assert found.reads[:2] == (12 * 4, 3 * 8)
    assert found.reads[2] == 2 * 4, "a stride skips elements"
    assert found.writes[3:] == (12 * 4, 2 * 4)
    assert found.flops > 12, "exp is a polynomial"


def test_one_stage_can_be_asked_for() -> None:
    kernel = parse_module(GATHER).functions["k"]
    whole, parts = kernel_cost(kernel, {}), [kernel_cost(kernel, {}, stage) for stage in (0, 1)]
    assert sum(p.flops for p in parts) == whole.flops
    assert parts[1].reads == (0, 0, 8, 0, 0)


def test_marks_follow_every_stage_and_an_ordinary_build_has_none() -> None:
    program = parse_module(PROGRAM).functions["program"]
    assert isinstance(program, Program)
    stages = {"k": [StageRef("pk_a", as_expr(4), 4), StageRef("pk_b", as_expr(4), 1)]}
    plain, marked = (
        emit_program(program, stages, target_for("x86-64-v3"), manifest=b"", features=[], profile=on)
        for on in (False, True)
    )
    assert "planish_profile" not in plain
    assert [c.loc for c, _ in profile_points(program, stages)] == ["first", "first", "second", "second"]
    lines = [line.strip() for line in marked.splitlines() if "planish_profile" in line]
    assert lines[1:] == [f"call void @planish_profile(ptr %env, i32 {n})" for n in range(5)]
    kept = [line for line in marked.splitlines() if "planish_profile" not in line]
    assert kept == plain.splitlines(), "nothing else changes"


def test_the_bandwidth_is_that_of_the_nearest_level_that_holds_the_data() -> None:
    roofline = Roofline(1, 1e11, ((1000, 3e9), (10_000, 2e9), (0, 1e9)))
    assert [roofline.bandwidth(n) for n in (10, 1000, 1001, 10_001)] == [3e9, 3e9, 2e9, 1e9]


def test_the_measured_roofline_is_plausible_and_cached(cache_folder: Path) -> None:
    target = target_for("x86-64-v3")
    first = measure_roofline(target, 1)
    assert 1e9 < first.flops < 1e12
    assert all(1e8 < rate < 1e12 for _, rate in first.levels)
    assert measure_roofline(target, 1) == first


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_rows_are_added_up_by_operators() -> None:
    rows = [
        Row("a", "Conv", "k0", 1, 3.0, 10, 100, 1.0, "compute"),
        Row("b", "Relu", "k1", 1, 1.0, 0, 50, 0.5, "memory"),
        Row("c", "Conv", "k0", 1, 2.0, 20, 100, 4.0, "memory"),
    ]
    conv, relu = Profile(rows, 7.0, 9, Roofline(1, 1e9, ((0, 1e9),))).by_label()
    assert (conv.node, conv.calls, conv.ms, conv.flops, conv.bytes, conv.bound) == (
        "2 calls", 2, 5.0, 30, 200, "memory",
    )  # fmt: skip
    assert relu.node == "b"
    facts = rows[0].facts(6.0)
    assert (facts["percent"], facts["roofline_percent"], facts["gbytes"]) == (50.0, 33.333, 3.3333e-5)


def test_a_profile_names_the_nodes_and_adds_up_to_the_run() -> None:
    found = profile_model(DIGITS, threads=1, runs=5, inputs={}, say=lambda text: None)
    assert found.runs == 5
    assert all(row.ms > 0 and row.calls == 1 and row.label for row in found.rows)
    assert found.total_ms > 0 and found.sum_ms == pytest.approx(sum(row.ms for row in found.rows))
    assert sum(row.flops for row in found.rows) > 0


def test_shapes_that_the_inputs_decide_count_in_the_costs(tmp_path: Path) -> None:
    model = make([node("MatMul", ["x", "w"])], {"x": info("x", ["N", 8])}, constants={"w": np.ones((8, 4), np.float32)})
    file = tmp_path / "net.onnx"
    file.write_bytes(model.SerializeToString())
    for rows in (3, 50):
        inputs = {"x": np.ones((rows, 8), np.float32)}
        found = profile_model(file, threads=1, runs=1, inputs=inputs, say=lambda text: None)
        assert sum(row.flops for row in found.rows) == 2 * rows * 8 * 4
        assert sum(row.bytes for row in found.rows) >= 4 * (rows * 8 + 8 * 4 + rows * 4)


def test_an_ordinary_library_records_no_profile(tmp_path: Path) -> None:
    compile_file(DIGITS, tmp_path / "net.so")
    with load(tmp_path / "net.so") as model:
        binding = model.bind({p.name: np.zeros([int(d) for d in p.shape or ()], np.float32) for p in model.inputs})
        binding.run()
        assert binding.profile() == []


def planish(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "planish", *map(str, words)], capture_output=True, text=True)


def test_the_command_prints_tables_and_json() -> None:
    done = planish("bench", DIGITS, "--profile", "--threads", 1, "--runs", 3, "--top", 1)
    assert done.returncode == 0, done.stderr
    assert "by operators" in done.stdout and "by call" in done.stdout and "more calls" in done.stdout
    done = planish("bench", DIGITS, "--profile", "--threads", 1, "--runs", 3, "--json")
    facts = json.loads(done.stdout)
    assert {"total_ms", "sum_ms", "limit_ms", "roofline", "groups", "calls"} <= set(facts)
    assert {"node", "label", "ms", "gflops", "gbytes", "roofline_percent", "bound"} <= set(facts["calls"][0])
    assert sum(call["percent"] for call in facts["calls"]) == pytest.approx(100, abs=0.1)


def test_what_cannot_be_profiled_says_why(tmp_path: Path) -> None:
    compile_file(DIGITS, tmp_path / "net.so")
    done = planish("bench", tmp_path / "net.so", "--profile")
    assert done.returncode == 1
    assert "--profile needs the model" in done.stderr
    assert "leave out --against" in planish("bench", DIGITS, "--profile", "--against", "onnxruntime").stderr
