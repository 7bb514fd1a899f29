"""Host operations that draw random numbers. Without a seed every run draws others. Source: ONNX Random*, Bernoulli,
Multinomial. The generator is the runtime's own: ONNX prescribes none, so that the numbers here differ from its."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ...core import Value
from ...types import DTYPES, TensorType, Type
from .base import HostOp

__all__ = ["Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"]


class _Random(HostOp):
    """Base."""

    deterministic: ClassVar[bool] = False

    def generator(self) -> Any:
        """A generator for one run."""
        seed: float | None = getattr(self, "seed", None)
        return np.random.default_rng(None if seed is None else int(abs(seed) * 1000))


class RandomUniform(_Random, name="host.random_uniform"):
    """Numbers between `low` and `high`, in a given shape; the type of the result is given."""

    function: ClassVar[str] = "random_uniform"
    shape: Value
    dtype: str
    low: float = 0.0
    high: float = 1.0
    seed: float | None = None
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        drawn: Any = self.generator().uniform(self.low, self.high, operands[0])
        return drawn.astype(DTYPES[self.dtype].numpy)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([2, 3])], "f32", -1.0, 1.0, 1.5, types=[TensorType("f32", (2, 3))])


class RandomNormal(_Random, name="host.random_normal"):
    """Normally distributed numbers, in a given shape; the type of the result is given."""

    function: ClassVar[str] = "random_normal"
    shape: Value
    dtype: str
    mean: float = 0.0
    scale: float = 1.0
    seed: float | None = None
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        drawn: Any = self.generator().normal(self.mean, self.scale, operands[0])
        return drawn.astype(DTYPES[self.dtype].numpy)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([2, 3])], "f16", 0.0, 1.0, 1.5, types=[TensorType("f16", (2, 3))])


class Bernoulli(_Random, name="host.bernoulli"):
    """1 with the probability that `x` gives, else 0."""

    function: ClassVar[str] = "bernoulli"
    x: Value
    dtype: str
    seed: float | None = None

    def infer(self) -> Sequence[Type]:
        return [TensorType(self.dtype, self.x.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        x = operands[0]
        drawn: Any = self.generator().uniform(size=x.shape) < x
        return drawn.astype(DTYPES[self.dtype].numpy)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([0.0, 1.0, 0.5], np.float32)], "bool", 1.5)


class Multinomial(_Random, name="host.multinomial"):
    """Classes drawn by unnormalised log-probabilities (b, c): (b, sample_size), i32 or i64."""

    function: ClassVar[str] = "multinomial"
    x: Value
    dtype: str
    sample_size: int = 1
    seed: float | None = None

    def infer(self) -> Sequence[Type]:
        return [TensorType(self.dtype, (self.x.tensor.dims[0], self.sample_size))]

    def reference(self, *operands: Any) -> Any:
        p = np.exp(operands[0] - operands[0].max(1, keepdims=True))
        rng = self.generator()
        rows = [rng.choice(len(r), self.sample_size, p=r / r.sum()) for r in p.astype(np.float64)]
        return np.array(rows).astype(DTYPES[self.dtype].numpy)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([[0.0, -1.0], [2.0, 0.0]], np.float32)], "i32", 4, 1.5)
