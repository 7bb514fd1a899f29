"""ONNX's backend tests as plain data: models with inputs and expected outputs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


@dataclass
class Case:
    """One test: `data` is a list of (inputs, outputs). `folder` is where a case that is stored in files lies."""

    name: str
    kind: str
    model: onnx.ModelProto | None
    data: list[tuple[list[Any], list[Any]]] | None
    folder: Path | None
    rtol: float
    atol: float

    def load(self) -> tuple[onnx.ModelProto, list[tuple[list[Any], list[Any]]]]:
        """The model, and its data as arrays (lists for sequences, None for empty optionals)."""
        if self.model is None:
            assert self.folder is not None
            self.model = onnx.load(str(self.folder / "model.onnx"))
        if self.data is None:
            assert self.folder is not None
            self.data = [_stored(self.model, place) for place in sorted(self.folder.glob("test_data_set_*"))]
        return self.model, [([*map(plain, i)], [*map(plain, o)]) for i, o in self.data]

    @property
    def operators(self) -> list[str]:
        """Domain-qualified operators of the model's nodes, without repetition."""
        model, _ = self.load()
        names = (f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type for n in model.graph.node)
        return list(dict.fromkeys(names))


def cases() -> list[Case]:
    """All tests, sorted by kind and name."""
    found: list[Case] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, from ONNX's making of expected values
        for kind in KINDS:
            loaded: Any = load_model_tests(kind=kind)
            for c in sorted(loaded, key=lambda c: c.name):
                folder = None if c.model_dir is None else Path(c.model_dir)
                found.append(Case(c.name, kind, c.model, c.data_sets, folder, c.rtol, c.atol))
    return found


def plain(value: Any) -> Any:
    """A value of a test as an array, a list, a dictionary or None."""
    match value:
        case onnx.TensorProto():
            return numpy_helper.to_array(value)
        case onnx.SequenceProto():
            return numpy_helper.to_list(value)
        case onnx.OptionalProto():
            return numpy_helper.to_optional(value)
        case _:
            return value


def _stored(model: onnx.ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    return _read(inputs, folder, "input"), _read(model.graph.output, folder, "output")


def _read(infos: Any, folder: Path, what: str) -> list[Any]:
    values: list[Any] = []
    kinds = {"tensor_type": onnx.TensorProto, "sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}
    for number in range(len(list(folder.glob(f"{what}_*.pb")))):
        proto = kinds[infos[number].type.WhichOneof("value")]()
        proto.ParseFromString((folder / f"{what}_{number}.pb").read_bytes())
        values.append(plain(proto))
    return values
