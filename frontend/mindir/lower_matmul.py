"""Lowerings of MindIR's matrix products."""

from __future__ import annotations

import numpy as np

from .lower_common import common_dtype, constant, kind_of, rank
from .primitive import FORMATS, Call, Datum, Item, primitive


def product(call: Call, x: Item, y: Item, *, transpose_x: bool = False, transpose_y: bool = False) -> Item:
    """The matrix product over the last two dimensions, as NumPy's matmul, in the type of the operands."""
    dtype = common_dtype(call.element_type(x), call.element_type(y))
    wide = dtype if kind_of(dtype) >= 2 or dtype in ("i32", "i64", "u32", "u64") else "i32"
    x, y = call.cast(x, wide), call.cast(y, wide)
    if rank(call, x) == rank(call, y) == 2 and kind_of(wide) == 2 and (transpose_x or transpose_y):
        found = call.op("Gemm", x, y, transA=int(transpose_x), transB=int(transpose_y))
    else:
        x = swapped(call, x) if transpose_x else x
        y = swapped(call, y) if transpose_y else y
        found = call.op("MatMul", x, y)
    return call.cast(found, dtype)


def swapped(call: Call, x: Item) -> Item:
    """A tensor with its last two dimensions swapped."""
    dims = rank(call, x)
    order = [*range(dims - 2), dims - 1, dims - 2] if dims > 1 else [0]
    return call.op("Transpose", x, perm=order)


@primitive("MatMul", "MatMulV2", "BatchMatMul", "BatchMatMulV2")
def matmul(call: Call) -> Datum:
    """The product of (stacks of) matrices, each of which may be transposed."""
    x, y = call.tensor(0), call.tensor(1)
    a, b = (call.flag(call.first(f"transpose_{i}", f"transpose_x{n}"), False) for i, n in (("a", 1), ("b", 2)))
    found = product(call, x, y, transpose_x=a, transpose_y=b)
    dtype = call.dtype("cast_type")
    return found if dtype is None else call.cast(found, dtype)


@primitive("MatMulExt", "BatchMatMulExt", "Mm", "Mv", "Dot", "LinalgMatMul")
def matmul_ext(call: Call) -> Datum:
    """The product of vectors, matrices or stacks of them, as NumPy's matmul."""
    return product(call, call.tensor(0), call.tensor(1))


@primitive("Dense")
def dense(call: Call) -> Datum:
    """`x wT + b`."""
    x, weight = call.tensor("input"), call.tensor("weight")
    y = product(call, x, weight, transpose_y=rank(call, weight) == 2)
    return call.op("Add", y, call.cast(call.tensor("bias"), call.element_type(y))) if call.has("bias") else y


@primitive("Outer", "Ger")
def outer(call: Call) -> Datum:
    """All products of the elements of two vectors."""
    x, y = call.tensor(0), call.tensor(1)
    dtype = common_dtype(call.element_type(x), call.element_type(y))
    x, y = call.cast(x, dtype), call.cast(y, dtype)
    return call.op("Mul", call.op("Unsqueeze", x, np.array([1])), call.op("Unsqueeze", y, np.array([0])))


def _scaled(call: Call, x: Item, name: str) -> Item:
    factor = call.real(name, 1.0)
    return x if factor == 1.0 else call.op("Mul", x, constant(call, factor, x))


def _plus(call: Call, x: Item, y: Item) -> Item:
    """`beta input + alpha product`."""
    return call.op("Add", call.cast(_scaled(call, x, "beta"), call.element_type(y)), _scaled(call, y, "alpha"))


@primitive("Addmm", "Addmv", "Baddbmm")
def add_product(call: Call) -> Datum:
    """`beta input + alpha a b`."""
    return _plus(call, call.tensor(0), product(call, call.tensor(1), call.tensor(2)))


@primitive("Addbmm")
def add_products(call: Call) -> Datum:
    """`beta input + alpha` times the sum of the products of a stack."""
    found = product(call, call.tensor(1), call.tensor(2))
    return _plus(call, call.tensor(0), call.op("ReduceSum", found, np.array([0]), keepdims=0))


@primitive("Einsum")
def einsum(call: Call) -> Datum:
    """Einstein's sum."""
    items = call.items("x") if isinstance(call[0], tuple) else [call.item(d) for d in call.given]
    return call.op("Einsum", *items, equation=call.string("equation"))


@primitive("BiasAdd")
def bias_add(call: Call) -> Datum:
    """`x` plus a bias for each channel: of dimension 1, or of the last one (NHWC)."""
    x, bias = call.tensor(0), call.tensor(1)
    name = call.first("data_format", "format")
    dims = rank(call, x)
    bias = call.cast(bias, call.element_type(x))
    if dims > 2 and not call.word(name, FORMATS, "NCHW").endswith("C"):
        bias = call.op("Reshape", bias, np.array([-1] + [1] * (dims - 2), np.int64))
    return call.op("Add", x, bias)
