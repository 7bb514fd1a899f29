"""planish's types as ONNX's."""

from __future__ import annotations

from onnx import TypeProto

from ...ir.expr import Dim
from ...ir.types import MapType, OptionalType, SequenceType, TensorType, Type
from ..names import clean
from ..report import Cannot
from .schemas import NUMBERS


def type_proto(type: Type) -> TypeProto:
    """The same type; a dimension that is no number is a parameter named by its expression."""
    found = TypeProto()
    match type:
        case TensorType():
            found.tensor_type.elem_type = NUMBERS[type.dtype]
            if type.shape is not None:
                found.tensor_type.shape.SetInParent()
                for dim in type.shape:
                    _dimension(found, dim)
        case SequenceType():
            found.sequence_type.elem_type.CopyFrom(type_proto(type.item))
        case OptionalType():
            found.optional_type.elem_type.CopyFrom(type_proto(type.item))
        case MapType():
            found.map_type.key_type = NUMBERS[type.key]
            found.map_type.value_type.CopyFrom(type_proto(type.item))
        case _:
            raise Cannot(f"ONNX has no type like {type}")
    return found


def _dimension(type: TypeProto, dim: Dim) -> None:
    if isinstance(dim, int):
        type.tensor_type.shape.dim.add().dim_value = dim
    elif dim.is_data:  # a size that only the run knows
        type.tensor_type.shape.dim.add()
    else:
        name = dim.symbol
        type.tensor_type.shape.dim.add().dim_param = clean(str(dim) if name is None else name)


def element_type(type: Type) -> int:
    """Number of the element type of the tensors in a sequence."""
    if isinstance(type, SequenceType) and isinstance(type.item, TensorType):
        return NUMBERS[type.item.dtype]
    raise Cannot(f"ONNX has no empty value of type {type}")


__all__ = ["element_type", "type_proto"]
