"""Operators that are one operation each: no decomposition, only names and attributes.

Operators without attributes come from the operations' own `names["onnx"]`; those with attributes from the table below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ir.core import REGISTRY, Op, Value
from ...ir.ops.activation import (
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Selu,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from ...ir.ops.arith import IsInf
from ...ir.ops.base import TensorOp
from .node import CONVERTERS, Converter, Node

# operator -> (operation, number of operands, attributes in field order with ONNX's defaults)
_SIMPLE: dict[str, tuple[type[Op], int, Sequence[tuple[str, Any]]]] = {
    "Relu": (Relu, 1, ()),
    "HardSwish": (HardSwish, 1, ()),
    "Softplus": (Softplus, 1, ()),
    "Softsign": (Softsign, 1, ()),
    "Mish": (Mish, 1, ()),
    "LeakyRelu": (LeakyRelu, 1, (("alpha", 0.01),)),
    "Elu": (Elu, 1, (("alpha", 1.0),)),
    "Celu": (Celu, 1, (("alpha", 1.0),)),
    "ThresholdedRelu": (ThresholdedRelu, 1, (("alpha", 1.0),)),
    "Selu": (Selu, 1, (("alpha", 1.6732631921768188), ("gamma", 1.0507010221481323))),
    "HardSigmoid": (HardSigmoid, 1, (("alpha", 0.2), ("beta", 0.5))),
    "Gelu": (Gelu, 1, (("approximate", "none"),)),
    "IsInf": (IsInf, 1, (("detect_positive", 1), ("detect_negative", 1))),
}


def _simple(kind: type[Op], operands: int, attributes: Sequence[tuple[str, Any]]) -> Converter:
    def convert(node: Node) -> Value:
        values: list[Any] = [node.value(i) for i in range(operands)]
        for name, default in attributes:
            match default:
                case str():
                    values.append(node.string(name, default))
                case float():
                    values.append(node.real(name, default))
                case _:
                    values.append(bool(node.integer(name, default)))
        return node.make(kind, *values)

    return convert


def register() -> None:
    """Add these converters to the table, beside those that have a function of their own."""
    for name, (kind, operands, attributes) in _SIMPLE.items():
        CONVERTERS["", name] = _simple(kind, operands, attributes)
    for kind in REGISTRY.values():
        name = kind.names.get("onnx")
        if name is None or not issubclass(kind, TensorOp) or ("", name) in CONVERTERS:
            continue
        if all(f.kind == "operand" and not f.many and not f.optional for f in kind.fields):
            CONVERTERS["", name] = _simple(kind, len(kind.fields), ())
