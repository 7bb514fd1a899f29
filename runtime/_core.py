"""A loaded artifact and its contexts: what models and bindings share and keep alive."""

from __future__ import annotations

import ctypes
import platform
import signal
import struct
import threading
from ctypes import POINTER, byref, c_int64, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from ._native import API_VERSION, Io, Library, Mark, Message, Poll, Tensor, Value
from .dtypes import dlpack_code, numpy_dtype
from .errors import InputError, LoadError, RunError
from .escape import log_text
from .manifest import Port
from .pool import Pool
from .values import Prepared, is_plain, read_value

Array = np.ndarray[Any, Any]
INVALID_ARGUMENT, NOT_READY = 1, 5
_MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine


def check_file(path: Path) -> None:
    """Raise `LoadError` unless `path` is a whole shared library: a truncated one would crash when it is touched."""
    shown = log_text(str(path))
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF":
                raise LoadError(f"{shown}: expected a shared library made by planish compile, got another kind of file")
            if len(head) < 64 or head[4:6] != b"\x02\x01":
                raise LoadError(f"{shown}: expected a 64-bit little-endian library")
            number, own = int.from_bytes(head[18:20], "little"), platform.machine().lower()
            made = _MACHINES.get(number, "another machine")
            if made != {"arm64": "aarch64", "amd64": "x86_64"}.get(own, own):
                raise LoadError(f"{shown}: made for {made}, this machine is {own}: compile the model for {own}")
            phoff, shoff = struct.unpack_from("<QQ", head, 32)
            phentsize, phnum, shentsize, shnum = struct.unpack_from("<HHHH", head, 54)
            file.seek(phoff)
            table = file.read(phentsize * phnum)
            size = file.seek(0, 2)
    except OSError as error:
        raise LoadError(f"{shown}: cannot be opened: {error.strerror}") from error
    end = shoff + shentsize * shnum
    kinds: list[int] = []
    for start in range(0, len(table) - 55, max(phentsize, 1)):
        kind, _, offset, _, _, filesz = struct.unpack_from("<IIQQQQ", table, start)
        kinds.append(kind)
        end = max(end, offset + filesz)
    if phentsize != 56 or len(table) != phentsize * phnum or end > size:
        raise LoadError(f"{shown}: the file is cut off: expected {end:,} bytes, got {size:,}")
    if 3 in kinds:
        raise LoadError(f"{shown}: this is an executable; run it, or compile the model with --emit lib to load it")


class Core:
    """One loaded artifact. Unloaded when the last reference to it is gone: model, bindings and calls hold one each."""

    def __init__(self, path: Path, threads: int, pool: Pool) -> None:
        self._pool: Pool | None = None
        self._idle: list[Context] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # calls on a model that keeps states follow one another
        check_file(path)
        shown = log_text(str(path))
        self.threads = threads
        try:
            self.library = Library(str(path.absolute()))
        except OSError as error:
            raise LoadError(f"{shown}: cannot be loaded: {error}") from error
        except AttributeError as error:
            raise LoadError(f"{shown}: expected a library made by planish compile: {error}") from error
        version = self.library.api_version()
        if version != API_VERSION:
            raise LoadError(
                f"{shown}: interface version: expected {API_VERSION}, got {version}; compile the model again"
            )
        message, model = Message(), c_void_p()
        if self.library.model_open(byref(model), byref(message)):
            raise LoadError(f"{shown}: {message.text.decode(errors='replace')}")
        self.model = model.value
        self.inputs = self._ports(self.library.input_count, self.library.input_info)
        self.outputs = self._ports(self.library.output_count, self.library.output_info)
        self.states = self._ports(self.library.state_count, self.library.state_info)
        self.native_pool = pool.attach(self.library)
        self._pool = pool

    def _ports(self, count: Any, info: Any) -> tuple[Port, ...]:
        ports: list[Port] = []
        io = Io()
        for index in range(count(self.model)):
            info(self.model, index, byref(io))
            dims = [io.dims[d] for d in range(io.rank)]
            shape = None if io.rank < 0 else tuple(d if d >= 0 else self._symbol(-(d + 1)) for d in dims)
            ports.append(Port(io.name.decode(errors="replace"), io.dtype_name.decode(), shape))
        return tuple(ports)

    def _symbol(self, index: int) -> str:
        return self.library.symbol_name(self.model, index).decode(errors="replace")

    def manifest_text(self) -> bytes:
        size = c_uint64()
        address = self.library.model_manifest(self.model, byref(size))
        return ctypes.string_at(address, size.value) if address else b""

    def acquire(self) -> Context:
        """A context that no other call uses. Of a model that keeps states there is one only, for whose turn this
        waits."""
        if self.states:
            self._turn.acquire()
        try:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
            return Context(self)
        except BaseException:
            if self.states:
                self._turn.release()
            raise

    def release(self, context: Context) -> None:
        """Give back what `acquire` gave."""
        try:
            if context.interrupted:  # it may be about to cancel its next run
                fresh = [context.renewed(self)] if self.states else []
                context.destroy(self.library)
                self._idle += fresh
                return
            with self._lock:
                self._idle.append(context)
        finally:
            if self.states:
                self._turn.release()

    def session(self) -> Context:
        """A context for longer use, with states of its own."""
        return Context(self) if self.states else self.acquire()

    def end(self, context: Context) -> None:
        """Give back what `session` gave."""
        if self.states:
            context.destroy(self.library)
        else:
            self.release(context)

    def __del__(self) -> None:
        for context in self._idle:
            context.destroy(self.library)
        self._idle.clear()
        if self._pool is not None:
            self._pool.detach()
            self._pool = None


def _poll(_data: int | None) -> int:
    """Called by the runtime now and then during a run: what lets Python handle signals meanwhile."""
    return 0


_POLL = Poll(_poll)


class Context:
    """A native context. It does not keep its core alive: whoever uses it does."""

    def __init__(self, core: Core) -> None:
        self._inputs = [_Slot("input", port) if is_plain(port.dtype) else None for port in core.inputs]
        self._outputs = [_Slot("output", port) if is_plain(port.dtype) else None for port in core.outputs]
        self._limited = False
        self._polled = False
        self.interrupted = False
        message, handle = Message(), c_void_p()
        if core.library.context_create(core.model, core.native_pool, core.threads, byref(handle), byref(message)):
            raise RunError(message.text.decode(errors="replace"))
        self.handle = handle.value

    def destroy(self, library: Library) -> None:
        library.context_destroy(self.handle)
        self.handle = None

    def _check(self, library: Library, status: int) -> None:
        if status:
            text = library.context_error(self.handle).decode(errors="replace")
            raise (InputError if status in (INVALID_ARGUMENT, NOT_READY) else RunError)(text)

    def set_limits(self, core: Core, max_bytes: int, seconds: float) -> None:
        """What each run may take; 0: no limit."""
        if max_bytes or seconds or self._limited:
            self._limited = bool(max_bytes or seconds)
            self._check(core.library, core.library.context_set_limits(self.handle, max_bytes, seconds))

    def set_input(self, core: Core, index: int, data: Array | Prepared, shape: tuple[int, ...]) -> None:
        if isinstance(data, Prepared):
            self._check(core.library, core.library.set_input_value(self.handle, index, byref(data.value)))
            return
        slot = self._inputs[index]
        assert slot is not None
        self._check(core.library, core.library.set_input(self.handle, index, slot.fill(data, shape)))

    def set_output(self, core: Core, index: int, data: Array | None, shape: tuple[int, ...]) -> None:
        slot = self._outputs[index]
        tensor = None if data is None or slot is None else slot.fill(data, shape)
        self._check(core.library, core.library.set_output(self.handle, index, tensor))

    def output_shapes(self, core: Core) -> list[tuple[int, ...] | None]:
        """The shapes of the outputs; None for what is known after the run only, and for what is no plain tensor."""
        self._check(core.library, core.library.infer_shapes(self.handle))
        shapes: list[tuple[int, ...] | None] = []
        for index, port in enumerate(core.outputs):
            dims = core.library.output_shape(self.handle, index)
            rank = core.library.output_rank(self.handle, index) if port.shape is None else len(port.shape)
            known = self._outputs[index] is not None and rank >= 0 and all(dims[d] >= 0 for d in range(rank))
            shapes.append(tuple(dims[d] for d in range(rank)) if known else None)
        return shapes

    def output_value(self, core: Core, index: int) -> Any:
        """A copy of an output after a run, of any kind."""
        value = Value()
        self._check(core.library, core.library.get_output_value(self.handle, index, byref(value)))
        return read_value(value)

    def invoke(self, core: Core) -> None:
        """Run. An interrupt (Ctrl-C) ends the run, where Python would raise `KeyboardInterrupt` after it only."""
        handled = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if handled != self._polled:
            core.library.context_set_poll(self.handle, ctypes.cast(_POLL, c_void_p) if handled else None, None)
            self._polled = handled
        status = self._invoke_interruptibly(core) if handled else core.library.invoke(self.handle)
        self._check(core.library, status)

    def _invoke_interruptibly(self, core: Core) -> int:
        def interrupt(_number: int, _frame: Any) -> None:
            self.interrupted = True
            core.library.context_cancel(self.handle)

        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            status = core.library.invoke(self.handle)
        finally:
            signal.signal(signal.SIGINT, previous)
        if self.interrupted:
            raise KeyboardInterrupt
        return status

    def state(self, core: Core, index: int) -> Array:
        """A copy of a state."""
        port = core.states[index]
        tensor = Tensor()
        self._check(core.library, core.library.get_state(self.handle, index, byref(tensor)))
        shape = tuple(tensor.shape[d] for d in range(tensor.ndim))
        array = np.empty(shape, numpy_dtype(port.dtype))
        ctypes.memmove(array.ctypes.data, tensor.data, array.nbytes)
        return array

    def set_state(self, core: Core, index: int, data: Array) -> None:
        """Copy an array, which fits, into a state."""
        slot = _Slot("state", core.states[index])
        self._check(core.library, core.library.set_state(self.handle, index, slot.fill(data, data.shape)))

    def reset_states(self, core: Core) -> None:
        """States as they are before the first run."""
        core.library.reset_states(self.handle)

    def renewed(self, core: Core) -> Context:
        """Another context with the same states."""
        fresh = Context(core)
        for index in range(len(core.states)):
            fresh.set_state(core, index, self.state(core, index))
        return fresh

    def profile(self, core: Core) -> list[tuple[int, int]]:
        """Nanoseconds and number of runs of each mark of the last invocation; empty unless built for profiling."""
        marks = POINTER(Mark)()
        count = core.library.context_profile(self.handle, byref(marks))
        return [(marks[index].nanoseconds, marks[index].count) for index in range(count)]


class _Slot:
    """The tensor structure of one input or output, kept from call to call."""

    def __init__(self, what: str, port: Port) -> None:
        self._what = f"{what} {log_text(port.name)}"
        self._tensor = Tensor()
        self._pointer = POINTER(Tensor)(self._tensor)
        self._tensor.device_type = 1
        self._shape = (c_int64 * 32)()
        self._tensor.shape = self._shape
        try:
            code, bits = dlpack_code(port.dtype)
            numpy_dtype(port.dtype)
        except KeyError:
            raise InputError(f"{self._what}: type {port.dtype} cannot be passed from Python") from None
        self._tensor.dtype.code, self._tensor.dtype.bits, self._tensor.dtype.lanes = code, bits, 1

    def fill(self, data: Array, shape: tuple[int, ...]) -> Any:
        if len(shape) > 32:
            raise InputError(f"{self._what}: rank: expected at most 32, got {len(shape)}")
        self._tensor.data = data.__array_interface__["data"][0]
        self._tensor.ndim = len(shape)
        self._shape[: len(shape)] = shape
        return self._pointer
