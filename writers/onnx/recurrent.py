"""Recurrent layers. planish has the product of the input with its weights outside; ONNX's operators hold both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.core import Value
from ...ir.ops.arith import Add
from ...ir.ops.linalg import MatMul
from ...ir.ops.recurrent import GRU, LSTM, RNN
from ...ir.ops.shape import Transpose
from ...ir.types import DTYPES
from .graph import Scope, Tensor, whole, writes


@dataclass(frozen=True)
class _Input:
    """A sequence, its weights [1, gates * units, inputs], and its bias [gates * units] where there is one."""

    x: Tensor
    w: Tensor
    bias: Tensor | None


def _front(scope: Scope, x: Tensor) -> Tensor:
    """With a dimension of the one direction in front."""
    return scope.node("Unsqueeze", x, scope.vector([0]))


def _input(scope: Scope, op: RNN | GRU | LSTM, wide: int) -> _Input:
    """What the operand `x` was computed from; an identity matrix where that is no product."""
    product, bias = op.x, None
    made = product.op
    if isinstance(made, Add):
        for one, other in ((made.x, made.y), (made.y, made.x)):
            if isinstance(one.op, MatMul) and other.tensor.shape == (wide,):
                product, bias = one, other
                break
    made = product.op
    if isinstance(made, MatMul) and made.a.tensor.shape is not None and made.a.tensor.rank == 3:
        w = made.b
        if w.tensor.shape is not None and w.tensor.rank == 2:
            return _Input(scope.of(made.a), _front(scope, _rows(scope, w)), scope.maybe(bias))
    eye = np.eye(wide, dtype=DTYPES[op.x.tensor.dtype].numpy)
    return _Input(scope.of(op.x), scope.constant(eye[None]), None)


def _rows(scope: Scope, w: Value) -> Tensor:
    """Weights with a row for each gate and unit."""
    if isinstance(w.op, Transpose) and w.op.perm == (1, 0):
        return scope.of(w.op.x)
    return scope.node("Transpose", scope.of(w), perm=[1, 0])


@writes(RNN, GRU, LSTM)
def recurrent(scope: Scope, op: RNN | GRU | LSTM) -> list[Tensor]:
    """RNN, GRU and LSTM of one direction."""
    (units,) = whole(op.h0.tensor.dims[1:], "units")
    wide = op.gates * units
    given = _input(scope, op, wide)
    states = [scope.of(v) for v in (op.h0, op.c0)] if isinstance(op, LSTM) else [scope.of(op.h0)]
    hidden = op.bias if isinstance(op, GRU) else None
    more: list[Tensor | None] = [_bias(scope, op, given, hidden, units, wide), scope.maybe(op.lengths)]
    more += [_front(scope, s) for s in states]
    if isinstance(op, LSTM) and op.peephole is not None:
        more.append(_front(scope, scope.of(op.peephole)))
    y, *finals = scope.nodes_of(
        type(op).__name__,
        given.x,
        given.w,
        _front(scope, scope.of(op.r)),
        *more,
        dtypes=[None] * (1 + len(states)),
        hidden_size=units,
        direction="reverse" if op.reverse else None,
        activations=[a.capitalize() for a in op.activations],
        linear_before_reset=1 if hidden is not None else None,
    )
    one = scope.vector([1])
    return [scope.node("Squeeze", y, one), *(scope.node("Squeeze", f, scope.vector([0])) for f in finals)]


def _bias(
    scope: Scope, op: RNN | GRU | LSTM, given: _Input, hidden: Value | None, units: int, wide: int
) -> Tensor | None:
    """[1, 2 * gates * units]: the input's, then the state's, which only the hidden gate of a GRU has."""
    if given.bias is None and hidden is None:
        return None
    numpy = DTYPES[op.x.tensor.dtype].numpy

    def zeros(n: int) -> Tensor:
        return scope.constant(np.zeros(n, numpy))

    parts = [given.bias or zeros(wide)]
    parts += [zeros(wide)] if hidden is None else [zeros(wide - units), scope.of(hidden)]
    return _front(scope, scope.node("Concat", *parts, axis=0))
