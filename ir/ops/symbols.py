"""Values of shape symbols for references: what an interpreter states, or what the shapes of operands say."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from ..core import Value
from ..errors import PlanishError
from ..expr import Dim, Expr
from ..scalar import Array

_KNOWN: ContextVar[Mapping[str, int] | None] = ContextVar("symbols", default=None)


@contextmanager
def known_symbols(env: Mapping[str, int]) -> Generator[None]:
    """Inside the block, references find the values of shape symbols in `env`: operations whose attributes hold
    symbols that none of their operands has (an `iota` of symbolic length) need it."""
    token = _KNOWN.set(env)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def bind(values: Sequence[Value | None], arrays: Sequence[Array | None]) -> dict[str, int]:
    """Symbols of the types of `values` as the shapes of `arrays` say; only dimensions `a * symbol + b` are used."""
    env: dict[str, int] = {}
    for value, array in zip(values, arrays, strict=True):
        if value is None or array is None or value.tensor.shape is None:
            continue
        for dim, size in zip(value.tensor.dims, array.shape, strict=True):
            if isinstance(dim, Expr) and len(dim.symbols()) == 1:
                (name,) = dim.symbols()
                factor = dim.coefficient(name)
                if factor and dim.is_linear_in(name):
                    env.setdefault(name, (size - dim.offset) // factor)
    return env


def static(
    dims: Sequence[Dim], values: Sequence[Value | None] = (), arrays: Sequence[Array | None] = ()
) -> tuple[int, ...]:
    """`dims` as ints, with symbols found in the operands `values` that have the contents `arrays`."""
    if all(isinstance(d, int) for d in dims):
        return tuple(d for d in dims if isinstance(d, int))
    env = {**bind(values, arrays), **(_KNOWN.get() or {})}
    missing = sorted({s for d in dims if isinstance(d, Expr) for s in d.symbols()} - env.keys())
    if missing:
        raise PlanishError(f"expected dimensions of known size, got {', '.join(missing)}: fix them with a shape")
    return tuple(int(d.evaluate(env)) if isinstance(d, Expr) else d for d in dims)
