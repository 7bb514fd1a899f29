"""Small models of every architecture, made by transformers: for `tests/data/huggingface/make.py`, which keeps some of
them with their outputs, and for the tests that compare live. torch and transformers are imported when asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A model class of transformers (`kind`) with a configuration (`config`, of class `config_kind`). `inputs` says
    what it takes: text, image, speech or both. `kept` ones are stored in tests/data."""

    name: str
    kind: str
    config_kind: str
    config: dict[str, Any]
    inputs: str = "text"
    kept: bool = False
    outputs: tuple[str, ...] = ("logits",)
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


_BERT: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 24, "pad_token_id": 1,
}  # fmt: skip
_DISTIL: dict[str, Any] = {
    "vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 24,
}  # fmt: skip
_LAST = ("last_hidden_state", "pooler_output")
_SPAN = ("start_logits", "end_logits")


def _family(prefix: str, config_kind: str, config: dict[str, Any], pooled: bool = True) -> list[Case]:
    heads = {"MaskedLM": ("logits",), "SequenceClassification": ("logits",), "TokenClassification": ("logits",),
             "QuestionAnswering": _SPAN}  # fmt: skip
    found = [
        Case(prefix.lower(), f"{prefix}Model", config_kind, config, kept=True, outputs=_LAST if pooled else _LAST[:1])
    ]
    for head, outputs in heads.items():
        more = {"num_labels": 3} if head != "QuestionAnswering" else {}
        kept = head == "MaskedLM"
        found.append(Case(f"{prefix.lower()}_{head}", f"{prefix}For{head}", config_kind, {**config, **more}, kept=kept,
                          outputs=outputs))  # fmt: skip
    return found


ENCODERS = [
    *_family("Bert", "BertConfig", _BERT),
    Case("bert_pretraining", "BertForPreTraining", "BertConfig", {**_BERT, "hidden_act": "gelu_new"},
         outputs=("prediction_logits", "seq_relationship_logits")),
    Case("bert_next", "BertForNextSentencePrediction", "BertConfig", _BERT),
    *_family("Roberta", "RobertaConfig", _BERT),
    *_family("DistilBert", "DistilBertConfig", _DISTIL, pooled=False),
    *_family("MPNet", "MPNetConfig", _BERT),
]  # fmt: skip
CASES = ENCODERS


def make_model(case: Case, seed: int = 0) -> Any:
    """The model with random weights that make every part of it matter."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(seed)
    config = getattr(transformers, case.config_kind)(**case.config)
    model = getattr(transformers, case.kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" in name or "shared" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.7)
            else:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn_like(parameter) * (1.2 / fan**0.5))
    return model


def make_inputs(case: Case, seed: int = 0, batch: int = 2, length: int = 7) -> Arrays:
    """Inputs for transformers' forward; the second row is padded on the right."""
    rng = np.random.default_rng(seed)
    if case.inputs == "image":
        side = case.extra.get("side", 16)
        return {"pixel_values": rng.normal(size=(batch, 3, side, side)).astype(np.float32)}
    low = 2 if case.config.get("pad_token_id") is not None else 1
    ids = rng.integers(low, case.config.get("vocab_size", 60), (batch, length))
    mask = np.ones_like(ids)
    mask[1, -2:] = 0
    ids[1, -2:] = case.config.get("pad_token_id") or 0
    found: Arrays = {"input_ids": ids, "attention_mask": mask}
    if case.config_kind == "BertConfig":
        found["token_type_ids"] = rng.integers(0, 2, (batch, length))
    return found


def expected(case: Case, model: Any, inputs: Arrays) -> Arrays:
    """What transformers computes."""
    torch: Any = importlib.import_module("torch")
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: found[name].numpy() for name in case.outputs}


def save(case: Case, model: Any, folder: Path, **options: Any) -> None:
    """Write the folder as transformers does."""
    model.save_pretrained(folder, **options)
    for name in ("generation_config.json", "README.md"):
        (folder / name).unlink(missing_ok=True)
