"""Batches without padding (`com.microsoft`: RemovePadding, RestorePadding, PackedAttention, PackedMultiHeadAttention),
and biases by relative position (RelativePositionBias, GatedRelativePositionBias).

The tokens of all sequences of a batch stand one behind the other. A token attends to those of its own sequence: the
same products as for a batch, with a mask. Source: ONNX Runtime's ContribOperators documentation (no CPU kernels).
"""

from __future__ import annotations

import math

from ...ir.core import Value
from ...ir.expr import as_dim, as_expr
from ...ir.ops.arith import Add, Cast, Log, Sigmoid, Where
from ...ir.ops.cumulative import CumSum
from ...ir.ops.host.tensors import NonZero
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Softmax
from ...ir.ops.reduce import Max, Sum
from ...ir.ops.shape import Concat, Expand, Gather, GatherND, Pad, Reshape, ScatterElements, Transpose
from .calc import Calc
from .contrib import DOMAIN
from .contrib_attention import part
from .node import Node, converter
from .scope import Unsupported

# -- padding --------------------------------------------------------------------------------------------------------


@converter("RemovePadding", domain=DOMAIN)
def remove_padding(node: Node) -> list[Value]:
    """RemovePadding: the tokens that are none; where all stood, those first; cumulated and largest lengths."""
    batch, length, hidden = node.shape(0)
    counts = Calc(node, node.value(1)).cast("i64")
    column = Calc.iota(node, length, "i64").reshaped(1, length)
    real = (column < counts.reshaped(batch, 1)).reshaped(as_dim(as_expr(batch) * length))
    tokens, rest = _places(node, real, "tokens"), _places(node, ~real, "padding")
    flat = node.make(Reshape, node.value(0), (as_dim(as_expr(batch) * length), hidden))
    offsets = node.make(Reshape, node.make(Concat, (tokens, rest), 0), (batch, length))
    total = node.make(CumSum, counts.value, 0, False, False)
    kind = node.type(1).dtype
    cumulated = node.make(Pad, total, None, ((1, 0),), "constant")
    largest = node.make(Reshape, node.make(Max, counts.value, (0,), True), (1,))
    return [node.make(Gather, flat, tokens, 0), *(node.make(Cast, v, kind) for v in (offsets, cumulated, largest))]


def _places(node: Node, mask: Calc, what: str) -> Value:
    """Where a vector is true."""
    found = node.host(NonZero, mask.value, (node.size(what),))[0]
    return node.make(Reshape, found, (node.dims_of(found)[1],))


@converter("RestorePadding", domain=DOMAIN)
def restore_padding(node: Node) -> Value:
    """RestorePadding: tokens where they stood, zeros elsewhere."""
    (count, hidden), (batch, length) = node.shape(0), node.shape(1)
    places = as_dim(as_expr(batch) * length)
    offsets = Calc(node, part(node, node.make(Reshape, node.value(1), (places,)), 0, 0, count)).cast("i64")
    index = node.make(Expand, offsets.reshaped(count, 1).value, (count, hidden))
    zeros = node.make(Expand, node.splat(0.0, node.type(0).dtype), (places, hidden))
    return node.make(Reshape, node.make(ScatterElements, zeros, index, node.value(0), 0), (batch, length, hidden))


# -- attention ------------------------------------------------------------------------------------------------------


@converter("PackedAttention", domain=DOMAIN)
def packed_attention(node: Node) -> Value:
    """PackedAttention: projections, and attention within each sequence."""
    x = node.make(Add, node.make(MatMul, node.value(0), node.value(1)), node.value(2))
    hidden = node.dims_of(x)[1]
    if not isinstance(hidden, int):
        raise Unsupported("a hidden size that is not a number")
    sizes = node.ints("qkv_hidden_sizes", [hidden // 3] * 3)
    ends = [sum(sizes[: i + 1]) for i in range(3)]
    q, k, v = (part(node, x, 1, end - size, end) for size, end in zip(sizes, ends, strict=True))
    return _attended(node, [q, k, v], offsets=3, lengths=4, bias=5)


@converter("PackedMultiHeadAttention", domain=DOMAIN)
def packed_multi_head_attention(node: Node) -> Value:
    """PackedMultiHeadAttention: attention within each sequence."""
    parts = _projected(node)
    if node.has(3):
        at = 0
        for i, x in enumerate(parts):
            hidden = node.dims_of(x)[1]
            if not isinstance(hidden, int):
                raise Unsupported("a hidden size that is not a number")
            parts[i] = node.make(Add, x, part(node, node.value(3), 0, at, at + hidden))
            at += hidden
    return _attended(node, parts, offsets=4, lengths=5, bias=6)


def _projected(node: Node) -> list[Value]:
    """Queries, keys and values [tokens, hidden]."""
    if node.has(1):
        return [node.value(i) for i in range(3)]
    count, heads, three, size = node.shape(0)
    if three != 3:
        raise node.error(f"query: expected [tokens, heads, 3, size], got {node.type(0)}")
    hidden = as_dim(as_expr(heads) * size)
    return [node.make(Reshape, part(node, node.value(0), 2, i, i + 1), (count, hidden)) for i in range(3)]


def _attended(node: Node, parts: list[Value], offsets: int, lengths: int, bias: int) -> Value:
    """Attention of queries, keys and values [tokens, hidden], within the sequences that input `lengths` cumulates.
    Input `bias` is added to the scores, by places in the batch with its padding, whose shape input `offsets` has.
    """
    heads, count = node.integer("num_heads"), node.dims_of(parts[0])[0]
    apart: list[Value] = []
    for x in parts:
        hidden = node.dims_of(x)[1]
        if not isinstance(hidden, int) or hidden % heads:
            raise node.error(f"num_heads: expected a divisor of {hidden}, got {heads}")
        apart.append(node.make(Transpose, node.make(Reshape, x, (count, heads, hidden // heads)), (1, 0, 2)))
    q, k, v = apart
    size = node.dims_of(q)[2]
    scale = node.real("scale", 0.0) or 1 / math.sqrt(int(str(size)))
    scores = Calc(node, node.make(MatMul, q, node.make(Transpose, k, (0, 2, 1)))) * scale
    ends = Calc(node, part(node, node.value(lengths), 0, 1, node.shape(lengths)[0])).cast("i64")
    token = Calc.iota(node, count, "i64")
    passed = (token.reshaped(count, 1) >= ends.reshaped(1, node.dims_of(ends.value)[0])).cast("i64")
    sequence = Calc(node, node.make(Sum, passed.value, (1,), False))
    if node.has(bias):
        scores = scores + _by_place(node, bias, offsets, sequence, token - _begins(node, lengths, sequence))
    same = sequence.reshaped(count, 1).equals(sequence.reshaped(1, count))
    lowest = node.splat(-65504.0 if scores.dtype == "f16" else -3e38, scores.dtype)
    weights = node.make(Softmax, node.make(Where, same.value, scores.value, lowest), 2)
    y = node.make(Transpose, node.make(MatMul, weights, v), (1, 0, 2))
    return node.make(Reshape, y, (count, as_dim(as_expr(node.dims_of(v)[2]) * heads)))


def _begins(node: Node, lengths: int, sequence: Calc) -> Calc:
    """Where the sequence of each token begins."""
    return Calc(node, node.make(Gather, Calc(node, node.value(lengths)).cast("i64").value, sequence.value, 0))


def _by_place(node: Node, bias: int, offsets: int, sequence: Calc, place: Calc) -> Calc:
    """The bias [batch or 1, heads or 1, length, length] of each pair of tokens: [heads or 1, tokens, tokens]."""
    (batch, heads, _, _), (count,) = node.shape(bias), node.dims_of(place.value)
    if heads not in (1, node.integer("num_heads")) or batch not in (1, node.shape(offsets)[0]):
        raise node.error(f"attention_bias: expected [batch or 1, heads or 1, length, length], got {node.type(bias)}")
    own = sequence * 0 if batch == 1 else sequence
    columns = [
        node.make(Expand, c.value, (count, count, 1))
        for c in (own.reshaped(count, 1, 1), place.reshaped(count, 1, 1), place.reshaped(1, count, 1))
    ]
    whole = node.make(Transpose, node.value(bias), (0, 2, 3, 1))
    found = node.make(GatherND, whole, node.make(Concat, tuple(columns), 2), 0)
    return Calc(node, node.make(Transpose, found, (2, 0, 1)))


# -- biases ---------------------------------------------------------------------------------------------------------


@converter("RelativePositionBias", domain=DOMAIN)
def relative_position_bias(node: Node) -> Value:
    """RelativePositionBias: T5's bias for each distance of a key from a query, in buckets whose size grows."""
    (buckets, heads), farthest = node.shape(0), node.integer("max_distance")
    (queries,), (keys,) = node.dims(1, "query_length"), node.dims(2, "key_length")
    if not isinstance(buckets, int):
        raise Unsupported("a number of buckets that is not known")
    distance = Calc.iota(node, keys, "i64").reshaped(1, keys) - Calc.iota(node, queries, "i64").reshaped(queries, 1)
    first = distance * 0
    if node.integer("is_bidirectional", 0):
        buckets //= 2
        first = (distance > 0).cast("i64") * buckets
        distance = distance.abs()
    else:
        distance = -distance.minimum(0)
    exact = buckets // 2
    ratio = Calc(node, node.make(Log, (distance.cast("f32") / exact).maximum(1e-6).value))
    grown = (ratio / math.log(farthest / exact) * (buckets - exact)).cast("i64") + exact
    bucket = first + (distance < exact).where(distance, grown.minimum(buckets - 1))
    table = node.make(Reshape, node.value(0), (heads, node.shape(0)[0]))  # it stands transposed under its shape
    return node.make(Reshape, node.make(Gather, table, bucket.value, 1), (1, heads, queries, keys))


@converter("GatedRelativePositionBias", domain=DOMAIN)
def gated_relative_position_bias(node: Node) -> Value:
    """GatedRelativePositionBias: a bias by relative position, times what two gates say of each query."""
    if node.has(6):
        raise Unsupported("token_offset: queries without padding", "restore the padding before")
    heads, (batch, length, hidden) = node.integer("num_heads"), node.shape(0)
    if not isinstance(hidden, int) or hidden % heads:
        raise node.error(f"num_heads: expected a divisor of {hidden}, got {heads}")
    x = node.make(Reshape, node.make(Add, node.value(0), node.value(1)), (batch, length, heads, hidden // heads))
    gates = node.make(MatMul, node.make(Transpose, x, (0, 2, 1, 3)), node.value(3))
    gates = node.make(Add, gates, node.value(4))
    half = as_expr(node.shape(3)[1]) // 2
    apart = node.make(Reshape, gates, (batch, heads, length, 2, as_dim(half)))
    both = node.make(Sigmoid, node.make(Sum, apart, (4,), False))
    u, r = (Calc(node, part(node, both, 3, i, i + 1)) for i in range(2))
    return ((u * (r * Calc(node, node.value(5)) - 1.0) + 2.0) * Calc(node, node.value(2))).value
