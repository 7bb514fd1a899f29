"""MindIR's primitives, one in each file, against MindSpore's own outputs: of this folder's data, and of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _mindir import SAMPLES, needs_samples

import planish
from planish.frontend.mindir.reader import MindirSource
from planish.ir.interp import run_graph

DATA = Path(__file__).parent / "data" / "mindir" / "operators.npz"
OPERATORS = SAMPLES / "ops"
with np.load(DATA) as _data:
    CASES: dict[str, dict[str, np.ndarray]] = {}
    for _key in _data:
        CASES.setdefault(_key.partition("/")[0], {})[_key.partition("/")[2]] = _data[_key]
COMPILED = (
    "act_celu", "bin_Mod", "conv1d", "gather_ax1", "nms", "red_ReduceProd_keep", "resize_bilinear", "roi_align",
    "sort", "strided_slice_masks",
)  # fmt: skip
APPROXIMATE = ("tanh", "gelu", "mish")  # through MindSpore's tanh, which is up to 9.4e-5 from the true one


def arrays(data: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """`prefix`0, `prefix`1 ..."""
    return [data[f"{prefix}{i}"] for i in range(sum(k.startswith(prefix) for k in data))]


def agree(name: str, got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Compare outputs with MindSpore's."""
    assert len(got) == len(wanted), name
    for g, w in zip(got, wanted, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype), name
        wide = np.complex128 if w.dtype.kind == "c" else np.float64
        loose = 1e-2 if w.dtype == np.float16 else 2e-4 if any(a in name.lower() for a in APPROXIMATE) else 1e-5
        np.testing.assert_allclose(g.astype(wide), w.astype(wide), atol=loose, rtol=max(loose, 1e-4), err_msg=name)


def interpreted(source: MindirSource, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of the model as it is read."""
    module = source.read()
    return list(run_graph(module, dict(zip((p.name for p in module.main.params), inputs, strict=True))).values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_primitive_that_mindspore_exported(name: str) -> None:
    found = CASES[name]
    got = interpreted(MindirSource(found["mindir"].tobytes()), arrays(found, "in"))
    agree(name, got, arrays(found, "out"))


def sample(name: str) -> tuple[Path, list[np.ndarray], list[np.ndarray]]:
    """The file of an operator, its inputs and outputs."""
    with np.load(OPERATORS / name / "io.npz") as data:
        found = {key: data[key] for key in data}
    return OPERATORS / name / f"{name}.mindir", arrays(found, "in"), arrays(found, "out")


@needs_samples
def test_all_operators_of_the_samples() -> None:
    for folder in sorted(OPERATORS.iterdir()):
        path, inputs, wanted = sample(folder.name)
        agree(folder.name, interpreted(MindirSource(path), inputs), wanted)


@needs_samples
@pytest.mark.parametrize("name", COMPILED)
def test_operators_of_the_samples_compiled(name: str) -> None:
    path, inputs, wanted = sample(name)
    with planish.compile(path) as model:
        got = model.run(dict(zip((i.name for i in model.inputs), inputs, strict=True)))
    agree(name, list(got.values()), wanted)
