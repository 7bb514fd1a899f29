"""Recurrent layers and trees, unrolled: MindSpore's own are made for other layouts, and its CPU unrolls them, too."""

from __future__ import annotations

import numpy as np

from ...ir.core import Value
from ...ir.ops import arith, indexing, reduce, shape, trees
from ...ir.ops.activation import Relu
from ...ir.ops.linalg import MatMul
from ...ir.ops.recurrent import GRU, LSTM, RNN
from .elementwise import cast_to
from .net import Net, lowers, numbers

_FUNCTIONS = {"sigmoid": arith.Sigmoid, "tanh": arith.Tanh, "relu": Relu}


def _part(net: Net, x: Value, axis: int, start: int, stop: int) -> Value:
    dims = x.tensor.dims
    starts = tuple(start if i == axis else 0 for i in range(len(dims)))
    stops = tuple(stop if i == axis else d for i, d in enumerate(dims))
    return net.make(shape.Slice, x, starts, stops, (1,) * len(dims))


def _act(net: Net, name: str, x: Value) -> Value:
    """An activation; the tangent as a sigmoid, because MindSpore's is approximate."""
    if name != "tanh":
        return net.make(_FUNCTIONS[name], x)
    two = net.number(2, x.tensor.dtype)
    bent = net.make(arith.Mul, net.make(arith.Sigmoid, net.make(arith.Mul, x, two)), two)
    return net.make(arith.Sub, bent, net.number(1, x.tensor.dtype))


def _sum(net: Net, *parts: Value) -> Value:
    total = parts[0]
    for part in parts[1:]:
        total = net.make(arith.Add, total, part)
    return total


class _Step:
    """One step of one layer, on (N, ...) values."""

    def __init__(self, net: Net, op: RNN | GRU | LSTM, units: int) -> None:
        self.net, self.op, self.units = net, op, units
        self.r = net.make(shape.Transpose, op.r, (1, 0))

    def gates(self, x: Value) -> list[Value]:
        """The parts of (N, gates * units), one for each gate."""
        u = self.units
        return [_part(self.net, x, 1, i * u, (i + 1) * u) for i in range(self.op.gates)]

    def next(self, x: Value, state: list[Value]) -> list[Value]:
        """The states after a step."""
        match self.op:
            case LSTM():
                return self._lstm(self.op, x, state)
            case GRU():
                return [self._gru(self.op, x, state[0])]
            case _:
                net = self.net
                total = _sum(net, x, net.make(MatMul, state[0], self.r))
                return [_act(net, self.op.activations[0], total)]

    def _lstm(self, op: LSTM, x: Value, state: list[Value]) -> list[Value]:
        net, (h, c), (f, g, k) = self.net, state, op.activations
        i, o, forget, cell = self.gates(_sum(net, x, net.make(MatMul, h, self.r)))
        peep: list[Value] = []
        if op.peephole is not None:
            u = self.units
            peep = [_part(net, op.peephole, 0, n * u, (n + 1) * u) for n in range(3)]
            i = _sum(net, i, net.make(arith.Mul, peep[0], c))
            forget = _sum(net, forget, net.make(arith.Mul, peep[2], c))
        kept = net.make(arith.Mul, _act(net, f, forget), c)
        c = _sum(net, kept, net.make(arith.Mul, _act(net, f, i), _act(net, g, cell)))
        if peep:
            o = _sum(net, o, net.make(arith.Mul, peep[1], c))
        return [net.make(arith.Mul, _act(net, f, o), _act(net, k, c)), c]

    def _gru(self, op: GRU, x: Value, h: Value) -> Value:
        net, (f, g) = self.net, op.activations
        u = self.units
        z, r, new = self.gates(x)
        from_state = [_part(net, self.r, 1, n * u, (n + 1) * u) for n in range(3)]
        z = _act(net, f, _sum(net, z, net.make(MatMul, h, from_state[0])))
        r = _act(net, f, _sum(net, r, net.make(MatMul, h, from_state[1])))
        if op.bias is not None:
            inner = net.make(arith.Mul, r, _sum(net, net.make(MatMul, h, from_state[2]), op.bias))
        else:
            inner = net.make(MatMul, net.make(arith.Mul, r, h), from_state[2])
        new = _act(net, g, _sum(net, new, inner))
        rest = net.make(arith.Sub, net.number(1, x.tensor.dtype), z)
        return _sum(net, net.make(arith.Mul, rest, new), net.make(arith.Mul, z, h))


@lowers(RNN, GRU, LSTM)
def recurrent(net: Net, op: RNN | GRU | LSTM) -> list[Value]:
    """All steps one behind the other; behind the end of a sequence its states stay and its results are 0."""
    (steps, units) = numbers([op.x.tensor.dims[0], op.h0.tensor.dims[1]], "the number of steps and of units")
    step = _Step(net, op, units)
    state = [op.h0, op.c0] if isinstance(op, LSTM) else [op.h0]
    rows: list[Value] = [op.h0] * steps
    zero = net.number(0, op.x.tensor.dtype)
    batch, wide = op.x.tensor.dims[1], op.x.tensor.dims[2]
    for t in reversed(range(steps)) if op.reverse else range(steps):
        x = net.make(shape.Reshape, _part(net, op.x, 0, t, t + 1), (batch, wide))
        after = step.next(x, state)
        shown = after[0]
        if op.lengths is not None:
            going = net.make(arith.Greater, op.lengths, net.number(t, "i32"))
            going = net.make(shape.Reshape, going, (batch, 1))
            shown = net.make(arith.Where, going, shown, zero)
            after = [net.make(arith.Where, going, a, s) for a, s in zip(after, state, strict=True)]
        rows[t] = net.make(shape.Reshape, shown, (1, batch, units))
        state = after
    y = rows[0] if steps == 1 else net.make(shape.Concat, tuple(rows), 0)
    return [y, *state]


@lowers(trees.TreeEnsemble)
def tree_ensemble(net: Net, op: trees.TreeEnsemble) -> Value:
    """All rows one node further in all trees, as often as the trees are deep; then what the leaves say."""
    rows = op.x.tensor.dims[0]
    node = net.make(shape.Expand, op.roots, (rows, *op.roots.tensor.dims))

    def of(table: Value) -> Value:
        return net.make(indexing.Gather, table, node, 0)

    for _ in range(op.depth):
        value = net.make(indexing.GatherElements, op.x, of(op.feature), 1)
        limit = of(op.threshold)
        outcome = net.number(trees.UNORDERED, "i32")
        for test, bit in ((arith.Greater, trees.GREATER), (arith.Equal, trees.EQUAL), (arith.Less, trees.LESS)):
            outcome = net.make(arith.Where, net.make(test, value, limit), net.number(bit, "i32"), outcome)
        hit = cast_to(net, net.make(arith.And, of(op.test), outcome), "bool")
        node = net.make(arith.Where, hit, of(op.yes), of(op.no))
    leaf = of(op.leaf)
    found, used = (net.make(indexing.Gather, table, leaf, 0) for table in (op.weights, op.used))
    dtype = found.tensor.dtype
    zero = net.number(0, dtype)
    if op.aggregate == "sum":
        return net.make(reduce.Sum, net.make(arith.Where, used, found, zero), (1,), False)
    worst = net.number(np.inf if op.aggregate == "min" else -np.inf, dtype)
    kind = reduce.Min if op.aggregate == "min" else reduce.Max
    best = net.make(kind, net.make(arith.Where, used, found, worst), (1,), False)
    some = net.make(reduce.Max, cast_to(net, used, "i32"), (1,), False)
    return net.make(arith.Where, cast_to(net, some, "bool"), best, zero)
