"""Fusion through local buffers: chains of kernels become one that works block by block and never stores what lies
between them.

A producer and its only reader can share *outer* dimensions: coordinates of the value between them that the producer
writes, and the reader reads, at one dimension each. For one point of those, the reader needs only what the producer
made there. So a chain of such kernels runs as one `k.map` over the outer dimensions, with a stage per kernel in it and
a `k.local` for each value between. One outer dimension, along which contractions reuse an operand, is taken in blocks:

    scores = q k^T + mask;  p = softmax(scores);  o = p v        one kernel: for every head, for every block of rows

What is fused (the policy): chains that end in a contraction of two computed operands (attention), grown backwards as
long as a producer shares all outer dimensions. Nothing is computed twice. An extent that no good block divides gets a
second stage for the rest; so does a symbolic one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..ir.constants import Constant
from ..ir.core import Graph, Op, Region, Value, Yield
from ..ir.expr import Dim, Expr, as_dim, as_expr, const, floordiv, mod, sym
from ..ir.kernel.builder import reserved
from ..ir.kernel.form import Const, Index, KernelOp, Local, LoopDim, Map, Read, Reduce, Scalar, Stage, Write
from ..ir.types import DTYPES, Layout, TensorType
from .affine import ranges_of
from .analysis.contraction import Contraction, analyse
from .base import Pass
from .fuse_kernels import estimate
from .kernel_edit import accesses, drop_unused, enclosing, is_movement, single_write, substitute, tidy_region

# Rows of a block, the best first: enough to reuse the other operand, few enough to stay near. Measured on heads of 32
# to 128 elements and 64 to 1024 keys: flat within 4 %, multiples of 16 in front.
_ROWS = (16, 32, 24, 20, 8)
_ALIAS = 2048  # rows of buffers at multiples of so many bytes fight for the same cache lines


class FuseLocal(Pass, name="fuse-local"):
    """Join chains of kernels that end in a contraction (attention) into one kernel over blocks, with local buffers."""

    rows: int = 0  # rows of a block; 0: chosen
    max_local: int = 256 * 1024  # bytes of all local buffers of a block

    def run_graph(self, graph: Graph) -> bool:
        changed = False
        for op in list(reversed(graph.body)):  # the last of a chain first
            if isinstance(op, KernelOp) and op.parent is not None:
                changed |= self._fuse(op)
        return changed

    def _fuse(self, last: KernelOp) -> bool:
        """Join the longest chain that ends in `last`."""
        chain = find_chain(last)
        if chain is None:
            return False
        rows = self.rows or choose_rows(chain, self.max_local)
        if rows is None:
            return False
        fused = join(chain, min(rows, chain.extent) if isinstance(chain.extent, int) else rows)
        assert last.parent is not None
        last.parent.insert_before(last, fused)
        for before, after in zip(last.results, fused.results, strict=True):
            before.replace_by(after)
            after.name = before.name
        for kernel in reversed(chain.kernels):
            kernel.erase()
        return True


# -- chains -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """The only result of one kernel, which the next one alone reads. `pairs`: (dimension of the producer's map,
    dimension of the reader's map, coordinate of the value) that always agree; `inner`: the other coordinates whose
    extent is not 1."""

    value: Value
    pairs: tuple[tuple[str, str, int], ...]
    inner: tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """Kernels that run together. Each of `shared` is one outer dimension under the name that it has in each kernel;
    number `blocked` of them is taken in blocks."""

    kernels: tuple[KernelOp, ...]
    links: tuple[Link, ...]
    shared: tuple[tuple[str, ...], ...]
    blocked: int = 0

    @property
    def extent(self) -> Dim:
        """The extent of the blocked dimension."""
        return next(e for name, e in self.outer if name == self.shared[self.blocked][-1])

    @property
    def outer(self) -> list[tuple[str, Dim]]:
        """Names, in the last kernel, and extents of the outer dimensions, in the order of that kernel's map."""
        names = {t[-1] for t in self.shared}
        stage = top_map(self.kernels[-1])
        assert stage is not None
        return [(d.name, d.extent) for d in stage.dims if d.name in names]

    def inner(self, number: int) -> list[int]:
        """The coordinates of value number `number` that lie within one block, but for the blocked one."""
        link = self.links[number]
        names = {t[number] for t in self.shared}
        others = [k for p, _, k in link.pairs if p not in names]
        return sorted([*link.inner, *others])


def top_map(kernel: KernelOp) -> Map | None:
    """The one stage of a kernel, if it is a map; besides it there are only constants."""
    stages = [op for op in kernel.region if not isinstance(op, Const | Index | Scalar | Yield)]
    return stages[0] if len(stages) == 1 and isinstance(stages[0], Map) else None


def find_link(producer: KernelOp, consumer: KernelOp) -> Link | None:
    """How `consumer` reads the result of `producer`; None when it is not its only reader, or reads in other ways than
    plainly."""
    if len(producer.results) != 1 or any(user is not consumer for user in producer.result.users):
        return None
    first, second = top_map(producer), top_map(consumer)
    write = single_write(producer.outputs[0])
    if first is None or second is None or write is None:
        return None
    buffers = [b for arg, b in zip(consumer.args, consumer.buffers, strict=True) if arg is producer.result]
    reads = [r for b in buffers for r in accesses(b)[0]]
    if not reads or any(r.indices or r.fill is not None for r in reads):
        return None
    if any(len(accesses(b)[0]) != len(b.uses) for b in buffers):
        return None
    shape = producer.outputs[0].tensor.dims
    pairs = _pairs(first, second, write, reads)
    paired = {k for _, _, k in pairs}
    return Link(producer.result, tuple(pairs), tuple(k for k, n in enumerate(shape) if n != 1 and k not in paired))


def _pairs(first: Map, second: Map, write: Write, reads: Sequence[Read]) -> list[tuple[str, str, int]]:
    """Dimensions of two maps that agree at one coordinate each of the value between, and occur at no other."""
    mine = {d.name: d.extent for d in first.dims if d.extent != 1}
    other = {d.name: d.extent for d in second.dims if d.extent != 1}
    pairs: list[tuple[str, str, int]] = []
    for k, e in enumerate(write.map):
        name, seen = e.symbol or "", {r.map[k].symbol or "" for r in reads}
        elsewhere = any(name in x.symbols() for j, x in enumerate(write.map) if j != k)
        if name in mine and not elsewhere and len(seen) == 1 and other.get(min(seen)) == mine[name]:
            pairs.append((name, min(seen), k))
    doubled = {c for _, c, _ in pairs if sum(c == x for _, x, _ in pairs) > 1}
    return [p for p in pairs if p[1] not in doubled]


def find_chain(last: KernelOp) -> Chain | None:
    """The longest chain that ends in `last`, a contraction of computed operands; None when there is none, or no
    dimension to take in blocks."""
    if top_map(last) is None or not _computed(last):
        return None
    chain: Chain | None = None
    kernel = last
    while True:
        grown = next((g for p in _producers(kernel) if (g := _grow(chain, p, kernel)) is not None), None)
        if grown is None:
            return chain if chain is not None and _worthwhile(chain) else None
        chain, kernel = grown, grown.kernels[0]


def _worthwhile(chain: Chain) -> bool:
    """True when something other than pointwise kernels is before the last one."""
    return any(isinstance(op, Reduce) for kernel in chain.kernels[:-1] for op in kernel.region.walk())


def _producers(kernel: KernelOp) -> list[KernelOp]:
    return list(dict.fromkeys(v.op for v in kernel.args if isinstance(v.op, KernelOp) and v.op.parent is kernel.parent))


def _grow(chain: Chain | None, producer: KernelOp, first: KernelOp) -> Chain | None:
    """`chain`, whose first kernel is `first` (None: that alone), with `producer` before it."""
    link = find_link(producer, first)
    if link is None or is_movement(producer):
        return None
    if _contractions(producer) and not _computed(producer):
        return None
    if chain is None:
        shared = tuple((p, c) for p, c, _ in link.pairs)
        grown = Chain((producer, first), (link,), shared)
    else:
        before = {c: p for p, c, _ in link.pairs}
        if any(t[0] not in before for t in chain.shared):
            return None
        shared = tuple((before[t[0]], *t) for t in chain.shared)
        grown = Chain((producer, *chain.kernels), (link, *chain.links), shared)
    blocked = _blocked(grown)
    return None if blocked is None else Chain(grown.kernels, grown.links, grown.shared, blocked)


def _blocked(chain: Chain) -> int | None:
    """The outer dimension that is a row of every contraction: the larger the block, the fewer the reads of the other
    operand."""
    rows = [{d.name for c in _contractions(k) for d in c.m} if _contractions(k) else None for k in chain.kernels]
    fit = [n for n, t in enumerate(chain.shared) if all(r is None or d in r for d, r in zip(t, rows, strict=True))]
    extents = dict(chain.outer)
    return max(fit, key=lambda n: estimate(extents[chain.shared[n][-1]]), default=None)


def _contractions(kernel: KernelOp) -> list[Contraction]:
    constants = [b for v, b in zip(kernel.args, kernel.buffers, strict=True) if isinstance(v.op, Constant)]
    return analyse(kernel, constants)


def _computed(kernel: KernelOp) -> bool:
    """True for one contraction whose operands are both computed."""
    found = _contractions(kernel)
    return len(found) == 1 and not found[0].a.constant and not found[0].b.constant


# -- blocks -------------------------------------------------------------------------------------------------------


def choose_rows(chain: Chain, limit: int) -> int | None:
    """Rows of a block: what divides the extent or else leaves the fullest last block. None when even a few rows need
    more than `limit` bytes."""
    per_row = 0.0
    for number, link in enumerate(chain.links):
        t = link.value.tensor
        per_row += math.prod(estimate(t.dims[k]) for k in chain.inner(number)) * DTYPES[t.dtype].bytes
    most, extent = limit / max(1.0, per_row), chain.extent
    fit = [n for n in _ROWS if n <= most]
    if not isinstance(extent, int):
        return fit[0] if fit else None
    if extent <= min(most, max(_ROWS)):
        return extent
    return max(fit, key=lambda n: ((extent % n or n) / n, n == _ROWS[0]), default=None)


# -- joining ------------------------------------------------------------------------------------------------------


def join(chain: Chain, rows: int) -> KernelOp:
    """The kernels of `chain` as one, in blocks of `rows`."""
    return _Joiner(chain, rows).kernel()


class _Joiner:
    def __init__(self, chain: Chain, rows: int) -> None:
        self.chain = chain
        self.rows = rows
        self.mapping: dict[Value, Value] = {}
        self.buffers: dict[Value, int] = {}  # buffers of the old kernels that become locals: number of the value
        between = [link.value for link in chain.links]
        inputs: dict[Value, list[Value]] = {}
        for number, kernel in enumerate(chain.kernels):
            for arg, buffer in zip(kernel.args, kernel.buffers, strict=True):
                if arg in between:
                    self.buffers[buffer] = between.index(arg)
                else:
                    inputs.setdefault(arg, []).append(buffer)
            if number < len(between):
                self.buffers[kernel.outputs[0]] = number
        self.args = list(inputs)
        self.region = Region([a.type for a in self.args], [f"i{n}" for n in range(len(self.args))])
        for param, old in zip(self.region.params, inputs.values(), strict=True):
            self.mapping.update(dict.fromkeys(old, param))
        for n, buffer in enumerate(chain.kernels[-1].outputs):
            self.mapping[buffer] = self.region.add_param(buffer.type, f"o{n}")
        self.names = {s for v in [*self.region.params, *between] for s in v.tensor.symbols} | reserved()

    def kernel(self) -> KernelOp:
        """The fused kernel."""
        for kernel in self.chain.kernels:
            for op in kernel.region:
                if not isinstance(op, Map | Yield):
                    self.region.append(op.clone(self.mapping))
        extent = as_expr(self.chain.extent)
        full, rest = as_dim(floordiv(extent, self.rows)), as_dim(mod(extent, self.rows))
        if full != 0:
            self.stage(const(0), full, self.rows)
        if rest != 0:
            self.stage(full * as_expr(self.rows), 1, rest)
        self.region.append(Yield(()))
        tidy_region(self.region)
        drop_unused(self.region, self.args)
        kernels = self.chain.kernels
        fused = KernelOp(tuple(self.args), self.region, label="+".join(k.label for k in kernels if k.label))
        fused.loc = "+".join(k.loc for k in kernels if k.loc)
        return fused

    def fresh(self, name: str) -> str:
        """A name for a dimension that is not taken."""
        found = next(c for n in itertools.count(1) if (c := name if n == 1 else f"{name}{n}") not in self.names)
        self.names.add(found)
        return found

    def stage(self, start: Expr, blocks: Dim, rows: Dim) -> None:
        """A map over `blocks` blocks of `rows`, the first one at `start`."""
        chain = self.chain
        rowed = chain.shared[chain.blocked][-1]
        block = sym(self.fresh(rowed + "b"))
        dims: list[LoopDim] = []
        places: dict[str, Expr] = {}
        for name, extent in chain.outer:
            if name != rowed:
                dims.append(LoopDim(self.fresh(name), extent))
                places[name] = sym(dims[-1].name)
        dims.append(LoopDim(str(block), blocks))
        mapping = dict(self.mapping)
        body = Region()
        for number in range(len(chain.links)):
            local = body.append(
                Local(types=[self.local_type(number, rows if isinstance(rows, int) else self.rows)])
            ).result
            mapping.update(dict.fromkeys([b for b, n in self.buffers.items() if n == number], local))
        for number in range(len(chain.kernels)):
            row = self.fresh("r")
            env = {t[number]: places[t[-1]] for t in chain.shared if t[-1] != rowed}
            env[chain.shared[chain.blocked][number]] = block * self.rows + sym(row) + start
            body.append(self.part(number, LoopDim(row, rows), env, mapping, dims))
        body.append(Yield(()))
        self.region.append(Map(tuple(dims), None, body))

    def local_type(self, number: int, rows: int) -> TensorType:
        """Type of the local buffer for value number `number`: rows, then what a row needs."""
        t = self.chain.links[number].value.tensor
        shape = (rows, *(t.dims[k] for k in self.chain.inner(number)))
        pad: tuple[tuple[int, int], ...] = ()
        row = math.prod(n for n in shape[1:] if isinstance(n, int)) * DTYPES[t.dtype].bytes
        if len(shape) > 1 and row % _ALIAS == 0:
            pad = (*((0, 0) for _ in shape[1:]), (0, 64 // DTYPES[t.dtype].bytes))
        return TensorType(t.dtype, shape, Layout((), (), pad))

    def part(
        self, number: int, row: LoopDim, env: dict[str, Expr], mapping: Mapping[Value, Value], outer: list[LoopDim]
    ) -> Map:
        """Kernel number `number` within a block: a map over its rows and what of its dimensions is not outside."""
        stage = top_map(self.chain.kernels[number])
        assert stage is not None
        dims = [row]
        for d in stage.dims:
            if d.name not in env and d.extent == 1:
                env[d.name] = const(0)
            elif d.name not in env:
                dims.append(LoopDim(self.fresh(d.name), d.extent))
                env[d.name] = sym(dims[-1].name)
        copy = Map(tuple(dims), None, stage.region.clone(dict(mapping)))
        for inner in copy.region.walk():
            if isinstance(inner, Stage):
                names = {d.name: self.fresh(d.name) for d in inner.dims}
                env.update({old: sym(new) for old, new in names.items()})
                inner.set_attribute(
                    "dims", tuple(LoopDim(names[d.name], as_expr(d.extent).substitute(env)) for d in inner.dims)
                )
        for inner in copy.region.walk():
            substitute(inner, env, {**ranges_of(outer), **ranges_of(enclosing(inner))})
            self.place(inner, row.name, mapping)
        return copy

    def place(self, op: Op, row: str, mapping: Mapping[Value, Value]) -> None:
        """Accesses of values between kernels go to the local: along the row, then the inner coordinates."""
        if not isinstance(op, Read | Write):
            return
        number = next((n for b, n in self.buffers.items() if mapping[b] is op.buffer), None)
        if number is not None:
            op.set_attribute("map", (sym(row), *(op.map[k] for k in self.chain.inner(number))))
