"""Recognises contractions: reductions that add up products of two operands.

`analyse(kernel)` gives one `Contraction` for each such reduction, whatever operator it came from. With the dimensions
in scope (those of the stages around it, and its own) it says which are

- `k`: the reduction's own dimensions (and those of reductions around it);
- `m`: parallel ones that only operand `a` depends on (rows: images, positions);
- `n`: parallel ones that only operand `b` depends on (columns: output channels);
- `batch`: parallel ones that both depend on (batch of a matrix product, groups, channels of a depthwise one);
- `free`: parallel ones that neither depends on (the product is the same along them).

Matrix product C[m,n] = A[m,k] B[k,n]: m=(m), n=(n), k=(k). Convolution: m=(image, oh, ow), n=(o), k=(c, i, j),
grouped: batch=(g); depthwise: batch=(c), n=(). A matrix-vector product has m=() or n=().

`a` and `b` are the two factors as they are multiplied: `operand.reads` are the reads they are made of (more than one
when a prologue is fused into the factor: casts, zero points, scales, activations); `operand.main` is the one with most
dimensions; `operand.constant` says whether all its buffers are in `constants`. If exactly one factor is constant, it is
`b`; else, `b` is the one whose `n` dimension is adjacent in memory, if only one is; else the second factor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...ir.core import Function, Op, Region, Value
from ...ir.kernel.form import KernelOp, LoopDim, Map, Read, Reduce, Scalar, Scan
from .access import adjacent, stages_around, stride


@dataclass(frozen=True, eq=False)
class Operand:
    """One factor of a contraction. `value` is the scalar that is multiplied, `reads` the reads it is computed from."""

    value: Value
    reads: tuple[Read, ...]
    dims: frozenset[str]
    constant: bool

    @property
    def main(self) -> Read:
        """The read that depends on most dimensions (the first of them)."""
        return max(self.reads, key=lambda r: len(_symbols(r)))

    @property
    def direct(self) -> bool:
        """True when the factor is exactly what is read (no prologue)."""
        return len(self.reads) == 1 and self.value is self.reads[0].result


@dataclass(frozen=True, eq=False)
class Contraction:
    """A sum of products; see the module's docstring. `reduce` is the operation, `accumulator` the number of its
    accumulator that the products go to."""

    reduce: Reduce
    accumulator: int
    a: Operand
    b: Operand
    batch: tuple[LoopDim, ...]
    m: tuple[LoopDim, ...]
    n: tuple[LoopDim, ...]
    k: tuple[LoopDim, ...]
    free: tuple[LoopDim, ...]

    @property
    def windowed(self) -> bool:
        """True for convolutions: a coordinate of one operand mixes parallel and reduction dimensions."""
        inner = {d.name for d in self.k}
        return any(c.symbols() & inner and c.symbols() - inner for r in (*self.a.reads, *self.b.reads) for c in r.map)


def analyse(kernel: Function | KernelOp | Region, constants: Collection[Value] = ()) -> list[Contraction]:
    """The contractions of a kernel, in order. `constants` are those of its parameters that are known to be weights."""
    region = kernel.body if isinstance(kernel, Function) else kernel.region if isinstance(kernel, KernelOp) else kernel
    found: list[Contraction] = []
    for op in region.walk():
        if isinstance(op, Reduce):
            for i in range(len(op.inits)):
                contraction = recognise(op, i, constants)
                if contraction is not None:
                    found.append(contraction)
    return found


def recognise(op: Reduce, accumulator: int = 0, constants: Collection[Value] = ()) -> Contraction | None:
    """Accumulator number `accumulator` of `op` as a contraction, or None when it is none."""
    if not _adds(op, accumulator):
        return None
    product = _through_casts(op.region.terminator.inputs[accumulator])
    if not (isinstance(product, Scalar) and product.fn == "mul"):
        return None
    first, second = (_operand(v, constants) for v in product.args)
    if first is None or second is None:
        return None
    parallel, inner = _dims(op)
    if not (first.dims & inner.keys() and second.dims & inner.keys()):
        return None  # a scaled sum: one factor does not take part in the reduction
    a, b = _roles(first, second, list(parallel.values()))
    pick = [(d.name in a.dims, d.name in b.dims, d) for d in parallel.values()]
    return Contraction(
        op,
        accumulator,
        a,
        b,
        batch=tuple(d for x, y, d in pick if x and y),
        m=tuple(d for x, y, d in pick if x and not y),
        n=tuple(d for x, y, d in pick if y and not x),
        k=tuple(inner.values()),
        free=tuple(d for x, y, d in pick if not x and not y),
    )


def _adds(op: Reduce, i: int) -> bool:
    """True when accumulator i is folded by addition alone."""
    merged = op.combine.terminator.inputs[i].op
    count = len(op.inits)
    wanted = {op.combine.params[i], op.combine.params[count + i]}
    return isinstance(merged, Scalar) and merged.fn == "add" and set(merged.args) == wanted


def _through_casts(value: Value) -> Op | None:
    op = value.op
    while isinstance(op, Scalar) and op.fn == "cast":
        op = op.args[0].op
    return op


def _dims(op: Reduce) -> tuple[dict[str, LoopDim], dict[str, LoopDim]]:
    """Dimensions of the stages around and of `op` itself by name: (parallel or sequential, reduced)."""
    parallel: dict[str, LoopDim] = {}
    inner: dict[str, LoopDim] = {}
    for stage in [*stages_around(op), op]:
        target = parallel if isinstance(stage, Map | Scan) else inner
        target.update({d.name: d for d in stage.dims})
    return parallel, inner


def _operand(value: Value, constants: Collection[Value]) -> Operand | None:
    reads: dict[Read, None] = {}
    if not _collect(value, reads) or not reads:
        return None
    dims = frozenset[str]().union(*(_symbols(r) for r in reads))
    # A factor that takes a computed value (a result of another stage) is not constant, whatever it reads besides.
    return Operand(value, tuple(reads), dims, all(r.buffer in constants for r in reads))


def _collect(value: Value, reads: dict[Read, None]) -> bool:
    """Gather the reads that `value` is computed from; False when something else (an index, a stage) takes part."""
    op = value.op
    if isinstance(op, Read):
        reads[op] = None
        return True
    if isinstance(op, Scalar):
        return all(_collect(arg, reads) for arg in op.args)
    return op is not None and op.op_name == "k.const"


def _symbols(read: Read) -> frozenset[str]:
    return frozenset[str]().union(*(c.symbols() for c in read.map))


def _roles(first: Operand, second: Operand, parallel: Sequence[LoopDim]) -> tuple[Operand, Operand]:
    """(a, b): see the module's docstring."""
    if first.constant != second.constant:
        return (second, first) if first.constant else (first, second)

    def vector(x: Operand, other: Operand) -> bool:
        own = [d.name for d in parallel if d.name in x.dims and d.name not in other.dims]
        return any(stride(x.main, d) == 1 or adjacent(x.main, d) > 1 for d in own)

    if vector(first, second) and not vector(second, first):
        return second, first
    return first, second
