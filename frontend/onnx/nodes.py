"""Nodes become operations: by a converter, by numbers known while importing, or by inlining the operator's definition.

Bodies (of functions, and of If, Loop and Scan where their course is known) are converted in place, in a scope of their
own that shares the operations' place with the one around it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from onnx import GraphProto, ModelProto, NodeProto
from onnx.defs import SchemaError, get_schema

from ...ir.assume import Assumptions
from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.errors import ModelError, VerifyError
from ...ir.expr import Expr, as_expr, symbol_ranges
from ...ir.ops.host import Check
from ..text import quote
from .checks import NEWEST_OPSET, label, ordered, used_by
from .computed import COMPUTED
from .declared import FALLBACKS
from .functions import MAX_DEPTH, MAX_NODES, Definition, Functions, bound
from .node import CONVERTERS, Converter, Node, Result, Results, node_label
from .report import Issue
from .scope import FromData, Item, Known, Scope, Unsupported
from .symbolic import can_fold, fold
from .tensors import TensorReader, UnsupportedType, checked_shape

# What gives the shape of its input, next to a number.
_ELEMENTWISE = frozenset(
    ["Abs", "Add", "Cast", "Cos", "Div", "Exp", "Identity", "Log", "Mul", "Neg", "Pow", "Relu", "Sin", "Sqrt", "Sub"]
)

_BROADCASTING = frozenset(["Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"])


@cache
def most_inputs(domain: str, operator: str, opset: int) -> int:
    """How many inputs the operator has at most in that version; very many where ONNX does not say."""
    try:
        return get_schema(operator, opset, domain).max_input
    except SchemaError:
        return 1 << 31


@dataclass(frozen=True)
class Frame:
    """Where nodes stand: names, versions of operator sets, names that are read, and how many bodies are around.
    `loc` is what operations inside of a body are said to come from."""

    scope: Scope
    opsets: dict[str, int]
    used: frozenset[str]
    depth: int = 0
    loc: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


class _Conditions:
    """Conditions that conversion collects, each taken once."""

    def __init__(self, assumed: Assumptions) -> None:
        self.assumed = assumed
        self.zero = self.nonnegative = self.pairs = 0  # how many of them were taken

    def take(self) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
        """Those that are new, without those that hold anyway: expressions that must be 0, and at least 0."""
        zero, nonnegative = self.assumed.zero[self.zero :], self.assumed.nonnegative[self.nonnegative :]
        # Equal dimensions that no type of an input can say.
        pairs = [(a, b) for a, b in self.assumed.pairs[self.pairs :] if a != b]
        zero += [as_expr(a) - b for a, b in pairs if self.assumed.unsolved(a, b)]
        self.zero, self.nonnegative = len(self.assumed.zero), len(self.assumed.nonnegative)
        self.pairs = len(self.assumed.pairs)
        return tuple(dict.fromkeys(e for e in zero if e != 0)), tuple(e for e in nonnegative if not _holds(e))


def _holds(e: Expr) -> bool:
    low, _ = e.bounds(symbol_ranges(e))
    return low is not None and low >= 0


class NodeImporter:
    """Converts the nodes of one model. What cannot be compiled goes to `issues`."""

    def __init__(
        self, model: ModelProto, file: str, tensors: TensorReader, issues: list[Issue], assumed: Assumptions
    ) -> None:
        self.file = file
        self.tensors = tensors
        self.issues = issues
        self.functions = Functions(model, file)
        self.inlined = 0
        self.conditions = _Conditions(assumed)

    def convert(self, proto: NodeProto, frame: Frame) -> None:
        """A node of the graph itself: what cannot be compiled is noted, and so is not what depends on it."""
        items = frame.scope.items
        outputs = [o for o in proto.output if o]
        if any(name and items[name] is None for name in proto.input):
            if not self._has_meaning(proto, frame):
                self._issue(proto, frame, "the operator is not supported", "")
            items.update(dict.fromkeys(outputs))
            return
        try:
            self.run(proto, frame)
        except Unsupported as e:
            self._issue(proto, frame, e.reason, e.advice, e.lengths)
            items.update(dict.fromkeys(outputs))

    def _has_meaning(self, proto: NodeProto, frame: Frame) -> bool:
        domain = _domain(proto)
        return (domain, proto.op_type) in CONVERTERS or self.functions.find(proto, frame.opsets[domain], []) is not None

    def _issue(
        self, proto: NodeProto, frame: Frame, reason: str, advice: str, lengths: frozenset[str] = frozenset()
    ) -> None:
        operator = f"{proto.domain or 'ai.onnx'}.{proto.op_type}"
        opset = str(frame.opsets[_domain(proto)])
        self.issues.append(Issue(node_label(proto), quote(operator)[1:-1], opset, reason, advice, lengths))

    def run(self, proto: NodeProto, frame: Frame) -> None:
        """Convert one node, all of whose inputs are there. Raises `Unsupported`."""
        domain = _domain(proto)
        opset = frame.opsets.get(domain)
        if opset is None:
            raise ModelError(f"{self.file}: {label(proto)}: operator set {quote(domain)} is not imported here")
        node = Node(proto, frame.opsets.get("", 0), frame.scope, self.tensors, frame.used)
        node.body = lambda graph, inputs, scope: self.graph(graph, inputs, replace(frame, scope=scope), node)
        node.shapes = frame.shapes
        node.loc = frame.loc or node.loc
        frame.scope.builder.loc = node.loc
        self._count(node, domain, opset)
        _take_singles(node)
        function = CONVERTERS.get((domain, proto.op_type))
        if domain == "" and (domain, proto.op_type, proto.overload) in self.functions.local:
            function = None  # a model may have its own idea of an operator
        try:
            results: Results | None = fold(node) if function is not None else None
            if results is None:
                results = self._inline(node, opset, frame) if function is None else _converted(node, function)
                if can_fold(node):
                    results = _with_recipe(node, results)
            self._bind(node, results, frame)
            self._check(node)
        except VerifyError as e:  # from an operation that `make` did not build
            raise node.error(str(e)) from e

    def _count(self, node: Node, domain: str, opset: int) -> None:
        """Refuse more inputs than the operator has, which nothing would read."""
        given = max((i + 1 for i, name in enumerate(node.proto.input) if name), default=0)
        if (domain, node.op_type, node.proto.overload) not in self.functions.local:
            most = most_inputs(domain, node.op_type, opset)
            if given > most:
                raise node.error(f"expected at most {most} input{'s' * (most != 1)}, got {given}")

    def _bind(self, node: Node, results: Results, frame: Frame) -> None:
        listed = [results] if isinstance(results, Value | Known | ConstantData | Item) else list(results)
        for i, name in enumerate(node.proto.output):
            result = listed[i] if i < len(listed) else None
            if not name:
                continue
            if result is None:
                if name in frame.used:
                    raise Unsupported(f"output {i} ({quote(name, 40)}) is used")
                continue
            frame.scope.items[name] = item = as_item(result, name)
            if item.is_tensor and item.type.shape is not None:
                checked_shape((d for d in item.type.dims if isinstance(d, int)), f"output {i}", node.error)

    def _check(self, node: Node) -> None:
        """What must hold when the model runs for what was converted to be right."""
        zero, nonnegative = self.conditions.take()
        if zero or nonnegative:
            check = Check(zero, nonnegative, f"the shapes do not fit ({node.op_type})", loc=node.loc)
            node.scope.builder.insert(check)

    # -- bodies ----------------------------------------------------------------------------------------------------

    def _inline(self, node: Node, opset: int, frame: Frame) -> list[Result | None]:
        """The results of a node by its definition."""
        items = [frame.scope.items[name] if name else None for name in node.proto.input]
        types = [None if item is None or item.parts is not None else item.type for item in items]
        definition = self.functions.find(node.proto, opset, types)
        if definition is None:
            raise Unsupported("the operator is not supported")
        if frame.depth >= MAX_DEPTH:
            raise ModelError(f"{self.file}: definitions of operators are nested more than {MAX_DEPTH} levels deep")
        return self._call(definition, node, items, frame)

    def _call(
        self, definition: Definition, node: Node, items: Sequence[Item | None], frame: Frame
    ) -> list[Result | None]:
        body = definition.body
        if len(items) > len(body.input):
            raise node.error(f"expected at most {len(body.input)} inputs, got {len(items)}")
        formal = dict(zip(body.input, [*items, *[None] * (len(body.input) - len(items))], strict=True))
        absent = {name for name, item in formal.items() if item is None}
        scope = frame.scope.child({name: item for name, item in formal.items() if item is not None})
        opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in body.opset_import} or frame.opsets
        if not definition.own:  # definitions outside of ai.onnx do not say which version of it they mean
            opsets.setdefault("", frame.opsets.get("", NEWEST_OPSET))
        wanted = {f for f, a in zip(body.output, node.proto.output, strict=False) if a in frame.used}
        named = zip(body.output, node.proto.output, strict=False)
        shapes = {f: frame.shapes[a] for f, a in named if a in frame.shapes}
        inner = Frame(scope, opsets, used_by(body.node, wanted), frame.depth + 1, node.loc, shapes)
        nodes = ordered(body, self.file) if definition.own else body.node
        self._run([bound(n, definition.attributes, absent) for n in nodes], inner, node)
        return [scope.items.get(name) for name in body.output]

    def graph(self, graph: GraphProto, inputs: Sequence[Item], frame: Frame, node: Node) -> list[Item]:
        """The outputs of a graph in an attribute of `node`, for values of its inputs. It sees the names around it."""
        if len(inputs) != len(graph.input):
            raise node.error(f"expected a graph of {len(inputs)} inputs, got {len(graph.input)}")
        own: dict[str, Item | None] = {}
        scope = frame.scope.child(ChainMap(own, frame.scope.items))
        for info, item in zip(graph.input, inputs, strict=True):
            scope.items[info.name] = item
        for tensor in graph.initializer:
            try:
                scope.items[tensor.name] = Item(data=self.tensors.read(tensor))
            except UnsupportedType as e:
                raise Unsupported(str(e)) from e
        used = used_by(graph.node, {o.name for o in graph.output})
        self._run(
            ordered(graph, self.file),
            replace(frame, scope=scope, used=used, depth=frame.depth + 1, loc=node.loc, shapes={}),
            node,
        )
        found = [scope.items.get(o.name) for o in graph.output]
        if any(item is None for item in found):
            raise node.error("an output of its graph is made by no node")
        return [item for item in found if item is not None]

    def _run(self, nodes: Iterable[NodeProto], frame: Frame, around: Node) -> None:
        for proto in nodes:
            self.inlined += 1
            if self.inlined > MAX_NODES:
                raise Unsupported(f"more than {MAX_NODES} nodes in bodies")
            missing = next((n for n in proto.input if n and frame.scope.items.get(n) is None), None)
            if missing is not None and missing in frame.scope.items:
                raise Unsupported(f"it reads {quote(missing, 40)}, which a node makes that cannot be compiled")
            if missing is not None:
                raise around.error(f"{label(proto)} inside of it reads {quote(missing)}, which nothing there makes")
            try:
                self.run(proto, frame)
            except Unsupported as e:
                inside = f"its definition needs {proto.op_type}: " if not e.reason.startswith("its definition") else ""
                raise Unsupported(inside + e.reason, e.advice, e.lengths) from e
        around.scope.builder.loc = around.loc


def _take_singles(node: Node) -> None:
    """Let the node read a scalar where only the rank of a single number is unknown: next to an operand of its greatest
    rank it does not matter."""
    if node.op_type not in _BROADCASTING or node.proto.domain not in ("", "ai.onnx"):
        return
    items = [node.scope.items[name] for name in node.proto.input if name]
    ranks = [len(i.type.dims) for i in items if i is not None and i.is_tensor and i.type.shape is not None]
    for index, item in enumerate(items):
        if item is not None and item.single is not None and item.single[1] <= max(ranks, default=0):
            node.replace(index, Item(value=item.single[0]))


def _converted(node: Node, function: Converter) -> Results:
    """What the converter gives. Where shapes are data, what follows from the shapes that the model declares; else from
    the contents as symbols."""
    try:
        return function(node)
    except FromData:
        declared, fallback = node.declared(0), FALLBACKS.get(node.op_type)
        if node.proto.domain not in ("", "ai.onnx"):
            raise
        if declared is not None and fallback is not None:
            try:
                return fallback(node, declared)
            except Unsupported:
                pass  # the declared shape says too little: the input's is symbolic, or axes are data, too
            except (IndexError, ValueError) as e:
                raise node.error(f"the shape {list(declared)} that the model declares does not fit its inputs") from e
        node.binding = True
        return COMPUTED.get(node.op_type, function)(node)


def _with_recipe(node: Node, results: Results) -> Results:
    """The first result with the way to compute its elements, for where a shape depends on them."""
    first = results if isinstance(results, Value) else None
    if isinstance(results, list | tuple) and results and isinstance(results[0], Value):
        first = results[0]
    if first is None:
        return results

    def recipe() -> Known | None:
        found = fold(node, bind=True)
        fits = found and found[0].dims.shape == first.tensor.shape and found[0].dtype == first.tensor.dtype
        return found[0] if found and fits else None

    item = Item(value=first)
    item.recipe = recipe
    return [item, *(results[1:] if isinstance(results, list | tuple) else ())]


def as_item(result: Result, name: str) -> Item:
    """A result under the name that the model gives it."""
    if isinstance(result, Item):
        if result.value is not None:
            result.value.name = result.value.name or name
        return result
    if isinstance(result, Value):
        result.name = result.name or name
        return Item(value=result)
    known, data = (result, None) if isinstance(result, Known) else (None, result)
    return Item(data=data, known=known)


def declared_shapes(graph: GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names with their shapes, where the model gives them as numbers."""
    for info in [*graph.value_info, *graph.output]:
        if info.type.WhichOneof("value") == "tensor_type" and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            if all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims):
                yield info.name, tuple(d.dim_value for d in dims)


def known_shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes that the model declares, and those that follow for what elementwise nodes read."""
    shapes = dict(declared_shapes(graph))
    small = {n.output[0] for n in graph.node if n.op_type == "Constant" and _is_scalar(n)}
    for node in reversed(graph.node):
        shape = shapes.get(node.output[0]) if node.output else None
        inputs = [n for n in node.input if n not in small]
        if shape is not None and node.op_type in _ELEMENTWISE and len(inputs) == 1:
            shapes.setdefault(inputs[0], shape)
        elif shape is not None and node.op_type == "CastLike":
            shapes.setdefault(node.input[0], shape)
    return shapes


def _is_scalar(node: NodeProto) -> bool:
    return all(not a.t.dims and a.name in ("value", "value_float", "value_int") for a in node.attribute)


def _domain(proto: NodeProto) -> str:
    return "" if proto.domain == "ai.onnx" else proto.domain
