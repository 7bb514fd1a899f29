"""Hostile state dicts and exported programs of PyTorch. `PICKLES` and `PROGRAMS` name each, with its bytes and what its
error must say."""

from __future__ import annotations

import copy
import zipfile
from typing import Any

import numpy as np
from _torch_files import archive, call, name, node, number, pickled, program, pt2, row, states, table, tensor, text

PICKLES: dict[str, tuple[bytes, str]] = {}
PROGRAMS: dict[str, tuple[bytes, str]] = {}
PLACE = "/tmp/planish-hostile-pickle"  # what the payloads would write
_COMMAND = text(f"touch {PLACE}")
_DATA = {"0": np.ones(6, np.float32).tobytes()}
_GOOD = tensor("0", (2, 3), (3, 1), 6)
_STATIC = b"\x80\x04" + b"\x8c\x05posix\x8c\x06system\x93" + _COMMAND + b"\x85R."
_EMPTY = b"}"


def bad(label: str, pattern: str, body: bytes) -> None:
    """A state dict with this pickle, and one good storage."""
    PICKLES[label] = states(body, _DATA), pattern


def whole(label: str, pattern: str, data: bytes) -> None:
    PICKLES[label] = data, pattern


# -- what would run code ----------------------------------------------------------------------------------------------

bad("os.system by REDUCE", 'wants to use "os.system"', table({"w": call(name("os", "system"), _COMMAND)}))
bad("eval by REDUCE", 'wants to use "builtins.eval"', call(name("builtins", "eval"), _COMMAND))
bad("getattr of a module", '"builtins.getattr"', call(name("builtins", "getattr"), name("os", "x"), text("system")))
bad("a name with dots", '"torch.serialization.os.system"', call(name("torch", "serialization.os.system"), _COMMAND))
bad("torch.load inside", '"torch.storage._load_from_bytes"', call(name("torch.storage", "_load_from_bytes"), b"N"))
bad("INST", "opcode INST", b"(" + _COMMAND + b"ios\nsystem\n")
bad("OBJ", "", b"(" + name("os", "system") + _COMMAND + b"o")
bad("NEWOBJ of a class", '"subprocess.Popen"', name("subprocess", "Popen") + row(_COMMAND) + b"\x81")
bad("NEWOBJ of a tensor function", "an object of", name("torch._utils", "_rebuild_tensor_v2") + row(_COMMAND) + b"\x81")
bad("NEWOBJ_EX", "opcode NEWOBJ_EX", name("collections", "OrderedDict") + b")" + _EMPTY + b"\x92")
bad("EXT1", "opcode EXT1", b"\x82\x01")
bad("BUILD of a tensor", "a state for", _GOOD + table({"__class__": b"N"}) + b"b")
bad("a call of a text", "a call of a str", text("os.system") + row(_COMMAND) + b"R")
bad("a call of a dtype", 'a call of "torch.float32"', call(name("torch", "float32"), b"N"))
whole("STACK_GLOBAL", '"posix.system"', archive({"data.pkl": _STATIC}))
whole("before torch 1.6", "another pickle", b"\x80\x02\x8a\x0a" + bytes(9) + b"\x01.")
whole("a second pickle that runs", '"os.system"', b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + pickled(
    call(name("os", "system"), _COMMAND)))  # fmt: skip

# -- arguments that do not fit ----------------------------------------------------------------------------------------

_SIZES = (b"K\x00", row(number(2)), row(number(1)), b"\x89", _EMPTY)
_REBUILD = name("torch._utils", "_rebuild_tensor_v2")
bad("a tensor of a text", "a tensor of a str", table({"w": call(_REBUILD, text("0"), *_SIZES)}))
bad("a tensor of nothing", "a tensor of", table({"w": call(_REBUILD)}))
bad(
    "sizes that are texts",
    "as a size",
    table({"w": tensor("0", (), (), 6).replace(b"(t(t", b"(" + text("2") + b"t(t")}),
)
bad("an OrderedDict of a number", "an OrderedDict", call(name("collections", "OrderedDict"), b"K\x05"))
bad("items for a number", "entries for a int", b"K\x05(" + text("a") + b"Nu")
bad("a storage of another kind", "no storage", row(text("module"), name("torch", "FloatStorage")) + b"Q")

# -- sizes ------------------------------------------------------------------------------------------------------------

bad("negative sizes", "at least 0", table({"w": tensor("0", (-2, 3), (3, 1), 6)}))
bad("negative strides", "at least 0", table({"w": tensor("0", (2, 3), (-3, 1), 6)}))
bad("a negative offset", "at least 0", table({"w": tensor("0", (2,), (1,), 6, -4)}))
bad("beyond the storage", "expected 96 bytes", table({"w": tensor("0", (4, 6), (6, 1), 24)}))
bad("an offset beyond the storage", "expected 28 bytes", table({"w": tensor("0", (1,), (1,), 6, 6)}))
bad("a huge tensor of one element", "too large", table({"w": tensor("0", (1 << 30, 1 << 30), (0, 0), 6)}))
bad("rank 1000", "rank 1000", table({"w": tensor("0", (1,) * 1000, (1,) * 1000, 6)}))
bad("a storage that is missing", "missing", table({"w": tensor("7", (2,), (1,), 2)}))
bad("a storage by a path", "missing", table({"w": tensor("../../../../etc/passwd", (2,), (1,), 2)}))

# -- bombs ------------------------------------------------------------------------------------------------------------

_LAUGHS = b"N" + b"".join(b"2\x86" for _ in range(10_000))
bad("billion laughs", "a dictionary of tensors", _LAUGHS)
bad("billion laughs as a key", "as a key", b"}(" + _LAUGHS + b"Nu")
bad("nested dictionaries", "nested at most", b"".join(b"}" + text("a") for _ in range(9_000)) + b"}" + b"s" * 9_000)
bad("a dictionary in itself", "nested at most", b"}q\x00" + text("a") + b"h\x00s")
bad(
    "a wide lattice of dictionaries",
    "entries",
    b"}q\x00"
    + b"".join(
        b"0}(" + b"".join(text(f"{k}") + b"h" + bytes([i]) for k in range(20)) + b"uq" + bytes([i + 1])
        for i in range(10)
    ),
)
bad("a number of many digits", "128 bits", table({"w": b"\x8a\xff" + b"\x7f" * 255}))
bad("a text that is too long", "damaged", b"X\xff\xff\xff\x7fabc")
bad("marks without end", "steps", b"(" * 1_600_000)
whole("a zip bomb", "at most", archive({"data.pkl": pickled(b"(" * (1 << 27))}, compression=zipfile.ZIP_DEFLATED))

# -- damage -----------------------------------------------------------------------------------------------------------

bad("no end", "damaged", b"}(")
bad("an empty stack", "damaged", b"R")
bad("an unknown memo", "damaged", b"h\x63")
whole("cut short", "damaged", states(table({"w": _GOOD}), _DATA)[:-40])
whole("no pickle", "without data.pkl", archive({"data/0": b"1234"}))
whole("TorchScript", "TorchScript", archive({"data.pkl": pickled(_EMPTY), "code/__torch__.py": b"x"}))
whole("big-endian", "little-endian", archive({"data.pkl": pickled(_EMPTY), "byteorder": b"big"}))

# -- exported programs ------------------------------------------------------------------------------------------------

_W = {"w": np.ones((3, 2), np.float32)}
_NODES = [node("relu.default", "y", self="x")]


def exported(label: str, pattern: str, change: Any = None, **more: Any) -> None:
    made: Any = program({"x": [2]}, _W, copy.deepcopy(_NODES), ["y"])
    made = made if change is None else change(made)
    PROGRAMS[label] = pt2(made, _W, **more), pattern


def _set(*path: str | int, value: Any) -> Any:
    def change(made: Any) -> Any:
        at = made
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return made

    return change


_GRAPH = ("graph_module", "graph")
exported("JSON that is none", "damaged", lambda made: b"{")
exported("JSON nested deep", "damaged", lambda made: b"[" * 100_000)
exported("a list for a program", "damaged", lambda made: b"[]")
exported("no graph", "damaged", _set("graph_module", value={}))
exported("another version", "expected version 8", _set("schema_version", value={"major": 99, "minor": 0}))
exported("weights cut short", "expected 24 bytes", short=4)
exported(
    "a value before it is made",
    '"zz"|zz',
    _set(*_GRAPH, "nodes", 0, "inputs", 0, "arg", value={"as_tensor": {"name": "zz"}}),
)
exported("an argument of no kind", "argument of kind", _set(*_GRAPH, "nodes", 0, "inputs", 0, "arg", value={"as_x": 1}))
exported("an argument that is no union", "damaged", _set(*_GRAPH, "nodes", 0, "inputs", 0, "arg", value={}))
exported("a size that runs code", "expected a size", _set(
    *_GRAPH, "tensor_values", "x", "sizes", value=[{"as_expr": {"expr_str": "__import__('os')"}}]))  # fmt: skip
exported("a size of powers", "expected a size", _set(
    *_GRAPH, "tensor_values", "x", "sizes", value=[{"as_expr": {"expr_str": "((((9**8)**8)**8)**8)**8"}}]))  # fmt: skip
exported("a negative size", "size", _set(*_GRAPH, "tensor_values", "x", "sizes", value=[{"as_int": -5}]))
exported("an unknown element type", "element type", _set(*_GRAPH, "tensor_values", "x", "dtype", value=77))
exported("weights that are missing", "missing", _set(
    "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name", value="none"))  # fmt: skip
_PARTS = [node("full.default", "f", size=[1 << 40], fill_value=1.0), node("split.Tensor", "y", self="f", split_size=1)]
exported("a split into too many parts", "too many", _set(*_GRAPH, "nodes", value=_PARTS))
exported("an identity that is too large", "too many", _set(*_GRAPH, "nodes", value=[
    node("tril_indices.default", "y", row=1 << 30, col=1 << 30)]))  # fmt: skip
exported("a power that is too large", "64 bits|too large|OverflowError", _set(*_GRAPH, "nodes", value=[
    {"target": "_operator.pow", "inputs": [{"name": k, "arg": {"as_int": 1 << 30}} for k in "ab"],
     "outputs": [{"as_sym_int": {"as_name": "n"}}], "metadata": {}}, *_NODES]))  # fmt: skip
exported("too few arguments", "arguments", _set(*_GRAPH, "nodes", 0, "inputs", value=[]))
