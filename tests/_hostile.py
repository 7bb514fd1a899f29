"""Hostile inputs are tried in processes of their own: forked from this one, with limits on memory and time.

A case that crashes, hangs or eats memory ends its own process; what it said comes back as an `Outcome`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from planish.cli import explain

SECONDS = 5
MEMORY = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a case ended: `kind` is `error` (one of planish's own), `internal` (any other exception), `done` or
    `killed`; `text` is the message, and `growth` how many bytes of memory it took beyond those of its parent."""

    kind: str
    text: str
    growth: int


def attempt(work: Callable[[], object]) -> Outcome:
    """Run `work` in a forked process that may use `SECONDS` of CPU time, thrice that of time, and `MEMORY` bytes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status, used = os.wait4(pid, 0)
    growth = max(0, used.ru_maxrss * 1024 - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if not data:
        return Outcome("killed", f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"{status}", growth)
    kind, text = pickle.loads(data)
    return Outcome(kind, text, growth)


def _child(work: Callable[[], object], writing: int) -> None:
    """Never returns."""
    with contextlib.suppress(BaseException):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + _data_bytes(), resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        signal.alarm(4 * SECONDS)
        try:
            work()
            answer = "done", ""
        except BaseException as error:
            own = any(cls.__module__.startswith("planish.") for cls in type(error).__mro__)
            answer = ("error" if own else "internal"), explain(error) if isinstance(error, Exception) else repr(error)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stdout.flush()
    os._exit(0)


def _data_bytes() -> int:
    """Bytes of data that this process has mapped now."""
    with Path("/proc/self/status").open() as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData")), 0)
