"""Who can take part in `planish bench`, and how each is set up: the settings that are best for one request at a time.

Every contestant computes in float32 unless the model says otherwise, uses the asked number of threads for one
operator and runs one operator at a time. Inputs and outputs are bound once; `execute` runs with no copies.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Contestant(ABC):
    """A way to run a model. `package` is what must be installed for it."""

    package: ClassVar[str] = ""
    version: str = ""

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the package can be imported."""
        return not cls.package or importlib.util.find_spec(cls.package) is not None

    @abstractmethod
    def open(self, file: str, threads: int) -> None:
        """Make the model in `file` ready to run with `threads` threads."""

    @abstractmethod
    def first(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Run once, then return a function that runs again on the same inputs."""

    @abstractmethod
    def outputs(self) -> dict[str, Array]:
        """The outputs of the last run, by name."""

    def precision(self) -> str:
        """The type that float32 models are computed in."""
        return "f32"


class Planish(Contestant):
    """A shared library made by `planish compile`."""

    def open(self, file: str, threads: int) -> None:
        """Load the library."""
        from planish._version import __version__
        from planish.runtime import load

        self.version = __version__
        self.model = load(file, threads=threads)

    def inputs(self) -> list[dict[str, Any]]:
        """Name, type ("f32") and shape of each input, symbolic dimensions by name."""
        return [
            {"name": v.name, "dtype": v.dtype, "shape": None if v.shape is None else list(v.shape)}
            for v in self.model.inputs
        ]

    def first(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Bind and run."""
        self.binding = self.model.bind(inputs)
        self.binding.run()
        return self.binding.run

    def outputs(self) -> dict[str, Array]:
        """The bound outputs."""
        return self.binding.outputs


class OnnxRuntime(Contestant):
    """ONNX Runtime's CPU provider, all optimizations, IO binding."""

    package = "onnxruntime"
    level: ClassVar[str] = "ORT_ENABLE_ALL"

    def open(self, file: str, threads: int) -> None:
        """Create the session."""
        ort: Any = importlib.import_module("onnxruntime")
        self.values: Any = ort.OrtValue
        self.version = str(ort.__version__)
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, self.level)
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session: Any = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def first(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Run plainly, which shows the outputs' shapes; then bind."""
        names = [str(value.name) for value in self.session.get_outputs()]
        found = self.session.run(names, dict(inputs))
        self.bound = {k: self.values.ortvalue_from_numpy(np.ascontiguousarray(v)) for k, v in inputs.items()}
        self.results = {
            name: self.values.ortvalue_from_numpy(np.ascontiguousarray(value))
            for name, value in zip(names, found, strict=True)
        }
        binding = self.session.io_binding()
        for name, value in self.bound.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in self.results.items():
            binding.bind_ortvalue_output(name, value)
        return lambda: self.session.run_with_iobinding(binding)

    def outputs(self) -> dict[str, Array]:
        """The bound outputs."""
        return {name: value.numpy() for name, value in self.results.items()}


class OnnxRuntimeReference(OnnxRuntime):
    """ONNX Runtime with its optimizations off: what the others' outputs are compared with."""

    level = "ORT_DISABLE_ALL"


class OpenVino(Contestant):
    """OpenVINO's CPU plugin with the latency hint, one stream, float32 (by itself it computes in bf16 if it can)."""

    package = "openvino"

    def open(self, file: str, threads: int) -> None:
        """Read and compile the model."""
        ov: Any = importlib.import_module("openvino")
        self.openvino = ov
        self.version = str(ov.__version__).split("-")[0]
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.model: Any = ov.Core().compile_model(file, "CPU", settings)

    def first(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Bind and run."""
        self.request: Any = self.model.create_infer_request()
        self.kept = dict(inputs)
        for port in self.model.inputs:
            name = next(name for name in port.names if name in self.kept)
            self.request.set_tensor(port, self.openvino.Tensor(self.kept[name], shared_memory=True))
        self.request.infer()

        def execute() -> None:
            self.request.start_async()
            self.request.wait()

        return execute

    def outputs(self) -> dict[str, Array]:
        """Copies of the request's outputs."""
        return {
            port.get_any_name(): np.array(self.request.get_output_tensor(index).data)
            for index, port in enumerate(self.model.outputs)
        }

    def precision(self) -> str:
        """What the plugin says that it uses."""
        hint = self.model.get_property("INFERENCE_PRECISION_HINT")
        return {"float": "f32", "float32": "f32", "bfloat16": "bf16"}.get(name := _type_name(hint), name)


def _type_name(hint: Any) -> str:
    return str(hint.to_string() if hasattr(hint, "to_string") else hint)


CONTESTANTS: dict[str, type[Contestant]] = {
    "planish": Planish,
    "onnxruntime": OnnxRuntime,
    "onnxruntime-reference": OnnxRuntimeReference,
    "openvino": OpenVino,
}
