"""The ONNX frontend: `read_onnx` turns a model into a `Module`."""

from .reader import read_onnx

__all__ = ["read_onnx"]
