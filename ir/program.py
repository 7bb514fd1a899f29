"""Program form: kernel calls over memory. Buffers are values of tensor types with layouts; operations run in order.

A `Program` has no parameters: model inputs, outputs, weights and arena buffers are operations that give buffers.
Expressions in its attributes range over the model's shape symbols (`Program.symbols`, in ABI order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .constants import ConstantData
from .core import Function, Op, Region, Value
from .expr import Dim
from .types import Type


class Input(Op, name="p.input"):
    """The caller's buffer of model input number `index` (row-major, may alias others)."""

    index: int
    label: str = ""


class Output(Op, name="p.output"):
    """The caller's buffer of model output number `index` (row-major)."""

    index: int
    label: str = ""


class Weight(Op, name="p.weight"):
    """A constant in the packed weights section, in the layout of the result type. `offset` is in bytes, -1 until the
    weights are laid out."""

    value: ConstantData
    offset: int = -1

    def infer(self) -> Sequence[Type]:
        return [r.type for r in self.results]


class Alloc(Op, name="p.alloc"):
    """A buffer in the arena, for the time from its first to its last use. `offset` in bytes, None until planned."""

    offset: Dim | None = None


class View(Op, name="p.view"):
    """The same memory under another type, from element `offset` of the source's storage on: a reshape, or a part of a
    larger buffer, of which the layout's padding stands for the rest (and may reach beyond the end)."""

    source: Value
    offset: int = 0


class Call(Op, name="p.call"):
    """Runs kernel `kernel` of the module over `args` (inputs, then outputs). `label` is for people: which operators
    were fused."""

    side_effects: ClassVar[bool] = True
    args: tuple[Value, ...]
    kernel: str
    label: str = ""

    def infer(self) -> Sequence[Type]:
        return ()


class If(Op, name="p.if"):
    """Runs one of two regions, by the bool in buffer `condition`."""

    side_effects: ClassVar[bool] = True
    condition: Value
    then: Region
    otherwise: Region

    def infer(self) -> Sequence[Type]:
        return ()


class Program(Function):
    """The model as kernel calls. Attributes: `symbols` (names in ABI order), `arena_bytes`, `weights_bytes`,
    `inputs` and `outputs` (name and logical type of each, in ABI order)."""

    kind: ClassVar[str] = "program"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Shape symbols in ABI order."""
        return tuple(self.attributes.get("symbols", ()))


__all__ = ["Alloc", "Call", "If", "Input", "Output", "Program", "View", "Weight"]
