"""Good models and bad values for them. `VALUES` names each, with the model, the inputs and what the error must say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_models import info, make, node

I64, BOOL, STRING = TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def _dense() -> onnx.ModelProto:
    return make([node("MatMul", ["x", "w"])], {"x": info("x", ["n", 4])}, constants={"w": np.ones((4, 3), np.float32)})


def _pair() -> onnx.ModelProto:
    return make([node("Add", ["a", "b"])], {"a": info("a", ["n", 4]), "b": info("b", ["n", 4])})


def _gather() -> onnx.ModelProto:
    nodes = [node("Gather", ["w", "i"], name="table")]
    return make(nodes, {"i": info("i", ["n"], I64)}, constants={"w": np.ones((10, 4), np.float32)})


def _gather_nd() -> onnx.ModelProto:
    nodes = [node("GatherND", ["x", "i"], name="pick")]
    return make(nodes, {"x": info("x", [3, 4]), "i": info("i", ["n", 2], I64)})


def _scatter() -> onnx.ModelProto:
    nodes = [node("ScatterElements", ["x", "i", "u"], name="put", axis=0)]
    return make(nodes, {"x": info("x", [5]), "i": info("i", ["n"], I64), "u": info("u", ["n"])})


def _cast_gather() -> onnx.ModelProto:
    nodes = [node("Cast", ["f"], ["i"], to=I64), node("Gather", ["w", "i"], name="table")]
    return make(nodes, {"f": info("f", ["n"])}, constants={"w": np.ones((10, 4), np.float32)})


def _shaped(op: str, **more: np.ndarray) -> onnx.ModelProto:
    nodes = [node(op, ["x", "s"], name="shaped")]
    return make(nodes, {"x": info("x", [2, 3]), "s": info("s", [2], I64)}, constants=more)


def _range() -> onnx.ModelProto:
    inputs = {name: info(name, [], I64) for name in ("from", "to", "step")}
    return make([node("Range", list(inputs), name="count")], inputs)


def _filled() -> onnx.ModelProto:
    return make([node("ConstantOfShape", ["s"], name="fill")], {"s": info("s", [3], I64)})


def _padded() -> onnx.ModelProto:
    return make([node("Pad", ["x", "s"], name="pad")], {"x": info("x", [2, 3]), "s": info("s", [4], I64)})


def _one_hot() -> onnx.ModelProto:
    inputs = {"i": info("i", ["n"], I64), "d": info("d", [], I64)}
    return make([node("OneHot", ["i", "d", "v"], name="hot")], inputs, constants={"v": np.array([0, 1], np.float32)})


def _sliced() -> onnx.ModelProto:
    inputs = {"x": info("x", [8]), **{n: info(n, [1], I64) for n in ("from", "to", "axes", "steps")}}
    return make([node("Slice", list(inputs), name="cut")], inputs)


def _top() -> onnx.ModelProto:
    return make([node("TopK", ["x", "k"], ["y", "at"], name="top")], {"x": info("x", [8]), "k": info("k", [1], I64)})


def _resized() -> onnx.ModelProto:
    nodes = [node("Resize", ["x", "", "s"], name="zoom")]
    return make(nodes, {"x": info("x", [1, 1, 4, 4]), "s": info("s", [4])})


def _split() -> onnx.ModelProto:
    inputs = {"x": info("x", [8]), "s": info("s", [2], I64)}
    return make([node("Split", list(inputs), ["y", "z"], name="parts")], inputs, ["y", "z"])


def _strings() -> onnx.ModelProto:
    return make([node("StringConcat", ["a", "a"])], {"a": info("a", ["n"], STRING)}, opset=20)


def _endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["v", "v"], ["w"])],
        "body",
        [info("round", [], I64), info("go", [], BOOL), info("v", [2])],
        [info("on", [], BOOL), info("w", [2])],
    )
    nodes = [helper.make_node("Loop", ["", "go", "x"], ["y"], name="forever", body=body)]
    return make(nodes, {"go": info("go", [], BOOL), "x": info("x", [2])})


def _growing() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Concat", ["v", "v"], ["w"], axis=0)],
        "body",
        [info("round", [], I64), info("go", [], BOOL), info("v", ["m"])],
        [info("on", [], BOOL), info("w", ["k"])],
    )
    nodes = [helper.make_node("Loop", ["", "go", "x"], ["y"], name="growing", body=body)]
    return make(nodes, {"go": info("go", [], BOOL), "x": info("x", ["n"])})


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "dense": _dense, "pair": _pair, "gather": _gather, "gather_nd": _gather_nd, "scatter": _scatter,
    "cast_gather": _cast_gather, "reshape": lambda: _shaped("Reshape"), "expand": lambda: _shaped("Expand"),
    "tile": lambda: _shaped("Tile"), "range": _range, "filled": _filled, "padded": _padded, "one_hot": _one_hot,
    "sliced": _sliced, "top": _top, "resized": _resized, "split": _split, "strings": _strings, "endless": _endless,
    "growing": _growing,
}  # fmt: skip


def _f(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _n(value: int) -> np.ndarray:
    return np.array(value, np.int64)


_X = _f(2, 3)
_TRUE = np.array(True)
_MUCH = "large|bytes|memory|max_bytes|elements|fit"
VALUES: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "another element type": ("dense", {"x": np.ones((2, 4), np.int32)}, "f32"),
    "doubles": ("dense", {"x": np.ones((2, 4))}, "f32"),
    "rank too low": ("dense", {"x": _f(4)}, "rank|shape|dimensions"),
    "rank too high": ("dense", {"x": _f(1, 2, 4)}, "rank|shape|dimensions"),
    "another size": ("dense", {"x": _f(2, 5)}, "4"),
    "strings for numbers": ("dense", {"x": np.array([["a"] * 4])}, "f32"),
    "objects for numbers": ("dense", {"x": np.array([[None] * 4])}, "f32"),
    "nothing": ("dense", {"x": None}, "x"),
    "a ragged list": ("dense", {"x": [[1, 2, 3, 4], [1]]}, "x"),
    "a missing input": ("dense", {}, "x"),
    "an input too many": ("dense", {"x": _f(2, 4), "z": _f(1)}, "z"),
    "a wrong name": ("dense", {"X": _f(2, 4)}, "x"),
    "sizes that differ": ("pair", {"a": _f(2, 4), "b": _f(3, 4)}, "n"),
    "index too large": ("gather", {"i": _i(3, 10)}, "table.*10"),
    "index too small": ("gather", {"i": _i(-11)}, "table.*expected 0 to 9"),
    "index -2^63": ("gather", {"i": _i(-(2**63))}, "table.*expected 0 to 9"),
    "index 2^63 - 1": ("gather", {"i": _i(2**63 - 1)}, "table.*9223372036854775807"),
    "index of a row and column": ("gather_nd", {"x": _f(3, 4), "i": np.array([[2, 4]])}, "pick.*4"),
    "place to write": ("scatter", {"x": _f(5), "i": _i(5), "u": _f(1)}, "put.*5"),
    "index from NaN": ("cast_gather", {"f": np.array([np.nan, 11.0], np.float32)}, "table.*11"),
    "index from infinity": ("cast_gather", {"f": np.array([np.inf], np.float32)}, "table.*9223372036854775807"),
    "reshape to other sizes": ("reshape", {"x": _X, "s": _i(4, 2)}, "shaped"),
    "reshape to -2": ("reshape", {"x": _X, "s": _i(-2, -3)}, "shaped"),
    "reshape to -1 twice": ("reshape", {"x": _X, "s": _i(-1, -1)}, "shaped"),
    "reshape to 2^62": ("reshape", {"x": _X, "s": _i(2**62, 8)}, "shaped"),
    "reshape to a product of 6 + 2^64": ("reshape", {"x": _X, "s": _i(11, 1676976733973595602)}, "shaped"),
    "expand to 2^40": ("expand", {"x": _f(2, 3), "s": _i(2**40, 1)}, "shaped"),
    "expand a row to 2^62": ("expand", {"x": _X, "s": _i(2**62, 3)}, "shaped"),
    "expand to -1": ("expand", {"x": _X, "s": _i(-1, 3)}, "shaped"),
    "tile 2^40 times": ("tile", {"x": _X, "s": _i(2**40, 2**40)}, _MUCH),
    "tile -1 times": ("tile", {"x": _X, "s": _i(-1, 1)}, "shaped"),
    "range to 2^62": ("range", {"from": _n(0), "to": _n(2**62), "step": _n(1)}, _MUCH),
    "range with step 0": ("range", {"from": _n(0), "to": _n(9), "step": _n(0)}, "count"),
    "fill 2^120": ("filled", {"s": _i(2**40, 2**40, 2**40)}, _MUCH),
    "fill 2^35": ("filled", {"s": _i(2**12, 2**12, 2**11)}, _MUCH),
    "fill -1": ("filled", {"s": _i(-1, 2, 2)}, "fill"),
    "pads of 2^40": ("padded", {"x": _X, "s": _i(2**40, 2**40, 0, 0)}, _MUCH),
    "pads below the size": ("padded", {"x": _X, "s": _i(-5, 0, 0, 0)}, "pad"),
    "depth 2^60": ("one_hot", {"i": _i(1), "d": _n(2**60)}, _MUCH),
    "depth -3": ("one_hot", {"i": _i(1), "d": _n(-3)}, "hot"),
    "slice with step 0": ("sliced", {"x": _f(8), "from": _i(0), "to": _i(8), "axes": _i(0), "steps": _i(0)}, "cut"),
    "more than there are": ("top", {"x": _f(8), "k": _i(9)}, "top"),
    "fewer than none": ("top", {"x": _f(8), "k": _i(-1)}, "top"),
    "zoom by 1e20": ("resized", {"x": _f(1, 1, 4, 4), "s": np.array([1, 1, 1e20, 1], np.float32)}, _MUCH + "|zoom"),
    "zoom by -1": ("resized", {"x": _f(1, 1, 4, 4), "s": np.array([1, 1, -1, 1], np.float32)}, "zoom"),
    "parts that do not add up": ("split", {"x": _f(8), "s": _i(5, 5)}, "parts"),
    "a part of -1": ("split", {"x": _f(8), "s": _i(-1, 9)}, "parts"),
    "numbers for strings": ("strings", {"a": _f(2)}, "expected an array of str"),
    "a string that is no text": ("strings", {"a": np.array(["\ud800"], object)}, "UTF-8|text|string"),
    "a loop without end": ("endless", {"go": _TRUE, "x": _f(2)}, "forever|seconds|time"),
    "a loop that grows": ("growing", {"go": _TRUE, "x": _f(2)}, "bytes|memory|took longer"),
}
"""Name: model, inputs, pattern for the message."""
