"""A machine for the pickles of state dicts: it makes numbers, texts, containers and tensors, and nothing else.

Python's own unpickler imports and calls whatever a file names. Here a name is only a name: the few that PyTorch's
state dicts need stand in `_CALLS` and `_PLAIN`, every other one is an error, and nothing is ever imported or called by
a name from the file. The opcodes are those of protocols 0 to 5 (`pickletools`).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ...ir.errors import ModelError
from ..text import quote

MOST_BYTES = 1 << 26
_MOST_STEPS = 1_500_000
_KEYS = (str, int, float, bool, bytes, type(None))

DTYPES: dict[str, str] = {
    "float32": "f32", "float": "f32", "float64": "f64", "double": "f64", "float16": "f16", "half": "f16",
    "bfloat16": "bf16", "int8": "i8", "int16": "i16", "short": "i16", "int32": "i32", "int": "i32", "int64": "i64",
    "long": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
    "float8_e4m3fn": "f8e4m3fn", "float8_e5m2": "f8e5m2", "float8_e4m3fnuz": "f8e4m3fnuz",
    "float8_e5m2fnuz": "f8e5m2fnuz", "float8_e8m0fnu": "f8e8m0",
}  # fmt: skip
STORAGES: dict[str, str] = {
    "FloatStorage": "f32", "DoubleStorage": "f64", "HalfStorage": "f16", "BFloat16Storage": "bf16",
    "LongStorage": "i64", "IntStorage": "i32", "ShortStorage": "i16", "CharStorage": "i8", "ByteStorage": "u8",
    "BoolStorage": "bool", "UntypedStorage": "",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A global of the pickle, `module.name`."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """Bytes of the archive: a member's name, and the element type ("" for plain bytes)."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a storage; sizes, strides and offset count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Refused(Exception):
    """What a state dict does not hold."""


def unpickled(file: BinaryIO | bytes, where: str) -> Any:
    """The value of one pickle; a file is left behind its end. Raises `ModelError` for one that holds anything but
    numbers, texts, containers and tensors, or that is damaged."""
    try:
        return _Machine().run(file)
    except Refused as e:
        raise ModelError(f"{where}: refused: {e}; save the tensors with safetensors, or the plain state_dict()") from e
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as e:
        said = str(e).splitlines()[0][:100] if str(e) else type(e).__name__
        raise ModelError(f"{where}: the pickle is damaged: {said}") from e


class _Mark:
    """Where a list of items begins on the stack."""


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO | bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(Any, file))):
            if count > _MOST_STEPS:
                raise Refused(f"a pickle of more than {_MOST_STEPS} steps")
            if opcode.name == "STOP":
                (value,) = self.stack
                return value
            step = _STEPS.get(opcode.name)
            if step is None:
                raise Refused(f"opcode {opcode.name}, which builds objects")
            step(self, argument)
        raise ValueError("it has no end")

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise ValueError("a mark where a value is expected")
        return value

    def items(self) -> list[Any]:
        """Everything above the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[at], _Mark):
                found = self.stack[at + 1 :]
                del self.stack[at:]
                return found
        raise ValueError("no mark")

    # -- steps -----------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def number(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > 128:
            raise Refused("a number of more than 128 bits")
        self.push(value)

    def put(self, index: Any) -> None:
        self.memo[len(self.memo) if index is None else int(index)] = self._top()

    def get(self, index: Any) -> None:
        self.push(self.memo[int(index)])

    def _top(self) -> Any:
        if isinstance(self.stack[-1], _Mark):
            raise ValueError("a mark where a value is expected")
        return self.stack[-1]

    def tuple_of(self, count: int) -> None:
        parts = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(parts)))

    def append(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise Refused(f"items for {_kind(target)}")
        cast("list[Any]", target).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise Refused(f"entries for {_kind(target)}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Only these: hashing a tuple of shared tuples takes exponential time.
            if type(key) not in _KEYS:
                raise Refused(f"a dictionary with {_kind(key)} as a key")
            cast("dict[Any, Any]", target)[key] = value

    def pair(self) -> list[Any]:
        value, key = self.pop(), self.pop()
        return [key, value]

    def name(self, module: str, name: str) -> None:
        known = Name(module, name)
        if str(known) not in _CALLS and str(known) not in _PLAIN and _dtype(known) is None and not _storage(known):
            raise Refused(f"it wants to use {quote(str(known))}, which is no part of a state dict")
        self.push(known)

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refused("a name that is no text")
        self.name(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise Refused(f"a call of {_kind(function)}")
        call = _CALLS.get(str(function))
        if call is None:
            raise Refused(f"a call of {quote(str(function))}")
        self.push(call(cast("tuple[Any, ...]", arguments)))

    def new(self) -> None:
        arguments, function = self.pop(), self.pop()
        if function != Name("collections", "OrderedDict") or arguments != ():
            raise Refused(f"an object of {_kind(function)}")
        self.push({})

    def build(self) -> None:
        """The state of an object: an OrderedDict has `_metadata`, which says nothing of the tensors."""
        self.pop()
        target = self._top()
        if not isinstance(target, dict):
            raise Refused(f"a state for {_kind(target)}")

    def persistent(self) -> None:
        self.push(_stored(self.pop()))


def _kind(value: Any) -> str:
    return f"{quote(str(value))}" if isinstance(value, Name) else f"a {type(value).__name__}"


def _whole(value: object) -> int:
    """A number that fits 64 bits. Raises `Refused`."""
    if type(value) is not int or value.bit_length() > 64:
        raise Refused("a number of more than 64 bits" if isinstance(value, int) else f"{_kind(value)} as a size")
    return value


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        raise Refused(f"{_kind(value)} as sizes")
    parts = cast("tuple[object, ...]", value)
    if len(parts) > 64:
        raise Refused(f"a tensor of rank {len(parts)}")
    return tuple(_whole(p) for p in parts)


def _dtype(name: Name) -> str | None:
    return DTYPES.get(name.name) if name.module == "torch" else None


def _storage(name: Name) -> bool:
    return name.module in ("torch", "torch.storage") and name.name in STORAGES


def _stored(identity: object) -> Storage:
    """What a persistent id stands for: ("storage", type, key, device, elements)."""
    parts = cast("tuple[object, ...]", identity) if isinstance(identity, tuple) else ()
    match parts[:5]:
        case ("storage", Name() as kind, str() as key, str(), int() as count) if _storage(kind):
            return Storage(key, STORAGES[kind.name], _whole(count))
        case _:
            raise Refused("a persistent id that is no storage")


# -- what may be called -----------------------------------------------------------------------------------------------


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_tensor and _v2: (storage, offset, size, stride, ...)."""
    storage, offset, shape, strides, *_ = (*arguments, None, None, None, None)
    if not isinstance(storage, Storage) or not storage.dtype:
        raise Refused(f"a tensor of {_kind(storage)}")
    return StoredTensor(storage, storage.dtype, _whole(offset), _sizes(shape), _sizes(strides))


def _typed_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3: (storage, offset, size, stride, requires_grad, hooks, dtype, ...)."""
    if len(arguments) < 7 or not isinstance(arguments[0], Storage):
        raise Refused("a tensor without a storage and a type")
    name = arguments[6]
    dtype = _dtype(name) if isinstance(name, Name) else None
    if dtype is None:
        raise Refused(f"a tensor of type {_kind(name)}")
    return StoredTensor(arguments[0], dtype, _whole(arguments[1]), _sizes(arguments[2]), _sizes(arguments[3]))


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_parameter: (data, requires_grad, hooks)."""
    if not arguments or not isinstance(arguments[0], StoredTensor):
        raise Refused("a parameter without a tensor")
    return arguments[0]


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """collections.OrderedDict of nothing, or of pairs."""
    made: dict[Any, Any] = {}
    if len(arguments) > 1 or (arguments and not isinstance(arguments[0], list | tuple)):
        raise Refused("an OrderedDict of something else than pairs")
    for pair in cast("list[Any]", arguments[0] if arguments else ()):
        if not isinstance(pair, list | tuple) or len(cast("list[Any]", pair)) != 2:
            raise Refused("an OrderedDict of something else than pairs")
        key, value = cast("list[Any]", pair)
        if type(key) not in _KEYS:
            raise Refused(f"a dictionary with {_kind(key)} as a key")
        made[key] = value
    return made


def _no_set(arguments: tuple[Any, ...]) -> object:
    if len(arguments) > 1 or any(not isinstance(a, list | tuple) for a in arguments):
        raise Refused("a set of something else than a list")
    return list(arguments[0]) if arguments else []


def _device(arguments: tuple[Any, ...]) -> None:
    """torch.device: it says nothing of the tensors."""


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.device": _device,
    "torch.Size": lambda arguments: _sizes(arguments[0]) if len(arguments) == 1 else (),
    "builtins.set": _no_set,
    "__builtin__.set": _no_set,
}
_PLAIN = frozenset({"torch.serialization._get_layout"})

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": lambda m, a: m.push(_Mark()),
    "POP": lambda m, a: (m.stack.pop(), None)[1],
    "POP_MARK": lambda m, a: (m.items(), None)[1],
    "DUP": lambda m, a: m.push(m._top()),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_SET": lambda m, a: m.push([]),
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "TUPLE": lambda m, a: m.push(tuple(m.items())),
    "LIST": lambda m, a: m.push(m.items()),
    "APPEND": lambda m, a: m.append([m.pop()]),
    "APPENDS": lambda m, a: m.append(m.items()),
    "ADDITEMS": lambda m, a: m.append(m.items()),
    "SETITEM": lambda m, a: m.set_items(m.pair()),
    "SETITEMS": lambda m, a: m.set_items(m.items()),
    "MEMOIZE": _Machine.put,
    "GLOBAL": lambda m, a: m.name(*str(a).partition(" ")[::2]),
    "STACK_GLOBAL": lambda m, a: m.stack_name(),
    "REDUCE": lambda m, a: m.reduce(),
    "NEWOBJ": lambda m, a: m.new(),
    "BUILD": lambda m, a: m.build(),
    "BINPERSID": lambda m, a: m.persistent(),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.number),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE",
                     "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Machine.push),
}  # fmt: skip

__all__ = ["MOST_BYTES", "Refused", "Storage", "StoredTensor", "unpickled"]
