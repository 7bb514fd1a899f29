"""Networks of transformers, at small random configurations, through torch.export: what PyTorch gives, planish gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planish.frontend import Source, open_model
from planish.ir.interp import run_graph
from planish.torch_modules import source_of

torch: Any = pytest.importorskip("torch", reason="needs PyTorch: make test-models")
hub: Any = pytest.importorskip("transformers", reason="needs transformers: make test-models")
pytestmark = pytest.mark.models

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60,
}  # fmt: skip
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "use_cache": False}
VISION: dict[str, Any] = {k: v for k, v in SMALL.items() if k != "vocab_size"} | {"image_size": 32, "patch_size": 8}
T5: dict[str, Any] = {
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "use_cache": False
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "use_cache": False,
}  # fmt: skip
SPECIAL: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
STAGES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}


def _ids(length: int = 7) -> Any:
    return torch.randint(4, 50, (2, length))


def _text(*names: str) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        return {n: torch.ones(2, 7, dtype=torch.long) if "mask" in n else _ids() for n in ("input_ids", *names)}

    return make


def _picture(size: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"pixel_values": torch.randn(2, 3, size, size)}


NETWORKS: dict[str, tuple[str, str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "BERT": ("BertModel", "BertConfig", SMALL, _text("attention_mask")),
    "RoBERTa": ("RobertaForSequenceClassification", "RobertaConfig", SMALL, _text("attention_mask")),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config",
              {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}, _text()),
    "Llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED, _text("attention_mask")),
    "Mistral": ("MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 4}, _text()),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 8}, _text()),
    "Gemma": ("GemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 8}, _text()),
    "DeBERTa": ("DebertaV2Model", "DebertaV2Config",
                {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, _text("attention_mask")),
    "T5": ("T5ForConditionalGeneration", "T5Config", T5, _text("decoder_input_ids")),
    "BART": ("BartModel", "BartConfig", BART, _text("decoder_input_ids")),
    "Whisper": ("WhisperModel", "WhisperConfig", {**BART, **SPECIAL, "max_source_positions": 20, "num_mel_bins": 8},
                lambda: {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": _ids(5)}),
    "ViT": ("ViTForImageClassification", "ViTConfig", VISION, _picture(32)),
    "Swin": ("SwinModel", "SwinConfig", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2],
             "num_heads": [2, 4], "window_size": 4}, _picture(32)),
    "ConvNeXt": ("ConvNextModel", "ConvNextConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]},
                 _picture(64)),
    "ResNet": ("ResNetForImageClassification", "ResNetConfig", STAGES, _picture(64)),
    "SegFormer": ("SegformerForSemanticSegmentation", "SegformerConfig", {
        "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16,
        "num_attention_heads": [1, 1, 2, 2]}, _picture(64)),
    "Mamba": ("MambaForCausalLM", "MambaConfig",
              {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "use_cache": False}, _text()),
}  # fmt: skip


def _network(name: str) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    model, config, options, inputs = NETWORKS[name]
    return getattr(hub, model)(getattr(hub, config)(**options)).eval(), inputs()


def _agrees(source: Source, module: Any, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module(**inputs))
    graph = source.read()
    found = run_graph(graph, {name: inputs[name].numpy() for name, _ in source.input_types()})
    for name, want in zip(graph.main.result_names, wanted, strict=True):
        np.testing.assert_allclose(found[name], want.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_pytorch_does(name: str) -> None:
    module, inputs = _network(name)
    _agrees(source_of(module, inputs), module, inputs)


@pytest.mark.parametrize("name", ["BERT", "GPT-2", "Llama", "T5"])
def test_a_file_with_open_sizes_computes_what_pytorch_does(name: str, tmp_path: Path) -> None:
    module, inputs = _network(name)
    batch, length = torch.export.Dim("batch", max=32), torch.export.Dim("length", max=64)
    shapes = {name: {0: batch, 1: length} for name in inputs}
    torch.export.save(torch.export.export(module, (), inputs, dynamic_shapes=shapes), tmp_path / "net.pt2")
    source = open_model(tmp_path / "net.pt2")
    assert all("[batch,length]" in str(type) or "[s" in str(type) for _, type in source.input_types())
    _agrees(source, module, {n: v[:1, :5] for n, v in inputs.items()})
