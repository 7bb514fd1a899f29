"""Measurements as JSON lines: one object per model and number of threads, appended as soon as it is there.

A record is used again when it was made by the same compiler, by the same versions of the others, on the same CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setup:
    """What a record depends on besides the model and the threads. `compiler` is a digest of planish's sources,
    `versions` those of the contestants by name, `cpu` and `cpus` the processor and how many of it; `runs` how many
    were asked for (None: as many as a good measurement needs)."""

    compiler: str
    versions: dict[str, str]
    cpu: str
    cpus: int
    runs: int | None = None


@dataclass(frozen=True)
class Record:
    """One measurement. `contestants` are the facts of `planish bench --json`; `ratios` are planish's time divided by
    theirs, turn by turn, by name; `error` says why there is none; `gmac` is the model's work."""

    model: str
    threads: int
    setup: Setup
    contestants: list[dict[str, Any]]
    ratios: dict[str, float]
    error: str = ""
    gmac: float | None = None

    @property
    def best_ratio(self) -> float | None:
        """Time of planish divided by the fastest other's: the largest of the ratios. None if nothing was measured."""
        return max(self.ratios.values(), default=None)

    def facts(self, name: str) -> dict[str, Any]:
        """The facts of one contestant; empty if it did not run."""
        none: dict[str, Any] = {}
        return next((c for c in self.contestants if c["name"] == name), none)


def read_records(path: Path) -> list[Record]:
    """All records in the file, oldest first; lines that an interrupted run left incomplete are passed over."""
    found: list[Record] = []
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            facts: dict[str, Any] = json.loads(line)
            setup = Setup(**facts.pop("setup"))
            found.append(Record(setup=setup, **facts))
        except (ValueError, TypeError, KeyError):
            continue
    return found


def append_record(path: Path, record: Record) -> None:
    """Add one line; one that an interrupted run left without its end is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(asdict(record), ensure_ascii=False) + "\n")


def latest(records: Sequence[Record], setup: Setup | None = None) -> dict[tuple[str, int], Record]:
    """The last record of each model and number of threads, made with `setup` if that is given. One that failed is
    tried again, so it does not count then."""
    wanted = [r for r in records if setup is None or (r.setup == setup and not r.error)]
    return {(r.model, r.threads): r for r in wanted}
