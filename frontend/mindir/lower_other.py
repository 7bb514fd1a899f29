"""Lowerings of MindIR's other primitives: special functions, bits, boxes, orders of dimensions, rotary positions."""

from __future__ import annotations

import math

import numpy as np

from ...ir.expr import Dim, as_dim, floordiv
from ...ir.ops.float8 import Bitcast
from .lower_common import constant, expanded, flat, floating, iota, known, one_at, operands, rank, reshaped
from .primitive import Call, Datum, Item, primitive

# -- special functions -------------------------------------------------------------------------------------------------

_LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip


@primitive("Lgamma")
def lgamma(call: Call) -> Item:
    """`log |gamma(x)|`: Lanczos' sum in f64, and below 1/2 the reflection."""
    given = call.tensor(0)
    x = call.cast(given, "f64")
    half, one, pi = (constant(call, v, x) for v in (0.5, 1.0, math.pi))
    low = call.op("Less", x, half)
    z = call.op("Sub", call.op("Where", low, call.op("Sub", one, x), x), one)
    total = constant(call, _LANCZOS[0], x)
    for i, c in enumerate(_LANCZOS[1:], 1):
        total = call.op("Add", total, call.op("Div", constant(call, c, x), call.op("Add", z, constant(call, i, x))))
    t = call.op("Add", z, constant(call, 7.5, x))
    y = call.op("Sub", call.op("Mul", call.op("Add", z, half), call.op("Log", t)), t)
    y = call.op("Add", call.op("Add", y, call.op("Log", total)), constant(call, 0.5 * math.log(2 * math.pi), x))
    sine = call.op("Abs", call.op("Sin", call.op("Mul", pi, call.op("Sub", x, call.op("Floor", x)))))
    mirrored = call.op("Sub", call.op("Log", call.op("Div", pi, sine)), y)
    return call.cast(call.op("Where", low, mirrored, y), call.element_type(given))


_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
_UP = 8  # steps of the recurrence, after which the asymptotic series is exact enough


@primitive("Digamma")
def digamma(call: Call) -> Item:
    """The logarithmic derivative of gamma: the recurrence, then its asymptotic series, below 0 the reflection."""
    given = call.tensor(0)
    x = call.cast(given, "f64")
    zero, one, pi = (constant(call, v, x) for v in (0.0, 1.0, math.pi))
    low = call.op("LessOrEqual", x, zero)
    z = call.op("Where", low, call.op("Sub", one, x), x)
    total = call.op("Mul", z, zero)
    for _ in range(_UP):
        total = call.op("Sub", total, call.op("Reciprocal", z))
        z = call.op("Add", z, one)
    square = call.op("Reciprocal", call.op("Mul", z, z))
    series, power = zero, square
    for c in _DIGAMMA:
        series = call.op("Add", series, call.op("Mul", power, constant(call, c, x)))
        power = call.op("Mul", power, square)
    y = call.op("Sub", call.op("Log", z), call.op("Div", constant(call, 0.5, x), z))
    y = call.op("Add", total, call.op("Sub", y, series))
    mirrored = call.op("Sub", y, call.op("Div", pi, call.op("Tan", call.op("Mul", pi, x))))
    return call.cast(call.op("Where", low, mirrored, y), call.element_type(given))


# -- bits --------------------------------------------------------------------------------------------------------------


@primitive("PopulationCount")
def population_count(call: Call) -> Item:
    """How many bits of each integer are set, as u8."""
    x = call.tensor(0)
    dtype = call.element_type(x)
    width = int(dtype[1:])
    bits = call.cast(call.make(Bitcast, x, f"u{width}"), "u64") if dtype[0] == "i" else call.cast(x, "u64")
    total = call.op("Mul", bits, call.a.scalar(0, "u64"))
    one = call.a.scalar(1, "u64")
    for i in range(width):
        shifted = call.op("BitShift", bits, call.a.scalar(i, "u64"), direction="RIGHT")
        total = call.op("Add", total, call.op("BitwiseAnd", shifted, one))
    return call.cast(total, "u8")


@primitive("NextAfter")
def next_after(call: Call) -> Item:
    """The next number of the element type in the direction of the other operand."""
    x, y = (floating(call, i) for i in operands(call, call[0], call[1]))
    dtype = call.element_type(x)
    whole = {"f32": "i32", "f64": "i64", "f16": "i16"}.get(dtype)
    if whole is None:
        call.refuse(f"NextAfter of {dtype}")
    bits, zero = call.make(Bitcast, x, whole), constant(call, 0, x)
    up, positive = call.op("Greater", y, x), call.op("Greater", x, zero)
    step = call.op("Where", call.op("Equal", up, positive), call.a.scalar(1, whole), call.a.scalar(-1, whole))
    moved = call.make(Bitcast, call.op("Add", bits, step), dtype)
    tiny = call.make(Bitcast, call.op("Where", up, call.a.scalar(1, whole), _lowest_tiny(call, whole)), dtype)
    moved = call.op("Where", call.op("Equal", x, zero), tiny, moved)
    moved = call.op("Where", call.op("Equal", x, y), y, moved)
    return call.op("Where", call.op("Or", call.op("IsNaN", x), call.op("IsNaN", y)), call.op("Add", x, y), moved)


def _lowest_tiny(call: Call, whole: str) -> Item:
    """The bits of the negative number next to 0."""
    return call.a.scalar(-(2 ** (int(whole[1:]) - 1)) + 1, whole)


# -- places ------------------------------------------------------------------------------------------------------------


@primitive("AsStrided")
def as_strided(call: Call) -> Item:
    """Elements of the flat tensor at places that steps for each dimension give."""
    size, stride, offset = call.ints("size"), call.ints("stride"), call.integer("storage_offset", 0)
    places = np.full((), offset, np.int64)
    for count, step in zip(size, stride, strict=True):
        places = places[..., None] + np.arange(count) * step
    return call.op("Gather", flat(call, call.tensor(0)), places, axis=0)


@primitive("ReverseSequence")
def reverse_sequence(call: Call) -> Item:
    """The first elements of sequences from the end, as many as each is long."""
    x, lengths = call.tensor(0), call.cast(call.tensor(1), "i64")
    return _reversed(call, x, lengths, call.integer("seq_dim"), call.integer("batch_dim", 0))


def _reversed(call: Call, x: Item, lengths: Item, time: int, batch: int) -> Item:
    """ReverseSequence along any two dimensions."""
    dims = rank(call, x)
    order = [time, batch, *(i for i in range(dims) if i not in (time, batch))]
    y = call.op("ReverseSequence", call.op("Transpose", x, perm=order), lengths, time_axis=0, batch_axis=1)
    return call.op("Transpose", y, perm=[order.index(i) for i in range(dims)])


@primitive("UnravelIndex")
def unravel_index(call: Call) -> Item:
    """The coordinates of places in the flat tensor, one row for each dimension."""
    places, dims = call.tensor(0), call.ints("dims")
    rows: list[Item] = []
    step = int(np.prod(dims))
    for dim in dims:
        step //= dim
        at = call.op("Div", places, constant(call, step, places))
        rows.append(call.op("Unsqueeze", call.op("Mod", at, constant(call, dim, places)), [0]))
    return rows[0] if len(rows) == 1 else call.op("Concat", *rows, axis=0)


@primitive("InvertPermutation")
def invert_permutation(call: Call) -> Datum:
    """Where each number stands in an order."""
    order = call.sizes(call[0], "the order")
    found: list[Dim] = [0] * len(order)
    for place, number in enumerate(order):
        found[known(call, number, "the order")] = place
    return tuple(found)


def _orders(call: Call) -> tuple[str, str]:
    """Names of dimensions, before and after."""
    return call.string("src_format", "NHWC"), call.string("dst_format", "NCHW")


@primitive("DataFormatDimMap")
def data_format_dim_map(call: Call) -> Item:
    """The places of dimensions in another order; places may count from the end."""
    x, (source, target) = call.tensor(0), _orders(call)
    table = call.cast(call.a.constant(np.array([source.index(c) for c in target])), call.element_type(x))
    four = constant(call, len(source), x)
    return call.op("Gather", table, call.cast(call.op("Mod", x, four), "i64"), axis=0)


@primitive("DataFormatVecPermute")
def data_format_vec_permute(call: Call) -> Item:
    """Numbers that belong to dimensions in another order."""
    source, target = _orders(call)
    return call.op("Gather", call.tensor(0), np.array([source.index(c) for c in target]), axis=0)


# -- boxes -------------------------------------------------------------------------------------------------------------


def _boxes(call: Call, x: Item) -> tuple[list[Item], list[Item]]:
    """Centers and sizes of boxes (x1, y1, x2, y2), counted in pixels."""
    x1, y1, x2, y2 = (one_at(call, x, 1, i) for i in range(4))
    half, one = constant(call, 0.5, x), constant(call, 1, x)
    centers = [call.op("Mul", call.op("Add", a, b), half) for a, b in ((x1, x2), (y1, y2))]
    return centers, [call.op("Add", call.op("Sub", b, a), one) for a, b in ((x1, x2), (y1, y2))]


def _numbers(call: Call, name: str) -> np.ndarray:
    """Four numbers of an attribute."""
    found = call.tuple(name)
    values = [float(v) for v in found if isinstance(v, int | float)]
    return np.array(values * 4 if len(values) == 1 else values, np.float32)


@primitive("BoundingBoxEncode")
def bounding_box_encode(call: Call) -> Item:
    """Steps and logarithms of ratios from boxes to others."""
    (centers, sizes), (wanted, extents) = _boxes(call, call.tensor(0)), _boxes(call, call.tensor(1))
    steps = [call.op("Div", call.op("Sub", w, c), s) for w, c, s in zip(wanted, centers, sizes, strict=True)]
    ratios = [call.op("Log", call.op("Div", e, s)) for e, s in zip(extents, sizes, strict=True)]
    found = call.op("Concat", *(call.op("Unsqueeze", i, [1]) for i in (*steps, *ratios)), axis=1)
    means, stds = (call.a.constant(_numbers(call, n)) for n in ("means", "stds"))
    return call.op("Div", call.op("Sub", found, means), stds)


@primitive("BoundingBoxDecode")
def bounding_box_decode(call: Call) -> Item:
    """Boxes from steps and logarithms of ratios, inside of a picture of size `max_shape` (height, width)."""
    boxes, deltas = call.tensor(0), call.tensor(1)
    means, stds = (call.a.constant(_numbers(call, n)) for n in ("means", "stds"))
    deltas = call.op("Add", call.op("Mul", deltas, stds), means)
    limit = abs(math.log(call.real("wh_ratio_clip", 0.016)))
    centers, sizes = _boxes(call, boxes)
    height, width = call.ints("max_shape")
    low: list[Item] = []
    high: list[Item] = []
    half, zero = constant(call, 0.5, boxes), constant(call, 0, boxes)
    for i, most in enumerate((width, height)):
        bounds = [constant(call, edge, boxes) for edge in (-limit, limit)]
        ratio = call.op("Clip", one_at(call, deltas, 1, i + 2), *bounds)
        extent = call.op("Mul", sizes[i], call.op("Exp", ratio))
        center = call.op("Add", centers[i], call.op("Mul", sizes[i], one_at(call, deltas, 1, i)))
        reach = call.op("Sub", call.op("Mul", extent, half), half)
        edge = constant(call, most, boxes)
        low.append(call.op("Clip", call.op("Sub", center, reach), zero, edge))
        high.append(call.op("Clip", call.op("Add", center, reach), zero, edge))
    return call.op("Concat", *(call.op("Unsqueeze", i, [1]) for i in (*low, *high)), axis=1)


@primitive("CheckValid")
def check_valid(call: Call) -> Item:
    """Which boxes are inside of a picture (height, width, ratio)."""
    boxes, (height, width, ratio) = call.tensor(0), (one_at(call, call.tensor(1), 0, i) for i in range(3))
    x1, y1, x2, y2 = (one_at(call, boxes, 1, i) for i in range(4))
    zero, one = constant(call, 0, boxes), constant(call, 1, boxes)
    found = call.op("And", call.op("GreaterOrEqual", x1, zero), call.op("GreaterOrEqual", y1, zero))
    for most, last in ((width, x2), (height, y2)):
        edge = call.op("Sub", call.op("Mul", most, ratio), one)
        found = call.op("And", found, call.op("LessOrEqual", last, edge))
    return found


# -- positions ---------------------------------------------------------------------------------------------------------


def rotated(call: Call, x: Item, cos: Item, sin: Item, interleaved: bool) -> Item:
    """`x cos + rotated(x) sin`, where halves of the last dimension, or neighbours, are the two coordinates."""
    *outer, width = call.shape(x)
    half = as_dim(floordiv(width, 2))
    shape = [*outer, half, 2] if interleaved else [*outer, 2, half]
    axis = len(outer) + (1 if interleaved else 0)
    first, second = call.ops("Split", reshaped(call, x, shape), outputs=2, axis=axis, num_outputs=2)
    turned = reshaped(call, call.op("Concat", call.op("Neg", second), first, axis=axis), [*outer, width])
    return call.op("Add", call.op("Mul", x, cos), call.op("Mul", turned, sin))


@primitive("RotaryPositionEmbedding")
def rotary_position_embedding(call: Call) -> Item:
    """Pairs of features turned by angles: halves (mode 0) or neighbours (1)."""
    mode = call.integer("mode", 0)
    if mode not in (0, 1):
        call.refuse(f"rotary positions of mode {mode}")
    x, cos, sin = operands(call, call[0], call[1], call[2])
    return rotated(call, x, cos, sin, mode == 1)


@primitive("ApplyRotaryPosEmb")
def apply_rotary(call: Call) -> Datum:
    """Queries and keys with halves of their features turned by angles."""
    query, key, cos, sin = operands(call, call[0], call[1], call[2], call[3])
    return rotated(call, query, cos, sin, False), rotated(call, key, cos, sin, False)


@primitive("TransposeBatchMatmulTranspose")
def transposed_product(call: Call) -> Item:
    """A product of matrices, with the dimensions of the first operand and of the result in other orders."""
    x, weight = call.tensor(0), call.tensor(1)
    x = call.op("Transpose", x, perm=list(call.ints("perm_in")))
    for name in ("transpose_a", "transpose_b"):
        if call.flag(name, False):
            item = x if name == "transpose_a" else weight
            order = list(range(rank(call, item)))
            order[-2:] = order[:-3:-1]
            item = call.op("Transpose", item, perm=order)
            x, weight = (item, weight) if name == "transpose_a" else (x, item)
    return call.op("Transpose", call.op("MatMul", x, weight), perm=list(call.ints("perm_out")))


@primitive("ConvTbc")
def conv_tbc(call: Call) -> Item:
    """A convolution of [time, batch, channels] with [width, channels, results]."""
    x = call.op("Transpose", call.tensor(0), perm=[1, 2, 0])
    weight = call.op("Transpose", call.tensor(1), perm=[2, 1, 0])
    pad = call.integer("pad", 0)
    bias = call.tensor("bias") if call.datum("bias", None) is not None else None
    return call.op("Transpose", call.op("Conv", x, weight, bias, pads=[pad, pad]), perm=[2, 0, 1])


@primitive("NpuGelu")
def npu_gelu(call: Call) -> Item:
    """GELU through erf, or through tanh."""
    return call.op("Gelu", floating(call, call.tensor(0)), approximate=call.string("approximate", "none"))


@primitive("SequenceMask")
def sequence_mask(call: Call) -> Item:
    """True for the first elements of rows, as many as `lengths` says."""
    lengths, most = call.tensor(0), call.dim("maxlen")
    return call.op("Less", iota(call, most), call.op("Unsqueeze", call.cast(lengths, "i64"), [-1]))


@primitive("ConfusionMatrix")
def confusion_matrix(call: Call) -> Item:
    """How often (or with what weights) each class was taken for each other one: rows are labels."""
    labels, predictions = (call.cast(flat(call, call.tensor(i)), "i64") for i in range(2))
    count = call.integer("num_classes")
    dtype = call.dtype("dtype") or "i32"
    given = call.tensor("weights") if call.datum("weights", None) is not None else call.a.scalar(1, dtype)
    updates = expanded(call, call.cast(given, dtype), call.shape(labels))
    at = call.op("Concat", *(call.op("Unsqueeze", i, [1]) for i in (labels, predictions)), axis=1)
    zeros = expanded(call, call.a.scalar(0, dtype), [count, count])
    return call.op("ScatterND", zeros, at, updates, reduction="add")


__all__ = ["rotated"]
