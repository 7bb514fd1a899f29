"""The list of operators in docs/PYTORCH.md. As a program it writes the list."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from planish.frontend.torch.aten import LOWERINGS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "PYTORCH.md"
HEAD = "overloads are left out.\n\n"


def listed() -> str:
    """All operators that have a lowering, by name."""
    names = {target.split(".")[1] for target in LOWERINGS if target.startswith("aten.")}
    others = {target for target in LOWERINGS if not target.startswith("aten.")}
    lines = textwrap.wrap(", ".join(sorted(names)), 138, break_long_words=False, break_on_hyphens=False)
    more = textwrap.wrap(", ".join(sorted(others)), 138, break_long_words=False, break_on_hyphens=False)
    functions = "Control flow and functions of sizes:"
    return "\n".join([f"{len(names)} operators of ATen:", "", *lines, "", functions, "", *more]) + "\n"


def main() -> int:
    text = DOCUMENT.read_text(encoding="utf-8")
    start = text.index(HEAD) + len(HEAD)
    DOCUMENT.write_text(text[:start] + listed(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
