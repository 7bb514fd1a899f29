"""Messages of MindIR files (`mind_ir.ModelProto`, mind_ir_version 3), as MindSpore 2.10 writes and reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...ir.constants import ConstantData
from ...ir.types import TensorType
from ..outside import Outside
from ..report import Cannot
from ..weights import WeightBytes
from ..wire import Message

Value: TypeAlias = "bool | int | float | str | ConstantData | np.ndarray | tuple[Value, ...] | None"

TENSOR_TYPES: dict[str, int] = {
    "f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "string": 8, "bool": 9, "f16": 10, "f64": 11,
    "u32": 12, "u64": 13, "c64": 14, "c128": 15, "bf16": 16,
}  # fmt: skip
"""Element types in tensors."""
TYPE_IDS: dict[str, int] = {
    "bool": 30, "i8": 32, "i16": 33, "i32": 34, "i64": 35, "u8": 37, "u16": 38, "u32": 39, "u64": 40, "f16": 42,
    "f32": 43, "f64": 44, "bf16": 45,
}  # fmt: skip
"""MindSpore's TypeId of element types, for arguments that name one."""
# Types of attributes.
_FLOAT, _INT64, _STRING, _BOOL, _TENSORS, _TUPLE, _MONAD, _NONE = 1, 7, 8, 9, 19, 20, 23, 25
_CLOSURE, _UNION = 27, 29


def tensor_type_number(dtype: str) -> int:
    """The element type in tensors. Raises `Cannot` for one that MindIR does not have."""
    if dtype not in TENSOR_TYPES:
        raise Cannot(f"MindIR has no element type {dtype}")
    return TENSOR_TYPES[dtype]


def type_id(dtype: str) -> int:
    """The element type as an argument."""
    if dtype not in TYPE_IDS:
        raise Cannot(f"MindSpore has no element type {dtype}")
    return TYPE_IDS[dtype]


def tensor(type: TensorType, name: str = "") -> Message:
    """A tensor without data: a size that is no number is -1, an unknown rank -2."""
    dims = [-2] if type.shape is None else [d if isinstance(d, int) else -1 for d in type.shape]
    message = Message().numbers(1, dims).number(2, tensor_type_number(type.dtype))
    return message.text(7, name) if name else message


def tensor_data(data: ConstantData, name: str, parameter: str = "", outside: Outside | None = None) -> Message:
    """A tensor with its elements, which are read when they are written, here or `outside`."""
    message = Message().numbers(1, data.shape).number(2, tensor_type_number(data.dtype)).text(7, name)
    weight = WeightBytes(data)
    if outside is None:
        message.blob(9, weight)
    else:
        place = Message().text(1, outside.location).number(2, outside.place(weight)).number(3, weight.size)
        message.message(12, place)
    return message.text(13, parameter) if parameter else message


def attribute(name: str, value: Value) -> Message:
    """A value with its type; in a sequence numbers stand in lists of one."""
    return _attribute(name, value, False)


def _attribute(name: str, value: Value, inside: bool) -> Message:
    message = Message()
    if name:
        message.text(1, name)
    match value:
        case bool():
            return message.number(10 if inside else 3, int(value)).number(16, _BOOL)
        case int():
            return message.number(10 if inside else 3, value).number(16, _INT64)
        case float():
            return message.real(8 if inside else 2, value).number(16, _FLOAT)
        case str():
            return message.text(11 if inside else 5, value).number(16, _STRING)
        case None:
            return message.number(16, _NONE)
        case ConstantData():
            return message.message(12, tensor_data(value, "value0")).number(16, _TENSORS)
        case np.ndarray():
            data = ConstantData.of(value)
            return message.message(12, tensor_data(data, "value0")).number(16, _TENSORS)
        case _:
            message.number(16, _TUPLE)
            for part in value:
                message.message(17, _attribute("", part, True))
            return message


def inferred(types: Sequence[TensorType] | TensorType) -> Message:
    """The attribute `shape` of a node: the type of its result, or of the results in its tuple."""
    if isinstance(types, TensorType):
        return Message().text(1, "shape").message(12, tensor(types)).number(16, _TENSORS)
    message = Message().text(1, "shape").number(16, _TUPLE)
    for type in types:
        message.message(17, Message().message(12, tensor(type)).number(16, _TENSORS))
    return message.message(18, Message().number(1, 0))


def monad(name: str) -> Message:
    """The order of side effects, as a value or as the type of one."""
    return Message().text(1, name).number(16, _MONAD)


def closure(function: str) -> Message:
    """The attribute `shape` of a function as a value."""
    return Message().text(1, "shape").text(5, function).number(16, _CLOSURE)


def either(functions: Sequence[str]) -> Message:
    """The attribute `shape` of one of several functions."""
    message = Message().text(1, "shape").number(16, _UNION)
    for name in functions:
        message.message(17, Message().text(5, name).number(16, _CLOSURE))
    return message


def node(output: str, op_type: str, inputs: Sequence[str], attributes: Sequence[Message], scope: str) -> Message:
    """A node; it is called like its one output."""
    message = Message()
    for name in inputs:
        message.text(1, name)
    message.text(2, output).text(3, output).text(4, op_type)
    for one in attributes:
        message.message(5, one)
    return message.text(7, scope)


def primitive(name: str, op_type: str, attributes: Mapping[str, Any] | None) -> Message:
    """A primitive: of the kind whose arguments are inputs, or with `attributes`. What only says that there are side
    effects is no argument."""
    message = Message().text(1, name).text(2, op_type)
    for key, value in (attributes or {}).items():
        message.message(3, attribute(key, value))
    return message.text(4, op_type).number(5, 2 if attributes is None or "side_effect_mem" in attributes else 1)


__all__ = [
    "TENSOR_TYPES",
    "TYPE_IDS",
    "Value",
    "attribute",
    "closure",
    "either",
    "inferred",
    "monad",
    "node",
    "primitive",
    "tensor",
    "tensor_data",
    "tensor_type_number",
    "type_id",
]
