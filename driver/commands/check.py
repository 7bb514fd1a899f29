"""`planish check`: what becomes of every node of a model, before it is compiled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from planish.commands.base import (
    Command,
    add_json,
    add_reading,
    add_shape,
    print_json,
    print_table,
    progress,
    reading_of,
)

if TYPE_CHECKING:
    from planish.preflight import NodeReport, Preflight

MOST = 15  # rows of a table that does not list everything

DESCRIPTION = """\
The pre-flight report: which way every operator of a model takes, what can be expected to take the time, and everything
that cannot be compiled, with the reason and a way out. No machine code is made.

The exit status is 1 only if something cannot be compiled.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish check`."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model: an ONNX or MindIR file")
    parser.add_argument("--cpu", default="", metavar="CPU", help="CPU to compile for (default: this one)")
    parser.add_argument("--triple", default="", metavar="TRIPLE", help="machine to compile for (default: this one)")
    parser.add_argument("-O", dest="opt", type=int, choices=range(4), default=3, help="optimization level (default: 3)")
    parser.add_argument("--all", action="store_true", help="list every node")
    add_shape(parser)
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the report and print it."""
    from planish._lower import Options
    from planish.codegen.llvm.target import targets_for
    from planish.frontend import open_model
    from planish.preflight import preflight

    with progress(f"looking at {arguments.model.name}"):
        target = targets_for(arguments.cpu, arguments.triple)[0]
        options = Options(arguments.cpu, arguments.opt, triple=arguments.triple)
        source = open_model(arguments.model, reading_of(arguments))
        report = preflight(source, target, options, dict(arguments.shapes), dict(arguments.ranks))
    if arguments.json:
        print_json(report.facts())
    else:
        show(report, arguments.all)
    return 0 if report.compiles else 1


def show(report: Preflight, everything: bool) -> None:
    """The report for a person."""
    from planish.preflight import PATHS

    count = len(report.nodes)
    verdict = "it compiles" if report.compiles else f"{len(report.issues)} of them cannot be compiled"
    print(f"{report.label}: {count} nodes, {verdict}")
    rows = [
        [path, sum(counts.values()), _share(report.nodes, path), _operators(counts), PATHS[path]]
        for path, counts in report.paths().items()
    ]
    print_table("Operators by path", ["path", "nodes", "time", "operators", ""], rows)
    if report.issues:
        issues = [list(issue) for issue in report.issues]
        print_table("Cannot be compiled", ["node", "operator", "opset", "reason", "what can be done"], issues)
    if everything:
        _nodes("Nodes", report.nodes)
    else:
        if report.slow:
            _nodes("Slow paths", report.slow[:MOST], len(report.slow) - MOST)
        longest = sorted((n for n in report.nodes if n.share), key=lambda n: -(n.share or 0.0))
        _nodes("Most of the time (estimated)", longest[:MOST], len(longest) - MOST)
    for note in report.notes:
        print(f"note: {note}")


def _nodes(title: str, nodes: list[NodeReport], more: int = 0) -> None:
    if not nodes:
        return
    rows = [
        [
            n.node,
            n.operator if n.domain == "ai.onnx" else f"{n.domain}.{n.operator}",
            n.opset,
            n.dtype or "-",
            n.path,
            "-" if n.share is None else f"{100 * n.share:.1f} %",
            f"{n.kernel} of {n.with_nodes} nodes" if n.with_nodes > 1 else n.kernel,
            f"{n.detail}: {n.advice}" if n.advice else n.detail,
        ]
        for n in nodes
    ]
    print_table(title, ["node", "operator", "opset", "type", "path", "time", "kernel", "how"], rows)
    if more > 0:
        print(f"and {more} more: --all lists every node")


def _share(nodes: list[NodeReport], path: str) -> str:
    shares = [n.share for n in nodes if n.path == path]
    return "-" if any(share is None for share in shares) else f"{100 * sum(share or 0.0 for share in shares):.1f} %"


def _operators(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in most[:8])
    return shown + (f" and {len(most) - 8} more kinds" if len(most) > 8 else "")


COMMAND = Command("check", "report what becomes of every node, before compiling", DESCRIPTION, arguments, run)
