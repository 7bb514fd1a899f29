"""Small MindIR files, checkpoints and safetensors made by hand, in every version of the formats; MindSpore's own
samples."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest

SAMPLES = Path(__file__).parent.parent.parent / "shared" / "mindspore" / "samples"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"MindSpore's samples are not there: expected {SAMPLES}, which comes with the project"
)
KEY = b"0123456789ABCDEF"
NUMBERS = {
    "f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "string": 8, "bool": 9, "f16": 10, "f64": 11,
    "u32": 12, "u64": 13, "c64": 14, "c128": 15, "bf16": 16,
}  # fmt: skip
NAMES = {
    "f32": "Float32", "u8": "UInt8", "i8": "Int8", "u16": "UInt16", "i16": "Int16", "i32": "Int32", "i64": "Int64",
    "bool": "Bool", "f16": "Float16", "f64": "Float64", "u32": "UInt32", "u64": "UInt64", "bf16": "BFloat16",
}  # fmt: skip
SAFE = {
    "f32": "F32", "u8": "U8", "i8": "I8", "u16": "U16", "i16": "I16", "i32": "I32", "i64": "I64", "bool": "BOOL",
    "f16": "F16", "f64": "F64", "u32": "U32", "u64": "U64", "bf16": "BF16",
}  # fmt: skip
_DTYPES = {
    np.dtype(np.float32): "f32", np.dtype(np.float16): "f16", np.dtype(np.float64): "f64", np.dtype(np.int8): "i8",
    np.dtype(np.int16): "i16", np.dtype(np.int32): "i32", np.dtype(np.int64): "i64", np.dtype(np.uint8): "u8",
    np.dtype(np.uint16): "u16", np.dtype(np.uint32): "u32", np.dtype(np.uint64): "u64", np.dtype(np.bool_): "bool",
    np.dtype(np.complex64): "c64", np.dtype(ml_dtypes.bfloat16): "bf16",
}  # fmt: skip


# -- protobuf ---------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A number of the wire format; a negative one takes ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str | float) -> bytes:
    """One field: bytes and texts with their length, floats as 4 bytes."""
    match value:
        case float():
            return varint(number << 3 | 5) + struct.pack("<f", value)
        case int():
            return varint(number << 3) + varint(value)
        case str():
            return field(number, value.encode())
        case bytes():
            return varint(number << 3 | 2) + varint(len(value)) + value


def double(number: int, value: float) -> bytes:
    """A field of 8 bytes."""
    return varint(number << 3 | 1) + struct.pack("<d", value)


def fields(number: int, values: Sequence[int | bytes | str | float]) -> bytes:
    """A repeated field."""
    return b"".join(field(number, value) for value in values)


# -- MindIR -----------------------------------------------------------------------------------------------------------


def tensor(
    name: str = "", array: np.ndarray | None = None, *, dtype: str = "", dims: Sequence[int] = (), ref_key: str = "",
    extra: bytes = b"",
) -> bytes:  # fmt: skip
    """A tensor: with elements, or a type."""
    if array is not None:
        dtype, dims = dtype or _DTYPES[array.dtype], array.shape
        extra = field(9, array.tobytes()) + extra
    body = fields(1, dims) + field(2, NUMBERS[dtype]) + (field(7, name) if name else b"") + extra
    return body + (field(13, ref_key) if ref_key else b"")


def value(what: Any, name: str = "", inside: bool = False) -> bytes:
    """An attribute as MindSpore 2 writes it; inside a sequence scalars stand in the repeated fields."""
    head = field(1, name) if name else b""
    if isinstance(what, np.ndarray):
        return head + field(12, tensor("value0", cast("np.ndarray", what))) + field(16, 19)
    if isinstance(what, tuple | list):
        kind = 20 if isinstance(what, tuple) else 21
        items = [field(17, value(item, inside=True)) for item in cast("Sequence[Any]", what)]
        return head + field(16, kind) + b"".join(items)
    for kind, number, single, repeated in ((bool, 9, 3, 10), (int, 7, 3, 10), (float, 1, 2, 8), (str, 8, 5, 11)):
        if isinstance(what, kind):
            scalar = int(what) if isinstance(what, int) else what
            return head + field(repeated if inside else single, scalar) + field(16, number)
    assert what is None, what
    return head + field(16, 25)


MONAD = field(16, 23)


def named(name: str, body: bytes) -> bytes:
    """An attribute whose body is given, with a name."""
    return field(1, name) + body


def typed(dtype: str, *dims: int, name: str = "shape") -> bytes:
    """The inferred type of a node."""
    return field(1, name) + field(12, tensor(dtype=dtype, dims=dims)) + field(16, 19)


def node(op: str, inputs: Sequence[str], output: str, *attributes: bytes, scope: str = "Default") -> bytes:
    """A node; `op` is as in the file ("REF::Add:1")."""
    return (
        fields(1, inputs) + field(2, output) + field(3, output) + field(4, op) + fields(5, attributes) + field(7, scope)
    )


def constant(output: str, what: Any) -> bytes:
    """A constant; `what` may be a finished attribute without its name."""
    body = named("value", what) if isinstance(what, bytes) else value(what, "value")
    return node("Constant", [], output, body, scope="")


def info(name: str, dtype: str = "", *dims: int, attribute: bytes = b"", denotation: str = "") -> bytes:
    """An input or output."""
    body = field(1, name) + (field(2, tensor(dtype=dtype, dims=dims)) if dtype else b"")
    return body + (field(4, denotation) if denotation else b"") + (field(5, attribute) if attribute else b"")


def graph(
    name: str, nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[str], parameters: Sequence[bytes] = ()
) -> bytes:
    """A graph."""
    body = fields(1, nodes) + field(2, name) + fields(3, parameters) + fields(5, inputs)
    return body + fields(6, [info(output) for output in outputs])


def primitive(name: str, op: str, kind: int = 2, **attributes: Any) -> bytes:
    """An entry of the table of primitives: of function style (2) or attribute style (1)."""
    return field(1, name) + field(2, op) + fields(3, [value(v, k) for k, v in attributes.items()]) + field(5, kind)


def model(
    main: bytes, functions: Sequence[bytes] = (), primitives: Sequence[bytes] = (), version: int = 3, extra: bytes = b""
) -> bytes:
    """A file; `version` 0 is that of MindSpore 1."""
    head = field(1, "1.1" if version else "0.1.0") + field(2, "MindSpore") + field(5, "2.10.0" if version else "1.1.0")
    body = field(7, main) + fields(8, functions) + fields(12, primitives)
    return head + body + (field(13, version) if version else b"") + extra


def dense(weights: Mapping[str, np.ndarray] | None = None) -> bytes:
    """x (2, 3) times w (4, 3) transposed plus b: a whole model, whose parameters are called fc.weight and fc.bias."""
    held = weights or {"fc.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "fc.bias": np.ones(4, np.float32)}
    parameters = [tensor(f"main:{name}", array, ref_key=name) for name, array in held.items()]
    return model(dense_graph(parameters), primitives=dense_primitives())


def dense_primitives() -> list[bytes]:
    """What the nodes of `dense_graph` call."""
    return [primitive("MatMul:1", "MatMul"), primitive("BiasAdd:2", "BiasAdd"), primitive("Load:3", "Load", 1)]


def dense_graph(parameters: Sequence[bytes]) -> bytes:
    """The graph of `dense`."""
    nodes = [
        constant("u", MONAD),
        node("REF::Load:3", ["main:fc.weight", "u"], "main:w", typed("f32", 4, 3)),
        constant("no", False),
        constant("yes", True),
        node("REF::MatMul:1", ["main:x", "main:w", "no", "yes"], "main:m", typed("f32", 2, 4)),
        constant("format", 0),
        node("REF::BiasAdd:2", ["main:m", "main:fc.bias", "format"], "main:y", typed("f32", 2, 4)),
    ]
    return graph("main", nodes, [info("main:x", "f32", 2, 3)], ["main:y"], parameters)


def split(folder: Path, weights: Mapping[str, np.ndarray], key: bytes | None = None) -> Path:
    """The same with its parameters in a data file, as MindSpore writes models of more than 1 GB."""
    content, parameters, records = bytes([1]) + bytes(63), list[bytes](), list[bytes]()
    records.append(content)
    for name in sorted(weights):
        body = weights[name].tobytes()
        place = field(1, "net_variables/data_0") + field(2, len(content)) + field(3, len(body))
        array = weights[name]
        parameters.append(
            tensor(f"main:{name}", dtype=_DTYPES[array.dtype], dims=array.shape, ref_key=name, extra=field(12, place))
        )
        records.append(body + bytes(-len(body) % 64))
        content += records[-1]
    (folder / "net_variables").mkdir()
    if key is not None:
        content = b"".join(encrypted(record, key, "AES-GCM") for record in records)
    (folder / "net_variables" / "data_0").write_bytes(content)
    path = folder / "net_graph.mindir"
    whole = model(dense_graph(parameters), primitives=dense_primitives())
    path.write_bytes(whole if key is None else encrypted(whole, key, "AES-GCM"))
    return path


# -- checkpoints ------------------------------------------------------------------------------------------------------


def ckpt_tensor(array: np.ndarray, content: bytes | None = None, kind: str = "") -> bytes:
    """A tensor of a checkpoint, or one piece of it."""
    body = fields(1, array.shape) + field(2, kind or NAMES[_DTYPES[array.dtype]])
    return body + field(3, array.tobytes() if content is None else content)


def ckpt_value(name: str, content: bytes, number: int = 2) -> bytes:
    """A value of a checkpoint: its name and a tensor (2) or map (3)."""
    return field(1, field(1, name) + field(number, content))


def ckpt(tensors: Mapping[str, np.ndarray | str], piece: int = 0, crc: bool = False) -> bytes:
    """A checkpoint; tensors of more than `piece` bytes in several values, if it is not 0; texts in UTF-32."""
    body = b""
    for name, array in tensors.items():
        if isinstance(array, str):
            text = field(1, 0) + field(2, "str") + field(3, array.encode("utf-32-le"))
            body += ckpt_value(name, text)
            continue
        whole = array.tobytes()
        step = piece or max(1, len(whole))
        body += b"".join(
            ckpt_value(name, ckpt_tensor(array, whole[at : at + step])) for at in range(0, len(whole), step)
        )
    return body + (b"crc_num" + zlib.crc32(body).to_bytes(10, "big") if crc else b"")


def safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, with names in order."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    body = b""
    for name in sorted(tensors):
        array = tensors[name]
        content = array.tobytes()
        place = [len(body), len(body) + len(content)]
        header[name] = {"dtype": SAFE[_DTYPES[array.dtype]], "shape": list(array.shape), "data_offsets": place}
        body += content
    return raw_safetensors(json.dumps(header), body)


def raw_safetensors(header: str | bytes, body: bytes = b"") -> bytes:
    """A header as it is, and bytes."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + body


# -- encryption -------------------------------------------------------------------------------------------------------


def encrypted(content: bytes, key: bytes = KEY, cipher: str = "AES-GCM", old: bool = False) -> bytes:
    """One record as MindSpore writes it; `old` is that of 1.x, without a tag."""
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    iv = os.urandom(16)
    algorithm: Any = algorithms.SM4(key) if cipher == "SM4-CBC" else algorithms.AES(key)
    mode: Any = modes.GCM(iv[:12]) if cipher == "AES-GCM" else modes.CBC(iv)
    encryptor: Any = Cipher(algorithm, mode).encryptor()
    if cipher != "AES-GCM":
        padder = padding.PKCS7(128).padder()
        content = padder.update(content) + padder.finalize()
    data = encryptor.update(content) + encryptor.finalize()
    number = {"AES-GCM": 0x7F3A5ED8, "AES-CBC": 0x7F3A5ED9, "SM4-CBC": 0x7F3A5EDA}[cipher]
    tag: bytes = encryptor.tag if cipher == "AES-GCM" and not old else b""
    return struct.pack("<I", number) + tag + struct.pack("<II", 24 + len(data), 16) + iv + _counted(data)


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
