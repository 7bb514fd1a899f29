"""Functions of models and bodies of control flow, inlined at import: results, names, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, TensorProto, helper

from planish.frontend.onnx import read_onnx
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.interp import run_graph
from planish.ir.ops.host import Loop

OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]


def function(name: str, nodes: list[Any], inputs: list[str], outputs: list[str], **more: Any) -> FunctionProto:
    return helper.make_function("own", name, inputs, outputs, nodes, OPSETS, **more)


def model(nodes: list[Any], functions: list[FunctionProto], shape: list[int] | None = None) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or [3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=10)


def adding() -> onnx.GraphProto:
    """The body of a loop that adds `x`, a name around it, in every round."""
    infos = {
        name: helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in [
            ("i", TensorProto.INT64, []),
            ("go", TensorProto.BOOL, []),
            ("state", TensorProto.FLOAT, [3]),
            ("on", TensorProto.BOOL, []),
            ("next", TensorProto.FLOAT, [3]),
        ]
    }
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["state", "x"], ["next"])]
    inputs, outputs = [infos[n] for n in ("i", "go", "state")], [infos[n] for n in ("on", "next")]
    return helper.make_graph(nodes, "body", inputs, outputs)


def run(m: onnx.ModelProto, **inputs: Any) -> Any:
    return run_graph(read_onnx(m), inputs)["y"]


def test_a_function_with_an_attribute_and_an_absent_input() -> None:
    leak = helper.make_node("LeakyRelu", ["a"], ["b"])
    leak.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    clip = helper.make_node("Clip", ["b", "low"], ["c"])
    f = function("F", [leak, clip], ["a", "low"], ["c"], attributes=["slope"])
    m = model([helper.make_node("F", ["x"], ["y"], domain="own", slope=0.5)], [f])
    x = np.array([-2, 0, 3], np.float32)
    assert np.array_equal(run(m, x=x), np.where(x < 0, x * 0.5, x))


def test_functions_that_call_functions_do_not_mix_their_names() -> None:
    inner = function("Inner", [helper.make_node("Add", ["a", "a"], ["t"])], ["a"], ["t"])
    body = [helper.make_node("Inner", ["t"], ["u"], domain="own"), helper.make_node("Mul", ["t", "u"], ["v"])]
    outer = function("Outer", body, ["t"], ["v"])
    m = model([helper.make_node("Outer", ["x"], ["y"], domain="own")], [inner, outer])
    assert np.array_equal(run(m, x=np.array([1, 2, 3], np.float32)), [2, 8, 18])


def test_a_bomb_of_functions_is_refused_before_it_is_expanded() -> None:
    functions = [function("F0", [helper.make_node("Add", ["a", "a"], ["b"])], ["a"], ["b"])]
    for i in range(1, 40):
        calls = [helper.make_node(f"F{i - 1}", ["a"], [f"b{k}"], domain="own") for k in range(4)]
        functions.append(function(f"F{i}", calls, ["a"], ["b3"]))
    with pytest.raises(ModelError, match="expand to more than"):
        read_onnx(model([helper.make_node("F39", ["x"], ["y"], domain="own")], functions))


def test_a_function_that_calls_itself_is_refused() -> None:
    f = function("F", [helper.make_node("F", ["a"], ["b"], domain="own")], ["a"], ["b"])
    with pytest.raises(ModelError, match="calls itself"):
        read_onnx(model([helper.make_node("F", ["x"], ["y"], domain="own")], [f]))


def test_what_a_function_lacks_is_said_with_the_call() -> None:
    f = function("F", [helper.make_node("Foo", ["a"], ["b"])], ["a"], ["b"])
    with pytest.raises(UnsupportedError, match="its definition needs Foo: the operator is not supported"):
        read_onnx(model([helper.make_node("F", ["x"], ["y"], domain="own")], [f]))


def test_a_loop_of_known_length_is_unrolled_and_sees_names_around_it() -> None:
    count = helper.make_node("Constant", [], ["n"], value_int=3)
    m = model([count, helper.make_node("Loop", ["n", "", "x"], ["y"], body=adding())], [])
    x = np.array([1, 2, 3], np.float32)
    assert np.array_equal(run(m, x=x), 4 * x)


def test_a_loop_of_unknown_course_stays_a_loop() -> None:
    m = model([helper.make_node("Loop", ["", "", "x"], ["y"], body=adding())], [])  # endless: a time limit ends the run
    assert [op.limit for op in read_onnx(m).main.walk() if isinstance(op, Loop)] == [None]


def test_rounds_and_shapes_may_be_data() -> None:
    one: list[int] = []
    count, i, c = (
        helper.make_tensor_value_info(n, t, one)
        for n, t in (("count", TensorProto.INT64), ("i", TensorProto.INT64), ("c", TensorProto.BOOL))
    )
    y, v = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "v"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    c2, v2 = helper.make_tensor_value_info("c2", TensorProto.BOOL, []), helper.make_tensor_value_info("v2", 1, None)
    steps = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Concat", ["v", "v"], ["v2"], axis=0)]
    body = helper.make_graph(steps, "body", [i, c, v], [c2, v2])
    graph = helper.make_graph([helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)], "g", [count, x], [y])
    module = read_onnx(helper.make_model(graph, opset_imports=OPSETS, ir_version=10))
    for rounds in (0, 1, 3):
        found = run_graph(module, {"count": np.array(rounds), "x": np.ones(1, np.float32)})["y"]
        assert found.shape == (2**rounds,)


def test_a_declared_shape_holds_the_data_to_it() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    s = helper.make_tensor_value_info("s", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["y"])], "g", [x, s], [y])
    module = read_onnx(helper.make_model(graph, opset_imports=OPSETS, ir_version=10))
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in ([6], [-1]):
        assert run_graph(module, {"x": data, "s": np.array(shape)})["y"].shape == (6,)
    with pytest.raises(Exception, match="does not have the shape that the model declares"):
        run_graph(module, {"x": data, "s": np.array([5])})
