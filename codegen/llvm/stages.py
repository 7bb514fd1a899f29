"""Loop nests of stages: blocks, register tiles, remainders; reductions and scans with their carried registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, const, floordiv
from ...ir.kernel.dots import Packed, packed_sum
from ...ir.kernel.form import Map, Read, Reduce, Scalar, Scan, Schedule, Stage, Write
from ...ir.types import DTYPES, ScalarType, TensorType
from .body import Bodies, Frame
from .builder import V, i64
from .dot import Dots
from .tile import Context, Tile

Leaf = Callable[[Context, list[V]], Sequence[V]]
Sizes = dict[str, Dim]
_FEWEST = 4  # lanes of the narrowest vectors


class Nest:
    """One stage's loops: its schedule made complete, and the lanes of its vector dimension."""

    def __init__(self, stage: Stage, ctx: Context, lanes: int) -> None:
        self.stage = stage
        self.extents: Sizes = {d.name: as_dim(as_expr(d.extent).substitute(ctx.coords)) for d in stage.dims}
        schedule = stage.schedule or Schedule()
        loops = [(d, s) for d, s in schedule.loops if d in self.extents]
        loops += [(d, 1) for d in self.extents if all(d != name for name, _ in loops)]
        if isinstance(stage, Scan):
            loops = [(d.name, 1) for d in stage.dims]
        ragged = _ragged(stage)
        self.loops = [(d, 1 if d in ragged else s) for d, s in loops]
        fits = schedule.vector in self.extents and schedule.vector not in ragged and not isinstance(stage, Scan)
        self.vector = schedule.vector if lanes and fits else ""
        self.lanes = lanes
        self.unrolled = not isinstance(stage, Reduce)
        self.packed: Packed | None = None  # the reduction takes groups of elements in one step

    @property
    def group(self) -> tuple[str, int]:
        """The dimension that is taken in groups, and how many points are one."""
        return (self.packed.dim, self.packed.sum.group) if self.packed is not None else ("", 1)

    def in_groups(self, packed: Packed) -> bool:
        """Whether all loops over the packed dimension step over whole groups."""
        size = self.extents[packed.dim]
        steps = [s for d, s in self.loops if d == packed.dim]
        return isinstance(size, int) and all(s % packed.sum.group == 0 or s >= size for s in steps)

    def is_last(self, level: int) -> bool:
        """Whether the loop at `level` is the innermost of its dimension."""
        return all(name != self.loops[level][0] for name, _ in self.loops[level + 1 :])

    def tile(self, dim: str, size: int, mask: V | None = None) -> Tile:
        """The register tile of `size` coordinates of `dim`. What fits narrower vectors is not put in wide ones, but
        for reductions, whose accumulators are wide already."""
        if dim != self.vector:
            return Tile(dim, size)
        lanes = self.lanes
        while self.unrolled and mask is None and size <= lanes // 2 and lanes > _FEWEST:
            lanes //= 2
        count = -(-size // lanes)
        rest = size - (count - 1) * lanes
        return Tile(dim, count, lanes, rest if rest < lanes else None, mask)


class Stages:
    """Emits stages through `bodies`."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies
        self.b = bodies.b
        self.exprs = bodies.exprs
        self.dots = Dots(bodies)
        bodies.stages = self.emit

    def emit(self, stage: Stage, frame: Frame) -> None:
        """A nested stage (or a whole top-level one without parallel loops)."""
        match stage:
            case Map():
                nest = self.nest(stage, frame.ctx)
                self.run(nest, 0, frame.ctx, nest.extents, [], self.map_leaf(stage))
            case Reduce():
                self._reduce(stage, frame)
            case Scan():
                self._scan(stage, frame)
            case _:
                raise AssertionError(stage.op_name)

    def nest(self, stage: Stage, ctx: Context) -> Nest:
        """The loops of `stage`; it has lanes when no enclosing stage has."""
        schedule = stage.schedule
        lanes = 0
        if schedule is not None and schedule.vector and ctx.vector is None:
            lanes = self._lanes(stage, schedule.step(schedule.vector))
        return Nest(stage, ctx, lanes)

    def _lanes(self, stage: Stage, step: int) -> int:
        sizes = [
            DTYPES[op.buffer.tensor.dtype].bytes
            for op in stage.walk()
            if isinstance(op, Read | Write) and isinstance(op.buffer.type, TensorType)
        ]
        sizes += [
            DTYPES[r.type.dtype].bytes
            for op in stage.walk()
            if isinstance(op, Reduce)
            for r in op.results
            if isinstance(r.type, ScalarType)
        ]
        widest = max([s for s in sizes if s <= 4] or sizes or [4])
        most = self.bodies.target.lanes(max(widest, 2))
        lanes = 1
        while lanes * 2 <= most and step % (lanes * 2) == 0:
            lanes *= 2
        return lanes if lanes > 1 else 0

    def map_leaf(self, stage: Stage) -> Leaf:
        """Runs the body of a map at one tile."""

        def leaf(ctx: Context, carried: list[V]) -> Sequence[V]:
            self.bodies.run(Frame(stage.body, ctx))
            return carried

        return leaf

    # -- loops --------------------------------------------------------------------------------------------------

    def run(self, nest: Nest, level: int, ctx: Context, sizes: Sizes, carried: list[V], leaf: Leaf) -> list[V]:
        """Loop `level` and those inside it. `ctx` holds the base of every dimension (absent: 0), `sizes` how far
        each still goes from there."""
        if level == len(nest.loops):
            return list(self._leaf(nest, ctx, sizes, carried, leaf))
        dim, step = nest.loops[level]
        base, size = ctx.coords.get(dim, const(0)), sizes[dim]

        def inner(at: Expr, extent: Dim, carried: list[V]) -> list[V]:
            return self.run(nest, level + 1, ctx.moved({dim: at}), {**sizes, dim: extent}, carried, leaf)

        full = as_dim(floordiv(as_expr(size), step))
        carried = self.count(full, carried, lambda i, c: inner(base + i * step, step, c))
        if isinstance(size, int):
            rest = size % step
            return inner(base + (size - rest), rest, carried) if rest else carried
        return carried if step == 1 else self.rest(nest, level, size, base, inner, carried)

    def rest(
        self,
        nest: Nest,
        level: int,
        size: Expr,
        base: Expr,
        inner: Callable[[Expr, Dim, list[V]], list[V]],
        carried: list[V],
    ) -> list[V]:
        """What is left of a symbolic extent after the full steps."""
        dim, step = nest.loops[level]
        done = floordiv(size, step) * step
        left = size - done
        if not nest.is_last(level):
            return self.count(
                as_dim(ceildiv(left, step)), carried, lambda i, c: inner(base + done + i * step, left - i * step, c)
            )
        if dim == nest.vector:
            steps = as_dim(ceildiv(left, nest.lanes))
            return self.count(
                steps, carried, lambda i, c: inner(base + done + i * nest.lanes, left - i * nest.lanes, c)
            )
        part = step // 2
        if nest.unrolled and part > 1:  # half a tile first: single rows do not fill the registers
            parts = floordiv(left, part)
            carried = self.count(parts, carried, lambda i, c: inner(base + done + i * part, part, c))
            done = done + parts * part
        return self.count(size - done, carried, lambda i, c: inner(base + done + i, 1, c))

    def count(
        self,
        n: Dim,
        carried: list[V],
        body: Callable[[Expr, list[V]], list[V]],
        begin: V | None = None,
        end: V | None = None,
    ) -> list[V]:
        """`body` for counter values 0 .. n-1 (or begin .. end-1, within that range)."""
        if begin is None and isinstance(n, int) and n <= 1:
            return body(const(0), carried) if n else carried
        top = end or (i64(n) if isinstance(n, int) else self.exprs.value(n))

        def wrapped(iv: V, values: list[V]) -> Sequence[V]:
            with self.exprs.scope():
                return body(self.exprs.fresh("L", iv, (0, n - 1 if isinstance(n, int) else None)), values)

        return self.b.loop(begin or i64(0), top, carried, wrapped, guard=begin is not None or not isinstance(n, int))

    def _leaf(self, nest: Nest, ctx: Context, sizes: Sizes, carried: list[V], leaf: Leaf) -> Sequence[V]:
        tiles: list[Tile] = []
        unrolled: list[tuple[str, int, int]] = []
        grouped, group = nest.group
        for d in nest.stage.dims:
            size = sizes[d.name]
            if not isinstance(size, int):
                assert d.name == nest.vector
                tiles.append(Tile(d.name, 1, nest.lanes, None, self._some_lanes(size, nest.lanes)))
            elif d.name == grouped:
                unrolled.append((d.name, size, group))
            elif d.name == nest.vector or (nest.unrolled and size > 1):
                tiles.append(nest.tile(d.name, size))
            elif size > 1:
                unrolled.append((d.name, size, 1))
        tiled = ctx.tiled(tiles)
        points: list[dict[str, int]] = [{}]
        for dim, size, step in unrolled:
            points = [{**p, dim: n} for p in points for n in range(0, size, step)]
        for point in points:  # the unrolled steps of a reduction, one after the other
            here = tiled.moved({d: ctx.coords[d] + n for d, n in point.items()}) if point else tiled
            if grouped:
                left = sizes[grouped]
                assert isinstance(left, int)
                here = here.tiled([Tile(grouped, min(group, left - point[grouped]))])
            carried = list(leaf(here, carried))
        return carried

    def _some_lanes(self, left: Expr, lanes: int) -> V:
        lane, limit = self.b.same_lanes(self.exprs.value(self.exprs.lane(lanes)), self.exprs.value(left))
        return self.b.compare("slt", lane, limit)

    # -- reductions ---------------------------------------------------------------------------------------------

    def _reduce(self, stage: Reduce, frame: Frame) -> None:
        nest = self.nest(stage, frame.ctx)
        outer = frame.ctx.names(frozenset[str]().union(*(self.bodies.deps.get(r, frozenset()) for r in stage.results)))
        lanes = nest.lanes if nest.vector else 0
        copies = 1
        if nest.vector:  # partial accumulators, folded at the end
            copies = max(1, (stage.schedule or Schedule()).step(nest.vector) // nest.lanes)
        elif frame.ctx.vector is not None and frame.ctx.vector.dim in outer:
            lanes = frame.ctx.vector.lanes
        points = [tuple(p.values()) for p in frame.ctx.points(outer)]
        nest.packed = self._packed(stage, nest, frame.ctx)
        carried: list[V] = []
        for point in points:
            at = dict(zip(outer, point, strict=True))
            inits = [self.b.splat(self.bodies.get(v, at), lanes) for v in stage.inits]
            carried += inits * copies
        n = len(stage.inits)

        def leaf(ctx: Context, values: list[V]) -> Sequence[V]:
            return self._accumulate(stage, nest, ctx, outer, points, copies, values)

        ends = self.run(nest, 0, frame.ctx, nest.extents, carried, leaf)
        for number, point in enumerate(points):
            part = ends[number * n * copies : (number + 1) * n * copies]
            at = dict(zip(outer, point, strict=True))
            groups = [part[i * n : (i + 1) * n] for i in range(copies)]
            for r, v in zip(
                stage.results, self._fold(stage, groups, lanes if nest.vector else 0, at, frame.ctx), strict=True
            ):
                key = tuple(at[name] for name in self.bodies.names(frame, r))
                frame.table.setdefault(r, {})[key] = v

    def _accumulate(
        self,
        stage: Reduce,
        nest: Nest,
        ctx: Context,
        outer: tuple[str, ...],
        points: list[tuple[int, ...]],
        copies: int,
        values: list[V],
    ) -> list[V]:
        frame = Frame(stage.body, ctx)
        self.bodies.run(frame)
        if nest.packed is not None:
            return self._add_group(stage, nest.packed, ctx, [dict(zip(outer, p, strict=True)) for p in points], values)
        n, done = len(stage.inits), list(values)
        own = range(ctx.tiles[nest.vector].count) if nest.vector else [None]
        for number, point in enumerate(points):
            for copy in own:
                at = dict(zip(outer, point, strict=True))
                if copy is not None:
                    at[nest.vector] = copy
                start = (number * copies + (copy or 0)) * n
                old = done[start : start + n]
                new = self._step(stage, old, at, ctx)
                mask = self.bodies.memory.lane_mask(ctx, at) if copy is not None else None
                if mask is not None:
                    new = [self.b.select(mask, a, z) for a, z in zip(new, old, strict=True)]
                done[start : start + n] = new
        return done

    def _packed(self, stage: Reduce, nest: Nest, ctx: Context) -> Packed | None:
        """How `stage` adds up whole groups in each lane of the vector dimension around it, if it can."""
        packed = packed_sum(stage)
        fits = packed is not None and not nest.vector and nest.in_groups(packed) and self.dots.fits(packed, ctx)
        return packed if fits else None

    def _add_group(
        self, stage: Reduce, packed: Packed, ctx: Context, ats: list[dict[str, int]], old: list[V]
    ) -> list[V]:
        """The accumulators after one more group."""
        done = self.dots.accumulate(packed, ctx, ats, old)
        if done is None:  # element by element
            done = list(old)
            for n in range(ctx.tiles[packed.dim].count):
                done = [self._step(stage, [v], {**at, packed.dim: n}, ctx)[0] for at, v in zip(ats, done, strict=True)]
        return done

    def _step(self, stage: Reduce, old: list[V], at: dict[str, int], ctx: Context) -> list[V]:
        """The accumulators after one more element."""
        yielded = stage.body.terminator.inputs
        product = _product(stage)
        if product is not None:
            x, y = (self.bodies.get(a, at) for a in product)
            lanes = old[0].ty.lanes
            return [self.bodies.scalars.multiply_add(self.b.splat(x, lanes), self.b.splat(y, lanes), old[0])]
        elements = [self.b.splat(self.bodies.get(v, at), o.ty.lanes) for v, o in zip(yielded, old, strict=True)]
        return self._combine(stage, old, elements, at, ctx)

    def _combine(self, stage: Reduce, old: list[V], elements: list[V], at: dict[str, int], ctx: Context) -> list[V]:
        params = dict(zip(stage.combine.params, [*old, *elements], strict=True))
        new = self.bodies.call(stage.combine, params, at, ctx)
        return [self.b.splat(v, o.ty.lanes) for v, o in zip(new, old, strict=True)]

    def _fold(self, stage: Reduce, groups: list[list[V]], lanes: int, at: dict[str, int], ctx: Context) -> list[V]:
        """Merge partial accumulators: first those of different registers, then the lanes, halving."""
        while len(groups) > 1:
            half = (len(groups) + 1) // 2
            merged = [self._combine(stage, a, z, at, ctx) for a, z in zip(groups, groups[half:], strict=False)]
            groups = merged + groups[len(merged) : half]
        values = groups[0]
        while lanes > 1:
            lanes //= 2
            low = [self._lanes_from(v, 0, lanes) for v in values]
            high = [self._lanes_from(v, lanes, lanes) for v in values]
            values = self._combine(stage, low, high, at, ctx)
        return values

    def _lanes_from(self, v: V, first: int, count: int) -> V:
        """Neighbouring lanes of `v`; a single one as a scalar."""
        return self.b.shuffle(v, range(first, first + count)) if count > 1 else self.b.extract(v, first)

    # -- scans --------------------------------------------------------------------------------------------------

    def _scan(self, stage: Scan, frame: Frame) -> None:
        bodies = self.bodies
        carry = stage.body.params
        outer = frame.ctx.names(frozenset[str]().union(*(bodies.deps.get(v, frozenset()) for v in carry)))
        vector = frame.ctx.vector
        lanes = vector.lanes if vector is not None and vector.dim in outer else 0
        points = [tuple(p.values()) for p in frame.ctx.points(outer)]
        ats = [dict(zip(outer, p, strict=True)) for p in points]
        carried = [self.b.splat(bodies.get(v, at), lanes) for at in ats for v in stage.inits]

        def leaf(ctx: Context, values: list[V]) -> Sequence[V]:
            inner = Frame(stage.body, ctx)
            for v in carry:
                inner.names[v] = outer
            for number, point in enumerate(points):
                for k, v in enumerate(carry):
                    inner.table.setdefault(v, {})[point] = values[number * len(carry) + k]
            bodies.run(inner)
            yielded = stage.body.terminator.inputs
            return [self.b.splat(bodies.get(v, at), lanes) for at in ats for v in yielded]

        nest = self.nest(stage, frame.ctx)
        ends = self.run(nest, 0, frame.ctx, nest.extents, carried, leaf)
        for number, at in enumerate(ats):
            for k, r in enumerate(stage.results):
                key = tuple(at[name] for name in bodies.names(frame, r))
                frame.table.setdefault(r, {})[key] = ends[number * len(carry) + k]


def _ragged(stage: Stage) -> frozenset[str]:
    """Dimensions of `stage` that extents of nested stages depend on: their points differ, so they are not tiled."""
    nested = [d.extent for op in stage.walk() if isinstance(op, Stage) and op is not stage for d in op.dims]
    used = frozenset[str]().union(*(as_expr(e).symbols() for e in nested))
    return used & {d.name for d in stage.dims}


def _product(stage: Reduce) -> tuple[Value, Value] | None:
    """The factors, when the stage sums products of f32 or f64: then it is made of multiply-adds."""
    if len(stage.inits) != 1:
        return None
    element, merged = stage.body.terminator.inputs[0], stage.combine.terminator.inputs[0]
    kind = element.type
    match merged.op, element.op:
        case Scalar(fn="add", args=args), Scalar(fn="mul", args=(x, y)):
            fits = isinstance(kind, ScalarType) and kind.dtype in ("f32", "f64")
            return (x, y) if fits and set(args) == set(stage.combine.params) else None
        case _:
            return None
