"""Live `torch.export.ExportedProgram`s as plain data. torch is not imported here: whoever has a program has it loaded,
and its objects are taken apart by their attributes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ...ir.constants import ArraySource, ConstantData
from ...ir.errors import UnsupportedError
from ...ir.expr import Dim
from ...ir.types import DTYPES
from ..text import quote, symbol_name
from .names import unique
from .program import DROPPED, Graph, Node, Port, Program, Ref
from .sizes import parse_size, whole

DTYPE_NAMES: dict[str, str] = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int8": "i8", "int16": "i16",
    "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
    "float8_e4m3fn": "f8e4m3fn", "float8_e5m2": "f8e5m2", "float8_e4m3fnuz": "f8e4m3fnuz",
    "float8_e5m2fnuz": "f8e5m2fnuz", "float8_e8m0fnu": "f8e8m0", "complex32": "c32", "complex64": "c64",
    "complex128": "c128",
}  # fmt: skip
"""By what stands behind `torch.` in an element type's name."""


def read_exported(exported: Any, label: str, names: Mapping[str, str] | None = None) -> Program:
    """An `ExportedProgram` as plain data; its weights stay where they are. `names` are what symbols are called instead
    of PyTorch's own names. Raises `UnsupportedError` for inputs and outputs that planish does not have."""
    return _Reader(exported, label, names or {}).program()


def dtype_name(dtype: object) -> str:
    """planish's name of a `torch.dtype`."""
    return DTYPE_NAMES.get(str(dtype).removeprefix("torch."), str(dtype))


def constant_of(tensor: Any) -> ConstantData:
    """The data of a `torch.Tensor`, without a copy where it lies in one piece."""
    torch: Any = sys.modules["torch"]
    plain = tensor.detach()
    plain = plain.to("cpu") if str(plain.device) != "cpu" else plain
    if type(plain).__name__ == "FakeTensor" or str(plain.layout) != "torch.strided":
        raise UnsupportedError(f"a tensor of type {type(plain).__name__}: expected one that holds its elements")
    dtype = dtype_name(plain.dtype)
    if dtype not in DTYPES:
        raise UnsupportedError(f"a tensor of {dtype}: planish has no such element type")
    order = sorted(range(plain.dim()), key=lambda i: (-int(plain.stride(i)), i))
    turned = plain.permute(order).contiguous()  # no copy for what is dense in any order
    width = DTYPES[dtype].bytes
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width]
    array = cast("np.ndarray", turned.reshape(turned.shape).view(bits).numpy()).view(DTYPES[dtype].numpy)
    array = array.view()
    array.setflags(write=False)
    data = ConstantData(dtype, array.shape, ArraySource(array, id(array)))
    back = [order.index(i) for i in range(len(order))]
    return data.permuted(back) if back != sorted(back) else data


class _Reader:
    """Turns one program into plain data."""

    def __init__(self, exported: Any, label: str, names: Mapping[str, str]) -> None:
        self.exported, self.label, self.symbols = exported, label, names

    def program(self) -> Program:
        module, signature = self.exported.graph_module, self.exported.graph_signature
        graph = self.graph(module)
        holders = {n.name: n.meta.get("val") for n in module.graph.nodes if n.op == "placeholder"}
        ports: list[Port] = []
        found: dict[str, ConstantData] = {}
        names: dict[str, str] = {}
        buffers: set[str] = set()
        stored: set[str] = set()
        state, constants = self.exported.state_dict, self.exported.constants
        for spec in signature.input_specs:
            kind, name = str(spec.kind.name), str(spec.arg.name)
            if kind == "USER_INPUT":
                ports.append(self.port(spec.arg, holders.get(name)))
            elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                key = str(spec.target)
                found[name] = self.constant(state[key] if key in state else constants[key], key)
                names[name] = key
                if kind == "BUFFER":
                    buffers.add(name)
                if kind == "PARAMETER" or spec.persistent:
                    stored.add(name)
            else:
                raise UnsupportedError(
                    f"{self.label}: input {quote(name)} of kind {kind}: expected tensors and numbers"
                )
        program = Program(self.label, graph, ports, found, names, frozenset(buffers), stored=frozenset(stored))
        self.results(signature, program)
        program.ranges = {}
        for symbol, limits in self.exported.range_constraints.items():
            text = str(symbol)
            if text.isidentifier():
                low = whole(float(limits.lower)) or 0
                high = whole(float(limits.upper)) if str(limits.upper) != "int_oo" else None
                program.ranges[self.symbol(text)] = max(0, low), high
        torch: Any = sys.modules["torch"]
        program.producer = f"torch {torch.__version__}"
        program.sha256 = self.digest(program)
        return program

    def symbol(self, text: str) -> str:
        return symbol_name(self.symbols.get(text, text))

    def digest(self, program: Program) -> str:
        """Of the graph alone: weights are not read for that."""
        text = repr((program.graph, program.ports, program.outputs, sorted(program.names.items())))
        return hashlib.sha256(text.encode()).hexdigest()

    def constant(self, tensor: Any, key: str) -> ConstantData:
        try:
            return constant_of(tensor)
        except UnsupportedError as e:
            raise UnsupportedError(f"{self.label}: {quote(key)}: {e}") from e

    def port(self, spec: Any, value: Any) -> Port:
        name = str(spec.name)
        if type(spec).__name__ == "ConstantArgument":
            return Port(name, value=spec.value, fixed=True)
        if hasattr(value, "dtype"):
            return Port(name, dtype_name(value.dtype), tuple(self.size(d) for d in value.shape))
        if type(value).__name__ in ("SymInt", "int", "SymBool", "bool"):
            return Port(name, "i64", None)
        raise UnsupportedError(f"{self.label}: input {quote(name)}: expected a tensor, got {type(value).__name__}")

    def size(self, dim: Any) -> Dim:
        return dim if isinstance(dim, int) else parse_size(str(dim), self.label, self.symbols)

    def results(self, signature: Any, program: Program) -> None:
        user: list[object] = []
        inputs = {str(s.target): str(s.arg.name) for s in signature.input_specs if s.target is not None}
        for spec, result in zip(signature.output_specs, program.graph.results, strict=True):
            kind = str(spec.kind.name)
            if kind in ("USER_OUTPUT", "LOSS_OUTPUT"):
                user.append(result)
            elif kind == "BUFFER_MUTATION" and isinstance(result, Ref):
                program.mutated[inputs[str(spec.target)]] = result.name
            elif kind == "USER_INPUT_MUTATION" and isinstance(result, Ref):
                program.mutated[str(spec.target)] = result.name
            elif kind != "TOKEN":
                raise UnsupportedError(f"{self.label}: an output of kind {kind}: export for inference")
        program.outputs = list(zip(self.output_names(len(user)), user, strict=True))

    def output_names(self, count: int) -> list[str]:
        """Keys of what the module returns, as `OutputNames` has them from a file."""
        paths: list[str] = []
        torch: Any = sys.modules["torch"]
        try:
            spec = self.exported.call_spec.out_spec
            tree = torch.utils._pytree.tree_unflatten(list(range(count)), spec)
            for path, _ in torch.utils._pytree.tree_flatten_with_path(tree)[0]:
                keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", ""))) for k in path)
                paths.append("_".join(str(k) for k in keys))
        except (AttributeError, ValueError, TypeError):
            paths = []
        if len(paths) != count:
            paths = [str(i) for i in range(count)] if count > 1 else [""] * count
        return unique([p if p and not p[0].isdigit() else f"output_{p}" if p else "output" for p in paths])

    # -- the graph -------------------------------------------------------------------------------------------------

    def graph(self, module: Any) -> Graph:
        inputs: list[str] = []
        nodes: list[Node] = []
        results: list[object] = []
        for node in module.graph.nodes:
            if node.op == "placeholder":
                inputs.append(str(node.name))
            elif node.op == "output":
                listed = node.args[0]
                parts = cast("Any", listed if isinstance(listed, tuple | list) else (listed,))
                results = [self.argument(a, module) for a in cast("tuple[Any, ...]", parts)]
            elif node.op == "call_function":
                nodes.append(self.node(node, module))
            elif node.op != "get_attr":
                raise UnsupportedError(f"{self.label}: node {quote(str(node.name))} of kind {node.op}")
        return Graph(inputs, nodes, results)

    def node(self, node: Any, module: Any) -> Node:
        made = Node(str(node.name), target_name(node.target), outputs=[Ref(str(node.name))])
        schema = getattr(node.target, "_schema", None)
        values = [self.argument(a, module) for a in node.args]
        if schema is None:
            made.args = [*values, *(self.argument(a, module) for a in node.kwargs.values())]
            return made
        listed = [str(a.name) for a in schema.arguments]
        for name, value in zip(listed, values, strict=False):
            made.inputs[name] = value
        for name, value in node.kwargs.items():
            made.inputs[str(name)] = self.argument(value, module)
        for name in DROPPED & made.inputs.keys():
            del made.inputs[name]
        return made

    def argument(self, argument: Any, module: Any) -> object:
        """An argument as a Python value."""
        if isinstance(argument, tuple | list):
            return [self.argument(a, module) for a in cast("list[Any]", argument)]
        if isinstance(argument, Mapping):
            return {str(k): self.argument(v, module) for k, v in cast("Mapping[Any, Any]", argument).items()}
        if type(argument).__name__ == "Node":
            if argument.op == "get_attr":
                return self.attribute(str(argument.target), module)
            return Ref(str(argument.name))
        if type(argument).__name__ == "dtype":
            return dtype_name(argument)
        if argument is None or isinstance(argument, bool | int | float | str):
            return argument
        if type(argument).__name__ in ("device", "layout", "memory_format"):
            return None
        raise UnsupportedError(f"{self.label}: an argument of type {type(argument).__name__}")

    def attribute(self, name: str, module: Any) -> object:
        found = module
        for part in name.split("."):
            found = getattr(found, part)
        if hasattr(found, "graph"):
            return self.graph(found)
        raise UnsupportedError(f"{self.label}: attribute {quote(name)} of type {type(found).__name__}")


def target_name(target: Any) -> str:
    """`aten.add.Tensor`, `_operator.mul`, `higher_order.cond` ..."""
    kind = type(target).__mro__
    if any(c.__name__ == "HigherOrderOperator" for c in kind):
        return f"higher_order.{target.name()}" if callable(getattr(target, "name", None)) else f"higher_order.{target}"
    if hasattr(target, "_schema"):
        space, _, name = str(target._schema.name).partition("::")
        return f"{space}.{name}.{target._overloadname or 'default'}"
    module = str(getattr(target, "__module__", ""))
    return f"{'torch' if module.startswith('torch') else module}.{getattr(target, '__name__', target)}"


__all__ = ["constant_of", "dtype_name", "read_exported", "target_name"]
