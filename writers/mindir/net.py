"""A MindIR graph that is being written. What MindSpore has no primitive for is made of planish's own operations first
(`Net.make`), so that the types of everything in between are inferred as always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ...ir.constants import Constant, ConstantData
from ...ir.core import Op, OpT, Value
from ...ir.errors import Issue, PlanishError
from ...ir.expr import Dim, Expr, as_expr
from ...ir.types import DTYPES, TensorType, Type
from ..names import Names
from ..outside import Outside
from ..report import Cannot, issue_of
from ..wire import Message
from . import proto

KindT = TypeVar("KindT", bound=Op)
_SMALL = 64  # elements: constants of more are parameters


@dataclass(frozen=True)
class Ref:
    """What a name of the file stands for: a tensor, or anything else (`type` is None)."""

    name: str
    type: TensorType | None = None

    @property
    def dtype(self) -> str:
        """The element type of a tensor."""
        assert self.type is not None
        return self.type.dtype


@dataclass(frozen=True)
class Sizes:
    """A tuple of numbers of which some are known only when the model runs."""

    dims: tuple[Dim, ...]


Argument: TypeAlias = "Ref | Sizes | bool | int | float | str | np.ndarray | Sequence[int] | Sequence[Ref] | None"
Result: TypeAlias = "Ref | Value | Sequence[Ref | Value]"
LOWERINGS: dict[type[Op], Callable[[Any, Any], Result]] = {}


def lowers(*kinds: type[Op]) -> Callable[[Callable[[Net, KindT], Result]], Callable[[Net, KindT], Result]]:
    """Registers what writes operations of these classes: to primitives, or to values that `Net.make` gave."""

    def register(function: Callable[[Net, KindT], Result]) -> Callable[[Net, KindT], Result]:
        for kind in kinds:
            assert kind not in LOWERINGS, f"{kind.op_name} is written twice"
            LOWERINGS[kind] = function
        return function

    return register


@dataclass
class File:
    """What all graphs of one file share: names, parameters, primitives, functions; `count` is that of nodes."""

    names: Names = field(default_factory=Names)
    parameters: list[tuple[str, ConstantData, str]] = field(default_factory=list[tuple[str, ConstantData, str]])
    primitives: list[Message] = field(default_factory=list[Message])
    functions: list[Message] = field(default_factory=list[Message])
    issues: list[Issue] = field(default_factory=list[Issue])
    count: int = 0
    numbers: dict[str, str] = field(default_factory=dict[str, str])
    data: dict[ConstantData, Ref] = field(default_factory=dict[ConstantData, Ref])


class Net:
    """One graph of a file: the main one, or a function, which gets what it needs of the graph around it (`outer`) as
    further inputs: `captured` are these, as they are called outside."""

    def __init__(self, name: str, outer: Net | None = None) -> None:
        self.outer = outer
        self.file: File = File() if outer is None else outer.file
        self.name = self.file.names.unique(name)
        self.nodes: list[Message] = []
        self.inputs: list[Ref] = []
        self.captured: list[Ref] = []
        self.loc = "" if outer is None else outer.loc
        self._refs: dict[Value, Ref] = {}
        self._known: dict[Any, str] = {}
        self._data: dict[ConstantData, Ref] = {}
        self._origins: dict[str, tuple[Ref, int, int, int]] = {}
        self._captures: dict[str, Ref] = {}

    # -- values ----------------------------------------------------------------------------------------------------

    def define(self, value: Value, ref: Ref) -> None:
        """From here on `value` is `ref`; sizes that its shape shows are known."""
        self._refs[value] = ref
        for axis, dim in enumerate(value.tensor.shape or ()):
            if isinstance(dim, Expr) and len(dim.symbols()) == 1:
                (name,) = dim.symbols()
                factor = dim.coefficient(name)
                if factor > 0 and dim.is_linear_in(name) and (name not in self._origins or dim.symbol):
                    self._origins.setdefault(name, (ref, axis, factor, dim.offset))

    def of(self, value: Value) -> Ref:
        """The tensor of a value."""
        if value in self._refs:
            return self._refs[value]
        made = value.op
        if isinstance(made, Constant) and (made.parent is None or self.outer is not None):
            self._refs[value] = self.constant(made.value, value.name or made.loc)
            return self._refs[value]
        if self.outer is None:
            raise Cannot("it reads what could not be written")
        self.define(value, self.capture(self.outer.of(value)))
        return self._refs[value]

    def port(self, type: TensorType, name: str) -> Ref:
        """A further input."""
        self.inputs.append(Ref(self.file.names.unique(f"{self.name}:{name}"), type))
        return self.inputs[-1]

    def capture(self, ref: Ref) -> Ref:
        """A tensor of the graph around this one, as an input of this one."""
        if ref.name not in self._captures:
            assert ref.type is not None
            self._captures[ref.name] = self.port(ref.type, "captured")
            self.captured.append(ref)
        return self._captures[ref.name]

    def data(self, value: Value) -> ConstantData | None:
        """The elements of a constant."""
        return value.op.value if isinstance(value.op, Constant) else None

    def constant(self, data: ConstantData, hint: str = "") -> Ref:
        """A tensor: a parameter if it is large or has a name and more than one element, else a node."""
        for known in (self.file.data, self._data):
            if data in known:
                return known[data]
        named = hint and data.elements > 1 and DTYPES[data.dtype].kind == "float"
        if named or data.elements > _SMALL:
            name = self.file.names.unique(f"main:{hint or 'constant'}")
            self.file.parameters.append((name, data, name.partition(":")[2]))
            self.file.data[data] = Ref(name, data.type)
            return self.file.data[data]
        self._data[data] = Ref(self._constant_node(proto.attribute("value", data)), data.type)
        return self._data[data]

    def scalar(self, value: float | int | bool, dtype: str) -> Ref:
        """A tensor of shape []."""
        key = (dtype, repr(value))
        if key not in self._known:
            data = ConstantData.of(np.asarray(value, DTYPES[dtype].numpy))
            self._known[key] = self._constant_node(proto.attribute("value", data))
        return Ref(self._known[key], TensorType(dtype, ()))

    def like(self, value: float | int | bool, other: Ref) -> Ref:
        """A tensor of shape [] and the element type of `other`."""
        return self.scalar(value, other.dtype)

    def _constant_node(self, value: Message) -> str:
        name = self.file.names.unique(f"{self.name}:ValueNode")
        self.nodes.append(proto.node(name, "Constant", (), [value], "Default"))
        return name

    def argument(self, value: Argument) -> str:
        """The name of an argument: numbers, texts and tuples become constants."""
        match value:
            case Ref():
                return value.name
            case Sizes():
                return self._sizes(value.dims)
            case np.ndarray():
                return self.constant(ConstantData.of(value)).name
            case bool() | int() | float() | str() | None:
                return self._plain(value)
            case _:
                parts = list(value)
                if parts and isinstance(parts[0], Ref):
                    return self.tuple_of([p for p in parts if isinstance(p, Ref)]).name
                return self._plain(tuple(p for p in parts if isinstance(p, int)))

    def _plain(self, value: proto.Value) -> str:
        key = repr(value)
        if key not in self._known:
            self._known[key] = self._constant_node(proto.attribute("value", value))
        return self._known[key]

    # -- sizes -----------------------------------------------------------------------------------------------------

    def _sizes(self, dims: Sequence[Dim]) -> str:
        if all(isinstance(d, int) for d in dims):
            return self._plain(tuple(d for d in dims if isinstance(d, int)))
        parts = [Ref(self._plain(d) if isinstance(d, int) else self.size(as_expr(d))) for d in dims]
        return self.tuple_of(parts).name

    def size(self, e: Expr) -> str:
        """The name of a number of Python's: the value of an expression, by arithmetic on numbers."""
        if e not in self._known:
            self._known[e] = self._size(e)
        return self._known[e]

    def _size(self, e: Expr) -> str:
        from ...ir.expr import Sym

        total = ""
        for monomial, factor in e.terms:
            part = self._plain(factor) if not monomial or factor != 1 else ""
            for atom in monomial:
                if isinstance(atom, Sym):
                    value = self._symbol(atom.name)
                else:
                    a, b = (self.size(x) for x in atom.args)
                    value = self._call("Scalar" + _CALLS[atom.fn], [a, b])
                part = self._call("ScalarMul", [part, value]) if part else value
            total = self._call("ScalarAdd", [total, part]) if total else part
        return total or self._plain(0)

    def _origin(self, name: str) -> tuple[Ref, int, int, int]:
        """Whose dimension tells a symbol: `factor * symbol + offset`."""
        if name not in self._origins:
            if self.outer is None:
                raise Cannot(f"the size {name} is found nowhere in the graph", "fix it with --shape")
            ref, axis, factor, offset = self.outer._origin(name)
            self._origins[name] = (self.capture(ref), axis, factor, offset)
        return self._origins[name]

    def _symbol(self, name: str) -> str:
        ref, axis, factor, offset = self._origin(name)
        shape = self._call("Shape", [ref.name])
        value = self._call("TupleGetItem", [shape, self._plain(axis)], {})
        if offset:
            value = self._call("ScalarSub", [value, self._plain(offset)])
        return value if factor == 1 else self._call("ScalarFloorDiv", [value, self._plain(factor)])

    # -- nodes -----------------------------------------------------------------------------------------------------

    def prim(
        self, op_type: str, *args: Argument, type: TensorType, attributes: dict[str, proto.Value] | None = None
    ) -> Ref:
        """A node with one result. `attributes` are those of primitives whose options are no inputs; None: they are."""
        names = [self.argument(a) for a in args]
        return Ref(self._call(op_type, names, attributes, [proto.inferred(type)]), type)

    def prims(
        self,
        op_type: str,
        *args: Argument,
        types: Sequence[TensorType],
        attributes: dict[str, proto.Value] | None = None,
    ) -> list[Ref]:
        """A node with a tuple of results, and what picks them from it."""
        names = [self.argument(a) for a in args]
        whole = Ref(self._call(op_type, names, attributes, [proto.inferred(types)]))
        return [self.prim("TupleGetItem", whole, i, type=t, attributes={}) for i, t in enumerate(types)]

    def first(
        self,
        op_type: str,
        *args: Argument,
        types: Sequence[TensorType],
        attributes: dict[str, proto.Value] | None = None,
    ) -> Ref:
        """The first of several results."""
        names = [self.argument(a) for a in args]
        whole = Ref(self._call(op_type, names, attributes, [proto.inferred(types)]))
        return self.prim("TupleGetItem", whole, 0, type=types[0], attributes={})

    def tuple_of(self, parts: Sequence[Ref]) -> Ref:
        """A tuple."""
        types = [p.type for p in parts if p.type is not None]
        shown = [proto.inferred(types)] if len(types) == len(parts) else []
        return Ref(self._call("MakeTuple", [p.name for p in parts], {}, shown))

    def function(self, inner: Net, results: Sequence[Ref]) -> None:
        """A function of the file, complete now."""
        result = results[0] if len(results) == 1 else inner.tuple_of(results)
        inner.file.functions.append(graph_message(inner, result, results))

    def closure(self, inner: Net, arguments: Sequence[Ref]) -> Ref:
        """A function with all of its arguments."""
        shown = proto.closure(inner.name)
        return Ref(self._call("Partial", [inner.name, *(a.name for a in arguments)], {}, [shown]))

    def switch(
        self, condition: Ref, then: tuple[Net, Ref], otherwise: tuple[Net, Ref], types: Sequence[Type]
    ) -> list[Ref]:
        """The results of one of two functions."""
        shown = proto.either([then[0].name, otherwise[0].name])
        chosen = self._call("Switch", [condition.name, then[1].name, otherwise[1].name], {}, [shown])
        return self.call(chosen, (), types)

    def call(self, function: str, arguments: Sequence[Ref], types: Sequence[Type]) -> list[Ref]:
        """The results of a function."""
        tensors = [t for t in types if isinstance(t, TensorType)]
        if len(tensors) < len(types):
            raise Cannot("a choice or loop over sequences")
        output = self.file.names.unique(f"{self.name}:call")
        shown = proto.inferred(tensors[0] if len(tensors) == 1 else tensors)
        self.nodes.append(proto.node(output, f"REF::{function}", [a.name for a in arguments], [shown], "0"))
        self.file.count += 1
        if len(tensors) == 1:
            return [Ref(output, tensors[0])]
        whole = Ref(output)
        return [self.prim("TupleGetItem", whole, i, type=t, attributes={}) for i, t in enumerate(tensors)]

    def ordered(self, op_type: str, *inputs: str) -> str:
        """A node that gives, or that its side effects give, an order to others."""
        effects: dict[str, proto.Value] = {"side_effect_mem": True} if op_type == "Assign" else {}
        return self._call(op_type, inputs, effects, [] if op_type == "Assign" else [proto.monad("shape")])

    def start(self) -> str:
        """The state of things when the graph begins."""
        name = self.file.names.unique(f"{self.name}:state")
        self.nodes.append(proto.node(name, "Constant", (), [proto.monad("value")], "Default"))
        return name

    def _call(
        self,
        op_type: str,
        inputs: Sequence[str],
        attributes: dict[str, proto.Value] | None = None,
        shown: Sequence[Message] = (),
    ) -> str:
        output = self.file.names.unique(f"{self.name}:{op_type}")
        primitive = self._primitive(op_type, attributes)
        scope = f"Default/{self.loc}" if self.loc else "Default"
        self.nodes.append(proto.node(output, f"REF::{primitive}", inputs, shown, scope))
        self.file.count += 1
        return output

    def _primitive(self, op_type: str, attributes: dict[str, proto.Value] | None) -> str:
        key = f"{op_type} {attributes}"
        known = self.file.numbers
        if key not in known:
            known[key] = self.file.names.unique(f"{op_type}:{len(known)}")
            self.file.primitives.append(proto.primitive(known[key], op_type, attributes))
        return known[key]

    # -- operations ------------------------------------------------------------------------------------------------

    def make(self, kind: type[OpT], *args: Any, **fields: Any) -> Value:
        """The only result of an operation, written at once."""
        op = kind(*args, **fields)
        self.write(op)
        return op.result

    def number(self, value: float | int | bool, dtype: str) -> Value:
        """A constant of shape [] for `make`."""
        return self.array(np.asarray(value, DTYPES[dtype].numpy))

    def array(self, array: np.ndarray) -> Value:
        """A constant for `make`."""
        return Constant(ConstantData.of(array)).result

    def write(self, op: Op) -> None:
        """The nodes of an operation. Raises `Cannot`."""
        lowering = LOWERINGS.get(type(op))
        if lowering is None:
            raise Cannot("it has no form in MindIR")
        found = lowering(self, op)
        results = [found] if isinstance(found, Ref | Value) else list(found)
        for value, result in zip(op.results, results, strict=True):
            self.define(value, self.of(result) if isinstance(result, Value) else result)

    def add(self, op: Op) -> None:
        """An operation of the model; what cannot be written becomes an issue."""
        self.loc = op.loc
        try:
            self.write(op)
        except (Cannot, AssertionError, PlanishError) as e:
            cannot = e if isinstance(e, Cannot) else Cannot(f"{e}" or "its rank is unknown", "give shapes or ranks")
            self.file.issues.append(issue_of(op, cannot))
            for value in op.results:
                type = value.type if isinstance(value.type, TensorType) else None
                self._refs[value] = Ref("", type)


def graph_message(net: Net, result: Ref, results: Sequence[Ref], outside: Outside | None = None) -> Message:
    """A graph that is complete; `result` is the tuple of `results`, or the only one. Parameters may be `outside`."""
    graph = Message()
    for node in net.nodes:
        graph.message(1, node)
    graph.text(2, net.name)
    if net.outer is None:
        for name, data, key in sorted(net.file.parameters, key=lambda parameter: parameter[0]):
            graph.message(3, proto.tensor_data(data, name, key, outside))
    for ref in net.inputs:
        assert ref.type is not None
        graph.message(5, Message().text(1, ref.name).message(2, proto.tensor(ref.type)))
    info = Message().text(1, result.name)
    if result.type is not None:
        return graph.message(6, info.message(2, proto.tensor(result.type)))
    types = [r.type for r in results if r.type is not None]
    return graph.message(6, info.text(4, "Tuple").message(5, proto.inferred(types)))


_CALLS = {"floordiv": "FloorDiv", "mod": "Mod", "min": "Min", "max": "Max"}


def numbers(dims: Sequence[Dim], what: str) -> list[int]:
    """Sizes that must be numbers in MindIR."""
    found = [d for d in dims if isinstance(d, int)]
    if len(found) != len(dims):
        raise Cannot(f"{what} must be numbers in MindIR, got {', '.join(map(str, dims))}", "fix them with --shape")
    return found


def type_of(op: Op) -> TensorType:
    """The type of the only result."""
    return op.result.tensor


__all__ = ["LOWERINGS", "File", "Net", "Ref", "Sizes", "graph_message", "lowers", "numbers", "type_of"]
