"""Files of PyTorch made by hand: pickles opcode by opcode, archives, and exported programs as JSON."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

# -- pickles ----------------------------------------------------------------------------------------------------------


def name(module: str, what: str) -> bytes:
    """A global by its name."""
    return f"c{module}\n{what}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def row(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def table(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary."""
    return b"}(" + b"".join(text(k) + v for k, v in entries.items()) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


def storage(key: str, elements: int, kind: str = "FloatStorage") -> bytes:
    return row(text("storage"), name("torch", kind), text(key), text("cpu"), number(elements)) + b"Q"


def tensor(
    key: str, shape: Sequence[int], strides: Sequence[int], elements: int, offset: int = 0, kind: str = "FloatStorage"
) -> bytes:
    hooks = call(name("collections", "OrderedDict"))
    sizes, steps = row(*map(number, shape)), row(*map(number, strides))
    function = name("torch._utils", "_rebuild_tensor_v2")
    return call(function, storage(key, elements, kind), number(offset), sizes, steps, b"\x89", hooks)


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


# -- archives ---------------------------------------------------------------------------------------------------------


def archive(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with these members in the folder `archive`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for member, data in members.items():
            out.writestr(f"archive/{member}", data)
    return file.getvalue()


def states(body: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A state dict as `torch.save` writes it."""
    members = {"data.pkl": pickled(body), "byteorder": b"little", "version": b"3\n"}
    return archive(members | {f"data/{key}": data for key, data in (storages or {}).items()})


# -- exported programs ------------------------------------------------------------------------------------------------


def ref(value: str) -> dict[str, Any]:
    return {"as_tensor": {"name": value}}


def node(target: str, made: str, **inputs: Any) -> dict[str, Any]:
    """A node: strings among `inputs` are names of tensors."""
    listed = [{"name": k, "arg": _argument(v), "kind": 1} for k, v in inputs.items()]
    return {"target": f"torch.ops.aten.{target}", "inputs": listed, "outputs": [ref(made)], "metadata": {}}


def _argument(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    match value:
        case bool():
            return {"as_bool": value}
        case str():
            return ref(value)
        case int():
            return {"as_int": value}
        case float():
            return {"as_float": value}
        case list():
            return {"as_ints": value}
        case _:
            return {"as_none": True}


def size(value: int | str) -> dict[str, Any]:
    return {"as_int": value} if isinstance(value, int) else {"as_expr": {"expr_str": value, "hint": None}}


def meta(shape: Sequence[int | str], dtype: int = 7) -> dict[str, Any]:
    strides = [int(np.prod([d for d in shape[i + 1 :] if isinstance(d, int)])) for i in range(len(shape))]
    return {
        "dtype": dtype, "sizes": [size(d) for d in shape], "requires_grad": False, "device": {"type": "cpu"},
        "strides": [size(s) for s in strides], "storage_offset": size(0), "layout": 7,
    }  # fmt: skip


def program(
    inputs: Mapping[str, Sequence[int | str]],
    weights: Mapping[str, np.ndarray],
    nodes: Sequence[Mapping[str, Any]],
    outputs: Sequence[str],
    *,
    ranges: Mapping[str, tuple[int, int | None]] | None = None,
    tree: str = "",
    buffers: Sequence[str] = (),
) -> dict[str, Any]:
    """The JSON of an exported program; weights are inputs of the same names."""
    specs: list[Any] = [
        {"buffer": {"arg": {"name": n}, "buffer_name": n, "persistent": True}}
        if n in buffers
        else {"parameter": {"arg": {"name": n}, "parameter_name": n}}
        for n in weights
    ]
    specs += [{"user_input": {"arg": ref(n)}} for n in inputs]
    metas = {n: meta(shape) for n, shape in inputs.items()} | {n: meta(w.shape) for n, w in weights.items()}
    leaf = '{"type": null, "context": null, "children_spec": []}'
    graph = {
        "inputs": [ref(n) for n in (*weights, *inputs)], "outputs": [ref(n) for n in outputs], "nodes": list(nodes),
        "tensor_values": metas, "sym_int_values": {}, "sym_bool_values": {}, "is_single_tensor_return": False,
    }  # fmt: skip
    signature = {"input_specs": specs, "output_specs": [{"user_output": {"arg": ref(n)}} for n in outputs]}
    calls = [{"fqn": "", "signature": {"out_spec": tree or f"[1, {leaf}]"}}]
    limits = {k: {"min_val": low, "max_val": high} for k, (low, high) in (ranges or {}).items()}
    return {
        "graph_module": {"graph": graph, "signature": signature, "module_call_graph": calls},
        "opset_version": {"aten": 10}, "range_constraints": limits, "schema_version": {"major": 8, "minor": 20},
        "torch_version": "2.13.0",
    }  # fmt: skip


def pt2(whole: object, weights: Mapping[str, np.ndarray], *, short: int = 0) -> bytes:
    """The file of an exported program; the weights' members lack `short` bytes."""
    config = {
        n: {"path_name": f"weight_{i}", "is_param": True, "use_pickle": False, "tensor_meta": meta(w.shape)}
        for i, (n, w) in enumerate(weights.items())
    }
    members = {
        "archive_format": b"pt2",
        "models/model.json": whole if isinstance(whole, bytes) else json.dumps(whole).encode(),
        "data/weights/model_weights_config.json": json.dumps({"config": config}).encode(),
    }
    for i, weight in enumerate(weights.values()):
        data = weight.tobytes()
        members[f"data/weights/weight_{i}"] = data[: len(data) - short]
    return archive(members)


def written(folder: Path, data: bytes, file: str = "m.pt2") -> Path:
    path = folder / file
    path.write_bytes(data)
    return path
