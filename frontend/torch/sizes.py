"""Sizes as PyTorch writes them: SymPy expressions, as text, become `Expr`s.

`srepr` text of `.pt2` files (`Mul(Integer(2), Symbol('s0', positive=True))`) and plain text of live programs
(`2*s0 + 1`, `(s0//2)`, `Max(1, s0)`) are both Python expressions; they are parsed, never evaluated.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

from ...ir.errors import ModelError
from ...ir.expr import Dim, as_dim, as_expr, floordiv, maximum, minimum, mod, sym
from ..text import symbol_name

_LONGEST = 10_000  # characters of an expression
_DEEPEST = 60
_MOST_TERMS = 64
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.FloorDiv: "FloorDiv", ast.Mod: "Mod"
}  # fmt: skip


def parse_size(text: str, where: str, names: Mapping[str, str] | None = None) -> Dim:
    """A size from its text. `names` renames symbols. Raises `ModelError` for what is no size."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        tree = ast.parse(text.strip(), mode="eval")
        return _size(tree.body, names or {}, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, ZeroDivisionError, OverflowError) as e:
        raise ModelError(f"{where}: expected a size, got {text[:80]!r}") from e


def _size(tree: ast.expr, names: Mapping[str, str], depth: int) -> Dim:
    """The size that an expression stands for. Raises ValueError."""
    if depth > _DEEPEST:
        raise ValueError
    match tree:
        case ast.Constant(value=bool() as value):
            return int(value)
        case ast.Constant(value=int() as value):
            return value
        case ast.Name(id=name):
            return sym(symbol_name(names.get(name, name)))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return as_dim(-as_expr(_size(inner, names, depth + 1)))
        case ast.BinOp(op=ast.Pow(), left=left, right=ast.Constant(value=int() as power)) if 0 <= power <= 8:
            return _folded("Mul", [_size(left, names, depth + 1)] * power or [1])
        case ast.BinOp(left=left, op=operator, right=right):
            return _folded(_OPERATORS.get(type(operator), ""), [_size(e, names, depth + 1) for e in (left, right)])
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
            return sym(symbol_name(names.get(name, name)))
        case ast.Call(func=ast.Name(id="Pow"), args=[base, power]):
            count = _size(power, names, depth + 1)
            if not isinstance(count, int) or not 0 <= count <= 8:
                raise ValueError
            return _folded("Mul", [_size(base, names, depth + 1)] * count or [1])
        case ast.Call(func=ast.Name(id=name), args=args):
            return _folded(name, [_size(e, names, depth + 1) for e in args])
        case ast.Call(func=ast.Attribute(attr=name), args=args):
            return _folded(name, [_size(e, names, depth + 1) for e in args])
        case _:
            raise ValueError


def _folded(kind: str, parts: list[Dim]) -> Dim:
    """A function of sizes by SymPy's or PyTorch's name."""
    if not parts:
        raise ValueError
    total = as_expr(parts[0])
    for part in parts[1:]:
        match kind:
            case "Add":
                total = total + part
            case "Sub":
                total = total - part
            case "Mul":
                total = total * part
            case "FloorDiv" | "CleanDiv" | "IntTrueDiv":
                total = floordiv(total, part)
            case "CeilDiv":
                total = -floordiv(-total, part)
            case "Mod" | "PythonMod":
                total = mod(total, part)
            case "Max":
                total = maximum(total, part)
            case "Min":
                total = minimum(total, part)
            case _:
                raise ValueError
        if len(total.terms) > _MOST_TERMS or any(factor.bit_length() > 64 for _, factor in total.terms):
            raise ValueError  # powers of powers grow without end
    if len(parts) == 1 and kind not in ("Integer", "Add", "Mul", "Max", "Min", "CeilToInt", "FloorToInt", "TruncToInt"):
        raise ValueError
    return as_dim(total)


def whole(value: float) -> int | None:
    """A bound of a range as a number; None for infinity."""
    return None if math.isinf(value) else int(value)


__all__ = ["parse_size", "whole"]
