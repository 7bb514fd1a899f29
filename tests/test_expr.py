"""Expressions: Python's meaning, one canonical form, bounds that hold, text that reads back."""

from __future__ import annotations

import numpy as np
import pytest
from _irgen import exprs
from hypothesis import given, settings
from hypothesis import strategies as st

from planish.ir.errors import ParseError
from planish.ir.expr import Expr, ceildiv, const, floordiv, maximum, minimum, mod, sym
from planish.ir.text import parse_expr

SMALL = st.sampled_from(["a", "b", "c"])
VALUES = st.fixed_dictionaries({name: st.integers(-20, 20) for name in "abc"})
a, b = sym("a"), sym("b")


@settings(deadline=None, derandomize=True)
@given(exprs())
def test_text_reads_back(e: Expr) -> None:
    assert parse_expr(str(e)) == e


@settings(deadline=None, derandomize=True)
@given(exprs(SMALL), exprs(SMALL), VALUES, st.integers(1, 9))
def test_arithmetic_is_pythons(x: Expr, y: Expr, env: dict[str, int], n: int) -> None:
    u, v = x.evaluate(env), y.evaluate(env)
    assert (x + y).evaluate(env) == u + v
    assert (x * y).evaluate(env) == u * v
    assert (x - y).evaluate(env) == u - v
    assert floordiv(x, n).evaluate(env) == u // n
    assert mod(x, n).evaluate(env) == u % n
    assert ceildiv(x, n).evaluate(env) == -(-u // n)
    assert minimum(x, y).evaluate(env) == min(u, v)
    assert maximum(x, y).evaluate(env) == max(u, v)


@settings(deadline=None, derandomize=True)
@given(exprs(SMALL), VALUES)
def test_substituted_evaluated_and_vectorised_values_agree(e: Expr, env: dict[str, int]) -> None:
    value = e.evaluate(env)
    assert e.substitute(env).constant == value
    arrays = {name: np.array([n, n]) for name, n in env.items()}
    assert (np.broadcast_to(e.evaluate(arrays), 2) == value).all()


@settings(deadline=None, derandomize=True)
@given(exprs(SMALL), st.fixed_dictionaries({n: st.tuples(st.integers(-5, 5), st.integers(0, 6)) for n in "abc"}))
def test_bounds_and_simplification_hold_at_every_point(e: Expr, spans: dict[str, tuple[int, int]]) -> None:
    ranges = {name: (low, low + size) for name, (low, size) in spans.items()}
    low, high = e.bounds(ranges)
    simple = e.simplify(ranges)
    grid = np.meshgrid(*(np.arange(lo, hi + 1) for lo, hi in ranges.values()))
    env = {name: axis.reshape(-1) for name, axis in zip(ranges, grid, strict=True)}
    values = np.broadcast_to(e.evaluate(env), env["a"].shape)
    assert low is None or low <= values.min()
    assert high is None or values.max() <= high
    assert (np.broadcast_to(simple.evaluate(env), values.shape) == values).all()


@settings(deadline=None, derandomize=True)
@given(exprs(SMALL), VALUES, st.integers(1, 8))
def test_divisor_divides(e: Expr, env: dict[str, int], n: int) -> None:
    multiples = {"a": n}
    value = e.evaluate({**env, "a": env["a"] * n})
    divisor = e.divisor(multiples)
    assert value == 0 if divisor == 0 else value % divisor == 0


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (2 * a + b - 1, "2*a + b - 1"),
        (floordiv(4 * a + b, 4), "a + floordiv(b, 4)"),
        (mod(8 * a + 3, 8), "3"),
        (a * b - b * a, "0"),
        (floordiv(a, a), "1"),
        (-a, "-a"),
        (minimum(a, a + 1), "a"),
        (sym("batch size") + 1, '"batch size" + 1'),
        (sym("max") * 2, '2*"max"'),
        (const(-3), "-3"),
    ],
)
def test_canonical_form(made: Expr, text: str) -> None:
    assert str(made) == text
    assert parse_expr(text) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2*", "<text>:1: expected a number, a symbol or '(', got the end of the text"),
        ("a b", "<text>:1: expected the end of the text, got 'b'"),
        ("mod(a)", "<text>:1: expected ',', got ')'"),
        ("a ? b", "<text>:1: expected a token, got '? b'"),
    ],
)
def test_errors_name_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_expr(text)
    assert str(error.value) == message
