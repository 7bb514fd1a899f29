"""The one place that touches the `filecheck` package: check text against the CHECK lines of a file, in process.

filecheck's modules are private to it, so its version is pinned in pyproject.toml. Two things are added: a misspelt
directive (`CHECK-NXT:`) is an error instead of a comment, and the verdict comes back as text.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser

_DIRECTIVE = re.compile(r"//\s*(?P<prefix>[A-Z][A-Z0-9_]*)(?P<suffix>-[A-Z0-9-]+)?(\{LITERAL\})?:")
_SUFFIX = re.compile(r"-(DAG|COUNT-\d+|NOT|EMPTY|NEXT|SAME|LABEL)")


def misspelt(text: str, prefixes: set[str]) -> list[str]:
    """`line N: what` for each directive of one of the `prefixes` that filecheck would silently ignore."""
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.search(line)
        if match and match["prefix"] in prefixes and match["suffix"] and not _SUFFIX.fullmatch(match["suffix"]):
            found.append(f"line {number}: {match['prefix']}{match['suffix']}: no such directive")
    return found


def check(output: str, file: Path, prefix: str = "CHECK") -> str:
    """What filecheck has to say about `output` against the `prefix` lines in `file`; empty if it matches."""
    options = Options(match_filename=str(file), check_prefixes=[prefix])
    said = io.StringIO()
    matcher = Matcher(options, FInput("<output>", output), Parser.from_opts(options))
    matcher.stderr = said
    status = matcher.run()
    return (said.getvalue() or f"filecheck: status {status}") if status else ""
