"""The C interface of an artifact (native/planish.h) through ctypes.

Function prototypes are made once for the process, not once per library: `ctypes.CDLL` makes a class for every library,
which would be the only thing that grows when a process loads and unloads models for days.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
from collections import Counter
from ctypes import (
    POINTER,
    Structure,
    Union,
    c_char,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from itertools import count
from pathlib import Path
from typing import Any

API_VERSION = 3
_dlclose = _ctypes.dlclose


class Message(Structure):
    """`planish_message`."""

    _fields_ = [("text", c_char * 1024)]


class DType(Structure):
    """`planish_dtype`."""

    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class Tensor(Structure):
    """`planish_tensor`."""

    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("dtype", DType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class Value(Structure):
    """`planish_value`; `_fields_` follow, since it holds pointers to itself."""


class Strings(Structure):
    """`planish_value.as.strings`."""

    _fields_ = [
        ("data", POINTER(c_char_p)),
        ("lengths", POINTER(c_uint64)),
        ("shape", POINTER(c_int64)),
        ("ndim", c_int32),
    ]


class Items(Structure):
    """`planish_value.as.sequence`."""

    _fields_ = [("items", POINTER(Value)), ("count", c_int64)]


class Map(Structure):
    """`planish_value.as.map`."""

    _fields_ = [("keys", POINTER(Value)), ("values", POINTER(Value))]


class ValueData(Union):
    """`planish_value.as`."""

    _fields_ = [
        ("tensor", Tensor),
        ("strings", Strings),
        ("sequence", Items),
        ("map", Map),
        ("reserved", c_void_p * 12),
    ]


Value._fields_ = [("kind", c_int32), ("name", c_char_p), ("data", ValueData)]
Poll = ctypes.CFUNCTYPE(c_int32, c_void_p)
"""`poll` of `planish_context_set_poll`."""


class Io(Structure):
    """`planish_io`."""

    _fields_ = [
        ("name", c_char_p),
        ("dtype_name", c_char_p),
        ("dtype", DType),
        ("rank", c_int32),
        ("dims", POINTER(c_int64)),
    ]


class Mark(Structure):
    """`planish_mark`."""

    _fields_ = [("nanoseconds", c_int64), ("count", c_int64)]


_PROTOTYPES: dict[str, Any] = {
    name: ctypes.CFUNCTYPE(result, *arguments)
    for name, (result, *arguments) in {
        "planish_api_version": (c_uint32,),
        "planish_model_open": (c_int32, POINTER(c_void_p), POINTER(Message)),
        "planish_model_name": (c_char_p, c_void_p),
        "planish_input_count": (c_int32, c_void_p),
        "planish_output_count": (c_int32, c_void_p),
        "planish_input_info": (c_int32, c_void_p, c_int32, POINTER(Io)),
        "planish_output_info": (c_int32, c_void_p, c_int32, POINTER(Io)),
        "planish_symbol_name": (c_char_p, c_void_p, c_int32),
        "planish_model_manifest": (c_void_p, c_void_p, POINTER(c_uint64)),
        "planish_pool_create": (c_void_p, c_int32),
        "planish_pool_destroy": (None, c_void_p),
        "planish_context_create": (c_int32, c_void_p, c_void_p, c_int32, POINTER(c_void_p), POINTER(Message)),
        "planish_context_destroy": (None, c_void_p),
        "planish_context_error": (c_char_p, c_void_p),
        "planish_context_threads": (c_int32, c_void_p),
        "planish_context_set_limits": (c_int32, c_void_p, c_int64, c_double),
        "planish_context_cancel": (None, c_void_p),
        "planish_context_set_poll": (None, c_void_p, c_void_p, c_void_p),
        "planish_set_input_value": (c_int32, c_void_p, c_int32, POINTER(Value)),
        "planish_get_output_value": (c_int32, c_void_p, c_int32, POINTER(Value)),
        "planish_set_input": (c_int32, c_void_p, c_int32, POINTER(Tensor)),
        "planish_set_output": (c_int32, c_void_p, c_int32, POINTER(Tensor)),
        "planish_infer_shapes": (c_int32, c_void_p),
        "planish_prepare": (c_int32, c_void_p),
        "planish_output_rank": (c_int32, c_void_p, c_int32),
        "planish_output_shape": (POINTER(c_int64), c_void_p, c_int32),
        "planish_arena_bytes": (c_int64, c_void_p),
        "planish_invoke": (c_int32, c_void_p),
        "planish_state_count": (c_int32, c_void_p),
        "planish_state_info": (c_int32, c_void_p, c_int32, POINTER(Io)),
        "planish_get_state": (c_int32, c_void_p, c_int32, POINTER(Tensor)),
        "planish_set_state": (c_int32, c_void_p, c_int32, POINTER(Tensor)),
        "planish_reset_states": (None, c_void_p),
        "planish_context_profile": (c_int32, c_void_p, POINTER(POINTER(Mark))),
    }.items()
}


class _Names:
    """The names under which files are loaded. The dynamic linker takes a name that it knows for the file that it
    loaded under it, even if another file is there by now; so a new file gets another spelling of its path."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a library may be dropped, and closed, in the middle of opening one
        self._files: dict[str, tuple[int, int]] = {}  # name -> device and inode of the file that is loaded under it
        self._users: Counter[tuple[int, int]] = Counter()

    def open(self, path: str) -> tuple[int, tuple[int, int]]:
        """Load `path`: the handle, and what `close` needs. Raises `OSError`."""
        with self._lock:
            info = Path(path).stat()
            file = info.st_dev, info.st_ino
            folder, base = os.path.split(path)
            names = (f"{folder}{'/.' * dots}/{base}" for dots in count())
            name = next(name for name in names if self._files.get(name, file) == file)
            handle = _ctypes.dlopen(name, os.RTLD_NOW | os.RTLD_LOCAL)
            self._files[name] = file
            self._users[file] += 1
            return handle, file

    def close(self, handle: int, file: tuple[int, int]) -> None:
        """Unload; the last user of a file frees its names."""
        with self._lock:
            _dlclose(handle)
            self._users[file] -= 1
            if self._users[file] <= 0:
                del self._users[file]
                self._files = {name: loaded for name, loaded in self._files.items() if loaded != file}

    def renew_lock(self) -> None:
        """In the child of a fork: the thread that may have held the lock is not there."""
        self._lock = threading.RLock()


_names = _Names()
os.register_at_fork(after_in_child=_names.renew_lock)


class Library:
    """A loaded artifact: one attribute per function of planish.h that Python uses, without its `planish_`."""

    def __init__(self, path: str) -> None:
        """`path` is absolute. Raises `OSError` if the file cannot be loaded, `AttributeError` if it is no artifact."""
        self._handle, self._file = _names.open(path)
        try:
            for name, prototype in _PROTOTYPES.items():
                address = _ctypes.dlsym(self._handle, name)
                setattr(self, name.removeprefix("planish_"), prototype(address))
        except OSError as error:
            self.close()
            raise AttributeError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def close(self) -> None:
        """Unload the library. Nothing of it may be in use."""
        handle, self._handle = self._handle, 0
        if handle:
            _names.close(handle, self._file)

    def __del__(self) -> None:
        if "_handle" in self.__dict__:
            self.close()
