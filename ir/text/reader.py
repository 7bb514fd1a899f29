"""Reading of what stands inside operations: expressions, types and attribute literals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from ..constants import ArraySource, ConstantData, FileSource, LinearSource, PiecesSource, SplatSource
from ..expr import Dim, Expr, as_dim, const, floordiv, maximum, minimum, mod, sym
from ..kernel.form import LoopDim, Schedule
from ..types import (
    DTYPES,
    ROW_MAJOR,
    Layout,
    MapType,
    OptionalType,
    ScalarType,
    SequenceType,
    TensorType,
    TupleType,
    Type,
)
from .lexer import Cursor, Token

_CALLS: dict[str, Callable[[Dim, Dim], Expr]] = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan}
_SOURCES = ("splat", "dense", "file", "resource", "linear", "pieces")


class PendingConstant:
    """A constant literal whose element type and shape are those of the operation's result, not read yet."""

    def __init__(self, make: Callable[[TensorType], ConstantData], token: Token) -> None:
        self.make = make
        self.token = token


class Reader:
    """Reads expressions, types and literals at a cursor."""

    def __init__(self, cursor: Cursor, resources: Mapping[str, np.ndarray] | None = None) -> None:
        self.c = cursor
        self.resources = resources

    # -- expressions --------------------------------------------------------------------------------------------

    def expr(self) -> Expr:
        """`2*h + i - 1`, `floordiv(c, 16)`."""
        negative = self.c.accept("-")
        total = self._product()
        if negative:
            total = -total
        while self.c.at("+") or self.c.at("-"):
            plus = self.c.take().text == "+"
            term = self._product()
            total = total + term if plus else total - term
        return total

    def _product(self) -> Expr:
        result = self._factor()
        while self.c.accept("*"):
            result = result * self._factor()
        return result

    def _factor(self) -> Expr:
        token = self.c.take()
        if token.kind == "int":
            return const(int(token.text))
        if token.kind == "string":
            return sym(self.c.name(token))
        if token.text == "(":
            inner = self.expr()
            self.c.expect(")")
            return inner
        if token.text == "-":
            return -self._factor()
        if token.kind != "ident":
            raise self.c.fail("a number, a symbol or '('", token)
        if token.text not in _CALLS:
            return sym(token.text)
        self.c.expect("(")
        a = self.expr()
        self.c.expect(",")
        b = self.expr()
        self.c.expect(")")
        return _CALLS[token.text](a, b)

    # -- types --------------------------------------------------------------------------------------------------

    def type(self) -> Type:
        """`f32[1,n]@{...}`, `f32`, `tuple<...>`, `seq<...>`, `optional<...>`, `map<i64,...>`."""
        token = self.c.expect_kind("ident", "a type")
        if token.text in ("tuple", "seq", "optional"):
            return self._compound(token)
        if token.text == "map":
            return self._map()
        if token.text not in DTYPES:
            raise self.c.fail("a type", token)
        if not self.c.accept("["):
            return ScalarType(token.text)
        shape: tuple[Dim, ...] | None = None
        if not self.c.accept("*"):
            shape = tuple(self.listed("]", lambda: as_dim(self.expr()), opened=True))
        else:
            self.c.expect("]")
        layout = self.layout() if self.c.at("@{") else ROW_MAJOR
        return TensorType(token.text, shape, layout)

    def _compound(self, token: Token) -> Type:
        self.c.expect("<")
        items = self.listed(">", self.type, opened=True)
        if token.text == "tuple":
            return TupleType(tuple(items))
        if len(items) != 1:
            raise self.c.fail(f"one type in {token.text}<...>", token, f"{len(items)}")
        return SequenceType(items[0]) if token.text == "seq" else OptionalType(items[0])

    def _map(self) -> Type:
        self.c.expect("<")
        key = self.c.expect_kind("ident", "the type of a map's keys").text
        self.c.expect(",")
        item = self.type()
        self.c.expect(">")
        return MapType(key, item)

    def layout(self) -> Layout:
        """`@{order=[0,2,3,1], pad=[[0,0],[1,1]]}`."""
        self.c.expect("@{")
        known = {f.name for f in fields(Layout)}
        found: dict[str, Any] = {}
        while not self.c.accept("}"):
            token = self.c.expect_kind("ident", "a part of a layout")
            if token.text not in known:
                raise self.c.fail(f"one of {', '.join(sorted(known))}", token)
            self.c.expect("=")
            found[token.text] = self.literal()
            if not self.c.at("}"):
                self.c.expect(",")
        return Layout(**found)

    # -- literals -----------------------------------------------------------------------------------------------

    def listed(self, end: str, item: Callable[[], Any], *, opened: bool = False, start: str = "[") -> list[Any]:
        """Items separated by commas up to the punctuation `end`."""
        if not opened:
            self.c.expect(start)
        items: list[Any] = []
        while not self.c.accept(end):
            items.append(item())
            if not self.c.at(end) and not self.c.accept(","):
                raise self.c.fail(f"',' or '{end}'")
        return items

    def literal(self) -> Any:
        """One attribute value. A constant without a type of its own is a `PendingConstant`."""
        token = self.c.peek
        match token.kind:
            case "int" | "float":
                return self.number()
            case "string":
                self.c.take()
                return self.c.string(token)
            case "ident":
                return self._word(token)
            case "punct":
                return self._bracketed(token)
            case _:
                raise self.c.fail("a literal")

    def number(self) -> int | float:
        """An int or a float, with its sign."""
        sign = -1 if self.c.accept("-") else 1
        token = self.c.take()
        if token.kind == "int":
            return sign * int(token.text)
        if token.kind == "float":
            return sign * float(token.text)
        if token.text in ("inf", "nan"):
            return sign * float(token.text)
        raise self.c.fail("a number", token)

    def _bracketed(self, token: Token) -> Any:
        match token.text:
            case "-":
                return self.number()
            case "[":
                return tuple(self.listed("]", self.literal))
            case "{":
                return self.dictionary()
            case "<":
                return self.angle()
            case "@{":
                return self.layout()
            case _:
                raise self.c.fail("a literal")

    def dictionary(self) -> dict[str, Any]:
        """`{name = literal, "other name" = literal}`."""
        self.c.expect("{")
        found: dict[str, Any] = {}
        while not self.c.accept("}"):
            token = self.c.peek
            if token.kind not in ("ident", "string"):
                raise self.c.fail("a name")
            key = self.c.name(self.c.take())
            if key in found:
                raise self.c.fail(f"'{key}' once", token, "it twice")
            self.c.expect("=")
            found[key] = self.literal()
            if not self.c.at("}") and not self.c.accept(","):
                raise self.c.fail("',' or '}'")
        return found

    def angle(self, annotation: str = "") -> Any:
        """`<n, c>`, `<n: 1, o: 64>`; without an annotation `<e>` is an expression and `<e,>` a tuple of one."""
        self.c.expect("<")
        if self.c.ahead(1).text == ":" or annotation == "tuple[LoopDim, ...]":
            return tuple(self.listed(">", self._loop_dim, opened=True))
        if annotation == "Expr":
            value = self.expr()
            self.c.expect(">")
            return value
        items: list[Expr] = []
        comma = False
        while not self.c.accept(">"):
            items.append(self.expr())
            comma = self.c.accept(",")
            if not comma and not self.c.at(">"):
                raise self.c.fail("',' or '>'")
        single = len(items) == 1 and not comma and annotation != "tuple[Expr, ...]"
        return items[0] if single else tuple(items)

    def _loop_dim(self) -> LoopDim:
        name = self._dim_name()
        self.c.expect(":")
        return LoopDim(name, as_dim(self.expr()))

    def _dim_name(self) -> str:
        if self.c.peek.kind not in ("ident", "string"):
            raise self.c.fail("the name of a dimension")
        return self.c.name(self.c.take())

    def _word(self, token: Token) -> Any:
        if token.text in _WORDS:
            self.c.take()
            return _WORDS[token.text]
        if token.text == "schedule":
            return self.schedule()
        if token.text == "complex":
            return self._complex()
        if token.text in _SOURCES:
            return self.constant()
        if token.text in DTYPES or token.text in ("tuple", "seq", "optional", "map"):
            return self.type()
        raise self.c.fail('a literal (a symbol is written <n>, a string "n")')

    def _complex(self) -> complex:
        """`complex(1.0, -2.5)`."""
        self.c.expect("complex")
        self.c.expect("(")
        real = self.number()
        self.c.expect(",")
        imaginary = self.number()
        self.c.expect(")")
        return complex(real, imaginary)

    def schedule(self) -> Schedule:
        """`schedule(loops = [o: 32, h: 1], vector = o, parallel = 2, grain = 1)`."""
        self.c.expect("schedule")
        self.c.expect("(")
        found: dict[str, Any] = {}
        known = [f.name for f in fields(Schedule)]
        while not self.c.accept(")"):
            token = self.c.expect_kind("ident", "a part of a schedule")
            if token.text not in known:
                raise self.c.fail(f"one of {', '.join(known)}", token)
            self.c.expect("=")
            found[token.text] = self._schedule_value(token.text)
            if not self.c.at(")") and not self.c.accept(","):
                raise self.c.fail("',' or ')'")
        return Schedule(**found)

    def _schedule_value(self, part: str) -> Any:
        if part == "loops":
            return tuple(self.listed("]", self._loop))
        if part == "vector":
            return "" if self.c.accept("none") else self._dim_name()
        return self.literal()

    def _loop(self) -> tuple[str, int]:
        name = self._dim_name()
        self.c.expect(":")
        return name, int(self.c.expect_kind("int", "a step").text)

    # -- constants ----------------------------------------------------------------------------------------------

    def constant(self) -> ConstantData | PendingConstant:
        """`splat(1.0)`, `dense([1, 2])`, `file("w.bin", 0)`, `pieces("w.bin", [[0, 8]])`, `resource("c0")`,
        `linear([[1.0, 2.0]], file(...))`, each with an optional type and `transpose = [1, 0]`."""
        token = self.c.take()
        self.c.expect("(")
        main = self._source_value(token)
        type_: TensorType | None = None
        transpose: tuple[int, ...] = ()
        while self.c.accept(","):
            if self.c.accept("transpose"):
                self.c.expect("=")
                transpose = tuple(self.listed("]", self.number))
            else:
                got = self.type()
                if not isinstance(got, TensorType) or not got.is_static:
                    raise self.c.fail("a static tensor type", token, str(got))
                type_ = got
        self.c.expect(")")
        if type_ is not None:
            return self._constant(token, main, transpose, type_)
        return PendingConstant(partial(self._constant, token, main, transpose), token)

    def _source_value(self, token: Token) -> Any:
        match token.text:
            case "splat":
                return self.literal()
            case "dense":
                return self.listed("]", self.literal)
            case "resource":
                return self._resource()
            case "linear":
                return self._linear(token)
            case _:
                path = self.c.string(self.c.expect_kind("string", "a path in quotes"))
                self.c.expect(",")
                if token.text == "pieces":
                    return PiecesSource(path, self._pieces(token))
                return FileSource(path, int(self.c.expect_kind("int", "an offset in bytes").text))

    def _pieces(self, token: Token) -> tuple[tuple[int, int], ...]:
        found = [tuple(pair) for pair in self.listed("]", lambda: self.listed("]", self.number))]
        if not found or any(len(pair) != 2 or not all(isinstance(n, int) and n >= 0 for n in pair) for pair in found):
            raise self.c.error("expected pairs of an offset and a number of bytes", token)
        return tuple(found)

    def _linear(self, token: Token) -> LinearSource:
        matrix = tuple(tuple(float(x) for x in row) for row in self.listed("]", self.literal))
        self.c.expect(",")
        base = self.constant()
        columns = {len(row) for row in matrix}
        if not isinstance(base, ConstantData) or len(columns) != 1 or base.elements % max(1, *columns):
            raise self.c.error("expected a matrix, and a constant with its type that it can multiply", token)
        return LinearSource(base, matrix)

    def _resource(self) -> np.ndarray:
        token = self.c.expect_kind("string", "the name of a resource in quotes")
        name = self.c.string(token)
        if self.resources is None or name not in self.resources:
            raise self.c.error(
                f'resource "{name}" is not at hand: the text was printed without its large constants', token
            )
        return self.resources[name]

    def _constant(self, token: Token, main: Any, transpose: tuple[int, ...], t: TensorType) -> ConstantData:
        shape = t.static_shape
        if token.text == "splat":
            return ConstantData(t.dtype, shape, SplatSource(main), transpose)
        if token.text in ("file", "linear", "pieces"):
            return ConstantData(t.dtype, shape, main, transpose)
        stored = [0] * len(shape)
        for new, old in enumerate(transpose or range(len(shape))):
            stored[old] = shape[new]
        array = self._dense(token, main, t, stored) if token.text == "dense" else main
        return ConstantData(t.dtype, shape, ArraySource(array, id(array)), transpose)

    def _dense(self, token: Token, items: list[Any], t: TensorType, shape: list[int]) -> np.ndarray:
        count = math.prod(shape)
        if len(items) != count:
            raise self.c.fail(f"{count} elements for {t}", token, str(len(items)))
        info = DTYPES[t.dtype]
        try:
            array = np.array(items, dtype=np.float64 if info.kind in ("float", "float8") else info.numpy)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.c.fail(f"elements of {t.dtype}", token, str(items)[:60]) from error
        array = array.astype(info.numpy, copy=False).reshape(shape)
        array.setflags(write=False)
        return array
