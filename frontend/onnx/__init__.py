"""The ONNX frontend: `read_onnx` turns a model into a `Module`."""

from .reader import OnnxSource, read_onnx

__all__ = ["OnnxSource", "read_onnx"]
