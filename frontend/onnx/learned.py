"""Numeric operators of ai.onnx.ml: scaling, encoding, and linear models. Trees are in `trees`, vectors in `vectors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.core import Value
from ...ir.ops.arith import Add, Cast, Equal, Greater, IsNaN, Log, Mul, Pow, Sigmoid, Sub, Tanh, Where
from ...ir.ops.host.labels import PairProbability
from ...ir.ops.linalg import MatMul
from ...ir.ops.nn import Softmax
from ...ir.ops.reduce import ArgMax, Max, Sum
from ...ir.ops.shape import Concat, Gather, Pad, Reshape, Slice
from ...ir.types import DTYPES, is_float
from .calc import Calc
from .declared import require
from .node import Node, converter
from .windows import fixed

__all__ = ["Classes", "labelled", "post_transform", "rows_of"]
_DOMAIN = "ai.onnx.ml"


def rows_of(node: Node, index: int) -> Value:
    """An input as rows of features: a vector is one row."""
    x = node.value(index)
    if node.rank(index) == 1:
        return node.make(Reshape, x, (1, *node.shape(index)))
    if node.rank(index) != 2:
        raise node.error(f"expected rows of features, got {node.type(index)}")
    return x


def constant(node: Node, values: Sequence[float] | np.ndarray, dtype: str) -> Value:
    """Numbers of an attribute as a constant."""
    return node.literal(np.asarray(values).astype(DTYPES[dtype].numpy), dtype)


def as_float(node: Node, x: Value) -> Value:
    """Numbers as f32 where they are no floats yet."""
    return x if is_float(x.tensor.dtype) else node.make(Cast, x, "f32")


@dataclass(frozen=True)
class Classes:
    """The labels of a classifier: integers or strings."""

    labels: np.ndarray

    @classmethod
    def read(cls, node: Node, integers: str) -> Classes:
        """Labels from the attribute `integers`, or from `classlabels_strings`."""
        if node.has_attribute("classlabels_strings") and node.attribute("classlabels_strings").strings:
            texts = [s.decode("utf-8", "replace") for s in node.attribute("classlabels_strings").strings]
            return cls(np.array(texts, np.object_))
        return cls(np.array(node.ints(integers, [0, 1]), np.int64))

    @property
    def count(self) -> int:
        """How many there are."""
        return self.labels.size

    def pick(self, node: Node, index: Value) -> Value:
        """The labels at `index` (i64)."""
        return node.make(Gather, node.literal(self.labels), index, 0)


def labelled(
    node: Node, scores: Value, classes: Classes, transform: str, *, least: float = 0.0, complement: bool = False
) -> tuple[Value, Value]:
    """Labels and scores of a classifier from raw scores [n, classes]. A single column for two classes is the score of
    the second one, which wins above `least`; the other's is what is missing to 1 (`complement`), or the negative."""
    s = Calc(node, scores)
    if node.dims_of(scores)[1] != 1 or classes.count > 2:
        index = node.make(ArgMax, scores, 1, False)
        return classes.pick(node, index), post_transform(node, scores, transform)
    wins = (s > least).cast("i64").reshaped(node.dims_of(scores)[0])
    label = classes.pick(node, wins.value) if classes.count == 2 else wins.value
    return label, pair_of(node, s, transform, complement)


def pair_of(node: Node, s: Calc, transform: str, complement: bool = False) -> Value:
    """Scores of two classes from that of the second one [n, 1]. Of the transforms only LOGISTIC and PROBIT apply to
    such a score, as ONNX Runtime has it."""
    if transform == "PROBIT":
        return post_transform(node, s.value, transform)
    logistic = transform == "LOGISTIC"
    first = 1.0 - s if complement and not logistic else -s
    both = node.make(Concat, (first.value, s.value), 1)
    return post_transform(node, both, transform) if logistic else both


def post_transform(node: Node, scores: Value, name: str) -> Value:
    """What a model does with its scores at the end. Source: ai.onnx.ml, attribute post_transform."""
    s = Calc(node, scores)
    match name:
        case "NONE":
            return scores
        case "SOFTMAX":
            return node.make(Softmax, scores, 1)
        case "LOGISTIC":
            return node.make(Sigmoid, scores)
        case "SOFTMAX_ZERO":  # scores of 0 stay 0
            most = Calc(node, node.make(Max, scores, (1,), True))
            small = s.abs() <= 1e-7
            e = small.where(s * (-most).exp(), (s - most).exp())
            total = Calc(node, node.make(Sum, e.value, (1,), True))
            return total.equals(0).where(s * 0.0 + 0.5, e / total.equals(0).where(total * 0.0 + 1.0, total)).value
        case "PROBIT":
            return _probit(s).value
        case _:
            raise node.error(f"post_transform: unknown transform {name!r}")


def _probit(s: Calc) -> Calc:
    """The quantile of the normal distribution, in the approximation that ONNX gives (after Winitzki)."""
    x = s * 2.0 - 1.0
    inside = (1.0 - x) * (x + 1.0)
    log = Calc(s.node, s.node.make(Log, inside.equals(0).where(inside * 0.0 + 1.0, inside).value))
    v = log * 0.5 + 2.0 / (np.pi * 0.147)
    root = ((v * v - log * (1 / 0.147)).sqrt() - v).sqrt()
    sign = (x < 0).where(root * 0.0 - 1.0, root * 0.0 + 1.0)
    return inside.equals(0).where(root * 0.0, sign * root * 1.41421356)


# -- linear models --------------------------------------------------------------------------------------------------


def _linear(node: Node, x: Value, rows: int) -> Value:
    """`x` times the coefficients, of which there are `rows` rows, plus intercepts."""
    dtype = x.tensor.dtype
    coefficients = np.array(node.floats("coefficients"), np.float32)
    if rows < 1 or coefficients.size % rows:
        raise node.error(f"coefficients: expected a multiple of {rows}, got {coefficients.size}")
    y = node.make(MatMul, x, constant(node, coefficients.reshape(rows, -1).T, dtype))
    intercepts = node.floats("intercepts", [])
    return node.make(Add, y, constant(node, intercepts, dtype)) if intercepts else y


@converter("LinearRegressor", domain=_DOMAIN)
def linear_regressor(node: Node) -> Value:
    """LinearRegressor."""
    y = _linear(node, as_float(node, rows_of(node, 0)), node.integer("targets", 1))
    return post_transform(node, y, node.string("post_transform", "NONE"))


@converter("LinearClassifier", domain=_DOMAIN)
def linear_classifier(node: Node) -> tuple[Value, Value]:
    """LinearClassifier."""
    x, classes = as_float(node, rows_of(node, 0)), Classes.read(node, "classlabels_ints")
    features = fixed(node, node.dims_of(x)[1], "the number of features")
    rows = len(node.floats("coefficients")) // max(features, 1)
    return labelled(node, _linear(node, x, rows), classes, node.string("post_transform", "NONE"), complement=True)


# -- preparation ----------------------------------------------------------------------------------------------------


@converter("Scaler", domain=_DOMAIN)
def scaler(node: Node) -> Value:
    """Scaler: `(x - offset) * scale`, one of each for all features or for each."""
    x = as_float(node, node.value(0))
    dtype = x.tensor.dtype
    shifted = node.make(Sub, x, constant(node, _each(node.floats("offset", [0.0])), dtype))
    return node.make(Mul, shifted, constant(node, _each(node.floats("scale", [1.0])), dtype))


def _each(values: Sequence[float]) -> np.ndarray:
    """One number for all as a scalar, else one for each feature."""
    return np.array(values[0] if len(values) == 1 else values)


@converter("Normalizer", domain=_DOMAIN)
def normalizer(node: Node) -> Value:
    """Normalizer: rows divided by their largest element, sum of sizes, or length."""
    x = Calc(node, as_float(node, rows_of(node, 0)))
    norm = node.string("norm", "MAX")
    sized = x * x if norm == "L2" else x.abs()
    if norm not in ("MAX", "L1", "L2"):
        raise node.error(f"norm: expected MAX, L1 or L2, got {norm!r}")
    total = Calc(node, node.make(Max if norm == "MAX" else Sum, sized.value, (1,), True))
    total = total.sqrt() if norm == "L2" else total
    y = x / total.maximum(1e-30)
    return y.value if y.dtype == "f32" else node.make(Cast, y.value, "f32")


@converter("Binarizer", domain=_DOMAIN)
def binarizer(node: Node) -> Value:
    """Binarizer: 1 above the threshold, else 0."""
    x = node.value(0)
    dtype, threshold = x.tensor.dtype, node.real("threshold", 0.0)
    if is_float(dtype):
        return node.make(Cast, node.make(Greater, x, constant(node, np.array(threshold), dtype)), dtype)
    above = node.make(Greater, node.make(Cast, x, "f64"), constant(node, np.array(threshold), "f64"))
    return node.make(Cast, above, dtype)


@converter("Imputer", domain=_DOMAIN)
def imputer(node: Node) -> Value:
    """Imputer: another value in place of a missing one (NaN, or a given one)."""
    x = node.value(0)
    dtype = x.tensor.dtype
    if is_float(dtype):
        values, missing = node.floats("imputed_value_floats"), node.real("replaced_value_float", float("nan"))
    else:
        values, missing = node.ints("imputed_value_int64s"), node.integer("replaced_value_int64", 0)
    if np.isnan(missing):
        absent = node.make(IsNaN, x)
    else:
        absent = node.make(Equal, x, constant(node, np.array(missing), dtype))
    return node.make(Where, absent, constant(node, _each(values), dtype), x)


@converter("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(node: Node) -> Value:
    """OneHotEncoder: f32 along a new last dimension; values that are in no category give zeros."""
    x = node.value(0)
    if x.tensor.dtype == "string":
        values = [s.decode("utf-8", "replace") for s in node.attribute("cats_strings").strings]
        categories = node.literal(np.array(values, np.object_))
    else:
        x = x if x.tensor.dtype == "i64" else node.make(Cast, x, "i64")
        categories = node.literal(np.array(node.ints("cats_int64s"), np.int64))
    hit = node.make(Equal, node.make(Reshape, x, (*node.shape(0), 1)), categories)
    y = node.make(Cast, hit, "f32")
    if node.integer("zeros", 1):
        return y
    found = node.make(Sum, y, (node.rank(0),), False)
    return require(node, y, Calc(node, found) > 0)


@converter("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(node: Node) -> Value:
    """FeatureVectorizer: inputs side by side, each cut or filled with zeros to so many features, as f32."""
    parts: list[Value] = []
    for i, width in enumerate(node.ints("inputdimensions")):
        x = node.value(i)
        if node.rank(i) == 1:
            x = node.make(Reshape, x, (*node.shape(i), 1))
        rows, have = node.dims_of(x)
        x = x if x.tensor.dtype == "f32" else node.make(Cast, x, "f32")
        size = fixed(node, have, "the number of features")
        if size > width:
            x = node.make(Slice, x, (0, 0), (rows, width), (1, 1))
        elif size < width:
            x = node.make(Pad, x, None, ((0, 0), (0, width - size)), "constant")
        parts.append(x)
    if not parts:
        raise node.error("expected at least one input")
    return parts[0] if len(parts) == 1 else node.make(Concat, tuple(parts), 1)


# -- support vectors ------------------------------------------------------------------------------------------------


def _kernel(node: Node, x: Value, vectors: np.ndarray) -> Calc:
    """How alike each row of `x` is to each support vector: [n, vectors]."""
    dtype = x.tensor.dtype
    gamma, constant_term, degree = [*node.floats("kernel_params", [0.0, 0.0, 0.0]), 0.0, 0.0, 0.0][:3]
    kind = node.string("kernel_type", "LINEAR")
    if kind == "RBF":
        rows, width = node.dims_of(x)
        apart = Calc(node, x).reshaped(rows, 1, width) - Calc(node, constant(node, vectors, dtype))
        return (Calc(node, node.make(Sum, (apart * apart).value, (2,), False)) * -gamma).exp()
    product = Calc(node, node.make(MatMul, x, constant(node, vectors.T, dtype)))
    match kind:
        case "LINEAR":
            return product
        case "POLY":
            moved = product * gamma + constant_term
            return Calc(node, node.make(Pow, moved.value, constant(node, np.array(int(degree)), dtype)))
        case "SIGMOID":
            return Calc(node, node.make(Tanh, (product * gamma + constant_term).value))
        case _:
            raise node.error(f"kernel_type: expected LINEAR, POLY, RBF or SIGMOID, got {kind!r}")


@converter("SVMRegressor", domain=_DOMAIN)
def svm_regressor(node: Node) -> Value:
    """SVMRegressor; with `one_class` the sign."""
    x, count = as_float(node, rows_of(node, 0)), node.integer("n_supports", 0)
    coefficients = np.array(node.floats("coefficients"), np.float32)
    if count:
        similar = _kernel(node, x, np.array(node.floats("support_vectors"), np.float32).reshape(count, -1)).value
    else:
        similar = x
    y = node.make(MatMul, similar, constant(node, coefficients.reshape(-1, 1), x.tensor.dtype))
    y = node.make(Add, y, constant(node, np.array(node.floats("rho")[0]), x.tensor.dtype))
    if node.integer("one_class", 0):
        y = (Calc(node, y) > 0).cast(x.tensor.dtype).value
        y = (Calc(node, y) * 2.0 - 1.0).value
    return post_transform(node, y, node.string("post_transform", "NONE"))


@converter("SVMClassifier", domain=_DOMAIN)
def svm_classifier(node: Node) -> tuple[Value, Value]:
    """SVMClassifier: every pair of classes votes; without support vectors a linear model. `prob_a` and `prob_b` make
    probabilities of its scores."""
    x, classes = as_float(node, rows_of(node, 0)), Classes.read(node, "classlabels_ints")
    sizes, rho = node.ints("vectors_per_class", []), np.array(node.floats("rho"), np.float32)
    coefficients = np.array(node.floats("coefficients"), np.float32)
    dtype, transform = x.tensor.dtype, node.string("post_transform", "NONE")
    if not sum(sizes):
        y = node.make(MatMul, x, constant(node, coefficients.reshape(classes.count, -1).T, dtype))
        return labelled(node, node.make(Add, y, constant(node, np.array(rho[0]), dtype)), classes, transform)
    similar = _kernel(node, x, np.array(node.floats("support_vectors"), np.float32).reshape(sum(sizes), -1))
    weights, first, second = _duels(sizes, coefficients.reshape(-1, sum(sizes)))
    scores = Calc(node, node.make(MatMul, similar.value, constant(node, weights, dtype)))
    scores = scores + Calc(node, constant(node, rho, dtype))
    won = (scores > 0).cast(dtype)
    votes = Calc(node, node.make(MatMul, won.value, constant(node, first, dtype)))
    votes = votes + Calc(node, node.make(MatMul, (1.0 - won).value, constant(node, second, dtype)))
    label = classes.pick(node, node.make(ArgMax, votes.value, 1, False))
    if node.floats("prob_a", []):
        return label, post_transform(node, _probabilities(node, scores, classes.count), transform)
    if weights.shape[1] == 1:
        pair = node.make(Concat, ((-scores).value, scores.value), 1)
        return label, post_transform(node, pair, transform)
    return label, post_transform(node, scores.value, transform)


def _probabilities(node: Node, scores: Calc, classes: int) -> Value:
    """Probabilities of the classes from the scores of their pairs [n, pairs], by logistic functions (Platt)."""
    a, b = (np.array(node.floats(f"prob_{name}", []), np.float32) for name in "ab")
    pairs = classes * (classes - 1) // 2
    if not a.size == b.size == pairs:
        raise node.error(f"prob_a, prob_b: expected {pairs} numbers, one for each pair, got {a.size} and {b.size}")
    slope, shift = (Calc(node, constant(node, v, scores.dtype)) for v in (a, b))
    against = Calc(node, node.make(Sigmoid, (-(scores * slope + shift)).value)).cast("f32")
    return node.host(PairProbability, against.value, classes)[0]


def _duels(sizes: Sequence[int], coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pair of classes the weights of all support vectors [vectors, pairs], and which class it votes for when
    it is above 0, and when not [pairs, classes]."""
    starts = np.cumsum([0, *sizes])
    pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
    weights = np.zeros((starts[-1], len(pairs)), np.float32)
    first, second = np.zeros((len(pairs), len(sizes))), np.zeros((len(pairs), len(sizes)))
    for n, (i, j) in enumerate(pairs):
        own, other = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[own, n], weights[other, n] = coefficients[j - 1, own], coefficients[i, other]
        first[n, i], second[n, j] = 1, 1
    return weights, first, second
