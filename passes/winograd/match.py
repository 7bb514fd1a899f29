"""Recognises kernels that Winograd's algorithm can compute: a 3x3 convolution in f32 with stride 1, dilation 1, one
group and constant weights, and whatever the kernel does with each sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.constants import Constant, ConstantData
from ...ir.core import Op, Yield
from ...ir.expr import Dim, Expr
from ...ir.kernel.form import Const, Index, KernelOp, Map, Read, Reduce, Scalar, Write
from ..analysis.contraction import Contraction, recognise
from .transforms import TAPS


@dataclass(frozen=True)
class Convolution:
    """A kernel that is a 3x3 convolution. `dims` are the names of the map's dimensions for images, output channels,
    rows and columns; `summed` those of the reduction for channels, rows and columns of the filter; `batch` is the
    extent of images; `points` are those of images (1 when it is symbolic), rows and columns; `channels` and `outputs`
    the numbers of channels. `weights` is the constant, as [outputs, channels, 3, 3]. `epilogue` is what is done with a
    sum, in order."""

    kernel: KernelOp
    reduce: Reduce
    image: Read
    weight: Read
    weights: ConstantData
    dims: tuple[str, str, str, str]
    summed: tuple[str, str, str]
    batch: Dim
    points: tuple[int, int, int]
    channels: int
    outputs: int
    epilogue: tuple[Op, ...]


def match(op: KernelOp) -> Convolution | None:
    """`op` as a convolution that Winograd's algorithm fits, or None."""
    stage, reduce = _only_stages(op)
    if stage is None or reduce is None:
        return None
    constants = [b for v, b in zip(op.args, op.buffers, strict=True) if isinstance(v.op, Constant)]
    found = recognise(reduce, 0, constants)
    if found is None or not _plain(found):
        return None
    image, weight = found.a.main, found.b.main
    o = found.n[0].name
    extents = {d.name: d.extent for d in (*stage.dims, *reduce.dims)}
    roles = _roles(image, [d.name for d in reduce.dims])
    if roles is None:
        return None
    (images, rows, columns), summed = roles
    sizes = {name: e for name, e in extents.items() if isinstance(e, int)}
    if extents.keys() - sizes.keys() - {images}:
        return None
    dims = images, o, rows, columns
    order = _places(weight.map, (o, *summed))
    if order is None or {d.name for d in stage.dims} - set(dims) or [sizes[d] for d in summed[1:]] != [TAPS, TAPS]:
        return None
    source = op.args[weight.buffer.index].op
    assert isinstance(source, Constant)
    if sum(v is source.result for v in op.args) != 1 or len(weight.buffer.uses) != 1:
        return None
    epilogue = [x for r in (op.region, stage.body) for x in r if not isinstance(x, Yield | Map | Reduce)]
    points = sizes.get(images, 1), sizes[rows], sizes[columns]
    weights = source.value.permuted(order)
    return Convolution(
        op, reduce, image, weight, weights, dims, summed, extents.get(images, 1), points, sizes[summed[0]], sizes[o],
        tuple(epilogue),
    )  # fmt: skip


def _only_stages(op: KernelOp) -> tuple[Map | None, Reduce | None]:
    """The one map of a kernel and the one reduction in it, when besides these there is straight-line code only."""
    stages = [x for x in op.region if not isinstance(x, Yield | Const)]
    stage = stages[0] if len(stages) == 1 else None
    if not isinstance(stage, Map):
        return None, None
    inner = [x for x in stage.body if not isinstance(x, Yield | Const | Scalar | Index | Read | Write)]
    reduce = inner[0] if len(inner) == 1 else None
    plain = all(_simple(x, op) for x in stage.body if isinstance(x, Read | Write))
    return (stage, reduce) if isinstance(reduce, Reduce) and plain else (None, None)


def _simple(access: Read | Write, op: KernelOp) -> bool:
    """True for accesses at affine places, of inputs when they read."""
    if isinstance(access, Read):
        return not access.indices and access.buffer in op.buffers
    return not access.indices and not access.combine


def _plain(c: Contraction) -> bool:
    """True when image times constant weight is summed in f32, from 0, and nothing else is in the reduction."""
    init = c.reduce.inits[c.accumulator].op
    reads = [x for x in c.reduce.body if isinstance(x, Read)]
    fill = c.a.main.fill
    return (
        len(c.reduce.inits) == 1
        and isinstance(init, Const)
        and init.value == 0
        and c.a.direct
        and c.b.direct
        and c.b.constant
        and not c.a.constant
        and set(reads) == {c.a.main, c.b.main}
        and not c.a.main.indices
        and c.b.main.fill is None
        and (fill is None or (isinstance(fill.op, Const) and fill.op.value == 0))
        and all(r.buffer.tensor.dtype == "f32" for r in reads)
        and len(c.n) == 1
        and not c.batch
    )


Roles = tuple[tuple[str, str, str], tuple[str, str, str]]


def _roles(image: Read, summed: Sequence[str]) -> Roles | None:
    """Dimensions for images, rows and columns, and for channels, rows and columns of the filter, by how the image is
    read at n, c, y + i + constant, x + j + constant."""
    if len(image.map) != 4 or len(summed) != 3:
        return None
    windows: list[tuple[str, str]] = []
    channel = images = ""
    for e in image.map:
        names = e.symbols()
        inner = [d for d in summed if d in names]
        if not all(e.is_linear_in(d) and e.coefficient(d) == 1 for d in names):
            return None
        outer = [d for d in names if d not in summed]
        if len(inner) == 1 and len(outer) == 1:
            windows.append((outer[0], inner[0]))
        elif len(inner) == 1 and e.symbol == inner[0]:
            channel = inner[0]
        elif e.symbol is not None and not inner:
            images = e.symbol
        elif not (e.constant == 0 and images == ""):
            return None
    if len(windows) != 2 or not channel or len({*summed, *(w for w, _ in windows)}) != 5:
        return None
    (rows, i), (columns, j) = windows
    return (images, rows, columns), (channel, i, j)


def _places(map: Sequence[Expr], names: Sequence[str]) -> list[int] | None:
    """Which coordinate each of `names` is; None when these are not all there is."""
    found = [e.symbol for e in map]
    if len(found) != len(names) or set(found) != set(names):
        return None
    return [found.index(n) for n in names]
