"""Lowerings of MindIR's linear algebra: factors, inverses, triangular systems, distances.

Factors are computed column by column, so that their graphs grow with the matrix: up to `MOST` rows.
"""

from __future__ import annotations

import numpy as np

from .lower_array import swapped
from .lower_common import along, axis_of, constant, expanded, floating, known, operands, rank, reshaped, sliced
from .lower_make import triangle
from .lower_moves import rolled
from .lower_reduce import vector_norm
from .primitive import Call, Datum, Item, Unsupported, primitive

MOST = 128


def _size(call: Call, x: Item) -> int:
    """The number of rows of square matrices."""
    rows = known(call, call.shape(x)[-1], "the matrix")
    if rows > MOST:
        raise Unsupported(f"{call.name} of matrices of {rows} rows", f"at most {MOST} rows are supported")
    return rows


def _turned(call: Call, x: Item) -> Item:
    """Matrices transposed."""
    dims = rank(call, x)
    return swapped(call, x, dims - 2, dims - 1)


def _column(call: Call, x: Item, index: int) -> Item:
    """A column of matrices, as matrices of one column."""
    return sliced(call, x, rank(call, x) - 1, index, index + 1)


def _row(call: Call, x: Item, index: int) -> Item:
    """A row of matrices, as matrices of one row."""
    return sliced(call, x, rank(call, x) - 2, index, index + 1)


def cholesky_factor(call: Call, x: Item) -> Item:
    """The lower triangle whose product with its transpose `x` is; its upper triangle is not read."""
    size, dims = _size(call, x), rank(call, x)
    lower = triangle(call, x, 0, False)
    rest = call.op("Add", lower, _turned(call, triangle(call, x, -1, False)))
    rows = along(call, size, dims - 2, dims)
    columns: list[Item] = []
    for j in range(size):
        column = call.op("Div", _column(call, rest, j), call.op("Sqrt", _row(call, _column(call, rest, j), j)))
        below = call.op("GreaterOrEqual", rows, call.a.scalar(j, "i64"))
        column = call.op("Where", below, column, constant(call, 0, x))
        columns.append(column)
        rest = call.op("Sub", rest, call.op("Mul", column, _turned(call, column)))
    return columns[0] if size == 1 else call.op("Concat", *columns, axis=dims - 1)


def solved(call: Call, a: Item, b: Item, lower: bool, unit: bool) -> Item:
    """`y` with `a y = b` for a triangle `a`, of which the other triangle is not read."""
    size = _size(call, a)
    found: dict[int, Item] = {}
    for j in range(size) if lower else range(size - 1, -1, -1):
        row = _row(call, b, j)
        if not unit:
            row = call.op("Div", row, _row(call, _column(call, a, j), j))
        found[j] = row
        b = call.op("Sub", b, call.op("MatMul", _column(call, a, j), row))
    rows = [found[j] for j in range(size)]
    return rows[0] if size == 1 else call.op("Concat", *rows, axis=rank(call, rows[0]) - 2)


@primitive("Cholesky")
def cholesky(call: Call) -> Item:
    """The lower (or upper) triangular factor of symmetric matrices."""
    x = call.tensor(0)
    upper = call.flag("upper", False)
    factor = cholesky_factor(call, _turned(call, x) if upper else x)
    return _turned(call, factor) if upper else factor


@primitive("CholeskyInverse")
def cholesky_inverse(call: Call) -> Item:
    """The inverse of the matrices of which triangular factors are given."""
    x, upper = call.tensor(0), call.flag("upper", False)
    unit = call.cast(call.a.constant(np.eye(_size(call, x))), call.element_type(x))
    inverse = solved(call, _turned(call, x) if upper else x, unit, True, False)
    return call.op("MatMul", _turned(call, inverse), inverse)


@primitive("CholeskySolve")
def cholesky_solve(call: Call) -> Item:
    """`y` with `x y = b` for the matrices of which triangular factors are given."""
    b, factor = call.tensor(0), call.tensor(1)
    lower = _turned(call, factor) if call.flag("upper", False) else factor
    return solved(call, _turned(call, lower), solved(call, lower, b, True, False), False, False)


@primitive("SolveTriangular")
def solve_triangular(call: Call) -> Item:
    """`y` with `a y = b` (or with a transposed) for triangles."""
    a, b = operands(call, call.datum("a"), call.datum("b"))
    lower, trans = call.flag("lower", False), call.datum("trans", 0)
    vector = rank(call, b) < rank(call, a)
    b = call.op("Unsqueeze", b, [-1]) if vector else b
    if trans not in (0, "N"):
        a, lower = _turned(call, a), not lower
    y = solved(call, a, b, lower, call.flag("unit_diagonal", False))
    return call.op("Squeeze", y, [-1]) if vector else y


@primitive("TriangularSolve", "MatrixTriangularSolve")
def triangular_solve(call: Call) -> Datum:
    """`y` with `A y = b` for triangles; TriangularSolve gives A, too."""
    if call.name == "MatrixTriangularSolve":
        a, b, lower = call.tensor(0), call.tensor(1), call.flag("lower", True)
        if call.flag("adjoint", False):
            a, lower = _turned(call, a), not lower
        return solved(call, a, b, lower, False)
    b, a, lower = call.tensor("b"), call.tensor("A"), not call.flag("upper", True)
    if call.flag("transpose", False):
        return solved(call, _turned(call, a), b, not lower, call.flag("unitriangular", False)), a
    return solved(call, a, b, lower, call.flag("unitriangular", False)), a


def inverted(call: Call, x: Item) -> Item:
    """The inverse of matrices, computed in f64 and without pivots where they are symmetric and definite."""
    dtype = call.element_type(x)
    return call.cast(call.op("Inverse", call.cast(x, "f64"), domain="com.microsoft"), dtype)


@primitive("MatrixInverse", "MatrixInverseExt")
def matrix_inverse(call: Call) -> Item:
    """The inverse of matrices, or of their transposes."""
    x = call.tensor(0)
    return inverted(call, _turned(call, x) if call.name == "MatrixInverse" and call.flag("adjoint", False) else x)


@primitive("MatrixSolve")
def matrix_solve(call: Call) -> Item:
    """`y` with `a y = b`."""
    a, b = call.tensor(0), call.tensor(1)
    a = _turned(call, a) if call.flag("adjoint", False) else a
    inverse = call.op("Inverse", call.cast(a, "f64"), domain="com.microsoft")
    return call.cast(call.op("MatMul", inverse, call.cast(b, "f64")), call.element_type(b))


@primitive("MatrixDeterminant")
def determinant(call: Call) -> Item:
    """The determinant."""
    return call.op("Det", call.tensor(0))


@primitive("LogMatrixDeterminant")
def log_determinant(call: Call) -> Datum:
    """(the sign of the determinant, the logarithm of its size)."""
    x = call.op("Det", call.tensor(0))
    return call.op("Sign", x), call.op("Log", call.op("Abs", x))


@primitive("MatrixPower")
def matrix_power(call: Call) -> Item:
    """The product of a matrix with itself, of its inverse for negative numbers."""
    x, n = call.tensor(0), call.integer("n")
    if n == 0:
        unit = call.cast(call.a.constant(np.eye(_size(call, x))), call.element_type(x))
        return expanded(call, unit, call.shape(x))
    x, n = (inverted(call, x), -n) if n < 0 else (x, n)
    result: Item | None = None
    while n:
        if n & 1:
            result = x if result is None else call.op("MatMul", result, x)
        n >>= 1
        x = call.op("MatMul", x, x) if n else x
    assert result is not None
    return result


_HALVINGS, _TERMS = 8, 12


@primitive("MatrixExp")
def matrix_exp(call: Call) -> Item:
    """The exponential of matrices: its series for the matrix divided by 256, squared eight times, in f64."""
    given = call.tensor(0)
    x = call.cast(given, "f64")
    x = call.op("Mul", x, constant(call, 2.0**-_HALVINGS, x))
    unit = call.a.constant(np.eye(known(call, call.shape(x)[-1], "the matrix")))
    total = call.op("Add", unit, call.op("Mul", x, constant(call, 1 / _TERMS, x)))
    for i in range(_TERMS - 1, 0, -1):
        total = call.op("Add", unit, call.op("MatMul", call.op("Mul", x, constant(call, 1 / i, x)), total))
    for _ in range(_HALVINGS):
        total = call.op("MatMul", total, total)
    return call.cast(total, call.element_type(given))


# -- products and distances --------------------------------------------------------------------------------------------


@primitive("Vdot")
def vdot(call: Call) -> Item:
    """The inner product of vectors."""
    return call.op("ReduceSum", call.op("Mul", *operands(call, call[0], call[1])), keepdims=0)


@primitive("Cross")
def cross(call: Call) -> Item:
    """The cross product along a dimension of size 3; -65530 stands for the first of them."""
    x, y = operands(call, call[0], call[1])
    shape = call.shape(call.op("Add", x, y))
    x, y = (expanded(call, i, shape) for i in (x, y))
    axis = call.integer("dim", -65530)
    axis = shape.index(3) if axis == -65530 else axis_of(call, axis, len(shape), "dim")
    one = call.op("Mul", rolled(call, x, axis, -1), rolled(call, y, axis, -2))
    return call.op("Sub", one, call.op("Mul", rolled(call, x, axis, -2), rolled(call, y, axis, -1)))


@primitive("Cdist")
def cdist(call: Call) -> Item:
    """Distances of all rows of one matrix from all rows of another."""
    x, y = (floating(call, i) for i in operands(call, call[0], call[1]))
    dims = rank(call, x)
    d = call.op("Sub", call.op("Unsqueeze", x, [dims - 1]), call.op("Unsqueeze", y, [dims - 2]))
    return vector_norm(call, d, call.real("p", 2.0), [dims], False)


@primitive("Pdist")
def pdist(call: Call) -> Item:
    """Distances of the rows of a matrix from those behind them."""
    x = call.tensor(0)
    dims = rank(call, x)
    first, second = np.triu_indices(known(call, call.shape(x)[-2], "the matrix"), 1)
    rows = [call.op("Gather", x, i.astype(np.int64), axis=dims - 2) for i in (first, second)]
    return vector_norm(call, call.op("Sub", *rows), call.real("p", 2.0), [dims - 1], False)


@primitive("Correlate")
def correlate(call: Call) -> Item:
    """Sums of products of one vector with another that moves along it."""
    x, y = (floating(call, i) for i in operands(call, call[0], call[1]))
    n, m = (known(call, call.shape(i)[0], "the vector") for i in (x, y))
    mode = call.word("pad_mode", {1: "SAME", 2: "VALID", 3: "FULL"}, "valid")
    swap = n < m
    x, y, n, m = (y, x, m, n) if swap else (x, y, n, m)
    before, after = {"VALID": (0, 0), "SAME": (m // 2, m - 1 - m // 2), "FULL": (m - 1, m - 1)}[mode]
    found = call.op("Conv", reshaped(call, x, [1, 1, n]), reshaped(call, y, [1, 1, m]), pads=[before, after])
    found = reshaped(call, found, [n + before + after - m + 1])
    least = -(2**63)
    return call.op("Slice", found, [-1], [least], [0], [-1]) if swap else found


@primitive("EinsumExt")
def einsum(call: Call) -> Item:
    """Sums of products of tensors by a formula of letters."""
    equation = call.datum("equation")
    if not isinstance(equation, str):
        call.refuse("a formula that is no text")
    return call.op("Einsum", *operands(call, *call.tuple("operands")), equation=equation)


__all__ = ["cholesky_factor", "inverted", "solved"]
