"""Graphs of frontends other than ONNX's: ONNX's operators as functions, in one set of meanings for all formats.

A frontend walks through its own representation and calls `Assembly.op` for what a node computes; the importer's
converters build the operations, follow integers and symbolic sizes, and refuse what does not fit. What ONNX has no
operator for is built from the tensor form itself (`Assembly.make`). `settled` calls the frontend again when it turns
out that dimensions of inputs must be equal.

    def read(assembly: Assembly) -> list[Item]:
        x = assembly.input("x")
        return [assembly.op("Relu", assembly.op("MatMul", x, assembly.constant(weight, "w")))]

    module = assembled("net.bin", [Input("x", "f32", ("batch", 20))], read, outputs=["y"])
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, helper

from ..ir.assume import Assumptions, settled
from ..ir.constants import ConstantData
from ..ir.core import Graph, Module, Op, Region, Return, Value, Yield
from ..ir.errors import ModelError, VerifyError
from ..ir.expr import Dim
from ..ir.ops.host import Check, If, Loop, fixed_point
from ..ir.state import State
from ..ir.types import TensorType, Type
from .onnx.inputs import Given, read_inputs
from .onnx.node import node_label
from .onnx.nodes import Frame, NodeImporter
from .onnx.proto import Loaded
from .onnx.report import Issue, unsupported
from .onnx.scope import Item, Known, Scope, Unsupported
from .onnx.symbols import Symbols
from .onnx.tensors import DTYPE_NAMES, TensorReader
from .text import quote

OPSETS = {"": 23, "com.microsoft": 1, "ai.onnx.ml": 5}
"""Versions of the operator sets that `Assembly.op` means."""
_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}

Operand: TypeAlias = "Item | Value | ConstantData | np.ndarray | Sequence[Dim] | None"
Attribute: TypeAlias = "int | float | str | bytes | np.ndarray | Sequence[int] | Sequence[float] | Sequence[str]"


@dataclass(frozen=True)
class Input:
    """An input as its file has it. A dimension is a number, the name of a symbol, or None: a symbol of its own; the
    shape None leaves the rank open."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def proto(self) -> ValueInfoProto:
        """The same for the readers of inputs."""
        return helper.make_tensor_value_info(self.name, _NUMBERS[self.dtype], self.shape)


def input_types(inputs: Sequence[Input], label: str, ranks: Mapping[str, int] | None = None) -> list[tuple[str, Type]]:
    """Names and types of inputs, with a symbol for every size that is left open (`Source.input_types`)."""
    found, _ = read_inputs([i.proto() for i in inputs], Given({}, ranks or {}, {}), label, [])
    return [(name, type) for name, type in found if type is not None]


def assembled(
    label: str,
    inputs: Sequence[Input],
    read: Callable[[Assembly], Sequence[Item | Value]],
    *,
    outputs: Sequence[str],
    attributes: Mapping[str, object] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Module:
    """The module whose `main` has these inputs and computes what `read` builds, under the names `outputs`.

    `label` is what messages call the model; `shapes` and `ranks` are those of `Source.read`. Raises `ModelError` for
    what is inconsistent and one `UnsupportedError` that lists every node for which `read` called `Assembly.refuse`.
    """

    def make(equal: dict[str, Dim], assumed: Assumptions) -> Module:
        assembly = Assembly(label, inputs, Given(shapes or {}, ranks or {}, equal), assumed)
        results = read(assembly)
        return assembly.finish(results, outputs, attributes or {})

    return settled(make)


class Assembly:
    """A graph that is being built. All functions that build raise `Unsupported` where planish cannot do it and
    `ModelError` where no one could; `at` says which node of the source they speak of."""

    def __init__(self, label: str, inputs: Sequence[Input], given: Given, assumed: Assumptions) -> None:
        self.label = label
        self.issues: list[Issue] = []
        found, unnamed = read_inputs([i.proto() for i in inputs], given, label, self.issues)
        assumed.free.update(unnamed)
        types = {name: type for name, type in found if type is not None}
        self.graph = Graph("main", list(types.values()), list(types), [])
        self.symbols = Symbols(given.equal)
        self.scope: Scope = Scope(self.graph.body, self.symbols)
        self._inputs = {v.name: Item(value=v) for v in self.graph.params}
        self._states: dict[str, tuple[ConstantData, Item]] = {}
        self._names: dict[str, int] = {}
        self._depth = 0
        self._loc = ""
        loaded = Loaded(ModelProto(graph=onnx.GraphProto()), label, None, "", [])
        self._nodes = NodeImporter(loaded.proto, label, TensorReader(loaded), self.issues, assumed)

    # -- values ----------------------------------------------------------------------------------------------------

    def input(self, name: str) -> Item:
        """An input. Raises `Unsupported` if its type is none of planish's."""
        if name not in self._inputs:
            raise Unsupported(f"it reads input {quote(name, 40)}, whose type planish does not have")
        return self._inputs[name]

    def constant(self, data: ConstantData | np.ndarray, name: str = "") -> Item:
        """A constant; `name` is what its value is called."""
        item = Item(data=data if isinstance(data, ConstantData) else ConstantData.of(data))
        item.name = name
        return item

    def scalar(self, value: float | int | bool, dtype: str) -> Item:
        """A constant of shape []."""
        return Item(data=ConstantData.splat(value, dtype))

    def like(self, value: float | int | bool, other: Item | Value) -> Item:
        """A constant of shape [] and the element type of `other`."""
        return self.scalar(value, self.type(other).dtype)

    def sizes(self, dims: Sequence[Dim]) -> Item:
        """A vector (i64) of numbers, perhaps symbolic."""
        return Item(known=Known.of(list(dims)))

    def state(self, name: str, initial: ConstantData) -> Item:
        """A tensor that the model keeps from run to run, as it is now; `assign` changes it."""
        if name not in self._states:
            param = self.graph.body.add_param(initial.type, name)
            self._states[name] = (initial, Item(value=param))
        return self._states[name][1]

    def assign(self, name: str, item: Item | Value) -> None:
        """From here on the state `name` is `item`, in this run and in those after it."""
        assert self._depth == 0, "a state is assigned outside of regions"
        self._states[name] = (self._states[name][0], self.item(item))

    def item(self, operand: Operand) -> Item:
        """An operand as an item: arrays are constants, sequences of numbers i64 vectors."""
        match operand:
            case Item():
                # What is made of an item inside of a region stays there.
                return operand.copy() if self._depth and operand.value is None else operand
            case Value():
                return Item(value=operand)
            case ConstantData():
                return Item(data=operand)
            case np.ndarray():
                return Item(data=ConstantData.of(operand))
            case None:
                raise AssertionError("an operand is missing")
            case _:
                return self.sizes(operand)

    def value(self, operand: Operand) -> Value:
        """An operand as a value."""
        item = self.item(operand)
        return self.scope.item_value(item, item.name)

    def type(self, operand: Item | Value) -> TensorType:
        """The type of a tensor."""
        return operand.tensor if isinstance(operand, Value) else operand.type

    def shape(self, operand: Item | Value) -> tuple[Dim, ...]:
        """The shape of a tensor. Raises `Unsupported` when its rank is unknown."""
        shape = self.type(operand).shape
        if shape is None:
            raise Unsupported("the rank of an operand is unknown", "give the ranks or shapes of the inputs")
        return shape

    def array(self, operand: Item, limit: int = 4096) -> np.ndarray | None:
        """The elements of a constant, or of a small tensor computed from constants, else None."""
        return self.scope.item_array(operand, limit)

    def dims(self, operand: Item, bind: bool = True) -> list[Dim]:
        """The elements of a small integer tensor as numbers or expressions of symbols. With `bind`, what only the run
        knows becomes symbols. Raises `Unsupported` when they are not to be had."""
        inner = self.scope.child({"x": self.item(operand)})
        known = inner.known("x", bind)
        if known is None:
            raise Unsupported("sizes that are computed from data", "make them constants, or fix input shapes")
        return list(known.dims.reshape(-1))

    # -- operations ------------------------------------------------------------------------------------------------

    @contextmanager
    def at(self, loc: str) -> Generator[None]:
        """Operations built in the block come from the source's node `loc`."""
        outer, self._loc = self._loc, loc
        self.scope.builder.loc = loc
        try:
            yield
        finally:
            self._loc = self.scope.builder.loc = outer

    def op(self, operator: str, *inputs: Operand, domain: str = "", **attributes: Attribute | None) -> Item:
        """The first output of an ONNX operator (version `OPSETS`); None leaves an input or an attribute out."""
        return self.ops(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(
        self, operator: str, *inputs: Operand, outputs: int, domain: str = "", **attributes: Attribute | None
    ) -> list[Item]:
        """The first `outputs` outputs of an ONNX operator."""
        items = [None if i is None else self.item(i) for i in inputs]
        names: dict[str, Item | None] = {}
        read = [self._input_name(item, i, operator, names) for i, item in enumerate(items)]
        made = [self._fresh(self._loc or operator) for _ in range(outputs)]
        proto = helper.make_node(operator, read, made, name=self._loc or made[0], domain=domain)
        for key, given in attributes.items():
            if given is not None:
                value = onnx.numpy_helper.from_array(given) if isinstance(given, np.ndarray) else given
                proto.attribute.append(helper.make_attribute(key, value))
        frame = Frame(self.scope.child(names), OPSETS, frozenset(made), loc=self._loc)
        try:
            self._nodes.run(proto, frame)
        except Unsupported as e:
            if operator in e.reason:
                raise
            raise Unsupported(f"{operator}: {e.reason}", e.advice) from e
        found = [names.get(name) for name in made]
        if any(item is None for item in found):
            raise Unsupported(f"{operator} ({node_label(proto)}) has no output {found.index(None)}")
        return [item for item in found if item is not None]

    def cast(self, item: Item | Value, dtype: str) -> Item:
        """The tensor in another element type; the same where it has that already."""
        return self.item(item) if self.type(item).dtype == dtype else self.op("Cast", item, to=_NUMBERS[dtype])

    def _input_name(self, item: Item | None, index: int, operator: str, names: dict[str, Item | None]) -> str:
        """A name for an input, under which `names` then has it."""
        if item is None:
            return ""
        base = item.name or (item.value.name if item.value is not None else "") or f"{self._loc or operator}_in{index}"
        name = base
        while names.get(name, item) is not item:
            name += "_"
        names[name] = item
        return name

    def _fresh(self, base: str) -> str:
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}:{count}"

    def make(self, kind: type[Op], *args: object) -> Item:
        """An operation of the tensor form with one result; items among `args` become values."""
        return self.make_all(kind, *args)[0]

    def make_all(self, kind: type[Op], *args: object, types: Sequence[Type] | None = None) -> list[Item]:
        """The results of an operation of the tensor form; `types` are given where it does not infer them."""
        values = [self._argument(a) for a in args]
        try:
            op = kind(*values) if types is None else kind(*values, types=types)
            results = [Item(value=r) for r in self.scope.builder.insert(op).results]
        except VerifyError as e:
            raise self.error(str(e)) from e
        self.check()
        return results

    def check(self) -> None:
        """Insert what must hold of sizes when the model runs (`ir/assume.py`) for what was built so far to be right;
        operations do it themselves."""
        zero, nonnegative = self._nodes.conditions.take()
        if zero or nonnegative:
            self.scope.builder.insert(Check(zero, nonnegative, f"the sizes do not fit ({self._loc})", loc=self._loc))

    def _argument(self, argument: object) -> object:
        if isinstance(argument, Item | ConstantData | np.ndarray):
            return self.value(cast("Operand", argument))
        if isinstance(argument, tuple):
            return tuple(map(self._argument, cast("tuple[object, ...]", argument)))
        return argument

    def size(self, what: str = "size") -> str:
        """A new symbol for a size that only the run knows."""
        return self.symbols.size(f"{self._loc}_{what}")

    # -- control flow ----------------------------------------------------------------------------------------------

    @contextmanager
    def inside(self, region: Region) -> Generator[None]:
        """Operations built in the block go to the end of `region`. Items from around it can be used in it; what is
        built in it must not be used outside."""
        outer = self.scope
        self.scope = outer.within(region, self._loc)
        self._depth += 1
        try:
            yield
        finally:
            self.scope = outer
            self._depth -= 1

    def choose(
        self, condition: Operand, then: Callable[[], Sequence[Operand]], otherwise: Callable[[], Sequence[Operand]]
    ) -> list[Item]:
        """The results of `then` where `condition` (bool, one element) is true, else of `otherwise`: each builds its
        branch when it is called. The results have the types that both fit."""
        test = self.value(self._single(condition))
        regions: list[Region] = []
        for build in (then, otherwise):
            region = Region()
            with self.inside(region):
                region.append(Yield(tuple(self.value(v) for v in build())))
            regions.append(region)
        return self._flow(lambda: If.build(test, regions[0], regions[1], lambda: self.size("dim"), self._loc))

    def loop(
        self,
        carried: Sequence[Operand],
        body: Callable[[Item, list[Item]], tuple[Operand, Sequence[Operand]]],
        *,
        limit: Operand = None,
        condition: Operand = None,
    ) -> list[Item]:
        """The carried values after as many rounds as `limit` (i64) says or until the condition is false, which is
        tested before each round. `body(round, carried)` builds one round and gives (condition, carried); it may be
        called several times."""
        start = [self.value(v) for v in carried]
        bounds = [None if b is None else self.value(self._single(b)) for b in (limit, condition)]

        def make(types: Sequence[Type]) -> Region:
            region = Region([TensorType("i64", ()), *types])
            with self.inside(region):
                round, *values = (Item(value=p) for p in region.params)
                again, results = body(round, values)
                region.append(Yield((self.value(self._single(again)), *(self.value(v) for v in results))))
            return region

        def fresh() -> str:
            return self.size("dim")

        try:
            region, rounds = fixed_point([v.type for v in start], make, fresh)
        except VerifyError as e:
            raise self.error(str(e)) from e
        return self._flow(lambda: Loop.build(bounds[0], bounds[1], start, region, fresh, rounds, self._loc))

    def _single(self, operand: Operand) -> Item:
        item = self.item(operand)
        return item if self.shape(item) == () else self.op("Reshape", item, np.zeros(0, np.int64))

    def _flow(self, build: Callable[[], Op]) -> list[Item]:
        try:
            op = self.scope.builder.insert(build())
        except VerifyError as e:
            raise self.error(str(e)) from e
        return [Item(value=r) for r in op.results]

    # -- the end ---------------------------------------------------------------------------------------------------

    def error(self, message: str) -> ModelError:
        """A `ModelError` that names the model and the node."""
        where = f"{self.label}: node {quote(self._loc)}" if self._loc else self.label
        return ModelError(f"{where}: {message}")

    def refuse(self, node: str, operator: str, problem: Unsupported, version: str = "") -> None:
        """Note a node that cannot be compiled; `finish` raises one error that lists all of them."""
        self.issues.append(Issue(quote(node, 60), quote(operator)[1:-1], version, problem.reason, problem.advice))

    def finish(
        self, results: Sequence[Item | Value], outputs: Sequence[str], attributes: Mapping[str, object]
    ) -> Module:
        """The module. `results` are what `main` returns, under the names `outputs`."""
        if self.issues:
            raise unsupported(self.issues, self.label)
        assert len(results) == len(outputs), f"{len(results)} results for {len(outputs)} names"
        states = [State(name, f"{name}.next", initial) for name, (initial, _) in self._states.items()]
        with self.at("outputs"):
            self.check()
            values = [self.value(r) for r in results] + [self.value(item) for _, item in self._states.values()]
        self.graph.result_names = [*outputs, *(s.output for s in states)]
        self.graph.body.append(Return(tuple(values)))
        self.symbols.insert_binds(self.graph.body)
        module = Module([self.graph])
        module.attributes = {**attributes}
        if states:
            module.attributes["states"] = tuple(states)
        return module


__all__ = ["OPSETS", "Assembly", "Input", "Item", "Operand", "State", "Unsupported", "assembled", "input_types"]
