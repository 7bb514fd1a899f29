"""The `planish` command: reads the arguments, runs one subcommand, and turns what goes wrong into one clear message.

Each subcommand is a module of `planish.commands`; it imports what it needs when it runs, so that `planish --help` and
running an artifact do not pay for the compiler.

Exit status: 0, 1 after `planish: error: ...` on standard error, 2 for wrong usage, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from planish._version import __version__
from planish.commands import COMMANDS, Command

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit status; never raises."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # after --help or --version (0) or a usage message (2)
        return stop.code if isinstance(stop.code, int) else 0
    return guarded(arguments.command, arguments)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="planish",
        description="Compile deep-learning models ahead of time: a model file in, an executable or a library out.",
        epilog="planish COMMAND --help tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"planish {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        sub.set_defaults(command=command)
    return parser


def guarded(command: Command, arguments: argparse.Namespace) -> int:
    """Run a subcommand; a failure becomes one message on standard error and an exit status."""
    try:
        status = command.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; Python's own flush at exit must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        print(f"planish: error: {printable(explain(error))}", file=sys.stderr)
        if os.environ.get("PLANISH_TRACEBACK"):
            traceback.print_exception(error)
        return 1


def explain(error: Exception) -> str:
    """What a person can do something with: the message of our own errors, and words for the system's."""
    if any(cls.__module__.startswith("planish.") for cls in type(error).__mro__):
        return str(error)
    match error:
        case ModuleNotFoundError(name=str(name)) if not name.startswith("planish"):
            return f"this needs the Python package {name!r}, which is not installed: pip install {name.split('.')[0]}"
        case OSError(strerror=str(reason)):
            names = [str(name) for name in (error.filename, error.filename2) if name is not None]
            return ": ".join([*names, reason[:1].lower() + reason[1:]])
        case MemoryError():
            return "out of memory"
        case _:
            return f"internal error: {_where(error)}: this is a defect of planish; PLANISH_TRACEBACK=1 shows more"


def printable(text: str) -> str:
    """`text` with control characters escaped: names in messages come from models. Line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
