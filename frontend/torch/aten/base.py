"""What lowerings are written with: a table of functions by operator, and a toolbox of tensors, types and sizes.

A lowering takes the toolbox and the operator's arguments by the names of its schema (`self` is called `x`) and gives
the result: an `Item`, a size, or a list of these.

    @aten("add.Tensor", "add.Scalar")
    def add(b: Build, x: Operand, other: Operand, alpha: Number = 1) -> Item: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ....ir.expr import Dim, Expr, as_dim, as_expr, maximum, minimum, product
from ....ir.ops.shape import Slice, Transpose
from ....ir.types import DTYPES
from ...assembly import Assembly, Item, Unsupported
from ...onnx.scope import simplified, symbol_ranges
from ...onnx.tensors import DTYPE_NAMES

Number: TypeAlias = "int | float | bool | Expr"
Operand: TypeAlias = "Item | int | float | bool | Expr"
Lowering: TypeAlias = Callable[..., Any]

LOWERINGS: dict[str, Lowering] = {}
"""By `aten.add.Tensor`."""
ONNX_TYPES = {name: number for number, name in DTYPE_NAMES.items()}
_LAST = (1 << 63) - 1
_MOST = 1 << 16  # things that are written out one by one
_RANKS = {"bool": 0, "uint": 1, "int": 1, "float": 2, "float8": 2, "complex": 3}


def aten(*names: str, space: str = "aten") -> Callable[[Lowering], Lowering]:
    """Enter a lowering for these operators; a name without overload means `default`, one that
    ends in a dot is a function without overloads."""

    def enter(function: Lowering) -> Lowering:
        for name in names:
            full = f"{space}.{name.rstrip('.')}" if "." in name else f"{space}.{name}.default"
            assert full not in LOWERINGS, f"{full} has two lowerings"
            LOWERINGS[full] = function
        return function

    return enter


def kind_of(dtype: str) -> str:
    """float, int, uint, bool ... Raises `Unsupported` for an element type that planish lacks."""
    if dtype not in DTYPES:
        raise Unsupported(f"tensors of {dtype}", "use real numbers")
    return DTYPES[dtype].kind


def promoted(left: str, right: str) -> str:
    """The element type that both fit, by PyTorch's rules for tensors of the same standing."""
    if left == right:
        return left
    a, b = DTYPES[left], DTYPES[right]
    if _RANKS[a.kind] != _RANKS[b.kind]:
        return left if _RANKS[a.kind] > _RANKS[b.kind] else right
    if {left, right} == {"f16", "bf16"}:
        return "f32"
    if a.kind == b.kind:
        return left if a.bits > b.bits else right
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.bits > unsigned.bits:
        return signed.name
    wider = {8: "i16", 16: "i32", 32: "i64"}.get(unsigned.bits)
    if wider is None:
        raise Unsupported(f"{left} and {right} in one operation")
    return wider


class Build:
    """The toolbox: short forms of what `Assembly` does, with PyTorch's rules for types and dimensions."""

    def __init__(self, assembly: Assembly) -> None:
        self.a = assembly
        self.call: Callable[[Any, Sequence[Any]], list[Any]] = _no_graphs
        """Builds a branch or a loop's body where it is called: (graph, operands) -> results."""

    # -- tensors ---------------------------------------------------------------------------------------------------

    def op(self, operator: str, *inputs: Any, **attributes: Any) -> Item:
        """The first output of an operator of ONNX."""
        return self.a.op(operator, *inputs, **attributes)

    def dtype(self, x: Item) -> str:
        return self.a.type(x).dtype

    def shape(self, x: Item) -> tuple[Dim, ...]:
        return self.a.shape(x)

    def rank(self, x: Item) -> int:
        return len(self.a.shape(x))

    def tensor(self, x: Operand, dtype: str | None = None) -> Item:
        """A tensor, or a number as one of shape []: of `dtype`, else what PyTorch takes for it."""
        if isinstance(x, Item):
            return x if dtype is None else self.cast(x, dtype)
        if isinstance(x, Expr):
            size = self.a.op("Reshape", self.a.sizes([x]), np.zeros(0, np.int64))
            return self.cast(size, dtype or "i64")
        own = "bool" if isinstance(x, bool) else "i64" if isinstance(x, int) else "f32"
        target = dtype or own
        if kind_of(target) in ("int", "uint") and not isinstance(x, bool):
            x = int(x)
            bits = DTYPES[target].bits
            low = -(1 << (bits - 1)) if kind_of(target) == "int" else 0
            x = min(max(x, low), low + (1 << bits) - 1)
        number = bool(x) if target == "bool" else float(x) if kind_of(target) == "float" else x
        return self.a.scalar(number, target)

    def vector(self, values: Sequence[Any] | np.ndarray | range, dtype: str = "i64") -> Item:
        """A vector of plain numbers."""
        return self.a.constant(np.asarray(values, DTYPES[dtype].numpy))

    def cast(self, x: Item, dtype: str) -> Item:
        """`x` as `dtype`."""
        kind_of(dtype)
        return x if self.dtype(x) == dtype else self.op("Cast", x, to=ONNX_TYPES[dtype])

    def number(self, x: Operand) -> float | int | bool:
        """An operand whose value must be known now."""
        if isinstance(x, Item):
            array = self.a.array(x, 1)
            if array is None:
                raise Unsupported("a number that is computed from data, where a constant is needed")
            return array.reshape(-1)[0].item()
        if isinstance(x, Expr):
            raise Unsupported(f"the size {x}, where a number is needed", "export it with a fixed size")
        return x

    # -- element types ---------------------------------------------------------------------------------------------

    def result_type(self, *operands: Operand) -> str:
        """The element type of an operation on these: tensors with dimensions count before those without, and these
        before numbers, unless the later ones are of a higher kind."""
        found: str | None = None
        tensors = [x for x in operands if isinstance(x, Item)]
        for some in ([x for x in tensors if self.rank(x)], [x for x in tensors if not self.rank(x)]):
            for x in some:
                own = self.dtype(x)
                kind_of(own)
                strong = found is None or self.rank(x) or _RANKS[kind_of(own)] > _RANKS[kind_of(found)]
                dims = any(self.rank(t) for t in tensors)
                if found is None:
                    found = own
                elif strong or not dims:
                    found = promoted(found, own)
        for x in operands:
            if not isinstance(x, Item):
                kind = "bool" if isinstance(x, bool) else "float" if isinstance(x, float) else "int"
                own = {"bool": "bool", "int": "i64", "float": "f32"}[kind]
                if found is None or _RANKS[kind] > _RANKS[kind_of(found)]:
                    found = own
        assert found is not None
        return found

    def common(self, *operands: Operand) -> list[Item]:
        """The operands as tensors of one element type."""
        dtype = self.result_type(*operands)
        return [self.tensor(x, dtype) for x in operands]

    def real(self, x: Operand) -> Item:
        """The operand as floating-point numbers."""
        item = self.tensor(x)
        return item if kind_of(self.dtype(item)) == "float" else self.cast(item, "f32")

    def reals(self, *operands: Operand) -> list[Item]:
        """The operands as floating-point numbers of one type."""
        dtype = self.result_type(*operands)
        return [self.tensor(x, dtype if kind_of(dtype) == "float" else "f32") for x in operands]

    # -- dimensions ------------------------------------------------------------------------------------------------

    def axis(self, dim: int, rank: int) -> int:
        """A dimension counted from the front. PyTorch takes 0 and -1 of tensors without dimensions."""
        if not -max(rank, 1) <= dim < max(rank, 1):
            raise Unsupported(f"dimension {dim} of a tensor of rank {rank}")
        return dim % max(rank, 1)

    def axes(self, dim: int | Sequence[int] | None, rank: int) -> list[int]:
        """Dimensions counted from the front; none or [] for all of them."""
        if dim is None or (not isinstance(dim, int) and not dim):
            return list(range(rank))
        return [self.axis(d, rank) for d in ([dim] if isinstance(dim, int) else dim)]

    def reshape(self, x: Item, dims: Sequence[Dim]) -> Item:
        """The same elements in another shape; one dimension may be -1."""
        wanted = [as_dim(d) for d in dims]
        shape = self.shape(x)
        if -1 in wanted:
            wanted = self.inferred(shape, wanted)
        return x if tuple(wanted) == shape else self.op("Reshape", x, wanted, allowzero=1)

    def inferred(self, shape: Sequence[Dim], wanted: Sequence[Dim]) -> list[Dim]:
        """A shape in which -1 stands for what is left."""
        at = list(wanted).index(-1)
        rest = as_expr(product(d for i, d in enumerate(wanted) if i != at))
        total = as_expr(product(shape))
        if rest.constant == 0:
            raise Unsupported("a shape with -1 beside 0")
        found = _quotient(list(shape), [d for i, d in enumerate(wanted) if i != at])
        size = found if found is not None else as_dim(total // rest)
        return [size if i == at else d for i, d in enumerate(wanted)]

    def permute(self, x: Item, order: Sequence[int]) -> Item:
        """Dimensions in another order. A constant is the same bytes, seen in another order."""
        order = [self.axis(d, self.rank(x)) for d in order]
        if list(order) == list(range(len(order))):
            return x
        if x.data is not None:
            return self.a.constant(x.data.permuted(order), x.name)
        return self.a.make(Transpose, x, tuple(order))

    def turned(self, x: Item) -> Item:
        """The last two dimensions exchanged."""
        rank = self.rank(x)
        return self.permute(x, [*range(rank - 2), rank - 1, rank - 2])

    def unsqueeze(self, x: Item, *axes: int) -> Item:
        """Dimensions of size 1 at these places of the result."""
        return self.op("Unsqueeze", x, self.vector(axes))

    def expand(self, x: Item, dims: Sequence[Dim]) -> Item:
        """Broadcast to a shape."""
        return x if tuple(dims) == self.shape(x) else self.op("Expand", x, [as_dim(d) for d in dims])

    def slice(self, x: Item, dim: int, start: Dim | None, stop: Dim | None, step: int = 1) -> Item:
        """`x[..., start:stop:step, ...]` by Python's rules."""
        at = self.axis(dim, self.rank(x))
        size = self.shape(x)[at]
        low = 0 if start is None else self.clipped(start, size)
        high = size if stop is None or stop == _LAST else self.clipped(stop, size)
        if low == 0 and high == size and step == 1:
            return x
        if isinstance(low, int) and isinstance(high, int) and high < low:
            high = low
        known = x.known is not None or self.dtype(x) in ("i64", "i32", "bool")
        if not known and _ordered(low, high):
            starts = tuple(low if i == at else 0 for i in range(self.rank(x)))
            stops = tuple(high if i == at else d for i, d in enumerate(self.shape(x)))
            return self.a.make(Slice, x, starts, stops, tuple(step if i == at else 1 for i in range(self.rank(x))))
        return self.op("Slice", x, [low], [high], self.vector([at]), self.vector([step]))

    def clipped(self, place: Dim, size: Dim) -> Dim:
        """A place between 0 and `size`; negative ones count from the end."""
        if isinstance(place, int) and isinstance(size, int):
            return min(max(place + size if place < 0 else place, 0), size)
        if isinstance(place, int):
            if place == 0:
                return 0
            low, _ = as_expr(size).bounds(symbol_ranges_of(size))
            if 0 < place <= (low or 0):
                return place
            if place < 0 and -place <= (low or 0):
                return as_dim(as_expr(size) + place)
            base = as_expr(size) + place if place < 0 else as_expr(place)
            return as_dim(_maximum(base, 0) if place < 0 else _minimum(base, size))
        difference = as_expr(size) - place
        low, _ = as_expr(difference).bounds(symbol_ranges_of(difference))
        least, most = as_expr(place).bounds(symbol_ranges_of(place))
        if most is not None and most < 0:
            place = as_dim(as_expr(place) + size)
            return (
                place if (as_expr(place).bounds(symbol_ranges_of(place))[0] or -1) >= 0 else as_dim(_maximum(place, 0))
            )
        if least is None or least < 0:
            place = as_dim(_maximum(place, 0))
        return place if low is not None and low >= 0 else as_dim(_minimum(place, size))


def _no_graphs(graph: Any, operands: Sequence[Any]) -> list[Any]:
    raise Unsupported("control flow")


def symbol_ranges_of(size: Dim) -> dict[str, tuple[int | None, int | None]]:
    """What is known of the symbols of a size."""
    return symbol_ranges(as_expr(size))


def _maximum(a: Dim, b: Dim) -> Dim:
    return simplified(maximum(a, b))


def _minimum(a: Dim, b: Dim) -> Dim:
    return simplified(minimum(a, b))


def _ordered(low: Dim, high: Dim) -> bool:
    least, _ = (as_expr(high) - low).bounds(symbol_ranges_of(as_dim(as_expr(high) - low)))
    return least is not None and least >= 0


def _quotient(above: list[Dim], below: list[Dim]) -> Dim | None:
    """The product of `above` over that of `below`, where factors cancel without a division."""
    left = list(above)
    rest: list[Dim] = []
    for d in below:
        if d in left:
            left.remove(d)
        elif d != 1:
            rest.append(d)
    top, bottom = product(left), product(rest)
    if bottom == 1:
        return top
    if isinstance(top, int) and isinstance(bottom, int):
        return top // bottom if top % bottom == 0 else None
    if isinstance(bottom, int) and isinstance(top, Expr):
        whole = top // bottom
        return as_dim(whole) if whole * bottom == top else None
    return None


def few(count: int, what: str) -> int:
    """`count`, if so many things can be written out one by one."""
    if count > _MOST:
        raise Unsupported(f"{what}: {count} are too many to write out")
    return count


def pair(values: int | Sequence[int], count: int) -> list[int]:
    """One number for each of `count` dimensions: PyTorch takes one for all."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * count if len(listed) == 1 else listed


__all__ = [
    "LOWERINGS", "Build", "Item", "Lowering", "Number", "Operand",  "Unsupported", "aten", "few", "kind_of", "pair",
    "promoted",
]  # fmt: skip
