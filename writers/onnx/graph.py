"""A graph that is being written: nodes in order, tensors that get their names last.

`Scope` is one graph of the file (the model's own, a branch, a loop's body). Writers of operations, registered with
`writes`, read operands with `of`, add nodes with `node`, and give back the tensors of the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Op, Value
from ...ir.errors import Issue
from ...ir.expr import Dim, Expr, as_expr
from ...ir.types import DTYPES, TensorType, Type, dtype_of
from ..report import Cannot
from .schemas import BASE, NUMBERS, least_version

OpT = TypeVar("OpT", bound=Op)
_WIDER = {
    "f16": ("f32",), "bf16": ("f32",), "f32": ("f64",), "bool": ("i32",), "i8": ("i32", "i64"), "u8": ("i32", "i64"),
    "i16": ("i32", "i64"), "u16": ("i32", "i64"), "i32": ("i64",), "u32": ("i64",), "i4": ("i8", "i32"),
    "u4": ("u8", "i32"), "i2": ("i8", "i32"), "u2": ("u8", "i32"),
}  # fmt: skip


class Tensor:
    """A value of the file. `dtype` is "" for what is no tensor; `hint` is what it would like to be called; `name` is
    fixed for inputs and outputs, and for all others once the graph is complete."""

    __slots__ = ("dtype", "hint", "home", "name")

    def __init__(self, dtype: str, hint: str = "", home: Scope | None = None, name: str = "") -> None:
        self.dtype = dtype
        self.hint = hint
        self.home = home  # the graph whose node makes it; None for initializers and parameters
        self.name = name


@dataclass
class Node:
    """A node; attributes are numbers, strings, lists of them, `Scope`s, or finished `AttributeProto`s."""

    op_type: str
    domain: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    attributes: dict[str, Any]
    loc: str


@dataclass
class Model:
    """What all graphs of one file share."""

    constants: dict[ConstantData, Tensor] = field(default_factory=dict[ConstantData, Tensor])
    small: dict[tuple[str, tuple[int, ...], bytes], Tensor] = field(
        default_factory=dict[tuple[str, tuple[int, ...], bytes], Tensor]
    )
    versions: dict[str, int] = field(default_factory=lambda: {"": BASE[""]})
    issues: list[Issue] = field(default_factory=list[Issue])

    def constant(self, data: ConstantData, hint: str) -> Tensor:
        """An initializer, one for equal ones."""
        if data not in self.constants:
            self.constants[data] = Tensor(data.dtype, hint)
        return self.constants[data]

    def array(self, array: np.ndarray, hint: str) -> Tensor:
        """An initializer of a few elements, one for equal contents."""
        key = (dtype_of(array), array.shape, repr(array.tolist()).encode())
        if key not in self.small:
            self.small[key] = self.constant(ConstantData.of(array), hint)
        return self.small[key]


@dataclass(frozen=True)
class Origin:
    """What tells a symbol: dimension `index` of `tensor`, which is `factor * symbol + offset`, or element `index`."""

    tensor: Tensor
    index: int
    factor: int = 1
    offset: int = 0
    is_element: bool = False

    @property
    def is_derived(self) -> bool:
        """Whether it takes arithmetic."""
        return (self.factor, self.offset) != (1, 0)


Result: TypeAlias = "Tensor | Sequence[Tensor]"
WRITERS: dict[type[Op], Callable[[Any, Any], Result]] = {}


def writes(*kinds: type[Op]) -> Callable[[Callable[[Scope, OpT], Result]], Callable[[Scope, OpT], Result]]:
    """Registers what writes operations of these classes: from the scope and the operation to the results' tensors."""

    def register(function: Callable[[Scope, OpT], Result]) -> Callable[[Scope, OpT], Result]:
        for kind in kinds:
            assert kind not in WRITERS, f"{kind.op_name} is written twice"
            WRITERS[kind] = function
        return function

    return register


class Scope:
    """One graph of the file."""

    def __init__(self, model: Model, outer: Scope | None = None) -> None:
        self.model = model
        self.outer = outer
        self.nodes: list[Node] = []
        self.inputs: list[tuple[Tensor, Type]] = []
        self.outputs: list[tuple[Tensor, Type]] = []
        self.loc = ""
        self._values: dict[Value, Tensor] = {}
        self._origins: dict[str, Origin] = {}
        self._sizes: dict[Dim, Tensor] = {}

    # -- values ----------------------------------------------------------------------------------------------------

    def of(self, value: Value) -> Tensor:
        """The tensor of a value, here or in a graph around this one."""
        scope: Scope | None = self
        while scope is not None:
            if value in scope._values:
                return scope._values[value]
            scope = scope.outer
        raise Cannot("it reads what could not be written")

    def maybe(self, value: Value | None) -> Tensor | None:
        """The tensor of an optional operand."""
        return None if value is None else self.of(value)

    def define(self, value: Value, tensor: Tensor) -> None:
        """From here on `value` is `tensor`, and symbols that its shape shows are known."""
        self._values[value] = tensor
        if value.name and not tensor.name and tensor.home is self:
            tensor.hint = value.name
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            for axis, dim in enumerate(value.type.shape):
                if isinstance(dim, Expr):
                    self._learn(dim, tensor, axis)

    def _learn(self, dim: Expr, tensor: Tensor, axis: int) -> None:
        """Remember a dimension that tells a symbol, best one that is the symbol itself."""
        names = dim.symbols()
        if len(names) != 1:
            return
        (name,) = names
        factor = dim.coefficient(name)
        if factor < 1 or not dim.is_linear_in(name):
            return
        known = self._origin(name)
        if known is None or (dim.symbol is not None and known.is_derived):
            self._origins[name] = Origin(tensor, axis, factor, dim.offset)

    def _origin(self, name: str) -> Origin | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope._origins:
                return scope._origins[name]
            scope = scope.outer
        return None

    def bind(self, symbols: Sequence[str], elements: Tensor) -> None:
        """The symbols are the elements of an i64 vector."""
        for i, name in enumerate(symbols):
            self._origins[name] = Origin(elements, i, is_element=True)

    def constant(self, data: ConstantData | np.ndarray, hint: str = "") -> Tensor:
        """An initializer."""
        if isinstance(data, ConstantData):
            return self.model.constant(data, hint)
        if data.size <= 64 and data.dtype.kind != "O":
            return self.model.array(data, hint or "constant")
        return self.model.constant(ConstantData.of(data), hint or "constant")

    def scalar(self, value: float | int | bool, dtype: str) -> Tensor:
        """An initializer of shape []."""
        return self.constant(np.asarray(value, DTYPES[dtype].numpy))

    def like(self, value: float | int | bool, other: Tensor) -> Tensor:
        """An initializer of shape [] and the element type of `other`."""
        return self.scalar(value, other.dtype)

    def vector(self, values: Sequence[int]) -> Tensor:
        """An initializer i64[n]."""
        return self.constant(np.array(list(values), np.int64))

    # -- sizes -----------------------------------------------------------------------------------------------------

    def sizes(self, dims: Sequence[Dim]) -> Tensor:
        """i64[n] with the values of `dims`."""
        if all(isinstance(d, int) for d in dims):
            return self.vector([int(d) for d in dims if isinstance(d, int)])
        parts: list[Tensor] = []
        run: list[int] = []
        for d in dims:
            if isinstance(d, int):
                run.append(d)
                continue
            if run:
                parts.append(self.vector(run))
                run = []
            parts.append(self.size(d))
        if run:
            parts.append(self.vector(run))
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def size(self, dim: Dim) -> Tensor:
        """i64[1] with the value of `dim`."""
        from .sizes import size_nodes

        if isinstance(dim, int) or as_expr(dim).constant is not None:
            return self.vector([int(as_expr(dim).offset)])
        scope: Scope | None = self
        while scope is not None:
            if dim in scope._sizes:
                return scope._sizes[dim]
            scope = scope.outer
        self._sizes[dim] = size_nodes(self, as_expr(dim))
        return self._sizes[dim]

    def symbol(self, name: str) -> Tensor:
        """i64[1] with the value of a symbol. Raises `Cannot` where nothing tells it."""
        origin = self._origin(name)
        if origin is None:
            raise Cannot(f"the size {name} is found nowhere in the graph", "fix it with --shape")
        if origin.is_element:
            return self.node("Gather", origin.tensor, self.vector([origin.index]), axis=0)
        found = self.node("Shape", origin.tensor, dtype="i64", start=origin.index, end=origin.index + 1)
        if origin.offset:
            found = self.node("Sub", found, self.vector([origin.offset]))
        return found if origin.factor == 1 else self.node("Div", found, self.vector([origin.factor]))

    # -- nodes -----------------------------------------------------------------------------------------------------

    def node(
        self, op_type: str, *inputs: Tensor | None, dtype: str | None = None, domain: str = "", **attributes: Any
    ) -> Tensor:
        """A node with one output, of the element type of its first input or `dtype`. Where ONNX's operator does not
        take the first input's element type, the node computes in a wider one."""
        return self.nodes_of(op_type, *inputs, dtypes=(dtype,), domain=domain, **attributes)[0]

    def nodes_of(
        self,
        op_type: str,
        *inputs: Tensor | None,
        dtypes: Sequence[str | None],
        domain: str = "",
        **attributes: Any,
    ) -> list[Tensor]:
        """A node with an output for each of `dtypes` (None: the element type of its first input)."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        first = next((t.dtype for t in given if t is not None), "")
        kept = {name: value for name, value in attributes.items() if value is not None}
        if self._fits(op_type, domain, given, [first if d is None else d for d in dtypes], kept):
            return self._append(op_type, domain, given, [first if d is None else d for d in dtypes], kept)
        for wide in _WIDER.get(first, ()):
            kinds = [wide if t is not None and t.dtype == first else t.dtype if t else "" for t in given]
            results = [wide if d is None else d for d in dtypes]
            if self._valid(op_type, domain, kinds, results, kept) is None:
                continue
            cast = [self.cast(t, wide) if t is not None and t.dtype == first else t for t in given]
            self._fits(op_type, domain, cast, results, kept)
            found = self._append(op_type, domain, cast, results, kept)
            return [self.cast(t, first) if d is None else t for t, d in zip(found, dtypes, strict=True)]
        kinds = ", ".join(t.dtype or "?" for t in given if t is not None)
        raise Cannot(f"ONNX's {op_type} does not take {kinds}")

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """`x` as another element type; nothing where it is."""
        return x if x.dtype == dtype else self.node("Cast", x, dtype=dtype, to=NUMBERS[dtype])

    def identity(self, x: Tensor) -> Tensor:
        """A tensor of this graph that is equal to `x`."""
        return self.node("Identity", x)

    def squeeze(self, x: Tensor) -> Tensor:
        """A tensor of one element as one of shape []."""
        return self.node("Reshape", x, self.vector([]))

    def _valid(
        self, op_type: str, domain: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]
    ) -> int | None:
        return least_version(op_type, domain, tuple(inputs), tuple(outputs), tuple(attributes))

    def _fits(
        self,
        op_type: str,
        domain: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[str],
        attributes: dict[str, Any],
    ) -> bool:
        """Whether the operator takes these; then the file's operator set has it."""
        version = self._valid(op_type, domain, [t.dtype if t else "" for t in inputs], outputs, attributes)
        if version is None:
            return False
        self.model.versions[domain] = max(self.model.versions.get(domain, 0), version)
        return True

    def _append(
        self, op_type: str, domain: str, inputs: list[Tensor | None], dtypes: Sequence[str], attributes: dict[str, Any]
    ) -> list[Tensor]:
        hint = f"{self.loc}/{op_type}" if self.loc else op_type
        outputs = [Tensor(d, hint, self) for d in dtypes]
        self.nodes.append(Node(op_type, domain, inputs, outputs, attributes, self.loc))
        return outputs


def whole(values: Sequence[Dim], what: str) -> list[int]:
    """Numbers that ONNX has as attributes. Raises `Cannot` where one is a symbol."""
    found = [d for d in values if isinstance(d, int)]
    if len(found) != len(values):
        raise Cannot(f"{what} must be numbers in ONNX, got {', '.join(map(str, values))}", "fix them with --shape")
    return found


def least_value(dtype: str) -> float | int:
    """The value below all others of an element type."""
    info = DTYPES[dtype]
    return -math.inf if info.kind == "float" else -(1 << (info.bits - 1)) if info.kind == "int" else 0


__all__ = ["WRITERS", "Model", "Node", "Result", "Scope", "Tensor", "least_value", "whole", "writes"]
