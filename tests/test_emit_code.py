"""What emitted code looks like and does: golden text, no spills in register blocks, checks, masks, bounds, padding."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from _jit import load

from planish.codegen.llvm.kernel import emit_kernel
from planish.codegen.llvm.objects import compile_assembly, compile_object, undefined_symbols
from planish.codegen.llvm.target import target_for
from planish.ir.errors import PlanishError
from planish.ir.expr import floordiv, mod, sym
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel, Map, Reduce, Schedule
from planish.ir.target_info import TargetInfo
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.schedule.cpu import schedule_kernel

GOLDEN = Path(__file__).parent / "golden"
V2, V3, V4, NATIVE = (target_for(name) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", ""))
NEON = target_for(triple="aarch64-linux-gnu")


def matmul(m: int, n: int, k_: int, panel: int = 0) -> Kernel:
    packed = Layout(order=(1, 0), blocks=((1, panel),)) if panel else Layout()
    k = KernelBuilder([tensor("f32", m, k_), TensorType("f32", (k_, n), packed)], [tensor("f32", m, n)])
    with k.map(m=m, n=n) as (i, j):
        with k.reduce(k=k_, init=[k.const(0.0, "f32")]) as r:
            (p,) = r.dims
            r.yield_(k.mul(k.read(k.inputs[0], i, p), k.read(k.inputs[1], p, j)))
        k.write(r.result, k.outputs[0], i, j)
    return k.outlined("test")


def schedule(kernel: Kernel, **schedules: Schedule) -> Kernel:
    for op in kernel.walk():
        if isinstance(op, Map):
            op.schedule = schedules.get("map")
        if isinstance(op, Reduce):
            op.schedule = schedules.get("reduce")
    return kernel


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("PLANISH_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; PLANISH_UPDATE_GOLDEN=1 rewrites it"


def body_of(text: str) -> str:
    """The function that does the work, without attributes."""
    return text[text.index("define internal") : text.index("define i32")].strip() + "\n"


def test_golden_register_tile() -> None:
    kernel = schedule(matmul(6, 16, 5), map=Schedule((("m", 2), ("n", 16)), "n", 1), reduce=Schedule((("k", 2),)))
    check_golden("matmul_tile.ll", body_of(emit_kernel(kernel, V3, "pk_golden").text))


def test_golden_masked_remainder() -> None:
    k = KernelBuilder([tensor("f32", 3, 21)], [tensor("f32", 3, 21)])
    with k.map(i=3, j=21) as (i, j):
        k.write(k.max(k.read(k.inputs[0], i, j), k.const(0.0, "f32")), k.outputs[0], i, j)
    kernel = schedule(k.outlined("test"), map=Schedule((("i", 1), ("j", 16)), "j", 1))
    check_golden("relu_masked.ll", body_of(emit_kernel(kernel, V3, "pk_golden").text))


def innermost_loops(assembly: str) -> list[str]:
    """Bodies of loops without inner loops: from a label to a backward jump to it."""
    lines = assembly.splitlines()
    labels = {line.split(":")[0]: n for n, line in enumerate(lines) if re.match(r"^\.\w+:", line)}
    found: list[str] = []
    for n, line in enumerate(lines):
        jump = re.match(r"\s+(?:j\w+|b\.\w+)\s+(\.\w+)$", line)
        if jump and labels.get(jump.group(1), n) < n:
            body = lines[labels[jump.group(1)] + 1 : n]
            if not any(re.match(r"^\.\w+:", b) for b in body):
                found.append("\n".join(body))
    return found


@pytest.mark.parametrize(
    ("target", "panel"),
    [(V4, 32), (V3, 16), (V3, 32), (V2, 32), (NEON, 8)],
    ids=["avx512", "avx2", "avx2-portable", "sse", "neon"],
)
@pytest.mark.parametrize("rows", [196, 192, 100, 49])
def test_the_register_block_does_not_spill(target: TargetInfo, panel: int, rows: int) -> None:
    kernel = matmul(rows, 256, 256, panel)
    schedule_kernel(kernel, target)
    assembly = compile_assembly(emit_kernel(kernel, target, "pk_asm").text, target)
    loops = [body for body in innermost_loops(assembly) if re.search("vfmadd|mulps|fmla", body)]
    assert loops
    for body in loops:
        # Without multiply-add a loaded vector may take the way over the stack, never an accumulator.
        assert len(re.findall(r"\(%rsp|\[sp", body)) <= (0 if target.fused else 4), body


@pytest.mark.parametrize("target", [V4, V3, NEON], ids=["avx512", "avx2", "neon"])
def test_rows_share_the_fetching_of_the_next_weights(target: TargetInfo) -> None:
    kernel = matmul(100, 256, 64, 32)
    schedule_kernel(kernel, target)
    plan, reduce = (next(op.schedule for op in kernel.walk() if isinstance(op, kind)) for kind in (Map, Reduce))
    assert plan is not None and reduce is not None and plan.ahead == 1 and reduce.step("k") == 2
    assembly = compile_assembly(emit_kernel(kernel, target, "pk_asm").text, target)
    loops = [body for body in innermost_loops(assembly) if re.search("vfmadd|fmla", body)]
    assert loops
    for body in loops:
        assert len(re.findall("prefetcht1|prfm", body)) == 1, body


def test_fetching_reaches_beyond_the_last_weights_without_harm() -> None:
    x, w = (np.random.default_rng(6).standard_normal(s).astype(np.float32) for s in ((41, 6), (6, 64)))
    kernel = matmul(41, 64, 6, 32)
    schedule(kernel, map=Schedule((("n", 32), ("m", 5)), "n", 1, ahead=1), reduce=Schedule((("k", 2),)))
    assert "llvm.prefetch" in emit_kernel(kernel, NATIVE, "pk").text
    np.testing.assert_allclose(load(kernel, NATIVE).run(x, w)[0], x @ w, rtol=1e-4, atol=1e-5)


def test_an_object_needs_nothing_but_libm_and_the_runtime() -> None:
    k = KernelBuilder(
        [tensor("f32", 40), tensor("f16", 40), tensor("bf16", 40), tensor("i64", 40)], [tensor("f32", 40)]
    )
    with k.map(i=40) as (i,):
        x = k.exp(k.read(k.inputs[0], i))
        h = k.cast(k.apply("pow", *(k.read(k.inputs[1], i) for _ in range(2))), "f32")
        bf = k.cast(k.apply("sin", k.read(k.inputs[2], i)), "f32")
        g = k.cast(k.div(k.read(k.inputs[3], i), k.read(k.inputs[3], i)), "f32")
        k.write(k.add(k.add(x, h), k.add(bf, g)), k.outputs[0], i)
    kernel = k.outlined("test")
    for cpu in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4"):
        target = target_for(cpu)
        body = compile_object(emit_kernel(kernel, target, "pk_x").text, target)
        assert undefined_symbols(body) <= {"powf", "sinf", "rint"}, cpu


def test_the_same_kernel_gives_the_same_bytes() -> None:
    def build() -> bytes:
        kernel = matmul(30, 50, 20)
        schedule_kernel(kernel, V3)
        return compile_object(emit_kernel(kernel, V3, "pk_same").text, V3)

    assert build() == build()


def gather(lanes: int) -> tuple[Kernel, np.ndarray]:
    k = KernelBuilder([tensor("f32", 10, 3), tensor("i64", 37)], [tensor("f32", 37, 3)])
    with k.map(i=37, j=3) as (i, j):
        k.write(k.read(k.inputs[0], k.read(k.inputs[1], i), j), k.outputs[0], i, j)
    kernel = k.outlined("test")
    if lanes:
        schedule(kernel, map=Schedule((("j", 1), ("i", lanes)), "i"))
    return kernel, np.arange(30, dtype=np.float32).reshape(10, 3)


@pytest.mark.parametrize("lanes", [0, 8, 32])
def test_an_index_out_of_range_is_reported_and_ends_the_run(lanes: int) -> None:
    kernel, x = gather(lanes)
    loaded = load(kernel, NATIVE)
    good = np.arange(37, dtype=np.int64) % 10
    assert (loaded.run(x, good)[0] == x[good]).all()
    for at, value in ((0, 10), (36, -1), (20, 1 << 40), (33, -(1 << 62))):
        bad = good.copy()
        bad[at] = value
        loaded.failures.clear()
        with pytest.raises(AssertionError, match="status 7"):
            loaded.run(x, bad)
        assert loaded.failures == [(42, value, 0, 10)]


@pytest.mark.parametrize("lanes", [0, 16])
def test_reads_with_fill_outside_give_the_fill_and_touch_nothing(lanes: int) -> None:
    k = KernelBuilder([tensor("f32", 5, 9)], [tensor("f32", 9, 40)])
    with k.map(i=9, j=40) as (i, j):
        k.write(k.read(k.inputs[0], i - 2, j - 20, fill=k.const(-3.0, "f32")), k.outputs[0], i, j)
    kernel = k.outlined("test")
    if lanes:
        schedule(kernel, map=Schedule((("i", 2), ("j", lanes)), "j"))
    x = np.arange(45, dtype=np.float32).reshape(5, 9)
    want = np.full((9, 40), -3.0, np.float32)
    want[2:7, 20:29] = x
    assert (load(kernel, NATIVE).run(x)[0] == want).all()


@pytest.mark.parametrize("lanes", [0, 8, 16])
def test_masks_and_merging_writes(lanes: int) -> None:
    n = 29
    k = KernelBuilder([tensor("i32", n), tensor("f32", n)], [tensor("f32", n), tensor("f32", 7)])
    zero = k.const(0.0, "f32")
    with k.map(c=7) as (c,):
        k.write(zero, k.outputs[1], c)
    with k.map(a=n) as (i,):
        k.write(zero, k.outputs[0], i)
    with k.map(b=n) as (i,):
        x, at = k.read(k.inputs[1], i), k.read(k.inputs[0], i)
        k.write(x, k.outputs[0], i, mask=k.gt(x, zero))
        k.write(x, k.outputs[1], at, mask=k.ge(at, k.const(0, "i32")), combine="add")
    kernel = k.outlined("test")
    if lanes:
        for op in kernel.walk():
            if isinstance(op, Map):
                op.schedule = Schedule(((op.dims[0].name, lanes),), op.dims[0].name)
    rng = np.random.default_rng(3)
    at = rng.integers(-3, 7, n).astype(np.int32)
    x = rng.standard_normal(n).astype(np.float32)
    want = np.zeros(7, np.float32)
    np.add.at(want, at[at >= 0], x[at >= 0])
    masked, summed = load(kernel, NATIVE).run(at, x)
    assert (masked == np.where(x > 0, x, 0)).all()
    np.testing.assert_allclose(summed, want, rtol=1e-6)


@pytest.mark.parametrize("layout", [
    Layout(order=(0, 2, 3, 1)),
    Layout(order=(0, 2, 3, 1), pad=((0, 0), (3, 5), (1, 1), (2, 1))),
    Layout(order=(0, 1, 2, 3), blocks=((1, 4),)),
    Layout(order=(3, 1, 0, 2), blocks=((3, 8), (1, 2))),
], ids=["nhwc", "padded", "nchw4c", "odd"])  # fmt: skip
@pytest.mark.parametrize("lanes", [0, 1, 8, 16])
def test_any_layout_on_both_sides(layout: Layout, lanes: int) -> None:
    shape = (2, 6, 5, 11)
    k = KernelBuilder([TensorType("f32", shape, layout)], [TensorType("f32", shape, layout)])
    with k.map(n=2, c=6, h=5, w=11) as (n, c, h, w):
        k.write(k.neg(k.read(k.inputs[0], n, c, h, w)), k.outputs[0], n, c, h, w)
    kernel = k.outlined("test")
    if lanes == 1:
        schedule_kernel(kernel, NATIVE)
    elif lanes:
        schedule(kernel, map=Schedule((("w", lanes), ("n", 1), ("h", 2), ("c", 4)), "w", 2))
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    assert (load(kernel, NATIVE).run(x, parts=3)[0] == -x).all()


def test_symbolic_shapes_with_vectors_and_tiles() -> None:
    n, m = sym("n"), sym("m")
    k = KernelBuilder([tensor("f32", n, m), tensor("f32", m)], [tensor("f32", n, m), tensor("f32", n)])
    with k.map(i=n, j=m) as (i, j):
        k.write(k.add(k.read(k.inputs[0], i, j), k.read(k.inputs[1], mod(j * 3, m))), k.outputs[0], i, j)
    with k.map(r=n) as (r,):
        with k.reduce(q=m, init=[k.const(0.0, "f32")]) as s:
            s.yield_(k.read(k.inputs[0], r, *s.dims))
        k.write(s.result, k.outputs[1], r)
    kernel = k.outlined("test")
    loops = {"i": Schedule((("i", 3), ("j", 32)), "j", 2), "r": Schedule((("r", 2),), "", 1)}
    for op in kernel.walk():
        if isinstance(op, Map):
            op.schedule = loops[op.dims[0].name]
        if isinstance(op, Reduce):
            op.schedule = Schedule((("q", 32),), "q")
    loaded = load(kernel, NATIVE, ("m", "n"))
    rng = np.random.default_rng(5)
    for size in [(1, 1), (3, 32), (7, 45), (4, 16), (0, 5), (5, 130)]:
        x, y = rng.standard_normal(size).astype(np.float32), rng.standard_normal(size[1]).astype(np.float32)
        got, sums = loaded.run(x, y, symbols={"n": size[0], "m": size[1]}, parts=3)
        np.testing.assert_array_equal(got, x + y[np.arange(size[1]) * 3 % size[1]])
        np.testing.assert_allclose(sums, x.sum(1), rtol=1e-4, atol=1e-5)


def test_a_shape_symbol_that_nobody_gives_is_an_error() -> None:
    k = KernelBuilder([tensor("f32", sym("n"))], [tensor("f32", sym("n"))])
    with k.map(i=sym("n")) as (i,):
        k.write(k.read(k.inputs[0], i), k.outputs[0], i)
    with pytest.raises(PlanishError, match="shape symbol n is not one of the program's"):
        emit_kernel(k.outlined("test"), NATIVE, "pk_x")


def test_large_nested_locals_use_the_scratch() -> None:
    k = KernelBuilder([tensor("f32", 3, 20000)], [tensor("f32", 3, 20000)])
    with k.map(i=3) as (i,):
        row = k.local("f32", 20000)
        with k.map(j=20000) as (j,):
            k.write(k.neg(k.read(k.inputs[0], i, j)), row, j)
        with k.map(l=20000) as (l,):
            k.write(k.read(row, 19999 - l), k.outputs[0], i, l)
    kernel = k.outlined("test")
    schedule_kernel(kernel, NATIVE)
    loaded = load(kernel, NATIVE)
    assert loaded.code.stages[0].scratch_bytes == 80000
    x = np.random.default_rng(6).standard_normal((3, 20000)).astype(np.float32)
    assert (loaded.run(x, parts=2)[0] == -x[:, ::-1]).all()


def test_extents_may_depend_on_outer_dimensions() -> None:
    k = KernelBuilder([tensor("f32", 9, 9)], [tensor("f32", 9)])
    with k.map(i=9) as (i,):
        with k.reduce(j=i + 1, init=[k.const(0.0, "f32")]) as r:
            r.yield_(k.read(k.inputs[0], i, *r.dims))
        k.write(r.result, k.outputs[0], i)
    kernel = schedule(k.outlined("test"), map=Schedule((("i", 8),), "i"), reduce=Schedule((("j", 2),)))
    x = np.random.default_rng(7).standard_normal((9, 9)).astype(np.float32)
    np.testing.assert_allclose(load(kernel, NATIVE).run(x)[0], np.tril(x).sum(1), rtol=1e-5)


def test_a_reshape_reads_through_divisions() -> None:
    k = KernelBuilder([tensor("f32", 6, 8)], [tensor("f32", 48)])
    with k.map(i=48) as (i,):
        k.write(k.read(k.inputs[0], floordiv(i, 8), mod(i, 8)), k.outputs[0], i)
    kernel = schedule(k.outlined("test"), map=Schedule((("i", 16),), "i"))
    text = body_of(emit_kernel(kernel, V4, "pk_x").text)
    assert "udiv" not in text and "urem" not in text and "load <16 x float>" in text
    x = np.arange(48, dtype=np.float32).reshape(6, 8)
    assert (load(kernel, NATIVE).run(x)[0] == x.ravel()).all()


def test_what_a_scan_yields_was_read_before_its_last_write() -> None:
    k = KernelBuilder([tensor("i64", 5)], [tensor("i64", 5)])
    kept = k.local("i64", 5)
    with k.map(i=5) as (i,):
        k.write(k.read(k.inputs[0], i), kept, i)
    with k.scan(j=5, init=[k.const(0, "i64")]) as s:
        (j,), (total,) = s.dims, s.carried
        here = k.read(kept, j)
        k.write(total, kept, j)
        s.yield_(k.add(total, here))
    with k.map(o=5) as (o,):
        k.write(k.read(kept, o), k.outputs[0], o)
    (got,) = load(k.outlined("test"), NATIVE).run(np.array([3, 1, 4, 1, 5]))
    assert got.tolist() == [0, 3, 4, 8, 9]
