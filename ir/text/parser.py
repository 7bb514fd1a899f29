"""From text to modules. One grammar for all operations: their classes' fields say what to expect. See `ir.text`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np

from .. import constants, ops, plan, program
from ..core import REGISTRY, Field, Function, Graph, Module, Op, Region, Value, Yield
from ..errors import VerifyError
from ..expr import Expr
from ..kernel import form
from ..program import Program
from ..types import TensorType, Type
from .lexer import Cursor, Token
from .printer import inline_field, operand_fields
from .reader import PendingConstant, Reader

KINDS: dict[str, type[Function]] = {cls.kind: cls for cls in (Graph, form.Kernel, Program, plan.Plan)}
_CORE = (constants, program, form)  # importing them registers their operations


@cache
def load_operations() -> None:
    """Import every family of operations, so that the registry knows them."""
    for found in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{found.name}")


@cache
def _families() -> dict[str, type[Op]]:
    return {name: cls for name, cls in REGISTRY.items() if cls.family}


class Scope:
    """The values that are visible at a point; `line` is where each was defined."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[Value, int]] = {}
        self.order: list[str] = []

    def leave(self, size: int) -> None:
        """Forget what was defined since `order` had `size` names."""
        for name in self.order[size:]:
            del self.values[name]
        del self.order[size:]


class Parser:
    """Reads functions and operations at a cursor."""

    def __init__(self, text: str, filename: str, resources: Mapping[str, np.ndarray] | None = None) -> None:
        load_operations()
        self.c = Cursor(text, filename)
        self.read = Reader(self.c, resources)
        self.scope = Scope()

    # -- functions ----------------------------------------------------------------------------------------------

    def module(self, *, nested: bool = False) -> Module:
        """The whole text, or that of an island up to its end."""
        module = Module()
        if self.c.accept("module"):
            module.attributes = self.read.dictionary()
        while self.c.peek.kind != "end" and not (nested and self.c.at("}")):
            token = self.c.peek
            if self.c.accept("island"):
                self._island(module)
                continue
            function = self.function()
            if function.name in module.functions:
                raise self.c.error(f"two functions are called @{function.name}", token)
            module.add(function)
        return module

    def _island(self, module: Module) -> None:
        """`island @name {` functions `}`."""
        token = self.c.expect_kind("function", "the island's name, like @island0")
        name = self.c.name(token)
        if name in module.islands:
            raise self.c.error(f"two islands are called @{name}", token)
        self.c.expect("{")
        module.islands[name] = self.module(nested=True)
        self.c.expect("}")

    def function(self) -> Function:
        """`graph @main(%x: f32[1,3]) -> ("y") attributes {...} { ... }`."""
        token = self.c.take()
        if token.text not in KINDS or token.kind != "ident":
            raise self.c.fail("one of " + ", ".join(f"'{k}'" for k in KINDS), token)
        name = self.c.name(self.c.expect_kind("function", "the function's name, like @main"))
        f = KINDS[token.text](name)
        self.scope = Scope()
        self.params(f.body)
        if self.c.accept("->"):
            if isinstance(f, form.Kernel):
                before = len(f.params)
                self.params(f.body)
                f.attributes["outputs"] = len(f.params) - before
            else:
                self.c.expect("(")
                f.result_names = [self.c.string(t) for t in self.read.listed(")", self._string, opened=True)]
        elif isinstance(f, form.Kernel):
            f.attributes["outputs"] = 0
        if self.c.accept("attributes"):
            f.attributes.update(self.read.dictionary())
            if isinstance(f, form.Kernel):
                f.result_names = list(f.attributes.pop("result_names", ()))
        self.body(f.body)
        return f

    def _string(self) -> Token:
        return self.c.expect_kind("string", "a name in quotes")

    def params(self, region: Region) -> None:
        """`(%x: f32[1,3], %y: f32)`."""
        self.c.expect("(")
        self.read.listed(")", lambda: self._param(region), opened=True)

    def _param(self, region: Region) -> None:
        token = self.c.expect_kind("value", "a parameter, like %x")
        self.c.expect(":")
        self.define(token, region.add_param(self.read.type()))

    def body(self, region: Region) -> None:
        """`{` operations `}`; a `yield` of nothing is added where there is no terminator."""
        self.c.expect("{")
        self._ops(region)

    def _ops(self, region: Region) -> None:
        while not self.c.accept("}"):
            if region.last is not None and region.last.terminator:
                raise self.c.fail(f"'}}' after '{region.last.text_name}'")
            region.append(self.op())
        if region.last is None or not region.last.terminator:
            region.append(Yield(()))

    # -- values -------------------------------------------------------------------------------------------------

    def define(self, token: Token, value: Value) -> None:
        """Bind the name in `token` to `value`. `%x#1` is a second value of the name `x`; a number is no name."""
        line = self.c.line_at(token.start)
        if token.text in self.scope.values:
            first = self.scope.values[token.text][1]
            raise self.c.fail(f"a new name ({token.text} is defined in line {first})", token)
        self.scope.values[token.text] = (value, line)
        self.scope.order.append(token.text)
        text = token.text[1:]
        if "#" in text and not text.endswith('"'):
            text = text[: text.rindex("#")]
        value.name = self.c.string(token, text) if text.startswith('"') else "" if text.isdigit() else text

    def value(self) -> Value | None:
        """An operand; None for `_`."""
        if self.c.accept("_"):
            return None
        token = self.c.expect_kind("value", "a value, like %x")
        found = self.scope.values.get(token.text)
        if found is None:
            raise self.c.fail("a value that is defined above", token)
        return found[0]

    # -- operations ---------------------------------------------------------------------------------------------

    def op(self) -> Op:
        """One operation."""
        results: list[Token] = []
        start = self.c.peek
        if start.kind == "value":
            results.append(self.c.take())
            while self.c.accept(","):
                results.append(self.c.expect_kind("value", "a result, like %y"))
            self.c.expect("=")
        token = self.c.expect_kind("ident", "an operation")
        cls, values = self.op_class(token)
        self.operands(cls, values, token)
        self.attributes(cls, values, token)
        self.regions(cls, values)
        types = self.types(results)
        loc = ""
        if self.c.accept("loc"):
            self.c.expect("(")
            loc = self.c.string(self._string())
            self.c.expect(")")
        op = self.build(cls, values, types, loc, token)
        if len(op.results) != len(results):
            raise self.c.fail(f"{len(op.results)} results of {op.text_name}", start, str(len(results)))
        for name, value in zip(results, op.results, strict=True):
            self.define(name, value)
        return op

    def op_class(self, token: Token) -> tuple[type[Op], dict[str, Any]]:
        """The class of an operation and, for a family, the attribute that its name gives."""
        cls = REGISTRY.get(token.text)
        if cls is not None and not cls.family:
            return cls, {}
        head, _, tail = token.text.rpartition(".")
        family = _families().get(head)
        if family is not None:
            return family, {family.family: tail}
        near = get_close_matches(token.text, REGISTRY, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise self.c.fail("an operation", token, f"'{token.text}'{hint}")

    def operands(self, cls: type[Op], values: dict[str, Any], token: Token) -> None:
        """Fill the operand fields: required ones by position, the others by name (or by position too)."""
        fields = operand_fields(cls)
        if len(fields) == 1 and fields[0].many:
            values[fields[0].name] = self._flat(cls)
            return
        listed = iter(sorted(fields, key=lambda f: f.optional))
        if self.c.accept("("):
            self.read.listed(")", lambda: self._operand(cls, values, listed), opened=True)
        for field in fields:
            if field.name not in values:
                if not field.optional:
                    raise self.c.fail(f"operand '{field.name}' of {cls.op_name}", token, "none")
                values[field.name] = () if field.many else None

    def _flat(self, cls: type[Op]) -> tuple[Value | None, ...]:
        if self.c.accept("("):
            return tuple(self.read.listed(")", self.value, opened=True))
        found: list[Value | None] = []
        if cls.terminator and self.c.peek.kind == "value":
            found.append(self.value())
            while self.c.accept(","):
                found.append(self.value())
        return tuple(found)

    def _operand(self, cls: type[Op], values: dict[str, Any], listed: Any) -> None:
        token = self.c.peek
        if token.kind == "ident" and self.c.ahead(1).text == "=":
            self.c.take()
            self.c.take()
            field = next((f for f in operand_fields(cls) if f.name == token.text), None)
        else:
            field = next(listed, None)
        if field is None or field.name in values:
            names = ", ".join(f.name for f in operand_fields(cls)) or "none"
            raise self.c.fail(f"the operands of {cls.op_name} ({names})", token)
        values[field.name] = tuple(self.read.listed("]", self.value)) if field.many else self.value()

    def attributes(self, cls: type[Op], values: dict[str, Any], token: Token) -> None:
        """Fill the attribute fields: `<...>` for the inline one, `{name = literal}` for the others."""
        inline = inline_field(cls)
        fields = {f.name: f for f in cls.fields if f.kind == "attribute"}
        if inline is not None and self.c.at("<"):
            values[inline.name] = self.read.angle(inline.annotation)
        if self._at_attributes():
            at = self.c.peek
            for name, value in self.read.dictionary().items():
                if name not in fields or name in values:
                    known = ", ".join(n for n in fields if n != cls.family) or "none"
                    raise self.c.fail(f"an attribute of {cls.op_name} ({known})", at, f"'{name}'")
                values[name] = value
        for name, field in fields.items():
            if name not in values:
                values[name] = self._missing(cls, field, token)

    def _missing(self, cls: type[Op], field: Field, token: Token) -> Any:
        if field.annotation.endswith("None"):
            return None
        if field.annotation == "str" and field.optional:
            return ""
        if field.optional:
            return getattr(cls, field.name)
        raise self.c.fail(f"attribute '{field.name}' of {cls.op_name}", token, "none")

    def _at_attributes(self) -> bool:
        return self.c.at("{") and self.c.ahead(1).kind in ("ident", "string") and self.c.ahead(2).text == "="

    # -- regions and results ------------------------------------------------------------------------------------

    def regions(self, cls: type[Op], values: dict[str, Any]) -> None:
        """Fill the region fields."""
        outer = self.scope
        for field in cls.fields:
            if field.kind != "region":
                continue
            if cls.isolated:
                self.scope = Scope()
            if field.many:
                values[field.name] = tuple(self.read.listed("]", self.region))
            else:
                values[field.name] = None if field.optional and self.c.accept("_") else self.region()
        self.scope = outer

    def region(self) -> Region:
        """`{ (%p: f32)` operations `}`."""
        size = len(self.scope.order)
        region = Region()
        self.c.expect("{")
        if self.c.at("("):
            self.params(region)
        self._ops(region)
        self.scope.leave(size)
        return region

    def types(self, results: list[Token]) -> list[Type] | None:
        """`: f32[2], i64`; None where nothing is written: then they are inferred."""
        if not self.c.accept(":"):
            return None if results else []
        found = [self.read.type()]
        while self.c.accept(","):
            found.append(self.read.type())
        return found

    def build(self, cls: type[Op], values: dict[str, Any], types: list[Type] | None, loc: str, token: Token) -> Op:
        """The operation, its constants completed by the result type."""
        for name, value in values.items():
            if isinstance(value, PendingConstant):
                only = types[0] if types is not None and len(types) == 1 else None
                if not isinstance(only, TensorType) or not only.is_static:
                    raise self.c.fail("a static tensor type, as in 'splat(1.0, f32[2])'", value.token, "none")
                values[name] = value.make(only)
        try:
            op = cls(types=types, loc=loc, **values)
        except (VerifyError, AssertionError, ValueError, TypeError, IndexError, KeyError) as error:
            # Types that are inferred meet unchecked operands and attributes here.
            raise self.c.error(f"{token.text}: {error}", token) from error
        op.position = f"{self.c.filename}:{self.c.line_at(token.start)}"
        return op


# -- entry points -------------------------------------------------------------------------------------------------


def parse_module(text: str, filename: str = "<text>", resources: Mapping[str, np.ndarray] | None = None) -> Module:
    """The module that `text` describes. `resources` are the arrays that `print_module` put aside. Types are not
    checked: that is `ir.verifier`'s task. Raises `ParseError` with `filename:line:`."""
    return Parser(text, filename, resources).module()


def parse_expr(text: str, filename: str = "<text>") -> Expr:
    """The expression that `text` is."""
    reader = Reader(Cursor(text, filename))
    value = reader.expr()
    _end(reader)
    return value


def parse_type(text: str, filename: str = "<text>") -> Type:
    """The type that `text` is."""
    reader = Reader(Cursor(text, filename))
    value = reader.type()
    _end(reader)
    return value


def _end(reader: Reader) -> None:
    if reader.c.peek.kind != "end":
        raise reader.c.fail("the end of the text")
