"""Activations, and operators that change the element type or nothing."""

from __future__ import annotations

from ....ir.ops.float8 import Bitcast
from ....ir.types import DTYPES
from .base import Build, Item, Number, Unsupported, aten
from .pointwise import clamp, expm1

# -- activations ------------------------------------------------------------------------------------------------------


@aten("gelu")
def gelu(b: Build, x: Item, approximate: str = "none") -> Item:
    return b.op("Gelu", x, approximate=approximate)


@aten("relu6")
def relu6(b: Build, x: Item) -> Item:
    return clamp(b, x, 0.0, 6.0)


@aten("hardtanh")
def hardtanh(b: Build, x: Item, min_val: Number = -1, max_val: Number = 1) -> Item:
    return clamp(b, x, min_val, max_val)


@aten("hardsigmoid")
def hardsigmoid(b: Build, x: Item) -> Item:
    return b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@aten("leaky_relu")
def leaky_relu(b: Build, x: Item, negative_slope: float = 0.01) -> Item:
    return b.op("LeakyRelu", x, alpha=float(negative_slope))


@aten("elu")
def elu(b: Build, x: Item, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Item:
    if scale == 1 and input_scale == 1:
        return b.op("Elu", x, alpha=float(alpha))
    low = b.op("Mul", expm1(b, b.op("Mul", x, b.a.like(float(input_scale), x))), b.a.like(float(alpha * scale), x))
    high = b.op("Mul", x, b.a.like(float(scale), x))
    return b.op("Where", b.op("Less", x, b.a.like(0.0, x)), low, high)


@aten("selu")
def selu(b: Build, x: Item) -> Item:
    return b.op("Selu", x)


@aten("celu")
def celu(b: Build, x: Item, alpha: float = 1.0) -> Item:
    return b.op("Celu", x, alpha=float(alpha))


@aten("softplus")
def softplus(b: Build, x: Item, beta: float = 1, threshold: float = 20) -> Item:
    factor = b.a.like(float(beta), x)
    scaled = x if beta == 1 else b.op("Mul", x, factor)
    soft = b.op("Softplus", scaled)
    soft = soft if beta == 1 else b.op("Div", soft, factor)
    return b.op("Where", b.op("Greater", scaled, b.a.like(float(threshold), x)), x, soft)


@aten("log_sigmoid", "log_sigmoid_forward")
def log_sigmoid(b: Build, x: Item) -> Item:
    return b.op("Neg", b.op("Softplus", b.op("Neg", x)))


@aten("prelu", "_prelu_kernel")
def prelu(b: Build, x: Item, weight: Item) -> Item:
    rank = b.rank(x)
    if b.rank(weight) == 1 and rank > 1 and b.shape(weight) != (1,):
        weight = b.reshape(weight, (b.shape(weight)[0], *[1] * (rank - 2)))
    elif rank == 0:
        weight = b.reshape(weight, ())
    return b.op("PRelu", x, weight)


@aten("threshold")
def threshold(b: Build, x: Item, threshold: Number, value: Number) -> Item:
    dtype = b.dtype(x)
    return b.op("Where", b.op("Greater", x, b.tensor(threshold, dtype)), x, b.tensor(value, dtype))


@aten("hardshrink")
def hardshrink(b: Build, x: Item, lambd: float = 0.5) -> Item:
    return b.op("Where", b.op("LessOrEqual", b.op("Abs", x), b.a.like(float(lambd), x)), b.a.like(0.0, x), x)


@aten("softshrink")
def softshrink(b: Build, x: Item, lambd: float = 0.5) -> Item:
    return b.op("Shrink", x, lambd=float(lambd), bias=float(lambd))


@aten("glu")
def glu(b: Build, x: Item, dim: int = -1) -> Item:
    size = b.shape(x)[b.axis(dim, b.rank(x))]
    if not isinstance(size, int) or size % 2:
        raise Unsupported(f"glu of {size} elements: expected an even number that is known")
    half = size // 2
    return b.op("Mul", b.slice(x, dim, 0, half), b.op("Sigmoid", b.slice(x, dim, half, size)))


@aten("rrelu", "rrelu_with_noise")
def rrelu(
    b: Build, x: Item, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, noise: Item | None = None
) -> Item:
    if training:
        raise Unsupported("rrelu in training", "call module.eval() before exporting")
    return b.op("LeakyRelu", x, alpha=(lower + upper) / 2)


# -- conversions ------------------------------------------------------------------------------------------------------


@aten("to.dtype", "to.dtype_layout", "to.device", "_to_copy", "to.prim_Device", "type_as", "to.other")
def to(b: Build, x: Item, dtype: str | None = None, copy: bool = False, other: Item | None = None) -> Item:
    target = b.dtype(other) if other is not None else dtype
    return x if target is None else b.cast(x, target)


@aten("clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh", "detach_copy", "alias_copy",
      "positive", "resolve_conj", "resolve_neg", "_conj", "conj", "real", "view_as_real_copy", "lift", "_lazy_clone",
      "data", "requires_grad_")  # fmt: skip
def identity(b: Build, x: Item, requires_grad: bool = True) -> Item:
    return x


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(b: Build, input: Item, p: float = 0.5, train: bool = False) -> Item:
    if train and p:
        raise Unsupported("dropout in training", "call module.eval() before exporting")
    return input


@aten("native_dropout")
def native_dropout(b: Build, input: Item, p: float = 0.5, train: bool | None = False) -> list[Item]:
    dropout(b, input, p, bool(train))
    return [input, b.expand(b.tensor(True), b.shape(input))]


@aten("view.dtype")
def view_dtype(b: Build, x: Item, dtype: str) -> Item:
    if DTYPES[b.dtype(x)].bits != DTYPES[dtype].bits:
        raise Unsupported(f"a view of {b.dtype(x)} as {dtype}, which has another size")
    return b.a.make(Bitcast, x, dtype)


@aten("fake_quantize_per_tensor_affine")
def fake_quantize(b: Build, x: Item, scale: float, zero_point: int, quant_min: int, quant_max: int) -> Item:
    step, zero = b.a.like(float(scale), x), b.a.like(float(zero_point), x)
    code = b.op("Add", b.op("Round", b.op("Div", x, step)), zero)
    code = clamp(b, code, float(quant_min), float(quant_max))
    return b.op("Mul", b.op("Sub", code, zero), step)
