"""The memory plan: no two live buffers overlap, in place only where that is legal, weights in order."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from _lowering import Net, agree, lowered, program

from planish.ir.constants import ConstantData
from planish.ir.core import Module, Value
from planish.ir.expr import Dim, as_expr, sym
from planish.ir.interp import run_graph, run_program
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Add, Exp
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.norm import Softmax
from planish.ir.ops.shape import Transpose
from planish.ir.program import Alloc, Call, Program, View, Weight
from planish.ir.types import TensorType, tensor
from planish.passes.analysis.liveness import Interval, liveness
from planish.passes.plan_memory import ALIGNMENT, PlanMemory

PLAIN = "form-kernels,lower-program,plan-memory"


def value(size: Dim | None, symbols: dict[str, int]) -> int:
    """A size or an offset for given symbols."""
    assert size is not None
    return int(as_expr(size).evaluate(symbols))


def check_plan(prog: Program, symbols: dict[str, int] | None = None, in_place: bool = False) -> None:
    """Brute force: at every call, all buffers that are live lie apart, inside the arena, aligned. With `in_place`, two
    may share one place at the call that the one dies in and the other one is born in."""
    symbols = symbols or {}
    live = liveness(prog)
    spans: dict[object, tuple[int, int, Interval]] = {}
    for buffer, interval in live.items():
        assert isinstance(buffer.op, Alloc)
        start = value(buffer.op.offset, symbols)
        assert start % ALIGNMENT == 0
        end = start + value(buffer.tensor.storage_bytes, symbols)
        assert 0 <= start <= end <= value(prog.attributes["arena_bytes"], symbols)
        spans[buffer] = start, end, interval
    for (s1, e1, i1), (s2, e2, i2) in itertools.combinations(spans.values(), 2):
        together = i1.overlaps(i2)
        touching = in_place and (s1, e1) == (s2, e2) and (i1.last == i2.first or i2.last == i1.first)
        assert not together or touching or e1 <= s2 or e2 <= s1, (i1, i2)


def random_program(seed: int, symbolic: bool) -> tuple[Module, Program]:
    """A program of calls of one dummy kernel over random buffers and views."""
    rng = random.Random(seed)
    prog = Program("program", attributes={"symbols": ("s", "t") if symbolic else ()})
    buffers: list[Value] = []
    for _ in range(rng.randrange(1, 60)):
        dims: list[Dim] = [rng.randrange(1, 400)]
        if symbolic and rng.random() < 0.7:
            dims.append(sym(rng.choice("st")) * rng.randrange(1, 4))
        buffer = prog.body.append(Alloc(types=[TensorType("f32", tuple(dims))])).result
        buffers.append(buffer)
        for _ in range(rng.randrange(1, 3)):
            args = rng.sample(buffers[-6:], min(len(buffers), rng.randrange(1, 3)))
            if rng.random() < 0.3:
                args.append(prog.body.append(View(args[0], types=[args[0].type])).result)
            prog.body.append(Call((*args, buffer), "none"))
    return Module([prog]), prog


@pytest.mark.parametrize("seed", range(30))
def test_live_buffers_never_overlap(seed: int) -> None:
    module, prog = random_program(seed, symbolic=False)
    PlanMemory().run(module)
    check_plan(prog)
    assert prog.attributes["arena_lower_bound"] <= prog.attributes["arena_bytes"]
    assert prog.attributes["arena_bytes"] <= 1.35 * prog.attributes["arena_lower_bound"]


@pytest.mark.parametrize("seed", range(30))
def test_live_buffers_never_overlap_for_any_shape(seed: int) -> None:
    module, prog = random_program(seed, symbolic=True)
    PlanMemory().run(module)
    for symbols in ({"s": 1, "t": 1}, {"s": 7, "t": 300}, {"s": 1000, "t": 2}, {"s": 0, "t": 5}):
        check_plan(prog, symbols)


def test_plan_is_deterministic() -> None:
    plans = []
    for _ in range(2):
        module, prog = random_program(11, symbolic=True)
        PlanMemory().run(module)
        plans.append([str(op.offset) for op in prog.body if isinstance(op, Alloc)])
    assert plans[0] == plans[1]


def allocs(module: Module) -> list[Alloc]:
    return [op for op in program(module).body if isinstance(op, Alloc)]


def test_pointwise_chain_runs_in_place() -> None:
    net = Net(4, 100)
    x = net(Exp(net.x))
    for _ in range(4):
        x = net(Relu(x))
    module = net.module(net(Transpose(x, (1, 0))))
    low = lowered(module, PLAIN)
    agree(module, low)
    assert {op.offset for op in allocs(low)} == {0} and len(allocs(low)) == 5
    assert program(low).attributes["arena_bytes"] == 1600 == program(low).attributes["arena_lower_bound"]
    check_plan(program(low), in_place=True)
    apart = lowered(module, PLAIN + ":in-place=0")
    check_plan(program(apart))
    assert program(apart).attributes["arena_bytes"] == 3200


def test_a_residual_is_added_in_place_once_it_dies() -> None:
    net = Net(4, 100)
    x = net(Exp(net.x))
    y = net(Add(net(Relu(x)), x))
    module = net.module(net(Transpose(y, (1, 0))), net(Transpose(net(Add(x, y)), (1, 0))))
    low = lowered(module, PLAIN)
    agree(module, low)
    check_plan(program(low), in_place=True)
    assert program(low).attributes["arena_bytes"] == 3200


@pytest.mark.parametrize("kind", ["transpose", "softmax", "matmul", "other dtype"])
def test_kernels_that_read_elsewhere_do_not_run_in_place(kind: str) -> None:
    net = Net(8, 8)
    x = net(Exp(net.x))
    if kind == "transpose":
        y = net(Transpose(x, (1, 0)))
    elif kind == "softmax":
        y = net(Softmax(x, 1))
    elif kind == "matmul":
        y = net(MatMul(x, x))
    else:
        k = KernelBuilder([x.tensor], [tensor("i32", 8, 8)])
        with k.map(i=8, j=8) as p:
            k.write(k.cast(k.read(k.inputs[0], *p), "i32"), k.outputs[0], *p)
        y = net(k.finish([x]))
    low = lowered(net.module(net(Exp(y) if kind != "other dtype" else Transpose(y, (1, 0)))), PLAIN)
    check_plan(program(low))


def test_write_before_read_is_not_in_place() -> None:
    net = Net(8)
    x = net(Exp(net.x))
    k = KernelBuilder([x.tensor], [x.tensor, x.tensor])
    with k.map(i=8) as (i,):
        k.write(k.const(1.0, "f32"), k.outputs[0], i)
        k.write(k.read(k.inputs[0], i), k.outputs[1], i)
    op = net.graph.body.append(k.finish([x]))
    low = lowered(net.module(net(Relu(op.results[0])), net(Relu(op.results[1]))), PLAIN)
    first, ones, same = allocs(low)
    assert first.offset == same.offset != ones.offset


def test_symbolic_sizes_share_slots_and_compute() -> None:
    net = Net(1)
    s = sym("s")
    net.x.type = TensorType("f32", (s, 16))
    x = net(Exp(net.x))
    for _ in range(3):
        x = net(MatMul(x, net.constant(16, 16)))
    module = net.module(net(Softmax(x, 1)))
    low = lowered(module, PLAIN)
    prog = program(low)
    assert prog.symbols == ("s",) and prog.attributes["arena_bytes"] == s * 128
    for n in (1, 5):
        check_plan(prog, {"s": n})
        given = {"x": np.random.default_rng(n).standard_normal((n, 16)).astype(np.float32)}
        np.testing.assert_allclose(run_program(low, given)["y0"], run_graph(module, given)["y0"], rtol=1e-4, atol=1e-6)


def test_weights_lie_in_order_of_first_use_big_ones_on_pages() -> None:
    net = Net(2, 300)
    x = net.x
    for columns in (3, 300, 5):
        x = net(MatMul(x, net.constant(int(x.tensor.static_shape[1]), columns)))
    low = lowered(net.module(x), PLAIN)
    offsets = [(op.offset, op.value.nbytes) for op in program(low).body if isinstance(op, Weight)]
    assert offsets == [(0, 3600), (3648, 3600), (7296, 6000)]
    assert program(low).attributes["weights_bytes"] == 13312
    big = Program("program", attributes={})
    for n in (1, 100_000, 10):
        big.body.append(Weight(ConstantData.splat(1.0, "f32", (n,)), types=[tensor("f32", n)]))
    PlanMemory().run(Module([big]))
    assert [op.offset for op in big.body if isinstance(op, Weight)] == [0, 4096, 4096 + 400_000]


def test_a_branch_keeps_what_both_sides_use() -> None:
    assert Interval(1, 3).overlaps(Interval(3, 4)) and not Interval(1, 2).overlaps(Interval(3, 4))
    assert Interval(1, 3).union(Interval(2, 9)) == Interval(1, 9)
