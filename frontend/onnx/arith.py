"""Elementwise operators that are not one operation each: variadic ones, old broadcasting, attributes that choose."""

from __future__ import annotations

from ...ir.constants import ConstantData
from ...ir.core import Op, Value
from ...ir.expr import Dim
from ...ir.ops.activation import Clip, Gelu, PRelu, Silu
from ...ir.ops.arith import (
    Add,
    And,
    Cast,
    Div,
    Equal,
    FloorMod,
    Greater,
    Less,
    Maximum,
    Minimum,
    Mul,
    Not,
    Or,
    Pow,
    Rem,
    Shl,
    Shr,
    Sigmoid,
    Sub,
    Where,
    Xor,
)
from ...ir.ops.float8 import FLOAT8, Bitcast, FromFloat8, ToFloat8
from ...ir.ops.shape import Reshape
from ...ir.types import DTYPES, is_float
from .node import Node, converter
from .scope import Unsupported

_BINARY: dict[str, type[Op]] = {
    "Add": Add, "Sub": Sub, "Mul": Mul, "Div": Div, "Pow": Pow, "And": And, "Or": Or, "Xor": Xor, "Equal": Equal,
    "Less": Less, "Greater": Greater, "BitwiseAnd": And, "BitwiseOr": Or, "BitwiseXor": Xor,
}  # fmt: skip


@converter(*_BINARY)
def binary(node: Node) -> Value:
    """Two operands that broadcast."""
    x, y = node.value(0), node.value(1)
    if node.opset < 7:
        y = _old_broadcast(node, x, y)
    return node.make(_BINARY[node.op_type], x, y)


def _old_broadcast(node: Node, x: Value, y: Value) -> Value:
    """Before opset 7, `broadcast=1` lines y up with the dimensions of x from `axis` on (default: the last ones)."""
    if not node.integer("broadcast", 0) or not node.has_attribute("axis"):
        return y
    rank, own = len(node.dims_of(x)), len(node.dims_of(y))
    axis = node.axis(node.integer("axis"), rank)
    if axis + own > rank:
        raise node.error(f"axis: expected at most {rank - own}, got {axis}")
    shape: tuple[Dim, ...] = (*node.dims_of(y), *([1] * (rank - axis - own)))
    return node.make(Reshape, y, shape)


@converter("Sum", "Max", "Min", "Mean")
def variadic(node: Node) -> Value:
    """Any number of operands, folded from the left."""
    values = node.values()
    if not values:
        raise node.error("expected at least one input")
    kind: type[Op] = {"Sum": Add, "Mean": Add, "Max": Maximum, "Min": Minimum}[node.op_type]
    total = values[0]
    for value in values[1:]:
        total = node.make(kind, total, value)
    if node.op_type == "Mean" and len(values) > 1:
        total = node.make(Div, total, node.splat(len(values), total.tensor.dtype))
    return total


@converter("Mod")
def modulo(node: Node) -> Value:
    """Mod: the divisor's sign (fmod=0) or the dividend's (fmod=1)."""
    return node.make(Rem if node.integer("fmod", 0) else FloorMod, node.value(0), node.value(1))


@converter("BitShift")
def bit_shift(node: Node) -> Value:
    """BitShift LEFT or RIGHT."""
    kinds: dict[str, type[Op]] = {"LEFT": Shl, "RIGHT": Shr}
    direction = node.string("direction")
    if direction not in kinds:
        raise node.error(f"direction: expected LEFT or RIGHT, got {direction!r}")
    x, y = node.value(0), node.value(1)
    if direction == "RIGHT" and DTYPES[x.tensor.dtype].kind == "int":
        # A shift by the width or more leaves the sign, as one by the width less one does; so does one by less than 0.
        most = node.splat(DTYPES[x.tensor.dtype].bits - 1, y.tensor.dtype)
        y = node.make(Where, node.make(Less, y, node.splat(0, y.tensor.dtype)), most, node.make(Minimum, y, most))
    return node.make(kinds[direction], x, y)


@converter("Not", "BitwiseNot")
def complement(node: Node) -> Value:
    """Not and BitwiseNot: one operation, by element type."""
    return node.make(Not, node.value(0))


@converter("Cast", "CastLike")
def cast(node: Node) -> Value:
    """Cast to an element type, or to that of another tensor."""
    x = node.value(0)
    if node.op_type == "CastLike":
        dtype = node.type(1).dtype
    elif node.opset < 6:
        names = {"FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "BOOL": "bool", "STRING": "string"}
        text = node.string("to")
        dtype = names.get(text, text.lower().replace("uint", "u").replace("int", "i"))
    else:
        dtype = node.dtype(node.integer("to"))
    if dtype not in DTYPES:
        raise node.error(f"to: unknown element type {dtype!r}")
    return converted(node, x, dtype)


def converted(node: Node, x: Value, dtype: str) -> Value:
    """`x` as `dtype`, by the rules of ONNX's Cast and its attributes saturate and round_mode."""
    have = x.tensor.dtype
    if have == dtype:
        return x
    if have in FLOAT8:
        return converted(node, node.make(FromFloat8, x), dtype)
    if dtype in FLOAT8:
        x = x if have == "f32" else node.make(Cast, x, "f32")
        return node.make(ToFloat8, x, dtype, node.integer("saturate", 1) != 0, node.string("round_mode", "up"))
    if 0 < DTYPES[dtype].bits < 8 and is_float(have):  # these wrap, where wider integers saturate
        x = node.make(Cast, x, "i32")
    return node.make(Cast, x, dtype)


@converter("BitCast")
def bit_cast(node: Node) -> Value:
    """BitCast: the same bits as another type of the same width."""
    x, dtype = node.value(0), node.dtype(node.integer("to"))
    kinds = {DTYPES[d].kind for d in (dtype, x.tensor.dtype)}
    if x.tensor.dtype == "bool" and dtype in ("u8", "i8"):
        return node.make(Cast, x, dtype)
    if not kinds <= {"float", "int", "uint", "float8", "complex"} or DTYPES[dtype].bits < 8:
        raise Unsupported(f"BitCast from {x.tensor.dtype} to {dtype}")
    return x if x.tensor.dtype == dtype else node.make(Bitcast, x, dtype)


@converter("Clip")
def clip(node: Node) -> Value:
    """Clip: bounds are attributes (before opset 11) or inputs; absent ones do not bound."""
    x = node.value(0)
    if node.opset >= 11:
        return node.make(Clip, x, node.optional(1), node.optional(2))
    dtype = x.tensor.dtype
    bounds = [node.splat(node.real(n), dtype) if node.has_attribute(n) else None for n in ("min", "max")]
    return node.make(Clip, x, *bounds)


@converter("Identity", "StopGradient")
def identity(node: Node) -> Value | ConstantData:
    """The input itself."""
    return same(node)


def same(node: Node) -> Value | ConstantData:
    """Input 0 as it is."""
    data = node.constant(0)
    return node.value(0) if data is None else data


@converter("PRelu")
def prelu(node: Node) -> Value:
    """PRelu; before opset 7 a slope of rank 1 is one number for each channel."""
    x, slope = node.value(0), node.value(1)
    if node.opset < 7 and slope.tensor.shape is not None and slope.tensor.rank == 1 and slope.tensor.dims != (1,):
        slope = node.make(Reshape, slope, (*slope.tensor.dims, *([1] * (node.rank(0) - 2))))
    return node.make(PRelu, x, slope)


@converter("Swish")
def swish(node: Node) -> Value:
    """Swish: `x * sigmoid(alpha * x)`."""
    x, alpha = node.value(0), node.real("alpha", 1.0)
    if alpha == 1:
        return node.make(Silu, x)
    return node.make(Mul, x, node.make(Sigmoid, node.make(Mul, x, node.splat(alpha, x.tensor.dtype))))


@converter("Shrink")
def shrink(node: Node) -> Value:
    """Shrink: `x + bias` below -lambd, `x - bias` above lambd, else 0."""
    x = node.value(0)
    dtype = x.tensor.dtype
    if not is_float(dtype):
        raise Unsupported(f"Shrink of {dtype}")
    lambd, bias = node.real("lambd", 0.5), node.real("bias", 0.0)
    low = node.make(Less, x, node.splat(-lambd, dtype))
    high = node.make(Greater, x, node.splat(lambd, dtype))
    above = node.make(Where, high, node.make(Sub, x, node.splat(bias, dtype)), node.splat(0, dtype))
    return node.make(Where, low, node.make(Add, x, node.splat(bias, dtype)), above)


@converter("BiasGelu", "FastGelu", "QuickGelu", domain="com.microsoft")
def microsoft_gelu(node: Node) -> Value:
    """ONNX Runtime's fused activations, which its optimizer writes into models."""
    x = node.value(0)
    if node.op_type == "QuickGelu":
        scaled = node.make(Mul, x, node.splat(node.real("alpha", 1.702), x.tensor.dtype))
        return node.make(Mul, x, node.make(Sigmoid, scaled))
    if node.has(1):
        x = node.make(Add, x, node.value(1))
    return node.make(Gelu, x, "none" if node.op_type == "BiasGelu" else "tanh")
