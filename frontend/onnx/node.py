"""One ONNX node as its converter sees it, and the table of converters.

A converter is a function of one `Node` that returns the results of the node: a `Value`, a `Known`, `ConstantData`, or a
sequence of these, one for each output that it can give (None for one that it cannot). It raises `Unsupported` for
what planish cannot do, and `ModelError` (through `Node.error`) for what no one could.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto

from ...ir.assume import assume_equal
from ...ir.constants import ConstantData
from ...ir.core import Op, Region, Value
from ...ir.errors import ANY_LENGTH, ModelError, VerifyError
from ...ir.expr import Dim, Expr, sym
from ...ir.ops.host.sequences import OptionalMake
from ...ir.types import DTYPES, OptionalType, TensorType, Type
from ..text import quote
from .hosted import hosted
from .inputs import container
from .scope import FromData, Item, Known, Scope, Unsupported, symbol_ranges
from .tensors import TensorReader, UnsupportedType, dtype_name

Result: TypeAlias = Value | Known | ConstantData | Item
Body: TypeAlias = "Callable[[GraphProto, Sequence[Item], Scope], list[Item]]"
Results: TypeAlias = Result | Sequence[Result | None]
Converter: TypeAlias = "Callable[[Node], Results]"

T = TypeVar("T")
CONVERTERS: dict[tuple[str, str], Converter] = {}  # (domain, operator) -> converter; filled by `converter`


def converter(*names: str, domain: str = "") -> Callable[[Converter], Converter]:
    """Register a function as the converter of the operators `names`."""

    def register(function: Converter) -> Converter:
        for name in names:
            assert (domain, name) not in CONVERTERS, f"two converters for {name}"
            CONVERTERS[domain, name] = function
        return function

    return register


def node_label(proto: NodeProto) -> str:
    """What messages call a node: its name, or its first output when it has none."""
    if proto.name:
        return quote(proto.name)
    first = next((o for o in proto.output if o), "")
    return f"(nameless, makes {quote(first)})"


def names_in(graph: GraphProto) -> Iterable[str]:
    """Names that the nodes of a graph, and of graphs inside of them, read."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from names_in(attribute.g)
    yield from (o.name for o in graph.output)


def _signed(d: Dim) -> bool:
    """Whether converters may read -1 and 0 in it as such: it is a number, or certainly at least 0."""
    if not isinstance(d, Expr) or not d.is_data:
        return True
    low, _ = d.bounds(symbol_ranges(d))
    return low is not None and low >= 0


def _is_complex(type: Type) -> bool:
    return isinstance(type, TensorType) and DTYPES[type.dtype].kind == "complex"


class Node:
    """A node with its inputs resolved in a scope. Input numbers count from 0; an input may be absent."""

    def __init__(self, proto: NodeProto, opset: int, scope: Scope, tensors: TensorReader, used: frozenset[str]) -> None:
        self.proto = proto
        self.opset = opset
        self.scope = scope
        self.tensors = tensors
        self.used = used
        self.shapes: Mapping[str, tuple[int, ...]] = {}  # what the model says about its names
        self.binding = False  # whether contents that only the run knows become symbols
        self.body: Body | None = None  # converts a graph in an attribute, in place
        self.op_type = proto.op_type
        self.loc = proto.name or f"{proto.op_type}:{next((o for o in proto.output if o), '')}"
        self._attributes = {a.name: a for a in proto.attribute}

    def error(self, message: str) -> ModelError:
        """A `ModelError` that names file and node."""
        return ModelError(f"{self.tensors.model.label}: node {node_label(self.proto)} ({self.op_type}): {message}")

    # -- inputs ---------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of inputs, trailing absent ones not counted."""
        names = list(self.proto.input)
        while names and not names[-1]:
            names.pop()
        return len(names)

    def has(self, index: int) -> bool:
        """True when input `index` is present."""
        return index < len(self.proto.input) and self.proto.input[index] != ""

    def _name(self, index: int) -> str:
        if not self.has(index):
            raise self.error(f"input {index} is missing")
        return self.proto.input[index]

    def value(self, index: int) -> Value:
        """Input `index` as a value. Raises `ModelError` when it is absent."""
        return self.scope.value(self._name(index))

    def optional(self, index: int) -> Value | None:
        """Input `index` as a value, None when absent."""
        return self.value(index) if self.has(index) else None

    def values(self) -> list[Value]:
        """All inputs (none may be absent)."""
        return [self.value(i) for i in range(self.count)]

    def type(self, index: int) -> TensorType:
        """Type of input `index`; makes no value."""
        item = self.scope.items[self._name(index)]
        assert item is not None
        return item.type

    def shape(self, index: int) -> tuple[Dim, ...]:
        """Shape of input `index`. Raises `Unsupported` when its rank is unknown."""
        shape = self.type(index).shape
        if shape is None:
            reason = f"the rank of input {quote(self._name(index), 40)} is unknown"
            raise Unsupported(reason, "give the ranks or shapes of the inputs")
        return shape

    def rank(self, index: int) -> int:
        """Rank of input `index`. Raises `Unsupported` when it is unknown."""
        return len(self.shape(index))

    def dims_of(self, value: Value) -> tuple[Dim, ...]:
        """Shape of a value that this node made. Raises `Unsupported` when its rank is unknown."""
        if value.tensor.shape is None:
            raise Unsupported("the rank of an input is unknown", "give the ranks or shapes of the inputs")
        return value.tensor.shape

    def known(self, index: int, bind: bool = False) -> Known | None:
        """Elements of a small integer input, where known (perhaps symbolic). With `bind`, elements that only the run
        knows become symbols."""
        return self.scope.known(self._name(index), bind)

    def array(self, index: int, what: str = "") -> np.ndarray:
        """Elements of a constant input. Raises `Unsupported` when they are not known while compiling."""
        array = self.scope.array(self._name(index))
        if array is None:
            raise self.unknown(index, what)
        return array

    def maybe_array(self, index: int) -> np.ndarray | None:
        """Elements of an input, None when they are not known while compiling."""
        return self.scope.array(self._name(index))

    def constant(self, index: int) -> ConstantData | None:
        """The constant behind input `index`, when it is an initializer or a Constant node."""
        item = self.scope.items[self._name(index)]
        assert item is not None
        return item.data

    def unknown(self, index: int, what: str = "") -> Unsupported:
        """What to raise when the elements of input `index` must be known and are not."""
        reason = f"{what or f'input {index}'} ({quote(self._name(index), 40)}) is computed from data"
        return FromData(reason, "make it a constant, or fix input shapes", self.lengths(index))

    def lengths(self, index: int) -> frozenset[str]:
        """Symbols in the last dimension of an integer input: its length, if it is a vector. `ANY_LENGTH` stands for one
        that is found when the model runs, and may depend on the lengths of inputs."""
        type = self.type(index)
        last = type.shape[-1] if type.shape and type.dtype in ("i64", "i32") else 0
        names = frozenset[str]() if isinstance(last, int) else last.symbols()
        return frozenset(ANY_LENGTH if name.startswith("?") else name for name in names)

    def dims(self, index: int, what: str = "") -> list[Dim]:
        """Elements of a 1-D (or scalar) integer input, ints or expressions. Raises `Unsupported` when unknown."""
        known = self.known(index, self.binding)
        if known is None or not (self.binding or all(_signed(d) for d in known.dims.reshape(-1))):
            raise self.unknown(index, what)
        return list(known.dims.reshape(-1))

    def expect_length(self, index: int, count: Dim, what: str = "") -> None:
        """State that input `index` is a vector of `count` elements. Where its length is a symbol, the model is read
        again with that in its inputs."""
        shape = self.shape(index)
        if len(shape) != 1 or (isinstance(shape[0], int) and isinstance(count, int) and shape[0] != count):
            raise self.error(f"{what or f'input {index}'}: expected {count} elements, got {self.type(index)}")
        if shape[0] != count:
            assume_equal(shape[0], count)
            raise self.unknown(index, what)

    def sizes(self, value: Value, what: str = "size") -> list[Dim]:
        """The elements of a small integer value that this node computes, as sizes: numbers where they are known, else
        symbols."""
        return self.elements(value, what, "n")

    def elements(self, value: Value, what: str, kind: str = "i") -> list[Dim]:
        """As `sizes`, of elements that may be below 0 (`kind` is `n` for sizes)."""
        array = self.scope.evaluated(value)
        if array is not None:
            return [int(n) for n in array.reshape(-1)]
        output = next((o for o in self.proto.output if o), self.op_type)
        return self.scope.symbols.elements(value, f"{output}_{what}", kind)

    def ints_input(self, index: int, what: str = "") -> list[int]:
        """Elements of a 1-D integer input that must be plain numbers."""
        array = self.array(index, what)
        return [int(v) for v in array.reshape(-1)]

    # -- attributes -----------------------------------------------------------------------------------------------

    def _attribute(self, name: str, kind: int) -> AttributeProto | None:
        attribute = self._attributes.get(name)
        if attribute is None:
            return None
        if attribute.ref_attr_name:
            raise self.error(f"attribute {name} refers to a function's attribute, outside of a function")
        # Files of ONNX 1.0 left `type` out; then the field that is there decides.
        if attribute.type not in (kind, AttributeProto.UNDEFINED):
            kinds = {v: k for k, v in AttributeProto.AttributeType.items()}
            got = kinds.get(attribute.type, attribute.type)
            raise self.error(f"attribute {name}: expected {kinds[kind]}, got {got}")
        return attribute

    def has_attribute(self, name: str) -> bool:
        """True when the attribute is given."""
        return name in self._attributes

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute; without `default` it must be given."""
        attribute = self._attribute(name, AttributeProto.INT)
        if attribute is not None:
            return attribute.i
        return self._default(name, default)

    def real(self, name: str, default: float | None = None) -> float:
        """A float attribute; without `default` it must be given."""
        attribute = self._attribute(name, AttributeProto.FLOAT)
        if attribute is not None:
            return attribute.f
        return self._default(name, default)

    def real_or_integer(self, name: str, default: float) -> float:
        """A number that is a float in some versions of an operator and an integer in others."""
        attribute = self._attributes.get(name)
        if attribute is None:
            return default
        return self.real(name) if attribute.type == AttributeProto.FLOAT else float(self.integer(name))

    def string(self, name: str, default: str | None = None) -> str:
        """A string attribute; without `default` it must be given."""
        attribute = self._attribute(name, AttributeProto.STRING)
        if attribute is not None:
            return attribute.s.decode("utf-8", "replace")
        return self._default(name, default)

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers; without `default` it must be given."""
        attribute = self._attribute(name, AttributeProto.INTS)
        if attribute is not None:
            return list(attribute.ints)
        return list(self._default(name, default))

    def optional_ints(self, name: str) -> list[int] | None:
        """A list of integers, None when not given."""
        return self.ints(name) if name in self._attributes else None

    def floats(self, name: str, default: Sequence[float] | None = None) -> list[float]:
        """A list of floats; without `default` it must be given."""
        attribute = self._attribute(name, AttributeProto.FLOATS)
        if attribute is not None:
            return list(attribute.floats)
        return list(self._default(name, default))

    def tensor(self, name: str) -> ConstantData | None:
        """A tensor attribute as a constant, None when not given."""
        attribute = self._attribute(name, AttributeProto.TENSOR)
        if attribute is None:
            return None
        return self.read_tensor(attribute.t, name)

    def read_tensor(self, tensor: TensorProto, name: str) -> ConstantData:
        """A tensor that stands in attribute `name`."""
        try:
            return self.tensors.read(tensor, f"node {node_label(self.proto)}: attribute {name}")
        except UnsupportedType as e:
            raise Unsupported(str(e)) from e

    def attribute(self, name: str) -> AttributeProto:
        """The attribute itself."""
        return self._attributes[name]

    def item(self, index: int) -> Item:
        """Input `index` as it is: a tensor or a sequence."""
        item = self.scope.items[self._name(index)]
        assert item is not None
        return item

    def graph(self, name: str) -> GraphProto:
        """A graph attribute."""
        attribute = self._attribute(name, AttributeProto.GRAPH)
        if attribute is None:
            raise self.error(f"attribute {name} is missing")
        return attribute.g

    def replace(self, index: int, item: Item) -> None:
        """From here on, input `index` is `item`."""
        name = f"{self.proto.input[index]} (replaced)"
        self.scope.items[name] = item
        proto = NodeProto()  # the model itself stays as it is: it may be read again
        proto.CopyFrom(self.proto)
        proto.input[index] = name
        self.proto = proto

    def inline(self, name: str, inputs: Sequence[Item]) -> list[Item]:
        """The outputs of the graph in attribute `name` for values of its inputs. Raises `Unsupported`."""
        assert self.body is not None
        return self.body(self.graph(name), inputs, self.scope)

    @contextmanager
    def inside(self, region: Region) -> Generator[None]:
        """Inside the block, operations of this node, and of its graphs, go to the end of `region`. Names around it are
        seen as they are; what is made of them there stays there."""
        outer = self.scope
        self.scope.outside([n for g in self._graphs() for n in names_in(g)] + list(self.proto.input))
        self.scope = outer.within(region, self.loc)
        try:
            yield
        finally:
            self.scope = outer

    def _graphs(self) -> list[GraphProto]:
        return [a.g for a in self.proto.attribute if a.type == AttributeProto.GRAPH]

    def region(
        self, name: str, types: Sequence[Type], places: Sequence[int], values: Sequence[Value]
    ) -> tuple[Region, list[Value]]:
        """The graph in attribute `name` as a region with parameters of `types`, and its outputs. The inputs `places` of
        the graph are no parameters but `values`."""
        graph = self.graph(name)
        region = Region(types)
        with self.inside(region):
            items = [Item(value=p) for p in region.params]
            for place, value in zip(places, values, strict=True):
                items.insert(place, Item(value=value))
            found = self.inline(name, items)
            pairs = zip(found, graph.output, strict=True)
            return region, [self._as_declared(item, info.type) for item, info in pairs]

    def carried(self, name: str, items: Sequence[Item], first: int) -> list[Value]:
        """Values of `items` as the inputs of a graph, from number `first` on, have them."""
        infos = self.graph(name).input[first:]
        return [self._as_declared(item, info.type) for item, info in zip(items, infos, strict=False)]

    def _as_declared(self, item: Item, proto: TypeProto) -> Value:
        """An item as a value; what the model declares as optional becomes one."""
        if proto.WhichOneof("value") != "optional_type":
            return self.scope.item_value(item)
        if item.parts == () and not item.dtype:
            try:
                type = container(proto, lambda: self.size("item"))
            except UnsupportedType as e:
                raise Unsupported(str(e)) from e
            return self.host(OptionalMake, None, types=[type])[0]
        value = self.scope.item_value(item)
        if isinstance(value.type, OptionalType):
            return value
        return self.host(OptionalMake, value, types=[OptionalType(value.type)])[0]

    def dtype(self, number: int) -> str:
        """planish's element type for ONNX's number of it. Raises `Unsupported`."""
        try:
            return dtype_name(number)
        except UnsupportedType as e:
            raise Unsupported(str(e)) from e

    def _default(self, name: str, default: T | None) -> T:
        if default is None:
            raise self.error(f"attribute {name} is missing")
        return default

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """An axis in -rank..rank-1, made non-negative. Raises `ModelError` outside."""
        if rank == 0:
            raise self.error(f"{what}: a scalar has no axis {axis}")
        if not -rank <= axis < rank:
            raise self.error(f"{what}: expected a number in {-rank}..{rank - 1}, got {axis}")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int, what: str = "axes") -> list[int]:
        """Several axes, made non-negative, all different."""
        found = [self.axis(a, rank, what) for a in axes]
        if len(set(found)) != len(found):
            raise self.error(f"{what}: expected different axes, got {list(axes)}")
        return found

    # -- results --------------------------------------------------------------------------------------------------

    def declared(self, index: int) -> tuple[int, ...] | None:
        """The shape that the model itself gives output `index`, when it is all numbers."""
        name = self.proto.output[index] if index < len(self.proto.output) else ""
        return self.shapes.get(name)

    def wants(self, index: int) -> bool:
        """True when output `index` is named and somebody uses it."""
        return index < len(self.proto.output) and self.proto.output[index] in self.used

    def add(self, op: Op) -> Value:
        """Insert an operation and return its result."""
        return self.scope.builder.insert(op).result

    def make(self, kind: type[Op], *args: object) -> Value:
        """Build and insert `kind(*args)`; an operation that does not fit its operands is the model's error."""
        try:
            return self.add(hosted(self, kind, args) or kind(*args))
        except VerifyError as e:
            if any(isinstance(a, Value) and _is_complex(a.type) for a in args):
                advice = "compute with real and imaginary parts as tensors of their own"
                raise Unsupported("arithmetic on complex numbers", advice) from e
            raise self.error(str(e)) from e

    def host(self, kind: type[Op], *args: object, types: Sequence[Type] | None = None) -> tuple[Value, ...]:
        """Build and insert a host operation; `types` are its results' where it does not infer them."""
        try:
            return tuple(self.scope.builder.insert(kind(*args, types=types)).results)
        except VerifyError as e:
            raise self.error(str(e)) from e

    def size(self, what: str = "size") -> str:
        """A new symbol of a size that a host operation of this node finds."""
        output = next((o for o in self.proto.output if o), self.op_type)
        return self.scope.symbols.size(f"{output}_{what}")

    def renewed(self, type: Type) -> tuple[Type, tuple[str, ...]]:
        """A type whose symbolic dimensions are new symbols, and these: of one element of a sequence, for example."""
        if not isinstance(type, TensorType) or type.shape is None:
            return type, ()
        names = {i: self.size(str(i)) for i, d in enumerate(type.shape) if isinstance(d, Expr)}
        return TensorType(type.dtype, tuple(sym(names[i]) if i in names else d for i, d in enumerate(type.shape))), (
            *names.values(),
        )

    def make_all(self, kind: type[Op], *args: object) -> tuple[Value, ...]:
        """As `make`, for an operation of several results."""
        try:
            return tuple(self.scope.builder.insert(kind(*args)).results)
        except VerifyError as e:
            raise self.error(str(e)) from e

    def splat(self, value: float | int | bool, dtype: str, shape: Sequence[int] = ()) -> Value:
        """A constant of one value."""
        return self.scope.constant(ConstantData.splat(value, dtype, shape))

    def literal(self, array: np.ndarray, dtype: str | None = None) -> Value:
        """A constant that holds `array`."""
        return self.scope.constant(ConstantData.of(array, dtype))
