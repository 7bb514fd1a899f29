"""How messages show names that come from a model: quoted, on one line, and never longer than is useful."""

from __future__ import annotations

import re

_SHOWN = 80


def quote(name: str, limit: int = _SHOWN) -> str:
    """`name` in double quotes, control characters and quotes escaped, cut to about `limit` characters."""
    cut = name if len(name) <= limit else f"{name[: limit - 16]}...{name[-10:]}"
    escaped = cut.replace("\\", "\\\\").replace('"', '\\"')
    shown = (c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in escaped)
    return f'"{"".join(shown)}"'


def symbol_name(text: str) -> str:
    """A shape symbol's name made from free text: letters, digits and `_`, not starting with a digit."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)[:60]
    return name if re.match(r"[A-Za-z_]", name) else f"d_{name}"
