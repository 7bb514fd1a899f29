"""Random numbers that follow from a seed alone, and are those of NumPy: what ONNX's own definitions draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, as_expr, ceildiv, minimum, mod
from ..kernel.builder import KernelBuilder
from ..types import TensorType, Type
from .base import TensorOp
from .symbols import static

__all__ = ["Mersenne"]

_WORDS, _SHIFTED = 624, 397  # words of state, and the distance of those that are mixed


class Mersenne(TensorOp, name="random.mersenne"):
    """Numbers in [0, 1) of 53 bits (f64), as many as `count`: `np.random.RandomState(seed).random_sample(count)`.

    M. Matsumoto and T. Nishimura, "Mersenne Twister" (1998), MT19937; two words make one number."""

    count: Dim
    seed: int

    def infer(self) -> Sequence[Type]:
        expect(0 <= self.seed < 1 << 32, f"expected a seed of 32 bits, got {self.seed}")
        return [TensorType("f64", (self.count,))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        count, half = as_expr(self.count), _WORDS // 2
        state = k.local("u32", _WORDS)
        k.write(k.const(self.seed, "u32"), state, 0)
        with k.scan(word=_WORDS - 1, init=[k.const(self.seed, "u32")]) as s:
            (word,), (before,) = s.dims, s.carried
            mixed = k.apply("xor", before, k.apply("shr", before, k.const(30, "u32")))
            after = k.add(k.mul(mixed, k.const(1812433253, "u32")), k.cast(k.index(word + 1), "u32"))
            k.write(after, state, word + 1)
            s.yield_(after)
        with k.scan(block=ceildiv(count, half)) as blocks:
            (block,) = blocks.dims
            with k.scan(i=_WORDS) as s:
                (i,) = s.dims
                k.write(self._twisted(k, state, i), state, i)
            with k.map(pair=half) as (pair,):
                high = k.apply("shr", self._tempered(k, k.read(state, pair * 2)), k.const(5, "u32"))
                low = k.apply("shr", self._tempered(k, k.read(state, pair * 2 + 1)), k.const(6, "u32"))
                whole = k.add(k.mul(k.cast(high, "f64"), k.const(2.0**26, "f64")), k.cast(low, "f64"))
                at = block * half + pair
                inside = k.lt(k.index(at), k.index(count))
                k.write(k.mul(whole, k.const(2.0**-53, "f64")), out, minimum(at, count - 1), mask=inside)

    def _twisted(self, k: KernelBuilder, state: Value, i: Any) -> Value:
        """The next value of word `i`."""
        high = k.apply("and", k.read(state, i), k.const(0x80000000, "u32"))
        low = k.apply("and", k.read(state, mod(i + 1, _WORDS)), k.const(0x7FFFFFFF, "u32"))
        joined = k.apply("or", high, low)
        odd = k.mul(k.apply("and", joined, k.const(1, "u32")), k.const(0x9908B0DF, "u32"))
        far = k.read(state, mod(i + _SHIFTED, _WORDS))
        return k.apply("xor", k.apply("xor", far, k.apply("shr", joined, k.const(1, "u32"))), odd)

    def _tempered(self, k: KernelBuilder, y: Value) -> Value:
        y = k.apply("xor", y, k.apply("shr", y, k.const(11, "u32")))
        for by, mask in ((7, 0x9D2C5680), (15, 0xEFC60000)):
            moved = k.apply("and", k.apply("shl", y, k.const(by, "u32")), k.const(mask, "u32"))
            y = k.apply("xor", y, moved)
        return k.apply("xor", y, k.apply("shr", y, k.const(18, "u32")))

    def reference(self, *operands: Any) -> Any:
        (count,) = static([self.count], [], operands)
        return np.random.RandomState(self.seed).random_sample(count)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls(5, 0)
        yield cls(700, 12345)
