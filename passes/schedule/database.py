"""Schedules that were measured: a file of data, keyed by what a kernel computes and the CPU it was measured on.

The file is JSON: a format number, a checksum and entries. A key is the digest of the kernel's text without schedules,
the CPU's name and features, and the number of threads. Nothing in it is believed: a file that is not one of ours is
one error, and a schedule is used only if it fits its kernel (`misfit`), which makes it legal and its code bounded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from ...ir.core import Op
from ...ir.errors import PlanishError
from ...ir.kernel.form import Kernel, Map, Schedule, Stage, Write
from ...ir.target_info import TargetInfo
from ...ir.text import print_function
from .costs import extent, lanes_of

FORMAT = 1
KIND = "planish schedules"
MOST_BYTES = 64 << 20  # of a file
MOST_POINTS = 1024  # registers' worth of one tile, nested tiles included: what bounds the code of a stage
_MOST_LOOPS = 16
_MOST_STEP = 1 << 31
_NUMBERS = tuple(f.name for f in fields(Schedule) if f.name not in ("loops", "vector"))

Schedules = tuple[Schedule | None, ...]
"""The schedules of a kernel's stages, in the order of `Kernel.walk`."""


@dataclass(frozen=True)
class Entry:
    """What was found for one kernel: `schedules` (None: the scheduler's own choice is the best), the `gain` of time
    over that choice, how many candidates were `tried`, whether these were all, the digest of the scheduler's choice
    they were compared with, and for people a `label`, the `cpu` and the number of `threads`."""

    schedules: Schedules | None
    gain: float
    tried: int
    complete: bool
    base: str
    label: str = ""
    cpu: str = ""
    threads: int = 1


@dataclass
class ScheduleDatabase:
    """Entries by key. `used` and `refused` count the kernels that `apply` set or found an unfit schedule for."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    used: int = 0
    refused: int = 0

    @property
    def digest(self) -> str:
        """Of all entries, as 64 hexadecimal digits."""
        return _checksum(self._data())

    def find(self, kernel: Kernel, target: TargetInfo, threads: int) -> Entry | None:
        """The entry of `kernel`."""
        return self.entries.get(key_of(kernel, target, threads))

    def apply(self, kernel: Kernel, target: TargetInfo, threads: int) -> bool:
        """Give the stages of `kernel` the schedules that were measured for it; False if there are none that fit."""
        entry = self.find(kernel, target, threads)
        if entry is None or entry.schedules is None:
            return False
        if misfit(kernel, entry.schedules, target):
            self.refused += 1
            return False
        set_schedules(kernel, entry.schedules)
        self.used += 1
        return True

    def merge(self, other: ScheduleDatabase) -> None:
        """Take over the entries of `other` that are not here."""
        self.entries = {**other.entries, **self.entries}

    @classmethod
    def read(cls, path: Path) -> ScheduleDatabase:
        """The database in file `path`. Raises `PlanishError` if it cannot be read or is not a whole database."""
        try:
            if path.stat().st_size > MOST_BYTES:
                raise _broken(path, f"expected at most {MOST_BYTES} bytes, got {path.stat().st_size}")
            text = path.read_bytes()
        except OSError as error:
            raise PlanishError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _broken(path, f"expected JSON, got something else ({str(error)[:80]})") from None
        if not isinstance(data, dict) or data.get("kind") != KIND:  # pyright: ignore[reportUnknownMemberType]
            raise _broken(path, f'expected an object with "kind": "{KIND}"')
        found = cast("dict[str, Any]", data)
        if found.get("format") != FORMAT:
            raise _broken(path, f"expected format {FORMAT}, got {str(found.get('format'))[:20]}")
        entries = found.get("entries")
        if not isinstance(entries, dict) or found.get("sha256") != _checksum(cast("dict[str, Any]", entries)):
            raise _broken(path, "its checksum does not fit its entries: it was changed or cut off")
        try:
            return cls({str(key): _entry(value) for key, value in cast("dict[str, Any]", entries).items()})
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(path, f"an entry is malformed: {str(error)[:80]}") from None

    def write(self, path: Path) -> None:
        """Write the file: readers see the old one or the whole new one. Raises `PlanishError`."""
        data = self._data()
        text = json.dumps(
            {"kind": KIND, "format": FORMAT, "sha256": _checksum(data), "entries": data}, indent=1, sort_keys=True
        )
        name = ""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
            with os.fdopen(handle, "w", encoding="ascii") as f:
                f.write(text + "\n")
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                Path(name).unlink(missing_ok=True)
            raise PlanishError(f"{path}: cannot be written: {error.strerror}") from error

    def _data(self) -> dict[str, Any]:
        return {key: _plain(entry) for key, entry in self.entries.items()}


# -- kernels and their schedules --------------------------------------------------------------------------------------


def stages_of(kernel: Kernel) -> list[Stage]:
    """All stages of `kernel`, outer before inner: the order of `Schedules`."""
    return [op for op in kernel.walk() if isinstance(op, Stage)]


def get_schedules(kernel: Kernel) -> Schedules:
    """The schedules that the stages of `kernel` have."""
    return tuple(stage.schedule for stage in stages_of(kernel))


def set_schedules(kernel: Kernel, schedules: Schedules) -> None:
    """Give every stage of `kernel` its schedule."""
    for stage, schedule in zip(stages_of(kernel), schedules, strict=True):
        stage.schedule = schedule


def content(kernel: Kernel) -> str:
    """The text of `kernel` without its name and schedules: what it computes, over which layouts."""
    kept = get_schedules(kernel)
    set_schedules(kernel, (None,) * len(kept))
    try:
        return print_function(kernel).replace(f"@{kernel.name}", "@kernel", 1)
    finally:
        set_schedules(kernel, kept)


def key_of(kernel: Kernel, target: TargetInfo, threads: int) -> str:
    """The key of `kernel` for `threads` threads of the CPU `target`."""
    return hashlib.sha256(
        json.dumps([content(kernel), target.triple, target.cpu, target.features, threads]).encode()
    ).hexdigest()


def digest_of(schedules: Schedules) -> str:
    """Names `schedules`."""
    return hashlib.sha256(json.dumps([s and asdict(s) for s in schedules]).encode()).hexdigest()[:16]


# -- what fits --------------------------------------------------------------------------------------------------------


def misfit(kernel: Kernel, schedules: Schedules, target: TargetInfo) -> str:
    """Why `schedules` are not legal for `kernel`, or would make code without bounds; "" if they fit."""
    stages = stages_of(kernel)
    if len(stages) != len(schedules):
        return f"expected schedules of {len(stages)} stages, got {len(schedules)}"
    for stage, schedule in zip(stages, schedules, strict=True):
        if schedule is not None and (why := _misfit(stage, schedule)):
            return why
    chosen = {id(stage): schedule for stage, schedule in zip(stages, schedules, strict=True)}
    for stage in stages:
        points = math.prod(_points(s, chosen[id(s)], target) for s in around(stage))
        if points > MOST_POINTS:
            return f"expected tiles of at most {MOST_POINTS} registers, got {points}"
    return ""


def _misfit(stage: Stage, schedule: Schedule) -> str:
    names = {d.name for d in stage.dims}
    if {name for name, _ in schedule.loops} != names or len(schedule.loops) > _MOST_LOOPS:
        return f"expected loops over {', '.join(sorted(names))}"
    for d in names:
        steps = [step for name, step in schedule.loops if name == d]
        if not 1 <= steps[-1] <= steps[0] <= _MOST_STEP or any(b >= a for a, b in pairwise(steps)):
            return f"expected decreasing positive steps of '{d}', got {steps}"
    if schedule.vector and schedule.vector not in names:
        return f"expected a vector dimension of the stage, got '{schedule.vector}'"
    nested = stage.parent is not None and isinstance(stage.parent.parent, Op)
    alone = not isinstance(stage, Map) or nested or collides(stage)
    if not 0 <= schedule.parallel <= (0 if alone else len(schedule.loops)):
        return f"expected fewer parallel loops, got {schedule.parallel}"
    if not 1 <= schedule.grain <= _MOST_STEP:
        return f"expected a grain of at least 1, got {schedule.grain}"
    others = {name: getattr(schedule, name) for name in _NUMBERS if name not in ("parallel", "grain")}
    return "".join(f"expected a small {name}, got {n}" for name, n in others.items() if not 0 <= n <= _MOST_LOOPS)


def collides(stage: Stage) -> bool:
    """Whether points of the stage may write the same element: then it runs on one thread."""
    return any(isinstance(op, Write) and (op.combine or op.indices) for op in stage.walk())


def around(stage: Stage) -> list[Stage]:
    """`stage` and the stages around it, from inside out."""
    found = [stage]
    op: Op | None = stage
    while op is not None:
        around = op.parent.parent if op.parent is not None else None
        op = around if isinstance(around, Op) else None
        if isinstance(op, Stage):
            found.append(op)
    return found


def _points(stage: Stage, schedule: Schedule | None, target: TargetInfo) -> int:
    """Registers of one value over a tile of `stage`."""
    if schedule is None:
        return 1
    extents = {d.name: d.extent for d in stage.dims}
    points = 1
    for d in extents:
        size = extents[d]
        step = min(schedule.step(d), extent(size)) if isinstance(size, int) else schedule.step(d)
        points *= -(-step // lanes_of(stage, target)) if d == schedule.vector else max(1, step)
    return points


# -- plain data -------------------------------------------------------------------------------------------------------


def _plain(entry: Entry) -> dict[str, Any]:
    found = asdict(entry)
    if entry.schedules is not None:
        found["schedules"] = [s and {**asdict(s), "loops": [list(loop) for loop in s.loops]} for s in entry.schedules]
    return found


def _entry(value: Any) -> Entry:
    data: dict[str, Any] = dict(value)
    schedules = data["schedules"]
    return Entry(
        None if schedules is None else tuple(None if s is None else _schedule(s) for s in schedules),
        _number(data["gain"]),
        _whole(data["tried"]),
        data["complete"] is True,
        _text(data["base"]),
        _text(data["label"]),
        _text(data["cpu"]),
        _whole(data["threads"]),
    )


def _schedule(data: Mapping[str, Any]) -> Schedule:
    loops: Sequence[Any] = data["loops"]
    numbers = {name: _whole(data[name]) for name in _NUMBERS if name in data}
    return Schedule(tuple((_text(name), _whole(step)) for name, step in loops), _text(data["vector"]), **numbers)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected a whole number, got {str(value)[:40]!r}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"expected a number, got {str(value)[:40]!r}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {str(value)[:40]!r}")
    return value


def _checksum(entries: Mapping[str, Any]) -> str:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _broken(path: Path, what: str) -> PlanishError:
    return PlanishError(f"{path}: tuning database: {what}: delete it or name another file")


__all__ = ["Entry", "ScheduleDatabase", "Schedules"]
