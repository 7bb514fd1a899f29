"""Data movement: reshape, transpose, concatenate, slice, expand, pad, tile, iota, cumulative sum.

Gather and scatter stand in `indexing`; they are re-exported here, as they share the `shape.` prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, as_expr, product
from ..kernel.builder import KernelBuilder
from ..types import TensorType, Type
from .base import TensorOp, fresh
from .reshape import regroup
from .symbols import static

__all__ = [
    "Reshape",
    "Transpose",
]


def _loops(dims: Sequence[Dim]) -> dict[str, Dim]:
    return {f"d{i}": d for i, d in enumerate(dims)}


class Reshape(TensorOp, name="shape.reshape"):
    """The same elements in row-major order under another `shape`, which is complete (no -1, no 0 that copies).

    Any element type. Source: ONNX Reshape, Flatten, Squeeze, Unsqueeze.
    """

    x: Value
    shape: tuple[Dim, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        if x.shape is not None:
            want, have = as_expr(product(self.shape)), as_expr(x.elements)
            known = (want - have).constant
            expect(known is None or known == 0, f"expected a shape of {have} elements for {x}, got {list(self.shape)}")
        return [TensorType(x.dtype, tuple(self.shape))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        if 0 in (*x.tensor.dims, *out.tensor.dims):
            return
        loops, old, new = regroup(x.tensor.dims, out.tensor.dims)
        with k.map(loops) as symbols:
            names = dict(zip(loops, symbols, strict=True))
            value = k.read(x, *(e.substitute(names) for e in old))
            k.write(value, out, *(e.substitute(names) for e in new))

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return x.reshape(static(self.shape, [self.x], [x]))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        pairs: list[tuple[tuple[Dim, ...], tuple[Dim, ...]]] = [
            ((2, 3, 4), (6, 4)),
            ((2, 3, 4), (2, 12)),
            ((6, 4), (2, 3, 4)),
            ((2, 12), (2, 3, 1, 4)),
            ((6, 4), (3, 8)),
            ((6, 4), (4, 6)),
            ((2, 6, 4, 5), (2, 4, 6, 5)),
            ((1, 2, 1, 3), (3, 2)),
            ((), (1, 1)),
            ((1,), ()),
            ((0, 3), (3, 0)),
            ((24,), (2, 3, 4)),
        ]
        for old, new in pairs:
            yield cls(fresh("f32", *old), new)
        for dtype in ("i64", "bool", "f16"):
            yield cls(fresh(dtype, 2, 6), (3, 4))


class Transpose(TensorOp, name="shape.transpose"):
    """Dimension i of the result is dimension `perm[i]` of `x`; any element type. Source: ONNX Transpose."""

    names = {"onnx": "Transpose"}

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        rank = len(self.perm) if x.shape is None else x.rank
        expect(sorted(self.perm) == list(range(rank)), f"expected a permutation of {rank} dimensions, got {self.perm}")
        return [TensorType(x.dtype, None if x.shape is None else tuple(x.dims[p] for p in self.perm))]

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        with k.map(_loops(out.tensor.dims)) as point:
            k.write(k.read(x, *(point[self.perm.index(d)] for d in range(len(point)))), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        return np.ascontiguousarray(x.transpose(self.perm)).reshape([x.shape[p] for p in self.perm])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 5), (1, 0))
        yield cls(fresh("f32", 2, 3, 4), (0, 2, 1))
        yield cls(fresh("f32", 2, 3, 4, 5), (0, 2, 3, 1))
        yield cls(fresh("f32", 2, 3, 4), (2, 0, 1))
        yield cls(fresh("f32"), ())
        for dtype in ("i64", "u8", "f16", "bool"):
            yield cls(fresh(dtype, 2, 3, 4), (1, 2, 0))
