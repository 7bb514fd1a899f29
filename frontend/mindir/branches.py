"""Branches of MindIR that depend on data: both sides become regions, and what they give is joined.

What crosses the end of a region are tensors; tuples stay as they are, numbers and parameters that are the same on both
sides stay what they are. Whether they are is known only when both sides have been read. Such facts are collected in
`Plans`, and the model is read again when a new one comes up (`Again`): with it the first side hands over enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ..assembly import Item, Unsupported
from .data import Broken, Datum, Either, Function, Jump, Parameter, is_number

if TYPE_CHECKING:
    from .graph import Interpreter

Place: TypeAlias = tuple[str, ...]
Outcome: TypeAlias = "Datum | Jump"


class Again(Exception):
    """Raised when something came up that reading should have known before: read once more."""


@dataclass
class Plans:
    """What earlier readings of a model found out. It only grows."""

    assigned: set[str] = field(default_factory=set[str])
    """Parameters that nodes assign."""
    states: dict[Place, set[str]] = field(default_factory=dict[Place, set[str]])
    """Of a branch or loop: parameters that are assigned in it."""
    tensors: dict[Place, set[int]] = field(default_factory=dict[Place, set[int]])
    """Of a branch: results (leaves of tuples) that are numbers or parameters on one side, and must be tensors. Of a
    loop: arguments that are numbers and change."""
    constant: dict[Place, set[int]] = field(default_factory=dict[Place, set[int]])
    """Of a loop: tensors among the arguments that never change."""

    def note(self, found: set[str], name: str) -> None:
        """Add a name; raises `Again` if it was not there."""
        if name not in found:
            found.add(name)
            raise Again


def leaves_of(outcome: Outcome) -> list[Datum]:
    """The leaves of a datum in order: bound arguments of functions, and arguments of jumps, too."""
    match outcome:
        case tuple():
            return [leaf for part in outcome for leaf in leaves_of(part)]
        case Function():
            return leaves_of(outcome.arguments)
        case Jump():
            return [*leaves_of(outcome.function), *leaves_of(outcome.arguments)]
        case _:
            return [outcome]


def rebuilt(outcome: Outcome, leaves: list[Datum]) -> Outcome:
    """`outcome` with other leaves, which are taken from the front of the list."""
    match outcome:
        case tuple():
            return tuple(rebuilt(part, leaves) for part in outcome)  # type: ignore[return-value]
        case Function():
            return Function(outcome.target, rebuilt(outcome.arguments, leaves))  # type: ignore[arg-type]
        case Jump():
            function = rebuilt(outcome.function, leaves)
            return Jump(function, rebuilt(outcome.arguments, leaves))  # type: ignore[arg-type]
        case _:
            return leaves.pop(0)


def same_form(a: Outcome, b: Outcome) -> bool:
    """Whether two data differ in nothing but leaves."""
    match a, b:
        case tuple(), tuple():
            return len(a) == len(b) and all(map(same_form, a, b))
        case Function(), Function():
            return a.target is b.target and same_form(a.arguments, b.arguments)
        case Jump(), Jump():
            return same_form(a.function, b.function) and same_form(a.arguments, b.arguments)
        case _:
            return not isinstance(a, tuple | Function | Jump) and not isinstance(b, tuple | Function | Jump)


class Branches:
    """The branches of one reading."""

    def __init__(self, machine: Interpreter) -> None:
        self.machine = machine
        self.depth = 0
        """Regions around what is read now."""
        self.joins: frozenset[str] = frozenset()
        """Graphs among the machine's stops that branches around go on with; the others are headers of loops."""

    def either(self, function: Either, given: Sequence[Datum]) -> Outcome:
        """A call of one of two functions. Where both go on with the same graph, that is left to the caller."""
        machine = self.machine
        sides = [function.then, function.otherwise]
        possible = machine.loops.possible(sides)
        if len(possible) == 1:
            return Jump(possible[0], tuple(given))
        names = [name for side in sides for name in targets(side)]
        join = machine.flow.join(names, machine.stops, machine.loops.serves) if "" not in names else None
        stops = machine.stops if join is None else machine.stops | {join}

        def side(target: Datum) -> Callable[[], Outcome]:
            def run() -> Outcome:
                outer, self.joins = self.joins, self.joins | stops.difference(machine.stops)
                try:
                    with machine.going_to(stops, machine.loops.purpose):
                        return machine.run(target, given)
                finally:
                    self.joins = outer

            return run

        return self.branch(function.condition, side(sides[0]), side(sides[1]), names)

    def branch(
        self, condition: Item, then: Callable[[], Outcome], otherwise: Callable[[], Outcome], names: Sequence[str] = ()
    ) -> Outcome:
        """What one of two sides gives, each read into a region. `names` tell the branch from others of the node."""
        machine, place = self.machine, (*self.machine.path, "branch", *names)
        plan = machine.plans.tensors.setdefault(place, set())
        assigned = machine.plans.states.setdefault(place, set())
        before = machine.states
        seen: list[tuple[Outcome, dict[str, Item]]] = []

        def side(run: Callable[[], Outcome]) -> Callable[[], list[Item]]:
            def build() -> list[Item]:
                machine.states = dict(before)
                outcome = run()
                seen.append((outcome, machine.states))
                if len(seen) == 2:
                    self._compare(seen[0][0], outcome, plan)
                for name in machine.states:
                    if machine.states[name] is not before.get(name):
                        machine.plans.note(assigned, name)
                kept = [leaf for i, leaf in enumerate(leaves_of(outcome)) if isinstance(leaf, Item) or i in plan]
                states = [machine.current(machine.parameters[name]) for name in sorted(assigned)]
                return [*map(self.tensor, kept), *states]

            return build

        self.depth += 1
        try:
            results = machine.a.choose(condition, side(then), side(otherwise))
        finally:
            self.depth -= 1
            machine.states = before
        outcome, leaves = seen[0][0], list[Datum]()
        for i, leaf in enumerate(leaves_of(outcome)):
            leaves.append(results.pop(0) if isinstance(leaf, Item) or i in plan else leaf)
        machine.states = before | dict(zip(sorted(assigned), results, strict=True))
        return rebuilt(outcome, leaves)

    def tensor(self, leaf: Datum) -> Item:
        """A leaf that crosses the end of a region."""
        match leaf:
            case Item():
                return leaf
            case Parameter():
                return self.machine.current(leaf)
            case _ if is_number(leaf):
                return number(self.machine, leaf)
            case _:
                raise Unsupported(
                    "the branches of a condition give data of different kinds", "give tensors of one type"
                )

    def _compare(self, first: Outcome, second: Outcome, plan: set[int]) -> None:
        """See which leaves of the two sides must be tensors."""
        if not same_form(first, second):
            if isinstance(first, Broken) or isinstance(second, Broken):
                raise Broken
            raise Unsupported(
                "the branches of a condition give different functions or tuples", "let both return tensors of one type"
            )
        for i, (a, b) in enumerate(zip(leaves_of(first), leaves_of(second), strict=True)):
            if isinstance(a, Item) and isinstance(b, Item):
                continue
            same = a is b or (type(a) is type(b) and a == b)
            if i not in plan and not same:
                plan.add(i)
                raise Again


def number(machine: Interpreter, value: Datum) -> Item:
    """A number as a tensor of shape []: i64, f32 or bool."""
    if isinstance(value, bool):
        return machine.a.scalar(value, "bool")
    if isinstance(value, float):
        return machine.a.scalar(value, "f32")
    if isinstance(value, int):
        return machine.a.scalar(value, "i64")
    return machine.a.op("Squeeze", machine.a.sizes([value]), [0])  # type: ignore[list-item]


def targets(function: Datum) -> list[str]:
    """Names of the graphs that a function may be; "" for what is no graph."""
    if isinstance(function, Either):
        return [*targets(function.then), *targets(function.otherwise)]
    if isinstance(function, Function) and not hasattr(function.target, "op_type"):
        return [function.name]
    return [""]


__all__ = ["Again", "Branches", "Outcome", "Place", "Plans", "leaves_of", "number", "rebuilt", "same_form", "targets"]
