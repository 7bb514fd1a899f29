"""What a compilation does about measured schedules: reads the database, has kernels measured, and says what it used."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from planish.codegen.llvm.target import host
from planish.codegen.toolchain import cache_folder
from planish.ir.errors import PlanishError
from planish.ir.kernel.form import Kernel
from planish.ir.target_info import TargetInfo
from planish.passes.schedule.cpu import schedule_kernel
from planish.passes.schedule.database import ScheduleDatabase
from planish.runtime.manifest import Tuned
from planish.tuner import Part, Say, TuneOptions, Tuner, TuneReport


@dataclass
class Tuning:
    """What a compilation does about measured schedules: use those in `database`, after measuring for `seconds` (0: do
    not) and writing them to `path`. `notes` are for the user."""

    path: Path
    seconds: float
    database: ScheduleDatabase
    say: Say = lambda text: None
    notes: list[str] = field(default_factory=list[str])
    report: TuneReport = field(default_factory=TuneReport)

    @classmethod
    def of(cls, seconds: float, path: Path | None, say: Say | None) -> Tuning | None:
        """None when neither a time nor a file is given. Raises `PlanishError` for a file that is no database; the
        default one in the cache is replaced then."""
        if seconds < 0 or not math.isfinite(seconds):
            raise PlanishError(f"tune: expected a number of seconds, got {seconds}")
        if not seconds and path is None:
            return None
        found = cls(path or cache_folder() / "schedules.json", seconds, ScheduleDatabase(), say or (lambda text: None))
        if path is not None and seconds and not path.exists():
            if not path.absolute().parent.is_dir():
                raise PlanishError(f"{path}: the folder {path.parent} does not exist: make it, or choose another place")
        elif path is not None or found.path.exists():
            try:
                found.database = ScheduleDatabase.read(found.path)
            except PlanishError as error:
                if path is not None:
                    raise
                found.notes.append(f"{error}; it is not used and will be replaced")
        return found

    @property
    def identity(self) -> tuple[object, ...]:
        """What compiled models are told apart by: what was measured once is not measured again."""
        return (self.seconds, str(self.path.absolute())) if self.seconds else (self.database.digest,)

    def run(self, parts: Sequence[Part], target: TargetInfo, options: TuneOptions) -> None:
        """Measure the kernels of `parts` for at most `options.seconds` and give them the schedules that won."""
        check_tunable(target)
        found = Tuner(parts, target, self.database, options, self.say).run()
        self.report.rows += found.rows
        self.report.tried += found.tried
        self.report.known += found.known
        self.report.seconds += found.seconds
        for part in parts:
            for kernel in part.module.functions.values():
                if isinstance(kernel, Kernel):
                    schedule_kernel(kernel, target)
                    self.database.apply(kernel, target, options.threads)

    def save(self) -> None:
        """Write the database; what others wrote meanwhile stays."""
        with contextlib.suppress(PlanishError):
            self.database.merge(ScheduleDatabase.read(self.path))
        self.database.write(self.path)

    def tuned(self) -> Tuned:
        """What the artifact says about it."""
        return Tuned(self.database.used, self.database.digest)


def check_tunable(target: TargetInfo) -> None:
    """Raises `PlanishError` unless code for `target` runs on this machine."""
    here = host()
    missing = sorted(f[1:] for f in set(target.features) - set(here.features) if f.startswith("+"))
    if target.architecture != here.architecture or missing:
        lacks = f" (it lacks {', '.join(missing[:4])})" if target.architecture == here.architecture else ""
        raise PlanishError(
            f"tune: expected a CPU whose code this machine can run, got {target.cpu}{lacks}: "
            "tune on such a machine and bring the database (--tune-database)"
        )


__all__ = ["Tuning", "check_tunable"]
