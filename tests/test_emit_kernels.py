"""Machine code of the kernels of docs/KERNEL.md: plain loops, the CPU's schedule, random legal schedules."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from _jit import load
from _kernels import CASES, case, kernel

from planish.codegen.llvm.target import target_for
from planish.ir.kernel.form import Kernel, Map, Schedule, Stage, Write
from planish.ir.target_info import TargetInfo
from planish.passes.schedule.cpu import schedule_kernel

NATIVE = target_for()
# LLVM knows how to make code for these on any machine; running it needs the features.
CPUS = [t for t in map(target_for, ("x86-64", "x86-64-v3", "x86-64-v4")) if set(t.features) <= set(NATIVE.features)]


def check(name: str, k: Kernel, target: TargetInfo = NATIVE, parts: int = 1) -> None:
    c = case(name)
    symbols = dict(c.symbols)
    loaded = load(k, target, tuple(symbols))
    for got, want in zip(loaded.run(*c.inputs, symbols=symbols, parts=parts), c.expected, strict=True):
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)
        else:
            # rint of a sum in another order may land on the other side of a half
            assert np.abs(got.astype(np.int64) - want.astype(np.int64)).max() <= (1 if want.dtype == np.uint8 else 0)


@pytest.mark.parametrize("name", list(CASES))
def test_plain_loops(name: str) -> None:
    check(name, kernel(name))


@pytest.mark.parametrize("target", CPUS, ids=lambda t: t.cpu)
@pytest.mark.parametrize("name", list(CASES))
def test_scheduled(name: str, target: TargetInfo) -> None:
    k = kernel(name)
    schedule_kernel(k, target)
    check(name, k, target, parts=3)


def randomize(k: Kernel, rng: random.Random) -> None:
    """Any legal schedule on every stage."""
    for stage in k.walk():
        if not isinstance(stage, Stage):
            continue
        loops: list[tuple[str, int]] = []
        vector = rng.choice(["", *(d.name for d in stage.dims)])
        for d in stage.dims:
            step = rng.choice([1, 1, 2, 3, 5])
            if d.name == vector:
                step = rng.choice([4, 8, 16, 32])
            loops.append((d.name, step))
        rng.shuffle(loops)
        for d, step in list(loops):
            if rng.random() < 0.3:
                loops.insert(rng.randint(0, [n for n, _ in loops].index(d)), (d, step * rng.choice([2, 3])))
        parallel = 0
        if isinstance(stage, Map) and not any(isinstance(op, Write) and op.combine for op in stage.walk()):
            parallel = rng.randint(0, len(loops))
        stage.schedule = Schedule(tuple(loops), vector, parallel)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(CASES))
def test_random_legal_schedules(name: str, seed: int) -> None:
    k = kernel(name)
    rng = random.Random(f"{name} {seed}")
    randomize(k, rng)
    check(name, k, parts=rng.randint(1, 4))


def test_a_collapsed_range_may_be_cut_anywhere() -> None:
    k = kernel("winograd")
    schedule_kernel(k, NATIVE)
    for stage in k.walk():
        if isinstance(stage, Map) and stage.parent is k.body:
            assert stage.schedule is not None
            stage.schedule = replace(stage.schedule, parallel=len(stage.dims))
    for parts in (1, 2, 5, 11):
        check("winograd", k, parts=parts)
