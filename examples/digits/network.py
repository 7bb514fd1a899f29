"""A small convolutional network in NumPy: forward pass, gradients and the Adam optimiser.

Layout is NCHW, weights OIHW, everything float32. Convolutions have odd square kernels and keep the picture's size;
pooling takes the maximum of 2x2 windows. Nothing here depends on planish: the example trains with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


def _windows(x: Array, size: int) -> Array:
    """Patches around every pixel, zero outside the picture: `[N, C, H, W]` -> `[N, H, W, C * size * size]`."""
    around = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    views = sliding_window_view(padded, (size, size), axis=(2, 3))
    n, c, h, w = x.shape
    return np.ascontiguousarray(views.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * size * size)


@dataclass
class Convolution:
    """`y = conv(x, weight) + bias` with zero padding, stride 1; `weight` is `[O, I, K, K]`, `K` odd."""

    weight: Array
    bias: Array
    _patches: Array = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)

    def forward(self, x: Array) -> Array:
        """`[N, I, H, W]` -> `[N, O, H, W]`."""
        self._patches = _windows(x, self.weight.shape[2])
        y = self._patches @ self.weight.reshape(len(self.weight), -1).T + self.bias
        return y.transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        """Gradients of the input and of `[weight, bias]`. The input's is a convolution with the mirrored kernel."""
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(self.weight))
        dw = (rows.T @ self._patches.reshape(len(rows), -1)).reshape(self.weight.shape)
        mirrored = self.weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        dx = _windows(dy, self.weight.shape[2]) @ mirrored.reshape(len(mirrored), -1).T
        return dx.transpose(0, 3, 1, 2), [dw, rows.sum(axis=0)]

    def parameters(self) -> list[Array]:
        """The arrays that training changes, in the order of `backward`'s gradients."""
        return [self.weight, self.bias]


@dataclass
class Dense:
    """`y = flatten(x) @ weight + bias`; `weight` is `[features, classes]`."""

    weight: Array
    bias: Array
    _x: Array = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)

    def forward(self, x: Array) -> Array:
        """`[N, ...]` -> `[N, classes]`."""
        self._x = x
        return x.reshape(len(x), -1) @ self.weight + self.bias

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        """Gradients of the input and of `[weight, bias]`."""
        flat = self._x.reshape(len(dy), -1)
        return (dy @ self.weight.T).reshape(self._x.shape), [flat.T @ dy, dy.sum(axis=0)]

    def parameters(self) -> list[Array]:
        """The arrays that training changes, in the order of `backward`'s gradients."""
        return [self.weight, self.bias]


class ReluPool:
    """`maxpool2x2(relu(x))`; height and width are even."""

    def __init__(self) -> None:
        self._x = np.zeros(0, np.float32)
        self._y = np.zeros(0, np.float32)

    def forward(self, x: Array) -> Array:
        """`[N, C, H, W]` -> `[N, C, H/2, W/2]`."""
        n, c, h, w = x.shape
        self._x = x
        self._y = np.maximum(x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5)), np.float32(0))
        return self._y

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        """The gradient goes to the pixels that were the maximum and positive; there are no parameters."""
        wide = self._y.repeat(2, axis=2).repeat(2, axis=3)
        chosen = (self._x == wide) & (wide > 0)
        return dy.repeat(2, axis=2).repeat(2, axis=3) * chosen, []

    def parameters(self) -> list[Array]:
        """None."""
        return []


class Classifier:
    """conv 3x3 (16) - relu - pool - conv 3x3 (32) - relu - pool - dense (10), for `[N, 1, 8, 8]` pictures."""

    def __init__(self, rng: np.random.Generator) -> None:
        def he(*shape: int, inputs: int) -> Array:
            return rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)

        def zeros(n: int) -> Array:
            return np.zeros(n, np.float32)

        self.conv1 = Convolution(he(16, 1, 3, 3, inputs=9), zeros(16))
        self.conv2 = Convolution(he(32, 16, 3, 3, inputs=144), zeros(32))
        self.dense = Dense(he(128, 10, inputs=128), zeros(10))
        self.layers = [self.conv1, ReluPool(), self.conv2, ReluPool(), self.dense]

    def logits(self, x: Array) -> Array:
        """Unnormalised scores `[N, 10]`."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def probability(self, x: Array) -> Array:
        """`softmax(logits(x))`."""
        z = self.logits(x)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def gradients(self, x: Array, label: NDArray[np.int64]) -> list[Array]:
        """Gradients of the mean cross-entropy over the batch, in the order of `parameters`."""
        dy = self.probability(x)
        dy[np.arange(len(x)), label] -= 1
        dy /= len(x)
        found: list[Array] = []
        for layer in reversed(self.layers):
            dy, of_layer = layer.backward(dy)
            found[:0] = of_layer
        return found

    def parameters(self) -> list[Array]:
        """Every array that training changes."""
        return [array for layer in self.layers for array in layer.parameters()]


class Adam:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay; changes the parameters in place."""

    def __init__(self, parameters: Iterable[Array], decay: float = 1e-4) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]
        self.steps = 0

    def step(self, gradients: Iterable[Array], rate: float) -> None:
        """One update with learning rate `rate`."""
        self.steps += 1
        scale = rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= (scale * m / (np.sqrt(v) + 1e-8) + rate * self.decay * p).astype(np.float32)
