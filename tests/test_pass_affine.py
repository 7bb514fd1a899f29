"""Inversion and simplification of index maps, held against evaluating them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from planish.ir.expr import Expr, as_expr, const, floordiv, mod, sym
from planish.ir.kernel.form import LoopDim
from planish.passes.affine import calls, coordinate, inside, invert, is_rearrangement, ranges_of, tidy, unit_dims

N, H, D, S = sym("n"), sym("h"), sym("d"), sym("s")


def dims(**extents: int) -> list[LoopDim]:
    return [LoopDim(name, extent) for name, extent in extents.items()]


def assert_inverse(map: Sequence[Expr], loops: list[LoopDim], shape: Sequence[int]) -> None:
    """Over the whole domain: the inverse of the map's coordinates is the point."""
    inverse = invert(map, loops, shape)
    assert inverse is not None
    seen: set[tuple[int, ...]] = set()
    for point in itertools.product(*(range(int(as_expr(d.extent).offset)) for d in loops)):
        env = {d.name: p for d, p in zip(loops, point, strict=True)}
        at = tuple(e.evaluate(env) for e in map)
        seen.add(at)
        back = {coordinate(k): v for k, v in enumerate(at)}
        assert {name: e.evaluate(back) for name, e in inverse.items()} == env
    assert len(seen) == math.prod(shape)


def test_permutations_merges_splits_and_shuffles_invert() -> None:
    assert_inverse((D, H), dims(h=3, d=4), (4, 3))
    assert_inverse((const(0), H * 4 + D), dims(h=3, d=4, n=1), (1, 12))
    assert_inverse((floordiv(N, 4), mod(N, 4)), dims(n=12), (3, 4))
    assert_inverse((mod(N, 3) * 4 + floordiv(N, 3),), dims(n=12), (12,))
    assert_inverse((floordiv(N, 6), mod(floordiv(N, 2), 3), mod(N, 2)), dims(n=24), (4, 3, 2))
    assert_inverse((mod(floordiv(N, 2), 3), floordiv(N, 6) * 2 + mod(N, 2)), dims(n=24), (3, 8))


@pytest.mark.parametrize(
    ("map", "loops", "shape"),
    [
        ((H,), dims(h=3, d=2), (3,)),  # d is lost
        ((H * 4 + D,), dims(h=3, d=2), (12,)),  # holes
        ((H + D,), dims(h=3, d=4), (6,)),  # collisions
        ((H + 1,), dims(h=3), (4,)),  # an offset: not onto
        ((const(2) - H,), dims(h=3), (3,)),  # reversed: not understood
        ((H, H), dims(h=3), (3, 3)),  # the diagonal
        ((floordiv(N, 5),), dims(n=12), (3,)),
    ],
)
def test_what_is_not_one_to_one_and_onto_has_no_inverse(
    map: tuple[Expr, ...], loops: list[LoopDim], shape: tuple[int, ...]
) -> None:
    assert invert(map, loops, shape) is None


def test_symbolic_extents_invert() -> None:
    seq = sym("seq")
    inverse = invert((S, H * 8 + D), [LoopDim("s", seq), LoopDim("h", 4), LoopDim("d", 8)], (seq, 32))
    assert inverse == {"s": sym("#0"), "h": floordiv(sym("#1"), 8), "d": mod(sym("#1"), 8)}
    assert invert((S,), [LoopDim("s", seq)], (sym("other"),)) is None


def test_tidy_uses_ranges_and_puts_numbers_together() -> None:
    ranges = ranges_of(dims(h=4, d=8, n=64))
    assert tidy(floordiv(H * 8 + D, 8), ranges) == H
    assert tidy(mod(H * 8 + D, 8), ranges) == D
    assert tidy(floordiv(N, 8) * 8 + mod(N, 8) + 3, ranges) == N + 3
    assert tidy(floordiv(N, 16) * 16 + mod(floordiv(N, 4), 4) * 4 + mod(N, 4), ranges) == N
    assert tidy(floordiv(floordiv(N, 2), 4), {}) == floordiv(N, 8)


def test_tidy_never_changes_a_value() -> None:
    rng = random.Random(0)
    loops = dims(h=3, d=4, n=24)
    ranges = ranges_of(loops)

    def grow(depth: int) -> Expr:
        if depth == 0:
            return rng.choice([H, D, N, const(rng.randrange(5))])
        a, b = grow(depth - 1), grow(rng.randrange(depth))
        size = rng.choice([2, 3, 4, 6])
        return rng.choice([a + b, a - b, a * rng.randrange(4), floordiv(a, size), mod(a, size)])

    for _ in range(300):
        e = grow(4)
        small = tidy(e, ranges)
        for _ in range(5):
            env = {"h": rng.randrange(3), "d": rng.randrange(4), "n": rng.randrange(24)}
            assert small.evaluate(env) == e.evaluate(env), (e, small)


def test_questions_about_maps() -> None:
    assert calls((floordiv(mod(N, 6), 2), H)) == 2
    assert unit_dims((N, H * 4 + D, const(0))) == {"d"}
    assert inside((H + D,), (6,), ranges_of(dims(h=3, d=4)))
    assert not inside((H + D - 1,), (6,), ranges_of(dims(h=3, d=4)))
    assert is_rearrangement((sym("#1"), const(0), sym("#0")), (3, 4), (4, 1, 3))
    assert not is_rearrangement((sym("#1"), sym("#0") + 1), (3, 4), (4, 4))
