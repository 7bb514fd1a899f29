"""What expressions (`ir.expr`) are polynomials of. Atoms are named tuples, since monomials are hashed all the time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .quote import symbol_text

if TYPE_CHECKING:
    from .expr import Expr


class Sym(NamedTuple):
    """A named unknown: a shape symbol, a loop dimension, or `$0`, an operand of the operation that holds the map."""

    name: str

    def symbols(self) -> frozenset[str]:
        """Its name."""
        return frozenset((self.name,))

    def __str__(self) -> str:
        return symbol_text(self.name)


class Call(NamedTuple):
    """A non-polynomial atom. `fn` is one of `floordiv`, `mod`, `min`, `max`; there are two arguments."""

    fn: str
    args: tuple[Expr, Expr]

    def symbols(self) -> frozenset[str]:
        """Names of all symbols in its arguments."""
        return self.args[0].symbols() | self.args[1].symbols()

    def __str__(self) -> str:
        a, b = self.args
        return f"{self.fn}({a}, {b})"


Atom: TypeAlias = Sym | Call
Monomial: TypeAlias = tuple[Atom, ...]


def atom_key(atom: Atom) -> tuple[bool, str]:
    """Sorts the factors of a monomial."""
    return (isinstance(atom, Call), str(atom))


@lru_cache(maxsize=1 << 14)
def _monomial_key(monomial: Monomial) -> tuple[int, list[tuple[bool, str]]]:
    return (-len(monomial), [atom_key(a) for a in monomial])


def term_key(term: tuple[Monomial, int]) -> tuple[int, list[tuple[bool, str]]]:
    """Sorts the terms of an expression: higher degrees first, then by what the atoms look like."""
    return _monomial_key(term[0])
