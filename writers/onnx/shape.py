"""Data movement: reshapes, slices, padding, gathers and scatters, coordinates."""

from __future__ import annotations

import numpy as np

from ...ir.constants import Constant
from ...ir.expr import Dim, Expr
from ...ir.ops import indexing, resize, shape
from ...ir.ops.mersenne import Mersenne
from ...ir.ops.number import Number
from ...ir.ops.require import Require
from ...ir.types import DTYPES
from ..report import Cannot
from .graph import Scope, Tensor, writes
from .nn import pairs

_FIRST, _LAST = -(1 << 63), (1 << 63) - 1
_MOST = 1 << 16  # elements of coordinates that are written as they are


@writes(Constant)
def constant(scope: Scope, op: Constant) -> Tensor:
    """An initializer."""
    return scope.constant(op.value, op.result.name or op.loc)


@writes(shape.Reshape)
def reshape(scope: Scope, op: shape.Reshape) -> Tensor:
    """Reshape. One size that is no number is -1, and sizes that stay where they are are 0: no arithmetic then."""
    x, dims = scope.of(op.x), op.shape
    if 0 in dims:
        return scope.node("Reshape", x, scope.sizes(dims), allowzero=1)
    have = op.x.tensor.shape or ()
    kept = [isinstance(d, Expr) and i < len(have) and have[i] == d for i, d in enumerate(dims)]
    left = [i for i, d in enumerate(dims) if isinstance(d, Expr) and not kept[i]]
    if len(left) <= 1:
        short = [0 if kept[i] else d if isinstance(d, int) else -1 for i, d in enumerate(dims)]
        return scope.node("Reshape", x, scope.vector(short))
    return scope.node("Reshape", x, scope.sizes(dims))


@writes(shape.Transpose)
def transpose(scope: Scope, op: shape.Transpose) -> Tensor:
    """Transpose."""
    return scope.node("Transpose", scope.of(op.x), perm=list(op.perm)) if op.perm else scope.identity(scope.of(op.x))


@writes(shape.Concat)
def concat(scope: Scope, op: shape.Concat) -> Tensor:
    """Concat."""
    xs = [scope.of(x) for x in op.xs]
    return scope.identity(xs[0]) if len(xs) == 1 else scope.node("Concat", *xs, axis=op.axis)


@writes(shape.Slice)
def slice_(scope: Scope, op: shape.Slice) -> Tensor:
    """Slice along the dimensions that change."""
    dims = op.x.tensor.dims
    starts: list[Dim] = []
    stops: list[Dim] = []
    axes: list[int] = []
    for i, (d, start, stop, step) in enumerate(zip(dims, op.starts, op.stops, op.steps, strict=True)):
        if (start, stop, step) == (0, d, 1):
            continue
        axes.append(i)
        starts.append(start)
        stops.append(_end(d, stop, step))
    if not axes:
        return scope.identity(scope.of(op.x))
    steps = [op.steps[i] for i in axes]
    args = (scope.sizes(starts), scope.sizes(stops), scope.vector(axes))
    return scope.node("Slice", scope.of(op.x), *args, scope.vector(steps) if any(s != 1 for s in steps) else None)


def _end(d: Dim, stop: Dim, step: int) -> Dim:
    """A stop as ONNX reads it: -1 would be the last element."""
    if step > 0:
        return _LAST if isinstance(stop, Expr) and stop == d else stop
    if isinstance(stop, Expr):
        raise Cannot("a slice backwards to a place that only the run knows")
    return _FIRST if stop < 0 else stop


@writes(shape.Expand)
def expand(scope: Scope, op: shape.Expand) -> Tensor:
    """Expand. Sizes that stay are 1: both sides broadcast."""
    x, have = scope.of(op.x), op.x.tensor.shape
    if have is None:
        return scope.node("Expand", x, scope.sizes(op.shape))
    if have == op.shape:
        return scope.identity(x)
    lead = len(op.shape) - len(have)
    dims = [1 if i >= lead and have[i - lead] == d else d for i, d in enumerate(op.shape)]
    return scope.node("Expand", x, scope.sizes(dims))


@writes(shape.Tile)
def tile(scope: Scope, op: shape.Tile) -> Tensor:
    """Tile."""
    return scope.node("Tile", scope.of(op.x), scope.sizes(op.repeats))


@writes(shape.Pad)
def pad(scope: Scope, op: shape.Pad) -> Tensor:
    """Pad."""
    x = scope.of(op.x)
    if not any(map(any, op.pads)):
        return scope.identity(x)
    value = scope.maybe(op.value) if op.mode == "constant" else None
    mode = None if op.mode == "constant" else op.mode
    return scope.node("Pad", x, scope.sizes(pairs(op.pads)), value, mode=mode)


@writes(shape.Iota)
def iota(scope: Scope, op: shape.Iota) -> Tensor:
    """A constant where it is small, else Range."""
    n = op.shape[op.axis]
    rank = len(op.shape)
    column = [-1 if i == op.axis else 1 for i in range(rank)]
    if isinstance(n, int) and n <= _MOST:
        x = scope.constant(np.arange(n).astype(DTYPES[op.dtype].numpy).reshape([n if d == -1 else d for d in column]))
    else:
        end = scope.squeeze(scope.size(n))
        x = scope.cast(scope.node("Range", scope.scalar(0, "i64"), end, scope.scalar(1, "i64")), op.dtype)
        if rank > 1:
            x = scope.node("Reshape", x, scope.vector(column))
    others = [1 if i == op.axis else d for i, d in enumerate(op.shape)]
    return scope.identity(x) if all(d == 1 for d in others) else scope.node("Expand", x, scope.sizes(others))


@writes(Number)
def number(scope: Scope, op: Number) -> Tensor:
    """A size as a scalar."""
    return scope.squeeze(scope.size(op.value))


@writes(Require)
def require(scope: Scope, op: Require) -> Tensor:
    """A Gather of everything, with an index that does not exist where the condition is false."""
    x = scope.of(op.x)
    size = scope.size(op.x.tensor.dims[0])
    every = scope.node("Range", scope.scalar(0, "i64"), scope.squeeze(size), scope.scalar(1, "i64"))
    return scope.node("Gather", x, scope.node("Where", scope.of(op.ok), every, size, dtype="i64"), axis=0)


@writes(Mersenne)
def mersenne(scope: Scope, op: Mersenne) -> Tensor:
    """The numbers themselves."""
    if not isinstance(op.count, int):
        raise Cannot("random numbers of a seed, as many as only the run knows", "fix the sizes with --shape")
    return scope.constant(np.asarray(op.reference()), op.loc)


# -- resizing ---------------------------------------------------------------------------------------------------------


@writes(resize.Repeat)
def repeat(scope: Scope, op: resize.Repeat) -> Tensor:
    """Resize to the nearest, of element types that ONNX Runtime has it for; else by way of more dimensions."""
    x = scope.of(op.x)
    if x.dtype in ("f32", "u8", "i8", "i32"):
        scales = scope.constant(np.array(op.factors, np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return scope.node("Resize", x, None, scales, **how)
    dims = op.x.tensor.dims
    wide = [n for d, f in zip(dims, op.factors, strict=True) for n in (d, f)]
    column = scope.node("Reshape", x, scope.sizes([n for d in dims for n in (d, 1)]))
    return scope.node("Reshape", scope.node("Expand", column, scope.sizes(wide)), scope.sizes(op.result.tensor.dims))


@writes(resize.Resample)
def resample(scope: Scope, op: resize.Resample) -> Tensor:
    """A Gather of all taps, times their weights, summed."""
    x, weights = scope.of(op.x), scope.of(op.weights)
    wide = "f32" if x.dtype in ("f16", "bf16") else x.dtype if DTYPES[x.dtype].kind == "float" else weights.dtype
    taps = scope.node("Gather", scope.cast(x, wide), scope.of(op.indices), axis=op.axis)
    after = op.x.tensor.rank - op.axis - 1
    dims = (*op.weights.tensor.dims, *[1] * after)
    column = scope.node("Reshape", scope.cast(weights, wide), scope.sizes(dims))
    y = scope.node("ReduceSum", scope.node("Mul", taps, column), scope.vector([op.axis + 1]), keepdims=0)
    if DTYPES[x.dtype].kind not in ("float", "bool"):
        info = np.iinfo(DTYPES[x.dtype].numpy)
        y = scope.node("Clip", y, scope.like(float(info.min), y), scope.like(float(info.max), y))
    return scope.cast(y, x.dtype)


# -- gathers and scatters ---------------------------------------------------------------------------------------------


def _index(scope: Scope, x: Tensor, wide: bool = False) -> Tensor:
    """Indices of a type that ONNX takes; `wide`: i64 alone."""
    return x if x.dtype == "i64" or (x.dtype == "i32" and not wide) else scope.cast(x, "i64")


@writes(indexing.Gather)
def gather(scope: Scope, op: indexing.Gather) -> Tensor:
    """Gather."""
    return scope.node("Gather", scope.of(op.x), _index(scope, scope.of(op.indices)), axis=op.axis)


@writes(indexing.GatherElements)
def gather_elements(scope: Scope, op: indexing.GatherElements) -> Tensor:
    """GatherElements."""
    return scope.node("GatherElements", scope.of(op.x), _index(scope, scope.of(op.indices)), axis=op.axis)


@writes(indexing.GatherND)
def gather_nd(scope: Scope, op: indexing.GatherND) -> Tensor:
    """GatherND."""
    index = _index(scope, scope.of(op.indices), True)
    return scope.node("GatherND", scope.of(op.x), index, batch_dims=op.batch_dims or None)


def _reduction(name: str) -> str | None:
    return None if name == "none" else name


@writes(indexing.ScatterElements)
def scatter_elements(scope: Scope, op: indexing.ScatterElements) -> Tensor:
    """ScatterElements."""
    x, index, updates = scope.of(op.x), _index(scope, scope.of(op.indices)), scope.of(op.updates)
    return scope.node("ScatterElements", x, index, updates, axis=op.axis, reduction=_reduction(op.reduction))


@writes(indexing.ScatterND)
def scatter_nd(scope: Scope, op: indexing.ScatterND) -> Tensor:
    """ScatterND."""
    x, index, updates = scope.of(op.x), _index(scope, scope.of(op.indices), True), scope.of(op.updates)
    return scope.node("ScatterND", x, index, updates, reduction=_reduction(op.reduction))
