"""Data movement: reshapes, slices, padding, gathers and scatters, coordinates, sizes."""

from __future__ import annotations

import numpy as np

from ...ir.constants import Constant
from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr
from ...ir.ops import arith, indexing, reduce, resize, shape
from ...ir.ops.host.tensors import Identity
from ...ir.ops.mersenne import Mersenne
from ...ir.ops.number import Number
from ...ir.ops.require import Require
from ...ir.types import DTYPES, TensorType
from ..report import Cannot
from . import proto
from .elementwise import cast_to
from .net import Net, Ref, Sizes, lowers, type_of
from .proto import type_id

_MOST = 1 << 22  # elements of coordinates that are written as they are


@lowers(Constant)
def constant(net: Net, op: Constant) -> Ref:
    """A parameter or a constant node."""
    return net.constant(op.value, op.result.name or op.loc)


@lowers(shape.Reshape)
def reshape(net: Net, op: shape.Reshape) -> Ref | Value:
    """Reshape; one size that is no number is -1."""
    dims = op.shape
    if op.x.tensor.shape == dims:
        return op.x
    unknown = [d for d in dims if isinstance(d, Expr)]
    if len(unknown) == 1 and 0 not in dims:
        return net.prim("Reshape", net.of(op.x), [d if isinstance(d, int) else -1 for d in dims], type=type_of(op))
    return net.prim("Reshape", net.of(op.x), Sizes(tuple(dims)), type=type_of(op))


@lowers(shape.Transpose)
def transpose(net: Net, op: shape.Transpose) -> Ref | Value:
    """Transpose."""
    if op.perm == tuple(range(len(op.perm))):
        return op.x
    return net.prim("Transpose", net.of(op.x), op.perm, type=type_of(op))


@lowers(shape.Concat)
def concat(net: Net, op: shape.Concat) -> Ref | Value:
    """Concat of a tuple; what is empty is left out."""
    xs = [x for x in op.xs if x.tensor.shape is None or x.tensor.dims[op.axis] != 0] or [op.xs[0]]
    if len(xs) == 1:
        return xs[0]
    return net.prim("Concat", [net.of(x) for x in xs], op.axis, type=type_of(op))


@lowers(shape.Slice)
def slice_(net: Net, op: shape.Slice) -> Ref | Value:
    """StridedSlice forwards, of what is turned around where a step is below 0."""
    dims = op.x.tensor.dims
    if all((a, b, s) == (0, d, 1) for a, b, s, d in zip(op.starts, op.stops, op.steps, dims, strict=True)):
        return op.x
    if 0 in type_of(op).dims:
        return _nothing(net, type_of(op))
    turned = tuple(i for i, step in enumerate(op.steps) if step < 0)
    x = net.of(op.x)
    starts, stops = list(op.starts), list(op.stops)
    if turned:
        x = net.prim("ReverseV2", x, turned, type=op.x.tensor)
        for i in turned:
            starts[i], stops[i] = (as_dim(as_expr(dims[i]) - 1 - d) for d in (starts[i], stops[i]))
    ends = (Sizes(tuple(starts)), Sizes(tuple(stops)), [abs(s) for s in op.steps])
    return net.prim("StridedSlice", x, *ends, 0, 0, 0, 0, 0, type=type_of(op))


def _nothing(net: Net, type: TensorType) -> Value:
    """A tensor without elements."""
    if not type.is_static:
        raise Cannot("a tensor without elements of sizes that only the run knows")
    return net.array(np.zeros(type.static_shape, DTYPES[type.dtype].numpy))


@lowers(shape.Expand)
def expand(net: Net, op: shape.Expand) -> Ref | Value:
    """BroadcastTo."""
    if op.x.tensor.shape == op.shape:
        return op.x
    if 0 in op.shape:
        return _nothing(net, type_of(op))
    return net.prim("BroadcastTo", net.of(op.x), Sizes(op.shape), type=type_of(op))


@lowers(shape.Tile)
def tile(net: Net, op: shape.Tile) -> Ref:
    """Tile."""
    return net.prim("Tile", net.of(op.x), Sizes(op.repeats), type=type_of(op))


@lowers(shape.Pad)
def pad(net: Net, op: shape.Pad) -> Ref | Value:
    """PadV3 with a constant, cut before where pads are below 0; the other modes gather along each dimension."""
    pads: list[tuple[int, int]] = []
    for before, after in op.pads:
        if isinstance(before, Expr) or isinstance(after, Expr):
            raise Cannot("pads that only the run knows")
        pads.append((before, after))
    x = op.x
    if op.mode != "constant":
        for axis, (before, after) in enumerate(pads):
            if before or after:
                x = net.make(indexing.Gather, x, net.array(_padded(x.tensor.dims[axis], before, after, op.mode)), axis)
        return x
    if any(p < 0 for pair in pads for p in pair):
        dims = x.tensor.dims
        starts = tuple(max(0, -a) for a, _ in pads)
        stops = tuple(d + min(0, b) for d, (_, b) in zip(dims, pads, strict=True))
        x = net.make(shape.Slice, x, starts, stops, (1,) * len(pads))
        pads = [(max(0, a), max(0, b)) for a, b in pads]
    if not any(map(any, pads)):
        return x
    value = net.of(op.value) if op.value is not None else net.like(0, net.of(x))
    flat = [p for pair in reversed(pads) for p in pair]
    attributes: dict[str, proto.Value] = {"mode": "constant", "paddings_contiguous": True}
    return net.prim("PadV3", net.of(x), flat, value, type=type_of(op), attributes=attributes)


def _padded(size: Dim, before: int, after: int, mode: str) -> np.ndarray:
    """Which element stands at each place of a padded dimension."""
    if isinstance(size, Expr):
        raise Cannot(f"padding of mode {mode} of a dimension that only the run knows")
    names = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
    return np.pad(np.arange(size, dtype=np.int64), (before, after), mode=names[mode])  # type: ignore[call-overload]


@lowers(shape.Iota)
def iota(net: Net, op: shape.Iota) -> Ref | Value:
    """A constant; Range where the size is found when the model runs."""
    n, rank = op.shape[op.axis], len(op.shape)
    column = tuple(n if i == op.axis else 1 for i in range(rank))
    if isinstance(n, int) and n <= _MOST:
        x = net.array(np.arange(n).astype(DTYPES[op.dtype].numpy).reshape([d for d in column if isinstance(d, int)]))
    else:
        line = TensorType("i64", (n,))
        made = Value(line)
        size = Ref(net.size(n)) if isinstance(n, Expr) else n
        net.define(made, net.prim("Range", 0, size, 1, 1_000_000_000, type=line))
        x = net.make(shape.Reshape, cast_to(net, made, op.dtype), column)
    return net.make(shape.Expand, x, op.shape) if op.shape != column else x


@lowers(Number)
def number(net: Net, op: Number) -> Ref:
    """A number as a tensor."""
    if isinstance(op.value, int):
        return net.scalar(op.value, "i64")
    return net.prim("ScalarToTensor", Ref(net.size(op.value)), type_id("i64"), type=type_of(op))


@lowers(Require, Identity)
def same(net: Net, op: Require | Identity) -> Value:
    """The operand: MindIR has no checks."""
    return op.x


@lowers(Mersenne)
def mersenne(net: Net, op: Mersenne) -> Value:
    """The numbers themselves."""
    if not isinstance(op.count, int):
        raise Cannot("random numbers of a seed, as many as only the run knows", "fix the sizes with --shape")
    return net.array(np.asarray(op.reference()))


# -- resizing ---------------------------------------------------------------------------------------------------------


@lowers(resize.Repeat)
def repeat(net: Net, op: resize.Repeat) -> Ref | Value:
    """ResizeNearestNeighbor of pictures; else a gather along each dimension."""
    x, dims = op.x, op.result.tensor.dims
    plain = op.x.tensor.dtype == "f32" and len(dims) == 4 and op.factors[:2] == (1, 1)
    if plain and all(isinstance(d, int) for d in dims):
        return net.prim("ResizeNearestNeighbor", net.of(x), Sizes(dims[2:]), False, False, type=type_of(op))
    for axis, factor in enumerate(op.factors):
        size = x.tensor.dims[axis]
        if factor > 1:
            if isinstance(size, Expr):
                raise Cannot("repetition along a dimension that only the run knows", "fix it with --shape")
            x = net.make(indexing.Gather, x, net.array(np.repeat(np.arange(size), factor)), axis)
    return x


@lowers(resize.Resample)
def resample(net: Net, op: resize.Resample) -> Value:
    """A gather of all taps, times their weights, summed."""
    dtype = op.x.tensor.dtype
    is_float = DTYPES[dtype].kind == "float"
    wide = "f32" if dtype in ("f16", "bf16") else dtype if is_float else op.weights.tensor.dtype
    taps = net.make(indexing.Gather, cast_to(net, op.x, wide), op.indices, op.axis)
    column = (*op.weights.tensor.dims, *[1] * (op.x.tensor.rank - op.axis - 1))
    weights = net.make(shape.Reshape, cast_to(net, op.weights, wide), column)
    total = net.make(reduce.Sum, net.make(arith.Mul, taps, weights), (op.axis + 1,), False)
    if not is_float:
        info = np.iinfo(DTYPES[dtype].numpy)
        total = net.make(arith.Maximum, total, net.number(float(info.min), wide))
        total = net.make(arith.Minimum, total, net.number(float(info.max), wide))
    return cast_to(net, total, dtype)


# -- gathers and scatters ---------------------------------------------------------------------------------------------


def counted(net: Net, index: Value, size: Dim) -> Value:
    """Indices of i32 or i64 that count from the start: MindSpore reads nothing at those below 0."""
    if index.tensor.dtype not in ("i32", "i64"):
        index = net.make(arith.Cast, index, "i64")
    data = net.data(index)
    if data is not None and (data.elements == 0 or int(data.array().min()) >= 0):
        return index
    if isinstance(index.op, reduce.ArgMax | reduce.ArgMin):
        return index
    dtype = index.tensor.dtype
    whole = net.number(size, dtype) if isinstance(size, int) else cast_to(net, net.make(Number, size), dtype)
    low = net.make(arith.Less, index, net.number(0, dtype))
    return net.make(arith.Where, low, net.make(arith.Add, index, whole), index)


@lowers(indexing.Gather)
def gather(net: Net, op: indexing.Gather) -> Ref:
    """Gather."""
    index = counted(net, op.indices, op.x.tensor.dims[op.axis])
    return net.prim("Gather", net.of(op.x), net.of(index), op.axis, 0, type=type_of(op))


@lowers(indexing.GatherElements)
def gather_elements(net: Net, op: indexing.GatherElements) -> Ref:
    """GatherD, which takes indices below 0."""
    index = op.indices if op.indices.tensor.dtype in ("i32", "i64") else net.make(arith.Cast, op.indices, "i64")
    return net.prim("GatherD", net.of(op.x), op.axis, net.of(index), type=type_of(op))


def _tuples(net: Net, indices: Value, dims: tuple[Dim, ...]) -> Value:
    """Index tuples that count from the start."""
    depth = indices.tensor.dims[-1]
    if not isinstance(depth, int):
        raise Cannot("index tuples of a length that only the run knows")
    data = net.data(indices)
    if data is not None and (data.elements == 0 or int(data.array().min()) >= 0):
        return indices
    sizes = dims[:depth]
    dtype = indices.tensor.dtype if indices.tensor.dtype in ("i32", "i64") else "i64"
    indices = cast_to(net, indices, dtype)
    if all(isinstance(d, int) for d in sizes):
        whole = net.array(np.array(sizes, DTYPES[dtype].numpy))
    else:
        columns = [net.make(shape.Reshape, net.make(Number, d), (1,)) for d in sizes]
        whole = cast_to(net, net.make(shape.Concat, tuple(columns), 0) if depth > 1 else columns[0], dtype)
    low = net.make(arith.Less, indices, net.number(0, dtype))
    return net.make(arith.Where, low, net.make(arith.Add, indices, whole), indices)


@lowers(indexing.GatherND)
def gather_nd(net: Net, op: indexing.GatherND) -> Ref:
    """GatherNd; dimensions that run together become coordinates in front of the tuples."""
    n, dims = op.batch_dims, op.x.tensor.dims
    indices = _tuples(net, op.indices, dims[n:])
    if n:
        columns = tuple(net.make(shape.Iota, (*indices.tensor.dims[:-1], 1), i, indices.tensor.dtype) for i in range(n))
        indices = net.make(shape.Concat, (*columns, indices), indices.tensor.rank - 1)
    return net.prim("GatherNd", net.of(op.x), net.of(indices), type=type_of(op))


@lowers(indexing.ScatterElements)
def scatter_elements(net: Net, op: indexing.ScatterElements) -> Ref | Value:
    """TensorScatterElements, which replaces or adds; else by whole coordinates."""
    if op.reduction not in ("none", "add"):
        dims = op.indices.tensor.dims
        index = counted(net, op.indices, op.x.tensor.dims[op.axis])
        dtype = index.tensor.dtype
        places = [index if i == op.axis else net.make(shape.Iota, dims, i, dtype) for i in range(len(dims))]
        columns = tuple(net.make(shape.Reshape, place, (*dims, 1)) for place in places)
        table = net.make(shape.Concat, columns, len(dims))
        return net.make(indexing.ScatterND, op.x, table, op.updates, op.reduction)
    index = counted(net, op.indices, op.x.tensor.dims[op.axis])
    refs = (net.of(op.x), net.of(index), net.of(op.updates))
    return net.prim("TensorScatterElements", *refs, op.axis, int(op.reduction == "add"), type=type_of(op))


@lowers(indexing.ScatterND)
def scatter_nd(net: Net, op: indexing.ScatterND) -> Ref:
    """TensorScatter*."""
    names = {"none": "Update", "add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}
    refs = (net.of(op.x), net.of(_tuples(net, op.indices, op.x.tensor.dims)), net.of(op.updates))
    attributes: dict[str, proto.Value] | None = None if op.reduction == "add" else {}
    return net.prim(f"TensorScatter{names[op.reduction]}", *refs, type=type_of(op), attributes=attributes)
