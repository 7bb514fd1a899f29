"""Attention of ONNX Runtime's domain (`com.microsoft`): Attention, MultiHeadAttention, GroupQueryAttention and their
rotary embedding, as products, masks and softmax, which passes fuse again.

Heads are dimension 1 of queries, keys and values: [batch, heads, length, head size].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, as_expr, maximum
from ...ir.ops.arith import Add, Cast, Greater, GreaterEqual, Less, LessEqual, Mul, Or, Tanh, Where
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Softmax
from ...ir.ops.quant import Dequantize
from ...ir.ops.shape import Concat, Expand, Gather, GatherElements, Iota, Pad, Reshape, Slice, Transpose
from .calc import Calc, scalar
from .contrib import DOMAIN, rms
from .node import Node, converter
from .scope import Unsupported, simplified

_LOWEST = -3.4028234663852886e38


# -- parts that all forms have in common ----------------------------------------------------------------------------


def part(node: Node, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    """`x[..., start:stop, ...]` along one dimension."""
    dims = node.dims_of(x)
    at = axis % len(dims)
    if start == 0 and stop == dims[at]:
        return x
    starts = tuple(start if i == at else 0 for i in range(len(dims)))
    stops = tuple(stop if i == at else d for i, d in enumerate(dims))
    return node.make(Slice, x, starts, stops, (1,) * len(dims))


def _split(node: Node, x: Value, heads: int) -> Value:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, hidden = node.dims_of(x)
    if not isinstance(hidden, int) or hidden % heads:
        raise node.error(f"num_heads: expected a divisor of {hidden}, got {heads}")
    apart = node.make(Reshape, x, (batch, length, heads, hidden // heads))
    return node.make(Transpose, apart, (0, 2, 1, 3))


def _merged(node: Node, x: Value) -> Value:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = node.dims_of(x)
    turned = node.make(Transpose, x, (0, 2, 1, 3))
    return node.make(Reshape, turned, (batch, length, as_dim(as_expr(heads) * size)))


def _cast(node: Node, x: Value, dtype: str) -> Value:
    return x if x.tensor.dtype == dtype else node.make(Cast, x, dtype)


def _scores(node: Node, q: Value, k: Value, masks: Sequence[Value], softcap: float = 0.0) -> Value:
    """`q k' * scale`, capped, plus masks. Attribute `scale` is, unless given, 1 / sqrt(head size)."""
    size = node.dims_of(q)[-1]
    rank = len(node.dims_of(k))
    turned = node.make(Transpose, k, (*range(rank - 2), rank - 1, rank - 2))
    scale = node.real("scale", 0.0)
    if not scale:
        if not isinstance(size, int):
            raise Unsupported("a head size that is not a number")
        scale = 1 / math.sqrt(size)
    dtype = q.tensor.dtype
    scores = node.make(Mul, node.make(MatMul, q, turned), node.splat(scale, dtype))
    if softcap > 0:
        cap = node.splat(softcap, dtype)
        scores = node.make(Mul, node.make(Tanh, (Calc(node, scores) / softcap).value), cap)
    for mask in masks:
        scores = node.make(Add, scores, _cast(node, mask, dtype))
    return scores


def _causal(node: Node, scores: Value, past: Dim) -> Value:
    """The scores, without those of keys behind a query, which follows `past` earlier ones."""
    dims = node.dims_of(scores)
    queries, keys = dims[-2:]
    row = scalar(node, past, "i64") + Calc(node, node.make(Iota, (queries, 1), 0, "i64"))
    column = node.make(Iota, (1, keys), 1, "i64")
    seen = node.make(LessEqual, column, row.value)
    return node.make(Where, seen, scores, node.splat(_lowest(scores), scores.tensor.dtype))


def _lowest(scores: Value) -> float:
    return _LOWEST if scores.tensor.dtype != "f16" else -65504.0


def _softmax(node: Node, scores: Value, sink: Value | None = None) -> Value:
    """Softmax along the last dimension; `sink` is a score that takes part and is dropped."""
    last = len(node.dims_of(scores)) - 1
    if sink is None:
        return node.make(Softmax, scores, last)
    dims = node.dims_of(scores)
    column = node.make(Expand, sink, (*dims[:-1], 1))
    weights = node.make(Softmax, node.make(Concat, (scores, column), last), last)
    return part(node, weights, -1, 0, dims[-1])


def _padding(node: Node, index: int, batch: Dim, queries: Dim, keys: Dim) -> Value | None:
    """A mask of keys as what is added to scores, [batch, 1, 1 or queries, keys]: `mask_filter_value` where a key is
    masked. Masks say 1 for keys that count, or how many keys do, or where these end and begin."""
    if not node.has(index):
        return None
    mask, dims = node.value(index), node.shape(index)
    zero = node.splat(0, mask.tensor.dtype)
    column = _cast(node, node.make(Iota, (1, keys), 1, "i64"), mask.tensor.dtype)
    match len(dims):
        case 1 if dims[0] == batch:
            masked = node.make(GreaterEqual, column, node.make(Reshape, mask, (batch, 1)))
        case 1 if dims[0] == as_dim(as_expr(batch) * 2):
            end = node.make(Reshape, part(node, mask, 0, 0, batch), (batch, 1))
            begin = node.make(Reshape, part(node, mask, 0, batch, dims[0]), (batch, 1))
            masked = node.make(Or, node.make(GreaterEqual, column, end), node.make(Less, column, begin))
        case 2:
            masked = node.make(LessEqual, mask, zero)
        case 3:
            masked = node.make(LessEqual, mask, zero)
        case _:
            raise Unsupported(f"a mask of shape {list(dims)}")
    filtered = node.splat(node.real("mask_filter_value", -10000.0), "f32")
    value = node.make(Where, masked, filtered, node.splat(0.0, "f32"))
    shape: tuple[Dim, ...] = (*node.dims_of(value)[:1], 1, *((1,) if len(dims) < 3 else (queries,)), keys)
    return node.make(Reshape, value, shape)


def _with_past(node: Node, x: Value, past: Value | None) -> Value:
    """Keys or values behind the earlier ones."""
    return x if past is None else node.make(Concat, (past, x), 2)


# -- Attention ------------------------------------------------------------------------------------------------------


def _attended(node: Node, q: Value, k: Value, v: Value, mask: int, bias: int, past: Dim) -> tuple[Value, Value]:
    """Softmax of masked scores times values, heads side by side; and the scores."""
    batch, _, queries, _ = node.dims_of(q)
    keys = node.dims_of(k)[2]
    masks = [m for m in (_padding(node, mask, batch, queries, keys), node.optional(bias)) if m is not None]
    scores = _scores(node, q, k, masks)
    if node.integer("unidirectional", 0):
        scores = _causal(node, scores, past)
    return _merged(node, node.make(MatMul, _softmax(node, scores), v)), scores


def _shared_buffer(node: Node) -> None:
    if node.integer("past_present_share_buffer", 0):
        raise Unsupported("past and present in one buffer", "export without past_present_share_buffer")


@converter("Attention", domain=DOMAIN)
def attention(node: Node) -> list[Value | None]:
    """Attention: one product makes queries, keys and values of the input; keys and values may have a past."""
    y = node.make(MatMul, node.value(0), node.value(1))
    if node.has(2):
        y = node.make(Add, y, node.value(2))
    return _self_attention(node, y, mask=3, past=4, bias=5)


@converter("QAttention", domain=DOMAIN)
def quantized_attention(node: Node) -> list[Value | None]:
    """QAttention: Attention whose first product is one of quantized matrices."""

    def real(index: int, scale: int, zero: int, axis: int) -> Value:
        step, point = node.value(scale), node.optional(zero)
        if point is not None and node.dims_of(point) != node.dims_of(step):
            point = node.make(Reshape, point, node.dims_of(step))
        return node.make(Dequantize, node.value(index), step, point, axis, 0)

    y = node.make(Add, node.make(MatMul, real(0, 3, 6, 0), real(1, 4, 7, 1)), node.value(2))
    return _self_attention(node, y, mask=5, past=8, bias=9)


def _self_attention(node: Node, y: Value, mask: int, past: int, bias: int) -> list[Value | None]:
    """Attention of `y`, queries, keys and values side by side. The numbers are those of inputs."""
    _shared_buffer(node)
    if node.integer("do_rotary", 0):
        raise Unsupported("do_rotary")
    heads, hidden = node.integer("num_heads"), node.dims_of(y)[-1]
    if not isinstance(hidden, int):
        raise Unsupported("weights of a size that is not a number")
    sizes = node.optional_ints("qkv_hidden_sizes") or [hidden // 3] * 3
    if len(sizes) != 3 or sum(sizes) != hidden:
        raise node.error(f"qkv_hidden_sizes: expected three numbers that sum up to {hidden}, got {sizes}")
    ends = [0, sizes[0], sizes[0] + sizes[1], hidden]
    q, k, v = (_split(node, part(node, y, -1, ends[i], ends[i + 1]), heads) for i in range(3))
    earlier: Dim = 0
    if node.has(past):
        kept = node.shape(past)
        earlier = kept[3]
        halves = [node.make(Reshape, part(node, node.value(past), 0, i, i + 1), kept[1:]) for i in range(2)]
        k, v = _with_past(node, k, halves[0]), _with_past(node, v, halves[1])
    output, _ = _attended(node, q, k, v, mask, bias, earlier)
    present: Value | None = None
    if node.wants(1):
        both = [node.make(Reshape, x, (1, *node.dims_of(x))) for x in (k, v)]
        present = node.make(Concat, tuple(both), 0)
    return [output, present]


# -- MultiHeadAttention ---------------------------------------------------------------------------------------------


@converter("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: Node) -> list[Value | None]:
    """MultiHeadAttention of queries, keys and values, which may come packed, with a bias, and with a past."""
    decoder = node.op_type.startswith("Decoder")
    bias, mask, extra = (10, 3, 4) if decoder else (3, 4, 5)
    _shared_buffer(node)
    if node.has(9 if decoder else 8) or (not decoder and node.has(9)):
        raise Unsupported("cache_indirection and shared buffers")
    q, k, v = _projections(node, node.integer("num_heads"), bias)
    past_key, past_value = (6, 7) if not decoder else (5, 6)
    earlier: Dim = 0
    if node.has(past_key):
        earlier = node.shape(past_key)[2]
        k, v = _with_past(node, k, node.value(past_key)), _with_past(node, v, node.value(past_value))
    output, scores = _attended(node, q, k, v, mask, extra, earlier)
    return [output, k, v, scores]


def _projections(node: Node, heads: int, bias: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values by head, with their biases."""
    parts = [node.value(0), node.optional(1), node.optional(2)]
    if node.rank(0) == 5:  # [batch, length, heads, 3, size]
        parts = _unpacked(node, node.value(0), 3)
    elif parts[1] is None:  # [batch, 1, sizes of all three]
        parts = _side_by_side(node, node.value(0))
    elif node.rank(1) == 5:
        parts[1:] = _unpacked(node, node.value(1), 2)
    given = [p for p in parts if p is not None]
    if len(given) != 3:
        raise node.error("expected queries, keys and values")
    if node.has(bias):
        given = _biased(node, given, node.value(bias))
    q, k, v = (x if len(node.dims_of(x)) == 4 else _split(node, x, heads) for x in given)
    return q, k, v


def _unpacked(node: Node, x: Value, count: int) -> list[Value | None]:
    batch, length, heads, _, size = node.dims_of(x)
    merged = as_dim(as_expr(heads) * size)
    return [node.make(Reshape, part(node, x, 3, i, i + 1), (batch, length, merged)) for i in range(count)]


def _side_by_side(node: Node, x: Value) -> list[Value | None]:
    hidden = node.dims_of(x)[-1]
    if not isinstance(hidden, int) or hidden % 3:
        raise Unsupported("queries, keys and values of different sizes in one input")
    return [part(node, x, -1, i * hidden // 3, (i + 1) * hidden // 3) for i in range(3)]


def _biased(node: Node, parts: Sequence[Value], bias: Value) -> list[Value]:
    """Each of three parts with its share of the bias; keys and values that are split by head already have none."""
    results: list[Value] = []
    at: Dim = 0
    for x in parts:
        dims = node.dims_of(x)
        size = dims[-1] if len(dims) == 3 else as_dim(as_expr(dims[1]) * dims[3])
        end = as_dim(as_expr(at) + size)
        results.append(node.make(Add, x, part(node, bias, 0, at, end)) if len(dims) == 3 else x)
        at = end
    return results


# -- rotary embedding -----------------------------------------------------------------------------------------------


@converter("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(node: Node) -> Value:
    """RotaryEmbedding of [batch, length, hidden] or [batch, heads, length, size] at given positions."""
    x = _apart(node)
    batch, _, length, _ = node.dims_of(x)
    positions = Calc(node, node.value(1))
    if node.rank(1) == 1:
        steps = Calc(node, node.make(Iota, (1, length), 1, "i64"))
        positions = positions.cast("i64").reshaped(1, 1) + steps
        positions = Calc(node, node.make(Expand, positions.value, (batch, length)))
    interleaved = node.integer("interleaved", 0) != 0
    y = rotated(node, x, positions.value, node.value(2), node.value(3), interleaved)
    return _merged(node, y) if node.rank(0) == 3 else y


def _apart(node: Node) -> Value:
    """Input 0 of a rotary embedding with its heads as dimension 1."""
    x = node.value(0)
    if node.rank(0) != 3:
        return x
    hidden, half = node.shape(0)[-1], node.shape(2)[-1]
    if not isinstance(hidden, int) or not isinstance(half, int):
        raise Unsupported("a hidden size that is not a number")
    heads = node.integer("num_heads", 0)
    return _split(node, x, heads if node.integer("rotary_embedding_dim", 0) and heads else hidden // (2 * half))


@converter("MRotaryEmbedding", domain=DOMAIN)
def multimodal_rotary_embedding(node: Node) -> Value:
    """MRotaryEmbedding: three positions of each token (time, row, column), each of which turns some of the pairs."""
    x, (_, half) = _apart(node), node.shape(2)
    sections = node.ints("mrope_section")
    if not isinstance(half, int) or len(sections) != 3 or min(sections) < 0 or sum(sections) != half:
        raise node.error(f"mrope_section: expected three numbers that sum up to {half}, got {sections}")
    if node.integer("mrope_layout", 0):  # in turn, as long as a section lasts; time where it does not
        chosen = [i % 3 if i < 3 * sections[i % 3] else 0 for i in range(half)]
    else:
        chosen = [s for s, size in enumerate(sections) for _ in range(size)]
    which = Calc(node, node.literal(np.array(chosen), "i64"))
    batch, _, length, _ = node.dims_of(x)

    def table(index: int) -> Calc:
        whole = node.make(Gather, node.value(index), node.value(1), 0)  # [3, batch, length, half]
        time, row, column = (Calc(node, part(node, whole, 0, i, i + 1)) for i in range(3))
        return which.equals(0).where(time, which.equals(1).where(row, column)).reshaped(batch, 1, length, half)

    y = _turned(node, x, table(2), table(3), node.integer("interleaved", 0) != 0)
    scale = node.real("scale", 0.0)
    y = y if scale in (0.0, 1.0) else node.make(Mul, y, node.splat(scale, y.tensor.dtype))
    return _merged(node, y) if node.rank(0) == 3 else y


def rotated(node: Node, x: Value, positions: Value, cosines: Value, sines: Value, interleaved: bool) -> Value:
    """[batch, heads, length, size] with its first channels turned in pairs, by the angles of `positions`
    ([batch, length]). Pairs are neighbours (`interleaved`), or the first half with the second."""
    half = node.dims_of(cosines)[-1]
    batch, length = node.dims_of(positions)
    tables = [Calc(node, node.make(Gather, t, positions, 0)).reshaped(batch, 1, length, half) for t in (cosines, sines)]
    return _turned(node, x, tables[0], tables[1], interleaved)


def _turned(node: Node, x: Value, cosine: Calc, sine: Calc, interleaved: bool) -> Value:
    """`rotated` by cosines and sines [batch, 1, length, pairs]."""
    dims, half = node.dims_of(x), node.dims_of(cosine.value)[-1]
    if not isinstance(half, int):
        raise Unsupported("a cache of angles whose size is not a number")
    turning = part(node, x, -1, 0, 2 * half)
    if interleaved:
        pairs = node.make(Reshape, turning, (*dims[:-1], half, 2))
        a, b = (Calc(node, part(node, pairs, -1, i, i + 1)).reshaped(*dims[:-1], half) for i in range(2))
        turned = (a * cosine - b * sine, b * cosine + a * sine)
        sides = tuple(t.reshaped(*dims[:-1], half, 1).value for t in turned)
        y = node.make(Reshape, node.make(Concat, sides, 4), (*dims[:-1], 2 * half))
    else:
        a, b = (Calc(node, part(node, turning, -1, i * half, (i + 1) * half)) for i in range(2))
        y = node.make(Concat, ((a * cosine - b * sine).value, (b * cosine + a * sine).value), 3)
    return y if dims[-1] == 2 * half else node.make(Concat, (y, part(node, x, -1, 2 * half, dims[-1])), 3)


# -- GroupQueryAttention --------------------------------------------------------------------------------------------


@converter("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(node: Node) -> list[Value | None]:
    """GroupQueryAttention: groups of query heads share keys and values, which are added to a cache. The cache may be
    longer than what it holds; `seqlens_k` is, for each element of the batch, how many keys there are, less one."""
    _check_plain(node)
    heads, shared = node.integer("num_heads"), node.integer("kv_num_heads")
    q, k, v = _grouped(node, heads, shared)
    batch, _, length, size = node.dims_of(q)
    node.binding = True
    (total,) = node.dims(6, "total_sequence_length")
    past = _past_lengths(node, batch, length, total)
    if node.has(14) or node.has(15):
        epsilons = [node.real(f"{n}_norm_epsilon", node.real("qk_norm_epsilon", 1e-6)) for n in "qk"]
        q, k = rms(node, q, node.optional(14), epsilons[0]), rms(node, k, node.optional(15), epsilons[1])
    if node.integer("do_rotary", 0):
        q, k = _rotary(node, q, k, past)
    k, v = _cached(node, k, node.optional(3), past, total), _cached(node, v, node.optional(4), past, total)
    keys = node.dims_of(k)[2]
    grouped = node.make(Reshape, q, (batch, shared, heads // shared, length, size))
    wide = [node.make(Reshape, x, (batch, shared, 1, keys, node.dims_of(x)[-1])) for x in (k, v)]
    scores = _scores(node, grouped, wide[0], _added(node, shared, heads // shared, keys), node.real("softcap", 0.0))
    scores = _window(node, scores, past)
    sink: Value | None = None
    if node.has(11):
        sink = node.make(Reshape, node.value(11), (1, shared, heads // shared, 1, 1))
    elif node.integer("smooth_softmax", -1) == 1:
        sink = node.splat(0.0, scores.tensor.dtype, (1, 1, 1, 1, 1))
    y = node.make(MatMul, _softmax(node, scores, sink), wide[1])
    output = _merged(node, node.make(Reshape, y, (batch, heads, length, node.dims_of(y)[-1])))
    return [output, k, v, None]


def _check_plain(node: Node) -> None:
    """Raise `Unsupported` for forms of GroupQueryAttention that are not there."""
    for name in ("k_quant_type", "v_quant_type"):
        if node.string(name, "NONE") != "NONE":
            raise Unsupported(f"a quantized cache ({name})")
    if node.integer("sliding_window_cache", 0):
        raise Unsupported("sliding_window_cache")
    if node.has(16):
        raise Unsupported("query_seqlens")


def _grouped(node: Node, heads: int, shared: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values by head."""
    if node.has(1):
        k, v = node.value(1), node.value(2)
        return _split(node, node.value(0), heads), _split(node, k, shared), _split(node, v, shared)
    hidden = node.shape(0)[-1]
    if not isinstance(hidden, int) or hidden % (heads + 2 * shared):
        raise node.error(f"expected a multiple of {heads + 2 * shared} channels, got {hidden}")
    size = hidden // (heads + 2 * shared)
    ends = [0, heads * size, (heads + shared) * size, hidden]
    q, k, v = (part(node, node.value(0), -1, ends[i], ends[i + 1]) for i in range(3))
    return _split(node, q, heads), _split(node, k, shared), _split(node, v, shared)


def _past_lengths(node: Node, batch: Dim, length: Dim, total: Dim) -> Calc:
    """How many keys each element of the batch had before, [batch, 1]: none where all keys are new."""
    ends = Calc(node, node.value(5)).cast("i64").reshaped(batch, 1)
    if total == length:
        return Calc(node, node.make(Expand, node.splat(0, "i64"), (batch, 1)))
    first = scalar(node, total, "i64").equals(scalar(node, length, "i64"))
    return first.where(ends - ends, ends + 1 - scalar(node, length, "i64"))


def _rotary(node: Node, q: Value, k: Value, past: Calc) -> tuple[Value, Value]:
    batch, _, length, _ = node.dims_of(q)
    if node.has(9):
        positions = node.make(Expand, node.value(9), (batch, length))
    else:
        positions = (past + Calc(node, node.make(Iota, (1, length), 1, "i64"))).value
    interleaved = node.integer("rotary_interleaved", 0) != 0
    cosines, sines = node.value(7), node.value(8)
    return tuple(rotated(node, x, positions, cosines, sines, interleaved) for x in (q, k))  # type: ignore[return-value]


def _cached(node: Node, new: Value, cache: Value | None, past: Calc, total: Dim) -> Value:
    """The cache with new keys or values behind the `past` ones of each element of the batch."""
    batch, heads, length, size = node.dims_of(new)
    room = 0 if cache is None else node.dims_of(cache)[2]
    if room == 0 and total == length:
        return new
    keys = simplified(maximum(total, room))
    if batch == 1 and total == as_dim(as_expr(room) + length):
        assert cache is not None
        return node.make(Concat, (cache, new), 2)
    place = Calc(node, node.make(Iota, (1, keys), 1, "i64")) - past  # in the new ones
    last = scalar(node, length, "i64") - 1
    wide: tuple[Dim, ...] = (batch, heads, keys, size)
    at = place.maximum(0).minimum(last).reshaped(batch, 1, keys, 1)
    y = node.make(GatherElements, new, node.make(Expand, at.value, wide), 2)
    zero = node.splat(0.0, new.tensor.dtype)
    old = zero
    if cache is not None:
        more = as_dim(as_expr(keys) - room)
        old = cache if more == 0 else node.make(Pad, cache, None, ((0, 0), (0, 0), (0, more), (0, 0)), "constant")
        before = (place < 0).reshaped(batch, 1, keys, 1)
        old = node.make(Where, before.value, old, zero)
    inside = (place.clamped(0, last)).equals(place).reshaped(batch, 1, keys, 1)
    return node.make(Where, inside.value, y, old)


def _added(node: Node, shared: int, group: int, keys: Dim) -> list[Value]:
    """The attention bias by group."""
    if not node.has(10):
        return []
    batch, heads, queries, columns = node.shape(10)
    bias = node.value(10)
    more = as_dim(as_expr(keys) - columns)
    if more != 0:
        bias = node.make(Pad, bias, None, ((0, 0), (0, 0), (0, 0), (0, more)), "constant")
    apart = (1, 1) if heads == 1 else (shared, group)
    return [node.make(Reshape, bias, (batch, *apart, queries, keys))]


def _window(node: Node, scores: Value, past: Calc) -> Value:
    """The scores without those of keys behind a query, or too far before it."""
    batch, _, _, queries, keys = node.dims_of(scores)
    row = past + Calc(node, node.make(Iota, (1, queries), 1, "i64"))
    row = row.reshaped(batch, 1, 1, queries, 1)
    column = node.make(Iota, (1, 1, 1, 1, keys), 4, "i64")
    lowest = node.splat(_lowest(scores), scores.tensor.dtype)
    if node.integer("causal", 1):
        scores = node.make(Where, node.make(LessEqual, column, row.value), scores, lowest)
    else:
        ends = Calc(node, node.value(5)).cast("i64").reshaped(batch, 1, 1, 1, 1)
        scores = node.make(Where, node.make(LessEqual, column, ends.value), scores, lowest)
    window = node.integer("local_window_size", -1)
    if window > 0:
        near = node.make(Greater, column, (row - window).value)
        scores = node.make(Where, near, scores, lowest)
    return scores
