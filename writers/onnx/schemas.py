"""What ONNX's operators take: the lowest operator set in which a node is valid.

Files are written for the lowest operator set from `BASE` on that has every operator and element type of the model, as
more programs read it. From `BASE` on none of the operators written here changes its meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import onnx
from onnx import TensorProto

BASE = {"": 18, "ai.onnx.ml": 3}

NUMBERS: dict[str, int] = {
    "f32": TensorProto.FLOAT, "u8": TensorProto.UINT8, "i8": TensorProto.INT8, "u16": TensorProto.UINT16,
    "i16": TensorProto.INT16, "i32": TensorProto.INT32, "i64": TensorProto.INT64, "string": TensorProto.STRING,
    "bool": TensorProto.BOOL, "f16": TensorProto.FLOAT16, "f64": TensorProto.DOUBLE, "u32": TensorProto.UINT32,
    "u64": TensorProto.UINT64, "bf16": TensorProto.BFLOAT16, "f8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "f8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ, "f8e5m2": TensorProto.FLOAT8E5M2,
    "f8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ, "u4": TensorProto.UINT4, "i4": TensorProto.INT4, "f4e2m1": 23,
    "f8e8m0": 24, "u2": 25, "i2": 26, "c64": TensorProto.COMPLEX64, "c128": TensorProto.COMPLEX128,
}  # fmt: skip
"""`TensorProto.DataType` of planish's element types; the last ones are newer than some versions of the package."""

_TEXT = {
    "f16": "float16", "bf16": "bfloat16", "f32": "float", "f64": "double", "f8e4m3fn": "float8e4m3fn",
    "f8e4m3fnuz": "float8e4m3fnuz", "f8e5m2": "float8e5m2", "f8e5m2fnuz": "float8e5m2fnuz", "f8e8m0": "float8e8m0",
    "f4e2m1": "float4e2m1", "c64": "complex64", "c128": "complex128", "bool": "bool", "string": "string",
}  # fmt: skip


def type_text(dtype: str) -> str:
    """`f32` -> `tensor(float)`, as schemas spell it."""
    name = _TEXT.get(dtype) or ("uint" if dtype[0] == "u" else "int") + dtype[1:]
    return f"tensor({name})"


@cache
def _history() -> dict[tuple[str, str], list[onnx.defs.OpSchema]]:
    found: dict[tuple[str, str], list[onnx.defs.OpSchema]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name].append(schema)
    for schemas in found.values():
        schemas.sort(key=lambda s: s.since_version)
    return found


@cache
def least_version(
    op_type: str, domain: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: tuple[str, ...]
) -> int | None:
    """The lowest operator set from `BASE` on in which the operator has these attributes and takes these element types
    ("" where it does not matter); None where there is no such set."""
    base = BASE[domain]
    schemas = _history().get((domain, op_type), [])
    now = [s for s in schemas if s.since_version <= base][-1:]
    for schema in now + [s for s in schemas if s.since_version > base]:
        if schema.deprecated or not set(attributes) <= set(schema.attributes):
            continue
        if _takes(schema, schema.inputs, inputs) and _takes(schema, schema.outputs, outputs):
            return max(base, schema.since_version)
    return None


def _takes(
    schema: onnx.defs.OpSchema, formal: Sequence[onnx.defs.OpSchema.FormalParameter], dtypes: Sequence[str]
) -> bool:
    """Whether element types fit an operator's parameters; the last one may stand for many."""
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    variadic = bool(formal) and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    for i, dtype in enumerate(dtypes):
        if i >= len(formal) and not variadic:
            return False
        name = formal[min(i, len(formal) - 1)].type_str
        if dtype and type_text(dtype) not in allowed.get(name, {name}):
            return False
    return True


__all__ = ["BASE", "NUMBERS", "least_version", "type_text"]
