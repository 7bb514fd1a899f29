"""Small models with real values, made on the spot: each stands for one kind of network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Net:
    """Collects nodes and seeded weights; `save` writes the model."""

    def __init__(self, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.count = 0

    def weight(self, *shape: int, scale: float | None = None, low: float | None = None) -> str:
        """A normal (or, with `low`, uniform low..low+0.6) weight; gives its name."""
        if low is not None:
            value = self.rng.uniform(low, low + 0.6, shape)
        else:
            fan = int(np.prod(shape[1:])) or 1
            value = self.rng.standard_normal(shape) * (scale if scale is not None else np.sqrt(2.0 / fan))
        return self.constant(value.astype(np.float32))

    def constant(self, value: np.ndarray | np.generic) -> str:
        """An initializer."""
        self.count += 1
        name = f"w{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; gives its first output's name."""
        self.count += 1
        names = [f"{op.lower()}{self.count}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{self.count}", **attributes))
        return names[0]

    def conv(self, x: str, cin: int, cout: int, k: int, **attributes: Any) -> str:
        """A convolution with bias."""
        groups = int(attributes.get("group", 1))
        w, b = self.weight(cout, cin // groups, k, k), self.weight(cout, scale=0.1)
        return self.add("Conv", x, w, b, **attributes)

    def save(self, path: Path, inputs: Mapping[str, tuple[int, list[int]]], outputs: list[str]) -> Path:
        """Write the model; `inputs` gives element type and shape by name."""
        infos = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()]
        outs = [helper.make_empty_tensor_value_info(o) for o in outputs]
        for o in outs:
            o.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, path.stem, infos, outs, self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9), path)
        return path


def residual_net(path: Path) -> Path:
    """Convolutions of every sort between a stem and a classifier: stride, pads, residual sum, groups, depthwise,
    concatenation, both poolings, batch normalisation, LRN."""
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 24, 7, strides=[2, 2], pads=[3, 3, 3, 3]))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.add("Relu", net.conv(x, 24, 40, 1))
    y = net.add("Conv", y, net.weight(24, 40, 3, 3), pads=[1, 1, 1, 1])
    norm = [net.weight(24, low=0.7), net.weight(24, scale=0.1), net.weight(24, scale=0.1), net.weight(24, low=0.7)]
    x = net.add("Relu", net.add("Add", net.add("BatchNormalization", y, *norm), x))
    deep = net.add("Clip", net.conv(x, 24, 24, 3, group=24, pads=[1, 1, 1, 1]), *_bounds(net))
    grouped = net.conv(x, 24, 36, 3, group=3, pads=[2, 2, 2, 2], dilations=[2, 2])
    x = net.add("Concat", deep, grouped, net.add("Sigmoid", net.conv(x, 24, 17, 1)), axis=1)
    x = net.add("LRN", x, size=5, alpha=1e-3, beta=0.75, bias=1.0)
    x = net.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    x = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.conv(x, 77, 50, 3))))
    x = net.add("Gemm", x, net.weight(10, 50), net.weight(10, scale=0.1), transB=1)
    return net.save(path, {"image": (TensorProto.FLOAT, [1, 3, 53, 61])}, [net.add("Softmax", x, axis=1)])


def _bounds(net: Net) -> tuple[str, str]:
    return net.constant(np.float32(0.0)), net.constant(np.float32(6.0))


def encoder_net(path: Path, length: int = 19, width: int = 48, heads: int = 4, words: int = 97) -> Path:
    """One transformer block over token ids: embedding, attention with a mask, GELU, layer normalisation."""
    net = Net()
    x = net.add("Gather", net.weight(words, width, scale=1.0), "ids")
    x = net.add("Add", x, net.weight(length, width, scale=0.1))
    mask = net.add("Unsqueeze", net.add("Cast", "mask", to=TensorProto.FLOAT), net.constant(np.array([1, 2])))
    mask = net.add("Mul", net.add("Sub", net.constant(np.float32(1)), mask), net.constant(np.float32(-1e9)))
    q, k, v = (_heads(net, _dense(net, x, width, width), length, heads) for _ in range(3))
    k = net.add("Transpose", k, perm=[0, 1, 3, 2])
    scores = net.add("Div", net.add("MatMul", q, k), net.constant(np.float32(np.sqrt(width // heads))))
    scores = net.add("Softmax", net.add("Add", scores, mask), axis=-1)
    y = net.add("Transpose", net.add("MatMul", scores, v), perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.constant(np.array([0, 0, width])))
    x = _norm(net, net.add("Add", x, _dense(net, y, width, width)), width)
    h = _dense(net, x, width, 4 * width)
    erf = net.add("Erf", net.add("Div", h, net.constant(np.float32(np.sqrt(2)))))
    h = net.add(
        "Mul", net.add("Mul", h, net.add("Add", erf, net.constant(np.float32(1)))), net.constant(np.float32(0.5))
    )
    x = _norm(net, net.add("Add", x, _dense(net, h, 4 * width, width)), width)
    inputs = {"ids": (TensorProto.INT64, [1, length]), "mask": (TensorProto.INT64, [1, length])}
    return net.save(path, inputs, [x, net.add("ReduceMean", x, axes=[1], keepdims=0)])


def _dense(net: Net, x: str, rows: int, columns: int) -> str:
    product = net.add("MatMul", x, net.weight(rows, columns, scale=rows**-0.5))
    return net.add("Add", product, net.weight(columns, scale=0.1))


def _heads(net: Net, x: str, length: int, heads: int) -> str:
    split = net.add("Reshape", x, net.constant(np.array([0, length, heads, -1])))
    return net.add("Transpose", split, perm=[0, 2, 1, 3])


def _norm(net: Net, x: str, width: int) -> str:
    return net.add("LayerNormalization", x, net.weight(width, low=0.7), net.weight(width, scale=0.1), axis=-1)


def huge_net(path: Path, rows: int) -> Path:
    """Row `index` of a table of `rows` x 1024 floats in a sparse external file; only its last row is not zero."""
    with (path.parent / "table.bin").open("wb") as f:
        f.truncate(rows * 4096)
        f.seek((rows - 1) * 4096)
        f.write(np.arange(1024, dtype=np.float32).tobytes())
    table = TensorProto(
        name="table", data_type=TensorProto.FLOAT, dims=[rows, 1024], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": "table.bin", "offset": "0", "length": str(rows * 4096)}.items():
        table.external_data.add(key=key, value=value)
    node = helper.make_node("Gather", ["table", "index"], ["row"], name="lookup")
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [1])
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 1024])
    graph = helper.make_graph([node], "huge", [index], [row], [table])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9).SerializeToString()
    )
    return path
