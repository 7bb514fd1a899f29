"""Nodes that compute shapes: evaluated while importing, on arrays of ints and symbolic expressions.

`fold` is asked before a node is converted. It answers only when all inputs are known and the operator is exact on
them; in every other case the node is converted like any other. Integer results outside the element type's range are
left to the converter too, so that wrapping is decided in one place.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...ir.expr import Dim, Expr, Monomial, Sym, as_dim, as_expr, floordiv, maximum, minimum, mod
from ...ir.types import DTYPES
from .node import Node
from .scope import MAX_KNOWN, TRACKED, Known, symbol_ranges

Objects = np.ndarray  # of dtype object: ints and Exprs
Folder = Callable[[Node, list[Known]], "Known | Sequence[Known]"]


class _Undecided(Exception):
    """The result depends on what a symbol stands for, or is none that can be tracked."""


def can_fold(node: Node) -> bool:
    """Whether the node's operator is one that is computed on known elements."""
    return node.op_type in _FOLDERS and node.proto.domain in ("", "ai.onnx")


def fold(node: Node, bind: bool = False) -> Sequence[Known] | None:
    """Results of the node when they are known while importing; None when not. With `bind`, elements of its inputs that
    only the run knows become symbols."""
    least, most, folder = _FOLDERS.get(node.op_type, (0, -1, None))
    if folder is None or node.proto.domain not in ("", "ai.onnx") or not least <= node.count <= most:
        return None
    inputs: list[Known] = []
    for i in range(node.count):
        known = node.known(i, bind) if node.has(i) else None
        if known is None:
            return None
        inputs.append(known)
    try:
        result = folder(node, inputs)
    except _Undecided:
        return None
    results = [result] if isinstance(result, Known) else list(result)
    return results if all(_fits(r) for r in results) else None


def _fits(known: Known) -> bool:
    if known.dims.size > MAX_KNOWN or known.dtype not in TRACKED:
        return False
    if known.dtype == "bool":
        return True
    limit = 1 << (DTYPES[known.dtype].bits - 1)
    return all(isinstance(d, Expr) or -limit <= d < limit for d in known.dims.reshape(-1))


# -- one element ---------------------------------------------------------------------------------------------------


def _bounds(e: Dim) -> tuple[int | None, int | None]:
    e = as_expr(e)
    return e.bounds(symbol_ranges(e))


def _sign_known(e: Dim) -> bool:
    low, _ = _bounds(e)
    return low is not None and low >= 0


def _divide(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise _Undecided
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if as_expr(a) == as_expr(b):
        return 1
    if not (_sign_known(a) and _sign_known(b)):  # truncation and flooring differ
        raise _Undecided
    quotient = exact_quotient(as_expr(a), as_expr(b))
    return as_dim(floordiv(*reduced(as_expr(a), as_expr(b)))) if quotient is None else quotient


def exact_quotient(a: Expr, b: Expr) -> Dim | None:
    """`a / b` when b is one monomial that divides every monomial of a: `4*n*m / (2*n)` is `2*m`."""
    if len(b.terms) != 1:
        return None
    (divisor, factor) = b.terms[0]
    terms: dict[Monomial, int] = {}
    for monomial, c in a.terms:
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % factor:
            return None
        terms[tuple(rest)] = c // factor
    return as_dim(Expr(terms))


def reduced(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """`a` and `b` without symbols that are factors of both: for `n*m` and `3*n` these are `m` and `3`. Symbols of sizes
    only, which are not 0."""
    common = list(a.terms[0][0]) if a.terms else []
    for atom in common:
        if isinstance(atom, Sym) and not atom.name.startswith("?"):
            first, second = exact_quotient(a, Expr({(atom,): 1})), exact_quotient(b, Expr({(atom,): 1}))
            if first is not None and second is not None:
                a, b = as_expr(first), as_expr(second)
    return a, b


def _modulo(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise _Undecided
        return a % b
    if not (_sign_known(a) and _sign_known(b)):
        raise _Undecided
    return as_dim(mod(a, b))


def _equal(a: Dim, b: Dim) -> bool:
    difference = as_dim(as_expr(a) - as_expr(b))
    if isinstance(difference, int):
        return difference == 0
    low, high = _bounds(difference)
    if (low is not None and low > 0) or (high is not None and high < 0):
        return False
    raise _Undecided


def _less(a: Dim, b: Dim) -> bool:
    low, high = _bounds(as_expr(b) - as_expr(a))
    if low is not None and low > 0:
        return True
    if high is not None and high <= 0:
        return False
    raise _Undecided


def _both(a: bool, b: bool) -> bool:
    return a and b


def _either(a: bool, b: bool) -> bool:
    return a or b


def _greater(a: Dim, b: Dim) -> bool:
    return _less(b, a)


def _int(value: Dim) -> int:
    value = as_dim(value)
    if isinstance(value, Expr):
        raise _Undecided
    return value


def _elementwise(f: Callable[..., Any], dtype: str | None = None) -> Callable[[Node, list[Known]], Known]:
    def run(node: Node, xs: list[Known]) -> Known:
        if node.opset < 7 and len(xs) > 1 and any(x.dims.shape != xs[0].dims.shape for x in xs):
            raise _Undecided  # old broadcasting rules
        try:
            shape = np.broadcast_shapes(*(x.dims.shape for x in xs))
        except ValueError:
            raise _Undecided from None
        _limit(math.prod(shape))
        arrays = np.broadcast_arrays(*(x.dims for x in xs))
        return _result(dtype or xs[-1].dtype, arrays[0].shape, [f(*e) for e in zip(*map(_flat, arrays), strict=True)])

    return run


def _limit(size: int) -> None:
    """Shapes are short: what is longer is data, and not computed here."""
    if size > MAX_KNOWN:
        raise _Undecided


def _flat(array: Objects) -> list[Any]:
    return list(array.reshape(-1))


def _result(dtype: str, shape: tuple[int, ...], flat: Sequence[Any]) -> Known:
    out = np.empty(len(flat), np.object_)
    out[:] = [v if isinstance(v, bool) else as_dim(v) for v in flat]
    return Known(out.reshape(shape), dtype)


def _chain(f: Callable[[Any, Any], Any]) -> Folder:
    step = _elementwise(f)

    def run(node: Node, xs: list[Known]) -> Known:
        total = xs[0]
        for x in xs[1:]:
            total = step(node, [total, x])
        return total

    return run


# -- operators -----------------------------------------------------------------------------------------------------


def _axes(node: Node, xs: list[Known], rank: int) -> list[int]:
    axes = [_int(d) for d in xs[1].dims.reshape(-1)] if len(xs) > 1 else node.ints("axes", ())
    return node.axes(axes, rank)


def _unsqueeze(node: Node, xs: list[Known]) -> Known:
    count = xs[1].dims.size if len(xs) > 1 else len(node.ints("axes", ()))
    axes = _axes(node, xs, xs[0].dims.ndim + count)
    return Known(np.expand_dims(xs[0].dims, tuple(axes)), xs[0].dtype)


def _squeeze(node: Node, xs: list[Known]) -> Known:
    x = xs[0].dims
    given = len(xs) > 1 or node.has_attribute("axes")
    axes = _axes(node, xs, x.ndim) if given else [i for i, d in enumerate(x.shape) if d == 1]
    if any(x.shape[a] != 1 for a in axes):
        raise _Undecided
    return Known(np.squeeze(x, tuple(axes)), xs[0].dtype)


def _gather(node: Node, xs: list[Known]) -> Known:
    x = xs[0].dims
    if x.ndim == 0:
        raise _Undecided
    axis = node.axis(node.integer("axis", 0), x.ndim)
    numbers = xs[1].numbers()
    size = x.shape[axis]
    if numbers is None or not ((numbers >= -size) & (numbers < size)).all():
        raise _Undecided
    _limit(x.size // max(size, 1) * numbers.size)
    taken = np.empty(x.shape[:axis] + numbers.shape + x.shape[axis + 1 :], np.object_)
    taken[...] = np.take(x, numbers.astype(np.int64), axis)
    return Known(taken, xs[0].dtype)


def _concat(node: Node, xs: list[Known]) -> Known:
    try:
        joined = np.concatenate([x.dims for x in xs], node.axis(node.integer("axis", 1), xs[0].dims.ndim))
    except ValueError:
        raise _Undecided from None
    return Known(joined, xs[0].dtype)


def _slice(node: Node, xs: list[Known]) -> Known:
    x = xs[0].dims
    lists = [[_int(d) for d in k.dims.reshape(-1)] for k in xs[1:]]
    if node.opset >= 10 and len(lists) < 2:
        raise _Undecided
    if node.opset < 10:
        lists = [node.ints("starts"), node.ints("ends")]
        lists += [node.ints("axes")] if node.has_attribute("axes") else []
    starts, ends = lists[0], lists[1]
    axes = node.axes(lists[2] if len(lists) > 2 else range(len(starts)), x.ndim)
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    if not (len(starts) == len(ends) == len(axes) == len(steps)) or 0 in steps:
        raise _Undecided
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # ONNX counts a start or end below -size as before the first element, as Python does.
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return Known(x[tuple(index)], xs[0].dtype)


def _reshape(node: Node, xs: list[Known]) -> Known:
    x = xs[0].dims
    shape = [_int(d) for d in xs[1].dims.reshape(-1)] if len(xs) > 1 else node.ints("shape")
    if not node.integer("allowzero", 0):
        shape = [x.shape[i] if d == 0 and i < x.ndim else d for i, d in enumerate(shape)]
    try:
        return Known(x.reshape(shape), xs[0].dtype)
    except ValueError:
        raise _Undecided from None


def _range(node: Node, xs: list[Known]) -> Known:
    if any(x.dims.size != 1 for x in xs):
        raise _Undecided
    start, limit, delta = (_int(x.dims.reshape(-1)[0]) for x in xs)
    if delta == 0 or abs(limit - start) // abs(delta) > MAX_KNOWN:
        raise _Undecided
    values = list(range(start, limit, delta))
    return _result(xs[0].dtype, (len(values),), values)


def _constant_of_shape(node: Node, xs: list[Known]) -> Known:
    shape = [_int(d) for d in xs[0].dims.reshape(-1)]
    data = node.tensor("value")
    if data is None or data.dtype not in TRACKED or any(d < 0 for d in shape) or math.prod(shape) > MAX_KNOWN:
        raise _Undecided
    if data.elements != 1:
        raise _Undecided
    value = data.array().reshape(-1)[0].item()
    return _result(data.dtype, tuple(shape), [value] * math.prod(shape))


def _cast(node: Node, xs: list[Known]) -> Known:
    dtype = node.dtype(node.integer("to"))
    if dtype not in TRACKED or "bool" in (dtype, xs[0].dtype):
        raise _Undecided
    return Known(xs[0].dims, dtype)


def _expand(node: Node, xs: list[Known]) -> Known:
    shape = [_int(d) for d in xs[1].dims.reshape(-1)]
    if math.prod(shape) > MAX_KNOWN:
        raise _Undecided
    try:
        full = np.broadcast_shapes(xs[0].dims.shape, tuple(shape))
        return Known(np.broadcast_to(xs[0].dims, full).copy(), xs[0].dtype)
    except ValueError:
        raise _Undecided from None


def _choose(condition: bool, a: Dim, b: Dim) -> Dim:
    return a if condition else b


def _where(node: Node, xs: list[Known]) -> Known:
    return _elementwise(_choose)(node, xs)


def _reduce(f: Callable[[Any, Any], Any], unit: int) -> Folder:
    def run(node: Node, xs: list[Known]) -> Known:
        x = xs[0]
        if x.dims.ndim != 1:
            raise _Undecided
        if len(xs) > 1 and xs[1].dims.size == 0 and node.integer("noop_with_empty_axes", 0):
            raise _Undecided
        total: Any = unit
        for d in x.dims:
            total = f(total, d)
        return _result(x.dtype, (1,) if node.integer("keepdims", 1) else (), [total])

    return run


def _transpose(node: Node, xs: list[Known]) -> Known:
    if xs[0].dims.ndim > 1:
        raise _Undecided
    return xs[0]


def _mod(node: Node, xs: list[Known]) -> Known:
    if node.integer("fmod", 0):
        raise _Undecided
    return _elementwise(_modulo)(node, xs)


def _largest(a: Dim, b: Dim) -> Dim:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else maximum(a, b)


def _smallest(a: Dim, b: Dim) -> Dim:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else minimum(a, b)


_MANY = 1 << 30
# operator -> (least and largest number of inputs, folder)
_FOLDERS: Mapping[str, tuple[int, int, Folder]] = {
    "Add": (2, 2, _elementwise(operator.add)),
    "Sub": (2, 2, _elementwise(operator.sub)),
    "Mul": (2, 2, _elementwise(operator.mul)),
    "Div": (2, 2, _elementwise(_divide)),
    "Mod": (2, 2, _mod),
    "Neg": (1, 1, _elementwise(operator.neg)),
    "Equal": (2, 2, _elementwise(_equal, "bool")),
    "Less": (2, 2, _elementwise(_less, "bool")),
    "Greater": (2, 2, _elementwise(_greater, "bool")),
    "Not": (1, 1, _elementwise(operator.not_, "bool")),
    "And": (2, 2, _elementwise(_both, "bool")),
    "Or": (2, 2, _elementwise(_either, "bool")),
    "Max": (1, _MANY, _chain(_largest)),
    "Min": (1, _MANY, _chain(_smallest)),
    "Where": (3, 3, _where),
    "Identity": (1, 1, lambda node, xs: xs[0]),
    "Cast": (1, 1, _cast),
    "Gather": (2, 2, _gather),
    "Concat": (1, _MANY, _concat),
    "Slice": (1, 5, _slice),
    "Squeeze": (1, 2, _squeeze),
    "Unsqueeze": (1, 2, _unsqueeze),
    "Reshape": (1, 2, _reshape),
    "Transpose": (1, 1, _transpose),
    "Range": (3, 3, _range),
    "Expand": (2, 2, _expand),
    "ConstantOfShape": (1, 1, _constant_of_shape),
    "ReduceProd": (1, 2, _reduce(operator.mul, 1)),
    "ReduceSum": (1, 2, _reduce(operator.add, 0)),
}
