"""Hugging Face folders: every architecture computes what transformers computes; what is wrong with a folder is said.

tests/data/huggingface has small folders and transformers' outputs; test_models.py compares with transformers itself.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import _huggingface as models
import numpy as np
import pytest

import planish
from planish._results import key_of
from planish.cli import main
from planish.frontend import Reading, open_model, read_model
from planish.frontend.checkpoints import read_checkpoint
from planish.ir.core import Module
from planish.ir.interp import run_graph
from planish.ir.types import DTYPES

DATA = Path(__file__).parent / "data" / "huggingface"
KEPT = {case.name: case for case in models.CASES if case.kept}
WRITERS = sorted(name for name, case in KEPT.items() if models.generates(case))


def stored(name: str, kind: str) -> models.Arrays:
    """The inputs ("in") or outputs ("out") of a folder."""
    with np.load(DATA / name / "expected.npz") as arrays:
        return {key.removeprefix(f"{kind}."): arrays[key] for key in arrays.files if key.startswith(f"{kind}.")}


def interpret(module: Module, inputs: models.Arrays) -> models.Arrays:
    """The outputs of a module for those of `inputs` that it has."""
    return run_graph(module, {p.name: inputs[p.name] for p in module.main.params})


def check(name: str, found: models.Arrays) -> None:
    """Fail unless outputs are those that were stored."""
    for output, want in stored(name, "out").items():
        np.testing.assert_allclose(found[output], want, rtol=1e-5, atol=1e-4, err_msg=output)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_every_architecture_agrees_with_transformers(name: str) -> None:
    check(name, interpret(read_model(DATA / name, reading=Reading(graph="forward")), stored(name, "in")))


@pytest.mark.parametrize("name", ["bert", "deit"])
def test_a_compiled_folder_agrees_with_transformers(name: str) -> None:
    inputs = stored(name, "in")
    model = planish.compile(DATA / name, shapes={k: v.shape for k, v in inputs.items()})
    check(name, model.run({port.name: inputs[port.name] for port in model.inputs}))
    assert model.manifest.plan is None


@pytest.mark.parametrize("name", WRITERS)
def test_decoding_with_a_cache_writes_what_transformers_writes(name: str) -> None:
    """Graphs are interpreted; `decode` of one model is compiled."""
    graphs: dict[str, Any] = {}

    def run(graph: str, inputs: models.Arrays) -> models.Arrays:
        if graph == "decode" and name == "llama":
            model = graphs[graph] = graphs.get(graph) or planish.compile(DATA / name, graph=graph)
            return model.run(inputs)
        module = graphs[graph] = graphs.get(graph) or read_model(DATA / name, reading=Reading(graph=graph))
        return interpret(module, inputs)

    with np.load(DATA / name / "expected.npz") as arrays:
        want = arrays["tokens"]
    found = models.greedy(KEPT[name], run, stored(name, "in"), want.shape[1])
    np.testing.assert_array_equal(found, want)


# -- folders in other forms -------------------------------------------------------------------------------------------


def copied(name: str, tmp_path: Path) -> Path:
    """A folder of the tests' own, to be changed."""
    return Path(shutil.copytree(DATA / name, tmp_path / name))


def change_config(folder: Path, **fields: Any) -> None:
    """Set fields of `config.json`; None takes one away."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def tensors_of(folder: Path) -> models.Arrays:
    """The weights of a folder."""
    return {name: data.array() for name, data in read_checkpoint(folder / "model.safetensors").tensors.items()}


def test_weights_may_be_in_shards(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for shard in range(2):
        models.write_safetensors(folder / f"part-{shard}.safetensors", {n: tensors[n] for n in names[shard::2]})
    index = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    check("bert", interpret(read_model(folder), stored("bert", "in")))


def test_names_may_have_the_prefix_of_the_model_with_a_head_or_lack_it(tmp_path: Path) -> None:
    for name, change in (("bert", "bert."), ("roberta_maskedlm", "")):
        folder = copied(name, tmp_path)
        tensors = {
            (change + key if change else key.removeprefix("roberta.")): value
            for key, value in tensors_of(folder).items()
        }
        models.write_safetensors(folder / "model.safetensors", tensors)
        check(name, interpret(read_model(folder), stored(name, "in")))


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_weights_of_sixteen_bits_are_computed_in_f32(tmp_path: Path, dtype: str) -> None:
    folder, rounded = copied("llama", tmp_path), copied("llama", tmp_path / "rounded")
    narrow = {name: value.astype(DTYPES[dtype].numpy) for name, value in tensors_of(folder).items()}
    models.write_safetensors(folder / "model.safetensors", narrow)
    models.write_safetensors(rounded / "model.safetensors", {k: v.astype(np.float32) for k, v in narrow.items()})
    found, want = (interpret(forward(f), stored("llama", "in"))["logits"] for f in (folder, rounded))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, atol=1e-5)


def forward(folder: Path) -> Module:
    """The graph without a cache."""
    return read_model(folder, reading=Reading(graph="forward"))


def test_old_configurations_name_rotary_embeddings_in_their_way(tmp_path: Path) -> None:
    folder = copied("llama", tmp_path)
    new = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    change_config(folder, rope_parameters=new)
    want = interpret(forward(folder), stored("llama", "in"))["logits"]
    change_config(folder, rope_parameters=None, rope_theta=500.0, rope_scaling={"type": "linear", "factor": 2.0})
    np.testing.assert_array_equal(interpret(forward(folder), stored("llama", "in"))["logits"], want)


def test_a_folder_of_sentence_transformers_gives_embeddings(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    change_config(folder, architectures=["BertForMaskedLM"])  # as it was trained; the head is not there
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    modules = [{"type": f"sentence_transformers.models.{k}", "path": p} for k, p in zip(kinds, paths, strict=True)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 32)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    models.write_safetensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": weight, "linear.bias": bias})
    inputs = stored("bert", "in")
    found = interpret(read_model(folder), inputs)
    assert list(found) == ["sentence_embedding", "last_hidden_state"]
    mask = inputs["attention_mask"][..., None]
    states = found["last_hidden_state"]
    largest, mean = np.where(mask == 0, -1e9, states).max(1), (states * mask).sum(1) / mask.sum(1)
    vector = np.tanh(np.concatenate([largest, mean], axis=1) @ weight.T + bias)
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    np.testing.assert_allclose(found["sentence_embedding"], vector, atol=1e-5)


def test_extend_adds_several_tokens_and_forward_takes_none_from_a_cache() -> None:
    inputs = {k: v[:1] for k, v in models.positions(stored("llama", "in")).items()}  # without padding
    read = {graph: read_model(DATA / "llama", reading=Reading(graph=graph)) for graph in ("prefill", "extend")}
    whole = interpret(read["prefill"], inputs)
    start = interpret(read["prefill"], {k: v[:, :3] for k, v in inputs.items()})
    past = {k.replace("present", "past_key_values"): v for k, v in start.items() if k.startswith("present")}
    rest = {k: v if k == "attention_mask" else v[:, 3:] for k, v in inputs.items()}
    found = interpret(read["extend"], {**rest, **past})
    np.testing.assert_allclose(found["logits"], whole["logits"][:, 3:], atol=1e-5)
    np.testing.assert_allclose(found["present.1.value"], whole["present.1.value"], atol=1e-6)


def test_the_nodes_are_the_modules_and_can_be_outputs() -> None:
    source = open_model(DATA / "bert")
    nodes = {node.name: node for node in source.nodes()}
    query = nodes["encoder.layer.0.attention.self.query"]
    assert (query.operator, query.inputs) == ("Linear", ("embeddings.LayerNorm",))
    module = source.with_outputs([query.name]).read()
    assert module.main.result_names[-1] == query.name
    assert module.attributes["architecture"] == "BertModel"


def test_a_folder_is_found_again_until_it_changes(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)

    def key(**options: object) -> str | None:
        return key_of(folder, tmp_path / "net.so", options)

    first = key(graph="")
    assert first is not None and key(graph="") == first
    assert key(graph="decode") != first
    change_config(folder, hidden_act="relu")
    second = key(graph="")
    assert second != first
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert key(graph="") not in (first, second)


def test_the_command_line_takes_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(DATA / "vit")]) == 0
    assert "nodes, it compiles" in capsys.readouterr().out
    assert main(["inspect", str(DATA / "llama"), "--graph", "decode"]) == 0
    shown = capsys.readouterr().out
    assert "past_key_values.1.value" in shown and "batchx2xpast + 1x4" in shown
    assert main(["inspect", str(DATA / "llama"), "--graph", "train"]) == 1
    assert "expected a graph among prefill, decode" in capsys.readouterr().err


def test_pictures_of_any_size_are_a_note(tmp_path: Path) -> None:
    folder = copied("resnet", tmp_path)
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 64}, "crop_size": 32}')
    assert "--shape pixel_values=1,3,32,32" in read_model(folder).attributes["notes"][0]
    assert not read_model(folder, shapes={"pixel_values": (1, 3, 32, 32)}).attributes["notes"]
