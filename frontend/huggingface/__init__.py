"""Hugging Face folders: `config.json` and weights become a graph, without transformers or torch.

`source.HuggingFaceSource` opens a folder; `registry` knows the architectures, each of which is one short module that
builds its graph from the pieces in `layers`, `attention` and `rotary`. docs/HUGGINGFACE.md lists them.
"""

from __future__ import annotations

from .source import HuggingFaceSource

__all__ = ["HuggingFaceSource"]
