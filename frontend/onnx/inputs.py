"""The graph's inputs: names, element types, and shapes with symbols for what the model leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, TensorShapeProto, TypeProto, ValueInfoProto

from ...ir.assume import substituted
from ...ir.errors import ModelError
from ...ir.expr import Dim, Expr, sym
from ...ir.types import MapType, OptionalType, SequenceType, TensorType, Type
from ..text import quote, symbol_name
from .report import Issue
from .tensors import UnsupportedType, checked_shape, dtype_name

_MAX_DIM = 1 << 40
_MAX_RANK = 32  # the runtime's


def unranked_inputs(graph: GraphProto) -> list[str]:
    """Names of the tensor inputs of `graph` that have no shape, in order."""
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    free = (i for i in graph.input if i.name not in constants and i.type.WhichOneof("value") == "tensor_type")
    return [i.name for i in free if not i.type.tensor_type.HasField("shape")]


@dataclass(frozen=True)
class Given:
    """What is known of the inputs besides the model: `shapes` gives numbers for the dimensions of an input or for one
    symbol, by name (a symbol that it fixes is fixed everywhere), `ranks` the ranks of inputs without a shape, `equal`
    what symbols stand for."""

    shapes: Mapping[str, Sequence[int]]
    ranks: Mapping[str, int]
    equal: Mapping[str, Dim]


def read_inputs(
    inputs: Sequence[ValueInfoProto], given: Given, file: str, issues: list[Issue]
) -> tuple[list[tuple[str, Type | None]], set[str]]:
    """Name and type of each input (None: planish lacks the type, and an issue says so), and the symbols that stand for
    dimensions without a name."""
    names = [i.name for i in inputs]
    reader = _Inputs(file, given)
    types = [reader.type(i, given.shapes.get(i.name), issues) for i in inputs]
    known = ", ".join(quote(n) for n in names) or "none"
    for name in given.ranks:
        if name not in names:
            raise ModelError(f"{file}: ranks: no input is called {quote(name)}; the inputs are {known}")
    symbols = set(reader.symbols.values())
    for name, sizes in given.shapes.items():
        if name not in names and name not in symbols:
            listed = ", ".join(quote(s) for s in sorted(symbols)) or "none"
            raise ModelError(
                f"{file}: shapes: no input and no symbol is called {quote(name)}; the inputs are {known}, the symbols "
                f"{listed}"
            )
        if name not in names:
            reader.fix_symbol(name, _numbers(sizes, f"{file}: symbol {quote(name)}"))
    unnamed = {symbol for key, symbol in reader.symbols.items() if key.startswith("a:")}
    return [(n, None if t is None else reader.fixed(t)) for n, t in zip(names, types, strict=True)], unnamed


class _Inputs:
    def __init__(self, file: str, given: Given) -> None:
        self.file = file
        self.given = given
        self.symbols: dict[str, str] = {}  # what the model calls a dimension -> the symbol's name
        self.numbers: dict[str, Dim] = {}  # symbol -> its number, from `shapes`

    def type(self, info: ValueInfoProto, given: Sequence[int] | None, issues: list[Issue]) -> Type | None:
        """The type of one input; None when it cannot be one (an issue says why)."""
        where = f"{self.file}: input {quote(info.name)}"
        kind = info.type.WhichOneof("value")
        if kind is None:
            raise ModelError(f"{where}: it has no type; the file is inconsistent, export it again")
        if kind != "tensor_type":
            return self._container(info, issues)
        try:
            dtype = dtype_name(info.type.tensor_type.elem_type)
        except UnsupportedType as e:
            issues.append(Issue(quote(info.name, 40), "(input)", "", str(e), "use another type"))
            return None
        rank = self.given.ranks.get(info.name)
        if not info.type.tensor_type.HasField("shape"):
            numbers = None if given is None else _numbers(given, where)
            if rank is None:
                return TensorType(dtype, numbers)
            if numbers is not None and len(numbers) != rank:
                raise ModelError(f"{where}: expected a shape of rank {rank}, as it is given, got {list(numbers)}")
            return TensorType(dtype, self._unnamed(rank, info.name, where) if numbers is None else numbers)
        if rank is not None and rank != len(info.type.tensor_type.shape.dim):
            have = len(info.type.tensor_type.shape.dim)
            raise ModelError(f"{where}: it has rank {have} in the model and cannot have rank {rank}")
        shape = tuple(self._dim(d, i, info.name, where) for i, d in enumerate(info.type.tensor_type.shape.dim))
        if given is not None:
            self._fix(shape, _numbers(given, where), where)
        checked_shape([d for d in shape if isinstance(d, int)], where)
        return TensorType(dtype, shape)

    def _container(self, info: ValueInfoProto, issues: list[Issue]) -> Type | None:
        """The type of an input that is a sequence, an optional or a map."""
        try:
            return container(info.type, lambda: f"?n_{symbol_name(info.name)}")
        except UnsupportedType as e:
            issues.append(Issue(quote(info.name, 40), "(input)", "", str(e), "pass tensors instead"))
            return None

    def _unnamed(self, rank: int, name: str, where: str) -> tuple[Dim, ...]:
        """A shape of `rank` dimensions that the model says nothing of."""
        if not 0 <= rank <= _MAX_RANK:
            raise ModelError(f"{where}: expected a rank in 0..{_MAX_RANK}, got {rank}")
        return tuple(self._dim(TensorShapeProto.Dimension(), i, name, where) for i in range(rank))

    def _dim(self, dim: TensorShapeProto.Dimension, index: int, name: str, where: str) -> Dim:
        if dim.HasField("dim_value"):
            if not 0 <= dim.dim_value <= _MAX_DIM:
                limit = "at least 0" if dim.dim_value < 0 else f"at most {_MAX_DIM}"
                raise ModelError(f"{where}: dimension {index}: expected a size of {limit}, got {dim.dim_value}")
            return dim.dim_value
        # An anonymous dimension is a symbol of its own; a named one is the same wherever that name stands.
        key = f"p:{dim.dim_param}" if dim.dim_param else f"a:{index}:{name}"
        if key not in self.symbols:
            base = symbol_name(dim.dim_param or f"{name}_{index}")
            taken, symbol, n = set(self.symbols.values()), base, 1
            while symbol in taken:
                n += 1
                symbol = f"{base}_{n}"
            self.symbols[key] = symbol
        return sym(self.symbols[key])

    def _fix(self, shape: tuple[Dim, ...], given: tuple[int, ...], where: str) -> None:
        if len(given) != len(shape):
            like = ", ".join(map(str, shape))
            raise ModelError(f"{where}: expected a shape of rank {len(shape)} like [{like}], got {list(given)}")
        for i, (dim, number) in enumerate(zip(shape, given, strict=True)):
            if isinstance(dim, Expr):
                symbol = dim.symbol or ""
                if self.numbers.setdefault(symbol, number) != number:
                    raise ModelError(f"{where}: symbol {symbol} is given as {self.numbers[symbol]} and as {number}")
            elif dim != number:
                raise ModelError(f"{where}: dimension {i} is {dim} in the model and cannot be {number}")

    def fix_symbol(self, name: str, given: tuple[int, ...]) -> None:
        """Give one symbol its number."""
        where = f"{self.file}: symbol {quote(name)}"
        if len(given) != 1:
            raise ModelError(f"{where}: expected one size, got {list(given)}")
        if self.numbers.setdefault(name, given[0]) != given[0]:
            raise ModelError(f"{where}: it is given as {self.numbers[name]} and as {given[0]}")

    def fixed(self, type: Type) -> Type:
        """The type with all numbers known from `shapes`, and all equations, put in."""
        if not isinstance(type, TensorType) or type.shape is None:
            return type
        dims = (substituted(substituted(d, self.numbers), self.given.equal) for d in type.shape)
        return TensorType(type.dtype, tuple(dims))


def container(proto: TypeProto, fresh: Callable[[], str]) -> Type:
    """The type of a value that need not be a tensor. Dimensions of tensors inside that are not numbers are symbols that
    stand for any size, one for each of them. Raises `UnsupportedType`."""
    match proto.WhichOneof("value"):
        case "sequence_type":
            return SequenceType(container(proto.sequence_type.elem_type, fresh))
        case "optional_type":
            return OptionalType(container(proto.optional_type.elem_type, fresh))
        case "map_type":
            return MapType(dtype_name(proto.map_type.key_type), container(proto.map_type.value_type, fresh))
        case "tensor_type":
            dtype = dtype_name(proto.tensor_type.elem_type)
            if not proto.tensor_type.HasField("shape"):
                return TensorType(dtype, None)
            dims = proto.tensor_type.shape.dim
            sizes = (d.dim_value if d.HasField("dim_value") else sym(f"{fresh()}_{i}") for i, d in enumerate(dims))
            return TensorType(dtype, tuple(sizes))
        case other:
            raise UnsupportedType(f"an input of type {(other or 'none').removesuffix('_type')}")


def _numbers(given: Sequence[object], where: str) -> tuple[int, ...]:
    numbers = tuple(d for d in given if isinstance(d, int) and 0 <= d <= _MAX_DIM)
    if len(numbers) != len(given):
        raise ModelError(f"{where}: expected a shape of numbers of at least 0, got {list(given)}")
    return numbers
