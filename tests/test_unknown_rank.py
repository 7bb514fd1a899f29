"""Inputs of unknown rank: one artifact has code for every rank that fits, and says why the others do not."""

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
from planish import variants
from planish.compile import compile_file
from planish.frontend import open_model, read_model
from planish.ir.core import Module
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.ir.interp import run_graph
from planish.runtime import InputError, Model, load
from planish.runtime.session import InferenceSession

Planish = Callable[..., tuple[int, str, str]]
WEIGHTS = {"w": rand(3, 4, seed=1), "b": rand(4, seed=2)}


def pointwise() -> onnx.ModelProto:
    """Elementwise with a vector, and a sum over everything."""
    nodes = [
        node("Mul", ["x", "c"], ["scaled"]),
        node("Tanh", ["scaled"], ["t"]),
        node("ReduceSum", ["t"], ["sum"], keepdims=0),
        node("Add", ["t", "b"], ["y"]),
    ]
    return make(nodes, {"x": info("x", None)}, ("y", "sum"), {"c": np.float32(1.5), "b": rand(3)})


def dense() -> onnx.ModelProto:
    """A dense layer, which no scalar fits."""
    nodes = [node("MatMul", ["x", "w"], ["m"], name="MatMul_3"), node("Add", ["m", "b"])]
    return make(nodes, {"x": info("x", None)}, constants=WEIGHTS)


def two(op: str = "Add") -> onnx.ModelProto:
    """Two inputs of unknown rank."""
    return make([node(op, ["x", "z"], ["a"]), node("Tanh", ["a"])], {"x": info("x", None), "z": info("z", None)})


def of_rank(rank: int) -> np.ndarray:
    """An array of that rank whose last dimension is 3."""
    return rand(*[2] * (rank - 1), *[3] * (rank > 0), seed=rank)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def library(folder: Path) -> Path:
    compile_file(pointwise(), folder / "pointwise.so")
    return folder / "pointwise.so"


@pytest.fixture(scope="module")
def executable(folder: Path) -> Path:
    compile_file(pointwise(), folder / "pointwise", emit="exe")
    return folder / "pointwise"


@pytest.fixture(scope="module")
def layer(folder: Path) -> Model:
    compile_file(dense(), folder / "dense.so")
    return load(folder / "dense.so")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "MAX_RANK", 2)
        compile_file(two("MatMul"), folder / "two.so")
    return load(folder / "two.so")


def check(got: dict[str, np.ndarray], x: np.ndarray) -> None:
    want = runtime(pointwise(), {"x": x})
    for name, array in want.items():
        assert got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)


# -- one input ------------------------------------------------------------------------------------------------------


def test_one_library_runs_every_rank(library: Path) -> None:
    with load(library) as model:
        for rank in [0, 1, 2, 3, 4, 5, 6, 2, 0, 5]:
            check(model.run({"x": of_rank(rank)}), of_rank(rank))


@pytest.mark.parametrize("rank", range(7))
def test_one_executable_runs_every_rank(executable: Path, tmp_path: Path, rank: int) -> None:
    np.save(tmp_path / "x.npy", of_rank(rank))
    command = [executable, "run", "--input", f"x={tmp_path / 'x.npy'}", "-o", tmp_path / "out.npz"]
    subprocess.run(command, check=True)
    check(dict(np.load(tmp_path / "out.npz")), of_rank(rank))


def test_bound_arrays_keep_their_rank(library: Path) -> None:
    with load(library) as model:
        x = of_rank(3)
        binding = model.bind({"x": x}, {"y": np.empty_like(x)})
        check(binding.run(), x)
        with pytest.raises(InputError, match=r"output 'y': rank of the buffer: expected 2, got 3"):
            model.bind({"x": of_rank(2)}, {"y": np.empty_like(x)}).run()


def test_the_interface_leaves_the_rank_open(library: Path, executable: Path, planish: Planish) -> None:
    with load(library) as model:
        assert [(p.name, p.dtype, p.shape) for p in model.inputs] == [("x", "f32", None)]
        assert [(p.name, p.shape) for p in model.outputs] == [("y", None), ("sum", ())]
        assert model.manifest.inputs == model.inputs
        assert model.manifest.outputs == model.outputs
        assert [v.ranks for v in model.manifest.variants] == [{"x": rank} for rank in range(7)]
        assert model.manifest.variants[2].inputs[0].shape == ("x_0", 3)
        with pytest.raises(InputError, match=r"missing 'x' \(f32\[\*\]\)"):
            model.run({})
        assert InferenceSession(model).get_inputs()[0].shape == []  # as ONNX Runtime has it
    shown = subprocess.run([executable, "info"], capture_output=True, text=True, check=True).stdout
    assert "inputs    'x' f32[*]\n" in shown
    assert "ranks     'x' 0 1 2 3 4 5 6\n" in shown
    facts = json.loads(planish("inspect", library, "--json")[1])
    assert facts["inputs"] == [{"name": "x", "dtype": "f32", "shape": None}]


def test_the_executable_names_rank_and_input(executable: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1,) * 7, np.float32))
    command = [executable, "run", "--input", f"x={tmp_path / 'x.npy'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "pointwise: input 'x': rank: expected one of 0 1 2 3 4 5 6, got 7\n",
    )
    for command in ("bench", "self-test"):
        assert subprocess.run([executable, command], capture_output=True).returncode == 1


# -- ranks that do not fit ------------------------------------------------------------------------------------------


def test_a_rank_that_does_not_fit_says_why(layer: Model) -> None:
    reason = 'node "MatMul_3" (MatMul): expected operands of rank 1 or more, got f32[] and f32[3,4]'
    assert [(r.ranks, r.reason) for r in layer.manifest.refusals] == [({"x": 0}, reason)]
    with pytest.raises(InputError) as caught:
        layer.run({"x": of_rank(0)})
    assert str(caught.value) == f"input 'x': rank: expected one of 1 2 3 4 5 6, got 0: {reason}"
    for rank in range(1, 7):
        x = of_rank(rank)
        np.testing.assert_allclose(layer.run({"x": x})["y"], x @ WEIGHTS["w"] + WEIGHTS["b"], rtol=1e-5, atol=1e-5)


def test_sizes_that_the_weights_need_are_checked(layer: Model) -> None:
    with pytest.raises(InputError, match=r"input 'x': shape: expected \[x_0,3\], got \[2,4\]"):
        layer.run({"x": rand(2, 4)})


def test_weights_are_there_once(layer: Model) -> None:
    assert layer.manifest.memory.weights < 2 * 4 * (3 * 16 + 16)
    assert len(layer.manifest.variants) == 6


def test_a_model_that_fits_no_rank_is_refused(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], ["a"], perm=[1, 0]), node("Transpose", ["x"], ["b"], perm=[0, 2, 1])]
    model = make([*nodes, node("Add", ["a", "b"])], {"x": info("x", None)})
    with pytest.raises(UnsupportedError, match=r"the model fits no rank of its input 'x':\n  x of rank 0: ") as caught:
        compile_file(model, tmp_path / "x.so")
    assert len(str(caught.value).splitlines()) == 8
    unknown = make([node("Nonsense", ["x"])], {"x": info("x", None)})
    with pytest.raises(UnsupportedError, match=r"model: 1 node cannot be compiled: ai.onnx.Nonsense"):
        compile_file(unknown, tmp_path / "x.so")


# -- several inputs -------------------------------------------------------------------------------------------------


def test_two_inputs_have_code_for_pairs_of_ranks(pair: Model) -> None:
    ranks = [(v.ranks["x"], v.ranks["z"]) for v in pair.manifest.variants]
    assert ranks == [(1, 1), (2, 2), (1, 2), (2, 1)]
    for x, z in [((3,), (3,)), ((2, 3), (3, 5)), ((3,), (3, 5)), ((2, 3), (3,))]:
        a, b = rand(*x), rand(*z, seed=1)
        np.testing.assert_allclose(pair.run({"x": a, "z": b})["y"], np.tanh(a @ b), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"input 'z': dimension 0, which is 'x_0': expected 3 as in input 'x', got 4"):
        pair.run({"x": rand(3), "z": rand(4)})
    with pytest.raises(InputError, match=r"input 'z': rank: expected one of 1 2, got 0: .*rank 1 or more"):
        pair.run({"x": rand(3), "z": rand()})


def test_a_pair_that_does_not_fit_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "MAX_RANK", 1)
    nodes = [node("Unsqueeze", ["x", "at"], ["a"]), node("Concat", ["a", "z"], axis=0, name="join")]
    model = make([*nodes, node("Relu", ["z"], ["r"])], {n: info(n, None) for n in ("x", "z")}, ("y", "r"), {"at": [0]})
    compile_file(model, tmp_path / "two.so")
    with load(tmp_path / "two.so") as loaded:
        assert loaded.run({"x": rand(), "z": rand(3)})["y"].shape == (4,)
        with pytest.raises(InputError, match=r"input 'x': rank: expected one of 0, got 1"):
            loaded.run({"x": rand(3), "z": rand(3)})


def test_assignments_begin_with_equal_ranks() -> None:
    found = list(variants.assignments(2))
    assert found[:8] == [(r, r) for r in range(7)] + [(0, 1)]
    assert len(found) == len(set(found)) == variants.MOST_VARIANTS


# -- without code ---------------------------------------------------------------------------------------------------


def test_ranks_can_be_given(tmp_path: Path) -> None:
    assert open_model(dense()).unranked() == ["x"]
    assert str(read_model(dense(), ranks={"x": 3}).main.params[0].type) == "f32[x_0,x_1,3]"
    assert str(read_model(dense()).main.params[0].type) == "f32[*]"
    compile_file(dense(), tmp_path / "d.so", ranks={"x": 2})
    with load(tmp_path / "d.so") as model:
        assert model.inputs[0].shape == ("x_0", 3)
        assert not model.manifest.variants


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"q": 2}, r'ranks: no input is called "q"; the inputs are "x"'),
        ({"x": -1}, r'input "x": expected a rank in 0..32, got -1'),
        ({"x": 33}, r'input "x": expected a rank in 0..32, got 33'),
    ],
)
def test_wrong_ranks_are_refused(ranks: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(dense(), ranks=ranks)


def test_a_rank_must_agree_with_the_model() -> None:
    model = make([node("Relu", ["x"])], {"x": rand(2, 3)})
    assert str(read_model(model, ranks={"x": 2}).main.params[0].type) == "f32[2,3]"
    with pytest.raises(ModelError, match=r"it has rank 2 in the model and cannot have rank 3"):
        read_model(model, ranks={"x": 3})
    with pytest.raises(ModelError, match=r"expected a shape of rank 2, as it is given, got \[4, 3, 3\]"):
        read_model(dense(), ranks={"x": 2}, shapes={"x": [4, 3, 3]})


def test_opt_and_inspect_take_unknown_ranks(planish: Planish, tmp_path: Path) -> None:
    onnx.save(dense(), tmp_path / "d.onnx")
    status, out, _ = planish("opt", tmp_path / "d.onnx", "-p", "canonicalize,fold,cse,dce")
    assert status == 0
    assert "@main(%x: f32[*])" in out
    status, out, _ = planish("opt", tmp_path / "d.onnx", "-p", "O3", "--rank", "x=2")
    assert status == 0
    assert '%x = p.input {index = 0, label = "x"} : f32[x_0,3]' in out
    status, out, _ = planish("inspect", tmp_path / "d.onnx", "--json")
    facts = json.loads(out)
    assert facts["inputs"] == [{"name": "x", "dtype": "f32", "shape": None}]
    assert [v["ranks"] for v in facts["variants"]] == [{"x": rank} for rank in range(1, 7)]
    status, out, _ = planish("inspect", tmp_path / "d.onnx")
    assert "got f32[] and f32[3,4]" in out


def test_ordinary_models_say_nothing_of_ranks(tmp_path: Path) -> None:
    compile_file(make([node("Relu", ["x"])], {"x": info("x", ["n", 3])}), tmp_path / "x.so")
    with load(tmp_path / "x.so") as model:
        facts: dict[str, Any] = json.loads(model._core.manifest_text())
        assert not {"variants", "refusals"} & facts.keys()


def test_artifacts_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        onnx.save(dense(), tmp_path / name / "d.onnx")
        compile_file(tmp_path / name / "d.onnx", tmp_path / name / "d.so")
    assert (tmp_path / "a" / "d.so").read_bytes() == (tmp_path / "b" / "d.so").read_bytes()


# -- equations of dimensions ----------------------------------------------------------------------------------------


def types(module: Module) -> list[str]:
    return [str(p.type) for p in module.main.params]


def test_sizes_that_operators_need_are_in_the_inputs() -> None:
    x, z = info("x", ["n", "k"]), info("z", ["j", "m"])
    assert types(read_model(make([node("MatMul", ["x", "w"])], {"x": x}, constants=WEIGHTS))) == ["f32[n,3]"]
    assert types(read_model(make([node("MatMul", ["x", "z"])], {"x": x, "z": z}))) == ["f32[n,j]", "f32[j,m]"]
    assert types(read_model(make([node("Add", ["x", "b"])], {"x": x}, constants=WEIGHTS))) == ["f32[n,4]"]


def test_only_dimensions_without_a_name_are_taken_to_be_equal_by_broadcasting() -> None:
    x, z = info("x", ["n", 3]), info("z", [None, 3])
    assert types(read_model(make([node("Add", ["x", "z"])], {"x": x, "z": z}))) == ["f32[n,3]", "f32[n,3]"]
    named = read_model(make([node("Add", ["x", "z"])], {"x": x, "z": info("z", ["m", 3])}))
    assert types(named) == ["f32[n,3]", "f32[m,3]"]  # either may be 1, or both are equal: the run says
    x, z = np.ones((1, 3), np.float32), np.ones((4, 3), np.float32)
    assert run_graph(named, {"x": x, "z": z})["y"].shape == (4, 3)
    with pytest.raises(PlanishError, match="the shapes do not fit"):
        run_graph(named, {"x": np.ones((2, 3), np.float32), "z": z})


def test_equations_that_contradict_each_other_are_refused() -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Add", ["x", "c"])]
    model = make(nodes, {"x": info("x", ["n"])}, ("a", "y"), {"b": rand(3), "c": rand(5)})
    with pytest.raises(ModelError, match=r"expected shapes that broadcast, got f32\[3\], f32\[5\]"):
        read_model(model)


def test_a_matrix_that_is_too_wide_is_refused(tmp_path: Path) -> None:
    model = make([node("MatMul", ["x", "w"])], {"x": info("x", ["n", "k"])}, constants=WEIGHTS)
    compile_file(model, tmp_path / "x.so")
    with load(tmp_path / "x.so") as loaded, pytest.raises(InputError, match=r"expected \[n,3\], got \[2,300\]"):
        loaded.run({"x": rand(2, 300)})


def test_the_public_call_takes_ranks() -> None:
    with planish.compile(dense(), ranks={"x": 1}) as model:
        assert model.inputs[0].shape == (3,)
