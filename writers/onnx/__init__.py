"""Modules as ONNX models."""

from .model import LIMIT, OnnxModel

__all__ = ["LIMIT", "OnnxModel"]
