"""Operators of ai.onnx.ml on labels and maps, compiled, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import planish
from planish.frontend.onnx import read_onnx
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph

F32, I64, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ort: Any = onnxruntime  # its annotations are incomplete


def a_map(key: int, item: int) -> Any:
    """The type of a map to scalars."""
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(item, None))


def model(operator: str, input: Any, outputs: Sequence[Any], **attributes: Any) -> bytes:
    """One node of ai.onnx.ml; types of its input and outputs."""
    names = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(operator, ["x"], names, domain="ai.onnx.ml", **attributes)
    made = [helper.make_value_info(n, t) for n, t in zip(names, outputs, strict=True)]
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", input)], made)
    version = 1 if "classes_strings" in attributes else 2
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString()


def tensor(dtype: int, *shape: int | str) -> Any:
    """The type of a tensor."""
    return helper.make_tensor_type_proto(dtype, shape or None)


def same(got: Any, want: Any, tolerance: float = 1e-6) -> None:
    """Equal values of any kind."""
    if isinstance(want, list):
        for one, other in zip(got, cast("list[Any]", want), strict=True):
            same(one, other)
    elif isinstance(want, dict):
        pairs = cast("dict[Any, Any]", want)
        assert set(got) == set(pairs)
        same([got[k] for k in pairs], list(pairs.values()))
    elif isinstance(want, np.ndarray) and want.dtype.kind == "O":
        assert np.asarray(got, object).tolist() == want.tolist()
    else:
        array = cast(Any, want)
        np.testing.assert_allclose(got, array, rtol=tolerance, atol=tolerance)
        assert np.shape(got) == np.shape(array)


def agree(made: bytes, x: Any, tolerance: float = 1e-6, wanted: list[Any] | None = None) -> None:
    """Compiled and interpreted results against ONNX Runtime's; its Python interface takes few kinds of maps, so that
    `wanted` may be given."""
    if wanted is None:
        wanted = ort.InferenceSession(made, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert wanted is not None
    compiled = planish.compile(made).run({"x": x})
    for found in (list(compiled.values()), list(run_graph(read_onnx(made), {"x": x}).values())):
        for got, want in zip(found, wanted, strict=True):
            same(got, want, tolerance)


WORDS = np.array([["cat", "dog", "?"], ["dog", "", "cat"]], object)
CATEGORIES: Mapping[str, Any] = {"cats_strings": ["cat", "dog", "cow"], "cats_int64s": [5, 6, 5]}


def test_categories() -> None:
    agree(model("CategoryMapper", tensor(TEXT, 2, 3), [tensor(I64)], **CATEGORIES, default_int64=7), WORDS)
    numbers = np.array([6, 5, 4], np.int64)
    agree(model("CategoryMapper", tensor(I64, "n"), [tensor(TEXT)], **CATEGORIES, default_string="none"), numbers)


def test_labels_of_the_first_version() -> None:
    classes = {"classes_strings": ["a", "b", "c"]}
    agree(model("LabelEncoder", tensor(TEXT, 2), [tensor(I64)], **classes), np.array(["c", "z"], object))
    agree(model("LabelEncoder", tensor(I64, 2), [tensor(TEXT)], **classes, default_string="?"), np.array([2, 9]))


def row(*values: Any) -> list[Any]:
    """One result of one row: texts, floats or integers."""
    kind: Any = object if isinstance(values[0], str) else np.float32 if isinstance(values[0], float) else np.int64
    return [np.array([values], kind)]


@pytest.mark.parametrize(
    ("key", "item", "x", "want"),
    [
        (TEXT, F32, {"a": 1.5, "z": 2.0, "c": -1.0}, None),
        (TEXT, I64, {"c": 4, "a": -3}, row(4, 0, -3)),
        (I64, F32, {30: 0.5, 10: 0.25}, None),
        (I64, TEXT, {20: "x", 99: "y"}, row("", "x", "")),
    ],
)
def test_dictionaries_as_vectors(key: int, item: int, x: dict[Any, Any], want: list[Any] | None) -> None:
    words: dict[str, Any] = (
        {"string_vocabulary": ["c", "b", "a"]} if key == TEXT else {"int64_vocabulary": [10, 20, 30]}
    )
    agree(model("DictVectorizer", a_map(key, item), [tensor(item)], **words), x, wanted=want)


@pytest.mark.parametrize(
    ("item", "target", "dtype", "x", "want"),
    [
        (F32, "TO_FLOAT", F32, {3: 1.5, 1: -2.5}, None),
        (F32, "TO_INT64", I64, {3: 1.5, 1: -2.5}, None),
        (F32, "TO_STRING", TEXT, {3: 1.5, 1: -2.5}, row("-2.5", "1.5")),
        (TEXT, "TO_STRING", TEXT, {2: "b", 0: "a"}, row("a", "b")),
        (TEXT, "TO_FLOAT", F32, {2: "1.5", 0: "-3"}, row(-3.0, 1.5)),
        (TEXT, "TO_INT64", I64, {2: "15", 0: "-3"}, row(-3, 15)),
    ],
)
def test_maps_as_tensors(item: int, target: str, dtype: int, x: dict[int, Any], want: list[Any] | None) -> None:
    agree(model("CastMap", a_map(I64, item), [tensor(dtype)], cast_to=target), x, wanted=want)
    if want is None:
        sparse = {"map_form": "SPARSE", "max_map": 5}
        agree(model("CastMap", a_map(I64, item), [tensor(dtype)], cast_to=target, **sparse), x)


def test_scores_as_maps() -> None:
    x = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    many = helper.make_sequence_type_proto(a_map(TEXT, F32))
    agree(model("ZipMap", tensor(F32, "n", 2), [many], classlabels_strings=["no", "yes"]), x)
    many = helper.make_sequence_type_proto(a_map(I64, F32))
    agree(model("ZipMap", tensor(F32, "n", 2), [many], classlabels_int64s=[7, 3]), x)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX"])
def test_support_vectors_with_probabilities(classes: int, transform: str) -> None:
    rng, features, pairs = np.random.default_rng(classes), 4, classes * (classes - 1) // 2
    sizes = [2, 1, 2, 1, 1][:classes]

    def floats(count: int) -> list[float]:
        return [float(v) for v in rng.standard_normal(count).astype(np.float32)]

    made = model(
        "SVMClassifier", tensor(F32, "n", features), [tensor(I64), tensor(F32)], kernel_type="RBF",
        kernel_params=[0.3, 0.0, 0.0], support_vectors=floats(sum(sizes) * features), vectors_per_class=sizes,
        coefficients=floats(sum(sizes) * (classes - 1)), rho=floats(pairs), prob_a=floats(pairs), prob_b=floats(pairs),
        classlabels_ints=list(range(10, 10 + classes)), post_transform=transform,
    )  # fmt: skip
    agree(made, rng.standard_normal((9, features)).astype(np.float32), 1e-5)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(PlanishError, match="expected a map to numbers or strings, got f32"):
        read_onnx(model("DictVectorizer", tensor(F32, 2), [tensor(F32)], int64_vocabulary=[1]))
    with pytest.raises(PlanishError, match="as many as labels"):
        read_onnx(model("ZipMap", tensor(F32, 1, 3), [tensor(F32)], classlabels_int64s=[1, 2]))
    with pytest.raises(PlanishError, match="expected a map from string"):
        read_onnx(model("DictVectorizer", a_map(I64, F32), [tensor(F32)], string_vocabulary=["a"]))
