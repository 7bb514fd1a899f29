"""Checkpoints: tensors by name, from MindSpore's `.ckpt`, safetensors, and state dicts of PyTorch."""
