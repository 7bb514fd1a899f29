"""The measurement behind `planish bench --profile`: time of every kernel call, and how near it comes to the machine's
limits.

The model is compiled with a clock between its kernel calls; the kernels are those of an ordinary build. A call's time
is the median over the runs. Its limit is the least time in which this machine can do its arithmetic and move its bytes
(`codegen/llvm/roofline.py`): weights come from the level of memory that holds all weights of the model, other data
from the level that holds what the call touches. The share of the roofline is limit / time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from planish.benchmark import random_inputs
from planish.codegen.llvm.program import profile_points
from planish.codegen.llvm.roofline import Roofline, measure_roofline
from planish.compile import Lowered, compile_file
from planish.frontend import Reading
from planish.ir.program import Call, View, Weight
from planish.passes.analysis.cost import KernelCost, kernel_cost
from planish.runtime import load
from planish.runtime.loader import Binding
from planish.runtime.manifest import Port

Array = NDArray[Any]
WARM_UP = 3
BUDGET_S = 3.0
MOST_RUNS = 100


@dataclass(frozen=True)
class Row:
    """One kernel call, or several added up. `ms` per run of the model; `limit_ms` by the roofline; `bound` is
    "compute" or "memory", whichever limits it."""

    node: str
    label: str
    kernel: str
    calls: int
    ms: float
    flops: int
    bytes: int
    limit_ms: float
    bound: str

    def facts(self, total: float) -> dict[str, Any]:
        """The object for `--json`; `percent` is the share of `total` milliseconds."""
        seconds = max(self.ms, 1e-9) / 1e3
        return {
            "node": self.node,
            "label": self.label,
            "kernel": self.kernel,
            "calls": self.calls,
            "ms": _rounded(self.ms),
            "percent": _rounded(100 * self.ms / max(total, 1e-9)),
            "gflops": _rounded(self.flops / seconds / 1e9),
            "gbytes": _rounded(self.bytes / seconds / 1e9),
            "flops": self.flops,
            "bytes": self.bytes,
            "limit_ms": _rounded(self.limit_ms),
            "bound": self.bound,
            "roofline_percent": _rounded(100 * self.limit_ms / max(self.ms, 1e-9)),
        }


@dataclass(frozen=True)
class Profile:
    """What a profile found: `total_ms` is the median time of a whole run by a clock outside of it."""

    rows: list[Row]
    total_ms: float
    runs: int
    roofline: Roofline

    @property
    def sum_ms(self) -> float:
        """The calls' times added up."""
        return sum(row.ms for row in self.rows)

    def facts(self) -> dict[str, Any]:
        """The run as a whole, for `--json`."""
        return {
            "total_ms": _rounded(self.total_ms),
            "sum_ms": _rounded(self.sum_ms),
            "limit_ms": _rounded(sum(row.limit_ms for row in self.rows)),
            "runs": self.runs,
            "roofline": asdict(self.roofline),
        }

    def summary(self, left_out: int = 0) -> str:
        """Lines below a table from which `left_out` calls were left out."""
        limit, flops = sum(row.limit_ms for row in self.rows), sum(row.flops for row in self.rows)
        rates = ", ".join(
            f"{rate / 1e9:.0f} GB/s {f'up to {size / 2**20:.3g} MiB' if size else 'beyond'}"
            for size, rate in self.roofline.levels
        )
        lines = [
            f"run {self.total_ms:.3f} ms, sum of the calls {self.sum_ms:.3f} ms (medians of {self.runs} runs), "
            f"roofline {limit:.3f} ms ({100 * limit / max(self.sum_ms, 1e-9):.0f} %), "
            f"{flops / 1e9:.3f} GFLOP, {flops / max(self.sum_ms, 1e-9) / 1e6:.1f} GFLOP/s",
            f"machine {self.roofline.flops / 1e9:.0f} GFLOP/s, {rates}",
        ]
        return "\n".join([f"{left_out} more calls", *lines] if left_out else lines)

    def by_label(self) -> list[Row]:
        """Rows of calls that do the same operators added up, slowest first."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.label or row.kernel, []).append(row)
        return _slowest_first(_added(label, rows) for label, rows in groups.items())


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _slowest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.ms)


def _added(label: str, rows: Sequence[Row]) -> Row:
    limits = {kind: sum(r.limit_ms for r in rows if r.bound == kind) for kind in ("compute", "memory")}
    return Row(
        f"{len(rows)} calls" if len(rows) > 1 else rows[0].node,
        label,
        "",
        sum(r.calls for r in rows),
        sum(r.ms for r in rows),
        sum(r.flops for r in rows),
        sum(r.bytes for r in rows),
        sum(limits.values()),
        max(limits, key=lambda kind: limits[kind]),
    )


def profile_model(
    file: Path,
    *,
    threads: int,
    runs: int | None,
    inputs: Mapping[str, Array],
    say: Callable[[str], None],
    reading: Reading | None = None,
) -> Profile:
    """Compile `file` for profiling, run it on `inputs` (empty: seeded random values) and measure its calls.

    Raises `PlanishError` when it cannot be compiled, `runtime.ArtifactError` when it cannot be run."""
    with tempfile.TemporaryDirectory(prefix="planish-profile-") as folder:
        library = Path(folder) / "model.so"
        say(f"compiling {file.name}")
        lowered = compile_file(file, library, reading=reading, emit="lib", threads=threads, profile=True).lowered
        assert lowered is not None
        say("measuring the machine")
        roofline = measure_roofline(lowered.target, threads)
        with load(library, threads=threads) as model:
            specs: list[dict[str, Any]] = [{"name": p.name, "dtype": p.dtype, "shape": p.shape} for p in model.inputs]
            arrays = dict(inputs) or random_inputs(specs)
            say(f"running {file.name}")
            taken, total = _measure(model.bind(arrays), runs)
            symbols = _symbols(model.inputs, arrays)
    return Profile(_rows(lowered, taken, symbols, roofline), statistics.median(total), len(total), roofline)


def _symbols(ports: Sequence[Port], arrays: Mapping[str, Array]) -> dict[str, int]:
    """The values that the inputs' shapes give to shape symbols."""
    found: dict[str, int] = {}
    for port in ports:
        for name, size in zip(port.shape or (), arrays[port.name].shape, strict=False):
            if isinstance(name, str):
                found[name] = int(size)
    return found


def _measure(binding: Binding, runs: int | None) -> tuple[list[list[tuple[int, int]]], list[float]]:
    """The marks of each run, and the milliseconds that each took."""
    for _ in range(WARM_UP):
        binding.run()
    taken: list[list[tuple[int, int]]] = []
    total: list[float] = []
    begin = time.perf_counter()
    while len(total) < (runs or MOST_RUNS) and (runs or len(total) < 3 or time.perf_counter() - begin < BUDGET_S):
        start = time.perf_counter()
        binding.run()
        total.append((time.perf_counter() - start) * 1e3)
        taken.append(binding.profile())
    return taken, total


def _rows(
    lowered: Lowered, taken: Sequence[Sequence[tuple[int, int]]], symbols: Mapping[str, int], roofline: Roofline
) -> list[Row]:
    """A row per call that ran, slowest first."""
    points = profile_points(lowered.program, lowered.kernels.stages)
    nanoseconds: dict[Call, float] = {}
    counts: dict[Call, int] = {}
    for mark, (call, _) in enumerate(points):
        samples = [run[mark] if mark < len(run) else (0, 0) for run in taken]
        nanoseconds[call] = nanoseconds.get(call, 0.0) + statistics.median(ns for ns, _ in samples)
        counts[call] = max(counts.get(call, 0), *(count for _, count in samples))
    costs: dict[str, KernelCost] = {}
    weights = int(lowered.program.attributes["weights_bytes"])
    rows: list[Row] = []
    for call, ns in nanoseconds.items():
        if not counts[call]:
            continue
        if call.kernel not in costs:
            costs[call.kernel] = kernel_cost(lowered.module.functions[call.kernel], symbols)
        rows.append(_row(call, ns / 1e6, counts[call], costs[call.kernel], weights, roofline))
    return _slowest_first(rows)


def _row(call: Call, ms: float, count: int, cost: KernelCost, weights: int, roofline: Roofline) -> Row:
    moved = [read + written for read, written in zip(cost.reads, cost.writes, strict=True)]
    constant = sum(n for n, arg in zip(moved, call.args, strict=True) if _is_weight(arg.op))
    other = sum(moved) - constant
    compute = cost.flops / roofline.flops
    memory = constant / roofline.bandwidth(weights) + other / roofline.bandwidth(other)
    return Row(
        call.loc or call.kernel,
        call.label,
        call.kernel,
        count,
        ms,
        cost.flops * count,
        sum(moved) * count,
        max(compute, memory) * count * 1e3,
        "compute" if compute >= memory else "memory",
    )


def _is_weight(op: object) -> bool:
    while isinstance(op, View):
        op = op.source.op
    return isinstance(op, Weight)


__all__ = ["Profile", "Row", "profile_model"]
