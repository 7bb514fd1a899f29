"""Sums of products of narrow elements in packed groups: exact on every target, with the target's own instruction, in
register blocks that do not spill."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from _jit import load
from test_emit_code import innermost_loops

from planish.codegen.llvm.kernel import emit_kernel
from planish.codegen.llvm.objects import compile_assembly
from planish.codegen.llvm.target import target_for
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel
from planish.ir.kernel.interp import run_kernel
from planish.ir.target_info import TargetInfo
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.schedule.cpu import schedule_kernel

V2, V3, V4, NATIVE = (target_for(name) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", ""))
VNNI, NEON = target_for("znver4"), target_for("neoverse-n2", "aarch64-linux-gnu")
DOTPROD = target_for("neoverse-n1", "aarch64-linux-gnu")
OLD_NEON = target_for("generic", "aarch64-linux-gnu")
RUNS = [t for t in (V2, V3, V4, NATIVE) if set(t.features) <= set(NATIVE.features)]


def product(a: str, b: str, m: int, n: int, depth: int, panel: int = 32) -> Kernel:
    """A matrix product of narrow elements, `b` packed in groups that fill 32 bits."""
    acc, group = ("f32", 2) if a == "bf16" else ("i32", 4)
    layout = Layout(order=(1, 0), blocks=((1, panel), (0, group)))
    k = KernelBuilder([tensor(a, m, depth), TensorType(b, (depth, n), layout)], [tensor(acc, m, n)])
    with k.map(m=m, n=n) as (i, j):
        with k.reduce(k=depth, init=[k.const(0.0 if acc == "f32" else 0, acc)]) as r:
            (p,) = r.dims
            r.yield_(k.mul(k.cast(k.read(k.inputs[0], i, p), acc), k.cast(k.read(k.inputs[1], p, j), acc)))
        k.write(r.result, k.outputs[0], i, j)
    return k.outlined("test")


def extremes(dtype: str, *shape: int) -> np.ndarray:
    """Elements from the whole range; the ends are frequent, so that sums of pairs pass 16 bits."""
    rng = np.random.default_rng(3)
    if dtype == "bf16":
        return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)
    info = np.iinfo(np.int8 if dtype == "i8" else np.uint8)
    values = rng.integers(info.min, info.max + 1, shape)
    ends = rng.choice([info.min, info.max], shape)
    return np.where(rng.random(shape) < 0.5, ends, values).astype(info.dtype)


@pytest.mark.parametrize("target", RUNS, ids=lambda t: t.cpu)
@pytest.mark.parametrize("pair", ["u8 i8", "i8 u8", "i8 i8", "u8 u8"])
@pytest.mark.parametrize("sizes", [(7, 64, 32), (5, 40, 13), (1, 32, 3)])
def test_sums_of_bytes_are_exact(target: TargetInfo, pair: str, sizes: tuple[int, int, int]) -> None:
    (a, b), (m, n, depth) = pair.split(), sizes
    x, w = extremes(a, m, depth), extremes(b, depth, n)
    kernel = product(a, b, m, n, depth)
    schedule_kernel(kernel, target)
    (y,) = load(kernel, target).run(x, w)
    np.testing.assert_array_equal(y, x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize("target", RUNS, ids=lambda t: t.cpu)
def test_sums_of_bf16_pairs_are_sums_in_f32(target: TargetInfo) -> None:
    kernel = product("bf16", "bf16", 6, 48, 21)
    schedule_kernel(kernel, target)
    x, w = extremes("bf16", 6, 21), extremes("bf16", 21, 48)
    (y,) = load(kernel, target).run(x, w)
    (want,) = run_kernel(kernel, [x, w])
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "dtypes", "instruction"),
    [
        (VNNI, "u8 i8", "vpdpbusd"),
        (VNNI, "bf16 bf16", "vdpbf16ps"),
        (V4, "u8 i8", "vpmaddwd"),
        (V3, "u8 i8", "vpmaddwd"),
        (V2, "i8 i8", "pmaddwd"),
        (V3, "bf16 bf16", "vfmadd"),
        (NEON, "u8 i8", "usdot"),
        (NEON, "u8 u8", "udot"),
        (DOTPROD, "u8 i8", "sdot"),
        (OLD_NEON, "u8 i8", "mla"),
    ],
    ids=lambda v: v.cpu if isinstance(v, TargetInfo) else v,
)
@pytest.mark.parametrize("rows", [196, 49])
def test_the_block_has_the_targets_instruction_and_does_not_spill(
    target: TargetInfo, dtypes: str, instruction: str, rows: int
) -> None:
    panel = 2 * target.vector_bytes // 4
    a, b = dtypes.split()
    kernel = product(a, b, rows, 256, 256, panel)
    schedule_kernel(kernel, target)
    assembly = compile_assembly(emit_kernel(kernel, target, "pk_asm").text, target)
    assert "pmaddubsw" not in assembly  # it saturates
    loops = [body for body in innermost_loops(assembly) if re.search(rf"\b{instruction}", body)]
    assert loops
    for body in loops:
        assert not re.findall(r"\(%rsp|\[sp", body), body


def test_a_group_that_reads_beyond_the_border_is_zero_as_a_whole() -> None:
    """A convolution over channels-last pictures without a halo: groups of channels outside of the picture."""
    k = KernelBuilder(
        [
            TensorType("u8", (1, 8, 5, 5), Layout(order=(0, 2, 3, 1))),
            TensorType("i8", (32, 8, 3, 3), Layout(order=(0, 2, 3, 1), blocks=((0, 32), (1, 4)))),
        ],
        [TensorType("i32", (1, 32, 5, 5), Layout(order=(0, 2, 3, 1)))],
    )
    x, w = k.inputs
    zero = k.const(0, "u8")
    with k.map(o=32, h=5, v=5) as (o, h, v):
        with k.reduce(c=8, i=3, j=3, init=[k.const(0, "i32")]) as r:
            c, i, j = r.dims
            a = k.read(x, 0, c, h + i - 1, v + j - 1, fill=zero)
            r.yield_(k.mul(k.cast(a, "i32"), k.cast(k.read(w, o, c, i, j), "i32")))
        k.write(r.result, k.outputs[0], 0, o, h, v)
    kernel = k.outlined("test")
    schedule_kernel(kernel, NATIVE)
    arrays = [extremes("u8", 1, 8, 5, 5), extremes("i8", 32, 8, 3, 3)]
    (y,) = load(kernel, NATIVE).run(*arrays)
    (want,) = run_kernel(kernel, arrays)
    np.testing.assert_array_equal(y, want)
