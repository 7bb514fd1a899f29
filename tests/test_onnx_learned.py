"""Operators of ai.onnx.ml, compiled, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from planish.compile import compile
from planish.frontend.onnx.reader import read_onnx
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph

F, N = 4, 6  # features, rows
RNG = np.random.default_rng(7)
X = RNG.standard_normal((N, F)).astype(np.float32)


def _model(operator: str, outputs: Mapping[str, int], number: Any = TensorProto.FLOAT, **attributes: Any) -> bytes:
    node = helper.make_node(operator, ["x"], list(outputs), domain="ai.onnx.ml", **attributes)
    made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", number, [N, F])], made)
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()


def _agree(model: bytes, x: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = cast("list[np.ndarray]", session.run(None, {"x": x}))
    found = run_graph(read_onnx(model), {"x": x})
    for want, got in zip(wanted, found.values(), strict=True):
        assert got.shape == want.shape
        if want.dtype == object:
            assert got.tolist() == want.tolist()
        else:
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


FLOATS = [float(v) for v in RNG.standard_normal(3 * F).astype(np.float32)]
SCORES: Mapping[str, int] = {"label": TensorProto.INT64, "score": TensorProto.FLOAT}
Y: Mapping[str, int] = {"y": TensorProto.FLOAT}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Scaler", {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [2.0, 3.0, 4.0, 5.0]}),
        ("Normalizer", {"norm": "MAX"}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("Binarizer", {"threshold": 0.25}),
        ("Imputer", {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0], "replaced_value_float": float("nan")}),
        ("Imputer", {"imputed_value_floats": [9.0], "replaced_value_float": 0.5}),
        ("FeatureVectorizer", {"inputdimensions": [F]}),
        ("LinearRegressor", {"coefficients": FLOATS, "intercepts": [0.1, 0.2, 0.3], "targets": 3}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_numbers_from_numbers(operator: str, attributes: dict[str, Any]) -> None:
    x = X.copy()
    if operator == "Imputer":
        x[0, 1] = attributes["replaced_value_float"]
    if operator == "Normalizer" and attributes["norm"] == "MAX":
        x = np.abs(x)  # ONNX Runtime divides by the largest element, ONNX by the largest size
    _agree(_model(operator, Y, **attributes), x)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_classifier(transform: str) -> None:
    attributes = {"coefficients": FLOATS, "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [10, 20, 30]}
    _agree(_model("LinearClassifier", SCORES, post_transform=transform, **attributes), X)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_one_score_for_two_classes(transform: str) -> None:
    one = {"coefficients": FLOATS[:F], "intercepts": [0.1], "classlabels_ints": [3, 4]}
    _agree(_model("LinearClassifier", SCORES, post_transform=transform, **one), X)
    numbers = {"support_vectors": FLOATS, "vectors_per_class": [2, 1], "coefficients": [0.5, -1.0, 0.25], "rho": [0.1]}
    labels = {"classlabels_ints": [3, 4], "kernel_type": "RBF", "kernel_params": [0.3, 0.0, 0.0]}
    if transform in ("NONE", "LOGISTIC"):  # else ONNX Runtime differs from ONNX
        _agree(_model("SVMClassifier", SCORES, post_transform=transform, **numbers, **labels), X)


def test_labels_are_strings() -> None:
    names = {"label": TensorProto.STRING, "score": TensorProto.FLOAT}
    attributes = {"coefficients": FLOATS, "intercepts": [0.1, 0.2, 0.3], "classlabels_strings": ["a", "b", "c"]}
    _agree(_model("LinearClassifier", names, **attributes), X)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("classes", [2, 3])
def test_support_vectors(kernel: str, classes: int) -> None:
    vectors, sizes = 5, [2, 3] if classes == 2 else [2, 1, 2]
    numbers = [float(v) for v in RNG.standard_normal(vectors * F).astype(np.float32)]
    weights = [float(v) for v in RNG.standard_normal(vectors * (classes - 1)).astype(np.float32)]
    common = {"kernel_type": kernel, "kernel_params": [0.3, 0.1, 2.0], "support_vectors": numbers}
    rho = [0.1, -0.2, 0.3][: classes * (classes - 1) // 2]
    labels = [4, 5, 6][:classes]
    _agree(_model("SVMClassifier", SCORES, coefficients=weights, rho=rho, vectors_per_class=sizes,
                  classlabels_ints=labels, **common), X)  # fmt: skip
    _agree(_model("SVMRegressor", Y, coefficients=weights[:vectors], rho=[0.2], n_supports=vectors, **common), X)


def _trees(prefix: str, targets: int) -> dict[str, Any]:
    """Two trees of two levels; a leaf counts for one or two targets."""
    nodes = {
        "treeids": [0, 0, 0, 0, 0, 1, 1, 1], "nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "featureids": [0, 1, 0, 0, 0, 2, 0, 0],
        "values": [0.1, -0.2, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0], "truenodeids": [1, 3, 0, 0, 0, 1, 0, 0],
        "falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0], "missing_value_tracks_true": [1, 0, 0, 0, 0, 0, 0, 0],
        "modes": ["BRANCH_LEQ", "BRANCH_GT", "LEAF", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
    }  # fmt: skip
    entries = [(0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (1, 2)]
    return {f"nodes_{name}": values for name, values in nodes.items()} | {
        f"{prefix}_treeids": [t for t, _ in entries], f"{prefix}_nodeids": [n for _, n in entries],
        f"{prefix}_ids": [i % targets for i in range(6)], f"{prefix}_weights": [0.5, -0.25, 0.75, 0.5, -0.5, 1.0],
    }  # fmt: skip


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_trees_as_regressor(aggregate: str) -> None:
    x = X.copy()
    x[2, 0] = np.nan
    _agree(_model("TreeEnsembleRegressor", Y, n_targets=2, aggregate_function=aggregate, **_trees("target", 2)), x)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_trees_as_classifier(transform: str) -> None:
    x = X.copy()
    x[3, 0] = np.nan
    many = _trees("class", 3) | {"classlabels_int64s": [7, 8, 9], "base_values": [0.1, 0.2, 0.3]}
    _agree(_model("TreeEnsembleClassifier", SCORES, post_transform=transform, **many), x)
    two = _trees("class", 1) | {"classlabels_int64s": [7, 8]}
    _agree(_model("TreeEnsembleClassifier", SCORES, post_transform=transform, **two), x)
    positive = two | {"class_weights": [0.1, 0.2, 0.5, 0.3, 0.1, 0.1]}
    _agree(_model("TreeEnsembleClassifier", SCORES, post_transform=transform, **positive), x)


def test_categories_of_numbers() -> None:
    x = RNG.integers(0, 4, (N, F))
    _agree(_model("OneHotEncoder", Y, TensorProto.INT64, cats_int64s=[2, 0, 3], zeros=1), x)


def test_trees_compiled() -> None:
    model = _model("TreeEnsembleRegressor", Y, n_targets=2, **_trees("target", 2))
    want = run_graph(read_onnx(model), {"x": X})["y"]
    np.testing.assert_allclose(compile(model).run({"x": X})["y"], want, rtol=1e-6)


def test_a_cycle_in_a_tree_is_an_error() -> None:
    attributes = _trees("target", 2) | {"nodes_truenodeids": [0, 3, 0, 0, 0, 1, 0, 0]}
    attributes["nodes_falsenodeids"] = [1, 0, 0, 0, 0, 2, 0, 0]
    with pytest.raises(PlanishError, match="cycle"):
        read_onnx(_model("TreeEnsembleRegressor", Y, n_targets=2, **attributes))


def test_determinants_and_deformed_convolutions_of_symbolic_shape() -> None:
    det = helper.make_node("Det", ["x"], ["y"])
    graph = helper.make_graph(
        [det], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "n", "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    compiled = compile(model.SerializeToString())
    for shape in ((2, 1, 1), (3, 4, 4)):
        x = RNG.standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(compiled.run({"x": x})["y"], np.linalg.det(x), rtol=1e-4, atol=1e-5)
