"""`planish bench`: how fast a model runs, beside other runtimes measured in the same run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from planish.commands.base import (
    Command,
    add_inputs,
    add_json,
    add_reading,
    positive,
    print_json,
    print_table,
    progress,
    reading_of,
)

DESCRIPTION = """\
Measure a model or an artifact, beside other runtimes.

  planish bench net.onnx --against onnxruntime openvino --threads 1
  planish bench net.so --inputs inputs.npz --json
  planish bench net.onnx --profile --top 20
  planish bench net.onnx --profile --plot profile.svg

Every contestant runs in a process of its own, and they take turns. `ratio` is planish's time divided by the
contestant's, the median over the turns: below 1 planish is faster. `error` is the largest difference of an output from
ONNX Runtime's with its optimizations off, relative to that output's largest value. What compiles at every load
(ONNX Runtime, OpenVINO) shows that time both as compile and as load. `others` is how much of a core other processes
used during the turns: above 0.12 the row is not to be trusted. Without --input(s), inputs are seeded random
values: normal for floats, 0 or 1 for integers; unknown dimensions are 1.

--profile shows the calls of kernels instead, slowest first: the model's nodes that each one computes, median time,
GFLOP/s, GB/s (distinct bytes), and the share of the roofline: the least time that this machine needs for the call's
f32 arithmetic or for its bytes (`bound` says which), both as measured, divided by the call's time.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish bench`."""
    parser.add_argument("file", metavar="MODEL|ARTIFACT", type=Path, help="a model file or a shared library")
    parser.add_argument(
        "--against",
        nargs="+",
        choices=["onnxruntime", "openvino"],
        default=[],
        metavar="RUNTIME",
        help="measure these too: onnxruntime, openvino (MODEL only)",
    )
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of every contestant (default: all CPUs)")
    parser.add_argument("--runs", metavar="N", type=positive, help="timed runs of each contestant (default: as needed)")
    parser.add_argument("--plot", metavar="FILE.svg", type=Path, help="also draw it: .svg, .png or .pdf")
    parser.add_argument(
        "--profile", action="store_true", help="time, GFLOP/s and GB/s of every kernel call (MODEL only)"
    )
    parser.add_argument(
        "--top", metavar="N", type=positive, help="with --profile: show the N slowest calls (default: all)"
    )
    add_inputs(parser)
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, then print."""
    from planish.arrays import read_inputs
    from planish.benchmark import BenchError
    from planish.files import Kind, kind_of

    kind = kind_of(arguments.file)
    if kind not in (Kind.MODEL, Kind.LIBRARY):
        way_out = f"run '{arguments.file} bench'" if kind is Kind.EXECUTABLE else "link it into a program"
        raise BenchError(f"{arguments.file}: expected a model or a shared library, got {kind.value}: {way_out}")
    needing = ("profile", "against", "weights", "graph")
    if kind is Kind.LIBRARY and (given := [option for option in needing if getattr(arguments, option)]):
        option = f"--{given[0]}"
        raise BenchError(f"{arguments.file}: {option} needs the model, not what was compiled from it")
    if arguments.weights and arguments.against:
        raise BenchError("--against measures the model as it is: leave out --weights")
    if arguments.profile and arguments.against:
        raise BenchError("--profile shows planish's own kernels: leave out --against")
    if arguments.plot:
        from planish.plot import check_plot

        check_plot(arguments.plot)
    threads: int = arguments.threads or len(os.sched_getaffinity(0))
    inputs = read_inputs(arguments.input, arguments.inputs)
    title = f"{arguments.file.name}, {threads} thread{'s' if threads > 1 else ''}"
    if arguments.profile:
        return profile(arguments, threads, inputs, title)
    return compare(arguments, threads, inputs, title, kind is Kind.LIBRARY)


COLUMNS = {
    "contestant": "name",
    "version": "version",
    "type": "precision",
    "median ms": "median_ms",
    "min ms": "min_ms",
    "p90 ms": "p90_ms",
    "ratio": "ratio",
    "runs": "runs",
    "compile s": "compile_s",
    "load ms": "load_ms",
    "first ms": "first_ms",
    "peak MB": "peak_rss_mb",
    "error": "max_rel_err",
    "others": "foreign_cpu",
}


def compare(arguments: argparse.Namespace, threads: int, inputs: dict[str, Any], title: str, is_artifact: bool) -> int:
    """Measure the contestants and print a row for each."""
    from planish.benchmark import measure, noise_note

    with progress(f"measuring {arguments.file.name}") as say:
        results = measure(
            arguments.file,
            is_artifact=is_artifact,
            against=list(dict.fromkeys(arguments.against)),
            threads=threads,
            runs=arguments.runs,
            inputs=inputs,
            say=say,
            reading=reading_of(arguments),
        )
    facts = [result.facts(results[0]) for result in results]
    if arguments.plot:
        from planish.plot import plot_contestants

        plot_contestants(facts, arguments.plot, title)
    if arguments.json:
        print_json({"model": str(arguments.file), "threads": threads, "contestants": facts})
        return 0
    print_table(title, list(COLUMNS), [[fact[key] for key in COLUMNS.values()] for fact in facts])
    if note := noise_note(facts):
        print(note)
    return 0


PROFILE_COLUMNS = {
    "operators": "label",
    "node": "node",
    "kernel": "kernel",
    "calls": "calls",
    "ms": "ms",
    "%": "percent",
    "GFLOP/s": "gflops",
    "GB/s": "gbytes",
    "bound": "bound",
    "roofline %": "roofline_percent",
}


def profile(arguments: argparse.Namespace, threads: int, inputs: dict[str, Any], title: str) -> int:
    """Measure the kernel calls and print them: summed by operators, then one by one."""
    from planish.profile import profile_model

    with progress(f"profiling {arguments.file.name}") as say:
        found = profile_model(
            arguments.file,
            threads=threads,
            runs=arguments.runs,
            inputs=inputs,
            say=say,
            reading=reading_of(arguments),
        )
    calls = [row.facts(found.sum_ms) for row in found.rows]
    groups = [row.facts(found.sum_ms) for row in found.by_label()]
    if arguments.plot:
        from planish.plot import plot_profile

        plot_profile(found, arguments.plot, title)
    if arguments.json:
        print_json(
            {"model": str(arguments.file), "threads": threads, **found.facts(), "groups": groups, "calls": calls}
        )
        return 0
    shown = calls[: arguments.top]
    for name, rows in (("by operators", groups), ("by call", shown)):
        cells = [[_short(fact[key]) for key in PROFILE_COLUMNS.values()] for fact in rows]
        print_table(f"{title}, {name}", list(PROFILE_COLUMNS), cells)
    print(found.summary(len(calls) - len(shown)))
    return 0


def _short(cell: object) -> object:
    """Cut the middle out of names of many nodes that were fused."""
    return f"{cell[:22]}…{cell[-17:]}" if isinstance(cell, str) and len(cell) > 40 else cell


COMMAND = Command("bench", "measure a model or an artifact, beside other runtimes", DESCRIPTION, arguments, run)
