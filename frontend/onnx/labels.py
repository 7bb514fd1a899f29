"""Operators of ai.onnx.ml on labels and maps: host operations."""

from __future__ import annotations

from typing import Any

from ...ir.core import Value
from ...ir.ops.arith import Cast
from ...ir.ops.host import labels, strings
from ...ir.types import MapType, TensorType
from .node import Node, converter
from .scope import Unsupported

_DOMAIN = "ai.onnx.ml"
_TARGETS = {"TO_FLOAT": "f32", "TO_INT64": "i64", "TO_STRING": "string"}


def _texts(node: Node, name: str) -> tuple[str, ...]:
    """A list of strings in an attribute; empty where it is absent."""
    if not node.has_attribute(name):
        return ()
    return tuple(s.decode("utf-8", "replace") for s in node.attribute(name).strings)


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# -- LabelEncoder, CategoryMapper -----------------------------------------------------------------------------------


@converter("LabelEncoder", domain=_DOMAIN)
def label_encoder(node: Node) -> Value:
    """LabelEncoder of numbers and strings. In its first version strings are numbered, or numbers name strings."""
    if node.has_attribute("classes_strings"):
        return _numbered(node, tuple(range(len(_texts(node, "classes_strings")))), _texts(node, "classes_strings"))
    source, key_type = _column(node, "keys")
    target, dtype = _column(node, "values")
    if len(source) != len(target):
        raise node.error(f"expected as many values as keys, got {len(target)} and {len(source)}")
    x = node.value(0)
    if x.tensor.dtype not in (key_type, "string"):
        x = node.make(Cast, x, key_type)
    return node.host(strings.LabelEncoder, x, source, target, _default(node, dtype), dtype)[0]


@converter("CategoryMapper", domain=_DOMAIN)
def category_mapper(node: Node) -> Value:
    """CategoryMapper: strings to integers, or integers to strings."""
    numbers, words = tuple(node.ints("cats_int64s", [])), _texts(node, "cats_strings")
    if len(numbers) != len(words):
        raise node.error(f"expected as many integers as strings, got {len(numbers)} and {len(words)}")
    return _numbered(node, numbers, words)


def _numbered(node: Node, numbers: tuple[int, ...], words: tuple[str, ...]) -> Value:
    defaults = (node.integer("default_int64", -1), node.string("default_string", "_Unused"))
    return node.host(labels.CategoryMapper, node.value(0), numbers, words, *defaults)[0]


def _column(node: Node, what: str) -> tuple[tuple[Any, ...], str]:
    """Keys or values of a LabelEncoder, and their type."""
    if node.has_attribute(f"{what}_strings"):
        return _texts(node, f"{what}_strings"), "string"
    if node.has_attribute(f"{what}_int64s"):
        return tuple(node.ints(f"{what}_int64s")), "i64"
    if node.has_attribute(f"{what}_floats"):
        return tuple(node.floats(f"{what}_floats")), "f32"
    data = node.tensor(f"{what}_tensor")
    if data is None:
        raise node.error(f"expected {what}_strings, {what}_int64s, {what}_floats or {what}_tensor")
    array = data.array().reshape(-1)
    if data.dtype == "string":
        return tuple(_decoded(v) for v in array), "string"
    return tuple(v.item() for v in array), data.dtype


def _default(node: Node, dtype: str) -> Any:
    given = node.tensor("default_tensor")
    if given is not None:
        value = given.array().reshape(-1)[0]
        return (_decoded(value),) if dtype == "string" else (value.item(),)
    if dtype == "string":
        return (node.string("default_string", "_Unused"),)
    if dtype in ("f32", "f64"):
        return (node.real("default_float", -0.0),)
    return (node.integer("default_int64", -1),)


# -- maps -----------------------------------------------------------------------------------------------------------


def _map(node: Node) -> tuple[Value, str]:
    """The input, which must be a map, and the element type of its values."""
    x = node.value(0)
    if not isinstance(x.type, MapType) or not isinstance(x.type.item, TensorType):
        raise node.error(f"expected a map to numbers or strings, got {x.type}")
    return x, x.type.item.dtype


@converter("DictVectorizer", domain=_DOMAIN)
def dict_vectorizer(node: Node) -> Value:
    """DictVectorizer: the values of some keys."""
    words = _texts(node, "string_vocabulary") or tuple(node.ints("int64_vocabulary", []))
    if not words:
        raise node.error("expected string_vocabulary or int64_vocabulary")
    return node.host(labels.DictVectorizer, _map(node)[0], words)[0]


@converter("CastMap", domain=_DOMAIN)
def cast_map(node: Node) -> Value:
    """CastMap: the values of a map from integers, converted."""
    x, dtype = _map(node)
    name, form = node.string("cast_to", "TO_FLOAT"), node.string("map_form", "DENSE")
    if name not in _TARGETS or form not in ("DENSE", "SPARSE"):
        raise node.error(f"expected cast_to of {', '.join(_TARGETS)} and map_form DENSE or SPARSE, got {name}, {form}")
    target, most = _TARGETS[name], node.integer("max_map", 1)
    if form == "SPARSE" and most < 1:
        raise node.error(f"max_map: expected at least 1, got {most}")
    crossing = (dtype == "string") != (target == "string")
    if crossing and form == "SPARSE" and dtype == "string":
        raise Unsupported("a sparse map of strings as numbers", "cast its values before, or use map_form DENSE")
    sizes = () if form == "SPARSE" else (node.size("entries"),)
    y = node.host(labels.CastMap, x, dtype if crossing else target, form, most, sizes)[0]
    return node.make(Cast, y, target) if crossing else y


@converter("ZipMap", domain=_DOMAIN)
def zip_map(node: Node) -> Value:
    """ZipMap: a map from labels to scores for each row."""
    names = _texts(node, "classlabels_strings") or tuple(node.ints("classlabels_int64s", []))
    if not names:
        raise node.error("expected classlabels_strings or classlabels_int64s")
    x = node.value(0)
    return node.host(labels.ZipMap, x if x.tensor.dtype == "f32" else node.make(Cast, x, "f32"), names)[0]
