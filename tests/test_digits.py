"""The digit classifier of the demo: its accuracy on pictures it has not seen, and the demo from end to end."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    """examples/digits/train.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DIGITS))
        spec = importlib.util.spec_from_file_location("digits_train", DIGITS / "train.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_the_committed_model_knows_pictures_it_has_not_seen(train: ModuleType) -> None:
    _, _, pictures, labels = train.split(np.random.default_rng(train.SEED))
    assert len(pictures) == 360
    session: Any = onnxruntime.InferenceSession(str(DIGITS / "digits.onnx"), providers=["CPUExecutionProvider"])
    guesses = [int(np.argmax(session.run(None, {"image": picture[None]})[0])) for picture in pictures]
    assert np.mean(np.array(guesses) == labels) >= 0.98


def test_the_demo_pictures_are_held_back_ones_two_of_each_digit(train: ModuleType) -> None:
    seen, _, held, labels = train.split(np.random.default_rng(train.SEED))
    chosen = train.two_of_each(labels)
    with np.load(DIGITS / "pictures.npz") as file:
        assert np.array_equal(file["image"], held[chosen])
        assert file["label"].tolist() == [digit for digit in range(10) for _ in range(2)]
        assert not (file["image"][:, None] == seen[None]).all(axis=(2, 3, 4)).any()


def test_the_gradients_are_those_of_the_loss(train: ModuleType) -> None:
    """Each parameter array's gradient along a random direction, against a central difference, in float64."""
    rng = np.random.default_rng(0)
    model = train.Classifier(rng)
    for layer in (model.conv1, model.conv2, model.dense):
        layer.weight, layer.bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64) + 0.1
    x, label = rng.random((8, 1, 8, 8)), rng.integers(0, 10, 8)

    def loss() -> float:
        return float(-np.log(model.probability(x)[np.arange(8), label]).mean())

    parameters: list[NDArray[np.float64]] = model.parameters()
    gradients: list[NDArray[np.float64]] = model.gradients(x, label)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction, step = rng.standard_normal(parameter.shape), 1e-6
        parameter += step * direction
        above = loss()
        parameter -= 2 * step * direction
        below = loss()
        parameter += step * direction
        assert (above - below) / (2 * step) == pytest.approx((gradient * direction).sum(), rel=1e-4, abs=1e-8)


def test_the_model_file_is_small_and_fixed() -> None:
    assert (DIGITS / "digits.onnx").stat().st_size < 1_000_000
    graph = onnx.load(DIGITS / "digits.onnx").graph
    (image,), (probability,) = graph.input, graph.output
    assert (image.name, probability.name) == ("image", "probability")
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 1, 8, 8]


def test_the_demo_runs_the_executable_on_every_picture(tmp_path: Path) -> None:
    command = [sys.executable, str(DIGITS / "demo.py"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"\d  \d+\.\d%", done.stdout)) == 20
    assert "20 of 20 right" in done.stdout
    linked = {line.split()[0] for line in done.stdout.partition("linked to:")[2].splitlines() if line.strip()}
    assert {re.sub(r"\.so.*", "", Path(name).name) for name in linked} <= {
        "linux-vdso",
        "libm",
        "libc",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }
