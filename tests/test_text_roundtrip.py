"""The text form prints and parses everything without loss."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from _irgen import NAMES, constants, literals, same, same_constant, same_module, types
from hypothesis import given, settings
from hypothesis import strategies as st

from planish.ir.constants import Constant, ConstantData, FileSource, PiecesSource
from planish.ir.core import Graph, Module, Op, Region, Return, Value, Yield
from planish.ir.errors import ParseError
from planish.ir.kernel.form import Kernel
from planish.ir.program import Program
from planish.ir.text import parse_module, parse_type, print_function, print_module, print_op
from planish.ir.types import TensorType, Type, tensor


class Free(Op, name="test.free"):
    """Any number of operands and results, any attribute."""

    args: tuple[Value, ...]
    value: Any


class Mixed(Op, name="test.mixed"):
    """Every kind of field."""

    x: Value
    bias: Value | None
    parts: tuple[Value, ...]
    body: Region
    other: Region | None
    rest: tuple[Region, ...]
    more: tuple[Value | None, ...] = ()
    size: int = 7
    label: str = ""
    limit: int | None = 3


MANY = settings(deadline=None, derandomize=True, max_examples=200)


def roundtrip(module: Module) -> Module:
    """The module parsed from its own text, which must be the same module and print alike."""
    resources: dict[str, np.ndarray] = {}
    text = print_module(module, resources)
    parsed = parse_module(text, resources=resources)
    assert same_module(module, parsed)
    assert print_module(parsed, dict(resources)) == text
    return parsed


def graph_of(*ops: Op, types: tuple[Type, ...] = ()) -> Module:
    """A module with one graph of these operations."""
    graph = Graph("main", types)
    for op in ops:
        graph.body.append(op)
    graph.body.append(Return(()))
    return Module([graph])


@MANY
@given(types())
def test_types(type: Type) -> None:
    assert parse_type(str(type)) == type


@MANY
@given(literals())
def test_attribute_literals(value: Any) -> None:
    module = roundtrip(graph_of(Free((), value, types=[])))
    (op, _) = module.main.body
    assert isinstance(op, Free)
    assert same(op.value, value)


@MANY
@given(constants())
def test_constants_are_exact(data: ConstantData) -> None:
    (op, _) = roundtrip(graph_of(Constant(data))).main.body
    assert isinstance(op, Constant)
    assert same_constant(op.value, data)
    (free, _) = roundtrip(graph_of(Free((), (data,), types=[]))).main.body
    assert isinstance(free, Free)


@MANY
@given(st.lists(st.tuples(NAMES, NAMES), max_size=6), NAMES, st.text(max_size=4))
def test_names_of_values_functions_and_nodes(names: list[tuple[str, str]], function: str, loc: str) -> None:
    graph = Graph(function, [tensor("f32", 2)], [loc], [loc, function])
    last = graph.params[0]
    for first, second in names:
        op = graph.body.append(Free((last, graph.params[0]), 1, types=[tensor("f32"), tensor("i64", 3)], loc=loc))
        op.results[0].name, op.results[1].name = first, second
        last = op.results[1]
    graph.body.append(Return((last,)))
    roundtrip(Module([graph]))


def mixed(bias: Value | None, parts: tuple[Value, ...], x: Value, regions: int) -> Mixed:
    def region(value: Value | None = None) -> Region:
        body = Region([tensor("f32")] if value else [], ["p"])
        body.append(Free((x,), 0, types=[tensor("f32")])).results[0].name = "x"
        body.append(Yield((value,) if value else ()))
        return body

    other = region() if regions else None
    rest = tuple(region() for _ in range(regions))
    return Mixed(x, bias, parts, region(x), other, rest, (None, x), 7, "", None, types=[tensor("f32")])


@pytest.mark.parametrize("regions", [0, 1, 2])
@pytest.mark.parametrize("optional", [False, True])
def test_every_kind_of_field(regions: int, optional: bool) -> None:
    graph = Graph("main", [tensor("f32")], ["x"])
    (x,) = graph.params
    graph.body.append(mixed(x if optional else None, (x, x) if optional else (), x, regions))
    graph.body.append(Return((x,)))
    roundtrip(Module([graph]))


def test_print_of_one_operation_names_values_as_the_function_does() -> None:
    graph = Graph("main", [tensor("f32")], ["x"])
    first = graph.body.append(Free((graph.params[0],), 1, types=[tensor("f32")]))
    second = graph.body.append(Free((first.result,), 2, types=[tensor("f32")]))
    graph.body.append(Return((second.result,)))
    assert print_op(second) == "%1 = test.free(%0) {value = 2} : f32[]"
    assert print_op(second) in print_function(graph)


def test_kernel_and_program_functions() -> None:
    kernel = Kernel("k", [tensor("f32", 2)] * 3, ["a", "b", "c"], attributes={"outputs": 2, "note": "x"})
    program = Program("run", attributes={"symbols": ("n", "m m"), "arena_bytes": 64, "inputs": (("x", tensor("f32")),)})
    for f in (kernel, program):
        f.body.append(Yield(()))
    module = Module([kernel, program])
    module.attributes = {"producer": "test"}
    text = print_module(module)
    assert 'kernel @k(%a: f32[2]) -> (%b: f32[2], %c: f32[2]) attributes {note = "x"} {' in text
    roundtrip(module)


def test_large_constants_are_resources_and_printing_never_reads_them() -> None:
    big = np.broadcast_to(np.float32(1), (1 << 15, 1 << 15))  # 4 GiB if anybody copied it
    data = ConstantData.of(big)
    file = ConstantData("f32", (1 << 16, 1 << 16), FileSource("/nowhere/weights.bin", 64), (1, 0))
    pieces = ConstantData("f32", (1 << 15, 2), PiecesSource("/nowhere/w.ckpt", ((64, 1 << 17), (1 << 20, 1 << 17))))
    module = graph_of(Constant(data), Constant(data), Constant(file), Constant(pieces))
    start = time.perf_counter()
    resources: dict[str, np.ndarray] = {}
    text = print_module(module, resources)
    parsed = parse_module(text, resources=resources)
    module.clone()
    assert time.perf_counter() - start < 0.5
    assert len(resources) == 1
    assert resources["c0"] is big
    assert '{value = resource("c0")}' in text
    assert '{value = file("/nowhere/weights.bin", 64, transpose = [1, 0])}' in text
    assert '{value = pieces("/nowhere/w.ckpt", [[64, 131072], [1048576, 131072]])}' in text
    assert same_module(module, parsed)


def test_text_without_its_resources_is_refused() -> None:
    text = print_module(graph_of(Constant(ConstantData.of(np.zeros(100, np.float32)))))
    with pytest.raises(ParseError, match=r'net.ir:2: resource "c0" is not at hand: the text was printed without'):
        parse_module(text, "net.ir")


def test_types_may_be_left_out_and_names_need_not_be_unique_in_other_regions() -> None:
    text = """
    graph @main(%x: f32[2,1]) {   // a comment
      %one = constant() {value = splat(1.0, f32[1,3])}
      %y = arith.add(%x, %one)
      return(%y)
    }
    """
    module = parse_module(text)
    assert module.main.results[0].type == TensorType("f32", (2, 3))


ERRORS = {
    "graph @f( {": "a.ir:1: expected a parameter, like %x, got '{'",
    "graf @f() {}": "a.ir:1: expected one of 'graph', 'kernel', 'program', 'plan', got 'graf'",
    "graph f() {}": "a.ir:1: expected the function's name, like @main, got 'f'",
    "graph @f() {} graph @f() {}": "a.ir:1: two functions are called @f",
    "graph @f() {\n %y = nn.rellu(%x) : f32[3]": (
        "a.ir:2: expected an operation, got 'nn.rellu' (did you mean nn.relu?)"
    ),
    "graph @f() {\n return %y }": "a.ir:2: expected a value that is defined above, got '%y'",
    "graph @f(%x: f32[2], %x: f32[2]) {}": "a.ir:1: expected a new name (%x is defined in line 1), got '%x'",
    "graph @f(%x: f33[2]) {}": "a.ir:1: expected a type, got 'f33'",
    "graph @f(%x: f32[2,]@{ord=[0]}) {}": "a.ir:1: expected one of blocks, order, pad, zero, got 'ord'",
    "graph @f() {\n %c = constant {value = splat(1)} }": (
        "a.ir:2: expected a static tensor type, as in 'splat(1.0, f32[2])', got none"
    ),
    "graph @f() {\n %c = constant {value = dense([1, 2])} : f32[3] }": "a.ir:2: expected 3 elements for f32[3], got 2",
    "graph @f() {\n %c = constant : f32[3] }": "a.ir:2: expected attribute 'value' of constant, got none",
    "graph @f() {\n %c = constant {val = 1} : f32[3] }": (
        "a.ir:2: expected an attribute of constant (value), got 'val'"
    ),
    "graph @f(%x: f32[2]) {\n %y = nn.relu() : f32[2] }": "a.ir:2: expected operand 'x' of nn.relu, got none",
    "graph @f(%x: f32[2]) {\n %y = nn.relu(%x, %x) : f32[2] }": (
        "a.ir:2: expected the operands of nn.relu (x), got '%x'"
    ),
    "graph @f(%x: f32[2]) {\n %y, %z = nn.relu(%x) }": "a.ir:2: expected 1 results of nn.relu, got 2",
    "graph @f(%x: f32[2], %y: f64[2]) {\n %z = arith.add(%x, %y) }": (
        "a.ir:2: arith.add: expected operands of one element type, got ['f32', 'f64']"
    ),
    "graph @f() {\n return\n return }": "a.ir:3: expected '}' after 'return', got 'return'",
    'graph @"f': "a.ir:1: expected the end of the string, got '@\"f'",
    'graph @"\\q"() {}': 'a.ir:1: expected one of the escapes \\" \\\\ \\n \\t \\r \\u{...}, got \'@"\\\\q"\'',
    "graph @f() {\n constant {value = n} }": (
        "a.ir:2: expected a literal (a symbol is written <n>, a string \"n\"), got 'n'"
    ),
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors_name_the_line_and_what_was_expected(text: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_module(text, "a.ir")
    assert str(error.value) == ERRORS[text]
