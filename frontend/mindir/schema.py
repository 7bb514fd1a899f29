"""Field numbers and enumerations of `mind_ir.ModelProto`, as measured on files of MindSpore 1.1 to 2.10."""

from __future__ import annotations

from enum import IntEnum


class Model(IntEnum):
    """Fields of the file. `PREPROCESSOR` was a text in 1.x."""

    IR_VERSION = 1
    PRODUCER = 2
    MODEL_VERSION = 5
    GRAPH = 7
    FUNCTIONS = 8
    PREPROCESSOR = 9
    LITTLE_ENDIAN = 10
    PRIMITIVES = 12
    MIND_IR_VERSION = 13
    USER_INFO = 14


class Graph(IntEnum):
    """Fields of a graph."""

    NODES = 1
    NAME = 2
    PARAMETERS = 3
    INPUTS = 5
    OUTPUTS = 6
    ATTRIBUTES = 8
    MAP_PARAMETERS = 10


class Node(IntEnum):
    """Fields of a node."""

    INPUTS = 1
    OUTPUTS = 2
    NAME = 3
    OP_TYPE = 4
    ATTRIBUTES = 5
    DOMAIN = 7
    NODE_ATTRIBUTES = 8


class Info(IntEnum):
    """Fields of an input or output of a graph."""

    NAME = 1
    TENSORS = 2
    DENOTATION = 4
    ATTRIBUTE = 5


class Prim(IntEnum):
    """Fields of a primitive."""

    NAME = 1
    OP_TYPE = 2
    ATTRIBUTES = 3
    INSTANCE_NAME = 4
    KIND = 5


class Attr(IntEnum):
    """Fields of an attribute. `SEQUENCE` was an enumeration, then a message with other numbers, in older files."""

    NAME = 1
    F = 2
    I = 3
    D = 4
    S = 5
    FLOATS = 8
    DOUBLES = 9
    INTS = 10
    STRINGS = 11
    TENSORS = 12
    REF_NAME = 15
    KIND = 16
    VALUES = 17
    SEQUENCE = 18
    FUNCTOR = 19
    SCALAR_GRAPH = 20


class Sequence(IntEnum):
    """Fields of what is known about a sequence of unknown length, and their older numbers."""

    DYNAMIC = 1
    ELEMENT = 2
    OLD_DYNAMIC = 18
    OLD_ELEMENT = 19


class Tensors(IntEnum):
    """Fields of a tensor."""

    DIMS = 1
    DTYPE = 2
    FLOATS = 3
    INT32S = 4
    STRINGS = 5
    INT64S = 6
    NAME = 7
    RAW = 9
    DOUBLES = 10
    UINT64S = 11
    EXTERNAL = 12
    REF_KEY = 13
    MIN_DIMS = 14
    MAX_DIMS = 15
    COMPRESSION = 16


class External(IntEnum):
    """Fields of where a tensor's bytes are, if in another file."""

    LOCATION = 1
    OFFSET = 2
    LENGTH = 3


KINDS: tuple[str, ...] = (
    "UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE",
    "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16", "TENSOR", "GRAPH", "TENSORS", "TUPLE", "LIST", "DICT",
    "UMONAD", "IOMONAD", "NONE", "PRIMITIVECLOSURE", "FUNCGRAPHCLOSURE", "PARTIALCLOSURE", "UNIONFUNCCLOSURE",
    "CSR_TENSOR", "COO_TENSOR", "ROW_TENSOR", "CLASS_TYPE", "NAME_SPACE", "SYMBOL", "TYPE_NULL", "MAP_TENSOR",
    "FUNCTOR", "SCALAR", "SCALAR_GRAPH_HOLDER",
)  # fmt: skip
"""Names of the types of an attribute, by number."""

KIND_DTYPES: dict[str, str] = {
    "FLOAT": "f32", "UINT8": "u8", "INT8": "i8", "UINT16": "u16", "INT16": "i16", "INT32": "i32", "INT64": "i64",
    "STRING": "string", "BOOL": "bool", "FLOAT16": "f16", "DOUBLE": "f64", "UINT32": "u32", "UINT64": "u64",
    "COMPLEX64": "c64", "COMPLEX128": "c128", "BFLOAT16": "bf16", "TYPE_NULL": "none",
}  # fmt: skip
"""Element type of the attribute types that are numbers, bools or strings."""

DTYPE_NAMES: tuple[str, ...] = (
    "none", "f32", "u8", "i8", "u16", "i16", "i32", "i64", "string", "bool", "f16", "f64", "u32", "u64", "c64",
    "c128", "bf16", "f64", "i8",
)  # fmt: skip
"""Element types of tensors by number. The last one is two 4-bit numbers in a byte: its bytes, as they are."""

COMPRESSIONS = ("none", "INDEXING", "SPARSE", "FSE", "BIT_PACKING", "FSE_INT", "FSE_INFER")
FUNCTORS = ("", "SHAPE_CALC_FUNCTOR", "ANY_FUNCTOR")
