"""All lowerings: importing this module registers those of every `lower_*` module."""

from __future__ import annotations

from . import (
    lower_activation,
    lower_array,
    lower_attention,
    lower_conv,
    lower_flow,
    lower_image,
    lower_index,
    lower_loss,
    lower_make,
    lower_math,
    lower_matmul,
    lower_moves,
    lower_norm,
    lower_order,
    lower_pad,
    lower_pairs,
    lower_pool,
    lower_recurrent,
    lower_reduce,
    lower_scalar,
)

__all__ = [
    "lower_activation",
    "lower_array",
    "lower_attention",
    "lower_conv",
    "lower_flow",
    "lower_image",
    "lower_index",
    "lower_loss",
    "lower_make",
    "lower_math",
    "lower_matmul",
    "lower_moves",
    "lower_norm",
    "lower_order",
    "lower_pad",
    "lower_pairs",
    "lower_pool",
    "lower_recurrent",
    "lower_reduce",
    "lower_scalar",
]
