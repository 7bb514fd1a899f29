"""Models that are no single program: sizes from data, control flow, values that are no tensors (docs/HOST.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _plans import built, parsed, split

from planish.ir.core import Graph, Module
from planish.ir.interp import run_graph
from planish.ir.plan import Plan, Run
from planish.ir.text import parse_module, print_module
from planish.runtime.errors import ArtifactError

GROW = """
graph @main(%k: i64[1], %trip: i64[]) -> ("o", "s") {
  t.bind(%k) {symbols = ["?i0"]}
  t.check {zero = [], nonnegative = <"?i0",>, message = "the size is negative"} loc("node1")
  %one = constant {value = splat(1.0)} : f32[]
  %x = shape.expand(%one) {shape = <"?i0",>} : f32["?i0"]
  %o, %s = t.loop(limit = %trip, [%x]) {sizes = ["?n2", "?n3"], rounds = ["?n1"]} { (%i: i64[], %c: f32["?n1"])
    %true = constant {value = splat(true)} : bool[]
    %longer = shape.concat(%c, %x) {axis = 0} : f32["?i0" + "?n1"]
    %sum = reduce.sum(%c) {axes = [0], keepdims = false} : f32[]
    yield %true, %longer, %sum
  } : f32["?n2"], f32["?n3"]
  return %o, %s
}
"""
BOUND = """
graph @main(%k: i64[2], %v: f32[]) -> ("y") {
  t.bind(%k) {symbols = ["?n0", "?i1"]}
  t.check {zero = <"?n0" - "?i1",>, nonnegative = [], message = "expected a square"} loc("node2")
  %y = shape.expand(%v) {shape = <"?n0", "?i1">} : f32["?n0","?i1"]
  return %y
}
"""
BRANCH = """
graph @main(%c: bool[], %x: f32[n], %names: string[2], %more: string[2]) -> ("y", "r", "t") {
  %y, %r, %t = t.if(%c) {sizes = ["?n0"]} {
    %a = shape.concat(%x, %x) {axis = 0} : f32[2*n]
    yield %a, %x, %names
  } {
    %b = arith.neg(%x) : f32[n]
    %m = shape.reshape(%x) {shape = <1, n>} : f32[1,n]
    yield %b, %m, %more
  } : f32["?n0"], f32[*], string[2]
  return %y, %r, %t
}
"""
NESTED = """
graph @main(%x: f32[n], %trip: i64[], %limit: f32[]) -> ("y") {
  %one = constant {value = dense([1.0, 2.0])} : f32[2]
  %twice = arith.add(%x, %x) : f32[n]
  %y = t.loop(limit = %trip, [%x]) {sizes = ["?n1"], rounds = ["?n0"]} { (%i: i64[], %c: f32["?n0"])
    %sum = reduce.sum(%c) {axes = [0], keepdims = false} : f32[]
    %small = arith.less(%sum, %limit) : bool[]
    %next = t.if(%small) {sizes = ["?n2"]} {
      %a = shape.concat(%c, %twice) {axis = 0} : f32[n + "?n0"]
      yield %a
    } {
      %b = shape.concat(%c, %one) {axis = 0} : f32["?n0" + 2]
      yield %b
    } : f32["?n2"]
    %true = constant {value = splat(true)} : bool[]
    yield %true, %next
  } : f32["?n1"]
  return %y
}
"""


def check(module: Module, folder: Path, inputs: dict[str, Any], *, opt: int = 3) -> dict[str, Any]:
    """The compiled module's results, which are those of the interpreter."""
    want = run_graph(module, inputs)
    got = built(module, folder, opt).run(inputs)
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
        assert np.asarray(got[name]).dtype == np.asarray(value).dtype
    return got


@pytest.mark.parametrize("opt", [0, 3])
def test_a_loop_carries_values_that_grow(tmp_path: Path, opt: int) -> None:
    got = check(parsed(GROW), tmp_path, {"k": np.array([3]), "trip": np.array(2)}, opt=opt)
    assert got["o"].shape == (9,)
    assert got["s"].tolist() == [3.0, 6.0]


def test_a_loop_of_no_rounds_gives_its_initial_values(tmp_path: Path) -> None:
    got = check(parsed(GROW), tmp_path, {"k": np.array([3]), "trip": np.array(0)})
    assert (got["o"].shape, got["s"].shape) == ((3,), (0,))


def test_a_negative_size_ends_the_run_with_the_nodes_name(tmp_path: Path) -> None:
    model = built(parsed(GROW), tmp_path)
    with pytest.raises(ArtifactError, match="node1.*the size is negative"):
        model.run({"k": np.array([-3]), "trip": np.array(2)})


def test_sizes_from_the_contents_of_an_input_need_no_plan(tmp_path: Path) -> None:
    module = parsed(BOUND)
    graph = split(module, "split-host").functions["main"]
    assert isinstance(graph, Graph)
    assert graph.attributes["bindings"] == ((0, 0, "?n0"), (0, 1, "?i1"))
    model = built(module, tmp_path)
    for size in (4, 1, 0):
        inputs = {"k": np.array([size, size]), "v": np.array(2.5, np.float32)}
        np.testing.assert_array_equal(model.run(inputs)["y"], run_graph(module, inputs)["y"])


@pytest.mark.parametrize(
    ("size", "message"),
    [((2, 3), "node2.*expected a square"), ((-1, -1), "-1"), ((1 << 40, 1 << 40), "too large|memory|overflow")],
)
def test_bad_sizes_from_data_are_errors(tmp_path: Path, size: tuple[int, int], message: str) -> None:
    model = built(parsed(BOUND), tmp_path, 0)
    with pytest.raises(ArtifactError, match=message):
        model.run({"k": np.array(size), "v": np.array(1, np.float32)})


@pytest.mark.parametrize("condition", [True, False])
def test_branches_may_differ_in_shape_and_rank(tmp_path: Path, condition: bool) -> None:
    names, more = (np.array(t, object) for t in (["a", "bc"], ["", "d\u00e9"]))
    inputs = {"c": np.array(condition), "x": np.arange(3, dtype=np.float32), "names": names, "more": more}
    got = check(parsed(BRANCH), tmp_path, inputs)
    assert got["r"].shape == ((3,) if condition else (1, 3))


@pytest.mark.parametrize("opt", [0, 3])
def test_nested_control_flow_sees_values_and_symbols_around_it(tmp_path: Path, opt: int) -> None:
    inputs = {"x": np.array([1, 2, 3], np.float32), "trip": np.array(4), "limit": np.array(25, np.float32)}
    assert check(parsed(NESTED), tmp_path, inputs, opt=opt)["y"].size == 3 + 2 * 3 + 2 * 2


def test_a_plan_is_printed_and_read_back_without_loss() -> None:
    for text in (GROW, BRANCH, NESTED):
        for passes in ("split-host", "O3"):
            module = split(parsed(text), passes)
            assert isinstance(module.functions["main"], Plan)
            printed = print_module(module)
            assert print_module(parse_module(printed)) == printed


def test_equal_islands_are_compiled_once() -> None:
    text = """
graph @main(%c: bool[], %x: f32[n], %y: f32[m]) -> ("a", "b") {
  %a, %b = t.if(%c) {sizes = []} {
    %p = arith.neg(%x) : f32[n]
    yield %p, %y
  } {
    %q = arith.neg(%y) : f32[m]
    yield %x, %q
  } : f32[n], f32[m]
  return %a, %b
}
"""
    renamed = text.replace("[m]", '["?n7"]').replace("[n]", '["?n8"]')
    assert len(split(parsed(renamed), "split-host").islands) == 1
    assert len(split(parsed(text), "split-host").islands) == 2  # users see the names of their symbols


def test_operations_of_one_level_are_one_island() -> None:
    module = split(parsed(NESTED), "split-host")
    plan = module.functions["main"]
    runs = [op for op in plan.walk() if isinstance(op, Run)]
    assert len(runs) == len(module.islands) == 4  # twice, sum and comparison, one for each branch


def test_a_bind_that_nothing_uses_makes_no_plan() -> None:
    text = """
graph @main(%x: i64[2]) -> ("y") {
  %twice = arith.add(%x, %x) : i64[2]
  t.bind(%twice) {symbols = ["?i0", "?i1"]}
  %y = arith.neg(%x) : i64[2]
  return %y
}
"""
    graph = split(parsed(text), "split-host").functions["main"]
    assert isinstance(graph, Graph)
    assert [op.text_name for op in graph.body] == ["arith.neg", "return"]
