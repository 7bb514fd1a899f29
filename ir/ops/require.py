"""Checks at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import PlanishError, expect
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import Type
from .base import TensorOp, fresh

__all__ = ["Require"]


class Require(TensorOp, name="shape.require"):
    """`x`, if `ok` (bool, one element) is true; else the run ends with an error of an index out of range.

    Where a shape was taken from what a model declares, this holds the data to it. `x` has rank 1 or more; any element
    type. Source: planish."""

    x: Value
    ok: Value

    def infer(self) -> Sequence[Type]:
        x, ok = self.x.tensor, self.ok.tensor
        expect(ok.dtype == "bool", f"expected a condition of bool, got {ok}")
        expect(x.shape is None or x.rank >= 1, f"expected x of rank 1 or more, got {x}")
        expect(ok.shape is None or ok.rank == 0, f"expected a condition of rank 0, got {ok}")
        return [x]

    def kernel(self, k: KernelBuilder) -> None:
        (x, ok), (out,) = k.inputs, k.outputs
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            at = k.select(k.read(ok), k.index(point[0]), k.const(-1, "i64"))
            k.write(k.read(x, at, *point[1:]), out, *point)

    def reference(self, *operands: Any) -> Any:
        x, ok = operands
        if not bool(ok) and x.size:
            raise PlanishError("the data does not have the shape that the model declares")
        return np.array(x)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(fresh("f32", 2, 3), fresh("bool"))
        yield cls(fresh("i64", 4), fresh("bool"))

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """A condition that holds."""
        shape = self.x.tensor.static_shape
        return [rng.integers(0, 9, shape).astype(np.float32 if self.x.tensor.dtype == "f32" else np.int64), np.True_]
