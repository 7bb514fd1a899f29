"""Every pass on the tensor form and on kernels keeps the meaning of random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from _graphs import GraphMaker

from planish.ir.core import Module
from planish.ir.interp import run_graph
from planish.ir.text import parse_module, print_module
from planish.passes import PassManager

PIPELINES = [
    "cse,dce",
    "fold,dce",
    "canonicalize",
    "fold-batch-norm",
    "canonicalize,fold,cse,dce,fold-batch-norm,canonicalize,fold,cse,dce",
    "form-kernels",
    "form-kernels,fuse-kernels",
    "form-kernels,share-rows",
    "form-kernels,fuse-kernels,share-rows,fuse-local",
    "canonicalize,fold,cse,dce,fold-batch-norm,canonicalize,fold,cse,dce,form-kernels,fuse-kernels,dce",
]


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], what: str) -> None:
    assert got.keys() == expected.keys()
    for name, want in expected.items():
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=3e-5 * scale, err_msg=f"{what}: {name}")


def run(module: Module, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return run_graph(module, inputs)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_mean_the_same_after_every_pass(seed: int) -> None:
    maker = GraphMaker(seed)
    module = maker.grow(steps=14)
    inputs = maker.inputs()
    expected = run(module, inputs)
    for pipeline in PIPELINES:
        changed = module.clone()
        PassManager.parse(pipeline).run(changed)
        assert_same(run(changed, inputs), expected, pipeline)


@pytest.mark.parametrize("seed", range(5))
def test_fused_kernels_print_and_parse(seed: int) -> None:
    module = GraphMaker(100 + seed).grow(steps=10)
    PassManager.parse("form-kernels,fuse-kernels").run(module)
    text = print_module(module)
    if "resource(" not in text:
        assert print_module(parse_module(text)) == text


@pytest.mark.parametrize("seed", range(5))
def test_passes_settle(seed: int) -> None:
    """Running a pass again changes nothing."""
    module = GraphMaker(200 + seed).grow(steps=14)
    for name in ("canonicalize", "cse", "dce", "fold", "dce", "form-kernels", "fuse-kernels", "dce"):
        PassManager.parse(name).run(module)
        (again,) = PassManager.parse(name).run(module)
        assert not again.changed, name
