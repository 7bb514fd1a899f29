"""Measured schedules: candidates are legal and right, a database believes nothing, tuning ends and can be repeated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _jit import load as load_kernel
from _kernels import CASES, case, kernel

import planish
from planish.cli import main
from planish.codegen.llvm.compile import kernel_code
from planish.codegen.llvm.target import target_for
from planish.compile import compile_file
from planish.ir.errors import PlanishError
from planish.ir.kernel.form import Kernel
from planish.ir.target_info import TargetInfo
from planish.ir.text import print_function
from planish.passes.schedule.candidates import KINDS, Candidate, candidates
from planish.passes.schedule.cpu import schedule_kernel
from planish.passes.schedule.database import (
    Entry,
    ScheduleDatabase,
    Schedules,
    content,
    get_schedules,
    key_of,
    misfit,
    set_schedules,
)
from planish.runtime import load
from planish.tuner import LostError, WorkerProcess
from planish.tuning import check_tunable

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx"
HOST = target_for()


def scheduled(name: str) -> tuple[Kernel, Schedules]:
    found = kernel(name)
    schedule_kernel(found, HOST)
    return found, get_schedules(found)


def every_candidate(found: Kernel, base: Schedules) -> list[Candidate]:
    return [c for kind in KINDS for c in candidates(found, kind, base, HOST, 2)]


# -- candidates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_candidates_are_few_distinct_and_legal(name: str) -> None:
    found, base = scheduled(name)
    tried = every_candidate(found, base)
    assert len({c.schedules for c in tried} | {base}) == len(tried) + 1
    assert len(tried) <= 120
    assert not any(misfit(found, c.schedules, HOST) for c in tried)
    assert get_schedules(found) == base
    assert every_candidate(found, base) == tried


@pytest.mark.parametrize("name", ["grouped_convolution", "depthwise_pointwise", "softmax"])
def test_candidates_compute_the_same(name: str) -> None:
    found, base = scheduled(name)
    data = case(name)
    tried = every_candidate(found, base)
    for candidate in tried[:: max(1, len(tried) // 4)]:
        set_schedules(found, candidate.schedules)
        results = load_kernel(found, HOST, tuple(data.symbols)).run(*data.inputs, symbols=data.symbols, parts=3)
        for result, expected in zip(results, data.expected, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5, err_msg=candidate.what)


def test_one_thread_needs_no_other_parallel_loops() -> None:
    found, base = scheduled("grouped_convolution")
    assert candidates(found, "threads", base, HOST, 2)
    assert not candidates(found, "threads", base, HOST, 1)


# -- the database -----------------------------------------------------------------------------------------------------


def database(found: Kernel, schedules: Schedules | None, threads: int = 1) -> ScheduleDatabase:
    return ScheduleDatabase({key_of(found, HOST, threads): Entry(schedules, 1.1, 3, True, "", "conv", "cpu", threads)})


def test_a_database_survives_its_file(tmp_path: Path) -> None:
    found, base = scheduled("grouped_convolution")
    written = database(found, every_candidate(found, base)[0].schedules)
    written.write(tmp_path / "d.json")
    read = ScheduleDatabase.read(tmp_path / "d.json")
    assert read.entries == written.entries and read.digest == written.digest
    assert [p.name for p in tmp_path.iterdir()] == ["d.json"]


def test_a_schedule_is_found_by_content_cpu_and_threads() -> None:
    found, base = scheduled("grouped_convolution")
    chosen = every_candidate(found, base)[0].schedules
    other, _ = scheduled("grouped_convolution")
    other.name = "k7"
    db = database(found, chosen)
    assert db.apply(other, HOST, 1) and get_schedules(other) == chosen and db.used == 1
    assert not db.apply(other, HOST, 2)
    assert not db.apply(other, replace(HOST, features=HOST.features[1:]), 1)
    assert not db.apply(scheduled("softmax")[0], HOST, 1)
    assert content(found) == content(other)


def unfit(base: Schedules) -> list[Schedules]:
    first = base[0]
    assert first is not None
    dims = [d for d, _ in first.loops]
    return [
        base[1:],
        (replace(first, loops=first.loops[:-1]), *base[1:]),
        (replace(first, loops=(*first.loops, ("stranger", 1))), *base[1:]),
        (replace(first, vector="stranger"), *base[1:]),
        (replace(first, parallel=99), *base[1:]),
        (replace(first, grain=0), *base[1:]),
        (replace(first, loops=tuple((d, 1 << 20) for d in dims), vector=""), *base[1:]),
        (replace(first, loops=tuple((d, 0) for d in dims)), *base[1:]),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_schedule_that_does_not_fit_is_not_used(number: int) -> None:
    found, base = scheduled("scatter_add" if number == 4 else "causal_attention" if number == 6 else "softmax")
    db = database(found, unfit(base)[number])
    assert not db.apply(found, HOST, 1)
    assert db.refused == 1 and get_schedules(found) == base


def test_stages_whose_points_collide_stay_on_one_thread() -> None:
    found, base = scheduled("scatter_add")
    last = base[-1]
    assert last is not None
    assert "parallel" in misfit(found, (*base[:-1], replace(last, parallel=1)), HOST)


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "script": (lambda text: "#!/bin/sh", "expected JSON"),
    "list": (lambda text: "[]", "expected an object with"),
    "format": (lambda text: text.replace('"format": 1', '"format": 9'), "expected format 1, got 9"),
    "changed": (lambda text: text.replace('"gain": 1.1', '"gain": 9.1'), "its checksum does not fit"),
    "cut": (lambda text: text[: len(text) // 2], "expected JSON"),
    "deep": (lambda text: "[" * 100_000, "expected JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_error(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    found, base = scheduled("softmax")
    path = tmp_path / "d.json"
    database(found, base).write(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(PlanishError, match=message) as error:
        ScheduleDatabase.read(path)
    assert str(error.value).startswith(f"{path}: tuning database: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry", [[], {}, {"schedules": 1}, {"schedules": [{"loops": [["a", "1"]]}]}], ids=["list", "empty", "int", "text"]
)
def test_a_malformed_entry_with_a_right_checksum_is_one_error(tmp_path: Path, entry: object) -> None:
    entries = {"k": entry}
    checksum = hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"kind": "planish schedules", "format": 1, "sha256": checksum, "entries": entries}))
    with pytest.raises(PlanishError, match="an entry is malformed"):
        ScheduleDatabase.read(path)


# -- the worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_worker_measures_and_compares(threads: int) -> None:
    found, base = scheduled("grouped_convolution")
    other = every_candidate(found, base)[0].schedules
    worker = WorkerProcess(start(HOST, threads))
    try:
        for number, schedules in enumerate((base, other)):
            set_schedules(found, schedules)
            text = print_function(found)
            if number == 0:
                request: dict[str, Any] = {
                    "do": "kernel",
                    "text": text,
                    "weights": [False, True, True],
                    "symbols": {},
                    "cold": 1 << 16,
                }
                assert worker.ask(request, 30) == {}
            built = worker.ask({"do": "build", "text": text, "noalias": [True] * 4, "symbols": {}}, 30)
            assert built["stages"][0][0] == f"{kernel_code(found, HOST, [True] * 4, ())[1]}_0"
            assert worker.ask({"do": "load", "name": number, **built}, 30) == {}
        assert worker.ask({"do": "same", "a": 0, "b": 1}, 30) == {"same": True}
        taken = worker.ask({"do": "time", "a": 0, "b": 1, "pairs": 3}, 30)
        assert len(taken["a"]) == len(taken["b"]) == 3 and min(taken["a"] + taken["b"]) > 0
    finally:
        worker.end()


def start(target: TargetInfo, threads: int = 1) -> dict[str, object]:
    return {"do": "start", "target": asdict(target), "opt": 3, "cache": False, "threads": threads}


def test_a_worker_that_does_not_answer_is_ended_and_started_again() -> None:
    worker = WorkerProcess(start(HOST))
    try:
        with pytest.raises(LostError):
            worker.ask({"do": "start"}, 0.0)
        assert "error" in worker.ask({"do": "load", "name": 0, "object": "", "stages": []}, 30)
        assert "error" in worker.ask({"do": "build", "text": "kernel", "noalias": [], "symbols": {}}, 30)
    finally:
        worker.end()


# -- compiling --------------------------------------------------------------------------------------------------------


def test_tuning_ends_and_the_database_reproduces_the_artifact(tmp_path: Path) -> None:
    path, tuned, again = tmp_path / "d.json", tmp_path / "a.so", tmp_path / "b.so"
    said: list[str] = []
    report = compile_file(DIGITS, tuned, threads=1, tune=1.5, tune_database=path, on_tune=said.append)
    assert report.tuning is not None and said
    assert report.tuned is not None and report.tuned.database == ScheduleDatabase.read(path).digest
    compile_file(DIGITS, again, threads=1, tune_database=path)
    assert tuned.read_bytes() == again.read_bytes()


def test_schedules_from_a_database_are_used_recorded_and_right(tmp_path: Path) -> None:
    path, plain, tuned = tmp_path / "d.json", tmp_path / "a.so", tmp_path / "b.so"
    db = ScheduleDatabase()
    report = compile_file(DIGITS, plain, threads=1, profile=True)
    assert report.lowered is not None
    for found in report.lowered.module.functions.values():
        if isinstance(found, Kernel) and (tried := every_candidate(found, get_schedules(found))):
            db.entries.update(database(found, tried[0].schedules).entries)
    db.write(path)
    report = compile_file(DIGITS, tuned, threads=1, tune_database=path)
    assert report.tuned is not None and report.tuned.kernels == len(db.entries) > 0
    picture = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    with load(plain) as a, load(tuned) as b:
        assert a.manifest.tuned is None and b.manifest.tuned == report.tuned
        for name, value in a.run({"image": picture}).items():
            np.testing.assert_allclose(b.run({"image": picture})[name], value, rtol=1e-5, atol=1e-6)


def test_python_tunes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    planish.compile(DIGITS, threads=1, tune=0.5).close()
    path = tmp_path / "planish" / "schedules.json"
    before = path.stat().st_mtime_ns
    planish.compile(DIGITS, threads=1, tune=0.5).close()
    assert path.stat().st_mtime_ns == before
    planish.compile(DIGITS, threads=1, tune_database=path).close()


def test_a_broken_default_database_is_replaced_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "planish").mkdir(mode=0o700)
    (tmp_path / "planish" / "schedules.json").write_text("{")
    report = compile_file(DIGITS, tmp_path / "a.ll", emit="llvm", threads=1, tune=0.1)
    assert len(report.notes) == 1 and "will be replaced" in report.notes[0]
    ScheduleDatabase.read(tmp_path / "planish" / "schedules.json")


def test_tuning_wants_code_that_runs_here() -> None:
    with pytest.raises(PlanishError, match="bring the database"):
        check_tunable(target_for("cortex-a72", "aarch64-linux-gnu"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tune-database", "none.json"], "none.json: cannot be read"),
        (["--tune", "1", "--tune-database", "no/such/d.json"], "the folder no/such does not exist"),
        (["--tune", "1", "-O0"], "expected a pipeline that chooses schedules"),
    ],
    ids=["missing", "folder", "plain"],
)
def test_wrong_options_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["compile", str(DIGITS), "-o", "x.ll", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.ll").exists()


def test_seconds_are_a_number_above_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(DIGITS), "-o", "x.ll", "--tune", "-1"]) == 2
    assert "expected a number of seconds above 0" in capsys.readouterr().err


def test_the_command_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "-o",
        str(tmp_path / "x.ll"),
        "--tune",
        "0.5",
        "--tune-database",
        str(tmp_path / "d.json"),
        "--threads",
        "1",
    ]
    assert main(["compile", str(DIGITS), *words]) == 0
    captured = capsys.readouterr()
    assert "measured schedules:" in captured.out and captured.err == ""
