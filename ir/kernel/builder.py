"""Writes kernels in Python: `with k.map(n=N, o=O) as (n, o): ...`. Used by operations, passes and tests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from ..core import Region, Value, Yield
from ..errors import VerifyError
from ..expr import Dim, Expr, as_expr, sym
from ..scalar import ScalarBuilder
from ..types import ScalarType, TensorType
from .form import Const, Index, Kernel, KernelOp, Local, LoopDim, Map, Op, Read, Reduce, Scalar, Scan, Schedule, Write

Combine = Literal["add", "mul", "max", "min", "and", "or"]
CombineFn = Callable[["KernelBuilder", Sequence[Value], Sequence[Value]], Sequence[Value]]


_RESERVED: ContextVar[frozenset[str]] = ContextVar("reserved", default=frozenset())


@contextmanager
def reserved_names(names: frozenset[str]) -> Generator[None]:
    """Inside the block dimensions of new kernels have none of these names: they are shape symbols of the module, of
    which a kernel's own buffers need not have all."""
    token = _RESERVED.set(_RESERVED.get() | names)
    try:
        yield
    finally:
        _RESERVED.reset(token)


def reserved() -> frozenset[str]:
    """The names that `reserved_names` keeps."""
    return _RESERVED.get()


class StageHandle:
    """What a `with k.reduce(...)` or `with k.scan(...)` block gives: the dimensions, the carried values (scan), and,
    after the block, the results."""

    def __init__(self, dims: tuple[Expr, ...], carried: tuple[Value, ...] = ()) -> None:
        self.dims = dims
        self.carried = carried
        self.yielded: tuple[Value, ...] | None = None
        self.results: tuple[Value, ...] = ()

    def yield_(self, *values: Value) -> None:
        """Say what the block yields; exactly once, at its end."""
        self.yielded = values

    @property
    def result(self) -> Value:
        """The only result, once the block has ended."""
        (value,) = self.results
        return value


class KernelBuilder(ScalarBuilder[Value]):
    """Builds the region of one kernel. `inputs` and `outputs` are its buffers."""

    def __init__(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> None:
        self.region = Region(
            [*inputs, *outputs], [f"i{n}" for n in range(len(inputs))] + [f"o{n}" for n in range(len(outputs))]
        )
        self.inputs: list[Value] = self.region.params[: len(inputs)]
        self.outputs: list[Value] = self.region.params[len(inputs) :]
        self._at: Region = self.region
        self._used: set[str] = set(reserved())
        for p in self.region.params:
            self._used |= p.tensor.symbols

    def finish(self, args: Sequence[Value], label: str = "", loc: str = "") -> KernelOp:
        """The kernel applied to `args`."""
        self._at.append(Yield(()))
        return KernelOp(tuple(args), self.region, label=label, loc=loc)

    def outlined(self, name: str) -> Kernel:
        """The kernel as a function of its own."""
        self._at.append(Yield(()))
        return Kernel.of(name, self.region, len(self.outputs))

    # -- stages -------------------------------------------------------------------------------------------------

    @contextmanager
    def map(
        self, dims: Mapping[str, Dim] | None = None, *, schedule: Schedule | None = None, **named: Dim
    ) -> Generator[tuple[Expr, ...]]:
        """A parallel stage; gives the dimensions as expressions, in the order of the arguments."""
        loop, symbols = self._dims(dims, named)
        region = Region()
        with self._inside(region):
            yield symbols
            region.append(Yield(()))
        self._at.append(Map(loop, schedule, region))

    @contextmanager
    def reduce(
        self,
        dims: Mapping[str, Dim] | None = None,
        *,
        init: Sequence[Value],
        combine: Combine | CombineFn = "add",
        **named: Dim,
    ) -> Generator[StageHandle]:
        """A reduction; call `yield_` with one element per accumulator at the end of the block."""
        loop, symbols = self._dims(dims, named)
        handle = StageHandle(symbols)
        region = Region()
        with self._inside(region):
            yield handle
            self._close(region, handle)
        types = [v.type for v in init]
        fold = Region([*types, *types])
        with self._inside(fold):
            acc, element = fold.params[: len(types)], fold.params[len(types) :]
            if isinstance(combine, str):
                merged: Sequence[Value] = [self.apply(combine, a, e) for a, e in zip(acc, element, strict=True)]
            else:
                merged = combine(self, acc, element)
            fold.append(Yield(tuple(merged)))
        handle.results = self._at.append(Reduce(loop, None, tuple(init), region, fold)).results

    @contextmanager
    def scan(
        self, dims: Mapping[str, Dim] | None = None, *, init: Sequence[Value] = (), **named: Dim
    ) -> Generator[StageHandle]:
        """A sequential stage; `handle.carried` are the values of the previous point, `yield_` gives the next ones."""
        loop, symbols = self._dims(dims, named)
        region = Region([v.type for v in init])
        handle = StageHandle(symbols, tuple(region.params))
        with self._inside(region):
            yield handle
            handle.yielded = handle.yielded or ()
            self._close(region, handle)
        handle.results = self._at.append(Scan(loop, None, tuple(init), region)).results

    def _close(self, region: Region, handle: StageHandle) -> None:
        if handle.yielded is None:
            raise VerifyError("a reduction's block must call yield_")
        region.append(Yield(handle.yielded))

    @contextmanager
    def _inside(self, region: Region) -> Generator[None]:
        outer, self._at = self._at, region
        yield
        self._at = outer

    def _dims(
        self, dims: Mapping[str, Dim] | None, named: Mapping[str, Dim]
    ) -> tuple[tuple[LoopDim, ...], tuple[Expr, ...]]:
        loop: list[LoopDim] = []
        for wish, extent in {**(dims or {}), **named}.items():
            name, n = wish, 1
            while name in self._used:
                n += 1
                name = f"{wish}{n}"
            self._used.add(name)
            loop.append(LoopDim(name, extent))
        return tuple(loop), tuple(sym(d.name) for d in loop)

    # -- bodies -------------------------------------------------------------------------------------------------

    def read(self, buffer: Value, *at: Dim | Value, fill: Value | None = None) -> Value:
        """The element at `at`; a `Value` among the coordinates is a data-dependent index (an integer scalar)."""
        coords, indices = _coordinates(at)
        return self._insert(Read(buffer, coords, indices, fill))

    def write(
        self, value: Value, buffer: Value, *at: Dim | Value, mask: Value | None = None, combine: str = ""
    ) -> None:
        """Store `value` at `at`."""
        coords, indices = _coordinates(at)
        self._at.append(Write(value, buffer, coords, indices, mask, combine))

    def local(self, dtype: str, *shape: Dim) -> Value:
        """A buffer that lives for one point of the enclosing stage."""
        return self._insert(Local(types=[TensorType(dtype, tuple(shape))]))

    def index(self, expr: Dim) -> Value:
        """A coordinate as an i64 value."""
        return self._insert(Index(as_expr(expr)))

    def const(self, value: float | int | bool, like: Value | str) -> Value:
        """A constant of an element type, or of the type of `like`."""
        if isinstance(like, Value):
            assert isinstance(like.type, ScalarType | TensorType)
            like = like.type.dtype
        return self._insert(Const(value, like))

    def apply(self, fn: str, *args: Value, dtype: str = "") -> Value:
        """A function of the scalar language."""
        return self._insert(Scalar(args, fn, dtype))

    def _insert(self, op: Op) -> Value:
        return self._at.append(op).result


def _coordinates(at: Sequence[Any]) -> tuple[tuple[Expr, ...], tuple[Value, ...]]:
    coords: list[Expr] = []
    indices: list[Value] = []
    for c in at:
        if isinstance(c, Value):
            coords.append(sym(f"${len(indices)}"))
            indices.append(c)
        else:
            coords.append(as_expr(c))
    return tuple(coords), tuple(indices)
