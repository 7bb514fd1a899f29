"""Modules as MindIR files, MindSpore's model format."""

from .encryption import encrypt
from .model import LIMIT, MindirModel

__all__ = ["LIMIT", "MindirModel", "encrypt"]
