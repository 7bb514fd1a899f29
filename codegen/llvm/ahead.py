"""Fetching ahead: what a reduction will read in the next tile of the vector dimension, brought near during this one.

A product takes its packed weights tile by tile, and all its rows through one tile before the next. The first rows
would wait for memory, the others would leave it idle. So row tiles share the fetching of the next tile, one line in
each turn of the reduction loop: with `c` vectors in a tile and `u` steps of the reduction in a turn, tiles 0 .. c*u-1
fetch one vector of one of the `u` parts of the reduction each. The later ones repeat the last: it is near by then.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.core import Region, Value
from ...ir.expr import Expr, floordiv, minimum, mod, sym
from ...ir.kernel.form import Map, Read, Reduce, Schedule
from .tile import Context, Deps


def reads_ahead(region: Region, ctx: Context, deps: Deps) -> Iterator[tuple[Value, tuple[Expr, ...]]]:
    """Buffers and coordinates, at the first point of the open tiles, that one emission of `region` should fetch: none
    unless it is the body of a reduction in a map with a schedule that asks for it."""
    reduce = region.parent
    stage = reduce.parent.parent if isinstance(reduce, Reduce) and reduce.parent is not None else None
    plan = stage.schedule if isinstance(stage, Map) else None
    tile = ctx.vector
    if plan is None or not plan.ahead or tile is None or not isinstance(reduce, Reduce) or region is not reduce.body:
        return
    vector, row = plan.vector, row_loop(plan)
    if tile.dim != vector or not row:
        return
    number, turns = _row_tile(plan, row, ctx), tile.count
    inner = reduce.dims[-1]
    unroll = reduce.schedule.step(inner.name) if reduce.schedule is not None else 1
    env: dict[str, Expr] = {}
    if len(reduce.dims) == 1 and isinstance(inner.extent, int) and inner.extent % unroll == 0 and unroll > 1:
        if ctx.coords[inner.name].offset % unroll:
            return  # another step of the same turn
        turns *= unroll
        part = floordiv(minimum(number, turns - 1), tile.count)
        env[inner.name] = part * (inner.extent // unroll) + floordiv(sym(inner.name), unroll)
    turn = mod(minimum(number, turns - 1), tile.count)
    env[vector] = sym(vector) + plan.ahead * plan.step(vector) + turn * tile.lanes
    for op in region:
        if isinstance(op, Read) and not op.indices and vector in deps[op.result] and row not in deps[op.result]:
            yield op.buffer, tuple(e.substitute(env) for e in op.map)


def row_loop(plan: Schedule) -> str:
    """The innermost loop of a schedule beside that of the vector dimension ("" if there is none): that of the rows."""
    return next((name for name, _ in reversed(plan.loops) if name != plan.vector), "")


def _row_tile(plan: Schedule, row: str, ctx: Context) -> Expr:
    """The number of the row tile in its block."""
    steps = [step for name, step in plan.loops if name == row]
    at = ctx.coords[row]
    return floordiv(mod(at, steps[-2]) if len(steps) > 1 else at, steps[-1])
