"""`planish run`: run a model or an artifact on NumPy files."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planish.commands.base import (
    Command,
    add_inputs,
    add_json,
    add_reading,
    add_shape,
    positive,
    print_json,
    print_table,
    progress,
    reading_of,
)

if TYPE_CHECKING:
    from planish.frontend import Reading
    from planish.runtime import Model

DESCRIPTION = """\
Run a model (compiled first, and kept in the cache) or an artifact.

  planish run net.onnx --input image=image.npy -o out.npz
  planish run net.so --inputs inputs.npz
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish run`."""
    parser.add_argument("file", metavar="MODEL|ARTIFACT", type=Path, help="a model file, a library or an executable")
    add_inputs(parser)
    parser.add_argument("-o", "--output", metavar="OUT.npz", type=Path, help="write the outputs; else print a summary")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads (default: all CPUs)")
    add_shape(parser)
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Load, read the inputs, run, write or show the outputs."""
    from planish.files import Kind, foreign_machine, kind_of
    from planish.ir.errors import PlanishError

    kind = kind_of(arguments.file)
    if machine := foreign_machine(arguments.file):
        raise PlanishError(f"{arguments.file}: made for {machine}: run it there, or an executable by qemu-{machine}")
    given = [option for option in ("shapes", "ranks", "weights", "graph") if getattr(arguments, option)]
    if given and kind is not Kind.MODEL:
        option = "--" + given[0].removesuffix("s" if given[0] != "weights" else "")
        raise PlanishError(f"{arguments.file}: {option} needs a model: of an artifact it was fixed by its compilation")
    if kind is Kind.EXECUTABLE:
        return _run_executable(arguments)
    from planish.arrays import read_inputs, write_outputs

    inputs = read_inputs(arguments.input, arguments.inputs)
    shapes, ranks = dict(arguments.shapes), dict(arguments.ranks)
    model = open_model(arguments.file, arguments.threads, shapes, ranks, reading_of(arguments))
    outputs = model.run(inputs)
    if arguments.output:
        write_outputs(arguments.output, outputs, {port.name: str(port.dtype) for port in model.outputs})
    elif arguments.json:
        print_json(
            {name: {"dtype": str(v.dtype), "shape": v.shape, "values": v.tolist()} for name, v in outputs.items()}
        )
    else:
        _show(outputs)
    return 0


def open_model(
    file: Path,
    threads: int | None,
    shapes: Mapping[str, tuple[int, ...]],
    ranks: Mapping[str, int],
    reading: Reading,
) -> Model:
    """A model compiled into the cache, or a library loaded; `PlanishError` for what can only be linked."""
    from planish.files import Kind, kind_of
    from planish.ir.errors import PlanishError

    match kind_of(file):
        case Kind.MODEL:
            from planish.compile import compile

            with progress(f"compiling {file.name}"):
                return compile(
                    file,
                    weights=reading.weights,
                    key=reading.key,
                    graph=reading.graph,
                    threads=threads,
                    shapes=shapes,
                    ranks=ranks,
                )
        case Kind.LIBRARY:
            from planish.runtime import load

            return load(file, threads=threads)
        case kind:
            raise PlanishError(
                f"{file}: expected a model or a shared library, got {kind.value}: link it into a program"
            )


def _run_executable(arguments: argparse.Namespace) -> int:
    """An executable runs itself; it takes the same options."""
    from planish.ir.errors import PlanishError

    if arguments.json:
        raise PlanishError(f"{arguments.file}: an executable has no --json: write the outputs with -o OUT.npz")
    words = [str(arguments.file.resolve()), "run"]
    for name, file in arguments.input:
        words += ["--input", f"{name}={file}"]
    for option in ("inputs", "output", "threads"):
        if (value := getattr(arguments, option)) is not None:
            words += ["-o" if option == "output" else f"--{option}", str(value)]
    return subprocess.run(words).returncode


def _show(outputs: Mapping[str, Any]) -> None:
    rows = [[name, str(v.dtype), "x".join(map(str, v.shape)) or "scalar", *_extent(v)] for name, v in outputs.items()]
    print_table("Outputs", ["name", "type", "shape", "min", "max", "mean"], rows)


def _extent(value: Any) -> list[float | None]:
    """Smallest, largest and mean element; none of an empty or non-numeric array."""
    if value.size == 0 or value.dtype.kind in "USO":
        return [None, None, None]
    numbers = value.astype("float64")
    return [float(numbers.min()), float(numbers.max()), float(numbers.mean())]


COMMAND = Command("run", "run a model or an artifact", DESCRIPTION, arguments, run)
