"""Passes from the intermediate representation to itself, and the pass manager.

Importing this package registers every pass: a new pass is a new module here and a line in the list below.
"""

from __future__ import annotations

from . import (
    canonicalize,
    cse,
    dce,
    fold,
    fold_batch_norm,
    form_kernels,
    fuse_kernels,
    fuse_local,
    layout,
    lower_program,
    plan_memory,
    quantize,
    schedule,
    share_rows,
    split_host,
    winograd,
)
from .base import PASSES, Pass, PassContext, PassManager, PassReport

__all__ = [
    "PASSES",
    "Pass",
    "PassContext",
    "PassManager",
    "PassReport",
    "canonicalize",
    "cse",
    "dce",
    "fold",
    "fold_batch_norm",
    "form_kernels",
    "fuse_kernels",
    "fuse_local",
    "layout",
    "lower_program",
    "plan_memory",
    "quantize",
    "schedule",
    "share_rows",
    "split_host",
    "winograd",
]
