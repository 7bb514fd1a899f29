"""The core of all three forms: operations, values and regions (from `ir.op`), functions, modules, and a builder.

Everything outside `ir` imports these names from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from .errors import VerifyError
from .op import REGISTRY, Field, Op, OpT, Region, Use, Value
from .types import Type

__all__ = [
    "REGISTRY",
    "Builder",
    "Field",
    "Function",
    "Graph",
    "Module",
    "Op",
    "OpT",
    "Region",
    "Return",
    "Use",
    "Value",
    "Yield",
]


class Return(Op, name="return"):
    """Ends a function's region: its operands are the function's results."""

    terminator: ClassVar[bool] = True
    side_effects: ClassVar[bool] = True
    values: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        return ()


class Yield(Op, name="yield"):
    """Ends a nested region: its operands are what the region gives to the operation that owns it."""

    terminator: ClassVar[bool] = True
    side_effects: ClassVar[bool] = True
    values: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        return ()


class Function:
    """A named region at the top of a module. `kind` is the word in the text form: `graph`, `kernel` or `program`."""

    kind: ClassVar[str] = "graph"

    def __init__(
        self,
        name: str,
        types: Sequence[Type] = (),
        names: Sequence[str] = (),
        result_names: Sequence[str] = (),
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.body = Region(types, names)
        self.body.parent = self
        self.result_names = list(result_names)
        self.attributes: dict[str, Any] = dict(attributes or {})

    @property
    def params(self) -> list[Value]:
        """Its inputs."""
        return self.body.params

    @property
    def results(self) -> list[Value]:
        """The values it returns."""
        return self.body.terminator.inputs

    def walk(self) -> Iterator[Op]:
        """All operations, nested ones included."""
        return self.body.walk()

    def clone(self) -> Function:
        """A deep copy (constants are shared: they are references)."""
        copy = type(self)(self.name, result_names=self.result_names, attributes=self.attributes)
        copy.body = self.body.clone({})
        copy.body.parent = copy
        return copy


class Graph(Function):
    """Tensor form: value semantics over whole tensors. Parameters' names are the model's input names; `result_names`
    are the model's output names. The body ends in `return`."""

    kind: ClassVar[str] = "graph"


class Module:
    """Functions by name, in order. `main` is the model. `islands` are the programs that a plan runs (`ir.plan`), by
    name; passes change each of them, too."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        self.functions: dict[str, Function] = {}
        self.attributes: dict[str, Any] = {}
        self.islands: dict[str, Module] = {}
        for f in functions:
            self.add(f)

    def add(self, function: Function) -> Function:
        """Add a function; its name must be new."""
        if function.name in self.functions:
            raise VerifyError(f"module: two functions are called @{function.name}")
        self.functions[function.name] = function
        return function

    @property
    def main(self) -> Graph:
        """The model's graph."""
        main = self.functions["main"]
        assert isinstance(main, Graph)
        return main

    def clone(self) -> Module:
        """A deep copy."""
        copy = Module([f.clone() for f in self.functions.values()])
        copy.attributes = dict(self.attributes)
        copy.islands = {name: island.clone() for name, island in self.islands.items()}
        return copy


class Builder:
    """Inserts new operations at one point: at the end of a region, or before an operation."""

    def __init__(self, region: Region, before: Op | None = None, loc: str = "") -> None:
        self.region = region
        self.before = before
        self.loc = loc

    def insert(self, op: OpT) -> OpT:
        """Insert `op` at the point; it takes the builder's source location if it has none."""
        op.loc = op.loc or self.loc
        return self.region.append(op) if self.before is None else self.region.insert_before(self.before, op)
