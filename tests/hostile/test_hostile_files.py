"""Broken and hostile model files: each gives one clear error, in little time and memory, and no crash."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from _hostile import attempt

from planish.compile import compile_file
from planish.runtime import RunError, load

sys.path.insert(0, str(Path(__file__).parent))
from _files import FILES, NAMES, named

sys.path.pop(0)


def _compiled(name: str, folder: Path) -> None:
    made = FILES[name][0](folder)
    if isinstance(made, bytes):
        (folder / "m.onnx").write_bytes(made)
        made = folder / "m.onnx"
    compile_file(made, folder / "out.so", workers=1, cache=False)


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_gives_one_clear_error(name: str, tmp_path: Path) -> None:
    outcome = attempt(lambda: _compiled(name, tmp_path))
    assert outcome.kind == "error", f"{outcome.kind}: {outcome.text}"
    assert re.search(FILES[name][1], outcome.text), outcome.text
    assert len(outcome.text) < 3000 and outcome.text.count("\n") < 30, outcome.text
    assert outcome.growth < 1 << 30
    assert not (tmp_path / "out.so").exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_do_no_harm(name: str, tmp_path: Path) -> None:
    model = named(NAMES[name])
    compile_file(model, tmp_path / "out.so", opt=1)
    with load(tmp_path / "out.so", threads=1) as loaded:
        feed = {NAMES[name]: np.array([[1, -2, 3]], np.float32), "i": np.array([0, 0])}
        (got,) = loaded.run(feed).values()
        np.testing.assert_array_equal(got, [[1, 0, 3]] * 2)
        with pytest.raises(RunError, match="expected 0 to 0, got 5") as error:
            loaded.run({**feed, "i": np.array([0, 5])})
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.so"]


@pytest.mark.parametrize("name", ["cut after 50 %", "cycle", "Tile bomb", "external data at an absolute path"])
def test_the_command_line_says_one_thing_and_ends_with_1(name: str, tmp_path: Path) -> None:
    made = FILES[name][0](tmp_path)
    path = made if isinstance(made, Path) else tmp_path / "m.onnx"
    if not isinstance(made, Path):
        path.write_bytes(made.SerializeToString() if isinstance(made, onnx.ModelProto) else made)
    done = subprocess.run(
        [sys.executable, "-m", "planish", "compile", str(path), "-o", str(tmp_path / "app")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == "" and done.stderr.startswith("planish: error: ") and "Traceback" not in done.stderr
    assert re.search(FILES[name][1], done.stderr)
