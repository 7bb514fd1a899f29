"""Lowerings of MindIR's recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .lower_common import known
from .primitive import Call, Datum, Item, primitive

_LSTM_GATES = (0, 3, 1, 2)
"""MindSpore's gates i, f, g, o in ONNX's order i, o, f, c."""


class _Vector:
    """All weights of a layer in one vector, read from the front."""

    def __init__(self, call: Call, item: Item) -> None:
        self.call, self.start = call, 0
        self.item = call.op("Reshape", item, np.array([-1]))
        (size,) = call.shape(self.item)
        self.size = known(call, size, "the size of the weights")

    def take(self, *shape: int) -> Item:
        """The next elements, in a shape."""
        end = self.start + int(np.prod(shape))
        if end > self.size:
            raise self.call.error(f"expected at least {end} weights, got {self.size}")
        part = self.call.op("Slice", self.item, np.array([self.start]), np.array([end]), np.array([0]))
        self.start = end
        return self.call.op("Reshape", part, np.array(shape, np.int64))


def _gates(call: Call, weight: Item, order: tuple[int, ...]) -> Item:
    """The rows of a weight [directions, gates * hidden, ...] in another order of gates."""
    parts = call.ops("Split", weight, outputs=len(order), axis=1, num_outputs=len(order))
    return call.op("Concat", *(parts[i] for i in order), axis=1)


@primitive("LSTM")
def lstm(call: Call) -> Datum:
    """A (stack of) LSTM over [time, batch, features]; all weights are in one vector: those of the inputs of all layers
    and directions, those of the states, then the sums of both biases; gates i, f, g, o. Results: y, h, c, and two that
    only gradients use."""
    if call.has("proj_size") and call.integer("proj_size"):
        call.refuse("an LSTM with projections", "export it with proj_size=0")
    x, h, c = call.tensor("x"), call.tensor("h"), call.tensor("c")
    layers, hidden = call.integer("num_layers"), call.integer("hidden_size")
    directions = 2 if call.flag("bidirectional") else 1
    width = call.integer("input_size")
    if layers > 1 and width != hidden * directions:
        call.refuse(
            f"an LSTM of {layers} layers in one node", "export it for the CPU, which makes a node of each layer"
        )
    vector = _Vector(call, call.tensor("w"))
    given = [vector.take(directions, 4 * hidden, width) for _ in range(layers)]
    own = [vector.take(directions, 4 * hidden, hidden) for _ in range(layers)]
    biases = [vector.take(directions, 4 * hidden) if call.flag("has_bias") else None for _ in range(layers)]
    states: list[tuple[Item, Item]] = []
    for i, (w, r, b) in enumerate(zip(given, own, biases, strict=True)):
        start = [_rows(call, s, i * directions, directions) for s in (h, c)]
        x, *last = _layer(call, x, (w, r, b), start, hidden, directions)
        states.append((last[0], last[1]))
    ends = [call.op("Concat", *parts, axis=0) if layers > 1 else parts[0] for parts in zip(*states, strict=True)]
    return x, *ends, None, None


def _rows(call: Call, x: Item, start: int, count: int) -> Item:
    if call.shape(x)[0] == count:
        return x
    return call.op("Slice", x, np.array([start]), np.array([start + count]), np.array([0]))


def _layer(
    call: Call, x: Item, weights: tuple[Item, Item, Item | None], start: list[Item], hidden: int, directions: int
) -> Iterator[Item]:
    """One layer: y [time, batch, directions * hidden], h and c [directions, batch, hidden]."""
    w, r, b = weights
    bias = None
    if b is not None:
        bias = _gates(call, b, _LSTM_GATES)
        zeros = np.zeros((directions, 4 * hidden), np.float32)
        bias = call.op("Concat", bias, call.cast(call.a.constant(zeros), call.element_type(bias)), axis=1)
    y, h, c = call.ops(
        "LSTM", x, _gates(call, w, _LSTM_GATES), _gates(call, r, _LSTM_GATES), bias, None, *start, outputs=3,
        hidden_size=hidden, direction="bidirectional" if directions == 2 else "forward",
    )  # fmt: skip
    turned = call.op("Transpose", y, perm=[0, 2, 1, 3])  # [time, batch, directions, hidden]
    yield call.op("Reshape", turned, np.array([0, 0, directions * hidden], np.int64))
    yield h
    yield c
