"""Bad values given to good models: each gives one clear error, in little time and memory, and no crash."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from _hostile import attempt

from planish.compile import compile_file
from planish.runtime import load

sys.path.insert(0, str(Path(__file__).parent))
from _values import MODELS, VALUES

sys.path.pop(0)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library for each model that is used."""
    folder = tmp_path_factory.mktemp("models")
    for name, made in MODELS.items():
        compile_file(made(), folder / f"{name}.so", opt=1)
    return folder


def _run(library: Path, name: str) -> None:
    with load(library, threads=1) as model:
        model.run(VALUES[name][1], max_bytes=1 << 29, seconds=1.0)


@pytest.mark.parametrize("name", VALUES)
def test_a_bad_value_gives_one_clear_error(name: str, compiled: Path) -> None:
    model, _, pattern = VALUES[name]
    outcome = attempt(lambda: _run(compiled / f"{model}.so", name))
    assert outcome.kind == "error", f"{outcome.kind}: {outcome.text}"
    assert re.search(pattern, outcome.text), outcome.text
    assert len(outcome.text) < 2000 and "\n" not in outcome.text, outcome.text
    assert outcome.growth < 1 << 30
