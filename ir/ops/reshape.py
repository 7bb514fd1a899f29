"""How elements move when only the shape of a tensor changes, with maps that are linear wherever they can be.

Both shapes are cut at the places where their leading products agree. Inside such a group the loops run over the
common refinement of the two shapes: (6, 4) -> (3, 8) runs over (3, 2, 4), so that every coordinate of either side is
a linear combination of loops. Only where there is none, as in (6, 4) -> (4, 6), the old coordinates are found by
dividing a flat index.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..expr import Dim, Expr, as_dim, as_expr, const, floordiv, mod, product, sym

Group = tuple[list[int], list[int]]  # dimensions of the old and of the new shape with one product


def regroup(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[dict[str, Dim], list[Expr], list[Expr]]:
    """Loop dimensions `d0, d1, ...`, and the coordinates in the old and in the new shape as expressions of them.

    The shapes have one number of elements, not 0. Dimensions of size 1 have the coordinate 0 and no loop.
    """
    loops: dict[str, Dim] = {}
    old_at, new_at = [const(0) for _ in old], [const(0) for _ in new]
    for a, b in _groups(old, new):
        fine = _refinement([old[i] for i in a], [new[i] for i in b])
        walk = fine if fine is not None else [new[i] for i in b]
        names = [f"d{len(loops) + n}" for n in range(len(walk))]
        loops.update(zip(names, walk, strict=True))
        symbols = [sym(name) for name in names]
        for dims, shape, at in ((a, old, old_at), (b, new, new_at)):
            coordinates = _combine([shape[i] for i in dims], walk, symbols) if fine is not None else None
            if coordinates is None:
                coordinates = symbols if dims is b else _divide([shape[i] for i in dims], walk, symbols)
            for i, coordinate in zip(dims, coordinates, strict=True):
                at[i] = coordinate
    return loops, old_at, new_at


def _groups(old: Sequence[Dim], new: Sequence[Dim]) -> list[Group]:
    """Runs of dimensions of both shapes with equal products, as short as possible; dimensions of 1 are left out."""
    a = [i for i, d in enumerate(old) if d != 1]
    b = [i for i, d in enumerate(new) if d != 1]
    groups: list[Group] = []
    last: list[Group] = []
    if product(old) != product(new):  # only said to be equal: what is alike at both ends pairs up, so do the rests
        while a and b and old[a[0]] == new[b[0]]:
            groups.append(([a.pop(0)], [b.pop(0)]))
        while a and b and old[a[-1]] == new[b[-1]]:
            last.insert(0, ([a.pop()], [b.pop()]))
        return [*groups, *([(a, b)] if a or b else []), *last]
    while a or b:
        cut = _first_cut([old[i] for i in a], [new[i] for i in b])
        groups.append((a[: cut[0]], b[: cut[1]]))
        a, b = a[cut[0] :], b[cut[1] :]
    return groups


def _first_cut(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[int, int]:
    for i in range(1, len(old) + 1):
        for j in range(1, len(new) + 1):
            if product(old[:i]) == product(new[:j]):
                return i, j
    return len(old), len(new)


def _refinement(old: Sequence[Dim], new: Sequence[Dim]) -> Sequence[Dim] | None:
    """The shape that both `old` and `new` are merges of; None when there is none."""
    if len(old) == 1:
        return list(new)
    if len(new) == 1:
        return list(old)
    if not all(isinstance(d, int) for d in (*old, *new)):
        return None
    cuts = sorted({*_suffixes(old), *_suffixes(new)})
    if any(b % a for a, b in pairwise(cuts)):
        return None
    return [b // a for a, b in pairwise(cuts)][::-1]


def _suffixes(shape: Sequence[Dim]) -> list[int]:
    found = [1]
    for d in reversed(shape):
        assert isinstance(d, int)
        found.append(found[-1] * d)
    return found


def _combine(shape: Sequence[Dim], walk: Sequence[Dim], symbols: Sequence[Expr]) -> list[Expr]:
    """Coordinates in `shape`, each dimension of which is the product of a run of the loops `walk`."""
    coordinates: list[Expr] = []
    at = 0
    for d in shape:
        size: Dim = 1
        total = const(0)
        while size != d and at < len(walk):
            total = total * walk[at] + symbols[at]
            size = as_dim(as_expr(size) * walk[at])
            at += 1
        coordinates.append(total)
    return coordinates


def _divide(shape: Sequence[Dim], walk: Sequence[Dim], symbols: Sequence[Expr]) -> list[Expr]:
    """Coordinates in `shape` of the flat index that `symbols` stand for in `walk`."""
    flat = const(0)
    for extent, symbol in zip(walk, symbols, strict=True):
        flat = flat * extent + symbol
    coordinates: list[Expr] = []
    for i in range(len(shape)):
        inner = product(shape[i + 1 :])
        outer = floordiv(flat, inner)
        coordinates.append(outer if i == 0 else mod(outer, shape[i]))
    return coordinates
