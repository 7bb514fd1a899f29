"""`--shape`: which sizes a model is compiled for.

    seq=128                     one size
    seq=1..512                  a range, which is checked at entry and which the passes know
    seq=1..512@32:128:512       the same, with versions of the program for these sizes beside the general one
    input=1,3,224,224           an input: a number, a range or `?` (any) for each dimension

Several symbols with versions give one version for every combination of their sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from planish.frontend import Ranged, Source
from planish.ir.core import Module
from planish.ir.errors import PlanishError
from planish.ir.expr import Range, symbol_bounds
from planish.ir.types import TensorType, Type
from planish.runtime.escape import log_text

Given: TypeAlias = "int | str | Sequence[int | str]"
MOST_VERSIONS = 48
_MOST = (1 << 63) - 1
_SIZE = re.compile(r"(?:(\d+)|(\d+)?\.\.(\d+)?|[?*])?(?:@(\d+(?::\d+)*))?")


@dataclass(frozen=True)
class Sizes:
    """What one dimension may be: `low` to `high` (None: any), with versions for some sizes."""

    low: int = 0
    high: int | None = None
    versions: tuple[int, ...] = ()

    @property
    def fixed(self) -> int | None:
        """The size, if it can be only one."""
        return self.low if self.low == self.high else None

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked for."""
        return self == Sizes()

    def has(self, size: int) -> bool:
        """Whether `size` is one of them."""
        return self.low <= size and (self.high is None or size <= self.high)

    def both(self, other: Sizes) -> Sizes | None:
        """What fits both; None: nothing does."""
        highs = [h for h in (self.high, other.high) if h is not None]
        low, high = max(self.low, other.low), min(highs, default=None)
        merged = Sizes(low, high, tuple(sorted({*self.versions, *other.versions})))
        fits = (high is None or low <= high) and all(merged.has(v) for v in merged.versions)
        return merged if fits else None

    def __str__(self) -> str:
        """As it is written."""
        if self.fixed is not None:
            return str(self.low)
        text = "?" if not self.low and self.high is None else f"{self.low}..{'' if self.high is None else self.high}"
        return text + (f"@{':'.join(map(str, self.versions))}" if self.versions else "")


@dataclass
class Shapes:
    """What was asked for, in the model's own terms: `fixed` as `Source.read` takes it, sizes by symbol, and the
    assignments of sizes that get a version of their own."""

    fixed: dict[str, Sequence[int]] = field(default_factory=dict[str, "Sequence[int]"])
    sizes: dict[str, Sizes] = field(default_factory=dict[str, Sizes])

    @property
    def bounds(self) -> dict[str, Range]:
        """For `symbol_bounds`."""
        return {name: (s.low, s.high) for name, s in self.sizes.items() if s.low or s.high is not None}

    @property
    def ranges(self) -> list[tuple[str, int, int]]:
        """Symbol, least and most size, as the artifact has them."""
        return [(name, low or 0, _MOST if high is None else high) for name, (low, high) in self.bounds.items()]

    def choose(self, symbol: str, size: int) -> int:
        """A size that `symbol` may have: that of a version, or `size` if that is allowed, or what is nearest to it."""
        sizes = self.sizes.get(symbol, Sizes())
        if sizes.versions:
            return sizes.versions[0]
        return max(sizes.low, size if sizes.high is None else min(size, sizes.high))

    @property
    def versions(self) -> Iterator[dict[str, int]]:
        """Sizes by symbol, for each version."""
        names = [name for name, s in self.sizes.items() if s.versions]
        if names:
            for chosen in product(*(self.sizes[name].versions for name in names)):
                yield dict(zip(names, chosen, strict=True))


def parse_size(text: str, where: str) -> Sizes:
    """One size as it is written. Raises `PlanishError`."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not text.strip():
        raise PlanishError(f"{where}: expected a size such as 128, 1..512, 1..512@32:128 or ?, got {log_text(text)}")
    number, low, high, listed = found.groups()
    sizes = Sizes(int(number or low or 0), int(number or high) if number or high else None)
    versions = tuple(sorted({int(v) for v in (listed or "").split(":") if v}))
    if max([sizes.low, sizes.high or 0, *versions]) > 1 << 40:
        raise PlanishError(f"{where}: expected sizes up to {1 << 40}, got {log_text(text)}")
    if sizes.high is not None and sizes.low > sizes.high:
        raise PlanishError(f"{where}: expected a range that is not empty, got {log_text(text)}")
    bad = [v for v in versions if not sizes.has(v)]
    if bad:
        raise PlanishError(f"{where}: expected versions inside of the range {sizes}, got {bad[0]}")
    return Sizes(sizes.low, sizes.high, () if sizes.fixed is not None else versions)


def parse(name: str, given: Given) -> tuple[Sizes, ...]:
    """What one `--shape NAME=...` asks for, dimension by dimension."""
    where = f"shape of {log_text(name)}"
    parts: Sequence[int | str] = (
        given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    )
    if any(isinstance(p, int) and p < 0 for p in parts):
        raise PlanishError(f"{where}: expected sizes of at least 0, got {list(parts)}")
    return tuple(Sizes(p, p) if isinstance(p, int) else parse_size(p, where) for p in parts)


def resolve(source: Source, given: Mapping[str, Given] | None, ranks: Mapping[str, int] | None = None) -> Shapes:
    """What is asked for, by the model's inputs and symbols. Raises `PlanishError` for names that are neither, and for
    what contradicts the model."""
    shapes = Shapes()
    own: Mapping[str, tuple[int, int | None]] = source.ranges() if isinstance(source, Ranged) else {}
    if not given and not own:
        return shapes
    inputs = source.input_types(ranks)
    resolver = _Resolver(source.label, dict(inputs), shapes)
    for name, what in (given or {}).items():
        resolver.add(name, parse(name, what))
    for name, (low, high) in own.items():
        resolver.add(name, (Sizes(low, high),))
    shapes.fixed.update({name: (s.low,) for name, s in shapes.sizes.items() if s.fixed is not None})
    shapes.sizes = {name: s for name, s in shapes.sizes.items() if s.fixed is None and not s.is_open}
    count = sum(1 for _ in shapes.versions)
    if count > MOST_VERSIONS:
        raise PlanishError(f"shape: expected at most {MOST_VERSIONS} versions, got {count}: every combination is one")
    return shapes


def read_general(
    source: Source, given: Mapping[str, Given] | None, ranks: Mapping[str, int] | None = None
) -> tuple[Module, Shapes]:
    """The model with the sizes that `given` fixes, and what it asks for besides, in terms of this module."""
    wanted = resolve(source, given, ranks)
    with symbol_bounds(wanted.bounds):
        module = source.read(shapes=wanted.fixed, ranks=ranks)
    return module, _settle(wanted, source, module, ranks)


class _Resolver:
    def __init__(self, label: str, inputs: Mapping[str, Type], shapes: Shapes) -> None:
        self.label, self.inputs, self.shapes = label, inputs, shapes
        self.symbols = list(dict.fromkeys(s for t in inputs.values() for s in _symbols(t)))

    def add(self, name: str, dims: tuple[Sizes, ...]) -> None:
        """Take what is asked for under `name`."""
        if name in self.inputs:
            self._input(name, self.inputs[name], dims)
        elif name in self.symbols:
            if len(dims) != 1:
                raise PlanishError(
                    f"{self.label}: shape: symbol {log_text(name)}: expected one size, got {_shown(dims)}"
                )
            self._symbol(name, dims[0])
        else:
            raise PlanishError(
                f"{self.label}: shape: no input and no symbol is called {log_text(name)}; {self._known()}"
            )

    def _known(self) -> str:
        inputs = ", ".join(f"{log_text(name)} {type}" for name, type in self.inputs.items()) or "none"
        return f"the inputs are {inputs}; the symbols are {', '.join(map(log_text, self.symbols)) or 'none'}"

    def _input(self, name: str, type: Type, dims: tuple[Sizes, ...]) -> None:
        where = f"{self.label}: shape: input {log_text(name)}"
        if not isinstance(type, TensorType):
            raise PlanishError(f"{where}: expected a tensor, it is {type}")
        if type.shape is None:
            numbers = [s.fixed for s in dims if s.fixed is not None]
            if len(numbers) < len(dims):
                raise PlanishError(f"{where}: the model leaves its rank open: expected numbers, or its --rank, too")
            self.shapes.fixed[name] = numbers
            return
        if len(dims) != len(type.shape):
            raise PlanishError(f"{where}: expected {len(type.shape)} sizes for {type}, got {_shown(dims)}")
        for axis, (dim, sizes) in enumerate(zip(type.shape, dims, strict=True)):
            if isinstance(dim, int):
                if not sizes.has(dim) or sizes.versions:
                    raise PlanishError(
                        f"{where}: dimension {axis} is {dim} in the model and cannot be {sizes}; {self._known()}"
                    )
            elif dim.symbol is not None:
                self._symbol(dim.symbol, sizes)

    def _symbol(self, name: str, sizes: Sizes) -> None:
        before = self.shapes.sizes.get(name, Sizes())
        both = before.both(sizes)
        if both is None:
            raise PlanishError(f"{self.label}: shape: symbol {log_text(name)} is given as {before} and as {sizes}")
        self.shapes.sizes[name] = both


def _settle(shapes: Shapes, source: Source, module: Module, ranks: Mapping[str, int] | None = None) -> Shapes:
    """The same for `module`, the model as it was read: there a symbol may have become another one, or a number, because
    the operators only fit if it is. Raises `PlanishError` where that contradicts what was asked for."""
    if not shapes.sizes:
        return shapes
    types = dict(source.input_types(ranks))
    found: dict[str, Sizes] = {}
    for p in module.main.params:
        before = types.get(p.name)
        if not (isinstance(before, TensorType) and isinstance(p.type, TensorType) and before.shape and p.type.shape):
            continue
        for axis, (old, new) in enumerate(zip(before.shape, p.type.shape, strict=True)):
            asked = None if isinstance(old, int) or old.symbol is None else shapes.sizes.get(old.symbol)
            if asked is None or isinstance(old, int):
                continue
            where = f"{source.label}: shape: input {log_text(p.name)}: dimension {axis}, {log_text(str(old))}"
            if isinstance(new, int):
                if not asked.has(new):
                    raise PlanishError(f"{where}: the operators fit only if it is {new}, it cannot be {asked}")
                continue
            both = found.get(new.symbol or "", Sizes()).both(asked)
            if both is None:
                raise PlanishError(f"{where}: the operators fit only if it is {new}, which is given otherwise")
            if new.symbol is not None:
                found[new.symbol] = both
    return Shapes(shapes.fixed, found)


def _symbols(type: Type) -> list[str]:
    dims = type.shape or () if isinstance(type, TensorType) else ()
    return [d.symbol for d in dims if not isinstance(d, int) and d.symbol is not None]


def _shown(dims: Sequence[Sizes]) -> str:
    return ",".join(map(str, dims))


__all__ = ["Given", "Shapes", "Sizes", "parse", "read_general", "resolve"]
