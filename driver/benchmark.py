"""The measurement behind `planish bench`: contestants in processes of their own, taking turns.

Times on a machine that does other things drift; therefore the contestants alternate in short rounds, and the ratio
between two of them is the median over the rounds (nine or more, unless fewer runs are asked for) of the ratio of
their medians in the same round. What CPU time other processes used during a contestant's turns is reported with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from planish.arrays import write_outputs
from planish.as_onnx import is_onnx
from planish.contestants import CONTESTANTS
from planish.frontend import Reading
from planish.ir.errors import PlanishError
from planish.quiet import NOISY, wait_for_quiet
from planish.runtime.dtypes import numpy_dtype

Array = NDArray[Any]

ROUNDS = 10
SLOW_ROUNDS = 9
SLOW_MS = 1000.0
TURN_MS = 100.0
WARM_UP_S = 0.4
QUIET_S = 8.0
MOST_RUNS_A_TURN = 200
REFERENCE = "onnxruntime-reference"
# What libraries that start threads of their own look at; the contestants are also told directly.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class BenchError(PlanishError):
    """A contestant is not installed, cannot run the model, or died."""


class Process:
    """A worker process (`planish._bench_worker`) and requests to it."""

    def __init__(self, name: str, threads: int | None = None) -> None:
        self.name = name
        limits = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "planish._bench_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limits},
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises `BenchError` if it failed or the process died."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(f"bench: {self.name}: asked to {do}, the process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"bench: {self.name}: {answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        if error is not None:
            self._process.kill()
        with suppress(BrokenPipeError):  # what was not read when the process died
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Result:
    """What is known about one contestant; `rounds` are the times of its turns in milliseconds."""

    name: str
    version: str = ""
    precision: str = ""
    compile_s: float | None = None
    load_ms: float | None = None
    first_ms: float = 0.0
    peak_rss_mb: float = 0.0
    max_rel_err: float | None = None
    rounds: list[list[float]] = field(default_factory=list[list[float]])
    foreign_s: float = 0.0
    wall_s: float = 0.0

    @property
    def foreign_cpu(self) -> float:
        """How much of one core other processes used during the turns."""
        return self.foreign_s / self.wall_s if self.wall_s else 0.0

    def ratio_to(self, other: Result) -> float:
        """This one's time divided by the other's: the median over the rounds."""
        return statistics.median(
            statistics.median(mine) / statistics.median(theirs)
            for mine, theirs in zip(self.rounds, other.rounds, strict=True)
        )

    def facts(self, first: Result) -> dict[str, Any]:
        """The object for `--json`; `ratio` is the time of `first` divided by this one's."""
        times = sorted(ms for turn in self.rounds for ms in turn)
        return {
            "name": self.name,
            "version": self.version,
            "precision": self.precision,
            "compile_s": _rounded(self.compile_s),
            "load_ms": _rounded(self.load_ms),
            "first_ms": _rounded(self.first_ms),
            "median_ms": _rounded(statistics.median(times)),
            "min_ms": _rounded(times[0]),
            "p90_ms": _rounded(times[min(len(times) - 1, int(len(times) * 0.9))]),
            "runs": len(times),
            "rounds": len(self.rounds),
            "peak_rss_mb": _rounded(self.peak_rss_mb),
            "max_rel_err": _rounded(self.max_rel_err),
            "ratio": _rounded(first.ratio_to(self)),
            "foreign_cpu": round(self.foreign_cpu, 3),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def check_installed(names: Sequence[str]) -> None:
    """Raise `BenchError`, with the command that helps, if the package of a contestant is missing."""
    missing = [name for name in names if not CONTESTANTS[name].is_installed()]
    if missing:
        packages = " ".join(CONTESTANTS[name].package for name in missing)
        raise BenchError(f"bench: --against {' '.join(missing)}: not installed: pip install {packages}")


def measure(
    file: Path,
    *,
    is_artifact: bool,
    against: Sequence[str],
    threads: int,
    runs: int | None,
    inputs: dict[str, Array],
    say: Callable[[str], None],
    reading: Reading | None = None,
) -> list[Result]:
    """Run planish and the others on `file`; planish is the first result. `inputs` empty: seeded random values.

    `say` is told what goes on; `reading` is how planish opens the model.
    """
    check_installed(against)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-bench-")))
        processes = [stack.enter_context(Process(name, threads)) for name in ("planish", *against)]
        reading = reading or Reading()
        shared = file if is_artifact else _for_others(file, against, scratch, reading)
        results: list[Result] = []
        seconds: float | None = None
        for process in processes:
            say(f"preparing {process.name}")
            taken = (file if is_artifact else scratch / "model.so") if process.name == "planish" else shared
            assert taken is not None
            if process.name == "planish" and not is_artifact:
                seconds = _compiled(file, taken, threads, reading)
            results.append(_prepare(process, taken, scratch / "inputs.npz", threads, inputs))
        say("warming up")
        turns = _turns(processes, runs)
        if runs is None:  # who asks for a few runs wants a quick look
            say("waiting until other processes are quiet")
            wait_for_quiet(QUIET_S)
        for turn, count in enumerate(turns, 1):
            for process, result in zip(processes, results, strict=True):
                say(f"measuring {process.name}, turn {turn} of {len(turns)}")
                answer = process.ask("time", runs=count)
                result.rounds.append(answer["ms"])
                result.foreign_s += answer["foreign_s"]
                result.wall_s += answer["wall_s"]
        for process, result in zip(processes, results, strict=True):
            result.peak_rss_mb = process.ask("memory")["peak_rss_mb"]
        results[0].compile_s = seconds
        if shared is not None and not is_artifact:
            _compare(processes, results, shared, scratch)
        return results


def _for_others(file: Path, against: Sequence[str], scratch: Path, reading: Reading) -> Path | None:
    """What the other contestants take: the model, or the same as ONNX; None where there is neither and nobody asks."""
    if is_onnx(file, reading):
        return file
    exported = scratch / "model.onnx"
    try:
        with Process("planish") as writer:
            writer.ask("export", model=str(file), output=str(exported), reading=_facts(reading))
    except BenchError:
        if against:
            raise
        return None
    return exported


def _compiled(file: Path, out: Path, threads: int, reading: Reading) -> float:
    """Compile, and give the seconds: in a process of its own, or the compiler's memory would count as the runtime's."""
    with Process("planish") as compiler:
        answer = compiler.ask("compile", model=str(file), output=str(out), threads=threads, reading=_facts(reading))
    return float(answer["compile_s"])


def _facts(reading: Reading) -> dict[str, str]:
    key = "" if reading.key is None else reading.key.hex()
    return {"weights": str(reading.weights or ""), "key": key, "graph": reading.graph}


def _prepare(process: Process, file: Path, archive: Path, threads: int, inputs: dict[str, Array]) -> Result:
    """Open, write the inputs into `archive` if there are none yet, run once."""
    result = Result(process.name)
    answer = process.ask("open", contestant=process.name, file=str(file.resolve()), threads=threads)
    result.version, result.precision = answer["version"], answer["precision"]
    result.load_ms = answer["seconds"] * 1e3
    if process.name != "planish":
        result.compile_s = answer["seconds"]  # these compile whenever they load
    if not archive.exists():
        write_outputs(archive, inputs or random_inputs(answer["inputs"]), {})
    result.first_ms = process.ask("first", inputs=str(archive))["first_ms"]
    return result


def _turns(processes: Sequence[Process], runs: int | None) -> list[int]:
    """Warm up; how many runs each turn has: `runs` in all, or a tenth of a second for the slowest contestant, two at
    least (one of those that take a second)."""
    slowest = max(process.ask("warm", seconds=WARM_UP_S)["ms"] for process in processes)
    if runs is not None:
        rounds = min(ROUNDS, runs)
        return [runs // rounds + (index < runs % rounds) for index in range(rounds)]
    if slowest > SLOW_MS:
        return [1] * SLOW_ROUNDS
    return [max(2, min(MOST_RUNS_A_TURN, int(TURN_MS / max(slowest, 1e-3))))] * ROUNDS


def noise_note(facts: Sequence[dict[str, Any]]) -> str:
    """A line for below the table: nothing, or whose turns other processes disturbed."""
    noisy = [f"{f['name']} ({f['foreign_cpu']:.0%} of a core)" for f in facts if f["foreign_cpu"] > NOISY]
    return f"! other processes were busy during the turns of {', '.join(noisy)}: measure again" if noisy else ""


def _compare(processes: Sequence[Process], results: Sequence[Result], file: Path, scratch: Path) -> None:
    """Fill in `max_rel_err` against ONNX Runtime without optimizations; leave it out where that is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return
    with Process(REFERENCE) as reference:
        reference.ask("open", contestant=REFERENCE, file=str(file.resolve()), threads=1)
        reference.ask("first", inputs=str(scratch / "inputs.npz"))
        expected = _outputs(reference, scratch)
    for process, result in zip(processes, results, strict=True):
        result.max_rel_err = largest_error(_outputs(process, scratch), expected)


def _outputs(process: Process, scratch: Path) -> dict[str, Array]:
    archive = scratch / "outputs.npz"
    names = process.ask("outputs", output=str(archive))["names"]
    with np.load(archive) as file:
        return {name: file[f"output{index}"] for index, name in enumerate(names)}


def largest_error(got: dict[str, Array], expected: dict[str, Array]) -> float:
    """The largest difference in any output, relative to that output's largest expected value; inf if shapes differ."""
    worst = 0.0
    for name, want in expected.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            return float("inf")
        if want.size and want.dtype.kind in "fiub":
            a, b = have.astype(np.float64), want.astype(np.float64)
            error = np.abs(a - b).max() / max(float(np.abs(b).max()), np.finfo(np.float64).tiny)
            worst = max(worst, float(error)) if np.isfinite(error) else float("inf")
    return worst


def random_inputs(specs: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Array]:
    """Seeded values for each input: normal for floats, 0 or 1 for integers (they may be indices); unknown
    dimensions are 1. Raises `BenchError` for a type that NumPy lacks."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for spec in specs:
        if spec["shape"] is None:
            raise BenchError(f"bench: input {spec['name']}: the model leaves its rank open: give --inputs FILE.npz")
        shape = [dim if isinstance(dim, int) and dim >= 0 else 1 for dim in spec["shape"]]
        try:
            dtype = numpy_dtype(spec["dtype"])
        except KeyError as error:
            name, kind = spec["name"], spec["dtype"]
            raise BenchError(f"bench: input {name}: no random values of type {kind}: give --inputs FILE.npz") from error
        if spec["dtype"].startswith(("f", "bf")):
            found[spec["name"]] = rng.standard_normal(shape).astype(dtype)
        else:
            found[spec["name"]] = rng.integers(0, 2, shape).astype(dtype)
    return found
