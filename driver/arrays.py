"""NumPy files in and out of the command line: `.npy`, `.npz`, and the names of types that NumPy lacks.

An `.npz` written here is stored, not compressed, so that an executable of planish can read it. A value of a type that
NumPy lacks travels as its raw bits with the type in the name: `x:bf16` is a uint16 array. A sequence is `x.0, x.1 ...`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planish._atomic import written_beside
from planish.ir.errors import PlanishError
from planish.runtime.dtypes import accepted_dtypes, dtype_name, numpy_dtype, raw_dtype

Array = NDArray[Any]


class InputFileError(PlanishError):
    """A file named by `--input` or `--inputs` is missing, damaged, or not what NumPy writes."""


def read_inputs(files: Iterable[tuple[str, Path]], archive: Path | None) -> dict[str, Array]:
    """The inputs by name, from `--input NAME=FILE.npy` pairs or the `--inputs FILE.npz`.

    Raises `InputFileError` naming the file and what is wrong with it.
    """
    found: dict[str, Array] = {}
    for name, file in files:
        if name in found:
            raise InputFileError(f"--input {name}: given twice")
        value = _load(file)
        if not isinstance(value, np.ndarray):
            value.close()
            raise InputFileError(f"{file}: expected one array (.npy), got an archive: give it as --inputs {file}")
        found[name] = value
    if archive is None:
        return found
    value = _load(archive)
    if isinstance(value, np.ndarray):
        raise InputFileError(f"{archive}: expected an archive (.npz), got one array: give it as --input NAME={archive}")
    with value:
        return dict(_member(archive, value, name) for name in value.files)


def _load(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputFileError(f"{file}: expected a NumPy file (.npy or .npz): {_first_line(error)}") from error


def _member(archive: Path, values: Mapping[str, Array], name: str) -> tuple[str, Array]:
    try:
        array = values[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputFileError(f"{archive}: {name}: {_first_line(error)}") from error
    stem, _, foreign = name.rpartition(":")
    if not stem or not _is_foreign(foreign):
        return name, array
    if array.dtype != raw_dtype(foreign):
        raise InputFileError(f"{archive}: {name}: expected the raw bits as {raw_dtype(foreign)}, got {array.dtype}")
    return stem, array.view(numpy_dtype(foreign))


def _is_foreign(name: str) -> bool:
    """Whether `name` is one of planish's types that NumPy lacks."""
    try:
        return len(accepted_dtypes(name)) > 1
    except KeyError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_outputs(file: Path, outputs: Mapping[str, Array | Sequence[Array]], dtypes: Mapping[str, str]) -> None:
    """Write the outputs to the `.npz` `file`, or leave it as it was if that fails (OSError).

    `dtypes` are planish's names of the outputs' types.
    """
    with written_beside(file) as temporary:
        save_npz(temporary, dict(_flat(outputs, dtypes)))


def save_npz(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name, stored. Unlike `np.savez` this takes every name ("file" too) and exactly this path."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _flat(outputs: Mapping[str, Array | Sequence[Array]], dtypes: Mapping[str, str]) -> Iterable[tuple[str, Array]]:
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray):
            yield from _flat({f"{name}.{index}": part for index, part in enumerate(value)}, dtypes)
            continue
        dtype = dtypes.get(name) or dtype_name(value.dtype)
        yield (f"{name}:{dtype}", value.view(raw_dtype(dtype))) if _is_foreign(dtype) else (name, value)
