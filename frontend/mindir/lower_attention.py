"""Lowerings of MindIR's fused attention (written for Ascend, found in models that were exported for it)."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Dim
from .lower_common import constant, known, rank
from .lower_matmul import product
from .primitive import Call, Datum, Item, primitive

_LAYOUTS = {0: "BSH", 1: "BNSD", 2: "SBH", 3: "BSND"}
_REFUSED = (
    "prefix", "actual_seq_qlen", "actual_seq_kvlen", "actual_seq_lengths", "actual_seq_lengths_kv", "block_table",
    "kv_padding_size", "antiquant_scale", "deq_scale1", "quant_scale1", "dequant_scale1",
)  # fmt: skip
"""Arguments that mean another computation."""


def _heads(call: Call, x: Item, layout: str, width: int) -> Item:
    """A tensor of any layout as [batch, heads, sequence, features], `width` features of each head."""
    if layout == "BNSD":
        return x
    if layout == "BSND":
        return call.op("Transpose", x, perm=[0, 2, 1, 3])
    a, b, hidden = call.shape(x)
    split = call.op("Reshape", x, [a, b, known(call, hidden, "the hidden size") // width, width])
    return call.op("Transpose", split, perm=[0, 2, 1, 3] if layout == "BSH" else [1, 2, 0, 3])


def _together(call: Call, x: Item, layout: str) -> Item:
    """[batch, heads, sequence, features] in the layout of the operands."""
    if layout == "BNSD":
        return x
    turned = call.op("Transpose", x, perm=[2, 0, 1, 3] if layout == "SBH" else [0, 2, 1, 3])
    if layout == "BSND":
        return turned
    a, b, heads, width = call.shape(turned)
    hidden: Dim = known(call, heads, "the heads") * known(call, width, "the features")
    return call.op("Reshape", turned, [a, b, hidden])


def _repeated(call: Call, x: Item, heads: int) -> Item:
    """Keys or values with as many heads as the queries have: each serves several."""
    have = known(call, call.shape(x)[1], "the heads")
    if have == heads:
        return x
    batch, _, length, width = call.shape(x)
    wide = call.op("Expand", call.op("Unsqueeze", x, np.array([2])), [batch, have, heads // have, length, width])
    return call.op("Reshape", wide, [batch, heads, length, width])


def _masked(call: Call, scores: Item, mask: Item, sparse: int) -> Item:
    """Scores with those that the mask (true: left out) is for far below all others. Masks of the compressed kinds
    (`sparse` 2 to 4) have more rows and columns than are needed."""
    if sparse in (2, 3, 4):
        if sparse != 2:
            call.refuse(f"a compressed mask of kind {sparse}", "export the model with its full mask")
        rows, columns = call.shape(scores)[-2:]
        ends = call.a.sizes([rows, columns])
        axes = np.array([rank(call, mask) - 2, rank(call, mask) - 1])
        mask = call.op("Slice", mask, np.array([0, 0]), ends, axes)
    low = constant(call, -10000.0 if call.element_type(scores) == "f16" else -3.0e38, scores)
    return call.op("Where", call.cast(mask, "bool"), low, scores)


def _attention(call: Call, heads: int, shift: str, mask: str) -> Item:
    """softmax(scale q kT + shift, masked) v, in the layout of the operands."""
    layout = call.word("input_layout", _LAYOUTS, "BSH")
    if layout not in _LAYOUTS.values():
        call.refuse(f"the layout {layout}", "export the model with layout BSH, SBH, BNSD or BSND")
    if given := [name for name in _REFUSED if call.has(name)]:
        call.refuse(f"the argument {given[0]}", "export the model without it")
    query = call.tensor("query")
    width = known(call, call.shape(query)[-1], "the features") // (1 if layout in ("BNSD", "BSND") else heads)
    q = _heads(call, query, layout, width)
    k, v = (_repeated(call, _heads(call, call.tensor(n), layout, width), heads) for n in ("key", "value"))
    scores = product(call, q, k, transpose_y=True)
    scores = call.op("Mul", scores, constant(call, call.real("scale_value", 1.0), scores))
    if call.has(shift):
        scores = call.op("Add", scores, call.cast(call.tensor(shift), call.element_type(scores)))
    if call.has(mask):
        scores = _masked(
            call, scores, call.tensor(mask), call.integer("sparse_mode", 0) if call.has("sparse_mode") else 0
        )
    return _together(call, product(call, call.op("Softmax", scores, axis=-1), v), layout)


@primitive("FlashAttentionScore")
def flash_attention(call: Call) -> Datum:
    """Attention. Results: largest and sum of the exponentials and the weights (for gradients: None), the output."""
    return None, None, None, _attention(call, call.integer("head_num"), "real_shift", "attn_mask")


@primitive("PromptFlashAttention", "IncreFlashAttention")
def prompt_attention(call: Call) -> Datum:
    """Attention whose keys and values may have fewer heads than the queries."""
    return _attention(call, call.integer("num_heads", 1), "pse_shift", "attn_mask")
