"""What every checkpoint is, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...ir.constants import ConstantData


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, in the order of the file, which stays where they are (`FileSource`) where that is possible.

    `kind` is "ckpt" (MindSpore), "safetensors" or "torch"; `metadata` is what the file says about itself; `texts` are
    parameters that are strings (`.ckpt` only); `cipher` is how the file was encrypted ("")."""

    label: str
    path: Path
    kind: str
    tensors: dict[str, ConstantData]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    cipher: str = ""
