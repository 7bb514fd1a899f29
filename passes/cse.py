"""Common subexpression elimination: equal operations on equal operands become one."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np

from ..ir.constants import ArraySource, ConstantData, SplatSource
from ..ir.core import Graph, Op, Region
from ..ir.kernel.form import KernelOp
from .base import Pass

_DIGEST_BYTES = 64 * 1024


class Cse(Pass, name="cse"):
    """Merge operations that compute the same from the same operands."""

    def run_graph(self, graph: Graph) -> bool:
        return _merge(graph.body, {})


def _merge(region: Region, outer: dict[Hashable, Op]) -> bool:
    """Merge within `region` and with what dominates it (`outer`)."""
    known = dict(outer)
    changed = False
    for op in region:
        for inner in op.regions:
            if not isinstance(op, KernelOp):
                changed |= _merge(inner, known)
        if op.regions or op.side_effects or op.terminator or not getattr(op, "deterministic", True):
            continue
        key = _key(op)
        earlier = known.setdefault(key, op)
        if earlier is not op:
            op.replace_by(earlier.results)
            changed = True
    return changed


def _key(op: Op) -> Hashable:
    attributes = tuple((name, hashable(value)) for name, value in op.attributes.items())
    return (op.op_name, tuple(op.operands), attributes, tuple(r.type for r in op.results))


def hashable(value: Any) -> Hashable:
    """`value` as a key that is equal only for attributes that mean the same (0.0 and -0.0, 1 and True differ)."""
    match value:
        case ConstantData():
            return (value.dtype, value.shape, value.transpose, _source(value))
        case tuple() | list():
            return tuple(map(hashable, cast("Sequence[Any]", value)))
        case bool() | int() | float():
            return (type(value).__name__, repr(value))
        case _:
            return value if isinstance(value, Hashable) else repr(value)


def _source(data: ConstantData) -> Hashable:
    match data.source:
        case SplatSource(value=value):
            return ("splat", repr(value))
        case ArraySource(array=array) if array.nbytes <= _DIGEST_BYTES and array.dtype != object:
            # The stored array, not the transposed one: `transpose` is part of the key.
            return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
        case _:
            return data.source
