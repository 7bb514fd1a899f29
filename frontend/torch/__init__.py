"""PyTorch: exported programs (`.pt2` files and live ones) through their ATen operators, and state dicts.

Nothing here imports torch: a `.pt2` file is JSON and raw weights in a zip archive, a state dict is a pickle that is
read by a restricted reader, and live programs are taken apart by their attributes.
"""

from __future__ import annotations


def is_torch(model: object) -> bool:
    """Whether something is a `torch.nn.Module` or a `torch.export.ExportedProgram`; torch is not imported for that."""
    names = {(c.__module__, c.__name__) for c in type(model).__mro__}
    return ("torch.nn.modules.module", "Module") in names or is_exported(model)


def is_exported(model: object) -> bool:
    """Whether something is a `torch.export.ExportedProgram`; torch is not imported for that."""
    return any(c.__name__ == "ExportedProgram" and c.__module__.startswith("torch.") for c in type(model).__mro__)


__all__ = ["is_exported", "is_torch"]
