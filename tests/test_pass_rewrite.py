"""The rewriting driver: worklist, insertion, types, and an end to what has none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from planish.ir.core import Graph, Op, Return, Value
from planish.ir.errors import PlanishError, VerifyError
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Abs, Add, Exp, Neg
from planish.ir.types import tensor
from planish.passes.rewrite import FIRED, Builder, apply_patterns


def chain(*classes: type[Op]) -> Graph:
    graph = Graph("g", [tensor("f32", 2)], ["x"])
    value = graph.params[0]
    for n, cls in enumerate(classes):
        value = graph.body.append(cls(value)).result
        assert value.op is not None
        value.op.loc = f"node{n}"
    graph.body.append(Return((value,)))
    return graph


def names(graph: Graph) -> list[str]:
    return [op.op_name.split(".")[-1] for op in graph.body][:-1]


def neg_of_neg(op: Neg, b: Builder) -> Sequence[Value] | None:
    """`-(-x)` -> `x`"""
    return [op.x.op.x] if isinstance(op.x.op, Neg) else None


def test_one_change_enables_the_next() -> None:
    graph = chain(*[Neg] * 8)
    before = FIRED["neg_of_neg"]
    assert apply_patterns(graph, [neg_of_neg])
    assert names(graph) == []
    assert FIRED["neg_of_neg"] == before + 4
    assert not apply_patterns(graph, [neg_of_neg])


def test_patterns_are_offered_only_what_they_ask_for() -> None:
    seen: list[str] = []

    def either(op: Relu | Exp, b: Builder) -> Sequence[Value] | None:
        seen.append(op.op_name)
        return None

    def every(op: Op, b: Builder) -> Sequence[Value] | None:
        seen.append("*" + op.op_name)
        return None

    assert not apply_patterns(chain(Relu, Neg, Exp), [either, every])
    assert seen == ["nn.relu", "*nn.relu", "*arith.neg", "arith.exp", "*arith.exp", "*return"]


def test_new_operations_stand_before_the_root_and_have_its_origin() -> None:
    def double(op: Exp, b: Builder) -> Sequence[Value] | None:
        x = b(Abs(op.x))
        return [b(Add(x, x))]

    graph = chain(Relu, Exp, Neg)
    assert apply_patterns(graph, [double])
    assert names(graph) == ["relu", "abs", "add", "neg"]
    assert [op.loc for op in graph.body][:-1] == ["node0", "node1", "node1", "node2"]


def test_nothing_is_inserted_when_a_pattern_does_not_apply() -> None:
    def reluctant(op: Exp, b: Builder) -> Sequence[Value] | None:
        b(Abs(op.x))
        return None

    graph = chain(Exp)
    assert not apply_patterns(graph, [reluctant])
    assert names(graph) == ["exp"]
    assert len(graph.params[0].uses) == 1


def test_operands_that_lose_their_last_use_go() -> None:
    def cut(op: Exp, b: Builder) -> Sequence[Value] | None:
        return [b(Abs(graph.params[0]))]

    graph = chain(Relu, Neg, Exp)
    apply_patterns(graph, [cut])
    assert names(graph) == ["abs"]


def test_a_pattern_that_never_ends_is_named() -> None:
    def swap(op: Neg | Abs, b: Builder) -> Sequence[Value] | None:
        return [b(Abs(op.x) if isinstance(op, Neg) else Neg(op.x))]

    with pytest.raises(PlanishError, match="graph @g: rewriting found no end.*swap"):
        apply_patterns(chain(Neg), [swap], rounds=4)


def test_a_replacement_of_another_type_is_an_error() -> None:
    def shrink(op: Neg, b: Builder) -> Sequence[Value] | None:
        return [Value(tensor("f32", 1))]

    with pytest.raises(VerifyError, match=r"pattern shrink: expected a replacement of type f32\[2\], got f32\[1\]"):
        apply_patterns(chain(Neg), [shrink])
