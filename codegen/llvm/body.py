"""The bodies of stages: every value becomes one register per point of the tiles it depends on.

Pure values are emitted when a point of them is first asked for, which keeps few of them alive at a time: a
contraction's tile is written row by row as load, multiply-add, multiply-add. A read is emitted at its own place if
something after it, other than a last write to another buffer, has effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ...ir.core import Op, Region, Value, Yield
from ...ir.expr import Expr
from ...ir.kernel.form import Const, Index, Local, Map, Read, Reduce, Scalar, Scan, Stage, Write
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES, ScalarType
from .access import Buffer, Memory, Place
from .address import Expressions
from .ahead import reads_ahead
from .builder import I64, Builder, Ty, V, lane_constant
from .scalars import Scalars
from .tile import Context, Deps, outer_uses, writes

_LONG = 120  # bodies with more operations are emitted in order: Python's stack is finite
Point: TypeAlias = tuple[int, ...]


@dataclass
class Frame:
    """One emission of a region: the values it has so far. `fixed` binds parameters to registers directly; in a
    `single` frame every value is wanted at one point only (the combine region). Operations in `skip` are left out."""

    region: Region
    ctx: Context
    table: dict[Value, dict[Point, V]] = field(default_factory=dict[Value, dict[Point, V]])
    names: dict[Value, tuple[str, ...]] = field(default_factory=dict[Value, tuple[str, ...]])
    single: bool = False
    skip: frozenset[Op] = frozenset()


class Bodies:
    """Emits regions. `stages` (set by the owner) emits nested stages, `allocate` gives memory to nested locals."""

    def __init__(self, b: Builder, target: TargetInfo, exprs: Expressions, deps: Deps, node: int) -> None:
        self.b = b
        self.target = target
        self.exprs = exprs
        self.deps = deps
        self.scalars = Scalars(b, target)
        self.memory = Memory(b, exprs, self.scalars.convert, node)
        self.buffers: dict[Value, Buffer] = {}
        self.frames: dict[Region, Frame] = {}
        self.stages: Callable[[Stage, Frame], None]
        self.allocate: Callable[[Local, int], V]

    # -- values -------------------------------------------------------------------------------------------------

    def names(self, frame: Frame, value: Value) -> tuple[str, ...]:
        """The tiles that `value`, of `frame`, depends on."""
        if frame.single:
            return ()
        found = frame.names.get(value)
        if found is None:
            found = frame.names[value] = frame.ctx.names(self.deps.get(value, frozenset()))
        return found

    def home(self, value: Value) -> Frame:
        """The frame that holds `value`."""
        owner = value.owner
        region = owner if isinstance(owner, Region) else owner.parent if owner is not None else None
        assert region is not None
        return self.frames[region]

    def get(self, value: Value, at: Mapping[str, int]) -> V:
        """The register of `value` at tile point `at`."""
        frame = self.home(value)
        point = tuple(at[n] for n in self.names(frame, value))
        known = frame.table.setdefault(value, {})
        v = known.get(point)
        if v is None:
            assert value.op is not None, f"no register for {value!r}"
            v = known[point] = self._compute(value.op, frame.ctx, at)
        return v

    def force(self, value: Value) -> None:
        """Emit `value` at all its points."""
        frame = self.home(value)
        for at in frame.ctx.points(self.names(frame, value)):
            self.get(value, at)

    def _compute(self, op: Op, ctx: Context, at: Mapping[str, int]) -> V:
        match op:
            case Const():
                return self.scalars.convert.constant(op.value, op.dtype)
            case Index():
                return self.exprs.value(self.memory.locate(op.expr, ctx, at))
            case Scalar():
                source = op.args[-1].type
                assert isinstance(source, ScalarType)
                return self.scalars.apply(op.fn, [self.get(a, at) for a in op.args], source.dtype, op.dtype)
            case Read():
                return self._read(op, ctx, at)
            case _:
                raise AssertionError(f"{op.op_name} has no value")

    # -- memory -------------------------------------------------------------------------------------------------

    def _indices(self, op: Read | Write, at: Mapping[str, int]) -> dict[str, Expr]:
        """Symbols for the data-dependent indices at this point."""
        found: dict[str, Expr] = {}
        for n, value in enumerate(op.indices):
            assert isinstance(value.type, ScalarType)
            v = self.scalars.convert.cast(self.get(value, at), value.type.dtype, "i64")
            low = 0 if DTYPES[value.type.dtype].kind == "uint" else None
            found[f"${n}"] = self.exprs.fresh("$v", v, (low, None))
        return found

    def _read(self, op: Read, ctx: Context, at: Mapping[str, int]) -> V:
        buffer = self.buffers[op.buffer]
        indices = self._indices(op, at)
        tile = ctx.vector
        in_lanes = tile is not None and tile.dim in self.deps[op.result]
        mask = self.memory.lane_mask(ctx, at) if in_lanes else None
        fill = inside = None
        if op.fill is not None:
            inside = self.memory.inside(op, buffer.type, indices, ctx, at)
            fill = self.get(op.fill, at) if inside is not None else None
        elif indices:
            self.memory.check(op, buffer.type, indices, ctx, at, mask)
        place = self.memory.place(buffer, op.map, indices, ctx, at)
        lanes = tile.lanes if tile is not None and (in_lanes and (place.stride != 0 or _lanes_of(inside))) else 0
        return self.memory.load(place, buffer.type.dtype, lanes, inside, mask, fill, self.memory.size(buffer))

    def _write(self, op: Write, frame: Frame) -> None:
        ctx = frame.ctx
        used = [op.value, *op.indices, *([op.mask] if op.mask is not None else [])]
        dims = frozenset[str]().union(*(self.deps.get(v, frozenset()) for v in used), *(e.symbols() for e in op.map))
        buffer = self.buffers[op.buffer]
        copies = [t.dim for t in (*buffer.outer, *([buffer.inner] if buffer.inner else []))]
        names = tuple(ctx.tiles) if op.combine else ctx.names(dims | frozenset(copies))
        woven = self._woven(op, buffer, ctx, names)
        for at in ctx.points(n for n in names if n != woven):
            if woven:
                self._write_woven(op, buffer, ctx, at, woven)
            else:
                self._write_point(op, buffer, ctx, at)

    def _woven(self, op: Write, buffer: Buffer, ctx: Context, names: tuple[str, ...]) -> str:
        """The tiled dimension whose points lie between the lanes of a write and fill the gaps ("" if there is none):
        then whole vectors can be stored. A channel shuffle is such a write."""
        tile = ctx.vector
        if tile is None or tile.dim not in names or op.combine or op.indices or op.mask is not None:
            return ""
        if tile.mask is not None:
            return ""
        start = dict.fromkeys(names, 0)
        place = self.memory.place(buffer, op.map, {}, ctx, start)
        if place.stride not in (2, 4, 8):
            return ""
        for name in names:
            if name != tile.dim and ctx.tiles[name].count == place.stride:
                points = [{**start, name: n} for n in range(place.stride)]
                offsets = [self.memory.place(buffer, op.map, {}, ctx, p).offset for p in points]
                if all(e - place.offset == n for n, e in enumerate(offsets)):
                    return name
        return ""

    def _write_woven(self, op: Write, buffer: Buffer, ctx: Context, at: Mapping[str, int], woven: str) -> None:
        tile, dtype = ctx.vector, buffer.type.dtype
        assert tile is not None
        lanes, count = tile.lanes, ctx.tiles[woven].count
        place = self.memory.place(buffer, op.map, {}, ctx, {**at, woven: 0})
        exist = tile.active if tile.active is not None and at[tile.dim] == tile.count - 1 else lanes
        values = [self.b.splat(self.get(op.value, {**at, woven: n}), lanes) for n in range(count)]
        values = [self.scalars.convert.to_memory(v, dtype) for v in values]
        together = place.offset - self.exprs.lane(lanes) * (count - 1)
        for n, v in enumerate(self.b.interleave(values)):
            left = exist * count - n * lanes
            if left > 0:
                mask = lane_constant(Ty("i1", lanes), [i < left for i in range(lanes)]) if left < lanes else None
                self.memory.store_vector(replace(place, offset=together + n * lanes, stride=1), v, mask)

    def _write_point(self, op: Write, buffer: Buffer, ctx: Context, at: Mapping[str, int]) -> None:
        dtype = buffer.type.dtype
        value = self.get(op.value, at)
        mask = self.get(op.mask, at) if op.mask is not None else None
        indices = self._indices(op, at)
        tile = ctx.vector
        lanes = tile.lanes if tile is not None and tile.dim in at else 0
        exists = self.memory.lane_mask(ctx, at)
        if exists is not None:
            mask = exists if mask is None else self.b.op("and", *self.b.same_lanes(mask, exists))
        if indices:
            self.memory.check(op, buffer.type, indices, ctx, at, mask)
        place = self.memory.place(buffer, op.map, indices, ctx, at)
        if lanes:
            value = self.b.splat(value, lanes)
            mask = self.b.splat(mask, lanes) if mask is not None else None
        if op.combine:
            self._merge(op.combine, place, value, dtype, lanes, mask)
        else:
            self.memory.store(place, value, dtype, lanes, mask)

    def _merge(self, fn: str, place: Place, value: V, dtype: str, lanes: int, mask: V | None) -> None:
        convert = self.scalars.convert

        def one(lane: int, pointer: V) -> None:
            old = convert.from_memory(self.b.load(Ty(place.elem), pointer, place.align), dtype)
            new = self.scalars.apply(fn, [old, self.b.extract(value, lane)], dtype)
            self.b.store(convert.to_memory(new, dtype), pointer, place.align)

        self.memory.each_lane(place, lanes or 1, mask if lanes or mask is None else self.b.splat(mask, 1), one)

    def _local(self, op: Local, ctx: Context) -> None:
        names = ctx.names(self.deps.get(op.result, frozenset()))
        tiles = [ctx.tiles[n] for n in names]
        inner = next((t for t in tiles if t.lanes), None)
        buffer = Buffer(V(I64, ""), op.result.tensor, tuple(t for t in tiles if not t.lanes), inner)
        base = self.allocate(op, buffer.copies)
        self.buffers[op.result] = Buffer(base, buffer.type, buffer.outer, buffer.inner)

    # -- regions ------------------------------------------------------------------------------------------------

    def run(self, frame: Frame) -> None:
        """Emit a region's operations; what it yields is then ready to be asked for."""
        region = frame.region
        self.frames[region] = frame
        ops = list(region)
        eager = len(ops) > _LONG
        for buffer, index in reads_ahead(region, frame.ctx, self.deps):
            self.memory.fetch(
                self.memory.place(self.buffers[buffer], index, {}, frame.ctx, dict.fromkeys(frame.ctx.tiles, 0))
            )
        later = _effects_after(ops)
        # What is yielded is asked for after the last write, which may change what was read.
        changed = {op.buffer for op in ops if isinstance(op, Write)} if region.terminator.inputs else set[Value]()
        for op, after in zip(ops, later, strict=True):
            if op in frame.skip:
                continue
            match op:
                case Yield():
                    pass
                case Local():
                    self._local(op, frame.ctx)
                case Stage():
                    for value in outer_uses(op):
                        self.force(value)
                    self.stages(op, frame)
                case Write():
                    self._write(op, frame)
                case Read():
                    if eager or after or op.buffer in changed:
                        self.force(op.result)
                case _:
                    if eager:
                        self.force(op.result)

    def call(self, region: Region, params: Mapping[Value, V], at: Mapping[str, int], ctx: Context) -> list[V]:
        """A pure region at one tile point: the registers it yields."""
        frame = Frame(region, ctx, {v: {(): r} for v, r in params.items()}, single=True)
        self.frames[region] = frame
        return [self.get(v, at) for v in region.terminator.inputs]


def _effects_after(ops: list[Op]) -> list[bool]:
    """For each operation: whether what follows has effects beyond one last write."""
    result: list[bool] = []
    count, heavy = 0, False
    for op in reversed(ops):
        result.append(heavy or count > 1)
        if isinstance(op, Write):
            count += 1
        elif isinstance(op, Map | Scan | Reduce) and writes(op):
            heavy = True
    return result[::-1]


def _lanes_of(v: V | None) -> int:
    return v.ty.lanes if v is not None else 0
