"""The graph's inputs: names, element types, and shapes with symbols for what the model leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import TensorShapeProto, ValueInfoProto

from ...ir.errors import ModelError
from ...ir.expr import Dim, Expr, sym
from ...ir.types import TensorType
from .report import Issue
from .tensors import UnsupportedType, dtype_name
from .text import quote, symbol_name

_MAX_DIM = 1 << 40


def read_inputs(
    inputs: Sequence[ValueInfoProto], shapes: Mapping[str, Sequence[int]], file: str, issues: list[Issue]
) -> list[tuple[str, TensorType | None]]:
    """Name and type of each input (None: planish lacks the type, and an issue says so). `shapes` gives numbers for
    symbols; a symbol that it fixes is fixed everywhere."""
    names = [i.name for i in inputs]
    for name in shapes:
        if name not in names:
            known = ", ".join(quote(n) for n in names) or "none"
            raise ModelError(f"{file}: shapes: no input is called {quote(name)}; the inputs are {known}")
    reader = _Inputs(file)
    types = [reader.type(i, shapes.get(i.name), issues) for i in inputs]
    return [(n, None if t is None else reader.fixed(t)) for n, t in zip(names, types, strict=True)]


class _Inputs:
    def __init__(self, file: str) -> None:
        self.file = file
        self.symbols: dict[str, str] = {}  # what the model calls a dimension -> the symbol's name
        self.numbers: dict[str, Dim] = {}  # symbol -> its number, from `shapes`

    def type(self, info: ValueInfoProto, given: Sequence[int] | None, issues: list[Issue]) -> TensorType | None:
        """The type of one input; None when it cannot be one (an issue says why)."""
        where = f"{self.file}: input {quote(info.name)}"
        kind = info.type.WhichOneof("value")
        if kind is None:
            raise ModelError(f"{where}: it has no type; the file is inconsistent, export it again")
        if kind != "tensor_type":
            reason = f"an input of type {kind.removesuffix('_type')}"
            issues.append(Issue(quote(info.name, 40), "(input)", "", reason, "pass tensors instead"))
            return None
        try:
            dtype = dtype_name(info.type.tensor_type.elem_type)
        except UnsupportedType as e:
            issues.append(Issue(quote(info.name, 40), "(input)", "", str(e), "use another type"))
            return None
        if not info.type.tensor_type.HasField("shape"):
            return TensorType(dtype, None if given is None else _numbers(given, where))
        shape = tuple(self._dim(d, i, info.name, where) for i, d in enumerate(info.type.tensor_type.shape.dim))
        if given is not None:
            self._fix(shape, _numbers(given, where), where)
        return TensorType(dtype, shape)

    def _dim(self, dim: TensorShapeProto.Dimension, index: int, name: str, where: str) -> Dim:
        if dim.HasField("dim_value"):
            if not 0 <= dim.dim_value <= _MAX_DIM:
                raise ModelError(f"{where}: dimension {index}: expected a size of at least 0, got {dim.dim_value}")
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

    def fixed(self, type: TensorType) -> TensorType:
        """The type with all numbers known from `shapes` put in."""
        if type.shape is None:
            return type
        dims = (d.substitute(self.numbers) if isinstance(d, Expr) else d for d in type.shape)
        return TensorType(type.dtype, tuple(dims))


def _numbers(given: Sequence[int], where: str) -> tuple[int, ...]:
    if not all(isinstance(d, int) and 0 <= d <= _MAX_DIM for d in given):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"{where}: expected a shape of numbers of at least 0, got {list(given)}")
    return tuple(given)
