"""`.pt2` files: the JSON of an exported program and the weights beside it in the archive, without torch.

Facts about the format come from files that torch 2.9 to 2.13 wrote (schema version 8): `models/NAME.json` holds the
graph, `data/weights/NAME_weights_config.json` says which member holds which tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ...ir.constants import ConstantData
from ...ir.errors import ModelError, UnsupportedError
from ...ir.expr import Dim
from ..text import quote, symbol_name
from .container import Container
from .names import OutputNames
from .program import DROPPED, Graph, Node, Port, Program, Ref
from .sizes import parse_size

SCALAR_TYPES: dict[int, str] = {
    1: "u8", 2: "i8", 3: "i16", 4: "i32", 5: "i64", 6: "f16", 7: "f32", 8: "f64", 9: "c32", 10: "c64", 11: "c128",
    12: "bool", 13: "bf16", 28: "u16", 29: "f8e4m3fn", 30: "f8e5m2", 31: "f8e4m3fnuz", 32: "f8e5m2fnuz", 33: "f8e8m0",
    34: "u32", 35: "u64",
}  # fmt: skip
_VERSION = 8
_DEEPEST = 40
Json = Mapping[str, Any]


def read_pt2(path: Path) -> Program:
    """An exported program from a file that `torch.export.save` wrote. Raises `ModelError` for one that is broken,
    `UnsupportedError` for what planish cannot read."""
    archive = Container(path)
    names = [n for n in archive.members if n.startswith("models/") and n.endswith(".json")]
    if not names and "serialized_exported_program.json" in archive.members:
        raise UnsupportedError(f"{path}: an exported program in the form of torch before 2.8: export it again")
    if len(names) != 1:
        raise ModelError(f"{path}: expected one exported program in models/, got {len(names)}")
    text = archive.read(names[0])
    where = archive.where(names[0])
    model = names[0].removeprefix("models/").removesuffix(".json")
    try:
        whole = cast(Json, json.loads(text))
        return _Reader(archive, where, whole, model, hashlib.sha256(text).hexdigest()).program()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as e:
        raise ModelError(f"{where}: expected an exported program, got one that is damaged: {_said(e)}") from e


def _said(e: Exception) -> str:
    text = str(e) if not isinstance(e, KeyError) else f"no {e.args[0]!r}"
    return f"{type(e).__name__}: {text[:120]}"


class _Reader:
    """Turns the JSON of one program into plain data."""

    def __init__(self, archive: Container, where: str, whole: Json, model: str, digest: str) -> None:
        self.archive, self.where, self.whole, self.model, self.digest = archive, where, whole, model, digest

    def program(self) -> Program:
        version = int(self.whole["schema_version"]["major"])
        if version != _VERSION:
            raise UnsupportedError(
                f"{self.where}: expected version {_VERSION} of the format, got {version}: export it again with a torch "
                "between 2.8 and 2.13, or pass the ExportedProgram to planish.compile"
            )
        module = cast(Json, self.whole["graph_module"])
        graph = self.graph(module["graph"], 0)
        weights = self.payload("weights")
        constants = self.payload("constants")
        ports: list[Port] = []
        found: dict[str, ConstantData] = {}
        names: dict[str, str] = {}
        buffers: set[str] = set()
        stored: set[str] = set()
        metas, numbers = module["graph"]["tensor_values"], module["graph"]["sym_int_values"]
        for spec in cast("list[Json]", module["signature"]["input_specs"]):
            kind, body = _only(spec)
            if kind == "user_input":
                ports.append(self.port(body["arg"], metas, numbers))
            elif kind == "constant_input":
                ports.append(Port(str(body["name"]), value=_only(body["value"])[1], fixed=True))
            elif kind in _TENSORS:
                name, key = str(body["arg"]["name"]), str(body[_TENSORS[kind]])
                table = weights if key in weights and kind != "tensor_constant" else constants
                if key not in table and key in weights:
                    table = weights
                if key not in table:
                    raise ModelError(f"{self.archive.path}: expected data for {quote(key)}, which is missing")
                found[name], names[name] = table[key], key
                if kind == "buffer":
                    buffers.add(name)
                if kind == "parameter" or body.get("persistent"):
                    stored.add(name)
            else:
                raise UnsupportedError(
                    f"{self.where}: an input of kind {quote(kind)}: planish takes tensors and numbers"
                )
        program = Program(
            self.archive.path.name, graph, ports, found, names, frozenset(buffers), stored=frozenset(stored)
        )
        self.results(module, program)
        program.ranges = self.ranges()
        program.producer = f"torch {self.whole.get('torch_version', '')}"
        program.sha256 = self.digest
        return program

    def results(self, module: Json, program: Program) -> None:
        by_key = {key: name for name, key in program.names.items()}
        user: list[object] = []
        for i, spec in enumerate(cast("list[Json]", module["signature"]["output_specs"])):
            kind, body = _only(spec)
            result = program.graph.results[i]
            if kind in ("user_output", "loss_output"):
                user.append(result)
            elif kind == "buffer_mutation" and isinstance(result, Ref):
                program.mutated[by_key[str(body["buffer_name"])]] = result.name
            elif kind == "user_input_mutation" and isinstance(result, Ref):
                program.mutated[str(body["user_input_name"])] = result.name
            elif kind != "token":
                raise UnsupportedError(f"{self.where}: an output of kind {quote(kind)}: export for inference")
        entry = next((e for e in module["module_call_graph"] if not e["fqn"]), None)
        signature = entry["signature"] if entry else None
        tree: Any = json.loads(signature["out_spec"]) if signature else None
        names = OutputNames(cast("list[Any]", tree)[1] if isinstance(tree, list) else None).names(len(user))
        program.outputs = list(zip(names, user, strict=True))

    def ranges(self) -> dict[str, tuple[int, int | None]]:
        found: dict[str, tuple[int, int | None]] = {}
        for text, limits in cast("Mapping[str, Json]", self.whole["range_constraints"]).items():
            if text.isidentifier():
                low, high = int(limits["min_val"] or 0), int(limits["max_val"] or 1 << 62)
                found[symbol_name(text)] = max(0, low), high if high < 1 << 62 else None
        return found

    # -- weights ---------------------------------------------------------------------------------------------------

    def payload(self, kind: str) -> dict[str, ConstantData]:
        """Tensors of the archive by name."""
        config = f"data/{kind}/{self.model}_{kind}_config.json"
        if config not in self.archive.members:
            return {}
        listed = cast("Mapping[str, Json]", json.loads(self.archive.read(config))["config"])
        found: dict[str, ConstantData] = {}
        for key, meta in listed.items():
            member, where = f"data/{kind}/{meta['path_name']}", f"{self.archive.path}: tensor {quote(key)}"
            if meta["tensor_meta"] is None:
                continue  # an object: refused where the graph uses it
            if meta["use_pickle"]:
                raise UnsupportedError(f"{where}: stored as a pickle: expected a tensor of PyTorch's own class")
            about = cast(Json, meta["tensor_meta"])
            shape, strides = (tuple(int(d["as_int"]) for d in about[f]) for f in ("sizes", "strides"))
            offset = int(about["storage_offset"]["as_int"])
            found[key] = self.archive.tensor(member, self.dtype(about["dtype"]), shape, strides, offset, where)
        return found

    def dtype(self, number: object) -> str:
        if number not in SCALAR_TYPES:
            raise ModelError(f"{self.where}: expected the number of an element type, got {number!r}")
        return SCALAR_TYPES[cast(int, number)]

    # -- the graph -------------------------------------------------------------------------------------------------

    def port(self, arg: Json, metas: Json, numbers: Json) -> Port:
        kind, body = _only(arg)
        if kind == "as_tensor":
            meta = metas[body["name"]]
            return Port(str(body["name"]), self.dtype(meta["dtype"]), tuple(self.size(d) for d in meta["sizes"]))
        if kind == "as_sym_int":
            return Port(str(body["as_name"]), "i64", None)
        raise UnsupportedError(f"{self.where}: an input of kind {quote(kind)}: planish takes tensors and numbers")

    def size(self, dim: Json) -> Dim:
        kind, body = _only(dim)
        return int(body) if kind == "as_int" else parse_size(str(body["expr_str"]), self.where)

    def graph(self, graph: Json, depth: int) -> Graph:
        if depth > _DEEPEST:
            raise UnsupportedError(f"{self.where}: control flow nested more than {_DEEPEST} deep")
        inputs = [_name(arg) for arg in graph["inputs"]]
        nodes = [self.node(node, depth) for node in graph["nodes"]]
        return Graph(inputs, nodes, [self.argument(arg, depth) for arg in graph["outputs"]])

    def node(self, node: Json, depth: int) -> Node:
        target = str(node["target"]).removeprefix("torch.ops.")
        made = Node(str(node.get("name") or ""), target)
        for item in cast("list[Json]", node["inputs"]):
            name = str(item["name"])
            if name in DROPPED:
                continue
            value = self.argument(item["arg"], depth)
            if name and not target.startswith("higher_order."):
                made.inputs[name] = value
            else:
                made.args.append(value)
        made.outputs = [self.argument(arg, depth) for arg in node["outputs"]]
        if target.startswith("higher_order.") and not node.get("is_hop_single_tensor_return"):
            made.outputs = [made.outputs]  # control flow gives a list
        first = next((n for n in _flat(made.outputs) if isinstance(n, Ref)), None)
        made.name = made.name or (first.name if first else target)
        return made

    def argument(self, arg: Json, depth: int) -> object:
        """An argument as a Python value."""
        kind, body = _only(arg)
        match kind:
            case "as_none":
                return None
            case "as_tensor" | "as_custom_obj":
                return Ref(str(body["name"]))
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self.number(body)
            case "as_tensors":
                return [Ref(str(t["name"])) for t in body]
            case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
                return [self.number(n) for n in body]
            case "as_optional_tensor":
                return self.optional(body)
            case "as_optional_tensors":
                return [self.optional(t) for t in body]
            case "as_nested_tensors":
                return [[Ref(str(t["name"])) for t in ts] for ts in body]
            case "as_scalar_type":
                return self.dtype(body)
            case "as_graph":
                return self.graph(body["graph"], depth + 1)
            case "as_float":
                return float(body)  # "Infinity" and "NaN" may be texts
            case "as_int" | "as_ints" | "as_floats" | "as_bool" | "as_bools" | "as_string" | "as_strings":
                return body
            case "as_int_lists" | "as_float_lists" | "as_operator":
                return body
            case "as_device" | "as_layout" | "as_memory_format":
                return None
            case "as_string_to_argument":
                return {str(k): self.argument(v, depth) for k, v in body.items()}
            case _:
                raise UnsupportedError(f"{self.where}: an argument of kind {quote(kind)}")

    def number(self, body: Json) -> object:
        kind, value = _only(body)
        return Ref(str(value)) if kind == "as_name" else value

    def optional(self, body: Json) -> object:
        kind, value = _only(body)
        return Ref(str(value["name"])) if kind == "as_tensor" else None


_TENSORS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _only(union: Json) -> tuple[str, Any]:
    """The one entry of a union."""
    ((kind, value),) = union.items()
    return str(kind), value


def _name(arg: Json) -> str:
    kind, body = _only(arg)
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return str(body.get("as_name", ""))
    return str(cast(Json, body)["name"]) if isinstance(body, dict) and "name" in body else ""


def _flat(values: Sequence[object]) -> list[object]:
    found: list[object] = []
    for value in values:
        found += _flat(cast("list[object]", value)) if isinstance(value, list) else [value]
    return found


__all__ = ["SCALAR_TYPES", "read_pt2"]
