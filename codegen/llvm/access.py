"""Reads and writes of buffers at one point of a register tile: addresses, bounds, lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ...ir.expr import Expr, as_expr, const, sym
from ...ir.kernel.form import Const, Read, Write
from ...ir.types import DTYPES, TensorType
from .address import Expressions
from .builder import I1, I32, I64, PTR, Builder, Ty, V, i64, lane_constant
from .convert import MEMORY, Converter
from .tile import Context, Tile, intra

_ZEROS = V(PTR, "@zeros")  # 128 bytes of zeros: where reads go whose coordinates lie outside
_ZEROS_BYTES = 128


@dataclass(frozen=True)
class Buffer:
    """A buffer in memory. A local of a tiled stage has a copy per point of the tiles `outer`, and of the vector tile
    `inner`, whose lanes lie next to each other."""

    base: V
    type: TensorType
    outer: tuple[Tile, ...] = ()
    inner: Tile | None = None

    def offset(self, index: tuple[Expr, ...]) -> Expr:
        """Element offset of logical coordinates `index`, tile coordinates included."""
        total = self.type.layout.offset(self.type.dims, index)
        copy, size = const(0), as_expr(self.type.layout.size(self.type.dims))
        for tile in self.outer:
            copy = copy * tile.count + intra(tile.dim)
        total = copy * size + total if self.outer else total
        if self.inner is not None:
            total = total * (self.inner.count * self.inner.lanes) + intra(self.inner.dim)
        return total

    @property
    def copies(self) -> int:
        """How many buffers of the type it holds."""
        n = self.inner.count * self.inner.lanes if self.inner else 1
        for tile in self.outer:
            n *= tile.count
        return n


@dataclass(frozen=True)
class Place:
    """Where an access goes: `offset` in elements from `base`; `stride` is the distance between lanes (None: not
    regular; 0: all lanes agree)."""

    base: V
    elem: str
    align: int
    offset: Expr
    stride: int | None


class Memory:
    """Emits loads and stores."""

    def __init__(self, b: Builder, exprs: Expressions, convert: Converter, node: int) -> None:
        self.b = b
        self.exprs = exprs
        self.convert = convert
        self._offsets: dict[tuple[Buffer, tuple[Expr, ...]], Expr] = {}
        self._sizes: dict[Buffer, int | None] = {}
        self.node = node

    # -- coordinates --------------------------------------------------------------------------------------------

    def locate(self, e: Expr, ctx: Context, at: Mapping[str, int]) -> Expr:
        """`e` over loop counters at the tile point `at`."""
        symbols = e.symbols()
        moved: dict[str, tuple[Expr, int]] = {}  # tile symbol -> (lane symbol or 0, displacement)
        shift = 0
        slow: list[tuple[str, int]] = []
        for dim, tile in ctx.tiles.items():
            for name in (dim, "'" + dim):
                if name in symbols:
                    step = at[dim] * tile.unit
                    moved[name] = (self.exprs.lane(tile.lanes) if tile.lanes else const(0), step)
                    if e.is_linear_in(name):
                        shift += e.coefficient(name) * step
                    elif step:
                        slow.append((name, step))
        key = (e, tuple(slow))
        base = ctx.memo.get(key)
        if base is None:
            steps = dict(slow)
            env = {s: c for s, c in ctx.coords.items() if s in symbols}
            for name, (lane, _) in moved.items():
                env[name] = ctx.coords[name] + lane + steps.get(name, 0)
            base = ctx.memo[key] = self.exprs.simplify(e.substitute(env))
        return base + shift if shift else base

    def lane_mask(self, ctx: Context, at: Mapping[str, int]) -> V | None:
        """The lanes that exist at this point; None for all."""
        tile = ctx.vector
        if tile is None or at.get(tile.dim) != tile.count - 1:
            return None
        if tile.active is not None:
            return lane_constant(Ty("i1", tile.lanes), [n < tile.active for n in range(tile.lanes)])
        return tile.mask

    def _narrowed(self, e: Expr, ctx: Context, at: Mapping[str, int]) -> tuple[int | None, int | None]:
        """Bounds of `e`, of the lanes that exist only."""
        ranges = self.exprs.ranges
        tile = ctx.vector
        if tile is not None and tile.active is not None and at.get(tile.dim) == tile.count - 1:
            ranges = {**ranges, f"@{tile.lanes}": (0, tile.active - 1)}
        return e.bounds(ranges)

    def place(
        self, buffer: Buffer, index: tuple[Expr, ...], indices: Mapping[str, Expr], ctx: Context, at: Mapping[str, int]
    ) -> Place:
        """The address of coordinates `index`; `indices` gives the symbols `$i` their values."""
        key = (buffer, index)
        whole = self._offsets.get(key)
        if whole is None:
            whole = self._offsets[key] = buffer.offset(index)
        offset = self.locate(whole, ctx, at)
        if indices:
            offset = self.exprs.simplify(offset.substitute(indices))
        info = DTYPES[buffer.type.dtype]
        stride: int | None = 0
        if self.exprs.has_lanes(offset):
            assert ctx.vector is not None
            lane = f"@{ctx.vector.lanes}"
            rest = offset - sym(lane) * offset.coefficient(lane)
            stride = None if self.exprs.has_lanes(rest) else offset.coefficient(lane)
        align = info.bytes // 2 if info.kind == "complex" else info.bytes
        return Place(buffer.base, MEMORY[buffer.type.dtype], align, offset, stride)

    def _pointer(self, place: Place, lane: int = 0) -> V:
        offset = place.offset
        if place.stride is not None and place.stride != 0:
            name = next(s for s in offset.symbols() if s.startswith("@"))
            offset = offset - sym(name) * place.stride + place.stride * lane
        fixed = offset.offset
        moved = self.b.address(place.base, place.elem, self.exprs.value(offset - fixed))
        return self.b.address(moved, place.elem, fixed)

    def _lane_pointers(self, place: Place, lanes: int) -> list[V]:
        if place.stride is not None:
            return [self._pointer(place, n) for n in range(lanes)]
        offsets = self.b.same_lanes(self.exprs.value(place.offset), V(Ty("i64", lanes), "zeroinitializer"))[0]
        return [self.b.address(place.base, place.elem, self.b.extract(offsets, n)) for n in range(lanes)]

    def size(self, buffer: Buffer) -> int | None:
        """Elements in the memory of `buffer`, when they are known."""
        if buffer not in self._sizes:
            one = as_expr(buffer.type.layout.size(buffer.type.dims))
            self._sizes[buffer] = (one * buffer.copies).constant
        return self._sizes[buffer]

    # -- bounds -------------------------------------------------------------------------------------------------

    def inside(
        self, op: Read, type: TensorType, indices: Mapping[str, Expr], ctx: Context, at: Mapping[str, int]
    ) -> V | None:
        """Whether the coordinates of a read with `fill` lie in the buffer (None: proved that they do)."""
        zero_fill = op.fill is not None and isinstance(op.fill.op, Const) and not op.fill.op.value
        found: V | None = None
        for d, (e, extent) in enumerate(zip(op.map, type.dims, strict=True)):
            before, after = type.layout.zeros(d) if zero_fill else (0, 0)
            where = self.locate(e, ctx, at)
            where = self.exprs.simplify(where.substitute(indices)) if indices else where
            test = self._within(where, -before, as_expr(extent) + after, ctx, at)
            if test is not None:
                found = test if found is None else self.b.op("and", *self.b.same_lanes(found, test))
        return found

    def _within(self, e: Expr, low: int, end: Expr, ctx: Context, at: Mapping[str, int]) -> V | None:
        lo, _ = self._narrowed(e, ctx, at)
        _, hi = self._narrowed(e - end, ctx, at)
        if lo is not None and lo >= low and hi is not None and hi < 0:
            return None
        moved, size = self.b.same_lanes(self.exprs.value(e - low), self.exprs.value(end - low))
        return self.b.compare("ult", moved, size)

    def check(
        self,
        op: Read | Write,
        type: TensorType,
        indices: Mapping[str, Expr],
        ctx: Context,
        at: Mapping[str, int],
        mask: V | None,
    ) -> None:
        """Fail where a data-dependent coordinate of an active lane is outside the buffer."""
        for e, extent in zip(op.map, type.dims, strict=True):
            if not any(s.startswith("$") for s in e.symbols()):
                continue
            where = self.exprs.simplify(self.locate(e, ctx, at).substitute(indices))
            outside = self._outside(where, as_expr(extent), ctx, at)
            if outside is not None:
                if mask is not None:
                    outside = self.b.op("and", *self.b.same_lanes(outside, mask))
                self._fail_where(outside, self.exprs.value(where), self.exprs.value(as_expr(extent)))

    def _outside(self, e: Expr, end: Expr, ctx: Context, at: Mapping[str, int]) -> V | None:
        lo, hi = self._narrowed(e, ctx, at)[0], self._narrowed(e - end, ctx, at)[1]
        if lo is not None and lo >= 0 and hi is not None and hi < 0:
            return None
        value, size = self.b.same_lanes(self.exprs.value(e), self.exprs.value(end))
        return self.b.compare("uge", value, size)

    def _fail_where(self, outside: V, value: V, end: V) -> None:
        b = self.b
        lanes = outside.ty.lanes
        bad, good = b.new_block("bad"), b.new_block("ok")
        some = b.call(f"llvm.vector.reduce.or.v{lanes}i1", I1, [outside]) if lanes else outside
        b.branch_if(some, bad, good, cold=True)
        b.start(bad)
        if lanes:
            bits = (
                b.convert("zext", b.bitcast(outside, Ty(f"i{lanes}")), "i64") if lanes < 64 else b.bitcast(outside, I64)
            )
            first = b.call("llvm.cttz.i64", I64, [bits, V(I1, "true")])
            value = b.extract(value, first) if value.ty.lanes else value
        # The caller puts the number of the node that it runs behind the shape symbols: kernels are shared by nodes.
        at = b.address(V(PTR, "%symbols"), "i64", self.node)
        node = b.convert("trunc", b.load(I64, at, 8), "i32")
        status = b.call("planish_fail_index", I32, [V(PTR, "%env"), node, value, i64(0), end])
        b.do(f"ret {status}")
        b.start(good)

    # -- loads --------------------------------------------------------------------------------------------------

    def load(
        self, place: Place, dtype: str, lanes: int, inside: V | None, mask: V | None, fill: V | None, size: int | None
    ) -> V:
        """The element, or the vector of them, at `place`. `inside`: where the coordinates lie in the buffer (else
        `fill`); `mask`: which lanes exist; `size`: elements of the buffer, when known."""
        if size == 0:
            assert fill is not None
            return fill
        if not lanes or (place.stride == 0 and (inside is None or not inside.ty.lanes)):
            pointer = self._pointer(place)
            if inside is not None:
                pointer = self.b.select(inside, pointer, _ZEROS)
            v = self.convert.from_memory(self.b.load(Ty(place.elem), pointer, place.align), dtype)
            return v if inside is None else self._filled(v, inside, fill, dtype)
        if place.stride == 1:
            return self._load_vector(place, dtype, lanes, inside, mask, fill, size)
        return self._load_lanes(place, dtype, lanes, inside, mask, fill)

    def fetch(self, place: Place) -> None:
        """Have what is at `place` brought near, into the second level of cache. It may lie beyond the buffer's end."""
        words = [V(I32, text) for text in ("0", "2", "1")]  # a read; near; data
        self.b.call("llvm.prefetch.p0", None, [self._pointer(place), *words])

    def _filled(self, v: V, inside: V, fill: V | None, dtype: str) -> V:
        if fill is None or (fill.text in ("0", "false", "0x0000000000000000") and not inside.ty.lanes):
            return v  # the zeros that were read are the fill
        if inside.ty.lanes or fill.ty.lanes or v.ty.lanes:
            lanes = max(inside.ty.lanes, fill.ty.lanes, v.ty.lanes)
            v, fill = self.b.splat(v, lanes), self.b.splat(fill, lanes)
        return self.b.select(inside, v, fill)

    def _load_vector(
        self, place: Place, dtype: str, lanes: int, inside: V | None, mask: V | None, fill: V | None, size: int | None
    ) -> V:
        ty, pointer = Ty(place.elem, lanes), self._pointer(place)
        if mask is not None and inside is None and size is not None:
            hi = place.offset.bounds(self.exprs.ranges)[1]
            if hi is not None and hi < size:
                mask = None  # the lanes beyond the end read something that nobody uses
        if inside is not None and inside.ty.lanes:
            mask = inside if mask is None else self.b.op("and", inside, mask)
        elif inside is not None and lanes * ty.bits <= 8 * _ZEROS_BYTES:
            pointer = self.b.select(inside, pointer, _ZEROS)
        elif inside is not None:
            whole = self.b.splat(inside, lanes)
            mask = whole if mask is None else self.b.op("and", whole, mask)
        if mask is None:
            v = self.b.load(ty, pointer, place.align)
        elif not self.convert.target.has_masks(place.align) and _static_lanes(mask) is None:
            v = self._load_each(place, lanes, mask)
        else:
            v = self.b.masked_load(ty, pointer, place.align, mask, V(ty, "zeroinitializer"))
        v = self.convert.from_memory(v, dtype)
        return v if inside is None else self._filled(v, inside, fill, dtype)

    def _load_each(self, place: Place, lanes: int, mask: V) -> V:
        """A masked load where the target has none: LLVM would branch for each lane."""
        v = V(Ty(place.elem, lanes), "zeroinitializer")
        for n, pointer in enumerate(self._lane_pointers(place, lanes)):
            pointer = self.b.select(self.b.extract(mask, n), pointer, _ZEROS)
            v = self.b.insert(v, self.b.load(Ty(place.elem), pointer, place.align), n)
        return v

    def _load_lanes(self, place: Place, dtype: str, lanes: int, inside: V | None, mask: V | None, fill: V | None) -> V:
        b = self.b
        static = _static_lanes(mask)
        safe = inside
        if mask is not None and static is None:
            safe = mask if inside is None else b.op("and", *b.same_lanes(inside, mask))
        v = V(Ty(place.elem, lanes), "zeroinitializer")
        for n, pointer in enumerate(self._lane_pointers(place, lanes)):
            if static is not None and not static[n]:
                continue
            if safe is not None:
                pointer = b.select(b.extract(safe, n), pointer, _ZEROS)
            v = b.insert(v, b.load(Ty(place.elem), pointer, place.align), n)
        v = self.convert.from_memory(v, dtype)
        return v if inside is None else self._filled(v, inside, fill, dtype)

    # -- stores -------------------------------------------------------------------------------------------------

    def store(self, place: Place, v: V, dtype: str, lanes: int, mask: V | None) -> None:
        """Store `v` where `mask` holds."""
        v = self.convert.to_memory(v, dtype)
        if not lanes:
            self._store_if(mask, lambda: self.b.store(v, self._pointer(place), place.align))
        elif place.stride == 1:
            self.store_vector(place, self.b.splat(v, lanes), None if mask is None else self.b.splat(mask, lanes))
        else:
            self.each_lane(place, lanes, mask, lambda n, at: self.b.store(self.b.extract(v, n), at, place.align))

    def store_vector(self, place: Place, v: V, mask: V | None) -> None:
        """Store neighbouring lanes, already as they are in memory."""
        if mask is None:
            self.b.store(v, self._pointer(place), place.align)
        else:
            self.b.masked_store(v, self._pointer(place), place.align, mask)

    def each_lane(self, place: Place, lanes: int, mask: V | None, body: Callable[[int, V], None]) -> None:
        """Run `body(lane, pointer)` for the lanes where `mask` holds, in order."""
        static = _static_lanes(mask)
        for n, pointer in enumerate(self._lane_pointers(place, lanes)):
            if static is not None:
                if static[n]:
                    body(n, pointer)
                continue
            active = None if mask is None else self.b.extract(mask, n)
            self._store_if(active, partial(body, n, pointer))

    def _store_if(self, mask: V | None, body: Callable[[], None]) -> None:
        if mask is None:
            body()
            return
        with self.exprs.scope():
            self.b.when(mask, body)


def _static_lanes(mask: V | None) -> list[bool] | None:
    """The lanes of a constant mask."""
    if mask is None or not mask.text.startswith("<"):
        return None
    return [word.strip().endswith("true") for word in mask.text[1:-1].split(",")]
