"""Names and strings in the text form: which names stand bare, and how the others are quoted."""

from __future__ import annotations

import re
from functools import lru_cache

BARE = r"[A-Za-z_$][A-Za-z0-9_.$]*"
_BARE = re.compile(BARE)
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_UNESCAPES = {value[1]: key for key, value in _ESCAPES.items()}
_ESCAPE = re.compile(r'\\(?:u\{([0-9a-fA-F]+)\}|(["\\ntr]))')

# Words with a meaning of their own inside expressions: a symbol of that name is quoted.
FUNCTIONS = frozenset({"floordiv", "mod", "min", "max"})


def quote(text: str) -> str:
    """`text` in double quotes, with everything that does not print escaped: one line of visible characters."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escape(c) for c in text) + '"'


def _escape(c: str) -> str:
    return _ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}")


def unquote(text: str) -> str:
    """The string that `quote` wrote; raises ValueError for an unknown escape."""
    inside = text[1:-1]
    if "\\" not in inside:
        return inside
    if "\\" in _ESCAPE.sub("", inside):
        raise ValueError("an unknown escape")
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _UNESCAPES[m[2]], inside)


@lru_cache(maxsize=65536)
def name_text(name: str) -> str:
    """`name` bare where it is an identifier, else quoted."""
    return name if _BARE.fullmatch(name) else quote(name)


@lru_cache(maxsize=65536)
def symbol_text(name: str) -> str:
    """A symbol's name inside an expression."""
    return name if _BARE.fullmatch(name) and name not in FUNCTIONS else quote(name)
