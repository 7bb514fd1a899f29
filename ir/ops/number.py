"""Sizes as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..expr import Dim, as_expr, const
from ..kernel.builder import KernelBuilder
from ..types import TensorType, Type
from .base import TensorOp
from .symbols import static

__all__ = ["Number"]


class Number(TensorOp, name="shape.number"):
    """The value of an expression over shape symbols: i64[]. Source: ONNX Shape and what models compute from it."""

    value: Dim

    def infer(self) -> Sequence[Type]:
        return [TensorType("i64", ())]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        with k.map({}):
            k.write(k.index(as_expr(self.value)), out)

    def reference(self, *operands: Any) -> Any:
        return np.array(static((self.value,))[0], np.int64)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(const(7))
        yield cls(const(-3))
