"""MindSpore's primitives by name, and their arguments (`planish.frontend.mindir.table`)."""

from __future__ import annotations

from planish.frontend.mindir.table import arguments, functions, known, primitives


def test_all_functions_are_known_with_their_arguments() -> None:
    assert len(functions()) == 758
    assert functions() <= primitives()
    for name in primitives():
        names = [a.name for a in arguments(name)]
        assert len(names) == len(set(names)), name


def test_arguments_have_their_order_defaults_and_kinds() -> None:
    found = arguments("ReduceSum")
    assert [a.name for a in found] == ["x", "axis", "keep_dims", "skip_mode"]
    assert [a.attribute for a in found] == [False, False, True, True]
    assert found[2].default is False and found[0].required
    (axis,) = [a for a in arguments("Softmax") if a.name == "axis"]
    assert axis.kind == "ints" and axis.default == -1
    assert arguments("NLLLoss")[-1].default == -100


def test_an_unknown_name_has_no_arguments() -> None:
    assert arguments("Frobnicate") == () and not known("Frobnicate")
