"""The one error that lists everything in a model that cannot be written."""

from __future__ import annotations

from ..ir.core import Op
from ..ir.errors import Issue, PlanishError, UnsupportedError
from ..ir.quote import quote

_LIMIT = 50  # lines; the rest is counted


class Cannot(PlanishError):
    """Raised where an operation has no form in the target; becomes an `Issue` of its node."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


def issue_of(op: Op, cannot: Cannot) -> Issue:
    """What `Cannot` says, with the node that it is about."""
    return Issue(op.loc or op.text_name, op.text_name, "", cannot.reason, cannot.advice)


def unwritable(issues: list[Issue], target: str) -> UnsupportedError:
    """The error, with one line for each issue."""
    lines = [
        f"  {quote(i.node[:60])} ({i.operator}): {i.reason}" + (f"; {i.advice}" if i.advice else "")
        for i in issues[:_LIMIT]
    ]
    if len(issues) > _LIMIT:
        lines.append(f"  ... and {len(issues) - _LIMIT} more")
    what = "1 operation" if len(issues) == 1 else f"{len(issues)} operations"
    return UnsupportedError(
        "\n".join([f"{what} of the model cannot be written as {target}:", *lines]), issues[0].reason, tuple(issues)
    )


__all__ = ["Cannot", "issue_of", "unwritable"]
