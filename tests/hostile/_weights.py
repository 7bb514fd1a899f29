"""Broken and hostile checkpoints and MindIR files. `WEIGHTS` and `MINDIR` name each, with how to make it and what its
error must say.

`make(folder)` gives the bytes of the file, or the path of a file that it wrote into `folder`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from _mindir import (
    MONAD,
    ckpt,
    ckpt_tensor,
    ckpt_value,
    constant,
    dense,
    dense_graph,
    dense_primitives,
    encrypted,
    field,
    fields,
    graph,
    info,
    model,
    node,
    primitive,
    raw_safetensors,
    safetensors,
    split,
    tensor,
    typed,
    value,
)

Make = Callable[[Path], bytes | Path]
WEIGHTS: dict[str, tuple[Make, str]] = {}
MINDIR: dict[str, tuple[Make, str]] = {}
W = {"fc.w": np.ones((64, 8), np.float32)}


def weights(name: str, pattern: str, make: Make) -> None:
    """A checkpoint."""
    assert name not in WEIGHTS
    WEIGHTS[name] = (make, pattern)


def mindir(name: str, pattern: str, make: Make) -> None:
    """A MindIR file."""
    assert name not in MINDIR
    MINDIR[name] = (make, pattern)


# -- safetensors ------------------------------------------------------------------------------------------------------

ENTRY = {"dtype": "F32", "shape": [64, 8], "data_offsets": [0, 2048]}


def header(pattern: str, name: str, text: str | bytes, body: bytes = bytes(2048)) -> None:
    """A safetensors file with this header."""
    weights(f"safetensors: {name}", pattern, lambda _: raw_safetensors(text, body))


def entry(pattern: str, name: str, **changes: object) -> None:
    """A safetensors file whose one tensor is described in another way."""
    header(pattern, name, json.dumps({"fc.w": {**ENTRY, **changes}}))


for part in (30, 60, 99):
    weights(
        f"safetensors: cut after {part} %",
        "cut short|damaged",
        lambda _, part=part: (data := safetensors(W))[: len(data) * part // 100],
    )
weights("safetensors: a header longer than the file", "cut short", lambda _: (9999).to_bytes(8, "little") + b"{}" * 9)
weights(
    "safetensors: a header of 2^60 bytes", "expected a checkpoint", lambda _: (1 << 60).to_bytes(8, "little") + b"{}"
)
header("not valid JSON", "no JSON", "{'fc.w': 1}")
header("not valid JSON", "invalid UTF-8", b'{"\xff": 1}')
header("nested too deep|not valid JSON", "a header nested 100,000 deep", '{"a":' * 100_000)
header("not valid JSON", "a number of 10,000 digits", '{"fc.w": {"dtype": "F32", "shape": [' + "9" * 10_000 + "]}}")
header("there twice", "two tensors of one name", f'{{"fc.w": {json.dumps(ENTRY)}, "fc.w": {json.dumps(ENTRY)}}}')
header("overlaps", "tensors that overlap", json.dumps({"fc.w": ENTRY, "b": ENTRY}))
header("expected an object", "a tensor that is a list", '{"fc.w": [1, 2]}')
header("__metadata__", "metadata that is a number", '{"__metadata__": {"format": 3}}', b"")
header("unused", "a hole before a tensor", json.dumps({"b": {**ENTRY, "data_offsets": [2048, 4096]}}), bytes(4096))
header("expected 2048 bytes of tensors", "bytes behind the last tensor", json.dumps({"fc.w": ENTRY}), bytes(4096))
entry("expected a dtype", "an unknown dtype", dtype="F7")
entry("expected a dtype", "a dtype that is a list", dtype=["F32"])
entry("expected a shape", "a negative size", shape=[-64, -8])
entry("expected a shape", "a size that is true", shape=[True, 512])
entry("too large", "2^124 elements", shape=[2**62, 2**62])
entry("data_offsets", "offsets the wrong way round", data_offsets=[2048, 0])
entry("data_offsets", "one offset", data_offsets=[0])
entry("data_offsets", "an offset below zero", data_offsets=[-8, 2040])
entry("expected 2048 bytes", "offsets of another length", data_offsets=[0, 2047])
entry("cut short", "offsets beyond the end", data_offsets=[2048, 4096])

# -- .ckpt ------------------------------------------------------------------------------------------------------------

for part in (5, 50, 95):
    weights(
        f"ckpt: cut after {part} %",
        "cut short|damaged|expected a checkpoint",
        lambda _, part=part: (data := ckpt(W))[: len(data) * part // 100],
    )
weights("ckpt: a checksum that is wrong", "expected the checksum", lambda _: ckpt(W) + b"crc_num" + bytes(10))
weights("ckpt: garbage behind a value", "damaged|cut short", lambda _: ckpt(W) + b"\x0a\xff\xff\xff\xff\xff\xff\x01")
weights("ckpt: zeros behind a value", "damaged", lambda _: ckpt(W) + bytes(1000))
weights("ckpt: an unknown element type", "expected an element type",
        lambda _: ckpt_value("w", ckpt_tensor(W["fc.w"], kind="Float7")))  # fmt: skip
weights("ckpt: too few bytes", "expected 2048 bytes", lambda _: ckpt_value("w", ckpt_tensor(W["fc.w"], bytes(100))))
weights("ckpt: too many bytes", "expected 2048 bytes", lambda _: ckpt_value("w", ckpt_tensor(W["fc.w"], bytes(4000))))
weights(
    "ckpt: negative sizes", "at least 0", lambda _: ckpt_value("w", fields(1, [-2]) + field(2, "Int8") + field(3, b""))
)
weights("ckpt: 2^124 elements", "too large",
        lambda _: ckpt_value("w", fields(1, [2**62, 2**62]) + field(2, "Int8") + field(3, b"x")))  # fmt: skip
weights("ckpt: a tensor without contents", "without contents", lambda _: ckpt_value("w", field(2, "Int8")))
weights("ckpt: a value without a tensor", "without a tensor", lambda _: field(1, field(1, "w")))
weights("ckpt: a tensor without a name", "without a name", lambda _: ckpt_value("", ckpt_tensor(W["fc.w"])))
weights("ckpt: two tensors of one name", "there twice", lambda _: ckpt({**W, "b": np.ones(3, np.int8)}) + ckpt(W))
weights("ckpt: a piece too many", "there twice", lambda _: ckpt(W) + ckpt(W))
weights("ckpt: a piece of another size", "there twice|expected",
        lambda _: ckpt_value("fc.w", ckpt_tensor(W["fc.w"], bytes(99))) + ckpt({"fc.w": W["fc.w"][:9]}))  # fmt: skip
weights(
    "ckpt: a map of one tensor",
    "keys, values and status",
    lambda _: ckpt_value("w", field(1, ckpt_tensor(W["fc.w"])), 3),
)
weights("ckpt: a string in invalid UTF-32", "UTF-32",
        lambda _: ckpt_value("w", field(1, 0) + field(2, "str") + field(3, b"\xff" * 8)))  # fmt: skip
weights(
    "ckpt: a name in invalid UTF-8",
    "UTF-8",
    lambda _: field(1, field(1, b"\xff\xfe") + field(2, ckpt_tensor(W["fc.w"]))),
)
weights("ckpt: an ONNX model", "expected a checkpoint", lambda _: b"\x08\x08\x12\x07pytorch" + bytes(100))
weights("ckpt: encrypted, and no key", "expected a key, got none", lambda _: encrypted(ckpt(W)))
weights("ckpt: a record that leaves the file", "does not fit in the file", lambda _: encrypted(ckpt(W))[:-1])
weights("ckpt: only a magic number", "does not fit in the file", lambda _: encrypted(ckpt(W))[:4])
weights("ckpt: no such file", "no such file", lambda folder: folder / "absent.ckpt")
weights("ckpt: empty", "is empty", lambda _: b"")

# -- MindIR: bytes ----------------------------------------------------------------------------------------------------

for part in (1, 10, 40, 70, 99):
    mindir(
        f"cut after {part} %",
        "cut short|damaged|expected a MindIR model|without a graph",
        lambda _, part=part: (data := dense())[: len(data) * part // 100],
    )
mindir("empty", "is empty", lambda _: b"")
mindir(
    "garbage behind the version",
    "damaged|cut short|without a graph",
    lambda _: dense()[:6] + bytes(range(255, 0, -1)) * 4,
)
mindir("garbage behind the model", "damaged|cut short", lambda _: dense() + b"\xff" * 40)
mindir("random bytes", "expected a MindIR model", lambda _: bytes((37 * i * i + 11) % 251 + 1 for i in range(5000)))
mindir("zeros", "expected a MindIR model", lambda _: bytes(100_000))
mindir("no graph", "without a graph", lambda _: field(1, "1.1") + field(2, "MindSpore"))
mindir("encrypted, and no key", "expected a key, got none", lambda _: encrypted(dense()))
mindir("a record that leaves the file", "does not fit in the file", lambda _: encrypted(dense())[:-7])
mindir(
    "records of two ciphers",
    "expected a record of AES-GCM",
    lambda _: encrypted(dense()) + encrypted(dense(), cipher="AES-CBC"),
)
mindir("values nested 10,000 deep", "nested|deep", lambda _: _deep_value(10_000))
mindir("a text in invalid UTF-8", "UTF-8", lambda _: dense().replace(b"main:x", b"main\xff\xfe"))
mindir("100,000 empty nodes", "expected one output", lambda _: model(field(2, "main") + field(1, b"") * 100_000))


def _deep_value(depth: int) -> bytes:
    inner = value(1)
    for _ in range(depth):
        inner = field(16, 20) + field(17, inner)
    return model(graph("main", [constant("c", inner)], [], ["c"]))


# -- MindIR: names ----------------------------------------------------------------------------------------------------

X = info("main:x", "f32", 2, 3)
RELU = primitive("ReLU:1", "ReLU")


def small(name: str, pattern: str, nodes: Sequence[bytes], output: str = "main:y", functions: Sequence[bytes] = (),
          parameters: Sequence[bytes] = (), primitives: Sequence[bytes] = (RELU,)) -> None:  # fmt: skip
    """A model of some nodes on `main:x`, f32[2,3]."""
    main = graph("main", nodes, [X], [output], parameters)
    mindir(name, pattern, lambda _: model(main, functions, primitives))


def relu(source: str, output: str) -> bytes:
    """A node."""
    return node("REF::ReLU:1", [source], output, typed("f32", 2, 3))


def call(function: str, *arguments: str, output: str = "main:y") -> bytes:
    """A call of a function."""
    return node(f"REF::{function}", arguments, output, typed("f32", 2, 3))


small("a name that nothing defines", "nothing before it defines", [relu("main:nowhere", "main:y")])
small("a primitive that nothing defines", "nothing before it defines", [node("REF::Softmax:9", ["main:x"], "main:y")])
small("an output that nothing defines", "not defined", [relu("main:x", "main:y")], "main:z")
small("a node that reads itself", "nothing before it defines", [relu("main:y", "main:y")])
small("a cycle", "nothing before it defines", [relu("main:b", "main:a"), relu("main:a", "main:b")], "main:b")
small("two nodes of one name", "defined twice", [relu("main:x", "main:y"), relu("main:x", "main:y")])
small("two functions of one name", "two graphs", [relu("main:x", "main:y")],
      functions=[graph("f", [], [info("f:a")], ["f:a"]), graph("f", [], [info("f:b")], ["f:b"])])  # fmt: skip
small("a node with two outputs", "expected one output", [relu("main:x", "main:y") + field(2, "main:z")])
small("a value without a name", "without a name", [relu("main:x", "")])
small("no outputs", "no outputs", [relu("main:x", "main:y")][:0], "main:x")
MINDIR["no outputs"] = (
    lambda _: model(graph("main", [relu("main:x", "main:y")], [X], []), primitives=[RELU]),
    "no outputs",
)
small("a primitive that nobody knows", "Frobnicate", [node("REF::F:1", ["main:x"], "main:y")],
      primitives=[primitive("F:1", "Frobnicate")])  # fmt: skip
small("a function that calls itself without end", "deep|recurs|end|loop", [call("f", "main:x")],
      functions=[graph("f", [node("REF::f", ["f:a"], "f:b")], [info("f:a", "f32", 2, 3)], ["f:b"])])  # fmt: skip
small("two functions that call each other without end", "deep|recurs|end|loop", [call("f", "main:x")], functions=[
    graph("f", [relu("f:a", "f:b"), node("REF::g", ["f:b"], "f:c")], [info("f:a", "f32", 2, 3)], ["f:c"]),
    graph("g", [relu("g:a", "g:b"), node("REF::f", ["g:b"], "g:c")], [info("g:a", "f32", 2, 3)], ["g:c"]),
])  # fmt: skip
small("calls of 2^40 nodes", "large|nodes|calls|many|deep", [call("f0", "main:x")], functions=[
    graph(f"f{i}", [node(f"REF::f{i + 1}", [f"f{i}:a"], f"f{i}:b"), node(f"REF::f{i + 1}", [f"f{i}:b"], f"f{i}:c")],
          [info(f"f{i}:a", "f32", 2, 3)], [f"f{i}:c"]) for i in range(40)
] + [graph("f40", [relu("f40:a", "f40:b")], [info("f40:a", "f32", 2, 3)], ["f40:b"])])  # fmt: skip
small("a function with too few arguments", "argument", [call("f")],
      functions=[graph("f", [relu("f:a", "f:b")], [info("f:a", "f32", 2, 3)], ["f:b"])])  # fmt: skip
small("a number that is called", "call|function", [constant("c", 3), node("REF::c", ["main:x"], "main:y")])
small("begins and sizes of another number", "arguments of Slice that do not fit", [
    constant("b", (0, 0, 0)), constant("s", (1, 1)), node("REF::Slice:1", ["main:x", "b", "s"], "main:y"),
], primitives=[primitive("Slice:1", "Slice")])  # fmt: skip
small("an output that is a function", "function|closure|tensor", [], "f",
      functions=[graph("f", [relu("f:a", "f:b")], [info("f:a", "f32", 2, 3)], ["f:b"])])  # fmt: skip
small("an output that is a monad", "tensor|monad|results|outputs", [constant("u", MONAD)], "u")

# -- MindIR: tensors --------------------------------------------------------------------------------------------------


def parameter(name: str, pattern: str, body: bytes) -> None:
    """A model of one parameter."""
    small(name, pattern, [relu("main:x", "main:y")], parameters=[body])


F32 = {"dtype": "f32"}
parameter(
    "weights of too few bytes",
    "expected 24 bytes",
    tensor("main:w", dtype="f32", dims=[2, 3], extra=field(9, bytes(20))),
)
parameter(
    "weights of 2^124 elements", "too large", tensor("main:w", dtype="f32", dims=[2**62, 2**62], extra=field(9, b""))
)
parameter(
    "weights of negative size", "at least|at most", tensor("main:w", dtype="f32", dims=[-5], extra=field(9, bytes(4)))
)
parameter("weights of unknown size", "at least 0", tensor("main:w", dtype="f32", dims=[-1], extra=field(9, bytes(4))))
parameter("an element type of 77", "element type", fields(1, [2]) + field(2, 77) + field(7, "main:w"))
parameter(
    "elements without a type", "element type", fields(1, [2]) + field(2, 0) + field(7, "main:w") + field(9, bytes(8))
)
parameter(
    "too few numbers in a list", "expected 4 elements", tensor("main:w", dtype="f32", dims=[4], extra=fields(3, [1.0]))
)
parameter(
    "compressed weights", "compressed", tensor("main:w", dtype="f32", dims=[1], extra=field(9, bytes(4)) + field(16, 3))
)


def _external(location: str, offset: int = 64, length: int = 48) -> Callable[[Path], Path]:
    """A model with its weights at this place of a data file."""

    def build(folder: Path) -> Path:
        path = split(folder, {"fc.weight": np.ones((4, 3), np.float32), "fc.bias": np.ones(4, np.float32)})
        place = field(1, location) + field(2, offset) + field(3, length)
        held = [
            tensor("main:fc.weight", dtype="f32", dims=[4, 3], ref_key="fc.weight", extra=field(12, place)),
            tensor("main:fc.bias", np.ones(4, np.float32), ref_key="fc.bias"),
        ]
        path.write_bytes(model(dense_graph(held), primitives=dense_primitives()))
        return path

    return build


def _linked(folder: Path) -> Path:
    path = _external("link/passwd")(folder)
    (folder / "link").symlink_to("/etc")
    return path


def _pipe(folder: Path) -> Path:
    path = _external("pipe")(folder)
    os.mkfifo(folder / "pipe")
    return path


mindir("data in the folder above", "inside the model's folder", _external("../data_0"))
mindir("data at an absolute path", "inside the model's folder", _external("/etc/passwd"))
mindir("data behind a link", "link out of the model's folder", _linked)
mindir("data in a pipe", "not a regular file", _pipe)
mindir("data that is not there", "missing", _external("net_variables/data_9"))
mindir("data beyond the end", "expected 48 bytes at offset", _external("net_variables/data_0", 1 << 40))
mindir("data at -1", "expected 48 bytes at offset", _external("net_variables/data_0", -1))
mindir("data of another length", "expected 48 bytes", _external("net_variables/data_0", 64, 40))
mindir("data of length -48", "at offset", _external("net_variables/data_0", 64, -48))
