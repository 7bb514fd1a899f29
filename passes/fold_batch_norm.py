"""Batch normalisation with constant statistics is a scale and a shift per channel; a convolution takes both in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.constants import ConstantData
from ..ir.core import Graph, Value
from ..ir.ops.arith import Add, Mul
from ..ir.ops.nn import BatchNorm, Conv
from ..ir.types import DTYPES
from .base import Pass
from .canonicalize.match import constant, only_use
from .canonicalize.nn import scale_weights, with_weights
from .rewrite import Builder, apply_patterns


class FoldBatchNorm(Pass, name="fold-batch-norm"):
    """Fold batch normalisation into convolutions, elsewhere into one scale and one shift."""

    def run_graph(self, graph: Graph) -> bool:
        return apply_patterns(graph, [fold_into_conv, scale_and_shift])


def fold_into_conv(op: BatchNorm, b: Builder) -> Sequence[Value] | None:
    """`batch_norm(conv(x, w, bias))` -> `conv(x, w * scale, bias * scale + shift)`"""
    conv = only_use(op.x, Conv)
    found = _scale_and_shift(op)
    if conv is None or found is None:
        return None
    scale, shift = found
    dtype = op.x.tensor.dtype
    weights = scale_weights(conv, _rounded(scale, dtype))
    bias = constant(conv.bias)
    if weights is None or (conv.bias is not None and bias is None):
        return None
    if bias is not None:
        shift = shift + bias.array().astype(np.float64) * scale
    return [b(with_weights(conv, b.constant(weights), b.constant(_rounded(shift, dtype))))]


def scale_and_shift(op: BatchNorm, b: Builder) -> Sequence[Value] | None:
    """`batch_norm(x)` -> `x * scale + shift`"""
    found = _scale_and_shift(op)
    if found is None or op.x.tensor.shape is None:
        return None
    column = (-1, *[1] * (op.x.tensor.rank - 2))
    scale, shift = (b.constant(_rounded(v.reshape(column), op.x.tensor.dtype)) for v in found)
    return [b(Add(b(Mul(op.x, scale)), shift))]


def _scale_and_shift(op: BatchNorm) -> tuple[np.ndarray, np.ndarray] | None:
    """Both in double precision; None when a parameter is not constant."""
    data = [constant(v) for v in (op.scale, op.bias, op.mean, op.var)]
    if any(d is None for d in data):
        return None
    gamma, beta, mean, var = (d.array().astype(np.float64) for d in data if d is not None)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + op.epsilon)
        return scale, beta - mean * scale


def _rounded(value: np.ndarray, dtype: str) -> ConstantData:
    return ConstantData.of(value.astype(DTYPES[dtype].numpy))
