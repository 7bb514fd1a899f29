"""Lowerings of MindIR's primitives that MindSpore runs on other devices only, on graphs made by hand, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from _mindir_graphs import File, U, f32, text

from planish.frontend.mindir.kinds import kind_of_primitive
from planish.frontend.mindir.proto import TensorAbstract
from planish.frontend.mindir.table import functions
from planish.ir.errors import UnsupportedError
from planish.ir.interp import run_graph

X = np.array([[-1.5, 0.0, 2.0], [3.25, -4.0, 0.5]], np.float32)
Y = np.array([[2.0, -1.0, 0.5], [1.0, 3.0, -2.0]], np.float32)
I = np.array([[7, -7, 5], [-5, 2, 0]], np.int64)
GELU = 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))


def run(operator: str, inputs: list[np.ndarray], *more: Any) -> list[np.ndarray]:
    """The results of one primitive on inputs, and constants behind them."""
    file = File()
    names = {f"x{i}": TensorAbstract(f"{a.dtype.kind}{a.dtype.itemsize * 8}", a.shape) for i, a in enumerate(inputs)}
    file.graph("main", names, [("y", operator, *names, *more)], "y")
    return file.run(**dict(zip(names, inputs, strict=True)))


def strided(x: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(x, (2, 2), (4, 8))


CASES: list[tuple[str, list[np.ndarray], tuple[Any, ...], Callable[[], Any]]] = [
    ("Frac", [X], (), lambda: X - np.trunc(X)),
    ("Exp2", [X], (), lambda: np.exp2(X)),
    ("FmodTensor", [X, Y], (), lambda: np.fmod(X, Y)),
    ("FmodScalar", [I], (3,), lambda: np.fmod(I, 3)),
    ("RemainderScalarTensor", [], (7, np.array([2, 4], np.int64)), lambda: np.array([1, 3])),
    ("FloorDivScalar", [I], (2,), lambda: I // 2),
    ("DivMods", [I], (2, 1), lambda: np.trunc(I / 2).astype(np.int64)),
    ("SubScalar", [X], (3.0, 2.0), lambda: X - 6),
    ("AddcmulExt", [X, X, Y], (0.5,), lambda: X + 0.5 * X * Y),
    ("EqualExt", [X, X], (), lambda: np.array(True)),
    ("BitwiseOrScalar", [I], (4,), lambda: I | 4),
    ("LessScalar", [X], (0.0,), lambda: X < 0),
    ("NextAfter", [X, Y], (), lambda: np.nextafter(X, Y)),
    ("SumExt", [I], ((1,), False, None), lambda: I.sum(1)),
    ("ProdExt", [I], (0, True, None), lambda: I.prod(0, keepdims=True)),
    ("AnyExt", [X], (1, False), lambda: X.any(1)),
    ("ArgMinExt", [X], (1, False), lambda: X.argmin(1)),
    ("CountNonZero", [X], (1,), lambda: np.count_nonzero(X, 1)),
    ("CumsumExt", [I], (1, None), lambda: I.cumsum(1)),
    ("Norm", [X], (3.0, (1,), True, None), lambda: np.linalg.norm(X, 3, 1, True)),
    ("TraceV2", [X], (1, 0, 1, None), lambda: np.trace(X, 1)),
    ("AsStrided", [X], ((2, 2), (1, 2), 0), lambda: strided(X)),
    ("FlattenExt", [X], (0, -1), lambda: X.reshape(-1)),
    ("ExpandAs", [X[:1], Y], (), lambda: np.broadcast_to(X[:1], Y.shape)),
    ("Narrow", [X], (1, -2, 2), lambda: X[:, 1:]),
    ("SelectExtView", [X], (1, -1), lambda: X[:, -1]),
    ("SliceExt", [X], (1, 0, 3, 2), lambda: X[:, ::2]),
    ("TransposeExtView", [X], (0, 1), lambda: X.T),
    ("RepeatInterleaveInt", [X], (2, None, None), lambda: X.repeat(2)),
    ("DiagExt", [X[0]], (-1,), lambda: np.diag(X[0], -1)),
    ("DiagExt", [X[0]], (2,), lambda: np.diag(X[0], 2)),
    ("DiagExt", [X], (1,), lambda: np.diag(X, 1)),
    ("FullLike", [X], (2.0, None), lambda: np.full_like(X, 2)),
    ("FillScalar", [], ((2, 3), 1.5, 43), lambda: np.full((2, 3), 1.5, np.float32)),
    ("LinSpaceExt", [], (0.0, 1.0, 5, 43), lambda: np.linspace(0, 1, 5, dtype=np.float32)),
    ("Arange", [], (2, 9, 3, 35), lambda: np.arange(2, 9, 3)),
    ("BincountExt", [np.array([1, 3, 1])], (None, 6), lambda: np.bincount([1, 3, 1], minlength=6)),
    ("IndexFillScalar", [X], (1, np.array([0, 2]), 9.0), lambda: np.where([True, False, True], np.float32(9), X)),
    ("ReflectionPad1D", [X], ((1, 2),), lambda: np.pad(X, ((0, 0), (1, 2)), "reflect")),
    ("ReplicationPad2D", [X[None]], ((1, 0, 2, 1),), lambda: np.pad(X[None], ((0, 0), (2, 1), (1, 0)), "edge")),
    ("Cross", [X, Y], (1,), lambda: np.cross(X, Y)),
    ("Vdot", [X[0], Y[0]], (), lambda: X[0] @ Y[0]),
    ("LogAddExp2", [X, Y], (), lambda: np.logaddexp2(X, Y)),
    ("L1LossExt", [X, Y], (1,), lambda: np.abs(X - Y).mean()),
    ("MSELossExt", [X, Y], (0,), lambda: ((X - Y) ** 2).sum()),
    ("NpuGelu", [X], (text("tanh"),), lambda: GELU),
    ("MaxDim", [X], (1, False), lambda: (X.max(1), X.argmax(1))),
    ("StdMean", [X], (1, 1, False), lambda: (X.std(1, ddof=1), X.mean(1))),
    ("FFTFreq", [], (6, 0.5, None), lambda: np.fft.fftfreq(6, 0.5).astype(np.float32)),
    ("MatrixExp", [X[:, :2]], (), lambda: exponential(X[:, :2])),
]


def exponential(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(x.astype(np.complex128))
    return (vectors @ np.diag(np.exp(values)) @ np.linalg.inv(vectors)).real


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_primitive_computes_what_numpy_does(
    case: tuple[str, list[np.ndarray], tuple[Any, ...], Callable[[], Any]],
) -> None:
    operator, inputs, more, expected = case
    found = expected()
    wanted = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
    got = run(operator, inputs, *more)
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == np.shape(w)
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-6)


def test_halves_of_features_are_turned_by_rotary_positions() -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    angle = np.array([[0.1, 0.2, 0.1, 0.2]], np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    (got,) = run("RotaryPositionEmbedding", [x, cos, sin], 0)
    turned = np.concatenate([-x[..., 2:], x[..., :2]], -1)
    np.testing.assert_allclose(got, x * cos + turned * sin, rtol=1e-6)


def test_an_ellipsis_new_dimensions_and_bits_behind_an_index() -> None:
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    # x[1:, ..., None, -1]: masks have bits for entries that are not there
    (got,) = run(
        "StridedSlice", [x], (1, 0, 0, -1), (0, 0, 0, 0), (1, 1, 1, 1), 0b110000, 0b110001, 0b10, 0b100, 0b1000
    )
    np.testing.assert_array_equal(got, x[1:, ..., None, -1])


def test_what_writes_into_a_parameter_changes_it() -> None:
    file = File()
    weight = np.array([1, 2, 3], np.float32)
    file.graph("main", {"x0": f32(3)}, [
        ("y", "InplaceMul", "main:w", "x0", U), ("u", "UpdateState", U, "y"), ("z", "Load", "main:w", "u"),
        ("s", "ScatterAdd", "main:w", np.array([0]), np.array([5], np.float32), {"use_locking": False}),
        ("r", "MakeTuple", "z", "s"),
    ], "r", {"w": weight})  # fmt: skip
    module = file.module()
    assert [s.input for s in module.attributes["states"]] == ["w"]
    found = run_graph(module, {"x0": np.array([2, 2, 2], np.float32), "w": weight})
    np.testing.assert_array_equal(found["output0"], [2, 4, 6])
    np.testing.assert_array_equal(found["w.next"], [7, 4, 6])


def test_what_writes_into_another_tensor_gives_the_result() -> None:
    (got,) = run("InplaceExp", [X])
    np.testing.assert_allclose(got, np.exp(X), rtol=1e-6)


def test_primitives_without_lowering_belong_to_a_group() -> None:
    assert kind_of_primitive("TanhGrad").startswith("gradients")
    assert kind_of_primitive("DistCommAllReduce").startswith("communication")
    assert kind_of_primitive("Softmax") == "others"
    assert len(functions()) == 758


def test_all_nodes_without_lowering_are_listed_in_one_error() -> None:
    file = File()
    file.graph("main", {"x0": f32(3)}, [("y", "TanhGrad", "x0", "x0"), ("z", "AdamWeightDecay", "y")], "z")
    with pytest.raises(UnsupportedError, match=r"2 nodes cannot be compiled(.|\n)*gradients(.|\n)*steps of optimizers"):
        file.module()
