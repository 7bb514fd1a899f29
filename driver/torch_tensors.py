"""Tensors of PyTorch as NumPy arrays and back, over the same memory."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np

_NARROW: dict[str, tuple[str, Any]] = {
    "torch.bfloat16": ("int16", ml_dtypes.bfloat16),
    "torch.float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "torch.float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
}
_BACK = {np.dtype(kind): name for name, (_, kind) in _NARROW.items()}


def to_array(tensor: Any) -> np.ndarray:
    """The elements of a tensor: its own memory if it is dense and on the CPU, else a copy."""
    torch: Any = sys.modules["torch"]
    plain = tensor.detach()
    if str(plain.device) != "cpu":
        plain = plain.cpu()
    plain = plain.contiguous()
    if plain.is_conj() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    narrow = _NARROW.get(str(plain.dtype))
    if narrow is None:
        return plain.numpy()
    bits, kind = narrow
    return plain.view(getattr(torch, bits)).numpy().view(kind)


def from_array(array: Any) -> Any:
    """A tensor over the memory of an array."""
    torch: Any = sys.modules["torch"]
    value = np.asarray(array)
    name = _BACK.get(value.dtype)
    if name is None:
        return torch.from_numpy(value)
    bits = np.int16 if value.dtype.itemsize == 2 else np.uint8
    return torch.from_numpy(value.view(bits)).view(getattr(torch, name.removeprefix("torch.")))


__all__ = ["from_array", "to_array"]
