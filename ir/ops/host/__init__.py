"""Operations of host plans (docs/HOST.md): what runs in the C runtime, symbols from data, control flow.

Importing this package registers all of them.
"""

from __future__ import annotations

from . import labels, random, sequences, strings, tensors
from .base import HostOp, ShapeOf, defined_symbols
from .bind import Bind, Check
from .control import If, Loop, discard, fixed_point, joined

__all__ = [
    "Bind", "Check", "HostOp", "If", "Loop", "ShapeOf", "defined_symbols", "discard", "fixed_point", "joined",
    "labels", "random", "sequences", "strings", "tensors",
]  # fmt: skip
