"""Scaled dot-product attention: products, masks and a softmax, which passes fuse again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.expr import Dim
from .base import Build, Item, Unsupported, aten, kind_of
from .matrix import linear
from .norm import layer_norm
from .pointwise import add
from .reduce import softmax


@aten("scaled_dot_product_attention")
def attention(
    b: Build, query: Item, key: Item, value: Item, attn_mask: Item | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Item:  # fmt: skip
    """[..., heads, length, head size]; a mask is added, or (bool) says which keys count. Rows of which no key counts
    are 0, as in PyTorch."""
    if dropout_p:
        raise Unsupported("dropout in attention", "call module.eval() before exporting")
    size = b.shape(query)[-1]
    if scale is None:
        if not isinstance(size, int):
            raise Unsupported("a head size that is not known")
        scale = 1 / math.sqrt(size)
    heads = b.shape(query)[-3] if b.rank(query) > 2 else 1
    grouped = enable_gqa and b.shape(key)[-3] != heads
    if grouped:
        query, key, value, attn_mask = _grouped(b, query, key, value, attn_mask)
    scores = b.op("Mul", b.op("MatMul", query, b.turned(key)), b.a.like(float(scale), query))
    empty = False
    if attn_mask is not None:
        scores, empty = _masked(b, scores, attn_mask)
    if is_causal:
        scores = _causal(b, scores)
    weights = softmax(b, scores, -1)
    if empty and attn_mask is not None:
        some = b.op("ReduceMax", b.cast(attn_mask, "i32"), b.vector([b.rank(attn_mask) - 1]), keepdims=1)
        weights = b.op("Where", b.cast(some, "bool"), weights, b.a.like(0.0, weights))
    y = b.op("MatMul", weights, value)
    if not grouped:
        return y
    *first, _, _, length, width = b.shape(y)
    return b.reshape(y, (*first, heads, length, width))


def _grouped(b: Build, query: Item, key: Item, value: Item, mask: Item | None) -> tuple[Item, Item, Item, Item | None]:
    """Queries with a dimension for those that share keys: [..., key heads, queries per key, length, size]."""
    *first, heads, length, size = b.shape(query)
    own = b.shape(key)[-3]
    if not isinstance(heads, int) or not isinstance(own, int) or heads % own:
        raise Unsupported(f"{heads} heads of queries for {own} of keys")
    query = b.reshape(query, (*first, own, heads // own, length, size))
    key, value = (b.unsqueeze(v, b.rank(v) - 2) for v in (key, value))
    if mask is not None and b.rank(mask) > 2:
        dims = b.shape(mask)
        split: tuple[Dim, ...] = (own, heads // own) if dims[-3] == heads else (dims[-3], 1)
        mask = b.reshape(mask, (*dims[:-3], *split, *dims[-2:]))
    return query, key, value, mask


def _masked(b: Build, scores: Item, mask: Item) -> tuple[Item, bool]:
    """The scores with a mask, and whether rows may be empty: a row of -inf has no softmax."""
    if kind_of(b.dtype(mask)) == "float":
        return add(b, scores, b.cast(mask, b.dtype(scores))), False
    # The lowest number instead of -inf gives the same weights wherever some key counts.
    lowest = float(np.finfo(np.float16).min) if b.dtype(scores) == "f16" else -3.4028234663852886e38
    masked = b.op("Where", b.cast(mask, "bool"), scores, b.a.like(lowest, scores))
    return masked, not _sure(b, mask)


def _sure(b: Build, mask: Item) -> bool:
    """Whether a mask is known to have a key for every query."""
    known = b.a.array(mask, 1 << 22)
    return known is not None and bool(known.any(axis=-1).all())


def _causal(b: Build, scores: Item) -> Item:
    """The scores without those of keys behind the query."""
    queries, keys = b.shape(scores)[-2:]
    row, column = (b.op("Range", b.tensor(0, "i64"), b.tensor(n, "i64"), b.tensor(1, "i64")) for n in (queries, keys))
    seen = b.op("LessOrEqual", b.unsqueeze(column, 0), b.unsqueeze(row, 1))
    lowest = float(np.finfo(np.float16).min) if b.dtype(scores) == "f16" else -3.4028234663852886e38
    return b.op("Where", seen, scores, b.a.like(lowest, scores))


@aten("_scaled_dot_product_flash_attention_for_cpu")
def flash_attention(
    b: Build, query: Item, key: Item, value: Item, dropout_p: float = 0.0, is_causal: bool = False,
    attn_mask: Item | None = None, scale: float | None = None,
) -> list[Item | None]:  # fmt: skip
    return [attention(b, query, key, value, attn_mask, dropout_p, is_causal, scale), None]


@aten("_scaled_dot_product_attention_math")
def attention_math(
    b: Build, query: Item, key: Item, value: Item, attn_mask: Item | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, dropout_mask: Item | None = None, scale: float | None = None, enable_gqa: bool = False,
) -> list[Item | None]:  # fmt: skip
    return [attention(b, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa), None]


@aten("_native_multi_head_attention")
def multi_head(
    b: Build, query: Item, key: Item, value: Item, embed_dim: int, num_head: int, qkv_weight: Item, qkv_bias: Item,
    proj_weight: Item, proj_bias: Item, mask: Item | None = None, need_weights: bool = True,
    average_attn_weights: bool = True, mask_type: int | None = None,
) -> list[Item | None]:  # fmt: skip
    """The fast path of nn.MultiheadAttention."""
    if need_weights:
        raise Unsupported("attention weights as a result", "call with need_weights=False")
    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    return [_heads(b, (query, key, value), embed_dim, num_head, projections, mask, mask_type), None]


def _heads(
    b: Build, inputs: Sequence[Item], size: int, heads: int, projections: Sequence[Item], mask: Item | None,
    mask_type: int | None,
) -> Item:  # fmt: skip
    """Attention with its projections. `mask` is true where a key does not count: of shape [length, length] (type 0),
    [batch, length] (type 1) or both together."""
    qkv_weight, qkv_bias, proj_weight, proj_bias = projections
    batch, length, _ = b.shape(inputs[0])
    parts: list[Item] = []
    for i, x in enumerate(inputs):
        low, high = i * size, (i + 1) * size
        y = linear(b, x, b.slice(qkv_weight, 0, low, high), b.slice(qkv_bias, 0, low, high))
        split = b.reshape(y, (batch, b.shape(x)[1], heads, size // heads))
        parts.append(b.permute(split, [0, 2, 1, 3]))
    allowed = None
    if mask is not None:
        additive = kind_of(b.dtype(mask)) == "float"
        allowed = mask if additive else b.op("Not", b.cast(mask, "bool"))
        if mask_type == 1:
            allowed = b.reshape(allowed, (batch, 1, 1, b.shape(allowed)[-1]))
    y = attention(b, *parts, attn_mask=allowed)
    return linear(b, b.reshape(b.permute(y, [0, 2, 1, 3]), (batch, length, size)), proj_weight, proj_bias)


@aten("_transformer_encoder_layer_fwd")
def encoder_layer(
    b: Build, src: Item, embed_dim: int, num_heads: int, qkv_weight: Item, qkv_bias: Item, proj_weight: Item,
    proj_bias: Item, use_gelu: bool, norm_first: bool, eps: float, norm_weight_1: Item, norm_bias_1: Item,
    norm_weight_2: Item, norm_bias_2: Item, ffn_weight_1: Item, ffn_bias_1: Item, ffn_weight_2: Item, ffn_bias_2: Item,
    mask: Item | None = None, mask_type: int | None = None,
) -> Item:  # fmt: skip
    """The fast path of nn.TransformerEncoderLayer."""
    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)

    def norm(x: Item, weight: Item, bias: Item) -> Item:
        return layer_norm(b, x, [embed_dim], weight, bias, eps)

    def attended(x: Item) -> Item:
        return _heads(b, (x, x, x), embed_dim, num_heads, projections, mask, mask_type)

    def fed(x: Item) -> Item:
        wide = linear(b, x, ffn_weight_1, ffn_bias_1)
        return linear(b, b.op("Gelu" if use_gelu else "Relu", wide), ffn_weight_2, ffn_bias_2)

    if norm_first:
        x = b.op("Add", src, attended(norm(src, norm_weight_1, norm_bias_1)))
        return b.op("Add", x, fed(norm(x, norm_weight_2, norm_bias_2)))
    x = norm(b.op("Add", src, attended(src)), norm_weight_1, norm_bias_1)
    return norm(b.op("Add", x, fed(x)), norm_weight_2, norm_bias_2)


__all__ = ["attention"]
