"""Complex numbers, which ONNX's operators move but do not compute with: against the reference evaluator."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import planish
from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph
from planish.ir.text import parse_module, print_module

Array = Any
KINDS = {np.complex64: TensorProto.COMPLEX64, np.complex128: TensorProto.COMPLEX128}


def numbers(*shape: int, kind: Any = np.complex64, seed: int = 0) -> Array:
    """Complex numbers, about normal."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(kind)


class Moves:
    """A model of many nodes that each read `x` [3, 4] and constants."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.nodes: list[Any] = []
        self.held: dict[str, Array] = {}
        self.outputs: list[str] = []

    def add(self, op: str, *rest: Array | None, first: str = "x", outputs: int = 1, **attributes: Any) -> str:
        """A node that reads `first`, and constants."""
        names = [first]
        for array in rest:
            names.append("" if array is None else f"c{len(self.held)}")
            if array is not None:
                self.held[names[-1]] = np.asarray(array)
        made = [f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, **attributes))
        self.outputs += made
        return made[0]

    def model(self, dims: tuple[int | str, int | str]) -> Any:
        """The model; `dims` is the shape of `x`."""
        infos = [helper.make_tensor_value_info("x", KINDS[self.kind], dims)]
        outs = [helper.make_value_info(o, helper.make_tensor_type_proto(KINDS[self.kind], None)) for o in self.outputs]
        held = [numpy_helper.from_array(array, name) for name, array in self.held.items()]
        graph = helper.make_graph(self.nodes, "g", infos, outs, held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)


def moves(kind: Any) -> Moves:
    """What needs no sizes from data."""
    m = Moves(kind)
    m.add("Identity")
    m.add("Transpose", perm=[1, 0])
    m.add("Concat", numbers(2, 4, kind=kind), axis=0)
    m.add("Split", outputs=2, axis=1, num_outputs=2)
    m.add("Slice", [2], [0], [0], [-1])
    m.add("Gather", [2, 0], axis=0)
    m.add("GatherElements", [[0, 1, 2, 0]], axis=0)
    m.add("GatherND", [[0, 1], [2, 2]])
    m.add("ScatterElements", [[0, 1, 2, 0]], numbers(1, 4, kind=kind, seed=1), axis=0)
    m.add("ScatterND", [[1]], numbers(1, 4, kind=kind, seed=2))
    m.add("Expand", [2, 3, 4])
    m.add("Tile", [2, 1])
    m.add("Pad", [1, 0, 0, 2])
    m.add("Pad", [1, 0, 0, 2], np.array(1 + 2j, kind))
    m.add("Pad", [1, 0, 0, 2], mode="reflect")
    m.add("Unsqueeze", [0])
    m.add("Flatten", axis=0)
    m.add("ReverseSequence", [1, 2, 3, 2], time_axis=0, batch_axis=1)
    m.add("Trilu")
    m.add("DepthToSpace", first=m.add("Reshape", [1, 12, 1, 1]), blocksize=2)
    return m


def hold(model: Any, x: Array, run: Callable[[Any], dict[str, Array]]) -> None:
    """Equal, element by element."""
    wanted: list[Any] = [*ReferenceEvaluator(model).run(None, {"x": x})]
    for got, want in zip(run({"x": x}).values(), wanted, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert np.array_equal(got, want)


@pytest.mark.parametrize("kind", KINDS)
def test_complex_numbers_move(kind: Any) -> None:
    model = moves(kind).model((3, 4))
    x = numbers(3, 4, kind=kind)
    hold(model, x, lambda feed: run_graph(read_onnx(model.SerializeToString()), feed))
    hold(model, x, planish.compile(model).run)
    hold(model, np.asfortranarray(x), planish.compile(model).run)


def test_sizes_from_complex_numbers_and_sequences_of_them() -> None:
    m = Moves(np.complex64)
    m.add("Compress", [True, False, True], axis=0)
    m.add("Unique", outputs=4, axis=0)
    del m.outputs[-3:]
    m.outputs.append(m.add("SequenceAt", 1, first=m.add("SplitToSequence", [1, 2], axis=0)))
    del m.outputs[-3:-1]
    model = m.model(("n", "m"))
    for x in (numbers(3, 4), np.array([[2j, 1], [1, 0], [2j, 1]], np.complex64)):
        hold(model, x, planish.compile(model).run)
    places = Moves(np.complex64)
    places.add("NonZero")
    model = places.model(("n", "m"))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    hold(model, np.array([[0, 1j], [-0.0, 2]], np.complex64), planish.compile(model).run)


def test_complex_numbers_in_files(tmp_path: Path) -> None:
    m = Moves(np.complex64)
    m.add("Concat", numbers(1, 4), axis=0)
    some: Any = [1 + 2j, 3, 4j, -1]
    tensor = helper.make_tensor("typed", TensorProto.COMPLEX64, [1, 4], some)  # pairs in float_data
    m.held["typed"] = numpy_helper.to_array(tensor)
    m.nodes.append(helper.make_node("Concat", [m.outputs[0], "typed"], ["y"], axis=0))
    m.outputs.append("y")
    model = m.model((3, 4))
    next(t for t in model.graph.initializer if t.name == "typed").CopyFrom(tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    app = tmp_path / "app"
    compile_file(path, app, emit="exe")
    np.savez(tmp_path / "in.npz", x=numbers(3, 4))
    subprocess.run([app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz"], check=True)
    with np.load(tmp_path / "out.npz") as out:
        hold(model, numbers(3, 4), lambda _: {name: out[name] for name in m.outputs})


def test_arithmetic_on_complex_numbers_is_refused() -> None:
    m = Moves(np.complex64)
    m.add("Resize", None, np.array([1, 1.5], np.float32), mode="linear")
    with pytest.raises(PlanishError, match="arithmetic on complex numbers.*real and imaginary parts"):
        read_onnx(m.model((3, 4)).SerializeToString())


def test_complex_constants_are_written_and_read_as_text() -> None:
    m = Moves(np.complex128)
    m.add("Concat", np.array([[1 + 2j, complex(np.inf, -0.5)]]), axis=1)
    m.add("Pad", [1, 0, 0, 2], np.array(0.1 - 1j))
    text = print_module(read_onnx(m.model((1, 2)).SerializeToString()))
    assert "complex(1.0, 2.0)" in text
    assert print_module(parse_module(text)) == text
