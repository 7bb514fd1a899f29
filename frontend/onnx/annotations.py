"""What a model says about the types of its values, held against what they are.

Types follow from the operators, so annotations are not needed, and wrong ones (of tools that changed a model and left
them as they were) do no harm: they are noted, and not used.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, TypeProto

from ...ir.expr import Expr
from ...ir.types import TensorType
from ..text import quote
from .scope import Item
from .tensors import DTYPE_NAMES

_MOST = 5  # notes in full; the rest is counted


def wrong_annotations(graph: GraphProto, items: Mapping[str, Item | None]) -> tuple[str, ...]:
    """A line for each value that has another type than the model says, at most a few. Symbolic sizes say nothing."""
    found: list[str] = []
    count = 0
    for info in [*graph.value_info, *graph.output]:
        item = items.get(info.name)
        if item is None or not item.is_tensor or info.type.WhichOneof("value") != "tensor_type":
            continue
        said = info.type.tensor_type
        if _fits(said, item.type):
            continue
        count += 1
        if len(found) < _MOST:
            found.append(f"the model says that {quote(info.name, 40)} is {_shown(said)}; it is {item.type}: ignored")
    if count > len(found):
        found.append(f"... and {count - len(found)} more values of another type than the model says")
    return tuple(found)


def _fits(said: TypeProto.Tensor, type: TensorType) -> bool:
    """Whether an annotation can be true of a value."""
    if said.elem_type and DTYPE_NAMES.get(said.elem_type) != type.dtype:
        return False
    if not said.HasField("shape") or type.shape is None:
        return True
    if len(said.shape.dim) != len(type.shape):
        return False
    pairs = zip(said.shape.dim, type.shape, strict=True)
    return all(not d.HasField("dim_value") or isinstance(own, Expr) or d.dim_value in (own, 0, -1) for d, own in pairs)


def _shown(said: TypeProto.Tensor) -> str:
    dtype = DTYPE_NAMES.get(said.elem_type, "?")
    if not said.HasField("shape"):
        return f"{dtype}[*]"
    dims = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in said.shape.dim)
    return f"{dtype}[{','.join(quote(d, 20)[1:-1] for d in dims)}]"
