"""`--shape`: sizes, ranges that are checked at entry, and versions of the program for some sizes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import info, make, node, rand, runtime

import planish
from planish.compile import compile_file
from planish.frontend import open_model
from planish.ir.errors import PlanishError
from planish.ir.expr import bounds_given, sym, symbol_bounds, symbol_range, symbol_ranges
from planish.runtime import InputError, Model, load
from planish.shapes import Sizes, parse, resolve

Planish = Callable[..., tuple[int, str, str]]


def network() -> onnx.ModelProto:
    """A dense layer and a softmax along one symbol; the other input's symbol must be the same, which only the operators
    say. Its symbols are called as dimensions of kernels like to be."""
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["a"], ["s"], axis=1), node("Add", ["s", "z"])]
    inputs = {"x": info("x", ["b", "k", 8]), "z": info("z", ["b", None, 8])}
    return make(nodes, inputs, constants={"w": rand(8, 8, seed=3)})


def agrees(model: Model, b: int, k: int) -> bool:
    inputs = {"x": rand(b, k, 8), "z": rand(b, k, 8, seed=1)}
    got, want = model.run(inputs)["y"], runtime(network(), inputs)["y"]
    return got.shape == want.shape and bool(np.allclose(got, want, rtol=1e-5, atol=1e-5))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="module")
def model(place: Path) -> Model:
    compile_file(network(), place / "net.so", cpu="x86-64-v3", shapes={"k": "1..64@16:32", "b": "1..4@2"})
    return load(place / "net.so")


# -- running --------------------------------------------------------------------------------------------------------


def test_versions_and_the_general_program_agree_with_others(model: Model) -> None:
    assert [v.sizes for v in model.manifest.variants] == [{"b": 2, "k": 16}, {"b": 2, "k": 32}, {}]
    assert all(agrees(model, b, k) for b, k in [(2, 16), (2, 17), (2, 32), (1, 16), (4, 64), (1, 1), (2, 16)])


def test_the_interface_is_that_of_the_general_program(model: Model) -> None:
    assert [port.shape for port in model.inputs] == [("b", "k", 8), ("b", "k", 8)]
    assert model.manifest.ranges == {"b": (1, 4), "k": (1, 64)}
    assert model.manifest.variants[0].inputs[0].shape == (2, 16, 8)


@pytest.mark.parametrize(
    ("b", "k", "message"),
    [
        (1, 65, r"input 'x': dimension 1, which is 'k': expected 1 to 64, for which the model was compiled, got 65"),
        (5, 16, r"input 'x': dimension 0, which is 'b': expected 1 to 4, for which the model was compiled, got 5"),
        (2, 0, r"dimension 1, which is 'k': expected 1 to 64, .* got 0"),
    ],
)
def test_sizes_outside_of_a_range_are_refused_at_entry(model: Model, b: int, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.run({"x": rand(b, k, 8), "z": rand(b, k, 8)})


def test_a_wrong_size_is_told_in_terms_of_the_general_program(model: Model) -> None:
    with pytest.raises(InputError, match=r"input 'x': shape: expected \[b,k,8\], got \[2,16,7\]"):
        model.run({"x": rand(2, 16, 7), "z": rand(2, 16, 8)})
    with pytest.raises(InputError, match=r"input 'z': dimension 1, which is 'k': expected 16 as in input 'x', got 32"):
        model.run({"x": rand(2, 16, 8), "z": rand(2, 32, 8)})


def test_bound_arrays_choose_a_version_once(model: Model) -> None:
    inputs = {"x": rand(2, 16, 8), "z": rand(2, 16, 8, seed=1)}
    binding = model.bind(inputs)
    binding.run()
    inputs["x"][...] = rand(2, 16, 8, seed=5)
    np.testing.assert_allclose(binding.run()["y"], runtime(network(), inputs)["y"], rtol=1e-5, atol=1e-5)


def test_weights_are_there_once(place: Path, model: Model) -> None:
    compile_file(network(), place / "general.so", cpu="x86-64-v3")
    with load(place / "general.so") as general:
        assert model.manifest.memory.weights == general.manifest.memory.weights
        assert not general.manifest.variants


def test_a_range_alone_makes_one_program(tmp_path: Path) -> None:
    compile_file(network(), tmp_path / "net.so", cpu="x86-64-v3", shapes={"z": "1..4,..8,8"})
    with load(tmp_path / "net.so") as ranged:
        assert not ranged.manifest.variants
        assert agrees(ranged, 3, 8)
        with pytest.raises(InputError, match="'k': expected 0 to 8"):
            ranged.run({"x": rand(3, 9, 8), "z": rand(3, 9, 8)})


def test_an_executable_checks_and_chooses(tmp_path: Path, planish: Planish) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    words = ["-o", tmp_path / "net", "--cpu", "x86-64-v3", "--shape", "k=1..64@16", "--shape", "b=2"]
    assert planish("compile", tmp_path / "net.onnx", *words)[0] == 0
    for k, status in ((16, 0), (20, 0), (65, 1)):
        inputs = {"x": rand(2, k, 8), "z": rand(2, k, 8, seed=1)}
        np.savez(tmp_path / "in.npz", **inputs)  # type: ignore[arg-type]
        command = [tmp_path / "net", "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        if status:
            assert "'k': expected 1 to 64" in done.stderr
        else:
            got = np.load(tmp_path / "out.npz")["y"]
            np.testing.assert_allclose(got, runtime(network(), inputs)["y"], rtol=1e-5, atol=1e-5)
    facts: dict[str, Any] = json.loads(subprocess.check_output([tmp_path / "net", "info", "--json"]))
    assert facts["ranges"] == {"k": [1, 64]}


def test_plans_have_versions_too(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("NonZero", ["r"])]
    model = make(nodes, {"x": info("x", ["n", 4])})
    loaded = planish.compile(model, shapes={"n": "1..8@4"}, cpu="x86-64-v3")
    for n in (4, 5):
        x = rand(n, 4)
        np.testing.assert_array_equal(loaded.run({"x": x})["y"], np.stack(np.nonzero(np.maximum(x, 0))))
    with pytest.raises(InputError, match="'n': expected 1 to 8"):
        loaded.run({"x": rand(9, 4)})


# -- asking ---------------------------------------------------------------------------------------------------------


def test_sizes_are_read() -> None:
    assert parse("x", "1..512@128:32") == (Sizes(1, 512, (32, 128)),)
    assert parse("x", "1,?,..7,3..") == (Sizes(1, 1), Sizes(), Sizes(0, 7), Sizes(3))
    assert parse("x", "@8") == (Sizes(0, None, (8,)),)
    assert parse("x", [1, "2..3"]) == (Sizes(1, 1), Sizes(2, 3))
    assert parse("x", 5) == (Sizes(5, 5),)
    assert [str(s) for s in parse("x", "1..512@32:128,4,?,3..")] == ["1..512@32:128", "4", "?", "3.."]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {"q": 3},
            r"no input and no symbol is called 'q'; the inputs are 'x' f32\[b,k,8\].*symbols are 'b', 'k', 'z_1'",
        ),
        ({"k": "5..2"}, r"shape of 'k': expected a range that is not empty, got '5..2'"),
        ({"k": "1..4@9"}, r"shape of 'k': expected versions inside of the range 1..4, got 9"),
        ({"k": "many"}, r"shape of 'k': expected a size such as 128, .*, got 'many'"),
        ({"k": "1,2"}, r"symbol 'k': expected one size, got 1,2"),
        ({"k": [-1]}, r"expected sizes of at least 0"),
        ({"x": [1, 2]}, r"input 'x': expected 3 sizes for f32\[b,k,8\], got 1,2"),
        ({"x": "?,?,9"}, r"input 'x': dimension 2 is 8 in the model and cannot be 9; .*symbols are 'b', 'k', 'z_1'"),
        ({"x": "1,2,8", "b": 2}, r"symbol 'b' is given as 1 and as 2"),
        ({"b": "..9@1:2:3:4:5:6:7", "k": "@1:2:3:4:5:6:7"}, r"expected at most 48 versions, got 49"),
    ],
)
def test_what_contradicts_the_model_is_one_clear_error(shapes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PlanishError, match=message):
        compile_file(network(), tmp_path / "net.so", shapes=shapes)
    assert not (tmp_path / "net.so").exists()


def test_equal_symbols_must_fit_each_other(tmp_path: Path) -> None:
    with pytest.raises(PlanishError, match=r"input 'z': dimension 1, 'z_1': the operators fit only if it is k"):
        compile_file(network(), tmp_path / "net.so", shapes={"k": "1..4", "z_1": "6..9"})
    fixed = make([node("Add", ["x", "c"])], {"x": info("x", ["n"])}, constants={"c": rand(3)})
    with pytest.raises(PlanishError, match=r"dimension 0, 'n': the operators fit only if it is 3, it cannot be 4..9"):
        compile_file(fixed, tmp_path / "net.so", shapes={"n": "4..9"})


def test_symbols_are_fixed_by_their_name() -> None:
    source = open_model(network())
    assert resolve(source, {"b": 1, "k": "3..5"}).fixed == {"b": (1,)}
    types = [str(p.type) for p in source.read(shapes={"b": [1], "k": [5]}).main.params]
    assert types == ["f32[1,5,8]", "f32[1,5,8]"]


def test_passes_know_the_range() -> None:
    with symbol_bounds({"n": (1, 512)}):
        assert symbol_range("n") == (1, 512)
        assert symbol_range("n", 2) == (2, 512)
        assert (sym("n") * 2).bounds(symbol_ranges(sym("n"))) == (2, 1024)
        assert bounds_given(["m", "n"]) == (("n", (1, 512)),)
    assert symbol_range("n") == (0, None)
