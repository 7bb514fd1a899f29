"""What a kernel computes and which memory it touches: FLOPs and distinct bytes, for profiles and rooflines.

FLOPs are counted where a scalar function runs, once per point of the stages around it: a contraction counts two per
point (a multiplication and an addition). Functions that vector code computes with polynomials count as many as their
polynomials have; comparisons, selections, conversions and bit operations count none.

Bytes are those of the distinct elements that a kernel reads and writes of each buffer: the box that the coordinates of
an access span inside the buffer, but never more elements than it has points. What a kernel does with its own
memory (`k.local`) stays in registers and caches and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...ir.core import Function, Op, Region, Value
from ...ir.expr import Dim, Range, as_expr
from ...ir.kernel.form import Read, Scalar, Stage, Write
from ...ir.types import DTYPES

# How many multiply-adds, times two, the vector code of a function takes, about.
_FLOPS = {
    "add": 1, "sub": 1, "mul": 1, "div": 1, "min": 1, "max": 1, "neg": 1, "abs": 1, "sqrt": 1, "rsqrt": 2, "fma": 2,
    "rem": 4, "floormod": 4, "exp": 16, "expm1": 20, "log": 20, "log1p": 24, "sigmoid": 20, "tanh": 24, "erf": 32,
    "sin": 24, "cos": 24, "tan": 32, "asin": 24, "acos": 24, "atan": 24, "atan2": 32, "sinh": 24, "cosh": 24,
    "asinh": 24, "acosh": 24, "atanh": 24, "pow": 40,
}  # fmt: skip


@dataclass(frozen=True)
class KernelCost:
    """FLOPs of a kernel, and the distinct bytes that it reads and writes of each of its parameters, in order."""

    flops: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]


class _Cost:
    """Walks a kernel with the ranges of all names in scope."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self.ranges: dict[str, Range] = {name: (n, n) for name, n in symbols.items()}
        self.extents: dict[str, int] = {}
        self.flops = 0
        self.touched: dict[tuple[Value, bool], int] = {}  # (buffer, written) -> elements

    def region(self, region: Region, points: int) -> None:
        """Everything in `region`, which runs `points` times."""
        for op in region:
            self.op(op, points)

    def op(self, op: Op, points: int) -> None:
        match op:
            case Stage():
                self.stage(op, points)
            case Read() | Write():
                self.access(op, points)
                if isinstance(op, Write) and op.combine:
                    self.flops += points * _FLOPS.get(op.combine, 0)
            case Scalar():
                self.flops += points * _FLOPS.get(op.fn, 0)
            case _:
                pass

    def stage(self, stage: Stage, points: int) -> None:
        for dim in stage.dims:
            high = as_expr(dim.extent).bounds(self.ranges)[1] or 0
            self.extents[dim.name] = max(0, high)
            self.ranges[dim.name] = (0, max(0, high - 1))
        points *= math.prod(self.extents[d.name] for d in stage.dims)
        for region in stage.regions:
            self.region(region, points)

    def access(self, op: Read | Write, points: int) -> None:
        """Count the elements of one access; several of one buffer add up, to the whole buffer at most."""
        if op.buffer.op is not None or not points:
            return
        shape = [_number(d, self.ranges) for d in op.buffer.tensor.dims]
        box = math.prod(self.span(as_expr(e).bounds(self.ranges), n) for e, n in zip(op.map, shape, strict=True))
        names = frozenset[str]().union(*(as_expr(e).symbols() for e in op.map))
        own = points if any(n.startswith("$") for n in names) else math.prod(self.extents.get(n, 1) for n in names)
        key = (op.buffer, isinstance(op, Write))
        self.touched[key] = min(self.touched.get(key, 0) + min(box, own), math.prod(shape))

    @staticmethod
    def span(bounds: Range, size: int) -> int:
        """How many of the coordinates 0 .. size-1 lie between the bounds."""
        low, high = bounds
        low, high = max(0, low or 0), size - 1 if high is None else min(size - 1, high)
        return max(0, high - low + 1)


def _number(dim: Dim, ranges: Mapping[str, Range]) -> int:
    return max(0, as_expr(dim).bounds(ranges)[1] or 0)


def kernel_cost(kernel: Function, symbols: Mapping[str, int], stage: int | None = None) -> KernelCost:
    """The cost of `kernel` for these values of the shape symbols; of top-level stage number `stage` alone if given."""
    cost = _Cost(symbols)
    stages = [op for op in kernel.body if isinstance(op, Stage)]
    for op in stages if stage is None else [stages[stage]]:
        cost.op(op, 1)

    def count(buffer: Value, written: bool) -> int:
        info = DTYPES[buffer.tensor.dtype]
        return -(-cost.touched.get((buffer, written), 0) * info.bits // 8)

    return KernelCost(
        cost.flops,
        tuple(count(p, False) for p in kernel.params),
        tuple(count(p, True) for p in kernel.params),
    )


__all__ = ["KernelCost", "kernel_cost"]
