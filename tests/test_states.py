"""What a model keeps from run to run, from the graph to the runtime (`planish.ir.state`, runtime/native/state.c)."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import planish
from planish.compile import compile_file
from planish.frontend import Source, SourceNode
from planish.frontend.assembly import Assembly, Input, Item, assembled, input_types
from planish.ir.constants import ConstantData
from planish.ir.core import Module
from planish.ir.interp import run_graph
from planish.ir.text import parse_module, print_module
from planish.ir.types import Type
from planish.runtime import InputError, Model, RunError

X = np.zeros(3, np.float32)
PORTS = [Input("x", "f32", (3,)), Input("n", "i64", ())]


class Counting(Source):
    """count += n; y = x + count; with `loops`, n rounds of count += 1 by a plan of the runtime. Gather fails for n of
    more than 9."""

    def __init__(self, loops: bool = False) -> None:
        self.label = "counting"
        self.loops = loops

    def unranked(self) -> list[str]:
        return []

    def input_types(self, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
        return input_types(PORTS, self.label, ranks)

    def nodes(self) -> list[SourceNode]:
        return []

    def with_outputs(self, names: Sequence[str]) -> Source:
        return self

    def read(
        self, *, shapes: Mapping[str, Sequence[int]] | None = None, ranks: Mapping[str, int] | None = None
    ) -> Module:
        return assembled(self.label, PORTS, self._build, outputs=["y"], shapes=shapes, ranks=ranks)

    def _build(self, a: Assembly) -> list[Item]:
        count = a.state("count", ConstantData.of(np.full(1, 5, np.float32)))
        a.state("unused", ConstantData.splat(0.0, "f32", (2, 2)))
        step = a.op("Gather", a.constant(np.arange(10, dtype=np.float32)), a.input("n"))
        if self.loops:
            one = a.scalar(1.0, "f32")
            (count,) = a.loop(
                [count], lambda _, v: (a.scalar(True, "bool"), [a.op("Add", v[0], one)]), limit=a.input("n")
            )
        else:
            count = a.op("Add", count, step)
        a.assign("count", count)
        return [a.op("Add", a.input("x"), count)]


@pytest.fixture(scope="module", params=[False, True], ids=["program", "plan"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("states") / "counting.so"
    compile_file(Counting(request.param), path)
    return path


def ask(model: Model, n: int) -> float:
    return float(model.run({"x": X, "n": np.array(n)})["y"][0])


def test_a_run_begins_with_what_the_last_one_left(artifact: Path) -> None:
    with planish.load(artifact) as model:
        assert [p.name for p in model.inputs] == ["x", "n"]
        assert [p.name for p in model.outputs] == ["y"]
        assert [(p.name, p.dtype, p.shape) for p in model.states] == [("count", "f32", (1,)), ("unused", "f32", (2, 2))]
        assert model.manifest.states == model.states
        assert [ask(model, 1), ask(model, 2), ask(model, 3)] == [6, 8, 11]
        np.testing.assert_array_equal(model.get_states()["count"], [11])
        np.testing.assert_array_equal(model.get_states()["unused"], np.zeros((2, 2)))


def test_states_can_be_set_and_reset(artifact: Path) -> None:
    with planish.load(artifact) as model:
        model.set_states({"count": np.array([40], np.float32)})
        assert ask(model, 1) == 41
        model.reset_states()
        assert ask(model, 1) == 6
        with pytest.raises(InputError, match="state 'count': shape: expected \\[1\\], got \\[2\\]"):
            model.set_states({"count": np.zeros(2, np.float32)})
        with pytest.raises(InputError, match="the model has no state 'other'; expected 'count', 'unused'"):
            model.set_states({"other": np.zeros(1, np.float32)})
        assert ask(model, 1) == 7


def test_a_run_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "counting.so"
    compile_file(Counting(), path)
    with planish.load(path) as model:
        assert ask(model, 1) == 6
        with pytest.raises(RunError, match="index"):
            ask(model, 10)
        assert ask(model, 1) == 7


def test_a_binding_is_a_session_of_its_own(artifact: Path) -> None:
    with planish.load(artifact) as model:
        first, second = (model.bind({"x": X, "n": np.array(1)}) for _ in range(2))
        values = [float(b.run()["y"][0]) for b in (first, first, first, second)]
        assert values == [6, 7, 8, 6]
        assert ask(model, 1) == 6


def test_calls_from_threads_follow_one_another(artifact: Path) -> None:
    with planish.load(artifact) as model, ThreadPoolExecutor(4) as pool:
        values = sorted(pool.map(ask, [model] * 40, [1] * 40))
        assert values == [6 + i for i in range(40)]


def test_the_interpreter_begins_with_the_first_values() -> None:
    module = Counting().read()
    assert run_graph(module, {"x": X, "n": np.array(2)})["y"][0] == 7
    assert run_graph(module, {"x": X, "n": np.array(2), "count": np.ones(1, np.float32)})["count.next"][0] == 3


def test_states_are_part_of_the_text_form() -> None:
    text = print_module(Counting().read())
    assert print_module(parse_module(text)) == text
    assert run_graph(parse_module(text), {"x": X, "n": np.array(2)})["y"][0] == 7


def test_an_executable_shows_them_and_passes_its_self_test(tmp_path: Path) -> None:
    path = tmp_path / "counting"
    compile_file(Counting(), path, emit="exe")
    shown = subprocess.run([path, "info"], capture_output=True, text=True, check=True).stdout
    assert "states    'count' f32[1]" in shown
    done = subprocess.run([path, "self-test"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
