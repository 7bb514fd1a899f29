"""Products, normalisation, reductions, selection, quantisation."""

from __future__ import annotations

import math

import numpy as np

from ...ir.core import Value
from ...ir.expr import as_expr
from ...ir.ops import (
    arith,
    cumulative,
    fold,
    indexing,
    linalg,
    norm,
    order,
    quant,
    reduce,
    shape,
)
from ...ir.ops.determinant import Det
from ...ir.types import DTYPES, TensorType, is_float
from ..report import Cannot
from .elementwise import cast_to
from .net import Net, Ref, lowers, numbers, type_of
from .proto import type_id

_VALID = 2  # MindSpore's PadMode
_NCHW = 0  # and Format


@lowers(linalg.MatMul)
def matmul(net: Net, op: linalg.MatMul) -> Ref | Value:
    """MatMul of matrices, BatchMatMul of equal batches, MatMulExt of all else; integers as f64."""
    a, b = op.a.tensor, op.b.tensor
    if not is_float(a.dtype):
        if DTYPES[a.dtype].bits > 32:
            raise Cannot("a product of integers of 64 bits")
        product = net.make(linalg.MatMul, cast_to(net, op.a, "f64"), cast_to(net, op.b, "f64"))
        return cast_to(net, product, type_of(op).dtype)
    if min(a.rank, b.rank) == 1:
        rows = op.a if a.rank > 1 else net.make(shape.Reshape, op.a, (1, *a.dims))
        columns = op.b if b.rank > 1 else net.make(shape.Reshape, op.b, (*b.dims, 1))
        return net.make(shape.Reshape, net.make(linalg.MatMul, rows, columns), type_of(op).dims)
    refs = net.of(op.a), net.of(op.b)
    if a.rank == b.rank == 2:
        return net.prim("MatMul", *refs, False, False, type=type_of(op))
    if a.rank > 2 and b.rank == 2:
        rows = net.make(shape.Reshape, op.a, (math.prod(map(as_expr, a.dims[:-1]), start=as_expr(1)), a.dims[-1]))
        return net.make(shape.Reshape, net.make(linalg.MatMul, rows, op.b), type_of(op).dims)
    if a.rank == b.rank and a.dims[:-2] == b.dims[:-2]:
        return net.prim("BatchMatMul", *refs, False, False, type=type_of(op))
    return net.prim("MatMulExt", *refs, type=type_of(op))


@lowers(Det)
def det(net: Net, op: Det) -> Ref:
    """MatrixDeterminant."""
    return net.prim("MatrixDeterminant", net.of(op.x), type=type_of(op), attributes={})


# -- normalisation ----------------------------------------------------------------------------------------------------


@lowers(norm.BatchNorm)
def batch_norm(net: Net, op: norm.BatchNorm) -> Ref | Value:
    """BatchNorm of pictures; others are made some, f16 and f64 are written out."""
    x = op.x.tensor
    others = (op.scale, op.bias, op.mean, op.var)
    if x.dtype != "f32":
        wide = [cast_to(net, v, "f32") for v in (op.x, *others)]
        return cast_to(net, net.make(norm.BatchNorm, *wide, op.epsilon), x.dtype)
    if x.rank != 4:
        rest = as_expr(1)
        for d in x.dims[2:]:
            rest = rest * d
        picture = net.make(shape.Reshape, op.x, (*x.dims[:2], rest, 1))
        return net.make(shape.Reshape, net.make(norm.BatchNorm, picture, *others, op.epsilon), x.dims)
    types = [x, *(v.tensor for v in others)]
    refs = map(net.of, (op.x, *others))
    return net.first("BatchNorm", *refs, False, float(op.epsilon), 0.1, _NCHW, types=types)


@lowers(norm.LayerNorm)
def layer_norm(net: Net, op: norm.LayerNorm) -> Ref | Value:
    """LayerNorm; scale and bias of other shapes are applied behind it."""
    x = op.x.tensor
    if x.dtype != "f32":
        wide = [None if v is None else cast_to(net, v, "f32") for v in (op.x, op.scale, op.bias)]
        return cast_to(net, net.make(norm.LayerNorm, *wide, op.axis, op.epsilon), x.dtype)
    inner = tuple(numbers(x.dims[op.axis :], "normalised dimensions"))
    if not all(v is None or v.tensor.shape == inner for v in (op.scale, op.bias)):
        y = net.make(norm.LayerNorm, op.x, None, None, op.axis, op.epsilon)
        y = y if op.scale is None else net.make(arith.Mul, y, op.scale)
        return y if op.bias is None else net.make(arith.Add, y, op.bias)
    scale = op.scale if op.scale is not None else net.array(np.ones(inner, np.float32))
    bias = op.bias if op.bias is not None else net.array(np.zeros(inner, np.float32))
    moments = TensorType("f32", (*x.dims[: op.axis], *[1] * len(inner)))
    refs = map(net.of, (op.x, scale, bias))
    return net.first("LayerNorm", *refs, op.axis, op.axis, float(op.epsilon), types=[x, moments, moments])


@lowers(norm.Softmax)
def softmax(net: Net, op: norm.Softmax) -> Ref:
    """Softmax."""
    return net.prim("Softmax", net.of(op.x), (op.axis,), type=type_of(op))


@lowers(norm.LogSoftmax)
def log_softmax(net: Net, op: norm.LogSoftmax) -> Ref:
    """LogSoftmax."""
    return net.prim("LogSoftmax", net.of(op.x), op.axis, type=type_of(op))


@lowers(norm.LRN)
def lrn(net: Net, op: norm.LRN) -> Value:
    """The sum over channels as the difference of shifted pictures of squares."""
    x, dtype = op.x, op.x.tensor.dtype
    if dtype in ("f16", "bf16"):
        wide = net.make(norm.LRN, cast_to(net, x, "f32"), op.size, op.alpha, op.beta, op.bias)
        return cast_to(net, wide, dtype)
    before = (op.size - 1) // 2
    dims = x.tensor.dims
    squares = net.make(arith.Mul, x, x)
    wide = net.make(shape.Pad, squares, None, ((0, 0), (before, op.size - 1 - before), *[(0, 0)] * (len(dims) - 2)))
    total: Value | None = None
    for i in range(op.size):
        starts = tuple(i if d == 1 else 0 for d in range(len(dims)))
        stops = tuple(as_expr(n) + s for n, s in zip(dims, starts, strict=True))
        part = net.make(
            shape.Slice, wide, starts, tuple(c if (c := e.constant) is not None else e for e in stops), (1,) * len(dims)
        )
        total = part if total is None else net.make(arith.Add, total, part)
    assert total is not None
    scaled = net.make(arith.Mul, total, net.number(op.alpha / op.size, dtype))
    base = net.make(arith.Add, scaled, net.number(op.bias, dtype))
    return net.make(arith.Div, x, net.make(arith.Pow, base, net.number(op.beta, dtype)))


# -- reductions -------------------------------------------------------------------------------------------------------


@lowers(reduce.Sum, reduce.Mean, reduce.Prod, reduce.Max, reduce.Min)
def reduction(net: Net, op: reduce.Reduction) -> Ref | Value:
    """Reduce*, in which no axes would stand for all."""
    x, dtype, kind = op.x, op.x.tensor.dtype, type(op)
    if not op.axes:
        return x
    if any(x.tensor.dims[a] == 0 for a in op.axes):  # the neutral element: MindSpore leaves memory as it is
        neutral = net.number(math.nan if kind is reduce.Mean else op.start(dtype), dtype)
        return net.make(shape.Expand, neutral, type_of(op).dims)
    if dtype == "bool":
        name = "ReduceAny" if kind is reduce.Max else "ReduceAll"
        return net.prim(name, net.of(x), op.axes, op.keepdims, type=type_of(op))
    wide = {"f16": "f32", "bf16": "f32", "i8": "i32", "u8": "i32", "i16": "i32", "u16": "i32"}.get(dtype)
    if wide:
        return cast_to(net, net.make(kind, cast_to(net, x, wide), op.axes, op.keepdims), dtype)
    if kind is reduce.Mean and not is_float(dtype):
        total = net.make(reduce.Sum, x, op.axes, op.keepdims)
        count = math.prod(numbers([x.tensor.dims[a] for a in op.axes], "sizes"))
        return net.make(arith.Div, total, net.number(count, dtype))
    skip = (False,) if kind is reduce.Sum else ()
    return net.prim(f"Reduce{kind.__name__}", net.of(x), op.axes, op.keepdims, *skip, type=type_of(op))


@lowers(fold.Fold)
def folding(net: Net, op: fold.Fold) -> Value:
    """A reduction over the dimensions whose window is all of them."""
    if not all(w in (1, d) for w, d in zip(op.window, op.x.tensor.dims, strict=True)):
        raise Cannot("a reduction over windows that slide, or over axes that are data")
    axes = tuple(i for i, w in enumerate(op.window) if w != 1)
    kind = {"add": reduce.Sum, "mul": reduce.Prod, "max": reduce.Max, "min": reduce.Min}[op.combine]
    return net.make(kind, op.x, axes, True)


@lowers(reduce.ArgMax, reduce.ArgMin)
def extreme_index(net: Net, op: reduce.ArgMax | reduce.ArgMin) -> Value:
    """Argmax and Argmin; the last one by way of the reverse."""
    x, kind = op.x, type(op)
    if x.tensor.dtype not in ("f32", "f64"):
        x = cast_to(net, x, "f32" if is_float(x.tensor.dtype) or DTYPES[x.tensor.dtype].bits < 32 else "f64")
    if op.last:
        (n,) = numbers([x.tensor.dims[op.axis]], "sizes")
        turned = Value(x.tensor)
        net.define(turned, net.prim("ReverseV2", net.of(x), (op.axis,), type=x.tensor))
        first = net.make(kind, turned, op.axis, op.keepdims)
        return net.make(arith.Sub, net.number(n - 1, "i64"), first)
    dims = tuple(d for i, d in enumerate(x.tensor.dims) if i != op.axis)
    found = Value(TensorType("i32", dims))
    name = "Argmax" if kind is reduce.ArgMax else "Argmin"
    net.define(found, net.prim(name, net.of(x), op.axis, type_id("i32"), type=found.tensor))
    return net.make(shape.Reshape, cast_to(net, found, "i64"), type_of(op).dims)


@lowers(order.TopK)
def top_k(net: Net, op: order.TopK) -> list[Value]:
    """TopK along the last dimension; the smallest are the largest of what is negative."""
    (count,) = numbers([op.count], "the number of elements")
    x, rank = op.x, op.x.tensor.rank
    dtype = x.tensor.dtype
    if dtype not in ("f32", "f16", "i32"):
        x = cast_to(net, x, "f32")
    perm = (*[i for i in range(rank) if i != op.axis], op.axis)
    x = net.make(shape.Transpose, x, perm)
    x = x if op.largest else net.make(arith.Neg, x)
    dims = (*x.tensor.dims[:-1], count)
    types = [TensorType(x.tensor.dtype, dims), TensorType("i32", dims)]
    back = tuple(perm.index(i) for i in range(rank))
    found: list[Value] = []
    for ref in net.prims("TopK", net.of(x), count, types=types, attributes={"sorted": True}):
        value = Value(ref.type or types[0])
        net.define(value, ref)
        found.append(value)
    values = found[0] if op.largest else net.make(arith.Neg, found[0])
    values = cast_to(net, net.make(shape.Transpose, values, back), dtype)
    return [values, net.make(shape.Transpose, cast_to(net, found[1], "i64"), back)]


@lowers(cumulative.CumSum, cumulative.CumProd)
def running(net: Net, op: cumulative.CumSum | cumulative.CumProd) -> Ref:
    """CumSum and CumProd."""
    return net.prim(type(op).__name__, net.of(op.x), op.axis, op.exclusive, op.reverse, type=type_of(op))


# -- quantisation -----------------------------------------------------------------------------------------------------


def _spread(net: Net, op: quant.Quantize | quant.Dequantize, parameter: Value) -> Value:
    """A scale or zero point that broadcasts to x."""
    dims = parameter.tensor.dims
    if dims in ((), (1,)):
        return net.make(shape.Reshape, parameter, ())
    if op.block:
        size, count = numbers([op.x.tensor.dims[op.axis], dims[op.axis]], "sizes")
        index = np.minimum(np.arange(size) // op.block, count - 1)
        return net.make(indexing.Gather, parameter, net.array(index), op.axis)
    return net.make(shape.Reshape, parameter, tuple(dims[0] if i == op.axis else 1 for i in range(op.x.tensor.rank)))


@lowers(quant.Dequantize)
def dequantize(net: Net, op: quant.Dequantize) -> Value:
    """A cast, a difference and a product."""
    dtype = op.scale.tensor.dtype
    x = cast_to(net, op.x, "i32") if op.x.tensor.dtype != "i32" else op.x
    if op.zero is not None:
        x = net.make(arith.Sub, x, cast_to(net, _spread(net, op, op.zero), "i32"))
    return net.make(arith.Mul, cast_to(net, x, dtype), _spread(net, op, op.scale))


@lowers(quant.Quantize)
def quantize(net: Net, op: quant.Quantize) -> Value:
    """A quotient, rounded, moved, clamped and cast."""
    wide = "f64" if op.x.tensor.dtype == "f64" else "f32"
    dtype = op.result_dtype()
    ratio = net.make(arith.Div, cast_to(net, op.x, wide), cast_to(net, _spread(net, op, op.scale), wide))
    whole = net.make(arith.Round, ratio)
    if op.zero is not None:
        whole = net.make(arith.Add, whole, cast_to(net, _spread(net, op, op.zero), wide))
    bits = DTYPES[dtype].bits
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if DTYPES[dtype].kind == "int" else (0, (1 << bits) - 1)
    whole = net.make(arith.Minimum, net.make(arith.Maximum, whole, net.number(low, wide)), net.number(high, wide))
    return cast_to(net, whole, dtype)
