"""Machine code of every scalar function: edge values of every element type, in scalar and in vector code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from _jit import load

from planish.codegen.llvm.target import target_for
from planish.ir.expr import Expr
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Map, Schedule
from planish.ir.scalar import FUNCTIONS, cast, edges
from planish.ir.target_info import TargetInfo
from planish.ir.types import DTYPES, dtype_of, tensor

# The language computes in no 8-bit float: operations convert those through their bits.
DTYPE_NAMES = [d for d, info in DTYPES.items() if info.kind not in ("string", "float8", "complex")]
ULP = {"f32": 2, "f64": 2, "f16": 1, "bf16": 1}  # allowed distance; 16-bit results may sit on a rounding border
WIDER = frozenset({"tanh", "erf", "sigmoid"})
EXACT = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "abs",
        "sign",
        "floor",
        "ceil",
        "trunc",
        "round",
        "sqrt",
        "min",
        "max",
        "select",
        "cast",
        "rem",
    ]
)
NATIVE = target_for()
OLD = target_for("x86-64")


def run(
    fn: str, dtype: str, arrays: list[np.ndarray], lanes: int, to: str = "", target: TargetInfo = NATIVE
) -> np.ndarray:
    n = arrays[0].size
    result = {"bool": "bool", "cast": to}.get(FUNCTIONS[fn].result, dtype)
    k = KernelBuilder([tensor(dtype_of(a), n) for a in arrays], [tensor(result, n)])

    def body(i: Expr) -> None:
        k.write(k.apply(fn, *(k.read(b, i) for b in k.inputs), dtype=to), k.outputs[0], i)

    with k.map(i=n) as (i,):
        body(i)
    kernel = k.outlined("test")
    for op in kernel.walk():
        if isinstance(op, Map) and lanes:
            op.schedule = Schedule((("i", lanes),), "i")
    (got,) = load(kernel, target).run(*arrays)
    return got


def inputs(fn: str, dtype: str) -> list[np.ndarray]:
    values = edges(dtype)
    if DTYPES[dtype].kind == "float":
        rng = np.random.default_rng(1)
        more = np.concatenate([rng.standard_normal(40), rng.standard_normal(20) * 30]).astype(DTYPES[dtype].numpy)
        values = np.concatenate([values, more])
    if FUNCTIONS[fn].arity == 1:
        return [values]
    if values.size > 30:
        values = values[:34]
    x, y = np.meshgrid(values, values)
    pair = [x.ravel().copy(), y.ravel().copy()]
    return pair if FUNCTIONS[fn].arity == 2 else [np.arange(pair[0].size) % 3 == 0, *pair]


def distance(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Difference in units in the last place of the wanted type; 0 for equal, both NaN, or zeros of any sign."""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    bits = {2: np.int16, 4: np.int32, 8: np.int64}[want.dtype.itemsize]
    a, b = (x.view(bits).astype(np.longdouble) for x in (got, want))  # 64 bits of mantissa
    low = np.longdouble(np.iinfo(bits).min)
    a, b = np.where(a < 0, low - a, a), np.where(b < 0, low - b, b)
    apart = np.abs(a - b)
    apart = np.where(np.isnan(got) != np.isnan(want), np.inf, apart)
    return np.where(same, 0.0, apart).astype(np.float64)


CASES = [
    (fn, dtype)
    for fn, dtype in itertools.product(FUNCTIONS, DTYPE_NAMES)
    if FUNCTIONS[fn].result != "cast" and DTYPES[dtype].kind in FUNCTIONS[fn].domain
]


def _eight(dtype: str) -> type[np.int8] | type[np.uint8]:
    return np.int8 if DTYPES[dtype].kind == "int" else np.uint8


def check_nibbles(fn: str, dtype: str, arrays: list[np.ndarray], lanes: int) -> None:
    """Integers of 4 and 2 bits: as 8-bit ones, wrapped."""
    eight, count = _eight(dtype), 1 << DTYPES[dtype].bits
    if fn in ("shl", "shr"):
        arrays[1] = (arrays[1].astype(eight) & (DTYPES[dtype].bits - 1)).astype(arrays[1].dtype)
    wide = np.asarray(FUNCTIONS[fn].evaluate(*(a.astype(eight) if a.dtype != bool else a for a in arrays)))
    got = run(fn, dtype, arrays, lanes)
    if wide.dtype == bool:
        assert (got == wide).all()
        return
    low = wide.astype(np.int64) & (count - 1)
    want = np.where((low >= count // 2) & (eight is np.int8), low - count, low)
    assert (got.astype(np.int64) == want).all()


@pytest.mark.parametrize("lanes", [0, 16])
@pytest.mark.parametrize(("fn", "dtype"), CASES)
def test_function_at_edge_values(fn: str, dtype: str, lanes: int) -> None:
    arrays = inputs(fn, dtype)
    if fn == "pow" and DTYPES[dtype].kind == "int":
        most = min(5, 1 << (DTYPES[dtype].bits - 1))
        arrays[1] = (arrays[1].astype(np.int64) % most).astype(arrays[1].dtype)  # NumPy has no negative powers
    if DTYPES[dtype].bits < 8:
        check_nibbles(fn, dtype, arrays, lanes)
        return
    wide = [
        a.astype(np.float64) if DTYPES[dtype].kind == "float" and fn not in EXACT and a.dtype != bool else a
        for a in arrays
    ]
    with np.errstate(all="ignore"):
        want = FUNCTIONS[fn].evaluate(*wide)
        want = np.asarray(want).astype(bool if FUNCTIONS[fn].result == "bool" else DTYPES[dtype].numpy)
    got = run(fn, dtype, arrays, lanes)
    assert got.dtype == want.dtype
    if want.dtype.kind == "b" or DTYPES[dtype].kind != "float":
        wrong = got != want
    else:
        wrong = distance(got, want) > (
            0 if fn in EXACT and dtype in ("f32", "f64") else 4 if fn in WIDER else ULP[dtype]
        )
    assert not wrong.any(), [(*(a[wrong][:4] for a in arrays), got[wrong][:4], want[wrong][:4])]


@pytest.mark.parametrize("target", [NATIVE, OLD], ids=lambda t: t.cpu)
@pytest.mark.parametrize("source", DTYPE_NAMES)
def test_casts_at_edge_values(source: str, target: TargetInfo) -> None:
    values = edges(source)
    if DTYPES[source].kind == "float":
        more = [
            2.0**31,
            2.0**63,
            2.0**64,
            -(2.0**31),
            255.5,
            127.5,
            1e-7,
            65519.0,
            65520.0,
            3.1e-8,
            1.0 + 2**-11 + 2**-30,
        ]
        with np.errstate(over="ignore"):
            values = np.concatenate([values, np.array(more).astype(values.dtype)])
    for to in DTYPE_NAMES:
        with np.errstate(all="ignore"):
            # Integers of 4 and 2 bits are no integers to NumPy; their values are those of 8-bit ones.
            want = cast(values.astype(_eight(source)) if DTYPES[source].bits < 8 else values, to)
        got = run("cast", source, [values], 16, to, target)
        same = (got == want) | ((got != got) & (want != want))
        assert same.all(), (to, values[~same], got[~same], want[~same])


@pytest.mark.parametrize("fn", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_of_zero(fn: str) -> None:
    got = run(fn, "f32", [np.array([0.0, -0.0] * 16, np.float32)], 16)
    assert (got == 0).all() and (np.signbit(got) == [False, True] * 16).all()


@pytest.mark.parametrize(("fn", "low", "high", "ulp"), [
    ("exp", -104.0, 89.0, 2),
        ("expm1", -50.0, 89.0, 2),
        ("sin", -30.0, 30.0, 2),
        ("sin", -3e6, 3e6, 2),
        ("cos", -30.0, 30.0, 2),
        ("cos", -3e6, 3e6, 2),
        ("expm1", -1.0, 1.0, 2),
        ("log1p", -0.999, 1e6, 2),
        ("log1p", -0.5, 1.0, 2), ("log", 1e-40, 1e30, 2), ("tanh", -10.0, 10.0, 2), ("sigmoid", -100.0, 90.0, 2),
    ("erf", -6.0, 6.0, 2),
])  # fmt: skip
def test_f32_functions_are_accurate_over_their_range(fn: str, low: float, high: float, ulp: int) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([np.linspace(low, high, 40001), rng.standard_normal(20000)])
    x = np.clip(x, low, high).astype(np.float32)
    want = FUNCTIONS[fn].evaluate(x.astype(np.float64)).astype(np.float32)
    got = run(fn, "f32", [x], 32)
    worst = distance(got, want).max()
    assert worst <= ulp, (worst, x[distance(got, want).argmax()])
