"""Data that the interpreter of MindIR works with: what a name of the file stands for while a model is read.

A *datum* is a tensor (`Item`: a constant, or something computed), a Python number, bool, string or None, a size that
depends on symbols (`Expr`), an element type (`DType`), a parameter of the model (`Parameter`: a tensor that may be
assigned), a monad (the order of side effects, which the order of interpretation keeps), a tuple of data (lists, too),
or a function with the arguments that were bound to it (`Function`, `Either`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...ir.expr import Expr
from ..assembly import Assembly, Item, Unsupported
from .proto import (
    Closure,
    DType,
    Functor,
    GraphProto,
    Monad,
    Primitive,
    ScalarGraph,
    SparseTensor,
    Symbol,
    Tensor,
    UnknownValue,
    Value,
)


@dataclass(frozen=True, eq=False)
class Parameter:
    """A tensor of the model that has a name of its own. Its value is a constant, unless the model assigns it."""

    name: str
    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Function:
    """A graph or a primitive as a value, with the first arguments of its call."""

    target: GraphProto | Primitive
    arguments: tuple[Datum, ...] = ()

    @property
    def name(self) -> str:
        """What the file calls it."""
        return self.target.name


@dataclass(frozen=True, eq=False)
class Either:
    """One of two functions, or of two tuples that hold some: `then` where `condition` (bool, one element) is true."""

    condition: Item
    then: Datum
    otherwise: Datum


@dataclass(frozen=True, eq=False)
class Later:
    """The function that a call gives, where the call is made when the function is called."""

    function: Datum
    arguments: tuple[Datum, ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value that only primitives which know it can use: names of classes, functions of shapes ..."""

    value: Symbol | Functor | ScalarGraph | SparseTensor | UnknownValue | bytes


@dataclass(frozen=True, eq=False)
class Jump:
    """A call in the last place of a graph, still to be made."""

    function: Datum
    arguments: tuple[Datum, ...]


class Broken(Exception):
    """The value of a node that could not be read (it is noted), and what is raised where such a value is used."""


Datum: TypeAlias = """(
    Item | int | float | bool | str | Expr | DType | Monad | Parameter | Function | Either | Later | Opaque
    | tuple[Datum, ...] | dict[str, Datum] | Broken | None
)"""


def tensor_constant(assembly: Assembly, tensor: Tensor) -> Item:
    """A tensor of the file as an item. Raises `Unsupported` for element types that planish does not have."""
    if tensor.data is None:
        raise Unsupported(f"tensor {tensor.name} has no elements in the file")
    return assembly.constant(tensor.data, tensor.parameter)


def from_value(assembly: Assembly, value: Value) -> Datum:
    """A value of the file that holds no functions as a datum."""
    match value:
        case None | bool() | int() | float() | str() | DType() | Monad():
            return value
        case Tensor():
            return tensor_constant(assembly, value)
        case tuple() | list():
            return tuple(from_value(assembly, v) for v in value)
        case dict():
            return {key: from_value(assembly, v) for key, v in value.items()}
        case Closure():
            raise Unsupported("a function as an attribute of a primitive")
        case _:
            return Opaque(value)


def is_number(datum: Datum) -> bool:
    """True for Python's numbers, bools and sizes."""
    return isinstance(datum, int | float | Expr)


def described(datum: Datum) -> str:
    """A datum for messages."""
    match datum:
        case Item():
            return f"a tensor {datum.type}" if datum.is_tensor else "a sequence"
        case Parameter():
            return f"parameter {datum.name}"
        case Function():
            return f"function {datum.name}"
        case Either() | Later():
            return "a function chosen by a condition"
        case Opaque():
            return f"a {type(datum.value).__name__}"
        case tuple():
            return f"a tuple of {len(datum)}"
        case Monad():
            return "a monad"
        case _:
            return repr(datum) if not isinstance(datum, Expr) else f"size {datum}"


def holds_function(datum: Datum) -> bool:
    """Whether a datum is a function, or a tuple with one in it."""
    if isinstance(datum, tuple):
        return any(map(holds_function, datum))
    return isinstance(datum, Function | Either | Later)


def flattened(datum: Datum) -> Sequence[Datum]:
    """The leaves of a tuple in order; a datum that is none is its own."""
    if isinstance(datum, tuple):
        return [leaf for part in datum for leaf in flattened(part)]
    return [datum]


__all__ = [
    "DType",
    "Datum",
    "Either",
    "Function",
    "Item",
    "Jump",
    "Later",
    "Monad",
    "Opaque",
    "Parameter",
    "described",
    "flattened",
    "from_value",
    "holds_function",
    "is_number",
    "tensor_constant",
]
