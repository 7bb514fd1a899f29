"""Windows, shuffles of channels and narrow remainders: the tiles that are chosen, and that their code is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _jit import load

from planish.codegen.llvm.target import target_for
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel, Map, Reduce, Schedule
from planish.ir.kernel.interp import run_kernel
from planish.ir.target_info import TargetInfo
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.schedule.cpu import schedule_kernel

NHWC = Layout(order=(0, 2, 3, 1))
V3, V4 = target_for("x86-64-v3"), target_for("x86-64-v4")
PAIRED = replace(V4, fma_ports=1)  # a wide register takes both units
TARGETS = [target_for("x86-64-v2"), V3, V4, PAIRED]


def schedules(kernel: Kernel) -> tuple[Schedule, Schedule]:
    """Those of the map and of the reduction in it."""
    outer = next(op.schedule for op in kernel.walk() if isinstance(op, Map))
    inner = next(op.schedule for op in kernel.walk() if isinstance(op, Reduce))
    assert outer is not None and inner is not None
    return outer, inner


def check(kernel: Kernel, target: TargetInfo) -> tuple[Schedule, Schedule]:
    """The schedules for `target`, after comparing the code of this machine with the interpreter."""
    schedule_kernel(kernel, target)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal([int(str(d)) for d in p.tensor.dims]).astype(np.float32) for p in kernel.params[:-1]]
    want = run_kernel(kernel, inputs)[0]
    got = load(kernel, target).run(*inputs)[0]
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5)
    return schedules(kernel)


def depthwise(c: int, size: int, r: int, stride: int) -> Kernel:
    p, out = r // 2, (size - 1) // stride + 1
    halo = ((0, 0), (0, 0), (p, p), (p, p))
    x = TensorType("f32", (1, c, size, size), Layout(order=(0, 2, 3, 1), pad=halo, zero=halo))
    w = TensorType("f32", (c, r, r), Layout(order=(1, 2, 0)))
    k = KernelBuilder([x, w], [TensorType("f32", (1, c, out, out), NHWC)])
    zero = k.const(0.0, "f32")
    with k.map(n=1, c=c, h=out, w=out) as (n, ch, y, v):
        with k.reduce(i=r, j=r, init=[zero]) as s:
            i, j = s.dims
            a = k.read(k.inputs[0], n, ch, stride * y + i - p, stride * v + j - p, fill=zero)
            s.yield_(k.mul(a, k.read(k.inputs[1], ch, i, j)))
        k.write(s.result, k.outputs[0], n, ch, y, v)
    return k.outlined("k")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("c", "size", "r", "stride"), [(40, 14, 5, 1), (24, 9, 3, 2), (7, 7, 7, 1), (20, 9, 3, 1)])
def test_windows_are_right(c: int, size: int, r: int, stride: int, target: TargetInfo) -> None:
    check(depthwise(c, size, r, stride), target)


def test_rows_of_a_window_are_unrolled_and_neighbours_share_them() -> None:
    outer, inner = check(depthwise(64, 28, 5, 1), PAIRED)
    assert inner.step("j") == 5 and inner.step("i") == 1
    assert outer.vector == "c" and outer.step("w") >= 4
    outer, inner = check(depthwise(256, 14, 3, 1), PAIRED)
    assert inner.step("i") == inner.step("j") == 3
    loops = [d for d, _ in outer.loops]  # a block of rows for each thread may be outside of all
    assert "h" in loops[loops.index("c") :], "the rows of a window stay in the first cache"


def shuffled(o: int, groups: int) -> Kernel:
    """A grouped product of which each group writes every `groups`-th channel."""
    x, w = TensorType("f32", (groups, 6, 9)), TensorType("f32", (6, groups * o))
    k = KernelBuilder([x, w], [tensor("f32", 9, groups * o)])
    with k.map(g=groups, o=o, m=9) as (g, n, m):
        with k.reduce(k=6, init=[k.const(0.0, "f32")]) as s:
            (i,) = s.dims
            s.yield_(k.mul(k.read(k.inputs[0], g, i, m), k.read(k.inputs[1], i, g * o + n)))
        k.write(s.result, k.outputs[0], m, g + n * groups)
    return k.outlined("k")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("o", "groups"), [(16, 4), (34, 4), (28, 2), (19, 3), (9, 8)])
def test_shuffled_channels_are_right(o: int, groups: int, target: TargetInfo) -> None:
    outer, _ = check(shuffled(o, groups), target)
    if groups in (2, 4):
        assert outer.step("g") == groups, "whole lines are written by one thread"


def product(m: int, n: int) -> Kernel:
    k = KernelBuilder(
        [tensor("f32", m, 10), TensorType("f32", (10, n), Layout(order=(1, 0), blocks=((1, 32),)))],
        [tensor("f32", m, n)],
    )
    with k.map(m=m, n=n) as (i, j):
        with k.reduce(k=10, init=[k.const(0.0, "f32")]) as s:
            (p,) = s.dims
            s.yield_(k.mul(k.read(k.inputs[0], i, p), k.read(k.inputs[1], p, j)))
        k.write(s.result, k.outputs[0], i, j)
    return k.outlined("k")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", [2, 8, 24, 36, 40, 68])
def test_narrow_remainders_are_right(n: int, target: TargetInfo) -> None:
    outer, _ = check(product(13, n), target)
    if target is PAIRED and n in (8, 24, 40):
        assert outer.step("n") == n, "halves of vectors, none of them empty"
