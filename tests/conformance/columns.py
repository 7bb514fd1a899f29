"""What one test means in each column of the coverage table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.runner import Runner

from planish.compile import compile_file
from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph
from planish.onnx_backend import made_symbolic

from .cases import Case
from .executable import run_executable
from .isolated import Runner as Isolated
from .second import second_shape

Check = Callable[[Case], None]
_Data = list[tuple[list[Any], list[Any]]]  # inputs and outputs


def _agree(case: Case, got: list[Any], want: list[Any]) -> None:
    """As ONNX's own runner compares, and inside of sequences, maps and optionals, too."""
    assert len(got) == len(want), f"expected {len(want)} outputs, got {len(got)}"
    for mine, theirs in zip(got, want, strict=True):
        if isinstance(theirs, list | tuple):
            assert isinstance(mine, list | tuple), f"expected a sequence, got {type(mine).__name__}"
            _agree(case, list(cast("list[Any]", mine)), list(cast("list[Any]", theirs)))
        elif isinstance(theirs, dict):
            ours, wanted = cast("dict[Any, Any]", mine), cast("dict[Any, Any]", theirs)
            assert isinstance(mine, dict) and ours.keys() == wanted.keys(), f"expected {wanted}, got {ours}"
            _agree(case, [np.asarray(ours[key]) for key in wanted], [np.asarray(v) for v in wanted.values()])
        elif theirs is None:
            assert mine is None, f"expected an optional that is empty, got {mine}"
        else:
            Runner.assert_similar_outputs([np.asarray(theirs)], [np.asarray(mine)], case.rtol, case.atol)


_RUNNER = Isolated()  # of this worker process


def _run(folder: str, model: onnx.ModelProto, opt: int, data: _Data, case: Case) -> Path:
    """Compile, and run where nothing but the runtime can be imported. Returns the library."""
    place = Path(folder) / "model.so"
    compile_file(model, place, workers=1, threads=1, opt=opt)
    _agree_all(place, data, case)
    return place


def _agree_all(place: Path, data: _Data, case: Case) -> None:
    for inputs, outputs in data:
        _agree(case, _RUNNER.run(place, inputs), outputs)


def compiled(opt: int, symbolic: bool = False) -> Check:
    """Compile the model as it is (or with every dimension symbolic), run it, compare as ONNX's own runner does. With
    symbols it runs at a second shape, too, where ONNX's reference evaluator accepts that."""

    def check(case: Case) -> None:
        model, data = case.load()
        second = second_shape(case, model, data) if symbolic else []
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            place = _run(folder, made_symbolic(model) if symbolic else model, opt, data, case)
            try:
                _agree_all(place, second, case)
            except Exception as e:
                raise AssertionError(f"second shape: {type(e).__name__}: {e}") from e

    return check


def executable(case: Case) -> None:
    """Compile to an executable and run that on `.npz` files."""
    model, data = case.load()
    constants = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in constants]
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        program = Path(folder) / "model"
        compile_file(model, program, emit="exe", workers=1, threads=1, opt=3)
        for inputs, outputs in data:
            _agree(case, run_executable(program, names, inputs, [o.name for o in model.graph.output]), outputs)


def _fixed(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The model with its inputs as initializers; sequences and optionals are made of those by nodes."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    infos = [i for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
    del fixed.graph.input[:]
    del fixed.graph.node[:]
    for info, value in zip(infos, inputs, strict=False):
        _put(fixed.graph, info.name, value, info.type)
    fixed.graph.node.extend(model.graph.node)
    return fixed


def _put(graph: onnx.GraphProto, name: str, value: Any, type: onnx.TypeProto) -> None:
    if type.WhichOneof("value") == "optional_type":
        inner = type.optional_type.elem_type
        if value is None:
            graph.node.append(helper.make_node("Optional", [], [name], type=inner))
        else:
            _put(graph, f"{name} (element)", value, inner)
            graph.node.append(helper.make_node("Optional", [f"{name} (element)"], [name]))
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for i, item in enumerate(items):
            graph.initializer.append(numpy_helper.from_array(np.asarray(item), f"{name}.{i}"))
        names = [f"{name}.{i}" for i in range(len(items))]
        dtype = type.sequence_type.elem_type.tensor_type.elem_type
        kind = helper.make_node("SequenceConstruct", names, [name]) if value else None
        graph.node.append(kind or helper.make_node("SequenceEmpty", [], [name], dtype=dtype))
    else:
        graph.initializer.append(numpy_helper.from_array(value, name))


def constant(case: Case) -> None:
    """All inputs as initializers: everything is known while compiling."""
    model, data = case.load()
    for inputs, outputs in data:
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            _run(folder, _fixed(model, inputs), 3, [([], outputs)], case)


def folded(case: Case) -> None:
    """As `constant`, in the interpreter."""
    model, data = case.load()
    for inputs, outputs in data:
        module = read_onnx(_fixed(model, inputs).SerializeToString())
        _agree(case, list(run_graph(module, {}).values()), outputs)


def interpreted(case: Case) -> None:
    """Import the model and run the tensor form in the interpreter: quick, for work on the importer."""
    model, data = case.load()
    module = read_onnx(model.SerializeToString())
    for inputs, outputs in data:
        names = [p.name for p in module.main.params]
        _agree(case, list(run_graph(module, dict(zip(names, inputs, strict=False))).values()), outputs)


COLUMNS: dict[str, Check] = {
    "O0": compiled(0),
    "O3": compiled(3),
    "dynamic": compiled(3, symbolic=True),
    "constant": constant,
    "executable": executable,
    "interpreted": interpreted,
    "folded": folded,
}
