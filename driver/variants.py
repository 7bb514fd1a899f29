"""Models with several programs: one variant for each assignment of ranks that type-checks to inputs of unknown rank,
or for each length of an integer input that decides a rank, and versions for sizes that were asked for (`--shape`).

Each variant is an ordinary program whose shapes are symbols; a version has numbers for some of these, and stands in
front of its general variant. All of them share symbols, weights and equal kernels; the runtime picks the first that
fits the ranks and sizes of the inputs at hand (runtime/native/variants.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import TypeVar

from planish.codegen.llvm.descriptor import Descriptor
from planish.frontend import Source
from planish.ir.core import Module
from planish.ir.errors import ANY_LENGTH, ModelError, PlanishError, UnsupportedError
from planish.ir.expr import Expr, symbol_bounds
from planish.ir.plan import Plan
from planish.ir.program import Program
from planish.ir.types import TensorType, Type
from planish.passes.plan_memory import share_weights
from planish.runtime.escape import log_text
from planish.runtime.manifest import Manifest, Memory, Refusal
from planish.runtime.manifest import Variant as VariantFacts
from planish.shapes import Given, Shapes, read_general, resolve

MAX_RANK = 6
MOST_VARIANTS = 49
_MOST_LENGTHS = 2  # inputs whose lengths decide ranks
_MOST_TRIES = 343
_REASON = 300  # characters of a reason that the runtime shows; the manifest has all

T = TypeVar("T")
Specs = Sequence[tuple[str, Type]]


@dataclass
class Variant:
    """The model for one assignment of ranks, by the names of the inputs whose rank it leaves open, and for the sizes of
    `sizes` by symbol (none: it is general)."""

    ranks: dict[str, int]
    module: Module
    sizes: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class Variants:
    """A model as it was read: all variants of one with inputs of unknown rank (`unranked`) or with versions, else just
    the model. `shapes` are the sizes that it may be run for."""

    label: str
    unranked: tuple[str, ...]
    found: list[Variant]
    refused: list[Refusal] = field(default_factory=list[Refusal])
    shapes: Shapes = field(default_factory=Shapes)

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to choose when the model runs."""
        return not self.unranked and len(self.found) == 1

    @property
    def general(self) -> Module:
        """The module of a variant that is no version; of a model that has a variant for each length, the last one."""
        return next((v.module for v in self.found if not v.sizes), self.found[-1].module)

    @property
    def by_length(self) -> bool:
        """Whether there is no general variant, but one for each length of an input that decides a rank."""
        return bool(self.found) and all(v.sizes for v in self.found)

    @property
    def modules(self) -> list[Module]:
        """The modules in order."""
        return [variant.module for variant in self.found]

    def each(self, work: Callable[[Module], T]) -> list[T]:
        """The results of `work` for all modules. Ranks for which it says that something is not supported are refused.
        Raises what `work` raises when nothing is left."""
        results: list[T] = []
        kept: list[Variant] = []
        last: PlanishError | None = None
        for variant in self.found:
            try:
                results.append(work(variant.module))
            except UnsupportedError as error:
                if not self.unranked and not self.by_length:
                    raise
                if self.unranked:
                    self.refuse(variant.ranks, error)
                last = error
            else:
                kept.append(variant)
        self.found = kept
        if not kept and last is not None:
            raise self.nothing(last) if self.unranked else last
        return results

    def refuse(self, ranks: dict[str, int], error: PlanishError) -> None:
        """Keep in mind that the model does not take these ranks."""
        # In one line, and without the place of the model's file: artifacts do not depend on it.
        text = error.reason if isinstance(error, UnsupportedError) else str(error)
        self.refused.append(Refusal(ranks, text.removeprefix(f"{self.label}: ").splitlines()[0]))

    def nothing(self, last: PlanishError) -> PlanishError:
        """What to raise when no ranks are left: `last`, the last error, if all have one cause; else all causes."""
        if len({refusal.reason for refusal in self.refused}) == 1:
            return last
        shown = [
            "  " + ", ".join(f"{name} of rank {rank}" for name, rank in r.ranks.items()) + f": {r.reason}"
            for r in self.refused[: MAX_RANK + 1]
        ]
        names = ", ".join(map(log_text, self.unranked))
        return UnsupportedError("\n".join([f"{self.label}: the model fits no rank of its input {names}:", *shown]))


def read_variants(
    source: Source, shapes: Mapping[str, Given] | None = None, ranks: Mapping[str, int] | None = None
) -> Variants:
    """Read a model once for each assignment of ranks to its inputs of unknown rank, those in `shapes` and `ranks` not
    counted, or once for each version. Raises `ModelError` and `UnsupportedError` as `read_model` when it cannot be read
    for any, `PlanishError` for `shapes` that contradict the model."""
    wanted = resolve(source, shapes, ranks)
    given = {*wanted.fixed, *(ranks or ())}
    unranked = tuple(name for name in source.unranked() if name not in given)
    if not unranked:
        return _read_versions(source, shapes, ranks)
    if wanted.sizes:
        name = log_text(unranked[0])
        raise PlanishError(
            f"{source.label}: shape: ranges need known ranks: give the rank of input {name}, too (--rank)"
        )
    variants = Variants(source.label, unranked, [])
    last: PlanishError | None = None
    for number, assignment in enumerate(islice(assignments(len(unranked)), _MOST_TRIES)):
        chosen = dict(zip(unranked, assignment, strict=True))
        hopeless = number > MAX_RANK and not variants.found and len({r.reason for r in variants.refused}) == 1
        if len(variants.found) == MOST_VARIANTS or hopeless:
            break
        try:
            variants.found.append(Variant(chosen, source.read(shapes=wanted.fixed, ranks={**(ranks or {}), **chosen})))
        except (ModelError, UnsupportedError) as error:
            variants.refuse(chosen, error)
            last = error
    if not variants.found and last is not None:
        raise variants.nothing(last)
    return variants


def _read_versions(source: Source, shapes: Mapping[str, Given] | None, ranks: Mapping[str, int] | None) -> Variants:
    """The model, behind one version of it for each assignment of sizes that it was asked for; or one version for each
    length of the inputs whose length decides a rank, if it can be read with these only."""
    try:
        module, settled = read_general(source, shapes, ranks)
    except UnsupportedError as error:
        wanted = resolve(source, shapes, ranks)
        if not error.lengths or wanted.sizes:
            raise
        found = list(_read_lengths(source, wanted, ranks, error, {}))
        if not found:
            raise
        return Variants(source.label, (), found[:MOST_VARIANTS], shapes=wanted)
    variants = Variants(source.label, (), [], shapes=settled)
    with symbol_bounds(settled.bounds):
        for sizes in settled.versions:
            fixed = {**settled.fixed, **{name: (size,) for name, size in sizes.items()}}
            variants.found.append(Variant({}, source.read(shapes=fixed, ranks=ranks), sizes))
    variants.found.append(Variant({}, module))
    return variants


def _read_lengths(
    source: Source,
    wanted: Shapes,
    ranks: Mapping[str, int] | None,
    error: UnsupportedError,
    sizes: Mapping[str, int],
) -> Iterator[Variant]:
    """The model for each length, up to the greatest rank, of an input that `error` names, besides those in `sizes`."""
    named = sorted(error.lengths - {ANY_LENGTH})
    for name in named[:1] or (n for n in _vector_lengths(source, ranks) if n not in sizes):
        found = False
        for length in range(MAX_RANK + 1):
            chosen = {**sizes, name: length}
            fixed = {**wanted.fixed, **{n: (size,) for n, size in chosen.items()}}
            try:
                yield Variant({}, source.read(shapes=fixed, ranks=ranks), chosen)
                found = True
            except UnsupportedError as next_error:
                if next_error.lengths and len(chosen) < _MOST_LENGTHS:
                    yield from _read_lengths(source, wanted, ranks, next_error, chosen)
            except ModelError:
                continue  # the other inputs do not fit that length
        if found:
            return


def _vector_lengths(source: Source, ranks: Mapping[str, int] | None) -> list[str]:
    """Symbols that are lengths of inputs that are vectors of integers."""
    types = [type for _, type in source.input_types(ranks) if isinstance(type, TensorType)]
    dims = [t.dims[0] for t in types if t.dtype in ("i64", "i32") and t.shape is not None and len(t.shape) == 1]
    return sorted({d.symbol for d in dims if isinstance(d, Expr) and d.symbol is not None})


def assignments(inputs: int) -> Iterator[tuple[int, ...]]:
    """Ranks for so many inputs: first all the same, then every other combination."""
    ranks = range(MAX_RANK + 1)
    yield from ((rank,) * inputs for rank in ranks)
    yield from (chosen for chosen in product(ranks, repeat=inputs) if len(set(chosen)) > 1)


# -- one artifact of all --------------------------------------------------------------------------------------------


def join(heads: Sequence[Program | Plan], programs: Sequence[Program]) -> None:
    """Give `heads`, the variants of a model, the same symbols, in one order, and all `programs`, which are theirs or
    those of the islands of their plans, one section of weights."""
    symbols = tuple(dict.fromkeys(name for head in heads for name in head.attributes["symbols"]))
    share_weights(programs)
    for head in heads:
        head.attributes["symbols"] = symbols
        head.attributes["weights_bytes"] = programs[0].attributes["weights_bytes"] if programs else 0


def whole_specs(variants: Variants, programs: Sequence[Program | Plan], what: str) -> Specs:
    """Names and types of the "inputs" or "outputs" of the whole model: of unknown rank where the variants differ."""
    found = zip(programs, variants.found, strict=True)
    general = [program for program, v in found if not v.sizes or variants.by_length]
    groups = zip(*(program.attributes[what] for program in general), strict=True)
    return [_whole(list(group), variants.unranked if what == "inputs" else ()) for group in groups]


def _whole(specs: Specs, unranked: Sequence[str]) -> tuple[str, Type]:
    (name, type), *others = specs
    same = name not in unranked and all(other == type for _, other in others)
    return name, type if same or not isinstance(type, TensorType) else TensorType(type.dtype, None)


def whole_manifest(variants: Variants, manifests: Sequence[Manifest]) -> Manifest:
    """The manifest of the whole model from those of its variants. `memory` has the most that a variant needs."""
    first = manifests[0]
    parts = [m.memory for m in manifests]
    memory = Memory(
        weights=first.memory.weights,
        arena=max(p.arena for p in parts),
        lower_bound=max(p.lower_bound for p in parts),
        scratch=max(p.scratch for p in parts),
        code=sum(p.code for p in parts),
    )
    found = zip(variants.found, manifests, strict=True)
    return replace(
        first,
        memory=memory,
        self_test=None,
        ranges={name: (low, high) for name, low, high in ranges_of(variants.shapes, first.symbols)},
        variants=tuple(VariantFacts(v.ranks, m.inputs, m.outputs, m.memory, v.sizes) for v, m in found),
        refusals=tuple(variants.refused),
    )


def descriptor(
    variants: Variants,
    programs: Sequence[Program | Plan],
    names: Sequence[str],
    manifest: Manifest,
    features: Sequence[str],
) -> Descriptor:
    """The descriptor of the whole model over those called `names`."""
    inputs, outputs = (whole_specs(variants, programs, what) for what in ("inputs", "outputs"))
    attributes = programs[0].attributes
    refusals = [([r.ranks.get(name, -1) for name, _ in inputs], r.reason[:_REASON]) for r in variants.refused]
    return Descriptor(
        inputs,
        outputs,
        attributes["symbols"],
        attributes["weights_bytes"],
        features=features,
        manifest=manifest.to_json().encode(),
        variants=names,
        refusals=refusals,
        ranges=ranges_of(variants.shapes, attributes["symbols"]),
        states=attributes.get("states", ()),
    )


def ranges_of(shapes: Shapes, symbols: Sequence[str]) -> list[tuple[str, int, int]]:
    """The ranges that are checked when the model runs: those of symbols that the program has."""
    return [row for row in shapes.ranges if row[0] in symbols]
