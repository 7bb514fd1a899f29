"""The matrices of Winograd's (Toom-Cook) convolution and straight-line code that multiplies by them.

F(m, r) gives m outputs of a filter of r taps from t = m + r - 1 inputs with t multiplications:
y = A^T [(G g) * (B^T d)]. Two dimensions nest: Y = A^T [(G g G^T) * (B^T d B)] A.
Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), with the matrices made from
interpolation points (0, +-p, +-q, ..., infinity) instead of copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from ...ir.core import Value
from ...ir.kernel.builder import KernelBuilder

Matrix = tuple[tuple[Fraction, ...], ...]
TAPS = 3

# Interpolation points besides 0 and infinity: +-p. Exact in binary, and of those that were tried the ones with least
# error in f32 (relative L2 over 512 summed channels: 6e-7 for m = 2, 1.8e-6 for m = 4, 7e-6 for m = 6; the usual
# points 1 and 2 give 3.5e-6 for m = 4).
_POINTS = {
    2: (Fraction(1),),
    4: (Fraction(5, 8), Fraction(3, 2)),
    6: (Fraction(1), Fraction(2), Fraction(1, 2)),
}
SIZES = tuple(_POINTS)


@dataclass(frozen=True)
class Transforms:
    """F(m, 3): `output` is A^T (m rows, t columns), `weight` is G (t, 3), `input` is B^T (t, t)."""

    m: int
    output: Matrix
    weight: Matrix
    input: Matrix

    @property
    def t(self) -> int:
        """Edge of an input tile."""
        return self.m + TAPS - 1

    def weights(self) -> tuple[tuple[float, ...], ...]:
        """The matrix that turns the nine taps of a filter g, row by row, into G g G^T, row by row: [t*t, 9]."""
        g = [[float(x) for x in row] for row in self.weight]
        return tuple(tuple(x * y for x in p for y in q) for p in g for q in g)


@cache
def transforms(m: int) -> Transforms:
    """The matrices of F(m, 3); m is one of `SIZES`."""
    points = [Fraction(0)] + [s * p for p in _POINTS[m] for s in (1, -1)]
    last = [Fraction(i == m - 1) for i in range(m)]
    a = [[p**i for p in points] + [last[i]] for i in range(m)]
    g: list[list[Fraction]] = []
    b: list[list[Fraction]] = []
    for j, p in enumerate(points):
        others = [q for k, q in enumerate(points) if k != j]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        g.append([p**i / scale for i in range(TAPS)])
        b.append([*_polynomial(others), Fraction(0)])
    g.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    b.append(_polynomial(points))
    return Transforms(m, *(tuple(map(tuple, x)) for x in (a, g, b)))


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the product of (x - root)."""
    c = [Fraction(1)]
    for r in roots:
        c = [(c[i - 1] if i else Fraction(0)) - (r * c[i] if i < len(c) else 0) for i in range(len(c) + 1)]
    return c


# -- code ---------------------------------------------------------------------------------------------------------

Terms = list[tuple[Fraction, Value]]


def apply(k: KernelBuilder, matrix: Matrix, x: Sequence[Value]) -> list[Value]:
    """Code for `matrix` times the values `x`. What rows +p and -p (or columns) have in common is computed once."""
    rows = _pairs(matrix)
    if rows:
        return _by_rows(k, matrix, x, rows)
    columns = _pairs(tuple(zip(*matrix, strict=True)))
    pool: dict[int, tuple[Value, Value, int]] = {}
    for p, q in columns:
        pool[p] = k.add(x[p], x[q]), k.sub(x[p], x[q]), q
    skip = {q for _, q in columns}
    result: list[Value] = []
    for row in matrix:
        terms: Terms = []
        for j, coefficient in enumerate(row):
            if not coefficient or j in skip:
                continue
            value = x[j]
            if j in pool:
                total, difference, partner = pool[j]
                value = total if row[partner] == coefficient else difference
            terms.append((coefficient, value))
        result.append(_sum(k, terms))
    return result


def _pairs(matrix: Matrix) -> list[tuple[int, int]]:
    """Disjoint pairs of rows that differ in some signs only."""
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for p in range(len(matrix)):
        for q in range(p + 1, len(matrix)):
            same = list(map(abs, matrix[p])) == list(map(abs, matrix[q]))
            if same and matrix[p] != matrix[q] and not taken & {p, q}:
                found.append((p, q))
                taken |= {p, q}
    return found


def _by_rows(k: KernelBuilder, matrix: Matrix, x: Sequence[Value], pairs: list[tuple[int, int]]) -> list[Value]:
    result: dict[int, Value] = {}
    for p, q in pairs:
        even: Terms = []
        odd: Terms = []
        for a, b, v in zip(matrix[p], matrix[q], x, strict=True):
            if a:
                (even if a == b else odd).append((a, v))
        scale = odd[-1][0]
        common = _sum(k, even)
        turned = _sum(k, [(a / scale, v) for a, v in odd])
        result[p] = _sum(k, [(Fraction(1), common), (scale, turned)])
        result[q] = _sum(k, [(Fraction(1), common), (-scale, turned)])
    for i, row in enumerate(matrix):
        if i not in result:
            result[i] = _sum(k, [(a, v) for a, v in zip(row, x, strict=True) if a])
    return [result[i] for i in range(len(matrix))]


def _sum(k: KernelBuilder, terms: Terms) -> Value:
    """The sum of coefficient * value; what needs no multiplication first."""
    terms = sorted(terms, key=lambda t: (t[0] != 1, abs(t[0]) != 1))
    (first, value), *rest = terms
    total = value if first == 1 else k.mul(k.const(float(first), value), value)
    for c, v in rest:
        part = v if abs(c) == 1 else k.mul(k.const(float(abs(c)), v), v)
        total = k.add(total, part) if c > 0 else k.sub(total, part)
    return total
