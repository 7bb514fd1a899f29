"""Learned biases of attention by how far a key is from a query, in buckets that grow with the distance (T5, MPNet)."""

from __future__ import annotations

import math

import numpy as np

from ...ir.expr import Dim
from ...ir.ops.shape import Iota
from ..assembly import Item
from .layers import Net


def position_bias(
    n: Net, name: str, heads: int, queries: Dim, keys: Dim, start: Dim = 0, *, buckets: int = 32, furthest: int = 128,
    both_ways: bool = True,
) -> Item:  # fmt: skip
    """What is added to scores, [1, heads, queries, keys]. The first query stands at position `start` of the keys."""
    weight = n.weight(f"{name}.weight", (buckets, heads))
    numbers = bucket_numbers(buckets, furthest, both_ways)

    def build() -> Item:
        a = n.a
        by_distance = a.op("Gather", weight, numbers, axis=0)  # [2 * furthest + 1, heads]
        row = a.make(Iota, (queries, 1), 0, "i64")
        if start != 0:
            row = a.op("Add", row, a.sizes([start]))
        distance = a.op("Sub", a.make(Iota, (1, keys), 1, "i64"), row)
        near = a.op("Clip", distance, a.scalar(-furthest, "i64"), a.scalar(furthest, "i64"))
        found = a.op("Gather", by_distance, a.op("Add", near, a.scalar(furthest, "i64")), axis=0)
        return a.op("Reshape", a.op("Transpose", found, perm=[2, 0, 1]), [1, heads, queries, keys])

    return n.leaf(name, "PositionBias", build)


def bucket_numbers(buckets: int, furthest: int, both_ways: bool) -> np.ndarray:
    """The bucket of every distance (key minus query) from -furthest to furthest, beyond which it stays the same.

    Half of the buckets are for one distance each, the others for ranges that grow in proportion. With `both_ways` keys
    behind the query have buckets of their own; else all of them have bucket 0. In f32, as transformers computes it.
    """
    distance = np.arange(-furthest, furthest + 1)
    if both_ways:
        buckets //= 2
        offset, away = np.where(distance > 0, buckets, 0), np.abs(distance)
    else:
        offset, away = np.zeros_like(distance), -np.minimum(distance, 0)
    exact = buckets // 2
    far = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(furthest / exact))
    wide = exact + (far * np.float32(buckets - exact)).astype(np.int64)
    return offset + np.where(away < exact, away, np.minimum(wide, buckets - 1))


__all__ = ["bucket_numbers", "position_bias"]
