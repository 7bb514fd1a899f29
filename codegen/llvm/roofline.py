"""What this machine can do at most: multiply-adds per second, and bytes read per second from each level of memory.

Measured with two loops of generated code, on as many threads as the model runs with; the best of several short
measurements counts, since everything that disturbs one makes it slower. The result is kept in the cache.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

from ...ir.target_info import TargetInfo
from ..cache import Cache, digest
from .objects import compile_object, lljit

_VERSION = 1  # of the measurement
_CACHE = Cache("roofline")
_REPEATS = 7
_LOADS = 8  # vectors in flight
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
Function = Callable[[int, int, int], float]


class Loops(NamedTuple):
    """The two loops, and what must live as long as their code is called."""

    fma: Function
    read: Function
    owners: tuple[Any, Any]


@dataclass(frozen=True)
class Roofline:
    """`flops` per second in f32 and the bytes per second of reading, on `threads` threads together. `levels`: bytes
    that a level of memory holds (0: as much as there is), and bytes per second read from it; nearest level first."""

    threads: int
    flops: float
    levels: tuple[tuple[int, float], ...]

    def bandwidth(self, size: int) -> float:
        """Bytes per second of reading `size` bytes again and again."""
        return next((rate for capacity, rate in self.levels if size <= capacity), self.levels[-1][1])


def measure_roofline(target: TargetInfo, threads: int) -> Roofline:
    """The roofline of this machine for the instructions of `target`; from the cache if it was measured before."""
    key = digest(f"{_VERSION}", repr(target), str(threads))
    found = _CACHE.get(key)
    if found is not None:
        facts = json.loads(found)
        return Roofline(facts["threads"], facts["flops"], tuple((int(c), float(r)) for c, r in facts["levels"]))
    roofline = _measure(target, threads)
    _CACHE.put(key, json.dumps(asdict(roofline)).encode())
    return roofline


def _measure(target: TargetInfo, threads: int) -> Roofline:
    fma, read, _ = _functions(target)
    lanes, chains = target.lanes(4), _chains(target)
    flops = _best(fma, threads, [0] * threads, 0, 2.0 * lanes * chains)
    levels: list[tuple[int, float]] = []
    plan = [
        (target.l2_bytes * threads, target.l2_bytes // 2),
        (target.l3_bytes, target.l3_bytes // 2 // threads),
        (0, max(4 * target.l3_bytes, 64 << 20) // threads),
    ]
    for capacity, size in plan:
        block = _LOADS * target.vector_bytes
        size = max(block, size // block * block)
        buffers = [np.ones(size + 4096, np.uint8) for _ in range(threads)]
        starts = [-(-b.ctypes.data // 4096) * 4096 for b in buffers]
        levels.append((capacity, _best(read, threads, starts, size, float(size))))
    return Roofline(threads, flops, tuple(levels))


def _best(function: Function, threads: int, starts: list[int], size: int, work: float) -> float:
    """Most units of work per second that `threads` threads do together; one iteration of `function` is `work` units."""
    iterations = 1
    while (seconds := _once(function, [starts[0]], size, iterations)) < 0.01:
        iterations = max(iterations * 2, int(iterations * 0.01 / max(seconds, 1e-7)))
    return max(threads * iterations * work / _once(function, starts, size, iterations) for _ in range(_REPEATS))


def _once(function: Function, starts: list[int], size: int, iterations: int) -> float:
    """Seconds from the first start to the last end, one thread for each of `starts`."""
    spans: list[tuple[float, float]] = []
    barrier = threading.Barrier(len(starts))

    def part(start: int) -> None:
        barrier.wait()
        begin = time.perf_counter()
        function(iterations, start, size)
        spans.append((begin, time.perf_counter()))

    workers = [threading.Thread(target=part, args=(start,)) for start in starts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


@lru_cache(maxsize=2)
def _functions(target: TargetInfo) -> Loops:
    """The loops as machine code: (iterations, address, bytes) -> a float that keeps them from being removed."""
    jit = lljit()
    body = compile_object(_text(target), target, 2)
    builder = llvm.JITLibraryBuilder().add_object_img(body).add_current_process()
    for name in ("planish_peak_fma", "planish_peak_read"):
        builder.export_symbol(name)
    library: Any = builder.link(jit, "roofline")
    functions = [_FUNCTION(library[name]) for name in ("planish_peak_fma", "planish_peak_read")]
    return Loops(functions[0], functions[1], (library, jit))


def _chains(target: TargetInfo) -> int:
    """Independent chains of multiply-adds: enough to hide their latency, few enough for the registers."""
    return min(target.vector_registers - 3, 20)


def _text(target: TargetInfo) -> str:
    vector = f"<{target.lanes(4)} x float>"
    head = [
        f'target triple = "{target.triple}"',
        f"declare {vector} @llvm.fmuladd.v{target.lanes(4)}f32({vector}, {vector}, {vector})",
    ]
    return "\n".join([*head, *_fma(vector, target), *_read(vector, target.vector_bytes)]) + "\n"


def _sum(vector: str, names: list[str]) -> list[str]:
    """Add up vectors and give the first lane back."""
    lines, total = list[str](), names[0]
    for i, name in enumerate(names[1:]):
        lines.append(f"  %total{i} = fadd {vector} {total}, {name}")
        total = f"%total{i}"
    return [*lines, f"  %lane = extractelement {vector} {total}, i32 0", "  ret float %lane", "}"]


def _splat(value: float, lanes: int) -> str:
    return "<" + ", ".join([f"float {value}"] * lanes) + ">"


def _fma(vector: str, target: TargetInfo) -> list[str]:
    count, call = _chains(target), f"call {vector} @llvm.fmuladd.v{target.lanes(4)}f32"
    zeros = "zeroinitializer"
    return [
        "define float @planish_peak_fma(i64 %n, ptr %p, i64 %size) {",
        "entry:",
        # Factors that are not known: nothing can be computed beforehand.
        "  %f = sitofp i64 %n to float",
        "  %g = fdiv float 0.5, %f",
        f"  %v0 = insertelement {vector} poison, float %g, i32 0",
        f"  %v = shufflevector {vector} %v0, {vector} poison, <{target.lanes(4)} x i32> {zeros}",
        *(f"  %start{c} = fmul {vector} %v, {_splat(c + 1.0, target.lanes(4))}" for c in range(count)),
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
        # Chains that start alike would be made one.
        *(f"  %a{c} = phi {vector} [ %start{c}, %entry ], [ %b{c}, %loop ]" for c in range(count)),
        *(f"  %b{c} = {call}({vector} %a{c}, {vector} %v, {vector} %v)" for c in range(count)),
        "  %next = add i64 %i, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *_sum(vector, [f"%b{c}" for c in range(count)]),
    ]


def _read(vector: str, width: int) -> list[str]:
    lines = [
        "define float @planish_peak_read(i64 %n, ptr %p, i64 %size) {",
        "entry:",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %i.next, %wrap ]",
        *(f"  %a{c} = phi {vector} [ zeroinitializer, %entry ], [ %b{c}, %wrap ]" for c in range(_LOADS)),
        "  br label %inner",
        "inner:",
        "  %at = phi i64 [ 0, %loop ], [ %at.next, %inner ]",
        *(f"  %s{c} = phi {vector} [ %a{c}, %loop ], [ %b{c}, %inner ]" for c in range(_LOADS)),
    ]
    for c in range(_LOADS):
        lines += [
            f"  %o{c} = add i64 %at, {c * width}",
            f"  %q{c} = getelementptr i8, ptr %p, i64 %o{c}",
            f"  %x{c} = load {vector}, ptr %q{c}, align {width}",
            f"  %b{c} = fadd {vector} %s{c}, %x{c}",
        ]
    return [
        *lines,
        f"  %at.next = add i64 %at, {_LOADS * width}",
        "  %more = icmp slt i64 %at.next, %size",
        "  br i1 %more, label %inner, label %wrap",
        "wrap:",
        "  %i.next = add i64 %i, 1",
        "  %again = icmp slt i64 %i.next, %n",
        "  br i1 %again, label %loop, label %done",
        "done:",
        *_sum(vector, [f"%b{c}" for c in range(_LOADS)]),
    ]


__all__ = ["Roofline", "measure_roofline"]
