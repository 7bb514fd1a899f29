"""What type inference takes for granted about symbolic dimensions.

Inference lets a symbol meet a number, or another symbol, where both must be the same size: `f32[n,k]` times
`f32[3,4]` is `f32[n,4]`, which is right only if k is 3. Whoever builds a graph collects such equations and puts them
into the types of the inputs, where they are checked when the model runs. What no type of an input can say (that two
symbols are equal, or one of them is 1) is collected as conditions, which become `t.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from .errors import PlanishError
from .expr import Dim, Expr, as_dim, as_expr, sym

T = TypeVar("T")


@dataclass
class Assumptions:
    """Pairs of dimensions that were taken to be equal. `free` are symbols without a name in the model: broadcasting
    takes two of them, or one and another symbol, to be equal, which it does not with symbols that the model names."""

    pairs: list[tuple[Dim, Dim]] = field(default_factory=list[tuple[Dim, Dim]])
    free: set[str] = field(default_factory=set[str])
    zero: list[Expr] = field(default_factory=list[Expr])  # what must be 0, and
    nonnegative: list[Expr] = field(default_factory=list[Expr])  # what must be at least 0, when the model runs

    def solve(self) -> dict[str, Dim]:
        """Numbers and symbols to put in for symbols. Equations that need more than that are left out."""
        found: dict[str, Dim] = {}
        for a, b in self.pairs:
            solved = self._solve(as_expr(a).substitute(found) - as_expr(b).substitute(found))
            if solved is not None:
                found = {name: as_dim(as_expr(dim).substitute(dict([solved]))) for name, dim in found.items()}
                found[solved[0]] = solved[1]
        return found

    def unsolved(self, a: Dim, b: Dim) -> bool:
        """True when the types of inputs cannot say that two dimensions are equal."""
        return self._solve(as_expr(a) - as_expr(b)) is None

    def _solve(self, difference: Expr) -> tuple[str, Dim] | None:
        """What one symbol is if `difference` is 0."""
        names = sorted(difference.symbols(), key=lambda name: (name not in self.free, name))
        if not names or not all(difference.is_linear_in(name) for name in names):
            return None
        factor = difference.coefficient(names[0])
        if len(names) == 1 and factor:
            size, rest = divmod(-difference.offset, factor)
            return (names[0], size) if rest == 0 and size >= 0 else None
        if len(names) == 2 and difference in (sym(names[0]) - sym(names[1]), sym(names[1]) - sym(names[0])):
            keep, drop = sorted(names, key=lambda name: (name.startswith("?"), name in self.free, name))
            return None if keep.startswith("?") else (drop, sym(keep))
        return self._isolated(difference, names)

    def _isolated(self, difference: Expr, names: list[str]) -> tuple[str, Dim] | None:
        """The symbol that stands alone in a linear equation, as an expression of the others."""
        if any(name.startswith("?") for name in names):
            return None
        for name in names:
            if abs(difference.coefficient(name)) == 1:
                rest = difference - sym(name) * difference.coefficient(name)
                return name, as_dim(rest * -difference.coefficient(name))
        return None


_CURRENT: ContextVar[Assumptions | None] = ContextVar("assumptions", default=None)


@contextmanager
def assuming() -> Generator[Assumptions]:
    """Collect what is assumed inside the block."""
    found = Assumptions()
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)


def settled(make: Callable[[dict[str, Dim], Assumptions], T]) -> T:
    """What `make` gives for what is known of symbols and for what it will take for granted. Where dimensions must be
    equal for the operators to fit, `make` is called again with that, until nothing new comes up."""
    equal: dict[str, Dim] = {}
    while True:
        failed: PlanishError | None = None
        result: T | None = None
        with assuming() as assumed:
            try:
                result = make(equal, assumed)
            except PlanishError as error:
                failed = error
        solved = assumed.solve()
        if solved.keys() <= equal.keys():
            break
        equal = {name: substituted(dim, solved) for name, dim in equal.items()} | solved
    if failed is not None:
        raise failed
    assert result is not None
    return result


def assume_equal(a: Dim, b: Dim) -> None:
    """Note that two dimensions are taken to be equal."""
    current = _CURRENT.get()
    if current is not None and a != b:
        current.pairs.append((a, b))


def require_zero(e: Expr) -> None:
    """Note that `e` must be 0 when the model runs."""
    current = _CURRENT.get()
    if current is not None and e not in current.zero:
        current.zero.append(e)


def require_nonnegative(e: Expr) -> None:
    """Note that `e` must be at least 0 when the model runs."""
    current = _CURRENT.get()
    if current is not None and e not in current.nonnegative:
        current.nonnegative.append(e)


def may_assume_equal(a: Dim, b: Dim) -> bool:
    """Whether broadcasting may take two different symbolic dimensions to be equal."""
    current = _CURRENT.get()
    return current is not None and any(isinstance(d, Expr) and d.symbol in current.free for d in (a, b))


def can_say_equal(a: Dim, b: Dim) -> bool:
    """Whether types of inputs can say that two dimensions are equal. Where they cannot, as of `n*m // k` and 4, either
    may be 1 as well."""
    current = _CURRENT.get()
    return current is None or not current.unsolved(a, b)


def substituted(dim: Dim, known: Mapping[str, Dim]) -> Dim:
    """`dim` with what is known of its symbols."""
    return as_dim(dim.substitute(known)) if isinstance(dim, Expr) else dim
