"""Small networks with trained-looking weights, for the tests of writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planish.frontend.assembly import Assembly, Input, assembled
from planish.ir.core import Module

Array = Any


class Weights:
    """Numbers of a seed, scaled as trained ones are."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Array:
        scale = 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)


def _lenet(a: Assembly, w: Weights) -> Sequence[Any]:
    x: Any = a.input("image")
    for c_in, c_out in ((1, 6), (6, 16)):
        x = a.op("Relu", a.op("Conv", x, a.constant(w(c_out, c_in, 3, 3), f"conv{c_out}.weight"), w(c_out)))
        x = a.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return [a.op("Gemm", a.op("Flatten", x), w(64, 10), w(10))]


def _residual(a: Assembly, w: Weights) -> Sequence[Any]:
    x: Any = a.op("Conv", a.input("image"), w(8, 1, 3, 3), pads=[1, 1, 1, 1])
    for _ in range(2):
        y = a.op("BatchNormalization", x, np.abs(w(8)) + 1, w(8), w(8), np.abs(w(8)) + 1)
        y = a.op("Conv", a.op("Relu", y), w(8, 1, 3, 3), pads=[0, 1, 2, 1], group=8)
        x = a.op("Add", x, a.op("Conv", y, w(8, 8, 1, 1), w(8)))
    x = a.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return [a.op("GlobalAveragePool", x), a.op("Clip", x, np.array(-0.5, np.float32), np.array(6, np.float32))]


def _upsampling(a: Assembly, w: Weights) -> Sequence[Any]:
    x = a.op("ConvTranspose", a.input("image"), w(1, 4, 3, 3), w(4), strides=[2, 2], pads=[1, 1, 1, 1])
    y = a.op("Resize", x, None, np.array([1, 1, 2, 2], np.float32), mode="nearest")
    z = a.op("Resize", x, None, np.array([1, 1, 0.5, 0.5], np.float32), mode="linear")
    return [a.op("Sigmoid", y), a.op("Pad", z, np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")]


def _attention(a: Assembly, w: Weights) -> Sequence[Any]:
    x = a.op("Gather", w(50, 16), a.input("ids"))
    x = a.op("LayerNormalization", x, w(16) + 1, w(16), axis=-1)
    q, k, v = (a.op("Add", a.op("MatMul", x, w(16, 16)), w(16)) for _ in range(3))
    heads = [a.op("Transpose", a.op("Reshape", t, np.array([0, 0, 2, 8])), perm=[0, 2, 1, 3]) for t in (q, k, v)]
    scores = a.op("MatMul", heads[0], a.op("Transpose", heads[1], perm=[0, 1, 3, 2]))
    weights = a.op("Softmax", a.op("Mul", scores, np.array(0.35, np.float32)), axis=-1)
    y = a.op("Reshape", a.op("Transpose", a.op("MatMul", weights, heads[2]), perm=[0, 2, 1, 3]), np.array([0, 0, 16]))
    return [a.op("MatMul", a.op("Gelu", a.op("MatMul", a.op("Add", x, y), w(16, 32))), w(32, 16)), weights]


def _recurrent(a: Assembly, w: Weights) -> Sequence[Any]:
    x = a.op("Transpose", a.op("Gather", w(50, 12), a.input("ids")), perm=[1, 0, 2])
    y, last = a.ops("LSTM", x, w(2, 32, 12), w(2, 32, 8), w(2, 64), outputs=2, hidden_size=8, direction="bidirectional")
    z = a.op("GRU", x, w(1, 24, 12), w(1, 24, 8), w(1, 48), hidden_size=8, linear_before_reset=1)
    return [y, last, z]


def _tables(a: Assembly, w: Weights) -> Sequence[Any]:
    ids = a.input("ids")
    x = a.op("Gather", w(50, 4), ids)
    mask = a.op("Unsqueeze", a.op("Greater", ids, np.array(24, np.int64)), np.array([2]))
    y = a.op("Where", mask, x, a.op("Neg", x))
    total = a.op("ReduceSum", y, np.array([1]), keepdims=0)
    best = a.op("ArgMax", y, axis=2, keepdims=0)
    sums = a.op("Concat", total, a.op("CumSum", total, np.array(1, np.int64)), axis=1)
    return [total, best, sums, a.op("Tile", ids, np.array([1, 2]))]


def _quantized(a: Assembly, w: Weights) -> Sequence[Any]:
    step = (np.array(0.02, np.float32), np.array(128, np.uint8))
    x = a.op("DequantizeLinear", a.op("QuantizeLinear", a.input("image"), *step), *step)
    data = (w(4, 1, 3, 3) * 40).round().astype(np.int8)
    scale = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    return [a.op("Relu", a.op("Conv", x, a.op("DequantizeLinear", data, scale, axis=0)))]


def _activations(a: Assembly, w: Weights) -> Sequence[Any]:
    x = a.op("MatMul", a.op("Flatten", a.input("image")), w(196, 12))
    names = ("Elu", "Selu", "HardSwish", "HardSigmoid", "Softplus", "LeakyRelu", "Erf", "Mish")
    return [a.op(name, x) for name in names] + [a.op("LogSoftmax", x), a.op("Gelu", x, approximate="tanh")]


def _halves(a: Assembly, w: Weights) -> Sequence[Any]:
    x = a.op("Cast", a.input("image"), to=10)
    y = a.op("Conv", x, w(4, 1, 3, 3).astype(np.float16), w(4).astype(np.float16))
    return [a.op("Cast", a.op("Relu", y), to=1)]


def _two_inputs(a: Assembly, w: Weights) -> Sequence[Any]:
    pooled = a.op("MaxPool", a.input("image"), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    features = a.op("Flatten", pooled)
    words = a.op("ReduceMean", a.op("Gather", w(50, 8), a.input("ids")), np.array([1]), keepdims=0)
    joined = a.op("Concat", features, words, axis=1)
    values, places = a.ops("TopK", a.op("Gemm", joined, w(57, 9), w(9)), np.array([3]), outputs=2)
    return [values, places]


IMAGE = Input("image", "f32", (2, 1, 14, 14))
IDS = Input("ids", "i64", (2, 6))
_ALL: dict[str, tuple[Callable[[Assembly, Weights], Sequence[Any]], tuple[Input, ...]]] = {
    "lenet": (_lenet, (Input("image", "f32", ("batch", 1, 14, 14)),)),
    "residual": (_residual, (IMAGE,)),
    "upsampling": (_upsampling, (IMAGE,)),
    "attention": (_attention, (Input("ids", "i64", ("batch", "length")),)),
    "recurrent": (_recurrent, (IDS,)),
    "tables": (_tables, (IDS,)),
    "quantized": (_quantized, (IMAGE,)),
    "activations": (_activations, (IMAGE,)),
    "halves": (_halves, (IMAGE,)),
    "two_inputs": (_two_inputs, (IMAGE, IDS)),
}
NAMES = tuple(_ALL)


def network(name: str) -> Module:
    """One of `NAMES`, in tensor form, with outputs y0, y1 ..."""
    build, inputs = _ALL[name]

    def read(a: Assembly) -> Sequence[Any]:
        return build(a, Weights(len(name)))

    outputs = {"lenet": 1, "recurrent": 3, "tables": 4, "quantized": 1, "activations": 10, "halves": 1}.get(name, 2)
    return assembled(name, inputs, read, outputs=[f"y{i}" for i in range(outputs)])


def network_inputs(name: str) -> dict[str, Array]:
    """Inputs for `network(name)`."""
    rng = np.random.default_rng(5)
    made = {"image": rng.standard_normal((2, 1, 14, 14)).astype(np.float32), "ids": rng.integers(0, 50, (2, 6))}
    return {i.name: made[i.name] for i in _ALL[name][1]}
