"""Fewer rounds of Python's collector of cycles while a model is compiled.

The intermediate representation is millions of small objects that refer to each other and live until the end: each full
round looks at all of them and frees nothing (a third of the time of a long chain).
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

_YOUNG = 200_000  # new objects before a round; the interpreter's own number is 700


@contextmanager
def few_collections() -> Generator[None]:
    """Inside, rounds are rarer; then as before."""
    before = gc.get_threshold()
    gc.set_threshold(max(_YOUNG, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
