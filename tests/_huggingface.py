"""Small models of every architecture, made by transformers: for `tests/data/huggingface/make.py`, which keeps some of
them with their outputs, and for the tests that compare live. torch and transformers are imported when asked for."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    options: dict[str, Any] = field(default_factory=dict[str, Any])
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


def _family(prefix: str, config: dict[str, Any], kept: str, pooled: bool = True) -> list[Case]:
    """The model without a head and with each of four, of which `kept` is one."""
    heads = {"MaskedLM": ("logits",), "SequenceClassification": ("logits",), "TokenClassification": ("logits",),
             "QuestionAnswering": _SPAN}  # fmt: skip
    kind, bare = f"{prefix}Config", _LAST if pooled else _LAST[:1]
    found = [Case(prefix.lower(), f"{prefix}Model", kind, config, kept=kept == "Model", outputs=bare)]
    for head, outputs in heads.items():
        options = {**config, "num_labels": 3} if head != "QuestionAnswering" else config
        name = f"{prefix.lower()}_{head.lower()}"
        found.append(Case(name, f"{prefix}For{head}", kind, options, kept=head == kept, outputs=outputs))
    return found


ENCODERS = [
    *_family("Bert", _BERT, "Model"),
    Case("bert_pretraining", "BertForPreTraining", "BertConfig", {**_BERT, "hidden_act": "gelu_new"},
         outputs=("prediction_logits", "seq_relationship_logits")),
    Case("bert_next", "BertForNextSentencePrediction", "BertConfig", _BERT),
    *_family("Roberta", _BERT, "MaskedLM"),
    *_family("DistilBert", _DISTIL, "QuestionAnswering", pooled=False),
    *_family("MPNet", _BERT, "TokenClassification"),
]  # fmt: skip
_GPT2: dict[str, Any] = {
    "vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 96, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 59,
}  # fmt: skip
_LLAMA: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 59,
}  # fmt: skip
_EAGER = {"attn_implementation": "eager"}  # the only one with capped scores


def _causal(prefix: str, config: dict[str, Any], lm: str = "ForCausalLM", text: str = "", **options: Any) -> list[Case]:
    kind, name, labelled = f"{prefix}{text}Config", prefix.lower(), {**config, "num_labels": 3}
    found = [
        Case(f"{name}_model", f"{prefix}{text}Model", kind, config, outputs=_LAST[:1], **options),
        Case(name, f"{prefix}{lm}", kind, config, kept=True, **options),
        Case(f"{name}_sequence", f"{prefix}{text}ForSequenceClassification", kind, labelled, **options),
    ]
    if not text:
        found.append(Case(f"{name}_tokens", f"{prefix}ForTokenClassification", kind, labelled, **options))
    return found


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {**_LLAMA, "rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **more}}


CAUSAL = [
    *_causal("GPT2", _GPT2, "LMHeadModel"),
    Case("gpt2_scaled", "GPT2LMHeadModel", "GPT2Config",
         {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 20, "activation_function": "relu"}),
    Case("gpt2_answer", "GPT2ForQuestionAnswering", "GPT2Config", _GPT2, outputs=_SPAN),
    *_causal("Llama", _LLAMA),
    Case("llama_answer", "LlamaForQuestionAnswering", "LlamaConfig", _LLAMA, outputs=_SPAN),
    Case("llama_bias", "LlamaForCausalLM", "LlamaConfig",
         {**_LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 8, "tie_word_embeddings": True}),
    Case("llama_linear", "LlamaForCausalLM", "LlamaConfig", _rope("linear", factor=2.0)),
    Case("llama_llama3", "LlamaForCausalLM", "LlamaConfig",
         _rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    Case("llama_yarn", "LlamaForCausalLM", "LlamaConfig",
         {**_rope("yarn", factor=4.0, original_max_position_embeddings=24), "head_dim": 16}),
    Case("llama_dynamic", "LlamaForCausalLM", "LlamaConfig",
         {**_rope("dynamic", factor=2.0), "max_position_embeddings": 5}),
    Case("llama_longrope", "LlamaForCausalLM", "LlamaConfig",
         _rope("longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 3.0], original_max_position_embeddings=5)),
    *_causal("Mistral", {**_LLAMA, "sliding_window": 4}),
    Case("mistral_full", "MistralForCausalLM", "MistralConfig", {**_LLAMA, "sliding_window": None}),
    *_causal("Qwen2", _LLAMA),
    Case("qwen2_window", "Qwen2ForCausalLM", "Qwen2Config",
         {**_LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    *_causal("Qwen3", {**_LLAMA, "head_dim": 8}),
    *_causal("Gemma", {**_LLAMA, "head_dim": 8}),
    *_causal("Gemma2", {**_LLAMA, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 10,
                        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}, options=_EAGER),
    *_causal("Gemma3", {**_LLAMA, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 10,
                        "layer_types": ["sliding_attention", "full_attention"]}, text="Text"),
]  # fmt: skip
_VIT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24, "image_size": 16,
    "patch_size": 8, "num_labels": 3,
}  # fmt: skip
_CLIP_TEXT: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 24, "projection_dim": 12, "eos_token_id": 3, "pad_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
_CLIP_IMAGE = {**_VIT, "num_hidden_layers": 1, "projection_dim": 12}
_CLIP = {"text_config": _CLIP_TEXT, "vision_config": _CLIP_IMAGE, "projection_dim": 12}
_RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "num_labels": 3}
_CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2, "num_labels": 3,
                             "layer_scale_init_value": 1.0}  # fmt: skip
_SIDE = {"side": 24}
_TEACHER = ("logits", "cls_logits", "distillation_logits")

IMAGES = [
    Case("vit", "ViTForImageClassification", "ViTConfig", _VIT, "image", kept=True),
    Case("vit_model", "ViTModel", "ViTConfig", {**_VIT, "qkv_bias": False}, "image", outputs=_LAST),
    Case("deit", "DeiTForImageClassificationWithTeacher", "DeiTConfig", _VIT, "image", kept=True, outputs=_TEACHER),
    Case("deit_plain", "DeiTForImageClassification", "DeiTConfig", _VIT, "image"),
    Case("deit_model", "DeiTModel", "DeiTConfig", _VIT, "image", outputs=_LAST),
    Case("clip", "CLIPModel", "CLIPConfig", _CLIP, "both", kept=True,
         outputs=("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")),
    Case("clip_text", "CLIPTextModelWithProjection", "CLIPTextConfig", _CLIP_TEXT, outputs=("text_embeds",)),
    Case("clip_text_old", "CLIPTextModel", "CLIPTextConfig", {**_CLIP_TEXT, "eos_token_id": 2}, outputs=_LAST),
    Case("clip_image", "CLIPVisionModelWithProjection", "CLIPVisionConfig", _CLIP_IMAGE, "image",
         outputs=("image_embeds",)),
    Case("clip_image_model", "CLIPVisionModel", "CLIPVisionConfig", _CLIP_IMAGE, "image", outputs=_LAST),
    Case("resnet", "ResNetForImageClassification", "ResNetConfig", _RESNET, "image", kept=True, extra=_SIDE),
    Case("resnet_basic", "ResNetModel", "ResNetConfig", {**_RESNET, "layer_type": "basic"}, "image", outputs=_LAST,
         extra=_SIDE),
    Case("resnet_early", "ResNetModel", "ResNetConfig",
         {**_RESNET, "downsample_in_bottleneck": True, "downsample_in_first_stage": True}, "image", outputs=_LAST,
         extra={"side": 64}),
    Case("convnext", "ConvNextForImageClassification", "ConvNextConfig", _CONVNEXT, "image", kept=True, extra=_SIDE),
    Case("convnext_model", "ConvNextModel", "ConvNextConfig", _CONVNEXT, "image", outputs=_LAST, extra=_SIDE),
    Case("convnext_v2", "ConvNextV2ForImageClassification", "ConvNextV2Config", _CONVNEXT, "image", extra=_SIDE),
]  # fmt: skip
_T5: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "pad_token_id": 0,
    "decoder_start_token_id": 0, "eos_token_id": 59, "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
}  # fmt: skip
_WHISPER: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20, "num_mel_bins": 6,
    "max_source_positions": 10, "max_target_positions": 80, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 59,
    "decoder_start_token_id": 1,
}  # fmt: skip
_BOTH = ("logits", "encoder_last_hidden_state")
_STATES = ("last_hidden_state", "encoder_last_hidden_state")

SEQ2SEQ = [
    Case("t5", "T5ForConditionalGeneration", "T5Config", _T5, "pair", kept=True, outputs=_BOTH),
    Case("t5_gated", "T5ForConditionalGeneration", "T5Config",
         {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 2}, "pair",
         outputs=_BOTH),
    Case("t5_model", "T5Model", "T5Config", {**_T5, "num_decoder_layers": 2}, "pair", outputs=_STATES),
    Case("t5_encoder", "T5EncoderModel", "T5Config", {**_T5, "num_layers": 2}, outputs=_LAST[:1]),
    Case("whisper", "WhisperForConditionalGeneration", "WhisperConfig", _WHISPER, "speech", kept=True, outputs=_BOTH),
    Case("whisper_model", "WhisperModel", "WhisperConfig", _WHISPER, "speech",
         outputs=_STATES),
]  # fmt: skip
CASES = ENCODERS + CAUSAL + IMAGES + SEQ2SEQ


def generates(case: Case) -> bool:
    """Whether the model writes text."""
    return case.kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def make_model(case: Case, seed: int = 0) -> Any:
    """The model with random weights that make every part of it matter."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(seed)
    config = getattr(transformers, case.config_kind)(**case.config)
    model = getattr(transformers, case.kind)._from_config(config, **case.options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" in name:
                continue
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" in name or "shared" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.7)
            else:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn_like(parameter) * (1.2 / fan**0.5))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.3)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def make_inputs(case: Case, seed: int = 0, batch: int = 2, length: int = 7) -> Arrays:
    """Inputs for transformers' forward; the second row is padded on the right."""
    rng = np.random.default_rng(seed)
    if case.inputs == "image":
        side = case.extra.get("side", 16)
        return {"pixel_values": rng.normal(size=(batch, 3, side, side)).astype(np.float32)}
    if case.inputs == "speech":
        frames = (batch, case.config["num_mel_bins"], 2 * case.config["max_source_positions"])
        ids = rng.integers(2, 58, (batch, 5))
        return {"input_features": rng.normal(size=frames).astype(np.float32), "decoder_input_ids": ids}
    if case.inputs == "pair":
        text = make_inputs(replace(case, inputs="text"), seed, batch, length)
        return {**text, "decoder_input_ids": rng.integers(2, 58, (batch, 5))}
    if case.inputs == "both":
        side = case.config["vision_config"]["image_size"]
        text = replace(case, config=case.config["text_config"], inputs="text")
        pictures = rng.normal(size=(batch + 1, 3, side, side)).astype(np.float32)
        return {**make_inputs(text, seed, batch, length), "pixel_values": pictures}
    low = 2 if case.config.get("pad_token_id") is not None else 1
    ids = rng.integers(low, case.config.get("vocab_size", 60), (batch, length))
    mask = np.ones_like(ids)
    mask[1, -2:] = 0
    ids[1, -2:] = case.config.get("pad_token_id") or 0
    if case.kind.startswith("CLIP"):
        ids[:, -3] = case.config["eos_token_id"]
    found: Arrays = {"input_ids": ids, "attention_mask": mask}
    if case.config_kind == "BertConfig":
        found["token_type_ids"] = rng.integers(0, 2, (batch, length))
    return found


def positions(inputs: Arrays) -> Arrays:
    """The inputs with `position_ids`, as transformers counts them where they are not given."""
    batch, length = inputs["input_ids"].shape
    return {**inputs, "position_ids": np.array([list(range(length))] * batch)}


def expected(case: Case, model: Any, inputs: Arrays) -> Arrays:
    """What transformers computes."""
    torch: Any = importlib.import_module("torch")
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: found[name].numpy() for name in case.outputs}


def generated(case: Case, model: Any, inputs: Arrays, count: int) -> np.ndarray[Any, Any]:
    """The tokens [batch, count] that transformers' greedy search adds to unpadded inputs."""
    torch: Any = importlib.import_module("torch")
    generate = importlib.import_module("transformers").GenerationMixin.generate
    feed = {name: torch.from_numpy(value) for name, value in inputs.items() if name != "decoder_input_ids"}
    start = case.config.get("decoder_start_token_id")
    if "input_ids" in feed:
        feed["input_ids"] = feed["input_ids"].clamp(min=2)
        feed["attention_mask"] = torch.ones_like(feed["input_ids"])
    batch = next(iter(feed.values())).shape[0]
    skip = inputs["input_ids"].shape[1] if start is None else 1
    if start is not None:
        feed["decoder_input_ids"] = torch.full((batch, 1), start)
    main = feed.pop("input_features", None)
    for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids"):
        setattr(model.generation_config, name, None)
    with torch.no_grad():
        found = generate(model, main, **feed, do_sample=False, max_new_tokens=count, pad_token_id=0)
    return found[:, skip:].numpy()


def greedy(case: Case, run: Callable[[str, Arrays], Arrays], inputs: Arrays, count: int) -> np.ndarray[Any, Any]:
    """The tokens [batch, count] that greedy search adds with a cache; `run` runs one of the folder's graphs."""
    return (_greedy_alone if case.inputs == "text" else _greedy_pair)(case, run, inputs, count)


def _greedy_alone(case: Case, run: Callable[[str, Arrays], Arrays], inputs: Arrays, count: int) -> Any:
    ids = inputs["input_ids"].clip(2)
    batch, length = ids.shape
    found = run("prefill", positions({"input_ids": ids, "attention_mask": np.ones_like(ids)}))
    tokens: list[Any] = []
    for at in range(length, length + count):
        tokens.append(found["logits"][:, -1].argmax(-1).reshape(batch, 1))
        more = {"attention_mask": np.ones((batch, at + 1), np.int64), "position_ids": np.full((batch, 1), at)}
        found = run("decode", {"input_ids": tokens[-1], **more, **_cache(found)})
    return np.concatenate(tokens, axis=1)


def _greedy_pair(case: Case, run: Callable[[str, Arrays], Arrays], inputs: Arrays, count: int) -> Any:
    source = {name: value for name, value in inputs.items() if name != "decoder_input_ids"}
    more: Arrays = {}
    if "input_ids" in source:
        source["input_ids"] = source["input_ids"].clip(2)
        more["encoder_attention_mask"] = source["attention_mask"] = np.ones_like(source["input_ids"])
    states = run("encoder", source)["last_hidden_state"]
    start = np.full((len(states), 1), case.config["decoder_start_token_id"])
    found = run("prefill", {"input_ids": start, "encoder_hidden_states": states, **more})
    cross = _cache(found, ".encoder.")
    tokens: list[Any] = []
    for _ in range(count):
        tokens.append(found["logits"][:, -1].argmax(-1).reshape(-1, 1))
        found = run("decode", {"input_ids": tokens[-1], **more, **_cache(found, ".decoder."), **cross})
    return np.concatenate(tokens, axis=1)


def _cache(outputs: Arrays, part: str = "") -> Arrays:
    kept = {name: value for name, value in outputs.items() if name.startswith("present.") and part in name}
    return {name.replace("present", "past_key_values"): value for name, value in kept.items()}


def save(case: Case, model: Any, folder: Path, **options: Any) -> None:
    """Write the folder as transformers does."""
    model.save_pretrained(folder, **options)
    for name in ("generation_config.json", "README.md"):
        (folder / name).unlink(missing_ok=True)


_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}


def write_safetensors(path: Path, tensors: Arrays) -> None:
    """A safetensors file, written by hand."""
    head: dict[str, Any] = {}
    place = 0
    for name, value in tensors.items():
        head[name] = {
            "dtype": _CODES[value.dtype.name],
            "shape": value.shape,
            "data_offsets": [place, place + value.nbytes],
        }
        place += value.nbytes
    text = json.dumps(head).encode()
    data = b"".join(np.ascontiguousarray(value).tobytes() for value in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
