"""Measure the models of the documentation's table and write it: `python -m benchmarks`.

    python -m benchmarks                                       # everything, 1 and 2 threads
    python -m benchmarks --models resnet50 minilm_l6 --threads 1
    python -m benchmarks --render                              # only write the page again

It takes minutes per model and may be interrupted: what is measured is kept (build/benchmarks.jsonl) and used again as
long as compiler, contestants and CPU are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page
from benchmarks.models import MODELS, files, folder, gmac, is_there
from benchmarks.records import Record, Setup, append_record, latest, read_records
from planish._version import __version__
from planish.arrays import read_inputs
from planish.benchmark import BenchError, Result, check_installed, measure
from planish.codegen.llvm.roofline import measure_roofline
from planish.codegen.llvm.target import target_for
from planish.ir.errors import PlanishError
from planish.plot import check_plot

ROOT = Path(__file__).parent.parent
AGAINST = ("onnxruntime", "openvino")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", help="these models only (any name in the zoo's folder)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--against", nargs="*", choices=AGAINST, default=list(AGAINST), help="default: both")
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs, for a quick look (a page of its own)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there already")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the records")
    parser.add_argument("--records", type=Path, default=ROOT / "build" / "benchmarks.jsonl", metavar="FILE.jsonl")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "BENCHMARKS.md", metavar="FILE.md")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="default: benchmarks.svg beside the page")
    return parser.parse_args()


def main() -> int:
    """Measure, then write the page; 1 if a model failed."""
    given = arguments()
    picture: Path = given.plot or given.page.with_name("benchmarks.svg")
    try:
        check_plot(picture)
        check_installed(given.against)
        names = given.models or MODELS
        missing = [name for name in names if not is_there(name)]
        if missing:
            print(f"not in {folder()}: {', '.join(missing)}", file=sys.stderr)
        if not given.render:
            _measure_all(given, [name for name in names if name not in missing])
        records = latest([r for r in read_records(given.records) if r.setup.runs == given.runs])
        if not records:
            raise PlanishError(f"{given.records}: nothing was measured yet")
        threads = sorted({n for _, n in records})
        page.write(given.page, picture, records, [m for m in missing if m in MODELS], {n: _peak(n) for n in threads})
    except PlanishError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(f"wrote {given.page} and {picture}")
    return int(any(record.error for record in records.values()))


def _measure_all(given: argparse.Namespace, names: Sequence[str]) -> None:
    setup = _setup(given.against, given.runs)
    done = {} if given.fresh else latest(read_records(given.records), setup)
    work = [(name, n) for name in names for n in given.threads if (name, n) not in done]
    print(f"{len(work)} to measure, {len(names) * len(given.threads) - len(work)} kept", file=sys.stderr)
    for number, (name, threads) in enumerate(work, 1):
        start = time.perf_counter()
        record = _measure(name, threads, given.against, setup)
        append_record(given.records, record)
        result = record.error or ", ".join(f"{c['name']} {c['median_ms']} ms" for c in record.contestants)
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(work)}] {name}, threads {threads}: {result} ({seconds:.0f} s)", file=sys.stderr)


def _measure(name: str, threads: int, against: Sequence[str], setup: Setup) -> Record:
    """One record; a failure of a contestant becomes its `error`."""
    model, inputs = files(name)
    try:
        results = measure(
            model,
            is_artifact=False,
            against=against,
            threads=threads,
            runs=setup.runs,
            inputs=read_inputs([], inputs),
            say=lambda text: None,
        )
    except BenchError as error:
        return Record(name, threads, setup, [], {}, str(error))
    return Record(name, threads, setup, [r.facts(results[0]) for r in results], _ratios(results), gmac=gmac(name))


def _ratios(results: Sequence[Result]) -> dict[str, float]:
    ours, *others = results
    return {other.name: ours.ratio_to(other) for other in others}


def _setup(against: Sequence[str], runs: int | None) -> Setup:
    versions = {"planish": __version__, **{name: importlib.metadata.version(name) for name in against}}
    return Setup(_compiler_digest(), versions, _cpu_name(), len(os.sched_getaffinity(0)), runs)


def _compiler_digest() -> str:
    """Changes with what makes or is part of an artifact."""
    folders = [ROOT / name for name in ("codegen", "frontend", "ir", "passes", "runtime")]
    files = sorted(p for f in folders for p in f.rglob("*") if p.suffix in (".py", ".c", ".h"))
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return content.hexdigest()[:16]


def _cpu_name() -> str:
    """The processor's name and the one that compilers know it by."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({target_for('native').cpu})"


def _peak(threads: int) -> str:
    """What the machine can do at most, as measured."""
    roofline = measure_roofline(target_for("native"), threads)
    flops, bandwidth = roofline.flops / 1e9, roofline.levels[-1][1] / 1e9
    return f"{flops:.0f} GFLOP/s in f32, {bandwidth:.0f} GB/s read from memory, as measured"


if __name__ == "__main__":
    sys.exit(main())
