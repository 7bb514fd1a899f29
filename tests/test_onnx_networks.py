"""The nine networks that the onnx package ships (weights are constants of one value) import, and know their outputs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from planish.frontend import read_model
from planish.ir.types import TensorType

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
_MODELS = sorted(_LIGHT.glob("*.onnx"))


def test_there_are_nine() -> None:
    assert len(_MODELS) == 9


@pytest.mark.parametrize("path", _MODELS, ids=lambda p: p.stem)
def test_networks_import(path: Path) -> None:
    module = read_model(path)
    assert module.main.params[0].type == TensorType("f32", (1, 3, 224, 224))
    declared = onnx.load(path).graph.output
    for value, output in zip(module.main.results, declared, strict=True):
        dims = tuple(d.dim_value for d in output.type.tensor_type.shape.dim)
        assert value.type == TensorType("f32", dims)
    assert all(op.loc for op in module.main.body if not op.terminator)
