"""Printing of attribute literals. `ir.text.reader` reads every one of them back as the same value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np

from ..constants import ArraySource, ConstantData, FileSource, LinearSource, PiecesSource, SplatSource
from ..expr import Expr
from ..kernel.form import LoopDim, Schedule
from ..quote import name_text, quote, symbol_text
from ..types import DTYPES, Layout, MapType, OptionalType, ScalarType, SequenceType, TensorType, TupleType

INLINE = 32  # elements of an in-memory constant that are printed in place
KEYWORDS = frozenset({"true", "false", "none", "inf", "nan"})


class Resources:
    """Names for the arrays that a text refers to instead of holding them: `c0`, `c1`, ... in order of printing."""

    def __init__(self, arrays: dict[str, np.ndarray] | None = None, inline: int = INLINE) -> None:
        self.arrays: dict[str, np.ndarray] = {} if arrays is None else arrays
        self.inline = inline
        self._names = {id(array): name for name, array in self.arrays.items()}

    def name(self, array: np.ndarray) -> str:
        """The name of `array`, a new one on first sight."""
        name = self._names.get(id(array))
        if name is None:
            n = len(self.arrays)
            while f"c{n}" in self.arrays:
                n += 1
            name = self._names[id(array)] = f"c{n}"
            self.arrays[name] = array
        return name


def literal(value: Any, resources: Resources, type: TensorType | None = None) -> str:
    """The text of one attribute value. `type` is the type of the operation's result: a constant of that element type
    and shape does not repeat them. Raises TypeError for a value that attributes cannot have."""
    match value:
        case None:
            return "none"
        case bool() | np.bool_():
            return "true" if bool(value) else "false"
        case int() | np.integer():
            return str(int(cast("int", value)))
        case float() | np.floating():
            return float_text(float(cast("float", value)))
        case complex() | np.complexfloating():
            return complex_text(complex(cast("complex", value)))
        case str():
            return quote(value)
        case Expr():
            return f"<{value}>"
        case tuple() | list():
            return _sequence(cast("Sequence[Any]", value), resources)
        case Mapping():
            entries = cast("Mapping[str, Any]", value).items()
            return "{" + ", ".join(f"{key_text(k)} = {literal(v, resources)}" for k, v in entries) + "}"
        case TensorType() | ScalarType() | TupleType() | SequenceType() | OptionalType() | MapType() | Layout():
            return str(value)
        case Schedule():
            return _schedule(value, resources)
        case ConstantData():
            return _constant(value, resources, type)
        case _:
            raise TypeError(f"an attribute cannot be a {value.__class__.__name__}: {value!r}")


def key_text(key: str) -> str:
    """The name of an attribute or of an entry of a dictionary."""
    return name_text(key)


def float_text(value: float) -> str:
    """A float that reads back as the same float: always with a point, an exponent, `inf` or `nan`."""
    if math.isnan(value):
        return "nan"
    text = repr(value)
    return text if any(c in text for c in ".en") else text + ".0"


def complex_text(value: complex) -> str:
    """`complex(1.0, -2.5)`."""
    return f"complex({float_text(value.real)}, {float_text(value.imag)})"


def map_text(exprs: Sequence[Any]) -> str:
    """`<n, c, 2*h + i - 1>`."""
    return "<" + ", ".join(map(str, exprs)) + ">"


def dims_text(dims: Sequence[LoopDim]) -> str:
    """`<n: 1, o: 64>`."""
    return "<" + ", ".join(f"{symbol_text(d.name)}: {d.extent}" for d in dims) + ">"


def _sequence(items: Sequence[Any], resources: Resources) -> str:
    if items and all(isinstance(i, Expr) for i in items):
        return f"<{items[0]},>" if len(items) == 1 else map_text(items)
    if items and all(isinstance(i, LoopDim) for i in items):
        return dims_text(items)
    return "[" + ", ".join(literal(i, resources) for i in items) + "]"


def _schedule(schedule: Schedule, resources: Resources) -> str:
    parts: list[str] = []
    for f in fields(schedule):
        value = getattr(schedule, f.name)
        if f.name == "ahead" and not value:
            continue
        if f.name == "loops":
            text = "[" + ", ".join(f"{_dim(name)}: {step}" for name, step in value) + "]"
        elif f.name == "vector":
            text = _dim(value) if value else "none"
        else:
            text = literal(value, resources)
        parts.append(f"{f.name} = {text}")
    return "schedule(" + ", ".join(parts) + ")"


def _dim(name: str) -> str:
    return quote(name) if name in KEYWORDS else symbol_text(name)


def _constant(data: ConstantData, resources: Resources, type: TensorType | None) -> str:
    options: list[str] = []
    if data.transpose:
        options.append("transpose = [" + ", ".join(map(str, data.transpose)) + "]")
    if type is None or (type.dtype, type.shape) != (data.dtype, data.shape):
        options.insert(0, str(data.type))
    match data.source:
        case SplatSource(value=value):
            return _call("splat", [literal(value, resources), *options])
        case FileSource(path=path, offset=offset):
            return _call("file", [quote(path), str(offset), *options])
        case PiecesSource(path=path, pieces=pieces):
            return _call("pieces", [quote(path), literal(pieces, resources), *options])
        case ArraySource(array=array):
            if array.size <= resources.inline:
                items = [element_text(v, data.dtype) for v in array.reshape(-1)]
                return _call("dense", ["[" + ", ".join(items) + "]", *options])
            return _call("resource", [quote(resources.name(array)), *options])
        case LinearSource(base=base, matrix=matrix):
            return _call("linear", [literal(matrix, resources), _constant(base, resources, None), *options])


def _call(name: str, args: Sequence[str]) -> str:
    return f"{name}(" + ", ".join(args) + ")"


def element_text(value: Any, dtype: str) -> str:
    """One element of a constant, with the fewest digits that read back as the same element."""
    info = DTYPES[dtype]
    match info.kind:
        case "bool":
            return "true" if value else "false"
        case "string":
            return quote(value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value))
        case "float" | "float8":
            short = str(value)
            exact = info.numpy.type(float(short)) == value
            return float_text(float(short) if exact else float(value))
        case "complex":
            return complex_text(complex(value))
        case _:
            return str(int(value))
