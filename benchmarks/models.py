"""Which models the table has, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

from planish.codegen.llvm.target import target_for
from planish.frontend import read_model
from planish.ir.errors import PlanishError
from planish.ir.program import Call, Program
from planish.passes import PassContext, PassManager
from planish.passes.analysis.cost import kernel_cost

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


def gmac(name: str) -> float | None:
    """The model's work in thousand millions of multiply-adds: half the operations of its kernels, without Winograd's
    algorithm, which needs fewer. None for symbolic shapes, and for what cannot be compiled."""
    try:
        module = read_model(files(name)[0])
        PassManager.parse("O3", PassContext(target_for("native"), 1, 3), ("winograd",)).run(module)
    except PlanishError:
        return None
    programs = [f for f in module.functions.values() if isinstance(f, Program)]
    if len(programs) != 1 or programs[0].symbols:
        return None
    calls = [op for op in programs[0].walk() if isinstance(op, Call)]
    return sum(kernel_cost(module.functions[call.kernel], {}).flops for call in calls) / 2e9
