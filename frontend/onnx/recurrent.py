"""LSTM, GRU and RNN: each direction is one operation, after one product of the whole input with its weights."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.assume import assume_equal
from ...ir.core import Op, Value
from ...ir.expr import Dim, as_dim, as_expr
from ...ir.ops.arith import Add, Cast
from ...ir.ops.linalg import MatMul
from ...ir.ops.recurrent import ACTIVATIONS, GRU, LSTM, RNN
from ...ir.ops.shape import Concat, Expand, Reshape, Slice, Transpose
from .node import Node, converter
from .scope import Unsupported

_KINDS: dict[str, tuple[type[Op], int, tuple[str, ...]]] = {
    "LSTM": (LSTM, 4, ("sigmoid", "tanh", "tanh")),
    "GRU": (GRU, 3, ("sigmoid", "tanh")),
    "RNN": (RNN, 1, ("tanh",)),
}


@converter(*_KINDS)
def recurrent(node: Node) -> list[Value]:
    """All directions of a recurrent layer; results are Y, Y_h and, for LSTM, Y_c."""
    kind, gates, defaults = _KINDS[node.op_type]
    if any(node.rank(i) != 3 for i in range(3)):
        raise node.error(f"expected X, W and R of rank 3, got {', '.join(str(node.type(i)) for i in range(3))}")
    if node.has_attribute("clip") or node.integer("input_forget", 0):
        raise Unsupported("clip and input_forget")
    direction = node.string("direction", "forward")
    count = {"forward": 1, "reverse": 1, "bidirectional": 2}.get(direction)
    if count is None:
        raise node.error(f"direction: expected forward, reverse or bidirectional, got {direction!r}")
    activations = _activations(node, defaults, count)
    batch_first = node.integer("layout", 0) != 0
    x = node.value(0)
    _agree(node, count, _KINDS[node.op_type][1])
    if batch_first:
        x = node.make(Transpose, x, (1, 0, 2))
    results = [
        _one(node, kind, gates, d, x, activations[d], direction == "reverse" or d == 1, batch_first)
        for d in range(count)
    ]
    y, *finals = (_joined(node, column, batch_first, i == 0) for i, column in enumerate(zip(*results, strict=True)))
    return [y, *finals]


def _agree(node: Node, count: int, gates: int) -> None:
    """State what the sizes of the operands have in common."""
    units = node.shape(2)[2]
    given = node.integer("hidden_size", 1)
    if node.has_attribute("hidden_size") and isinstance(units, int) and given != units:
        raise node.error(f"hidden_size: expected {units}, the columns of input 2, got {given}")
    wide = as_dim(as_expr(units) * gates)
    time, batch = (1, 0) if node.integer("layout", 0) else (0, 1)
    del time
    rows = node.shape(0)[batch]
    state = [count, rows, units] if batch == 1 else [rows, count, units]
    wanted: dict[int, list[Dim]] = {
        1: [count, wide, node.shape(0)[2]], 2: [count, wide, units], 3: [count, as_dim(as_expr(wide) * 2)], 4: [rows],
        5: state, 6: state, 7: [count, as_dim(as_expr(units) * 3)],
    }  # fmt: skip
    for index, dims in wanted.items():
        if node.has(index) and len(node.shape(index)) == len(dims):
            for d, n in zip(node.shape(index), dims, strict=True):
                assume_equal(d, n)


def _activations(node: Node, defaults: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
    if not node.has_attribute("activations"):
        return [defaults] * count
    names = [s.decode("utf-8", "replace").lower() for s in node.attribute("activations").strings]
    wrong = [n for n in names if n not in ACTIVATIONS]
    if wrong:
        raise Unsupported(f"activation {wrong[0]}")
    if len(names) != count * len(defaults):
        raise node.error(f"activations: expected {count * len(defaults)}, got {len(names)}")
    return [tuple(names[i * len(defaults) : (i + 1) * len(defaults)]) for i in range(count)]


def _one(
    node: Node, kind: type[Op], gates: int, d: int, x: Value, activations: tuple[str, ...], reverse: bool, swap: bool
) -> list[Value]:
    """The results of one direction: states of all steps, last states."""
    w, r = _of(node, 1, d), _of(node, 2, d)
    wide, units = r.tensor.dims
    steps, batch = x.tensor.dims[:2]
    product = node.make(MatMul, x, node.make(Transpose, w, (1, 0)))
    hidden_bias: Value | None = None
    apart = kind is GRU and node.integer("linear_before_reset", 0) != 0
    if node.has(3):
        both = _of(node, 3, d)
        ours = _cut(node, both, 0, wide)
        theirs = _cut(node, both, wide, as_dim(as_expr(wide) * 2))
        if apart:  # the hidden gate's second bias is added inside
            edge = as_dim(as_expr(units) * 2)
            hidden_bias = _cut(node, theirs, edge, wide)
            zeros = node.make(Expand, node.splat(0, x.tensor.dtype), (units,))
            theirs = node.make(Concat, (_cut(node, theirs, 0, edge), zeros), 0)
        product = node.make(Add, product, node.make(Add, ours, theirs))
    elif apart:
        hidden_bias = node.make(Expand, node.splat(0, x.tensor.dtype), (units,))
    lengths = node.optional(4)
    if lengths is not None and lengths.tensor.dtype != "i32":
        lengths = node.make(Cast, lengths, "i32")
    states = [_state(node, 5 + i, d, (batch, units), x.tensor.dtype, swap) for i in range(2 if kind is LSTM else 1)]
    del steps, gates
    more: list[Value | None] = [lengths]
    if kind is LSTM:
        more.append(_of(node, 7, d) if node.has(7) else None)
    elif kind is GRU:
        more.append(hidden_bias)
    return list(node.make_all(kind, product, r, *states, *more, reverse, activations))


def _of(node: Node, index: int, d: int) -> Value:
    """The part of an input for direction `d`."""
    value = node.value(index)
    dims = node.dims_of(value)
    starts, stops = (d, *[0] * (len(dims) - 1)), (d + 1, *dims[1:])
    part = value if dims[0] == 1 else node.make(Slice, value, starts, stops, (1,) * len(dims))
    return node.make(Reshape, part, tuple(dims[1:]))


def _cut(node: Node, x: Value, start: Dim, stop: Dim) -> Value:
    return node.make(Slice, x, (start,), (stop,), (1,))


def _state(node: Node, index: int, d: int, shape: tuple[Dim, Dim], dtype: str, swap: bool) -> Value:
    if not node.has(index):
        return node.make(Expand, node.splat(0, dtype), shape)
    value = node.value(index)
    if swap:
        value = node.make(Transpose, value, (1, 0, 2))
    dims = node.dims_of(value)
    part = value if dims[0] == 1 else node.make(Slice, value, (d, 0, 0), (d + 1, *dims[1:]), (1, 1, 1))
    return node.make(Reshape, part, shape)


def _joined(node: Node, parts: Sequence[Value], swap: bool, whole: bool) -> Value:
    """Both directions side by side: Y (T, D, N, H), states (D, N, H); with the batch in front where `swap`."""
    place = 1 if whole else 0
    wide = [node.make(Reshape, p, (*p.tensor.dims[:place], 1, *p.tensor.dims[place:])) for p in parts]
    joined = wide[0] if len(wide) == 1 else node.make(Concat, tuple(wide), place)
    if not swap:
        return joined
    return node.make(Transpose, joined, (2, 0, 1, 3) if whole else (1, 0, 2))
