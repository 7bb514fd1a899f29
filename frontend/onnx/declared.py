"""Operators whose geometry is data, in models that declare the shapes that come out.

A Reshape whose shape is an input of the model has, in most files, an output whose shape the model states all the same.
Then that shape counts, and the data is held to it when the model runs (`Require`): what differs is an error, never a
wrong result. Where the declared shape leaves something open, as starts of a Slice, the data decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from ...ir.core import Op, Value
from ...ir.ops.arith import And, Cast, Equal, Where
from ...ir.ops.cumulative import CumProd, CumSum
from ...ir.ops.order import TopK
from ...ir.ops.reduce import Max, Min
from ...ir.ops.require import Require
from ...ir.ops.shape import Expand, Gather, Reshape, Slice, Tile
from .calc import Calc
from .node import Node, Results
from .scope import Item, Unsupported

Declared = tuple[int, ...]
Fallback = Callable[[Node, Declared], Results]
FALLBACKS: dict[str, Fallback] = {}
_FAR = 1 << 31


def fallback(*names: str) -> Callable[[Fallback], Fallback]:
    """Register a function as what converts the operators `names` by the declared shape."""

    def register(function: Fallback) -> Fallback:
        FALLBACKS.update(dict.fromkeys(names, function))
        return function

    return register


def data(node: Node, index: int) -> Calc:
    """A small integer input as an i64 vector."""
    dims = node.shape(index)
    if not all(isinstance(d, int) for d in dims):
        raise node.unknown(index)
    value = node.value(index)
    flat = (math.prod(d for d in dims if isinstance(d, int)),)
    value = value if tuple(dims) == flat else node.make(Reshape, value, flat)
    return Calc(node, value).cast("i64")


def numbers(node: Node, values: Sequence[int]) -> Calc:
    """A constant i64 vector."""
    return Calc(node, node.literal(np.array(values, np.int64)))


def element(vector: Calc, index: int) -> Calc:
    """One element of a vector, as a scalar."""
    node = vector.node
    return Calc(node, node.make(Slice, vector.value, (index,), (index + 1,), (1,))).reshaped()


def require(node: Node, x: Value, ok: Calc) -> Value:
    """`x`, if all elements of `ok` are true when the model runs."""
    dims = node.dims_of(ok.value)
    if dims:
        whole = node.make(Min, node.make(Cast, ok.value, "i32"), tuple(range(len(dims))), False)
        ok = Calc(node, node.make(Cast, whole, "bool"))
    if not node.dims_of(x):
        return node.make(Reshape, node.make(Require, node.make(Reshape, x, (1,)), ok.value), ())
    return node.make(Require, x, ok.value)


def static(node: Node, index: int) -> tuple[int, ...]:
    """The shape of an input, all numbers. Raises `Unsupported`."""
    type = node.type(index)
    if not type.is_static:
        raise Unsupported("its input's shape is symbolic and its geometry is data", "fix the input's shape")
    return type.static_shape


# -- shapes ---------------------------------------------------------------------------------------------------------


@fallback("Reshape")
def reshape(node: Node, declared: Declared) -> Value:
    """Reshape to the declared shape; the data may say -1 and 0 where ONNX allows it."""
    dims, wanted = static(node, 0), data(node, 1)
    if node.shape(1) != (len(declared),) or math.prod(dims) != math.prod(declared):
        raise node.error(f"expected a shape of {math.prod(dims)} elements, the model declares {list(declared)}")
    ok = wanted.equals(numbers(node, declared)) | wanted.equals(-1)
    if not node.integer("allowzero", 0):
        copies = [i < len(dims) and dims[i] == d for i, d in enumerate(declared)]
        ok = ok | (wanted.equals(0) & Calc(node, node.literal(np.array(copies, np.bool_))))
    return node.make(Reshape, require(node, node.value(0), ok), declared)


@fallback("Expand")
def expand(node: Node, declared: Declared) -> Value:
    """Expand to the declared shape."""
    wanted = data(node, 1)
    size = int(node.dims_of(wanted.value)[0])  # type: ignore[arg-type]
    ok = wanted.equals(numbers(node, declared[len(declared) - size :])) | wanted.equals(1)
    return node.make(Expand, require(node, node.value(0), ok), declared)


@fallback("ConstantOfShape")
def constant_of_shape(node: Node, declared: Declared) -> Value:
    """ConstantOfShape of the declared shape."""
    constant = node.tensor("value")
    value, dtype = (0.0, "f32") if constant is None else (constant.array().reshape(-1)[0].item(), constant.dtype)
    ok = data(node, 0).equals(numbers(node, declared))
    return node.make(Expand, require(node, node.splat(value, dtype, (1,) * max(1, len(declared))), ok), declared)


@fallback("Tile")
def tile(node: Node, declared: Declared) -> Value:
    """Tile: repeats follow from both shapes."""
    dims, repeats = static(node, 0), data(node, 1)
    found = tuple(d // max(n, 1) for d, n in zip(declared, dims, strict=True))
    return node.make(Tile, require(node, node.value(0), repeats.equals(numbers(node, found))), found)


@fallback("Squeeze", "Unsqueeze")
def squeeze(node: Node, declared: Declared) -> Value:
    """Squeeze and Unsqueeze: a Reshape to the declared shape. Axes must be of dimensions that are 1."""
    dims, axes = static(node, 0), data(node, 1)
    longer = declared if node.op_type == "Unsqueeze" else dims
    ones = Calc(node, node.literal(np.array([d == 1 for d in longer], np.bool_)))
    rank = len(longer)
    at = (axes < 0).where(axes + rank, axes).clamped(0, rank - 1)
    ok = Calc(node, node.make(Gather, ones.value, at.value, 0))
    return node.make(Reshape, require(node, node.value(0), ok), declared)


@fallback("Range")
def range_(node: Node, declared: Declared) -> Value:
    """Range of the declared length."""
    start, limit, delta = (Calc(node, node.value(i)).reshaped() for i in range(3))
    index = Calc.iota(node, declared[0], "i64").cast(start.dtype)
    wide = "f64" if start.dtype in ("f32", "f64", "f16", "bf16") else "i64"
    first, last, step = start.cast(wide), limit.cast(wide), delta.cast(wide)
    up = step > 0
    beyond, inside = first + step * declared[0], first + step * (declared[0] - 1)
    ok = up.where(beyond >= last, Calc(node, (beyond <= last).value))
    if declared[0]:
        ok = ok & up.where(inside < last, Calc(node, (inside > last).value))
    return require(node, (index * delta + start).value, ok)


@fallback("OneHot")
def one_hot(node: Node, declared: Declared) -> Value:
    """OneHot of the declared depth."""
    from .make import one_hot_of

    axis = node.axis(node.integer("axis", -1), len(declared))
    depth = Calc(node, node.value(1)).cast("i64").equals(declared[axis])
    return require(node, one_hot_of(node, axis, declared[axis]), depth.reshaped())


@fallback("Split")
def split(node: Node, declared: Declared) -> list[Value]:
    """Split in parts of the declared sizes."""
    dims = static(node, 0)
    axis = node.axis(node.integer("axis", 0), len(dims))
    shapes = [node.declared(i) for i in range(len(node.proto.output))]
    sizes = [s[axis] for s in shapes if s is not None]
    if len(sizes) < len(shapes) or sum(sizes) != dims[axis]:
        raise node.unknown(1, "the sizes")
    x = require(node, node.value(0), data(node, 1).equals(numbers(node, sizes)))
    results: list[Value] = []
    for i, size in enumerate(sizes):
        start = sum(sizes[:i])
        starts = tuple(start if d == axis else 0 for d in range(len(dims)))
        stops = tuple(start + size if d == axis else n for d, n in enumerate(dims))
        results.append(node.make(Slice, x, starts, stops, (1,) * len(dims)))
    return results


# -- places ---------------------------------------------------------------------------------------------------------


@fallback("Slice")
def slice_(node: Node, declared: Declared) -> Value:
    """Slice: starts and steps are data, the declared shape says how many elements follow."""
    dims, starts, ends = static(node, 0), data(node, 1), data(node, 2)
    count = int(node.dims_of(starts.value)[0])  # type: ignore[arg-type]
    axes = (
        node.axes(node.ints_input(3, "axes") if node.has(3) else range(count), len(dims)) if _axes_known(node) else None
    )
    if axes is None:
        axes = _guess_axes(node, dims, declared, count)
    steps = data(node, 4) if node.has(4) else numbers(node, [1] * count)
    x = node.value(0)
    for i, axis in enumerate(axes):
        start, end, step, size = element(starts, i), element(ends, i), element(steps, i), dims[axis]
        down = step < 0
        low, high = (start < 0).where(start + size, start), (end < 0).where(end.maximum(-_FAR) + size, end)
        first = down.where(low.clamped(0, size - 1), low.clamped(0, size))
        last = down.where(high.clamped(-1, size - 1), high.clamped(0, size))
        span = down.where(first - last, last - first)
        counted = (span + step.abs() - 1) / step.abs().maximum(1)
        x = require(node, x, counted.maximum(0).equals(declared[axis])) if dims[axis] else x
        at = first + Calc.iota(node, declared[axis], "i64") * step
        x = node.make(Gather, x, at.value, axis)
    return x


def _axes_known(node: Node) -> bool:
    return not node.has(3) or node.maybe_array(3) is not None


def _guess_axes(node: Node, dims: Declared, declared: Declared, count: int) -> list[int]:
    """Axes that are data too: taken to be those along which the size changes, and held to that."""
    axes = data(node, 3)
    found = [i for i, (a, b) in enumerate(zip(dims, declared, strict=True)) if a != b]
    if len(found) != count:
        found = list(range(count))
    sign = (axes < 0).where(axes + len(dims), axes)
    hold_to(node, 0, sign.equals(numbers(node, found)))
    return found


def hold_to(node: Node, index: int, ok: Calc) -> None:
    """From here on, input number `index` of the node is one that is required to be `ok`."""
    node.replace(index, Item(value=require(node, node.value(index), ok)))


@fallback("Pad")
def pad(node: Node, declared: Declared) -> Value:
    """Pad by amounts that are data: every element of the result finds its place in the input."""
    dims, pads, mode = static(node, 0), data(node, 1), node.string("mode", "constant")
    axes = node.axes(node.ints_input(3, "axes"), len(dims)) if node.has(3) else list(range(len(dims)))
    x = node.value(0)
    inside: Calc | None = None
    for i, axis in enumerate(axes):
        before, after, size = element(pads, i), element(pads, len(axes) + i), dims[axis]
        x = require(node, x, (before + after + size).equals(declared[axis]))
        at = Calc.iota(node, declared[axis], "i64") - before
        if mode == "constant":
            shape = [-1 if d == axis else 1 for d in range(len(dims))]
            shape[axis] = declared[axis]
            here = ((at >= 0) & (at < size)).reshaped(*shape)
            inside = here if inside is None else inside & here
        elif mode == "reflect":
            at = at.abs()
            at = (at > size - 1).where(2 * (size - 1) - at, at)
        elif mode == "wrap":
            at = (at < 0).where(at + size, (at >= size).where(at - size, at))
        x = node.make(Gather, x, at.clamped(0, max(size - 1, 0)).value, axis)
    if inside is None:
        return x
    fill = Calc(node, node.value(2)).reshaped() if node.has(2) else Calc(node, node.splat(0, x.tensor.dtype))
    return node.make(Where, inside.value, x, fill.value)


@fallback("CumSum", "CumProd")
def cumulative(node: Node, declared: Declared) -> Value:
    """CumSum along an axis that is data: along each, and then the one that is meant."""
    kind: type[Op] = CumSum if node.op_type == "CumSum" else CumProd
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    rank = len(declared)
    axis = element(data(node, 1), 0)
    axis = (axis < 0).where(axis + rank, axis)
    found = [Calc(node, node.make(kind, node.value(0), a, exclusive, reverse)) for a in range(rank)]
    result = found[0]
    for a in range(1, rank):
        result = axis.equals(a).where(found[a], result)
    return require(node, result.value, (axis >= 0) & (axis < rank))


@fallback("TopK")
def top_k(node: Node, declared: Declared) -> tuple[Value, ...]:
    """TopK of as many elements as are declared."""
    axis = node.axis(node.integer("axis", -1), len(declared))
    x = require(node, node.value(0), data(node, 1).equals(declared[axis]))
    return node.make_all(TopK, x, declared[axis], axis, node.integer("largest", 1) != 0)


# -- reductions -----------------------------------------------------------------------------------------------------


def reduction(node: Node, declared: Declared, make: Callable[[tuple[int, ...]], Value]) -> Value:
    """A reduction over axes that are data. `make` builds it for given axes; of all sets of axes that lead to the
    declared shape, the one that is meant is chosen when the model runs."""
    dims, axes = static(node, 0), data(node, 1)
    rank, count = len(dims), int(node.dims_of(axes.value)[0])  # type: ignore[arg-type]
    keep = node.integer("keepdims", 1) != 0
    if count == 0:
        nothing = node.integer("noop_with_empty_axes", 0) != 0
        return make(() if nothing else tuple(range(rank)))
    at = (axes < 0).where(axes + rank, axes)
    result: Calc | None = None
    valid: Calc | None = None
    for chosen in combinations(range(rank), count):
        left = tuple(1 if i in chosen else d for i, d in enumerate(dims) if keep or i not in chosen)
        if left != declared:
            continue
        meant = _same_set(node, at, chosen)
        value = Calc(node, make(chosen))
        result = value if result is None else meant.where(value, result)
        valid = meant if valid is None else valid | meant
    if result is None or valid is None:
        raise node.error(f"no {count} axes of {node.type(0)} lead to the declared shape {list(declared)}")
    return require(node, result.value, valid)


def _same_set(node: Node, at: Calc, chosen: tuple[int, ...]) -> Calc:
    """True when the axes `at` are those in `chosen`, in any order."""
    every: Calc | None = None
    for a in chosen:
        hit = node.make(Cast, at.equals(a).value, "i32")
        found = Calc(node, node.make(Equal, node.make(Max, hit, (0,), False), node.splat(1, "i32")))
        every = found if every is None else Calc(node, node.make(And, every.value, found.value))
    assert every is not None
    return every
