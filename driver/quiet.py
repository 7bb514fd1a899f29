"""How much of the machine other processes use: a measurement beside them is worth little, and says so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

NOISY = 0.12  # of one core: times measured beside more than this are flagged
_QUIET = 0.10
_LOOK_S = 0.25
_SETTLE_S = 0.25  # a turn waits at most so long
_POLL_S = 0.001
_CALM_LOOKS = 5


@dataclass(frozen=True)
class Moment:
    """CPU seconds since some beginning: `busy` of the whole machine, `own` of this process; and the time."""

    busy: float
    own: float
    at: float

    @classmethod
    def now(cls) -> Moment:
        """The present. Where the machine does not tell (no /proc/stat), `busy` stands still."""
        own = os.times()
        return cls(_busy_seconds(), own.user + own.system, time.perf_counter())

    def foreign_since(self, start: Moment) -> tuple[float, float]:
        """CPU seconds that other processes used since `start`, and the seconds that went by."""
        return max(0.0, (self.busy - start.busy) - (self.own - start.own)), self.at - start.at


def _busy_seconds() -> float:
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return 0.0
    ticks = [int(word) for word in line.split()[1:9]]  # user nice system idle iowait irq softirq steal
    return (sum(ticks) - sum(ticks[3:5])) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(limit: float) -> float:
    """Wait, `limit` seconds at most, until others use less than a tenth of a core; gives what they used last."""
    deadline = time.perf_counter() + limit
    while True:
        start = Moment.now()
        time.sleep(_LOOK_S)
        foreign, seconds = Moment.now().foreign_since(start)
        if foreign / seconds < _QUIET or time.perf_counter() >= deadline:
            return foreign / seconds


def wait_for_idle(threads: int, limit: float = _SETTLE_S) -> float:
    """Wait, `limit` seconds at most, until the cores that `threads` threads want are free; gives the seconds waited.

    This is about the moment, not about an average: worker threads of whoever ran before (ONNX Runtime's spin for tens
    of milliseconds after a run) hold a core that the next one's turn needs. Free means that for a few looks in a row no
    more threads can run than half of the other cores hold; on a machine that does not tell it is a short sleep.
    """
    start = time.perf_counter()
    spare = max(0, (os.cpu_count() or 1) - threads) // 2
    calm = 0
    while calm < _CALM_LOOKS and time.perf_counter() - start < limit:
        time.sleep(_POLL_S)
        calm = calm + 1 if _runnable_others() <= spare else 0
    return time.perf_counter() - start


def _runnable_others() -> int:
    """Threads of the machine that run or could run now, this one not counted."""
    try:
        words = Path("/proc/loadavg").read_text(encoding="ascii").split()
        return max(0, int(words[3].partition("/")[0]) - 1)
    except (OSError, IndexError, ValueError):
        return 0


__all__ = ["NOISY", "Moment", "wait_for_idle", "wait_for_quiet"]
