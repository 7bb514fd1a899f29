"""`python -m benchmarks`: records that survive interruptions, the page, and one model measured for real."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planish.arrays import save_npz

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits"
sys.path.insert(0, str(ROOT))

from benchmarks.page import geometric_mean, page  # noqa: E402
from benchmarks.records import Record, Setup, append_record, latest, read_records  # noqa: E402

SETUP = Setup("c0ffee", {"planish": "1", "openvino": "2"}, "A CPU", 2)


def contestant(name: str, ms: float, foreign: float = 0.0) -> dict[str, Any]:
    return {
        "name": name, "median_ms": ms, "first_ms": 1.0, "load_ms": 1.0, "peak_rss_mb": 30.0, "compile_s": 1.0,
        "max_rel_err": 1e-6, "foreign_cpu": foreign,
    }  # fmt: skip


def record(model: str, threads: int, ratios: dict[str, float], foreign: float = 0.0) -> Record:
    others = [contestant(name, 8.0 / ratio) for name, ratio in ratios.items()]
    return Record(model, threads, SETUP, [contestant("planish", 8.0, foreign), *others], ratios)


def test_records_survive_an_interrupted_write(tmp_path: Path) -> None:
    file = tmp_path / "new" / "r.jsonl"
    assert read_records(file) == []
    append_record(file, record("a", 1, {"openvino": 0.5}))
    with file.open("a") as f:
        f.write('{"model": "b", "thr')
    append_record(file, record("c", 2, {"openvino": 0.5}))
    assert [(r.model, r.threads) for r in read_records(file)] == [("a", 1), ("c", 2)]
    assert read_records(file)[0].setup == SETUP


def test_only_records_of_the_same_setup_without_errors_are_used_again() -> None:
    old = replace(record("a", 1, {}), setup=replace(SETUP, compiler="0"))
    failed = replace(record("b", 1, {}), error="died")
    good = record("c", 1, {})
    assert set(latest([old, failed, good], SETUP)) == {("c", 1)}
    assert set(latest([old, failed, good])) == {("a", 1), ("b", 1), ("c", 1)}
    assert latest([good, replace(good, threads=1, ratios={"x": 1.0})])["c", 1].ratios == {"x": 1.0}


def test_the_ratio_is_that_to_the_fastest_other() -> None:
    assert record("a", 1, {"onnxruntime": 0.5, "openvino": 0.8}).best_ratio == 0.8
    assert record("a", 1, {}).best_ratio is None
    assert geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1.0)


def test_the_page_has_every_model_its_ratio_and_what_is_missing() -> None:
    records = {
        ("squeezenet_rand", 1): replace(record("squeezenet_rand", 1, {"openvino": 0.5}), gmac=0.35),
        ("resnet50", 1): record("resnet50", 1, {"openvino": 2.0}, foreign=0.3),
        ("resnet18", 2): replace(record("resnet18", 2, {}), contestants=[], error="a | b"),
    }
    text = page(records, ["unet"], {1: "117 GFLOP/s"}, "b.svg")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| resnet50 | - | 8 | 4 | **2.00** |") and rows[2].endswith(
        "| others used 30% of a core |"
    )
    assert rows[3].startswith("| squeezenet_rand | 0.35 | 8 | 16 | **0.50** |")
    assert rows[4].startswith("| geometric mean |  |  |  | **1.000** |")
    assert any(row.startswith("| resnet18 |  | a \\| b |") for row in rows)
    widths = {row.replace("\\|", "").count("|") for row in rows[:5]}
    assert len(widths) == 1
    assert "not there: unet" in text and "1 thread: 117 GFLOP/s" in text and "(b.svg)" in text


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_model_is_measured_once_and_then_kept(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    shutil.copy(DIGITS / "digits.onnx", zoo / "digits.onnx")
    with np.load(DIGITS / "pictures.npz") as pictures:
        save_npz(zoo / "digits.inputs.npz", {"image": pictures["image"][:1]})

    def bench() -> subprocess.CompletedProcess[str]:
        words = ["--models", "digits", "resnet50", "--threads", "1", "--against", "onnxruntime", "--runs", "2"]
        files = ["--records", tmp_path / "r.jsonl", "--page", tmp_path / "B.md"]
        command = [sys.executable, "-m", "benchmarks", *words, *map(str, files)]
        env = {**os.environ, "PLANISH_ZOO": str(tmp_path)}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    first = bench()
    assert first.returncode == 0, first.stderr
    assert "1 to measure, 0 kept" in first.stderr and "resnet50" in first.stderr
    assert "| digits | " in (tmp_path / "B.md").read_text()
    assert (tmp_path / "benchmarks.svg").exists()
    assert "0 to measure, 1 kept" in bench().stderr
