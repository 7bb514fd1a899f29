"""What the importer knows about each ONNX name: the value, the constant, or the numbers, perhaps symbolic, behind it.

Shapes are computed in ONNX graphs by ordinary nodes. Integer tensors that are known while importing are kept as
arrays of `Dim`, so that `Reshape` and its like get attributes instead of operands; they become real values only where
a node uses them as data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.constants import Constant, ConstantData
from ...ir.core import Builder, Op, Region, Value
from ...ir.errors import PlanishError
from ...ir.expr import Call, Dim, Expr, as_dim
from ...ir.expr import symbol_ranges as ranges_of
from ...ir.ops.arith import Add, Cast, Div, FloorMod, Maximum, Minimum, Mul
from ...ir.ops.base import TensorOp
from ...ir.ops.host import joined
from ...ir.ops.host.sequences import SequenceConstruct, SequenceEmpty
from ...ir.ops.number import Number
from ...ir.ops.shape import Concat, Reshape, Slice
from ...ir.types import DTYPES, SequenceType, TensorType
from .symbols import Symbols

MAX_KNOWN = 4096  # elements up to which integer tensors are tracked and constant operands evaluated
TRACKED = ("i64", "i32", "bool")


def symbol_ranges(e: Expr) -> dict[str, tuple[int | None, int | None]]:
    """What is known of an expression's symbols: those of inputs are sizes, and 0 is no size of an input."""
    return ranges_of(e, 1)


def simplified(e: Expr) -> Dim:
    """`e` with minima, maxima and divisions that `symbol_ranges` decides taken out."""
    return as_dim(e.simplify(symbol_ranges(e)))


class Unsupported(Exception):
    """Raised by a converter: this node cannot be compiled. `advice` says what the user can do, if anything. `lengths`
    are symbols, the lengths of integer inputs, whose numbers would help: ranks depend on them."""

    def __init__(self, reason: str, advice: str = "", lengths: frozenset[str] = frozenset()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.lengths = lengths


class FromData(Unsupported):
    """Raised where what decides shapes is computed from data."""


@dataclass(frozen=True)
class Known:
    """An integer or bool tensor whose elements are known: `dims` is an object array of ints and `Expr`s."""

    dims: np.ndarray
    dtype: str = "i64"

    @staticmethod
    def of(values: Sequence[Dim] | np.ndarray, dtype: str = "i64") -> Known:
        """A known tensor of `values`: a list, or an array of numbers."""
        shape = values.shape if isinstance(values, np.ndarray) else (len(values),)
        array = np.empty(shape, np.object_)
        array[...] = values
        return Known(array, dtype)

    @property
    def type(self) -> TensorType:
        """Its tensor type."""
        return TensorType(self.dtype, self.dims.shape)

    def numbers(self) -> np.ndarray | None:
        """The elements, when none is symbolic."""
        flat = [as_dim(d) for d in self.dims.reshape(-1)]
        if any(isinstance(d, Expr) for d in flat):
            return None
        return np.array(flat, DTYPES[self.dtype].numpy).reshape(self.dims.shape)


class Item:
    """One ONNX name. At least one of the first three is there; the others are made when asked for. A sequence of known
    length has `parts` instead, its elements; an optional that is empty is a sequence without parts (`parts` is then
    `()`). `recipe` computes the elements as expressions of symbols, where a shape depends on them; `name` is what a
    value made of it is called."""

    __slots__ = ("data", "dtype", "known", "name", "parts", "recipe", "single", "value")

    def __init__(
        self,
        value: Value | None = None,
        data: ConstantData | None = None,
        known: Known | None = None,
        parts: tuple[Item, ...] | None = None,
        dtype: str = "",
    ) -> None:
        self.value = value
        self.data = data
        self.known = known
        self.parts = parts
        self.dtype = dtype  # of the elements of a sequence that is empty
        self.recipe: Callable[[], Known | None] | None = None
        # Of a value of unknown rank with one element: that as a scalar, and the greatest rank that it may have.
        self.single: tuple[Value, int] | None = None
        self.name = ""

    def copy(self) -> Item:
        """The same, so that what is made of the copy is not made of this one."""
        parts = None if self.parts is None else tuple(p.copy() for p in self.parts)
        twin = Item(self.value, self.data, self.known, parts, self.dtype)
        twin.single = self.single
        twin.recipe, twin.name = self.recipe, self.name
        return twin

    @property
    def is_tensor(self) -> bool:
        """True for a tensor, False for a sequence, an optional or a map."""
        return self.parts is None and (self.value is None or isinstance(self.value.type, TensorType))

    @property
    def type(self) -> TensorType:
        """Its tensor type, without making a value."""
        if not self.is_tensor:
            raise Unsupported("a sequence, optional or map where a tensor is expected")
        if self.value is not None:
            return self.value.tensor
        if self.data is not None:
            return self.data.type
        assert self.known is not None
        return self.known.type


class _Copies(MutableMapping[str, "Item | None"]):
    """Names around a region, as its body sees them: what is made of an item inside stays inside."""

    def __init__(self, outer: MutableMapping[str, Item | None]) -> None:
        self.outer = outer
        self.own: dict[str, Item | None] = {}

    def __getitem__(self, name: str) -> Item | None:
        if name not in self.own:
            item = self.outer[name]
            self.own[name] = None if item is None else item.copy()
        return self.own[name]

    def __setitem__(self, name: str, item: Item | None) -> None:
        self.own[name] = item

    def __delitem__(self, name: str) -> None:
        del self.own[name]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.outer

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self.outer), **dict.fromkeys(self.own)})

    def __len__(self) -> int:
        return len({*self.outer, *self.own})


class Scope:
    """The names of one graph and the region that its operations go to."""

    def __init__(self, region: Region, symbols: Symbols) -> None:
        self.builder = Builder(region)
        self.symbols = symbols
        self.items: MutableMapping[str, Item | None] = {}  # None: made by a node that cannot be compiled
        self._evaluated: dict[Value, np.ndarray | None] = {}

    def child(self, items: MutableMapping[str, Item | None]) -> Scope:
        """A scope of other names whose operations go to the same place."""
        inner = copy.copy(self)
        inner.items = items
        return inner

    def outside(self, names: Iterable[str]) -> None:
        """Make the values of names here that a region is going to read, so that they stand before it."""
        for name in dict.fromkeys(names):
            item = self.items.get(name)
            if item is not None:
                self._make(item, name)

    def _make(self, item: Item, name: str) -> None:
        if item.parts is None:
            self.item_value(item, name)
        for part in item.parts or ():
            self._make(part, name)

    def within(self, region: Region, loc: str) -> Scope:
        """A scope that sees the same names, and whose operations go to `region`."""
        inner = copy.copy(self)
        inner.builder = Builder(region)
        inner.builder.loc = loc
        inner.items = _Copies(self.items)
        return inner

    def value(self, name: str) -> Value:
        """The value of a name; a constant or a known tensor becomes operations at its first use."""
        item = self.items[name]
        assert item is not None
        return self.item_value(item, name)

    def item_value(self, item: Item, name: str = "") -> Value:
        """The value of an item; `name` is what its value is called if it is made here."""
        if item.parts is not None:
            return self._sequence(item)
        if item.value is None:
            if item.data is not None:
                constant = Constant(item.data)
                constant.loc = name
                item.value = self.builder.insert(constant).result
            else:
                assert item.known is not None
                item.value = self.materialise(item.known)
            item.value.name = item.value.name or name
        return item.value

    def _sequence(self, item: Item) -> Value:
        """The value of a sequence whose parts are known."""
        if item.value is None:
            assert item.parts is not None
            parts = [self.item_value(part) for part in item.parts]
            if not parts:
                type = SequenceType(TensorType(item.dtype or "f32", None))
                item.value = self._insert(SequenceEmpty(types=[type]))
            else:
                one = parts[0].type
                for part in parts[1:]:
                    one, _ = joined(one, part.type, lambda: self.symbols.size("item"))
                item.value = self._insert(SequenceConstruct(tuple(parts), types=[SequenceType(one)]))
        return item.value

    def constant(self, data: ConstantData) -> Value:
        """A constant value."""
        return self.builder.insert(Constant(data)).result

    def known(self, name: str, bind: bool = False) -> Known | None:
        """The elements of a small integer or bool tensor, where they are known. With `bind`, elements that only the run
        knows become symbols."""
        item = self.items[name]
        assert item is not None
        if not item.is_tensor or item.type.dtype not in TRACKED or not self._is_small(item.type):
            return None
        if item.known is None:
            array = self.array(name)
            if array is not None:
                item.known = Known.of(array.astype(np.object_), item.type.dtype)
            elif bind:
                item.known = self._bound(item, name)
        return item.known

    def _bound(self, item: Item, name: str) -> Known | None:
        recipe, item.recipe = item.recipe, None
        found = None if recipe is None else recipe()
        if found is not None or item.value is None or not self.symbols.can_bind(item.value):
            return found
        elements = Known.of(self.symbols.elements(item.value, name), item.type.dtype)
        return Known(elements.dims.reshape(item.type.static_shape), item.type.dtype)

    def array(self, name: str, limit: int = MAX_KNOWN) -> np.ndarray | None:
        """The elements of a constant (or of a small tensor computed from constants); None when they are not known."""
        item = self.items[name]
        assert item is not None
        return self.item_array(item, limit)

    def item_array(self, item: Item, limit: int = MAX_KNOWN) -> np.ndarray | None:
        """The elements of an item, as `array`."""
        if item.data is not None:
            return item.data.array() if item.data.elements <= limit else None
        if item.known is not None:
            return item.known.numbers()
        if item.value is None or not item.is_tensor:
            return None
        return self._evaluate(item.value, 0)

    @staticmethod
    def _is_small(type: TensorType) -> bool:
        return type.is_static and int(np.prod(type.static_shape, dtype=np.int64)) <= MAX_KNOWN

    def _evaluate(self, value: Value, depth: int) -> np.ndarray | None:
        """Run the operations that make a small value from constants; None when something else goes in."""
        if value not in self._evaluated:
            self._evaluated[value] = self._compute(value, depth)
        return self._evaluated[value]

    def _compute(self, value: Value, depth: int) -> np.ndarray | None:
        op = value.op
        if op is None or not self._is_small(value.tensor) or depth > 200:
            return None
        if isinstance(op, Constant):
            return op.value.array()
        if not isinstance(op, TensorOp) or not op.deterministic or len(op.results) != 1:
            return None
        operands = [None if v is None else self._evaluate(v, depth + 1) for v in op.operands]
        if any(a is None and v is not None for a, v in zip(operands, op.operands, strict=True)):
            return None
        try:
            with np.errstate(all="ignore"):
                return np.asarray(op.reference(*operands))
        except (ArithmeticError, LookupError, ValueError, TypeError, PlanishError):
            return None  # it fails on these numbers: the node is left as it is, and fails where it runs

    def evaluated(self, value: Value) -> np.ndarray | None:
        """The elements of a small value that is computed from constants, else None."""
        return self._evaluate(value, 0)

    def number(self, dim: Dim, dtype: str) -> Value:
        """A number, perhaps symbolic, as a scalar value."""
        return self._dim_value(as_dim(dim), dtype)

    # -- known numbers as data -------------------------------------------------------------------------------------

    def materialise(self, known: Known) -> Value:
        """A value that holds the known elements, for a node that uses a shape as data."""
        numbers = known.numbers()
        if numbers is not None:
            return self.constant(ConstantData.of(numbers))
        flat = [self._dim_value(as_dim(d), known.dtype) for d in known.dims.reshape(-1)]
        if known.dims.shape == ():
            return flat[0]
        parts = [self._insert(Reshape(v, (1,))) for v in flat]
        joined = parts[0] if len(parts) == 1 else self._insert(Concat(tuple(parts), 0))
        return joined if len(known.dims.shape) == 1 else self._insert(Reshape(joined, known.dims.shape))

    def _insert(self, op: Op) -> Value:
        return self.builder.insert(op).result

    def _number(self, value: int, dtype: str) -> Value:
        return self.constant(ConstantData.splat(value, dtype))

    def _dim_value(self, dim: Dim, dtype: str) -> Value:
        """A scalar value of an expression. Elements of tensors that are at hand are taken from there."""
        if not isinstance(dim, Expr):
            return self._number(dim, dtype)
        if not dim.symbols() & self.symbols.places.keys():
            value = self._insert(Number(dim))
            return value if dtype == "i64" else self._insert(Cast(value, dtype))
        total: Value | None = None
        for monomial, factor in dim.terms:
            term = self._number(factor, dtype)
            for atom in monomial:
                part: Value
                if isinstance(atom, Call):
                    part = self._call_value(atom, dtype)
                elif atom.name in self.symbols.places:
                    value, index = self.symbols.places[atom.name]
                    part = self._element(value, index, dtype)
                else:
                    part = self._dim_value(Expr({(atom,): 1}), dtype)
                term = self._insert(Mul(term, part))
            total = term if total is None else self._insert(Add(total, term))
        assert total is not None
        return total

    def _element(self, value: Value, index: int, dtype: str) -> Value:
        """One element of a value whose elements are symbols."""
        count = int(np.prod(value.tensor.static_shape, dtype=np.int64))
        flat = value if value.tensor.shape == (count,) else self._insert(Reshape(value, (count,)))
        part = self._insert(Reshape(self._insert(Slice(flat, (index,), (index + 1,), (1,))), ()))
        return part if part.tensor.dtype == dtype else self._insert(Cast(part, dtype))

    def _call_value(self, call: Call, dtype: str) -> Value:
        a, b = (self._dim_value(as_dim(e), dtype) for e in call.args)
        match call.fn:
            case "min":
                return self._insert(Minimum(a, b))
            case "max":
                return self._insert(Maximum(a, b))
            case "mod":
                return self._insert(FloorMod(a, b))
            case _:  # floordiv: exact division of what is left without the remainder
                rest = self._insert(FloorMod(a, b))
                minus = self._insert(Mul(rest, self._number(-1, dtype)))
                return self._insert(Div(self._insert(Add(a, minus)), b))
