"""Attention: products, masks and a softmax, which passes join into one kernel; masks; the cache of keys and values."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.assume import assume_equal
from ...ir.expr import Dim, as_dim, as_expr
from ...ir.ops.shape import Iota
from ..assembly import Item
from .layers import LOWEST, Net, heads


def attend(
    n: Net, q: Item, k: Item, v: Item, *, scale: float, mask: Item | None = None, softcap: float = 0.0
) -> Item:  # fmt: skip
    """`softmax(q k' * scale + mask) v`, heads side by side: [batch, queries, heads * size].

    Queries are [batch, heads, queries, size], keys and values [batch, shared, keys, size]: heads / shared heads of
    queries have the same keys. The mask is added, [batch or 1, 1 or heads, 1 or queries, keys].
    """
    batch, count, queries, size = n.dims(q)
    shared, keys = n.dims(k)[1:3]
    assert isinstance(count, int) and isinstance(shared, int)
    group, apart = count // shared, False
    if shared != count:
        # Heads of one query that share keys are the rows of one product; those of many queries are apart.
        apart = queries != 1
        rows = [batch, shared, group, queries, size] if apart else [batch, shared, group, size]
        q = n.leaf("grouped", "Reshape", lambda: n.a.op("Reshape", q, rows), q)
    if apart:
        k, v = (
            n.leaf("shared", "Reshape", lambda x=x: n.a.op("Reshape", x, [batch, shared, 1, keys, n.width(x)]), x)
            for x in (k, v)
        )
        if mask is not None:
            assert n.dims(mask)[1] == 1, "masks of heads that share keys are the same"
            mask = n.op("mask", "Unsqueeze", mask, [2])
    y = n.leaf("context", "MatMul", lambda: n.a.op("MatMul", _weights(n, q, k, scale, mask, softcap), v), v)
    if apart:
        y = n.op("ungrouped", "Reshape", y, [batch, count, queries, n.width(v)])
    merged = [batch, queries, count * n.width(v)]
    if queries == 1:
        return n.op("merged", "Reshape", y, merged)
    return n.leaf("merged", "Heads", lambda: n.a.op("Reshape", n.a.op("Transpose", y, perm=[0, 2, 1, 3]), merged), y)


def _weights(n: Net, q: Item, k: Item, scale: float, mask: Item | None, softcap: float) -> Item:
    """Softmax of scaled, capped and masked scores."""
    rank = len(n.dims(k))
    order = [*range(rank - 2), rank - 1, rank - 2]

    def scores() -> Item:
        y = n.a.op("MatMul", q, n.a.op("Transpose", k, perm=order))
        if scale != 1.0:
            y = n.a.op("Mul", y, n.a.like(scale, y))
        if softcap:
            y = n.a.op("Tanh", n.a.op("Div", y, n.a.like(softcap, y)))
            y = n.a.op("Mul", y, n.a.like(softcap, y))
        return y if mask is None else n.a.op("Add", y, mask)

    return n.op("softmax", "Softmax", n.leaf("scores", "MatMul", scores, q, k), axis=-1)


def padding_mask(n: Net, mask: Item) -> Item:
    """What is added to scores: 0 where `mask` (i64[batch, keys]) is 1, the lowest number where it is 0; [batch, 1, 1,
    keys]."""
    batch, keys = n.dims(mask)

    def build() -> Item:
        masked = n.a.op("Where", n.a.op("Equal", mask, n.a.like(0, mask)), *_bounds(n))
        return n.a.op("Reshape", masked, [batch, 1, 1, keys])

    return n.leaf("attention_mask.added", "Mask", build, mask)


def causal_mask(n: Net, mask: Item | None, queries: Dim, past: Dim = 0, window: int | None = None) -> Item | None:
    """The same for queries that see only themselves and what is before them: [batch or 1, 1, queries or 1, past +
    queries]. `past` keys come before the first query; with `window` only so many keys are seen, the own one counted.
    None where everything is seen."""
    keys = as_dim(as_expr(past) + queries)
    if mask is not None:
        assume_equal(n.dims(mask)[1], keys)
    if queries == 1 and window is None:
        return None if mask is None else padding_mask(n, mask)

    def build() -> Item:
        row = n.a.make(Iota, (queries, 1), 0, "i64")
        if past != 0:
            row = n.a.op("Add", row, n.a.sizes([past]))
        column = n.a.make(Iota, (1, keys), 1, "i64")
        seen = n.a.op("LessOrEqual", column, row)
        if window is not None:
            near = n.a.op("Less", n.a.op("Sub", row, column), n.a.scalar(window, "i64"))
            seen = n.a.op("And", seen, near)
        seen = n.a.op("Reshape", seen, [1, 1, queries, keys])
        if mask is not None:
            there = n.a.op("Not", n.a.op("Equal", mask, n.a.like(0, mask)))
            seen = n.a.op("And", seen, n.a.op("Reshape", there, [n.dims(mask)[0], 1, 1, keys]))
        zero_last = _bounds(n)
        return n.a.op("Where", seen, zero_last[1], zero_last[0])

    name = "causal_mask" if window is None else f"causal_mask_{window}"
    return n.leaf(name, "Mask", build, *([] if mask is None else [mask]))


def _bounds(n: Net) -> tuple[Item, Item]:
    return n.a.scalar(LOWEST, "f32"), n.a.scalar(0.0, "f32")


def self_attention(n: Net, parts: Sequence[Item], count: int, mask: Item | None, scale: float | None = None) -> Item:
    """Attention of queries, keys and values [batch, length, hidden], each of `count` heads."""
    q, k, v = (heads(n, name, x, count) for name, x in zip("qkv", parts, strict=True))
    return attend(n, q, k, v, scale=n.width(q) ** -0.5 if scale is None else scale, mask=mask)


def appended(n: Net, name: str, past: Item | None, new: Item) -> Item:
    """New keys or values [batch, heads, length, size] behind earlier ones."""
    return new if past is None else n.op(name, "Concat", past, new, axis=2)


__all__ = ["appended", "attend", "causal_mask", "padding_mask", "self_attention"]
