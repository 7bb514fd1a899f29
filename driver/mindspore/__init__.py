"""MindSpore's calls for running a trained network, without MindSpore: `import planish.mindspore as ms`.

    graph = ms.load("net.mindir")
    net = ms.nn.GraphCell(graph)
    ms.load_param_into_net(net, ms.load_checkpoint("new.ckpt"))
    output = ms.Model(net).predict(ms.Tensor(picture))

The same names, arguments and results as in MindSpore 2; docs/mindspore.md has a table. What trains, or defines
networks, is not here.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from planish.mindspore import nn, train
from planish.mindspore.context import GRAPH_MODE, PYNATIVE_MODE, set_context, set_device
from planish.mindspore.serialization import export, load, load_checkpoint, load_param_into_net
from planish.mindspore.tensor import Parameter, Tensor
from planish.mindspore.train import Model

float16, float32, float64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
bfloat16 = np.dtype(ml_dtypes.bfloat16)
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
bool_ = np.dtype(np.bool_)
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)

__all__ = [
    "GRAPH_MODE",
    "PYNATIVE_MODE",
    "Model",
    "Parameter",
    "Tensor",
    "bfloat16",
    "bool_",
    "complex64",
    "complex128",
    "export",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "load",
    "load_checkpoint",
    "load_param_into_net",
    "nn",
    "set_context",
    "set_device",
    "train",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
