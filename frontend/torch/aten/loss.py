"""Losses, which some models compute beside their results."""

from __future__ import annotations

from typing import Any

from .base import Build, Item, Unsupported, aten
from .pointwise import mul, sub
from .reduce import log_softmax, mean, sum_


def _taken(b: Build, x: Item, reduction: int) -> Item:
    return x if reduction == 0 else mean(b, x) if reduction == 1 else sum_(b, x)


@aten("mse_loss")
def mse_loss(b: Build, x: Item, target: Item, reduction: int = 1) -> Item:
    difference = sub(b, x, target)
    return _taken(b, mul(b, difference, difference), reduction)


@aten("l1_loss")
def l1_loss(b: Build, x: Item, target: Item, reduction: int = 1) -> Item:
    return _taken(b, b.op("Abs", sub(b, x, target)), reduction)


@aten("binary_cross_entropy_with_logits")
def bce_with_logits(
    b: Build, x: Item, target: Item, weight: Item | None = None, pos_weight: Item | None = None, reduction: int = 1
) -> Item:
    if pos_weight is not None:
        raise Unsupported("pos_weight")
    loss = sub(b, b.op("Softplus", x), mul(b, x, target))
    return _taken(b, loss if weight is None else mul(b, loss, weight), reduction)


@aten("nll_loss_nd", "nll_loss", "nll_loss_forward", "nll_loss2d")
def nll_loss(
    b: Build, x: Item, target: Item, weight: Item | None = None, reduction: int = 1, ignore_index: int = -100
) -> Item:
    """Of [N, C, ...] and classes [N, ...] (or [C] and [])."""
    if b.rank(x) == 1:
        x, target = b.unsqueeze(x, 0), b.unsqueeze(target, 0)
    counts = b.op("Not", b.op("Equal", target, b.tensor(ignore_index, b.dtype(target))))
    safe = b.op("Where", counts, target, b.tensor(0, b.dtype(target)))
    picked = b.op("GatherElements", x, b.unsqueeze(b.cast(safe, "i64"), 1), axis=1)
    picked = b.reshape(picked, b.shape(target))
    factor = b.cast(counts, b.dtype(x))
    if weight is not None:
        factor = mul(b, factor, b.op("Gather", weight, safe, axis=0))
    loss = b.op("Neg", mul(b, picked, factor))
    if reduction == 0:
        return loss
    total = sum_(b, loss)
    return total if reduction == 2 else b.op("Div", total, sum_(b, factor))


@aten("cross_entropy_loss")
def cross_entropy(
    b: Build, x: Item, target: Item, weight: Item | None = None, reduction: int = 1, ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Item:  # fmt: skip
    soft: Any = b.dtype(target) in ("f32", "f64", "f16", "bf16")
    if soft or label_smoothing:
        raise Unsupported("cross_entropy with probabilities or label smoothing")
    return nll_loss(b, log_softmax(b, x, 1 if b.rank(x) > 1 else 0), target, weight, reduction, ignore_index)
