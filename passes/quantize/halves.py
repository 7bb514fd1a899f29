"""16-bit floats computed in f32: see `WidenHalves`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.constants import Constant, ConstantData
from ...ir.core import Graph, Op, Value
from ...ir.kernel.dots import native_dot
from ...ir.ops.arith import Cast
from ...ir.ops.base import TensorOp
from ...ir.ops.float8 import Bitcast
from ...ir.ops.linalg import MatMul
from ...ir.types import TensorType
from ..base import Pass
from ..canonicalize.match import constant
from ..rewrite import Builder, apply_patterns

_KEPT = (Cast, Bitcast)  # what they are about is the type


class WidenHalves(Pass, name="widen-halves"):
    """Compute in f32 what the model computes in f16 (and in bf16, where the target has no products of it).

    CPUs compute in f32 anyway, converting at every read and write. Here values stay f32 from one operation to the next:
    only constants, inputs, outputs and the model's own casts are 16 bits wide. Results are not rounded in between, so
    they differ from the model's by its own rounding errors. Tables, and weights that are read once, stay 16 bits wide.
    """

    def run_graph(self, graph: Graph) -> bool:
        target = self.context.target
        kinds = {"f16"} if target is not None and native_dot(target, "bf16") else {"f16", "bf16"}
        rounded: set[Op] = set()  # the casts that this pass made

        def widen(op: TensorOp, b: Builder) -> Sequence[Value] | None:
            """`op(x)` of halves -> `half(op(wide(x)))`"""
            made = _widened(op, b, kinds)
            if made is None:
                return None
            results: list[Value] = []
            for old, new in zip(op.results, made.results, strict=True):
                if old.type == new.type:
                    results.append(new)
                    continue
                cast = Cast(new, old.tensor.dtype)
                rounded.add(cast)
                results.append(b(cast))
            return results

        def keep_wide(op: Cast, b: Builder) -> Sequence[Value] | None:
            """`wide(half(x))` -> `x`, where this pass made both"""
            inner = op.x.op
            return (
                [inner.x] if isinstance(inner, Cast) and inner in rounded and inner.x.type == op.result.type else None
            )

        return apply_patterns(graph, [keep_wide, widen, wide_weights])


def wide_weights(op: Cast, b: Builder) -> Sequence[Value] | None:
    """`wide(constant)` -> a constant in f32, but for the operand of a product with one row: that one is as fast as its
    weights are read, and reads them as they are"""
    data = constant(op.x)
    if data is None or data.dtype not in ("f16", "bf16") or op.dtype != "f32":
        return None
    if all(isinstance(user, MatMul) and _one_row(user, op.result) for user in op.result.users):
        return None
    return [b.constant(ConstantData.of(data.array().astype(np.float32)))]


def _one_row(product: MatMul, weights: Value) -> bool:
    return product.b is weights and product.a is not weights and all(d == 1 for d in product.a.tensor.dims[:-1])


def _widened(op: TensorOp, b: Builder, kinds: set[str]) -> TensorOp | None:
    """`op` on f32 operands in place of halves; None where there are none, or nothing is computed."""
    halves = [v for v in dict.fromkeys(op.inputs) if _dtype(v) in kinds]
    if not halves or isinstance(op, _KEPT) or op.regions:
        return None
    if all(isinstance(v.op, Constant) for v in halves) and len(op.inputs) <= 2:
        return None  # arrangements of constants, elements of tables
    mapping = {v: b(Cast(v, "f32")) for v in halves}
    made = op.clone(dict(mapping))
    assert isinstance(made, TensorOp)
    types = list(made.infer())
    for old, result, type in zip(op.results, made.results, types, strict=True):
        if type != old.type and not (isinstance(type, TensorType) and type.dtype == "f32" and _dtype(old) in kinds):
            return None
        result.type = type
    b.add(made)
    return made


def _dtype(value: Value) -> str:
    return value.type.dtype if isinstance(value.type, TensorType) else ""
