"""`load`, `load_checkpoint`, `load_param_into_net` and `export`, with MindSpore's arguments and results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from planish.frontend.checkpoints import prefixed, read_checkpoint
from planish.frontend.mindir.files import load as load_file
from planish.ir.errors import ModelError
from planish.mindspore.errors import ArgumentTypeError, LoadRuntimeError, LoadValueError
from planish.mindspore.nn import FuncGraph, GraphCell
from planish.mindspore.tensor import Parameter

_MODES = ("AES-GCM", "AES-CBC", "SM4-CBC")
_FLOATS = frozenset(("float16", "float32", "float64", "bfloat16"))
_INTEGERS = frozenset(("int8", "int16", "int32", "int64"))
_SUFFIXES = {"MINDIR": ".mindir", "ONNX": ".onnx"}
_MOST_SHOWN = 8


def load(file_name: str, **kwargs: Any) -> FuncGraph:
    """Load a MindIR file for `GraphCell`. Of a split network give `NAME_graph.mindir`.

    `dec_key` (bytes) decrypts it; `dec_mode` is "AES-GCM", "AES-CBC" or "SM4-CBC" (the file says which it is), or a
    function of a file name and a key that gives the plain bytes. Raises `ValueError` for a name that ends otherwise
    or a file that is not there, `RuntimeError` for one that cannot be parsed or decrypted.
    """
    key, mode = kwargs.pop("dec_key", None), kwargs.pop("dec_mode", _MODES[0])
    if kwargs.pop("obf_func", None) is not None:
        raise LoadValueError("load: obf_func: obfuscated networks cannot be read")
    if kwargs:
        raise ArgumentTypeError(f"load: unexpected arguments: {', '.join(kwargs)}")
    if not isinstance(file_name, str) or not file_name.endswith(".mindir"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise LoadValueError(f"load: file_name: expected a name that ends with .mindir, got {file_name!r}")
    if not Path(file_name).is_file():
        raise LoadValueError(f"load: {file_name}: no such file")
    _check_key(key, mode, "load")
    try:
        if callable(mode) and key is not None:
            return FuncGraph(load_file(cast("Callable[[str, bytes], bytes]", mode)(file_name, key)))
        return FuncGraph(load_file(file_name, key))
    except ModelError as e:
        raise LoadRuntimeError(str(e)) from e


def load_checkpoint(
    ckpt_file_name: str,
    net: GraphCell | None = None,
    strict_load: bool = False,
    filter_prefix: str | Sequence[str] | None = None,
    dec_key: bytes | None = None,
    dec_mode: str = "AES-GCM",
    specify_prefix: str | Sequence[str] | None = None,
    choice_func: Callable[[str], bool] | None = None,
    crc_check: bool = False,
    remove_redundancy: bool = False,
    format: str = "ckpt",
) -> dict[str, Parameter | str]:
    """Parameters by name from a checkpoint: `Parameter`s, and texts where the file has some. With `net` they also go
    into it.

    `choice_func` says by name what to load; `filter_prefix` (names that begin so are left out) and `specify_prefix`
    (only those are loaded) override it. `format` is ckpt or safetensors; the file says which it is, its name must end
    so. `crc_check` verifies the checksum in the file. `remove_redundancy` says nothing here. Raises `ValueError` for a
    file that is none, or damaged, and where nothing is left to load.
    """
    if format not in ("ckpt", "safetensors"):
        raise LoadValueError(f"load_checkpoint: format: expected ckpt or safetensors, got {format!r}")
    if not str(ckpt_file_name).endswith(f".{format}"):
        raise LoadValueError(f"load_checkpoint: expected a file name that ends with .{format}, got {ckpt_file_name!r}")
    _check_key(dec_key, dec_mode, "load_checkpoint")
    try:
        found = read_checkpoint(ckpt_file_name, dec_key, check_crc=crc_check)
    except ModelError as e:
        raise LoadValueError(str(e)) from e
    chosen = _choice(filter_prefix, specify_prefix, choice_func)
    parameters: dict[str, Parameter | str] = {
        name: Parameter(data.array(), name) for name, data in found.tensors.items() if chosen(name)
    }
    parameters.update({name: text for name, text in found.texts.items() if chosen(name)})
    if not parameters:
        raise LoadValueError(f"{ckpt_file_name}: no parameters are left to load: check the prefixes or choice_func")
    if net is not None:
        load_param_into_net(net, parameters, strict_load)
    return parameters


def _choice(
    left_out: str | Sequence[str] | None, wanted: str | Sequence[str] | None, choice: Callable[[str], bool] | None
) -> Callable[[str], bool]:
    without, only = (None if p is None else (p,) if isinstance(p, str) else tuple(p) for p in (left_out, wanted))
    if without is not None or only is not None:
        return lambda name: not (without and name.startswith(without)) and (only is None or name.startswith(only))
    return choice or (lambda _: True)


def load_param_into_net(
    net: GraphCell,
    parameter_dict: Mapping[str, Parameter | str],
    strict_load: bool = False,
    remove_redundancy: bool = False,
) -> tuple[list[str], list[str]]:
    """Put parameters into a network by name, and give the names of the network's parameters that were not there, and of
    those in `parameter_dict` that the network has not.

    Unless `strict_load`, element types are converted among floats and among signed integers, and where names are
    missing, a prefix that stands in front of all names in `parameter_dict` is left out. Raises `TypeError` for
    arguments of other types, `RuntimeError` for another shape or type; then the network is as it was.
    """
    if not isinstance(net, GraphCell):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(f"load_param_into_net: net: expected a GraphCell, got {type(net).__name__}")
    given: dict[str, Parameter] = {}
    for name, value in parameter_dict.items():
        if isinstance(value, Parameter):
            given[name] = value
        elif not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"load_param_into_net: {name}: expected a Parameter, got {type(value).__name__}")
    own = net.parameters_dict()
    names = {name: name for name in own if name in given}
    missing = [name for name in own if name not in names]
    if missing and not strict_load:
        names |= prefixed(missing, given)[0]
    fitted = {name: _fitted(own[name], given[stored], strict_load) for name, stored in names.items()}
    wrong = [found for found in fitted.values() if isinstance(found, str)]
    if wrong:
        more = f"\n  and {len(wrong) - _MOST_SHOWN} more" if len(wrong) > _MOST_SHOWN else ""
        shown = "\n  ".join(wrong[:_MOST_SHOWN])
        raise LoadRuntimeError(f"load_param_into_net: the parameters do not fit the network:\n  {shown}{more}")
    for name, found in fitted.items():
        own[name].set_data(found)
    used = set(names.values())
    return [name for name in own if name not in names], [name for name in parameter_dict if name not in used]


def _fitted(own: Parameter, given: Parameter, strict: bool) -> np.ndarray[Any, Any] | str:
    """The elements for a parameter of the network; what is wrong if they do not fit."""
    array = given.data
    if array.shape != own.shape:
        if {array.shape, own.shape} != {(), (1,)}:
            return f"{own.name}: expected shape {list(own.shape)}, got {list(array.shape)}"
        array = array.reshape(own.shape)
    pair = {array.dtype.name, own.dtype.name}
    if len(pair) == 2 and (strict or not (pair <= _FLOATS or pair <= _INTEGERS)):
        return f"{own.name}: expected {own.dtype.name}, got {array.dtype.name}"
    return array.astype(own.dtype, copy=False)


def export(net: GraphCell, *inputs: Any, file_name: str, file_format: str, **kwargs: Any) -> None:
    """Write a network as MindIR ("MINDIR") or ONNX ("ONNX"). `inputs` are examples: their sizes and types are those
    of the file; `Tensor(shape=[None, ...], dtype=...)` leaves sizes open.

    `enc_key` (bytes) encrypts MindIR with `enc_mode` "AES-GCM", or with a function of the plain bytes and the key that
    gives what is written. The suffix is added if `file_name` has none. Raises `ValueError` for other formats and for
    `dataset`, `custom_func` and `incremental`, which need MindSpore.
    """
    if file_format not in _SUFFIXES:
        ways = " or ".join(_SUFFIXES)
        raise LoadValueError(f"export: file_format: expected {ways}, got {file_format!r}")
    key, mode = kwargs.pop("enc_key", None), kwargs.pop("enc_mode", _MODES[0])
    if others := [name for name, value in kwargs.items() if value]:
        raise LoadValueError(f"export: {', '.join(others)}: needs MindSpore itself")
    if not isinstance(net, GraphCell):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(f"export: net: expected a GraphCell, got {type(net).__name__}")
    _check_key(key, mode, "export")
    if key is not None and not callable(mode) and (mode != "AES-GCM" or file_format != "MINDIR"):
        raise LoadValueError(
            f"export: enc_mode: expected AES-GCM for MindIR, or a function, got {mode} for {file_format}"
        )
    suffix = _SUFFIXES[file_format]
    out = Path(file_name if file_name.endswith(suffix) else file_name + suffix)
    from planish._atomic import written_beside
    from planish.exporting import export as write

    if key is None or not callable(mode):
        write(net.source(inputs), out, to=suffix[1:], encrypt=key)
        return
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:  # what is plain never lies beside what is not
        plain = Path(folder) / f"net{suffix}"
        write(net.source(inputs), plain, to=suffix[1:])
        content = cast("Callable[[bytes, bytes], bytes]", mode)(plain.read_bytes(), key)
    with written_beside(out) as place:
        place.write_bytes(content)


def _check_key(key: Any, mode: Any, where: str) -> None:
    if key is not None and not isinstance(key, bytes):
        raise ArgumentTypeError(f"{where}: expected a key of bytes, got {type(key).__name__}")
    if not callable(mode) and mode not in _MODES:
        raise LoadValueError(f"{where}: expected a mode of {', '.join(_MODES)} or a function, got {mode!r}")


__all__ = ["export", "load", "load_checkpoint", "load_param_into_net"]
