"""Values that several stages of one row compute again are computed once, into a row buffer.

A softmax is three stages under a row: the largest element, the sum of `exp(x - largest)`, and the quotients, which need
`exp(x - largest)` again. Where stages that stand side by side run over the same extents and compute the same expensive
value, a `k.map` before them stores it in a `k.local` and they read that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from ..ir.core import Graph, Op, Region, Value, Yield
from ..ir.expr import Dim, Expr, sym
from ..ir.kernel.builder import reserved
from ..ir.kernel.form import Const, Index, KernelOp, Local, LoopDim, Map, Read, Reduce, Scalar, Stage, Write
from ..ir.types import DTYPES, ScalarType, TensorType
from .base import Pass
from .fuse_kernels import EXPENSIVE
from .kernel_edit import substitute, tidy_region

_WORTH = 6.0  # simple operations that a store and the loads may replace


class ShareRows(Pass, name="share-rows"):
    """Compute once, into a row buffer, what several stages of a row compute: softmax takes each exponential once."""

    max_bytes: int = 256 * 1024  # of a row buffer

    def run_graph(self, graph: Graph) -> bool:
        changed = False
        for op in graph.body:
            if isinstance(op, KernelOp) and self._kernel(op):
                tidy_region(op.region)
                changed = True
        return changed

    def _kernel(self, kernel: KernelOp) -> bool:
        written = {op.buffer for op in kernel.region.walk() if isinstance(op, Write)}
        changed = False
        for op in list(kernel.region.walk()):
            if isinstance(op, Map):
                while self._share(op.region, kernel, written):
                    changed = True
        return changed

    def _share(self, region: Region, kernel: KernelOp, written: set[Value]) -> bool:
        """Share the largest value that stages of `region` have in common; False when there is none."""
        groups: dict[tuple[Dim, ...], list[Stage]] = {}
        for op in region:
            if isinstance(op, Map | Reduce):
                groups.setdefault(tuple(d.extent for d in op.dims), []).append(op)
        for extents, stages in groups.items():
            found = _common(stages, written) if len(stages) > 1 else []
            if found and self._fits(extents, found[0]):
                _rewrite(region, kernel, extents, found)
                return True
        return False

    def _fits(self, extents: Sequence[Dim], value: Value) -> bool:
        kind = value.type
        assert isinstance(kind, ScalarType)
        known = [n for n in extents if isinstance(n, int)]
        return len(known) < len(extents) or math.prod(known) * DTYPES[kind.dtype].bytes <= self.max_bytes


# -- finding ------------------------------------------------------------------------------------------------------


def _common(stages: Sequence[Stage], written: set[Value]) -> list[Value]:
    """The value that at least two of `stages` compute, once per stage, which is most worth a buffer; else nothing."""
    places: dict[object, dict[Stage, Value]] = {}
    numbers: dict[object, int] = {}
    for stage in stages:
        keys = _Keys(stage, written, numbers)
        for op in stage.body:
            if isinstance(op, Scalar | Read) and (key := keys.of(op.result)) is not None:
                places.setdefault(key, {}).setdefault(stage, op.result)
    shared = [list(p.values()) for p in places.values() if len(p) > 1 and _cost(next(iter(p.values()))) >= _WORTH]
    none: list[Value] = []
    return max(shared, key=lambda values: _cost(values[0]) * (len(values) - 1), default=none)


class _Keys:
    """What values of a stage's body are made of, as numbers: equal for equal values of stages with equal extents."""

    def __init__(self, stage: Stage, written: set[Value], numbers: dict[object, int]) -> None:
        """`numbers` are those of the other stages: what is new gets the next one."""
        self.stage = stage
        self.written = written
        self.numbers = numbers
        self._known: dict[Value, int | None] = {}
        self.places = {d.name: sym(f"#{n}") for n, d in enumerate(stage.dims)}

    def of(self, value: Value) -> int | None:
        """A number; None for values that cannot be computed elsewhere."""
        if value not in self._known:  # a value used twice must not be walked twice: chains of them grow as 2^n
            key = self._made_of(value)
            self._known[value] = None if key is None else self.numbers.setdefault(key, len(self.numbers))
        return self._known[value]

    def _made_of(self, value: Value) -> object | None:
        op = value.op
        if op is None or op.parent is not self.stage.body:
            return None if value.owner in (self.stage.body, None) else ("outside", value)
        match op:
            case Const(value=number, dtype=dtype):
                return ("const", repr(number), dtype)
            case Index(expr=expr):
                return ("index", expr.substitute(self.places))
            case Scalar(args=args, fn=fn, dtype=dtype):
                return self._all((fn, dtype), args)
            case Read(buffer=buffer, indices=indices, fill=fill, map=map) if buffer not in self.written:
                at = tuple(e.substitute(self.places) for e in map)
                return self._all(("read", buffer, at), [*indices, *([] if fill is None else [fill])])
            case _:
                return None

    def _all(self, head: tuple[object, ...], args: Sequence[Value]) -> object | None:
        keys = [self.of(a) for a in args]
        return None if any(k is None for k in keys) else (*head, *keys)


def _tree(value: Value) -> list[Op]:
    """The operations of a stage's body that compute `value`, in order."""
    found: dict[Op, None] = {}
    region = value.op.parent if value.op is not None else None

    def visit(v: Value) -> None:
        if v.op is not None and v.op.parent is region and v.op not in found:
            for other in v.op.inputs:
                visit(other)
            found[v.op] = None

    visit(value)
    return list(found)


def _cost(value: Value) -> float:
    """Simple operations that computing `value` takes."""
    total = 0.0
    for op in _tree(value):
        if isinstance(op, Scalar):
            total += 8.0 if op.fn in EXPENSIVE else 1.0
        elif isinstance(op, Read):
            total += 4.0 if op.indices else 1.0
    return total


# -- rewriting ----------------------------------------------------------------------------------------------------


def _rewrite(region: Region, kernel: KernelOp, extents: Sequence[Dim], values: Sequence[Value]) -> None:
    """Compute `values[0]` in a map before its stage, and read it where `values` were computed."""
    stages = [_stage(v) for v in values]
    first = next(op for op in region if op in stages)
    kind = values[0].type
    assert isinstance(kind, ScalarType)
    local = region.insert_before(first, Local(types=[TensorType(kind.dtype, tuple(extents))])).result
    taken = {d.name for op in kernel.region.walk() if isinstance(op, Stage) for d in op.dims}
    taken |= {s for p in kernel.region.params for s in p.tensor.symbols} | reserved()
    dims = [LoopDim(_fresh(d.name, taken), d.extent) for d in _stage(values[0]).dims]
    env = {old.name: sym(new.name) for old, new in zip(_stage(values[0]).dims, dims, strict=True)}
    region.insert_before(first, _row(local, values[0], dims, env))
    for stage, value in zip(stages, values, strict=True):
        assert value.op is not None
        read = stage.body.insert_before(value.op, Read(local, map=tuple(sym(d.name) for d in stage.dims)))
        unused = _tree(value)
        value.replace_by(read.result)
        for op in reversed(unused):
            if not any(r.uses for r in op.results):
                op.erase()


def _row(local: Value, value: Value, dims: Sequence[LoopDim], env: Mapping[str, Expr]) -> Map:
    """The map that fills `local`."""
    body = Region()
    mapping: dict[Value, Value] = {}
    for op in _tree(value):
        copy = body.append(op.clone(mapping))
        substitute(copy, env, {})
    body.append(Write(mapping[value], local, map=tuple(sym(d.name) for d in dims)))
    body.append(Yield(()))
    return Map(tuple(dims), None, body)


def _stage(value: Value) -> Stage:
    """The stage whose body computes `value`."""
    assert value.op is not None and value.op.parent is not None
    stage = value.op.parent.parent
    assert isinstance(stage, Stage)
    return stage


def _fresh(name: str, taken: set[str]) -> str:
    found = next(c for n in itertools.count(1) if (c := name if n == 1 else f"{name}{n}") not in taken)
    taken.add(found)
    return found
