"""The rules of the kernel form, beyond what every operation checks of itself.

- Names of dimensions are unique in a kernel and are no shape symbols; expressions use only names in scope.
- Reads without `fill` lie inside their buffer; so do writes without `mask`, for which the padding of the layout counts
  as inside. Coordinates that depend on data are checked when the kernel runs.
- Only outputs and locals are written; points of a parallel dimension do not write the same element without `combine`.
- Every element of an output is written, where that can be decided.

Bounds over numbers are exact: by intervals, and where those are too coarse by trying all points of small domains.
Bounds over shape symbols are proved by intervals, else tried for several values of each symbol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ..core import Op, Region, Value
from ..errors import VerifyError
from ..expr import Dim, Expr, as_expr
from ..types import TensorType
from .bounds import Box, Domain, cover, outside
from .form import Index, Local, Map, Read, Reduce, Scan, Stage, Write


class KernelError(VerifyError):
    """A rule of the kernel form is broken by the operation `at` (None: by the kernel as a whole)."""

    def __init__(self, message: str, at: Op | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def verify_kernel(params: Sequence[Value], outputs: int, body: Region, symbols: frozenset[str] = frozenset()) -> None:
    """Check the region `body` of a kernel whose buffers are `params`, the last `outputs` of them outputs. `symbols`
    are the shape symbols that it may use besides those in its buffers' types. Raises `KernelError`."""
    for p in params:
        if not isinstance(p.type, TensorType) or p.type.shape is None:
            raise KernelError(f"expected a buffer of known rank as parameter of a kernel, got {p.type}")
        symbols |= p.type.symbols
    checker = _Checker(symbols)
    split = len(params) - outputs
    checker.inputs = set(params[:split])
    for p in params[split:]:
        checker.written[p] = []
    checker.region(body, Domain())
    for p in params[split:]:
        checker.covered(p)


class _Checker:
    def __init__(self, symbols: frozenset[str]) -> None:
        self.symbols = symbols
        self.inputs: set[Value] = set()
        self.written: dict[Value, list[Box | None]] = {}  # None: a write whose extent is not decided
        self.names: set[str] = set()
        self.depth: dict[Value, int] = {}  # locals: number of dimensions around them

    def region(self, region: Region, domain: Domain) -> None:
        for op in region:
            match op:
                case Stage():
                    self.stage(op, domain)
                case Read():
                    self.access(op, op.buffer, op.map, len(op.indices), domain, op.fill is not None, write=False)
                case Write():
                    self.write(op, domain)
                case Index():
                    self.scope(op, [op.expr], domain)
                case Local():
                    self.depth[op.result] = len(domain.dims)
                case _:
                    for inner in op.regions:
                        self.region(inner, domain)

    def stage(self, op: Stage, domain: Domain) -> None:
        for dim in op.dims:
            if dim.name in self.symbols:
                raise KernelError(f"expected a dimension name that is no shape symbol, got '{dim.name}'", op)
            if dim.name in self.names:
                raise KernelError(f"expected dimension names that are unique in the kernel, got '{dim.name}' twice", op)
            self.scope(op, [dim.extent], domain)
            self.names.add(dim.name)
            domain = domain.inside(dim, parallel=isinstance(op, Map))
        self.schedule(op)
        self.region(op.body, domain)
        if isinstance(op, Reduce):
            for inner in op.combine.walk():
                if isinstance(inner, Stage | Read | Write | Local):
                    raise KernelError("expected only scalar operations in combine", inner)

    def schedule(self, op: Stage) -> None:
        s = op.schedule
        if s is None:
            return
        names = [d.name for d in op.dims]
        if {name for name, _ in s.loops} != set(names):
            raise KernelError(f"expected loops over {', '.join(names)}, got {', '.join(n for n, _ in s.loops)}", op)
        for name in names:
            steps = [step for loop, step in s.loops if loop == name]
            if any(b >= a for a, b in pairwise(steps)) or steps[-1] < 1:
                raise KernelError(f"expected decreasing positive steps of '{name}', got {steps}", op)
        if s.vector and s.vector not in names:
            raise KernelError(f"expected a vector dimension of the stage, got '{s.vector}'", op)
        if not 0 <= s.parallel <= len(s.loops) or (s.parallel and isinstance(op, Scan)):
            raise KernelError(
                f"expected at most {len(s.loops)} parallel loops of a map or reduce, got {s.parallel}", op
            )

    def scope(self, op: Op, exprs: Iterable[Dim], domain: Domain, indices: int = 0) -> None:
        allowed = self.symbols | domain.names
        for e in exprs:
            for name in as_expr(e).symbols():
                # Symbols that the run binds need not occur in a buffer's type: the start of a slice, for example.
                if (
                    name in allowed
                    or name.startswith("?")
                    or (name.startswith("$") and name[1:].isdigit() and int(name[1:]) < indices)
                ):
                    continue
                raise KernelError(f"expected names in scope in '{e}', got '{name}'", op)

    def access(
        self, op: Op, buffer: Value, map: Sequence[Expr], indices: int, domain: Domain, guarded: bool, *, write: bool
    ) -> None:
        self.scope(op, map, domain, indices)
        if guarded:
            return
        t = buffer.tensor
        for d, (e, extent) in enumerate(zip(map, t.dims, strict=True)):
            if any(s.startswith("$") for s in as_expr(e).symbols()):
                continue
            before, after = t.layout.padding(d) if write else (0, 0)
            found = outside(as_expr(e), -before, extent + (after - 1), domain)
            if found is not None:
                fix = "give the write a mask" if write else "give the read a fill"
                last = extent + (after - 1)
                raise KernelError(f"expected coordinate {d} in {-before} .. {last} of {t}, got {found} ({fix})", op)

    def write(self, op: Write, domain: Domain) -> None:
        if op.buffer in self.inputs:
            raise KernelError("expected an output or a local to write, got an input", op)
        self.access(op, op.buffer, op.map, len(op.indices), domain, op.mask is not None, write=True)
        exact = op.mask is None and not op.indices
        if exact and not op.combine:
            self.collision(op, domain)
        if op.buffer in self.written:
            self.written[op.buffer].append(cover(op.map, domain) if exact else None)

    def collision(self, op: Write, domain: Domain) -> None:
        used = frozenset[str]().union(*(as_expr(e).symbols() for e in op.map))
        for dim in domain.dims[self.depth.get(op.buffer, 0) :]:
            if dim.name in domain.parallel and dim.name not in used and dim.extent != 1:
                raise KernelError(
                    f"expected every parallel dimension in the map of a write, got none of '{dim.name}': "
                    "its points write the same element (say how they combine)",
                    op,
                )

    def covered(self, output: Value) -> None:
        boxes = self.written[output]
        if not boxes:
            raise KernelError(f"expected every output to be written, got no write of %{output.name}")
        known = [b for b in boxes if b is not None]
        if len(known) < len(boxes) or Box.union_covers(known, output.tensor.dims) is not False:
            return
        raise KernelError(f"expected all of output %{output.name}: {output.type} to be written, got writes of a part")
