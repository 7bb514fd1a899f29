"""The protobuf wire format of an ONNX file, read just far enough to leave the weights where they are.

`skeleton` copies a model without the `raw_data` of its large initializers and says where in the file those bytes are,
so that a file of any size is parsed in milliseconds and its weights stay in the file, memory-mapped. Only three levels
are walked (model, graph, initializer), each field once; nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9  # field numbers in onnx.proto
_KEEP = 1024  # bytes of raw data up to which a tensor stays in the skeleton


class WireError(ValueError):
    """The bytes do not follow the wire format. `truncated`: they would, if the file went on."""

    def __init__(self, message: str, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


class WireField(NamedTuple):
    """One field: its number and wire type, where its tag starts, and where its value starts and ends."""

    number: int
    wire: int
    tag: int
    start: int
    end: int


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
        if field.number == _MODEL_GRAPH and field.wire == _BYTES:
            parts.append(_message(_MODEL_GRAPH, _graph(view, field, raw)))
        else:
            parts.append(bytes(view[field.tag : field.end]))
    return Skeleton(b"".join(parts), raw)


def fields(view: memoryview, start: int, end: int) -> Iterator[WireField]:
    """The fields between `start` and `end`."""
    at = start
    while at < end:
        tag, value = _varint(view, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"byte {at}: field number 0")
        if wire == _VARINT:
            _, stop = _varint(view, value, end)
        elif wire == _BYTES:
            length, value = _varint(view, value, end)
            stop = value + length
        elif wire in (_FIXED32, _FIXED64):
            stop = value + (4 if wire == _FIXED32 else 8)
        else:
            raise WireError(f"byte {at}: unknown wire type {wire}")
        if stop > end:
            raise WireError(f"byte {at}: a field that ends at byte {stop}, but the data ends at byte {end}", True)
        yield WireField(number, wire, at, value, stop)
        at = stop


def _graph(view: memoryview, graph: WireField, raw: list[tuple[int, int] | None]) -> bytes:
    parts: list[bytes] = []
    for field in fields(view, graph.start, graph.end):
        if field.number == _GRAPH_INITIALIZER and field.wire == _BYTES:
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
        if field.number == _TENSOR_RAW_DATA and field.wire == _BYTES:
            place = (field.start, field.end - field.start)  # of several, the last one counts
        else:
            parts.append(bytes(view[field.tag : field.end]))
    return b"".join(parts), place


def _message(number: int, body: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(body)) + body


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError(f"byte {at}: the data ends inside a number", True)
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError(f"byte {at}: a number of more than 10 bytes")
