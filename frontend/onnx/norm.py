"""Normalisations: BatchNormalization, LayerNormalization and their relatives."""

from __future__ import annotations

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, product
from ...ir.ops.arith import Abs, Add, Cast, Div, Equal, Mul, Rsqrt, Sqrt, Sub, Where
from ...ir.ops.nn import BatchNorm, LayerNorm
from ...ir.ops.reduce import Mean
from ...ir.ops.reduce import Sum as ReduceSum
from ...ir.ops.shape import Reshape
from ...ir.types import is_float
from .node import Node, converter
from .scope import Unsupported
from .shape import part_of


@converter("BatchNormalization")
def batch_normalization(node: Node) -> Value | list[Value]:
    """BatchNormalization for inference, in the forms of all opsets."""
    training = node.integer("training_mode", 0) if node.opset >= 14 else 0
    if node.opset < 7:
        training = 1 - node.integer("is_test", 0)
    if training:
        if node.opset < 14:
            raise Unsupported("training mode", "export the model for inference")
        return _in_training(node)
    if any(node.wants(i) for i in range(1, len(node.proto.output))):
        raise Unsupported("its running statistics are used", "export the model for inference")
    epsilon = node.real("epsilon", 1e-5)
    x, scale, bias, mean, var = (node.value(i) for i in range(5))
    if node.opset < 9 and not node.integer("spatial", 1):
        factor = node.make(Mul, scale, node.make(Rsqrt, node.make(Add, var, node.splat(epsilon, var.tensor.dtype))))
        return node.make(Add, node.make(Mul, node.make(Sub, x, mean), factor), bias)
    dtype = x.tensor.dtype
    parameters = [_cast(node, v, dtype) for v in (scale, bias, mean, var)]
    return node.make(BatchNorm, x, *parameters, epsilon)


def _in_training(node: Node) -> list[Value]:
    """BatchNormalization by the statistics of the batch, and the running statistics that follow."""
    x, scale, bias, mean, var = (node.value(i) for i in range(5))
    dtype, rank = x.tensor.dtype, node.rank(0)
    axes = tuple(i for i in range(rank) if i != 1)
    own_mean = node.make(Mean, x, axes, True)
    centred = node.make(Sub, x, own_mean)
    own_var = node.make(Mean, node.make(Mul, centred, centred), axes, False)
    own_mean = node.make(Reshape, own_mean, own_var.tensor.dims)
    parameters = [_cast(node, v, dtype) for v in (scale, bias)]
    y = node.make(BatchNorm, x, *parameters, own_mean, own_var, node.real("epsilon", 1e-5))
    momentum = node.real("momentum", 0.9)
    results = [y]
    for running, own in ((mean, own_mean), (var, own_var)):
        kind = running.tensor.dtype
        old = node.make(Mul, running, node.splat(momentum, kind))
        results.append(node.make(Add, old, node.make(Mul, _cast(node, own, kind), node.splat(1 - momentum, kind))))
    return results


@converter("LayerNormalization")
def layer_normalization(node: Node) -> list[Value | None]:
    """LayerNormalization; mean and inverse deviation are computed only when somebody uses them."""
    x, rank = node.value(0), node.rank(0)
    axis, epsilon = node.axis(node.integer("axis", -1), rank), node.real("epsilon", 1e-5)
    y = node.make(LayerNorm, x, node.optional(1), node.optional(2), axis, epsilon)
    if not (node.wants(1) or node.wants(2)):
        return [y]
    axes, wide = tuple(range(axis, rank)), _widened(node, x)
    mean = node.make(Mean, wide, axes, True)
    centred = node.make(Sub, wide, mean)
    variance = node.make(Mean, node.make(Mul, centred, centred), axes, True)
    inverse = node.make(Rsqrt, node.make(Add, variance, node.splat(epsilon, wide.tensor.dtype)))
    stash = node.dtype(node.integer("stash_type", 1))
    return [y, _cast(node, mean, stash), _cast(node, inverse, stash)]


@converter("RMSNormalization")
def rms_normalization(node: Node) -> Value:
    """RMSNormalization: `x / sqrt(mean(x^2) + epsilon) * scale`, in f32 for narrow types."""
    x = node.value(0)
    rank = node.rank(0)
    axes = tuple(range(node.axis(node.integer("axis", -1), rank), rank))
    wide = _widened(node, x)
    square = node.make(Mean, node.make(Mul, wide, wide), axes, True)
    root = node.make(Rsqrt, node.make(Add, square, node.splat(node.real("epsilon", 1e-5), wide.tensor.dtype)))
    return node.make(Mul, _cast(node, node.make(Mul, wide, root), x.tensor.dtype), node.value(1))


@converter("InstanceNormalization")
def instance_normalization(node: Node) -> Value:
    """InstanceNormalization: each channel of each picture has mean 0 and variance 1, then scale and bias."""
    x, rank = node.value(0), node.rank(0)
    y = standardised(node, x, tuple(range(2, rank)), node.real("epsilon", 1e-5))
    return _per_channel(node, y, node.value(1), node.value(2), rank)


@converter("GroupNormalization")
def group_normalization(node: Node) -> Value:
    """GroupNormalization: groups of channels share mean and variance (opset 18 scales per group, 21 per channel)."""
    x, dims, rank = node.value(0), node.shape(0), node.rank(0)
    if rank < 2:
        raise node.error(f"expected an input of rank 2 or more (batch, channels, space), got {node.type(0)}")
    groups = node.integer("num_groups")
    channels = as_dim(dims[1])
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise node.error(f"num_groups: expected a divisor of {channels} channels, got {groups}")
    grouped: tuple[Dim, ...] = (dims[0], groups, part_of(channels, groups), *dims[2:])
    y = standardised(node, node.make(Reshape, x, grouped), tuple(range(2, rank + 1)), node.real("epsilon", 1e-5))
    scale, bias = node.value(1), node.value(2)
    if node.opset < 21:
        return node.make(Reshape, _per_channel(node, y, scale, bias, rank + 1), dims)
    return _per_channel(node, node.make(Reshape, y, dims), scale, bias, rank)


@converter("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Value:
    """MeanVarianceNormalization: `(x - mean) / (deviation + 1e-9)`."""
    x = node.value(0)
    axes = tuple(node.axes(node.ints("axes", (0, 2, 3)), node.rank(0)))
    centred = node.make(Sub, x, node.make(Mean, x, axes, True))
    deviation = node.make(Sqrt, node.make(Mean, node.make(Mul, centred, centred), axes, True))
    return node.make(Div, centred, node.make(Add, deviation, node.splat(1e-9, x.tensor.dtype)))


@converter("LpNormalization")
def lp_normalization(node: Node) -> Value:
    """LpNormalization with p 1 or 2; a norm of 0 gives 0."""
    x, p = node.value(0), node.integer("p", 2)
    if p not in (1, 2):
        raise node.error(f"p: expected 1 or 2, got {p}")
    axes = (node.axis(node.integer("axis", -1), node.rank(0)),)
    total = node.make(ReduceSum, node.make(Mul, x, x) if p == 2 else node.make(Abs, x), axes, True)
    norm = node.make(Sqrt, total) if p == 2 else total
    zero, one = node.splat(0, x.tensor.dtype), node.splat(1, x.tensor.dtype)
    return node.make(Div, x, node.make(Where, node.make(Equal, norm, zero), one, norm))


def _widened(node: Node, x: Value) -> Value:
    return _cast(node, x, "f32") if x.tensor.dtype in ("f16", "bf16") else x


def _cast(node: Node, x: Value, dtype: str) -> Value:
    return x if x.tensor.dtype == dtype else node.make(Cast, x, dtype)


def standardised(node: Node, x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """`(x - mean) / sqrt(variance + epsilon)` over `axes`, computed in f32 for narrow types."""
    if not is_float(x.tensor.dtype):
        raise node.error(f"expected floats, got {x.type}")
    wide = _widened(node, x)
    centred = node.make(Sub, wide, node.make(Mean, wide, axes, True))
    variance = node.make(Mean, node.make(Mul, centred, centred), axes, True)
    root = node.make(Rsqrt, node.make(Add, variance, node.splat(epsilon, wide.tensor.dtype)))
    return _cast(node, node.make(Mul, centred, root), x.tensor.dtype)


def _per_channel(node: Node, x: Value, scale: Value, bias: Value, rank: int) -> Value:
    """`x * scale + bias` with vectors along dimension 1."""
    columns = [node.make(Reshape, v, (as_dim(product(node.dims_of(v))), *([1] * (rank - 2)))) for v in (scale, bias)]
    return node.make(Add, node.make(Mul, x, columns[0]), columns[1])
