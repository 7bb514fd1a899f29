"""Attention as one kernel over blocks of rows, and rows that are computed once: the same results, and what fuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from _jit import Loaded, load

from planish.codegen.llvm.target import target_for
from planish.ir.constants import Constant, ConstantData
from planish.ir.core import Graph, Module, Op, Return, Value
from planish.ir.expr import sym
from planish.ir.interp import run_graph
from planish.ir.kernel.form import Kernel, KernelOp, Local, Reduce
from planish.ir.ops.arith import Add, IsNaN, Mul, Where
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import LayerNorm, Softmax
from planish.ir.text import parse_module, print_module
from planish.ir.types import TensorType, tensor
from planish.passes import PassManager
from planish.passes.analysis.contraction import analyse
from planish.passes.fuse_local import choose_rows, find_chain
from planish.passes.schedule.cpu import schedule_kernel

TO_KERNELS = "form-kernels,fuse-kernels,dce"
# batch, heads, rows, keys, elements of a head, of a value
SIZES = [(1, 2, 16, 16, 8, 8), (2, 3, 40, 33, 4, 6), (1, 1, 37, 19, 5, 17), (1, 4, 7, 9, 3, 4), (1, 2, 48, 64, 16, 32)]
RNG = np.random.default_rng(7)


class Maker:
    """Builds the graph of one attention; `add` inserts an operation."""

    def __init__(self, *params: TensorType) -> None:
        self.graph = Graph("main", list(params), [f"p{n}" for n in range(len(params))], ["y"])

    def add(self, op: Op) -> Value:
        return self.graph.body.append(op).result

    def splat(self, number: float, *shape: int) -> Value:
        return self.add(Constant(ConstantData.splat(number, "f32", shape)))

    def done(self, value: Value) -> Module:
        self.graph.body.append(Return((value,)))
        return Module([self.graph])


def attention(b: int, h: int, m: int, n: int, d: int, e: int, *, mask: bool = True, guard: bool = True) -> Module:
    """softmax(q k * scale + mask) v over f32[b,h,..]; `guard` replaces NaN by 0, as PyTorch's exporter does."""
    make = Maker(tensor("f32", b, h, m, d), tensor("f32", b, h, d, n), tensor("f32", b, h, n, e), tensor("f32", m, n))
    q, k, v, bias = make.graph.params
    scores = make.add(MatMul(make.add(Mul(q, make.splat(0.3))), k))
    if mask:
        scores = make.add(Add(scores, bias))
    p = make.add(Softmax(scores, 3))
    if guard:
        p = make.add(Where(make.add(IsNaN(p)), make.splat(0.0), p))
    return make.done(make.add(MatMul(p, v)))


def inputs(module: Module) -> dict[str, np.ndarray]:
    found = {p.name: RNG.standard_normal(p.tensor.static_shape).astype(np.float32) for p in module.main.params}
    found["p3"][:, 3:] = np.where(RNG.random(found["p3"][:, 3:].shape) < 0.4, -np.inf, 0.0)
    found["p3"][0] = -np.inf  # a row without any key gives NaN, or 0 with the guard
    return found


def fused(module: Module, passes: str = "share-rows,fuse-local") -> list[KernelOp]:
    PassManager.parse(f"{TO_KERNELS},{passes}").run(module)
    return [op for op in module.main.body if isinstance(op, KernelOp)]


def code_of(op: KernelOp, symbols: Sequence[str] = (), cpu: str = "native") -> Loaded:
    """The kernel as machine code, with the schedule that it gets."""
    target = target_for(cpu)
    kernel = Kernel("k", attributes={"outputs": len(op.results)})
    kernel.body = op.region.clone({})
    kernel.body.parent = kernel
    schedule_kernel(kernel, target)
    return load(kernel, target, symbols)


def compiled(op: KernelOp, arrays: list[np.ndarray]) -> np.ndarray:
    """What machine code of the kernel gives."""
    (result,) = code_of(op).run(*arrays, parts=3)
    return result


def same(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mask", [True, False])
def test_attention_becomes_one_kernel_that_means_the_same(size: tuple[int, ...], mask: bool) -> None:
    module = attention(*size, mask=mask)
    arrays = inputs(module)
    with np.errstate(all="ignore"):
        expected = run_graph(module, arrays)["y"]
    (op,) = fused(module)
    assert len(analyse(op)) in (2, 4)  # twice where rows are left over
    assert any(isinstance(inner, Local) for inner in op.region.walk())
    assert all(r.type.static_shape != (*size[:2], *size[2:4]) for r in op.results if isinstance(r.type, TensorType))
    same(run_graph(module, arrays)["y"], expected)
    same(compiled(op, [arrays[v.name] for v in op.args]), expected)


@pytest.mark.parametrize("rows", [1, 3, 5, 16])
def test_blocks_of_any_size_mean_the_same(rows: int) -> None:
    module = attention(1, 2, 21, 18, 4, 5, guard=False)
    arrays = inputs(module)
    arrays["p3"][0] = 0.0
    expected = run_graph(module, arrays)["y"]
    (op,) = fused(module, f"share-rows,fuse-local:rows={rows}")
    same(run_graph(module, arrays)["y"], expected)
    same(compiled(op, [arrays[v.name] for v in op.args]), expected)
    assert print_module(parse_module(text := print_module(module))) == text


def test_a_score_matrix_with_two_readers_is_stored() -> None:
    make = Maker(tensor("f32", 2, 16, 8), tensor("f32", 2, 8, 16), tensor("f32", 2, 16, 8))
    q, k, v = make.graph.params
    p = make.add(Softmax(make.add(MatMul(q, k)), 2))
    o = make.add(MatMul(p, v))
    make.graph.body.append(Return((o, p)))
    make.graph.result_names = ["y", "p"]
    assert len(fused(Module([make.graph]))) == 3


def test_products_with_weights_are_no_chain() -> None:
    make = Maker(tensor("f32", 64, 32))
    weights = [
        make.add(Constant(ConstantData.of(RNG.standard_normal(s).astype(np.float32)))) for s in [(32, 48), (48, 8)]
    ]
    p = make.add(Softmax(make.add(MatMul(make.graph.params[0], weights[0])), 1))
    module = make.done(make.add(MatMul(p, weights[1])))
    assert len(fused(module)) == 3


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3"])
def test_other_vector_widths_mean_the_same(cpu: str) -> None:
    module = attention(1, 2, 20, 18, 8, 12)
    arrays = inputs(module)
    with np.errstate(all="ignore"):
        expected = run_graph(module, arrays)["y"]
    (op,) = fused(module)
    (result,) = code_of(op, cpu=cpu).run(*(arrays[v.name] for v in op.args), parts=2)
    same(result, expected)


@pytest.mark.parametrize("n", [1, 11, 16, 37])
def test_attention_over_a_symbolic_length(n: int, symbolic: tuple[Module, Loaded]) -> None:
    module, code = symbolic
    shapes = {"p0": (2, n, 8), "p1": (2, 8, n), "p2": (2, n, 8)}
    arrays = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    scores = arrays["p0"] @ arrays["p1"]
    e = np.exp(scores - scores.max(axis=2, keepdims=True))
    expected = e / e.sum(axis=2, keepdims=True) @ arrays["p2"]
    same(run_graph(module, arrays)["y"], expected)
    (result,) = code.run(*arrays.values(), symbols={"s": n}, parts=2)
    same(result, expected)


@pytest.fixture(scope="module")
def symbolic() -> tuple[Module, Loaded]:
    """Attention of s queries over s keys, fused, and its machine code."""
    s = sym("s")
    make = Maker(tensor("f32", 2, s, 8), tensor("f32", 2, 8, s), tensor("f32", 2, s, 8))
    q, k, v = make.graph.params
    module = make.done(make.add(MatMul(make.add(Softmax(make.add(MatMul(q, k)), 2)), v)))
    (op,) = fused(module)
    return module, code_of(op, ["s"])


def test_blocks_divide_the_rows_and_stay_small() -> None:
    def rows(m: int, n: int, limit: int = 1 << 18) -> int | None:
        module = attention(1, 1, m, n, 8, 8)
        kernels = fused(module, "share-rows")
        chain = find_chain(kernels[-1])
        assert chain is not None and len(chain.kernels) == len(kernels)
        return choose_rows(chain, limit)

    assert rows(128, 128) == 16
    assert rows(197, 197) == 20  # 17 are left
    assert rows(28, 24) == 28  # one block
    assert rows(1024, 2048) == 8
    assert rows(64, 64, limit=1024) is None


def exponentials(op: KernelOp) -> int:
    return sum(getattr(inner, "fn", "") == "exp" for inner in op.region.walk())


@pytest.mark.parametrize(("shape", "axis"), [((5, 7, 33), 2), ((3, 19, 40), 1), ((64, 100), 1), ((1, 3), 1)])
def test_softmax_takes_each_exponential_once(shape: tuple[int, ...], axis: int) -> None:
    make = Maker(tensor("f32", *shape))
    module = make.done(make.add(Softmax(make.graph.params[0], axis)))
    arrays = {"p0": RNG.standard_normal(shape).astype(np.float32)}
    expected = run_graph(module, arrays)["y"]
    (op,) = fused(module, "share-rows")
    assert exponentials(op) == 1
    same(run_graph(module, arrays)["y"], expected)
    same(compiled(op, list(arrays.values())), expected)


def test_cheap_values_are_computed_again() -> None:
    make = Maker(tensor("f32", 6, 40))
    module = make.done(make.add(LayerNorm(make.graph.params[0], None, None, 1, 1e-5)))
    (op,) = fused(module, "share-rows")
    assert not any(isinstance(inner, Local) for inner in op.region.walk())
    assert sum(isinstance(inner, Reduce) for inner in op.region.walk()) == 2


def test_rows_of_symbolic_length_are_shared() -> None:
    make = Maker(tensor("f32", 3, sym("n")))
    module = make.done(make.add(Softmax(make.graph.params[0], 1)))
    (op,) = fused(module, "share-rows")
    assert exponentials(op) == 1
    x = RNG.standard_normal((3, 50)).astype(np.float32)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    same(run_graph(module, {"p0": x})["y"], e / e.sum(axis=1, keepdims=True))
