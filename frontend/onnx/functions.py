"""Operators that are defined by bodies: the model's local functions, and ONNX's own definitions of its operators.

Bodies are inlined by the importer (`nodes.py`), not by ONNX's C++ inliner, which knows no limits. How many nodes local
functions expand to is counted before anything is expanded: a few lines can define billions of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.defs
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto

from ...ir.errors import ModelError
from ...ir.types import TensorType
from ..text import quote
from .checks import NEWEST_OPSET
from .tensors import DTYPE_NAMES

MAX_NODES = 200_000  # nodes that the calls of local functions may expand to, all together
MAX_DEPTH = 100  # calls inside of calls
_EARLY = frozenset([("com.microsoft", "LinearAttention")])  # that ONNX has taken over as they were
_MAX_BYTES = 1 << 20  # of a node that is given to ONNX for its definition

_Key = tuple[str, str, str]
_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}


@dataclass(frozen=True)
class Definition:
    """A body for one call. `attributes` are what attributes of the body refer to; `own` is true for local functions."""

    body: FunctionProto
    attributes: Mapping[str, AttributeProto]
    own: bool


def key_of(node: NodeProto) -> _Key:
    """What a call and a local function have in common."""
    return ("" if node.domain == "ai.onnx" else node.domain), node.op_type, node.overload


class Functions:
    """The definitions that a model can use."""

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self.file = file
        self.local: dict[_Key, FunctionProto] = {}
        for f in model.functions:
            domain = "" if f.domain == "ai.onnx" else f.domain
            if (domain, f.name, f.overload) in self.local:
                raise ModelError(f"{file}: two functions are called {quote(f'{f.domain}.{f.name}')}")
            self.local[domain, f.name, f.overload] = f
        self._sizes: dict[_Key, int] = {}
        if self.local:
            self._check_size(model.graph)

    def find(self, node: NodeProto, opset: int, types: list[TensorType | None]) -> Definition | None:
        """The definition of a node's operator, None when it has none. `types`: of its inputs."""
        body = self.local.get(key_of(node))
        if body is not None:
            defaults = {a.name: a for a in body.attribute_proto}
            return Definition(body, defaults | {a.name: a for a in node.attribute}, True)
        return standard(node, opset, types)

    def _check_size(self, graph: GraphProto) -> None:
        total = sum(self._size(node) for node in nodes_in(graph.node))
        if total > MAX_NODES:
            raise ModelError(
                f"{self.file}: its functions expand to more than {MAX_NODES} nodes; the file is damaged or hostile"
            )

    def _size(self, node: NodeProto) -> int:
        """Nodes that a call expands to; counted no further than what is too many anyway."""
        first = key_of(node)
        stack: list[tuple[_Key, Iterator[NodeProto], int]] = []
        total = self._enter(first, stack)
        while stack:
            key, rest, have = stack[-1]
            inner = next(rest, None)
            if inner is None:
                stack.pop()
                self._sizes[key] = total = min(have, MAX_NODES + 1)
                if stack:
                    outer = stack[-1]
                    stack[-1] = (outer[0], outer[1], outer[2] + total)
                continue
            size = self._enter(key_of(inner), stack)
            if size:
                stack[-1] = (key, rest, have + size)
        return total

    def _enter(self, key: _Key, stack: list[tuple[_Key, Iterator[NodeProto], int]]) -> int:
        """The size of a call that is known; 0 when it was put on the stack to be counted."""
        if key not in self.local:
            return 1
        if key in self._sizes:
            return self._sizes[key]
        if any(k == key for k, _, _ in stack):
            raise ModelError(f"{self.file}: function {quote(key[1])} calls itself; ONNX does not allow that")
        if len(stack) >= MAX_DEPTH:
            raise ModelError(f"{self.file}: functions call each other more than {MAX_DEPTH} levels deep")
        stack.append((key, nodes_in(self.local[key].node), 1))
        return 0


def nodes_in(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for graph in graphs_in(node):
            yield from nodes_in(graph.node)


def graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            yield from [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs


# -- ONNX's own definitions -----------------------------------------------------------------------------------------


def standard(node: NodeProto, opset: int, types: list[TensorType | None]) -> Definition | None:
    """ONNX's definition of an operator, made for these attributes and types where it depends on them."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if (domain, node.op_type) in _EARLY:
        node, opset, domain = _as_onnx(node), NEWEST_OPSET, ""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    defaults = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.name}
    attributes = defaults | {a.name: a for a in node.attribute}
    if schema.has_function:
        return Definition(schema.function_body, attributes, False)
    if not schema.has_context_dependent_function or not _is_plain(node, schema, types):
        return None
    version = _version(schema, opset)
    described = [_described(t).SerializeToString() for t in types]
    body = FunctionProto()
    body.ParseFromString(
        schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), described)
    )
    return Definition(body, attributes, False) if body.node else None


def _as_onnx(node: NodeProto) -> NodeProto:
    """A node of another domain as ONNX's own, without attributes of 0, which turn on nothing that ONNX has not."""
    made = NodeProto()
    made.CopyFrom(node)
    made.domain = ""
    del made.attribute[:]
    made.attribute.extend(a for a in node.attribute if a.type != AttributeProto.INT or a.i)
    return made


def _version(schema: Any, opset: int) -> int:
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    return max(versions, default=schema.since_version)


def _is_plain(node: NodeProto, schema: Any, types: list[TensorType | None]) -> bool:
    """True when the node is as its schema says: what builds its definition takes that for granted."""
    if node.ByteSize() > _MAX_BYTES or not schema.min_input <= len(node.input) <= schema.max_input:
        return False
    if len(node.output) > schema.max_output or len(types) != len(node.input):
        return False
    for a in node.attribute:
        known = schema.attributes.get(a.name)
        if known is None or int(known.type.value) != a.type or a.ref_attr_name:
            return False
    return all(known.name in {a.name for a in node.attribute} for known in schema.attributes.values() if known.required)


def _described(type: TensorType | None) -> TypeProto:
    """ONNX's form of a type; an empty one for an input that is absent."""
    proto = TypeProto()
    if type is None:
        return proto
    proto.tensor_type.elem_type = _NUMBERS[type.dtype]
    if type.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for d in type.shape:
            dim = proto.tensor_type.shape.dim.add()
            if isinstance(d, int):
                dim.dim_value = d
    return proto


# -- a body for one call --------------------------------------------------------------------------------------------


def bound(node: NodeProto, attributes: Mapping[str, AttributeProto], absent: set[str]) -> NodeProto:
    """A body's node with the attributes it refers to, and without the names of `absent` inputs. References to
    attributes that nobody gave are left out."""
    if not _needs_binding(node, absent):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    _bind(copy, attributes, absent)
    return copy


def _needs_binding(node: NodeProto, absent: set[str]) -> bool:
    return any(
        any(a.ref_attr_name for a in inner.attribute) or (absent and not absent.isdisjoint(inner.input))
        for inner in nodes_in([node])
    )


def _bind(node: NodeProto, attributes: Mapping[str, AttributeProto], absent: set[str]) -> None:
    for i, name in enumerate(node.input):
        if name in absent:
            node.input[i] = ""
    given = list(node.attribute)
    del node.attribute[:]
    for a in given:
        source = attributes.get(a.ref_attr_name) if a.ref_attr_name else a
        if source is not None:
            new = node.attribute.add()
            new.CopyFrom(source)
            new.name = a.name
    for graph in graphs_in(node):
        for inner in graph.node:
            _bind(inner, attributes, absent)
