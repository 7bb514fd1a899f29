"""Recognises kernels that only move data: which box of which buffer goes where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.core import Region, Value
from ...ir.expr import Call, Dim, Expr, Range, as_dim, const, floordiv, sym
from ...ir.kernel.form import KernelOp, Map, Read, Write
from ...ir.types import TensorType
from ..affine import ranges_of, tidy
from .access import offset_in


@dataclass(frozen=True, eq=False)
class Move:
    """One stage that copies elements unchanged: everywhere on its dimensions, `write.buffer[write.map] =
    read.buffer[read.map]`."""

    stage: Map
    read: Read
    write: Write


@dataclass(frozen=True)
class Box:
    """A box of `extents` that keeps its orientation: from coordinates `source` of one buffer to `target` of another."""

    source: tuple[Dim, ...]
    target: tuple[Dim, ...]
    extents: tuple[Dim, ...]


def moves(kernel: KernelOp) -> list[Move] | None:
    """The stages of a kernel that does nothing but move data; None for any other kernel."""
    found: list[Move] = []
    for op in kernel.region:
        if isinstance(op, Map):
            move = _move(op)
            if move is None:
                return None
            found.append(move)
        elif not op.terminator:
            return None
    return found


def _move(stage: Map) -> Move | None:
    ops = [op for op in stage.region if not op.terminator]
    match ops:
        case [Read(indices=(), fill=None) as read, Write(indices=(), mask=None, combine="") as write] if (
            write.value is read.result and _outside(stage, read.buffer) and _outside(stage, write.buffer)
        ):
            return Move(stage, read, write)
        case _:
            return None


def _outside(stage: Map, buffer: Value) -> bool:
    return isinstance(buffer.owner, Region) and buffer.owner is stage.parent


def box(move: Move) -> Box | None:
    """The box that `move` copies, when both sides walk it in the same orientation with step 1; else None."""
    source, target, extents = move.read.map, move.write.map, {d.name: d.extent for d in move.stage.dims}
    if len(source) != len(target):
        return None
    seen: set[str] = set()
    rows: list[tuple[Dim, Dim, Dim]] = []
    for s, t in zip(source, target, strict=True):
        names = t.symbols() & extents.keys()
        if len(names) > 1 or (t - s).symbols() & extents.keys():
            return None
        name = next(iter(names), "")
        start = t.substitute({name: 0}) if name else t
        if name and (name in seen or t - start != sym(name) or s.symbols() & extents.keys() != names):
            return None
        seen.add(name)
        rows.append((as_dim(s.substitute({name: 0}) if name else s), as_dim(start), extents[name] if name else 1))
    if any(extent != 1 for name, extent in extents.items() if name not in seen):
        return None
    return Box(*(tuple(r[i] for r in rows) for i in range(3)))


def covers(extents: Sequence[Dim], starts: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """True when the box is all of a tensor of `shape`."""
    return all(s == 0 for s in starts) and tuple(extents) == tuple(shape)


def same_bytes(move: Move, source: TensorType, target: TensorType) -> bool:
    """True when `move` puts every element where it already is, if a buffer of type `target` were the same memory as
    one of type `source`: reshapes of contiguous buffers, transpositions of dimensions of size 1."""
    ranges = ranges_of(move.stage.dims)
    read = offset_in(source, move.read.map)
    write = offset_in(target, move.write.map)
    return _flat(tidy(read - write, ranges), ranges) == 0


def _flat(e: Expr, ranges: Mapping[str, Range]) -> Expr:
    """`e` with `x % n` written as `x - n*(x // n)` and divisions as large and few as they can be, so that the terms of
    equal offsets cancel."""
    total = const(0)
    for monomial, c in e.terms:
        part = const(c)
        for atom in monomial:
            part = part * (_flat_call(atom, ranges) if isinstance(atom, Call) else Expr({(atom,): 1}))
        total = total + part
    return total.simplify(ranges)


def _flat_call(atom: Call, ranges: Mapping[str, Range]) -> Expr:
    x, n = (_flat(a, ranges) for a in atom.args)
    if atom.fn == "mod":
        return x - n * _division(x, n, ranges)
    if atom.fn == "floordiv":
        return _division(x, n, ranges)
    return Expr({(Call(atom.fn, (x, n)),): 1})


def _division(x: Expr, n: Expr, ranges: Mapping[str, Range]) -> Expr:
    """`x // n`: `(x + y // a) // b` is `(a*x + y) // (a*b)`, and `(g*x + r) // (g*n)` is `x // n` for r in 0 .. g-1."""
    by = n.constant
    if by is None or by <= 0:
        return floordiv(x, n)
    for monomial, c in x.terms:
        match monomial:
            case (Call(fn="floordiv", args=(y, a)),) if c == 1 and (a.constant or 0) > 0:
                return _division((x - Expr({monomial: 1})) * a + y, n * a, ranges)
            case _:
                pass
    for g in sorted({math.gcd(by, c) for _, c in x.terms} - {1}, reverse=True):
        rest = Expr({m: c for m, c in x.terms if c % g})
        low, high = rest.bounds(ranges)
        if low is not None and high is not None and low >= 0 and high < g:
            return floordiv(Expr({m: c // g for m, c in x.terms if c % g == 0}), by // g)
    return floordiv(x, n)
