"""What one test means in each column of the coverage table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.backend.test.runner import Runner

from planish.frontend.onnx import read_onnx
from planish.ir.interp import run_graph
from planish.onnx_backend import PlanishBackend, made_symbolic

from .cases import Case

Check = Callable[[Case], None]


def _agree(case: Case, got: list[Any], want: list[Any]) -> None:
    Runner.assert_similar_outputs(want, got, case.rtol, case.atol)


def compiled(opt: int, symbolic: bool = False) -> Check:
    """Compile the model as it is (or with every dimension symbolic), run it, compare as ONNX's own runner does."""

    def check(case: Case) -> None:
        model, data = case.load()
        if symbolic:
            model = made_symbolic(model)
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
