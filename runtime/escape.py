"""Names from a model are data: one escaping function for each place that they can get to."""

from __future__ import annotations

import json

_LIMIT = 100


def log_text(text: str) -> str:
    """`text` for a message or log line: quoted, control and odd characters escaped, cut after about 100 characters."""
    shown = "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text[:_LIMIT])
    return f"'{shown}{'...' if len(text) > _LIMIT else ''}'"


def c_string(text: str) -> str:
    """`text` as a C string literal, UTF-8; cut at the first NUL, as C would."""
    data = text.split("\0", 1)[0].encode("utf-8", "surrogateescape" if text.isascii() else "replace")
    plain = {*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _-.,+=@#"}
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + '"'


def json_string(text: str) -> str:
    """`text` as a JSON string that is ASCII only, so that it is safe in every terminal and encoding."""
    return json.dumps(text, ensure_ascii=True)
