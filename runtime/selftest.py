"""The golden self-test in Python: the same inputs as native/selftest.c makes, and the same check of the outputs.

The compiler uses it to record what must come out (`record`), everybody to repeat the test (`seeded_inputs`, `check`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .dtypes import dlpack_code, is_packed, numpy_dtype, raw_dtype
from .manifest import Port, Sample, SelfTest

Array = np.ndarray[Any, Any]
_INPUT_STEP = 0xD1342543DE82EF95
_ELEMENT_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_FLOAT, _BFLOAT = 2, 4


def _mix(x: Array) -> Array:
    """splitmix64's finalizer. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def seeded_input(port: Port, index: int, seed: int, shape: Sequence[int], lo: float, hi: float) -> Array:
    """Values for input number `index` within [lo, hi]; the rule stands in native/planish_abi.h.

    Types that NumPy lacks come as `ml_dtypes` arrays, or as raw bits without that package.
    """
    count = int(np.prod(shape, dtype=np.int64))
    start = np.uint64((seed + index * _INPUT_STEP) & _MASK)
    x = _mix(start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_ELEMENT_STEP))
    u = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
    code, bits = dlpack_code(port.dtype)
    if code in (_FLOAT, _BFLOAT):
        values = lo + u * (hi - lo)
        own = numpy_dtype(port.dtype)
        flat = _bf16_bits(values) if code == _BFLOAT else values.astype(own)
        return (flat.view(own) if code == _BFLOAT else flat).reshape(shape)
    if code >= 10:
        raw = (x % np.uint64(64 if bits == 8 else 16)).astype(np.uint8)
        return raw.view(numpy_dtype(port.dtype)).reshape(shape)
    numbers = np.minimum(np.floor(lo + u * (hi - lo + 1)), hi).astype(np.int64)
    if is_packed(port.dtype) and numpy_dtype(port.dtype) == raw_dtype(port.dtype):
        numbers &= 15
    return numbers.astype(numpy_dtype(port.dtype)).reshape(shape)


def _bf16_bits(values: Array) -> Array:
    """Round float64 to bfloat16 once, to nearest, ties to even."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
        # Round to odd first, so that the second rounding cannot go wrong.
        inexact = single.astype(np.float64) != values
        bits = single.view(np.uint32).copy()
        too_far = np.abs(single.astype(np.float64)) > np.abs(values)
        bits -= (inexact & too_far).astype(np.uint32)
        bits |= inexact.astype(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def seeded_inputs(ports: Sequence[Port], symbols: Sequence[str], test: SelfTest) -> dict[str, Array]:
    """The inputs of the self-test by name. `symbols` are the model's, in order."""
    values = dict(zip(symbols, test.symbols, strict=True))
    inputs: dict[str, Array] = {}
    for index, (port, (lo, hi)) in enumerate(zip(ports, test.ranges, strict=True)):
        shape = [dim if isinstance(dim, int) else values[dim] for dim in port.shape or ()]
        inputs[port.name] = seeded_input(port, index, test.seed, shape, lo, hi)
    return inputs


def _as_doubles(array: Array) -> Array:
    if array.dtype.kind == "c":
        return np.empty(0)
    return array.astype(np.float64).ravel()


def record(
    seed: int,
    symbols: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    outputs: Sequence[Array],
    *,
    rtol: float = 1e-3,
    atol: float = 1e-5,
    samples_per_output: int = 8,
) -> SelfTest:
    """What the model must give for the inputs of `seed`: sums, and some values spread over each of `outputs`."""
    samples: list[Sample] = []
    sums: list[tuple[float, float] | None] = []
    for number, array in enumerate(outputs):
        flat = _as_doubles(array)
        steps = max(min(samples_per_output, flat.size), 1)
        picks = sorted({step * (flat.size - 1) // max(steps - 1, 1) for step in range(steps)}) if flat.size else []
        samples += [Sample(number, at, float(flat[at])) for at in picks]
        total = (float(flat.sum()), float(np.abs(flat).sum()))
        sums.append(total if np.isfinite(total).all() and array.dtype.kind in "biuf" else None)
    return SelfTest(seed, tuple(symbols), tuple(ranges), tuple(sums), tuple(samples), rtol, atol)


def check(ports: Sequence[Port], outputs: Mapping[str, Array], test: SelfTest) -> str:
    """The first difference between `outputs` and what `test` expects, in words; empty if there is none."""
    flat = [_as_doubles(outputs[port.name]) for port in ports]
    for sample in test.samples:
        values = flat[sample.output]
        got = float(values[sample.index]) if sample.index < values.size else float("nan")
        want = sample.value
        same = got == want or (np.isnan(want) and np.isnan(got))
        if not same and not abs(got - want) <= test.atol + test.rtol * abs(want):
            return f"output '{ports[sample.output].name}': element {sample.index}: expected {want:.9g}, got {got:.9g}"
    for port, values, pair in zip(ports, flat, test.sums, strict=True):
        if pair is None:
            continue
        total = float(values.sum())
        if total != pair[0] and not abs(total - pair[0]) <= values.size * test.atol + test.rtol * pair[1]:
            return f"output '{port.name}': sum of its elements: expected {pair[0]:.9g}, got {total:.9g}"
    return ""
