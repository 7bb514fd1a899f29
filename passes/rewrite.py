"""Rewriting by patterns.

A pattern is a function of one operation and a `Builder`. It gives the values that replace the operation's results, or
None when it does not apply; operations made through the builder are inserted only if it does:

    def drop_double_negation(op: Neg, b: Builder) -> Sequence[Value] | None:
        \"\"\"`-(-x)` -> `x`\"\"\"
        match op.x.op:
            case Neg(x=x):
                return [x]
            case _:
                return None

The annotation of the first parameter says to which classes the pattern is offered (`Op`: to all).
"""

from __future__ import annotations

import inspect
import typing
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from types import UnionType
from typing import Any

import numpy as np

from ..ir.constants import Constant, ConstantData
from ..ir.core import Graph, Op, Region, Value
from ..ir.errors import PlanishError, VerifyError
from ..ir.kernel.form import KernelOp

Pattern = Callable[[Any, "Builder"], Sequence[Value] | None]

FIRED: Counter[str] = Counter()  # how often each pattern applied in this process, by name


class Builder:
    """Makes the operations that replace `root`; the driver inserts them before it, in the order they were made."""

    def __init__(self, root: Op) -> None:
        self.root = root
        self.made: list[Op] = []

    def __call__(self, op: Op) -> Value:
        """Take `op` in and give its (only) result."""
        self.add(op)
        return op.result

    def add(self, op: Op) -> Op:
        """Take `op` in. Without a `loc` of its own it gets the root's."""
        op.loc = op.loc or self.root.loc
        self.made.append(op)
        return op

    def constant(self, data: ConstantData | np.ndarray) -> Value:
        """A constant as a value."""
        return self(Constant(data if isinstance(data, ConstantData) else ConstantData.of(data)))

    def splat(self, value: float | int | bool, dtype: str, shape: Sequence[int] = ()) -> Value:
        """A constant whose every element is `value`."""
        return self.constant(ConstantData.splat(value, dtype, shape))


class PatternSet:
    """Patterns, indexed by the classes they are offered."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = list(patterns)
        self._roots = [(p, _roots(p)) for p in self.patterns]
        self._by_class: dict[type[Op], list[Pattern]] = {}

    def of(self, op: Op) -> list[Pattern]:
        """The patterns that may apply to `op`, in order."""
        cls = type(op)
        if cls not in self._by_class:
            self._by_class[cls] = [p for p, roots in self._roots if issubclass(cls, roots)]
        return self._by_class[cls]


def _roots(pattern: Pattern) -> tuple[type[Op], ...]:
    first = next(iter(inspect.signature(pattern).parameters))
    hint = typing.get_type_hints(pattern).get(first, Op)
    if isinstance(hint, UnionType):
        return typing.get_args(hint)
    return (hint,)


def apply_patterns(graph: Graph, patterns: Sequence[Pattern] | PatternSet, rounds: int = 64) -> bool:
    """Apply `patterns` until none applies; True when one did.

    Operations are visited in order, then again those around each change. Operations that lose their last use on the
    way are erased, so that "only use" guards see the truth. Raises `PlanishError` when there is no end to it: when
    more than `rounds` rewrites per operation were made; the message names the patterns that went on firing.
    """
    if not isinstance(patterns, PatternSet):
        patterns = PatternSet(patterns)
    return _Driver(graph, patterns, rounds).run()


class _Driver:
    """One run of patterns over a graph."""

    def __init__(self, graph: Graph, patterns: PatternSet, rounds: int) -> None:
        self.patterns = patterns
        self.queue: deque[Op] = deque(_ops(graph.body))
        self.queued = set(self.queue)
        self.budget = rounds * (len(self.queue) + 1)
        self.recent: deque[str] = deque(maxlen=len(self.queue) + 64)
        self.name = graph.name

    def run(self) -> bool:
        changed = False
        while self.queue:
            op = self.queue.popleft()
            self.queued.discard(op)
            while op.parent is not None and self._rewrite(op):
                changed = True
        return changed

    def _rewrite(self, op: Op) -> bool:
        """Apply the first pattern that fits `op`."""
        for pattern in self.patterns.of(op):
            builder = Builder(op)
            values = pattern(op, builder)
            if values is None or list(values) == list(op.results):
                continue
            self._apply(op, pattern, builder, values)
            return True
        return False

    def _apply(self, op: Op, pattern: Pattern, builder: Builder, values: Sequence[Value]) -> None:
        name = getattr(pattern, "__name__", repr(pattern))
        self._count(name)
        for old, new in zip(op.results, values, strict=True):
            if old.type != new.type:
                message = f"pattern {name}: expected a replacement of type {old.type}, got {new.type}"
                raise VerifyError(message, repr(op))
        assert op.parent is not None
        for made in builder.made:
            op.parent.insert_before(op, made)
        users = [user for r in op.results for user in r.users]
        producers = [v.op for v in op.inputs if v.op is not None]
        op.replace_by(values)
        self._erase_dead(producers)
        self._erase_dead(reversed(builder.made))
        around = [v.op for v in values if v.op is not None]
        self._push([*builder.made, *users, *producers, *around])

    def _count(self, name: str) -> None:
        FIRED[name] += 1
        self.recent.append(name)
        self.budget -= 1
        if self.budget < 0:
            suspects = ", ".join(f"{n} ({times} times)" for n, times in Counter(self.recent).most_common(4))
            raise PlanishError(
                f"graph @{self.name}: rewriting found no end; expected a fixpoint, but these patterns go on: {suspects}"
            )

    def _erase_dead(self, ops: typing.Iterable[Op]) -> None:
        pending = list(ops)
        while pending:
            op = pending.pop()
            dead = op.parent is not None and not (op.side_effects or op.terminator or any(r.uses for r in op.results))
            if dead:
                op.erase()
                producers = [v.op for v in op.inputs if v.op is not None]
                pending.extend(producers)
                self._push(producers)

    def _push(self, ops: typing.Iterable[Op]) -> None:
        for op in ops:
            if op.parent is not None and op not in self.queued:
                self.queued.add(op)
                self.queue.append(op)


def _ops(region: Region) -> Iterator[Op]:
    """Operations of `region` and of regions nested in it, kernels' insides excepted."""
    for op in region:
        yield op
        for inner in op.regions:
            if not isinstance(op, KernelOp):
                yield from _ops(inner)
