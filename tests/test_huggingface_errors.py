"""What is wrong with a Hugging Face folder: one clear error each."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _huggingface as models
import numpy as np
import pytest

from planish.frontend import Reading, read_model
from planish.frontend.checkpoints import read_checkpoint
from planish.ir.errors import ModelError, PlanishError, UnsupportedError

DATA = Path(__file__).parent / "data" / "huggingface"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small Llama."""
    return Path(shutil.copytree(DATA / "llama", tmp_path / "llama"))


def change(folder: Path, **fields: Any) -> None:
    """Set fields of `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def message(folder: Path, graph: str = "forward") -> str:
    """What reading the folder says."""
    with pytest.raises(PlanishError) as error:
        read_model(folder, reading=Reading(graph=graph))
    return str(error.value)


def test_an_unknown_architecture_lists_those_that_are_known(folder: Path) -> None:
    change(folder, architectures=["FalconForCausalLM"])
    with pytest.raises(UnsupportedError) as error:
        read_model(folder)
    text = str(error.value)
    assert 'planish does not build "FalconForCausalLM"' in text
    assert "Llama: ForCausalLM, ForQuestionAnswering," in text
    assert "ONNX" in text and "torch.export" in text


def test_a_configuration_without_architectures_means_the_model_without_a_head(folder: Path) -> None:
    change(folder, architectures=None)
    assert read_model(folder).attributes["architecture"] == "LlamaModel"
    change(folder, model_type="falcon")
    assert 'planish does not build "falcon"' in message(folder)
    change(folder, model_type=None)
    assert "expected the configuration of a model (architectures, model_type), got neither" in message(folder)


def test_an_unknown_graph_lists_the_graphs(folder: Path) -> None:
    assert 'expected a graph among prefill, decode, extend, forward, got "train"' in message(folder, "train")


def test_weights_that_do_not_fit_are_listed_together(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = {name: data.array() for name, data in read_checkpoint(file).tensors.items()}
    del tensors["model.norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((3, 16), np.float32)
    tensors["model.layers.0.input_layernorm.weight"] = np.zeros(16, np.int64)
    tensors["model.more"] = np.zeros(2, np.float32)
    tensors["model.rotary_emb.inv_freq"] = np.zeros(2, np.float32)
    models.write_safetensors(file, tensors)
    lines = message(folder).splitlines()
    assert lines[0].endswith("the weights do not fit config.json:")
    assert lines[1:] == [
        "  missing (2): model.layers.1.mlp.up_proj.weight [24, 16], model.norm.weight [16]",
        '  "model.layers.0.input_layernorm.weight": expected a float tensor of shape [16], got i64[16]',
        '  "model.layers.0.mlp.up_proj.weight": expected a float tensor of shape [24, 16], got f32[3,16]',
        "  not used (1): model.more",
    ]


def test_weights_that_are_not_used_are_a_note(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "bert", tmp_path / "bert"))
    file = folder / "model.safetensors"
    tensors = {name: data.array() for name, data in read_checkpoint(file).tensors.items()}
    models.write_safetensors(file, tensors | {"cls.predictions.bias": np.zeros(60, np.float32)})
    notes = read_model(folder).attributes["notes"]
    assert notes == ["1 tensor of the checkpoint not used: cls.predictions.bias"]


def _index(folder: Path, **files: str) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    names = read_checkpoint(folder / "a.safetensors").tensors
    index = {"weight_map": dict.fromkeys(names, "a.safetensors") | files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _with_onnx_only(folder: Path) -> None:
    _without_weights(folder)
    (folder / "config.json").unlink()
    (folder / "model.onnx").touch()


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "config.json: no such file: expected a Hugging Face"),
    "an ONNX file": (_with_onnx_only, "to compile model.onnx, name that file"),
    "no weights": (_without_weights, "no weights: expected model.safetensors, model.safetensors.index.json"),
    "broken JSON": (lambda f: (f / "config.json").write_text('{"a": '), "config.json: expected JSON"),
    "deep JSON": (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json: expected JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), "config.json: expected a JSON object"),
    "a text for a number": (lambda f: change(f, hidden_size="16"), 'hidden_size: expected a whole number, got "16"'),
    "true for a number": (lambda f: change(f, hidden_size=True), "hidden_size: expected a whole number, got True"),
    "no layers": (lambda f: change(f, num_hidden_layers=0), "num_hidden_layers: expected a number of at least 1"),
    "a missing field": (lambda f: change(f, vocab_size=None), "vocab_size is missing: expected a whole number"),
    "heads that do not fit": (lambda f: change(f, num_key_value_heads=3), "expected a multiple of 3, got 4"),
    "layer types": (
        lambda f: change(f, layer_types=["linear", "linear"]),
        "layer_types: expected sliding_attention or full_attention for each of 2 layers",
    ),
    "endless layers": (lambda f: change(f, num_hidden_layers=10**9), "num_hidden_layers: expected a number of at most"),
    "heads beyond memory": (lambda f: change(f, head_dim=1 << 40), "head_dim: expected a number of at most"),
    "factors of longrope": (
        lambda f: change(f, rope_parameters={"rope_type": "longrope", "short_factor": [1], "long_factor": [1, 2]}),
        "short_factor and long_factor need 2 numbers",
    ),
    "a logarithm of nothing": (
        lambda f: change(f, rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 0}),
        "expected numbers that yarn can be computed with",
    ),
    "an activation": (lambda f: change(f, hidden_act="xielu"), "expected an activation among gelu"),
    "a kind of rope": (
        lambda f: change(f, rope_parameters={"rope_type": "spiral"}), "rope_type: expected default, linear, dynamic"
    ),
    "a shard outside": (lambda f: _index(f, x="../a.safetensors"), "expected a name inside of the folder"),
    "an absolute shard": (lambda f: _index(f, x="/etc/passwd"), "expected a name inside of the folder"),
    "a missing shard": (lambda f: _index(f, x="b.safetensors"), "1 of 2 files are missing: b.safetensors"),
    "a tensor elsewhere": (lambda f: _index(f, more="a.safetensors"), '"more" is not in a.safetensors'),
    "a number as shard": (
        lambda f: (_index(f), (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')),
        'index.json: "a": expected the name of a file, got int',
    ),
    "an index of nothing": (
        lambda f: (_index(f), (f / "model.safetensors.index.json").write_text("{}")), "weight_map is missing"
    ),
    "a file cut short": (_cut, "model.safetensors"),
    "modules that are a word": (lambda f: (f / "modules.json").write_text('"x"'), "expected a list of modules"),
    "modules elsewhere": (
        lambda f: (f / "modules.json").write_text('[{"type": "a.Transformer", "path": "../.."}]'),
        "expected a name inside of the folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_one_clear_error(folder: Path, what: str) -> None:
    spoil, words = BROKEN[what]
    spoil(folder)
    text = message(folder)
    assert words in text
    assert len(text) < 2000


def test_a_header_that_lies_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ModelError, match="model.safetensors"):
        read_model(folder)
