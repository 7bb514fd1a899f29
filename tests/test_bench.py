"""`planish bench`: the measurement's arithmetic, its worker processes, and what happens when a contestant fails."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from planish import quiet
from planish.arrays import save_npz
from planish.benchmark import (
    BenchError,
    Process,
    Result,
    _turns,
    check_installed,
    largest_error,
    noise_note,
    random_inputs,
)
from planish.contestants import CONTESTANTS
from planish.quiet import Moment, wait_for_idle

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def test_the_ratio_is_the_median_over_the_rounds() -> None:
    fast = Result("a", rounds=[[1.0, 1.0, 9.0], [2.0], [1.0]])
    slow = Result("b", rounds=[[2.0, 2.0, 2.0], [2.0], [4.0]])
    assert fast.ratio_to(slow) == 0.5
    assert slow.ratio_to(fast) == 2.0


def test_facts_have_the_promised_keys() -> None:
    result = Result("planish", "1", "f32", 1.0, 2.0, 3.0, 4.0, 1e-6, [[1.0, 2.0], [3.0, 4.0]])
    facts = result.facts(result)
    promised = "name version precision compile_s load_ms first_ms median_ms min_ms p90_ms runs peak_rss_mb max_rel_err"
    promised += " ratio rounds foreign_cpu"
    assert set(promised.split()) <= set(facts)
    assert (facts["median_ms"], facts["min_ms"], facts["p90_ms"], facts["runs"]) == (2.5, 1.0, 4.0, 4)


def test_what_other_processes_used_is_reported_and_flagged() -> None:
    facts = [Result(n, rounds=[[1.0]], foreign_s=f, wall_s=2.0) for n, f in (("planish", 0.1), ("openvino", 1.0))]
    found = [result.facts(facts[0]) for result in facts]
    assert [f["foreign_cpu"] for f in found] == [0.05, 0.5]
    assert "turns of openvino (50% of a core)" in noise_note(found)
    assert noise_note(found[:1]) == ""


def test_own_cpu_time_is_not_foreign() -> None:
    start = Moment.now()
    while time.perf_counter() - start.at < 0.3:
        pass
    end = Moment.now()
    assert end.own > start.own and end.busy >= start.busy
    assert Moment(start.busy + 0.5, start.own + 0.3, start.at + 1).foreign_since(start) == pytest.approx((0.2, 1.0))
    assert Moment(start.busy, start.own + 0.3, start.at + 1).foreign_since(start)[0] == 0.0


def test_a_turn_waits_until_the_threads_of_the_last_one_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([2, 2, 0, 0, 1, 0, 0, 0, 0, 0, 7])
    monkeypatch.setattr(quiet, "_runnable_others", lambda: next(looks))
    wait_for_idle(os.cpu_count() or 1, limit=60.0)
    assert next(looks) == 7  # five calm looks in a row, not one more


def test_a_turn_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "_runnable_others", lambda: 10**6)
    assert wait_for_idle(1, limit=0.01) >= 0.01


def test_at_least_nine_rounds_unless_fewer_runs_are_asked_for() -> None:
    class Fake:
        def __init__(self, ms: float) -> None:
            self.ms = ms

        def ask(self, do: str, **request: Any) -> dict[str, Any]:
            return {"ms": self.ms}

    def turns(*ms: float, runs: int | None = None) -> list[int]:
        return _turns([cast("Process", Fake(each)) for each in ms], runs)

    assert turns(1.0, 10.0) == [10] * 10
    assert turns(0.001) == [200] * 10
    assert turns(400.0) == [2] * 10
    assert turns(5000.0, 1.0) == [1] * 9
    assert turns(1.0, runs=3) == [1, 1, 1]
    assert sum(turns(1.0, runs=25)) == 25


def test_the_error_is_relative_to_each_outputs_largest_value() -> None:
    want = {"a": np.array([0.0, 100.0]), "b": np.array([1e-3])}
    assert largest_error({"a": np.array([1.0, 100.0]), "b": np.array([1e-3])}, want) == pytest.approx(0.01)
    assert largest_error({"a": np.array([0.0, 100.0]), "b": np.array([2e-3])}, want) == pytest.approx(1.0)
    assert largest_error({"a": np.array([0.0, 100.0])}, want) == float("inf")
    assert largest_error({"a": np.array([np.nan, 100.0]), "b": np.array([1e-3])}, want) == float("inf")


def test_random_inputs_are_the_same_every_time_and_small_integers() -> None:
    specs: list[dict[str, Any]] = [
        {"name": "x", "dtype": "f32", "shape": [2, "n"]},
        {"name": "h", "dtype": "bf16", "shape": [3]},
        {"name": "ids", "dtype": "i64", "shape": [1, 50]},
        {"name": "mask", "dtype": "bool", "shape": []},
    ]
    first, second = random_inputs(specs), random_inputs(specs)
    assert {k: v.shape for k, v in first.items()} == {"x": (2, 1), "h": (3,), "ids": (1, 50), "mask": ()}
    assert all(np.array_equal(first[k], second[k]) for k in first)
    assert set(np.unique(first["ids"])) == {0, 1}


def test_an_input_without_random_values_names_the_way_out() -> None:
    with pytest.raises(BenchError, match="input words: .* string: give --inputs"):
        random_inputs([{"name": "words", "dtype": "string", "shape": [1]}])


def test_a_missing_contestant_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONTESTANTS["openvino"], "package", "no_such_package")
    with pytest.raises(BenchError, match="--against openvino: not installed: pip install no_such_package"):
        check_installed(["openvino"])


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-reference", "openvino"])
def test_a_contestant_runs_in_its_own_process(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(CONTESTANTS[name].package) is None:
        pytest.skip(f"the package {CONTESTANTS[name].package} is not installed")
    inputs, outputs = tmp_path / "in.npz", tmp_path / "out.npz"
    with np.load(DIGITS / "pictures.npz") as pictures:
        save_npz(inputs, {"image": pictures["image"][6:7]})
        label = int(pictures["label"][6])
    with Process(name) as process:
        opened = process.ask("open", contestant=name, file=str(DIGITS / "digits.onnx"), threads=1)
        assert opened["precision"] == "f32"
        assert process.ask("first", inputs=str(inputs))["first_ms"] > 0
        assert process.ask("warm", seconds=0.01)["ms"] > 0
        timed = process.ask("time", runs=3)
        assert len(timed["ms"]) == 3
        assert timed["foreign_s"] >= 0 and timed["wall_s"] > 0
        assert process.ask("memory")["peak_rss_mb"] > 10
        assert process.ask("outputs", output=str(outputs))["names"] == ["probability"]
    with np.load(outputs) as found:
        assert int(found["output0"].argmax()) == label


def test_a_contestant_that_refuses_the_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"\x08\x08garbage")
    with Process("onnxruntime") as process, pytest.raises(BenchError, match="bench: onnxruntime: .*broken.onnx"):
        process.ask("open", contestant="onnxruntime", file=str(file), threads=1)


def test_a_contestant_that_dies_is_named() -> None:
    with Process("planish") as process:
        process._process.kill()
        with pytest.raises(BenchError, match=r"bench: planish: asked to memory, the process ended with status -9"):
            process.ask("memory")
