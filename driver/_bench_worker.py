"""One contestant of `planish bench` in a process of its own: `python -m planish._bench_worker`.

Requests are JSON objects, one a line, on standard input; each is answered by one line on what was standard output
(libraries print where they like, so descriptor 1 is given to standard error first). A failure is answered with
`{"error": message}`; the process ends at the end of its input.

    {"do": "compile", "model": path, "output": path, "threads": n, "weights": path, "key": hex, "graph": name}
                                                                     -> {"compile_s"}
    {"do": "open", "contestant": name, "file": path, "threads": n}   -> {"version", "precision", "seconds", "inputs"}
    {"do": "first", "inputs": npz}                                   -> {"first_ms"}
    {"do": "warm", "seconds": s}                                     -> {"ms"}
    {"do": "time", "runs": n}                                        -> {"ms": [...], "foreign_s", "wall_s"}
    {"do": "outputs", "output": npz}                                 -> {"names": [...]}
    {"do": "memory"}                                                 -> {"peak_rss_mb"}
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planish._requests import serve
from planish.arrays import read_inputs, save_npz
from planish.contestants import CONTESTANTS, Contestant, Planish
from planish.quiet import Moment, wait_for_idle

if TYPE_CHECKING:
    from planish.frontend import Reading

Array = NDArray[Any]

UNTIMED = 2  # runs that begin a turn: one fills the caches, one wakes threads that sleep


class Worker:
    """Holds the contestant between requests."""

    def __init__(self) -> None:
        self.contestant: Contestant | None = None
        self.execute: Callable[[], object] = lambda: None
        self.threads = 1

    def compile(self, model: str, output: str, threads: int, reading: dict[str, str]) -> dict[str, Any]:
        """Compile a model with planish into a shared library, all kernels anew."""
        from planish.compile import compile_file

        start = time.perf_counter()
        compile_file(Path(model), Path(output), reading=_reading(reading), emit="lib", threads=threads, cache=False)
        return {"compile_s": time.perf_counter() - start}

    def export(self, model: str, output: str, reading: dict[str, str]) -> dict[str, Any]:
        """Write a model of another format as ONNX."""
        from planish.as_onnx import write_as_onnx
        from planish.frontend import open_model

        write_as_onnx(open_model(Path(model), _reading(reading)), Path(output))
        return {}

    def open(self, contestant: str, file: str, threads: int) -> dict[str, Any]:
        """Make the model ready to run; `seconds` is what that took, importing the contestant's package not included."""
        self.contestant = CONTESTANTS[contestant]()
        self.threads = threads
        start = time.perf_counter()
        self.contestant.open(file, threads)
        seconds = time.perf_counter() - start
        return {
            "version": self.contestant.version,
            "precision": self.contestant.precision(),
            "seconds": seconds,
            "inputs": self.contestant.inputs() if isinstance(self.contestant, Planish) else [],
        }

    def first(self, inputs: str) -> dict[str, Any]:
        """Bind the inputs and run once."""
        assert self.contestant is not None
        arrays = read_inputs([], Path(inputs))
        start = time.perf_counter()
        self.execute = self.contestant.first(arrays)
        return {"first_ms": (time.perf_counter() - start) * 1e3}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Run untimed for `seconds`, three times at least (once if a run takes longer than that); gives the shortest
        run's milliseconds."""
        begin = time.perf_counter()
        shortest, runs = float("inf"), 0
        while time.perf_counter() - begin < seconds or (runs < 3 and shortest < 1e3 * seconds):
            start = time.perf_counter()
            self.execute()
            shortest, runs = min(shortest, (time.perf_counter() - start) * 1e3), runs + 1
        return {"ms": shortest}

    def time(self, runs: int) -> dict[str, Any]:
        """Wait until the threads of who ran before have let go of the cores, run untimed, since other processes have
        had the caches, then `runs` times; also tell what CPU time other processes used meanwhile."""
        execute, clock = self.execute, time.perf_counter_ns
        taken: list[float] = []
        wait_for_idle(self.threads)
        for _ in range(UNTIMED):
            execute()
        before = Moment.now()
        for _ in range(runs):
            start = clock()
            execute()
            taken.append((clock() - start) / 1e6)
        foreign, wall = Moment.now().foreign_since(before)
        return {"ms": taken, "foreign_s": foreign, "wall_s": wall}

    def outputs(self, output: str) -> dict[str, Any]:
        """Write the outputs of the last run, as they came, under their names."""
        assert self.contestant is not None
        found = self.contestant.outputs()
        save_npz(Path(output), {f"output{i}": _plain(value) for i, value in enumerate(found.values())})
        return {"names": list(found)}

    def memory(self) -> dict[str, Any]:
        """The most memory this process ever held. Not getrusage: there a child starts with its parent's maximum."""
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
        return {"peak_rss_mb": int(peak) / 1024}


def _reading(given: dict[str, str]) -> Reading:
    from planish.frontend import Reading

    weights, key = given["weights"], given["key"]
    return Reading(Path(weights) if weights else None, bytes.fromhex(key) if key else None, given["graph"])


def _plain(value: Array) -> Array:
    """Types that NumPy lacks (bf16) as float32, which holds them exactly."""
    return value.astype(np.float32) if value.dtype.kind == "V" else value


def main() -> None:
    """Answer requests until the input ends."""
    serve(Worker)


if __name__ == "__main__":
    main()
