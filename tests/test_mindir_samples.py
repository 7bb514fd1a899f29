"""MindIR of networks against MindSpore's own outputs: files of this folder's data, and the project's samples."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from _mindir import KEY, SAMPLES, needs_samples

from planish.compile import compile_file
from planish.frontend import Reading, open_model
from planish.frontend.mindir.reader import MindirSource
from planish.ir.core import Module
from planish.ir.interp import run_graph
from planish.ir.state import states_of
from planish.ir.verifier import verify
from planish.runtime import load

DATA = Path(__file__).parent / "data" / "mindir"
APPROXIMATE = ("tanh", "lstm", "gru", "rnn", "gelu", "mish", "transformer", "tel")
"""Networks with Tanh: MindSpore's own is off by up to 9.4e-5."""


def names(file: str) -> list[str]:
    with np.load(DATA / file) as data:
        return sorted({key.partition("/")[0] for key in data})


def near(name: str, got: np.ndarray, wanted: np.ndarray) -> None:
    """Compare an output with MindSpore's, within the tolerances that its precision asks for."""
    assert got.shape == wanted.shape, name
    assert got.dtype == wanted.dtype or wanted.dtype == np.float64, name
    loose = 1e-2 if wanted.dtype == np.float16 else 2e-4 if any(part in name for part in APPROXIMATE) else 1e-5
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_allclose(got, wanted, atol=loose, rtol=max(loose, 1e-4), err_msg=name)


def arrays(data: Mapping[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """`prefix`0, `prefix`1 ..."""
    found: list[np.ndarray] = []
    while f"{prefix}{len(found)}" in data:
        found.append(data[f"{prefix}{len(found)}"])
    return found


def interpreted(module: Module, inputs: Mapping[str, np.ndarray], kept: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of one run; `kept` are the states, which change."""
    results = run_graph(module, {**inputs, **kept})
    for name in kept:
        kept[name] = results.pop(f"{name}.next")
    return list(results.values())


def read(source: MindirSource, inputs: list[np.ndarray]) -> tuple[Module, dict[str, np.ndarray]]:
    """The model for the ranks of some inputs, and the inputs by name."""
    given = dict(zip((name for name, _ in source.input_types()), inputs, strict=True))
    module = source.read(ranks={name: given[name].ndim for name in source.unranked()})
    verify(module)
    return module, given


@pytest.mark.parametrize("name", [*names("flow.npz"), *names("layers.npz")])
def test_networks_that_mindspore_exported(name: str) -> None:
    file = "flow.npz" if name in names("flow.npz") else "layers.npz"
    with np.load(DATA / file) as data:
        found = {key.partition("/")[2]: data[key] for key in data if key.startswith(f"{name}/")}
    source = MindirSource(found["mindir"].tobytes())
    kept: dict[str, np.ndarray] | None = None
    for call in sorted({key.partition("/")[0] for key in found} - {"mindir"}):
        module, given = read(source, arrays(found, f"{call}/in"))
        if kept is None:
            kept = {s.input: s.initial.array() for s in states_of(module)}
        outputs = interpreted(module, given, kept)
        wanted = arrays(found, f"{call}/out")
        assert len(outputs) == len(wanted)
        for i, (got, expected) in enumerate(zip(outputs, wanted, strict=True)):
            near(f"{name} call {call} output {i}", got, expected)


# -- the project's samples ---------------------------------------------------------------------------------------------


def samples() -> Iterator[Path]:
    """MindIR files of networks with inputs and outputs beside them."""
    if SAMPLES.is_dir():
        for folder in sorted(SAMPLES.iterdir()):
            if (folder / "io.npz").exists() and (folder / f"{folder.name}.mindir").exists():
                yield folder / f"{folder.name}.mindir"


def check(file: Path, io: Path, key: bytes | None = None) -> None:
    source = open_model(file, Reading(key=key))
    assert isinstance(source, MindirSource)
    data = np.load(io)
    module, given = read(source, arrays(data, "in"))
    kept = {s.input: s.initial.array() for s in states_of(module)}
    outputs = interpreted(module, given, kept)
    wanted = arrays(data, "out")
    assert len(outputs) == len(wanted)
    for i, (got, expected) in enumerate(zip(outputs, wanted, strict=True)):
        near(f"{file.stem} output {i}", got, expected)


@needs_samples
def test_all_networks_agree_with_mindspore() -> None:
    for file in samples():
        check(file, file.parent / "io.npz")


@needs_samples
@pytest.mark.parametrize(
    ("file", "io"),
    [
        ("encrypted/enc_AES-GCM.mindir", "encrypted/io.npz"),
        ("encrypted/enc_AES-CBC.mindir", "encrypted/io.npz"),
        ("encrypted/enc_SM4-CBC.mindir", "encrypted/io.npz"),
        ("external_data/split1_graph.mindir", "external_data/io.npz"),
        ("external_data/splitE_graph.mindir", "external_data/io.npz"),
        ("external_data/splitN_graph.mindir", "external_data/splitN_io.npz"),
        ("mlp_dropout/mlp_dropout_trainmode.mindir", "mlp_dropout/io.npz"),
        ("preprocess_dataset/with_preprocess.mindir", "preprocess_dataset/io.npz"),
    ],
)
def test_other_files_of_the_same_networks(file: str, io: str) -> None:
    if not (SAMPLES / file).exists():
        pytest.skip(f"{file} is held back")
    check(SAMPLES / file, SAMPLES / io, KEY)


@needs_samples
@pytest.mark.parametrize("name", ["tensor_add_docs", "relu_lite_ut", "add_no_encrypt_v1.3", "ReLU_bprop_v1.3"])
def test_files_of_mindspore_1(name: str) -> None:
    file = SAMPLES / "old_formats" / f"{name}.mindir"
    if not file.exists():
        pytest.skip(f"{name} is held back")
    source = open_model(file)
    inputs = [np.array([[1, -2], [3, 4]], np.float32) * (i + 1) for i in range(len(source.input_types()))]
    if name.startswith("relu"):
        inputs = [x.reshape(1, 1, 2, 2) for x in inputs]
    assert isinstance(source, MindirSource)
    module, given = read(source, inputs)
    (y,) = interpreted(module, given, {})
    expected = np.maximum(inputs[0], 0) if "relu" in name else inputs[0] + inputs[1] if "add" in name else None
    np.testing.assert_array_equal(y, np.where(inputs[1] > 0, inputs[2], 0) if expected is None else expected)


@needs_samples
def test_digits_are_read(tmp_path: Path) -> None:
    folder = SAMPLES / "lenet5_trained"
    compile_file(folder / "lenet5_trained.mindir", tmp_path / "lenet.so", self_test=False)
    data = np.load(folder / "io.npz")
    with load(tmp_path / "lenet.so") as model:
        (logits,) = model.run({model.inputs[0].name: data["in0"]}).values()
    near("lenet", logits, data["out0"])
    digits = [int(file.stem.partition("-")[0]) for file in sorted((folder / "images").iterdir())]
    assert sum(logits.argmax(1) == digits) >= sum(data["out0"].argmax(1) == digits) == 9


@needs_samples
def test_parameters_that_are_assigned_are_kept_between_runs(tmp_path: Path) -> None:
    folder = SAMPLES / "state_assign"
    shutil.copy(folder / "state_assign.mindir", tmp_path / "net.mindir")
    compile_file(tmp_path / "net.mindir", tmp_path / "net.so", self_test=False)
    data = np.load(folder / "io_3calls.npz")
    with load(tmp_path / "net.so") as model:
        for call in range(3):
            outputs = list(model.run({"x": data["in0"]}).values())
            for got, expected in zip(outputs, arrays(data, f"call{call}_out"), strict=True):
                np.testing.assert_array_equal(got, expected)
