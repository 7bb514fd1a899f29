"""What an architecture is, and the table of those that planish knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import ClassVar, TypeVar

from ...ir.errors import UnsupportedError
from ..assembly import Input, Item
from ..text import quote
from .config import Config
from .layers import Net

FORWARD = "forward"
_MODULES = ("bert", "roberta", "distilbert", "mpnet", "gpt2", "decoder", "t5", "vit", "clip", "whisper", "resnet",
            "convnext")  # fmt: skip


class Architecture(ABC):
    """A model class of transformers. `name` is the class's name, `config` its configuration."""

    base: str = ""
    """Where a model with a head keeps the model without one: transformers' `base_model_prefix`."""
    graphs: ClassVar[tuple[str, ...]] = (FORWARD,)
    """The graphs that a folder has, the default first."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config

    @property
    def is_bare(self) -> bool:
        """Whether this is the model without a head."""
        return self.name.endswith("Model") and not self.name.endswith("HeadModel")

    def all_graphs(self) -> tuple[str, ...]:
        """The graphs of this one."""
        return self.graphs

    @abstractmethod
    def inputs(self, graph: str) -> list[Input]:
        """The inputs of a graph, named as transformers names them."""

    @abstractmethod
    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The outputs of a graph by name."""


A = TypeVar("A", bound=type[Architecture])
_KNOWN: dict[str, type[Architecture]] = {}


def architecture(*names: str) -> Callable[[A], A]:
    """Register a class for these names of `architectures`."""

    def register(kind: A) -> A:
        _KNOWN.update(dict.fromkeys(names, kind))
        return kind

    return register


def known() -> dict[str, type[Architecture]]:
    """All architectures by name."""
    for module in _MODULES:
        import_module(f"{__package__}.{module}")
    return _KNOWN


# Where a configuration names no architecture: the model without a head.
_BARE = {
    "bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel", "camembert": "CamembertModel",
    "distilbert": "DistilBertModel", "mpnet": "MPNetModel", "gpt2": "GPT2Model", "t5": "T5Model", "vit": "ViTModel",
    "llama": "LlamaModel", "mistral": "MistralModel", "qwen2": "Qwen2Model", "qwen3": "Qwen3Model",
    "gemma": "GemmaModel", "gemma2": "Gemma2Model", "gemma3_text": "Gemma3TextModel", "deit": "DeiTModel",
    "clip": "CLIPModel", "whisper": "WhisperModel", "resnet": "ResNetModel", "convnext": "ConvNextModel",
    "convnextv2": "ConvNextV2Model",
}  # fmt: skip


def choose(config: Config, bare: bool = False) -> Architecture:
    """The architecture that a configuration names; with `bare` that model without a head. Raises `UnsupportedError`,
    listing the known ones, for others."""
    named = [str(name) for name in config.items("architectures", default=[])]
    kind = config.text("model_type", default="")
    if (bare or not named) and kind in _BARE:
        named = [_BARE[kind]]
    table = known()
    name = next((n for n in named if n in table), None)
    if name is None:
        raise _unknown(config, named or [kind] * bool(kind), sorted(table))
    return table[name](name, config)


def _unknown(config: Config, named: Sequence[str], known: Sequence[str]) -> UnsupportedError:
    """What to raise for an architecture that is none of those `known`."""
    if not named:
        return UnsupportedError(
            f"{config.where}: expected the configuration of a model (architectures, model_type), got neither: name the "
            "folder that holds the model itself",
            "the configuration names no architecture",
        )
    what = ", ".join(quote(n, 60) for n in named)
    return UnsupportedError(
        "\n".join([
            f"{config.where}: architectures: planish does not build {what}: export the model to ONNX, or with "
            "torch.export, and compile that file",
            "it builds, from a folder:",
            *(f"  {line}" for line in _listed(known)),
        ]),
        f"architecture {what} is not known",
    )  # fmt: skip


def choose_graph(found: Architecture, graph: str, where: str) -> str:
    """The graph of that name, or the default for "". Raises `UnsupportedError` for one that is not there."""
    graphs = found.all_graphs()
    if graph and graph not in graphs:
        raise UnsupportedError(f"{where}: {found.name}: expected a graph among {', '.join(graphs)}, got {quote(graph)}")
    return graph or graphs[0]


def _listed(names: Sequence[str]) -> list[str]:
    """A line for names with a common beginning: `BertForMaskedLM, BertModel` as `Bert: ForMaskedLM, Model`."""
    families: dict[str, list[str]] = {}
    for name in names:
        at = min((i for mark in _HEADS if (i := name.find(mark)) > 0), default=len(name))
        families.setdefault(name[:at], []).append(name[at:])
    return [f"{family}: {', '.join(heads)}" for family, heads in families.items()]


_HEADS = ("For", "Model", "LMHead", "Encoder", "TextModel", "VisionModel")

__all__ = ["FORWARD", "Architecture", "architecture", "choose", "choose_graph", "known"]
