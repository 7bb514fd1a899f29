"""Fusion of kernels: which producers and consumers become one. The mechanics are in `kernel_edit`.

What is done, for each kernel in order, over and over until nothing applies:

- *epilogue*: a pointwise consumer is computed where its producer (of any kind: a convolution, a softmax) writes. With a
  consumer that only moves data this makes the producer write where the data is wanted.
- *prologue*: a pointwise or data-moving producer is computed where its consumer reads.

What is avoided: maps with more divisions and remainders than there were (a reshape between row-major buffers costs
nothing as a view, but breaks vectors inside a kernel), contractions whose operands are no longer read along the vector
dimension, computing anything expensive twice, and kernels of more than `max_buffers` buffers or `max_size` operations.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from ..ir.core import Graph, Op, Region, Value
from ..ir.expr import Dim, Expr, as_expr
from ..ir.kernel.form import Const, KernelOp, Read, Reduce, Scalar, Write
from .affine import calls, inside, ranges_of, unit_dims
from .base import Pass
from .kernel_edit import (
    accesses,
    body_size,
    enclosing,
    epilogue,
    fill_moves,
    is_concat,
    is_contraction,
    is_movement,
    only_map,
    prologue,
    single_write,
)

FUSED: Counter[str] = Counter()  # how often each kind of fusion was done in this process

EXPENSIVE = frozenset(
    {
        "exp", "log", "log1p", "expm1", "pow", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
        "tanh", "asinh", "acosh", "atanh", "erf", "sigmoid", "sqrt", "rsqrt", "div", "rem", "floormod",
    }
)  # fmt: skip
_GUESS = 64  # what a symbolic dimension is taken for when work is estimated


class FuseKernels(Pass, name="fuse-kernels"):
    """Join producers and consumers into one kernel where that saves memory traffic."""

    max_buffers: int = 16
    max_size: int = 400
    multi_output: bool = True

    def __post_init__(self) -> None:
        self._keep = False

    def run_graph(self, graph: Graph) -> bool:
        changed = [self._fuse_region(region, keep=False) for region in _regions(graph.body)]
        # Only then: a value that is still written has users which the first round could not join with each other.
        if self.multi_output:
            changed += [self._fuse_region(region, keep=True) for region in _regions(graph.body)]
        return any(changed)

    def _fuse_region(self, region: Region, keep: bool) -> bool:
        self._keep = keep
        order = {op: n for n, op in enumerate(region)}
        queue = deque(op for op in region if isinstance(op, KernelOp))
        changed = False
        while queue:
            op = queue.popleft()
            fused = self._fuse_one(op, order) if op.parent is not None else None
            if fused is not None:
                changed = True
                queue.appendleft(fused)
                queue.extend(user for r in fused.results for user in r.users if isinstance(user, KernelOp))
        return changed

    def _fuse_one(self, consumer: KernelOp, order: dict[Op, int]) -> KernelOp | None:
        """Join one of the producers of `consumer` with it, the latest first; the fused kernel, or None."""
        producers = {v.op for v in consumer.args if isinstance(v.op, KernelOp) and v.op.parent is consumer.parent}
        for producer in sorted(producers, key=lambda p: -order[p]):
            for attempt in (self._epilogue, self._prologue):
                fused = attempt(producer, consumer, order)
                if fused is not None:
                    return fused
        return None

    def _fits(self, fused: KernelOp | None, before: int) -> bool:
        """True when a fused kernel is not too large; one with more than `max_buffers` had as many `before`."""
        return (
            fused is not None
            and len(fused.region.params) <= max(self.max_buffers, before)
            and body_size(fused) <= self.max_size
        )

    # -- consumer into producer ---------------------------------------------------------------------------------

    def _epilogue(self, producer: KernelOp, consumer: KernelOp, order: dict[Op, int]) -> KernelOp | None:
        index = next(i for i, r in enumerate(producer.results) if r in consumer.args)
        if sum(r in consumer.args for r in producer.results) != 1 or only_map(consumer) is None:
            return None
        result = producer.results[index]
        keep = any(user is not consumer for user in result.users)
        early = keep or any(r.uses for r in producer.results if r is not result)
        if early and not ((self._keep or not keep) and _precede(consumer, producer, order)):
            return None
        if keep and is_movement(producer):
            return None  # reading through it is better than writing twice
        fused = epilogue(producer, index, consumer, keep)
        if (
            fused is None
            or not self._fits(fused, len(producer.region.params))
            or not _good_epilogue(producer, index, consumer, fused)
        ):
            return None
        others = [r for r in producer.results if r is not result]
        old = [*others, *consumer.results, *([result] if keep else [])]
        place = producer if early else consumer
        assert place.parent is not None
        place.parent.insert_before(place, fused)
        order[fused] = order[place]
        for before, after in zip(old, fused.results, strict=True):
            before.replace_by(after)
            after.name = before.name
        consumer.erase()
        producer.erase()
        FUSED["movement forward" if is_movement(consumer) else "epilogue"] += 1
        return fused

    # -- producer into consumer ---------------------------------------------------------------------------------

    def _prologue(self, producer: KernelOp, consumer: KernelOp, order: dict[Op, int]) -> KernelOp | None:
        if only_map(producer) is None or len(producer.results) != 1:
            return None
        users = producer.result.users
        if len(users) > 1 and not (is_movement(producer) and all(isinstance(u, KernelOp) for u in users)):
            return None
        joined = {user: self._try_prologue(producer, user) for user in users if isinstance(user, KernelOp)}
        if any(fused is None for fused in joined.values()):
            return None
        # All are inserted before any is replaced: one may use the result of another.
        for user, fused in joined.items():
            assert fused is not None and user.parent is not None
            user.parent.insert_before(user, fused)
            order[fused] = order[user]
        for user, fused in joined.items():
            assert fused is not None
            user.replace_by(fused.results)
        producer.erase()
        FUSED["movement" if is_movement(producer) else "prologue"] += 1
        return joined[consumer]

    def _try_prologue(self, producer: KernelOp, consumer: KernelOp) -> KernelOp | None:
        if not _may_read_through(producer, consumer):
            return None
        fused = prologue(producer, consumer)
        if (
            fused is None
            or not self._fits(fused, len(consumer.region.params))
            or not _good_prologue(producer, consumer, fused)
        ):
            return None
        return fused


def _regions(region: Region) -> Iterator[Region]:
    """`region` and the regions of control flow in it."""
    yield region
    for op in region:
        if not isinstance(op, KernelOp):
            for inner in op.regions:
                yield from _regions(inner)


def _precede(consumer: KernelOp, producer: KernelOp, order: dict[Op, int]) -> bool:
    """True when the other operands of `consumer` are there before `producer` runs."""
    others = [v for v in consumer.args if v.op is not producer]
    return all(v.op is None or v.op.parent is not producer.parent or order[v.op] < order[producer] for v in others)


# -- what is good -------------------------------------------------------------------------------------------------


def _maps(kernel: KernelOp) -> Iterable[Expr]:
    return (e for op in kernel.region.walk() if isinstance(op, Read | Write) for e in op.map)


def _good_epilogue(producer: KernelOp, index: int, consumer: KernelOp, fused: KernelOp) -> bool:
    """True when the fused kernel's maps are as simple as before and its innermost dimension is still that of the
    result."""
    moving = is_movement(consumer)
    allowed = calls(_maps(producer)) + (0 if moving else calls(_maps(consumer)))
    if calls(_maps(fused)) > allowed:
        return False
    write = single_write(producer.outputs[index])
    assert write is not None
    inner = unit_dims(write.map) & {d.name for d in enclosing(write)}
    count = len(consumer.results)
    start = len(producer.results) - 1
    for buffer in fused.outputs[start : start + count]:
        for after in accesses(buffer)[1]:
            if inner and not inner & unit_dims(after.map):
                return False
    return True


def _may_read_through(producer: KernelOp, consumer: KernelOp) -> bool:
    """Whether computing `producer` at the reads of `consumer` is possible and does not repeat too much work."""
    if is_concat(consumer):
        return False  # its operands are then written in place, and it vanishes
    result = producer.result
    buffers = [b for arg, b in zip(consumer.args, consumer.buffers, strict=True) if arg is result]
    reads = [r for b in buffers for r in accesses(b)[0]]
    if not reads or any(r.indices for r in reads) or any(len(accesses(b)[0]) != len(b.users) for b in buffers):
        return False
    if any(r.fill is not None and not fill_moves(producer, r) for r in reads):
        return False
    if is_contraction(consumer) and _fills_other(producer):
        return False  # zeros are a halo; anything else would be chosen again for every product
    if is_movement(producer):
        return True
    if is_contraction(consumer):
        return _repeated(result, reads) <= 1.0
    work = [op for op in producer.region.walk() if isinstance(op, Scalar)]
    costly = sum(op.fn in EXPENSIVE for op in work)
    return _repeated(result, reads) <= (1.0 if costly or len(work) > 8 else 3.0)


def _fills_other(kernel: KernelOp) -> bool:
    """True when reads outside of a buffer give something else than zero."""
    fills = [op.fill.op for op in kernel.region.walk() if isinstance(op, Read) and op.fill is not None]
    return any(not (isinstance(f, Const) and not f.value) for f in fills)


def _repeated(value: Value, reads: Iterable[Read]) -> float:
    """How often `reads` take an element of `value`, on average."""
    times = sum(_times(r) for r in {(r.map, r.parent): r for r in reads}.values())
    return times / max(1.0, estimate(math.prod(map(as_expr, value.tensor.dims), start=as_expr(1))))


def _good_prologue(producer: KernelOp, consumer: KernelOp, fused: KernelOp) -> bool:
    """True when the fused kernel has no more divisions and remainders than the consumer, and a contraction still reads
    its operands along its vector dimension."""
    extra = 0 if is_movement(producer) else calls(_maps(producer))
    if calls(_maps(fused)) > calls(_maps(consumer)) + extra and not (is_contraction(consumer) and _outer_calls(fused)):
        return False
    return not is_contraction(consumer) or _good_operands(producer, consumer, fused)


def _outer_calls(kernel: KernelOp) -> bool:
    """True when divisions and remainders are of one dimension each that no access of the kernel walks along by one:
    they are computed outside of the loops that matter (heads that share keys)."""
    ops = [op for op in kernel.region.walk() if isinstance(op, Read | Write)]
    inner = frozenset[str]().union(*(unit_dims(op.map) for op in ops))
    summed = {d.name for op in kernel.region.walk() if isinstance(op, Reduce) for d in op.dims}
    return all(len(e.symbols()) == 1 and not e.symbols() & (inner | summed) for e in _maps(kernel) if calls([e]))


def _good_operands(producer: KernelOp, consumer: KernelOp, fused: KernelOp) -> bool:
    """For a contraction that would read through movement: dimensions keep their order where windows slide, and what
    was read along the vector dimension still is."""
    vector = frozenset[str]().union(*(unit_dims(w.map) for b in consumer.outputs for w in accesses(b)[1]))
    buffers = [b for arg, b in zip(consumer.args, consumer.buffers, strict=True) if arg is producer.result]
    before = [r for b in buffers for r in accesses(b)[0]]
    if _repeated(producer.result, before) <= 1.0:
        return True  # a product with one row reads its other operand once: rearranging it first reads it twice
    old = {arg for arg in consumer.args if arg is not producer.result}
    after = [r for arg, b in zip(fused.args, fused.buffers, strict=True) if arg not in old for r in accesses(b)[0]]
    if any(r.fill is not None or not inside_simple(r) for r in before) and not _keeps_order(producer):
        return False
    along = any(unit_dims(r.map) & vector for r in before)
    return not along or all(unit_dims(r.map) & vector for r in after)


def inside_simple(read: Read) -> bool:
    """True when every coordinate of a read is one dimension or constant: no windows."""
    return all(len(e.symbols()) <= 1 for e in read.map) and inside(
        read.map, read.buffer.tensor.dims, ranges_of(enclosing(read))
    )


def _keeps_order(producer: KernelOp) -> bool:
    """True when a movement keeps the order of the dimensions that are not of extent 1 (slices, squeezes)."""
    stage, write = only_map(producer), single_write(producer.outputs[0])
    assert stage is not None
    source = write.value.op if write is not None else None
    if write is None or not isinstance(source, Read):
        return False
    names = [[e.symbol for e in m if e.constant is None] for m in (write.map, source.map)]
    simple = [[min(e.symbols(), default="") for e in m if e.constant is None] for m in (write.map, source.map)]
    sizes = {d.name: d.extent for d in stage.dims}
    first, second = ([n for n in m if sizes.get(n) != 1] for m in simple)
    return first == second and None not in names[0]


def _times(read: Read) -> float:
    """How often a read is executed."""
    return math.prod(estimate(d.extent) for d in enclosing(read))


def estimate(extent: Dim) -> float:
    """A number for an extent, for judging work."""
    e = as_expr(extent)
    return float(max(1, e.evaluate(dict.fromkeys(e.symbols(), _GUESS))))
