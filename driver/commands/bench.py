"""`planish bench`: how fast a model runs, beside other runtimes measured in the same run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from planish.commands.base import Command, add_inputs, add_json, positive, print_json, print_table, progress

DESCRIPTION = """\
Measure a model or an artifact, beside other runtimes.

  planish bench net.onnx --against onnxruntime openvino --threads 1
  planish bench net.so --inputs inputs.npz --json

Every contestant runs in a process of its own, and they take turns. `ratio` is planish's time divided by the
contestant's, the median over the turns: below 1 planish is faster. `error` is the largest difference of an output from
ONNX Runtime's with its optimizations off, relative to that output's largest value. What compiles at every load
(ONNX Runtime, OpenVINO) shows that time both as compile and as load. Without --input(s), inputs are seeded random
values: normal for floats, 0 or 1 for integers; unknown dimensions are 1.
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
    add_inputs(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, then print."""
    from planish.arrays import read_inputs
    from planish.benchmark import BenchError, measure
    from planish.files import Kind, kind_of

    kind = kind_of(arguments.file)
    if kind not in (Kind.MODEL, Kind.LIBRARY):
        way_out = f"run '{arguments.file} bench'" if kind is Kind.EXECUTABLE else "link it into a program"
        raise BenchError(f"{arguments.file}: expected a model or a shared library, got {kind.value}: {way_out}")
    if kind is Kind.LIBRARY and arguments.against:
        raise BenchError(f"{arguments.file}: --against needs the model: an artifact cannot be given to other runtimes")
    threads: int = arguments.threads or len(os.sched_getaffinity(0))
    inputs = read_inputs(arguments.input, arguments.inputs)
    with progress(f"measuring {arguments.file.name}") as say:
        results = measure(
            arguments.file,
            is_artifact=kind is Kind.LIBRARY,
            against=list(dict.fromkeys(arguments.against)),
            threads=threads,
            runs=arguments.runs,
            inputs=inputs,
            say=say,
        )
    facts = [result.facts(results[0]) for result in results]
    if arguments.json:
        print_json({"model": str(arguments.file), "threads": threads, "contestants": facts})
        return 0
    columns = {
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
    }
    title = f"{arguments.file.name}, {threads} thread{'s' if threads > 1 else ''}"
    print_table(title, list(columns), [[fact[key] for key in columns.values()] for fact in facts])
    return 0


COMMAND = Command("bench", "measure a model or an artifact, beside other runtimes", DESCRIPTION, arguments, run)
