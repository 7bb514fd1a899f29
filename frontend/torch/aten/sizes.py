"""Sizes: those of tensors, arithmetic on them, and numbers taken out of tensors."""

from __future__ import annotations

import math
from typing import Any

from ....ir.assume import require_nonnegative, require_zero
from ....ir.expr import Dim, Expr, as_dim, as_expr, floordiv, maximum, minimum, mod, product
from ...onnx.scope import simplified, symbol_ranges
from .base import Build, Item, Operand, Unsupported, aten


class Condition:
    """A comparison of sizes that only the run decides: `difference` is 0 (`equal`) or at least 0."""

    def __init__(self, difference: Expr, equal: bool, negated: bool = False) -> None:
        self.difference, self.equal, self.negated = difference, equal, negated

    def item(self, b: Build) -> Item:
        """The same as a tensor of type bool."""
        value, zero = b.tensor(self.difference, "i64"), b.tensor(0, "i64")
        found = b.op("Equal" if self.equal else "GreaterOrEqual", value, zero)
        return b.op("Not", found) if self.negated else found

    def require(self) -> None:
        """Check it when the model runs."""
        if self.equal and not self.negated:
            require_zero(self.difference)
        elif not self.equal:
            require_nonnegative(-self.difference - 1 if self.negated else self.difference)


@aten("sym_size.int", "size.int")
def sym_size(b: Build, x: Item, dim: int) -> Dim:
    return b.shape(x)[b.axis(dim, b.rank(x))]


@aten("sym_size", "size")
def sym_sizes(b: Build, x: Item) -> list[Any]:
    return list(b.shape(x))


@aten("sym_numel", "numel")
def sym_numel(b: Build, x: Item) -> Dim:
    return as_dim(product(b.shape(x)))


@aten("sym_stride.int", "stride.int")
def sym_stride(b: Build, x: Item, dim: int) -> Dim:
    """Strides as if the tensor lay in row-major order."""
    return as_dim(product(b.shape(x)[b.axis(dim, b.rank(x)) + 1 :]))


@aten("sym_storage_offset")
def sym_storage_offset(b: Build, x: Item) -> int:
    return 0


@aten("sym_is_contiguous", "is_contiguous")
def is_contiguous(b: Build, x: Item) -> bool:
    return True


@aten("item", "_local_scalar_dense")
def item(b: Build, x: Item) -> Operand:
    """A number out of a tensor: integers can be sizes, others stay tensors without dimensions."""
    flat = b.reshape(x, (1,))
    if b.dtype(x) in ("i64", "i32", "i16", "i8", "u8", "bool"):
        return b.a.dims(b.cast(flat, "i64"))[0]
    return b.reshape(x, ())


@aten("_assert_scalar", "_functional_assert_scalar")
def assert_scalar(b: Build, x: Any, assert_msg: str = "", dep_token: object = None) -> None:
    """A check of sizes, made when the model runs; PyTorch also notes those that always hold."""
    if isinstance(x, Condition):
        x.require()
    elif x is False:
        raise Unsupported(f"a check that cannot hold: {assert_msg}")


_FUNCTIONS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "floordiv": floordiv,
    "mod": mod,
    "sym_max": maximum,
    "sym_min": minimum,
}
_NUMBERS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
    "sym_max": max,
    "sym_min": min,
}


def bounded(value: Any) -> Any:
    """A number of at most 64 bits: larger ones are no sizes."""
    if isinstance(value, int) and value.bit_length() > 64:
        raise Unsupported("a size of more than 64 bits")
    return value


def _arithmetic(name: str) -> Any:
    def lower(b: Build, a: Any, other: Any) -> Any:
        if isinstance(a, Item) or isinstance(other, Item):
            from .base import LOWERINGS

            operator = {"floordiv": "floor_divide.default", "mod": "remainder.Tensor", "sym_max": "maximum.default",
                        "sym_min": "minimum.default"}.get(name, f"{name}.Tensor")  # fmt: skip
            return LOWERINGS[f"aten.{operator}"](b, b.tensor(a), b.tensor(other))
        if isinstance(a, Expr) or isinstance(other, Expr):
            if isinstance(a, float) or isinstance(other, float):
                raise Unsupported("a size times a number that is not whole", "export it with a fixed size")
            return simplified(as_expr(as_dim(_FUNCTIONS[name](as_expr(a), as_expr(other)))))
        return bounded(_NUMBERS[name](a, other))

    return lower


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    aten(f"{_name}.", space="_operator")(_arithmetic(_name))
for _name in ("sym_max", "sym_min"):
    aten(f"{_name}.", space="torch")(_arithmetic(_name))


@aten("sym_sum.", space="torch")
def sym_sum(b: Build, a: Any) -> Any:
    total = as_expr(0)
    for part in a:
        total = total + as_expr(part)
    return as_dim(total)


@aten("neg.", space="_operator")
def negative(b: Build, a: Any) -> Any:
    return as_dim(-as_expr(a)) if isinstance(a, Expr) else -a


@aten("pow.", space="_operator")
def power(b: Build, a: Any, other: Any) -> Any:
    exponent = other
    if isinstance(a, Expr):
        if not isinstance(exponent, int) or not 0 <= exponent <= 8:
            raise Unsupported(f"a size to the power of {exponent}")
        return as_dim(product([as_dim(a)] * exponent))
    return bounded(a**exponent if abs(exponent) < 64 else math.pow(a, exponent))


@aten("truediv.", space="_operator")
def quotient(b: Build, a: Any, other: Any) -> Any:
    """A quotient of sizes, which is a number with a fraction: kept apart until it is rounded."""
    if isinstance(a, Expr) or isinstance(other, Expr):
        return Ratio(as_expr(a), as_expr(other))
    return a / other


class Ratio:
    """A quotient of two sizes."""

    def __init__(self, above: Expr, below: Expr) -> None:
        self.above, self.below = above, below


def _rounded(kind: str) -> Any:
    def lower(b: Build, value: Any) -> Any:
        if isinstance(value, Ratio):
            if kind == "ceil":
                return as_dim(-floordiv(-value.above, value.below))
            return as_dim(floordiv(value.above, value.below))
        if isinstance(value, Expr | int):
            return value
        return getattr(math, kind)(value)

    return lower


for _name in ("ceil", "floor", "trunc"):
    aten(f"{_name}.", space="math")(_rounded(_name))
aten("round.", space="_operator")(_rounded("trunc"))


@aten("sym_float.", space="torch")
def sym_float(b: Build, a: Any) -> Any:
    return Ratio(as_expr(a), as_expr(1)) if isinstance(a, Expr) else float(a)


@aten("sym_int.", space="torch")
def sym_int(b: Build, a: Any) -> Any:
    return _rounded("trunc")(b, a)


def compared(name: str, left: Any, right: Any) -> Any:
    """A comparison of sizes: a bool where it is known, else a `Condition`."""
    if not (isinstance(left, Expr) or isinstance(right, Expr)):
        return {"eq": left == right, "ne": left != right, "lt": left < right, "le": left <= right,
                "gt": left > right, "ge": left >= right}[name]  # fmt: skip
    left, right = as_expr(left), as_expr(right)
    swapped = {"lt": ("gt", right, left), "le": ("ge", right, left)}.get(name)
    if swapped:
        name, left, right = swapped
    difference = left - right - (1 if name == "gt" else 0)
    low, high = difference.bounds(symbol_ranges(difference))
    if name in ("eq", "ne"):
        known = True if low == high == 0 else False if (low or 0) > 0 or (high is not None and high < 0) else None
        if known is not None:
            return known == (name == "eq")
        return Condition(difference, True, name == "ne")
    if low is not None and low >= 0:
        return True
    return False if high is not None and high < 0 else Condition(difference, False)


def _comparison(name: str) -> Any:
    def lower(b: Build, a: Any, other: Any) -> Any:
        if isinstance(a, Item) or isinstance(other, Item):
            from .base import LOWERINGS

            return LOWERINGS[f"aten.{name}.Tensor"](b, b.tensor(a), b.tensor(other))
        return compared(name, a, other)

    return lower


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    aten(f"{_name}.", space="_operator")(_comparison(_name))


def truth(b: Build, value: Any) -> Item | bool:
    """A condition as a tensor, or as what is known."""
    if isinstance(value, Condition):
        return value.item(b)
    return value if isinstance(value, Item) else bool(value)


def _logical(operator: str, plain: Any) -> Any:
    def lower(b: Build, a: Any, other: Any) -> Any:
        left, right = truth(b, a), truth(b, other)
        if isinstance(left, bool) and isinstance(right, bool):
            return plain(left, right)
        return b.op(operator, b.tensor(left, "bool"), b.tensor(right, "bool"))

    return lower


aten("and_.", space="_operator")(_logical("And", lambda x, y: x and y))
aten("or_.", space="_operator")(_logical("Or", lambda x, y: x or y))


@aten("sym_not.", space="torch")
def sym_not(b: Build, a: Any) -> Any:
    value = truth(b, a)
    return (not value) if isinstance(value, bool) else b.op("Not", value)


@aten("sym_ite.", space="torch")
def sym_ite(b: Build, condition: Any, then: Any, otherwise: Any) -> Any:
    value = truth(b, condition)
    if not isinstance(value, bool):
        raise Unsupported("a size that depends on a condition", "export it with fixed sizes")
    return then if value else otherwise


@aten("getitem.", space="_operator")
def getitem(b: Build, a: Any, other: Any) -> Any:
    return a[other]


__all__ = ["Condition", "Ratio", "compared", "truth"]
