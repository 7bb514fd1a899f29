"""The protobuf wire format of an ONNX file, read just far enough to leave the weights where they are.

`skeleton` copies a model without the `raw_data` of its large initializers and says where in the file those bytes are,
so that a file of any size is parsed in milliseconds and its weights stay in the file, memory-mapped. Only three levels
are walked (model, graph, initializer), each field once; nothing here recurses.
"""

from __future__ import annotations

from typing import NamedTuple

from ..protobuf import BYTES, WireField, fields

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9  # field numbers in onnx.proto
_KEEP = 1024  # bytes of raw data up to which a tensor stays in the skeleton


class Skeleton(NamedTuple):
    """`data` parses as the model without its large weights; `raw[i]` is (offset, length) of the bytes taken out of
    initializer number i, None where nothing was."""

    data: bytes
    raw: list[tuple[int, int] | None]


def skeleton(data: bytes | memoryview) -> Skeleton:
    """Take the large weights out of a serialized ModelProto. Raises `WireError` where the bytes are no protobuf."""
    view = memoryview(data)
    raw: list[tuple[int, int] | None] = []
    parts: list[bytes] = []
    for field in fields(view, 0, len(view)):
        if field.number == _MODEL_GRAPH and field.wire == BYTES:
            parts.append(_message(_MODEL_GRAPH, _graph(view, field, raw)))
        else:
            parts.append(bytes(view[field.tag : field.end]))
    return Skeleton(b"".join(parts), raw)


def _graph(view: memoryview, graph: WireField, raw: list[tuple[int, int] | None]) -> bytes:
    parts: list[bytes] = []
    for field in fields(view, graph.start, graph.end):
        if field.number == _GRAPH_INITIALIZER and field.wire == BYTES:
            tensor, place = _tensor(view, field)
            raw.append(place)
            parts.append(_message(_GRAPH_INITIALIZER, tensor))
        else:
            parts.append(bytes(view[field.tag : field.end]))
    return b"".join(parts)


def _tensor(view: memoryview, tensor: WireField) -> tuple[bytes, tuple[int, int] | None]:
    if tensor.end - tensor.start <= _KEEP:
        return bytes(view[tensor.start : tensor.end]), None
    place: tuple[int, int] | None = None
    parts: list[bytes] = []
    for field in fields(view, tensor.start, tensor.end):
        if field.number == _TENSOR_RAW_DATA and field.wire == BYTES:
            place = (field.start, field.end - field.start)  # of several, the last one counts
        else:
            parts.append(bytes(view[field.tag : field.end]))
    return b"".join(parts), place


def _message(number: int, body: bytes) -> bytes:
    return _encode(number << 3 | BYTES) + _encode(len(body)) + body


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
