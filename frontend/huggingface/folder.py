"""The files of a folder: configuration, weights in one file or in shards, and the modules of sentence-transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ...ir.constants import ConstantData
from ...ir.errors import ModelError, UnsupportedError
from ..text import quote
from .config import Config, read_config, read_json

CONFIG = "config.json"
MODULES = "modules.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "rust_model.ot", "adapter_model.safetensors")
_MOST_SHARDS = 4096


@dataclass(frozen=True)
class Folder:
    """A folder as it was found: `path` is what the user gave, `model` where the network's own files are (another
    folder only in those of sentence-transformers), `modules` the kinds and folders of what comes after the network."""

    path: Path
    model: Path
    config: Config
    modules: tuple[tuple[str, Path], ...] = ()

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.path)


def open_folder(path: Path) -> Folder:
    """Read what a folder says of its model. Raises `ModelError` when there is no configuration."""
    modules = _modules(path)
    model = path
    if modules:
        if modules[0][0] != "Transformer":
            raise UnsupportedError(f"{path / MODULES}: expected a Transformer first, got {quote(modules[0][0])}")
        model = modules[0][1]
    place = model / CONFIG
    if not place.is_file():
        graphs = sorted(p.name for p in path.iterdir() if p.suffix in (".onnx", ".mindir", ".pt2"))
        also = f"; to compile {graphs[0]}, name that file" if graphs else ""
        raise ModelError(f"{place}: no such file: expected a Hugging Face folder, which has one{also}")
    return Folder(path, model, read_config(place), tuple(modules[1:]))


def _modules(path: Path) -> list[tuple[str, Path]]:
    """The modules of a folder of sentence-transformers: kind and folder of each; none in other folders."""
    place = path / MODULES
    if not place.is_file():
        return []
    value = read_json(place)
    listed = cast("list[object]", value) if isinstance(value, list) else []
    if not listed:
        raise ModelError(f"{place}: expected a list of modules")
    found: list[tuple[str, Path]] = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise ModelError(f"{place}: expected objects with a path and a type, got {type(entry).__name__}")
        module = Config(cast("dict[str, object]", entry), str(place))
        found.append((module.text("type").rpartition(".")[2], _inside(path, module.text("path", default=""), place)))
    return found


def _inside(folder: Path, name: str, where: Path) -> Path:
    """A file or folder by a name from one of the folder's files. Raises `ModelError` for one that is elsewhere."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or "\0" in name or "\\" in name:
        raise ModelError(f"{where}: expected a name inside of the folder, got {quote(name)}")
    return folder / name


# -- weights --------------------------------------------------------------------------------------------------------


def read_weights(folder: Path) -> dict[str, ConstantData]:
    """All tensors of a folder by name: of one file, or of the shards that an index lists. Raises `ModelError` for what
    is missing or damaged."""
    place = next((p for name in _WEIGHTS if (p := folder / name).is_file()), None)
    if place is None:
        others = [name for name in _OTHERS if (folder / name).is_file()]
        graphs = sorted(p.name for p in folder.iterdir() if p.suffix in (".onnx", ".mindir", ".pt2"))
        found = f", got {', '.join(others)}: save the model with transformers' save_pretrained" if others else ""
        found = found or (f"; to compile {graphs[0]}, name that file" if graphs else "")
        raise ModelError(f"{folder}: no weights: expected {', '.join(_WEIGHTS)}{found}")
    return _sharded(folder, place) if place.suffix == ".json" else _tensors(place)


def _sharded(folder: Path, index: Path) -> dict[str, ConstantData]:
    """The tensors that an index lists, each from its shard."""
    listed = read_config(index).part("weight_map").values
    if not listed:
        raise ModelError(f"{index}: weight_map is missing: expected the file of each tensor")
    shards: dict[str, list[str]] = {}
    for tensor, file in listed.items():
        if not isinstance(file, str):
            raise ModelError(f"{index}: {quote(tensor)}: expected the name of a file, got {type(file).__name__}")
        shards.setdefault(file, []).append(tensor)
    if len(shards) > _MOST_SHARDS:
        raise ModelError(f"{index}: expected at most {_MOST_SHARDS} files, got {len(shards)}")
    places = {file: _inside(folder, file, index) for file in shards}
    if missing := sorted(file for file, place in places.items() if not place.is_file()):
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise ModelError(f"{index}: {len(missing)} of {len(places)} files are missing: {', '.join(missing[:4])}{more}")
    found: dict[str, ConstantData] = {}
    for file, names in shards.items():
        tensors = _tensors(places[file])
        for name in names:
            if name not in tensors:
                raise ModelError(f"{index}: {quote(name)} is not in {file}, where it should be")
            found[name] = tensors[name]
    return found


def _tensors(place: Path) -> dict[str, ConstantData]:
    """The tensors of one file."""
    from ..checkpoints import read_checkpoint

    return read_checkpoint(place).tensors


__all__ = ["CONFIG", "Folder", "open_folder", "read_weights"]
