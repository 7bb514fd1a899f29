"""Lowerings of MindIR's complex numbers: put together of halves, taken apart."""

from __future__ import annotations

from ...ir.ops.arith import Atan2, Shl, Shr
from ...ir.ops.float8 import Bitcast
from .lower_common import constant, operands
from .primitive import Call, Item, Unsupported, primitive

_LOW = 0xFFFFFFFF


def is_complex(call: Call, x: Item) -> bool:
    """Whether a tensor has complex elements."""
    return call.element_type(x).startswith("c")


def halves(call: Call, x: Item) -> tuple[Item, Item]:
    """Real and imaginary parts (f32): the halves of the bits; of real numbers the imaginary part is 0."""
    if not is_complex(call, x):
        real = call.cast(x, "f32")
        return real, call.op("Mul", real, constant(call, 0, real))
    if call.element_type(x) != "c64":
        raise Unsupported("complex numbers of 128 bits", "use complex64")
    bits = call.make(Bitcast, x, "u64")
    low = call.op("BitwiseAnd", bits, call.a.scalar(_LOW, "u64"))
    high = call.make(Shr, bits, call.a.scalar(32, "u64"))
    real, imaginary = (call.make(Bitcast, call.cast(part, "u32"), "f32") for part in (low, high))
    return real, imaginary


def complex_of(call: Call, real: Item, imaginary: Item) -> Item:
    """Complex numbers (c64) of two parts (f32) of one shape."""
    low, high = (call.cast(call.make(Bitcast, part, "u32"), "u64") for part in (real, imaginary))
    bits = call.op("BitwiseOr", low, call.make(Shl, high, call.a.scalar(32, "u64")))
    return call.make(Bitcast, bits, "c64")


@primitive("Complex")
def complex_(call: Call) -> Item:
    """Complex numbers of two parts."""
    return complex_of(call, *(call.cast(i, "f32") for i in operands(call, call[0], call[1])))


@primitive("Polar")
def polar(call: Call) -> Item:
    """Complex numbers of length and angle."""
    size, angle = operands(call, call[0], call[1])
    return complex_of(call, *(call.op("Mul", size, call.op(f, angle)) for f in ("Cos", "Sin")))


@primitive("Real", "RealView")
def real(call: Call) -> Item:
    """The real part."""
    x = call.tensor(0)
    return halves(call, x)[0] if is_complex(call, x) else x


@primitive("Imag", "ImagView")
def imaginary(call: Call) -> Item:
    """The imaginary part."""
    x = call.tensor(0)
    return halves(call, x)[1] if is_complex(call, x) else call.op("Mul", x, constant(call, 0, x))


@primitive("Conj")
def conjugate(call: Call) -> Item:
    """The imaginary part with the other sign."""
    x = call.tensor(0)
    if not is_complex(call, x):
        return x
    re, im = halves(call, x)
    return complex_of(call, re, call.op("Neg", im))


@primitive("Angle")
def angle(call: Call) -> Item:
    """The angle of complex numbers; of real ones 0 or pi."""
    re, im = halves(call, call.tensor(0))
    return call.make(Atan2, im, re)


def modulus(call: Call, x: Item) -> Item:
    """The length of complex numbers."""
    re, im = (call.op("Abs", part) for part in halves(call, x))
    top, low = call.op("Max", re, im), call.op("Min", re, im)
    zero = constant(call, 0, top)
    ratio = call.op("Where", call.op("Equal", top, zero), zero, call.op("Div", low, top))
    return call.op("Mul", top, call.op("Sqrt", call.op("Add", call.op("Mul", ratio, ratio), constant(call, 1, top))))


@primitive("Abs", "ComplexAbs")
def absolute(call: Call) -> Item:
    """The absolute value; of complex numbers as complex ones where the file says so."""
    x = call.tensor(0)
    if not is_complex(call, x):
        return call.op("Abs", x)
    size = modulus(call, x)
    declared = call.result_dtype or ""
    return complex_of(call, size, call.op("Mul", size, constant(call, 0, size))) if declared[:1] == "c" else size


__all__ = ["complex_of", "halves", "is_complex"]
