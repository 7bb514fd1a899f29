"""Checkpoints: tensors by name, from MindSpore's `.ckpt`, safetensors, and state dicts of PyTorch."""

from .files import Checkpoint, read_checkpoint
from .matching import Matched, matched

__all__ = ["Checkpoint", "Matched", "matched", "read_checkpoint"]
