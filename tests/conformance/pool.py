"""Runs tests in worker processes, each under a limit of time and memory; a worker that dies or hangs costs one test."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .cases import Case
from .columns import COLUMNS

SECONDS = 60.0  # of a worker's processor time for one test
_WALL = 600.0  # seconds in all: a test that waits for something that never comes
MEMORY = 8 << 30  # bytes of address space of one worker; the compiler itself maps about 1 GB


@dataclass(frozen=True)
class Outcome:
    """`reason` is empty when the test passed."""

    name: str
    column: str
    reason: str
    seconds: float


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: tuple[int, str]
    since: float
    spent: float = 0.0  # processor time before the task

    @property
    def is_late(self) -> bool:
        """Whether its task takes too long. Other programs on the machine do not count."""
        return time.monotonic() - self.since > _WALL or _processor_time(self.process.pid) - self.spent > SECONDS


def _processor_time(pid: int) -> float:
    """Seconds that a process and its finished children computed; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def run_all(found: Sequence[Case], tasks: Sequence[tuple[int, str]], jobs: int) -> Iterator[Outcome]:
    """Outcomes of `tasks` (number in `found`, column), as they finish."""
    context = multiprocessing.get_context("fork")  # the cases are there already
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    while waiting or workers:
        while waiting and len(workers) < jobs:
            workers.append(_start(context, found, waiting.pop()))
        for worker in _ready(workers):
            outcome, alive = _receive(found, worker)
            yield outcome
            if alive and waiting:
                worker.task, worker.since = waiting.pop(), time.monotonic()
                worker.spent = _processor_time(worker.process.pid)
                worker.pipe.send(worker.task)
            else:
                workers.remove(worker)
                _stop(worker)


def _start(context: Any, found: Sequence[Case], task: tuple[int, str]) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, found), daemon=True)
    process.start()
    theirs.close()
    ours.send(task)
    return _Worker(process, ours, task, time.monotonic())


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Workers that have answered, died, or run out of time."""
    while True:
        answered = wait([w.pipe for w in workers], timeout=1.0)
        found = [w for w in workers if w.pipe in answered or w.is_late]
        if found:
            return found


def _receive(found: Sequence[Case], worker: _Worker) -> tuple[Outcome, bool]:
    number, column = worker.task
    seconds = time.monotonic() - worker.since
    if not worker.pipe.poll():
        return Outcome(found[number].name, column, f"takes more than {SECONDS:.0f} s of computing", seconds), False
    try:
        reason: str = worker.pipe.recv()
    except EOFError:
        worker.process.join(5)
        reason = f"the process ended with status {worker.process.exitcode}"
        return Outcome(found[number].name, column, reason, seconds), False
    return Outcome(found[number].name, column, reason, seconds), True


def _stop(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def _serve(pipe: Connection, found: Sequence[Case]) -> None:
    """A worker's life: take a task, answer with the reason of the failure or nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    while True:
        try:
            task: tuple[int, str] = pipe.recv()
        except EOFError:
            os._exit(0)
        number, column = task
        pipe.send(_reason(found[number], column))


def _reason(case: Case, column: str) -> str:
    try:
        COLUMNS[column](case)
    except Exception as e:
        return f"{type(e).__name__}: {e}"[:2000] or "an error without text"
    return ""
