"""State dicts of PyTorch (placeholder head; filled below)."""

from __future__ import annotations

from ...ir.constants import ConstantData


def read_archive(data: bytes, where: str) -> ConstantData:
    """One tensor that `torch.save` wrote."""
    raise NotImplementedError
