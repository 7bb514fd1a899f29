"""Train the digit classifier on scikit-learn's `load_digits` and write `digits.onnx` and `pictures.npz`.

    python examples/digits/train.py            # about 10 seconds; needs numpy, onnx, scikit-learn

The data are 1,797 handwritten digits, 8x8 pixels, values 0 to 16. A fixed fifth (360 pictures) is held back: it is
never trained on, never used to choose anything, and the accuracy that is printed is measured on it. Training
pictures are shifted by at most one pixel at random. 20 of the held-back pictures, two of each digit, the first in the
order of the data set, are written to `pictures.npz` for the demo.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from network import Adam, Array, Classifier
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
SEED = 20261122
EPOCHS = 60
BATCH = 32

Labels = NDArray[np.int64]


def split(rng: np.random.Generator) -> tuple[Array, Labels, Array, Labels]:
    """The pictures as `[N, 1, 8, 8]` in 0..1 and their labels: training, then held back, both in data-set order."""
    data = cast("dict[str, NDArray[np.float32]]", load_digits())
    pictures = (data["images"].astype(np.float32) * np.float32(1 / 16))[:, None]
    labels = data["target"].astype(np.int64)
    held = np.zeros(len(labels), bool)
    held[rng.permutation(len(labels))[: len(labels) // 5 + 1]] = True
    return pictures[~held], labels[~held], pictures[held], labels[held]


def shifted(rng: np.random.Generator, x: Array) -> Array:
    """Each picture moved by -1, 0 or 1 pixel in both directions, with empty pixels moved in."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.empty_like(x)
    for i, (dy, dx) in enumerate(rng.integers(0, 3, (len(x), 2))):
        out[i] = padded[i, :, dy : dy + 8, dx : dx + 8]
    return out


def train(rng: np.random.Generator, x: Array, label: Labels) -> Classifier:
    """A classifier after `EPOCHS` passes over the training pictures; the rate falls along a cosine."""
    model = Classifier(rng)
    optimiser = Adam(model.parameters())
    for epoch in range(EPOCHS):
        rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            optimiser.step(model.gradients(shifted(rng, x[batch]), label[batch]), rate)
    return model


def accuracy(model: Classifier, x: Array, label: Labels) -> float:
    """The share of pictures whose most probable digit is the label."""
    return float((model.probability(x).argmax(axis=1) == label).mean())


def to_onnx(model: Classifier) -> onnx.ModelProto:
    """The classifier as ONNX: `image` f32[1,1,8,8] -> `probability` f32[1,10], opset 17."""
    weights = {
        "conv1.weight": model.conv1.weight,
        "conv1.bias": model.conv1.bias,
        "conv2.weight": model.conv2.weight,
        "conv2.bias": model.conv2.bias,
        "dense.weight": model.dense.weight,
        "dense.bias": model.dense.bias,
    }
    window, same, half = [3, 3], [1, 1, 1, 1], [2, 2]
    nodes = [
        helper.make_node(
            "Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", kernel_shape=window, pads=same
        ),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], "pool1", kernel_shape=half, strides=half),
        helper.make_node(
            "Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", kernel_shape=window, pads=same
        ),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pool2"], "pool2", kernel_shape=half, strides=half),
        helper.make_node("Flatten", ["pool2"], ["features"], "flatten", axis=1),
        helper.make_node("Gemm", ["features", "dense.weight", "dense.bias"], ["logits"], "dense"),
        helper.make_node("Softmax", ["logits"], ["probability"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="examples/digits/train.py")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def two_of_each(label: Labels) -> NDArray[np.intp]:
    """Positions of the first two pictures of each digit: 0, 0, 1, 1, ..."""
    return np.concatenate([np.flatnonzero(label == digit)[:2] for digit in range(10)])


def main() -> None:
    """Train, report the accuracy on the held-back pictures, write both files."""
    parser = argparse.ArgumentParser(description="Train the digit classifier and write it as ONNX.")
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder for digits.onnx and pictures.npz")
    output: Path = parser.parse_args().output
    rng = np.random.default_rng(SEED)
    x, label, held_x, held_label = split(rng)
    with threadpool_limits(1):  # more threads add in another order: other last bits in the weights, another file
        model = train(rng, x, label)
    print(f"training pictures:  {len(x)}, accuracy {accuracy(model, x, label):.2%}")
    print(f"held-back pictures: {len(held_x)}, accuracy {accuracy(model, held_x, held_label):.2%}")
    onnx.save(to_onnx(model), output / "digits.onnx")
    shown = two_of_each(held_label)
    np.savez(output / "pictures.npz", image=held_x[shown], label=held_label[shown])
    print(f"wrote {output / 'digits.onnx'} and {output / 'pictures.npz'}")


if __name__ == "__main__":
    main()
