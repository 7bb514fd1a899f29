"""Looking at kernels and joining them: the mechanics under `fuse_kernels`, which has the policy.

Two ways to join producer P and consumer C, both of which need C or P to be *pointwise* (one map whose body is
straight-line code):

- `prologue`: P, pointwise, is computed where C reads its result;
- `epilogue`: C, pointwise, is computed where P writes its result. With a C that only moves data this rewrites where P
  writes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..ir.core import Op, Region, Value, Yield
from ..ir.expr import Expr, Range, as_expr, sym
from ..ir.kernel.builder import reserved
from ..ir.kernel.form import Const, Index, KernelOp, Local, LoopDim, Map, Read, Reduce, Scalar, Stage, Write
from .affine import coordinate, inside, invert, is_rearrangement, ranges_of, tidy

_STRAIGHT = (Read, Write, Scalar, Const, Index, Yield)


# -- looking ------------------------------------------------------------------------------------------------------


def enclosing(op: Op) -> list[LoopDim]:
    """Dimensions of all stages around `op`, outermost first."""
    found: list[LoopDim] = []
    region = op.parent
    while region is not None and isinstance(region.parent, Op):
        stage = region.parent
        if isinstance(stage, Stage):
            found[:0] = stage.dims
        region = stage.parent if not isinstance(stage, KernelOp) else None
    return found


def accesses(buffer: Value) -> tuple[list[Read], list[Write]]:
    """The reads and writes of a buffer inside its kernel."""
    users = buffer.users
    return [op for op in users if isinstance(op, Read)], [op for op in users if isinstance(op, Write)]


def only_map(kernel: KernelOp) -> Map | None:
    """The one map of a pointwise kernel: besides constants there is nothing else, and its body has no stages."""
    stages = [op for op in kernel.region if not isinstance(op, Const | Yield)]
    stage = stages[0] if len(stages) == 1 else None
    if not isinstance(stage, Map) or not all(isinstance(op, _STRAIGHT) for op in stage.region):
        return None
    return stage


def is_movement(kernel: KernelOp) -> bool:
    """True for a pointwise kernel that computes nothing: it stores what it reads, at affine places."""
    stage = only_map(kernel)
    return stage is not None and all(
        (not isinstance(op, Scalar | Index)) and not (isinstance(op, Read) and op.indices) for op in stage.region
    )


def is_concat(kernel: KernelOp) -> bool:
    """True for a kernel of several maps that only move data: lowering can turn those into views."""
    stages = [op for op in kernel.region if not isinstance(op, Const | Yield)]
    return len(stages) > 1 and all(
        isinstance(stage, Map) and all(isinstance(op, Read | Write | Const | Yield) for op in stage.region)
        for stage in stages
    )


def is_contraction(kernel: KernelOp) -> bool:
    """True when a sum of products of two tensors is in it: then its reads are arranged for register blocks."""
    for op in kernel.region.walk():
        if isinstance(op, Reduce) and any(isinstance(s, Scalar) and s.fn == "mul" for s in op.region):
            buffers = {r.buffer for r in op.region if isinstance(r, Read)}
            if len(buffers) > 1 and any(isinstance(s, Scalar) and s.fn == "add" for s in op.combine):
                return True
    return False


def single_write(buffer: Value) -> Write | None:
    """The write of an output that is written at one place, plainly, and never read back; else None."""
    if len(buffer.uses) != 1:
        return None
    (op,) = buffer.users
    plain = isinstance(op, Write) and op.mask is None and not op.combine and not op.indices
    return op if plain and isinstance(op, Write) else None


def body_size(kernel: KernelOp) -> int:
    """Number of operations in a kernel."""
    return sum(1 for _ in kernel.region.walk())


# -- joining ------------------------------------------------------------------------------------------------------


@dataclass
class Join:
    """A fused region in the making: `mapping` from the old kernels' values to the new region's."""

    region: Region
    args: list[Value]
    mapping: dict[Value, Value]
    hole: Value | None = None  # stands for the buffer that fusion removes; no uses of it may remain

    @staticmethod
    def start(sources: Iterable[tuple[KernelOp, Value]], outputs: Sequence[Value], gone: Iterable[Value]) -> Join:
        """A region whose inputs are those of the `sources` (kernel, its result that vanishes or a value it lacks),
        each argument once, and whose outputs are `outputs`. The buffers in `gone` all map to `hole`."""
        holes = list(gone)
        hole = Value(holes[0].type)
        mapping: dict[Value, Value] = dict.fromkeys(holes, hole)
        inputs: dict[Value, list[Value]] = {}
        for kernel, _ in sources:
            for arg, buffer in zip(kernel.args, kernel.buffers, strict=True):
                if buffer not in mapping:
                    inputs.setdefault(arg, []).append(buffer)
        region = Region([arg.type for arg in inputs], [f"i{n}" for n in range(len(inputs))])
        for param, buffers in zip(region.params, inputs.values(), strict=True):
            mapping.update(dict.fromkeys(buffers, param))
        for n, buffer in enumerate(outputs):
            mapping[buffer] = region.add_param(buffer.type, f"o{n}")
        return Join(region, list(inputs), mapping, hole)

    def keep(self, kernel: KernelOp) -> None:
        """Clone the whole of `kernel` in. Its dimensions are renamed where they are called like a shape symbol."""
        assert self.hole is not None
        for op in kernel.region:
            self.region.append(op.clone(self.mapping))
        symbols = frozenset[str]().union(*(v.tensor.symbols for v in [self.hole, *self.region.params]))
        rename_dims(self.region, symbols)

    def finish(self, label: str, loc: str) -> KernelOp:
        """The fused kernel, tidied up."""
        assert self.hole is not None and not self.hole.uses, "a read or write of the fused buffer is left"
        tidy_region(self.region)
        drop_unused(self.region, self.args)
        fused = KernelOp(tuple(self.args), self.region, label=label)
        fused.loc = loc
        return fused


def prologue(producer: KernelOp, consumer: KernelOp) -> KernelOp | None:
    """`consumer` with `producer` (pointwise, one result) computed at each of its reads; None when the place that the
    producer writes cannot be inverted."""
    stage, write = only_map(producer), single_write(producer.outputs[0])
    if stage is None or write is None or len(producer.outputs) != 1:
        return None
    buffer = producer.outputs[0]
    inverse = invert(write.map, stage.dims, buffer.tensor.dims)
    if inverse is None:
        return None
    result = producer.results[0]
    gone = [b for arg, b in zip(consumer.args, consumer.buffers, strict=True) if arg is result]
    join = Join.start([(producer, result), (consumer, result)], consumer.outputs, [buffer, *gone])
    join.keep(consumer)
    assert join.hole is not None
    for read in accesses(join.hole)[0]:
        assert read.parent is not None
        at = {coordinate(k): e for k, e in enumerate(read.map)}
        env = {name: e.substitute(at) for name, e in inverse.items()}
        value = _inline(producer, stage, write, read, join.mapping, env)
        if (
            read.fill is not None
            and isinstance(value.op, Read)
            and not inside(read.map, buffer.tensor.dims, _around(read))
        ):
            # Only for movement that leaves its source exactly where `read` leaves the buffer (see `fill_moves`).
            assert value.op.fill is None
            fields = value.op
            value = read.parent.insert_before(read, Read(fields.buffer, fields.map, fields.indices, read.fill)).result
        read.replace_by([value])
    return join.finish(*joined_names(producer, consumer))


def _inline(
    producer: KernelOp, stage: Map, write: Write, anchor: Op, mapping: Mapping[Value, Value], env: Mapping[str, Expr]
) -> Value:
    """Clone the body of a pointwise kernel before `anchor`; gives the value it would have written."""
    local = dict(mapping)
    _clone_before(anchor, (op for op in [*producer.region, *stage.region] if op is not write), local, env)
    return local[write.value]


def _clone_before(anchor: Op, ops: Iterable[Op], mapping: dict[Value, Value], env: Mapping[str, Expr]) -> None:
    """Clone what `ops` compute before `anchor`: all but stages and terminators; results are added to `mapping`."""
    assert anchor.parent is not None
    ranges = _around(anchor)
    for op in ops:
        if not isinstance(op, Map | Yield):
            copy = op.clone(mapping)
            substitute(copy, env, ranges)
            anchor.parent.insert_before(anchor, copy)


def fill_moves(producer: KernelOp, read: Read) -> bool:
    """True when `prologue` may treat `read`, which has a fill: it never needs it, or `producer` only rearranges, so
    that its own read can have the fill."""
    buffer = producer.outputs[0]
    if inside(read.map, buffer.tensor.dims, _around(read)):
        return True
    stage, write = only_map(producer), single_write(buffer)
    if stage is None or write is None or not isinstance(source := write.value.op, Read) or source.fill is not None:
        return False
    inverse = invert(write.map, stage.dims, buffer.tensor.dims)
    if inverse is None or source.indices:
        return False
    ones = [k for k, d in enumerate(buffer.tensor.dims) if d == 1]
    if not inside([read.map[k] for k in ones], [1] * len(ones), _around(read)):
        return False  # the source has no such dimension: reads outside of it would be missed
    map = [e.substitute(inverse) for e in source.map]
    return is_rearrangement(map, buffer.tensor.dims, source.buffer.tensor.dims)


def _around(op: Op) -> dict[str, Range]:
    return ranges_of(enclosing(op))


def epilogue(producer: KernelOp, index: int, consumer: KernelOp, keep: bool) -> KernelOp | None:
    """`producer` with `consumer` (pointwise) computed where it writes result number `index`; that result is still
    written (as the last) with `keep`. None when the consumer does not read it at one invertible place."""
    result, buffer = producer.results[index], producer.outputs[index]
    stage, write = only_map(consumer), single_write(buffer)
    gone = [b for arg, b in zip(consumer.args, consumer.buffers, strict=True) if arg is result]
    reads = [r for b in gone for r in accesses(b)[0]]
    if stage is None or write is None or not reads or any(r.map != reads[0].map or r.indices for r in reads):
        return None
    inverse = invert(reads[0].map, stage.dims, buffer.tensor.dims)
    if inverse is None:
        return None
    others = [o for o in producer.outputs if o is not buffer]
    outputs = [*others, *consumer.outputs, *([buffer] if keep else [])]
    vanishing = gone if keep else [buffer, *gone]
    join = Join.start([(producer, result), (consumer, result)], outputs, vanishing)
    join.keep(producer)
    target = join.mapping[buffer]
    (copy,) = accesses(target)[1]
    at = {coordinate(k): e for k, e in enumerate(copy.map)}
    env = {name: e.substitute(at) for name, e in inverse.items()}
    _append(consumer, stage, reads, copy, join.mapping, env)
    if not keep:
        copy.erase()
    return join.finish(*joined_names(producer, consumer))


def _append(
    consumer: KernelOp,
    stage: Map,
    reads: Sequence[Read],
    write: Write,
    mapping: Mapping[Value, Value],
    env: Mapping[str, Expr],
) -> None:
    """Clone the body of a pointwise kernel before `write`, with the value that is written in place of `reads`."""
    local = dict(mapping)
    local.update({r.result: write.value for r in reads})
    _clone_before(write, (op for op in [*consumer.region, *stage.region] if op not in reads), local, env)


def joined_names(producer: KernelOp, consumer: KernelOp) -> tuple[str, str]:
    """Label and `loc` of a fused kernel: what was fused, in order."""
    pairs = (producer.label, consumer.label), (producer.loc, consumer.loc)
    label, loc = ("+".join(filter(None, pair)) for pair in pairs)
    return label, loc


def substitute(op: Op, env: Mapping[str, Expr], ranges: Mapping[str, Range]) -> None:
    """Replace dimensions in the maps of `op` (no stage) by expressions, in simplest form."""
    if isinstance(op, Read | Write):
        op.set_attribute("map", tuple(tidy(e.substitute(env), ranges) for e in op.map))
    elif isinstance(op, Index):
        op.set_attribute("expr", tidy(op.expr.substitute(env), ranges))


def rename_dims(region: Region, taken: frozenset[str]) -> None:
    """Give dimensions of stages in `region` new names where theirs are in `taken`."""
    stages = [op for op in region.walk() if isinstance(op, Stage)]
    used = taken | reserved() | {d.name for s in stages for d in s.dims}
    for stage in stages:
        names: dict[str, str] = {}
        for name in [d.name for d in stage.dims if d.name in taken]:
            fresh = next(f"{name}{n}" for n in itertools.count(2) if f"{name}{n}" not in used)
            used |= {fresh}
            names[name] = fresh
        if names:
            _rename(stage, names)


def _rename(stage: Stage, names: Mapping[str, str]) -> None:
    env = {old: sym(new) for old, new in names.items()}
    stage.set_attribute("dims", tuple(LoopDim(names.get(d.name, d.name), d.extent) for d in stage.dims))
    for inner in stage.walk():
        if isinstance(inner, Read | Write):
            inner.set_attribute("map", tuple(e.substitute(env) for e in inner.map))
        elif isinstance(inner, Index):
            inner.set_attribute("expr", inner.expr.substitute(env))
        elif isinstance(inner, Stage) and inner is not stage:
            dims = tuple(LoopDim(d.name, as_expr(d.extent).substitute(env)) for d in inner.dims)
            inner.set_attribute("dims", dims)


# -- tidying ------------------------------------------------------------------------------------------------------


def tidy_region(region: Region) -> None:
    """Merge equal constants, reads of inputs, coordinates and scalar operations, then remove what nobody uses; in
    `region` and everything nested in it."""
    written = {op.buffer for op in region.walk() if isinstance(op, Write)}
    _merge_equal(region, {}, written)
    _remove_dead(region)


def _merge_equal(region: Region, outer: Mapping[object, Value], written: set[Value]) -> None:
    known = dict(outer)
    for op in region:
        for inner in op.regions:
            _merge_equal(inner, known, written)
        key = _key(op, written)
        if key is None:
            continue
        earlier = known.setdefault(key, op.results[0])
        if earlier is not op.results[0]:
            op.replace_by([earlier])


def _key(op: Op, written: set[Value]) -> object | None:
    match op:
        case Const(value=value, dtype=dtype):
            return ("const", repr(value), dtype)
        case Read(buffer=buffer) if buffer not in written:
            return ("read", buffer, op.indices, op.fill, op.map)
        case Index(expr=expr):
            return ("index", expr)
        case Scalar(args=args, fn=fn, dtype=dtype):
            return (fn, args, dtype)
        case _:
            return None


def _remove_dead(region: Region) -> None:
    for op in reversed(region):
        for inner in op.regions:
            _remove_dead(inner)
        idle = isinstance(op, Const | Read | Index | Scalar | Local | Reduce)
        if idle and not any(r.uses for r in op.results) and not (isinstance(op, Read) and op.indices):
            op.erase()


def drop_unused(region: Region, args: list[Value]) -> None:
    """Remove inputs that the kernel does not read."""
    for n in reversed(range(len(args))):
        if not region.params[n].uses:
            del region.params[n], args[n]
    for n, param in enumerate(region.params):
        param.index = n
        param.name = f"i{n}" if n < len(args) else f"o{n - len(args)}"
