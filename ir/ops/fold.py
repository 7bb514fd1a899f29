"""Reductions over windows whose sizes only the run knows: over axes that are data, every window is 1 or all of its
dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self, cast

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, as_dim, as_expr
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, TensorType, Type
from .base import TensorOp, fresh
from .symbols import static
from .windows import accumulate_dtype, convert, greatest, least

__all__ = ["Fold"]

_NUMPY: dict[str, Callable[..., Any]] = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min}


class Fold(TensorOp, name="reduce.fold"):
    """Element o of the result folds the elements o + r of `x` for all r inside of `window`; `combine` is add, mul, max
    or min. A dimension of size d becomes d - window + 1. Numbers; f16 and bf16 are folded in f32.

    Source: ONNX Reduce* over axes that are data (a window is 1, or the whole dimension)."""

    x: Value
    window: tuple[Dim, ...]
    combine: str = "add"

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(DTYPES[x.dtype].kind in ("float", "int", "uint"), f"expected numbers, got {x.dtype}")
        expect(self.combine in _NUMPY, f"expected add, mul, max or min, got {self.combine}")
        if x.shape is None:
            return [x]
        expect(len(self.window) == x.rank, f"expected {x.rank} sizes of a window, got {self.window}")
        return [
            TensorType(x.dtype, tuple(as_dim(as_expr(d) - w + 1) for d, w in zip(x.dims, self.window, strict=True)))
        ]

    def _start(self, dtype: str) -> Any:
        first = {"add": 0, "mul": 1, "max": least(dtype), "min": greatest(dtype)}[self.combine]
        return float(first) if DTYPES[dtype].kind == "float" else first

    def kernel(self, k: KernelBuilder) -> None:
        (x,), (out,) = k.inputs, k.outputs
        acc = accumulate_dtype(x.tensor.dtype)
        taps = {f"r{i}": w for i, w in enumerate(self.window)}
        combine = cast("Literal['add', 'mul', 'max', 'min']", self.combine)
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            with k.reduce(taps, init=[k.const(self._start(acc), acc)], combine=combine) as r:
                at = [p + t for p, t in zip(point, r.dims, strict=True)]
                r.yield_(convert(k, k.read(x, *at), acc))
            k.write(convert(k, r.result, out.tensor.dtype), out, *point)

    def reference(self, *operands: Any) -> Any:
        (x,) = operands
        window = static(self.window, [self.x], operands)
        acc = accumulate_dtype(self.x.tensor.dtype)
        if x.size == 0:  # a window of no elements gives the neutral one
            shape = [d - w + 1 for d, w in zip(x.shape, window, strict=True)]
            return np.full(shape, self._start(acc), DTYPES[acc].numpy).astype(x.dtype)
        wide = x.astype(DTYPES[acc].numpy)
        views: Any = np.lib.stride_tricks.sliding_window_view(wide, window) if window else wide
        return np.asarray(_NUMPY[self.combine](views, axis=tuple(range(x.ndim, 2 * x.ndim)))).astype(x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 3, 4), (3, 1))
        yield cls(fresh("f32", 2, 3, 4), (1, 3, 4), "max")
        yield cls(fresh("i32", 2, 3), (1, 1), "min")
        yield cls(fresh("f16", 4, 2), (4, 2), "mul")
