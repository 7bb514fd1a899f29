"""Hostile state dicts and exported programs of PyTorch: each gives one clear error, in little time and memory, and
nothing of what is in them runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _hostile import attempt

from planish.compile import compile_file
from planish.frontend.checkpoints import read_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from _pickles import PICKLES, PLACE, PROGRAMS

sys.path.pop(0)


def _refused(work: Callable[[], object], pattern: str, folder: Path) -> None:
    outcome = attempt(work)
    assert outcome.kind == "error", f"{outcome.kind}: {outcome.text}"
    assert re.search(pattern, outcome.text), outcome.text
    assert len(outcome.text) < 3000 and outcome.text.count("\n") < 30, outcome.text
    assert outcome.growth < 1 << 30
    assert not Path(PLACE).exists()
    assert sorted(p.name for p in folder.iterdir()) == ["m.pt"]


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_refused_and_writes_nothing(name: str, tmp_path: Path) -> None:
    data, pattern = PICKLES[name]
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    _refused(lambda: read_checkpoint(path), pattern, tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_gives_one_clear_error(name: str, tmp_path: Path) -> None:
    data, pattern = PROGRAMS[name]
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    _refused(lambda: compile_file(path, tmp_path / "out.so", cache=False), pattern, tmp_path)
