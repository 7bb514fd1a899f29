"""Products of matrices and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....ir.expr import as_dim, product
from .base import Build, Item, Number, Unsupported, aten, kind_of
from .pointwise import add, mul


def matmul_(b: Build, x: Item, y: Item) -> Item:
    """A product by NumPy's rules. Those of integers and truth values are of no use to a network and left to ONNX's."""
    return b.op("MatMul", x, y)


@aten("linear")
def linear(b: Build, input: Item, weight: Item, bias: Item | None = None) -> Item:
    """`input weight' + bias`; a constant weight is the same bytes, seen in another order."""
    if b.rank(weight) == 1:
        y = matmul_(b, input, weight)
        return y if bias is None else b.op("Add", y, bias)
    y = matmul_(b, input, b.turned(weight))
    return y if bias is None else b.op("Add", y, bias)


@aten("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "inner", "vdot")
def matmul(
    b: Build, x: Item, other: Item | None = None, mat2: Item | None = None, vec: Item | None = None,
    tensor: Item | None = None,
) -> Item:  # fmt: skip
    right = next(v for v in (other, mat2, vec, tensor) if v is not None)
    return matmul_(b, x, right)


def _scaled(b: Build, x: Item, factor: Number) -> Item:
    return x if factor == 1 else mul(b, x, factor)


@aten("addmm", "baddbmm", "addmv", "addbmm")
def addmm(
    b: Build, x: Item, mat1: Item | None = None, mat2: Item | None = None, batch1: Item | None = None,
    batch2: Item | None = None, mat: Item | None = None, vec: Item | None = None, beta: Number = 1, alpha: Number = 1,
) -> Item:  # fmt: skip
    """`beta x + alpha (left right)`."""
    left = next(v for v in (mat1, batch1, mat) if v is not None)
    right = next(v for v in (mat2, batch2, vec) if v is not None)
    y = _scaled(b, matmul_(b, left, right), alpha)
    return y if beta == 0 else b.op("Add", y, _scaled(b, b.cast(x, b.dtype(y)), beta))


@aten("outer", "ger")
def outer(b: Build, x: Item, vec2: Item) -> Item:
    return mul(b, b.unsqueeze(x, 1), b.unsqueeze(vec2, 0))


@aten("kron")
def kron(b: Build, x: Item, other: Item) -> Item:
    rank = max(b.rank(x), b.rank(other))
    left, right = (b.reshape(v, [*[1] * (rank - b.rank(v)), *b.shape(v)]) for v in (x, other))
    wide = b.reshape(left, [d for n in b.shape(left) for d in (n, 1)])
    over = b.reshape(right, [d for n in b.shape(right) for d in (1, n)])
    sizes = [as_dim(product(p)) for p in zip(b.shape(left), b.shape(right), strict=True)]
    return b.reshape(mul(b, wide, over), sizes)


@aten("linalg_multi_dot")
def multi_dot(b: Build, tensors: Sequence[Item]) -> Item:
    total = tensors[0]
    for t in tensors[1:]:
        total = matmul_(b, total, t)
    return total


@aten("bilinear")
def bilinear(b: Build, input1: Item, input2: Item, weight: Item, bias: Item | None = None) -> Item:
    """`sum over i, j of input1[i] weight[o, i, j] input2[j]`."""
    dims = b.shape(input1)[:-1]
    count = as_dim(product(dims))
    flat = [b.reshape(v, (count, b.shape(v)[-1])) for v in (input1, input2)]
    found = b.op("Einsum", flat[0], weight, flat[1], equation="ni,oij,nj->no")
    found = b.reshape(found, (*dims, b.shape(weight)[0]))
    return found if bias is None else add(b, found, bias)


@aten("einsum")
def einsum(b: Build, equation: str, tensors: Sequence[Item], path: object = None) -> Item:
    return b.op("Einsum", *tensors, equation=equation)


@aten("tensordot")
def tensordot(b: Build, x: Item, other: Item, dims_self: Sequence[int], dims_other: Sequence[int]) -> Item:
    letters = [chr(97 + i) for i in range(26)]
    left = letters[: b.rank(x)]
    right = letters[b.rank(x) : b.rank(x) + b.rank(other)]
    for i, j in zip(dims_self, dims_other, strict=True):
        right[b.axis(j, b.rank(other))] = left[b.axis(i, b.rank(x))]
    out = [c for c in (*left, *right) if (c in left) != (c in right)]
    return b.op("Einsum", x, other, equation=f"{''.join(left)},{''.join(right)}->{''.join(out)}")


@aten("linalg_cross", "cross")
def cross(b: Build, x: Item, other: Item, dim: int = -1) -> Item:
    def part(v: Item, i: int) -> Item:
        return b.slice(v, dim, i, i + 1)

    columns: list[Any] = []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        left, right = mul(b, part(x, j), part(other, k)), mul(b, part(x, k), part(other, j))
        columns.append(b.op("Sub", left, right))
    return b.op("Concat", *columns, axis=b.axis(dim, b.rank(columns[0])))


@aten("linalg_inv_ex", "linalg_inv", "inverse")
def inverse(b: Build, *args: Any, **named: Any) -> Item:
    x: Any = named.get("A", named.get("x", args[0] if args else None))
    if kind_of(b.dtype(x)) != "float":
        raise Unsupported("the inverse of integers")
    return b.op("Inverse", x, domain="com.microsoft")


@aten("linalg_det", "det")
def det(b: Build, *args: Any, **named: Any) -> Item:
    return b.op("Det", named.get("A", named.get("x", args[0] if args else None)))


__all__ = ["linear", "matmul_"]
