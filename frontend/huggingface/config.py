"""`config.json`: typed reading of its fields, with errors that name the file and the field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ...ir.errors import ModelError, UnsupportedError
from ..text import quote

_MOST_BYTES = 64 << 20
_MOST = 1 << 30  # of any size
_MOST_LAYERS = 4096


class Config:
    """The fields of one JSON object. `where` is what messages call it.

    A field may have several names, the first of which is the usual one; null counts as missing.
    """

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self.values = values
        self.where = where

    def raw(self, *names: str) -> object:
        """The value of the first of these names that is there, else None."""
        return next((v for name in names if (v := self.values.get(name)) is not None), None)

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self.values.get(name) is not None

    def _typed(self, names: tuple[str, ...], kinds: tuple[type, ...], what: str, default: object) -> Any:
        value = self.raw(*names)
        if value is None:
            if default is None:
                raise ModelError(f"{self.where}: {names[0]} is missing: expected {what}")
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ModelError(f"{self.where}: {names[0]}: expected {what}, got {_shown(value)}")
        return value

    def integer(self, *names: str, default: int | None = None, least: int = 1, most: int = _MOST) -> int:
        """A whole number from `least` to `most`."""
        value: int = self._typed(names, (int,), "a whole number", default)
        if value < least:
            raise ModelError(f"{self.where}: {names[0]}: expected a number of at least {least}, got {value}")
        if value > most:
            raise ModelError(f"{self.where}: {names[0]}: expected a number of at most {most}, got {value}")
        return value

    def count(self, *names: str, default: int | None = None) -> int:
        """A number of layers."""
        return self.integer(*names, default=default, most=_MOST_LAYERS)

    def number(self, *names: str, default: float | None = None) -> float:
        """A real number."""
        return float(self._typed(names, (int, float), "a number", default))

    def text(self, *names: str, default: str | None = None) -> str:
        """A string."""
        return self._typed(names, (str,), "a text", default)

    def flag(self, *names: str, default: bool) -> bool:
        """True or false."""
        return self._typed(names, (bool,), "true or false", default)

    def items(self, *names: str, default: Iterable[Any] | None = None) -> list[Any]:
        """A list."""
        return list(self._typed(names, (list, tuple), "a list", None if default is None else list(default)))

    def integers(self, *names: str, default: Iterable[int] | None = None) -> list[int]:
        """A list of whole numbers of at least 1."""
        values = self.items(*names, default=default)
        if not all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= _MOST for v in values):
            raise ModelError(f"{self.where}: {names[0]}: expected whole numbers of at least 1, got {_shown(values)}")
        return values

    def stages(
        self, sizes: str, depths: str, usual: tuple[Sequence[int], Sequence[int]]
    ) -> tuple[list[int], list[int]]:
        """Channels and numbers of layers of the stages of a network, one each."""
        channels, layers = self.integers(sizes, default=usual[0]), self.integers(depths, default=usual[1])
        if len(channels) != len(layers) or not layers or sum(layers) > _MOST_LAYERS:
            raise ModelError(
                f"{self.where}: {sizes}, {depths}: expected one number for each stage, and at most {_MOST_LAYERS} "
                f"layers, got {_shown(channels)} and {_shown(layers)}"
            )
        return channels, layers

    def part(self, *names: str) -> Config:
        """An object inside of this one; empty if it is missing."""
        value = self._typed(names, (dict,), "an object", {})
        return Config(cast("dict[str, object]", value), f"{self.where}: {names[0]}")

    def merged(self, values: Mapping[str, object]) -> Config:
        """The same with more fields, which win."""
        return Config({**self.values, **values}, self.where)

    def divided(self, total: int, by: int, what: str) -> int:
        """`total / by`, which must be whole; `what` names the two fields."""
        if total % by:
            raise ModelError(f"{self.where}: {what}: expected a multiple of {by}, got {total}")
        return total // by

    def only(self, name: str, *allowed: object, default: object = None) -> None:
        """Raise `UnsupportedError` unless the field has one of these values or is missing."""
        value = self.values.get(name, default)
        if value is not None and value not in allowed:
            choices = " or ".join(_shown(a) for a in allowed)
            raise UnsupportedError(
                f"{self.where}: {name}: planish can do {choices}, got {_shown(value)}: export the model to ONNX, and "
                "compile that"
            )

    def labels(self) -> int:
        """The number of labels of a classifier (`num_labels`, or as many as `id2label` names; else two)."""
        if self.has("num_labels"):
            return self.integer("num_labels")
        names = self.raw("id2label")
        return len(cast("dict[str, object]", names)) if isinstance(names, dict) and names else 2


def read_config(path: Path) -> Config:
    """The object in a JSON file. Raises `ModelError` for a file that is missing or holds none."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, got {_shown(value)}")
    return Config(cast("dict[str, object]", value), str(path))


def read_json(path: Path) -> object:
    """What a JSON file holds. Raises `ModelError` with one line."""
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise ModelError(f"{path}: expected at most {_MOST_BYTES} bytes of JSON, got {size}")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ModelError(f"{path}: cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        reason = "it is nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise ModelError(f"{path}: expected JSON: {reason}") from e


def _shown(value: object) -> str:
    return quote(value) if isinstance(value, str) else repr(value)[:60]


__all__ = ["Config", "read_config", "read_json"]
