"""Data movement with known geometry: reshapes, transpositions, slices, padding, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ...ir.assume import assume_equal, require_nonnegative, require_zero
from ...ir.core import Op, Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, maximum, minimum, product
from ...ir.ops.shape import Concat, Expand, Gather, Pad, Reshape, Slice, Tile, Transpose
from ...ir.types import broadcast
from .calc import Calc
from .declared import data, numbers, require
from .node import Node, converter
from .scope import Unsupported, simplified
from .symbolic import exact_quotient, reduced
from .windows import fixed

_FAR = (1 << 31) - 1  # starts and ends from here on mean "to the end" in every exporter


def checked_sizes(dims: Sequence[Dim]) -> None:
    """Note that sizes which data gives must not be negative."""
    for d in dims:
        if isinstance(d, Expr) and d.is_data:
            require_nonnegative(d)


@converter("Reshape")
def reshape(node: Node) -> Value:
    """Reshape: 0 copies a dimension (unless allowzero), -1 takes what is left."""
    dims = node.shape(0)
    wanted = node.dims(1, "the shape") if node.opset >= 5 else list[Dim](node.ints("shape"))
    if not node.integer("allowzero", 0):
        for i, d in enumerate(wanted):
            if d == 0:
                if i >= len(dims):
                    raise node.error(f"shape {_shown(wanted)}: the input has no dimension {i} that 0 could copy")
                wanted[i] = dims[i]
    if any(isinstance(d, int) and d < -1 for d in wanted):
        raise node.error(f"shape: expected numbers of at least -1, got {_shown(wanted)}")
    holes = [i for i, d in enumerate(wanted) if d == -1]
    if len(holes) > 1:
        raise node.error(f"shape: expected at most one -1, got {_shown(wanted)}")
    if holes:
        rest = [d for i, d in enumerate(wanted) if i != holes[0]]
        wanted[holes[0]] = _share(node, product(dims), product(rest), wanted)
    x, have, total = node.value(0), as_dim(product(dims)), as_dim(product(wanted))
    if (
        isinstance(total, int)
        and isinstance(have, Expr)
        and have.symbol is None
        and have.constant is None
        and total > 0
    ):
        require_zero(have - total)
        x = taken(node, node.make(Reshape, x, (have,)), 0, 0, total)
    return node.make(Reshape, x, tuple(wanted))


def _share(node: Node, total: Dim, rest: Dim, wanted: Sequence[Dim]) -> Dim:
    """total / rest: what -1 stands for."""
    total, rest = as_dim(total), as_dim(rest)
    if isinstance(total, int) and isinstance(rest, int):
        if rest == 0 or total % rest:
            raise node.error(f"shape {_shown(wanted)}: expected a divisor of the input's {total} elements")
        return total // rest
    quotient = exact_quotient(as_expr(total), as_expr(rest))
    if quotient is not None:
        return quotient
    total, rest = reduced(as_expr(total), as_expr(rest))
    share = as_expr(total) // rest
    require_zero(as_expr(total) - share * rest)
    return as_dim(share)


def _shown(dims: Sequence[Dim]) -> str:
    return "[" + ", ".join(map(str, dims)) + "]"


@converter("Flatten")
def flatten(node: Node) -> Value:
    """Flatten to a matrix [dims before axis, dims from axis on]."""
    dims, rank = node.shape(0), node.rank(0)
    axis = node.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise node.error(f"axis: expected a number in {-rank}..{rank}, got {axis}")
    axis += rank if axis < 0 else 0
    return node.make(Reshape, node.value(0), (as_dim(product(dims[:axis])), as_dim(product(dims[axis:]))))


@converter("Transpose")
def transpose(node: Node) -> Value:
    """Transpose; the default reverses all dimensions."""
    rank = node.rank(0)
    perm = node.ints("perm", list(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        raise node.error(f"perm: expected a permutation of 0..{rank - 1}, got {perm}")
    return node.make(Transpose, node.value(0), tuple(perm))


@converter("Squeeze")
def squeeze(node: Node) -> Value:
    """Squeeze: without axes, all dimensions that are known to be 1. A symbol that then turns out to be 1 ends the run:
    the result would have another rank."""
    dims, rank = node.shape(0), node.rank(0)
    given = node.ints_input(1, "axes") if node.has(1) else node.optional_ints("axes")
    if given is None:
        for d in dims:
            if isinstance(d, Expr):
                require_nonnegative((d - 1) * (d - 1) - 1)
        given = [i for i, d in enumerate(dims) if d == 1]
    axes = node.axes(given, rank)
    for a in axes:
        if isinstance(dims[a], int) and dims[a] != 1:
            raise node.error(f"axes: expected dimension {a} to be 1, got {dims[a]}")
    return node.make(Reshape, node.value(0), tuple(d for i, d in enumerate(dims) if i not in axes))


@converter("Unsqueeze")
def unsqueeze(node: Node) -> Value:
    """Unsqueeze: axes count in the result."""
    given = node.ints_input(1, "axes") if node.opset >= 13 else node.ints("axes")
    axes = node.axes(given, node.rank(0) + len(given))
    rest = iter(node.shape(0))
    shape = tuple(1 if i in axes else next(rest) for i in range(node.rank(0) + len(given)))
    return node.make(Reshape, node.value(0), shape)


@converter("Concat")
def concat(node: Node) -> Value:
    """Concat; parts without elements stay in."""
    values = node.values()
    axis = node.axis(node.integer("axis", 1 if node.opset < 4 else None), node.rank(0))
    return values[0] if len(values) == 1 else node.make(Concat, tuple(values), axis)


@converter("Expand")
def expand(node: Node) -> Value:
    """Expand: both shapes broadcast."""
    dims, wanted = node.shape(0), node.dims(1, "the shape")
    checked_sizes(wanted)
    shape = broadcast([dims, tuple(wanted)])
    if shape is None:
        raise node.error(f"shape: expected one that broadcasts with {node.type(0)}, got {_shown(wanted)}")
    return node.value(0) if shape == dims else node.make(Expand, node.value(0), shape)


@converter("Tile")
def tile(node: Node) -> Value:
    """Tile: repeats per dimension."""
    if node.opset < 6:
        raise Unsupported("Tile before opset 6", "convert the model to a newer opset")
    rank = node.rank(0)
    node.expect_length(1, rank, "repeats")
    repeats = node.dims(1, "repeats")
    checked_sizes(repeats)
    if len(repeats) != rank or any(isinstance(r, int) and r < 0 for r in repeats):
        raise node.error(f"repeats: expected {rank} numbers of at least 0, got {_shown(repeats)}")
    return node.value(0) if all(r == 1 for r in repeats) else node.make(Tile, node.value(0), tuple(repeats))


# -- slices --------------------------------------------------------------------------------------------------------


@converter("Slice")
def slice_(node: Node) -> Value:
    """Slice: starts and ends are clamped to the dimension here, so that the operation need not."""
    dims, rank = node.shape(0), node.rank(0)
    if node.opset < 10:
        starts, ends = list[Dim](node.ints("starts")), list[Dim](node.ints("ends"))
        axes, steps = node.ints("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = node.dims(1, "starts"), node.dims(2, "ends")
        axes = node.ints_input(3, "axes") if node.has(3) else list(range(len(starts)))
        steps = node.ints_input(4, "steps") if node.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error(f"expected as many starts, ends, axes and steps (none 0), got {len(starts)}, {len(ends)},"
                         f" {len(axes)}, {steps}")  # fmt: skip
    axes = node.axes(axes, rank)
    bounds: list[tuple[Dim, Dim, int]] = [(0, d, 1) for d in dims]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        bounds[axis] = _clamped(start, end, step, dims[axis])
    return cut(node, node.value(0), bounds)


def cut(node: Node, x: Value, bounds: Sequence[tuple[Dim, Dim, int]]) -> Value:
    """`x` sliced by (start, stop, step) per dimension; `x` itself when that is all of it."""
    if all(b == (0, d, 1) for b, d in zip(bounds, x.tensor.dims, strict=True)):
        return x
    starts, stops, steps = zip(*bounds, strict=True)
    return node.make(Slice, x, starts, stops, steps)


def taken(node: Node, x: Value, axis: int, start: int, size: Dim) -> Value:
    """`size` elements along `axis` of a size that only the run knows to be enough: gathered, as a gather looks where it
    reads when the model runs."""
    at = Calc.iota(node, size, "i64") + start
    return node.make(Gather, x, at.value, axis)


def _clamped(start: Dim, end: Dim, step: int, size: Dim) -> tuple[Dim, Dim, int]:
    if step > 0:
        low, high = _clamp(start, size, 0, size), _clamp(end, size, 0, size)
        if isinstance(low, int) and isinstance(high, int):
            high = max(low, high)
        return low, high, step
    last = as_dim(as_expr(size) - 1)
    low, high = _clamp(start, size, 0, last), _clamp(end, size, -1, last)
    if isinstance(low, int) and isinstance(high, int):
        high = min(low, high)
    return low, high, step


def _clamp(at: Dim, size: Dim, low: int, high: Dim) -> Dim:
    """`at` counted from the end where negative, then clamped to low..high."""
    if isinstance(at, int):
        if at >= _FAR:
            return high
        if at <= -_FAR:
            return low
        if at < 0:
            at = as_dim(as_expr(size) + at)
        if isinstance(at, int) and isinstance(high, int):
            return min(max(at, low), high)
    return simplified(maximum(minimum(at, high), low))


@converter("Split")
def split(node: Node) -> list[Value]:
    """Split into slices: sizes given, or equal parts of which the last may be smaller (opset 18)."""
    dims, rank, count = node.shape(0), node.rank(0), len(node.proto.output)
    axis = node.axis(node.integer("axis", 0), rank)
    if node.opset >= 13:
        sizes = _split_sizes(node, count) if node.has(1) else None
    else:
        sizes = None if node.optional_ints("split") is None else list[Dim](node.ints("split"))
    if sizes is None:
        if node.integer("num_outputs", count) != count:
            raise node.error(f"num_outputs: expected {count}, the number of outputs, got {node.integer('num_outputs')}")
        sizes = _even(node, dims[axis], count)
    checked_sizes(sizes)
    total = as_dim(sum((as_expr(s) for s in sizes), as_expr(0)))
    if len(sizes) != count or (isinstance(total, int) and isinstance(dims[axis], int) and total != dims[axis]):
        raise node.error(f"expected {count} sizes that sum up to {dims[axis]}, got {_shown(sizes)}")
    if total != dims[axis]:
        assume_equal(dims[axis], total)
        require_zero(as_expr(dims[axis]) - total)
    results: list[Value] = []
    at: Dim = 0
    for size in sizes:
        end = as_dim(as_expr(at) + size)
        if isinstance(end, int) and isinstance(at, int) and isinstance(dims[axis], Expr) and end > at:
            require_nonnegative(as_expr(dims[axis]) - end)
            results.append(taken(node, node.value(0), axis, at, end - at))
            at = end
            continue
        results.append(cut(node, node.value(0), [(at, end, 1) if i == axis else (0, d, 1) for i, d in enumerate(dims)]))
        at = end
    return results


def _split_sizes(node: Node, count: int) -> list[Dim]:
    node.expect_length(1, count, "the sizes")
    return node.dims(1, "the sizes")


def _even(node: Node, size: Dim, count: int) -> list[Dim]:
    if isinstance(size, Expr):
        exact = exact_quotient(size, as_expr(count))
        if exact is not None:
            return [exact] * count
        part = as_dim(ceildiv(size, count))
        if node.opset < 18:
            require_zero(as_expr(part) * count - size)
        ends = [as_expr(simplified(minimum(as_expr(part) * i, size))) for i in range(count + 1)]
        return [as_dim(b - a) for a, b in pairwise(ends)]
    if size % count and node.opset < 18:
        raise node.error(f"expected {count} equal parts of {size} elements")
    part = -(-size // count)
    return [max(0, min(part, size - i * part)) for i in range(count)]


# -- padding -------------------------------------------------------------------------------------------------------


@converter("Pad")
def pad(node: Node) -> Value:
    """Pad: negative amounts cut, which comes first."""
    x, dims, rank = node.value(0), node.shape(0), node.rank(0)
    mode = node.string("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"mode {mode!r}")
    pads = _amounts(node, rank)
    if any(isinstance(p, Expr) for pair in pads for p in pair):
        return _pad_by_data(node, x, pads, mode)
    if any(b < 0 or a < 0 for b, a in pads):
        kept = [(max(0, -b), as_dim(as_expr(d) + min(0, a)), 1) for d, (b, a) in zip(dims, pads, strict=True)]
        x = cut(node, x, kept)
        pads = [(max(0, b), max(0, a)) for b, a in pads]
    if not any(b or a for b, a in pads):
        return x
    return node.make(Pad, x, _pad_value(node, x) if mode == "constant" else None, tuple(pads), mode)


def _pad_by_data(node: Node, x: Value, pads: Sequence[tuple[Dim, Dim]], mode: str) -> Value:
    for d, (before, after) in zip(node.dims_of(x), pads, strict=True):
        if mode == "constant":
            require_nonnegative(as_expr(d) + before + after)
        else:
            checked_sizes([before, after])
        if mode == "reflect":
            require_nonnegative(as_expr(d) - 1 - before)
            require_nonnegative(as_expr(d) - 1 - after)
    return node.make(Pad, x, _pad_value(node, x) if mode == "constant" else None, tuple(pads), mode)


def _pad_value(node: Node, x: Value) -> Value | None:
    if node.opset >= 11:
        value = node.optional(2)
        return value if value is None or value.tensor.shape == () else node.make(Reshape, value, ())
    number = node.real("value", 0.0)
    return node.splat(number, x.tensor.dtype) if number else None


def _amounts(node: Node, rank: int) -> list[tuple[Any, Any]]:
    """(before, after) of each dimension: numbers, or expressions where they are data."""
    pads: list[tuple[Any, Any]] = [(0, 0)] * rank
    axes = list(range(rank))
    if node.has(3) and node.maybe_array(3) is None:
        return _amounts_anywhere(node, rank)
    if node.has(3):
        axes = node.axes(node.ints_input(3, "axes"), rank)
    if node.opset >= 11:
        node.expect_length(1, 2 * len(axes), "pads")
        flat = node.dims(1, "pads")
    else:
        flat = list[Dim](node.ints("pads" if node.opset >= 2 else "paddings"))
    if len(flat) != 2 * len(axes):
        raise node.error(f"pads: expected {2 * len(axes)} numbers, got {len(flat)}")
    for axis, before, after in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
        pads[axis] = (before, after)
    return pads


def _amounts_anywhere(node: Node, rank: int) -> list[tuple[Any, Any]]:
    """Where axes are data too: each dimension takes the amounts of the entry that names it."""
    if not node.binding:
        raise node.unknown(3, "axes")
    from .computed import chosen, entries, vector  # these need the converters of this file

    axes, given = entries(node, 3), entries(node, 1)
    (count,) = node.dims_of(axes.value)
    if node.dims_of(given.value)[0] != as_dim(as_expr(count) * 2):
        require_zero(as_expr(node.dims_of(given.value)[0]) - as_expr(count) * 2)
    both = given.reshaped(2, count)
    axes = (axes < 0).where(axes + rank, axes)
    found: list[Any] = []
    for side in range(2):
        column = Calc(node, node.make(Slice, both.value, (side, 0), (side + 1, count), (1, 1))).reshaped(count)
        found += [chosen(node, axes.equals(axis), column, 0) for axis in range(rank)]
    flat = node.elements(vector(node, found).settled(), "pads")
    return list(zip(flat[:rank], flat[rank:], strict=True))


@converter("CenterCropPad")
def center_crop_pad(node: Node) -> Value:
    """CenterCropPad: cuts or pads both sides alike; of an odd number one more goes after."""
    dims, rank = node.shape(0), node.rank(0)
    axes = node.axes(node.ints("axes", range(rank)), rank)
    x, known, declared = node.value(0), node.known(1), node.declared(0)
    if known is not None:
        wanted = [fixed(node, d, "the shape") for d in known.dims.reshape(-1)]
    elif declared is not None:
        wanted = [declared[a] for a in axes]
        x = require(node, x, data(node, 1).equals(numbers(node, wanted)))
    else:
        raise node.unknown(1, "the shape")
    bounds: list[tuple[Dim, Dim, int]] = [(0, d, 1) for d in dims]
    pads = [(0, 0)] * rank
    for axis, want in zip(axes, wanted, strict=True):
        have = fixed(node, dims[axis], "the input's shape")
        if have > want:
            bounds[axis] = ((have - want) // 2, (have - want) // 2 + want, 1)
        else:
            pads[axis] = ((want - have) // 2, want - have - (want - have) // 2)
    x = cut(node, x, bounds)
    return node.make(Pad, x, None, tuple(pads), "constant") if any(b or a for b, a in pads) else x


# -- blocks --------------------------------------------------------------------------------------------------------


@converter("DepthToSpace")
def depth_to_space(node: Node) -> Value:
    """DepthToSpace: blocks of channels become blocks of space."""
    n, c, h, w = _four(node)
    block, mode = node.integer("blocksize"), node.string("mode", "DCR")
    if block < 1 or (isinstance(c, int) and c % (block * block)):
        raise node.error(f"blocksize: expected its square to divide {c} channels, got {block}")
    few = part_of(c, block * block)
    shape, perm = (n, block, block, few, h, w), (0, 3, 4, 1, 5, 2)
    if mode == "CRD":
        shape, perm = (n, few, block, block, h, w), (0, 1, 4, 2, 5, 3)
    y = _chain(node, (Reshape, shape), (Transpose, perm))
    return node.make(Reshape, y, (n, few, as_dim(as_expr(h) * block), as_dim(as_expr(w) * block)))


@converter("SpaceToDepth")
def space_to_depth(node: Node) -> Value:
    """SpaceToDepth: blocks of space become blocks of channels."""
    n, c, h, w = _four(node)
    block = node.integer("blocksize")
    if block < 1 or any(isinstance(d, int) and d % block for d in (h, w)):
        raise node.error(f"blocksize: expected a divisor of {h} and {w}, got {block}")
    high, wide = part_of(h, block), part_of(w, block)
    shape: tuple[Dim, ...] = (n, c, high, block, wide, block)
    perm = (0, 1, 3, 5, 2, 4) if node.string("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    y = _chain(node, (Reshape, shape), (Transpose, perm))
    return node.make(Reshape, y, (n, as_dim(as_expr(c) * block * block), high, wide))


def part_of(size: Dim, count: int) -> Dim:
    """The size of one of `count` equal parts; a remainder ends the run."""
    part = as_dim(as_expr(size) // count)
    if as_expr(part) * count != size:
        require_zero(as_expr(part) * count - size)
    return part


def _four(node: Node) -> tuple[Dim, Dim, Dim, Dim]:
    dims = node.shape(0)
    if len(dims) != 4:
        raise node.error(f"expected an input of rank 4, got {node.type(0)}")
    return dims[0], dims[1], dims[2], dims[3]


def _chain(node: Node, *steps: tuple[type[Op], Sequence[Dim]]) -> Value:
    x = node.value(0)
    for kind, argument in steps:
        x = node.make(kind, x, tuple(argument))
    return x
