"""Groups of narrow products added up in 32-bit lanes: four of 8 bits into i32, two of bf16 into f32.

`Packed` sums (`ir/kernel/dots.py`) have one factor packed so that a lane holds a whole group, and another one that all
lanes share. Sums of integers wrap and are exact on every path, so no path saturates on the way:

- AVX512-VNNI, AVX-VNNI: `vpdpbusd` (u8 x s8). Of factors of one sign one is moved by 128, which is undone exactly.
- other x86-64: even and odd elements widened in place to 16 bits, `pmaddwd` (never `pmaddubsw`: it saturates).
- aarch64: `sdot`, `udot`, and `usdot` where i8mm is there; elsewhere: one multiplication for each element of the group.

bf16: `vdpbf16ps` takes subnormals for zeros and rounds once for two products; it is used where the target has it, so
results may differ in their last bits. Elsewhere both halves are widened by a shift, for two multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from ...ir.core import Value
from ...ir.kernel.dots import Packed, native_dot
from ...ir.kernel.form import Const, Read
from ...ir.target_info import TargetInfo
from ...ir.types import ScalarType, TensorType
from .body import Bodies
from .builder import I32, Builder, Ty, V, number
from .tile import Context

_Dot: TypeAlias = Callable[[V, V, V], V]  # (sums, unsigned bytes, signed bytes) -> sums
_PMADD = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


class Dots:
    """Emits the steps of packed sums through `bodies`."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies
        self.b: Builder = bodies.b
        self.target = bodies.target

    def fits(self, packed: Packed, ctx: Context) -> bool:
        """Whether the lanes of the open vector tile are those that the packed factor fills, and the other factor is the
        same in all of them."""
        tile, deps = ctx.vector, self.bodies.deps
        if tile is None or tile.dim in deps.get(packed.other, frozenset()):
            return False
        return any(tile.dim in e.symbols() for e in packed.lanes.map)

    def accumulate(
        self, packed: Packed, ctx: Context, ats: Sequence[Mapping[str, int]], old: list[V]
    ) -> list[V] | None:
        """The sums at tile points `ats` after one more group, the tile of dimension `packed.dim` in `ctx`. None: the
        packed factor does not lie in whole lanes here."""
        weights: dict[tuple[int, ...], V] = {}
        shared: dict[tuple[int, ...], V] = {}
        added: list[V] = []
        step = Step(self.b, self.target, packed)
        lanes_of = self.bodies.names(self.bodies.home(packed.lanes.result), packed.lanes.result)
        other_of = self.bodies.names(self.bodies.home(packed.other), packed.other)
        for at, acc in zip(ats, old, strict=True):
            here = tuple(at.get(n, 0) for n in lanes_of)
            if here not in weights:
                found = self._lanes(packed, ctx, at)
                if found is None:
                    return None
                weights[here] = found
            there = tuple(at.get(n, 0) for n in other_of)
            if there not in shared:
                shared[there] = self._group(packed, ctx, at)
            added.append(step.add(acc, shared[there], weights[here]))
        return added

    def _lanes(self, packed: Packed, ctx: Context, at: Mapping[str, int]) -> V | None:
        """The packed groups of the vector at this point, as i32."""
        memory, read, tile = self.bodies.memory, packed.lanes, ctx.vector
        assert tile is not None
        buffer, group = self.bodies.buffers[read.buffer], packed.sum.group
        place = memory.place(buffer, read.map, {}, ctx, {**at, packed.dim: 0})
        if place.stride != group:
            return None
        # The lanes' groups side by side are one vector of narrow elements.
        place = replace(place, offset=place.offset - self.bodies.exprs.lane(tile.lanes) * (group - 1), stride=1)
        count = tile.lanes * group
        narrow = memory.load(place, buffer.type.dtype, count, None, None, None, memory.size(buffer))
        return self.b.bitcast(narrow, Ty("i32", tile.lanes))

    def _group(self, packed: Packed, ctx: Context, at: Mapping[str, int]) -> V:
        """The group of the other factor at this point in one i32, zeros where it ends early."""
        count = ctx.tiles[packed.dim].count
        points = [{**at, packed.dim: n} for n in range(count)]
        op = packed.other.op
        if count == packed.sum.group and isinstance(op, Read):
            whole = self._neighbours(op, ctx, points)
            if whole is not None:
                return whole
        bits = 32 // packed.sum.group
        total: V | None = None
        for n, point in enumerate(points):
            v = self._bits(self.bodies.get(packed.other, point), packed.other, bits)
            if n:
                v = self.b.op("shl", v, V(I32, str(n * bits)))
            total = v if total is None else self.b.op("or", total, v)
        assert total is not None
        return total

    def _bits(self, v: V, value: Value, bits: int) -> V:
        """A narrow scalar as the low bits of an i32."""
        assert isinstance(value.type, ScalarType)
        v = self.bodies.scalars.convert.to_memory(v, value.type.dtype)
        assert v.ty == Ty(f"i{bits}"), v
        return self.b.convert("zext", v, "i32")

    def _neighbours(self, op: Read, ctx: Context, points: Sequence[Mapping[str, int]]) -> V | None:
        """One load for a whole group that lies side by side in memory."""
        memory, buffer = self.bodies.memory, self.bodies.buffers[op.buffer]
        if op.indices or (op.fill is not None and not (isinstance(op.fill.op, Const) and not op.fill.op.value)):
            return None
        places = [memory.place(buffer, op.map, {}, ctx, p) for p in points]
        if any(p.stride != 0 or p.offset - places[0].offset != n for n, p in enumerate(places)):
            return None
        inside = fill = None
        if op.fill is not None:
            if not self._outside_together(op, buffer.type, ctx, points):
                return None
            inside, fill = memory.inside(op, buffer.type, {}, ctx, points[0]), self.bodies.get(op.fill, points[0])
        count = len(points)
        place = replace(places[0], offset=places[0].offset + self.bodies.exprs.lane(count), stride=1)
        v = memory.load(place, buffer.type.dtype, count, inside, None, fill, memory.size(buffer))
        return self.b.bitcast(v, I32)

    def _outside_together(self, op: Read, type: TensorType, ctx: Context, points: Sequence[Mapping[str, int]]) -> bool:
        """Whether no coordinate that moves inside of the group can lie outside of the buffer."""
        for e, extent in zip(op.map, type.dims, strict=True):
            where = [self.bodies.memory.locate(e, ctx, p) for p in points]
            if any(w != where[0] for w in where):
                high = (where[-1] - extent).bounds(self.bodies.exprs.ranges)[1]
                lowest = where[0].bounds(self.bodies.exprs.ranges)[0]
                if lowest is None or lowest < 0 or high is None or high >= 0:
                    return False
        return True


class Step:
    """One group into one vector of sums, on a target."""

    def __init__(self, b: Builder, target: TargetInfo, packed: Packed) -> None:
        self.b = b
        self.target = target
        x, y = packed.sum.dtypes
        lanes_first = packed.lanes.result is packed.sum.x
        self.lane_dtype, self.other_dtype = (x, y) if lanes_first else (y, x)
        self._memo: dict[object, V] = {}

    def add(self, acc: V, other: V, lanes: V) -> V:
        """`acc` plus the products of the group `other` (an i32 that all lanes share) with those in `lanes`."""
        if self.lane_dtype == "bf16":
            return self._bf16(acc, other, lanes)
        width = lanes.ty.lanes
        if self._vnni(width):
            return self._mixed(acc, other, lanes, self._vpdpbusd)
        if self.target.architecture == "x86_64" and self._pmadd(width):
            return self._words(acc, other, lanes)
        if self.target.has("dotprod") and width == 4:
            return self._neon(acc, other, lanes)
        return self._single(acc, other, lanes)

    # -- integers -----------------------------------------------------------------------------------------------

    def _vnni(self, width: int) -> bool:
        return native_dot(self.target) == "vpdpbusd" and width in (4, 8, 16) and width * 4 <= self.target.vector_bytes

    def _vpdpbusd(self, acc: V, unsigned: V, signed: V) -> V:
        bytes_ = Ty("i8", acc.ty.lanes * 4)
        name = f"llvm.x86.avx512.vpdpbusd.{acc.ty.lanes * 32}"
        return self.b.call(name, acc.ty, [acc, self.b.bitcast(unsigned, bytes_), self.b.bitcast(signed, bytes_)])

    def _neon(self, acc: V, other: V, lanes: V) -> V:
        """Factors of one kind always have an instruction, mixed ones not everywhere: there, the unsigned one is moved
        by 128, and 128 times the sum of the other one added."""
        spread = self._spread(other, 4)
        if self.other_dtype == self.lane_dtype:
            return self._neon_dot("sdot" if self.lane_dtype == "i8" else "udot", acc, spread, lanes)
        if self.target.has("i8mm"):
            unsigned, signed = (spread, lanes) if self.other_dtype == "u8" else (lanes, spread)
            return self._neon_dot("usdot", acc, unsigned, signed)
        moved, kept = (other, lanes) if self.other_dtype == "u8" else (lanes, other)
        found = self._memo.get(("moved", moved.text))
        if found is None:
            found = self.b.op("xor", moved, number(-0x7F7F7F80, moved.ty))
            found = self._memo["moved", moved.text] = self.b.splat(found, 4)
        kept = self._spread(kept, 4)
        extra = self._memo.get(("sum", kept.text))
        if extra is None:
            total = self._neon_dot("sdot", V(acc.ty, "zeroinitializer"), kept, number(0x01010101, acc.ty))
            extra = self._memo["sum", kept.text] = self.b.op("shl", total, number(7, acc.ty))
        return self.b.op("add", self._neon_dot("sdot", acc, found, kept), extra)

    def _neon_dot(self, name: str, acc: V, a: V, w: V) -> V:
        bytes_ = Ty("i8", 16)
        args = [acc, self.b.bitcast(a, bytes_), self.b.bitcast(w, bytes_)]
        return self.b.call(f"llvm.aarch64.neon.{name}.v4i32.v16i8", acc.ty, args)

    def _mixed(self, acc: V, other: V, lanes: V, dot: _Dot) -> V:
        """With an instruction of unsigned by signed bytes. Of two factors of one kind, one is moved by 128 into the
        other kind; 128 times the sum of the factor that stays makes up for it."""
        width = lanes.ty.lanes
        spread = self._spread(other, width)
        if self.other_dtype != self.lane_dtype:
            return dot(acc, spread, lanes) if self.other_dtype == "u8" else dot(acc, lanes, spread)
        flip = number(-0x7F7F7F80, acc.ty)  # 0x80 in every byte
        zero = V(acc.ty, "zeroinitializer")
        if self.lane_dtype == "i8":  # (a + 128) w - 128 w
            moved = self._memo.get(("moved", other.text))
            if moved is None:  # before it is spread: LLVM 22 goes back and forth between the two forms for ever
                one = self.b.op("xor", other, number(-0x7F7F7F80, other.ty))
                moved = self._memo["moved", other.text] = self.b.splat(one, width)
            extra = self._memo.get(("sum", lanes.text)) or dot(zero, flip, lanes)
            self._memo["sum", lanes.text] = extra
            return self.b.op("sub", dot(acc, moved, lanes), extra)
        # a (w - 128) + 128 a
        moved = self._memo.get(("moved", lanes.text)) or self.b.op("xor", lanes, flip)
        self._memo["moved", lanes.text] = moved
        extra = self._memo.get(("sum", other.text))
        if extra is None:
            ones = dot(zero, spread, number(0x01010101, acc.ty))
            extra = self._memo["sum", other.text] = self.b.op("shl", ones, number(7, acc.ty))
        return self.b.op("add", dot(acc, spread, moved), extra)

    def _pmadd(self, width: int) -> bool:
        need = {4: "", 8: "avx2", 16: "avx512bw"}.get(width)
        return need is not None and (not need or self.target.has(need))

    def _words(self, acc: V, other: V, lanes: V) -> V:
        """Even and odd bytes as 16-bit numbers; pairs of their products are added by one instruction each."""
        pair, words = acc.ty.lanes, Ty("i16", acc.ty.lanes * 2)
        for n in range(2):
            a = self._half(self._spread(other, pair), self.other_dtype, n, words)
            w = self._half(lanes, self.lane_dtype, n, words)
            products = self.b.call(f"llvm.x86.{_PMADD[pair]}", acc.ty, [a, w])
            acc = self.b.op("add", acc, products)
        return acc

    def _half(self, v: V, dtype: str, odd: int, words: Ty) -> V:
        key = ("half", v.text, odd)
        found = self._memo.get(key)
        if found is None:
            found = self.b.bitcast(v, words)
            eight, right = number(8, words), "ashr" if dtype == "i8" else "lshr"
            if not odd:
                found = self.b.op("shl", found, eight)
            found = self._memo[key] = self.b.op(right, found, eight)
        return found

    def _single(self, acc: V, other: V, lanes: V) -> V:
        for n in range(4):
            a = self._spread(self._byte(other, self.other_dtype, n), lanes.ty.lanes)
            acc = self.b.op("add", acc, self.b.op("mul", a, self._byte(lanes, self.lane_dtype, n)))
        return acc

    def _byte(self, v: V, dtype: str, n: int) -> V:
        key = ("byte", v.text, n)
        found = self._memo.get(key)
        if found is None:
            found = self.b.op("shl", v, number(24 - 8 * n, v.ty)) if n < 3 else v
            found = self._memo[key] = self.b.op("ashr" if dtype == "i8" else "lshr", found, number(24, v.ty))
        return found

    # -- bf16 ---------------------------------------------------------------------------------------------------

    def _bf16(self, acc: V, other: V, lanes: V) -> V:
        width = lanes.ty.lanes
        if self.target.has("avx512bf16") and width * 4 <= self.target.vector_bytes and width in (4, 8, 16):
            pairs = Ty("bfloat", width * 2)
            args = [acc, self.b.bitcast(self._spread(other, width), pairs), self.b.bitcast(lanes, pairs)]
            return self.b.call(f"llvm.x86.avx512bf16.dpbf16ps.{width * 32}", acc.ty, args)
        fused = "fma" if self.target.fused else "fmuladd"
        for n in range(2):
            a, w = self._spread(self._float(other, n), width), self._float(lanes, n)
            acc = self.b.intrinsic(fused, a, w, acc)
        return acc

    def _float(self, v: V, n: int) -> V:
        key = ("float", v.text, n)
        found = self._memo.get(key)
        if found is None:
            moved = self.b.op("and", v, number(-0x10000, v.ty)) if n else self.b.op("shl", v, number(16, v.ty))
            found = self._memo[key] = self.b.bitcast(moved, v.ty.of("float"))
        return found

    def _spread(self, v: V, lanes: int) -> V:
        key = ("spread", v.text, lanes)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self.b.splat(v, lanes)
        return found
