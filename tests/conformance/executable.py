"""Tests through executables: inputs and outputs travel as `.npz` files.

Strings are `<U` arrays, a sequence `x` is `x.0`, `x.1` ... (`x.len` is 0 for an empty one), an absent optional is left
out, and a type that NumPy lacks is its raw bits with the type in the name (`x:bf16`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from planish.arrays import save_npz
from planish.runtime.dtypes import accepted_dtypes, dtype_name, numpy_dtype, raw_dtype


def run_executable(program: Path, names: Sequence[str], inputs: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The outputs of a compiled program for inputs by position."""
    given, found = program.with_name("in.npz"), program.with_name("out.npz")
    arrays: dict[str, Any] = {}
    for name, value in zip(names, inputs, strict=False):
        _put(arrays, name, value)
    save_npz(given, arrays)
    command = [program, "run", "--inputs", given, "-o", found, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode:
        raise AssertionError(f"the program ended with status {done.returncode}: {done.stderr.strip()}")
    with np.load(found) as archive:
        members = dict(archive)
    return [_get(members, name) for name in outputs]


def _put(arrays: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, list | tuple):
        items = list(cast("list[Any]", value))
        for i, item in enumerate(items):
            _put(arrays, f"{name}.{i}", item)
        if not items:
            arrays[f"{name}.len"] = np.array(0, np.int64)
        return
    array = np.asarray(value)
    if array.dtype == object:
        arrays[name] = array.astype(str)
        return
    dtype = dtype_name(array.dtype)
    foreign = len(accepted_dtypes(dtype)) > 1
    arrays[f"{name}:{dtype}" if foreign else name] = array.view(raw_dtype(dtype)) if foreign else array


def _get(members: Mapping[str, Any], name: str) -> Any:
    if name in members:
        array = members[name]
        return array.astype(object) if array.dtype.kind == "U" else array
    for key, array in members.items():
        stem, _, dtype = key.rpartition(":")
        if stem == name:
            return array.view(numpy_dtype(dtype))
    if f"{name}.len" in members:
        return []
    parts: list[Any] = []
    while any(
        key.split(":")[0] == f"{name}.{len(parts)}" or key.startswith(f"{name}.{len(parts)}.") for key in members
    ):
        parts.append(_get(members, f"{name}.{len(parts)}"))
    return parts or None
