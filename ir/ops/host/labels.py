"""Host operations between labels, numbers and maps. Source: ai.onnx.ml CategoryMapper, DictVectorizer, CastMap, ZipMap,
SVMClassifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ...core import Value
from ...errors import PlanishError, expect
from ...expr import sym
from ...types import DTYPES, MapType, SequenceType, TensorType, Type
from .base import HostOp, a_size, words

__all__ = ["CastMap", "CategoryMapper", "DictVectorizer", "PairProbability", "ZipMap"]


def array_of(values: Sequence[Any], dtype: str, shape: Sequence[int]) -> Any:
    """Python values as an array of an element type; strings as objects."""
    array = np.empty(len(values), DTYPES[dtype].numpy)
    array[:] = values
    return array.reshape(shape)


def _map_of(value: Value) -> MapType:
    """The type of a map to numbers or strings."""
    expect(isinstance(value.type, MapType), f"expected a map, got {value.type}")
    assert isinstance(value.type, MapType)
    expect(isinstance(value.type.item, TensorType), f"expected a map to numbers or strings, got {value.type}")
    return value.type


class CategoryMapper(HostOp, name="host.category_mapper"):
    """The number of each string (`x` is strings), or the string of each number (`x` is i64)."""

    function: ClassVar[str] = "category_mapper"
    x: Value
    cats_int64s: tuple[int, ...]
    cats_strings: tuple[str, ...]
    default_int64: int = -1
    default_string: str = "_Unused"

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        expect(x.dtype in ("string", "i64"), f"expected strings or i64, got {x}")
        expect(len(self.cats_int64s) == len(self.cats_strings), "expected as many integers as strings")
        return [TensorType("i64" if x.dtype == "string" else "string", x.shape)]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0])
        keys, values, default = self.cats_int64s, self.cats_strings, self.default_string
        if x.dtype.kind in "OUS":
            keys, values, default = values, keys, self.default_int64
        table = dict(zip(keys, values, strict=True))
        found: list[Any] = [table.get(v, default) for v in x.reshape(-1).tolist()]
        return array_of(found, self.results[0].tensor.dtype, x.shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("cat", "?")], (5, 6), ("cat", "dog"))
        yield cls.sample([np.array([6, 7])], (5, 6), ("cat", "dog"))


class DictVectorizer(HostOp, name="host.dict_vectorizer"):
    """The values of the keys in `vocabulary`, 0 or "" for those that the map has not: [1, keys]."""

    function: ClassVar[str] = "dict_vectorizer"
    x: Value
    vocabulary: tuple[Any, ...]

    def infer(self) -> Sequence[Type]:
        type = _map_of(self.x)
        words = "string" if all(isinstance(v, str) for v in self.vocabulary) else "i64"
        expect(type.key == words, f"expected a map from {words}, like the vocabulary, got {type}")
        assert isinstance(type.item, TensorType)
        return [TensorType(type.item.dtype, (1, len(self.vocabulary)))]

    def reference(self, *operands: Any) -> Any:
        dtype = self.results[0].tensor.dtype
        nothing: Any = "" if dtype == "string" else 0
        values = [operands[0].get(v, nothing) for v in self.vocabulary]
        return array_of(values, dtype, (1, len(values)))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([{"a": np.float32(1.5), "z": np.float32(2)}], ("z", "b", "a"))
        yield cls.sample([{7: "x"}], (7, 8))


class CastMap(HostOp, name="host.cast_map"):
    """The values of a map from i64 in the order of its keys: [1, entries] (DENSE), or each at the place that its key
    is, zeros or "" between them: [1, `max_map`] (SPARSE). `dtype`: numbers are converted to it."""

    function: ClassVar[str] = "cast_map"
    x: Value
    dtype: str
    map_form: str = "DENSE"
    max_map: int = 1
    sizes: tuple[str, ...] = ()

    def infer(self) -> Sequence[Type]:
        type = _map_of(self.x)
        assert isinstance(type.item, TensorType)
        expect(type.key == "i64", f"expected a map from i64, got {type}")
        texts = (type.item.dtype == "string", self.dtype == "string")
        expect(texts[0] == texts[1], f"expected {self.dtype}, got {type}; cast the result")
        dense = self.map_form != "SPARSE"
        return [TensorType(self.dtype, (1, sym(self.sizes[0]) if dense else self.max_map))]

    def reference(self, *operands: Any) -> Any:
        pairs: list[tuple[int, Any]] = sorted((int(k), v) for k, v in operands[0].items())
        if self.map_form != "SPARSE":
            return array_of([v for _, v in pairs], self.dtype, (1, len(pairs)))
        values: list[Any] = ["" if self.dtype == "string" else 0] * self.max_map
        for key, value in pairs:
            if not 0 <= key < self.max_map:
                raise PlanishError(f"keys: expected 0 to {self.max_map - 1}, got {key}")
            values[key] = value
        return array_of(values, self.dtype, (1, self.max_map))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = {3: np.float32(1.5), 1: np.float32(-2)}
        yield cls.sample([x], "f32", "DENSE", 1, (a_size(),))
        yield cls.sample([x], "i64", "SPARSE", 5)
        yield cls.sample([{2: "b", 0: "a"}], "string", "SPARSE", 4)


class ZipMap(HostOp, name="host.zip_map"):
    """A map from labels to the numbers of each row: f32[n, labels], or [labels] -> seq(map(label, f32))."""

    function: ClassVar[str] = "zip_map"
    x: Value
    labels: tuple[Any, ...]

    def infer(self) -> Sequence[Type]:
        x = self.x.tensor
        fits = x.shape is None or (len(x.shape) in (1, 2) and x.shape[-1] == len(self.labels))
        expect(x.dtype == "f32" and fits, f"expected f32[n,{len(self.labels)}], as many as labels, got {x}")
        key = "string" if all(isinstance(v, str) for v in self.labels) else "i64"
        return [SequenceType(MapType(key, TensorType("f32", ())))]

    def reference(self, *operands: Any) -> Any:
        rows = np.asarray(operands[0]).reshape(-1, len(self.labels))
        return [dict(zip(self.labels, row, strict=True)) for row in rows]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = np.array([[0.25, 0.75], [1, 0]], np.float32)
        yield cls.sample([x], ("no", "yes"))
        yield cls.sample([x[0]], (7, 3))


class PairProbability(HostOp, name="host.pair_probability"):
    """Probabilities of classes f32[n, classes] from those of each class against each later one, f32[n, pairs], by
    pairwise coupling (Wu, Lin and Weng 2004), with libsvm's limits: 100 rounds, or an error of 0.005 / classes."""

    function: ClassVar[str] = "pair_probability"
    x: Value
    classes: int

    def infer(self) -> Sequence[Type]:
        x, pairs = self.x.tensor, self.classes * (self.classes - 1) // 2
        fits = x.shape is None or (len(x.shape) == 2 and x.shape[1] == pairs)
        expect(x.dtype == "f32" and fits, f"expected f32[n,{pairs}], a column for each pair of classes, got {x}")
        return [TensorType("f32", None if x.shape is None else (x.shape[0], self.classes))]

    def reference(self, *operands: Any) -> Any:
        rows = [self._coupled(row) for row in np.asarray(operands[0], np.float64)]
        return np.array(rows, np.float32).reshape(len(rows), self.classes)

    def _coupled(self, pairs: Any) -> Any:
        k = self.classes
        r = np.zeros((k, k))
        r[np.triu_indices(k, 1)] = np.clip(pairs, 1e-7, 1 - 1e-7)
        r += np.tril(1 - r.T, -1)
        q = -r.T * r + np.diag((r * r).sum(0))
        p = np.full(k, 1 / k)
        for _ in range(100):
            if np.abs(q @ p - p @ q @ p).max() < 0.005 / k:
                break
            for i in range(k):
                p[i] += (p @ q @ p - q[i] @ p) / q[i, i]
                p /= p.sum()
        return p

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([[0.7], [0.2]], np.float32)], 2)
        yield cls.sample([np.array([[0.7, 0.4, 0.9], [0.0, 1.0, 0.5]], np.float32)], 3)
