"""Operations of the kernel form.

A kernel's region has one parameter per buffer: the inputs, then the outputs. Its body is a sequence of *stages*
(`map`, `reduce`, `scan`), which nest. A stage declares named dimensions; their names are in scope in its body, as
symbols of the expressions in `map` attributes. Dimension names are unique within a kernel. Names that no stage
declares are shape symbols of the model.

- `k.map` runs its body for every point, in any order: its dimensions are *parallel*. It has no results; the body
  writes buffers.
- `k.reduce` yields one element tuple per point and folds them with `combine`, which must be associative and
  commutative, starting from `inits`.
- `k.scan` runs its body in order; the body's parameters are the carried values, it yields the next ones.
- `k.read`, `k.write`, `k.local`, `k.index`, `scalar.*` are what bodies are made of.

A `map` is a tuple of `Expr`, one per dimension of the buffer, over *logical* coordinates. The symbol `$i` in it is
index operand number i of the read or write: data-dependent indices are checked when the kernel runs.

Type checkers want fields with defaults last; here the order of the arguments comes first, hence the ignores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core import Function, Op, Region, Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim
from ..scalar import FUNCTIONS
from ..types import DTYPES, ScalarType, TensorType, Type


@dataclass(frozen=True)
class LoopDim:
    """A dimension of a stage: `name` runs over 0 .. extent-1."""

    name: str
    extent: Dim

    def __post_init__(self) -> None:
        object.__setattr__(self, "extent", as_dim(self.extent))

    def __str__(self) -> str:
        return f"{self.name}: {self.extent}"


@dataclass(frozen=True)
class Schedule:
    """How a stage is executed; never what it computes.

    `loops`: (dimension, step), outermost first. Every dimension of the stage occurs at least once; where one occurs
    several times its steps decrease (cache blocks outside, register tile inside). A dimension's last step is its
    register tile: the emitter unrolls it completely, keeping one register per point (a reduction's last step is its
    unroll factor). A last step of 1 is a plain loop.
    `vector`: the dimension that lies in vector lanes ("" for none); its last step is a multiple of the vector width.
    `parallel`: number of leading loops that are distributed over threads together; `grain`: least number of their
    iterations worth a thread.
    `ahead`: how many tiles of `vector` ahead the nested reductions fetch what they read along it (packed weights, which
    come from memory); the first tiles of rows share the fetching. 0: they fetch nothing.
    """

    loops: tuple[tuple[str, int], ...] = ()
    vector: str = ""
    parallel: int = 0
    grain: int = 1
    ahead: int = 0

    def step(self, dim: str) -> int:
        """The last (register) step of `dim`, 1 when it is not mentioned."""
        return next((step for name, step in reversed(self.loops) if name == dim), 1)


class Stage(Op):
    """Base of `map`, `reduce` and `scan`."""

    dims: tuple[LoopDim, ...]
    schedule: Schedule | None

    @property
    def body(self) -> Region:
        """The region that runs for every point."""
        return self.regions[0]


class Map(Stage, name="k.map"):
    """Runs `region` for every point of `dims`, in any order."""

    side_effects: ClassVar[bool] = True
    region: Region

    def infer(self) -> Sequence[Type]:
        return ()


class Reduce(Stage, name="k.reduce"):
    """Folds what `region` yields at every point of `dims`: acc = combine(acc, element), starting from `inits`.

    `combine` has twice as many parameters as there are accumulators: the accumulators, then the elements (of the
    same types); it also merges partial results, so it is associative and commutative, and `inits` is neutral.
    """

    inits: tuple[Value, ...]
    region: Region
    combine: Region

    def infer(self) -> Sequence[Type]:
        return [v.type for v in self.inits]

    def verify(self) -> None:
        n = len(self.inits)
        expect(
            len(self.combine.params) == 2 * n, f"expected {2 * n} parameters of combine, got {len(self.combine.params)}"
        )
        for region in (self.region, self.combine):
            got = [v.type for v in region.terminator.inputs]
            expect(got == [v.type for v in self.inits], f"expected to yield {_types(self.inits)}, got {_join(got)}")


class Scan(Stage, name="k.scan"):
    """Runs `region` for the points of `dims` in order (row-major); its parameters are the carried values, first
    `inits`, then what the previous point yielded. Results: the carried values after the last point."""

    side_effects: ClassVar[bool] = True
    inits: tuple[Value, ...]
    region: Region

    def infer(self) -> Sequence[Type]:
        return [v.type for v in self.inits]

    def verify(self) -> None:
        got = [v.type for v in self.region.terminator.inputs]
        expect(got == [v.type for v in self.inits], f"expected to yield {_types(self.inits)}, got {_join(got)}")


class Read(Op, name="k.read"):
    """One element of `buffer` at `map`. With `fill`, coordinates outside the buffer give `fill`; without it they must
    lie inside (proved for affine coordinates, checked at run time for `$i`)."""

    buffer: Value
    map: tuple[Expr, ...]
    indices: tuple[Value, ...] = ()
    fill: Value | None = None

    def infer(self) -> Sequence[Type]:
        return [_element(self.buffer, self.map, self.fill)]


class Write(Op, name="k.write"):
    """Stores `value` at `map` of `buffer`. With `mask` (a bool), only where it is true. `combine` names a scalar
    function (`add`, `max`, ...) that merges with what is there: then points may collide (scatter)."""

    side_effects: ClassVar[bool] = True
    value: Value
    buffer: Value
    map: tuple[Expr, ...]
    indices: tuple[Value, ...] = ()
    mask: Value | None = None
    combine: str = ""

    def infer(self) -> Sequence[Type]:
        _element(self.buffer, self.map, self.value)
        return ()


class Local(Op, name="k.local"):
    """A buffer that lives for one point of the enclosing stage (at the kernel's top level: for the kernel's run).
    Reads see what was written before in program order; its first content is undefined."""

    side_effects: ClassVar[bool] = False


class Index(Op, name="k.index"):
    """The value of `expr` as an i64, for bodies that compute with coordinates (arg-max, causal masks, rotary)."""

    expr: Expr

    def infer(self) -> Sequence[Type]:
        return [ScalarType("i64")]


class Const(Op, name="k.const"):
    """A scalar constant. `value` is an int, a bool or a float (inf and nan included)."""

    value: Any
    dtype: str

    def infer(self) -> Sequence[Type]:
        expect(self.dtype in DTYPES, f"expected an element type, got {self.dtype}")
        return [ScalarType(self.dtype)]


class Scalar(Op, name="scalar"):
    """One function of the scalar language; its text name is `scalar.<fn>`."""

    family: ClassVar[str] = "fn"
    args: tuple[Value, ...]
    fn: str
    dtype: str = ""  # for cast and bitcast

    def infer(self) -> Sequence[Type]:
        expect(self.fn in FUNCTIONS, f"expected a scalar function, got {self.fn}")
        fn = FUNCTIONS[self.fn]
        expect(len(self.args) == fn.arity, f"expected {fn.arity} arguments of {self.fn}, got {len(self.args)}")
        types = [a.type for a in self.args]
        if self.fn == "select":
            expect(types[0] == ScalarType("bool"), f"expected a bool condition, got {types[0]}")
            types = types[1:]
        expect(all(t == types[0] for t in types), f"expected arguments of one type, got {_join(types)}")
        last = types[-1]
        assert isinstance(last, ScalarType)
        expect(DTYPES[last.dtype].kind in fn.domain, f"{self.fn} takes {sorted(fn.domain)}, got {last}")
        if self.fn == "cast":
            known = self.dtype in DTYPES and DTYPES[self.dtype].kind in fn.domain
            expect(known, f"cast gives {sorted(fn.domain)}, got {self.dtype or 'no type'}")
        if self.fn == "bitcast":
            same = self.dtype in DTYPES and _width(self.dtype) == _width(last.dtype)
            expect(same, f"expected a type as wide as {last}, got {self.dtype}")
        return [ScalarType({"same": last.dtype, "bool": "bool", "cast": self.dtype}[fn.result])]


def _width(dtype: str) -> int:
    """Bits of an element in a kernel: a small float is its code in a byte."""
    return 8 if DTYPES[dtype].kind == "float8" else DTYPES[dtype].bits


class KernelOp(Op, name="kernel"):
    """A kernel applied to tensors, in the tensor form: value semantics outside, buffers inside.

    `region` has a parameter per operand (a buffer to read), then one per result (a buffer to write; every element is
    written). `label` is for people: which operators were fused. The result types are the types of the output
    buffers. Fusion joins these; lowering outlines them into `Kernel` functions.
    """

    isolated: ClassVar[bool] = True
    args: tuple[Value, ...]
    region: Region
    label: str = ""

    def infer(self) -> Sequence[Type]:
        return [p.type for p in self.outputs]

    @property
    def buffers(self) -> list[Value]:
        """The region's parameters that stand for the operands."""
        return self.region.params[: len(self.args)]

    @property
    def outputs(self) -> list[Value]:
        """The region's parameters that stand for the results."""
        return self.region.params[len(self.args) :]

    def verify(self) -> None:
        for arg, buffer in zip(self.args, self.buffers, strict=True):
            # A constant has no layout of its own: it is packed into the one that the buffer asks for.
            constant = arg.op is not None and arg.op.op_name == "constant"
            have = arg.tensor.with_layout(buffer.tensor.layout) if constant else arg.type
            expect(have == buffer.type, f"expected the buffer of %{arg.name} to be {arg.type}, got {buffer.type}")


class Kernel(Function):
    """An outlined kernel: parameters are the input buffers, then the output buffers (`outputs` of them)."""

    kind: ClassVar[str] = "kernel"

    @classmethod
    def of(cls, name: str, region: Region, outputs: int) -> Kernel:
        """The kernel with this region, whose last `outputs` parameters are its outputs."""
        kernel = cls(name, attributes={"outputs": outputs})
        kernel.body = region
        region.parent = kernel
        return kernel

    @property
    def outputs(self) -> int:
        """Number of output buffers, the last parameters."""
        return int(self.attributes.get("outputs", 1))


def _element(buffer: Value, map: tuple[Expr, ...], scalar: Value | None) -> ScalarType:
    t = buffer.type
    expect(isinstance(t, TensorType), f"expected a buffer, got {t}")
    assert isinstance(t, TensorType)
    expect(len(map) == t.rank, f"expected {t.rank} coordinates for {t}, got {len(map)}")
    element = ScalarType(t.dtype)
    expect(scalar is None or scalar.type == element, f"expected a {element}, got {scalar and scalar.type}")
    return element


def _join(types: Sequence[Type]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


def _types(values: Sequence[Value]) -> str:
    return _join([v.type for v in values])
