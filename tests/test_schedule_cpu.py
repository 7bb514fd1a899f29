"""The CPU scheduler: what it chooses for typical kernels, and that its choices are legal for any kernel."""

from __future__ import annotations

import pytest
from _kernels import CASES, kernel
from _samples import samples

from planish.ir.core import Module
from planish.ir.expr import Dim, sym
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel, Map, Reduce, Scan, Schedule, Stage
from planish.ir.target_info import TargetInfo
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.base import PassContext, PassManager
from planish.passes.schedule.cpu import schedule_kernel
from planish.passes.schedule.tiles import Traffic, row_block, row_limit, row_tile, rows_for, vectors_for

AVX512 = TargetInfo("x86_64-unknown-linux-gnu", "x86-64-v4", ("+avx512f", "+fma"), 64, 32)
AVX2 = TargetInfo("x86_64-unknown-linux-gnu", "x86-64-v3", ("+avx2", "+fma"), 32, 16)
NHWC = Layout(order=(0, 2, 3, 1))


def first(kernel: Kernel, kind: type[Stage]) -> Stage:
    return next(op for op in kernel.walk() if isinstance(op, kind))


def schedule_of(kernel: Kernel, kind: type[Stage]) -> Schedule:
    found = first(kernel, kind).schedule
    assert found is not None
    return found


def conv(c: int, o: int, h: Dim, r: int, panel: int) -> Kernel:
    x = TensorType("f32", (1, c, h, h), Layout(order=(0, 2, 3, 1), pad=((0, 0), (0, 0), (1, 1), (1, 1))))
    w = TensorType("f32", (o, c, r, r), Layout(order=(0, 2, 3, 1), blocks=((0, panel),)))
    k = KernelBuilder([x, w], [TensorType("f32", (1, o, h, h), NHWC)])
    with k.map(n=1, o=o, h=h, w=h) as (n, oc, y, xx):
        with k.reduce(c=c, i=r, j=r, init=[k.const(0.0, "f32")]) as s:
            ic, i, j = s.dims
            s.yield_(k.mul(k.read(k.inputs[0], n, ic, y + i - 1, xx + j - 1), k.read(k.inputs[1], oc, ic, i, j)))
        k.write(s.result, k.outputs[0], n, oc, y, xx)
    return k.outlined("k")


@pytest.mark.parametrize(("target", "panel", "limit"), [(AVX512, 32, 10), (AVX2, 16, 5)])
def test_a_convolution_gets_a_register_block(target: TargetInfo, panel: int, limit: int) -> None:
    kernel = conv(64, 128, 28, 3, panel)
    schedule_kernel(kernel, target)
    outer, inner = schedule_of(kernel, Map), schedule_of(kernel, Reduce)
    assert outer.vector == "o" and outer.step("o") == panel
    assert 4 <= outer.step("w") <= limit
    assert outer.parallel >= 2
    assert [d for d, _ in inner.loops] == ["i", "j", "c"] and inner.step("c") == 2


def test_rows_are_tiled_so_that_little_is_left() -> None:
    assert rows_for(56, 2, AVX512) == 8
    assert rows_for(28, 2, AVX512) in (7, 10)
    assert rows_for(14, 2, AVX512) == 7
    assert rows_for(7, 2, AVX512) == 7
    assert row_tile([14, 4], 2, AVX512)[0] * 4 <= row_limit(AVX512, 2)
    assert row_tile([], 2, AVX512) == []


def test_vectors_fit_the_extent() -> None:
    assert [vectors_for(n, 16, 4) for n in (1, 16, 17, 48, 64, 80, 96, 1000)] == [1, 1, 2, 3, 4, 3, 3, 4]


def test_rows_go_outermost_when_all_columns_stay_in_the_second_cache() -> None:
    small, large = 100e3, 20e6
    assert row_block(56, 8, Traffic(large, small, 8), AVX512) < 56
    assert row_block(56, 8, Traffic(small, large, 8), AVX512) == 56


def test_rows_of_a_matrix_are_reduced_in_lanes() -> None:
    k = KernelBuilder([tensor("f32", 50, 384)], [tensor("f32", 50)])
    with k.map(i=50) as (i,):
        with k.reduce(j=384, init=[k.const(0.0, "f32")]) as r:
            r.yield_(k.read(k.inputs[0], i, *r.dims))
        k.write(r.result, k.outputs[0], i)
    kernel = k.outlined("k")
    schedule_kernel(kernel, AVX512)
    assert schedule_of(kernel, Map).vector == "" and schedule_of(kernel, Reduce).vector == "j"
    assert schedule_of(kernel, Reduce).step("j") == 64


def test_pointwise_work_lies_in_lanes_along_memory() -> None:
    k = KernelBuilder([TensorType("f32", (1, 64, 9, 9), NHWC)], [TensorType("f32", (1, 64, 9, 9), NHWC)])
    with k.map(n=1, c=64, h=9, w=9) as at:
        k.write(k.neg(k.read(k.inputs[0], *at)), k.outputs[0], *at)
    kernel = k.outlined("k")
    schedule_kernel(kernel, AVX512)
    chosen = schedule_of(kernel, Map)
    assert chosen.vector == "c" and chosen.step("c") == 64
    assert [d for d, _ in chosen.loops] == ["n", "h", "w", "c"]
    assert chosen.grain > 1, "too small for several threads"


def test_scatter_stays_on_one_thread() -> None:
    kernel_ = kernel("scatter_add")
    schedule_kernel(kernel_, AVX512)
    for op in kernel_.walk():
        if isinstance(op, Map) and any(getattr(w, "combine", "") for w in op.walk() if w.op_name == "k.write"):
            assert op.schedule is None or op.schedule.parallel == 0


def check_legal(made: Kernel) -> None:
    for stage in made.walk():
        if not isinstance(stage, Stage) or stage.schedule is None:
            continue
        chosen = stage.schedule
        names = [d.name for d in stage.dims]
        assert {d for d, _ in chosen.loops} == set(names)
        assert chosen.vector in ("", *names)
        for name in names:
            steps = [s for d, s in chosen.loops if d == name]
            assert steps == sorted(set(steps), reverse=True) and steps[-1] >= 1
        assert not isinstance(stage, Scan)
        assert 0 <= chosen.parallel <= len(chosen.loops) and chosen.grain >= 1


@pytest.mark.parametrize("target", [AVX512, AVX2], ids=lambda t: t.cpu)
def test_schedules_are_legal_for_every_kernel(target: TargetInfo) -> None:
    for name in CASES:
        made = kernel(name)
        schedule_kernel(made, target)
        check_legal(made)
    for _, op in samples():
        if any(v.tensor.dtype == "string" for v in [*op.inputs, *op.results]):
            continue
        k = KernelBuilder([v.tensor for v in op.inputs], [r.tensor for r in op.results])
        op.kernel(k)
        made = k.outlined("k")
        schedule_kernel(made, target)
        check_legal(made)
    made = conv(64, 64, sym("h"), 3, 32)
    schedule_kernel(made, target)
    check_legal(made)


def test_the_pass_schedules_kernels_and_plain_leaves_them() -> None:
    for text, wanted in (("schedule-cpu", True), ("schedule-cpu:plain=1", False)):
        made = conv(8, 32, 9, 3, 32)
        module = Module([made])
        PassManager.parse(text, PassContext(target=AVX512)).run(module, verify=False)
        assert (first(made, Map).schedule is not None) == wanted


def test_a_transposed_copy_stores_vectors_and_uses_up_the_lines_it_reads() -> None:
    k = KernelBuilder([tensor("f32", 128, 384)], [tensor("f32", 384, 128)])
    with k.map(row=384, column=128) as (row, column):
        k.write(k.read(k.inputs[0], column, row), k.outputs[0], row, column)
    kernel = k.outlined("k")
    schedule_kernel(kernel, AVX512)
    chosen = schedule_of(kernel, Map)
    assert chosen.vector == "column" and chosen.step("column") == 16 and chosen.step("row") == 8
