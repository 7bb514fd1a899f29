"""ONNX Runtime's calls on top of an artifact: a program written for ONNX Runtime runs with another import."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._core import Array
from .dtypes import ort_type
from .errors import InputError, LoadError
from .escape import log_text
from .loader import Model, load
from .manifest import Port


@dataclass(frozen=True)
class NodeArg:
    """An input or output: `name`, `shape` (symbols by name; `[]` where the rank is unknown, as in ONNX Runtime) and
    `type`, such as "tensor(float)"."""

    name: str
    shape: list[int | str]
    type: str

    @classmethod
    def of(cls, port: Port) -> NodeArg:
        return cls(port.name, list(port.shape or ()), ort_type(port.dtype))


class InferenceSession:
    """The calls of `onnxruntime.InferenceSession` that programs use to run a model."""

    def __init__(
        self,
        path_or_model: str | os.PathLike[str] | Model,
        sess_options: Any = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
    ) -> None:
        """`path_or_model`: an artifact made with `planish compile --emit lib`, or a loaded model.

        `sess_options.intra_op_num_threads` limits the threads; other options and providers are ignored. Raises
        `LoadError`.
        """
        if isinstance(path_or_model, Model):
            self._model = path_or_model
        elif str(path_or_model).endswith(".onnx"):
            shown = log_text(str(path_or_model))
            raise LoadError(
                f"{shown}: expected an artifact; compile the model first: planish compile {shown} -o model.so"
            )
        else:
            threads = int(getattr(sess_options, "intra_op_num_threads", 0) or 0)
            self._model = load(path_or_model, threads=threads or None)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Array]:
        """The outputs called `output_names` (None or empty: all) for the inputs in `input_feed`.

        Raises `ArtifactError`."""
        known = {port.name for port in self._model.outputs}
        unknown = [log_text(name) for name in output_names or () if name not in known]
        if unknown:
            raise InputError(f"outputs: the model has no output {', '.join(unknown)}")
        results = self._model.run(input_feed)
        return [results[name] for name in output_names] if output_names else list(results.values())

    def get_inputs(self) -> list[NodeArg]:
        return [NodeArg.of(port) for port in self._model.inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [NodeArg.of(port) for port in self._model.outputs]

    def get_providers(self) -> list[str]:
        return ["PlanishExecutionProvider", "CPUExecutionProvider"]
