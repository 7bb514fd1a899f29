"""Neural network operations with the `nn.` prefix: convolution, pooling, normalisation. Activations: `activation`."""

from __future__ import annotations

from .conv import Conv
from .conv_transpose import ConvTranspose
from .norm import LRN, BatchNorm, LayerNorm, LogSoftmax, Softmax
from .pool import AveragePool, MaxPool

__all__ = [
    "LRN",
    "AveragePool",
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "LayerNorm",
    "LogSoftmax",
    "MaxPool",
    "Softmax",
]
