"""From modules, functions and operations to text. See `ir.text` for the grammar.

Names are unique among those visible at a point: a second value that asks for the name `x` is `%x#1`, and a value
without a name gets a number. Operations whose regions are isolated, and functions, start afresh.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from ..constants import ConstantData
from ..core import Field, Function, Module, Op, Region, Value
from ..kernel.form import Kernel
from ..quote import name_text, quote
from ..types import TensorType
from .literals import INLINE, Resources, dims_text, key_text, literal, map_text

_INLINE_KINDS = ("tuple[Expr, ...]", "tuple[LoopDim, ...]", "Expr")


@cache
def inline_field(cls: type[Op]) -> Field | None:
    """The attribute that stands without its name, in angle brackets, after the operands: the only expression, map or
    list of dimensions in the class's schema."""
    found = [f for f in cls.fields if f.kind == "attribute" and f.annotation in _INLINE_KINDS]
    return found[0] if len(found) == 1 else None


@cache
def operand_fields(cls: type[Op]) -> tuple[Field, ...]:
    """The operand fields of a class, in order."""
    return tuple(f for f in cls.fields if f.kind == "operand")


def absent(field: Field, value: Any) -> bool:
    """True when an attribute is left out: none, and the empty string in an optional `str`. What is left out never
    depends on a default."""
    if value is None:
        return field.annotation.endswith("None")
    return field.optional and field.annotation == "str" and value == ""


class Names:
    """The names of the values that are visible at a point of the text."""

    def __init__(self) -> None:
        self._texts: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._repeats: dict[str, int] = {}
        self._number = 0
        self._order: list[tuple[Value, str, str, int]] = []

    def define(self, value: Value) -> str:
        """Give `value` a name."""
        base, repeats = "", 0
        if not value.name:
            text = f"%{self._number}"
            self._number += 1
        else:
            text = base = "%" + _value_name(value.name)
            n = repeats = self._repeats.get(base, 0)
            while text in self._taken:
                n += 1
                text = f"{base}#{n}"
            self._repeats[base] = n
        self._taken.add(text)
        self._texts[value] = text
        self._order.append((value, text, base, repeats))
        return text

    def use(self, value: Value | None) -> str:
        """The name of an operand; `_` for an absent one; a name with `!` for one that is not visible here."""
        if value is None:
            return "_"
        return self._texts.get(value) or f"%!{value.name or 'undefined'}"

    @contextmanager
    def scope(self) -> Generator[None]:
        """Names defined inside are forgotten at the end."""
        size, number = len(self._order), self._number
        yield
        for value, text, base, repeats in reversed(self._order[size:]):
            self._texts.pop(value, None)
            self._taken.discard(text)
            self._repeats[base] = repeats
        del self._order[size:]
        self._number = number


def _value_name(name: str) -> str:
    text = name_text(name)
    return quote(name) if text[0] == "$" else text


class Printer:
    """Writes text into `lines`."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.names = Names()
        self.lines: list[str] = []

    # -- functions ----------------------------------------------------------------------------------------------

    def module(self, module: Module) -> None:
        """All functions, an empty line between them, then all islands."""
        if module.attributes:
            self.lines += ["module " + literal(module.attributes, self.resources), ""]
        for i, function in enumerate(module.functions.values()):
            if i:
                self.lines.append("")
            self.function(function)
        for name, island in module.islands.items():
            self.lines += ["", f"island @{name_text(name)} {{"]
            start = len(self.lines)
            self.module(island)
            self.lines[start:] = ["  " + line if line else "" for line in self.lines[start:]]
            self.lines.append("}")

    def function(self, f: Function) -> None:
        """`graph @main(%x: f32[1,3]) -> ("y") attributes {...} {` ... `}`."""
        self.names = Names()
        params = [f"{self.names.define(p)}: {p.type}" for p in f.params]
        attributes = dict(f.attributes)
        results = [quote(name) for name in f.result_names]
        if isinstance(f, Kernel):
            split = max(0, len(params) - f.outputs)
            params, results = params[:split], params[split:]
            attributes.pop("outputs", None)
        head = f"{f.kind} @{name_text(f.name)}({', '.join(params)})"
        if results:
            head += f" -> ({', '.join(results)})"
        if isinstance(f, Kernel) and f.result_names:
            attributes["result_names"] = tuple(f.result_names)
        if attributes:
            head += " attributes " + literal(attributes, self.resources)
        self.lines.append(head + " {")
        self.ops(f.body, "  ")
        self.lines.append("}")

    # -- operations ---------------------------------------------------------------------------------------------

    def ops(self, region: Region, indent: str) -> None:
        """The operations of a region; a final `yield` of nothing goes without saying."""
        for op in region:
            if op is region.last and op.op_name == "yield" and not op.operands and not op.loc:
                continue
            self.op(op, indent)

    def op(self, op: Op, indent: str) -> None:
        """One operation, its regions included."""
        results = ", ".join([self.names.define(r) for r in op.results])
        text = indent + (results + " = " if results else "") + op.text_name + self.operands(op) + self.attributes(op)
        tail = (" : " + ", ".join(str(r.type) for r in op.results)) if op.results else ""
        if op.loc:
            tail += f" loc({quote(op.loc)})"
        for field in op.fields:
            if field.kind == "region":
                text = self.region_field(op, field, text, indent)
        self.lines.append(text + tail)

    def operands(self, op: Op) -> str:
        """`(%x, bias = %b)`; without parentheses behind `return` and `yield`; nothing when there are none."""
        fields = operand_fields(type(op))
        if len(fields) == 1 and fields[0].many:
            values = ", ".join(self.names.use(v) for v in getattr(op, fields[0].name))
            if op.terminator:
                return f" {values}" if values else ""
            return f"({values})" if values else ""
        parts: list[str] = []
        for field in fields:
            value: Any = getattr(op, field.name)
            if field.optional and not value:
                continue
            text = "[" + ", ".join(map(self.names.use, value)) + "]" if field.many else self.names.use(value)
            parts.append(f"{field.name} = {text}" if field.optional else text)
        return "(" + ", ".join(parts) + ")" if parts else ""

    def attributes(self, op: Op) -> str:
        """` <n: 1, o: 64> {name = literal, ...}`."""
        inline = inline_field(type(op))
        text = ""
        parts: list[str] = []
        type_ = op.results[0].type if len(op.results) == 1 else None
        for field in op.fields:
            if field.kind != "attribute" or field.name == op.family:
                continue
            value: Any = getattr(op, field.name)
            if field is inline:
                text = " " + _inline_text(field, value)
            elif not absent(field, value):
                shaped = type_ if isinstance(type_, TensorType) and isinstance(value, ConstantData) else None
                parts.append(f"{key_text(field.name)} = {literal(value, self.resources, shaped)}")
        return text + (" {" + ", ".join(parts) + "}" if parts else "")

    # -- regions ------------------------------------------------------------------------------------------------

    def region_field(self, op: Op, field: Field, text: str, indent: str) -> str:
        """Append the lines of a region field; the last, unfinished line is returned."""
        value = getattr(op, field.name)
        if field.many:
            text += " ["
            for i, region in enumerate(value):
                text = self.region(op, region, text + (", " if i else ""), indent)
            return text + "]"
        if value is None:
            return text + " _"
        return self.region(op, value, text + " ", indent)

    def region(self, op: Op, region: Region, text: str, indent: str) -> str:
        """`{ (%p: f32)`, the operations, `}`."""
        names = self.names
        if op.isolated:
            self.names = Names()
        with self.names.scope():
            params = ", ".join(f"{self.names.define(p)}: {p.type}" for p in region.params)
            self.lines.append(text + "{" + (f" ({params})" if params else ""))
            self.ops(region, indent + "  ")
        self.names = names
        return indent + "}"


def _inline_text(field: Field, value: Any) -> str:
    if field.annotation == "Expr":
        return f"<{value}>"
    return dims_text(value) if field.annotation == "tuple[LoopDim, ...]" else map_text(value)


# -- entry points -------------------------------------------------------------------------------------------------


def print_module(module: Module, resources: dict[str, np.ndarray] | None = None, inline: int = INLINE) -> str:
    """The text of a module. Constants in memory with more than `inline` elements are named `resource("c0")` and put
    into `resources`, which `parse_module` takes back; weights in files stay where they are."""
    printer = Printer(Resources(resources, inline))
    printer.module(module)
    return "\n".join(printer.lines) + "\n"


def print_function(function: Function, resources: dict[str, np.ndarray] | None = None, inline: int = INLINE) -> str:
    """The text of one function, as in its module."""
    printer = Printer(Resources(resources, inline))
    printer.function(function)
    return "\n".join(printer.lines) + "\n"


def print_op(op: Op) -> str:
    """The text of one operation with its regions, its values named as in the text of its function."""
    printer = Printer(Resources())
    _enter(printer, op)
    printer.op(op, "")
    return "\n".join(printer.lines)


def op_line(op: Op) -> str:
    """The first line of `print_op`: what error messages show."""
    line, *more = print_op(op).split("\n", 1)
    return line + (" ... }" if more else "")


def _enter(printer: Printer, op: Op) -> None:
    """Define the names that are visible at `op`."""
    region = op.parent
    if region is None:
        for v in op.inputs:
            if v not in printer.names._texts:
                printer.names.define(v)
        return
    owner = region.parent
    if isinstance(owner, Op) and not owner.isolated:
        _enter(printer, owner)
        for r in owner.results:
            printer.names.define(r)
    for p in region.params:
        printer.names.define(p)
    for other in region:
        if other is op:
            return
        for r in other.results:
            printer.names.define(r)


__all__: Sequence[str] = ["Printer", "op_line", "print_function", "print_module", "print_op"]
