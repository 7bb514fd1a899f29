"""Graphs that frontends build from ONNX's operators as functions (`planish.frontend.assembly`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from planish.frontend.assembly import Assembly, Input, Item, Unsupported, assembled
from planish.ir.assume import require_nonnegative
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.ir.expr import as_expr
from planish.ir.interp import run_graph
from planish.ir.ops.arith import Add
from planish.ir.text import print_module
from planish.ir.verifier import verify


def test_operators_build_a_graph_that_computes_them() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)

    def read(a: Assembly) -> list[Item]:
        with a.at("fc"):
            y = a.op("MatMul", a.input("x"), a.constant(weight, "w"))
        return [a.make(Add, y, a.like(1.0, y))]

    module = assembled("net", [Input("x", "f32", ("batch", 2))], read, outputs=["y"])
    verify(module)
    x = np.array([[1, 2]], np.float32)
    np.testing.assert_array_equal(run_graph(module, {"x": x})["y"], x @ weight + 1)
    assert "f32[batch,2]" in print_module(module)


def test_sizes_are_followed_through_the_graph() -> None:
    def read(a: Assembly) -> list[Item]:
        x = a.input("x")
        batch, columns = a.shape(x)
        return [a.op("Reshape", a.op("Reshape", x, [columns, batch]), a.op("Shape", x))]

    module = assembled("net", [Input("x", "f32", ("n", 4))], read, outputs=["y"])
    assert str(module.main.results[0].type) == "f32[n,4]"


def test_dimensions_that_must_be_equal_are_so_in_the_inputs() -> None:
    def read(a: Assembly) -> list[Item]:
        return [a.op("MatMul", a.input("x"), a.input("y"))]

    inputs = [Input("x", "f32", ("n", "k")), Input("y", "f32", (3, 4))]
    module = assembled("net", inputs, read, outputs=["z"])
    assert str(module.main.params[0].type) == "f32[n,3]"


def test_what_must_hold_of_sizes_is_checked_when_the_model_runs() -> None:
    def read(a: Assembly) -> list[Item]:
        (count,) = a.dims(a.input("n"))
        require_nonnegative(as_expr(4) - count)
        return [a.input("n")]

    module = assembled("net", [Input("n", "i64", (1,))], read, outputs=["m"])
    assert run_graph(module, {"n": np.array([3])})["m"] == 3
    with pytest.raises(PlanishError, match="do not fit"):
        run_graph(module, {"n": np.array([5])})


def test_a_branch_and_a_loop_over_data() -> None:
    def read(a: Assembly) -> list[Item]:
        x, n = a.input("x"), a.input("n")
        two = a.like(2.0, x)  # a constant that is used inside of regions and outside

        def body(round: Item, values: list[Item]) -> tuple[Item, Sequence[Item]]:
            return a.op("Less", a.op("ReduceSum", values[0], keepdims=0), a.scalar(100.0, "f32")), [
                a.op("Mul", values[0], two)
            ]

        (grown,) = a.loop([x], body, limit=n)
        big = a.op("Greater", a.op("ReduceSum", grown, keepdims=0), a.scalar(50.0, "f32"))
        (result,) = a.choose(big, lambda: [a.op("Add", grown, two)], lambda: [a.op("Sub", grown, two)])
        return [result, a.op("Mul", x, two)]

    module = assembled("net", [Input("x", "f32", (2,)), Input("n", "i64", ())], read, outputs=["y", "z"])
    verify(module)
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(run_graph(module, {"x": x, "n": np.array(2)})["y"], x * 4 - 2)
    np.testing.assert_array_equal(run_graph(module, {"x": x, "n": np.array(9)})["y"], x * 128 + 2)


def test_a_state_is_one_more_input_and_output() -> None:
    def read(a: Assembly) -> list[Item]:
        from planish.ir.constants import ConstantData

        count = a.state("count", ConstantData.of(np.zeros(1, np.float32)))
        a.assign("count", a.op("Add", count, a.like(1.0, count)))
        return [a.op("Add", a.input("x"), a.state("count", ConstantData.of(np.zeros(1, np.float32))))]

    module = assembled("net", [Input("x", "f32", (3,))], read, outputs=["y"])
    assert [p.name for p in module.main.params] == ["x", "count"]
    assert module.main.result_names == ["y", "count.next"]
    assert [(s.input, s.output) for s in module.attributes["states"]] == [("count", "count.next")]


def test_problems_name_the_node_and_are_listed_together() -> None:
    def read(a: Assembly) -> list[Item]:
        for node in ("one", "two"):
            with a.at(node):
                try:
                    a.op("ImageDecoder", a.input("x"))
                except Unsupported as e:
                    a.refuse(node, "Decode", e)
        return [a.input("x")]

    with pytest.raises(UnsupportedError, match="net: 2 nodes cannot be compiled: Decode \\(2\\)"):
        assembled("net", [Input("x", "u8", (3,))], read, outputs=["y"])

    def wrong(a: Assembly) -> list[Item]:
        with a.at("fc/matmul"):
            return [a.op("MatMul", a.input("x"), a.input("x"))]

    with pytest.raises(ModelError, match='net: node "fc/matmul" \\(MatMul\\)'):
        assembled("net", [Input("x", "f32", (2, 3))], wrong, outputs=["y"])
