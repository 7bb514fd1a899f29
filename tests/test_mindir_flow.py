"""Control flow of MindIR: functions, branches, loops, recursion, parameters that are assigned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _mindir_graphs import File, U, f32

from planish.compile import compile_file
from planish.frontend.mindir.flow import in_cycles
from planish.frontend.mindir.proto import ScalarAbstract, SequenceAbstract, TensorAbstract
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.interp import run_graph
from planish.ir.ops.host import If, Loop
from planish.ir.verifier import verify
from planish.runtime import load

BOOL = TensorAbstract("bool", ())
I32 = TensorAbstract("i32", ())
X = np.array([1, -2], np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def whole(value: int) -> np.ndarray:
    return np.array(value, np.int32)


def count(file: File, kind: type) -> int:
    return sum(isinstance(op, kind) for op in file.module().main.body.walk())


# -- functions and tuples ----------------------------------------------------------------------------------------------


def test_functions_are_called_with_bound_arguments_and_tuples() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [
        ("pair", "MakeTuple", "x", scalar(3)),
        ("f", "Partial", "times", "pair"),
        ("y", "call f", scalar(2)),
        ("t", "MakeTuple", "y", "pair"),
        ("n", "MakeTuple", "t", None, U),
    ], "n")  # fmt: skip
    file.graph("times", ["p", "z"], [
        ("a", "TupleGetItem", "p", 0), ("b", "TupleGetItem", "p", 1), ("c", "Mul", "a", "b"), ("d", "Add", "c", "z"),
    ], "d")  # fmt: skip
    module = file.module()
    assert module.main.result_names == ["output0", "output1", "output2"]
    y, x, three = file.run(x=X)
    np.testing.assert_array_equal(y, X * 3 + 2)
    np.testing.assert_array_equal(x, X)
    assert three == 3


def test_tuples_and_numbers_among_inputs_are_ports() -> None:
    file = File()
    xs = SequenceAbstract("tuple", (f32(2), SequenceAbstract("tuple", (f32(2),))))
    file.graph("main", {"net:xs": xs, "net:k": ScalarAbstract("f32")}, [
        ("a", "TupleGetItem", "net:xs", 0),
        ("r", "TupleGetItem", "net:xs", 1),
        ("b", "TupleGetItem", "r", 0),
        ("c", "Muls", "b", "net:k"),
        ("d", "Add", "a", "c"),
    ], "d")  # fmt: skip
    types = {name: str(type) for name, type in file.source().input_types()}
    assert types == {"xs.0": "f32[2]", "xs.1.0": "f32[2]", "k": "f64[]"}
    (y,) = file.run(**{"xs.0": X, "xs.1.0": X, "k": np.array(3.0)})
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, X * 4)


def test_bounds_of_open_sizes_are_those_of_the_file() -> None:
    file = File()
    bounded = TensorAbstract("f32", (-1, 4, -1), (2, 4, 1), (8, 4, 1000))
    file.graph("main", {"net:x": bounded, "net:y": TensorAbstract("f32", (-1,))}, [("z", "ReLU", "net:x")], "z")
    source = file.source()
    assert source.ranges() == {"x_0": (2, 8), "x_2": (1, 1000)}
    assert str(source.input_types()[0][1]) == "f32[x_0,4,x_2]"


def test_names_may_be_used_before_they_are_written() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [("b", "Add", "a", "a"), ("a", "Mul", "x", scalar(3))], "b")
    (y,) = file.run(x=X)
    np.testing.assert_array_equal(y, X * 6)


def test_a_name_that_depends_on_itself_is_an_error() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [("a", "Add", "b", "x"), ("b", "Add", "a", "x")], "b")
    with pytest.raises(ModelError, match="depends on itself"):
        file.module()


def test_recursion_whose_course_is_known_is_unrolled() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [("y", "call power", "x", 5)], "y")
    file.graph("power", ["x", "n"], [
        ("end", "ScalarEq", "n", 0), ("a", "Partial", "one", "x"), ("b", "Partial", "more", "x", "n"),
        ("f", "Switch", "end", "a", "b"), ("r", "call f"),
    ], "r")  # fmt: skip
    file.graph("one", ["z"], [("o", "OnesLike", "z")], "o")
    file.graph(
        "more", ["v", "m"], [("k", "ScalarSub", "m", 1), ("p", "call power", "v", "k"), ("q", "Mul", "p", "v")], "q"
    )
    (y,) = file.run(x=X)
    np.testing.assert_array_equal(y, X**5)
    assert not count(file, If)


def test_recursion_over_data_is_refused() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "n": I32}, [("y", "call power", "x", "n")], "y")
    file.graph("power", ["x1", "n1"], [
        ("end", "Equal", "n1", whole(0)), ("a", "Partial", "one", "x1"), ("b", "Partial", "more", "x1", "n1"),
        ("f", "Switch", "end", "a", "b"), ("r", "call f"),
    ], "r")  # fmt: skip
    file.graph("one", ["z"], [("o", "OnesLike", "z")], "o")
    file.graph(
        "more", ["v", "m"], [("k", "Sub", "m", whole(1)), ("p", "call power", "v", "k"), ("q", "Mul", "p", "v")], "q"
    )
    with pytest.raises(UnsupportedError, match="recursion whose course depends on data"):
        file.module()


def test_recursion_without_an_end_is_refused() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [("y", "call f", "x")], "y")
    file.graph("f", ["a"], [("b", "call f", "a"), ("c", "Neg", "b")], "c")
    with pytest.raises(UnsupportedError, match="calls inside of one another"):
        file.module()


def test_values_of_nodes_may_be_outputs_also_inside_of_functions() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [("y", "call f", "x"), ("z", "Neg", "y")], "z")
    file.graph("f", ["a"], [("p", "TopK", "a", 1, {"sorted": True}), ("q", "TupleGetItem", "p", 0)], "q")
    assert [n.outputs for n in file.source().nodes()] == [("Default/y",), ("Default/z",), ("Default/p",)]
    module = file.source().with_outputs(["Default/p.1", "Default/y"]).read()
    found = run_graph(module, {"x": X})
    assert list(found) == ["output0", "Default/p.1", "Default/y"]
    assert (found["Default/p.1"], found["Default/y"]) == (0, 1)
    with pytest.raises(ModelError, match="nowhere: it cannot be an output"):
        file.source().with_outputs(["Default/r"]).read()


# -- branches ----------------------------------------------------------------------------------------------------------


def branches(file: File, then: str, otherwise: str) -> None:
    """A main graph that calls one of two graphs with x, by the input c, and adds 1."""
    file.graph("main", {"x": f32(2), "c": BOOL}, [
        ("f", "Partial", then, "x"), ("g", "Partial", otherwise, "x"), ("h", "Switch", "c", "f", "g"),
        ("y", "call h"), ("z", "Add", "y", scalar(1)),
    ], "z")  # fmt: skip


def test_a_branch_over_data_computes_one_side() -> None:
    file = File()
    branches(file, "double", "negate")
    file.graph("double", ["a"], [("a2", "Mul", "a", scalar(2))], "a2")
    file.graph("negate", ["b"], [("b2", "Neg", "b")], "b2")
    assert count(file, If) == 1
    np.testing.assert_array_equal(file.run(x=X, c=np.array(True))[0], X * 2 + 1)
    np.testing.assert_array_equal(file.run(x=X, c=np.array(False))[0], -X + 1)


def test_what_both_branches_go_on_with_is_read_once() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "c": BOOL}, [("y", "call b0", "x", "c")], "y")
    for i in range(12):  # 12 branches one after the other: 4096 ways through
        file.graph(f"b{i}", [f"x{i}", f"c{i}"], [
            (f"f{i}", "Partial", f"p{i}", f"x{i}", f"c{i}"), (f"g{i}", "Partial", f"q{i}", f"x{i}", f"c{i}"),
            (f"h{i}", "Switch", f"c{i}", f"f{i}", f"g{i}"), (f"r{i}", f"call h{i}"),
        ], f"r{i}")  # fmt: skip
        for side, operator in (("p", "Add"), ("q", "Sub")):
            n = f"{side}{i}"
            file.graph(n, [f"{n}x", f"{n}c"], [
                (f"{n}y", operator, f"{n}x", scalar(1)), (f"{n}z", f"call b{i + 1}", f"{n}y", f"{n}c"),
            ], f"{n}z")  # fmt: skip
    file.graph("b12", ["xe", "ce"], [("ye", "Neg", "xe")], "ye")
    assert count(file, If) == 12
    np.testing.assert_array_equal(file.run(x=X, c=np.array(True))[0], -(X + 12))
    np.testing.assert_array_equal(file.run(x=X, c=np.array(False))[0], -(X - 12))


def test_branches_may_give_tuples_with_numbers_in_them() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "c": BOOL}, [
        ("f", "Partial", "p", "x"), ("g", "Partial", "q", "x"), ("h", "Switch", "c", "f", "g"), ("t", "call h"),
        ("a", "TupleGetItem", "t", 0), ("n", "TupleGetItem", "t", 1), ("m", "TupleGetItem", "t", 2),
        ("b", "Muls", "a", "n"), ("e", "ExpandDims", "b", "m"),
    ], "e")  # fmt: skip
    file.graph("p", ["px"], [("pt", "MakeTuple", "px", 2.0, 0)], "pt")
    file.graph("q", ["qx"], [("qt", "MakeTuple", "qx", 3.0, 0)], "qt")
    (y,) = file.run(x=X, c=np.array(False))
    np.testing.assert_array_equal(y, X[None] * 3)  # 0 stays a number: an axis
    np.testing.assert_array_equal(file.run(x=X, c=np.array(True))[0], X[None] * 2)


def test_branches_may_give_functions() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "c": BOOL}, [
        ("f", "Partial", "p", "x"), ("g", "Partial", "q", "x"), ("h", "Switch", "c", "f", "g"),
        ("k", "make h"), ("y", "call k", scalar(3)), ("z", "call k", scalar(5)), ("r", "MakeTuple", "y", "z"),
    ], "r")  # fmt: skip
    file.graph("p", ["px"], [("p2", "Mul", "px", "px"), ("pf", "Partial", "plus", "p2")], "pf")
    file.graph("q", ["qx"], [("qf", "Partial", "minus", "qx")], "qf")
    file.graph("plus", ["a", "b"], [("ab", "Add", "a", "b")], "ab")
    file.graph("minus", ["d", "e"], [("de", "Sub", "d", "e")], "de")
    for value, first, second in ((True, X * X + 3, X * X + 5), (False, X - 3, X - 5)):
        y, z = file.run(x=X, c=np.array(value))
        np.testing.assert_array_equal(y, first)
        np.testing.assert_array_equal(z, second)


def test_a_layer_is_chosen_by_its_index() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "i": I32}, [
        ("t", "MakeTuple", "p", "q", "r"), ("h", "SwitchLayer", "i", "t"), ("y", "call h", "x"),
    ], "y")  # fmt: skip
    for n, factor in (("p", 1), ("q", 2), ("r", 3)):
        file.graph(n, [f"{n}x"], [(f"{n}y", "Mul", f"{n}x", scalar(factor))], f"{n}y")
    for index, factor in ((0, 1), (1, 2), (2, 3), (-1, 3), (-2, 2), (-3, 1)):
        np.testing.assert_array_equal(file.run(x=X, i=whole(index))[0], X * factor)


# -- loops -------------------------------------------------------------------------------------------------------------


def loop(file: File, condition: tuple[object, ...] = ("Less", "i", "n")) -> None:
    """`while i < n: x = body(x); i += 1`, where the test adds the graph "body" that calls "header" with (x2, i2, n)."""
    file.graph("main", {"x0": f32(2), "n0": I32}, [("y", "call header", "x0", whole(0), "n0")], "y")
    file.graph("header", ["x", "i", "n"], [
        ("more", *condition), ("b", "Partial", "body", "x", "i", "n"), ("e", "Partial", "after", "x"),
        ("s", "Switch", "more", "b", "e"), ("r", "call s"),
    ], "r")  # fmt: skip
    file.graph("after", ["z"], [("z2", "Neg", "z")], "z2")


def test_a_header_that_its_body_calls_is_a_loop() -> None:
    file = File()
    loop(file)
    file.graph("body", ["bx", "bi", "bn"], [
        ("x2", "Mul", "bx", scalar(2)), ("i2", "Add", "bi", whole(1)), ("again", "call header", "x2", "i2", "bn"),
        ("u", "UpdateState", U, "again"), ("done", "Depend", "again", "u"),
    ], "done")  # fmt: skip
    assert (count(file, Loop), count(file, If)) == (1, 0)
    (found,) = [op for op in file.module().main.body.walk() if isinstance(op, Loop)]
    assert len(found.carried) == 2  # the limit stays outside
    for rounds in (0, 1, 5):
        np.testing.assert_array_equal(file.run(x0=X, n0=whole(rounds))[0], -X * 2**rounds)


def test_a_loop_whose_course_is_known_is_unrolled() -> None:
    file = File()
    loop(file, ("Less", "i", whole(3)))
    file.graph("body", ["bx", "bi", "bn"], [
        ("x2", "Mul", "bx", scalar(2)), ("i2", "Add", "bi", whole(1)), ("again", "call header", "x2", "i2", "bn"),
    ], "again")  # fmt: skip
    assert count(file, Loop) == 0
    np.testing.assert_array_equal(file.run(x0=X, n0=whole(0))[0], -X * 8)


def test_a_loop_may_be_left_and_gone_on_with_in_its_middle() -> None:
    """`while i < n: i += 1; if i == 2: continue; x *= 2; if i == 5: break; x += 1`."""
    file = File()
    loop(file)
    file.graph("body", ["bx", "bi", "bn"], [
        ("i2", "Add", "bi", whole(1)), ("two", "Equal", "i2", whole(2)),
        ("c1", "Partial", "skip", "bx", "i2", "bn"), ("c2", "Partial", "go", "bx", "i2", "bn"),
        ("cs", "Switch", "two", "c1", "c2"), ("cr", "call cs"),
    ], "cr")  # fmt: skip
    file.graph("skip", ["sx", "si", "sn"], [("sr", "call header", "sx", "si", "sn")], "sr")
    file.graph("go", ["gx", "gi", "gn"], [
        ("gx2", "Mul", "gx", scalar(2)), ("five", "Equal", "gi", whole(5)),
        ("d1", "Partial", "after", "gx2"), ("d2", "Partial", "rest", "gx2", "gi", "gn"),
        ("ds", "Switch", "five", "d1", "d2"), ("dr", "call ds"),
    ], "dr")  # fmt: skip
    file.graph("rest", ["rx", "ri", "rn"], [
        ("rx2", "Add", "rx", scalar(1)), ("rr", "call header", "rx2", "ri", "rn"),
    ], "rr")  # fmt: skip

    def expected(n: int) -> np.ndarray:
        x, i = X, 0
        while i < n:
            i += 1
            if i == 2:
                continue
            x = x * 2
            if i == 5:
                break
            x = x + 1
        return -x

    assert count(file, Loop) == 1
    for n in (0, 1, 2, 3, 5, 8):
        np.testing.assert_array_equal(file.run(x0=X, n0=whole(n))[0], expected(n))


def test_a_loop_may_return_from_its_middle() -> None:
    """`while i < n: if sum(x) > 20: return x; x *= 2; i += 1`, then -x."""
    file = File()
    loop(file)
    file.graph("body", ["bx", "bi", "bn"], [
        ("sum", "ReduceSum", "bx", (), False, False), ("big", "Greater", "sum", scalar(20)),
        ("c1", "Partial", "give", "bx"), ("c2", "Partial", "go", "bx", "bi", "bn"),
        ("cs", "Switch", "big", "c1", "c2"), ("cr", "call cs"),
    ], "cr")  # fmt: skip
    file.graph("give", ["gx"], [], "gx")
    file.graph("go", ["hx", "hi", "hn"], [
        ("x2", "Mul", "hx", scalar(2)), ("i2", "Add", "hi", whole(1)), ("hr", "call header", "x2", "i2", "hn"),
    ], "hr")  # fmt: skip
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(file.run(x0=x, n0=whole(2))[0], -x * 4)
    np.testing.assert_array_equal(file.run(x0=x, n0=whole(9))[0], x * 8)


def nested(file: File) -> None:
    """`while i < n: j = 0; while j < i: x += 1; j += 1; x *= 2; i += 1`."""
    loop(file)
    file.graph("body", ["bx", "bi", "bn"], [("br", "call inner", "bx", whole(0), "bi", "bn")], "br")
    file.graph("inner", ["ix", "j", "ii", "im"], [
        ("imore", "Less", "j", "ii"), ("ib", "Partial", "step", "ix", "j", "ii", "im"),
        ("ie", "Partial", "end", "ix", "ii", "im"), ("is", "Switch", "imore", "ib", "ie"), ("ir", "call is"),
    ], "ir")  # fmt: skip
    file.graph("step", ["tx", "tj", "ti", "tn"], [
        ("tx2", "Add", "tx", scalar(1)), ("tj2", "Add", "tj", whole(1)), ("tr", "call inner", "tx2", "tj2", "ti", "tn"),
    ], "tr")  # fmt: skip
    file.graph("end", ["ex", "ei", "en"], [
        ("ex2", "Mul", "ex", scalar(2)), ("ei2", "Add", "ei", whole(1)), ("er", "call header", "ex2", "ei2", "en"),
    ], "er")  # fmt: skip


def test_cycles_are_told_from_ways_into_and_out_of_them() -> None:
    after = {"a": ["b"], "b": ["c", "e"], "c": ["d"], "d": ["b"], "e": ["f"], "f": ["f"], "g": ["a", "e"], "h": []}
    assert in_cycles(after) == {"b", "c", "d", "f"}
    chain = {f"n{i}": [f"n{i + 1}"] for i in range(5000)} | {"n5000": []}
    assert in_cycles(chain) == set()
    assert in_cycles({**chain, "n5000": ["n1"]}) == chain.keys() - {"n0"}


def test_loops_may_be_inside_of_loops() -> None:
    file = File()
    nested(file)
    assert count(file, Loop) == 2
    for n in (0, 1, 4):
        x = X
        for i in range(n):
            x = (x + i) * 2
        np.testing.assert_array_equal(file.run(x0=X, n0=whole(n))[0], -x)


def test_a_loop_inside_of_a_loop_may_return() -> None:
    """`while i < n: j = 0; while j < n: if j > i: break; x += 1; j += 1; if x0 > 12: return x; ... x *= 2; i += 1`."""
    file = File()
    loop(file)
    file.graph("body", ["bx", "bi", "bn"], [("br", "call inner", "bx", whole(0), "bi", "bn")], "br")
    file.graph("inner", ["ix", "j", "ii", "im"], [
        ("imore", "Less", "j", "im"), ("ib", "Partial", "step", "ix", "j", "ii", "im"),
        ("ie", "Partial", "end", "ix", "ii", "im"), ("is", "Switch", "imore", "ib", "ie"), ("ir", "call is"),
    ], "ir")  # fmt: skip
    file.graph("step", ["tx", "tj", "ti", "tn"], [
        ("past", "Greater", "tj", "ti"), ("t1", "Partial", "end", "tx", "ti", "tn"),
        ("t2", "Partial", "go", "tx", "tj", "ti", "tn"), ("ts", "Switch", "past", "t1", "t2"), ("tr", "call ts"),
    ], "tr")  # fmt: skip
    file.graph("go", ["gx", "gj", "gi", "gn"], [
        ("gx2", "Add", "gx", scalar(1)), ("gj2", "Add", "gj", whole(1)), ("gsum", "ReduceSum", "gx2", (), False, False),
        ("big", "Greater", "gsum", scalar(12)), ("g1", "Partial", "give", "gx2"),
        ("g2", "Partial", "inner", "gx2", "gj2", "gi", "gn"), ("gs", "Switch", "big", "g1", "g2"), ("gr", "call gs"),
    ], "gr")  # fmt: skip
    file.graph("give", ["vx"], [], "vx")
    file.graph("end", ["ex", "ei", "en"], [
        ("ex2", "Mul", "ex", scalar(2)), ("ei2", "Add", "ei", whole(1)), ("er", "call header", "ex2", "ei2", "en"),
    ], "er")  # fmt: skip

    def expected(n: int) -> np.ndarray:
        x = X
        for i in range(n):
            for j in range(n):
                if j > i:
                    break
                x = x + 1
                if x.sum() > 12:
                    return x
            x = x * 2
        return -x

    for n in (0, 1, 2, 3, 6):
        np.testing.assert_array_equal(file.run(x0=X, n0=whole(n))[0], expected(n))


# -- parameters --------------------------------------------------------------------------------------------------------


def states(file: File, calls: int, **inputs: np.ndarray) -> list[list[np.ndarray]]:
    """The results of several runs, states handed on."""
    module = file.module()
    verify(module)
    kept = {s.input: s.initial.array() for s in module.attributes["states"]}  # type: ignore[attr-defined]
    found: list[list[np.ndarray]] = []
    for _ in range(calls):
        results = run_graph(module, {**inputs, **kept})
        kept = {name: results[f"{name}.next"] for name in kept}
        found.append([v for name, v in results.items() if not name.endswith(".next")])
    return found


def test_a_parameter_is_assigned_in_the_order_of_the_states() -> None:
    file = File()
    file.graph("main", {"x": f32(2)}, [
        ("before", "Load", "main:w", U), ("u1", "UpdateState", U, "before"),
        ("a", "AssignAdd", "main:w", "x", "u1"), ("u2", "UpdateState", "u1", "a"),
        ("between", "Load", "main:w", "u2"), ("u3", "UpdateState", "u2", "between"),
        ("b", "AssignSub", "main:w", scalar(1), "u3"), ("u4", "UpdateState", "u3", "b"),
        ("t", "MakeTuple", "before", "between"), ("r", "Depend", "t", "u4"),
    ], "r", {"w": np.array([10, 20], np.float32)})  # fmt: skip
    first, second = states(file, 2, x=X)
    np.testing.assert_array_equal(first[0], [10, 20])
    np.testing.assert_array_equal(first[1], [11, 18])
    np.testing.assert_array_equal(second[0], [10, 17])


def test_a_parameter_may_be_assigned_in_one_branch() -> None:
    file = File()
    file.graph("main", {"x": f32(2), "c": BOOL}, [
        ("f", "Partial", "p", "main:w", "x", U), ("g", "Partial", "q", "main:w", U), ("h", "Switch", "c", "f", "g"),
        ("y", "call h"), ("u", "UpdateState", U, "y"), ("z", "Load", "main:w", "u"), ("s", "Add", "y", "z"),
    ], "s", {"w": np.array([10, 20], np.float32)})  # fmt: skip
    file.graph("p", ["pw", "px", "pu"], [
        ("a", "Assign", "pw", "px", "pu"), ("u1", "UpdateState", "pu", "a"), ("r", "Depend", "px", "u1"),
    ], "r")  # fmt: skip
    file.graph("q", ["qw", "qu"], [("l", "Load", "qw", "qu")], "l")
    np.testing.assert_array_equal(states(file, 1, x=X, c=np.array(True))[0][0], X * 2)
    np.testing.assert_array_equal(states(file, 1, x=X, c=np.array(False))[0][0], [20, 40])


def test_a_parameter_may_be_assigned_in_a_loop() -> None:
    file = File()
    file.graph("main", {"x0": f32(2), "n0": I32}, [
        ("y", "call header", "main:w", whole(0), "n0", U), ("u", "UpdateState", U, "y"), ("z", "Load", "main:w", "u"),
    ], "z", {"w": np.array([1, 2], np.float32)})  # fmt: skip
    file.graph("header", ["w", "i", "n", "v"], [
        ("more", "Less", "i", "n"), ("b", "Partial", "body", "w", "i", "n", "v"), ("e", "Partial", "after", "i"),
        ("s", "Switch", "more", "b", "e"), ("r", "call s"),
    ], "r")  # fmt: skip
    file.graph("after", ["j"], [], "j")
    file.graph("body", ["bw", "bi", "bn", "bv"], [
        ("l", "Load", "bw", "bv"), ("d", "Mul", "l", scalar(2)), ("a", "Assign", "bw", "d", "bv"),
        ("bu", "UpdateState", "bv", "a"), ("i2", "Add", "bi", whole(1)),
        ("again", "call header", "bw", "i2", "bn", "bu"),
    ], "again")  # fmt: skip
    first, second = states(file, 2, x0=X, n0=whole(3))
    np.testing.assert_array_equal(first[0], [8, 16])
    np.testing.assert_array_equal(second[0], [64, 128])


# -- compiled ----------------------------------------------------------------------------------------------------------


def test_loops_and_branches_run_compiled(tmp_path: Path) -> None:
    file = File()
    nested(file)
    compile_file(file.source(), tmp_path / "net.so", self_test=False)
    x = X
    for i in range(5):
        x = (x + i) * 2
    with load(tmp_path / "net.so") as model:
        np.testing.assert_array_equal(model.run({"x0": X, "n0": whole(5)})["output0"], -x)
