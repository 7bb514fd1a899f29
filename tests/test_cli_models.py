"""The command line on real files: the digit classifier compiled, run, inspected; damaged and wrong files refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from planish.arrays import save_npz
from planish.files import Kind, kind_of

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MODEL = DIGITS / "digits.onnx"

Planish = Callable[..., tuple[int, str, str]]
Array = NDArray[Any]


@pytest.fixture(scope="module")
def picture() -> Array:
    with np.load(DIGITS / "pictures.npz") as file:
        return file["image"][6:7]


@pytest.fixture(scope="module")
def expected(picture: Array) -> Array:
    session: Any = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": picture})[0])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits (an executable) and digits.so."""
    from planish.cli import main

    folder = tmp_path_factory.mktemp("built")
    for name in ("digits", "digits.so"):
        assert main(["compile", str(MODEL), "-o", str(folder / name)]) == 0
    return folder


@pytest.mark.parametrize("kind", ["model", "library", "executable"])
def test_run_gives_what_onnx_runtime_gives(
    planish: Planish, built: Path, picture: Array, expected: Array, tmp_path: Path, kind: str
) -> None:
    file = {"model": MODEL, "library": built / "digits.so", "executable": built / "digits"}[kind]
    given, answered = tmp_path / "image.npy", tmp_path / "out.npz"
    np.save(given, picture)
    status, out, err = planish("run", file, "--input", f"image={given}", "-o", answered)
    assert (status, out, err) == (0, "", "")
    with np.load(answered) as outputs:
        np.testing.assert_allclose(outputs["probability"], expected, rtol=1e-5, atol=1e-6)


def test_run_without_output_shows_a_summary(planish: Planish, built: Path, picture: Array, tmp_path: Path) -> None:
    save_npz(tmp_path / "in.npz", {"image": picture})
    status, out, _ = planish("run", built / "digits.so", "--inputs", tmp_path / "in.npz")
    assert status == 0
    assert "probability" in out
    assert "1x10" in out
    _, out, _ = planish("run", built / "digits.so", "--inputs", tmp_path / "in.npz", "--json")
    assert int(np.argmax(json.loads(out)["probability"]["values"])) == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing 'image'"),
        ({"picture": np.zeros((1, 1, 8, 8), np.float32)}, "no input 'picture'"),
        ({"image": np.zeros((1, 1, 8, 8), np.float64)}, "expected f32, got f64"),
        ({"image": np.zeros((1, 8, 8), np.float32)}, "'image'"),
        ({"image": np.zeros((1, 1, 8, 9), np.float32)}, "'image'"),
    ],
    ids=["missing", "unknown", "type", "rank", "shape"],
)
def test_wrong_inputs_are_named(
    planish: Planish, built: Path, tmp_path: Path, inputs: dict[str, Array], message: str
) -> None:
    save_npz(tmp_path / "in.npz", inputs)
    status, out, err = planish("run", built / "digits.so", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert (status, out) == (1, "")
    assert err.startswith("planish: error: ")
    assert message in err
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("emit", "suffix", "kind"),
    [
        ("exe", "", Kind.EXECUTABLE),
        ("lib", ".so", Kind.LIBRARY),
        ("static", ".a", Kind.STATIC),
        ("obj", ".o", Kind.OBJECT),
        ("llvm", ".ll", Kind.MODEL),
        ("asm", ".s", Kind.MODEL),
    ],
)
def test_the_suffix_says_what_is_emitted(planish: Planish, tmp_path: Path, emit: str, suffix: str, kind: Kind) -> None:
    out = tmp_path / f"digits{suffix}"
    status, said, err = planish("compile", MODEL, "-o", out, "--json")
    assert (status, err) == (0, "")
    assert json.loads(said)["emit"] == emit
    assert kind_of(out) is kind
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert os.access(out, os.X_OK) == (emit in ("exe", "lib"))


def test_compile_says_what_it_wrote(planish: Planish, tmp_path: Path) -> None:
    status, out, _ = planish("compile", MODEL, "-o", tmp_path / "digits", "-O", "1", "--threads", "1")
    assert status == 0
    assert out.startswith(f"{tmp_path / 'digits'}: exe, ")
    assert "weights" in out


def broken_models(folder: Path) -> dict[str, Path]:
    whole = MODEL.read_bytes()
    contents = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"this is not a model\n" * 20,
        "zeros": bytes(5000),
        "archive": b"PK\x03\x04" + bytes(100),
    }
    for name, content in contents.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "folder.onnx").mkdir()
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("case", ["empty", "truncated", "text", "zeros", "archive", "folder"])
@pytest.mark.parametrize("command", ["compile", "run", "opt", "inspect"])
def test_a_damaged_model_is_one_message(planish: Planish, tmp_path: Path, command: str, case: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    file = broken_models(models)[case]
    out = tmp_path / "out"
    status, said, err = planish(command, file, *(["-o", out] if command == "compile" else []))
    assert (status, said) == (1, "")
    assert err.startswith("planish: error: ")
    assert file.name in err
    assert "internal error" not in err
    assert not out.exists()


@pytest.mark.parametrize("place", ["missing/digits", "file/digits", "folder"])
def test_an_unwritable_output_is_one_message(planish: Planish, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    status, out, err = planish("compile", MODEL, "-o", tmp_path / place, "--emit", "exe")
    assert (status, out) == (1, "")
    assert str(tmp_path / place) in err
    assert "internal error" not in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "canonicalise"], "unknown pass 'canonicalise': did you mean canonicalize"),
        (["--disable", "nothing-like-it"], "unknown pass 'nothing-like-it'"),
        (["-p", "dce"], "expected one: it must contain lower-program"),
        (["--cpu", "pentium-9000"], "pentium-9000"),
        (["--shape", "picture=1,2"], "picture"),
    ],
    ids=["pass", "disable", "incomplete", "cpu", "shape"],
)
def test_wrong_options_are_named(planish: Planish, tmp_path: Path, words: list[str], message: str) -> None:
    status, _, err = planish("compile", MODEL, "-o", tmp_path / "digits", *words)
    assert status == 1
    assert message in err
    assert "internal error" not in err
    assert not list(tmp_path.iterdir())


def test_inspect_shows_a_model(planish: Planish) -> None:
    facts = json.loads(planish("inspect", MODEL, "--json")[1])
    assert facts["inputs"] == [{"name": "image", "dtype": "f32", "shape": [1, 1, 8, 8]}]
    assert facts["outputs"] == [{"name": "probability", "dtype": "f32", "shape": [1, 10]}]
    assert facts["operators"]["nn.conv"] == 2
    status, out, _ = planish("inspect", MODEL)
    assert status == 0
    assert "1x1x8x8" in out


@pytest.mark.parametrize("name", ["digits", "digits.so"])
def test_inspect_shows_an_artifact(planish: Planish, built: Path, name: str) -> None:
    facts = json.loads(planish("inspect", built / name, "--json")[1])
    assert facts["bytes"] == (built / name).stat().st_size
    assert facts["inputs"][0] == {"name": "image", "dtype": "f32", "shape": [1, 1, 8, 8]}
    assert facts["memory"]["arena"] > 0
    weights = [section["bytes"] for section in facts["sections"] if section["role"] == "weights"]
    assert sum(weights) >= 4 * (16 * 9 + 32 * 16 * 9 + 1280)
    status, out, _ = planish("inspect", built / name)
    assert status == 0
    assert ".text" in out


def test_opt_output_can_be_read_back(planish: Planish, tmp_path: Path) -> None:
    first, second = tmp_path / "first.ir", tmp_path / "second.ir"
    assert planish("opt", MODEL, "-p", "canonicalize,dce", "-o", first) == (0, "", "")
    assert planish("opt", first, "-o", second) == (0, "", "")
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")
    assert (tmp_path / "first.ir.npz").exists() == (tmp_path / "second.ir.npz").exists()


def test_opt_shows_each_pass_that_changed_something(planish: Planish) -> None:
    status, out, _ = planish("opt", MODEL, "-p", "cse,form-kernels,fuse-kernels", "--print-after-all")
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("// after")] == [
        "// after form-kernels",
        "// after fuse-kernels",
    ]


def test_text_that_is_no_ir_is_named(planish: Planish, tmp_path: Path) -> None:
    file = tmp_path / "x.ir"
    file.write_bytes(b"\xff\xfe\x00")
    assert "x.ir: expected IR as UTF-8 text" in planish("opt", file)[2]
    file.write_text("graph @main( {")
    assert "x.ir:1: " in planish("opt", file)[2]


def test_bench_measures_side_by_side(planish: Planish) -> None:
    status, out, err = planish(
        "bench", MODEL, "--against", "onnxruntime", "--threads", "1", "--runs", "12", "--json"
    )  # fmt: skip
    assert status == 0, err
    facts = json.loads(out)
    assert (facts["model"], facts["threads"]) == (str(MODEL), 1)
    ours, theirs = facts["contestants"]
    assert (ours["name"], theirs["name"]) == ("planish", "onnxruntime")
    assert ours["ratio"] == 1
    assert ours["runs"] == theirs["runs"] == 12
    assert ours["max_rel_err"] < 1e-4
    for contestant in (ours, theirs):
        assert 0 < contestant["min_ms"] <= contestant["median_ms"] <= contestant["p90_ms"]


def test_bench_of_an_artifact(planish: Planish, built: Path) -> None:
    status, out, _ = planish("bench", built / "digits.so", "--runs", "3")
    assert status == 0
    assert "planish" in out
    _, _, err = planish("bench", built / "digits.so", "--against", "onnxruntime")
    assert "--against needs the model" in err
    _, _, err = planish("bench", built / "digits")
    assert "expected a model or a shared library, got an executable: run " in err


def test_the_executable_checks_itself(built: Path) -> None:
    for command in ("info", "self-test", "bench"):
        done = subprocess.run([built / "digits", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_onnx_runtime_programs_keep_their_calls(built: Path, picture: Array, expected: Array) -> None:
    from planish import InferenceSession

    for source in (str(MODEL), MODEL.read_bytes(), built / "digits.so"):
        session = InferenceSession(source, providers=["CPUExecutionProvider"])
        assert [value.name for value in session.get_inputs()] == ["image"]
        (found,) = session.run(["probability"], {"image": picture})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
