"""MindIR files that planish writes, loaded and run by MindSpore itself: `make test-mindspore` (2.8 GB, once).

MindSpore needs an environment of its own; `PLANISH_MINDSPORE` names its Python. Without it these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _exported import difference, module_of
from _mindir import SAMPLES
from _networks import NAMES, network, network_inputs
from _samples import sample_arrays, tensor_ops

from planish.exporting import export, write_mindir
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph
from planish.writers.mindir import MindirModel

PYTHON = os.environ.get("PLANISH_MINDSPORE", "")
CHILD = Path(__file__).parent / "mindspore_child.py"
pytestmark = [
    pytest.mark.mindspore,
    pytest.mark.skipif(not PYTHON, reason="needs MindSpore in an environment of its own: make test-mindspore"),
]
KEY = b"0123456789abcdef"
SAMPLE_NETWORKS = (
    "dtypes", "dynamic_rank", "dynamic_shape", "fp16_cast_net", "fp16_param_net", "gru_cell_unrolled", "if_else",
    "lenet5", "lenet5_trained", "lstm", "lstm_cell_unrolled", "mlp_dropout", "multi_io", "resnet18_w8",
    "shared_weight", "state_assign", "tensor_add", "transformer_encoder", "transformer_encoder_tanh", "tuple_input",
    "while_loop",
)  # fmt: skip
# Where MindSpore's kernels give something else: the order of equal elements, floats out of a narrow integer's range.
DIFFERENT = ("reduce.top_k", "arith.cast-2")


def run_in_mindspore(folder: Path) -> None:
    """All MindIR files of a folder, in one process."""
    done = subprocess.run([PYTHON, str(CHILD), str(folder)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


def outputs(folder: Path, name: str) -> list[Any]:
    """What MindSpore computed; fails with what it said instead."""
    error = folder / f"{name}.error"
    assert not error.exists(), error.read_text(encoding="utf-8")[:2000]
    found = np.load(folder / f"{name}.out.npz")
    return [found[key] for key in found.files]


def assert_close(got: list[Any], want: list[Any], half: bool = False) -> None:
    """Within 1e-5 + 1e-4 relative; results of f16 within 1e-2."""
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        low = (1e-2, 1e-2) if half or b.dtype == np.float16 else (1e-4, 1e-5)
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), *low)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Outputs of all small networks."""
    folder = tmp_path_factory.mktemp("networks")
    for name in NAMES:
        encrypted = name == "residual"
        write_mindir(network(name), folder / f"{name}.mindir", KEY if encrypted else None, external=name == "lenet")
        if encrypted:
            (folder / f"{name}.key").write_bytes(KEY)
        np.savez(folder / f"{name}.in.npz", **network_inputs(name))
    run_in_mindspore(folder)
    yield folder


@pytest.mark.parametrize("name", NAMES)
def test_small_networks(networks: Path, name: str) -> None:
    want = run_graph(network(name), network_inputs(name))
    assert_close(outputs(networks, name), list(want.values()), half=name == "halves")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Outputs of networks that MindSpore made, read and written by planish."""
    if not SAMPLES.exists():
        pytest.skip(f"needs MindSpore's files in {SAMPLES}")
    folder = tmp_path_factory.mktemp("samples")
    for name in SAMPLE_NETWORKS:
        export(SAMPLES / name / f"{name}.mindir", folder / f"{name}.mindir")
        given = np.load(SAMPLES / name / "io.npz")
        np.savez(folder / f"{name}.in.npz", **{key: given[key] for key in given.files if key.startswith("in")})
    run_in_mindspore(folder)
    yield folder


@pytest.mark.parametrize("name", SAMPLE_NETWORKS)
def test_networks_of_mindspore(samples: Path, name: str) -> None:
    given = np.load(SAMPLES / name / "io.npz")
    want = [given[key] for key in given.files if key.startswith("out")]
    assert_close(outputs(samples, name), want, half=name.startswith("fp16"))


def test_samples_of_every_operation(tmp_path: Path) -> None:
    wanted: dict[str, dict[str, Any]] = {}
    for kind in tensor_ops():
        for number, op in enumerate(kind.samples()):
            name, arrays = f"{kind.op_name}-{number}", sample_arrays(op)
            plain = all(a.dtype.kind in "biuf" and "float8" not in a.dtype.name for a in arrays)
            if not plain or name.startswith(DIFFERENT):
                continue
            inputs = {f"x{i}": a for i, a in enumerate(arrays)}
            module = module_of(op)
            try:
                data = MindirModel(module).message().bytes()
            except UnsupportedError:
                continue
            want = run_graph(module, inputs)
            if any(v.dtype.kind not in "biuf" for v in want.values()):
                continue
            (tmp_path / f"{name}.mindir").write_bytes(data)
            np.savez(tmp_path / f"{name}.in.npz", **inputs)
            wanted[name] = want
    run_in_mindspore(tmp_path)
    wrong: list[str] = []
    for name, want in wanted.items():
        got = dict(zip(want, outputs(tmp_path, name), strict=True))
        if found := difference(got, want, 1e7 if any(v.dtype == np.float64 for v in want.values()) else 64):
            wrong.append(f"{name}: {found}")
    assert len(wanted) > 600
    assert not wrong, "\n".join(wrong)
