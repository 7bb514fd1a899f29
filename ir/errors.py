"""The errors that planish shows to its users. Each docstring is that error's entry in the manual."""

from __future__ import annotations

from typing import NamedTuple


class PlanishError(Exception):
    """Something about the user's model, input or request that planish cannot go on with.

    The message is complete on its own: what, where in the user's model, what was expected and what was got,
    and what to do when there is one thing to do. The command line prints it and exits with status 1.
    """


ANY_LENGTH = "?"
"""In `Issue.lengths`: a length that depends on those of inputs in ways that are not known."""


class ModelError(PlanishError):
    """The model file is damaged, inconsistent, or not of the format its name claims."""


class Issue(NamedTuple):
    """One node (or tensor) of a model that cannot be compiled. `lengths` are symbols, the lengths of integer inputs,
    with numbers for which it could: the rank of a result depends on them."""

    node: str
    operator: str
    opset: str
    reason: str
    advice: str
    lengths: frozenset[str] = frozenset()


class UnsupportedError(PlanishError):
    """The model is valid, but uses operators or types that planish cannot compile. The message lists all of them.

    `reason` is the first of them in one line; `issues` are all, where they are known one by one.
    """

    def __init__(self, message: str, reason: str = "", issues: tuple[Issue, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason or message
        self.issues = issues
        self.lengths = frozenset[str]().union(*(issue.lengths for issue in issues))


class VerifyError(PlanishError):
    """The IR breaks one of its own rules. `op` is the text of the operation at fault, when there is one.

    In a pipeline this names the pass after which the rule broke: that pass is at fault, not the model.
    """

    def __init__(self, message: str, op: str = "") -> None:
        super().__init__(message + (f"\n  {op}" if op else ""))
        self.op = op


class ParseError(PlanishError):
    """A `.ir` text does not follow the grammar. The message starts with `file:line:`."""


class LinkError(PlanishError):
    """The artifact could not be linked or written: no compiler, no space, or an unwritable place."""


def expect(condition: bool, message: str) -> None:
    """Raise `VerifyError(message)` unless `condition` holds: the guard that `infer` and `verify` are written with."""
    if not condition:
        raise VerifyError(message)
