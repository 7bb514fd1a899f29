"""The pass manager: pipelines as text, options, errors that help, verification that names the pass at fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from planish.ir.core import Graph, Module, Return
from planish.ir.errors import PlanishError, VerifyError
from planish.ir.ops.activation import Relu
from planish.ir.target_info import TargetInfo
from planish.ir.types import tensor
from planish.passes import PASSES, Pass, PassContext, PassManager
from planish.passes.pipelines import PIPELINES

SEEN: list[tuple[int, float, bool, str, PassContext]] = []


class Probe(Pass, name="test-probe"):
    """Notes its options.

    And nothing else.
    """

    limit: int = 3
    share: float = 0.5
    deep: bool = False
    word_of_it: str = "x"

    def run_graph(self, graph: Graph) -> bool:
        SEEN.append((self.limit, self.share, self.deep, self.word_of_it, self.context))
        return False


class Breaker(Pass, name="test-breaker"):
    """Leaves an operation whose type is wrong."""

    def run_graph(self, graph: Graph) -> bool:
        relu = Relu(graph.params[0])
        relu.result.type = tensor("f32", 77)
        graph.body.insert_before(graph.body.terminator, relu)
        return True


class Liar(Pass, name="test-liar"):
    """Adds an operation and says it did not."""

    def run_graph(self, graph: Graph) -> bool:
        graph.body.insert_before(graph.body.terminator, Relu(graph.params[0]))
        return False


class Crasher(Pass, name="test-crasher"):
    """Fails with an exception of its own."""

    def run_graph(self, graph: Graph) -> bool:
        raise KeyError("nothing there")


@pytest.fixture(scope="module", autouse=True)
def unregister() -> Iterator[None]:
    """Do not leave the passes of this file to other tests."""
    yield
    for name in ("test-probe", "test-breaker", "test-liar", "test-crasher"):
        del PASSES[name]


def module() -> Module:
    graph = Graph("main", [tensor("f32", 2)], ["x"], ["y"])
    relu = graph.body.append(Relu(graph.params[0]))
    graph.body.append(Return((relu.result,)))
    return Module([graph])


def test_options_come_from_the_text() -> None:
    SEEN.clear()
    target = TargetInfo("x86_64", "any", (), 32, 16)
    context = PassContext(target, threads=2, opt=1)
    PassManager.parse("test-probe, test-probe:limit=7:deep:share=0.25:word-of-it=hello,", context).run(module())
    expected = [(3, 0.5, False, "x", context), (7, 0.25, True, "hello", context)]
    assert expected == SEEN


def test_the_text_of_a_pipeline_reads_back() -> None:
    text = "test-probe:limit=4:deep=1,dce,test-probe"
    assert str(PassManager.parse(text)) == text
    assert str(PassManager.parse(str(PassManager.parse(text)))) == text


def test_descriptions_and_options_are_listed() -> None:
    assert PASSES["test-probe"].description() == "Notes its options."
    assert PASSES["test-probe"].options() == {"limit": 3, "share": 0.5, "deep": False, "word_of_it": "x"}


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_named_pipelines_consist_of_registered_passes(name: str) -> None:
    assert PassManager.parse(name).passes


def test_disabled_passes_are_left_out() -> None:
    assert str(PassManager.parse("cse,dce,cse", disable={"cse"})) == "dce"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("canonicalise", "passes: unknown pass 'canonicalise': did you mean canonicalize?"),
        ("test-probe:limits=3", "passes: test-probe has no option 'limits': did you mean limit?"),
        ("test-probe:limit=three", "passes: test-probe:limit: expected a whole number, got 'three'"),
        ("test-probe:share=all", "passes: test-probe:share: expected a number, got 'all'"),
        ("test-probe:deep=perhaps", "passes: test-probe:deep: expected 0 or 1, got 'perhaps'"),
    ],
)
def test_what_is_unknown_is_named(text: str, message: str) -> None:
    with pytest.raises(PlanishError) as e:
        PassManager.parse(text)
    assert str(e.value) == message


def test_a_disabled_pass_must_exist() -> None:
    with pytest.raises(PlanishError, match="unknown pass 'cze'"):
        PassManager.parse("cse", disable={"cze"})


def test_a_broken_rule_names_the_pass() -> None:
    with pytest.raises(VerifyError, match="after pass test-breaker: "):
        PassManager.parse("dce,test-breaker,dce").run(module())


def test_verification_can_be_left_out() -> None:
    reports = PassManager.parse("test-breaker,dce").run(module(), verify=False)
    assert [r.changed for r in reports] == [True, True]


def test_a_change_that_is_not_reported_is_an_error() -> None:
    with pytest.raises(
        VerifyError, match="pass test-liar: expected a report of a change, got none: 2 operations became 3"
    ):
        PassManager.parse("test-liar").run(module())


def test_an_exception_in_a_pass_becomes_a_message() -> None:
    with pytest.raises(PlanishError, match="pass test-crasher: failed with KeyError: .*'--disable test-crasher'"):
        PassManager.parse("test-crasher").run(module())


def test_reports_and_observers() -> None:
    seen: list[str] = []
    m = module()
    m.main.body.insert_before(m.main.body.terminator, Relu(m.main.params[0]))
    reports = PassManager.parse("cse,dce").run(m, on_pass=lambda p, module, report: seen.append(report.name))
    assert seen == ["cse", "dce"]
    assert [(r.name, r.changed, r.ops_before, r.ops_after) for r in reports] == [
        ("cse", True, 3, 2),
        ("dce", False, 2, 2),
    ]
    assert all(r.seconds >= 0 for r in reports)
