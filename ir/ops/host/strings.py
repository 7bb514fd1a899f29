"""Host operations on strings. Source: ONNX String*, RegexFullMatch, TfIdfVectorizer, Cast, LabelEncoder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self, cast

import numpy as np

from ...constants import ConstantData
from ...core import Value
from ...expr import sym
from ...types import DTYPES, TensorType, Type, dtype_of
from .base import HostOp, a_size, words

__all__ = [
    "FromString", "LabelEncoder", "RegexMatch", "StringConcat", "StringEqual", "StringNormalizer", "StringSplit",
    "TfIdf", "ToString",
]  # fmt: skip


def _objects(values: Sequence[Any], shape: Sequence[int]) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _each(f: Any, x: Any) -> Any:
    return _objects([f(v) for v in np.asarray(x).reshape(-1)], np.shape(x))


class ToString(HostOp, name="host.to_string"):
    """Numbers as the shortest text that reads back."""

    function: ClassVar[str] = "to_string"
    x: Value

    def infer(self) -> Sequence[Type]:
        return [TensorType("string", self.x.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        return _each(_text, operands[0])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([1.5, -2.0, 1e20, np.nan, np.inf, 0.1], np.float32)])
        yield cls.sample([np.array([-7, 8])])
        yield cls.sample([np.array([True, False])])


def _text(v: Any) -> str:
    """As Python writes it: the fewest digits that read back in the number's own type."""
    if DTYPES[dtype_of(np.asarray(v))].kind != "float":
        return str(v)
    if not np.isfinite(np.float64(v)):
        return str(float(v))
    digits = next(n for n in range(1, 18) if type(v)(float(f"{float(v):.{n}g}")) == v)
    return repr(float(f"{float(v):.{digits}g}"))


class FromString(HostOp, name="host.from_string"):
    """Text as numbers."""

    function: ClassVar[str] = "from_string"
    x: Value
    dtype: str

    def infer(self) -> Sequence[Type]:
        return [TensorType(self.dtype, self.x.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        parse = float if DTYPES[self.dtype].kind == "float" else int
        values = [parse(str(v)) for v in np.asarray(operands[0]).reshape(-1)]
        return np.array(values).astype(DTYPES[self.dtype].numpy).reshape(np.shape(operands[0]))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("1.5", "-2", "1e3", "inf")], "f32")
        yield cls.sample([words("15", "-2")], "i64")


class StringConcat(HostOp, name="host.string_concat"):
    """Strings one behind the other; broadcasts. Its type is given."""

    function: ClassVar[str] = "string_concat"
    x: Value
    y: Value

    def reference(self, *operands: Any) -> Any:
        x, y = np.broadcast_arrays(*(np.asarray(o, object) for o in operands))
        return _objects([str(a) + str(b) for a, b in zip(x.reshape(-1), y.reshape(-1), strict=True)], x.shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "b"), words("x")], types=[TensorType("string", (2,))])


class StringEqual(HostOp, name="host.string_equal"):
    """Whether strings are equal: bool; broadcasts. Its type is given."""

    function: ClassVar[str] = "string_equal"
    x: Value
    y: Value

    def reference(self, *operands: Any) -> Any:
        return np.asarray(np.asarray(operands[0], object) == np.asarray(operands[1], object), np.bool_)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "b"), words("b")], types=[TensorType("bool", (2,))])


class StringSplit(HostOp, name="host.string_split"):
    """Parts of strings between delimiters ("" or absent: white space), filled up with "", and how many there are."""

    function: ClassVar[str] = "string_split"
    x: Value
    delimiter: str | None
    maxsplit: int | None
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        shape = self.x.tensor.dims
        return [TensorType("string", (*shape, sym(self.sizes[0]))), TensorType("i64", shape)]

    def reference(self, *operands: Any) -> Any:
        most = -1 if self.maxsplit is None else self.maxsplit
        parts = [str(v).split(self.delimiter or None, most) for v in np.asarray(operands[0]).reshape(-1)]
        width = max(map(len, parts), default=0)
        filled = [p for row in parts for p in [*row, *[""] * (width - len(row))]]
        shape = np.shape(operands[0])
        return _objects(filled, (*shape, width)), np.array(list(map(len, parts)), np.int64).reshape(shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words("a,b,,c", "d", "")
        yield cls.sample([x], ",", None, (a_size(),))
        yield cls.sample([x], ",", 1, (a_size(),))
        yield cls.sample([words(" a  b ", "c")], None, None, (a_size(),))


class StringNormalizer(HostOp, name="host.string_normalizer"):
    """Strings without stop words, in lower or upper case. `x` is [n] or [1, n]; nothing left gives one empty string."""

    function: ClassVar[str] = "string_normalizer"
    x: Value
    case: str
    case_sensitive: int
    stopwords: tuple[str, ...] | None
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        return [TensorType("string", (*self.x.tensor.dims[:-1], sym(self.sizes[0])))]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0], object)
        plain = str if self.case_sensitive else str.lower
        stop = {plain(s) for s in self.stopwords or ()}
        change = {"LOWER": str.lower, "UPPER": str.upper}.get(self.case, str)
        kept = [change(str(v)) for v in x.reshape(-1) if plain(str(v)) not in stop] or [""]
        return _objects(kept, (*x.shape[:-1], len(kept)))

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words("Ab", "the", "CD")
        yield cls.sample([x], "LOWER", 0, ("The",), (a_size(),))
        yield cls.sample([x], "UPPER", 1, ("The",), (a_size(),))
        yield cls.sample([x], "NONE", 1, None, (a_size(),))


class RegexMatch(HostOp, name="host.regex_match"):
    """Whether a whole string matches a pattern: bool."""

    function: ClassVar[str] = "regex_match"
    x: Value
    pattern: str

    def infer(self) -> Sequence[Type]:
        return [TensorType("bool", self.x.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0])
        found = [re.fullmatch(self.pattern, str(v)) is not None for v in x.reshape(-1)]
        return np.array(found, np.bool_).reshape(x.shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("abc", "ab1", "")], "[a-z]+")


class TfIdf(HostOp, name="host.tfidf"):
    """How often n-grams of a pool occur (TF), whether they do (IDF: times a weight), or both: TfIdfVectorizer."""

    function: ClassVar[str] = "tfidf"
    x: Value
    mode: str
    min_gram_length: int
    max_gram_length: int
    max_skip_count: int
    ngram_counts: tuple[int, ...]
    ngram_indexes: tuple[int, ...]
    pool: tuple[Any, ...]
    weights: tuple[float, ...] | None

    def infer(self) -> Sequence[Type]:
        return [TensorType("f32", (*self.x.tensor.dims[:-1], max(self.ngram_indexes, default=-1) + 1))]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0])
        rows = [self._row(list(r)) for r in x.reshape(-1, x.shape[-1])]
        return np.array(rows, np.float32).reshape(*x.shape[:-1], -1)

    def _grams(self) -> dict[tuple[Any, ...], int]:
        found: dict[tuple[Any, ...], int] = {}
        starts = [*self.ngram_counts, len(self.pool)]
        for n, (start, end) in enumerate(pairwise(starts), 1):
            for at in range(start, end, n):
                found[tuple(self.pool[at : at + n])] = len(found)
        return found

    def _row(self, row: list[Any]) -> list[float]:
        grams = self._grams()
        counts = [0.0] * (max(self.ngram_indexes, default=-1) + 1)
        for n in range(self.min_gram_length, self.max_gram_length + 1):
            for skip in range(1, (self.max_skip_count if n > 1 else 0) + 2):
                for at in range(len(row) - (n - 1) * skip):
                    number = grams.get(tuple(row[at : at + n * skip : skip]))
                    if number is not None:
                        counts[self.ngram_indexes[number]] += 1
        weights = [1.0] * len(counts)
        for number, w in enumerate(self.weights or ()):
            weights[self.ngram_indexes[number]] = w
        if self.mode == "TF":
            return counts
        return [w * (c if self.mode == "TFIDF" else float(c > 0)) for c, w in zip(counts, weights, strict=True)]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        counts, indexes, pool = (0, 2), (0, 1, 2), (1, 2, 1, 2)
        for mode, skip in (("TF", 0), ("IDF", 1), ("TFIDF", 1)):
            args = (1, 2, skip, counts, indexes, pool, (0.5, 2.0, 3.0))
            yield cls.sample([np.array([[1, 2, 1, 9, 2]])], mode, *args)
        yield cls.sample([words("b", "a", "b")], "TF", 1, 1, 0, (0,), (1, 0), ("a", "b"), None)


class LabelEncoder(HostOp, name="host.label_encoder"):
    """The value of each key; keys and values are numbers, strings or constants. Source: ai.onnx.ml LabelEncoder."""

    function: ClassVar[str] = "label_encoder"
    x: Value
    keys: Any
    values: Any
    default: Any
    dtype: str

    def infer(self) -> Sequence[Type]:
        return [TensorType(self.dtype, self.x.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0])
        keys, values = _list(self.keys), _list(self.values)
        default = _list(self.default)[0]
        table = {_key(k): v for k, v in reversed(list(zip(keys, values, strict=True)))}
        found = [table.get(_key(v), default) for v in x.reshape(-1)]
        if self.dtype == "string":
            return _objects(found, x.shape)
        return np.array(found).astype(DTYPES[self.dtype].numpy).reshape(x.shape)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "?")], ("a", "b"), (1.5, 2.5), (-1.0,), "f32")
        yield cls.sample([np.array([2, 9])], (1, 2), ("x", "y"), ("none",), "string")
        yield cls.sample([np.array([0.5, np.nan], np.float32)], (0.5, float("nan")), (1, 2), (0,), "i64")


def _list(values: Any) -> list[Any]:
    if isinstance(values, ConstantData):
        return list(values.array().reshape(-1))
    return list(cast("tuple[Any, ...]", values)) if isinstance(values, tuple | list) else [values]


def _key(v: Any) -> Any:
    if isinstance(v, str):
        return v
    return "nan" if v != v else float(v)
