"""Operations on strings: what no kernel can do, the C runtime does.

Converters need not know: an operation that moves elements is built as always, and replaced by the host operation of the
same meaning where its operands are strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ...ir.core import Op, Value
from ...ir.expr import Dim
from ...ir.ops.arith import Cast, Equal, Where
from ...ir.ops.host import strings, tensors
from ...ir.ops.shape import Concat, Expand, Gather, GatherElements, GatherND, Reshape, Slice, Tile, Transpose
from ...ir.types import TensorType, Type, broadcast
from .scope import Known, Unsupported

if TYPE_CHECKING:
    from .node import Node

_FAR = 1 << 40


def hosted(node: Node, kind: type[Op], args: Sequence[Any]) -> Op | None:
    """The host operation in place of `kind(*args)`; None where that works on numbers."""
    if kind is Cast:
        return _cast(args[0], args[1])
    if not any(_is_string(a) for a in args):
        return None
    if kind is Equal:
        return strings.StringEqual(*args, types=[TensorType("bool", _broadcast(args))])
    if kind is Where:
        return tensors.HostWhere(*args, types=[TensorType("string", _broadcast(args))])
    build = _MOVES.get(kind)
    if build is None:
        raise Unsupported("strings")
    return build(node, kind(*args))


def _is_string(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_string, cast("tuple[Any, ...]", value)))
    return isinstance(value, Value) and isinstance(value.type, TensorType) and value.type.dtype == "string"


def _broadcast(values: Sequence[Value]) -> tuple[Dim, ...] | None:
    if any(v.tensor.shape is None for v in values):
        return None
    shape = broadcast([v.tensor.dims for v in values])
    if shape is None:
        raise Unsupported("strings whose shapes do not broadcast")
    return shape


def _cast(x: Value, dtype: str) -> Op | None:
    if (x.tensor.dtype == "string") == (dtype == "string"):
        return tensors.Identity(x) if dtype == "string" else None
    return strings.ToString(x) if dtype == "string" else strings.FromString(x, dtype)


def _vector(node: Node, dims: Sequence[Dim]) -> Value:
    """Dimensions as an i64 tensor."""
    return node.scope.materialise(Known.of(list(dims)))


def _slice(node: Node, op: Slice, types: Sequence[Type]) -> Op:
    ends = [-_FAR if step < 0 and stop == -1 else stop for stop, step in zip(op.stops, op.steps, strict=True)]
    vectors = [_vector(node, v) for v in (op.starts, ends, op.steps)]
    return tensors.HostSlice(op.x, vectors[0], vectors[1], None, vectors[2], types=types)


_MOVES: dict[type[Op], Callable[[Any, Any], Op]] = {
    Reshape: lambda node, op: tensors.HostReshape(op.x, _vector(node, op.shape), 1, types=_types(op)),
    Concat: lambda node, op: tensors.HostConcat(op.xs, op.axis, types=_types(op)),
    Gather: lambda node, op: tensors.HostGather(op.x, op.indices, op.axis, types=_types(op)),
    GatherElements: lambda node, op: tensors.HostGatherElements(op.x, op.indices, op.axis, types=_types(op)),
    GatherND: lambda node, op: tensors.HostGatherND(op.x, op.indices, op.batch_dims, types=_types(op)),
    Slice: lambda node, op: _slice(node, op, _types(op)),
    Expand: lambda node, op: tensors.HostExpand(op.x, _vector(node, op.shape), types=_types(op)),
    Tile: lambda node, op: tensors.HostTile(op.x, _vector(node, op.repeats), types=_types(op)),
    Transpose: lambda node, op: tensors.HostTranspose(op.x, op.perm, types=_types(op)),
}


def _types(op: Op) -> list[Type]:
    return [r.type for r in op.results]
