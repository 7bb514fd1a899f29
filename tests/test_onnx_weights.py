"""Where weights are: in the file, in memory, in other files; every element type and every way of storing it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import agree, info, make, node, rand

from planish.frontend import read_model
from planish.frontend.onnx import read_onnx
from planish.ir.constants import Constant, ConstantData, FileSource
from planish.ir.core import Module
from planish.ir.errors import ModelError
from planish.ir.interp import run_graph


def _weights(module: Module) -> list[ConstantData]:
    return [op.value for op in module.main.body if isinstance(op, Constant)]


def _identity(tensor: TensorProto) -> onnx.ModelProto:
    model = make([node("Identity", ["w"], ["y"])], {"x": rand(1)})
    model.graph.initializer.append(tensor)
    return model


def test_weights_of_a_file_stay_in_the_file(tmp_path: Path) -> None:
    w, path = rand(64, 32), tmp_path / "m.onnx"
    model = make([node("MatMul", ["x", "w"])], {"x": rand(2, 64)}, constants={"w": w})
    path.write_bytes(model.SerializeToString())
    module = read_model(path)
    (data,) = _weights(module)
    assert isinstance(data.source, FileSource)
    assert data.source.path == str(path)
    np.testing.assert_array_equal(data.array(), w)
    assert module.attributes["source"] == "m.onnx"
    assert module.attributes["opset"] == 17
    assert module.attributes["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, np.float64), (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16), (TensorProto.INT8, np.int8), (TensorProto.UINT8, np.uint8),
        (TensorProto.INT16, np.int16), (TensorProto.UINT16, np.uint16), (TensorProto.INT32, np.int32),
        (TensorProto.UINT32, np.uint32), (TensorProto.INT64, np.int64), (TensorProto.UINT64, np.uint64),
        (TensorProto.BOOL, np.bool_), (TensorProto.INT4, ml_dtypes.int4), (TensorProto.UINT4, ml_dtypes.uint4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [False, True])
def test_every_element_type_in_both_ways_of_storage(kind: int, dtype: Any, raw: bool) -> None:
    numbers = [0, 1, 3, 2, 1] if kind in (TensorProto.BOOL, TensorProto.UINT4) else [0, 1, 3, -2, 7]
    values = np.array([abs(n) if "uint" in np.dtype(dtype).name else n for n in numbers]).astype(dtype)
    if raw:
        tensor = numpy_helper.from_array(values, "w")
    else:
        tensor = helper.make_tensor("w", kind, [5], values.astype(np.float64).tolist())
        assert not tensor.HasField("raw_data")
    module = read_onnx(_identity(tensor).SerializeToString())
    got = run_graph(module, {"x": rand(1)})["y"]
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got.astype(np.float64), values.astype(np.float64))


def test_strings() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", "ü".encode()])
    assert run_graph(read_onnx(_identity(tensor)), {"x": rand(1)})["y"].tolist() == ["a", "ü"]


def test_constant_of_many_megabytes_costs_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = make(
        [node("MatMul", ["x", "w"])], {"x": rand(1, 2048)}, constants={"w": np.zeros((2048, 2048), np.float32)}
    )
    path.write_bytes(model.SerializeToString())
    assert str(_weights(read_model(path))[0]) == f"file({str(path)!r}, {path.read_bytes().index(bytes(1000))})"


def test_initializers_that_are_inputs_too_are_constants() -> None:
    w = rand(3)
    model = make([node("Add", ["x", "w"])], {"x": rand(3), "w": w}, constants={"w": w})
    module = read_onnx(model)
    assert [p.name for p in module.main.params] == ["x"]
    assert module.attributes["overridable"] == "w"
    x = rand(3, seed=1)
    np.testing.assert_array_equal(run_graph(module, {"x": x})["y"], x + w)


@pytest.mark.parametrize("size", [3, 31, 32, 1000])
def test_of_two_initializers_of_one_name_the_same_counts_as_in_onnx_runtime(size: int) -> None:
    x = {"x": rand(size)}
    model = make([node("Add", ["x", "w"])], x, constants={"w": np.ones(size, np.float32)})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.float32), "w"))
    agree(model, x)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_become_dense(flat: bool) -> None:
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    indices = np.array([1, 5]) if flat else np.array([[0, 1], [1, 2]])
    sparse = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(indices, "i"), dims=[2, 3])
    model = make([node("Identity", ["w"], ["y"])], {"x": rand(1)})
    model.graph.sparse_initializer.append(sparse)
    np.testing.assert_array_equal(run_graph(read_onnx(model), {"x": rand(1)})["y"], [[0, 1, 0], [0, 0, 2]])


def test_sparse_indices_outside_are_refused() -> None:
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    sparse = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array([1, 6]), "i"), dims=[2, 3])
    model = make([node("Identity", ["w"], ["y"])], {"x": rand(1)})
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(ModelError, match=r"expected indices in 0\.\.5, got 1\.\.6"):
        read_onnx(model)


# -- external data -------------------------------------------------------------------------------------------------


def _external(location: str, shape: tuple[int, ...] = (4, 3), **entries: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    model = make([node("MatMul", ["x", "w"])], {"x": info("x", [1, shape[0]])})
    model.graph.initializer.append(tensor)
    return model


def _saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_external_data_is_referred_to(tmp_path: Path) -> None:
    w = rand(4, 3)
    path = _saved(tmp_path, _external("sub/w.bin", offset="8", length="48"))
    (path.parent / "sub").mkdir()
    (path.parent / "sub/w.bin").write_bytes(b"12345678" + w.tobytes())
    module = read_model(path)
    (data,) = _weights(module)
    assert data.source == FileSource(str((path.parent / "sub/w.bin").resolve()), 8)
    x = rand(1, 4, seed=1)
    np.testing.assert_allclose(run_graph(module, {"x": x})["y"], x @ w, rtol=1e-6)


def test_three_gigabytes_of_sparse_weights_are_not_read(tmp_path: Path) -> None:
    rows = 3 * 2**30 // 4 // 1024
    path = _saved(tmp_path, _external("w.bin", (rows, 1024)))
    with (path.parent / "w.bin").open("wb") as file:
        file.truncate(rows * 1024 * 4)
        file.seek(rows * 1024 * 4 - 4)
        file.write(np.float32(7).tobytes())
    (data,) = _weights(read_model(path))
    assert data.array()[-1, -1] == 7


@pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "sub/../../w.bin", "", "a\0b"])
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    path = _saved(tmp_path, _external(location))
    with pytest.raises(ModelError, match=r'initializer "w": external data in .*inside the model\'s folder; refused'):
        read_model(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    path = _saved(tmp_path, _external("w.bin"))
    (path.parent / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match=r"is a link out of the model's folder; refused: copy the file there"):
        read_model(path)


@pytest.mark.parametrize(
    ("entries", "size", "message"),
    [
        ({}, None, r"its data is missing: expected the file .*model/w\.bin; put it there"),
        ({}, 40, r"expected 48 bytes at offset 0 of .*w\.bin, but that file has 40 bytes"),
        ({"offset": "16"}, 48, r"expected 48 bytes at offset 16"),
        ({"length": "47"}, 48, r"expected 48 bytes for f32\[4,3\], got 47"),
        ({"offset": "-1"}, 48, r'expected offset to be a number, got "-1"'),
        ({"length": "1e9"}, 48, r'expected length to be a number, got "1e9"'),
    ],
)
def test_external_data_that_does_not_fit(
    tmp_path: Path, entries: dict[str, Any], size: int | None, message: str
) -> None:
    path = _saved(tmp_path, _external("w.bin", **entries))
    if size is not None:
        (path.parent / "w.bin").write_bytes(bytes(size))
    with pytest.raises(ModelError, match=message):
        read_model(path)


def test_external_data_needs_a_path() -> None:
    with pytest.raises(ModelError, match=r"the model was not read from a file"):
        read_onnx(_external("w.bin").SerializeToString())


def test_a_model_that_the_onnx_package_saved_with_external_data(tmp_path: Path) -> None:
    x, w = {"x": rand(2, 64)}, {"w": rand(64, 32), "b": rand(32, seed=1)}
    model = make([node("Gemm", ["x", "w", "b"])], x, constants=w)
    expected = run_graph(agree(model, x, atol=1e-5), x)["y"]
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    np.testing.assert_array_equal(run_graph(read_model(tmp_path / "m.onnx"), x)["y"], expected)
