"""Kernel formation and fusion: what fuses in real networks, what the limits are, symbolic shapes, errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from planish.frontend import read_model
from planish.ir.core import REGISTRY, Graph, Module, Op, Return, Value
from planish.ir.errors import UnsupportedError
from planish.ir.expr import sym
from planish.ir.interp import run_graph
from planish.ir.kernel.form import KernelOp
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Add, Exp, Mul, Sigmoid
from planish.ir.ops.base import TensorOp
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import Softmax
from planish.ir.ops.shape import Reshape, Transpose
from planish.ir.text import parse_module
from planish.ir.types import TensorType, tensor
from planish.passes import PassManager
from planish.passes.canonicalize import CANONICAL
from planish.passes.fold_batch_norm import fold_into_conv, scale_and_shift
from planish.passes.fuse_kernels import FUSED
from planish.passes.rewrite import FIRED

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FILES = Path(__file__).parent / "filecheck" / "passes"
TO_KERNELS = "canonicalize,fold,cse,dce,fold-batch-norm,canonicalize,fold,cse,dce,form-kernels,fuse-kernels,dce"


class NoKernel(TensorOp, name="test.no_kernel"):
    """An operation without a kernel form."""

    x: Value

    def infer(self) -> list[TensorType]:
        return [self.x.tensor]


@pytest.fixture(scope="module", autouse=True)
def unregister() -> Iterator[None]:
    """Do not leave the operation of this file to tests that go through all of them."""
    yield
    REGISTRY.pop("test.no_kernel")


def kernels(module: Module) -> list[KernelOp]:
    return [op for op in module.main.body if isinstance(op, KernelOp)]


def build(*params: TensorType) -> tuple[Graph, list[Value]]:
    graph = Graph("main", params, [f"p{n}" for n in range(len(params))], ["y"])
    return graph, graph.params


def finish(graph: Graph, *values: Value) -> Module:
    graph.body.append(Return(values))
    graph.result_names = [f"y{n}" for n in range(len(values))]
    return Module([graph])


def put(graph: Graph, op: Op) -> Value:
    return graph.body.append(op).result


def test_resnet50_is_its_convolutions_pools_product_and_softmax() -> None:
    module = read_model(LIGHT / "light_resnet50.onnx")
    PassManager.parse(TO_KERNELS).run(module)
    found = Counter(k.label for k in kernels(module))
    assert found == {
        "Conv+Relu": 33,
        "Conv+Add+Relu": 16,
        "Conv": 4,
        "MaxPool": 1,
        "AveragePool": 1,
        "Reshape+MatMul+Add": 1,
        "Softmax": 1,
    }


def test_shufflenet_shuffles_where_it_writes() -> None:
    module = read_model(LIGHT / "light_shufflenet.onnx")
    PassManager.parse(TO_KERNELS).run(module)
    found = Counter(k.label for k in kernels(module))
    assert found["Conv+Relu+Reshape+Transpose+Reshape"] == 16
    assert not any(label.startswith(("Reshape+T", "Transpose")) for label in found)


def test_every_pattern_fires_in_some_test() -> None:
    FIRED.clear()
    FUSED.clear()
    for file in [file for name in ("canonicalize", "fold", "fuse") for file in sorted(FILES.glob(f"{name}*.ir"))]:
        text = file.read_text(encoding="utf-8")
        pipeline = re.search(r"RUN: planish opt -p (\S+)", text)
        assert pipeline is not None, file
        PassManager.parse(pipeline[1]).run(parse_module(text))
    patterns = [*CANONICAL.patterns, fold_into_conv, scale_and_shift]
    assert not [p.__name__ for p in patterns if not FIRED[p.__name__]]
    assert FUSED.keys() == {"epilogue", "prologue", "movement", "movement forward"}


def test_the_number_of_buffers_is_bounded() -> None:
    graph, params = build(*[tensor("f32", 2, 3)] * 40)
    total = params[0]
    for p in params[1:]:
        total = put(graph, Add(total, p))
    module = finish(graph, total)
    inputs = {p.name: np.full((2, 3), n, np.float32) for n, p in enumerate(params)}
    PassManager.parse("form-kernels,fuse-kernels:max-buffers=8").run(module)
    assert all(len(k.region.params) <= 8 for k in kernels(module))
    assert len(kernels(module)) == 7
    np.testing.assert_array_equal(run_graph(module, inputs)["y0"], np.full((2, 3), sum(range(40)), np.float32))


def test_the_size_of_a_kernel_is_bounded() -> None:
    graph, (x,) = build(tensor("f32", 4))
    value = x
    for _ in range(30):
        value = put(graph, Sigmoid(value))
    module = finish(graph, value)
    PassManager.parse("form-kernels,fuse-kernels:max-size=16").run(module)
    assert len(kernels(module)) == 3


def test_a_second_result_can_be_forbidden() -> None:
    counts: list[int] = []
    for setting in (0, 1):
        graph, (x, w) = build(tensor("f32", 4, 4), tensor("f32", 4, 4))
        y = put(graph, MatMul(x, w))
        module = finish(graph, put(graph, Relu(y)), y)
        PassManager.parse(f"form-kernels,fuse-kernels:multi-output={setting}").run(module)
        counts.append(len(kernels(module)))
    assert counts == [2, 1]


def test_origins_and_labels_of_all_parts_are_kept() -> None:
    graph, (x, w) = build(tensor("f32", 4, 4), tensor("f32", 4, 4))
    y = put(graph, MatMul(x, w, loc="fc"))
    module = finish(graph, put(graph, Relu(put(graph, Add(y, x, loc="residual")), loc="relu")))
    PassManager.parse("form-kernels,fuse-kernels").run(module)
    (kernel,) = kernels(module)
    assert (kernel.label, kernel.loc) == ("MatMul+Add+Relu", "fc+residual+relu")
    assert len(kernel.args) == 2  # x is there once


@pytest.mark.parametrize("names", [("seq", "batch"), ("m", "n"), ("d0", "k"), ("b0", "d02")])
def test_symbolic_shapes_fuse_whatever_they_are_called(names: tuple[str, str]) -> None:
    s, b = sym(names[0]), sym(names[1])
    graph, (x, w, r) = build(tensor("f32", b, s, 8), tensor("f32", 8, 8), tensor("f32", b, s, 8))
    h = put(graph, Add(put(graph, MatMul(x, w)), r))
    heads = put(graph, Transpose(put(graph, Reshape(h, (b, s, 2, 4))), (0, 2, 1, 3)))
    scores = put(graph, MatMul(heads, put(graph, Transpose(heads, (0, 1, 3, 2)))))
    mixed = put(graph, MatMul(put(graph, Softmax(scores, 3)), heads))
    merged = put(graph, Reshape(put(graph, Transpose(mixed, (0, 2, 1, 3))), (b, s, 8)))
    module = finish(graph, put(graph, Mul(merged, put(graph, Exp(r)))))
    fused = module.clone()
    PassManager.parse("canonicalize,cse,dce,form-kernels,fuse-kernels,dce").run(fused)
    assert len(kernels(fused)) < 7
    rng = np.random.default_rng(0)
    for batch, seq in ((1, 3), (2, 5)):
        shapes = {"p0": (batch, seq, 8), "p1": (8, 8), "p2": (batch, seq, 8)}
        inputs = {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
        expected, got = run_graph(module, inputs), run_graph(fused, inputs)
        np.testing.assert_allclose(got["y0"], expected["y0"], rtol=1e-4, atol=1e-5)


def test_operations_without_a_kernel_are_all_listed() -> None:
    graph, (x,) = build(tensor("f32", 4))
    a = put(graph, NoKernel(x, loc="first"))
    b = put(graph, NoKernel(put(graph, Relu(a)), loc="second"))
    with pytest.raises(UnsupportedError) as e:
        PassManager.parse("form-kernels").run(finish(graph, b))
    assert str(e.value) == (
        "graph @main: 2 operations cannot be compiled:\n"
        "  first: test.no_kernel: has no kernel form yet\n"
        "  second: test.no_kernel: has no kernel form yet"
    )


def test_unknown_ranks_are_refused_by_name() -> None:
    graph, (x,) = build(TensorType("f32", None))
    y = put(graph, Relu(x, loc="node"))
    with pytest.raises(UnsupportedError, match=r"node: nn.relu: expected tensors of known rank, got f32\[\*\]"):
        PassManager.parse("form-kernels").run(finish(graph, y))
