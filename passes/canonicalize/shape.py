"""Data movement: what moves nothing, what merges, and movement that goes after pointwise operations.

Movement goes down, towards the results: there transposes meet and cancel, and pointwise operations meet the operation
that computes their operand, into whose kernel they then fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...ir.core import Value
from ...ir.ops.base import Elementwise
from ...ir.ops.reduce import Reduction
from ...ir.ops.shape import Concat, Expand, Pad, Reshape, Slice, Tile, Transpose
from ..rewrite import Builder, Pattern
from .match import constant, only_use, splat, used_once


def drop_movement(op: Reshape | Expand | Tile | Slice | Pad, b: Builder) -> Sequence[Value] | None:
    """Movement that moves nothing -> its operand: the type stays the same, and no element changes place"""
    if op.x.type != op.result.type:
        return None
    if isinstance(op, Slice) and not (all(s == 0 for s in op.starts) and all(s == 1 for s in op.steps)):
        return None
    if isinstance(op, Pad) and any(p != 0 for pair in op.pads for p in pair):
        return None
    return [op.x]


def drop_reduction_of_nothing(op: Reduction, b: Builder) -> Sequence[Value] | None:
    """A reduction over no axes -> its operand"""
    return [op.x] if not op.axes and op.x.type == op.result.type else None


def merge_reshapes(op: Reshape, b: Builder) -> Sequence[Value] | None:
    """`reshape(reshape(x))` -> `reshape(x)`"""
    return [b(Reshape(op.x.op.x, op.shape))] if isinstance(op.x.op, Reshape) else None


def drop_identity_transpose(op: Transpose, b: Builder) -> Sequence[Value] | None:
    """A transposition that leaves everything in its place -> its operand"""
    return [op.x] if op.perm == tuple(range(len(op.perm))) else None


def merge_transposes(op: Transpose, b: Builder) -> Sequence[Value] | None:
    """`transpose(transpose(x, p), q)` -> `transpose(x, p[q])`"""
    if not isinstance(op.x.op, Transpose):
        return None
    inner = op.x.op
    return [b(Transpose(inner.x, tuple(inner.perm[p] for p in op.perm)))]


def transpose_of_ones(op: Transpose, b: Builder) -> Sequence[Value] | None:
    """A transposition that moves only dimensions of size 1 -> a reshape, which costs nothing"""
    shape = op.x.tensor.shape
    if shape is None:
        return None
    moved = [p for p in op.perm if shape[p] != 1]
    return [b(Reshape(op.x, op.result.tensor.dims))] if moved == sorted(moved) else None


def shrink_concat(op: Concat, b: Builder) -> Sequence[Value] | None:
    """Operands of size 0 go; `concat(x)` -> `x`; a concatenation inside along the same axis is opened"""
    parts: list[Value] = []
    for x in op.xs:
        inner = only_use(x, Concat)
        if x.tensor.shape is not None and x.tensor.dims[op.axis] == 0:
            continue
        parts.extend(inner.xs if inner is not None and inner.axis == op.axis else [x])
    if not parts or parts == list(op.xs):
        return [op.xs[0]] if len(op.xs) == 1 and op.xs[0].type == op.result.type else None
    return [b(Concat(tuple(parts), op.axis))]


def drop_expand_before_broadcast(op: Elementwise, b: Builder) -> Sequence[Value] | None:
    """An expanded operand of an operation that broadcasts anyway -> what was expanded"""
    operands = [v.op.x if v is not None and isinstance(v.op, Expand) else v for v in op.operands]
    if operands == op.operands:
        return None
    changed = rebuild(op, operands)
    return [b(changed)] if changed.result.type == op.result.type else None


def sink_movement(op: Elementwise, b: Builder) -> Sequence[Value] | None:
    """`f(transpose(x), transpose(y))` -> `transpose(f(x, y))`, also with constants, and the same for reshapes (there
    constants of one value only)"""
    moved = next((v for v in op.operands if v is not None and isinstance(v.op, Transpose | Reshape)), None)
    if moved is None:
        return None
    assert isinstance(moved.op, Transpose | Reshape)
    like = moved.op
    if like.result.tensor.shape != op.result.tensor.shape:
        return None
    moves = [_before(v, like, b) if v is not None else None for v in op.operands]
    if any(new is None and v is not None for new, v in zip(moves, op.operands, strict=True)):
        return None
    inner = b(rebuild(op, moves))
    if inner.tensor.shape != like.x.tensor.shape:
        return None
    if isinstance(like, Transpose):
        return [b(Transpose(inner, like.perm))]
    return [b(Reshape(inner, like.shape))]


def _before(value: Value, like: Transpose | Reshape, b: Builder) -> Value | None:
    """The operand that `value` becomes in front of the movement `like`; None when it cannot be had for free."""
    inner = only_use(value, type(like))
    if inner is not None and inner.attributes == like.attributes and inner.x.tensor.shape == like.x.tensor.shape:
        return inner.x
    data, number = constant(value), splat(value)
    if data is None:
        return None
    if number is not None:
        return b.splat(number, data.dtype)
    if not isinstance(like, Transpose) or len(data.shape) > len(like.perm):
        return None
    shape = (1,) * (len(like.perm) - len(data.shape)) + data.shape
    back = tuple(like.perm.index(d) for d in range(len(like.perm)))
    return b(Transpose(b(Reshape(value, shape)), back))


def pointwise_before_concat(op: Elementwise, b: Builder) -> Sequence[Value] | None:
    """`f(concat(x, y))` -> `concat(f(x), f(y))` where f has no other operand but numbers: it then fuses with what
    computes x and y"""
    joined = [v for v in op.operands if v is not None and only_use(v, Concat) is not None]
    if len(joined) != 1 or joined[0].tensor.shape != op.result.tensor.shape:
        return None
    concat = only_use(joined[0], Concat)
    others = [v for v in op.operands if v is not None and v is not joined[0]]
    if concat is None or not all(used_once(x) for x in concat.xs) or any(splat(v) is None for v in others):
        return None
    parts: list[Value] = []
    for x in concat.xs:
        part = rebuild(op, [x if v is joined[0] else _number(v, b) for v in op.operands])
        parts.append(b(part))
    return [b(Concat(tuple(parts), concat.axis))]


def _number(value: Value | None, b: Builder) -> Value | None:
    """A constant of one value as one of rank 0, which broadcasts against everything."""
    number = splat(value)
    return None if value is None or number is None else b.splat(number, value.tensor.dtype)


def rebuild(op: Elementwise, operands: Sequence[Value | None]) -> Elementwise:
    """`op` with other operands; the result's type is inferred anew."""
    names = [f.name for f in op.fields if f.kind == "operand"]
    make: Callable[..., Any] = type(op)
    return make(**dict(zip(names, operands, strict=True)), **op.attributes)


PATTERNS: list[Pattern] = [
    drop_movement,
    drop_reduction_of_nothing,
    merge_reshapes,
    drop_identity_transpose,
    merge_transposes,
    transpose_of_ones,
    shrink_concat,
    drop_expand_before_broadcast,
    sink_movement,
    pointwise_before_concat,
]
