"""Random IR for property tests, and structural equality of IR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st

from planish.ir.constants import ArraySource, ConstantData
from planish.ir.core import Function, Module, Op, Region, Value
from planish.ir.expr import Expr, const, floordiv, maximum, minimum, mod, sym
from planish.ir.kernel.form import LoopDim, Schedule
from planish.ir.types import DTYPES, Layout, OptionalType, ScalarType, SequenceType, TensorType, TupleType

NAMES = st.one_of(
    st.sampled_from(["x", "n", "h", "batch", "in", "none", "f32", "mod", "$0", "a.b"]), st.text(max_size=6)
)
SYMBOLS = st.one_of(st.sampled_from(["n", "h", "w", "max", "batch size", "d0"]), st.text(min_size=1, max_size=4))
NUMBERS = st.integers(-40, 40)


def _binary(children: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    positive = st.integers(1, 9).map(const)
    two = st.tuples(children, children)
    return st.one_of(
        two.map(lambda t: t[0] + t[1]),
        two.map(lambda t: t[0] * t[1]),
        two.map(lambda t: t[0] - t[1]),
        two.map(lambda t: minimum(*t)),
        two.map(lambda t: maximum(*t)),
        st.tuples(children, positive).map(lambda t: floordiv(*t)),
        st.tuples(children, positive).map(lambda t: mod(*t)),
    )


def exprs(symbols: st.SearchStrategy[str] = SYMBOLS) -> st.SearchStrategy[Expr]:
    """Expressions over `symbols`."""
    return st.recursive(st.one_of(NUMBERS.map(const), symbols.map(sym)), _binary, max_leaves=6)


DTYPE = st.sampled_from(sorted(DTYPES))
DIMS = st.one_of(st.integers(0, 9), exprs())


@st.composite
def layouts(draw: st.DrawFn, rank: int) -> Layout:
    """Layouts of a tensor of `rank` dimensions."""
    pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=rank, max_size=rank).map(tuple)
    order = draw(st.one_of(st.just(()), st.permutations(range(rank)).map(tuple)))
    block = st.tuples(st.integers(0, max(0, rank - 1)), st.integers(2, 16))
    blocks = draw(st.lists(block, max_size=1).map(tuple)) if rank else ()
    return Layout(order, blocks, draw(st.one_of(st.just(()), pairs)), draw(st.one_of(st.just(()), pairs)))


@st.composite
def tensor_types(draw: st.DrawFn) -> TensorType:
    """Tensor types of any rank, symbols and layouts included."""
    shape = draw(st.one_of(st.none(), st.lists(DIMS, max_size=3).map(tuple)))
    layout = draw(layouts(len(shape))) if shape is not None and draw(st.booleans()) else Layout()
    return TensorType(draw(DTYPE), shape, layout)


def types() -> st.SearchStrategy[Any]:
    """All types."""
    plain = st.one_of(tensor_types(), DTYPE.map(ScalarType))
    return st.recursive(
        plain,
        lambda t: st.one_of(
            st.lists(t, max_size=3).map(lambda items: TupleType(tuple(items))), t.map(SequenceType), t.map(OptionalType)
        ),
        max_leaves=3,
    )


LOOPS = st.lists(st.tuples(SYMBOLS, st.integers(1, 64)), max_size=3).map(tuple)
SCHEDULES = st.builds(Schedule, LOOPS, st.one_of(st.just(""), SYMBOLS), st.integers(0, 3), st.integers(1, 9))
LOOP_DIMS = st.lists(st.builds(LoopDim, SYMBOLS, DIMS), min_size=1, max_size=3).map(tuple)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def literals() -> st.SearchStrategy[Any]:
    """Everything that an attribute may hold, constants apart."""
    plain = st.one_of(
        st.none(), st.booleans(), st.integers(), FLOATS, st.text(), exprs(), types(), SCHEDULES, LOOP_DIMS,
        st.lists(exprs(), min_size=1, max_size=3).map(tuple), layouts(3).filter(lambda x: x != Layout()),
    )  # fmt: skip
    return st.recursive(
        plain,
        lambda t: st.one_of(st.lists(t, max_size=3).map(tuple), st.dictionaries(NAMES, t, max_size=3)),
        max_leaves=4,
    )


@st.composite
def constants(draw: st.DrawFn) -> ConstantData:
    """Splats, small arrays of every bit pattern, references to files."""
    dtype = draw(DTYPE.filter(lambda d: d != "string"))
    info = DTYPES[dtype]
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    if draw(st.booleans()):
        value = draw({"float": FLOATS, "bool": st.booleans()}.get(info.kind, st.integers(0, 7)))
        return ConstantData.splat(value, dtype, shape)
    count = math.prod(shape) * info.numpy.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    raw = np.frombuffer(data, np.uint8)
    if info.kind == "bool":
        raw = raw % 2
    if info.bits == 4:
        raw = raw % 8
    with np.errstate(all="ignore"):
        array = raw.view(info.numpy).reshape(shape) if info.bits != 4 else raw.astype(info.numpy).reshape(shape)
    return ConstantData.of(array).permuted(draw(st.permutations(range(len(shape)))))


# -- equality -------------------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """True when two attribute values are the same, NaN included."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return _same_items(cast("Sequence[Any]", a), cast("Sequence[Any]", b))
    if isinstance(a, dict) and isinstance(b, dict):
        p, q = cast("dict[Any, Any]", a), cast("dict[Any, Any]", b)
        return list(p) == list(q) and _same_items(list(p.values()), list(q.values()))
    if isinstance(a, ConstantData) and isinstance(b, ConstantData):
        return same_constant(a, b)
    x, y = cast("object", a), cast("object", b)
    return type(x) is type(y) and bool(x == y)


def _same_items(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def same_constant(a: ConstantData, b: ConstantData) -> bool:
    """True when two constants have the same type and elements (NaNs are alike)."""
    if (a.type, a.transpose) != (b.type, b.transpose):
        return False
    if not isinstance(a.source, ArraySource):
        return same(getattr(a.source, "value", a.source), getattr(b.source, "value", b.source))
    x, y = a.array(), b.array()
    return bool(np.array_equal(x, y, equal_nan=x.dtype.kind not in "iubO" and a.type.dtype[0] not in "iu"))


def same_module(a: Module, b: Module) -> bool:
    """True when two modules are the same: names, types, attributes, operations, values."""
    return (
        list(a.functions) == list(b.functions)
        and same(a.attributes, b.attributes)
        and all(same_function(f, b.functions[name]) for name, f in a.functions.items())
    )


def same_function(a: Function, b: Function) -> bool:
    """True when two functions are the same."""
    return (
        (type(a), a.name, a.result_names) == (type(b), b.name, b.result_names)
        and same(a.attributes, b.attributes)
        and _regions(a.body, b.body, {})
    )


def _regions(a: Region, b: Region, values: dict[Value, Value]) -> bool:
    if not _values(a.params, b.params, values) or len(a) != len(b):
        return False
    return all(_ops(x, y, values) for x, y in zip(a, b, strict=True))


def _values(a: Any, b: Any, values: dict[Value, Value]) -> bool:
    if [(v.type, v.name) for v in a] != [(v.type, v.name) for v in b]:
        return False
    values.update(zip(a, b, strict=True))
    return True


def _ops(a: Op, b: Op, values: dict[Value, Value]) -> bool:
    return (
        (type(a), a.loc) == (type(b), b.loc)
        and [v and values[v] for v in a.operands] == b.operands
        and same(a.attributes, b.attributes)
        and len(a.regions) == len(b.regions)
        and all(_regions(x, y, values) for x, y in zip(a.regions, b.regions, strict=True))
        and _values(a.results, b.results, values)
    )
