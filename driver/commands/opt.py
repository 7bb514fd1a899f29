"""`planish opt`: run passes over a model or an `.ir` file and print the result."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from planish.commands.base import Command, add_reading, add_shape, positive, print_table, reading_of

if TYPE_CHECKING:
    import numpy as np

    from planish.frontend import Reading
    from planish.ir.core import Module
    from planish.ir.expr import Range
    from planish.ir.target_info import TargetInfo
    from planish.passes import Pass, PassReport

DESCRIPTION = """\
Run passes over a model or an .ir file and print the IR. Without -p, only read, verify and print it.

  planish opt net.onnx -p canonicalize,fold,dce
  planish opt net.onnx -p O3 -o net.ir
  planish opt net.ir -p fuse-kernels:limit=3 --print-after-all
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish opt`."""
    parser.add_argument("file", metavar="MODEL|FILE.ir", type=Path, nargs="?", help="a model file, or IR as text")
    parser.add_argument("-p", "--passes", metavar="PIPELINE", default="", help="such as canonicalize,cse,O2")
    parser.add_argument(
        "--disable", metavar="PASS", action="append", default=[], help="leave out a pass; may be repeated"
    )
    parser.add_argument("--print-after-all", action="store_true", help="print the IR after each pass that changed it")
    parser.add_argument("--list-passes", action="store_true", help="list the passes, their options and the pipelines")
    parser.add_argument("-o", "--output", metavar="OUT.ir", type=Path, help="write the IR here instead of printing it")
    parser.add_argument("--cpu", default="native", metavar="CPU", help="the CPU that passes schedule for")
    parser.add_argument("--threads", metavar="N", type=positive, default=1, help="the threads they schedule for")
    add_shape(parser)
    add_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the passes, or read, run and print."""
    if arguments.list_passes:
        list_passes()
        return 0
    if arguments.file is None:
        print("planish opt: error: expected MODEL or FILE.ir, or --list-passes", file=sys.stderr)
        return 2
    from planish.ir.expr import symbol_bounds
    from planish.ir.text import print_module
    from planish.ir.verifier import verify
    from planish.passes import PassContext, PassManager

    def after(step: Pass, module: Module, report: PassReport) -> None:
        if report.changed:
            print(f"// after {report.name}\n{print_module(module)}")

    context = PassContext(_target(arguments), arguments.threads)
    manager = PassManager.parse(arguments.passes, context, arguments.disable)
    module, bounds = read(arguments.file, dict(arguments.shapes), dict(arguments.ranks), reading_of(arguments))
    verify(module)
    with symbol_bounds(bounds):
        manager.run(module, on_pass=after if arguments.print_after_all else None)
    if arguments.output:
        write(module, arguments.output)
    elif not arguments.print_after_all:
        sys.stdout.write(print_module(module))
    return 0


def read(
    file: Path, shapes: dict[str, tuple[int | str, ...]], ranks: dict[str, int], reading: Reading
) -> tuple[Module, dict[str, Range]]:
    """A module from IR text (`.ir`) or from a model file, and what is known of its symbols."""
    if file.suffix != ".ir":
        from planish.frontend import open_model
        from planish.shapes import read_general

        module, asked = read_general(open_model(file, reading), shapes, ranks)
        return module, asked.bounds
    from planish.arrays import read_inputs
    from planish.ir.errors import PlanishError
    from planish.ir.text import parse_module

    beside = _resources(file)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PlanishError(f"{file}: expected IR as UTF-8 text: {error}") from error
    return parse_module(text, str(file), read_inputs([], beside) if beside.exists() else None), {}


def write(module: Module, file: Path) -> None:
    """Write a module as IR text; large constants that are in memory go into `FILE.ir.npz` beside it."""
    from planish._atomic import written_beside
    from planish.arrays import write_outputs
    from planish.ir.text import print_module

    resources: dict[str, np.ndarray] = {}
    text = print_module(module, resources)
    if resources:
        write_outputs(_resources(file), resources, {})
    with written_beside(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _resources(file: Path) -> Path:
    """Where the constants are that the text of `file` calls `resource("c0")`."""
    return file.with_name(file.name + ".npz")


def _target(arguments: argparse.Namespace) -> TargetInfo | None:
    """The CPU that passes schedule for; none is made if there are no passes, since that needs LLVM."""
    if not arguments.passes:
        return None
    from planish.codegen.llvm.target import target_for

    return replace(target_for(arguments.cpu), threads=arguments.threads)


def list_passes() -> None:
    """Passes with their options and defaults, and the named pipelines, as tables."""
    from planish.passes import PASSES
    from planish.passes.pipelines import PIPELINES

    rows = [
        [name, ":".join(f"{option.replace('_', '-')}={default}" for option, default in cls.options().items()), text]
        for name, cls in sorted(PASSES.items())
        for text in [cls.description()]
    ]
    print_table("Passes", ["pass", "options", "what it does"], rows)
    print_table("Pipelines", ["pipeline", "passes"], [[name, text] for name, text in PIPELINES.items()])


COMMAND = Command("opt", "run passes over a model or IR text and print the result", DESCRIPTION, arguments, run)
