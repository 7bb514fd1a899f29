"""A kernel as LLVM IR: one function per top-level stage, of the form `planish_task` (runtime/native/planish_abi.h).

`emit_kernel` is total: any kernel, with any legal schedule or none, becomes right code. The leading parallel loops of a
top-level map are collapsed into one range, of which a call works on [begin, end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...ir.core import Op, Region, Value
from ...ir.errors import PlanishError
from ...ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, const, floordiv, mod, product, symbol_range
from ...ir.kernel.form import Const, Index, Kernel, Local, Map, Scalar, Schedule, Stage
from ...ir.target_info import TargetInfo
from ...ir.types import TensorType
from .access import Buffer
from .address import Expressions
from .body import Bodies, Frame
from .builder import I32, I64, PTR, Builder, V, function
from .objects import base_cpu
from .stages import Leaf, Nest, Sizes, Stages
from .tile import Context, Deps, dependencies, outer_uses

STACK_BYTES = 32 * 1024  # nested locals up to this size live on the stack, others on the worker's scratch
_SCRATCH, _SCRATCH_STRIDE = 40, 48  # offsets in planish_env


@dataclass(frozen=True)
class StageCode:
    """One function: to be run over [0, count), in parts of at least `grain`; `scratch_bytes` per worker."""

    symbol: str
    count: Dim
    grain: int
    scratch_bytes: Dim


@dataclass(frozen=True)
class KernelCode:
    """LLVM IR of a kernel. Its buffers are the kernel's parameters, then `locals`."""

    text: str
    stages: tuple[StageCode, ...]
    locals: tuple[TensorType, ...]


def emit_kernel(
    kernel: Kernel,
    target: TargetInfo,
    symbol: str,
    *,
    noalias: Sequence[bool] | None = None,
    program_symbols: Sequence[str] = (),
) -> KernelCode:
    """LLVM IR of `kernel`: functions `<symbol>_0`, `<symbol>_1`, ... for its stages. `noalias[i]` says that buffer i
    overlaps no other. `program_symbols` are the names behind the functions' `symbols` argument; after their values
    comes the number of the node that runs, which is reported when an index is out of range. Raises `PlanishError` for
    a shape symbol that is not among them."""
    tops = [op for op in kernel.body if isinstance(op, Local)]
    buffers = [*kernel.params, *(op.result for op in tops)]
    flags = list(noalias) if noalias is not None else [False] * len(kernel.params)
    flags += [True] * (len(buffers) - len(flags))
    deps = dependencies(kernel.body)
    declarations: dict[str, str] = {}
    functions: list[str] = []
    stages: list[StageCode] = []
    for number, ops in enumerate(_split(kernel.body)):
        emitter = _StageFunction(kernel, ops, buffers, target, deps, tuple(program_symbols), declarations)
        text, stage = emitter.emit(f"{symbol}_{number}", flags)
        functions.append(text)
        stages.append(stage)
    head = [f'source_filename = "{symbol}"', f'target triple = "{target.triple}"', ""]
    head.append("@zeros = private unnamed_addr constant [128 x i8] zeroinitializer, align 64")
    tail = [declarations[name] for name in sorted(declarations)]
    tail.append(
        f'attributes #0 = {{ nounwind "target-cpu"="{base_cpu(target)}" "tune-cpu"="{target.cpu}" '
        f'"target-features"="{",".join(target.features)}" '
        f'"prefer-vector-width"="512" "min-legal-vector-width"="512" "no-builtins" }}'
    )
    tail.append('!0 = distinct !{!0, !2, !3}\n!1 = !{!"branch_weights", i32 1, i32 100000}')
    tail.append("!4 = !{}")
    tail.append('!2 = !{!"llvm.loop.unroll.disable"}\n!3 = !{!"llvm.loop.vectorize.enable", i1 false}')
    text = "\n".join([*head, "", "\n\n".join(functions), "", *tail, ""])
    return KernelCode(text, tuple(stages), tuple(op.result.tensor for op in tops))


def _expressions(op: Op) -> list[Expr]:
    """The expressions in the attributes of an operation."""
    found: list[Expr] = []
    for value in op.attributes.values():
        if isinstance(value, Expr):
            found.append(value)
        elif isinstance(value, tuple):
            found += [e for e in cast("tuple[Any, ...]", value) if isinstance(e, Expr)]
    return found


def _split(region: Region) -> list[list[Op]]:
    """The operations of each stage function. Normally one stage each; when scalars computed by one top-level
    operation are used by another, everything becomes one function."""
    ops = [op for op in region if not (isinstance(op, Local) or op.terminator)]
    heavy = [op for op in ops if not isinstance(op, Const | Index | Scalar)]
    alone = all(isinstance(op, Stage) and not any(r.uses for r in op.results) for op in heavy)
    return [[op] for op in heavy] if alone else [ops]


class _StageFunction:
    """Emits one function."""

    def __init__(
        self,
        kernel: Kernel,
        ops: list[Op],
        buffers: list[Value],
        target: TargetInfo,
        deps: Deps,
        symbols: tuple[str, ...],
        declarations: dict[str, str],
    ) -> None:
        self.kernel, self.ops = kernel, ops
        self.b = Builder(declarations)
        self.exprs = Expressions(self.b)
        self.bodies = Bodies(self.b, target, self.exprs, deps, len(symbols))
        self.bodies.allocate = self.allocate
        self.stages = Stages(self.bodies)
        self.stack = 0
        self.scratch: Expr = const(0)
        self._memory: dict[Value, V] = {}
        self._offsets: dict[Value, Expr] = {}
        for n, value in enumerate(buffers):
            self.bodies.buffers[value] = Buffer(V(PTR, f"%buf{n}"), value.tensor)
        self._symbols(buffers, symbols)

    def _symbols(self, buffers: list[Value], names: tuple[str, ...]) -> None:
        used: set[str] = set()
        for value in buffers:
            used |= value.tensor.symbols
        for op in self.kernel.walk():
            if isinstance(op, Stage):
                for d in op.dims:
                    used |= as_expr(d.extent).symbols()
            if isinstance(op, Local):
                used |= op.result.tensor.symbols
            for e in _expressions(op):  # numbers from data may be in maps alone
                used |= e.symbols() & set(names)
        declared = {d.name for op in self.kernel.walk() if isinstance(op, Stage) for d in op.dims}
        for name in sorted(used - declared):
            if name not in names:
                raise PlanishError(
                    f"kernel @{self.kernel.name}: shape symbol {name} is not one of the program's: {list(names)}"
                )
            at = self.b.address(V(PTR, "%symbols"), "i64", names.index(name))
            self.exprs.bind(name, self.b.load(I64, at, 8, ", !invariant.load !4"), symbol_range(name))

    # -- memory of nested locals --------------------------------------------------------------------------------

    def allocate(self, op: Local, copies: int) -> V:
        """Memory for `copies` buffers of a nested local: the first emission of it is the largest."""
        if op.result in self._memory:
            return self._memory[op.result]
        size = as_expr(op.result.tensor.storage_bytes) * copies
        fixed = size.constant
        if op.result not in self._offsets and fixed is not None and self.stack + fixed <= STACK_BYTES:
            self.stack += fixed
            self._memory[op.result] = self.b.alloca(fixed)
            return self._memory[op.result]
        if op.result not in self._offsets:
            self._offsets[op.result] = self.scratch
            self.scratch = self.scratch + floordiv(size + 63, 64) * 64
        return self.b.address(V(PTR, "%scratch"), "i8", self.exprs.value(self._offsets[op.result]))

    # -- the function -------------------------------------------------------------------------------------------

    def emit(self, name: str, noalias: list[bool]) -> tuple[str, StageCode]:
        """The text of the function and what its callers need to know."""
        count: Dim = 1
        grain = 1
        frame = Frame(self.kernel.body, Context())
        self.bodies.frames[self.kernel.body] = frame
        only = self.ops[0] if len(self.ops) == 1 else None
        if isinstance(only, Map):
            count, grain = self._map(only, frame)
        else:
            self._serial(frame)
        self.b.do("ret i32 0")
        inner = [f"ptr {'noalias ' if flag else ''}%buf{n}" for n, flag in enumerate(noalias)]
        header = f"define internal i32 @{name}_body(ptr %env, ptr %symbols, ptr %scratch, i64 %begin, i64 %end"
        text = function(f"{header}{''.join(', ' + p for p in inner)}) noinline #0", self.b)
        stage = StageCode(name, count, grain, as_dim(self.scratch))
        return text + "\n\n" + self._entry(name, len(noalias)), stage

    def _entry(self, name: str, buffers: int) -> str:
        b = Builder(self.b.declarations)
        # A stage that is one iteration would run even for an empty range.
        some, none = b.new_block("some"), b.new_block("none")
        b.branch_if(b.compare("slt", V(I64, "%begin"), V(I64, "%end")), some, none)
        b.start(none)
        b.do("ret i32 0")
        b.start(some)
        args = [V(PTR, "%env"), V(PTR, "%symbols")]
        scratch = V(PTR, "null")
        if self.scratch != const(0):
            env = V(PTR, "%env")
            base = b.load(PTR, b.address(env, "i8", _SCRATCH), 8)
            stride = b.load(I64, b.address(env, "i8", _SCRATCH_STRIDE), 8)
            worker = b.convert("sext", V(I32, "%worker"), "i64")
            scratch = b.address(base, "i8", b.op("mul", stride, worker))
        args += [scratch, V(I64, "%begin"), V(I64, "%end")]
        args += [b.load(PTR, b.address(V(PTR, "%buffers"), "ptr", n), 8) for n in range(buffers)]
        status = b.emit(I32, f"tail call i32 @{name}_body({', '.join(map(str, args))})")
        b.do(f"ret {status}")
        header = f"define i32 @{name}(ptr %env, ptr %buffers, ptr %symbols, i64 %begin, i64 %end, i32 %worker) #0"
        return function(header, b)

    def _serial(self, frame: Frame) -> None:
        if len(self.ops) == 1:
            stage = self.ops[0]
            assert isinstance(stage, Stage)
            self._force_outer(stage)
            self.stages.emit(stage, frame)
            return
        self.bodies.run(
            Frame(self.kernel.body, Context(), skip=frozenset(op for op in self.kernel.body if isinstance(op, Local)))
        )

    def _force_outer(self, stage: Stage) -> None:
        for value in outer_uses(stage):
            self.bodies.force(value)

    # -- parallel maps ------------------------------------------------------------------------------------------

    def _map(self, stage: Map, frame: Frame) -> tuple[Dim, int]:
        self._force_outer(stage)
        nest = self.stages.nest(stage, frame.ctx)
        schedule = stage.schedule or Schedule()
        wanted, seen = schedule.parallel, list[str]()
        for dim, _ in nest.loops[:wanted]:
            if dim in seen:
                break
            seen.append(dim)
        leaf = self.stages.map_leaf(stage)
        if not seen or any(nest.extents[d] == 0 for d in seen):
            self.stages.run(nest, 0, frame.ctx, nest.extents, [], leaf)
            return 1, 1
        counts = [as_dim(ceildiv(as_expr(nest.extents[d]), nest.loops[n][1])) for n, d in enumerate(seen)]
        self._parallel(nest, counts, leaf)
        return product(counts), max(1, schedule.grain)

    def _parallel(self, nest: Nest, counts: list[Dim], leaf: Leaf) -> None:
        """Walk [begin, end): decode the outer indices, then run as much of the innermost parallel loop as is left."""
        b, exprs = self.b, self.exprs
        head, body, leave = (b.new_block(n) for n in ("range", "part", "end"))
        before = b.block
        b.branch(head)
        b.start(head)
        at = len(b.lines)
        iv = b.emit(I64, "phi")
        b.branch_if(b.compare("slt", iv, V(I64, "%end")), body, leave)
        b.start(body)
        with exprs.scope():
            whole = exprs.fresh("P", iv, (0, None))
            indices: list[Expr] = []
            for n in reversed(counts):
                index = exprs.value(mod(whole, n) if len(indices) + 1 < len(counts) else whole)
                indices.insert(0, exprs.fresh("P", index, (0, n - 1 if isinstance(n, int) else None)))
                whole = floordiv(whole, n)
            first = exprs.value(indices[-1])
            left = exprs.value(indices[-1]), b.op("sub", V(I64, "%end"), iv)
            stop = b.intrinsic("smin", exprs.value(as_expr(counts[-1])), b.op("add", *left))
            self._outer(nest, 0, indices, {}, dict(nest.extents), (first, stop), leaf)
            step = b.op("sub", stop, first)
            following = b.op("add", iv, step)
        b.lines[at] = f"  {iv.text} = phi i64 [ %begin, %{before} ], [ {following.text}, %{b.block} ]"
        b.branch(head)
        b.start(leave)

    def _outer(
        self,
        nest: Nest,
        level: int,
        indices: list[Expr],
        coords: dict[str, Expr],
        sizes: Sizes,
        part: tuple[V, V],
        leaf: Leaf,
    ) -> None:
        """Parallel loop `level`: full steps and the remainder have code of their own."""
        dim, step = nest.loops[level]
        size = as_expr(nest.extents[dim])
        full = as_dim(floordiv(size, step))
        if level == len(indices) - 1:
            self._innermost(nest, level, full, Context(coords), sizes, part, leaf)
            return

        def version(extent: Dim) -> None:
            inner = {**coords, dim: indices[level] * step}
            self._outer(nest, level + 1, indices, inner, {**sizes, dim: extent}, part, leaf)

        rest = as_dim(size - as_expr(full) * step)
        if rest == 0 or full == 0:
            version(step if rest == 0 else rest)
            return
        is_full = self.b.compare("slt", self.exprs.value(indices[level]), self.exprs.value(as_expr(full)))
        other, after = self.b.new_block("rest"), self.b.new_block("after")
        yes = self.b.new_block("full")
        self.b.branch_if(is_full, yes, other)
        for label, extent in ((yes, step), (other, rest)):
            self.b.start(label)
            with self.exprs.scope():
                version(extent) if isinstance(extent, int) else self._symbolic(
                    nest, level, indices, coords, sizes, part, leaf
                )
            self.b.branch(after)
        self.b.start(after)

    def _symbolic(
        self,
        nest: Nest,
        level: int,
        indices: list[Expr],
        coords: dict[str, Expr],
        sizes: Sizes,
        part: tuple[V, V],
        leaf: Leaf,
    ) -> None:
        """The remainder of a symbolic extent of an outer parallel loop."""
        dim, _ = nest.loops[level]

        def inner(at: Expr, extent: Dim, carried: list[V]) -> list[V]:
            self._outer(nest, level + 1, indices, {**coords, dim: at}, {**sizes, dim: extent}, part, leaf)
            return carried

        self.stages.rest(nest, level, as_expr(nest.extents[dim]), const(0), inner, [])

    def _innermost(
        self, nest: Nest, level: int, full: Dim, ctx: Context, sizes: Sizes, part: tuple[V, V], leaf: Leaf
    ) -> None:
        dim, step = nest.loops[level]
        size = as_expr(nest.extents[dim])
        first, stop = part

        def inner(at: Expr, extent: Dim, carried: list[V]) -> list[V]:
            return self.stages.run(nest, level + 1, ctx.moved({dim: at}), {**sizes, dim: extent}, carried, leaf)

        if full != 0:
            end = self.b.intrinsic("smin", stop, self.exprs.value(as_expr(full)))
            self.stages.count(full, [], lambda i, c: inner(i * step, step, c), first, end)
        rest = as_dim(size - as_expr(full) * step)
        if rest == 0:
            return
        after = self.b.compare("sgt", stop, self.exprs.value(as_expr(full)))

        def remainder() -> None:
            if isinstance(rest, int):
                inner(as_expr(full) * step, rest, [])
            else:
                self.stages.rest(nest, level, size, const(0), inner, [])

        with self.exprs.scope():
            self.b.when(after, remainder)


__all__ = ["KernelCode", "StageCode", "emit_kernel"]
