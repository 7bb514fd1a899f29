"""Operations whose results only the run can size, strings, sequences, optionals, maps, random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from onnx import helper

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.ops.host import labels, random, sequences, strings, tensors
from ...ir.ops.host.base import HostOp, ShapeOf
from ...ir.types import DTYPES, OptionalType, TensorType
from .graph import Scope, Tensor, writes
from .schemas import NUMBERS
from .types import element_type, type_proto

_ML = "ai.onnx.ml"


def _dtype(value: Value) -> str:
    """The element type of a tensor; "" for anything else."""
    return value.type.dtype if isinstance(value.type, TensorType) else ""


def _made(scope: Scope, op: HostOp, name: str, inputs: Sequence[Value | None], **attributes: Any) -> list[Tensor]:
    """The node `name` with the operation's results."""
    given = [scope.maybe(v) for v in inputs]
    return scope.nodes_of(name, *given, dtypes=[_dtype(r) for r in op.results], **attributes)


@writes(ShapeOf)
def shape_of(scope: Scope, op: ShapeOf) -> Tensor:
    """Shape."""
    return scope.node("Shape", scope.of(op.x), dtype="i64")


# -- tensors ----------------------------------------------------------------------------------------------------------


@writes(tensors.NonZero, tensors.Identity)
def without_attributes(scope: Scope, op: tensors.NonZero | tensors.Identity) -> list[Tensor]:
    """NonZero and Identity."""
    return _made(scope, op, type(op).__name__, op.inputs)


@writes(tensors.HostExpand, tensors.HostTile, tensors.HostWhere)
def moved(scope: Scope, op: HostOp) -> list[Tensor]:
    """Expand, Tile and Where, with sizes that are data."""
    return _made(scope, op, type(op).__name__.removeprefix("Host"), op.inputs)


@writes(tensors.Compress)
def compress(scope: Scope, op: tensors.Compress) -> list[Tensor]:
    """Compress."""
    return _made(scope, op, "Compress", op.inputs, axis=op.axis)


@writes(tensors.Unique)
def unique(scope: Scope, op: tensors.Unique) -> list[Tensor]:
    """Unique."""
    return _made(scope, op, "Unique", op.inputs, axis=op.axis, sorted=None if op.sorted else 0)


@writes(tensors.NonMaxSuppression)
def nms(scope: Scope, op: tensors.NonMaxSuppression) -> list[Tensor]:
    """NonMaxSuppression."""
    return _made(scope, op, "NonMaxSuppression", op.operands, center_point_box=op.center_point_box or None)


@writes(tensors.Take)
def take(scope: Scope, op: tensors.Take) -> Tensor:
    """A Gather from all elements in a row with a blank behind them, which is at -1."""
    dtype = op.xs[0].tensor.dtype
    blank = np.array([""], object) if dtype == "string" else np.zeros(1, DTYPES[dtype].numpy)
    flat = [scope.node("Reshape", scope.of(x), scope.vector([-1])) for x in op.xs]
    table = scope.node("Concat", *flat, scope.constant(ConstantData.of(blank), "blank"), axis=0)
    return scope.node("Gather", table, scope.cast(scope.of(op.index), "i64"), axis=0)


@writes(tensors.HostReshape)
def reshape(scope: Scope, op: tensors.HostReshape) -> list[Tensor]:
    """Reshape."""
    return _made(scope, op, "Reshape", op.operands, allowzero=op.allowzero or None)


@writes(tensors.HostConcat, tensors.HostGather, tensors.HostGatherElements)
def along(scope: Scope, op: tensors.HostConcat | tensors.HostGather) -> list[Tensor]:
    """Concat, Gather and GatherElements."""
    return _made(scope, op, type(op).__name__.removeprefix("Host"), op.operands, axis=op.axis)


@writes(tensors.HostGatherND)
def gather_nd(scope: Scope, op: tensors.HostGatherND) -> list[Tensor]:
    """GatherND."""
    return _made(scope, op, "GatherND", op.operands, batch_dims=op.batch_dims or None)


@writes(tensors.HostSlice)
def slice_(scope: Scope, op: tensors.HostSlice) -> list[Tensor]:
    """Slice."""
    return _made(scope, op, "Slice", op.operands)


@writes(tensors.HostTranspose)
def transpose(scope: Scope, op: tensors.HostTranspose) -> list[Tensor]:
    """Transpose."""
    return _made(scope, op, "Transpose", op.operands, perm=list(op.perm) if op.perm else None)


# -- random numbers ---------------------------------------------------------------------------------------------------


def _drawn(scope: Scope, op: random.RandomUniform | random.RandomNormal, name: str, **how: Any) -> Tensor:
    """Random*Like a tensor of the given shape."""
    like = scope.node("Expand", scope.scalar(0, op.dtype), scope.of(op.shape))
    return scope.node(f"{name}Like", like, dtype=op.dtype, **how, seed=_seed(op))


def _seed(op: HostOp) -> float | None:
    seed: float | None = getattr(op, "seed", None)
    return None if seed is None else float(seed)


@writes(random.RandomUniform)
def uniform(scope: Scope, op: random.RandomUniform) -> Tensor:
    """RandomUniformLike."""
    return _drawn(scope, op, "RandomUniform", low=float(op.low), high=float(op.high))


@writes(random.RandomNormal)
def normal(scope: Scope, op: random.RandomNormal) -> Tensor:
    """RandomNormalLike."""
    return _drawn(scope, op, "RandomNormal", mean=float(op.mean), scale=float(op.scale))


@writes(random.Bernoulli)
def bernoulli(scope: Scope, op: random.Bernoulli) -> Tensor:
    """Bernoulli."""
    return scope.cast(scope.node("Bernoulli", scope.of(op.x), seed=_seed(op)), op.dtype)


@writes(random.Multinomial)
def multinomial(scope: Scope, op: random.Multinomial) -> Tensor:
    """Multinomial."""
    y = scope.node("Multinomial", scope.of(op.x), dtype="i32", sample_size=op.sample_size, seed=_seed(op))
    return scope.cast(y, op.dtype)


# -- strings ----------------------------------------------------------------------------------------------------------


@writes(strings.ToString, strings.FromString)
def string_cast(scope: Scope, op: strings.ToString | strings.FromString) -> Tensor:
    """Cast."""
    return scope.cast(scope.of(op.x), _dtype(op.result))


@writes(strings.StringConcat)
def string_concat(scope: Scope, op: strings.StringConcat) -> list[Tensor]:
    """StringConcat."""
    return _made(scope, op, "StringConcat", op.inputs)


@writes(strings.StringEqual)
def string_equal(scope: Scope, op: strings.StringEqual) -> list[Tensor]:
    """Equal."""
    return _made(scope, op, "Equal", op.inputs)


@writes(strings.StringSplit)
def string_split(scope: Scope, op: strings.StringSplit) -> list[Tensor]:
    """StringSplit."""
    return _made(scope, op, "StringSplit", op.inputs, delimiter=op.delimiter, maxsplit=op.maxsplit)


@writes(strings.StringNormalizer)
def normalizer(scope: Scope, op: strings.StringNormalizer) -> list[Tensor]:
    """StringNormalizer."""
    stop = list(op.stopwords) if op.stopwords else None
    how = {"case_change_action": op.case, "is_case_sensitive": op.case_sensitive}
    return _made(scope, op, "StringNormalizer", op.inputs, stopwords=stop, **how)


@writes(strings.RegexMatch)
def regex(scope: Scope, op: strings.RegexMatch) -> list[Tensor]:
    """RegexFullMatch."""
    return _made(scope, op, "RegexFullMatch", op.inputs, pattern=op.pattern)


@writes(strings.TfIdf)
def tfidf(scope: Scope, op: strings.TfIdf) -> list[Tensor]:
    """TfIdfVectorizer."""
    words = any(isinstance(p, str) for p in op.pool)
    how: dict[str, Any] = {
        "mode": op.mode,
        "min_gram_length": op.min_gram_length,
        "max_gram_length": op.max_gram_length,
        "max_skip_count": op.max_skip_count,
        "ngram_counts": list(op.ngram_counts),
        "ngram_indexes": list(op.ngram_indexes),
        "pool_strings" if words else "pool_int64s": list(op.pool),
        "weights": None if op.weights is None else [float(w) for w in op.weights],
    }
    return _made(scope, op, "TfIdfVectorizer", op.inputs, **how)


# -- labels and maps --------------------------------------------------------------------------------------------------


@writes(strings.LabelEncoder)
def label_encoder(scope: Scope, op: strings.LabelEncoder) -> list[Tensor]:
    """LabelEncoder: strings, i64 and f32 as lists, other numbers as tensors."""
    how: dict[str, Any] = {}
    for what, values, dtype in (("keys", op.keys, op.x.tensor.dtype), ("values", op.values, op.dtype)):
        listed = _listed(values)
        if dtype in _LISTS:
            how[f"{what}_{_LISTS[dtype]}s"] = [_python(v, dtype) for v in listed]
        else:
            how[f"{what}_tensor"] = _tensor(listed, dtype)
    (default,) = _listed(op.default)[:1]
    if op.dtype in _LISTS:
        how[f"default_{_LISTS[op.dtype]}"] = _python(default, op.dtype)
    else:
        how["default_tensor"] = _tensor([default], op.dtype)
    return _made(scope, op, "LabelEncoder", op.inputs, domain=_ML, **how)


_LISTS = {"string": "string", "i64": "int64", "f32": "float"}


def _python(value: Any, dtype: str) -> Any:
    return {"string": str, "i64": int, "f32": float}[dtype](value)


def _listed(values: Any) -> list[Any]:
    if isinstance(values, ConstantData):
        return list(values.array().reshape(-1))
    return list(cast("Sequence[Any]", values)) if isinstance(values, tuple | list) else [values]


def _tensor(values: list[Any], dtype: str) -> Any:
    return helper.make_tensor("", NUMBERS[dtype], [len(values)], np.array(values, DTYPES[dtype].numpy).tobytes(), True)


@writes(labels.CategoryMapper)
def category_mapper(scope: Scope, op: labels.CategoryMapper) -> list[Tensor]:
    """CategoryMapper."""
    cats = {"cats_int64s": list(op.cats_int64s), "cats_strings": list(op.cats_strings)}
    default = {"default_int64": op.default_int64, "default_string": op.default_string}
    return _made(scope, op, "CategoryMapper", op.inputs, domain=_ML, **cats, **default)


def _words(values: Sequence[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


@writes(labels.DictVectorizer)
def dict_vectorizer(scope: Scope, op: labels.DictVectorizer) -> list[Tensor]:
    """DictVectorizer."""
    name = "string_vocabulary" if _words(op.vocabulary) else "int64_vocabulary"
    return _made(scope, op, "DictVectorizer", op.inputs, domain=_ML, **{name: list(op.vocabulary)})


@writes(labels.CastMap)
def cast_map(scope: Scope, op: labels.CastMap) -> list[Tensor]:
    """CastMap."""
    target = {"f32": "TO_FLOAT", "i64": "TO_INT64", "string": "TO_STRING"}[op.dtype]
    how = {"cast_to": target, "map_form": op.map_form, "max_map": op.max_map}
    return _made(scope, op, "CastMap", op.inputs, domain=_ML, **how)


@writes(labels.ZipMap)
def zip_map(scope: Scope, op: labels.ZipMap) -> list[Tensor]:
    """ZipMap."""
    name = "classlabels_strings" if _words(op.labels) else "classlabels_int64s"
    return _made(scope, op, "ZipMap", op.inputs, domain=_ML, **{name: list(op.labels)})


# -- sequences and optionals ------------------------------------------------------------------------------------------


@writes(sequences.SequenceEmpty)
def empty(scope: Scope, op: sequences.SequenceEmpty) -> list[Tensor]:
    """SequenceEmpty."""
    return _made(scope, op, "SequenceEmpty", (), dtype=element_type(op.result.type))


@writes(sequences.SequenceConstruct)
def construct(scope: Scope, op: sequences.SequenceConstruct) -> list[Tensor]:
    """SequenceConstruct; without elements SequenceEmpty."""
    if not op.xs:
        return _made(scope, op, "SequenceEmpty", (), dtype=element_type(op.result.type))
    return _made(scope, op, "SequenceConstruct", op.xs)


@writes(sequences.SequenceAt, sequences.SequenceInsert, sequences.SequenceErase, sequences.SequenceLength)
def sequence(scope: Scope, op: HostOp) -> list[Tensor]:
    """SequenceAt, SequenceInsert, SequenceErase and SequenceLength."""
    return _made(scope, op, type(op).__name__, op.operands)


@writes(sequences.SplitToSequence)
def split(scope: Scope, op: sequences.SplitToSequence) -> list[Tensor]:
    """SplitToSequence."""
    keep = None if op.keepdims or op.split is not None else 0
    return _made(scope, op, "SplitToSequence", op.operands, axis=op.axis, keepdims=keep)


@writes(sequences.ConcatFromSequence)
def concat(scope: Scope, op: sequences.ConcatFromSequence) -> list[Tensor]:
    """ConcatFromSequence."""
    return _made(scope, op, "ConcatFromSequence", op.inputs, axis=op.axis, new_axis=op.new_axis or None)


@writes(sequences.OptionalMake)
def optional(scope: Scope, op: sequences.OptionalMake) -> list[Tensor]:
    """Optional; of nothing with its type."""
    type = op.result.type.item if op.x is None and isinstance(op.result.type, OptionalType) else None
    return _made(scope, op, "Optional", op.operands, type=None if type is None else type_proto(type))


@writes(sequences.OptionalHas)
def has(scope: Scope, op: sequences.OptionalHas) -> list[Tensor]:
    """OptionalHasElement."""
    return _made(scope, op, "OptionalHasElement", op.operands)


@writes(sequences.OptionalGet)
def get(scope: Scope, op: sequences.OptionalGet) -> list[Tensor]:
    """OptionalGetElement."""
    return _made(scope, op, "OptionalGetElement", op.operands)
