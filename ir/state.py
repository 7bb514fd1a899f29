"""What a model keeps from run to run: counters, caches, running means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from .constants import ConstantData
from .core import Module


class State(NamedTuple):
    """A tensor of fixed shape that is kept: `input` of `main` holds it, `output` is what it is after the run, `initial`
    what it is before the first one. Neither port is the user's; states stand behind all other ports, in one order."""

    input: str
    output: str
    initial: ConstantData


def states_of(module: Module) -> tuple[State, ...]:
    """The states of a module: `module.attributes["states"]`."""
    return tuple(State(*row) for row in cast("Iterable[Any]", module.attributes.get("states", ())))
