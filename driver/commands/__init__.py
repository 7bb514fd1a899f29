"""The subcommands of `planish`, one module each. A module imports the rest of planish only when its command runs."""

from __future__ import annotations

from planish.commands import bench, check, compare, compile, export, inspect, opt, run
from planish.commands.base import Command

COMMANDS: tuple[Command, ...] = (
    compile.COMMAND,
    run.COMMAND,
    bench.COMMAND,
    check.COMMAND,
    compare.COMMAND,
    export.COMMAND,
    opt.COMMAND,
    inspect.COMMAND,
)

__all__ = ["COMMANDS", "Command"]
