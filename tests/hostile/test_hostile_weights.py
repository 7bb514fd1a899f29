"""Broken and hostile checkpoints and MindIR files: each gives one clear error, in little time and memory, and no
crash."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _hostile import attempt
from _mindir import KEY, dense, encrypted
from onnx_models import info, make, node

from planish.compile import compile_file
from planish.frontend import Reading, open_model

sys.path.insert(0, str(Path(__file__).parent))
from _weights import MINDIR, WEIGHTS, Make, W

sys.path.pop(0)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile a good model: what that imports and looks for, the processes of the cases have then."""
    path = tmp_path_factory.mktemp("warm") / "m.mindir"
    path.write_bytes(dense())
    compile_file(path, path.with_suffix(".so"))


def _refused(work: Callable[[], object], pattern: str, folder: Path) -> None:
    outcome = attempt(work)
    assert outcome.kind == "error", f"{outcome.kind}: {outcome.text}"
    assert re.search(pattern, outcome.text), outcome.text
    assert len(outcome.text) < 3000 and outcome.text.count("\n") < 30, outcome.text
    assert outcome.growth < 1 << 30
    assert not (folder / "out.so").exists()


def _written(make: Make, path: Path) -> Path:
    made = make(path.parent)
    if isinstance(made, Path):
        return made
    path.write_bytes(made)
    return path


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_hostile_checkpoint_gives_one_clear_error(name: str, tmp_path: Path) -> None:
    build, pattern = WEIGHTS[name]
    model = make([node("MatMul", ["x", "fc.w"])], {"x": info("x", [2, 64])}, constants=W)
    weights = _written(build, tmp_path / "w.ckpt")
    reading = Reading(weights, None if "no key" in name else KEY)
    _refused(lambda: compile_file(model, tmp_path / "out.so", reading=reading, cache=False), pattern, tmp_path)


@pytest.mark.parametrize("name", MINDIR)
def test_a_hostile_mindir_file_gives_one_clear_error(name: str, tmp_path: Path) -> None:
    build, pattern = MINDIR[name]
    path = _written(build, tmp_path / "m.mindir")
    reading = Reading(key=None if "no key" in name else KEY)
    _refused(lambda: compile_file(path, tmp_path / "out.so", reading=reading, cache=False), pattern, tmp_path)


@pytest.mark.parametrize("cipher", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_a_wrong_key_gives_one_clear_error(cipher: str, tmp_path: Path) -> None:
    path = tmp_path / "m.mindir"
    path.write_bytes(encrypted(dense(), cipher=cipher))
    _refused(lambda: open_model(path, Reading(key=KEY[::-1])), "the key does not fit", tmp_path)
