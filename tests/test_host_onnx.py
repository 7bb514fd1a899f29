"""ONNX models with sizes, control flow and values that only a run knows, against ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import planish
from planish.runtime import Model
from planish.runtime.errors import ArtifactError

F32, I64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 4


def value(name: str, type: int, shape: Sequence[int | str] | None = None) -> onnx.ValueInfoProto:
    """A tensor of a graph's interface."""
    return helper.make_tensor_value_info(name, type, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: Any,
) -> onnx.ModelProto:
    """A model; `constants` are initializers."""
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def agree(got: Any, want: Any) -> None:
    """Equal values of any kind."""
    if isinstance(want, list):
        for one, other in zip(got, cast("list[Any]", want), strict=True):
            agree(one, other)
        return
    want = np.asarray(want)
    if want.dtype.kind in "OUS":
        np.testing.assert_array_equal(np.asarray(got, object), want.astype(object))
        return
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)


def check(proto: onnx.ModelProto, *feeds: dict[str, Any]) -> Model:
    """Compile once, run on all `feeds` one after the other, compare."""
    compiled = planish.compile(proto)
    reference = ReferenceEvaluator(proto)
    for feed in feeds:
        got = compiled.run(feed)
        for one, other in zip(got.values(), reference.run(None, feed), strict=True):
            agree(one, other)
    return compiled


def test_the_number_of_nonzero_elements_is_a_size() -> None:
    nodes = [
        helper.make_node("Greater", ["x", "least"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["found"]),
        helper.make_node("Transpose", ["found"], ["places"]),
        helper.make_node("GatherND", ["x", "places"], ["chosen"]),
        helper.make_node("Mul", ["chosen", "chosen"], ["y"]),
    ]
    proto = model(nodes, [value("x", F32, ["a", "b"])], [value("y", F32)], least=np.float32(2))
    check(proto, {"x": X}, {"x": X * 0}, {"x": X[:1] + 9})


def test_outputs_of_a_plan_take_the_shape_of_each_run() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Expand", ["x", "shape"], ["y"])]
    outputs = [value("places", I64), value("y", F32)]
    proto = model(nodes, [value("x", F32, ["a", "b"])], outputs, shape=np.array([2, 1, 1]))
    check(proto, {"x": X}, {"x": X[:2]}, {"x": X[:, :1]}, {"x": X})


def test_a_shape_may_be_computed_from_data() -> None:
    nodes = [
        helper.make_node("Cast", ["n"], ["whole"], to=I64),
        helper.make_node("Mul", ["whole", "whole"], ["square"]),
        helper.make_node("Unsqueeze", ["square", "zero"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["z"], value=numpy_helper.from_array(np.array([2], np.float32))),
        helper.make_node("Concat", ["z", "z"], ["y"], axis=0),
    ]
    proto = model(nodes, [value("n", F32, [])], [value("y", F32)], zero=np.array([0]))
    compiled = check(proto, *({"n": np.array(n, np.float32)} for n in (3, 0, 1)))
    with pytest.raises(ArtifactError, match=r"memory|too large|exceed|bytes"):
        compiled.run({"n": np.array(2e9, np.float32)})


def test_the_shape_of_a_reshape_may_be_an_input() -> None:
    proto = model(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        [value("x", F32, ["a", "b"]), value("s", I64, [2])],
        [value("y", F32)],
    )
    compiled = check(proto, *({"x": X, "s": np.array(s)} for s in ([6, 2], [-1, 3], [0, 4], [12, 1])))
    with pytest.raises(ArtifactError, match="do not fit"):
        compiled.run({"x": X, "s": np.array([5, 2])})


def branches() -> list[onnx.NodeProto]:
    """An `If` whose branches give different shapes, inside of which another one stands."""
    twice = helper.make_graph([helper.make_node("Concat", ["x", "x"], ["p"], axis=0)], "p", [], [value("p", F32)])
    more = helper.make_graph([helper.make_node("Concat", ["x", "w"], ["q"], axis=0)], "q", [], [value("q", F32)])
    inner = helper.make_node("If", ["c"], ["twice"], then_branch=twice, else_branch=more)
    then = helper.make_graph([inner, helper.make_node("Exp", ["twice"], ["a"])], "t", [], [value("a", F32)])
    otherwise = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "e", [], [value("b", F32)])
    return [
        helper.make_node("If", ["d"], ["y"], then_branch=then, else_branch=otherwise),
        helper.make_node("MatMul", ["y", "m"], ["z"]),
    ]


def test_branches_may_give_different_shapes() -> None:
    proto = model(
        branches(),
        [value("c", BOOL, []), value("d", BOOL, []), value("x", F32, ["n", 4])],
        [value("z", F32)],
        w=np.ones((2, 4), np.float32),
        m=np.arange(8, dtype=np.float32).reshape(4, 2) / 8,
    )
    flags = [(True, True), (True, False), (False, True), (False, False)]
    check(proto, *({"c": np.array(c), "d": np.array(d), "x": X / 4} for c, d in flags))


def test_a_loop_may_carry_a_value_that_grows() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["old", "one"], ["new"], axis=0),
            helper.make_node("ReduceSum", ["new"], ["sum"], keepdims=1),
            helper.make_node("Less", ["sum", "most"], ["small"]),
            helper.make_node("Squeeze", ["small"], ["on"]),
        ],
        "b",
        [value("i", I64, []), value("go", BOOL, []), value("old", F32)],
        [value("on", BOOL), value("new", F32), value("sum", F32)],
    )
    proto = model(
        [helper.make_node("Loop", ["trips", "start", "x"], ["y", "sums"], body=body)],
        [value("trips", I64, []), value("start", BOOL, []), value("x", F32, ["n"]), value("most", F32, [])],
        [value("y", F32), value("sums", F32)],
        one=np.array([1.5], np.float32),
    )
    rounds = [(3, 100.0), (9, 11.0), (1, -1.0)]
    check(
        proto,
        *(
            {"trips": np.array(t), "start": np.array(True), "x": X[2], "most": np.array(m, np.float32)}
            for t, m in rounds
        ),
    )


def test_strings_pass_through() -> None:
    proto = model([helper.make_node("Identity", ["x"], ["y"])], [value("x", STRING, ["n"])], [value("y", STRING)])
    check(proto, {"x": np.array(["a", "", "d\u00e9j\u00e0"], object)}, {"x": np.array([], object)})


def test_numbers_and_strings_become_each_other() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["text"], to=STRING),
        helper.make_node("Cast", ["text"], ["back"], to=F32),
        helper.make_node("Cast", ["s"], ["n"], to=I64),
    ]
    outputs = [value("text", STRING), value("back", F32), value("n", I64)]
    proto = model(nodes, [value("x", F32, ["n"]), value("s", STRING, [2])], outputs)
    check(proto, {"x": np.array([1.5, -2, 0], np.float32), "s": np.array(["12", "-7"], object)})


def test_sequences_are_lists() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "y"], ["s"]),
        helper.make_node("SequenceAt", ["s", "i"], ["z"]),
        helper.make_node("Exp", ["z"], ["e"]),
        helper.make_node("SequenceInsert", ["s", "e"], ["t"]),
    ]
    outputs = [value("e", F32), helper.make_tensor_sequence_value_info("t", F32, None)]
    proto = model(nodes, [value("x", F32, ["n"]), value("y", F32, ["m"]), value("i", I64, [])], outputs)
    check(proto, *({"x": X[0], "y": X[1][:2], "i": np.array(i)} for i in (0, 1)))
