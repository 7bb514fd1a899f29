"""Load a compiled model and run it: NumPy and the standard library are all that is needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from ._core import Array, Context, Core
from .dtypes import accepted_dtypes, dtype_name, is_packed, numpy_dtype, pack, packed_bytes, unpack
from .errors import ArtifactError, InputError, LoadError, RunError
from .escape import log_text
from .manifest import Manifest, Port
from .pool import Pool, shared
from .values import Prepared, is_plain, parse_type


def load(path: str | os.PathLike[str], *, threads: int | None = None, pool: Pool | None = None) -> Model:
    """Load the shared library `path` that `planish compile` made.

    `threads`: at most so many of the pool's (default: all). `pool`: threads to run on (default: one pool that all
    models of the process share). Raises `LoadError`.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected 1 or more, got {threads}")
    return Model(Core(Path(path), threads or 0, pool or shared))


class Model:
    """A loaded model; any number of threads may call it at the same time.

    Use it in a `with` statement, or call `close`, or drop it: then the library is unloaded, once no call and no binding
    uses it any more.
    """

    def __init__(self, core: Core) -> None:
        self._loaded: Core | None = core
        self.inputs: tuple[Port, ...] = core.inputs
        """Name, element type and shape of each input; symbols by name."""
        self.outputs: tuple[Port, ...] = core.outputs
        """The same of each output."""
        self.states: tuple[Port, ...] = core.states
        """The same of what the model keeps from run to run."""

    @property
    def _core(self) -> Core:
        core = self._loaded
        if core is None:
            raise ArtifactError("the model is closed")
        return core

    @cached_property
    def manifest(self) -> Manifest:
        """What the artifact says about itself. Raises `LoadError` if that is not readable."""
        try:
            return Manifest.from_json(self._core.manifest_text())
        except ValueError as error:
            raise LoadError(f"manifest: {error}") from error

    def run(
        self, inputs: Mapping[str, Any], *, max_bytes: int | None = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """Run on arrays by input name (NumPy arrays, anything with `__dlpack__`, or nested lists).

        Inputs of other kinds: arrays or lists of str, lists for sequences, dicts for maps; an optional one may be None
        or left out. `max_bytes` limits the memory beside weights, inputs and the arrays that are returned, `seconds`
        the time. Returns new arrays (of other kinds: object arrays of str, lists, dicts, None) by output name. Raises
        `InputError` for a wrong name, rank, shape or type, `RunError` if the run fails, for example because an index in
        an input is out of range, or a limit is reached.
        """
        if (max_bytes is not None and max_bytes < 1) or (seconds is not None and not seconds > 0):
            raise ValueError(f"limits: expected positive numbers, got max_bytes={max_bytes}, seconds={seconds}")
        core = self._core
        arrays = [
            _argument(value, port) for value, port in zip(_by_name(core.inputs, inputs), core.inputs, strict=True)
        ]
        context = core.acquire()
        try:
            context.set_limits(core, max_bytes or 0, seconds or 0.0)
            _set_inputs(core, context, arrays)
            results, memory = _new_outputs(core, context, {})
            _set_outputs(core, context, results, memory)
            context.invoke(core)
            finished = _results(core, context, results, memory)
        finally:
            core.release(context)
        return {port.name: result for port, result in zip(core.outputs, finished, strict=True)}

    def __call__(self, *arrays: Any) -> Any:
        """Run on arrays in the order of the inputs; returns the array, or the tuple of arrays if there are several."""
        if len(arrays) != len(self.inputs):
            names = ", ".join(log_text(port.name) for port in self.inputs)
            raise InputError(f"inputs: expected {len(self.inputs)} ({names}), got {len(arrays)}")
        results = tuple(self.run({port.name: array for port, array in zip(self.inputs, arrays, strict=True)}).values())
        return results[0] if len(results) == 1 else results

    def get_states(self) -> dict[str, Array]:
        """Copies of what the model keeps from run to run, by name. All calls of `run` share these states and so follow
        one another; a binding has its own."""
        core = self._core
        context = core.acquire()
        try:
            return {port.name: context.state(core, index) for index, port in enumerate(core.states)}
        finally:
            core.release(context)

    def set_states(self, values: Mapping[str, Any]) -> None:
        """Replace states by name. Raises `InputError` for a wrong name, shape or type; then nothing is replaced."""
        core = self._core
        names = [port.name for port in core.states]
        unknown = [log_text(str(name)) for name in values if name not in names]
        if unknown:
            expected = ", ".join(map(log_text, names)) or "none"
            raise InputError(f"states: the model has no state {', '.join(unknown)}; expected {expected}")
        arrays = {name: _array(value, core.states[names.index(name)]) for name, value in values.items()}
        context = core.acquire()
        try:
            before = [context.state(core, index) for index in range(len(names))]
            try:
                for name, array in arrays.items():
                    context.set_state(core, names.index(name), array)
            except InputError:
                for index, array in enumerate(before):
                    context.set_state(core, index, array)
                raise
        finally:
            core.release(context)

    def reset_states(self) -> None:
        """States as they are before the first run."""
        core = self._core
        context = core.acquire()
        try:
            context.reset_states(core)
        finally:
            core.release(context)

    def bind(self, inputs: Mapping[str, Any], outputs: Mapping[str, Array] | None = None) -> Binding:
        """Bind arrays once, to run on them repeatedly without copies: fill the input arrays in place before each run.

        `outputs` are arrays to write into, by name; the others are made. Outputs whose shape is known after the run
        only, and those that are no tensors, are new after each run. Raises `InputError`, also for an array that would
        have to be copied.
        """
        return Binding(self._core, inputs, outputs or {})

    def close(self) -> None:
        """Unload the library as soon as no call and no binding uses it."""
        self._loaded = None

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Binding:
    """Arrays bound to a model's inputs and outputs; it keeps them, and the model's library, alive."""

    def __init__(self, core: Core, inputs: Mapping[str, Any], outputs: Mapping[str, Array]) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._context: Context | None = None
        values = _by_name(core.inputs, inputs)
        self._arrays = [_argument(value, port, copy=False) for value, port in zip(values, core.inputs, strict=True)]
        self._context = core.session()
        self._context.set_limits(core, 0, 0.0)
        _set_inputs(core, self._context, self._arrays)
        self._bound, self._memory = _new_outputs(core, self._context, outputs)
        self._results: list[Any] = list(self._bound)
        _set_outputs(core, self._context, self._bound, self._memory)

    @property
    def outputs(self) -> dict[str, Any]:
        """The output arrays by name: the same ones after every run (None before the first run where the shape is not
        known yet, and for what is no tensor)."""
        return {port.name: array for port, array in zip(self._core.outputs, self._results, strict=True)}

    def run(self) -> dict[str, Any]:
        """Run on what the input arrays hold now; returns `outputs`. Raises `RunError`."""
        assert self._context is not None
        with self._lock:
            self._context.invoke(self._core)
            for index, array in enumerate(self._bound):
                if array is None:
                    self._results[index] = self._context.output_value(self._core, index)
        return self.outputs

    def profile(self) -> list[tuple[int, int]]:
        """Nanoseconds and number of executions of each stage of each kernel call in the last run, in program order.

        Empty unless the library was built for profiling (`planish bench --profile`)."""
        assert self._context is not None
        with self._lock:
            return self._context.profile(self._core)

    def __del__(self) -> None:
        context = self._context
        if context is not None:
            self._context = None
            self._core.end(context)


def _by_name(ports: Sequence[Port], inputs: Mapping[str, Any]) -> list[Any]:
    """The values in the order of the ports. Raises `InputError` for a missing or an unknown name."""
    expected = ", ".join(log_text(port.name) for port in ports) or "no inputs"
    names = {port.name for port in ports}
    unknown = [log_text(str(name)) for name in inputs if name not in names]
    if unknown:
        raise InputError(f"inputs: the model has no input {', '.join(unknown)}; expected {expected}")
    missing = [
        f"{log_text(p.name)} ({p.dtype}{'' if not is_plain(p.dtype) else '[*]' if p.shape is None else list(p.shape)})"
        for p in ports
        if p.name not in inputs and not p.dtype.startswith("optional<")
    ]
    if missing:
        raise InputError(f"inputs: missing {', '.join(missing)}; expected {expected}")
    return [inputs.get(port.name) for port in ports]


def _argument(value: Any, port: Port, *, copy: bool = True) -> Array | Prepared:
    """What to pass for `port`: an array, or a value of another kind."""
    if is_plain(port.dtype):
        return _array(value, port, copy=copy)

    def array(part: Any, dtype: str) -> Array:
        return _array(part, Port(port.name, dtype, None))

    return Prepared(f"input {log_text(port.name)}", parse_type(port.dtype), value, array)


def _as_numpy(value: Any, port: Port) -> Array:
    if isinstance(value, np.ndarray):
        return cast(Array, value)
    if isinstance(value, np.generic):
        return np.asarray(cast(Any, value))
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"input {log_text(port.name)}: not readable through DLPack on the CPU: {error}") from error
    try:
        return np.asarray(value).astype(numpy_dtype(port.dtype), casting="same_kind")
    except (TypeError, ValueError) as error:
        raise InputError(f"input {log_text(port.name)}: expected an array of {port.dtype}: {error}") from error


def _array(value: Any, port: Port, *, copy: bool = True) -> Array:
    """The NumPy array to pass for `port`: of an accepted type, row-major, aligned."""
    try:
        accepted = accepted_dtypes(port.dtype)
    except KeyError:
        raise InputError(f"input {log_text(port.name)}: type {port.dtype} cannot be passed from Python") from None
    array = _as_numpy(value, port)
    if array.dtype not in accepted:
        raise InputError(f"input {log_text(port.name)}: type: expected {port.dtype}, got {dtype_name(array.dtype)}")
    if array.flags.c_contiguous and array.flags.aligned and not (is_packed(port.dtype) and not copy):
        return array
    if not copy:
        raise InputError(f"input {log_text(port.name)}: expected an aligned row-major array that needs no copy")
    return np.array(array, order="C", copy=True)


def _set_inputs(core: Core, context: Context, arrays: list[Array | Prepared]) -> None:
    """Bind the arrays. Packed copies of arrays of 4 or 2 bits replace them in `arrays`, which keeps them alive."""
    for index, (array, port) in enumerate(zip(arrays, core.inputs, strict=True)):
        shape = () if isinstance(array, Prepared) else array.shape
        if not isinstance(array, Prepared) and is_packed(port.dtype):
            arrays[index] = pack(array, port.dtype)
        context.set_input(core, index, arrays[index], shape)


def _set_outputs(core: Core, context: Context, results: list[Array | None], memory: list[Array | None]) -> None:
    for index, (result, data) in enumerate(zip(results, memory, strict=True)):
        context.set_output(core, index, data, () if result is None else result.shape)


def _new_outputs(
    core: Core, context: Context, given: Mapping[str, Array]
) -> tuple[list[Array | None], list[Array | None]]:
    """Arrays for the results, and the memory behind each: the array itself, or packed bytes. None for
    what is known after the run only."""
    unknown = [log_text(str(name)) for name in given if name not in {port.name for port in core.outputs}]
    if unknown:
        raise InputError(f"outputs: the model has no output {', '.join(unknown)}")
    results: list[Array | None] = []
    memory: list[Array | None] = []
    for port, shape in zip(core.outputs, context.output_shapes(core), strict=True):
        array = given.get(port.name)
        if array is None:
            if shape is None:
                results.append(None)
                memory.append(None)
                continue
            array = _new_array(port, shape)
        elif array.dtype not in accepted_dtypes(port.dtype) or is_packed(port.dtype) or not array.flags.carray:
            raise InputError(
                f"output {log_text(port.name)}: expected a writable row-major array of {port.dtype}, "
                f"got {dtype_name(array.dtype)}"
            )
        results.append(array)
        packed = is_packed(port.dtype)
        memory.append(np.empty(packed_bytes(port.dtype, array.size), np.uint8) if packed else array)
    return results, memory


def _new_array(port: Port, shape: Sequence[int]) -> Array:
    """Memory for an output. Raises `RunError` for one that is too large."""
    try:
        return np.empty(shape, numpy_dtype(port.dtype))
    except (ValueError, MemoryError) as error:
        raise RunError(f"output {log_text(port.name)}: {list(shape)}: too large: {error}") from error


def _results(core: Core, context: Context, results: list[Array | None], memory: list[Array | None]) -> list[Any]:
    """The outputs after a run: the arrays that were bound, and copies of the others."""
    finished: list[Any] = []
    for index, (result, data, port) in enumerate(zip(results, memory, core.outputs, strict=True)):
        if result is None or data is None:
            finished.append(context.output_value(core, index))
        else:
            finished.append(unpack(data, port.dtype, result.shape) if is_packed(port.dtype) else result)
    return finished
