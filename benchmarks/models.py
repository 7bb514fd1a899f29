"""Which models the table has, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

# In the order of the table: convolutional networks, then transformers.
MODELS = (
    "resnet50", "resnet18", "vgg19_rand", "densenet121_rand", "inception_v2_rand", "squeezenet_rand",
    "shufflenet_rand", "mobilenet_v2", "efficientnet_b0", "yolov8n", "unet", "vit_base", "bert_base", "minilm_l6",
    "gpt2_prefill", "gpt2_decode", "llama110m_prefill", "llama110m_decode",
)  # fmt: skip


def folder() -> Path:
    """`$PLANISH_ZOO/zoo`, or `~/.cache/planish-zoo/zoo`: holds NAME.onnx and NAME.inputs.npz."""
    root = os.environ.get("PLANISH_ZOO")
    return (Path(root) if root else Path.home() / ".cache" / "planish-zoo") / "zoo"


def files(name: str) -> tuple[Path, Path]:
    """The model `name` and its inputs."""
    return folder() / f"{name}.onnx", folder() / f"{name}.inputs.npz"


def is_there(name: str) -> bool:
    """Whether both files of `name` are there."""
    return all(file.is_file() for file in files(name))
