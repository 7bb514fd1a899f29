"""Every kernel of docs/KERNEL.md parses, verifies, and means the same in NumPy, in the interpreter and compiled."""

from __future__ import annotations

import numpy as np
import pytest
from _jit import load
from _kernels import CASES, case, kernel, module, texts

from planish.codegen.llvm.target import host
from planish.ir.kernel.interp import run_kernel
from planish.ir.text import parse_module, print_module
from planish.ir.verifier import verify

NAMES = sorted(CASES)


def test_the_page_has_these_fourteen_kernels() -> None:
    assert sorted(texts()) == NAMES
    assert len(NAMES) == 14


@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_printed_as_the_page_shows_it(name: str) -> None:
    text = texts()[name]
    assert print_module(parse_module(text)) == text


@pytest.mark.parametrize("name", NAMES)
def test_kernel_verifies(name: str) -> None:
    verify(module(name))


@pytest.mark.parametrize("name", NAMES)
def test_interpreter_agrees_with_plain_numpy(name: str) -> None:
    given = case(name)
    results = run_kernel(kernel(name), given.inputs, given.symbols)
    assert len(results) == len(given.expected)
    for got, want in zip(results, given.expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_code_with_the_default_schedule_agrees_with_plain_numpy(name: str) -> None:
    given = case(name)
    loaded = load(kernel(name), host(), sorted(given.symbols))
    results = loaded.run(*given.inputs, symbols=given.symbols)
    assert len(results) == len(given.expected)
    for got, want in zip(results, given.expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
