"""The errors of running artifacts. Each docstring is that error's entry in the manual."""

from __future__ import annotations


class ArtifactError(RuntimeError):
    """Something went wrong with an artifact. The message says what, what was expected and what was got."""


class LoadError(ArtifactError):
    """The file is not an artifact of planish, is damaged, or is not for this machine."""


class InputError(ArtifactError):
    """A wrong name, rank, shape or type of an input or output."""


class RunError(ArtifactError):
    """The run itself failed: an index in the data is out of range, or memory ran out."""
