"""Mixtures of experts (`com.microsoft`: MoE, QMoE): each row goes through a few of many small networks.

Where rows are few, the weights of the chosen experts are gathered; else all experts see all rows, and those that were
not chosen count nothing. Source: ONNX Runtime's ContribOperators documentation, and its CPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, product
from ...ir.ops.activation import Gelu, Relu, Silu
from ...ir.ops.arith import Add, Cast, Mul, Sigmoid
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Softmax
from ...ir.ops.order import TopK
from ...ir.ops.quant import Dequantize
from ...ir.ops.reduce import Sum
from ...ir.ops.shape import Gather, Iota, Reshape, Slice, Transpose
from .calc import Calc
from .contrib import DOMAIN
from .contrib_blocks import middle_codes, unpacked
from .node import Node, converter
from .scope import Unsupported


@dataclass(frozen=True)
class _Route:
    """Where the rows go. `chosen` (i64, flat): the experts whose weights are used, None for all of them; `share`: what
    each result counts [experts, rows, 1]."""

    chosen: Value | None
    share: Value


@dataclass(frozen=True)
class _Codes:
    """Weights as codes of 8 bits or less [experts, out, in], with scales and zero points [experts, out, blocks]."""

    codes: Value
    scales: Value
    zero: Value
    block: int


@dataclass(frozen=True)
class _Layer:
    """A layer of every expert: weights [experts, out, in], and biases [experts, out] if there are any."""

    weights: Value | _Codes
    bias: Value | None


@converter("MoE", domain=DOMAIN)
def moe(node: Node) -> Value:
    """MoE: a mixture of experts."""
    layers = [_Layer(node.value(i), node.optional(i + 1)) if node.has(i) else None for i in (2, 4, 6)]
    return _mixture(node, layers, None)


@converter("QMoE", domain=DOMAIN)
def qmoe(node: Node) -> Value:
    """QMoE: a mixture of experts whose weights are codes of 2, 4 or 8 bits, by rows or in blocks."""
    kind = node.string("quant_type", "int")
    if kind != "int":
        raise Unsupported(f"QMoE with weights of type {kind}", "quantize the experts to integers of 4 or 8 bits")
    if node.integer("weights_prepacked", -1) == 1:
        raise Unsupported("weights in the order of one device", "export with weights_prepacked 0")
    layers: list[_Layer | None] = []
    for number, (weights, zero) in enumerate(((2, 11), (5, 12), (8, 13)), 1):
        bits = node.integer(f"fc{number}_expert_weight_bits", node.integer("expert_weight_bits", 4))
        have = node.has(weights)
        layers.append(_Layer(_coded(node, weights, zero, bits), node.optional(weights + 2)) if have else None)
    return _mixture(node, layers, 14 if node.has(14) else None)


def _coded(node: Node, index: int, zero_index: int, bits: int) -> _Codes:
    """Input `index` as codes; its scales are the input behind it."""
    dims, scales = node.shape(index), node.value(index + 1)
    if bits not in (2, 4, 8):
        raise Unsupported(f"codes of {bits} bits")
    if len(dims) != 3 or not all(isinstance(d, int) for d in dims):
        raise Unsupported("packed weights whose shape is not known")
    experts, rows, columns = (int(str(d)) for d in dims)
    columns *= 8 // bits
    block = node.integer("block_size", 0) or columns
    blocks = -(-columns // block)
    if block < 1 or node.dims_of(scales) not in ((experts, rows), (experts, rows, blocks)):
        raise node.error(f"expected scales for each row or for blocks of {block}, got {scales.type}")
    if not node.has(zero_index):
        zero = middle_codes(node, bits, experts * rows, blocks)
    elif node.rank(zero_index) == 2:
        zero = unpacked(node, zero_index, bits, experts, rows)
    else:
        zero = unpacked(node, zero_index, bits, experts * rows, blocks)
    whole, shape = unpacked(node, index, bits, experts * rows, columns), (experts, rows, blocks)
    scales, zero = (node.make(Reshape, v, shape) for v in (scales, zero))
    return _Codes(node.make(Reshape, whole, (experts, rows, columns)), scales, zero, block)


def _mixture(node: Node, layers: Sequence[_Layer | None], weights: int | None) -> Value:
    """The experts' results, weighted and added. `weights`: the input that weighs them, if not the one that chooses."""
    first, second, third = layers
    if first is None or second is None:
        raise node.error("expected weights of fc1 and fc2")
    shape, dtype = node.shape(0), node.type(0).dtype
    rows, hidden = as_dim(product(shape[:-1])), shape[-1]
    route = _routed(node, rows, weights)
    x = node.make(Reshape, node.value(0), (rows, hidden))
    if route.chosen is None:
        x = node.make(Reshape, x, (1, rows, hidden))
    else:  # each row as often as it has experts
        count = as_dim(product(node.dims_of(route.chosen)))
        each = node.integer("k", 1)
        of_row = node.make(Cast, (Calc.iota(node, count, "f64") / each).floor().value, "i64")
        x = node.make(Reshape, node.make(Gather, x, of_row, 0), (count, 1, hidden))
    y = _activated(node, _layer(node, x, first, route), third, x, route)
    y = node.make(Mul, _layer(node, y, second, route), route.share)
    if route.chosen is not None:
        each = node.integer("k", 1)
        y = node.make(Transpose, node.make(Reshape, y, (rows, each, hidden)), (1, 0, 2))
    total = node.make(Sum, y, (0,), False)
    return node.make(Reshape, total if dtype == total.tensor.dtype else node.make(Cast, total, dtype), shape)


def _routed(node: Node, rows: Dim, weights: int | None) -> _Route:
    """The `k` most probable experts of each row. What they count are their probabilities among all, perhaps made to add
    up to 1."""
    if node.integer("use_sparse_mixer", 0):
        raise Unsupported("use_sparse_mixer", "export with plain top-k routing")
    each, dtype = node.integer("k", 1), node.type(0).dtype
    logits = node.make(Cast, node.value(1), "f32")
    experts = node.dims_of(logits)[-1]
    if not isinstance(experts, int) or not 1 <= each <= experts:
        raise node.error(f"k: expected 1 to {experts}, got {each}")
    share, chosen = node.make_all(TopK, node.make(Softmax, logits, 1), each, 1, True)
    place = node.make(Iota, (1, 1, experts), 2, "i64")
    hit = Calc(node, node.make(Reshape, chosen, (rows, each, 1))).equals(Calc(node, place)).cast("f32")
    if weights is not None:
        other = node.make(Reshape, node.make(Cast, node.value(weights), "f32"), (rows, 1, experts))
        share = node.make(Sum, (hit * Calc(node, other)).value, (2,), False)
    if node.integer("normalize_routing_weights", 0):
        share = (Calc(node, share) / Calc(node, node.make(Sum, share, (1,), True))).value
    if isinstance(rows, int) and 2 * rows * each <= experts:
        flat = node.make(Reshape, chosen, (rows * each,))
        return _Route(flat, node.make(Cast, node.make(Reshape, share, (rows * each, 1, 1)), dtype))
    dense = node.make(Sum, (hit * Calc(node, share).reshaped(rows, each, 1)).value, (1,), False)
    dense = node.make(Reshape, node.make(Transpose, dense, (1, 0)), (experts, rows, 1))
    return _Route(None, node.make(Cast, dense, dtype))


def _layer(node: Node, x: Value, layer: _Layer, route: _Route) -> Value:
    """A layer of the experts that `route` names, for `x` [experts or 1, rows, in]."""
    weights = layer.weights
    if isinstance(weights, _Codes):
        parts = (_chosen(node, v, route) for v in (weights.codes, weights.scales, weights.zero))
        matrix = node.make(Dequantize, *parts, 2, weights.block)
    else:
        matrix = _chosen(node, weights, route)
    y = node.make(MatMul, x, node.make(Transpose, matrix, (0, 2, 1)))
    if layer.bias is None:
        return y
    bias = _chosen(node, layer.bias, route)
    count, out = node.dims_of(bias)
    return node.make(Add, y, node.make(Reshape, bias, (count, 1, out)))


def _chosen(node: Node, x: Value, route: _Route) -> Value:
    return x if route.chosen is None else node.make(Gather, x, route.chosen, 0)


def _activated(node: Node, y: Value, third: _Layer | None, x: Value, route: _Route) -> Value:
    """The activation of the first layer's results. A third layer, or half of the first one, is multiplied by it."""
    name, fusion = node.string("activation_type", "relu"), node.integer("swiglu_fusion", 0)
    if name == "swiglu":
        if fusion == 0:
            if third is None:
                raise node.error("swiglu_fusion 0: expected weights of fc3")
            return _swiglu(node, y, _layer(node, x, third, route))
        return _swiglu(node, *_halves(node, y, interleaved=fusion == 1))
    match name:
        case "relu":
            y = node.make(Relu, y)
        case "gelu":
            y = node.make(Gelu, y, "tanh")  # as ONNX Runtime has it
        case "silu":
            y = node.make(Silu, y)
        case "identity":
            pass
        case _:
            raise Unsupported(f"activation {name}", "use relu, gelu, silu, swiglu or identity")
    return y if third is None else node.make(Mul, y, _layer(node, x, third, route))


def _halves(node: Node, y: Value, interleaved: bool) -> tuple[Value, Value]:
    """Gate and linear part of the last dimension: elements in turn, or one half behind the other."""
    dims = node.dims_of(y)
    last = dims[-1]
    if not isinstance(last, int) or last % 2:
        raise node.error(f"expected an even number of rows of fc1, got {last}")
    starts, step = (0, 1) if interleaved else (0, last // 2), 2 if interleaved else 1
    ends = (last - 1, last) if interleaved else (last // 2, last)
    lead = len(dims) - 1
    one, other = (
        node.make(Slice, y, (*[0] * lead, start), (*dims[:-1], end), (*[1] * lead, step))
        for start, end in zip(starts, ends, strict=True)
    )
    return one, other


def _swiglu(node: Node, gate: Value, linear: Value) -> Value:
    """`g * sigmoid(alpha * g) * (l + beta)`, both clamped before."""
    g, l, limit = Calc(node, gate), Calc(node, linear), node.real("swiglu_limit", 0.0)
    if node.integer("swiglu_limit_after_activation", 0):
        raise Unsupported("swiglu_limit_after_activation", "export with swiglu_limit_after_activation 0")
    if limit > 0:
        g, l = g.minimum(limit), l.clamped(-limit, limit)
    open_part = Calc(node, node.make(Sigmoid, (g * node.real("activation_alpha", 1.0)).value))
    return (g * open_part * (l + node.real("activation_beta", 0.0))).value
