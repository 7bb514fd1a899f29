"""Lowerings of MindIR's primitives: what one is called with (`Call`) and where they are registered (`primitive`).

    @primitive("Softmax")
    def softmax(call: Call) -> Datum:
        (axis,) = call.ints("axis", (-1,))
        return call.op("Softmax", call.tensor("input"), axis=axis)

A lowering sees arguments by name, whether the file has them as inputs of the node (primitives of kind 2) or as
attributes (kind 1, and all files of 1.x); the names, their order and defaults are in table.py. It returns a datum:
an item, or a tuple of data where MindSpore's primitive has several results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Protocol, TypeAlias

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Op
from ...ir.expr import Dim, Expr
from ..assembly import Assembly, Attribute, Item, Operand, Unsupported
from .data import Datum, Parameter, described, flattened, from_value
from .proto import (
    PRIMITIVE_FUNCTION,
    Abstract,
    DType,
    Monad,
    Primitive,
    ScalarAbstract,
    SequenceAbstract,
    TensorAbstract,
)
from .table import Argument, arguments

Lowering: TypeAlias = "Callable[[Call], Datum]"

PRIMITIVES: dict[str, Lowering] = {}
"""All lowerings by the primitive's name."""

TYPE_IDS = {
    30: "bool", 32: "i8", 33: "i16", 34: "i32", 35: "i64", 37: "u8", 38: "u16", 39: "u32", 40: "u64",
    42: "f16", 43: "f32", 44: "f64", 45: "bf16",
}  # fmt: skip
"""MindSpore's numbers of element types (`TypeId`) by planish's names."""
TYPE_NAMES = {
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "float16": "f16", "float32": "f32", "float64": "f64", "bfloat16": "bf16",
}  # fmt: skip
"""MindSpore's names of element types that are not planish's own."""
PAD_MODES = {0: "PAD", 1: "SAME", 2: "VALID"}
"""MindSpore's numbers of modes of padding (`PadMode`)."""
FORMATS = {0: "NCHW", 1: "NHWC", 14: "NCDHW", 17: "NDHWC", 20: "ND"}
"""MindSpore's numbers of orders of dimensions (`Format`)."""

_MISSING = object()


def primitive(*names: str) -> Callable[[Lowering], Lowering]:
    """Register a lowering for the primitives of these names."""

    def register(lowering: Lowering) -> Lowering:
        for name in names:
            assert name not in PRIMITIVES, f"{name} has two lowerings"
            PRIMITIVES[name] = lowering
        return lowering

    return register


class Machine(Protocol):
    """What lowerings of control flow and of states need of the interpreter (graph.py)."""

    def apply(self, function: Datum, given: Sequence[Datum]) -> Datum:
        """Call a function with these arguments behind those that are bound to it."""
        ...

    def current(self, parameter: Parameter) -> Item:
        """What a parameter holds now."""
        ...

    def assign(self, parameter: Parameter, item: Item) -> None:
        """From here on the parameter holds `item`."""
        ...

    def overwrite(self, item: Item, result: Item) -> None:
        """From here on names of the tensor `item` stand for `result`, which was written into it."""
        ...

    def note(self, text: str) -> None:
        """Tell the user something about the model, once."""
        ...

    def choose(self, condition: Item, then: Datum, otherwise: Datum) -> Datum:
        """One of two data that hold no functions, by a condition (bool, one element)."""
        ...


class Call:
    """A node that calls a primitive: its arguments by name, and short ways to build what it computes."""

    def __init__(
        self, machine: Machine, a: Assembly, target: Primitive, given: Sequence[Datum], node: str, abstract: Abstract
    ) -> None:
        self.machine = machine
        self.a = a
        self.name = target.op_type
        """The primitive ("Conv2D")."""
        self.node = node
        """What messages call the node."""
        self.given = tuple(given)
        """The inputs of the node in order."""
        self.abstract = abstract
        """The type of the result as the file has it."""
        self.target = target
        self._declared = arguments(target.op_type)
        self._bound = self._bind()

    def _bind(self) -> dict[str, Datum]:
        """Inputs by name. A file of any version may have arguments of the constructor as inputs: those that follow."""
        given = [d for d in self.given if not isinstance(d, Monad)]
        names = [d.name for d in self._declared if not d.attribute]
        if self.target.prim_type == PRIMITIVE_FUNCTION or len(given) > len(names):
            names = [d.name for d in self._declared]
        if not self._declared and "input_names" in self.target.attributes:
            found = self.target.attributes["input_names"].value
            names = [str(n) for n in found] if isinstance(found, tuple | list) else [str(found)]
        return dict(zip(names, given, strict=False))

    # -- arguments -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Datum:
        """The input at a position."""
        if not -len(self.given) <= index < len(self.given):
            raise Unsupported(f"{self.name} has {len(self.given)} inputs, at least {index + 1} were expected")
        return self.given[index]

    def has(self, name: str) -> bool:
        """Whether the file gives the argument, and not None."""
        return self._find(name) not in (_MISSING, None)

    def datum(self, name: str, default: object = _MISSING) -> Datum:
        """An argument as it is: what the file has, else `default`, else the primitive's own default. Raises
        `Unsupported` when there is none of them."""
        found = self._find(name)
        if found is not _MISSING:
            return found  # type: ignore[return-value]
        if default is not _MISSING:
            return default  # type: ignore[return-value]
        argument = self._argument(name)
        if argument is None or argument.required:
            raise Unsupported(f"argument {name} of {self.name} is missing")
        return from_value(self.a, argument.default)

    def _find(self, name: str) -> object:
        if name in self._bound:
            return self._bound[name]
        attribute = self.target.attributes.get(name)
        return _MISSING if attribute is None else from_value(self.a, attribute.value)

    def _argument(self, name: str) -> Argument | None:
        return next((d for d in self._declared if d.name == name), None)

    def first(self, *names: str) -> str:
        """The first of these names that the file gives an argument for (versions differ in names), else the first."""
        return next((n for n in names if self.has(n)), names[0])

    def tensor(self, name: str | int, like: Item | None = None) -> Item:
        """An argument (or the input at a position) as a tensor. Numbers become constants of the element type of
        `like`, else of MindSpore's: i64, f32, bool."""
        datum = self[name] if isinstance(name, int) else self.datum(name)
        return self.item(datum, like, str(name))

    def item(self, datum: Datum, like: Item | None = None, what: str = "operand") -> Item:
        """A datum as a tensor, as `tensor` does."""
        a = self.a
        match datum:
            case Item():
                return datum
            case Parameter():
                return self.machine.current(datum)
            case bool():
                return a.scalar(datum, a.type(like).dtype if like else "bool")
            case int():
                return a.scalar(datum, a.type(like).dtype if like else "i64")
            case float():
                return a.scalar(datum, a.type(like).dtype if like else "f32")
            case Expr():
                scalar = a.op("Squeeze", a.sizes([datum]), [0])
                return self.cast(scalar, a.type(like).dtype) if like else scalar
            case tuple():
                return self._vector(datum, like, what)
            case _:
                raise self.error(f"{what}: expected a tensor, got {described(datum)}")

    def _vector(self, data: tuple[Datum, ...], like: Item | None, what: str) -> Item:
        """A tuple as a tensor of one more dimension."""
        if all(isinstance(d, int) and not isinstance(d, bool) for d in data) and like is None:
            return self.a.constant(np.array(data, np.int64))
        if all(isinstance(d, int | Expr) and not isinstance(d, bool) for d in data) and like is None:
            return self.a.sizes(data)  # type: ignore[arg-type]
        if all(isinstance(d, bool | int | float) for d in data):
            dtype = self.a.type(like).dtype if like else "bool" if isinstance(data[0], bool) else "f32"
            return Item(data=ConstantData.of(np.array(data), dtype))
        parts = [self.item(d, like, what) for d in data]
        return self.a.op("Concat", *(self.a.op("Unsqueeze", p, [0]) for p in parts), axis=0)

    def items(self, name: str) -> list[Item]:
        """An argument that is a tuple of tensors."""
        return [self.item(d, None, name) for d in self.tuple(name)]

    def tuple(self, name: str) -> tuple[Datum, ...]:
        """An argument that is a tuple (or a list); anything else is a tuple of one."""
        datum = self.datum(name)
        return datum if isinstance(datum, tuple) else (datum,)

    def dims(self, name: str, default: Sequence[Dim] | None = None) -> tuple[Dim, ...]:
        """An argument that is a number, a tuple of numbers or a small integer tensor, as numbers or expressions."""
        datum = self.datum(name) if default is None else self.datum(name, tuple(default))
        return self.sizes(datum, name)

    def sizes(self, datum: Datum, what: str = "argument") -> tuple[Dim, ...]:
        """A datum as `dims` has it."""
        match datum:
            case Item() | Parameter():
                return tuple(self.a.dims(self.item(datum)))
            case int():
                return (int(datum),)
            case float() if datum.is_integer():
                return (int(datum),)
            case Expr():
                return (datum,)
            case tuple():
                return tuple(d for part in datum for d in self.sizes(part, what))
            case _:
                raise self.error(f"{what}: expected integers, got {described(datum)}")

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """Like `dims`, when all are numbers."""
        found = self.dims(name, default)
        if any(isinstance(d, Expr) for d in found):
            raise Unsupported(f"{name} of {self.name} depends on the size of an input", "fix input shapes with --shape")
        return tuple(int(d) for d in found)  # type: ignore[arg-type]

    def optional_ints(self, name: str) -> tuple[int, ...] | None:
        """Like `ints`; None where the argument is None or missing."""
        return self.ints(name) if self.datum(name, None) is not None else None

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer that is known. One element is taken of a tensor or tuple."""
        found = self.ints(name, None if default is None else (default,))
        if len(found) != 1:
            raise self.error(f"{name}: expected one integer, got {len(found)}")
        return found[0]

    def dim(self, name: str, default: Dim | None = None) -> Dim:
        """An integer, perhaps symbolic."""
        found = self.dims(name, None if default is None else (default,))
        if len(found) != 1:
            raise self.error(f"{name}: expected one integer, got {len(found)}")
        return found[0]

    def real(self, name: str, default: float | None = None) -> float:
        """A number that is known, also where the file has it as a tensor of one element."""
        return float(self._scalar(name, default))  # type: ignore[arg-type]

    def flag(self, name: str, default: bool | None = None) -> bool:
        """A bool that is known."""
        return bool(self._scalar(name, default))

    def _scalar(self, name: str, default: object) -> object:
        datum = self.datum(name) if default is None else self.datum(name, default)
        while isinstance(datum, tuple) and len(datum) == 1:
            (datum,) = datum
        if isinstance(datum, Item | Parameter):
            array = self.a.array(self.item(datum))
            if array is None or array.size != 1:
                raise Unsupported(f"{name} of {self.name} is computed from data", "make it a constant")
            return array.reshape(-1)[0].item()
        if not isinstance(datum, bool | int | float):
            raise self.error(f"{name}: expected a number, got {described(datum)}")
        return datum

    def string(self, name: str, default: str | None = None) -> str:
        """A text."""
        datum = self.datum(name) if default is None else self.datum(name, default)
        if not isinstance(datum, str):
            raise self.error(f"{name}: expected a text, got {described(datum)}")
        return datum

    def word(self, name: str, words: Mapping[int, str], default: str | None = None) -> str:
        """One of some words, in capitals; files have their numbers, too (`PAD_MODES`, `FORMATS`)."""
        datum = self.datum(name) if default is None else self.datum(name, default)
        if isinstance(datum, str):
            return datum.upper()
        if isinstance(datum, int) and datum in words:
            return words[datum]
        raise self.error(f"{name}: expected one of {', '.join(words.values())}, got {described(datum)}")

    def dtype(self, name: str, default: str | None = None) -> str | None:
        """An element type by planish's name; None where it is left out."""
        datum = self.datum(name, None) if default is None else self.datum(name, default)
        match datum:
            case None:
                return default
            case str():
                return TYPE_NAMES.get(datum.lower(), datum)
            case DType():
                return datum.name
            case int() if datum in TYPE_IDS:
                return TYPE_IDS[datum]
            case _:
                raise Unsupported(f"{name} of {self.name}: element type {described(datum)} is none of planish's")

    # -- the result as the file has it -------------------------------------------------------------------------------

    @property
    def result_types(self) -> tuple[TensorAbstract | ScalarAbstract, ...]:
        """The types of the results as the file has them, tuples flattened; empty where it has none."""

        def leaves(abstract: Abstract) -> list[TensorAbstract | ScalarAbstract]:
            if isinstance(abstract, SequenceAbstract):
                return [leaf for item in abstract.items for leaf in leaves(item)]
            return [abstract] if isinstance(abstract, TensorAbstract | ScalarAbstract) else []

        return tuple(leaves(self.abstract))

    @property
    def result_dtype(self) -> str | None:
        """The element type of the first result as the file has it."""
        return self.result_types[0].dtype if self.result_types else None

    # -- building ----------------------------------------------------------------------------------------------------

    def op(self, operator: str, *inputs: Operand, domain: str = "", **attributes: Attribute | None) -> Item:
        """`Assembly.op`."""
        return self.a.op(operator, *inputs, domain=domain, **attributes)

    def ops(
        self, operator: str, *inputs: Operand, outputs: int, domain: str = "", **attributes: Attribute | None
    ) -> list[Item]:
        """`Assembly.ops`."""
        return self.a.ops(operator, *inputs, outputs=outputs, domain=domain, **attributes)

    def make(self, kind: type[Op], *args: object) -> Item:
        """`Assembly.make`."""
        return self.a.make(kind, *args)

    def cast(self, item: Item, dtype: str) -> Item:
        """`item` in another element type; nothing where it has that already."""
        return self.a.cast(item, dtype)

    def shape(self, item: Item) -> tuple[Dim, ...]:
        """`Assembly.shape`."""
        return self.a.shape(item)

    def element_type(self, item: Item) -> str:
        """The element type of a tensor."""
        return self.a.type(item).dtype

    def error(self, problem: str) -> Unsupported:
        """An error about an argument, to be raised."""
        return Unsupported(f"{self.name}: {problem}")

    def refuse(self, reason: str, advice: str = "") -> NoReturn:
        """Say that planish cannot compile the node."""
        raise Unsupported(reason, advice)


__all__ = [
    "FORMATS",
    "PAD_MODES",
    "PRIMITIVES",
    "TYPE_IDS",
    "TYPE_NAMES",
    "Call",
    "DType",
    "Datum",
    "Item",
    "Lowering",
    "Machine",
    "Unsupported",
    "described",
    "flattened",
    "primitive",
]
