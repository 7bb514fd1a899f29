"""MindSpore's calls on networks without MindSpore: loading, parameters, predictions, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _mindir import (
    KEY,
    MONAD,
    SAMPLES,
    ckpt,
    constant,
    dense,
    encrypted,
    field,
    graph,
    info,
    model,
    needs_samples,
    node,
    primitive,
    safetensors,
    tensor,
    typed,
)

import planish.mindspore as ms
from planish.ir.errors import PlanishError

NEW = {
    "fc.weight": np.random.default_rng(0).standard_normal((4, 3), np.float32),
    "fc.bias": np.array([1, 2, 3, 4], np.float32),
}
X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def written(folder: Path, content: bytes, name: str) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.fixture
def net(tmp_path: Path) -> ms.nn.GraphCell:
    return ms.nn.GraphCell(ms.load(written(tmp_path, dense(), "net.mindir")))


def expected(x: np.ndarray, weights: dict[str, np.ndarray] = NEW) -> np.ndarray:
    return x @ weights["fc.weight"].T + weights["fc.bias"]


def test_tensors_are_arrays_with_mindspores_names() -> None:
    t = ms.Tensor([[1.5, 2.0], [3.0, 4.0]])
    assert (t.dtype, t.shape, t.ndim, t.size, t.itemsize, t.nbytes) == (ms.float32, (2, 2), 2, 4, 4, 16)
    assert ms.Tensor(np.ones(2)).dtype == ms.float64 and ms.Tensor([1, 2]).dtype == ms.int64
    assert ms.Tensor(3, ms.int32).dtype == ms.int32 and ms.Tensor(True).dtype == ms.bool_
    assert isinstance(t + 1, ms.Tensor) and (1 - t).tolist() == [[-0.5, -1], [-2, -3]]
    assert (t > ms.Tensor(2.5)).tolist() == [[False, False], [True, True]]
    assert t[0, 1].item() == 2 and t[ms.Tensor([1])].tolist() == [[3, 4]] and t.T[0].tolist() == [1.5, 3]
    assert t.astype(ms.float16).reshape(4).shape == (4,) and np.asarray(t).sum() == 10.5
    assert [row.shape for row in t] == [(2,), (2,)] and len(t) == 2 and float(t[1, 1]) == 4
    assert repr(ms.Tensor([1, 2])) == "Tensor(shape=[2], dtype=Int64, value=\n[1 2])"
    assert repr(ms.Parameter(np.ones((2, 3), np.float32), "w")) == (
        "Parameter (name=w, shape=(2, 3), dtype=Float32, requires_grad=True)"
    )
    assert ms.Tensor(shape=[None, 3], dtype=ms.float32).shape == (-1, 3)
    with pytest.raises(ValueError, match="expected data"):
        ms.Tensor()
    with pytest.raises(ValueError, match="with data"):
        ms.Tensor(shape=[2], dtype=ms.float32).asnumpy()


def test_a_network_is_loaded_and_called(net: ms.nn.GraphCell) -> None:
    old = {"fc.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "fc.bias": np.ones(4, np.float32)}
    found = net(ms.Tensor(X))
    assert isinstance(found, ms.Tensor)
    np.testing.assert_allclose(found.asnumpy(), expected(X, old))
    np.testing.assert_allclose(ms.Model(net).predict(X).asnumpy(), expected(X, old))  # type: ignore[union-attr]
    three = np.concatenate([X, X[:1]])
    np.testing.assert_allclose(net(three).asnumpy(), expected(three, old))  # another batch than the file has
    with pytest.raises(ValueError, match="expected 1 inputs, got 2"):
        net(X, X)
    with pytest.raises(PlanishError):
        net(np.ones((2, 5), np.float32))


def test_parameters_come_from_a_checkpoint(net: ms.nn.GraphCell, tmp_path: Path) -> None:
    path = written(tmp_path, ckpt({**NEW, "moments.fc.bias": NEW["fc.bias"], "note": "text"}), "new.ckpt")
    parameters = ms.load_checkpoint(path)
    assert parameters["note"] == "text" and isinstance(parameters["fc.weight"], ms.Parameter)
    assert ms.load_param_into_net(net, parameters) == ([], ["moments.fc.bias", "note"])
    np.testing.assert_allclose(net(X).asnumpy(), expected(X), rtol=1e-6)
    net.parameters_dict()["fc.bias"].set_data(ms.Tensor(np.zeros(4, np.float32)))
    np.testing.assert_allclose(net(X).asnumpy(), expected(X) - NEW["fc.bias"], rtol=1e-5)
    assert [name for name, _ in net.parameters_and_names()] == ["fc.weight", "fc.bias"]


def test_load_checkpoint_chooses_by_name(net: ms.nn.GraphCell, tmp_path: Path) -> None:
    path = written(tmp_path, safetensors({"a.w": X, "a.b": X, "c": X}), "new.safetensors")

    def names(**options: Any) -> list[str]:
        return sorted(ms.load_checkpoint(path, format="safetensors", **options))

    assert names() == ["a.b", "a.w", "c"]
    assert names(filter_prefix="a.") == ["c"] and names(filter_prefix=["c", "a.w"]) == ["a.b"]
    assert names(specify_prefix="a.") == ["a.b", "a.w"] and names(choice_func=lambda n: n.endswith("w")) == ["a.w"]
    assert names(specify_prefix="a", choice_func=lambda _: False) == ["a.b", "a.w"]
    with pytest.raises(ValueError, match="no parameters are left"):
        names(specify_prefix="z")
    for form, mode in (("onnx", "AES-GCM"), ("ckpt", "AES-GCM"), ("safetensors", "DES")):
        with pytest.raises(ValueError, match="expected"):
            ms.load_checkpoint(path, format=form, dec_mode=mode)
    with pytest.raises(ValueError, match="no such file"):
        ms.load_checkpoint(str(tmp_path / "absent.ckpt"))
    with pytest.raises(ValueError, match="damaged|cut short"):
        ms.load_checkpoint(written(tmp_path, ckpt(NEW)[:-5], "cut.ckpt"))
    secret = written(tmp_path, encrypted(ckpt(NEW)), "secret.ckpt")
    assert set(ms.load_checkpoint(secret, net, dec_key=KEY)) == set(NEW)
    np.testing.assert_allclose(net(X).asnumpy(), expected(X), rtol=1e-6)


def test_what_does_not_fit_leaves_the_network_as_it_was(net: ms.nn.GraphCell) -> None:
    def given(**arrays: np.ndarray) -> dict[str, ms.Parameter]:
        return {name.replace("_", "."): ms.Parameter(a, name) for name, a in arrays.items()}

    good, bad = NEW["fc.weight"], np.ones(5, np.float32)
    with pytest.raises(RuntimeError, match=r"fc.bias: expected shape \[4\], got \[5\]"):
        ms.load_param_into_net(net, given(fc_weight=good, fc_bias=bad))
    assert not any(p.version for p in net.get_parameters())
    with pytest.raises(RuntimeError, match="expected float32, got int32"):
        ms.load_param_into_net(net, given(fc_bias=np.ones(4, np.int32)))
    assert ms.load_param_into_net(net, given(fc_weight=good.astype(np.float64))) == (["fc.bias"], [])
    with pytest.raises(RuntimeError, match="expected float32, got float64"):
        ms.load_param_into_net(net, given(fc_weight=good.astype(np.float64)), strict_load=True)
    with pytest.raises(TypeError, match="expected a GraphCell"):
        ms.load_param_into_net(None, {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Parameter"):
        ms.load_param_into_net(net, {"fc.bias": 3})  # type: ignore[dict-item]


def test_a_prefix_in_the_checkpoint_is_left_out(net: ms.nn.GraphCell) -> None:
    given = {f"backbone.{name}": ms.Parameter(array, name) for name, array in NEW.items()}
    assert ms.load_param_into_net(net, given, strict_load=True) == (list(NEW), list(given))
    assert ms.load_param_into_net(net, {**given, "note": "text"}) == ([], ["note"])
    np.testing.assert_allclose(net(X).asnumpy(), expected(X), rtol=1e-6)


def test_parameters_may_be_given_when_the_network_is_made(tmp_path: Path) -> None:
    loaded = ms.load(written(tmp_path, dense(), "net.mindir"))
    given = {name: ms.Tensor(array) for name, array in NEW.items()}
    net = ms.nn.GraphCell(loaded, params_init={**given, "unknown": ms.Tensor(1.0)})
    np.testing.assert_allclose(net(X).asnumpy(), expected(X), rtol=1e-6)
    with pytest.raises(TypeError, match="params_init"):
        ms.nn.GraphCell(loaded, {"fc.bias": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="what load gives"):
        ms.nn.GraphCell("net.mindir")  # type: ignore[arg-type]


def test_load_says_what_is_wrong_as_mindspore_does(tmp_path: Path) -> None:
    secret = written(tmp_path, encrypted(dense()), "secret.mindir")
    assert ms.load(secret, dec_key=KEY, dec_mode="AES-GCM").model.cipher == "AES-GCM"
    for options in ({}, {"dec_key": KEY[::-1]}):
        with pytest.raises(RuntimeError, match="key"):
            ms.load(secret, **options)
    with pytest.raises(RuntimeError, match="expected a MindIR model"):
        ms.load(written(tmp_path, b"no model", "not.mindir"))
    for name in (str(tmp_path / "absent.mindir"), written(tmp_path, dense(), "net.bin")):
        with pytest.raises(ValueError, match="no such file|ends with .mindir"):
            ms.load(name)
    with pytest.raises(TypeError, match="key of bytes"):
        ms.load(secret, dec_key="text")

    def own(file: str, key: bytes) -> bytes:
        return bytes(b ^ key[0] for b in Path(file).read_bytes())

    mine = written(tmp_path, bytes(b ^ 7 for b in dense()), "mine.mindir")
    assert ms.load(mine, dec_key=b"\x07", dec_mode=own).model.graph.name == "main"


def nested() -> bytes:
    """(x + a, (a, x)), where a and x are the elements of a tuple."""
    pair = field(16, 20) + field(17, typed("f32", 2, name="")) * 2
    shape = field(1, "shape") + pair
    whole = field(1, "shape") + field(16, 20) + field(17, typed("f32", 2, name="")) + field(17, pair)
    nodes = [
        constant("zero", 0),
        constant("one", 1),
        node("REF::TupleGetItem:1", ["main:t", "zero"], "main:a", typed("f32", 2)),
        node("REF::TupleGetItem:1", ["main:t", "one"], "main:x", typed("f32", 2)),
        node("REF::Add:2", ["main:x", "main:a"], "main:s", typed("f32", 2)),
        node("REF::MakeTuple:3", ["main:a", "main:x"], "main:p", shape),
        node("REF::MakeTuple:3", ["main:s", "main:p"], "main:y", whole),
    ]
    names = (("TupleGetItem:1", 1), ("Add:2", 2), ("MakeTuple:3", 1))
    table = [primitive(name, name.split(":")[0], kind) for name, kind in names]
    return model(graph("main", nodes, [info("main:t", attribute=pair)], ["main:y"]), primitives=table)


def test_tuples_go_in_and_come_out_as_they_are(tmp_path: Path) -> None:
    net = ms.nn.GraphCell(ms.load(written(tmp_path, nested(), "net.mindir")))
    total, pair = net((ms.Tensor([1.0, 2.0]), ms.Tensor([3.0, 4.0])))
    assert total.tolist() == [4, 6] and [t.tolist() for t in pair] == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match="expected a tuple"):
        net(ms.Tensor([1.0, 2.0]))


def counting() -> bytes:
    """A parameter that grows by x at each call, and is given out."""
    nodes = [
        constant("u", MONAD),
        node("REF::AssignAdd:1", ["main:n", "main:x", "u"], "main:a", typed("f32", 1)),
        node("REF::UpdateState:2", ["u", "main:a"], "main:v", field(1, "shape") + MONAD),
        node("REF::Depend:3", ["main:a", "main:v"], "main:y", typed("f32", 1)),
    ]
    names = (("AssignAdd:1", 2), ("UpdateState:2", 1), ("Depend:3", 1))
    table = [primitive(name, name.split(":")[0], kind) for name, kind in names]
    held = [tensor("main:n", np.zeros(1, np.float32), ref_key="n")]
    return model(graph("main", nodes, [info("main:x", "f32", 1)], ["main:y"], held), primitives=table)


def test_what_a_network_assigns_stays_from_call_to_call(tmp_path: Path) -> None:
    net = ms.nn.GraphCell(ms.load(written(tmp_path, counting(), "net.mindir")))
    parameter = net.parameters_dict()["n"]
    assert [net(ms.Tensor([2.0])).tolist() for _ in range(3)] == [[2], [4], [6]]
    assert parameter.asnumpy().tolist() == [6]
    parameter.set_data(ms.Tensor([10.0]))
    assert [net(ms.Tensor([1.0])).tolist() for _ in range(2)] == [[11], [12]]
    assert len(net._compiled) == 2
    other = ms.nn.GraphCell(net.graph)
    assert other(ms.Tensor([1.0])).tolist() == [1] and parameter.asnumpy().tolist() == [12]


def exported(net: ms.nn.GraphCell, inputs: Sequence[ms.Tensor], file: Path, **options: Any) -> Path:
    ms.export(net, *inputs, file_name=str(file), file_format=options.pop("file_format", "MINDIR"), **options)
    return file


def mixed(content: bytes, key: bytes) -> bytes:
    return bytes(b ^ key[0] for b in content)


def test_networks_are_exported(net: ms.nn.GraphCell, tmp_path: Path) -> None:
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    ms.load_param_into_net(net, {name: ms.Parameter(array, name) for name, array in NEW.items()})
    exported(net, [ms.Tensor(X)], tmp_path / "again")
    np.testing.assert_allclose(
        ms.nn.GraphCell(ms.load(str(tmp_path / "again.mindir")))(X).asnumpy(), expected(X), rtol=1e-6
    )
    exported(net, [ms.Tensor(shape=[None, 3], dtype=ms.float32)], tmp_path / "net.onnx", file_format="ONNX")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    five = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": five})[0], expected(five), rtol=1e-5)
    secret = exported(net, [ms.Tensor(X)], tmp_path / "secret.mindir", enc_key=KEY)
    assert ms.load(str(secret), dec_key=KEY).model.cipher == "AES-GCM"
    exported(net, [ms.Tensor(X)], tmp_path / "own.mindir", enc_key=b"\x07", enc_mode=mixed)
    assert bytes(b ^ 7 for b in (tmp_path / "own.mindir").read_bytes()[:64]).startswith(b"\x0a")
    for options in ({"file_format": "AIR"}, {"custom_func": print}, {"enc_key": KEY, "enc_mode": "AES-CBC"}):
        with pytest.raises(ValueError, match="export"):
            exported(net, [ms.Tensor(X)], tmp_path / "not", **options)
    assert not list(tmp_path.glob("not*"))


def test_programs_may_ask_for_the_cpu_and_for_nothing_else() -> None:
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ms.set_device("CPU")
    with pytest.raises(ValueError, match="runs on the CPU"):
        ms.set_context(mode=ms.PYNATIVE_MODE, device_target="Ascend")


def test_what_trains_is_refused(net: ms.nn.GraphCell) -> None:
    with pytest.raises(PlanishError, match="train with MindSpore"):
        ms.train.Model(net).train(1, None)


@needs_samples
def test_mindspores_own_network_reads_digits() -> None:
    folder = SAMPLES / "lenet5_trained"
    net = ms.nn.GraphCell(ms.load(str(SAMPLES / "lenet5" / "lenet5.mindir")))
    parameters = ms.load_checkpoint(str(folder / "original_v1.1.1_ascend.ckpt"))
    missing, extra = ms.load_param_into_net(net, parameters)
    assert not missing and len(extra) == 13
    with np.load(folder / "io.npz") as io:
        found = ms.Model(net).predict(ms.Tensor(io["in0"]))
        assert isinstance(found, ms.Tensor)
        np.testing.assert_allclose(found.asnumpy(), io["out0"], atol=1e-5, rtol=1e-4)
