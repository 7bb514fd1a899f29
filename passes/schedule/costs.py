"""What a stage costs, in rough vector instructions, for each choice of the dimension that lies in lanes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...ir.core import Op, Value
from ...ir.expr import Dim, Expr, Range, sym, symbol_ranges
from ...ir.kernel.dots import group_dim
from ...ir.kernel.form import Index, Read, Reduce, Scalar, Scan, Stage, Write
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES, ScalarType, TensorType

UNKNOWN = 64  # what a symbolic extent is taken for
_HEAVY = {
    "exp": 14.0,
    "expm1": 30.0,
    "log": 18.0,
    "log1p": 44.0,
    "sin": 30.0,
    "cos": 30.0,
    "tanh": 24.0,
    "sigmoid": 20.0,
    "erf": 32.0,
    "div": 5.0,
    "sqrt": 6.0,
    "rsqrt": 8.0,
}
_LIBM = frozenset(
    {
        "pow",
        "atan2",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "rem",
        "floormod",
    }
)
_CALL = 25.0
_GATHER = 1.5  # per lane: an address, a load, an insertion


def extent(d: Dim) -> int:
    """An extent as a number: of a symbolic one what `symbol_bounds` leaves of `UNKNOWN`."""
    if isinstance(d, int):
        return d
    low, high = d.bounds(symbol_ranges(d))
    return max(low or 0, UNKNOWN if high is None else min(UNKNOWN, high))


def lanes_of(stage: Stage, target: TargetInfo) -> int:
    """Lanes of a vector in `stage`: those of its widest element type of at most four bytes (eight if all are)."""
    sizes = [DTYPES[op.buffer.tensor.dtype].bytes for op in stage.walk() if isinstance(op, Read | Write)]
    sums = [r.type for op in stage.walk() if isinstance(op, Reduce) for r in op.results]
    sizes += [DTYPES[t.dtype].bytes for t in sums if isinstance(t, ScalarType)]
    widest = max([s for s in sizes if s <= 4] or sizes or [4])
    return max(1, target.lanes(max(widest, 2)))


def lane_stride(access: Read | Write, dim: str, lanes: int) -> int | None:
    """Distance in memory between neighbours along `dim` inside an aligned group of `lanes`; None: not regular."""
    t = access.buffer.tensor
    if not any(dim in e.symbols() for e in access.map):
        return 0
    offset: Expr = t.layout.offset(t.dims, access.map)
    if offset.is_linear_in(dim):
        return offset.coefficient(dim)
    ranges: Mapping[str, Range] = {"@lane": (0, lanes - 1)}
    aligned = math.lcm(lanes, *(size for _, size in t.layout.blocks))
    moved = offset.substitute({dim: sym("@group") * aligned + sym("@lane")}).simplify(ranges)
    step = moved.coefficient("@lane") if moved.is_linear_in("@lane") else None
    at, group = group_dim(access) if isinstance(access, Read) else (-1, 1)
    if at >= 0 and dim in access.map[at].symbols():
        return step if lanes == 1 else None  # a lane holds several of them
    return 1 if at >= 0 and step == group else step  # whole 32-bit lanes side by side


@dataclass(frozen=True)
class Choice:
    """The cost of a stage, and its vector dimension ("": none at this level)."""

    cost: float
    vector: str


class Costs:
    """Costs of the stages of one top-level stage."""

    def __init__(self, root: Stage, target: TargetInfo) -> None:
        self.lanes = lanes_of(root, target)
        self._moves: dict[tuple[Value, str], bool] = {}
        self._strides: dict[tuple[Op, str], int | None] = {}
        self._best: dict[Stage, Choice] = {}

    def best(self, stage: Stage) -> Choice:
        """The cheapest choice for `stage` when no stage around it lies in lanes."""
        found = self._best.get(stage)
        if found is None:
            found = self._best[stage] = self._choose(stage)
        return found

    def _choose(self, stage: Stage) -> Choice:
        points = math.prod(extent(d.extent) for d in stage.dims)
        best = Choice(points * self.body(stage, ""), "")
        if self.lanes < 2 or isinstance(stage, Scan):
            return best
        for d in stage.dims:
            n = extent(d.extent)
            if n < 2:
                continue
            groups = -(-n // self.lanes)
            cost = points / n * groups * self.body(stage, d.name)
            if isinstance(stage, Reduce):  # partial results are merged at the end
                cost += 3.0 * math.log2(self.lanes) * len(stage.inits) + 4
            if n % self.lanes:
                cost *= 1.05
            if cost < best.cost * 0.95:
                best = Choice(cost, d.name)
        return best

    def body(self, stage: Stage, vector: str) -> float:
        """One run of a stage's body, with `vector` in lanes."""
        total = 0.5
        for op in stage.body:
            total += self._op(op, vector)
        if isinstance(stage, Reduce):
            total += sum(self._op(op, vector) for op in stage.combine)
        return total

    def _op(self, op: Op, vector: str) -> float:
        match op:
            case Read() | Write():
                return self._access(op, vector)
            case Stage():
                if not vector:
                    return self.best(op).cost
                return math.prod(extent(d.extent) for d in op.dims) * self.body(op, vector)
            case Scalar():
                if op.fn in _LIBM:
                    kind = op.args[-1].type
                    assert isinstance(kind, ScalarType)
                    whole = DTYPES[kind.dtype].kind in ("int", "uint")
                    return _CALL * (self.lanes if vector and not whole else 1)
                return _HEAVY.get(op.fn, 1.0)
            case _:
                return 0.0

    def _access(self, op: Read | Write, vector: str) -> float:
        if not vector:
            return 1.0
        if any(self.moves(v, vector) for v in op.indices):
            return _GATHER * self.lanes
        key = (op, vector)
        if key not in self._strides:
            self._strides[key] = lane_stride(op, vector, self.lanes)
        step = self._strides[key]
        merging = isinstance(op, Write) and op.combine
        if step == 0:
            return 4.0 * self.lanes if merging else 1.0
        return 1.0 if step == 1 and not merging else _GATHER * self.lanes

    def moves(self, value: Value, dim: str) -> bool:
        """Whether `value` may differ along `dim`."""
        key = (value, dim)
        if key not in self._moves:
            self._moves[key] = True  # for values carried in a loop
            self._moves[key] = self._differs(value, dim)
        return self._moves[key]

    def _differs(self, value: Value, dim: str) -> bool:
        op = value.op
        match op:
            case None:
                return not isinstance(value.type, TensorType)
            case Index():
                return dim in op.expr.symbols()
            case Read():
                own = any(dim in e.symbols() for e in op.map)
                return (
                    own or op.buffer.op is not None or any(self.moves(v, dim) for v in op.inputs if v is not op.buffer)
                )
            case Stage():
                return True
            case _:
                return any(self.moves(v, dim) for v in op.inputs)


__all__ = ["Choice", "Costs", "extent", "lane_stride", "lanes_of"]
