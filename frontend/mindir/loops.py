"""Loops of MindIR: a graph (the header) whose last act leads, at some condition, to a call of itself.

A call of the header is one more round, anything else is the way out. The loop carries the header's arguments and the
parameters that are assigned. Three questions are answered from the same graphs, each in one pass of the interpreter
for that purpose: is there one more round (`test`), what are its arguments (`NEXT`), and what comes after the last one
(`LAST`). Branches that cannot serve the purpose are not taken, so that the usual loop, whose header decides, computes
nothing twice. Rounds whose course is known are unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..assembly import Item, Operand, Unsupported
from .branches import Again, Place, leaves_of, number, rebuilt, targets
from .data import Datum, Either, Function, Jump, Parameter, is_number
from .proto import GraphProto

if TYPE_CHECKING:
    from .graph import Interpreter

UNROLLED = 64
"""Rounds up to which a loop whose course is known is unrolled."""


@dataclass(frozen=True)
class Purpose:
    """What a loop's graphs run for: for the arguments of the next round (`next`), or for what follows the last, which
    has a purpose in the loop around (`outer`)."""

    header: str
    next: bool
    outer: Purpose | None = None


class Loops:
    """The loops of one reading."""

    def __init__(self, machine: Interpreter) -> None:
        self.machine = machine
        self.purpose: Purpose | None = None
        """None: what runs is in no loop."""

    def serves(self, name: str) -> bool:
        """Whether a graph may serve the purpose ("": what is no graph): by what it may end with."""
        purpose, passed = self.purpose, set[str]()
        if purpose is None:
            return True
        ends = self.machine.flow.ends(name, self.machine.stops - self.machine.branches.joins)
        while purpose is not None and not purpose.next:
            passed.add(purpose.header)
            purpose = purpose.outer
        return bool(ends - passed) if purpose is None else purpose.header in ends

    def possible(self, sides: Sequence[Datum]) -> list[Datum]:
        """Those sides of a branch that may serve the purpose."""
        found = [side for side in sides if any(map(self.serves, targets(side)))]
        return found or list(sides)

    # -- one loop ----------------------------------------------------------------------------------------------------

    def loop(self, header: GraphProto, given: Sequence[Datum]) -> Datum | Jump:
        """What comes after the last round, when the header is called with these arguments."""
        return self._round(header, self.final(header, given), next=False)

    def final(self, header: GraphProto, given: Sequence[Datum]) -> tuple[Datum, ...]:
        """The header's arguments after the last round."""
        machine = self.machine
        arguments, states = tuple(given), machine.states
        for _ in range(UNROLLED + 1):
            more = self._known(self.test(header, arguments))
            if more is None:
                return self._rolled(header, arguments)
            if not more:
                return arguments
            outcome = self._round(header, arguments, next=True)
            assert isinstance(outcome, Jump)
            arguments = outcome.arguments
        machine.states = states
        return self._rolled(header, tuple(given))

    def _known(self, test: Item | bool) -> bool | None:
        if isinstance(test, bool):
            return test
        array = self.machine.a.array(test)
        return None if array is None else bool(array.reshape(-1)[0])

    def _round(self, header: GraphProto, arguments: Sequence[Datum], *, next: bool) -> Datum | Jump:
        """Run the header and what it leads to: to the next call of the header, or until that is left behind."""
        machine = self.machine
        with machine.going_to(machine.stops | {header.name}, Purpose(header.name, next, self.purpose)):
            outcome = machine.body(header, arguments)
            while isinstance(outcome, Jump) and not machine.is_stop(outcome.function):
                names = targets(outcome.function)
                if not next and not any(self._reaches(name, header.name) for name in names):
                    break
                outcome = machine.step(outcome.function, outcome.arguments)
        if (isinstance(outcome, Jump) and targets(outcome.function) == [header.name]) != next:
            raise Unsupported("a loop that is left in a way planish does not follow", "leave it by its condition")
        if next and isinstance(outcome, Jump) and isinstance(outcome.function, Function):
            return Jump(Function(outcome.function.target), (*outcome.function.arguments, *outcome.arguments))
        return outcome

    def _reaches(self, name: str, header: str) -> bool:
        return name != "" and self.machine.flow.reaches(name, header, self.machine.stops)

    # -- whether there is one more round -----------------------------------------------------------------------------

    def test(self, header: GraphProto, arguments: Sequence[Datum]) -> Item | bool:
        """Whether the header leads to itself once more. What is assigned on the way is taken back."""
        machine = self.machine
        states = machine.states
        machine.states = dict(states)
        try:
            with machine.going_to(machine.stops | {header.name}, None):
                outcome = machine.body(header, arguments)
                return self._returns(header.name, outcome)
        finally:
            machine.states = states

    def _returns(self, header: str, outcome: Datum | Jump) -> Item | bool:
        """Whether an outcome leads to a call of the header."""
        machine = self.machine
        while isinstance(outcome, Jump):
            function = outcome.function
            if isinstance(function, Either):
                return self._choice(header, function, outcome.arguments)
            name = targets(function)[0]
            certain = self._certain(header, name)
            if certain is not None:
                return certain
            assert isinstance(function, Function) and isinstance(function.target, GraphProto)
            given = (*function.arguments, *outcome.arguments)
            if machine.flow.is_loop(name, machine.stops):
                arguments = self.final(function.target, given)
                with machine.going_to(machine.stops | {name}, Purpose(name, False)):
                    return self._returns(header, machine.body(function.target, arguments))
            outcome = machine.body(function.target, given)
        return False

    def _certain(self, header: str, name: str) -> bool | None:
        """Whether a graph leads to the header, where that is certain."""
        flow, stops = self.machine.flow, self.machine.stops
        if name == header:
            return True
        if name == "" or name in stops or not flow.reaches(name, header, stops):
            return False
        return None if flow.leaves(name, header, stops) else True

    def _choice(self, header: str, choice: Either, given: Sequence[Datum]) -> Item | bool:
        a = self.machine.a
        sides = self.possible([choice.then, choice.otherwise])
        if len(sides) == 1:
            return self._returns(header, Jump(sides[0], tuple(given)))
        sure = [self._sure(header, side) for side in sides]
        match sure:
            case [True, True] | [False, False]:
                return sure[0] is True
            case [True, False]:
                return choice.condition
            case [False, True]:
                return a.op("Not", choice.condition)
            case _:
                pass

        def side(function: Datum) -> Item:
            found = self._returns(header, Jump(function, tuple(given)))
            return a.scalar(found, "bool") if isinstance(found, bool) else self._single(found)

        found = self.machine.branches.branch(choice.condition, lambda: side(sides[0]), lambda: side(sides[1]), [header])
        assert isinstance(found, Item)
        return found

    def _sure(self, header: str, function: Datum) -> bool | None:
        found = {self._certain(header, name) for name in targets(function)}
        return found.pop() if len(found) == 1 else None

    def _single(self, item: Item) -> Item:
        a = self.machine.a
        return item if a.shape(item) == () else a.op("Reshape", item, np.zeros(0, np.int64))

    # -- a loop over data --------------------------------------------------------------------------------------------

    def _rolled(self, header: GraphProto, given: tuple[Datum, ...]) -> tuple[Datum, ...]:
        machine = self.machine
        a, place = machine.a, (*machine.path, header.name)
        assigned = sorted(machine.plans.states.setdefault(place, set()))
        start = leaves_of(given)
        carried = self._carried(place, start)
        before = machine.states
        values: list[Operand] = [self._tensor(start[i]) for i in carried]
        values += [machine.current(machine.parameters[name]) for name in assigned]
        first = self.test(header, given)

        def enter(items: Sequence[Item]) -> tuple[Datum, ...]:
            leaves = list(start)
            for i, item in zip(carried, items, strict=False):
                leaves[i] = item
            machine.states = before | dict(zip(assigned, items[len(carried) :], strict=True))
            return rebuilt(given, leaves)  # type: ignore[return-value]

        def body(_: Item, items: list[Item]) -> tuple[Operand, Sequence[Operand]]:
            outcome = self._round(header, enter(items), next=True)
            assert isinstance(outcome, Jump)
            found = self._next(place, start, dict(zip(carried, items, strict=False)), outcome.arguments)
            for name in machine.states:
                if name not in assigned and machine.states[name] is not before.get(name):
                    machine.plans.note(machine.plans.states[place], name)
            states = [machine.current(machine.parameters[name]) for name in assigned]
            again = self.test(header, outcome.arguments)
            return self._condition(again), [*(found[i] for i in carried), *states]

        machine.branches.depth += 1
        try:
            results = a.loop(values, body, condition=self._condition(first))
        finally:
            machine.branches.depth -= 1
            machine.states = before
        return enter(results)

    def _condition(self, test: Item | bool) -> Item:
        return self.machine.a.scalar(test, "bool") if isinstance(test, bool) else test

    def _tensor(self, leaf: Datum) -> Item:
        return leaf if isinstance(leaf, Item) else self.machine.branches.tensor(leaf)

    def _carried(self, place: Place, start: Sequence[Datum]) -> list[int]:
        """The leaves of the header's arguments that rounds hand on."""
        plans = self.machine.plans
        constant = plans.constant.setdefault(place, set())
        changing = plans.tensors.setdefault(place, set())
        return [i for i, leaf in enumerate(start) if i in changing or (isinstance(leaf, Item) and i not in constant)]

    def _next(
        self, place: Place, start: Sequence[Datum], inside: dict[int, Item], arguments: tuple[Datum, ...]
    ) -> dict[int, Item]:
        """The carried leaves of the next round. Notes which need not be carried, and which must."""
        found = leaves_of(arguments)
        if len(found) != len(start):
            raise Unsupported("a loop whose rounds hand on tuples of different lengths, or different functions")
        plans, grown = self.machine.plans, False
        items: dict[int, Item] = {}
        for i, leaf in enumerate(found):
            before = inside.get(i, start[i])
            same = leaf is before or (is_number(leaf) and type(leaf) is type(before) and leaf == before)
            if i in inside:
                items[i] = self._fitting(leaf, inside[i])
                if same and i not in plans.tensors[place]:
                    plans.constant[place].add(i)
                    grown = True
            elif not same:
                if not isinstance(leaf, Item | Parameter) and not is_number(leaf):
                    continue  # a monad, None ...
                plans.tensors[place].add(i)
                grown = True
        if grown:
            raise Again
        return items

    def _fitting(self, leaf: Datum, before: Item) -> Item:
        """A leaf as a tensor of the element type that it has in the round before."""
        item = number(self.machine, leaf) if is_number(leaf) else self._tensor(leaf)
        return self.machine.a.cast(item, self.machine.a.type(before).dtype)


__all__ = ["Loops", "Purpose"]
