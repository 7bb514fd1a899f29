"""What one test means in each column of the coverage table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.runner import Runner

from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph
from planish.onnx_backend import PlanishBackend, made_symbolic

from .cases import Case
from .ranks import rank_inputs

Check = Callable[[Case], None]


def _agree(case: Case, got: list[Any], want: list[Any]) -> None:
    """As ONNX's own runner compares, and inside of sequences, maps and optionals, too."""
    assert len(got) == len(want), f"expected {len(want)} outputs, got {len(got)}"
    for mine, theirs in zip(got, want, strict=True):
        if isinstance(theirs, list | tuple):
            assert isinstance(mine, list | tuple), f"expected a sequence, got {type(mine).__name__}"
            _agree(case, list(mine), list(theirs))
        elif isinstance(theirs, dict):
            assert isinstance(mine, dict) and mine.keys() == theirs.keys(), f"expected keys {list(theirs)}, got {mine}"
            _agree(case, [np.asarray(mine[key]) for key in theirs], [np.asarray(v) for v in theirs.values()])
        elif theirs is None:
            assert mine is None, f"expected an optional that is empty, got {mine}"
        else:
            Runner.assert_similar_outputs([np.asarray(theirs)], [np.asarray(mine)], case.rtol, case.atol)


def compiled(opt: int, symbolic: bool = False) -> Check:
    """Compile the model as it is (or with every dimension symbolic), run it, compare as ONNX's own runner does."""

    def check(case: Case) -> None:
        model, data = case.load()
        if symbolic:
            model = made_symbolic(model, rank_inputs(model))
        prepared = PlanishBackend.prepare(model, opt=opt)
        for inputs, outputs in data:
            _agree(case, list(prepared.run(inputs)), outputs)

    return check


def _fixed(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The model with its inputs as initializers."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    names = [i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
    del fixed.graph.input[:]
    for name, value in zip(names, inputs, strict=False):
        fixed.graph.initializer.append(numpy_helper.from_array(value, name))
    return fixed


def constant(case: Case) -> None:
    """All inputs as initializers: everything is known while compiling."""
    model, data = case.load()
    for inputs, outputs in data:
        _agree(case, list(PlanishBackend.prepare(_fixed(model, inputs), opt=3).run([])), outputs)


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
    "interpreted": interpreted,
    "folded": folded,
}
