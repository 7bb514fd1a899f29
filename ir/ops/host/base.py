"""The base of operations that functions of the C runtime execute, and which symbols an operation gives values to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...core import Op, Region, Value
from ...expr import sym
from ...types import TensorType, Type
from ..base import TensorOp


class HostOp(TensorOp):
    """Runs `planish_host_<function>` of the C runtime. Operands and results have any type.

    `reference` is its meaning in Python: string tensors are object arrays of str, sequences are lists, absent optionals
    are None, maps are dicts. A dimension of a result that depends on data is a symbol `?n...` of its own, made by who
    builds the operation and passed in the attribute `sizes` (every subclass with such results has one), so that
    inference stays a function of the operation. Attributes, `sizes` apart, go to the C function: numbers, strings,
    lists of them, constants."""

    function: ClassVar[str] = ""

    def fresh_sizes(self) -> tuple[str, ...]:
        """The symbols that its results' shapes give values to."""
        return tuple(getattr(self, "sizes", ()))


class ShapeOf(HostOp, name="host.shape"):
    """The shape of a tensor of any element type and of any, even unknown, rank: i64 of as many elements.

    `sizes` is empty where the rank is known, else the symbol of the rank. Source: ONNX Shape."""

    function: ClassVar[str] = "shape"
    x: Value
    sizes: tuple[str, ...] = ()

    def infer(self) -> Sequence[Type]:
        shape = self.x.tensor.shape
        return [TensorType("i64", (sym(self.sizes[0]) if shape is None else len(shape),))]

    def reference(self, *operands: Any) -> Any:
        return np.array(np.shape(operands[0]), np.int64)


def defined_symbols(scope: Op | Region) -> set[str]:
    """Symbols that the operations in `scope`, nested ones included, give values to."""
    found: set[str] = set()
    for op in scope.walk():
        for name in ("symbols", "sizes", "rounds"):
            if op.op_name in ("t.bind", "t.if", "t.loop") or isinstance(op, HostOp):
                found.update(getattr(op, name, ()))
    return found
