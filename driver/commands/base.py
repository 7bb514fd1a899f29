"""What a subcommand is, and the argument types and printing that several share."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planish.frontend import Reading


@dataclass(frozen=True)
class Command:
    """A subcommand: `arguments` adds its options to a parser, `run` does it and returns the exit status."""

    name: str
    help: str
    description: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def positive(text: str) -> int:
    """An argument type: a whole number >= 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return value


_SIZE = re.compile(r"(\d+|\d*\.\.\d*|[?*])?(@\d+(:\d+)*)?")


def shape(text: str) -> tuple[str, tuple[int | str, ...]]:
    """An argument type: `image=1,3,224,224` or `image=1x3x224x224` or `batch=8` or `seq=1..512@32:128:512`; what is no
    number is left as text (`planish.shapes`)."""
    name, _, dims = text.rpartition("=")
    words = dims.replace("x", ",").split(",")
    if not name or not all(word and _SIZE.fullmatch(word) for word in words):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=DIMS, such as image=1,3,224,224 or batch=8 or seq=1..512@32:128:512"
        )
    return name, tuple(int(word) if word.isdecimal() else word for word in words)


def rank(text: str) -> tuple[str, int]:
    """An argument type: `image=4`."""
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=RANK, such as image=4")
    return name, int(number)


def assignment(text: str) -> tuple[str, Path]:
    """An argument type: `NAME=FILE.npy`."""
    name, found, file = text.partition("=")
    if not (name and found and file):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FILE.npy")
    return name, Path(file)


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The options `--shape`, into `shapes` as a list of (name, dims), and `--rank`, into `ranks` as a list of (name,
    rank)."""
    parser.add_argument(
        "--shape",
        dest="shapes",
        metavar="NAME=DIMS",
        type=shape,
        action="append",
        default=[],
        help="sizes of input NAME (image=1,3,224,224) or of one symbol (batch=8), or a range (seq=1..512), with "
        "versions of the code for some (seq=1..512@32:128:512); may be repeated",
    )
    parser.add_argument(
        "--rank",
        dest="ranks",
        metavar="NAME=RANK",
        type=rank,
        action="append",
        default=[],
        help="fix the rank of input NAME, of which the model does not tell it; may be repeated",
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options `--weights`, `--key-file` and `--graph`, which `reading_of` understands."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        type=Path,
        help="a checkpoint (.ckpt, safetensors, PyTorch) whose tensors take the place of the model's own by name",
    )
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        type=Path,
        help="the key of an encrypted model or checkpoint: 16, 24 or 32 bytes, or hex: and digits (default: the "
        "environment variable PLANISH_KEY)",
    )
    parser.add_argument(
        "--graph", metavar="NAME", default="", help="which graph of a folder that holds several (such as decode)"
    )


def reading_of(arguments: argparse.Namespace) -> Reading:
    """How the model is to be opened. Raises `PlanishError` for a key file that cannot be read or holds no key."""
    from planish.frontend import Reading
    from planish.frontend.encryption import find_key

    return Reading(arguments.weights, find_key(arguments.key_file), arguments.graph)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The options `--input` and `--inputs`, one or the other."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--input",
        metavar="NAME=FILE.npy",
        type=assignment,
        action="append",
        default=[],
        help="an input as a NumPy file; may be repeated",
    )
    group.add_argument("--inputs", metavar="FILE.npz", type=Path, help="all inputs, each under its name")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


@contextmanager
def progress(text: str) -> Generator[Callable[[str], None]]:
    """Show that work goes on, on a terminal's standard error; elsewhere stay quiet. Yields a function that changes the
    text."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text), refresh_per_second=4) as status:
        yield lambda text: status.update(Text(text))


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; columns whose cells are all numbers or missing are aligned to the right.

    Every cell is text, never markup: names come from models.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="", box=SIMPLE_HEAD)
    table.show_header = any(columns)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:  # a pipe or a file has no width to fold at
        console.width = 10_000
        console.width = console.measure(table).maximum
    console.print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case _:
            return "".join(c if c.isprintable() else "�" for c in str(value))


def size(count: int) -> str:
    """`1234567` -> `1.2 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
