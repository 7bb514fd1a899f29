"""MindSpore's primitives by name: the order of their arguments, and what those are that a file leaves out.

`primitives.txt` beside this file holds the facts, one primitive a line (the format is told there).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .proto import Value

_FILE = Path(__file__).with_name("primitives.txt")


@dataclass(frozen=True)
class Argument:
    """An argument of a primitive.

    `kind` is "" for tensors and whatever has no kind of its own, "int", "float", "ints" (a number stands for a tuple
    of it), "dtype" (a number of TypeId) or "enum" (a number, or the name of one). `attribute`: an argument of the
    constructor, which is an attribute of primitives of kind 1 (attribute style), where it has the same name.
    """

    name: str
    kind: str
    required: bool
    default: Value
    attribute: bool


@cache
def _lines() -> tuple[dict[str, str], frozenset[str]]:
    """The lines of the file by primitive, and the names of those that are functions."""
    found: dict[str, str] = {}
    functions: list[str] = []
    group = functions
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            group = []
        elif line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found[name] = rest
            group.append(name)
    return found, frozenset(functions)


def _argument(text: str, attribute: bool) -> Argument:
    """The argument that a word of the file describes."""
    declared, equals, default = text.partition("=")
    name, _, kind = declared.partition(":")
    return Argument(name, kind, not equals, ast.literal_eval(default) if equals else None, attribute)


@cache
def arguments(name: str) -> tuple[Argument, ...]:
    """The arguments of a primitive in the order of a node's inputs; of one that is not known: none."""
    inputs, _, attributes = _lines()[0].get(name, "").partition("|")
    return (
        *(_argument(word, False) for word in inputs.split()),
        *(_argument(word, True) for word in attributes.split()),
    )


def known(name: str) -> bool:
    """Whether there is a primitive of that name."""
    return name in _lines()[0]


def functions() -> frozenset[str]:
    """Names of the primitives that take all arguments as inputs in files since MindSpore 2.3."""
    return _lines()[1]


def primitives() -> frozenset[str]:
    """Names of all primitives."""
    return frozenset(_lines()[0])


__all__ = ["Argument", "arguments", "functions", "known", "primitives"]
