"""Formulas over values: `Calc` has Python's operators, so that converters can say `(x + 0.5) / scale - 0.5`."""

from __future__ import annotations

from ...ir.core import Op, Value
from ...ir.expr import Dim
from ...ir.ops.arith import (
    Abs,
    Add,
    And,
    Cast,
    Ceil,
    Cos,
    Div,
    Equal,
    Exp,
    Floor,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Not,
    Or,
    Pow,
    Round,
    Sin,
    Sqrt,
    Sub,
    Where,
)
from ...ir.ops.shape import Iota, Reshape
from ...ir.types import is_float
from .node import Node

Number = int | float | bool


class Calc:
    """A value of a node. Numbers among the operands take its element type; everything broadcasts."""

    def __init__(self, node: Node, value: Value) -> None:
        self.node = node
        self.value = value

    @classmethod
    def iota(cls, node: Node, size: Dim, dtype: str = "f64") -> Calc:
        """0, 1, ... size-1."""
        whole = cls(node, node.make(Iota, (size,), 0, "i64"))
        return whole.cast(dtype)

    @property
    def dtype(self) -> str:
        """Its element type."""
        return self.value.tensor.dtype

    def _operand(self, x: Calc | Number) -> Value:
        if isinstance(x, Calc):
            return x.value
        number = float(x) if is_float(self.dtype) else bool(x) if self.dtype == "bool" else int(x)
        return self.node.splat(number, self.dtype)

    def _two(self, kind: type[Op], y: Calc | Number, swapped: bool = False) -> Calc:
        a, b = self.value, self._operand(y)
        return Calc(self.node, self.node.make(kind, *((b, a) if swapped else (a, b))))

    def _one(self, kind: type[Op]) -> Calc:
        return Calc(self.node, self.node.make(kind, self.value))

    def __add__(self, y: Calc | Number) -> Calc:
        return self._two(Add, y)

    def __radd__(self, y: Number) -> Calc:
        return self._two(Add, y)

    def __sub__(self, y: Calc | Number) -> Calc:
        return self._two(Sub, y)

    def __rsub__(self, y: Number) -> Calc:
        return self._two(Sub, y, swapped=True)

    def __mul__(self, y: Calc | Number) -> Calc:
        return self._two(Mul, y)

    def __rmul__(self, y: Number) -> Calc:
        return self._two(Mul, y)

    def __truediv__(self, y: Calc | Number) -> Calc:
        return self._two(Div, y)

    def __rtruediv__(self, y: Number) -> Calc:
        return self._two(Div, y, swapped=True)

    def __neg__(self) -> Calc:
        return self._one(Neg)

    def __invert__(self) -> Calc:
        return self._one(Not)

    def __and__(self, y: Calc | Number) -> Calc:
        return self._two(And, y)

    def __or__(self, y: Calc | Number) -> Calc:
        return self._two(Or, y)

    def __lt__(self, y: Calc | Number) -> Calc:
        return self._two(Less, y)

    def __le__(self, y: Calc | Number) -> Calc:
        return self._two(LessEqual, y)

    def __gt__(self, y: Calc | Number) -> Calc:
        return self._two(Greater, y)

    def __ge__(self, y: Calc | Number) -> Calc:
        return self._two(GreaterEqual, y)

    def equals(self, y: Calc | Number) -> Calc:
        """Elementwise equality."""
        return self._two(Equal, y)

    def minimum(self, y: Calc | Number) -> Calc:
        """The smaller one of each pair."""
        return self._two(Minimum, y)

    def maximum(self, y: Calc | Number) -> Calc:
        """The larger one of each pair."""
        return self._two(Maximum, y)

    def clamped(self, low: Calc | Number, high: Calc | Number) -> Calc:
        """Between `low` and `high`."""
        return self.maximum(low).minimum(high)

    def where(self, x: Calc, y: Calc | Number) -> Calc:
        """`x` where this is true, else `y`."""
        return Calc(self.node, self.node.make(Where, self.value, x.value, x._operand(y)))

    def floor(self) -> Calc:
        """Rounded down."""
        return self._one(Floor)

    def ceil(self) -> Calc:
        """Rounded up."""
        return self._one(Ceil)

    def round(self) -> Calc:
        """Rounded, halves to even."""
        return self._one(Round)

    def abs(self) -> Calc:
        """Without its sign."""
        return self._one(Abs)

    def exp(self) -> Calc:
        """e to its power."""
        return self._one(Exp)

    def raised(self, base: float) -> Calc:
        """`base` to its power."""
        return Calc(self.node, self.node.make(Pow, self.node.splat(base, self.dtype), self.value))

    def sqrt(self) -> Calc:
        """Its square root."""
        return self._one(Sqrt)

    def sin(self) -> Calc:
        """Its sine."""
        return self._one(Sin)

    def cos(self) -> Calc:
        """Its cosine."""
        return self._one(Cos)

    def cast(self, dtype: str) -> Calc:
        """As another element type."""
        return self if self.dtype == dtype else Calc(self.node, self.node.make(Cast, self.value, dtype))

    def reshaped(self, *shape: Dim) -> Calc:
        """The same elements in another shape."""
        return self if self.value.tensor.dims == shape else Calc(self.node, self.node.make(Reshape, self.value, shape))

    def settled(self) -> Value:
        """The value; a constant where all that goes into it is known."""
        array = self.node.scope.evaluated(self.value)
        return self.value if array is None else self.node.literal(array, self.dtype)


def scalar(node: Node, number: Dim, dtype: str = "f64") -> Calc:
    """A number, perhaps symbolic, as a scalar value."""
    return Calc(node, node.scope.number(number, "i64")).cast(dtype)
