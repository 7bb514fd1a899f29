"""Modules as ONNX models."""

from .model import LIMIT, OnnxModel, Outside

__all__ = ["LIMIT", "OnnxModel", "Outside"]
