"""How to compile, and the way of a module through the passes: what compiling and its pre-flight report share."""

from __future__ import annotations

import os
from dataclasses import dataclass

from planish.ir.core import Module
from planish.passes import PassContext, PassManager, PassReport
from planish.tuning import Tuning


@dataclass(frozen=True)
class Options:
    """How to compile: see `planish compile --help`."""

    cpu: str = ""
    opt: int = 3
    threads: int | None = None
    passes: str | None = None
    disable: tuple[str, ...] = ()
    workers: int | None = None
    cache: bool = True
    triple: str = ""
    tuning: Tuning | None = None


def lower(module: Module, context: PassContext, options: Options) -> list[PassReport]:
    """Run the pipeline over `module`, down to a planned and scheduled program."""
    manager = PassManager.parse(options.passes or f"O{options.opt}", context, options.disable)
    return manager.run(module)


def available_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["Options", "available_threads", "lower"]
