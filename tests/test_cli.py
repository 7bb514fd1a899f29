"""The command line: exit statuses, messages, files in and out. What needs the compiler is in test_cli_models.py."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from planish import cli
from planish.arrays import read_inputs, save_npz, write_outputs
from planish.commands import base
from planish.ir.errors import ModelError

Planish = Callable[..., tuple[int, str, str]]


def raising(error: BaseException) -> base.Command:
    def run(_: argparse.Namespace) -> int:
        raise error

    return base.Command("x", "", "", lambda _: None, run)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ModelError("net.onnx: truncated"), 1, "planish: error: net.onnx: truncated\n"),
        (FileNotFoundError(2, "No such file or directory", "net.onnx"), 1, "net.onnx: no such file or directory"),
        (PermissionError(13, "Permission denied", "out"), 1, "planish: error: out: permission denied\n"),
        (
            ModuleNotFoundError("", name="onnx.defs"),
            1,
            "'onnx.defs', which is not installed: pip install onnx\n",
        ),
        (ModelError("node 'a\x1b[2J\u202e\0': no"), 1, "node 'a\\x1b[2J\\u202e\\x00': no\n"),
        (MemoryError(), 1, "planish: error: out of memory\n"),
        (KeyError("x"), 1, "internal error: KeyError: 'x' (test_cli.py:"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_failure_is_one_message_and_a_status(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.guarded(raising(error), argparse.Namespace()) == status
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") <= 1
    assert "Traceback" not in said.err


def test_a_reader_that_has_enough_is_not_an_error() -> None:
    words = [sys.executable, "-m", "planish", "bench", "--help"]
    program = "import sys, planish.commands.base as b; [b.print_json({'x': i}) for i in range(100000)]"
    code = f"from planish import cli; import argparse\ndef run(_):\n {program}\n return 0\n"
    code += "from planish.commands.base import Command\n"
    code += "import sys; sys.exit(cli.guarded(Command('x', '', '', None, run), argparse.Namespace()))"
    process = subprocess.Popen([words[0], "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["compile", "net.onnx"],
        ["compile", "net.onnx", "-o", "x", "--emit", "jar"],
        ["compile", "net.onnx", "-o", "x", "-O", "4"],
        ["compile", "net.onnx", "-o", "x", "--threads", "0"],
        ["compile", "net.onnx", "-o", "x", "--shape", "image"],
        ["run", "net.onnx", "--input", "x"],
        ["run", "net.onnx", "--input", "x=x.npy", "--inputs", "x.npz"],
        ["bench", "net.onnx", "--against", "nobody"],
        ["opt"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(planish: Planish, words: list[str]) -> None:
    status, out, err = planish(*words)
    assert status == 2
    assert out == ""
    assert "error:" in err


@pytest.mark.parametrize("command", ["compile", "run", "bench", "opt", "inspect"])
def test_every_command_has_help(planish: Planish, command: str) -> None:
    status, out, err = planish(command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: planish {command}" in out


@pytest.mark.parametrize("command", ["run", "bench", "inspect"])
def test_a_missing_file_is_named(planish: Planish, command: str, tmp_path: Path) -> None:
    status, out, err = planish(command, tmp_path / "net.onnx")
    assert (status, out) == (1, "")
    assert err == f"planish: error: {tmp_path / 'net.onnx'}: no such file or directory\n"


def test_the_installed_command_and_the_module_are_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "planish", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("planish ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("batch=8", ("batch", (8,))), ("image=1,3,224,224", ("image", (1, 3, 224, 224))), ("a=b=2x3", ("a=b", (2, 3)))],
)
def test_shapes_are_read(text: str, expected: tuple[str, tuple[int, ...]]) -> None:
    assert base.shape(text) == expected


@pytest.mark.parametrize("text", ["", "x", "=1", "x=", "x=-1", "x=1,,2", "x=a"])
def test_wrong_shapes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=DIMS"):
        base.shape(text)


def test_arrays_survive_the_way_out_and_in(tmp_path: Path) -> None:
    import ml_dtypes

    file = tmp_path / "out.npz"
    outputs = {
        "file": np.arange(6, dtype=np.float32).reshape(2, 3),
        "../odd name": np.array(True),
        "half": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    }
    write_outputs(file, outputs, {"half": "bf16"})
    with np.load(file) as raw:
        assert sorted(raw.files) == ["../odd name", "file", "half:bf16"]
        assert raw["half:bf16"].dtype == np.uint16
    back = read_inputs([], file)
    assert {name: (a.dtype, a.tolist()) for name, a in back.items()} == {
        name: (a.dtype, a.tolist()) for name, a in outputs.items()
    }


def test_a_sequence_is_written_part_by_part(tmp_path: Path) -> None:
    file = tmp_path / "out.npz"
    write_outputs(file, {"x": [np.zeros(1, np.int64), np.ones(2, np.int64)]}, {"x": "i64"})
    with np.load(file) as raw:
        assert raw.files == ["x.0", "x.1"]


def bad_files(folder: Path) -> dict[str, tuple[list[tuple[str, Path]], Path | None, str]]:
    one, many, text = folder / "one.npy", folder / "many.npz", folder / "text.npy"
    np.save(one, np.zeros(3, np.float32))
    save_npz(many, {"x:bf16": np.zeros(3, np.float32)})
    text.write_text("no")
    cut = folder / "cut.npy"
    cut.write_bytes(one.read_bytes()[:-4])
    objects = folder / "objects.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    return {
        "twice": ([("x", one), ("x", one)], None, "--input x: given twice"),
        "archive as input": ([("x", many)], None, "expected one array (.npy), got an archive"),
        "array as inputs": ([], one, "expected an archive (.npz), got one array"),
        "not NumPy": ([("x", text)], None, "text.npy: expected a NumPy file"),
        "cut off": ([("x", cut)], None, "cut.npy: expected a NumPy file"),
        "pickled": ([("x", objects)], None, "objects.npy: expected a NumPy file"),
        "wrong bits": ([], many, "x:bf16: expected the raw bits as uint16, got float32"),
    }


@pytest.mark.parametrize(
    "case", ["twice", "archive as input", "array as inputs", "not NumPy", "cut off", "pickled", "wrong bits"]
)
def test_bad_input_files_are_named(tmp_path: Path, case: str) -> None:
    files, archive, message = bad_files(tmp_path)[case]
    with pytest.raises(Exception) as caught:
        read_inputs(files, archive)
    assert message in cli.explain(caught.value)
    assert "internal error" not in cli.explain(caught.value)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "out.npz"
    file.write_text("before")

    with pytest.raises(ValueError, match="Object arrays"):
        write_outputs(file, {"x": np.array([{}], dtype=object)}, {"x": "string"})
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    place = tmp_path / "no" / "out.npz"
    with pytest.raises(OSError) as caught:
        write_outputs(place, {"x": np.zeros(1)}, {"x": "f64"})
    assert cli.explain(caught.value) == f"{place}: cannot write: No such file or directory"


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    base.print_table("[bold]t[/]", ["name", "n"], [["[red]x[/]\x1b[2J\n", 1234567], ["y", None]])
    out = capsys.readouterr().out
    assert "[red]x[/]" in out
    assert "\x1b" not in out
    assert "1,234,567" in out


def test_pass_lists_are_tables(planish: Planish) -> None:
    status, out, _ = planish("opt", "--list-passes")
    assert status == 0
    assert "canonicalize" in out
    assert "O3" in out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    base.print_json({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
