"""Operators of ONNX Runtime's own domain (`com.microsoft`): what its optimizer fuses, and early forms of ONNX's own.

Source: ONNX Runtime's ContribOperators documentation; where it is silent, its CPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.core import Op, Value
from ...ir.expr import Dim, as_dim, as_expr, maximum, product
from ...ir.ops.activation import Clip, Elu, Gelu, HardSigmoid, HardSwish, LeakyRelu, Relu, Silu
from ...ir.ops.arith import Abs, Add, Cast, Equal, IsInf, IsNaN, Less, Mul, Or, Rsqrt, Sigmoid, Sub, Tanh, Where
from ...ir.ops.host.tensors import Unique
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import LayerNorm, Softmax
from ...ir.ops.reduce import ArgMax, Max, Mean, Sum
from ...ir.ops.shape import Concat, Expand, GatherElements, Iota, Reshape, Slice, Transpose
from . import index, make, norm, quant, sampling, shape
from .calc import Calc
from .nn import conv, gemm
from .node import Converter, Node, Results, converter
from .scope import Unsupported, simplified

DOMAIN = "com.microsoft"
_NEWEST = 21  # the version of ai.onnx whose operators those of the same name are like
_MOST_ROWS = 64  # of a matrix that is inverted: the elimination is unrolled


def _same_as(function: Converter) -> Converter:
    """The converter of an ai.onnx operator for one of the same meaning, whatever version of ai.onnx is imported."""

    def convert(node: Node) -> Results:
        node.opset = _NEWEST
        return function(node)

    return convert


for _name, _function in {
    "GatherND": index.gather_nd, "GridSample": sampling.grid_sample, "MatMulInteger16": quant.matmul_integer,
    "Pad": shape.pad, "Trilu": make.trilu, "QuantizeLinear": quant.quantize_linear,
    "DequantizeLinear": quant.dequantize_linear,
}.items():  # fmt: skip
    converter(_name, domain=DOMAIN)(_same_as(_function))
converter("SimplifiedLayerNormalization")(norm.rms_normalization)  # ONNX Runtime has it in ai.onnx


@converter("Gelu", domain=DOMAIN)
def gelu(node: Node) -> Value:
    """Gelu, through erf."""
    return node.make(Gelu, node.value(0), "none")


@converter("Range", domain=DOMAIN)
def range_(node: Node) -> Results:
    """Range, whose step may be absent: 1."""
    if node.has(2):
        return make.range_(node)
    (start,), (limit,) = node.dims(0, "start"), node.dims(1, "limit")
    size = simplified(maximum(as_expr(limit) - start, 0))
    dtype = node.type(0).dtype
    whole = node.make(Iota, (size,), 0, dtype)
    return node.make(Add, whole, node.scope.number(start, dtype))


@converter("Unique", domain=DOMAIN)
def unique(node: Node) -> list[Value]:
    """Unique: the different elements in the order of their first places, where each one is among these, and counts."""
    values, _, inverse, counts = node.host(Unique, node.value(0), None, 0, (node.size("count"),))
    return [values, inverse, counts]


@converter("ExpandDims", domain=DOMAIN)
def expand_dims(node: Node) -> Value:
    """ExpandDims: one more dimension, of size 1."""
    x, dims = node.value(0), node.shape(0)
    axis = node.axis(int(node.array(1, "axis").reshape(-1)[0]), len(dims) + 1)
    return node.make(Reshape, x, (*dims[:axis], 1, *dims[axis:]))


def as_value(results: Results) -> Value:
    """What a converter of one value gave."""
    assert isinstance(results, Value)
    return results


# -- activations ----------------------------------------------------------------------------------------------------


def activated(node: Node, y: Value, name: str, parameters: Sequence[float]) -> Value:
    """`y` under the activation that a fused operator names. Missing parameters are ONNX's defaults."""
    kinds: dict[str, tuple[type[Op], tuple[float, ...]]] = {
        "Relu": (Relu, ()), "Tanh": (Tanh, ()), "Sigmoid": (Sigmoid, ()), "LeakyRelu": (LeakyRelu, (0.01,)),
        "HardSigmoid": (HardSigmoid, (0.2, 0.5)), "Elu": (Elu, (1.0,)), "HardSwish": (HardSwish, ()),
        "Gelu": (Gelu, ()), "Silu": (Silu, ()),
    }  # fmt: skip
    if not name:
        return y
    if name == "Clip":
        bounds = [node.splat(p, y.tensor.dtype) for p in parameters]
        return node.make(Clip, y, *bounds)
    if name not in kinds:
        raise Unsupported(f"activation {name}")
    kind, defaults = kinds[name]
    return node.make(kind, y, *(*parameters[: len(defaults)], *defaults[len(parameters) :]))


def _gelu(node: Node, x: Value, tanh: bool) -> Value:
    return node.make(Gelu, x, "tanh" if tanh else "none")


def _parameters(node: Node) -> list[float]:
    """Those of an activation that is given by attributes of their own."""
    names = [f"activation_{n}" for n in ("alpha", "beta", "gamma")]
    return [node.real(n) for n in names if node.has_attribute(n)]


@converter("BiasSplitGelu", domain=DOMAIN)
def bias_split_gelu(node: Node) -> Value:
    """BiasSplitGelu: the left half of the channels times the GELU of the right half."""
    x = node.make(Add, node.value(0), node.value(1))
    left, right = _halves(node, x)
    return node.make(Mul, left, _gelu(node, right, tanh=False))


def _halves(node: Node, x: Value) -> tuple[Value, Value]:
    """Both halves of the last dimension."""
    dims = node.dims_of(x)
    last = dims[-1]
    if not isinstance(last, int) or last % 2:
        raise Unsupported(f"halves of a dimension of {last}")
    starts, ones = (0,) * (len(dims) - 1), (1,) * len(dims)
    left = node.make(Slice, x, (*starts, 0), (*dims[:-1], last // 2), ones)
    return left, node.make(Slice, x, (*starts, last // 2), dims, ones)


@converter("BiasAdd", domain=DOMAIN)
def bias_add(node: Node) -> Value:
    """BiasAdd: `x + bias + skip`."""
    return node.make(Add, node.make(Add, node.value(0), node.value(1)), node.value(2))


@converter("BiasDropout", domain=DOMAIN)
def bias_dropout(node: Node) -> Value:
    """BiasDropout outside of training: nothing is dropped."""
    mode = node.maybe_array(4) if node.has(4) else None
    if node.has(4) and (mode is None or mode.reshape(-1)[0]):
        raise Unsupported("training mode", "export the model for inference")
    y = node.make(Add, node.value(0), node.value(1))
    return node.make(Add, y, node.value(2)) if node.has(2) else y


@converter("BiasSoftmax", domain=DOMAIN)
def bias_softmax(node: Node) -> Value:
    """BiasSoftmax: softmax of `x + bias` over all dimensions from `axis` on."""
    y = node.make(Add, node.value(0), node.value(1))
    dims = node.dims_of(y)
    axis = node.axis(node.integer("axis", 1), len(dims))
    if axis == len(dims) - 1:
        return node.make(Softmax, y, axis)
    rows = node.make(Reshape, y, (as_dim(product(dims[:axis])), as_dim(product(dims[axis:]))))
    return node.make(Reshape, node.make(Softmax, rows, 1), dims)


@converter("ScaledSiLU", domain=DOMAIN)
def scaled_silu(node: Node) -> Value:
    """ScaledSiLU: SiLU of `x * scale`; the scale is an input or an attribute."""
    x = node.value(0)
    if node.has(1):
        x = node.make(Mul, x, node.make(Cast, node.make(Reshape, node.value(1), ()), x.tensor.dtype))
    elif (alpha := node.real("alpha", 1.0)) != 1.0:
        x = node.make(Mul, x, node.splat(alpha, x.tensor.dtype))
    return node.make(Silu, x)


@converter("SwiGLU", domain=DOMAIN)
def swiglu(node: Node) -> Value:
    """SwiGLU: `g * sigmoid(alpha * g) * (l + beta)`, where g and l may be clamped, and may be halves of one input."""
    left, right = (node.value(0), node.value(1)) if node.has(1) else _halves(node, node.value(0))
    gate, up, limit = Calc(node, left), Calc(node, right), node.real("limit", 0.0)
    if limit > 0:
        gate, up = gate.minimum(limit), up.clamped(-limit, limit)
    alpha, beta = node.real("activation_alpha", 1.0), node.real("activation_beta", 0.0)
    open_part = Calc(node, node.make(Sigmoid, (gate * alpha).value))
    return (gate * open_part * (up + beta)).value


@converter("GatedRMSNorm", domain=DOMAIN)
def gated_rms_norm(node: Node) -> Value:
    """GatedRMSNorm: groups of channels, as many as there are scales, normalised, times an activation of the gate."""
    dims, size = node.shape(0), node.shape(1)[0]
    last = dims[-1]
    if not isinstance(last, int) or not isinstance(size, int) or size < 1 or last % size:
        raise node.error(f"expected a multiple of {size} channels, got {last}")
    dtype = node.type(0).dtype
    x, scale, gate = (node.make(Cast, node.value(i), "f32") for i in range(3))
    grouped = node.make(Reshape, x, (*dims[:-1], last // size, size))
    y = node.make(Reshape, rms(node, grouped, scale, node.real("epsilon", 1e-5)), dims)
    name = node.string("activation", "silu")
    if name not in ("silu", "swish", "sigmoid"):
        raise node.error(f"activation: expected silu, swish or sigmoid, got {name!r}")
    gate = node.make(Sigmoid if name == "sigmoid" else Silu, gate)
    return node.make(Cast, node.make(Mul, y, gate), dtype)


# -- products -------------------------------------------------------------------------------------------------------


@converter("FusedConv", domain=DOMAIN)
def fused_conv(node: Node) -> Value:
    """FusedConv: a convolution, an optional sum with a fourth input, an activation."""
    y = as_value(conv(node))
    if node.has(3):
        y = node.make(Add, y, node.value(3))
    return activated(node, y, node.string("activation", ""), node.floats("activation_params", ()))


@converter("FusedGemm", domain=DOMAIN)
def fused_gemm(node: Node) -> Value:
    """FusedGemm: Gemm and an activation."""
    node.opset = _NEWEST
    return activated(node, as_value(gemm(node)), node.string("activation", ""), _parameters(node))


@converter("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=DOMAIN)
def fused_matmul(node: Node) -> Value:
    """FusedMatMul: `alpha * A' B'`, with an activation if it has that in its name."""
    y = node.make(MatMul, _turned(node, 0, "A"), _turned(node, 1, "B"))
    alpha = node.real("alpha", 1.0)
    if alpha != 1.0:
        y = node.make(Mul, y, node.splat(alpha, y.tensor.dtype))
    if node.op_type != "FusedMatMulActivation":
        return y
    return activated(node, y, node.string("activation"), _parameters(node))


def _turned(node: Node, number: int, side: str) -> Value:
    """An operand of FusedMatMul. `transBatch` brings dimension 0 to the rows, `trans` exchanges rows and columns."""
    x, rank = node.value(number), node.rank(number)
    order = list(range(rank))
    if rank > 1 and node.integer(f"transBatch{side}", 0):
        order = [*range(1, rank - 1), 0, rank - 1]
    if rank > 1 and node.integer(f"trans{side}", 0):
        order[-2:] = order[-1], order[-2]
    if order == list(range(rank)):
        return x
    data = node.constant(number)
    if data is not None:
        return node.scope.constant(data.permuted(tuple(order)))
    return node.make(Transpose, x, tuple(order))


@converter("GemmFastGelu", domain=DOMAIN)
def gemm_fast_gelu(node: Node) -> Value:
    """GemmFastGelu: a product, a bias, GELU by tanh."""
    y = node.make(MatMul, node.value(0), node.value(1))
    return _gelu(node, node.make(Add, y, node.value(2)) if node.has(2) else y, tanh=True)


@converter("ComplexMul", "ComplexMulConj", domain=DOMAIN)
def complex_mul(node: Node) -> Value:
    """ComplexMul: products of complex numbers, whose parts are the last dimension; the second one may be conjugated."""
    (a, b), (c, d) = (_parts(node, node.value(i)) for i in range(2))
    d = -d if node.op_type == "ComplexMulConj" else d
    real, imaginary = a * c - b * d, a * d + b * c
    return node.make(Concat, (real.value, imaginary.value), len(node.dims_of(real.value)) - 1)


def _parts(node: Node, x: Value) -> tuple[Calc, Calc]:
    left, right = _halves(node, x)
    return Calc(node, left), Calc(node, right)


# -- normalisation --------------------------------------------------------------------------------------------------


@converter("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(node: Node) -> list[Value | None]:
    """The normalisation of `input + skip + bias`, and (output 3) that sum."""
    root = node.op_type.startswith("SkipSimplified")
    bias = 3 if root else 4
    total = node.make(Add, node.value(0), node.value(1))
    if node.has(bias):
        total = node.make(Add, total, node.value(bias))
    epsilon, rank = node.real("epsilon", 1e-12), node.rank(0)
    if root:
        y = rms(node, total, node.value(2), epsilon)
    else:
        y = node.make(LayerNorm, total, node.value(2), node.optional(3), rank - 1, epsilon)
    return [y, None, None, total]


def rms(node: Node, x: Value, scale: Value | None, epsilon: float) -> Value:
    """`x / sqrt(mean(x^2) + epsilon) * scale` along the last dimension, in f32 for narrow types."""
    dtype = x.tensor.dtype
    wide = x if dtype not in ("f16", "bf16") else node.make(Cast, x, "f32")
    square = node.make(Mean, node.make(Mul, wide, wide), (len(node.dims_of(x)) - 1,), True)
    root = node.make(Rsqrt, node.make(Add, square, node.splat(epsilon, wide.tensor.dtype)))
    y = node.make(Mul, wide, root)
    if scale is not None:
        y = node.make(Mul, y, scale if scale.tensor.dtype == wide.tensor.dtype else node.make(Cast, scale, "f32"))
    return y if y.tensor.dtype == dtype else node.make(Cast, y, dtype)


# -- others ---------------------------------------------------------------------------------------------------------


@converter("IsAllFinite", domain=DOMAIN)
def is_all_finite(node: Node) -> Value:
    """IsAllFinite: whether no element of any input is infinite or no number (or only one of these, by attributes)."""
    bad: Value | None = None
    for x in node.values():
        found: list[Value] = []
        if not node.integer("isinf_only", 0):
            found.append(node.make(IsNaN, x))
        if not node.integer("isnan_only", 0):
            found.append(node.make(IsInf, x, True, True))
        one = found[0] if len(found) == 1 else node.make(Or, *found)
        count = node.make(Cast, one, "i32")
        count = node.make(Max, count, tuple(range(len(node.dims_of(x)))), False) if node.dims_of(x) else count
        bad = count if bad is None else node.make(Add, bad, count)
    if bad is None:
        raise node.error("expected at least one input")
    return node.make(Equal, bad, node.splat(0, "i32"))


@converter("CDist", domain=DOMAIN)
def cdist(node: Node) -> Value:
    """CDist: the distance of each row of A to each row of B, `euclidean` or (by default) its square."""
    metric = node.string("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise Unsupported(f"metric {metric}")
    (m, k), (n, _) = node.shape(0), node.shape(1)
    a, b = Calc(node, node.value(0)).reshaped(m, 1, k), Calc(node, node.value(1)).reshaped(1, n, k)
    difference = a - b
    total = Calc(node, node.make(Sum, (difference * difference).value, (2,), False))
    return total.sqrt().value if metric == "euclidean" else total.value


@converter("Inverse", domain=DOMAIN)
def inverse(node: Node) -> Value:
    """Inverse of the matrices in the last two dimensions: Gauss-Jordan elimination with the largest pivots."""
    dims = node.shape(0)
    n = dims[-1] if len(dims) > 1 else None
    if not isinstance(n, int) or dims[-2:] != (n, n):
        raise node.error(f"expected square matrices of a known size, got {node.type(0)}")
    if n > _MOST_ROWS:
        raise Unsupported(f"the inverse of matrices of more than {_MOST_ROWS} rows")
    x = node.value(0)
    dtype = x.tensor.dtype
    wide = x if dtype in ("f32", "f64") else node.make(Cast, x, "f32")
    kind = wide.tensor.dtype
    rows = node.make(Iota, (*[1] * (len(dims) - 2), n, 1), len(dims) - 2, "i64")
    columns = node.make(Iota, (*[1] * (len(dims) - 2), 1, n), len(dims) - 1, "i64")
    one = node.make(Cast, node.make(Equal, rows, columns), kind)
    both = node.make(Concat, (wide, node.make(Expand, one, dims)), len(dims) - 1)
    for k in range(n):
        both = _eliminated(node, both, rows, k, n)
    result = _box(node, both, n, 2 * n, -1)
    return result if kind == dtype else node.make(Cast, result, dtype)


def _box(node: Node, x: Value, start: int, stop: int, axis: int) -> Value:
    """A part of one dimension of `x`."""
    dims = node.dims_of(x)
    at = axis % len(dims)
    starts = tuple(start if i == at else 0 for i in range(len(dims)))
    stops = tuple(stop if i == at else d for i, d in enumerate(dims))
    return node.make(Slice, x, starts, stops, (1,) * len(dims))


def _eliminated(node: Node, both: Value, rows: Value, k: int, n: int) -> Value:
    """One step: the row with the largest element of column k comes to place k, is divided by it, and taken off the
    others."""
    dims = node.dims_of(both)
    axis, at = len(dims) - 2, node.splat(k, "i64")
    size = node.make(Abs, _box(node, both, k, k + 1, -1))
    done = node.make(Less, rows, at)
    size = node.make(Where, done, node.splat(-1.0, both.tensor.dtype), size)
    best = node.make(ArgMax, size, axis, True)
    swapped = node.make(Where, node.make(Equal, rows, best), at, rows)
    places = node.make(Where, node.make(Equal, rows, at), best, swapped)
    order: tuple[Dim, ...] = (*dims[:-2], n, dims[-1])
    both = node.make(GatherElements, both, node.make(Expand, places, order), axis)
    pivot = _box(node, both, k, k + 1, axis)
    pivot = (Calc(node, pivot) / Calc(node, _box(node, pivot, k, k + 1, -1))).value
    rest = node.make(Sub, both, node.make(Mul, _box(node, both, k, k + 1, -1), pivot))
    return node.make(Where, node.make(Equal, rows, at), pivot, rest)
