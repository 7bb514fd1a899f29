"""Control flow: torch.cond, while_loop, and functions over slices (scan, map) that are written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....ir.expr import Expr
from .base import Build, Item, Unsupported, aten
from .sizes import truth


@aten("cond.", space="higher_order")
def cond(b: Build, predicate: Any, then: Any, otherwise: Any, operands: Sequence[Any] = ()) -> list[Any]:
    """One of two branches. A condition that is known now leaves nothing behind."""
    test = truth(b, predicate)
    if isinstance(test, Item):
        known = b.a.array(test, 1)
        test = test if known is None else bool(known.reshape(-1)[0])
    if isinstance(test, bool):
        return b.call(then if test else otherwise, operands)

    def branch(graph: Any) -> Any:
        return lambda: [b.tensor(v) for v in b.call(graph, operands)]

    return list(b.a.choose(b.cast(test, "bool"), branch(then), branch(otherwise)))


@aten("while_loop.", space="higher_order")
def while_loop(
    b: Build, condition: Any, body: Any, carried: Sequence[Any], more: Sequence[Any] = (), *rest: Any
) -> list[Any]:
    """A loop as long as a condition of the carried values holds, which is tested before each round."""
    start = [b.tensor(v, "i64") if isinstance(v, int | Expr) and not isinstance(v, bool) else b.tensor(v)
             for v in carried]  # fmt: skip
    whole = [isinstance(v, int | Expr) for v in carried]
    if any(whole):
        raise Unsupported("a loop that carries sizes", "carry tensors of i64 instead")

    def again(values: Sequence[Any]) -> Item:
        (found,) = b.call(condition, [*values, *more])
        return b.cast(b.tensor(truth(b, found)), "bool")

    def round_(number: Item, values: list[Item]) -> tuple[Item, list[Item]]:
        results = [b.tensor(v) for v in b.call(body, [*values, *more])]
        return again(results), results

    return list(b.a.loop(start, round_, condition=again(start)))


@aten("wrap_with_set_grad_enabled.", "wrap_with_autocast.", space="higher_order")
def wrapped(b: Build, *args: Any) -> list[Any]:
    """Blocks under set_grad_enabled or autocast: what is in them."""
    at = next(i for i, v in enumerate(args) if type(v).__name__ == "Graph")
    return b.call(args[at], args[at + 1 :])
