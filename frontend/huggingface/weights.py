"""The weights of a folder by name: what is missing, has another shape, or is not used, is reported together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...ir.constants import ConstantData
from ...ir.errors import ModelError
from ...ir.types import is_float
from ..text import quote

_MOST_SHOWN = 8
# Tensors that older checkpoints hold and every model computes by itself.
_BUFFERS = ("position_ids", "num_batches_tracked", "inv_freq", "masked_bias", ".attn.bias", "token_type_ids",
            "original_inv_freq")  # fmt: skip
_OLD_NAMES = {"weight": "gamma", "bias": "beta"}  # of layer normalisations that came from TensorFlow


class Weights:
    """Tensors by the names that the architecture's modules give them.

    `base` is the name under which a model with a head holds the model without one: checkpoints of either kind fit the
    other, as in transformers.
    """

    def __init__(self, tensors: Mapping[str, ConstantData], label: str, base: str = "") -> None:
        self.label = label
        self._tensors = tensors
        self._base = base + "." if base else ""
        self._used: set[str] = set()
        self._missing: dict[str, tuple[int, ...]] = {}
        self._wrong: dict[str, str] = {}
        self._optional: list[str] = []

    def _stored(self, name: str) -> str | None:
        """The name under which the checkpoint has `name`."""
        names = [name]
        if self._base:
            names.append(name.removeprefix(self._base) if name.startswith(self._base) else self._base + name)
        stem, _, last = name.rpartition(".")
        if last in _OLD_NAMES:
            names.append(f"{stem}.{_OLD_NAMES[last]}")
        return next((n for n in names if n in self._tensors), None)

    def __contains__(self, name: str) -> bool:
        return self._stored(name) is not None

    def get(self, name: str, shape: Sequence[int]) -> ConstantData:
        """The tensor `name` of floats. One that is missing or of another shape is noted, and zeros are given back, so
        that all of them come to light (`finish`)."""
        wanted, stored = tuple(shape), self._stored(name)
        if stored is None:
            self._missing[name] = wanted
            return ConstantData.splat(0.0, "f32", wanted)
        self._used.add(stored)
        data = self._tensors[stored]
        if data.shape != wanted or not is_float(data.dtype):
            self._wrong[stored] = f"expected a float tensor of shape {list(wanted)}, got {data.type}"
            return ConstantData.splat(0.0, "f32", wanted)
        return data

    def optional(self, name: str, shape: Sequence[int]) -> ConstantData | None:
        """The same, None where it is missing."""
        return self.get(name, shape) if name in self else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, if it is there."""
        stored = self._stored(name)
        return None if stored is None else self._tensors[stored].shape

    def ignore(self, *parts: str) -> None:
        """Tensors whose names begin with one of these need not be used."""
        self._optional.extend(parts)

    def unused(self) -> list[str]:
        """Names of tensors that nothing has asked for, but for buffers that models compute."""
        return [
            name
            for name in self._tensors
            if name not in self._used and not name.endswith(_BUFFERS) and not name.startswith(tuple(self._optional))
        ]

    def finish(self) -> list[str]:
        """Raise `ModelError` when something is missing or has another shape; else give notes for the user."""
        unused = self.unused()
        if not self._missing and not self._wrong:
            return [f"{_count(len(unused), 'tensor')} of the checkpoint not used: {_listed(unused)}"] if unused else []
        lines = [f"{self.label}: the weights do not fit config.json:"]
        if self._missing:
            shown = [f"{name} {list(shape)}" for name, shape in self._missing.items()]
            lines.append(f"  missing ({len(shown)}): {_listed(shown)}")
        lines += [f"  {quote(name)}: {problem}" for name, problem in list(self._wrong.items())[:_MOST_SHOWN]]
        if len(self._wrong) > _MOST_SHOWN:
            lines.append(f"  and {len(self._wrong) - _MOST_SHOWN} more of another shape")
        if unused:
            lines.append(f"  not used ({len(unused)}): {_listed(unused)}")
        raise ModelError("\n".join(lines))


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(n if n.isprintable() else quote(n) for n in shown[:_MOST_SHOWN]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


__all__ = ["Weights"]
