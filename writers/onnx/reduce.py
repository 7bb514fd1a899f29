"""Reductions, running sums, selection, quantisation, trees."""

from __future__ import annotations

import math
from itertools import product as every
from typing import Any

import numpy as np

from ...ir.expr import Dim
from ...ir.ops import cumulative, fold, order, quant, reduce, trees
from ...ir.types import DTYPES, TensorType, is_float
from ..report import Cannot
from .graph import Scope, Tensor, writes
from .schemas import NUMBERS

_FOLDS = {"add": "Sum", "mul": "Prod", "max": "Max", "min": "Min"}
_PAIRS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


@writes(reduce.Sum, reduce.Mean, reduce.Prod, reduce.Max, reduce.Min)
def reduction(scope: Scope, op: reduce.Reduction) -> Tensor:
    """Reduce* with the axes as input. The mean of integers is a quotient, as they truncate."""
    x = scope.of(op.x)
    if not op.axes:
        return scope.identity(x)
    if isinstance(op, reduce.Mean) and not is_float(x.dtype):
        return _integer_mean(scope, x, op)
    rank = op.x.tensor.rank
    if rank > 2 and op.keepdims and sorted(op.axes) == list(range(2, rank)) and x.dtype == "f32":
        pooled = {"Mean": "GlobalAveragePool", "Max": "GlobalMaxPool"}.get(type(op).__name__)
        if pooled:  # what readers know best
            return scope.node(pooled, x)
    return reduced(scope, x, type(op).__name__, op.axes, op.keepdims)


def reduced(scope: Scope, x: Tensor, kind: str, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """Sum, Mean, Prod, Max or Min over axes."""
    return scope.node(f"Reduce{kind}", x, scope.vector(axes), keepdims=None if keepdims else 0)


def _integer_mean(scope: Scope, x: Tensor, op: reduce.Mean) -> Tensor:
    wide = x if DTYPES[x.dtype].bits >= 32 else scope.cast(x, "i32")
    total = reduced(scope, wide, "Sum", op.axes, op.keepdims)
    count = scope.constant(np.array(1, np.int64))
    for axis in op.axes:
        count = scope.node("Mul", count, scope.squeeze(scope.size(op.x.tensor.dims[axis])))
    return scope.cast(scope.node("Div", total, scope.cast(count, wide.dtype)), x.dtype)


@writes(fold.Fold)
def folding(scope: Scope, op: fold.Fold) -> Tensor:
    """A reduction over the dimensions whose window is not 1: these, where the windows are sizes that only the run
    knows, are an input; other windows are shifted slices that are combined."""
    x, dims = scope.of(op.x), op.x.tensor.dims
    if all(w in (1, d) for w, d in zip(op.window, dims, strict=True)):
        axes = tuple(i for i, w in enumerate(op.window) if w != 1)
        return reduced(scope, x, _FOLDS[op.combine], axes, True) if axes else scope.identity(x)
    if any(not isinstance(w, int) for w in op.window):
        same = scope.node("Equal", scope.sizes(op.window), scope.vector([1] * len(dims)), dtype="bool")
        axes_in = scope.node("Compress", scope.vector(range(len(dims))), scope.node("Not", same), axis=0)
        return scope.node(f"Reduce{_FOLDS[op.combine]}", x, axes_in, noop_with_empty_axes=1)
    return _slid(scope, x, op, [w for w in op.window if isinstance(w, int)])


def _slid(scope: Scope, x: Tensor, op: fold.Fold, window: list[int]) -> Tensor:
    if math.prod(window) > 256:
        raise Cannot(f"a window of {window} elements that slides")
    total: Tensor | None = None
    results = op.result.tensor.dims
    for place in every(*map(range, window)):
        stops: list[Dim] = [d + p for d, p in zip(results, place, strict=True)]
        part = scope.node("Slice", x, scope.vector(place), scope.sizes(stops))
        total = part if total is None else scope.node(_PAIRS[op.combine], total, part)
    assert total is not None
    return total


@writes(reduce.ArgMax, reduce.ArgMin)
def extreme_index(scope: Scope, op: reduce.ArgMax | reduce.ArgMin) -> Tensor:
    """ArgMax and ArgMin."""
    how: dict[str, Any] = {
        "keepdims": None if op.keepdims else 0,
        "select_last_index": 1 if op.last else None,
    }
    return scope.node(type(op).__name__, scope.of(op.x), dtype="i64", axis=op.axis, **how)


@writes(order.TopK)
def top_k(scope: Scope, op: order.TopK) -> list[Tensor]:
    """TopK."""
    largest = None if op.largest else 0
    args = (scope.of(op.x), scope.size(op.count))
    return scope.nodes_of("TopK", *args, dtypes=(None, "i64"), axis=op.axis, largest=largest)


@writes(cumulative.CumSum, cumulative.CumProd)
def cumulative_(scope: Scope, op: cumulative.CumSum | cumulative.CumProd) -> Tensor:
    """CumSum and CumProd."""
    how: dict[str, Any] = {"exclusive": 1 if op.exclusive else None, "reverse": 1 if op.reverse else None}
    return scope.node(type(op).__name__, scope.of(op.x), scope.scalar(op.axis, "i64"), **how)


# -- quantisation -----------------------------------------------------------------------------------------------------


def _parameters(scope: Scope, op: quant.Quantize | quant.Dequantize) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Scale, zero point and attributes; one number for the whole tensor is a scalar."""
    scale, zero = scope.of(op.scale), scope.maybe(op.zero)
    dims = op.scale.tensor.shape
    if dims == (1,):
        return scope.squeeze(scale), None if zero is None else scope.squeeze(zero), {}
    if dims == ():
        return scale, zero, {}
    return scale, zero, {"axis": op.axis, **({"block_size": op.block} if op.block else {})}


@writes(quant.Quantize)
def quantize(scope: Scope, op: quant.Quantize) -> Tensor:
    """QuantizeLinear; the result's type is that of the zero point."""
    x = scope.of(op.x)
    scale, zero, how = _parameters(scope, op)
    dtype = op.result_dtype()
    if x.dtype == "f64" or (x.dtype == "i32" and scale.dtype != "f32"):
        x = scope.cast(x, "f32")
    if scale.dtype != x.dtype and is_float(x.dtype):
        scale = scope.cast(scale, x.dtype)
    more: dict[str, Any] = {}
    if zero is None and dtype != "u8":
        if op.scale.tensor.is_static:
            shape = () if not how else op.scale.tensor.static_shape
            zero = scope.constant(np.zeros(shape, DTYPES[dtype].numpy))
        else:
            more["output_dtype"] = NUMBERS[dtype]
    return scope.node("QuantizeLinear", x, scale, zero, dtype=dtype, **how, **more)


@writes(quant.Dequantize)
def dequantize(scope: Scope, op: quant.Dequantize) -> Tensor:
    """DequantizeLinear; of f64 in f32."""
    scale, zero, how = _parameters(scope, op)
    narrow = scope.cast(scale, "f32") if scale.dtype == "f64" else scale
    y = scope.node("DequantizeLinear", scope.of(op.x), narrow, zero, dtype=narrow.dtype, **how)
    return scope.cast(y, scale.dtype)


# -- trees ------------------------------------------------------------------------------------------------------------


@writes(trees.TreeEnsemble)
def tree_ensemble(scope: Scope, op: trees.TreeEnsemble) -> Tensor:
    """A loop that takes all rows one node further in all trees, then a sum over what the leaves say."""
    x = scope.of(op.x)
    rows = scope.node("Shape", x, dtype="i64", start=0, end=1)
    roots = scope.of(op.roots)
    count = scope.node("Shape", roots, dtype="i64")
    node = scope.node("Expand", roots, scope.node("Concat", rows, count, axis=0))
    body = Scope(scope.model, scope)
    body.loc = scope.loc
    at = Tensor("i32", "node")
    places = TensorType("i32", (op.x.tensor.dims[0], *op.roots.tensor.dims))
    types = [TensorType("i64", ()), TensorType("bool", ()), places]
    going = Tensor("bool", "going")
    body.inputs = list(zip((Tensor("i64", "round"), going, at), types, strict=True))
    body.outputs = [(body.identity(going), types[1]), (_further(body, x, at, op), types[2])]
    limit = scope.scalar(op.depth, "i64")
    reached = scope.nodes_of("Loop", limit, None, node, dtypes=("i32",), body=body)[0]
    leaf = scope.node("Gather", scope.of(op.leaf), reached)
    found, used = (scope.node("Gather", scope.of(table), leaf) for table in (op.weights, op.used))
    if op.aggregate == "sum":
        zero = scope.like(0, found)
        kept = scope.node("Where", used, found, zero, dtype=found.dtype)
        return scope.cast(reduced(scope, scope.cast(kept, "f64"), "Sum", (1,), False), found.dtype)
    worst = scope.like(math.inf if op.aggregate == "min" else -math.inf, found)
    kept = scope.node("Where", used, found, worst, dtype=found.dtype)
    best = reduced(scope, kept, op.aggregate.capitalize(), (1,), False)
    some = scope.cast(reduced(scope, scope.cast(used, "i32"), "Max", (1,), False), "bool")
    return scope.node("Where", some, best, scope.like(0, found), dtype=found.dtype)


def _further(scope: Scope, x: Tensor, at: Tensor, op: trees.TreeEnsemble) -> Tensor:
    """The next node of every row and tree."""

    def of(table: Tensor) -> Tensor:
        return scope.node("Gather", table, at)

    value = scope.node("GatherElements", x, of(scope.of(op.feature)), axis=1)
    limit = of(scope.of(op.threshold))
    outcome = scope.scalar(trees.UNORDERED, "i32")
    for test, bit in (("Greater", trees.GREATER), ("Equal", trees.EQUAL), ("Less", trees.LESS)):
        holds = scope.node(test, value, limit, dtype="bool")
        outcome = scope.node("Where", holds, scope.scalar(bit, "i32"), outcome, dtype="i32")
    hit = scope.cast(scope.node("BitwiseAnd", of(scope.of(op.test)), outcome), "bool")
    return scope.node("Where", hit, of(scope.of(op.yes)), of(scope.of(op.no)), dtype="i32")
