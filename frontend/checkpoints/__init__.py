"""Checkpoints: tensors by name, from MindSpore's `.ckpt`, safetensors, and state dicts of PyTorch."""

from .files import Checkpoint, holds_tensors, read_checkpoint
from .matching import Matched, matched, prefixed

__all__ = ["Checkpoint", "Matched", "holds_tensors", "matched", "prefixed", "read_checkpoint"]
