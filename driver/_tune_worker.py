"""A process of the tuner: builds candidates and measures them: `python -m planish._tune_worker`.

What runs here is code that was never run before, so it runs in a process that may die or hang. Requests are JSON
objects, one a line, on standard input; each is answered by one line. A failure is answered with `{"error": message}`.

    {"do": "start", "target": {...}, "opt": n, "cache": bool, "threads": n}  -> {}
    {"do": "build", "text": kernel, "noalias": [...], "symbols": {...}}      -> {"object", "stages", "locals"}
    {"do": "kernel", "text", "weights": [bool...], "symbols", "cold": bytes} -> {}         buffers for one kernel
    {"do": "load", "name": n, "object": base64, "stages": [...]}             -> {}
    {"do": "same", "a": n, "b": n}                                           -> {"same": bool}
    {"do": "time", "a": n, "b": n, "pairs": n}                               -> {"a": [ns...], "b": [ns...]}

Weights are cold in a network (others were read since the last run): there are copies of them, and runs take turns.
"""

from __future__ import annotations

import base64
import ctypes
import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from planish._requests import serve
from planish.codegen.llvm.compile import compile_texts, kernel_code
from planish.codegen.llvm.objects import initialize, lljit
from planish.ir.expr import as_expr
from planish.ir.kernel.form import Kernel, Read, Write
from planish.ir.packing import pack, unpack
from planish.ir.target_info import TargetInfo
from planish.ir.text import parse_module
from planish.ir.types import DTYPES, TensorType

Bytes = NDArray[np.uint8]
_I32, _I64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_TASK = ctypes.CFUNCTYPE(_I32, _POINTER, _POINTER, _POINTER, _I64, _I64, _I32)
_FAIL = ctypes.CFUNCTYPE(_I32, _POINTER, _I32, _I64, _I64, _I64)
_FAIL_CODE = ctypes.CFUNCTYPE(_I32, _POINTER, _I32, _I32)
_COPIES = 32
_SMALL = 16 * 1024  # weights of so few bytes are not worth copies
_FORK_NS = 4000  # what starting and joining threads costs a stage
_LONG_S = 2.0  # no further pairs after so long
_SHORT_NS = 100_000  # runs are repeated until they take so long


class TuneError(Exception):
    """What a request cannot do, in words."""


@dataclass
class Code:
    """A kernel as machine code: per stage its function, the size of its range, and the least part of it worth a
    thread. `alive` is what the functions live in."""

    alive: object
    tasks: list[Any]
    counts: list[int]
    grains: list[int]


class Buffers:
    """Memory for one kernel: `storages` of its parameters, weights in several copies."""

    def __init__(self, kernel: Kernel, weights: Sequence[bool], symbols: Mapping[str, int], cold: int) -> None:
        self.types = [_fixed(p.tensor, symbols) for p in kernel.params]
        self.outputs = kernel.outputs
        indexed = any(isinstance(op, Read | Write) and op.indices for op in kernel.walk())
        rng = np.random.default_rng(0)
        first = len(self.types) - self.outputs
        self.storages = [
            _storage(t, None if n >= first else _values(t, rng, indexed)) for n, t in enumerate(self.types)
        ]
        large = [n for n, flag in enumerate(weights[:first]) if flag and self.storages[n].size > _SMALL]
        together = sum(self.storages[n].size for n in large)
        count = min(_COPIES, max(1, -(-cold // together))) if large else 1
        self.rows = [self._row({})]
        for _ in range(count - 1):
            self.rows.append(self._row({n: _copy(self.storages[n]) for n in large}))
        self.at = 0

    def _row(self, other: Mapping[int, Bytes]) -> tuple[Any, list[Bytes]]:
        kept = [other.get(n, s) for n, s in enumerate(self.storages)]
        return (_POINTER * len(kept))(*(s.ctypes.data for s in kept)), kept

    def next(self) -> int:
        """The address of the pointers for the next run."""
        self.at = (self.at + 1) % len(self.rows)
        return ctypes.addressof(self.rows[self.at][0])

    def results(self) -> list[NDArray[Any]]:
        """Copies of the outputs."""
        first = len(self.types) - self.outputs
        return [unpack(s.copy(), t) for s, t in zip(self.storages[first:], self.types[first:], strict=True)]

    def clear(self) -> None:
        """Forget the outputs."""
        for s in self.storages[len(self.types) - self.outputs :]:
            s[:] = 0


def _fixed(t: TensorType, symbols: Mapping[str, int]) -> TensorType:
    return TensorType(t.dtype, tuple(as_expr(d).evaluate(symbols) for d in t.dims), t.layout)


def _values(t: TensorType, rng: np.random.Generator, indexed: bool) -> NDArray[Any]:
    """Ordinary values: no denormal numbers, indices that fit."""
    info = DTYPES[t.dtype]
    shape = t.static_shape
    if info.kind in ("float", "float8"):
        return (rng.integers(-64, 64, shape) / np.float32(64) + np.float32(1 / 128)).astype(info.numpy)
    if info.kind == "bool":
        return rng.integers(0, 2, shape).astype(info.numpy)
    if indexed and info.bits >= 32:
        return np.zeros(shape, info.numpy)
    low, high = (0, 4) if info.bits >= 16 else (0, 1 << (info.bits - 1)) if info.kind == "uint" else (-7, 8)
    return rng.integers(low, high, shape).astype(info.numpy)


def _storage(t: TensorType, values: NDArray[Any] | None) -> Bytes:
    size = t.storage_bytes
    assert isinstance(size, int)
    found = _memory(size)
    at = 0
    for chunk in pack(values, t.layout) if values is not None else ():
        data = np.frombuffer(chunk, np.uint8)
        found[at : at + data.size] = data
        at += data.size
    return found


def _memory(size: int) -> Bytes:
    """Zeroed memory on a page's boundary."""
    raw = np.zeros(size + 8192, np.uint8)
    skip = -raw.ctypes.data % 4096
    return raw[skip : skip + size]


def _copy(data: Bytes) -> Bytes:
    found = _memory(data.size)
    found[:] = data
    return found


# One part of a range by a clock of its own. The threads meet here, not in Python, whose lock they would wait for.
_PART = """
declare i32 @clock_gettime(i32, ptr)
define i32 @planish_timed_part(ptr %task, ptr %env, ptr %buffers, ptr %symbols, i64 %begin, i64 %end, i32 %worker,
                               ptr %arrived, i64 %goal, ptr %taken) {
  %from = alloca [2 x i64], align 8
  %to = alloca [2 x i64], align 8
  %before = atomicrmw add ptr %arrived, i64 1 seq_cst
  br label %wait
wait:
  %now = load atomic i64, ptr %arrived seq_cst, align 8
  %all = icmp sge i64 %now, %goal
  br i1 %all, label %go, label %wait
go:
  %r1 = call i32 @clock_gettime(i32 1, ptr %from)
  %status = call i32 %task(ptr %env, ptr %buffers, ptr %symbols, i64 %begin, i64 %end, i32 %worker)
  %r2 = call i32 @clock_gettime(i32 1, ptr %to)
  %s1 = load i64, ptr %from
  %s2 = load i64, ptr %to
  %p1 = getelementptr i64, ptr %from, i64 1
  %p2 = getelementptr i64, ptr %to, i64 1
  %n1 = load i64, ptr %p1
  %n2 = load i64, ptr %p2
  %s = sub i64 %s2, %s1
  %n = sub i64 %n2, %n1
  %ns = mul i64 %s, 1000000000
  %sum = add i64 %ns, %n
  store i64 %sum, ptr %taken
  ret i32 %status
}
"""
_TIMED = ctypes.CFUNCTYPE(_I32, _POINTER, _POINTER, _POINTER, _POINTER, _I64, _I64, _I32, _POINTER, _I64, _POINTER)


class Team:
    """Threads that run parts of a range at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        name = "planish_timed_part"
        builder = llvm.JITLibraryBuilder().add_ir(_PART).add_current_process().export_symbol(name)
        self._jit = lljit()
        self._library = cast("Any", builder.link(self._jit, name))
        self._timed = _TIMED(self._library[name])
        self._taken, self._arrived = (_I64 * count)(), _I64(0)
        self.status = [0] * count
        self._work: list[tuple[Any, ...]] = []
        self._begin, self._end = threading.Barrier(count), threading.Barrier(count)
        for number in range(1, count):
            threading.Thread(target=self._serve, args=(number,), daemon=True).start()

    def _serve(self, number: int) -> None:
        while True:
            self._begin.wait()
            self._part(number)
            self._end.wait()

    def _part(self, number: int) -> None:
        arrived, taken = ctypes.addressof(self._arrived), ctypes.addressof(self._taken) + 8 * number
        self.status[number] = self._timed(*self._work[number], number, arrived, len(self._work), taken)

    def run(self, task: Any, where: tuple[Any, ...], count: int, parts: int) -> tuple[int, int]:
        """Status, and nanoseconds of the longest of `parts` parts, as many as there are threads."""
        address = ctypes.cast(task, _POINTER).value
        cuts = [count * n // parts for n in range(parts + 1)]
        self._work = [(address, *where, cuts[n], cuts[n + 1]) for n in range(parts)]
        self._arrived.value = 0
        if parts == 1:
            self._part(0)
            return self.status[0], self._taken[0]
        self._begin.wait()
        self._part(0)
        self._end.wait()
        return max(self.status), max(self._taken)


class Worker:
    """State between requests."""

    def __init__(self) -> None:
        self.target: TargetInfo | None = None
        self.opt, self.cache, self.threads = 3, True, 1
        self.buffers: Buffers | None = None
        self.loaded: dict[int, Code] = {}
        self.values: Any = None
        self.env: Any = None
        self.scratch = np.zeros(64, np.uint8)
        self.teams: dict[int, Team] = {}  # by the number of their threads
        self.callbacks = [_FAIL(lambda *_: 7), _FAIL_CODE(lambda *_: 7)]

    def start(self, target: dict[str, Any], opt: int, cache: bool, threads: int) -> dict[str, Any]:
        """What everything is built for."""
        initialize()
        target["features"] = tuple(target["features"])
        self.target = TargetInfo(**target)
        self.opt, self.cache, self.threads = opt, cache, threads
        return {}

    def build(self, text: str, noalias: list[bool], symbols: dict[str, int]) -> dict[str, Any]:
        """Compile a kernel with its schedules."""
        assert self.target is not None
        code, symbol = kernel_code(_kernel(text), self.target, noalias, tuple(symbols))
        objects, _ = compile_texts([code.text], [symbol], self.target, opt=self.opt, workers=1, cache=self.cache)
        stages = [
            [s.symbol, as_expr(s.count).evaluate(symbols), s.grain, as_expr(s.scratch_bytes).evaluate(symbols)]
            for s in code.stages
        ]
        if code.locals:
            raise TuneError("the kernel has memory of its own")
        return {"object": base64.b64encode(objects[0]).decode(), "stages": stages}

    def kernel(self, text: str, weights: list[bool], symbols: dict[str, int], cold: int) -> dict[str, Any]:
        """Make buffers for a kernel; what was loaded before is forgotten."""
        self.loaded.clear()
        self.buffers = None
        self.buffers = Buffers(_kernel(text), weights, symbols, cold)
        self.values = (_I64 * (len(symbols) + 1))(*symbols.values(), 0)
        return {}

    def load(self, name: int, object: str, stages: list[list[Any]]) -> dict[str, Any]:
        """Make machine code ready to run."""
        builder = llvm.JITLibraryBuilder().add_object_img(base64.b64decode(object)).add_current_process()
        for symbol, callback in zip(("planish_fail_index", "planish_fail"), self.callbacks, strict=True):
            builder.import_symbol(symbol, ctypes.cast(callback, _POINTER).value or 0)
        for stage in stages:
            builder.export_symbol(stage[0])
        jit = lljit()
        library = cast("Any", builder.link(jit, f"{stages[0][0]}_{name}"))
        tasks = [_TASK(library[stage[0]]) for stage in stages]
        self.loaded[name] = Code((jit, library), tasks, [s[1] for s in stages], [s[2] for s in stages])
        stride = max((-(-s[3] // 64) * 64 for s in stages), default=0)
        if self.scratch.size < stride * self.threads + 64:
            self.scratch = _memory(stride * self.threads + 64)
        self.env = (_I64 * 8)(0, 0, 0, 0, 0, self.scratch.ctypes.data, self.scratch.size // self.threads // 64 * 64, 0)
        return {}

    def unload(self, name: int) -> dict[str, Any]:
        """Forget machine code."""
        self.loaded.pop(name, None)
        return {}

    def same(self, a: int, b: int) -> dict[str, Any]:
        """Whether both give the same outputs, but for rounding."""
        assert self.buffers is not None
        found: list[list[NDArray[Any]]] = []
        for name in (a, b):
            self.buffers.clear()
            self._run(self.loaded[name])
            found.append(self.buffers.results())
        return {"same": all(_agree(x, y) for x, y in zip(*found, strict=True))}

    def time(self, a: int, b: int, pairs: int) -> dict[str, Any]:
        """Alternating runs of both, of long ones fewer; the first of a pair is now the one, now the other."""
        codes = self.loaded[a], self.loaded[b]
        short = min(self._run(code) for code in codes for _ in range(2))
        repeat = max(1, min(50, math.ceil(_SHORT_NS / max(1, short))))
        taken: tuple[list[int], list[int]] = ([], [])
        end = time.monotonic() + _LONG_S
        for pair in range(pairs):
            if pair >= 3 and time.monotonic() > end:
                break
            for which in (0, 1) if pair % 2 else (1, 0):
                taken[which].append(sum(self._run(codes[which]) for _ in range(repeat)) // repeat)
        return {"a": taken[0], "b": taken[1]}

    def _run(self, code: Code) -> int:
        """Nanoseconds of one run."""
        assert self.buffers is not None
        where = (ctypes.addressof(self.env), self.buffers.next(), ctypes.addressof(self.values))
        total = 0
        for task, count, grain in zip(code.tasks, code.counts, code.grains, strict=True):
            parts = max(1, min(self.threads, count // grain))
            if parts not in self.teams:
                self.teams[parts] = Team(parts)
            status, taken = self.teams[parts].run(task, where, count, parts)
            total += taken + (_FORK_NS if parts > 1 else 0)
            if status:
                raise TuneError(f"the kernel ended with status {status}")
        return total


def _kernel(text: str) -> Kernel:
    found = next(iter(parse_module(text, "tuning").functions.values()))
    assert isinstance(found, Kernel)
    return found


def _agree(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal integers; floats that differ as other orders of sums do."""
    if a.dtype.kind in "iub":
        return bool((a == b).all())
    bits = a.dtype.itemsize * 8
    x, y = a.astype(np.float64), b.astype(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    if not (known | (x == y) | (np.isnan(x) & np.isnan(y))).all():
        return False
    largest = np.abs(x[known]).max(initial=0.0)
    limit = {8: 0.3, 16: 3e-2, 32: 1e-4, 64: 1e-10}[bits]
    return bool((np.abs(x - y)[known] <= limit * largest).all())


def main() -> None:
    """Answer requests until the input ends."""
    sys.setswitchinterval(1e-5)  # threads of a team meet often
    np.seterr(all="ignore")
    serve(Worker)


if __name__ == "__main__":
    main()
