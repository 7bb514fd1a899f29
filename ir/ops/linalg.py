"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from ..core import Value
from ..errors import expect
from ..expr import Dim
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, TensorType, Type, broadcast
from .base import TensorOp, broadcast_read, fresh
from .windows import accumulate_dtype, convert, exact_matmul, may_equal, product_dtype, zero

__all__ = [
    "MatMul",
]


class MatMul(TensorOp, name="linalg.matmul"):
    """Matrix product over the last two dimensions, with those before them broadcast: NumPy's `matmul`.

    `a`: (batch..., M, K) or (K), `b`: (batch..., K, N) or (K); the dimension that a vector lacks is absent from the
    result. Floats (f16 and bf16 are summed in f32) or integers; a and b of 8 bits or less give i32.
    Source: ONNX MatMul, MatMulInteger without zero points.
    """

    names = {"onnx": "MatMul"}

    a: Value
    b: Value

    def infer(self) -> Sequence[Type]:
        a, b = self.a.tensor, self.b.tensor
        dtype = product_dtype(a.dtype, b.dtype)
        if a.shape is None or b.shape is None:
            return [TensorType(dtype, None)]
        expect(a.rank >= 1 and b.rank >= 1, f"expected operands of rank 1 or more, got {a} and {b}")
        depth = b.dims[-2] if b.rank > 1 else b.dims[0]
        expect(may_equal(a.dims[-1], depth), f"expected the last dimension of a to be {depth}, got {a}")
        batch = broadcast([a.dims[:-2], b.dims[:-2]])
        expect(batch is not None, f"expected batch dimensions that broadcast, got {a} and {b}")
        assert batch is not None
        rows, columns = a.dims[-2:-1], b.dims[-1:] if b.rank > 1 else ()
        return [TensorType(dtype, (*batch, *rows, *columns))]

    def kernel(self, k: KernelBuilder) -> None:
        a, b = k.inputs
        (out,) = k.outputs
        acc = accumulate_dtype(out.tensor.dtype)
        vectors = (a.tensor.rank == 1) + (b.tensor.rank == 1)
        batch = out.tensor.dims[: out.tensor.rank - 2 + vectors]
        dims: dict[str, Dim] = {f"b{i}": d for i, d in enumerate(batch)}
        if a.tensor.rank > 1:
            dims["m"] = a.tensor.dims[-2]
        if b.tensor.rank > 1:
            dims["n"] = b.tensor.dims[-1]
        with k.map(dims) as symbols:
            point = dict(zip(dims, symbols, strict=True))
            outer = list(symbols[: len(batch)])
            row, column = ([point[n]] if n in dims else [] for n in ("m", "n"))
            with k.reduce(k=a.tensor.dims[-1], init=[zero(k, acc)]) as r:
                (depth,) = r.dims
                x = broadcast_read(k, a, [*outer, *row, depth], [*batch, *a.tensor.dims[-2:]], plain=len(row) + 1)
                sure = b.tensor.dims[-2 if b.tensor.rank > 1 else -1] == a.tensor.dims[-1]
                y = broadcast_read(
                    k, b, [*outer, depth, *column], [*batch, *b.tensor.dims[-2:]],
                    plain=len(column) + 1, guarded=not sure,
                )  # fmt: skip
                r.yield_(k.mul(convert(k, x, acc), convert(k, y, acc)))
            k.write(convert(k, r.result, out.tensor.dtype), out, *symbols)

    def reference(self, *operands: Any) -> Any:
        a, b = operands
        acc = DTYPES[accumulate_dtype(self.result.tensor.dtype)].numpy
        product = exact_matmul(a.astype(acc, copy=False), b.astype(acc, copy=False))
        return product.astype(DTYPES[self.result.tensor.dtype].numpy)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        shapes: list[tuple[tuple[Dim, ...], tuple[Dim, ...]]] = [
            ((3, 4), (4, 5)),
            ((4,), (4, 5)),
            ((3, 4), (4,)),
            ((4,), (4,)),
            ((2, 3, 4), (2, 4, 5)),
            ((2, 3, 4), (4, 5)),
            ((3, 1, 2, 4), (2, 4, 3)),
            ((4,), (2, 4, 3)),
            ((2, 3, 4), (4,)),
            ((1, 7), (7, 1)),
        ]
        for a, b in shapes:
            yield cls(fresh("f32", *a), fresh("f32", *b))
        for dtype in ("f64", "f16", "bf16", "i32", "i64", "i8"):
            yield cls(fresh(dtype, 3, 4), fresh(dtype, 4, 5))
        yield cls(fresh("u8", 3, 4), fresh("i8", 4, 5))
