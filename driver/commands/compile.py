"""`planish compile`: a model file becomes an executable, a library, an object, LLVM IR or assembly."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planish.commands.base import (
    Command,
    add_json,
    add_reading,
    add_shape,
    positive,
    print_json,
    progress,
    reading_of,
    size,
)

if TYPE_CHECKING:
    from planish.compile import CompileReport

KINDS = ("exe", "lib", "static", "obj", "llvm", "asm")
# What the artifact depends on besides the model and its own kind; tuning is told apart.
REMEMBERED = ("target", "triple", "cpu", "opt", "threads", "passes", "disable", "shapes", "ranks", "strict", "graph")
BY_SUFFIX = {"": "exe", ".a": "static", ".o": "obj", ".ll": "llvm", ".s": "asm"}

DESCRIPTION = """\
Compile a model ahead of time.

  planish compile net.onnx -o net --emit exe      one executable: ./net run --input x=x.npy -o out.npz
  planish compile net.onnx -o net.so              a shared library for planish.load, C and C++
  planish compile net.onnx -o net.so --cpu x86-64-v3 --shape batch=8
  planish compile net.onnx -o net --cpu portable  one executable for x86-64-v2, v3 and v4
  planish compile net.onnx -o net --triple aarch64-linux-gnu     for another machine: pip install planish[cross]
  planish compile net.mindir -o net.so --weights new.ckpt        parameters of a checkpoint instead of its own
  planish compile net.onnx -o net.so --threads 1 --tune 60       measure schedules on this machine for a minute
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish compile`."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model: an ONNX or MindIR file")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the artifact to write")
    parser.add_argument("--target", choices=["cpu"], default="cpu", help="what to compile for (default: cpu)")
    parser.add_argument(
        "--emit", choices=KINDS, help="kind of artifact (default: by OUT's suffix: none exe, .a .o .ll .s, else lib)"
    )
    parser.add_argument(
        "--triple", default="", metavar="TRIPLE", help="machine, such as aarch64-linux-gnu or -musl (default: this one)"
    )
    parser.add_argument(
        "--cpu",
        default="",
        metavar="CPU",
        help="CPU by name, such as x86-64-v3 or cortex-a72; native: this one (default); portable: kernels for "
        "x86-64-v2, v3 and v4 in one file, chosen when it is opened",
    )
    parser.add_argument("-O", dest="opt", type=int, choices=range(4), default=3, help="optimization level (default: 3)")
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads at run time unless asked otherwise (default: all CPUs)"
    )
    parser.add_argument("-p", "--passes", metavar="PIPELINE", help="run these passes instead of the level's own")
    parser.add_argument(
        "--disable", metavar="PASS", action="append", default=[], help="leave out a pass; may be repeated"
    )
    parser.add_argument(
        "--tune", metavar="SECONDS", type=seconds, default=0.0, help="measure schedules for so long and use the fastest"
    )
    parser.add_argument(
        "--tune-database",
        metavar="FILE.json",
        type=Path,
        help="where measured schedules are kept; without --tune they are only used (default: a file in the cache, and "
        "none without --tune)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="slow paths (plain loops with a share of the time, functions of the C "
        "runtime) are errors that list the nodes; planish check shows them, too",
    )
    add_shape(parser)
    add_reading(parser)
    add_json(parser)


def seconds(text: str) -> float:
    """An argument type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Compile, or take the artifact from the cache, then say what was written."""
    from planish import _results

    start = time.perf_counter()
    out: Path = arguments.output
    kind: str = arguments.emit or BY_SUFFIX.get(out.suffix, "lib")
    key = None
    if not (arguments.tune or arguments.tune_database):  # what these give depends on more than the options
        options = {name: vars(arguments)[name] for name in REMEMBERED}
        key = _results.key_of(arguments.model, out, {**options, "emit": kind}, arguments.weights)
        if key and (kept := _results.restore(key, out)) is not None:
            show(out, kept, time.perf_counter() - start, True, arguments.json)
            return 0
    report = compile_model(arguments, out, kind)
    facts = facts_of(kind, report)
    if key:
        _results.keep(key, out, facts)
    show(out, facts, report.total_seconds, False, arguments.json)
    if not arguments.json:
        show_tuning(report)
    return 0


def compile_model(arguments: argparse.Namespace, out: Path, kind: str) -> CompileReport:
    """Compile as the arguments say."""
    from planish.compile import compile_file

    with progress(f"compiling {arguments.model.name}") as say:
        return compile_file(
            arguments.model,
            out,
            reading=reading_of(arguments),
            emit=kind,
            cpu=arguments.cpu,
            triple=arguments.triple,
            opt=arguments.opt,
            threads=arguments.threads,
            passes=arguments.passes,
            disable=arguments.disable,
            shapes=dict(arguments.shapes),
            ranks=dict(arguments.ranks),
            strict=arguments.strict,
            tune=arguments.tune,
            tune_database=arguments.tune_database,
            on_tune=lambda text: say(f"{arguments.model.name}: {text}"),
        )


def facts_of(kind: str, report: CompileReport) -> dict[str, Any]:
    """What the command prints about an artifact, as JSON has it."""
    facts = {key: value for key, value in asdict(report).items() if key not in ("passes", "seconds")}
    return {
        "emit": kind,
        "seconds": {step: round(value, 3) for step, value in report.seconds.items()},
        **facts,
        "passes": [{"pass": p.name, "seconds": round(p.seconds, 4), "changed": p.changed} for p in report.passes],
    }


def show(out: Path, facts: Mapping[str, Any], seconds: float, from_cache: bool, as_json: bool) -> None:
    """Say what was written, how big its parts are and how long it took; `facts` are those of `facts_of`."""
    written = out.stat().st_size
    if as_json:
        first = {"output": str(out), "emit": facts["emit"], "bytes": written, "compile_s": round(seconds, 3)}
        print_json({**first, "from_cache": from_cache, **facts})
        return
    done = "taken from the cache" if from_cache else "compiled"
    print(f"{out}: {facts['emit']}, {size(written)}, {done} in {seconds:.2f} s")
    parts = [f"{name} {size(facts[f'{name}_bytes'])}" for name in ("code", "weights", "arena")]
    parts[-1] += f" (at least {size(facts['arena_lower_bound'])})"
    print(f"  {', '.join(parts)}, {facts['kernels']} kernels ({facts['cached_kernels']} from the cache)")
    for note in facts["notes"]:
        print(f"  note: {note}")


def show_tuning(report: CompileReport) -> None:
    """Say which schedules were measured and used."""
    if report.tuned is None:
        return
    if (tuning := report.tuning) is not None:
        was = sum(row.ms for row in tuning.rows)
        now = sum(row.ms / row.gain for row in tuning.rows)
        print(
            f"  tuned for {tuning.seconds:.0f} s: {tuning.tried} candidates, {tuning.faster} of {len(tuning.rows)}",
            end="",
        )
        print(f" kernels faster, {was:.2f} -> {now:.2f} ms in kernels" if tuning.rows else " kernels faster")
        if tuning.known:
            print(f"  {tuning.known} kernels were known already")
    print(f"  measured schedules: {report.tuned.kernels} kernels, database {report.tuned.database[:12]}")


COMMAND = Command("compile", "compile a model into an artifact", DESCRIPTION, arguments, run)
