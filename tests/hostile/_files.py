"""Broken and hostile model files. `FILES` names each, with how to make it and what its error must say.

`make(folder)` gives the bytes of a model, a `ModelProto`, or the path of a file that it wrote into `folder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_models import info, make, node

Made = bytes | onnx.ModelProto | Path
Make = Callable[[Path], Made]
FILES: dict[str, tuple[Make, str]] = {}
"""Name of the case: how to make it, and a pattern for the message."""

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
NAMES = {
    "newline": "a\nb",
    "quotes": "a\"b'c`d",
    "shell": "$(touch x); rm -rf .",
    "html": "</script><b>",
    "comment": "*/ int x; /*",
    "percent": "%s%n%x",
    "path": "../../../etc/passwd",
    "long": "n" * 10_000,
    "llvm": '"} attributes #0 = {',
    "unicode": "\u202e\u0000b\ufeff".replace("\u0000", ""),
    "control": "\x1b[31mred",
    "delete": "\x7f\x08\x08",
    "keyword": "int",
    "marks": "?n1",
}
"""Names that are legal in ONNX, and must do no harm wherever they are written."""


def case(name: str, pattern: str) -> Callable[[Make], Make]:
    """Add a case."""

    def add(made: Make) -> Make:
        assert name not in FILES
        FILES[name] = (made, pattern)
        return made

    return add


def small(
    name: str, pattern: str, *nodes: onnx.NodeProto, shape: Sequence[int | str] = (2, 3), **constants: Any
) -> None:
    """A case of some nodes on an input `x` (f32 of `shape`) with constants, that give `y`."""

    def build(_: Path) -> Made:
        return make(nodes, {"x": info("x", shape)}, constants={k: np.asarray(v) for k, v in constants.items()})

    case(name, pattern)(build)


def gemm() -> onnx.ModelProto:
    """A good model."""
    weights = {"w": np.ones((64, 8), np.float32)}
    return make([node("MatMul", ["x", "w"], name="fc")], {"x": info("x", [2, 64])}, constants=weights)


# -- bytes ------------------------------------------------------------------------------------------------------------

for part in (1, 10, 50, 90, 99):
    case(f"cut after {part} %", r"cut short|damaged|protobuf|expected an ONNX model")(
        lambda _, part=part: (data := gemm().SerializeToString())[: len(data) * part // 100]
    )
case("empty file", "is empty")(lambda _: b"")
case("wrong magic", "expected an ONNX model")(lambda _: b"\x7fELF" + bytes(200))
case("zeros", "expected an ONNX model")(lambda _: bytes(1 << 20))
case("varint of 11 bytes", "expected an ONNX model|protobuf|damaged")(lambda _: b"\x08" + b"\xff" * 11)
case("length of 2^63", "cut short|damaged|expected an ONNX model")(
    lambda _: gemm().SerializeToString() + b"\x3a" + b"\xff" * 8 + b"\x7f" + b"abc"
)
case("50,000 tiny fields", "names no operator|is not imported")(
    lambda _: b"\x08\x08" * 50_000 + b"\x3a\x06" + b"\x0a\x00" * 3
)
case("20,000 empty nodes", "node|operator|too many")(
    lambda _: (
        onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]).SerializeToString()
        + b"\x3a"
        + _varint(len(body := b"\x0a\x00" * 20_000))
        + body
    )
)
case("groups nested 100,000 deep", "expected an ONNX model|damaged|protobuf")(
    lambda _: b"\x08\x08" + b"\x9b\x06" * 100_000 + b"\x9c\x06" * 100_000
)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@case("graphs nested 2,000 deep", "deep|nest|damaged|protobuf")
def _deep(_: Path) -> bytes:
    inner = b""
    for _n in range(2_000):  # GraphProto.node.attribute.g
        attribute = b"\x0a\x01g\x32" + _varint(len(inner)) + inner + b"\xa0\x01\x05"
        made = b"\x22\x02If\x2a" + _varint(len(attribute)) + attribute
        inner = b"\x0a" + _varint(len(made)) + made
    return b"\x08\x08\x3a" + _varint(len(inner)) + inner + b"\x42\x04\x0a\x00\x10\x11"


@case("name in invalid UTF-8", "UTF-8|text|name")
def _utf8(_: Path) -> bytes:
    return gemm().SerializeToString().replace(b"fc", b"\xff\xfe")


# -- graphs -----------------------------------------------------------------------------------------------------------


@case("cycle", "has a cycle")
def _cycle(_: Path) -> Made:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])]
    return make(nodes, {"x": info("x", [2])}, ["b"])


@case("cycle of 5,000 nodes", "has a cycle")
def _long_cycle(_: Path) -> Made:
    nodes = [node("Relu", [f"v{i}"], [f"v{(i + 1) % 5_000}"]) for i in range(5_000)]
    return make(nodes, {"x": info("x", [2])}, ["v7"])


small("node that reads itself", "cycle", node("Add", ["x", "y"]))
small("two values of one name", "also made by", node("Relu", ["x"]), node("Abs", ["x"]))
small("missing value", "is made by no node", node("Add", ["x", "nowhere"]))
small("unknown operator", "Frobnicate", node("Frobnicate", ["x"]))
small("unknown domain", "not imported", node("Relu", ["x"], domain="evil.corp"))
case("empty graph", "no outputs")(lambda _: make([], {}, []))
case("no opset", 'operator set "ai.onnx" is not imported')(lambda _: _changed(lambda m: m.ClearField("opset_import")))
case("opset 2^31 - 1", "expected an ONNX opset")(
    lambda _: make([node("Relu", ["x"])], {"x": info("x", [1])}, opset=2**31 - 1)
)
case("input of no type", "no type")(lambda _: make([node("Relu", ["x"])], {"x": onnx.ValueInfoProto(name="x")}))
case("input of an unknown type", "type")(lambda _: make([node("Relu", ["x"])], {"x": info("x", [1], 77)}))
case("two inputs of one name", "input")(lambda _: _changed(lambda m: m.graph.input.append(m.graph.input[0])))
case("negative shape", "at least 0")(lambda _: make([node("Relu", ["x"])], {"x": info("x", [-5, 2])}))
case("input of 2^40 elements squared", "large|2\\^63|bytes|overflow")(
    lambda _: make([node("Relu", ["x"])], {"x": info("x", [2**40, 2**40])})
)
case("input of 2^62 elements", "at most|large|2\\^63|bytes|overflow")(
    lambda _: make([node("Relu", ["x"])], {"x": info("x", [2**62])})
)


def _changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = gemm()
    change(model)
    return model


def _leaf(name: str) -> onnx.GraphProto:
    return helper.make_graph([node("Neg", ["x"], [name])], name, [], [onnx.ValueInfoProto(name=name)])


@case("If nested 5,000 deep", "deep|nest|damaged|protobuf")
def _if_bomb(_: Path) -> bytes:
    inner = _leaf("l").SerializeToString()
    for n in range(5_000):
        attribute = b"\x0a\x0bthen_branch\x32" + _varint(len(inner)) + inner + b"\xa0\x01\x05"
        made = b"\x0a\x01c\x12\x02" + f"{n:02}"[:2].encode() + b"\x22\x02If\x2a" + _varint(len(attribute)) + attribute
        inner = b"\x0a" + _varint(len(made)) + made
    return b"\x08\x08\x3a" + _varint(len(inner)) + inner + b"\x42\x04\x0a\x00\x10\x11"


def _functions(count: int, width: int, bottom: str, cyclic: bool = False) -> onnx.ModelProto:
    """Functions each of which calls the next `width` times."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made: list[onnx.FunctionProto] = []
    for n in range(count):
        last = n == count - 1
        inner, domain = (bottom, "") if last and not cyclic else (f"f{(n + 1) % count}", "f")
        steps = [node(inner, [f"v{i}"], [f"v{i + 1}"], domain=domain) for i in range(width)]
        made.append(helper.make_function("f", f"f{n}", ["v0"], [f"v{width}"], steps, opset))
    graph = helper.make_graph([node("f0", ["x"], domain="f")], "g", [info("x", [2])], [info("y", [2])])
    return helper.make_model(graph, opset_imports=opset, functions=made, ir_version=10)


case("function bomb: 2^40 nodes", "function|nodes|large|deep")(lambda _: _functions(40, 2, "Relu"))
case("function bomb: 10^9 nodes", "function|nodes|large|deep")(lambda _: _functions(9, 10, "Relu"))
case("functions 3,000 deep", "deep|nest|function")(lambda _: _functions(3000, 1, "Relu"))
case("functions in a circle", "itself|recurs|deep|circle|cycle")(lambda _: _functions(3, 1, "Relu", cyclic=True))

# -- external data ----------------------------------------------------------------------------------------------------


def _external(folder: Path, location: str, offset: str | None = None, length: str | None = None) -> Path:
    (folder / "w.bin").write_bytes(bytes(2048))
    model = gemm()
    w = model.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            w.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _linked(folder: Path) -> Path:
    (folder / "link").symlink_to("/etc/passwd")
    return _external(folder, "link")


def _linked_folder(folder: Path) -> Path:
    (folder / "there").symlink_to("/etc")
    return _external(folder, "there/passwd")


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return _external(folder, "pipe")


case("external data in the folder above", "outside|leaves|folder")(lambda f: _external(f, "../w.bin"))
case("external data at an absolute path", "absolute|outside|folder")(lambda f: _external(f, "/etc/passwd"))
case("external data behind a link", "outside|link|folder")(_linked)
case("external data in a linked folder", "outside|link|folder")(_linked_folder)
case("external data that is no file", "no such file|missing|not there")(lambda f: _external(f, "none.bin"))
case("external data that is a folder", "folder|directory|file")(lambda f: _external(f, "."))
case("external data that is a pipe", "file")(_pipe)
case("external data without a location", "expected a path inside")(lambda f: _external(f, ""))
case("external data beyond the end", "bytes")(lambda f: _external(f, "w.bin", "1024", "2048"))
case("external data at 2^63", "offset|bytes")(lambda f: _external(f, "w.bin", str(2**63), "2048"))
case("external data at -1", "offset")(lambda f: _external(f, "w.bin", "-1", "2048"))
case("external data of length x", "length")(lambda f: _external(f, "w.bin", "0", "x"))
case("external data too short", "bytes")(lambda f: _external(f, "w.bin", "0", "16"))
case("external data with NUL in its name", "NUL|name|path|location|file")(lambda f: _external(f, "w\0.bin"))

# -- weights ----------------------------------------------------------------------------------------------------------


def _dims(*dims: int) -> Make:
    def build(_: Path) -> Made:
        def change(model: onnx.ModelProto) -> None:
            w = model.graph.initializer[0]
            del w.dims[:]
            w.dims.extend(dims)

        return _changed(change)

    return build


case("weights of too few bytes", "expected 16384 bytes")(_dims(64, 64))
case("weights of 2^124 elements", "large")(_dims(2**62, 2**62))
case("weights of negative size", "at least 0")(_dims(64, -8))


def _sparse(indices: np.ndarray, dims: Sequence[int], values: int = 2) -> Make:
    def build(_: Path) -> Made:
        model = make([node("Add", ["x", "s"])], {"x": info("x", [2, 3])})
        data = numpy_helper.from_array(np.ones(values, np.float32), "s")
        sparse = helper.make_sparse_tensor(data, numpy_helper.from_array(indices, "i"), dims)
        model.graph.sparse_initializer.append(sparse)
        return model

    return build


case("sparse index beyond the end", "ind(ex|ices)")(_sparse(np.array([1, 6]), [2, 3]))
case("sparse index below zero", "ind(ex|ices)")(_sparse(np.array([-1, 2]), [2, 3]))
case("sparse indices of another length", "ind(ex|ices)")(_sparse(np.array([1, 2, 3]), [2, 3]))
case("sparse tensor of 2^40 elements", "large|bytes|memory")(_sparse(np.array([1, 2]), [2**20, 2**20]))

# -- attributes -------------------------------------------------------------------------------------------------------

_IMAGE = (1, 4, 8, 8)
_W = np.ones((4, 4, 3, 3), np.float32)
small("attribute of another type", "expected INT", node("Softmax", ["x"], axis="two"))
small("axis 1000", "axis", node("Softmax", ["x"], axis=1000))
small("axis -2^63", "axis", node("Softmax", ["x"], axis=-(2**63)))
small("permutation with repeats", "perm", node("Transpose", ["x"], perm=[0, 0]))
small("permutation of another length", "perm", node("Transpose", ["x"], perm=[0, 1, 2]))
small("stride 0", "strides", node("Conv", ["x", "w"], strides=[0, 1]), shape=_IMAGE, w=_W)
small("stride -1", "strides", node("Conv", ["x", "w"], strides=[-1, 1]), shape=_IMAGE, w=_W)
small("dilation 0", "dilations", node("Conv", ["x", "w"], dilations=[0, 1]), shape=_IMAGE, w=_W)
small("group 0", "group", node("Conv", ["x", "w"], group=0), shape=_IMAGE, w=_W)
small("group 3", "group|channels", node("Conv", ["x", "w"], group=3), shape=_IMAGE, w=_W)
small("group 2^62", "group", node("Conv", ["x", "w"], group=2**62), shape=_IMAGE, w=_W)
small("pads of 2^62", "large|pads|size", node("Conv", ["x", "w"], pads=[2**62] * 4), shape=_IMAGE, w=_W)
small("pads of -100", "pads", node("Conv", ["x", "w"], pads=[-100] * 4), shape=_IMAGE, w=_W)
small(
    "kernel that is not that of the weights",
    "kernel_shape",
    node("Conv", ["x", "w"], kernel_shape=[5, 5]),
    shape=_IMAGE,
    w=_W,
)
small("window of 2^31", "kernel|window|size", node("MaxPool", ["x"], kernel_shape=[2**31, 2**31]), shape=_IMAGE)
small("window of 0", "kernel_shape", node("MaxPool", ["x"], kernel_shape=[0, 0]), shape=_IMAGE)
small(
    "dilation of 2^62",
    "dilat|large|size|window",
    node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2**62] * 2),
    shape=_IMAGE,
)
small("unknown auto_pad", "auto_pad", node("MaxPool", ["x"], kernel_shape=[2, 2], auto_pad="EVIL"), shape=_IMAGE)
small("cast to type 99", "to", node("Cast", ["x"], to=99))
small("split into 10^9 parts", "split|outputs|num_outputs", node("Split", ["x"], num_outputs=10**9))
small("block of 0", "blocksize", node("DepthToSpace", ["x"], blocksize=0), shape=_IMAGE)
small("LRN of size 0", "size", node("LRN", ["x"], size=0), shape=_IMAGE)
small("Einsum of nonsense", "equation", node("Einsum", ["x"], equation="i$j->>"))
small(
    "hidden size -1",
    "hidden_size",
    node("LSTM", ["x", "w", "r"], hidden_size=-1),
    shape=(1, 1, 1),
    w=np.ones((1, 4, 1), np.float32),
    r=np.ones((1, 4, 1), np.float32),
)
small("operands that do not fit", "shapes", node("Add", ["x", "w"]), w=np.ones(7, np.float32))
small("operands of two types", "type", node("Add", ["x", "w"]), w=np.ones(3, np.int64))
small("too many operands", "input", node("Relu", ["x", "x", "x"]))

# -- bombs: a few bytes that ask for much -----------------------------------------------------------------------------

_BIG = [2**20, 2**20, 2**10]
_HUGE = "large|bytes|memory|elements|size"
small("Expand bomb", _HUGE, node("Expand", ["x", "s"]), s=np.array([2**30, 2**30, 2, 3]))
small("Tile bomb", _HUGE, node("Tile", ["x", "s"]), s=np.array([2**31, 2**31]))
small("ConstantOfShape bomb", _HUGE, node("ConstantOfShape", ["s"]), s=np.array(_BIG))
small("Range bomb", _HUGE, node("Range", ["a", "b", "c"]), a=np.int64(0), b=np.int64(2**62), c=np.int64(1))
small("Range with step 0", "step|delta", node("Range", ["a", "b", "c"]), a=np.int64(0), b=np.int64(9), c=np.int64(0))
small("Pad bomb", _HUGE, node("Pad", ["x", "s"]), s=np.array([2**40, 2**40, 2**40, 2**40]))
small("Resize bomb", _HUGE, node("Resize", ["x", "", "", "s"]), shape=_IMAGE, s=np.array([1, 4, 2**31, 2**31]))
small(
    "Resize by 1e30",
    _HUGE + "|scale",
    node("Resize", ["x", "", "s"]),
    shape=_IMAGE,
    s=np.array([1, 1, 1e30, 1e30], np.float32),
)
small("Resize by NaN", "scale", node("Resize", ["x", "", "s"]), shape=_IMAGE, s=np.array([1, 1, np.nan, 2], np.float32))
small("Resize by 0", "scale", node("Resize", ["x", "", "s"]), shape=_IMAGE, s=np.array([1, 1, 0, 2], np.float32))
small("Resize by -2", "scale", node("Resize", ["x", "", "s"]), shape=_IMAGE, s=np.array([1, 1, -2, 2], np.float32))
small(
    "OneHot bomb",
    _HUGE,
    node("OneHot", ["i", "d", "v"]),
    i=np.zeros((2, 3), np.int64),
    d=np.int64(2**60),
    v=np.zeros(2, np.float32),
)
small(
    "OneHot of depth -1",
    "depth",
    node("OneHot", ["i", "d", "v"]),
    i=np.zeros((2, 3), np.int64),
    d=np.int64(-1),
    v=np.zeros(2, np.float32),
)
small("EyeLike bomb", _HUGE, node("ConstantOfShape", ["s"], ["b"]), node("EyeLike", ["b"]), s=np.array([2**31, 2**31]))
small("Reshape to other sizes", "divisor|elements", node("Reshape", ["x", "s"]), s=np.array([2**62, 4]))
small("Reshape with two -1", "-1", node("Reshape", ["x", "s"]), s=np.array([-1, -1]))
small("index out of range", "indices", node("Gather", ["x", "i"]), i=np.array([2]))
small(
    "outer product of 2^40",
    _HUGE,
    node("Transpose", ["c"], ["t"]),
    node("MatMul", ["t", "c"]),
    node("Expand", ["z", "s"], ["c"]),
    z=np.zeros((1, 1), np.float32),
    s=np.array([1, 2**34]),
)


def all_files() -> Iterator[tuple[str, Make, str]]:
    """Name, maker and pattern of every case."""
    for name, (made, pattern) in FILES.items():
        yield name, made, pattern


def named(name: str) -> onnx.ModelProto:
    """A good model in which everything is called `name`."""
    nodes = [
        node("Gather", ["x", "i"], [f"{name}t"], name=name),
        node("Relu", [f"{name}t"], [f"{name}y"], name=name + "2"),
    ]
    model = make(nodes, {"x": info("x", [name, 3]), "i": info("i", [2], I64)}, [f"{name}y"], name=name)
    for item in model.graph.node[0].input, model.graph.node[1].input:
        for n, text in enumerate(item):
            item[n] = name if text == "x" else text
    model.graph.input[0].name = name
    model.producer_name = name
    return model
