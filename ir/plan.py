"""Plan form (docs/HOST.md): steps over values of any type, which the C runtime walks through.

A `Plan` has the model's inputs as parameters and ends in `return`. Its numeric parts are islands: modules of their own
in `Module.islands`, which `h.run` names. Regions see nothing from outside: what they need comes in through `captures`,
for which they have a parameter each.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .constants import ConstantData
from .core import Function, Op, Region, Value


class Run(Op, name="h.run"):
    """Runs the island `island` on tensors."""

    side_effects: ClassVar[bool] = True
    arguments: tuple[Value, ...]
    island: str


class HostCall(Op, name="h.call"):
    """Runs `planish_host_<function>` of the C runtime. `options` are its attributes: numbers, strings, lists of them,
    constants."""

    side_effects: ClassVar[bool] = True
    arguments: tuple[Value | None, ...]
    function: str
    options: dict[str, Any]


class PlanConstant(Op, name="h.constant"):
    """A constant tensor, of strings too."""

    value: ConstantData


class PlanIf(Op, name="h.if"):
    """One of two regions, each with a parameter per capture."""

    side_effects: ClassVar[bool] = True
    isolated: ClassVar[bool] = True
    condition: Value
    captures: tuple[Value, ...]
    then: Region
    otherwise: Region


class PlanLoop(Op, name="h.loop"):
    """A loop (`t.loop`); the body's parameters are the round, the carried values, the captures."""

    side_effects: ClassVar[bool] = True
    isolated: ClassVar[bool] = True
    limit: Value | None
    condition: Value | None
    carried: tuple[Value, ...]
    captures: tuple[Value, ...]
    body: Region


class Plan(Function):
    """The steps of a model that is no single program. Parameters and `result_names` are the model's inputs and outputs.
    Attributes: `symbols` of which the shapes of outputs are made."""

    kind: ClassVar[str] = "plan"


__all__ = ["HostCall", "Plan", "PlanConstant", "PlanIf", "PlanLoop", "Run"]
