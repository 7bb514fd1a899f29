"""Modules around single operations, and files written from them: for the tests of writers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _samples import TOLERANCE

from planish.ir.core import Graph, Module, Return
from planish.ir.ops.base import TensorOp
from planish.ir.types import dtype_of


def module_of(op: TensorOp) -> Module:
    """A module whose inputs `x0`, `x1`, ... are the operands of `op`, and whose outputs `y0`, ... are its results."""
    graph = Graph("main", [v.type for v in op.inputs], [f"x{i}" for i in range(len(op.inputs))])
    own = op.clone(dict(zip(op.inputs, graph.params, strict=True)))
    graph.body.append(own)
    graph.body.append(Return(own.results))
    graph.result_names = [f"y{i}" for i in range(len(own.results))]
    return Module([graph])


def difference(got: Mapping[str, Any], want: Mapping[str, Any], factor: float = 4.0) -> str:
    """How two sets of outputs differ; "" where they agree within some roundings of their element types."""
    for name, expected in want.items():
        a, b = np.asarray(expected), np.asarray(got[name])
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{name}: expected {a.dtype}{list(a.shape)}, got {b.dtype}{list(b.shape)}"
        tolerance = TOLERANCE.get(dtype_of(a), 0.0) * factor
        x, y = (v if v.dtype.kind in "OUSbiu" else v.astype(np.complex128) for v in (a, b))
        if tolerance:
            finite = np.abs(np.where(np.isfinite(x), x, 0))
            same = np.allclose(y, x, tolerance, tolerance * max(1.0, finite.max(initial=0)), equal_nan=True)
        else:
            same = bool(np.all((x == y) | ((x != x) & (y != y))))
        if not same:
            return f"{name}: expected {a.reshape(-1)[:8]}, got {b.reshape(-1)[:8]}"
    return ""
