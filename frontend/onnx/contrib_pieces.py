"""Small operators of ONNX Runtime's domain (`com.microsoft`): pieces of pictures and sequences, a causal convolution,
and those that are refused, with a way out.

Source: ONNX Runtime's ContribOperators documentation; where it is silent, its CPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, as_expr, floordiv, maximum
from ...ir.ops.activation import Silu
from ...ir.ops.arith import Add, Cast, Cos, Equal, Mul, Sin
from ...ir.ops.nn import Conv
from ...ir.ops.shape import Concat, Expand, Gather, GatherND, Reshape, ScatterElements, Transpose
from .calc import Calc, scalar
from .contrib import DOMAIN
from .contrib_attention import part
from .node import Node, Results, converter
from .scope import Unsupported, simplified

# -- pictures -------------------------------------------------------------------------------------------------------


@converter("CropAndResize", domain=DOMAIN)
def crop_and_resize(node: Node) -> Value:
    """CropAndResize: boxes of pictures, whose corners are given in parts of the picture, each as a picture of one size;
    corners fall on corners. What is outside of the picture is `extrapolation_value`."""
    mode = node.string("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        raise node.error(f"mode: expected bilinear or nearest, got {mode!r}")
    (_, _, height, width), count = node.shape(0), node.shape(1)[0]
    crop = node.dims(3, "crop_size")
    if len(crop) != 2:
        raise node.error(f"crop_size: expected height and width, got {node.type(3)}")
    boxes = Calc(node, node.value(1))
    y = _grid(node, boxes, (0, 2), height, crop[0]).reshaped(count, crop[0], 1)
    x = _grid(node, boxes, (1, 3), width, crop[1]).reshaped(count, 1, crop[1])
    h, w = (scalar(node, d, boxes.dtype) - 1 for d in (height, width))
    inside = (y >= 0) & (y <= h) & (x >= 0) & (x <= w)
    y, x = y.clamped(0.0, h), x.clamped(0.0, w)
    picture = node.make(Transpose, node.value(0), (0, 2, 3, 1))
    batch = Calc(node, node.value(2)).cast("i64").reshaped(count, 1, 1)
    shape = (count, *crop)

    def at(*place: Calc) -> Calc:
        columns = [node.make(Expand, c.cast("i64").value, shape) for c in (batch, *place)]
        index = node.make(Concat, tuple(node.make(Reshape, c, (*shape, 1)) for c in columns), 3)
        return Calc(node, node.make(GatherND, picture, index, 0))

    if mode == "nearest":
        found = at((y + 0.5).floor().minimum(h), (x + 0.5).floor().minimum(w))
    else:
        right, down = (x - x.floor()).reshaped(count, 1, crop[1], 1), (y - y.floor()).reshaped(count, crop[0], 1, 1)
        rows = [a + (b - a) * right for a, b in ((at(r, x.floor()), at(r, x.ceil())) for r in (y.floor(), y.ceil()))]
        found = rows[0] + (rows[1] - rows[0]) * down
    chosen = inside.reshaped(*shape, 1).where(found, node.real("extrapolation_value", 0.0))
    return node.make(Transpose, chosen.value, (0, 3, 1, 2))


def _grid(node: Node, boxes: Calc, corners: tuple[int, int], size: Dim, count: Dim) -> Calc:
    """Places along one dimension of the picture for each box [boxes, count], from one corner to the other."""
    first, last = (Calc(node, part(node, boxes.value, 1, c, c + 1)) for c in corners)
    extent = scalar(node, size, boxes.dtype) - 1
    if count == 1:
        return (first + last) * extent * 0.5
    steps, number = scalar(node, count, boxes.dtype) - 1, Calc.iota(node, count, boxes.dtype).reshaped(1, count)
    between = first * extent + number * ((last - first) * extent / steps)
    return number.equals(steps).where(last * extent + number * 0.0, between)


# -- sequences ------------------------------------------------------------------------------------------------------


@converter("UnfoldTensor", domain=DOMAIN)
def unfold_tensor(node: Node) -> Value:
    """UnfoldTensor: all slices of one size along a dimension, `step` apart; their elements are a last dimension."""
    rank, size, step = node.rank(0), node.integer("size"), node.integer("step", 1)
    axis = node.axis(node.integer("dim", -1), rank)
    if size < 1 or step < 1:
        raise node.error(f"expected size and step of at least 1, got {size} and {step}")
    count = as_dim(floordiv(as_expr(node.shape(0)[axis]) - size, step) + 1)
    first = Calc.iota(node, count, "i64").reshaped(count, 1) * step
    index = first + Calc.iota(node, size, "i64").reshaped(1, size)
    cut = node.make(Gather, node.value(0), index.value, axis)
    order = (*(i for i in range(rank + 1) if i != axis + 1), axis + 1)
    return node.make(Transpose, cut, order)


@converter("NGramRepeatBlock", domain=DOMAIN)
def ngram_repeat_block(node: Node) -> Value:
    """NGramRepeatBlock: scores of -inf for tokens that would repeat an n-gram of the sequence."""
    (batch, length), size, ids = node.shape(0), node.integer("ngram_size"), node.value(0)
    if size < 1:
        raise node.error(f"ngram_size: expected at least 1, got {size}")
    count = simplified(maximum(as_expr(length) - size + 1, 0))
    if count == 0:
        return node.value(1)
    seen: Calc | None = None
    for j in range(size - 1):  # the last tokens, each against all of its place in an n-gram
        last = (scalar(node, length, "i64") + (j + 1 - size)).maximum(0).reshaped(1)
        equal = Calc(node, node.make(Equal, part(node, ids, 1, j, count + j), node.make(Gather, ids, last.value, 1)))
        seen = equal if seen is None else seen & equal
    dtype = node.type(1).dtype
    hit = node.splat(1.0, dtype) if seen is None else node.make(Cast, seen.value, dtype)
    follow = node.make(Cast, part(node, ids, 1, size - 1, as_dim(as_expr(count) + size - 1)), "i64")
    none = node.make(Expand, node.splat(0.0, dtype), node.shape(1))
    blocked = node.make(ScatterElements, none, follow, node.make(Expand, hit, (batch, count)), 1, "max")
    return (Calc(node, blocked) > 0).where(scalar(node, 0, dtype) - float("inf"), Calc(node, node.value(1))).value


@converter("TorchEmbedding", domain=DOMAIN)
def torch_embedding(node: Node) -> Value:
    """TorchEmbedding: rows of a table."""
    return node.make(Gather, node.value(0), node.value(1), 0)


@converter("GemmaRotaryEmbedding", domain=DOMAIN)
def gemma_rotary_embedding(node: Node) -> list[Value]:
    """GemmaRotaryEmbedding: queries and keys times the cosine, plus those half rotated times the sine."""
    batch, length, size = node.shape(0)
    angle = node.make(Reshape, node.value(0), (batch, 1, length, size))
    dtype = node.type(1).dtype
    sine, cosine = (node.make(Cast, node.make(kind, angle), dtype) for kind in (Sin, Cos))
    return [
        node.make(Add, node.make(Mul, node.value(i), cosine), node.make(Mul, node.value(i + 1), sine)) for i in (1, 3)
    ]


@converter("CausalConvWithState", domain=DOMAIN)
def causal_conv_with_state(node: Node) -> list[Value]:
    """CausalConvWithState of one dimension: a depthwise convolution over what came before, which is carried along."""
    (channels, _, *kernel), dilation = node.shape(1), node.integer("dilation", 1)
    extended = any(node.integer(n, 0) for n in ("state_window", "state_update_capacity", "state_length"))
    if node.integer("ndim", 1) != 1 or len(kernel) != 1 or extended:
        raise Unsupported(
            "CausalConvWithState of several dimensions or windows of states", "use Concat, Conv and Slice"
        )
    (taps,) = kernel
    if not isinstance(taps, int) or not isinstance(channels, int):
        raise Unsupported("a convolution of a size that is not known")
    last = node.integer("channels_last", 0) != 0
    x, past = node.value(0), node.optional(3)
    if node.rank(0) != 3:
        raise Unsupported("CausalConvWithState of more than one dimension of channels", "reshape them into one")
    x = node.make(Transpose, x, (0, 2, 1)) if last else x
    history = (taps - 1) * dilation
    if past is None:
        past = node.make(Expand, node.splat(0.0, x.tensor.dtype), (node.shape(0)[0], channels, history))
    elif last:
        past = node.make(Transpose, past, (0, 2, 1))
    whole = node.make(Concat, (past, x), 2)
    y = node.make(Conv, whole, node.value(1), node.optional(2), (1,), ((0, 0),), (dilation,), channels)
    activation = node.string("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise node.error(f"activation: expected silu, swish or none, got {activation!r}")
    y = y if activation == "none" else node.make(Silu, y)
    end = node.dims_of(whole)[2]
    state = part(node, whole, 2, as_dim(as_expr(end) - history), end)
    return [node.make(Transpose, v, (0, 2, 1)) for v in (y, state)] if last else [y, state]


@converter("GatedAdd", domain=DOMAIN)
def gated_add(node: Node) -> Value:
    """GatedAdd: `x + y * gate`."""
    if node.has(3):
        raise Unsupported("gate_weight: a gate that is projected", "compute the gate with MatMul and Sigmoid")
    return node.make(Add, node.value(0), node.make(Mul, node.value(1), node.value(2)))


# -- what is not there ----------------------------------------------------------------------------------------------

_LOOPS = (
    "export the decoder alone (past and present as inputs and outputs), and let the program choose tokens in a loop"
)
_DEVICE = "save the model without the optimizations for that device, from the original in ONNX's own operators"
_REFUSED: dict[str, Sequence[str]] = {
    _LOOPS: ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
    _DEVICE: (
        "EPContext", "Snpe", "DecoderAttention", "DecoderMaskedSelfAttention", "DequantizeBFP", "DequantizeWithOrder",
        "GemmFloat8", "LongformerAttention", "MatMulFpQ4", "PagedAttention", "QOrderedAttention", "QOrderedGelu",
        "QOrderedLayerNormalization", "QOrderedLongformerAttention", "QOrderedMatMul", "QuantizeBFP",
        "QuantizeWithOrder", "SparseAttention", "MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp8Weight",
        "MatMulNBitsMlp", "MatMulNBitsQkv",
    ),
    "tokenize the text before, with the tokenizer's own library": ("Tokenizer", "WordConvEmbedding"),
}  # fmt: skip


def _refuse(advice: str, *names: str) -> None:
    @converter(*names, domain=DOMAIN)
    def refused(node: Node) -> Results:  # pyright: ignore[reportUnusedFunction]
        raise Unsupported("the operator is not supported", advice)


for _advice, _names in _REFUSED.items():
    _refuse(_advice, *_names)
