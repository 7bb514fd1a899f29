"""LSTM, GRU and RNN: layers of ONNX's operators, whose gates stand in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import Build, Item, Unsupported, aten
from .matrix import linear
from .pointwise import add, mul

_ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # PyTorch: i f g o and r z n; ONNX: i o f c and z r h


def _reordered(b: Build, x: Item, kind: str) -> Item:
    """The parts of a weight or bias, one for each gate, in ONNX's order."""
    order = _ORDERS[kind]
    size = b.shape(x)[0]
    if not isinstance(size, int):
        raise Unsupported("a state whose size is not known")
    units = size // len(order)
    if len(order) == 1:
        return x
    return b.op("Concat", *(b.slice(x, 0, i * units, (i + 1) * units) for i in order), axis=0)


def _layer(
    b: Build, kind: str, x: Item, states: Sequence[Item], params: Sequence[Sequence[Item]], more: dict[str, Any]
) -> list[Item]:
    """One layer of all directions: (T, N, D * H) and the last states (D, N, H)."""
    joined: list[Item | None] = []
    for place in range(2):
        joined.append(_stacked(b, [_reordered(b, p[place], kind) for p in params]))
    bias = None
    if len(params[0]) > 2:
        both = [b.op("Concat", *(_reordered(b, v, kind) for v in p[2:4]), axis=0) for p in params]
        bias = _stacked(b, both)
    count = len(params)
    units = b.shape(params[0][1])[1]
    attributes: dict[str, Any] = {
        "hidden_size": units,
        "direction": "bidirectional" if count == 2 else "forward",
        **more,
    }
    results = b.a.ops(kind, x, *joined, bias, None, *states, outputs=1 + len(states), **attributes)
    y, *last = results
    steps, _, batch, _ = b.shape(y)
    wide = b.reshape(b.permute(y, [0, 2, 1, 3]), (steps, batch, count * int(b.number(units))))
    return [wide, *last]


def _stacked(b: Build, parts: Sequence[Item]) -> Item:
    wide = [b.unsqueeze(p, 0) for p in parts]
    return wide[0] if len(wide) == 1 else b.op("Concat", *wide, axis=0)


def _layers(
    b: Build, kind: str, x: Item, states: Sequence[Item], params: Sequence[Item], has_biases: bool, num_layers: int,
    train: bool, dropout: float, bidirectional: bool, batch_first: bool, more: dict[str, Any],
) -> list[Item]:  # fmt: skip
    if train and dropout:
        raise Unsupported("dropout in training", "call module.eval() before exporting")
    alone = b.rank(x) == 2
    if alone:
        x = b.unsqueeze(x, 0 if batch_first else 1)
        states = [b.unsqueeze(s, 1) for s in states]
    if batch_first:
        x = b.permute(x, [1, 0, 2])
    each = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if len(params) != each * directions * num_layers:
        raise Unsupported("a projection of states (proj_size)")
    groups = [params[i * each : (i + 1) * each] for i in range(directions * num_layers)]
    lasts: list[list[Item]] = [[] for _ in states]
    for layer in range(num_layers):
        low, high = layer * directions, (layer + 1) * directions
        begin = [b.slice(s, 0, low, high) for s in states]
        x, *last = _layer(b, kind, x, begin, groups[low:high], more)
        for found, one in zip(lasts, last, strict=True):
            found.append(one)
    if batch_first:
        x = b.permute(x, [1, 0, 2])
    ends = [one[0] if len(one) == 1 else b.op("Concat", *one, axis=0) for one in lasts]
    if alone:
        x = b.reshape(x, [d for i, d in enumerate(b.shape(x)) if i != (0 if batch_first else 1)])
        ends = [b.reshape(e, (b.shape(e)[0], b.shape(e)[2])) for e in ends]
    return [x, *ends]


@aten("lstm.input")
def lstm(
    b: Build, input: Item, hx: Sequence[Item], params: Sequence[Item], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> list[Item]:  # fmt: skip
    return _layers(b, "LSTM", input, hx, params, has_biases, num_layers, train, dropout, bidirectional, batch_first, {})


@aten("gru.input")
def gru(
    b: Build, input: Item, hx: Item, params: Sequence[Item], has_biases: bool, num_layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> list[Item]:  # fmt: skip
    more = {"linear_before_reset": 1}
    return _layers(b, "GRU", input, [hx], params, has_biases, num_layers, train, dropout, bidirectional, batch_first,
                   more)  # fmt: skip


def _rnn(activation: str) -> Any:
    def lower(
        b: Build, input: Item, hx: Item, params: Sequence[Item], has_biases: bool, num_layers: int, dropout: float,
        train: bool, bidirectional: bool, batch_first: bool,
    ) -> list[Item]:  # fmt: skip
        more = {"activations": [activation] * (2 if bidirectional else 1)}
        return _layers(b, "RNN", input, [hx], params, has_biases, num_layers, train, dropout, bidirectional,
                       batch_first, more)  # fmt: skip

    return lower


aten("rnn_tanh.input")(_rnn("Tanh"))
aten("rnn_relu.input")(_rnn("Relu"))


def _gates(b: Build, x: Item, h: Item, w_ih: Item, w_hh: Item, b_ih: Item | None, b_hh: Item | None) -> list[Item]:
    return [linear(b, x, w_ih, b_ih), linear(b, h, w_hh, b_hh)]


def _part(b: Build, x: Item, i: int, units: Any) -> Item:
    return b.slice(x, -1, i * units, (i + 1) * units)


@aten("lstm_cell")
def lstm_cell(
    b: Build, input: Item, hx: Sequence[Item], w_ih: Item, w_hh: Item, b_ih: Item | None = None,
    b_hh: Item | None = None,
) -> list[Item]:  # fmt: skip
    h, c = hx
    total = add(b, *_gates(b, input, h, w_ih, w_hh, b_ih, b_hh))
    units = b.shape(h)[-1]
    i, f, o = (b.op("Sigmoid", _part(b, total, k, units)) for k in (0, 1, 3))
    g = b.op("Tanh", _part(b, total, 2, units))
    state = add(b, mul(b, f, c), mul(b, i, g))
    return [mul(b, o, b.op("Tanh", state)), state]


@aten("gru_cell")
def gru_cell(
    b: Build, input: Item, hx: Item, w_ih: Item, w_hh: Item, b_ih: Item | None = None, b_hh: Item | None = None
) -> Item:
    ours, theirs = _gates(b, input, hx, w_ih, w_hh, b_ih, b_hh)
    units = b.shape(hx)[-1]
    r, z = (b.op("Sigmoid", add(b, _part(b, ours, k, units), _part(b, theirs, k, units))) for k in (0, 1))
    n = b.op("Tanh", add(b, _part(b, ours, 2, units), mul(b, r, _part(b, theirs, 2, units))))
    return add(b, mul(b, z, hx), mul(b, b.op("Sub", b.a.like(1.0, z), z), n))


def _rnn_cell(activation: str) -> Any:
    def lower(
        b: Build, input: Item, hx: Item, w_ih: Item, w_hh: Item, b_ih: Item | None = None, b_hh: Item | None = None
    ) -> Item:
        return b.op(activation, add(b, *_gates(b, input, hx, w_ih, w_hh, b_ih, b_hh)))

    return lower


aten("rnn_tanh_cell")(_rnn_cell("Tanh"))
aten("rnn_relu_cell")(_rnn_cell("Relu"))
