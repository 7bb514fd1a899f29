"""What a MindIR file says, as plain data: `load` (files.py) makes a `ModelFile` of a file of any version.

MindIR is protobuf (`mind_ir.ModelProto`) whose fields changed their meaning over the years; what is here is the same
for all versions. Names are as in the file: one global name space for primitives, functions, parameters, inputs,
constants and nodes of all graphs ("<graph>:<name>"). Nothing is resolved or interpreted here, no weight is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ...ir.constants import ConstantData

PRIMITIVE, PRIMITIVE_FUNCTION = 1, 2
"""`Primitive.prim_type`: arguments of the constructor as attributes (1), or all arguments as inputs of the node (2)."""


# -- types of values --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DType:
    """An element type as a value: planish's name (`f32`), or "none"."""

    name: str


@dataclass(frozen=True)
class Monad:
    """The order of side effects as a value: `kind` is "U" (memory) or "IO" (input and output)."""

    kind: str


@dataclass(frozen=True)
class Closure:
    """Functions as a value (or as the type of one): names of graphs, or of primitives; several after a Switch."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class TensorAbstract:
    """Type of a tensor: element type as in `DType`, sizes (-1: unknown); `dims` is None where the rank is unknown."""

    dtype: str
    dims: tuple[int, ...] | None
    min_dims: tuple[int, ...] = ()
    max_dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScalarAbstract:
    """Type of a Python number, bool or string."""

    dtype: str


@dataclass(frozen=True)
class SequenceAbstract:
    """Type of a tuple or list (`kind`). `dynamic`: of unknown length, all elements of the type `element`."""

    kind: str
    items: tuple[Abstract, ...]
    dynamic: bool = False
    element: Abstract | None = None


@dataclass(frozen=True)
class UnknownAbstract:
    """A type that the file does not tell, or of a kind that is seldom written (`kind` is its name)."""

    kind: str = ""


Abstract: TypeAlias = "TensorAbstract | ScalarAbstract | SequenceAbstract | Closure | Monad | UnknownAbstract | None"
"""The type that MindSpore inferred for a value. `None` is Python's None."""


# -- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file. `ref_key` is the parameter's own name ("" where the file has none); `dtype` as in `DType`;
    `data` is None where the file has no elements (types, inputs)."""

    name: str
    ref_key: str
    dtype: str
    dims: tuple[int, ...]
    data: ConstantData | None = None
    min_dims: tuple[int, ...] = ()
    max_dims: tuple[int, ...] = ()

    @property
    def abstract(self) -> TensorAbstract:
        """Its type."""
        dims = None if self.dims == (-2,) else self.dims
        return TensorAbstract(self.dtype, dims, self.min_dims, self.max_dims)

    @property
    def parameter(self) -> str:
        """The parameter's own name: `ref_key`, else what stands behind the first colon of `name`."""
        return self.ref_key or self.name.partition(":")[2] or self.name

    def array(self) -> np.ndarray:
        """The elements, read-only. Only for tensors with `data`."""
        assert self.data is not None, self.name
        return self.data.array()


@dataclass(frozen=True)
class Symbol:
    """A name of Python's that stands as a value: `kind` is "CLASS_TYPE", "NAME_SPACE" or "SYMBOL"."""

    kind: str
    name: str


@dataclass(frozen=True)
class Functor:
    """A function of shapes (`kind` "SHAPE_CALC_FUNCTOR" or "ANY_FUNCTOR") with the values it was made of."""

    kind: str
    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class ScalarGraph:
    """A small graph of integer arithmetic on sizes. `nodes` are (operation, indices of inputs, numbers)."""

    nodes: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class SparseTensor:
    """A CSR, COO, row or map tensor (`kind`: "CSR_TENSOR" ...), as its parts in the order of the file."""

    kind: str
    parts: tuple[Value, ...]


@dataclass(frozen=True)
class UnknownValue:
    """A value of a kind that this reader does not know; `kind` is its number or name in the file."""

    kind: str


Value: TypeAlias = """(
    int | float | bool | str | bytes | tuple[Value, ...] | list[Value] | dict[str, Value]
    | Tensor | DType | Monad | Closure | Symbol | Functor | ScalarGraph | SparseTensor | UnknownValue | None
)"""
"""A decoded attribute. Python's own types where there is one; strings that are no UTF-8 are bytes."""


@dataclass(frozen=True)
class Attribute:
    """A named value. `kind` is the name of its type in the file ("INT64", "TUPLE" ..., "" in files that have none)."""

    name: str
    kind: str
    value: Value


# -- graphs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Primitive:
    """An operator with its attributes, shared by all nodes with the same ones. `name` is what nodes call it
    ("Conv2D:4"), `op_type` the operator ("Conv2D")."""

    name: str
    op_type: str
    attributes: dict[str, Attribute]
    prim_type: int = PRIMITIVE
    instance_name: str = ""


@dataclass(frozen=True)
class NodeProto:
    """A node. `op_type` is "Constant" (its value is `attributes["value"]`), "REF::<primitive, function or node>", or
    (1.x) the operator itself, perhaps behind "S-Prim-". The inferred type is in `abstract`, never in `attributes`."""

    inputs: tuple[str, ...]
    output: str
    name: str
    op_type: str
    attributes: dict[str, Attribute]
    scope: str = ""
    abstract: Abstract = field(default_factory=UnknownAbstract)
    node_attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])


@dataclass(frozen=True)
class ValueInfo:
    """An input or output of a graph. `ref_key` names the parameter that a sub-graph's input stands for ("": none);
    `denotation` is the file's word for what it is ("Tuple", "Float", "UMonadType", ...)."""

    name: str
    abstract: Abstract
    denotation: str = ""
    ref_key: str = ""


@dataclass(frozen=True)
class GraphProto:
    """A graph: the model itself, or a function that others call, pass around, or call recursively. Nodes are in
    topological order. `outputs` is one value (a tuple where there are several results), or in some files several."""

    name: str
    nodes: tuple[NodeProto, ...]
    parameters: tuple[Tensor, ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    attributes: dict[str, Attribute]
    map_parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreprocessStep:
    """One step of the data set that the model was exported with; `operations` is JSON text."""

    input_columns: str
    output_columns: str
    project_columns: str
    op_type: str
    operations: str
    offload: bool


@dataclass(frozen=True)
class ModelFile:
    """A MindIR file. `label` is what messages call it, `path` where it is (None: bytes in memory); `ir_version` is the
    text "0.1.0" (1.x) or "1.1"; `mind_ir_version` 0 (absent: 1.x) to 3; `model_version` MindSpore's own ("2.10.0").
    `sha256` is that of the file as it is on disk, its data files not included; `cipher` how it was encrypted ("")."""

    label: str
    path: Path | None
    ir_version: str
    mind_ir_version: int
    model_version: str
    producer: str
    graph: GraphProto
    functions: tuple[GraphProto, ...]
    primitives: dict[str, Primitive]
    preprocessor: tuple[PreprocessStep, ...]
    user_info: dict[str, str]
    sha256: str
    little_endian: bool = True
    cipher: str = ""


__all__ = [
    "PRIMITIVE",
    "PRIMITIVE_FUNCTION",
    "Abstract",
    "Attribute",
    "Closure",
    "DType",
    "Functor",
    "GraphProto",
    "ModelFile",
    "Monad",
    "NodeProto",
    "PreprocessStep",
    "Primitive",
    "ScalarAbstract",
    "ScalarGraph",
    "SequenceAbstract",
    "SparseTensor",
    "Symbol",
    "Tensor",
    "TensorAbstract",
    "UnknownAbstract",
    "UnknownValue",
    "Value",
    "ValueInfo",
]
