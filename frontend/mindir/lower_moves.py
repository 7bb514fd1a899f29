"""Lowerings of MindIR's primitives that repeat and rearrange elements: tiles, turns, blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.expr import as_dim, as_expr, floordiv
from .lower_array import swapped
from .lower_common import axis_of, expanded, flat, known, rank, reshaped, sliced
from .primitive import Call, Item, primitive

_END = np.iinfo(np.int64).max

# -- repetition and order ----------------------------------------------------------------------------------------------


@primitive("Tile", "Repeat")
def tile(call: Call) -> Item:
    """Repeated along dimensions; more numbers than dimensions add some in front."""
    x = call.tensor(0)
    counts = list(call.sizes(call[1] if len(call.given) > 1 else call.datum(call.first("multiples", "dims")), "counts"))
    dims = rank(call, x)
    if len(counts) > dims:
        x = reshaped(call, x, [*[1] * (len(counts) - dims), *call.shape(x)])
    counts = [1] * (dims - len(counts)) + counts
    return call.op("Tile", x, counts)


@primitive("RepeatInterleaveInt", "RepeatInterleaveTensor")
def repeat_interleave(call: Call) -> Item:
    """Every element of a dimension several times: as often as one number, or a number for each, says."""
    x = call.tensor(0)
    if call.datum("dim", None) is None:
        x, axis = flat(call, x), 0
    else:
        axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    counts = call.ints("repeats")
    dims = call.shape(x)
    if len(counts) > 1:
        return call.op("Gather", x, np.repeat(np.arange(len(counts)), counts), axis=axis)
    count = counts[0] if counts else 1
    wide = expanded(call, call.op("Unsqueeze", x, [axis + 1]), [*dims[: axis + 1], count, *dims[axis + 1 :]])
    return reshaped(call, wide, [*dims[:axis], as_dim(as_expr(dims[axis]) * count), *dims[axis + 1 :]])


def turned(call: Call, x: Item, axes: Sequence[int]) -> Item:
    """Elements from the end along axes."""
    count = len(axes)
    return call.op("Slice", x, [-1] * count, [-_END] * count, list(axes), [-1] * count) if axes else x


@primitive("ReverseV2")
def reverse(call: Call) -> Item:
    """From the end along axes."""
    x = call.tensor(0)
    return turned(call, x, [axis_of(call, a, rank(call, x)) for a in call.ints("axis")])


def rolled(call: Call, x: Item, axis: int, shift: int) -> Item:
    """Elements moved along an axis, those beyond the end at the start."""
    size = call.shape(x)[axis]
    if isinstance(size, int):
        shift = shift % size if size else 0
    if shift == 0:
        return x
    cut = as_dim(as_expr(size) - shift) if shift > 0 else -shift
    return call.op("Concat", sliced(call, x, axis, cut, _END), sliced(call, x, axis, 0, cut), axis=axis)


@primitive("Roll")
def roll(call: Call) -> Item:
    """Elements moved along dimensions in a circle; without `dims` along all elements in a row."""
    x, shifts = call.tensor(0), call.ints("shifts")
    name = call.first("dims", "axis")
    dims = call.optional_ints(name)
    if not dims:
        return reshaped(call, rolled(call, flat(call, x), 0, shifts[0]), call.shape(x))
    for axis, shift in zip(dims, shifts, strict=True):
        x = rolled(call, x, axis_of(call, axis, rank(call, x)), shift)
    return x


@primitive("FFTShift", "IFFTShift")
def fft_shift(call: Call) -> Item:
    """Halves of dimensions in each other's place."""
    x = call.tensor(0)
    given = call.optional_ints("dim")
    dims = call.shape(x)
    for axis in range(len(dims)) if given is None else [axis_of(call, a, len(dims)) for a in given]:
        half = known(call, dims[axis], "the axis") // 2
        x = rolled(call, x, axis, half if call.name == "FFTShift" else -half)
    return x


@primitive("DepthToSpace", "SpaceToDepth")
def depth_to_space(call: Call) -> Item:
    """Blocks of channels become blocks of pixels, and back."""
    return call.op(call.name, call.tensor(0), blocksize=call.integer("block_size"))


@primitive("PixelShuffle")
def pixel_shuffle(call: Call) -> Item:
    """`[.., C r r, H, W]` becomes `[.., C, H r, W r]`."""
    x, r = call.tensor(0), call.integer("upscale_factor")
    *batch, c, h, w = call.shape(x)
    outer = as_dim(floordiv(c, r * r))
    n = len(batch)
    x = reshaped(call, x, [*batch, outer, r, r, h, w])
    x = call.op("Transpose", x, perm=[*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return reshaped(call, x, [*batch, outer, as_dim(as_expr(h) * r), as_dim(as_expr(w) * r)])


@primitive("ChannelShuffle")
def channel_shuffle(call: Call) -> Item:
    """Channels of `group` groups, in turns."""
    x, group = call.tensor(0), call.integer("group")
    n, c, *rest = call.shape(x)
    y = reshaped(call, x, [n, group, as_dim(floordiv(c, group)), *rest])
    return reshaped(call, swapped(call, y, 1, 2), [n, c, *rest])


@primitive("BatchToSpace", "BatchToSpaceND", "BatchToSpaceNDV2")
def batch_to_space(call: Call) -> Item:
    """Blocks of the batch become blocks of other dimensions, which are then cropped."""
    x, (block, crops, first) = call.tensor(0), _blocks(call, "crops")
    n, *dims = call.shape(x)
    count, batch = len(block), as_dim(floordiv(n, int(np.prod(block))))
    x = reshaped(call, x, [*block, batch, *dims])
    mixed = [a for i in range(count) for a in (count + first + i, i)]
    order = [*range(count, count + first), *mixed, *range(2 * count + first, len(dims) + count + 1)]
    x = call.op("Transpose", x, perm=order)
    sizes = [batch, *dims]
    for i, b in enumerate(block):
        sizes[first + i] = as_dim(as_expr(sizes[first + i]) * b)
    x = reshaped(call, x, sizes)
    ends = [as_dim(as_expr(sizes[first + i]) - after) for i, (_, after) in enumerate(crops)]
    return call.op("Slice", x, [before for before, _ in crops], ends, list(range(first, first + count)))


@primitive("SpaceToBatch", "SpaceToBatchND")
def space_to_batch(call: Call) -> Item:
    """Blocks of other dimensions, which are padded before, become a larger batch."""
    x, (block, pads, first) = call.tensor(0), _blocks(call, "paddings")
    count, dims = len(block), rank(call, call.tensor(0))
    rest = [0] * (dims - first - count)
    around = [[*[0] * first, *(p[i] for p in pads), *rest] for i in range(2)]
    x = call.op("Pad", x, [*around[0], *around[1]])
    sizes = list(call.shape(x))
    outer = [as_dim(floordiv(sizes[first + i], b)) for i, b in enumerate(block)]
    inner = [d for pair in zip(outer, block, strict=True) for d in pair]
    x = reshaped(call, x, [*sizes[:first], *inner, *sizes[first + count :]])
    blocks = [first + 2 * i + 1 for i in range(count)]
    x = call.op("Transpose", x, perm=[*blocks, *(i for i in range(dims + count) if i not in blocks)])
    batch = as_dim(as_expr(sizes[0]) * int(np.prod(block)))
    return reshaped(call, x, [batch, *sizes[1:first], *outer, *sizes[first + count :]])


def _blocks(call: Call, name: str) -> tuple[tuple[int, ...], list[tuple[int, int]], int]:
    """Sizes of blocks, pairs of numbers for each of their dimensions, and the first of these dimensions: the second
    of the tensor, in pictures the third."""
    numbers = call.ints(name)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    block = call.ints(call.first("block_shape", "block_size"))
    block = block * len(pairs) if len(block) == 1 else block
    return block, pairs, 1 if call.name.endswith("V2") else rank(call, call.tensor(0)) - len(block)


__all__ = ["rolled", "turned"]
