"""Operators whose results only the run can size, random numbers, and operators on strings: host operations."""

from __future__ import annotations

from typing import Any

from ...ir.core import Value
from ...ir.ops.host import random, strings, tensors
from ...ir.ops.shape import Reshape
from ...ir.types import TensorType, broadcast
from .node import Node, converter
from .scope import Known


@converter("NonZero")
def nonzero(node: Node) -> Value:
    """NonZero."""
    return node.host(tensors.NonZero, _ranked(node, 0), (node.size("count"),))[0]


def _ranked(node: Node, index: int) -> Value:
    node.rank(index)
    return node.value(index)


@converter("Compress")
def compress(node: Node) -> Value:
    """Compress."""
    axis = node.axis(node.integer("axis"), node.rank(0)) if node.has_attribute("axis") else None
    return node.host(tensors.Compress, node.value(0), node.value(1), axis, (node.size("count"),))[0]


@converter("Unique")
def unique(node: Node) -> tuple[Value, ...]:
    """Unique."""
    axis = node.axis(node.integer("axis"), node.rank(0)) if node.has_attribute("axis") else None
    return node.host(tensors.Unique, _ranked(node, 0), axis, node.integer("sorted", 1), (node.size("count"),))


@converter("NonMaxSuppression")
def nms(node: Node) -> Value:
    """NonMaxSuppression."""
    rest = [node.optional(i) for i in (2, 3, 4)]
    args = (node.value(0), node.value(1), *rest, node.integer("center_point_box", 0), (node.size("count"),))
    return node.host(tensors.NonMaxSuppression, *args)[0]


# -- random numbers -------------------------------------------------------------------------------------------------


def _seed(node: Node) -> float | None:
    return node.real("seed") if node.has_attribute("seed") else None


@converter("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
def random_(node: Node) -> Value:
    """Random numbers in a given shape, or that of an input."""
    if node.op_type.endswith("Like"):
        dims, default = node.shape(0), node.type(0).dtype
    else:
        dims, default = tuple(node.ints("shape")), "f32"
    dtype = node.dtype(node.integer("dtype")) if node.has_attribute("dtype") else default
    shape, types = node.scope.materialise(Known.of(list(dims))), [TensorType(dtype, tuple(dims))]
    if node.op_type.startswith("RandomNormal"):
        args = (shape, dtype, node.real("mean", 0.0), node.real("scale", 1.0), _seed(node))
        return node.host(random.RandomNormal, *args, types=types)[0]
    args = (shape, dtype, node.real("low", 0.0), node.real("high", 1.0), _seed(node))
    return node.host(random.RandomUniform, *args, types=types)[0]


@converter("Bernoulli")
def bernoulli(node: Node) -> Value:
    """Bernoulli."""
    dtype = node.dtype(node.integer("dtype")) if node.has_attribute("dtype") else node.type(0).dtype
    return node.host(random.Bernoulli, _ranked(node, 0), dtype, _seed(node))[0]


@converter("Multinomial")
def multinomial(node: Node) -> Value:
    """Multinomial."""
    dtype = node.dtype(node.integer("dtype", 6))
    return node.host(random.Multinomial, _ranked(node, 0), dtype, node.integer("sample_size", 1), _seed(node))[0]


# -- strings --------------------------------------------------------------------------------------------------------


@converter("StringConcat")
def string_concat(node: Node) -> Value:
    """StringConcat."""
    shape = broadcast([node.shape(0), node.shape(1)])
    if shape is None:
        raise node.error(f"expected shapes that broadcast, got {node.type(0)} and {node.type(1)}")
    types = [TensorType("string", shape)]
    return node.host(strings.StringConcat, node.value(0), node.value(1), types=types)[0]


@converter("StringSplit")
def string_split(node: Node) -> tuple[Value, ...]:
    """StringSplit."""
    delimiter = node.string("delimiter", "") or None
    most = node.integer("maxsplit") if node.has_attribute("maxsplit") else None
    return node.host(strings.StringSplit, _ranked(node, 0), delimiter, most, (node.size("parts"),))


@converter("StringNormalizer")
def string_normalizer(node: Node) -> Value:
    """StringNormalizer."""
    stop = tuple(_texts(node, "stopwords")) if node.has_attribute("stopwords") else None
    case, sensitive = node.string("case_change_action", "NONE"), node.integer("is_case_sensitive", 0)
    return node.host(strings.StringNormalizer, _ranked(node, 0), case, sensitive, stop, (node.size("count"),))[0]


def _texts(node: Node, name: str) -> list[str]:
    return [s.decode("utf-8", "replace") for s in node.attribute(name).strings]


@converter("RegexFullMatch")
def regex(node: Node) -> Value:
    """RegexFullMatch."""
    return node.host(strings.RegexMatch, node.value(0), node.string("pattern", ""))[0]


@converter("TfIdfVectorizer")
def tfidf(node: Node) -> Value:
    """TfIdfVectorizer."""
    words = node.has_attribute("pool_strings")
    pool: list[Any] = _texts(node, "pool_strings") if words else node.ints("pool_int64s")
    weights = tuple(node.floats("weights")) if node.has_attribute("weights") else None
    lengths = [node.integer(f"{m}_gram_length") for m in ("min", "max")]
    counts, indexes = tuple(node.ints("ngram_counts")), tuple(node.ints("ngram_indexes"))
    args = (*lengths, node.integer("max_skip_count"), counts, indexes, tuple(pool), weights)
    return node.host(strings.TfIdf, _ranked(node, 0), node.string("mode"), *args)[0]


@converter("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(node: Node) -> Value:
    """ArrayFeatureExtractor: a Gather along the last dimension."""
    from ...ir.ops.shape import Gather

    x, count = node.value(0), node.type(1).elements
    index = node.make(Reshape, node.value(1), (count,))
    if node.rank(0) == 1:
        x = node.make(Reshape, x, (1, *node.shape(0)))
    return node.make(Gather, x, index, len(node.dims_of(x)) - 1)
