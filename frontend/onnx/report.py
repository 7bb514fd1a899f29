"""The one error that lists everything in a model that planish cannot compile."""

from __future__ import annotations

from ...ir.errors import Issue, UnsupportedError

_LIMIT = 50  # lines; the rest is counted
_HEAD = ("node", "operator", "opset", "reason", "what can be done")


def unsupported(issues: list[Issue], file: str) -> UnsupportedError:
    """The error, with one aligned line for each issue."""
    count = len(issues)
    rows = [_HEAD, *((i.node, i.operator, i.opset, i.reason, i.advice) for i in issues[:_LIMIT])]
    widths = [min(60, max(len(row[i]) for row in rows)) for i in range(len(_HEAD))]
    lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if count > _LIMIT:
        lines.append(f"  ... and {count - _LIMIT} more")
    kinds: dict[str, int] = {}
    for issue in issues:
        kinds[issue.operator] = kinds.get(issue.operator, 0) + 1
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    summary = ", ".join(f"{name} ({n})" for name, n in most[:8]) + (", ..." if len(most) > 8 else "")
    what = "1 node cannot be compiled" if count == 1 else f"{count} nodes cannot be compiled"
    first = issues[0]
    reason = f"{first.node} ({first.operator}): {first.reason}" + (f" (and {count - 1} more)" if count > 1 else "")
    return UnsupportedError("\n".join([f"{file}: {what}: {summary}", *lines]), reason, tuple(issues))


__all__ = ["Issue", "unsupported"]
