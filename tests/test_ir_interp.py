"""The interpreters: graphs through references, kernels over axes, programs over flat memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from _kernels import case, kernel, texts

from planish.ir.core import Graph, Op, Return, Value
from planish.ir.errors import PlanishError
from planish.ir.expr import sym
from planish.ir.interp import evaluate, run_graph, run_program
from planish.ir.kernel import interp
from planish.ir.kernel.buffers import Buffer, bind_symbols
from planish.ir.kernel.contract import contract
from planish.ir.kernel.form import Kernel, KernelOp
from planish.ir.kernel.interp import EvaluationError, run_kernel
from planish.ir.text import parse_module
from planish.ir.types import Layout, TensorType, tensor
from planish.ir.verifier import verify


class Trace(Op, name="test.trace"):
    """Gives its operand and remembers which arrays are alive."""

    x: Value

    def infer(self) -> Sequence[Any]:
        return [self.x.type]

    def reference(self, x: np.ndarray) -> np.ndarray:
        alive.append(sum(r() is not None for r in seen))
        result = x + 1
        seen.append(weakref.ref(result))
        return result


seen: list[weakref.ref[np.ndarray]] = []
alive: list[int] = []


def one_kernel(text: str) -> Kernel:
    module = parse_module(text)
    verify(module)
    (function,) = module.functions.values()
    assert isinstance(function, Kernel)
    return function


# -- graphs ---------------------------------------------------------------------------------------------------------


def test_values_are_freed_after_their_last_use() -> None:
    seen.clear()
    alive.clear()
    graph = Graph("main", [tensor("f32", 2)], ["x"], ["y"])
    value = graph.params[0]
    for _ in range(6):
        value = graph.body.append(Trace(value)).result
    graph.body.append(Return((value,)))
    assert list(run_graph(graph, {"x": np.zeros(2, np.float32)})["y"]) == [6, 6]
    assert max(alive) <= 2


def test_graph_with_constants_and_a_kernel() -> None:
    module = parse_module("""
    graph @main(%x: f32[n,3]) -> ("doubled", "shifted") {
      %two = constant {value = splat(2.0)} : f32[]
      %d = arith.mul(%x, %two)
      %s = kernel(%d) {label = "shift"} { (%i: f32[n,3], %o: f32[n,3])
        k.map <r: n, c: 3> {
          %a = k.read(%i) <r, -c + 2>
          k.write(%a, %o) <r, c>
        }
      }
      return %d, %s
    }""")
    verify(module)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    results = run_graph(module, {"x": x})
    np.testing.assert_array_equal(results["doubled"], 2 * x)
    np.testing.assert_array_equal(results["shifted"], (2 * x)[:, ::-1])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs: expected x, z, got none"),
        ({"x": np.zeros(2), "q": 1}, "inputs: expected x, z, got x, q"),
        ({"x": np.zeros((2, 3)), "z": np.zeros(2)}, "input x: expected element type f32, got float64"),
        (
            {"x": np.zeros((2, 4), np.float32), "z": np.zeros(2, np.float32)},
            "input x: expected 3 in dimension 1 (f32[n,3]), got 4",
        ),
        (
            {"x": np.zeros((2, 3), np.float32), "z": np.zeros(3, np.float32)},
            "input z: expected 2 in dimension 0 (f32[n]), got 3",
        ),
        (
            {"x": np.zeros(3, np.float32), "z": np.zeros(3, np.float32)},
            "input x: expected 2 dimensions (f32[n,3]), got 1",
        ),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, Any], message: str) -> None:
    graph = parse_module("graph @main(%x: f32[n,3], %z: f32[n]) { return %x }").main
    with pytest.raises(PlanishError) as error:
        run_graph(graph, inputs)
    assert str(error.value) == message


def test_an_operation_that_gives_what_its_type_does_not_say_is_found() -> None:
    op = Trace(Value(tensor("f32", 2)), loc="node 7")
    with pytest.raises(EvaluationError, match=r"node 7: test.trace: expected f32\[2\], got float32\[3\]"):
        evaluate(op, [np.zeros(3, np.float32)])


# -- kernels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(texts()))
@pytest.mark.parametrize("limit", [1, 50])
def test_cut_into_pieces_a_kernel_gives_the_same(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = case(name)
    monkeypatch.setattr(interp, "LIMIT", 20 * limit)
    for got, want in zip(run_kernel(kernel(name), given.inputs, given.symbols), given.expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bad", [6, -1, 2**40])
def test_an_index_in_the_data_that_is_out_of_range_stops_the_run(bad: int) -> None:
    given = case("scatter_add")
    x, at, u = given.inputs
    at = at.copy()
    at[3] = bad
    message = rf"scatter_add: write to %y: expected an index in 0 .. 5 in dimension 0, got {bad}$"
    with pytest.raises(EvaluationError, match=message):
        run_kernel(kernel("scatter_add"), [x, at, u])


def test_extents_may_depend_on_dimensions_around_them() -> None:
    triangle = one_kernel("""
    kernel @triangle(%x: f32[7]) -> (%y: f32[7], %last: f32[7]) {
      %zero = k.const {value = 0.0, dtype = "f32"}
      k.map <i: 7> {
        %sum = k.reduce(%zero) <j: i + 1> {
          %a = k.read(%x) <j>
          yield %a
        } { (%acc: f32, %e: f32)
          %s = scalar.add(%acc, %e)
          yield %s
        }
        k.write(%sum, %y) <i>
        %end = k.scan(%zero) <k: i + 1> { (%c: f32)
          %a = k.read(%x) <k>
          yield %a
        }
        k.write(%end, %last) <i>
      }
    }""")
    x = np.arange(1, 8, dtype=np.float32)
    y, last = run_kernel(triangle, [x])
    np.testing.assert_array_equal(y, np.cumsum(x))
    np.testing.assert_array_equal(last, x)


def test_a_reduction_over_nothing_gives_its_inits() -> None:
    empty = one_kernel("""
    kernel @empty(%x: f32[2,n]) -> (%y: f32[2]) {
      %one = k.const {value = 7.0, dtype = "f32"}
      k.map <i: 2> {
        %m = k.reduce(%one) <j: n> {
          %a = k.read(%x) <i, j>
          yield %a
        } { (%acc: f32, %e: f32)
          %s = scalar.max(%acc, %e)
          yield %s
        }
        k.write(%m, %y) <i>
      }
    }""")
    (y,) = run_kernel(empty, [np.zeros((2, 0), np.float32)])
    assert list(y) == [7, 7]


def test_a_local_starts_as_poison_at_every_point() -> None:
    text = """
    kernel @stale(%x: i32[3]) -> (%y: i32[3], %z: f32[3]) {
      k.map <i: 3> {
        %b = k.local : i32[2]
        %f = k.local : f32[1]
        %a = k.read(%x) <i>
        k.write(%a, %b) <0>
        %u = k.read(%b) <1>
        k.write(%u, %y) <i>
        %v = k.read(%f) <0>
        k.write(%v, %z) <i>
      }
    }"""
    y, z = run_kernel(one_kernel(text), [np.zeros(3, np.int32)])
    assert (y.view(np.uint32) == 0xAAAAAAAA).all()
    assert np.isnan(z).all()


LAYOUTS = [
    Layout(),
    Layout((0, 2, 3, 1)),
    Layout((0, 2, 3, 1), (), ((0, 0), (0, 0), (1, 1), (1, 2)), ((0, 0), (0, 0), (1, 1), (1, 1))),
    Layout((0, 1, 2, 3), ((1, 4),)),
    Layout((0, 2, 3, 1), ((1, 4),), ((0, 0), (2, 1), (0, 0), (0, 0))),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "u8", "i4"])
def test_buffers_hold_tensors_in_any_layout(layout: Layout, dtype: str) -> None:
    rng = np.random.default_rng(0)
    t = TensorType(dtype, (2, 6, 3, 5), layout)
    numpy = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "u8": np.uint8, "i4": ml_dtypes.int4}[dtype]
    array = rng.integers(0, 7, (2, 6, 3, 5)).astype(numpy)
    buffer = Buffer.of(array, t)
    assert np.array_equal(buffer.array(), array)
    for d in range(4):  # the zero halo holds zeros
        at = [0, 0, 0, 0]
        for place in [
            *range(-layout.zeros(d)[0], 0),
            *range(t.static_shape[d], t.static_shape[d] + layout.zeros(d)[1]),
        ]:
            at[d] = place
            assert buffer.data[buffer.index(at)] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.int64])
def test_contractions_are_sums_of_products(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    shapes = [
        ((2, 3, 1, 4, 5), (2, 1, 6, 4, 5)),
        ((1, 3, 1, 4, 1), (2, 1, 1, 1, 5)),
        ((2, 1, 1, 1, 1), (2, 1, 1, 1, 1)),
    ]
    for p_shape, q_shape in shapes:
        p, q = (rng.integers(0, 2**31, s).astype(dtype) for s in (p_shape, q_shape))
        want = np.broadcast_to(p * q, (*np.broadcast_shapes(p_shape, q_shape)[:3], 4, 5)).sum(axis=(3, 4), dtype=dtype)
        np.testing.assert_allclose(contract(p, q, 3, [4, 5]), want, rtol=1e-5)


def test_symbols_that_no_input_tells_are_named() -> None:
    with pytest.raises(PlanishError, match=r"x: the value of the symbol m in f32\[2\*m\] is not known"):
        bind_symbols([TensorType("f32", (sym("m") * 2,))], [(4,)], ["x"], {})


def test_a_kernel_in_a_graph_takes_symbols_from_the_graph() -> None:
    module = parse_module("""
    graph @main(%x: f32[n]) -> ("y") {
      %y = kernel() { (%o: f32[n])
        k.map <i: n> {
          %v = k.index <i>
          %f = scalar.cast(%v) {dtype = "f32"}
          k.write(%f, %o) <i>
        }
      } : f32[n]
      return %y
    }""")
    (op, _) = module.main.body
    assert isinstance(op, KernelOp)
    np.testing.assert_array_equal(run_graph(module, {"x": np.zeros(4, np.float32)})["y"], np.arange(4))


# -- programs -------------------------------------------------------------------------------------------------------

PROGRAM = """
kernel @left(%x: f32[1,2,3,3]) -> (%y: f32[1,2,3,3]@{order=[0,2,3,1], pad=[[0,0],[0,4],[0,0],[0,0]]}) {
  k.map <n: 1, c: 2, h: 3, w: 3> {
    %a = k.read(%x) <n, c, h, w>
    k.write(%a, %y) <n, c, h, w>
  }
}
kernel @right(%x: f32[1,2,3,3], %s: f32[4]) -> (%y: f32[1,4,3,3]@{order=[0,2,3,1], pad=[[0,0],[2,0],[0,0],[0,0]]}) {
  k.map <n: 1, c: 4, h: 3, w: 3> {
    %a = k.read(%x) <n, mod(c, 2), h, w>
    %f = k.read(%s) <c>
    %p = scalar.mul(%a, %f)
    k.write(%p, %y) <n, c, h, w>
  }
}
kernel @copy(%x: f32[1,6,3,3]@{order=[0,2,3,1]}) -> (%y: f32[1,6,3,3]) {
  k.map <n: 1, c: 6, h: 3, w: 3> {
    %a = k.read(%x) <n, c, h, w>
    k.write(%a, %y) <n, c, h, w>
  }
}
program @program() attributes {arena_bytes = 256} {
  %x = p.input {index = 0, label = "x"} : f32[1,2,3,3]
  %y = p.output {index = 0, label = "y"} : f32[1,6,3,3]
  %s = p.weight {value = dense([1.0, 2.0, 3.0, 4.0]), offset = 0} : f32[4]
  %all = p.alloc {offset = 40} : f32[1,6,3,3]@{order=[0,2,3,1]}
  %l = p.view(%all) : f32[1,2,3,3]@{order=[0,2,3,1], pad=[[0,0],[0,4],[0,0],[0,0]]}
  %r = p.view(%all) : f32[1,4,3,3]@{order=[0,2,3,1], pad=[[0,0],[2,0],[0,0],[0,0]]}
  p.call(%x, %l) {kernel = "left"}
  p.call(%x, %s, %r) {kernel = "right"}
  p.call(%all, %y) {kernel = "copy"}
}
"""


def test_a_concatenation_into_views_of_the_arena() -> None:
    module = parse_module(PROGRAM)
    verify(module)
    x = np.random.default_rng(2).standard_normal((1, 2, 3, 3)).astype(np.float32)
    scales = np.arange(1, 5, dtype=np.float32)[None, :, None, None]
    want = np.concatenate([x, np.concatenate([x, x], axis=1) * scales], axis=1)
    np.testing.assert_array_equal(run_program(module, {"x": x})["y"], want)


def test_views_from_an_offset_on() -> None:
    layout = "@{order=[0,2,3,1], pad=[[0,0],[%s],[0,0],[0,0]]}"
    moved = PROGRAM.replace(
        f"p.view(%all) : f32[1,4,3,3]{layout % '2,0'}", "p.view(%all) {offset = OFF} : f32[1,4,3,3]"
    )
    moved = moved.replace("f32[1,4,3,3]", f"f32[1,4,3,3]{layout % '0,2'}").replace(
        f"{layout % '0,2'}{layout % '2,0'}", f"{layout % '0,2'}"
    )
    x = np.random.default_rng(2).standard_normal((1, 2, 3, 3)).astype(np.float32)
    want = run_program(parse_module(PROGRAM), {"x": x})["y"]
    np.testing.assert_array_equal(run_program(parse_module(moved.replace("OFF", "2")), {"x": x})["y"], want)
    with pytest.raises(EvaluationError, match=r"p.view: expected 52 elements for .*, got 51"):
        run_program(parse_module(moved.replace("OFF", "3")), {"x": x})


def test_memory_that_nobody_wrote_shows_as_nan() -> None:
    module = parse_module(PROGRAM.replace('  p.call(%x, %l) {kernel = "left"}\n', ""))
    y = run_program(module, {"x": np.zeros((1, 2, 3, 3), np.float32)})["y"]
    assert np.isnan(y[:, :2]).all()
    assert not np.isnan(y[:, 2:]).any()


def test_a_plan_beyond_the_arena_is_found() -> None:
    with pytest.raises(EvaluationError, match=r"p.alloc: expected bytes within 0 .. 256, got 44 .. 260"):
        run_program(
            parse_module(PROGRAM.replace("offset = 40", "offset = 44")), {"x": np.zeros((1, 2, 3, 3), np.float32)}
        )
