"""Long chains: nothing is walked again for each use of it, and of very many kernels most get small tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import info, make, node

from planish.compile import compile_file
from planish.frontend import read_model
from planish.ir.kernel.form import Kernel
from planish.ir.target_info import TargetInfo
from planish.passes import PassContext, PassManager
from planish.passes.pipelines import PIPELINES
from planish.runtime import load

AVX512 = TargetInfo("x86_64-unknown-linux-gnu", "x86-64-v4", ("+avx512f", "+fma"), 64, 32)


def _blocks(count: int) -> onnx.ModelProto:
    """`count` times MatMul, Add, Gelu, Transpose, each of other sizes."""
    rng = np.random.default_rng(3)
    sizes = [17, 23, *(29 + 3 * i for i in range(count))]
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    name = "x"
    for i in range(count):
        constants[f"w{i}"] = (rng.standard_normal((sizes[i], sizes[i + 2])) / 5).astype(np.float32)
        constants[f"b{i}"] = rng.standard_normal(sizes[i + 2]).astype(np.float32)
        last = "y" if i == count - 1 else f"t{i}"
        nodes += [
            node("MatMul", [name, f"w{i}"], [f"m{i}"]),
            node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]),
            node("Gelu", [f"a{i}"], [f"g{i}"]),
            node("Transpose", [f"g{i}"], [last]),
        ]
        name = last
    return make(nodes, {"x": info("x", [sizes[1], sizes[0]])}, constants=constants, opset=20)


@pytest.mark.parametrize(("most", "minor"), [(8, 0), (4, 2), (3, 4), (2, 4)])
def test_the_more_kernels_the_fewer_get_large_tiles(most: int, minor: int) -> None:
    module = read_model(_blocks(4))
    pipeline = PIPELINES["O3"].replace("schedule-cpu", f"schedule-cpu:most={most}")
    PassManager.parse(pipeline, PassContext(AVX512)).run(module)
    kernels = [f for f in module.functions.values() if isinstance(f, Kernel)]
    assert len(kernels) == 5
    assert sum(bool(k.attributes.get("minor")) for k in kernels) == minor


def test_kernels_with_small_tiles_give_the_same(tmp_path: Path) -> None:
    feed = {"x": np.random.default_rng(4).standard_normal((23, 17)).astype(np.float32)}
    results: list[np.ndarray] = []
    for most in (99, 0):
        pipeline = PIPELINES["O3"].replace("schedule-cpu", f"schedule-cpu:most={most}")
        compile_file(_blocks(3), tmp_path / f"{most}.so", passes=pipeline)
        with load(tmp_path / f"{most}.so") as model:
            results.append(model.run(feed)["y"])
    np.testing.assert_allclose(results[0], results[1], rtol=2e-5, atol=2e-6)


def test_values_used_twice_are_looked_at_once() -> None:
    """Of 40 sums of a value with itself, one in another, a walk along the uses takes 2^40 steps."""
    nodes = [node("Softmax", ["x"], ["v0"])]
    nodes += [node("Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(40)]
    nodes.append(node("Softmax", ["v40"]))
    module = read_model(make(nodes, {"x": info("x", [4, 16])}))
    PassManager.parse(PIPELINES["O3"], PassContext(AVX512)).run(module)
