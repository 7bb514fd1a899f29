"""The verifier finds every kind of broken IR and says where; what is right it lets pass, quickly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import pytest

from planish.ir.core import Graph, Module, Op, Region, Return, Use
from planish.ir.errors import PlanishError, VerifyError
from planish.ir.ops.activation import Relu
from planish.ir.text import parse_module
from planish.ir.types import tensor
from planish.ir.verifier import verify, verify_function


def chain(length: int) -> Graph:
    """A graph of `length` operations, one after the other."""
    graph = Graph("main", [tensor("f32", 2)], ["x"])
    value = graph.params[0]
    for _ in range(length):
        value = graph.body.append(Relu(value)).result
    graph.body.append(Return((value,)))
    return graph


def ops(graph: Graph) -> list[Op]:
    return list(graph.body)


def swapped(graph: Graph) -> None:
    first, second, _ = ops(graph)
    first.set_operand(0, second.result)
    second.set_operand(0, graph.params[0])


def from_elsewhere(graph: Graph) -> None:
    ops(graph)[0].set_operand(0, chain(1).params[0])


def forgotten_use(graph: Graph) -> None:
    graph.params[0].uses.clear()


def invented_use(graph: Graph) -> None:
    graph.params[0].uses[Use(ops(graph)[1], 0)] = None


def wrong_type(graph: Graph) -> None:
    ops(graph)[1].result.type = tensor("f32", 3)


def no_return(graph: Graph) -> None:
    ops(graph)[2].detach()


def return_in_the_middle(graph: Graph) -> None:
    graph.body.insert_before(ops(graph)[1], Return(()))


def result_names(graph: Graph) -> None:
    graph.result_names = ["a", "b"]


def foreign_owner(graph: Graph) -> None:
    graph.body.params[0].owner = Region()


BROKEN: list[tuple[Callable[[Graph], None], str]] = [
    (
        swapped,
        "@main: nn.relu: expected an operand that is defined above, got <%?: f32[2]>\n  %0 = nn.relu(%!undefined)",
    ),
    (
        from_elsewhere,
        "@main: nn.relu: expected an operand that is defined above, got <%x: f32[2]>\n  %0 = nn.relu(%!x)",
    ),
    (forgotten_use, "@main: expected 1 registered uses of <%x: f32[2]>, got 0"),
    (invented_use, "@main: expected 1 registered uses of <%x: f32[2]>, got 2"),
    (wrong_type, "@main: nn.relu: expected result type f32[2], got f32[3]\n  %1 = nn.relu(%0) : f32[3]"),
    (no_return, "@main: expected a region that ends in a terminator, got nn.relu"),
    (return_in_the_middle, "@main: return: expected the region's last operation, got more behind it\n  return"),
    (result_names, "@main: expected 2 results, got 1"),
    (foreign_owner, "@main: expected to own <%x: f32[2]>, got another owner"),
]


@pytest.mark.parametrize(("breaks", "message"), BROKEN, ids=[b.__name__ for b, _ in BROKEN])
def test_broken_graphs_are_found(breaks: Callable[[Graph], None], message: str) -> None:
    graph = chain(2)
    verify_function(graph)
    breaks(graph)
    with pytest.raises(VerifyError) as error:
        verify(Module([graph]))
    assert str(error.value).startswith(message)


def test_time_is_linear() -> None:
    graph = chain(20_000)
    start = time.perf_counter()
    verify(Module([graph]))
    assert time.perf_counter() - start < 5


KERNEL = """
kernel @k(%x: f32[8,n], %at: i64[8]) -> (%y: f32[8,n]@{pad=[[0,0],[1,1]]}) {
  %zero = k.const {value = 0.0, dtype = "f32"}
  k.map <r: 8> {
    %b = k.local : f32[4]
    k.map <i: 4> {
      k.write(%zero, %b) <i>
    }
    %sum = k.reduce(%zero) <j: n> {
      %a = k.read(%x) <r, j>
      yield %a
    } { (%acc: f32, %e: f32)
      %s = scalar.add(%acc, %e)
      yield %s
    }
    k.map <k: n> {
      k.write(%sum, %y) <r, k>
    }
  }
}
"""

# What is replaced by what, and the message that this gives.
CHANGES: dict[tuple[str, str], str] = {
    ("k.read(%x) <r, j>", "k.read(%x) <r, j + 1>"): (
        "k.ir:10: k.read: expected coordinate 1 in 0 .. n - 1 of f32[8,n], got j + 1 in 1 .. 1 where n = 1 "
        "(give the read a fill)"
    ),
    ("k.read(%x) <r, j>", "k.read(%x) <8 - r, j>"): (
        "k.ir:10: k.read: expected coordinate 0 in 0 .. 7 of f32[8,n], got -r + 8 in 1 .. 8 (give the read a fill)"
    ),
    ("%b) <i>", "%b) <i + r>"): (
        "k.ir:7: k.write: expected coordinate 0 in 0 .. 3 of f32[4], got i + r in 0 .. 10 (give the write a mask)"
    ),
    ("%y) <r, k>", "%y) <r, k + 2>"): (
        "k.ir:17: k.write: expected coordinate 1 in -1 .. n of f32[8,n]@{pad=[[0,0],[1,1]]}, "
        "got k + 2 in 2 .. 2 where n = 1 (give the write a mask)"
    ),
    ("%y) <r, k>", "%y) <r, 0>"): (
        "k.ir:17: k.write: expected every parallel dimension in the map of a write, got none of 'k': "
        "its points write the same element (say how they combine)"
    ),
    ("%y) <r, k>", "%y) <r, j>"): "k.ir:17: k.write: expected names in scope in 'j', got 'j'",
    ("%y) <r, k>", "%y) <r, $0>"): "k.ir:17: k.write: expected names in scope in '$0', got '$0'",
    ("%y) <r, k>", "%x) <r, k>"): "k.ir:17: k.write: expected an output or a local to write, got an input",
    ("%y) <r, k>", "%y) <k>"): "k.ir:17: k.write: expected 2 coordinates for f32[8,n]@{pad=[[0,0],[1,1]]}, got 1",
    ("<k: n>", "<i: n>"): "k.ir:16: k.map: expected dimension names that are unique in the kernel, got 'i' twice",
    ("<k: n>", "<n: 4>"): "k.ir:16: k.map: expected a dimension name that is no shape symbol, got 'n'",
    ("<k: n>", "<k: m>"): "k.ir:16: k.map: expected names in scope in 'm', got 'm'",
    (
        "<k: n>",
        "<k: n - 1>",
    ): "@k: expected all of output %y: f32[8,n]@{pad=[[0,0],[1,1]]} to be written, got writes of a part",
    (
        "<r: 8>",
        "<r: 7>",
    ): "@k: expected all of output %y: f32[8,n]@{pad=[[0,0],[1,1]]} to be written, got writes of a part",
    (
        "k.write(%sum, %y) <r, k>",
        "k.write(%sum, %b) <mod(k, 4)>",
    ): "@k: expected every output to be written, got no write of %y",
    ("scalar.add(%acc", "scalar.plus(%acc"): "k.ir:13: scalar.plus: expected a scalar function, got plus",
    ("yield %s", "yield %zero, %s"): "k.ir:9: k.reduce: expected to yield (f32), got (f32, f32)",
    (
        "(%acc: f32, %e: f32)",
        "(%acc: f32, %e: f32, %z: f32)",
    ): "k.ir:9: k.reduce: expected 2 parameters of combine, got 3",
    (
        "%s = scalar.add(%acc, %e)",
        "%s = k.read(%x) <0, 0>",
    ): "k.ir:13: k.read: expected only scalar operations in combine",
    ("<i: 4>", "<i: 4> {schedule = schedule(loops = [k: 1])}"): "k.ir:6: k.map: expected loops over i, got k",
    ("<i: 4>", "<i: 4> {schedule = schedule(loops = [i: 2, i: 2])}"): (
        "k.ir:6: k.map: expected decreasing positive steps of 'i', got [2, 2]"
    ),
    ("<i: 4>", "<i: 4> {schedule = schedule(loops = [i: 2], vector = r)}"): (
        "k.ir:6: k.map: expected a vector dimension of the stage, got 'r'"
    ),
    ("<i: 4>", "<i: 4> {schedule = schedule(loops = [i: 2], parallel = 2)}"): (
        "k.ir:6: k.map: expected at most 1 parallel loops of a map or reduce, got 2"
    ),
    ("%x: f32[8,n]", "%x: f32[*]"): "k.ir:10: k.read: f32[*] has no known rank",
}


def test_the_kernel_itself_is_right() -> None:
    verify(parse_module(KERNEL))


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: cast("tuple[str, str]", c)[1])
def test_broken_kernels_are_found(change: tuple[str, str]) -> None:
    assert change[0] in KERNEL
    with pytest.raises(PlanishError) as error:
        verify(parse_module(KERNEL.replace(*change), "k.ir"))
    first = str(error.value).split("\n")[0]
    assert first == CHANGES[change]


RIGHT = {
    "blocks of 16 that end inside the buffer": (
        "kernel @k(%x: f32[50]) -> (%y: f32[50]) {\n k.map <b: 4, i: min(16, -16*b + 50)> {\n"
        " %a = k.read(%x) <16*b + i>\n k.write(%a, %y) <16*b + i> } }"
    ),
    "a number split and put together again": (
        "kernel @k(%x: f32[50]) -> (%y: f32[50]) {\n k.map <i: 50> {\n"
        " %a = k.read(%x) <7*floordiv(i, 7) + mod(i, 7)>\n k.write(%a, %y) <i> } }"
    ),
    "half of an odd symbolic length": (
        "kernel @k(%x: f32[n]) -> (%y: f32[floordiv(n + 1, 2)]) {\n k.map <i: floordiv(n + 1, 2)> {\n"
        " %a = k.read(%x) <2*i>\n k.write(%a, %y) <i> } }"
    ),
    "two parts of a concatenation": (
        "kernel @k(%x: f32[3], %z: f32[4]) -> (%y: f32[7]) {\n k.map <i: 3> {\n %a = k.read(%x) <i>\n"
        " k.write(%a, %y) <i> }\n k.map <j: 4> {\n %a = k.read(%z) <j>\n k.write(%a, %y) <j + 3> } }"
    ),
    "a scalar": "kernel @k(%x: f32[]) -> (%y: f32[]) {\n %a = k.read(%x) <>\n k.write(%a, %y) <> }",
    "nothing": "kernel @k(%x: f32[0,3]) -> (%y: f32[0,3]) {\n k.map <i: 0, j: 3> {\n %a = k.read(%x) <i, j>\n"
    " k.write(%a, %y) <i, j> } }",
}


@pytest.mark.parametrize("text", RIGHT)
def test_right_kernels_pass(text: str) -> None:
    verify(parse_module(RIGHT[text]))


CALLS = """
kernel @k(%x: f32[2]) -> (%y: f32[2]) {
  k.map <i: 2> {
    %a = k.read(%x) <i>
    k.write(%a, %y) <i>
  }
}
program @run() {
  %x = p.input {index = 0, label = "x"} : f32[2]
  %y = p.output {index = 0, label = "y"} : f32[2]
  p.call(%x, %y) {kernel = "k"}
}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"k"', '"q"', "p.ir:11: p.call: expected the name of a kernel, got 'q'"),
        ("(%x, %y)", "(%x)", "p.ir:11: p.call: expected 2 buffers for @k, got 1"),
        ('"y"} : f32[2]', '"y"} : f32[3]', "p.ir:11: p.call: expected buffer 1 of @k to be f32[2], got f32[3]"),
    ],
)
def test_calls_fit_their_kernels(old: str, new: str, message: str) -> None:
    verify(parse_module(CALLS))
    with pytest.raises(VerifyError) as error:
        verify(parse_module(CALLS.replace(old, new), "p.ir"))
    assert str(error.value).split("\n")[0] == message


def test_regions_of_kernels_see_nothing_from_outside() -> None:
    module = parse_module(
        "graph @g(%x: f32[2]) {\n %y = kernel(%x) { (%i: f32[2], %o: f32[2])\n k.map <d: 2> {\n"
        " %a = k.read(%i) <d>\n k.write(%a, %o) <d> } }\n return %y }"
    )
    verify(module)
    read = next(op for op in module.functions["g"].walk() if op.op_name == "k.read")
    read.set_operand(0, module.functions["g"].params[0])
    with pytest.raises(VerifyError, match=r"k.read: expected an operand that is defined above"):
        verify(module)
