"""Errors of the kinds that MindSpore raises, which are planish's own too."""

from __future__ import annotations

from planish.ir.errors import PlanishError


class LoadValueError(PlanishError, ValueError):
    """An argument that names no file, or a file of another format; MindSpore raises `ValueError` there."""


class LoadRuntimeError(PlanishError, RuntimeError):
    """A file that cannot be parsed or decrypted, or parameters that do not fit; MindSpore raises `RuntimeError`
    there."""


class ArgumentTypeError(PlanishError, TypeError):
    """An argument of another type; MindSpore raises `TypeError` there."""
