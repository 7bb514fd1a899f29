"""The first elements of a row in an order, in kernel form and in time that is linear in the row.

Elements become integers, `keys`, of which the greater come first. The key that is number `count` is found by its bits:
two of them cost one pass over the row, which any target does many elements at a time. What is not below it is collected
in the row's order, and then sorted by digits of eight bits, which keeps the order of equal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core import Value
from ..expr import Dim, Expr, as_expr, maximum
from ..kernel.builder import KernelBuilder
from ..types import DTYPES, is_float
from .windows import convert

__all__ = ["Selection", "key_dtype", "key_of"]

_DIGIT = 8  # bits
_FEW = 48  # elements up to which all of them are compared with each other


def key_dtype(dtype: str) -> str:
    """The signed integers that hold the keys of elements of `dtype`."""
    return "i64" if DTYPES[dtype].bits == 64 else "i32"


def key_of(k: KernelBuilder, x: Value, dtype: str, largest: bool) -> Value:
    """A signed integer, greater for what comes before. NaN is larger than all numbers; both zeros are equal."""
    wide = key_dtype(dtype)
    low, high = -(1 << (DTYPES[wide].bits - 1)), (1 << (DTYPES[wide].bits - 1)) - 1
    if is_float(dtype):
        number = convert(k, x, "f64" if dtype == "f64" else "f32")
        bits = k.apply("bitcast", k.add(number, k.const(0.0, number)), dtype=wide)
        # Below 0 a larger size is less: the bits behind the sign count backwards.
        turned = k.select(k.lt(bits, k.const(0, wide)), k.apply("xor", bits, k.const(high, wide)), bits)
        key = k.select(k.apply("isnan", number), k.const(high, wide), turned)
    elif DTYPES[dtype].kind == "uint" and DTYPES[dtype].bits == DTYPES[wide].bits:
        key = k.apply("xor", k.apply("bitcast", x, dtype=wide), k.const(low, wide))
    else:
        key = convert(k, x, wide)
    return key if largest else k.apply("not", key)


class Selection:
    """The kernel code for one row. `read` gives the key of the element at a position of the row of `size` elements;
    `count` of them are wanted. Used inside of a stage over rows."""

    def __init__(
        self, k: KernelBuilder, read: Callable[[Expr | Value], Value], size: Dim, count: Dim, dtype: str
    ) -> None:
        self.k, self.size, self.count, self.dtype = k, as_expr(size), as_expr(count), dtype
        self.bits = DTYPES[dtype].bits
        self.high = (1 << (self.bits - 1)) - 1
        self.row = k.local(dtype, self.size)
        with k.map(e=self.size) as (e,):
            k.write(read(e), self.row, e)
        room = maximum(self.count, 1)  # what is not written needs a legal place as well
        self.last = room - 1
        self.buffers = [(k.local(dtype, room), k.local("i64", room)) for _ in range(2)]

    def sorted(self) -> Value:
        """A local with the positions of the first `count` elements, in order."""
        self._collect(self._threshold())
        few = self.count.constant
        if few is not None and few <= _FEW:
            self._by_counting(*self.buffers[0], self.buffers[1][1])
            return self.buffers[1][1]
        for digit in range(self.bits // _DIGIT):  # an even number: the result is where it was
            self._by_digit(digit, *self.buffers[digit % 2], *self.buffers[1 - digit % 2])
        return self.buffers[0][1]

    def _how_many(self, test: str, limits: Sequence[Value]) -> Sequence[Value]:
        """For each limit, how many keys pass the test against it."""
        k = self.k
        one, zero = k.const(1, self.dtype), k.const(0, self.dtype)
        with k.reduce(e=self.size, init=[zero] * len(limits)) as r:
            key = k.read(self.row, r.dims[0])
            r.yield_(*(k.select(k.apply(test, key, limit), one, zero) for limit in limits))
        return r.results

    def _threshold(self) -> Value:
        """The largest key that at least `count` keys reach, two bits at a time."""
        k = self.k
        wanted = convert(k, k.index(self.count), self.dtype)
        one, zero = k.const(1, self.dtype), k.const(0, self.dtype)
        with k.scan(pair=self.bits // 2, init=[k.const(-(1 << (self.bits - 1)), self.dtype)]) as s:
            (found,) = s.carried
            by = convert(k, k.index(self.bits - 2 - s.dims[0] * 2), self.dtype)
            # The sums of the first round wrap, from the least key to those above 0.
            limits = [k.add(found, k.apply("shl", k.const(n, self.dtype), by)) for n in (1, 2, 3)]
            reached = zero
            for number in self._how_many("ge", limits):  # fewer for each
                reached = k.add(reached, k.select(k.ge(number, wanted), one, zero))
            s.yield_(k.add(found, k.apply("shl", reached, by)))
        return s.results[0]

    def _collect(self, threshold: Value) -> None:
        """All keys above the threshold, and as many equal ones as there is room for, in the row's order."""
        k, one, zero = self.k, self.k.const(1, "i64"), self.k.const(0, "i64")
        (above,) = self._how_many("gt", [threshold])
        equal = k.sub(k.index(self.count), convert(k, above, "i64"))
        keys, places = self.buffers[0]
        with k.scan(p=self.size, init=[zero, zero]) as s:
            (position,), (filled, seen) = s.dims, s.carried
            key = k.read(self.row, position)
            same = k.eq(key, threshold)
            takes = k.apply("or", k.gt(key, threshold), k.apply("and", same, k.lt(seen, equal)))
            at = k.min(filled, k.index(self.last))
            # Digits count upwards, without signs: what comes first must have the smallest ones.
            k.write(k.apply("xor", key, k.const(self.high, self.dtype)), keys, at, mask=takes)
            k.write(k.index(position), places, at, mask=takes)
            s.yield_(k.add(filled, k.select(takes, one, zero)), k.add(seen, k.select(same, one, zero)))

    def _by_counting(self, keys: Value, places: Value, to_places: Value) -> None:
        """Sort by counting, for each, how many come before it."""
        k, one, zero = self.k, self.k.const(1, "i64"), self.k.const(0, "i64")
        with k.map(n=self.count) as (n,):
            own = k.apply("xor", k.read(keys, n), k.const(self.high, self.dtype))
            with k.reduce(m=self.count, init=[zero]) as r:
                (m,) = r.dims
                other = k.apply("xor", k.read(keys, m), k.const(self.high, self.dtype))
                tie = k.apply("and", k.eq(other, own), k.lt(k.index(m), k.index(n)))
                r.yield_(k.select(k.apply("or", k.gt(other, own), tie), one, zero))
            k.write(k.read(places, n), to_places, r.result)

    def _by_digit(self, number: int, keys: Value, places: Value, to_keys: Value, to_places: Value) -> None:
        """Sort by one digit: count, sum up, distribute."""
        k, one, zero = self.k, self.k.const(1, "i64"), self.k.const(0, "i64")
        starts = k.local("i64", 1 << _DIGIT)

        def digit(at: Expr) -> Value:
            moved = k.apply("shr", k.read(keys, at), k.const(number * _DIGIT, self.dtype))
            return convert(k, k.apply("and", moved, k.const((1 << _DIGIT) - 1, self.dtype)), "i64")

        with k.map(b=1 << _DIGIT) as (b,):
            k.write(zero, starts, b)
        with k.scan(n=self.count) as s:
            bucket = digit(s.dims[0])
            k.write(k.add(k.read(starts, bucket), one), starts, bucket)
        with k.scan(b=1 << _DIGIT, init=[zero]) as s:
            (total,), (at,) = s.carried, s.dims
            here = k.read(starts, at)
            k.write(total, starts, at)
            s.yield_(k.add(total, here))
        with k.scan(n=self.count) as s:
            (at,), bucket = s.dims, digit(s.dims[0])
            place = k.read(starts, bucket)
            k.write(k.read(keys, at), to_keys, place)
            k.write(k.read(places, at), to_places, place)
            k.write(k.add(place, one), starts, bucket)
