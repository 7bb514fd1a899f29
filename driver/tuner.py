"""`planish compile --tune SECONDS`: measures candidate schedules of a model's kernels and keeps those that win.

The kernels are measured one by one, each with the scheduler's own choice, on buffers of their real sizes in a process
of their own (`_tune_worker`). Then the time goes where it pays: the next candidates are those of the kernel with the
most time per run of the model, divided by how often it was tried. A candidate must give the same outputs, and replaces
the best so far only if the median of alternating pairs says so clearly, twice; in the end the winners are measured
against the scheduler's choice once more. The search stops at its limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from planish.codegen.llvm.compile import private_buffers
from planish.ir.core import Module
from planish.ir.errors import PlanishError
from planish.ir.kernel.form import Kernel
from planish.ir.program import Call, Program, View, Weight
from planish.ir.target_info import TargetInfo
from planish.ir.text import print_function
from planish.passes.schedule.candidates import KINDS, Candidate, candidates
from planish.passes.schedule.costs import UNKNOWN
from planish.passes.schedule.cpu import schedule_kernel
from planish.passes.schedule.database import (
    Entry,
    ScheduleDatabase,
    Schedules,
    digest_of,
    get_schedules,
    key_of,
    misfit,
    set_schedules,
)

CLEAR = 0.97  # of the best time so far: what a candidate may take at most to replace it
_PAIRS = (5, 9, 15)  # looked at in turn; the last is a measurement of its own
_BUILD_S, _RUN_S = 20.0, 10.0  # a candidate that takes longer is left alone
_CONFIRM_S = 4.0  # of the time at most are for looking at the winners once more
_WORTH_NS = 3000  # per run of the model: kernels that take less are left alone

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A program that was lowered, and its kernels."""

    module: Module
    program: Program


@dataclass(frozen=True)
class TuneOptions:
    """How long to measure, for how many threads, with how many compiler processes, and how to compile."""

    seconds: float
    threads: int = 1
    workers: int = 1
    opt: int = 3
    cache: bool = True


@dataclass
class Row:
    """What was found for the kernel that `node` is the first to call: `ms` per run of the model with the scheduler's
    own choice, the `gain`, and what changed."""

    node: str
    label: str
    calls: int
    ms: float
    gain: float = 1.0
    tried: int = 0
    changes: list[str] = field(default_factory=list[str])


@dataclass
class TuneReport:
    """What tuning did: candidates `tried`, kernels `known` before, and a row for each that was measured."""

    tried: int = 0
    known: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list[Row])

    @property
    def faster(self) -> int:
        """Kernels with better schedules than before."""
        return sum(1 for row in self.rows if row.gain > 1)


@dataclass(eq=False)
class _Job:
    """One kernel and the search for its schedules."""

    kernel: Kernel
    row: Row
    noalias: list[bool]
    weights: list[bool]
    symbols: dict[str, int]
    cold: int
    base: Schedules
    best: Schedules
    first: dict[str, Any] = field(default_factory=dict[str, Any])  # machine code of `base`
    build: dict[str, Any] = field(default_factory=dict[str, Any])  # of `best`
    ns: float = 0.0
    left: list[Candidate] = field(default_factory=list[Candidate])
    kinds: Iterator[str] = field(default_factory=lambda: iter(KINDS))
    seen: set[Schedules] = field(default_factory=set[Schedules])
    done: bool = False

    @property
    def worth(self) -> float:
        """What the next candidate may gain: less, the more were tried."""
        return self.ns * self.row.calls / (self.row.tried + 4)

    def text(self, schedules: Schedules) -> str:
        """The kernel's text with `schedules`, named as it is in its object."""
        kept = get_schedules(self.kernel)
        set_schedules(self.kernel, schedules)
        try:
            return print_function(self.kernel).replace(f"@{self.kernel.name}", "@kernel", 1)
        finally:
            set_schedules(self.kernel, kept)


class LostError(Exception):
    """A worker ended or did not answer in time."""


class WorkerProcess:
    """A worker process: started when it is needed, again after it was lost."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer. Raises `LostError` when none comes within `seconds`: then the process is ended."""
        try:
            if self._child is None:
                command = [sys.executable, "-m", "planish._tune_worker"]
                self._child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                self._exchange(self._start, seconds)
            return self._exchange(request, seconds)
        except (OSError, ValueError, LostError):
            self.end()
            raise LostError from None

    def _exchange(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        deadline = time.monotonic() + seconds
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise LostError
                data = os.read(child.stdout.fileno(), 1 << 20)
                if not data:
                    raise LostError
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._child.wait()
            self._child, self._rest = None, b""


class Tuner:
    """One tuning of the kernels of `parts` for `target`; results go into `database`."""

    def __init__(
        self, parts: Sequence[Part], target: TargetInfo, database: ScheduleDatabase, options: TuneOptions, say: Say
    ) -> None:
        self.target, self.database, self.options, self.say = target, database, options, say
        self.deadline = time.monotonic() + options.seconds
        self.report = TuneReport()
        start = {
            "do": "start",
            "target": asdict(target),
            "opt": max(1, options.opt),
            "cache": options.cache,
            "threads": options.threads,
        }
        self.measurer = WorkerProcess(start)
        self.builders = [self.measurer, *(WorkerProcess(start) for _ in range(max(0, options.workers - 1)))]
        self.at: _Job | None = None  # whose buffers and best code the measuring process holds
        self.jobs = self._jobs(parts)

    def run(self) -> TuneReport:
        """Measure until the time is over or nothing is left."""
        began = time.monotonic()
        try:
            self._bases()
            reserve = min(_CONFIRM_S, self.options.seconds / 10)
            while self._left() > reserve and self._round():
                pass
            for job in sorted(self.jobs, key=lambda j: -j.worth):
                if job.best != job.base and self._left() > 0:
                    self._confirm(job)
        finally:
            for process in self.builders:
                process.end()
        for job in self.jobs:
            self._record(job)
        self.report.rows = sorted((j.row for j in self.jobs if j.ns), key=lambda r: -r.ms)
        self.report.seconds = time.monotonic() - began
        return self.report

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    # -- what there is to do ------------------------------------------------------------------------------------

    def _jobs(self, parts: Sequence[Part]) -> list[_Job]:
        found: dict[str, _Job] = {}
        for part in parts:
            calls = [op for op in part.program.walk() if isinstance(op, Call)]
            for name in dict.fromkeys(call.kernel for call in calls):
                kernel = part.module.functions[name]
                assert isinstance(kernel, Kernel)
                own = [call for call in calls if call.kernel == name]
                self._job(found, kernel, own, part.program)
        return list(found.values())

    def _job(self, found: dict[str, _Job], kernel: Kernel, calls: Sequence[Call], program: Program) -> None:
        key = key_of(kernel, self.target, self.options.threads)
        if key in found:
            found[key].row.calls += len(calls)
            return
        kept = get_schedules(kernel)
        schedule_kernel(kernel, self.target)
        base = get_schedules(kernel)
        set_schedules(kernel, kept)
        entry = self.database.entries.get(key)
        if entry is not None and entry.complete and entry.base == digest_of(base):
            self.report.known += 1
            return
        best = base
        if entry is not None and entry.schedules is not None and not misfit(kernel, entry.schedules, self.target):
            best = entry.schedules
        row = Row(calls[0].loc, calls[0].label or kernel.name, len(calls), 0.0)
        weights = [_is_weight(arg.op) for arg in calls[0].args]
        cold = min(int(program.attributes.get("weights_bytes", 0)), 2 * self.target.l3_bytes)
        symbols = dict.fromkeys(program.symbols, UNKNOWN)
        noalias = private_buffers(program, kernel.name)
        found[key] = _Job(kernel, row, noalias, weights, symbols, cold, base, best)

    def _bases(self) -> None:
        """Measure every kernel as it is; those that take no time are left alone."""
        builds = self._build([(job, job.base) for job in self.jobs])
        for number, (job, build) in enumerate(zip(self.jobs, builds, strict=True)):
            self.say(f"tuning: measuring kernel {number + 1} of {len(self.jobs)}, {max(0.0, self._left()):.0f} s left")
            if build is None or self._left() <= 0:
                job.done = True
                continue
            try:
                job.first = job.build = build
                self._select(job)
                taken = self._ask({"do": "time", "a": 0, "b": 0, "pairs": 3})
                job.ns = statistics.median(taken["a"] + taken["b"])
            except (LostError, PlanishError):
                self.at = None
            job.row.ms = job.ns * job.row.calls / 1e6
            job.done = job.ns * job.row.calls < _WORTH_NS
            if job.best != job.base and not job.done:  # an earlier result: it must win again
                job.left.append(Candidate("known", "as found before", job.best))
                job.best = job.base

    def _round(self) -> bool:
        """Build a few candidates at once, then measure them one by one; False when none is left."""
        job, wanted = self._next()
        if job is None:
            return False
        builds = self._build([(job, candidate.schedules) for candidate in wanted])
        for candidate, build in zip(wanted, builds, strict=True):
            if self._left() <= 0:
                return False
            job.row.tried += 1
            if build is not None:
                self._try(job, candidate, build)
            open_jobs = sum(not j.done for j in self.jobs)
            wins = sum(j.best != j.base for j in self.jobs)
            self.say(
                f"tuning: {self.report.tried} candidates, {wins} kernels faster, {open_jobs} open, "
                f"{max(0.0, self._left()):.0f} s left"
            )
        return True

    def _next(self) -> tuple[_Job | None, list[Candidate]]:
        """The kernel where it is worth most, and some candidates of one kind for it; None when all are done."""
        while True:
            job = max((j for j in self.jobs if not j.done), key=lambda j: j.worth, default=None)
            if job is None:
                return None, []
            if job.left:
                count = max(4, 2 * len(self.builders))
                batch, job.left = job.left[:count], job.left[count:]
                return job, batch
            kind = next(job.kinds, None)
            if kind is None:
                job.done = True
                continue
            found = candidates(job.kernel, kind, job.best, self.target, self.options.threads)
            job.left = [c for c in found if c.schedules not in job.seen]
            job.seen.update(c.schedules for c in found)

    # -- building and measuring -----------------------------------------------------------------------------------

    def _build(self, wanted: Sequence[tuple[_Job, Schedules]]) -> list[dict[str, Any] | None]:
        """Machine code of kernels with schedules; None for what cannot be built in time."""
        texts = [job.text(schedules) for job, schedules in wanted]
        queue = list(enumerate(wanted))[::-1]
        done: list[dict[str, Any] | None] = [None] * len(wanted)

        def serve(process: WorkerProcess) -> None:
            while queue and self._left() > 0:
                number, (job, _) = queue.pop()
                request = {
                    "do": "build",
                    "text": texts[number],
                    "noalias": job.noalias,
                    "symbols": job.symbols,
                }
                try:
                    answer = process.ask(request, min(_BUILD_S, self._left()))
                except LostError:
                    if process is self.measurer:
                        self.at = None
                    continue
                done[number] = None if "error" in answer else answer

        with ThreadPoolExecutor(len(self.builders)) as pool:
            list(pool.map(serve, self.builders))
        return done

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """An answer of the measuring process. Raises `LostError`, or `PlanishError` for an error that it tells."""
        try:
            answer = self.measurer.ask(request, max(0.01, min(_RUN_S, self._left())))
        except LostError:
            self.at = None
            raise
        if "error" in answer:
            raise PlanishError(answer["error"])
        return answer

    def _select(self, job: _Job) -> None:
        """Make the measuring process hold the buffers of `job` and, as number 0, its best code."""
        self.at = None
        request = {"do": "kernel", "text": job.text(job.base), "weights": job.weights}
        self._ask({**request, "symbols": job.symbols, "cold": job.cold})
        self._ask({"do": "load", "name": 0, **job.build})
        self.at = job

    def _try(self, job: _Job, candidate: Candidate, build: dict[str, Any]) -> None:
        """Measure `candidate` against the best of its kernel."""
        try:
            if self.at is not job:
                self._select(job)
            self.report.tried += 1
            self._ask({"do": "load", "name": 1, **build})
            ratio = self._ratio() if self._ask({"do": "same", "a": 0, "b": 1})["same"] else None
            if ratio is None:
                self._ask({"do": "unload", "name": 1})
                return
            self._ask({"do": "load", "name": 0, **build})
        except (LostError, PlanishError):
            self.at = None
            return
        job.best, job.build = candidate.schedules, build
        job.row.gain /= ratio
        job.row.changes.append(f"{candidate.kind} {candidate.what} ({1 / ratio:.2f}x)")
        job.ns *= ratio

    def _confirm(self, job: _Job) -> None:
        """Measure the best of `job` against the scheduler's choice: small steps that each seemed to win may not add
        up."""
        self.say(f"tuning: confirming {job.row.label}, {max(0.0, self._left()):.0f} s left")
        try:
            self._select(job)
            self._ask({"do": "load", "name": 1, **job.first})
            taken = self._ask({"do": "time", "a": 0, "b": 1, "pairs": _PAIRS[-1]})
        except (LostError, PlanishError):
            self.at = None
            return
        ratio = statistics.median(a / b for a, b in zip(taken["a"], taken["b"], strict=True))
        job.row.gain = 1 / ratio
        if ratio > CLEAR:
            job.best, job.row.gain = job.base, 1.0
            job.row.changes.clear()

    def _ratio(self) -> float | None:
        """Time of number 1 over that of number 0, if it is clearly less: again in a second measurement."""
        found = 1.0
        for pairs in _PAIRS:
            taken = self._ask({"do": "time", "a": 0, "b": 1, "pairs": pairs})
            found = statistics.median(b / a for a, b in zip(taken["a"], taken["b"], strict=True))
            if found > (1.0 if pairs == _PAIRS[0] else CLEAR):
                return None
        return found

    def _record(self, job: _Job) -> None:
        """Put what was found into the database, with what is not known yet left open."""
        if not job.ns:
            return
        key = key_of(job.kernel, self.target, self.options.threads)
        old = self.database.entries.get(key)
        known = any(c.kind == "known" for c in job.left)
        if known and old is not None:  # no time to look at it again
            return
        best = None if job.best == job.base else job.best
        self.database.entries[key] = Entry(
            best,
            round(job.row.gain, 4),
            job.row.tried + (old.tried if old is not None else 0),
            job.done,
            digest_of(job.base),
            job.row.label,
            self.target.cpu,
            self.options.threads,
        )


def _is_weight(op: object) -> bool:
    while isinstance(op, View):
        op = op.source.op
    return isinstance(op, Weight)


__all__ = ["LostError", "Part", "Row", "Say", "TuneOptions", "TuneReport", "Tuner", "WorkerProcess"]
