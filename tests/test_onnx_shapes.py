"""Shapes computed in the graph become attributes; symbolic dimensions stay symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import agree, info, make, node, rand

from planish.frontend.onnx import read_onnx
from planish.ir.errors import ModelError, PlanishError
from planish.ir.expr import sym
from planish.ir.interp import run_graph
from planish.ir.ops.host import Bind
from planish.ir.types import TensorType

I64 = np.int64


def _reshape_by_shape() -> list[Any]:
    """x of [N, S, 6] to [N, S, 2, 3] and transposed, as exporters write it."""
    return [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Gather", ["shape", "one"], ["s"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Unsqueeze", ["s", "axes"], ["s1"]),
        node("Concat", ["n1", "s1", "heads", "minus"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]),
        node("Transpose", ["r"], ["y"], perm=[0, 2, 1, 3]),
    ]


_CONSTANTS: dict[str, Any] = {
    "zero": I64(0), "one": I64(1), "axes": np.array([0], I64), "heads": np.array([2], I64),
    "minus": np.array([-1], I64),
}  # fmt: skip


def test_shape_arithmetic_leaves_no_operations() -> None:
    x = {"x": rand(2, 5, 6)}
    module = agree(make(_reshape_by_shape(), x, constants=_CONSTANTS), x)
    assert [op.op_name for op in module.main.body] == ["shape.reshape", "shape.transpose", "return"]


def test_symbolic_dimensions_go_through() -> None:
    model = make(_reshape_by_shape(), {"x": info("x", ["batch", "seq", 6])}, constants=_CONSTANTS)
    module = read_onnx(model)
    n, s = sym("batch"), sym("seq")
    assert module.main.params[0].type == TensorType("f32", (n, s, 6))
    assert module.main.results[0].type == TensorType("f32", (n, 2, s, 3))
    x = {"x": rand(3, 4, 6)}
    np.testing.assert_array_equal(run_graph(module, x)["y"], x["x"].reshape(3, 4, 2, 3).transpose(0, 2, 1, 3))


def test_shapes_fix_symbols_everywhere() -> None:
    inputs = {"x": info("x", ["n", None]), "z": info("z", ["n", 1])}
    module = read_onnx(make([node("Add", ["x", "z"])], inputs), shapes={"x": [2, 3]})
    assert [p.type for p in module.main.params] == [TensorType("f32", (2, 3)), TensorType("f32", (2, 1))]


def test_symbols_get_names_that_text_can_hold() -> None:
    inputs = {"x": info("x", ["batch size", None, "batch*size"])}
    module = read_onnx(make([node("Relu", ["x"])], inputs))
    assert module.main.params[0].type == TensorType("f32", (sym("batch_size"), sym("x_1"), sym("batch_size_2")))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": [1]}, r'no input and no symbol is called "q"; the inputs are "x"'),
        ({"x": [1]}, r"expected a shape of rank 2 like \[n, 3\], got \[1\]"),
        ({"x": [1, 4]}, r"dimension 1 is 3 in the model and cannot be 4"),
        ({"x": [-1, 3]}, r"expected a shape of numbers of at least 0, got \[-1, 3\]"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(make([node("Relu", ["x"])], {"x": info("x", ["n", 3])}), shapes=shapes)


def test_a_symbolic_size_can_be_data() -> None:
    nodes = [node("Shape", ["x"], ["shape"]), node("Cast", ["shape"], ["f"], to=TensorProto.FLOAT)]
    nodes += [node("Mul", ["f", "f"])]
    module = read_onnx(make(nodes, {"x": info("x", ["n", "m"])}))
    np.testing.assert_array_equal(run_graph(module, {"x": rand(5, 7)})["y"], [25, 49])


def test_expand_with_the_where_idiom_of_exporters() -> None:
    """`where(shape == -1, ones, shape)` is decided for sizes that are symbols."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Concat", ["n", "three"], ["to"], axis=0),
        node("Equal", ["to", "minus"], ["is"]),
        node("Where", ["is", "ones", "to"], ["final"]),
        node("Expand", ["x", "final"]),
    ]
    constants: dict[str, Any] = {
        "zero": np.array([0], I64), "three": np.array([3], I64), "minus": np.array([-1, -1], I64),
        "ones": np.array([1, 1], I64),
    }  # fmt: skip
    module = read_onnx(make(nodes, {"x": info("x", ["n", 1])}, constants=constants))
    assert module.main.results[0].type == TensorType("f32", (sym("n"), 3))


def test_last_element_of_a_symbolic_dimension() -> None:
    constants = {"s": np.array([-1], I64), "e": np.array([2**63 - 1], I64), "a": np.array([1], I64)}
    module = read_onnx(make([node("Slice", ["x", "s", "e", "a"])], {"x": info("x", [2, "n"])}, constants=constants))
    assert module.main.results[0].type == TensorType("f32", (2, 1))
    x = rand(2, 4)
    np.testing.assert_array_equal(run_graph(module, {"x": x})["y"], x[:, -1:])


def test_range_over_a_symbolic_length() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"], start=0, end=1),
        node("Squeeze", ["shape", "axes"], ["n"]),
        node("Range", ["zero", "n", "two"]),
    ]
    constants = {"axes": np.array([0], I64), "zero": I64(0), "two": I64(2)}
    module = read_onnx(make(nodes, {"x": info("x", ["n"])}, constants=constants))
    np.testing.assert_array_equal(run_graph(module, {"x": rand(7)})["y"], [0, 2, 4, 6])


def test_the_contents_of_an_input_may_decide_shapes() -> None:
    module = read_onnx(make([node("Reshape", ["x", "to"], name="r")], {"x": rand(6), "to": np.array([2, 3], I64)}))
    assert [op.symbols for op in module.main.walk() if isinstance(op, Bind)] == [("?n_y_shape_0", "?n_y_shape_1")]
    for shape in ([2, 3], [3, -1], [1, 6]):
        x = rand(6)
        (y,) = run_graph(module, {"x": x, "to": np.array(shape, I64)}).values()
        np.testing.assert_array_equal(y, x.reshape(shape))
    for wrong in ([4, 2], [-1, -1], [-2, 3]):
        with pytest.raises(PlanishError, match="the shapes do not fit"):
            run_graph(module, {"x": rand(6), "to": np.array(wrong, I64)})


def test_contents_that_decide_no_shape_are_not_bound() -> None:
    a, b = np.array([1, 2], I64), np.array([3, 4], I64)
    module = read_onnx(make([node("Add", ["a", "b"])], {"a": a, "b": b}))
    assert not any(isinstance(op, Bind) for op in module.main.walk())


def test_named_symbols_broadcast_when_the_model_runs() -> None:
    module = read_onnx(make([node("Add", ["a", "b"])], {"a": info("a", ["n", "m"]), "b": info("b", ["k"])}))
    for first, second in (((2, 3), (3,)), ((2, 1), (4,)), ((2, 3), (1,))):
        a, b = rand(*first), rand(*second)
        (y,) = run_graph(module, {"a": a, "b": b}).values()
        np.testing.assert_array_equal(y, a + b)
    with pytest.raises(PlanishError, match="the shapes do not fit"):
        run_graph(module, {"a": rand(2, 3), "b": rand(2)})


def test_unknown_rank_is_an_input_type() -> None:
    module = read_onnx(make([node("Relu", ["x"])], {"x": info("x", None)}))
    assert module.main.params[0].type == TensorType("f32", None)
