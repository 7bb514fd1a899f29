"""Load and run artifacts with NumPy and the standard library only."""

from __future__ import annotations

from .errors import ArtifactError, InputError, LoadError, RunError
from .loader import Binding, Model, load
from .manifest import Manifest, Port
from .pool import Pool
from .session import InferenceSession

__all__ = [
    "ArtifactError",
    "Binding",
    "InferenceSession",
    "InputError",
    "LoadError",
    "Manifest",
    "Model",
    "Pool",
    "Port",
    "RunError",
    "load",
]
