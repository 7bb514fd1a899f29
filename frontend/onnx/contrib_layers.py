"""Layers of ONNX Runtime's domain (`com.microsoft`): embeddings with their normalisation, pictures with channels last,
group normalisation with its activation.
"""

from __future__ import annotations

from ...ir.core import Value
from ...ir.expr import Dim
from ...ir.ops.activation import Silu
from ...ir.ops.arith import Add, Cast, Mul
from ...ir.ops.nn import Conv, LayerNorm, MaxPool
from ...ir.ops.quant import Dequantize
from ...ir.ops.reduce import Sum
from ...ir.ops.shape import Expand, Gather, Iota, Reshape, Transpose
from .contrib import DOMAIN, activated
from .node import Node, converter
from .norm import standardised
from .windows import kernel_shape, read_window

# -- embeddings -----------------------------------------------------------------------------------------------------


@converter("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_normalization(node: Node) -> list[Value | None]:
    """EmbedLayerNormalization: word, position and segment embeddings, their sum normalised; lengths by the mask."""
    tables = [node.optional(i) for i in (2, 3, 4)]
    return _embedded(node, tables, (node.value(5), node.value(6)), positions=8)


@converter("QEmbedLayerNormalization", domain=DOMAIN)
def quantized_embed_layer_normalization(node: Node) -> list[Value | None]:
    """QEmbedLayerNormalization: the same with tables of quantized numbers."""

    def real(index: int, parameters: int) -> Value | None:
        if not node.has(index):
            return None
        scale, zero = node.value(8 + parameters), node.optional(13 + parameters)
        if zero is not None and node.dims_of(zero) != node.dims_of(scale):
            zero = node.make(Reshape, zero, node.dims_of(scale))
        return node.make(Dequantize, node.value(index), scale, zero, 0, 0)

    tables = [real(i, i - 2) for i in (2, 3, 4)]
    gamma, beta = real(5, 3), real(6, 4)
    assert gamma is not None and beta is not None
    return _embedded(node, tables, (gamma, beta), positions=-1)


def _embedded(
    node: Node, tables: list[Value | None], parameters: tuple[Value, Value], positions: int
) -> list[Value | None]:
    words, places, segments = tables
    if words is None or places is None:
        raise node.error("expected word and position embeddings")
    batch, length = node.shape(0)
    total = node.make(Gather, words, node.value(0), 0)
    if positions >= 0 and node.has(positions):
        at = node.value(positions)
    else:
        at = node.make(Iota, (1, length), 1, "i64")
    total = node.make(Add, total, node.make(Gather, places, at, 0))
    if segments is not None and node.has(1):
        total = node.make(Add, total, node.make(Gather, segments, node.value(1), 0))
    y = node.make(LayerNorm, total, *parameters, 2, node.real("epsilon", 1e-12))
    if node.has(7):
        lengths = node.make(Sum, node.make(Cast, node.value(7), "i32"), (1,), False)
    else:
        lengths = node.make(Expand, node.splat(0, "i32"), (batch,))
    return [y, lengths, total]


# -- channels last --------------------------------------------------------------------------------------------------


def _first(node: Node, x: Value) -> Value:
    """Channels before the spatial dimensions."""
    rank = len(node.dims_of(x))
    return node.make(Transpose, x, (0, rank - 1, *range(1, rank - 1)))


def _last(node: Node, x: Value) -> Value:
    """Channels behind the spatial dimensions."""
    rank = len(node.dims_of(x))
    return node.make(Transpose, x, (0, *range(2, rank), 1))


@converter("NhwcConv", "NhwcFusedConv", domain=DOMAIN)
def nhwc_conv(node: Node) -> Value:
    """NhwcConv and NhwcFusedConv: Conv and FusedConv of pictures whose channels come last."""
    x = _first(node, node.value(0))
    w = read_window(node, kernel_shape(node, node.shape(1)[2:], node.rank(0) - 2), node.dims_of(x)[2:])
    operands = (x, node.value(1), node.optional(2))
    y = node.make(Conv, *operands, w.strides, w.pads, w.dilations, node.integer("group", 1))
    if node.has(3):
        y = node.make(Add, y, _first(node, node.value(3)))
    return _last(node, activated(node, y, node.string("activation", ""), node.floats("activation_params", ())))


@converter("NhwcMaxPool", domain=DOMAIN)
def nhwc_max_pool(node: Node) -> Value:
    """NhwcMaxPool: MaxPool of pictures whose channels come last."""
    node.opset = 21
    x = _first(node, node.value(0))
    w = read_window(node, kernel_shape(node, None, node.rank(0) - 2), node.dims_of(x)[2:])
    return _last(node, node.make(MaxPool, x, w.kernel, w.strides, w.pads, w.dilations))


@converter("GroupNorm", "SkipGroupNorm", domain=DOMAIN)
def group_norm(node: Node) -> list[Value]:
    """GroupNorm and SkipGroupNorm: group normalisation (of `x + skip + bias`, which is output 1), perhaps SiLU."""
    x = node.value(0)
    last = node.integer("channels_last", 1) != 0
    if node.op_type == "SkipGroupNorm":
        x = node.make(Add, x, _picture(node, node.value(3), node.rank(0), last))
        x = node.make(Add, x, _picture(node, node.value(4), node.rank(0), last)) if node.has(4) else x
    dims, groups = node.dims_of(x), node.integer("groups")
    rank, channels = len(dims), dims[-1 if last else 1]
    if rank < 3 or not isinstance(channels, int) or groups < 1 or channels % groups:
        raise node.error(f"groups: expected a divisor of {channels} channels, got {groups}")
    each = channels // groups
    epsilon = node.real("epsilon", 1e-5)
    if last:
        grouped: tuple[Dim, ...] = (*dims[:-1], groups, each)
        axes = (*range(1, rank - 1), rank)
    else:
        grouped = (dims[0], groups, each, *dims[2:])
        axes = tuple(range(2, rank + 1))
    y = node.make(Reshape, standardised(node, node.make(Reshape, x, grouped), axes, epsilon), dims)
    gamma, beta = (_picture(node, _as(node, node.value(i), y.tensor.dtype), rank, last) for i in (1, 2))
    y = node.make(Add, node.make(Mul, y, gamma), beta)
    return [node.make(Silu, y) if node.integer("activation") else y, x]


def _as(node: Node, x: Value, dtype: str) -> Value:
    return x if x.tensor.dtype == dtype else node.make(Cast, x, dtype)


def _picture(node: Node, x: Value, rank: int, last: bool) -> Value:
    """A tensor of (channels), (batch, channels), or one that is already a picture, as it broadcasts to a picture."""
    dims = node.dims_of(x)
    if len(dims) == rank:
        return x
    batch = dims[0] if len(dims) == 2 else 1
    ones = (1,) * (rank - 2)
    return node.make(Reshape, x, (batch, *ones, dims[-1]) if last else (batch, dims[-1], *ones))
