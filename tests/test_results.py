"""Finished artifacts in the cache: what makes a key, and that damaged entries and odd places are no artifact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planish import _results
from planish._results import keep, key_of, restore

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx"
Run = Callable[..., tuple[int, str, str]]


def test_a_key_depends_on_content_options_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, copy, out = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "out.so"
    model.write_bytes(b"one")
    copy.write_bytes(b"one")
    key = key_of(model, out, {"opt": 3})
    assert key and key == key_of(copy, tmp_path / "elsewhere" / "out.so", {"opt": 3})
    assert key_of(model, out, {"opt": 2}) != key
    assert key_of(model, tmp_path / "other.so", {"opt": 3}) != key  # nameless models are called like their artifact
    copy.write_bytes(b"two")
    assert key_of(copy, out, {"opt": 3}) != key
    monkeypatch.setattr(_results, "sources_digest", lambda: "changed")
    assert key_of(model, out, {"opt": 3}) != key


def test_models_with_external_data_and_what_is_not_there_have_no_key(tmp_path: Path) -> None:
    model = tmp_path / "a.onnx"
    model.write_bytes(b"..j\x14\n\x08location\x12\x08data.bin")
    for path in (model, tmp_path / "absent.onnx"):
        assert key_of(path, tmp_path / "out.so", {}) is None


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(bytes(range(256)) * 5000)
    first.chmod(0o755)
    keep("a1", first, {"kernels": 3})
    second.write_bytes(b"older")
    assert restore("a1", second) == {"kernels": 3}
    assert second.read_bytes() == first.read_bytes()
    assert second.stat().st_mode & 0o100
    assert restore("b2", second) is None


def test_a_damaged_entry_is_not_used_and_goes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"artifact")
    keep("c3", first, {})
    entry, _ = _results._places("c3")
    entry.write_bytes(b"artefact")
    second.write_bytes(b"older")
    assert restore("c3", second) is None
    assert second.read_bytes() == b"older"
    assert not entry.exists()
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("first", "second")] == []


def test_a_large_artifact_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_results, "MOST_BYTES", 4)
    out = tmp_path / "out"
    out.write_bytes(b"12345")
    keep("d4", out, {})
    assert restore("d4", out) is None


def test_the_second_compilation_gives_the_same_file(planish: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(DIGITS, model)
    answers: list[dict[str, Any]] = []
    files: list[bytes] = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        out = tmp_path / folder / "digits-twice"
        status, text, err = planish("compile", model, "-o", out, "--json", "-O", "2")
        assert status == 0, err
        answers.append(json.loads(text))
        files.append(out.read_bytes())
    assert files[0] == files[1]
    assert [answer["from_cache"] for answer in answers] == [False, True]
    changing = ("output", "compile_s", "from_cache")
    assert all(answers[0][key] == answers[1][key] for key in answers[0] if key not in changing)
    status, text, _ = planish("compile", model, "-o", tmp_path / "a" / "digits-twice", "-O", "2")
    assert status == 0
    assert "taken from the cache" in text
