"""Checkpoints: `.ckpt` and safetensors as they are written, and their tensors in a model instead of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from _mindir import (
    KEY,
    SAMPLES,
    ckpt,
    ckpt_tensor,
    ckpt_value,
    dense,
    encrypted,
    field,
    fields,
    needs_samples,
    safetensors,
)
from onnx_models import info, make, node

from planish._results import key_of
from planish.codegen.cache import Cache
from planish.compile import compile as compile_model
from planish.frontend import Reading, open_model
from planish.frontend.checkpoints import Checkpoint, matched, read_checkpoint
from planish.frontend.mindir.files import load
from planish.frontend.mindir.weights import with_weights
from planish.ir.constants import ConstantData, FileSource, PiecesSource
from planish.ir.errors import ModelError, PlanishError
from planish.ir.types import TensorType
from planish.runtime import load as load_library

Planish = Callable[..., tuple[int, str, str]]
ALL = {
    f"a.{dtype}": (np.arange(24).reshape(2, 3, 4) % 5).astype(dtype)
    for dtype in ("f4", "f2", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ml_dtypes.bfloat16)
}
BIG = np.random.default_rng(1).standard_normal((40, 30), np.float32)


def written(folder: Path, content: bytes, name: str = "w.ckpt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def of(tensors: Mapping[str, np.ndarray]) -> Checkpoint:
    data = {name: ConstantData.of(array) for name, array in tensors.items()}
    return Checkpoint("w.ckpt", Path("w.ckpt"), "ckpt", data)


@pytest.mark.parametrize("write", [ckpt, safetensors])
def test_tensors_of_every_element_type(tmp_path: Path, write: Callable[[Mapping[str, np.ndarray]], bytes]) -> None:
    found = read_checkpoint(written(tmp_path, write({**ALL, "scalar": np.array(2.5, np.float32)})))
    assert found.kind == write.__name__
    assert found.tensors["scalar"].shape == () and found.tensors["scalar"].array() == 2.5
    for name, array in ALL.items():
        assert found.tensors[name].array().dtype == array.dtype and (found.tensors[name].array() == array).all()


@pytest.mark.parametrize("write", [ckpt, safetensors])
def test_large_tensors_stay_in_the_file(tmp_path: Path, write: Callable[[Mapping[str, np.ndarray]], bytes]) -> None:
    path = written(tmp_path, write({"w": BIG}))
    data = read_checkpoint(path).tensors["w"]
    assert isinstance(data.source, FileSource) and data.source.path == str(path)
    assert (data.array() == BIG).all()


def test_large_tensors_of_a_ckpt_come_in_pieces(tmp_path: Path) -> None:
    found = read_checkpoint(written(tmp_path, ckpt({"w": BIG, "b": BIG[0]}, piece=1000)))
    assert isinstance(found.tensors["w"].source, PiecesSource)
    assert (found.tensors["w"].array() == BIG).all() and (found.tensors["b"].array() == BIG[0]).all()
    assert (found.tensors["w"].permuted((1, 0)).array() == BIG.T).all()


def test_what_else_stands_in_a_ckpt(tmp_path: Path) -> None:
    old_scalar = ckpt_tensor(np.zeros(0, np.float32), np.float32(7).tobytes())
    parts = [ckpt_tensor(np.arange(n, dtype=np.int32)) for n in (2, 3, 4)]
    content = ckpt({"w": BIG, "note": "grüße"}) + ckpt_value("old", old_scalar)
    content += ckpt_value("table.__param_key__3", ckpt_tensor(np.ones(2, np.float32)))
    content += ckpt_value("map", fields(1, parts), 3)
    content += ckpt_value("packed", ckpt_tensor(np.array([0x21, 0x43], np.int8), kind="Int4"))
    found = read_checkpoint(written(tmp_path, content))
    assert found.texts == {"note": "grüße"}
    assert found.tensors["old"].shape == () and found.tensors["old"].array() == 7
    assert found.tensors["table"].array().tolist() == [1, 1]
    assert [found.tensors[f"map.{part}"].elements for part in ("keys", "values", "status")] == [2, 3, 4]
    assert found.tensors["packed"].array().tolist() == [0x21, 0x43]


def test_checksums_are_verified(tmp_path: Path) -> None:
    content = ckpt({"w": BIG}, crc=True)
    assert (read_checkpoint(written(tmp_path, content)).tensors["w"].array() == BIG).all()
    damaged = written(tmp_path, content[:-100] + b"\0" + content[-99:])
    with pytest.raises(ModelError, match="expected the checksum"):
        read_checkpoint(damaged)
    assert read_checkpoint(damaged, check_crc=False).tensors["w"].shape == BIG.shape
    with pytest.raises(ModelError, match="expected the checksum"):
        read_checkpoint(written(tmp_path, safetensors({"w": BIG}, {"crc_num": "77"})))


def test_encrypted_checkpoints(tmp_path: Path) -> None:
    content = ckpt({"w": BIG})
    path = written(tmp_path, encrypted(content[:2000], KEY) + encrypted(content[2000:], KEY))
    found = read_checkpoint(path, KEY)
    assert found.cipher == "AES-GCM" and (found.tensors["w"].array() == BIG).all()
    with pytest.raises(ModelError, match="expected a key, got none"):
        read_checkpoint(path)
    with pytest.raises(ModelError, match="the key does not fit"):
        read_checkpoint(written(tmp_path, encrypted(content, KEY, "AES-CBC")), KEY[::-1])


# -- matching ---------------------------------------------------------------------------------------------------------


def test_element_types_are_converted_among_floats_and_among_integers() -> None:
    wanted = {"a": TensorType("f16", (2,)), "b": TensorType("i64", ()), "c": TensorType("f32", (1,))}
    held = {"a": np.array([0.5, 2.0]), "b": np.array([7], np.int8), "c": np.array(3, np.float32)}
    found = matched(wanted, of(held), "net").tensors
    assert {name: str(data.type) for name, data in found.items()} == {"a": "f16[2]", "b": "i64[]", "c": "f32[1]"}
    assert found["a"].array().tolist() == [0.5, 2] and found["b"].array() == 7


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    wanted = {name: TensorType("f32", (2, 3)) for name in ("there", "absent", "misshapen", "integer")}
    held = {
        "there": np.zeros((2, 3), np.float32),
        "misshapen": np.zeros((3, 2), np.float32),
        "integer": np.zeros((2, 3), np.int32),
        "more": np.zeros(1, np.float32),
        "moments.there": np.zeros((2, 3), np.float32),
    }
    with pytest.raises(ModelError) as error:
        matched(wanted, of(held), "net.mindir")
    assert str(error.value).splitlines() == [
        "net.mindir: the weights in w.ckpt do not fit the model:",
        '  missing (1): "absent" f32[2,3]',
        '  "misshapen": expected shape [2, 3], got [3, 2]',
        '  "integer": expected f32, got i32',
        '  not used (1): "more"',
    ]


def test_what_training_keeps_is_no_matter_and_what_else_is_unused_is_a_note() -> None:
    wanted = {"w": TensorType("f32", (1,))}
    one = np.ones(1, np.float32)
    extras = dict.fromkeys(("moments.w", "learning_rate", "epoch_num", "scale_sense", "accum.w"), one)
    found = matched(wanted, of({"w": one, **extras}), "net")
    assert found.notes == () and len(found.unused) == 5
    assert matched(wanted, of({"w": one, "head": one}), "net").notes == ('w.ckpt: 1 tensor is not used: "head"',)


def test_a_prefix_of_the_names_is_left_out() -> None:
    wanted = {name: TensorType("f32", (1,)) for name in ("a.w", "a.b", "c.w")}
    held = {f"backbone.net.{name}": np.full(1, i, np.float32) for i, name in enumerate(wanted)}
    found = matched(wanted, of(held), "net")
    assert [found.tensors[name].array()[0] for name in wanted] == [0, 1, 2]
    assert found.prefix == "backbone.net." and "backbone.net." in found.notes[0]
    twice = {**held, **{f"ema.{name}": array for name, array in zip(wanted, held.values(), strict=True)}}
    with pytest.raises(ModelError, match=r"missing \(3\)"):  # nobody can say which one is meant
        matched(wanted, of(twice), "net")


# -- models -----------------------------------------------------------------------------------------------------------


def onnx_model(w: np.ndarray) -> onnx.ModelProto:
    """y = (x w + b) c, where c is a number and b an initializer of 4."""
    nodes = [node("MatMul", ["x", "fc.w"], ["m"]), node("Add", ["m", "fc.b"], ["s"]), node("Mul", ["s", "c"])]
    constants = {"fc.w": w, "fc.b": np.zeros(4, np.float32), "c": np.array(2, np.float32)}
    return make(nodes, {"x": info("x", [1, 3])}, constants=constants)


def test_an_onnx_model_takes_the_weights_of_a_checkpoint(tmp_path: Path, planish: Planish) -> None:
    new = {"fc.w": np.arange(12, dtype=np.float32).reshape(3, 4), "fc.b": np.ones(4, np.float32)}
    weights = written(tmp_path, safetensors(new), "new.safetensors")
    path = written(tmp_path, onnx_model(np.zeros((3, 4), np.float32)).SerializeToString(), "net.onnx")
    x = np.array([[1, 2, 3]], np.float32)
    expected = 2 * (x @ new["fc.w"] + 1)
    np.testing.assert_allclose(compile_model(path, weights=weights, threads=1).run({"x": x})["y"], expected)
    assert (compile_model(path, threads=1).run({"x": x})["y"] == 0).all()
    np.save(tmp_path / "x.npy", x)
    words = ["run", path, "--weights", weights, "--input", f"x={tmp_path / 'x.npy'}", "-o", tmp_path / "y.npz"]
    assert planish(*words) == (0, "", "")
    with np.load(tmp_path / "y.npz") as outputs:
        np.testing.assert_allclose(outputs["y"], expected)
    attributes = open_model(path, Reading(weights=weights)).read().attributes
    assert attributes["weights"] == "new.safetensors" and "notes" not in attributes
    absent = written(tmp_path, ckpt({"fc.b": new["fc.b"]}))
    status, out, err = planish("compile", path, "--weights", absent, "-o", tmp_path / "net.so")
    assert (status, out) == (1, "") and 'missing (1): "fc.w" f32[3,4]' in err
    assert not (tmp_path / "net.so").exists()


def test_weights_and_whether_a_file_is_encrypted_are_part_of_what_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path, b"model", "net.onnx")
    first, second = written(tmp_path, b"one", "1.ckpt"), written(tmp_path, b"two", "2.ckpt")
    out = tmp_path / "net.so"
    keys = {key_of(path, out, {}), key_of(path, out, {}, first), key_of(path, out, {}, second)}
    assert len(keys) == 3 and None not in keys
    assert key_of(written(tmp_path, encrypted(b"model"), "secret.mindir"), out, {}) is None
    assert key_of(path, out, {}, written(tmp_path, encrypted(b"one"), "secret.ckpt")) is None
    assert key_of(path, out, {}, tmp_path / "absent.ckpt") is None
    assert key_of(written(tmp_path, b"..net_variables/data_0..", "net_graph.mindir"), out, {}) is None


def test_a_mindir_file_takes_the_parameters_of_a_checkpoint() -> None:
    new = {"fc.weight": np.full((4, 3), 2.0), "fc.bias": np.zeros(4), "moments.fc.bias": np.zeros(4)}
    model, found = with_weights(load(dense()), of(new))
    assert [t.array().dtype for t in model.graph.parameters] == [np.float32] * 2
    assert (model.graph.parameters[0].array() == 2).all() and found.notes == ()
    with pytest.raises(ModelError, match=r'missing \(1\): "fc.bias"'):
        with_weights(load(dense()), of({"fc.weight": np.ones((4, 3))}))


# -- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_lists_the_tensors_of_a_checkpoint(tmp_path: Path, planish: Planish) -> None:
    path = written(tmp_path, ckpt({"fc.w": BIG, "note": "text"}))
    status, out, err = planish("inspect", path, "--json")
    facts: dict[str, Any] = json.loads(out)
    assert (status, err, facts["format"], facts["texts"]) == (0, "", "ckpt", {"note": "text"})
    assert facts["tensors"] == [{"name": "fc.w", "dtype": "f32", "shape": [40, 30], "bytes": 4800}]
    status, out, _ = planish("inspect", written(tmp_path, safetensors({"a\x1b[31m": BIG}), "w.safetensors"))
    assert status == 0 and "40x30" in out and "\x1b" not in out
    secret, key = written(tmp_path, encrypted(ckpt({"w": BIG}))), written(tmp_path, KEY, "key")
    status, out, _ = planish("inspect", secret, "--key-file", key)
    assert status == 0 and "encrypted with AES-GCM" in out
    status, _, err = planish("inspect", secret)
    assert status == 1 and "--key-file" in err


def test_keys_are_never_shown(tmp_path: Path) -> None:
    reading = Reading(key=KEY)
    assert KEY.decode() not in repr(reading) and KEY.hex() not in repr(reading)
    assert set(asdict(reading)) == {"weights", "key", "graph"}


def test_without_the_package_for_it_an_encrypted_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, encrypted(ckpt({"w": BIG})))
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(PlanishError, match=r'cryptography is not installed; pip install "planish\[mindspore\]"'):
        read_checkpoint(path, KEY)


def test_what_is_no_checkpoint_is_told_by_name(tmp_path: Path) -> None:
    for content, what in (
        (b"<!DOCTYPE html>", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (dense(), "something else"),
        (field(1, 8) + bytes(99), "something else"),
    ):
        with pytest.raises(ModelError, match=f"expected a checkpoint .*{what}"):
            read_checkpoint(written(tmp_path, content))
    for path, what in ((tmp_path, "a folder"), (tmp_path / "absent", "no such file")):
        with pytest.raises(ModelError, match=what):
            read_checkpoint(path)


@needs_samples
def test_mindspores_own_checkpoints_hold_what_its_models_hold() -> None:
    files = sorted([*SAMPLES.rglob("*.ckpt"), *SAMPLES.rglob("*.safetensors")])
    assert len(files) > 20
    tensors = {path: read_checkpoint(path, KEY).tensors for path in files}
    folder = SAMPLES / "mlp_dropout"
    expected = {t.parameter: t.array() for t in load(folder / "mlp_dropout.mindir").graph.parameters}
    for name in ("append", "crc", "enc_gcm", "sliced_1KB", "mlp_dropout"):
        found = tensors[folder / f"{name}.ckpt"]
        assert all((found[name].array() == array).all() for name, array in expected.items())
    for name in ("st", "st_crc"):
        found = tensors[folder / f"{name}.safetensors"]
        assert all((found[name].array() == array).all() for name, array in expected.items())


def test_nothing_of_an_encrypted_model_stays_in_the_cache(tmp_path: Path) -> None:
    path = written(tmp_path, encrypted(dense()), "net.mindir")
    before = set(Cache("models").folder.iterdir())
    model = compile_model(path, key=KEY, threads=1)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(model.run({"x": x})["output0"], [[4, 13, 22, 31]] * 2)
    assert set(Cache("models").folder.iterdir()) == before
    with pytest.raises(ModelError, match="the key does not fit"):
        compile_model(path, key=KEY[::-1])


def test_inspect_says_what_a_mindir_file_says_about_itself(tmp_path: Path, planish: Planish) -> None:
    operations: list[tuple[str, object]] = [("Decode", {"rgb": True}), ("HWC2CHW", None)]
    steps = json.dumps([{"tensor_op_name": name, "tensor_op_params": value} for name, value in operations])
    step = fields(1, [field(1, '["image"]') + field(4, '"Map"') + field(5, steps), field(4, "Batch") + field(5, "x")])
    path = written(tmp_path, dense() + field(9, step) + field(14, field(1, "owner") + field(2, "me")), "net.mindir")
    status, out, err = planish("inspect", path, "--json")
    facts = json.loads(out)["mindir"]
    assert (status, err, facts["version"], facts["mindspore"], facts["parameters"]) == (0, "", 3, "2.10.0", 2)
    assert facts["preprocess"][0]["operations"] == steps and facts["user_info"] == {"owner": "me"}
    status, out, _ = planish("inspect", path)
    assert status == 0 and 'Decode {"rgb": true}' in out and "HWC2CHW null" in out and "Batch x" in out


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    path = written(tmp_path, ckpt({"w": BIG}))
    with pytest.raises(ModelError, match="holds tensors only: give the model, and this file as its weights"):
        open_model(path)


def test_an_encrypted_mindir_file_takes_encrypted_weights(tmp_path: Path, planish: Planish) -> None:
    model, key = written(tmp_path, encrypted(dense(), cipher="AES-CBC"), "net.mindir"), written(tmp_path, KEY, "key")
    new = {"fc.weight": np.full((4, 3), 2, np.float32), "fc.bias": np.arange(4, dtype=np.float32), "head": BIG}
    weights = written(tmp_path, encrypted(ckpt(new)))
    out = tmp_path / "net.so"
    status, text, err = planish("compile", model, "--weights", weights, "--key-file", key, "-o", out)
    assert (status, err) == (0, "") and "note: " in text and '1 tensor is not used: "head"' in text
    found = load_library(out, threads=1).run({"x": np.ones((2, 3), np.float32)})["output0"]
    np.testing.assert_allclose(found, [[6, 7, 8, 9]] * 2)
    assert KEY not in out.read_bytes()
    status, text, err = planish("compile", model, "--weights", weights, "-o", tmp_path / "other.so")
    assert (status, text) == (1, "") and "--key-file" in err and not (tmp_path / "other.so").exists()
