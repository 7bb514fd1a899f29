"""Layouts of constants: packed in panels of one register block for contractions, row-major for everything else."""

from __future__ import annotations

from ...ir.constants import Constant
from ...ir.core import Value
from ...ir.expr import Dim, product, sym
from ...ir.kernel.dots import narrow_sum
from ...ir.kernel.form import KernelOp, LoopDim, Read, Write
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES, ROW_MAJOR, Layout, ScalarType
from ..analysis.access import accesses, stride
from ..analysis.contraction import Contraction
from .orders import aligned, channel, contractions, is_param, outer

_FEW_ROWS = 4


def weight_layouts(op: KernelOp, target: TargetInfo | None) -> dict[Value, Layout]:
    """For the kernel's parameters that stand for constants, the layouts they should be packed in (those that stay
    row-major are left out)."""
    layouts: dict[Value, Layout] = {}
    for c in contractions(op):
        buffer = c.b.main.buffer
        if c.b.constant and is_param(op, buffer) and buffer not in layouts:
            layouts[buffer] = panel_layout(c, target)
    for read in accesses(op.region):
        if isinstance(read, Read) and read.buffer not in layouts and is_param(op, read.buffer):
            layout = _following(op, read)
            if layout is not None:
                layouts[read.buffer] = layout
    return {buffer: layout for buffer, layout in layouts.items() if layout != ROW_MAJOR}


def panel_layout(c: Contraction, target: TargetInfo | None) -> Layout:
    """How the constant operand `b` of a contraction is packed.

    With columns: panels of a block of columns; within one, the summed dimensions with the one that is innermost in `a`
    last. Columns that cannot be cut at block borders (groups) are innermost without a block. Without columns
    (depthwise): channels innermost.
    """
    read = c.b.main
    rank = len(read.map)
    column = channel(read, c.n, c.k)
    if column is None:
        last = channel(read, c.batch, c.k)
        return ROW_MAJOR if last is None else _ordered([d for d in range(rank) if d != last] + [last])
    lead = [d for d, e in enumerate(read.map) if d != column and e.symbols() & {x.name for x in c.batch}]
    summed = [d for d in _summed(c) if d != column and d not in lead]
    fixed = [d for d in range(rank) if d not in (column, *lead, *summed)]
    inner = [*fixed, *summed]
    block = block_size(c, target)
    if not _cuts(c, column, block):
        return _ordered([*lead, *inner, column])
    group = _group(c)
    return Layout((*lead, column, *inner), ((column, block), group) if group else ((column, block),))


def _group(c: Contraction) -> tuple[int, int] | None:
    """Where the factors are narrow, the coordinate of `b` along which so many elements lie in one 32-bit lane: the one
    whose neighbours are side by side in `a`, too, or at least the longest."""
    found = narrow_sum(c.reduce)
    read = c.b.main
    if found is None or read.result not in (found.x, found.y) or read.fill is not None:
        return None
    extents = {d.name: d.extent for d in c.reduce.dims if isinstance(d.extent, int)}
    fitting = [(d, name) for d, e in enumerate(read.map) for name in extents if e == sym(name)]

    def gain(at: tuple[int, str]) -> tuple[bool, float]:
        n = extents[at[1]]
        assert isinstance(n, int)
        return stride(c.a.main, at[1]) == 1, n / (-(-n // found.group))

    best = max(fitting, key=gain, default=None)
    return (best[0], found.group) if best is not None and extents[best[1]] != 1 else None


def _ordered(order: list[int]) -> Layout:
    return ROW_MAJOR if order == sorted(order) else Layout(tuple(order))


def _summed(c: Contraction) -> list[int]:
    """Coordinates of `b` that move with summed dimensions: those that `a` reads as windows first, channels last."""
    names = {d.name for d in c.k}
    last = channel(c.a.main, c.k, [*c.m, *c.free])
    deepest = c.a.main.map[last].symbols() & names if last is not None else frozenset[str]()
    found = [d for d, e in enumerate(c.b.main.map) if e.symbols() & names]
    return sorted(found, key=lambda d: (bool(c.b.main.map[d].symbols() & deepest), d))


def block_size(c: Contraction, target: TargetInfo | None) -> int:
    """Columns of one panel: two vectors of the accumulator, four where there are few rows (then the product is as fast
    as its weights are read), one where there are no more columns than that."""
    element = c.reduce.results[c.accumulator].type
    assert isinstance(element, ScalarType)
    lanes = target.lanes(DTYPES[element.dtype].bytes) if target else 8
    columns, rows = _extent(c.n), _extent(c.m)
    if columns <= lanes:
        return lanes
    return 4 * lanes if rows <= _FEW_ROWS and columns >= 4 * lanes else 2 * lanes


def _extent(dims: tuple[LoopDim, ...]) -> int:
    """Product of the extents, symbols taken as many."""
    total: Dim = product(d.extent for d in dims)
    return total if isinstance(total, int) else 1 << 30


def _cuts(c: Contraction, column: int, block: int) -> bool:
    """True when the columns of every group begin at a block's border."""
    e = c.b.main.map[column]
    names = [d for d in c.n if d.name in e.symbols()]
    if len(names) != 1 or e.coefficient(names[0].name) != 1 or not e.is_linear_in(names[0].name):
        return False
    rest = e.substitute({names[0].name: 0})
    return rest == 0 or rest.divisor({}) % block == 0


def _following(op: KernelOp, read: Read) -> Layout | None:
    """A constant that is read along with what the kernel writes has the order of that."""
    value = outer(op, read.buffer)
    if not isinstance(value.op, Constant) or sum(d != 1 for d in value.tensor.dims) < 2:
        return None
    for write in accesses(op.region):
        if isinstance(write, Write) and is_param(op, write.buffer) and aligned(read, write):
            order = write.buffer.tensor.layout.order
            return Layout(order) if order else None
    return None
