"""The order of dimensions in memory, decided over the whole graph.

Values that one kernel walks in the same orientation (pointwise kernels, pooling, concatenation, residual additions)
form a class and get one order. Contractions with constant weights vote: a result wants the dimension of its columns
innermost, an image operand the dimension that is summed; kernels that compute flat indices vote for row-major. The
order with most bytes behind it wins; ties go to row-major.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ...ir.constants import Constant
from ...ir.core import Graph, Region, Return, Value
from ...ir.expr import Call, Expr, as_expr
from ...ir.kernel.dots import narrow_sum
from ...ir.kernel.form import KernelOp, LoopDim, Read, Write
from ..analysis.access import accesses, dims_around
from ..analysis.contraction import Contraction, analyse
from .staged import is_local, sinks, sources, stored

Order = tuple[int, ...]
_SHORT = 4  # channels of a picture: too few to gain anything from their place


def contractions(op: KernelOp) -> list[Contraction]:
    """The contractions of a kernel; operands that are constants of the graph count as constant."""
    constants = [b for v, b in zip(op.args, op.buffers, strict=True) if isinstance(v.op, Constant)]
    return analyse(op, constants)


def outer(op: KernelOp, param: Value) -> Value:
    """The value of the graph that a parameter of the kernel's region stands for."""
    return [*op.args, *op.results][param.index]


def is_param(op: KernelOp, buffer: Value) -> bool:
    """True when `buffer` is a parameter of the kernel (else it is a local)."""
    return isinstance(buffer.owner, Region) and buffer.owner is op.region


def weight_of(value: Value) -> int:
    """Bytes of a value, symbols taken as 64."""
    size = as_expr(value.tensor.storage_bytes)
    return int(size.evaluate(dict.fromkeys(size.symbols(), 64)))


def row_major(rank: int) -> Order:
    """0, 1, ... rank-1."""
    return tuple(range(rank))


def innermost(rank: int, dim: int) -> Order:
    """Row-major but for `dim`, which comes last."""
    return (*(d for d in range(rank) if d != dim), dim)


def channel(access: Read | Write, wanted: Sequence[LoopDim], unwanted: Sequence[LoopDim] = ()) -> int | None:
    """The coordinate of an access that moves with a dimension of `wanted` and with none of `unwanted`; the one of
    largest extent, if there are several."""
    want = {d.name for d in wanted if d.extent != 1}
    avoid = {d.name for d in unwanted if d.extent != 1}
    dims = access.buffer.tensor.dims
    found = [i for i, c in enumerate(access.map) if c.symbols() & want and not c.symbols() & avoid]

    def size(i: int) -> int:
        extent = dims[i]
        return extent if isinstance(extent, int) else 1 << 30

    return max(found, key=size, default=None)


def operand_order(c: Contraction) -> Order | None:
    """The order that the operand `a` of a contraction wants: the summed dimension innermost (for depthwise ones, the
    one that is the channel of both operands); None when it does not matter, since that one is short."""
    read = c.a.main
    dim = channel(read, c.k, [*c.m, *c.free])
    if dim is None and not c.n:
        dim = channel(read, c.batch, [*c.m, *c.k])
    rank = len(read.map)
    extent = read.buffer.tensor.dims[dim] if dim is not None else None
    grouped = narrow_sum(c.reduce) is not None  # then even four of them are one load
    if isinstance(extent, int) and extent <= _SHORT and dim != rank - 1 and not grouped:
        return None
    return row_major(rank) if dim is None else innermost(rank, dim)


def result_order(c: Contraction, write: Write) -> Order:
    """The order that what a contraction writes wants: its columns innermost (for depthwise ones, its channels)."""
    dim = channel(write, c.n, [*c.m, *c.k])
    if dim is None and not c.n:
        dim = channel(write, c.batch, c.m)
    rank = len(write.map)
    return row_major(rank) if dim is None else innermost(rank, dim)


def operand_orders(op: KernelOp, c: Contraction) -> list[tuple[Value, Order | None]]:
    """The parameters that operand `a` of a contraction is, or is made from through a local, with the order that each
    should have."""
    read = c.a.main
    if is_param(op, read.buffer):
        return [(read.buffer, operand_order(c))]
    dim = channel(read, c.k, [*c.m, *c.free])
    if dim is None:
        return []
    return [(r.buffer, innermost(len(r.map), i)) for r, i in sources(read, dim) if len(r.map) > 2]


def _staged_results(c: Contraction) -> list[tuple[Write, Order]]:
    """Writes of the kernel's outputs that are made from the sums through a local, with the order that they want."""
    found: list[tuple[Write, Order]] = []
    for write in stored(c.reduce):
        dim = channel(write, c.n, [*c.m, *c.k])
        if is_local(write) and dim is not None:
            found += [(w, innermost(len(w.map), i)) for w, i in sinks(write, dim)]
    return found


class Orders:
    """An order for every value of `graph` that a kernel gives. `order[value]` is complete after construction."""

    def __init__(self, graph: Graph) -> None:
        self.parent: dict[Value, Value] = {}
        self.votes: dict[Value, dict[Order, int]] = defaultdict(lambda: defaultdict(int))
        kernels = [op for op in graph.body if isinstance(op, KernelOp)]
        for op in kernels:
            self._link(op)
        for op in kernels:
            self._vote(op)
        self.order: dict[Value, Order] = {}
        chosen: dict[Value, Order] = {}
        ballots: dict[Value, dict[Order, int]] = defaultdict(lambda: defaultdict(int))
        for value, votes in self.votes.items():
            for order, count in votes.items():
                ballots[self._find(value)][order] += count
        for op in kernels:
            for value in op.results:
                root = self._find(value)
                if root not in chosen:
                    chosen[root] = _winner(ballots[root], value.tensor.rank)
                self.order[value] = chosen[root]
        self._pin_outputs(graph)

    def _find(self, value: Value) -> Value:
        root = value
        while self.parent.get(root, root) is not root:
            root = self.parent[root]
        while self.parent.get(value, value) is not root:
            self.parent[value], value = root, self.parent.get(value, value)
        return root

    def _link(self, op: KernelOp) -> None:
        """Join what the kernel walks in the same orientation."""
        writes = [a for a in accesses(op.region) if isinstance(a, Write) and is_param(op, a.buffer)]
        for read in accesses(op.region):
            if not isinstance(read, Read) or not is_param(op, read.buffer):
                continue
            value = outer(op, read.buffer)
            if not isinstance(value.op, KernelOp):
                continue
            for write in writes:
                if aligned(read, write):
                    a, b = self._find(value), self._find(outer(op, write.buffer))
                    self.parent[a] = b
        for first, second in zip(op.results, op.results[1:], strict=False):
            if first.tensor.shape == second.tensor.shape:
                self.parent[self._find(first)] = self._find(second)

    def _vote(self, op: KernelOp) -> None:
        found = contractions(op)
        writes = [a for a in accesses(op.region) if isinstance(a, Write) and is_param(op, a.buffer)]
        for c in found:
            if c.b.constant:
                for param, order in operand_orders(op, c):
                    self._cast(outer(op, param), order)
            staged = _staged_results(c)
            for write, order in staged:
                self._cast(outer(op, write.buffer), order)
            for write in writes if not staged else ():
                if c.b.constant:
                    self._cast(outer(op, write.buffer), result_order(c, write))
                else:
                    self._cast(outer(op, write.buffer), row_major(len(write.map)))
        for access in accesses(op.region):
            if is_param(op, access.buffer) and flattens(access):
                for value in (outer(op, access.buffer), *op.results):
                    self._cast(value, row_major(value.tensor.rank))

    def _cast(self, value: Value, order: Order | None) -> None:
        if order is not None:
            self.votes[value][order] += weight_of(value)

    def _pin_outputs(self, graph: Graph) -> None:
        """What leaves the model is row-major: kernels that are no contractions write it so at once; contractions
        write what suits them, and a copy is made."""
        for value in graph.results:
            only = all(isinstance(use.op, Return) for use in value.uses)
            if isinstance(value.op, KernelOp) and only and not contractions(value.op):
                self.order[value] = row_major(value.tensor.rank)


def _winner(votes: dict[Order, int], rank: int) -> Order:
    default = row_major(rank)
    fitting: Iterator[tuple[int, bool, Order]] = (
        (count, order == default, order) for order, count in votes.items() if len(order) == rank
    )
    best = max(fitting, default=None)
    return default if best is None else best[2]


def aligned(read: Read, write: Write) -> bool:
    """True when both buffers have one rank and every dimension that moves a coordinate of the write moves the same
    coordinate of the read, and no other one."""
    if len(read.map) != len(write.map) or read.indices or write.indices:
        return False
    moving = {d.name for d in dims_around(write) if d.extent != 1}
    matched = False
    for d, (r, w) in enumerate(zip(read.map, write.map, strict=True)):
        names = w.symbols() & moving
        elsewhere = frozenset[str]().union(*(c.symbols() for e, c in enumerate(read.map) if e != d))
        if names & elsewhere or (names and not names & r.symbols() and read.buffer.tensor.dims[d] != 1):
            return False
        matched |= bool(names & r.symbols())
    return matched


def flattens(access: Read | Write) -> bool:
    """True when a coordinate is a quotient or remainder of several dimensions: the kernel computes flat indices."""

    def has_call(e: Expr) -> bool:
        return any(isinstance(a, Call) and a.fn in ("floordiv", "mod") for m, _ in e.terms for a in m)

    split = [c for c in access.map if has_call(c)]
    names = [c.symbols() for c in split]
    shared = any(a & b for i, a in enumerate(names) for b in names[i + 1 :])
    return shared or any(len(n) > 1 for n in names)
