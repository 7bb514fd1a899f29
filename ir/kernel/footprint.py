"""How large the arrays of the kernel interpreter get, and how to cut grids so that they stay small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..core import Op, Region, Value
from ..expr import Range, as_expr
from ..types import DTYPES
from .form import Index, Local, Read, Reduce, Scalar, Scan, Stage

Footprint = tuple[frozenset[str], int]  # dimensions that an array depends on, and elements per point of them


class Footprints:
    """For every stage of a kernel, the arrays that running it makes."""

    def __init__(self, body: Region, symbols: Mapping[str, int]) -> None:
        self.ranges: dict[str, Range] = {name: (n, n) for name, n in symbols.items()}
        self.extent: dict[str, int] = {}
        self.of: dict[Op, set[Footprint]] = {}
        self._depends: dict[Value, frozenset[str]] = {}
        self._region(body, ())

    def steps(self, stage: Stage, extents: Sequence[int], outer: Mapping[str, int], limit: int) -> list[int]:
        """Lengths of the pieces of the dimensions of `stage`, with which no array has more than `limit` elements as
        far as cutting this stage can help. `outer` are the lengths of the axes around it."""
        own = [d.name for d in stage.dims]
        sizes = {**self.extent, **outer, **dict(zip(own, extents, strict=True))}
        while True:
            best = ""
            for dims, factor in self.of[stage]:
                if factor * math.prod(sizes.get(d, 1) for d in dims) > limit:
                    best = max((d for d in own if d in dims and sizes[d] > 1), key=lambda d: sizes[d], default=best)
            if not best:
                return [max(1, sizes[d]) for d in own]
            sizes[best] = -(-sizes[best] // 2)

    def _region(self, region: Region, around: tuple[str, ...]) -> set[Footprint]:
        found: set[Footprint] = set()
        for op in region:
            if isinstance(op, Stage):
                found |= self._stage(op, around)
            elif op.results:
                depends = self._op(op, frozenset(around))
                factor = 1
                if isinstance(op, Local):
                    factor = max(1, as_expr(op.result.tensor.elements).bounds(self.ranges)[1] or 1)
                found.add((depends, factor))
                self._depends[op.result] = depends
        return found

    def _op(self, op: Op, around: frozenset[str]) -> frozenset[str]:
        if isinstance(op, Local):
            return around
        names: frozenset[str] = frozenset()
        for v in op.inputs:
            if not isinstance(op, Read) or v is not op.buffer:
                names |= self._depends.get(v, frozenset())
        if isinstance(op, Read):
            names = names.union(*(as_expr(e).symbols() for e in op.map))
        if isinstance(op, Index):
            names |= op.expr.symbols()
        return names & around

    def _stage(self, op: Stage, around: tuple[str, ...]) -> set[Footprint]:
        inner = around
        for dim in op.dims:
            high = as_expr(dim.extent).bounds(self.ranges)[1]
            self.extent[dim.name] = 1 if isinstance(op, Scan) else max(0, high or 0)
            self.ranges[dim.name] = (0, None if high is None else high - 1)
            if not isinstance(op, Scan):
                inner = (*inner, dim.name)
        if isinstance(op, Scan):
            for p in op.region.params:
                self._depends[p] = frozenset(around)
        found = self._region(op.body, inner)
        yields = op.body.terminator.inputs
        if isinstance(op, Reduce):
            factors = product_of(op)
            if factors is not None:
                found.discard((self._depends[factors.result], 1))
                found |= {(self._depends[a], 1) for a in factors.args}
        self.of[op] = found
        for result in op.results:
            depends = frozenset[str]().union(*(self._depends.get(v, frozenset()) for v in [*yields, *op.inputs]))
            self._depends[result] = depends & frozenset(around) if isinstance(op, Reduce) else frozenset(around)
            found.add((self._depends[result], 1))
        return found


def product_of(op: Reduce) -> Scalar | None:
    """The multiplication whose products are summed, when a reduction is a contraction that a matrix product computes
    exactly enough: one sum, of a product made in its body that is used for nothing else."""
    if len(op.inits) != 1:
        return None
    (element,) = op.region.terminator.inputs
    (total,) = op.combine.terminator.inputs
    made, combined = element.op, total.op
    if not isinstance(made, Scalar) or made.fn != "mul" or made.parent is not op.region or len(element.uses) != 1:
        return None
    if not isinstance(combined, Scalar) or combined.fn != "add" or set(combined.args) != set(op.combine.params):
        return None
    info = DTYPES[getattr(element.type, "dtype", "bool")]
    return made if info.name in ("f32", "f64", "i32", "i64", "u32", "u64") else None
