"""Speed of generated kernels against this core's peak: `python benchmarks/kernels.py [NAME ...]`.

Every kernel is built, laid out, scheduled, compiled and run as in a model, on one thread, with its data in the caches
as the repetition leaves it. The peak is a loop of independent multiply-adds on the widest registers.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np

from planish.codegen.llvm.builder import Builder, Ty, V, function, i64, number
from planish.codegen.llvm.kernel import emit_kernel
from planish.codegen.llvm.objects import compile_object, lljit
from planish.codegen.llvm.target import target_for
from planish.ir.expr import as_expr
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel
from planish.ir.target_info import TargetInfo
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.schedule.cpu import schedule_kernel

TASK = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32
)


@dataclass(frozen=True)
class Case:
    """A kernel and its floating-point operations."""

    name: str
    build: Callable[[int], tuple[Kernel, int]]  # from the lanes of a vector


def conv(name: str, c: int, size: int, o: int, r: int, stride: int = 1) -> Case:
    """An r x r convolution with bias and ReLU, NHWC with a halo of zeros, weights in panels of two vectors."""

    def build(lanes: int) -> tuple[Kernel, int]:
        p, out = r // 2, (size + 2 * (r // 2) - r) // stride + 1
        halo = ((0, 0), (0, 0), (p, p), (p, p))
        x = TensorType("f32", (1, c, size, size), Layout(order=(0, 2, 3, 1), pad=halo, zero=halo))
        w = TensorType("f32", (o, c, r, r), Layout(order=(0, 2, 3, 1), blocks=((0, 2 * lanes),)))
        y = TensorType("f32", (1, o, out, out), Layout(order=(0, 2, 3, 1)))
        k = KernelBuilder([x, w, tensor("f32", o)], [y])
        zero = k.const(0.0, "f32")
        with k.map(n=1, o=o, h=out, w=out) as (n, oc, h, v):
            with k.reduce(c=c, i=r, j=r, init=[zero]) as s:
                ic, i, j = s.dims
                a = k.read(k.inputs[0], n, ic, stride * h + i - p, stride * v + j - p, fill=zero)
                s.yield_(k.mul(a, k.read(k.inputs[1], oc, ic, i, j)))
            k.write(k.max(k.add(s.result, k.read(k.inputs[2], oc)), zero), k.outputs[0], n, oc, h, v)
        return k.outlined("bench"), 2 * o * out * out * c * r * r

    return Case(name, build)


def matmul(name: str, m: int, k_: int, n: int, panel: int = 2) -> Case:
    """C[m,n] = A[m,k] B[k,n], B in panels of `panel` vectors."""

    def build(lanes: int) -> tuple[Kernel, int]:
        b = TensorType("f32", (k_, n), Layout(order=(1, 0), blocks=((1, panel * lanes),)))
        k = KernelBuilder([tensor("f32", m, k_), b], [tensor("f32", m, n)])
        with k.map(m=m, n=n) as (i, j):
            with k.reduce(k=k_, init=[k.const(0.0, "f32")]) as s:
                (q,) = s.dims
                s.yield_(k.mul(k.read(k.inputs[0], i, q), k.read(k.inputs[1], q, j)))
            k.write(s.result, k.outputs[0], i, j)
        return k.outlined("bench"), 2 * m * n * k_

    return Case(name, build)


CASES = [
    conv("conv 3x3 64 @56", 64, 56, 64, 3),
    conv("conv 3x3 128 @28", 128, 28, 128, 3),
    conv("conv 3x3 256 @14", 256, 14, 256, 3),
    conv("conv 3x3 512 @7", 512, 7, 512, 3),
    conv("conv 1x1 64->256 @56", 64, 56, 256, 1),
    conv("conv 1x1 1024->256 @14", 1024, 14, 256, 1),
    conv("conv 1x1 2048->512 @7", 2048, 7, 512, 1),
    conv("conv 7x7 s2 3->64 @224", 3, 224, 64, 7, 2),
    conv("conv 3x3 64 @224", 64, 224, 64, 3),
    matmul("matmul 192x512x512", 192, 512, 512),
    matmul("matmul 1024x1024x1024", 1024, 1024, 1024),
    matmul("matmul 1x2048x1000", 1, 2048, 1000, 4),
]


def load(text: str, symbols: list[str], target: TargetInfo) -> tuple[object, list[int]]:
    """Machine code in this process: what keeps it alive, and the addresses of `symbols`."""
    builder = llvm.JITLibraryBuilder().add_object_img(compile_object(text, target)).add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    jit = lljit()
    library = builder.link(jit, symbols[0])
    return (jit, library), [library[s] for s in symbols]


def fastest(f: Callable[[], object], seconds: float = 0.2) -> float:
    """Seconds of the fastest run."""
    f()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


def peak(target: TargetInfo) -> float:
    """GFLOP/s of independent multiply-adds in registers."""
    lanes, chains, rounds = target.lanes(4), 12, 1 << 18
    b = Builder({})
    ty = Ty("float", lanes)
    x = b.splat(V(Ty("float"), "%x"), lanes)

    def body(_: V, sums: list[V]) -> list[V]:
        return [b.intrinsic("fma", s, x, x) for s in sums]

    sums = b.loop(i64(0), i64(rounds), [number(float(n), ty) for n in range(chains)], body, guard=False)
    total = sums[0]
    for s in sums[1:]:
        total = b.op("fadd", total, s)
    b.do(f"ret {b.extract(total, 0)}")
    features = ",".join(target.features)
    attributes = f'attributes #0 = {{ "target-features"="{features}" "prefer-vector-width"="512" }}'
    text = "\n".join([function("define float @peak(float %x) #0", b), *b.declarations.values(), attributes])
    text += "\n!0 = distinct !{!0}\n"
    alive, (address,) = load(text, ["peak"], target)
    run = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)(address)
    seconds = fastest(lambda: run(0.5))
    del alive
    return 2 * lanes * chains * rounds / seconds / 1e9


def measure(case: Case, target: TargetInfo) -> tuple[float, float]:
    """GFLOP/s, and milliseconds of a run."""
    kernel, operations = case.build(target.lanes(4))
    schedule_kernel(kernel, target)
    code = emit_kernel(kernel, target, "pk_bench")
    alive, addresses = load(code.text, [s.symbol for s in code.stages], target)
    rng = np.random.default_rng(0)
    buffers: list[np.ndarray] = []
    for p in kernel.params:
        size = as_expr(p.tensor.layout.size(p.tensor.dims)).constant or 0
        raw = rng.random(size + 1024, dtype=np.float32)
        skip = -(raw.ctypes.data // 4) % 16
        buffers.append(raw[skip : skip + size])
    pointers = (ctypes.c_void_p * len(buffers))(*(b.ctypes.data for b in buffers))
    env, symbols = (ctypes.c_int64 * 8)(), (ctypes.c_int64 * 1)()
    stages = [(TASK(a), as_expr(s.count).constant) for a, s in zip(addresses, code.stages, strict=True)]

    def run() -> None:
        for task, count in stages:
            task(ctypes.addressof(env), ctypes.addressof(pointers), ctypes.addressof(symbols), 0, count, 0)

    seconds = fastest(run)
    del alive
    return operations / seconds / 1e9, seconds * 1e3


def main(wanted: list[str]) -> None:
    """Print a table of the kernels whose names contain one of `wanted` (all of them if empty)."""
    target = target_for()
    most = peak(target)
    print(f"{target.cpu}, {target.vector_bytes * 8}-bit vectors, peak {most:.0f} GFLOP/s on one core")
    for case in CASES:
        if not wanted or any(w in case.name for w in wanted):
            speed, milliseconds = measure(case, target)
            print(f"{case.name:26s} {milliseconds:8.3f} ms {speed:7.1f} GFLOP/s {100 * speed / most:5.0f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
