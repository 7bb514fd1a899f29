"""Lowerings of MindIR's normalizations."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Dim
from .lower_common import axis_of, constant, rank, reshaped
from .lower_conv import channels_first, channels_last, is_channels_last
from .primitive import Call, Datum, Item, primitive


def _moments(call: Call, x: Item, axes: list[int], epsilon: float) -> tuple[Item, Item]:
    """Mean and reciprocal standard deviation along axes, which stay with size 1."""
    at = np.array(axes, np.int64)
    mean = call.op("ReduceMean", x, at)
    off = call.op("Sub", x, mean)
    variance = call.op("ReduceMean", call.op("Mul", off, off), at)
    return mean, call.op("Reciprocal", call.op("Sqrt", call.op("Add", variance, constant(call, epsilon, x))))


def _affine(call: Call, x: Item, weight: Item | None, bias: Item | None) -> Item:
    """`x weight + bias`, where they are there."""
    x = x if weight is None else call.op("Mul", x, call.cast(weight, call.element_type(x)))
    return x if bias is None else call.op("Add", x, call.cast(bias, call.element_type(x)))


def _optional(call: Call, name: str) -> Item | None:
    return call.tensor(name) if call.has(name) else None


def _given(call: Call, name: str, value: float, x: Item, channels: Dim) -> Item:
    """An argument in the element type of `x`, or `value` for each channel where it is left out."""
    if call.has(name):
        return call.cast(call.tensor(name), call.element_type(x))
    return call.op("Expand", constant(call, value, x), [channels])


# -- over the batch ----------------------------------------------------------------------------------------------------


def _batch(call: Call, x: Item, parts: list[Item], epsilon: float, training: bool) -> Item:
    """Batch normalization by scale, bias, mean and variance (by the batch's own ones, where `training`)."""
    if not training:
        dtype = call.element_type(x)
        averages = "f32" if dtype in ("f16", "bf16") else dtype
        own = [call.cast(p, d) for p, d in zip(parts, (dtype, dtype, averages, averages), strict=True)]
        return call.op("BatchNormalization", x, *own, epsilon=epsilon)
    call.machine.note(
        "batch normalization is by the batch itself, as in training: its running averages are not updated"
    )
    dims = rank(call, x)
    mean, scale = _moments(call, x, [0, *range(2, dims)], epsilon)
    shape = np.array([-1] + [1] * (dims - 2), np.int64)
    y = call.op("Mul", call.op("Sub", x, mean), scale)
    return _affine(call, y, call.op("Reshape", parts[0], shape), call.op("Reshape", parts[1], shape))


@primitive("BatchNorm", "BatchNormInfer", "SyncBatchNorm")
def batch_norm(call: Call) -> Datum:
    """Batch normalization over dimension 1 (NHWC: the last). In training mode it is by the batch itself; the running
    averages stay as they are. Results: y, and mean and variance, twice."""
    x, last = call.tensor(0), is_channels_last(call)
    parts = [call.tensor(i) for i in range(1, 5)]
    training = call.flag("is_training") if call.has("is_training") else False
    last = last and rank(call, x) > 2
    y = _batch(call, channels_first(call, x) if last else x, parts, call.real("epsilon", 1e-5), training)
    y = channels_last(call, y) if last else y
    return y if len(call.result_types) == 1 else (y, parts[2], parts[3], parts[2], parts[3])


@primitive("FusedBatchNorm", "FusedBatchNormEx")
def fused_batch_norm(call: Call) -> Datum:
    """Batch normalization of 1.x by the batch itself (it was written for training only)."""
    x, parts = call.tensor(0), [call.tensor(i) for i in range(1, 5)]
    return (_batch(call, x, parts, call.real("epsilon", 1e-5), True), *parts, None)


@primitive("BatchNormExt")
def batch_norm_ext(call: Call) -> Datum:
    """Batch normalization with optional scale, bias and running averages. Results: y, mean, reciprocal deviation."""
    x = call.tensor("input")
    channels = call.shape(x)[1]
    epsilon = call.real("epsilon", 1e-5)

    # The name of the variance has a slip of the pen in MindSpore, too.
    names = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "runnning_var": 1.0}
    parts = [_given(call, name, value, x, channels) for name, value in names.items()]
    training = call.flag("training", False) or not call.has("running_mean")
    y = _batch(call, x, parts, epsilon, training)
    deviation = call.op("Sqrt", call.op("Add", parts[3], constant(call, epsilon, parts[3])))
    return y, parts[2], call.op("Reciprocal", deviation)


# -- over the last dimensions ------------------------------------------------------------------------------------------


def _layer(call: Call, x: Item, first: int, weight: Item | None, bias: Item | None, epsilon: float) -> Item:
    """Layer normalization over the dimensions from `first` on."""
    dims = rank(call, x)
    if weight is not None and rank(call, weight) == dims - first:
        weight = call.cast(weight, call.element_type(x))
        bias = None if bias is None else call.cast(bias, call.element_type(x))
        return call.op("LayerNormalization", x, weight, bias, axis=first - dims, epsilon=epsilon)
    ones = call.op("Expand", constant(call, 1, x), list(call.shape(x)[first:]))
    return _affine(call, call.op("LayerNormalization", x, ones, axis=first - dims, epsilon=epsilon), weight, bias)


def _layer_results(call: Call, x: Item, y: Item, first: int, epsilon: float, *, variance: bool) -> Datum:
    """`y` with mean, and variance or reciprocal standard deviation, of each layer."""
    wide = call.cast(x, "f32")
    mean, scale = _moments(call, wide, list(range(first, rank(call, x))), epsilon)
    if not variance:
        return y, mean, scale
    square = call.op("Reciprocal", call.op("Mul", scale, scale))
    return y, mean, call.op("Sub", square, constant(call, epsilon, square))


@primitive("LayerNorm", "LayerNormV3")
def layer_norm(call: Call) -> Datum:
    """Layer normalization from one axis on, with scale and bias from another. Results: y, mean, and variance (V3:
    reciprocal standard deviation)."""
    x = call.tensor(0)
    first = axis_of(call, call.integer("begin_norm_axis", 1), rank(call, x), "begin_norm_axis")
    epsilon = call.real("epsilon", 1e-7)
    y = _layer(call, x, first, call.tensor(1), call.tensor(2), epsilon)
    return _layer_results(call, x, y, first, epsilon, variance=call.name == "LayerNorm")


@primitive("LayerNormExt")
def layer_norm_ext(call: Call) -> Datum:
    """Layer normalization over as many dimensions as `normalized_shape` has."""
    x = call.tensor("input")
    first = rank(call, x) - len(call.dims("normalized_shape"))
    epsilon = call.real("eps", 1e-5)
    y = _layer(call, x, first, _optional(call, "weight"), _optional(call, "bias"), epsilon)
    return _layer_results(call, x, y, first, epsilon, variance=False)


@primitive("AddLayerNormV2")
def add_layer_norm(call: Call) -> Datum:
    """Layer normalization of a sum, over the last dimension. Results: y, mean, reciprocal deviation, the sum."""
    x = call.op("Add", call.tensor("x1"), call.tensor("x2"))
    first, epsilon = rank(call, x) - 1, call.real("epsilon", 1e-5)
    y = _layer(call, x, first, call.tensor("gamma"), call.tensor("beta"), epsilon)
    found = _layer_results(call, x, y, first, epsilon, variance=False)
    assert isinstance(found, tuple)
    return (*found, x)


def _rms(call: Call, x: Item, gamma: Item, epsilon: float) -> tuple[Item, Item]:
    """`x` by the root of the mean of its squares over the dimensions of `gamma`, and the reciprocal of that root."""
    dims = rank(call, x)
    first = dims - rank(call, gamma)
    y = call.op("RMSNormalization", x, call.cast(gamma, call.element_type(x)), axis=first - dims, epsilon=epsilon)
    wide = call.cast(x, "f32")
    mean = call.op("ReduceMean", call.op("Mul", wide, wide), np.arange(first, dims, dtype=np.int64))
    return y, call.op("Reciprocal", call.op("Sqrt", call.op("Add", mean, constant(call, epsilon, wide))))


@primitive("RmsNorm")
def rms_norm(call: Call) -> Datum:
    """RMS normalization. Results: y, the reciprocal root."""
    return _rms(call, call.tensor("x"), call.tensor("gamma"), call.real("epsilon", 1e-6))


@primitive("AddRmsNorm")
def add_rms_norm(call: Call) -> Datum:
    """RMS normalization of a sum. Results: y, the reciprocal root, the sum."""
    x = call.op("Add", call.tensor("x1"), call.tensor("x2"))
    return (*_rms(call, x, call.tensor("gamma"), call.real("epsilon", 1e-6)), x)


# -- over groups of channels -------------------------------------------------------------------------------------------


@primitive("GroupNorm")
def group_norm(call: Call) -> Datum:
    """Normalization of groups of channels. Results: y, mean and reciprocal deviation [N, groups]."""
    x, groups = call.tensor("input"), call.integer("num_groups")
    epsilon = call.real("eps", 1e-5)
    channels = call.shape(x)[1]
    parts = [_given(call, name, value, x, channels) for name, value in (("weight", 1.0), ("bias", 0.0))]
    y = call.op("GroupNormalization", x, *parts, num_groups=groups, epsilon=epsilon)
    rows: list[Dim] = [call.shape(x)[0], groups]
    flat = call.op("Reshape", x, [*rows, -1])
    mean, scale = _moments(call, call.cast(flat, "f32"), [2], epsilon)
    return y, reshaped(call, mean, rows), reshaped(call, scale, rows)


@primitive("InstanceNorm", "InstanceNormV2")
def instance_norm(call: Call) -> Datum:
    """Normalization of each image by itself (`is_training` False: by given averages). Results: y, mean, variance."""
    x = call.tensor("x")
    gamma, beta = (call.cast(call.tensor(n), call.element_type(x)) for n in ("gamma", "beta"))
    epsilon = call.real("epsilon", 1e-5)
    mean, variance = call.tensor("mean"), call.tensor("variance")
    if call.has("is_training") and not call.flag("is_training"):
        return _batch(call, x, [gamma, beta, mean, variance], epsilon, False), mean, variance
    return call.op("InstanceNormalization", x, gamma, beta, epsilon=epsilon), mean, variance


@primitive("LRN")
def lrn(call: Call) -> Datum:
    """Local response normalization across channels; alpha is of each element (ONNX: of the whole window)."""
    radius = call.integer("depth_radius", 5)
    size = 2 * radius + 1
    return call.op(
        "LRN", call.tensor(0), size=size, alpha=call.real("alpha", 1.0) * size, beta=call.real("beta", 0.5),
        bias=call.real("bias", 1.0),
    )  # fmt: skip
