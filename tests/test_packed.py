"""Elements of less than a byte: packed by callers, one in a byte for kernels."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from planish.compile import compile
from planish.frontend.onnx.reader import read_onnx
from planish.ir.interp import pack_bits, run_program, unpack_bits
from planish.ir.types import DTYPES
from planish.passes.base import PassContext, PassManager
from planish.runtime.dtypes import numpy_dtype, pack, packed_bytes, unpack

PACKED = {"i4": TensorProto.INT4, "u4": TensorProto.UINT4, "i2": TensorProto.INT2, "u2": TensorProto.UINT2,
          "f4e2m1": TensorProto.FLOAT4E2M1}  # fmt: skip


def _values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    codes = np.random.default_rng(1).integers(0, 1 << DTYPES[dtype].bits, shape).astype(np.uint8)
    return codes.view(numpy_dtype(dtype)) if dtype == "f4e2m1" else codes.astype(np.int8).astype(numpy_dtype(dtype))


def _transposing(number: int, dims: list[int | str]) -> bytes:
    """A model of two outputs: the input transposed, and as f32."""
    nodes = [helper.make_node("Transpose", ["x"], ["y"]), helper.make_node("Cast", ["x"], ["z"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", number, dims)],
        [helper.make_tensor_value_info("y", number, dims[::-1]),
         helper.make_tensor_value_info("z", TensorProto.FLOAT, dims)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    return model.SerializeToString()


@pytest.mark.parametrize("dtype", PACKED)
def test_packing_is_undone_by_unpacking(dtype: str) -> None:
    for shape in ((), (0,), (1,), (3,), (2, 5)):
        values = _values(dtype, shape)
        data = pack(values, dtype)
        assert data.size == packed_bytes(dtype, values.size)
        assert np.array_equal(unpack(data, dtype, shape), values)
        assert np.array_equal(pack_bits(values, dtype), data)
        assert np.array_equal(unpack_bits(data, dtype, shape), values)


def test_the_first_element_is_in_the_low_bits() -> None:
    assert pack(np.array([1, 2, 3], numpy_dtype("u4")), "u4").tolist() == [0x21, 0x03]
    assert pack(np.array([1, 2, 3, 0, 1], numpy_dtype("u2")), "u2").tolist() == [0b00111001, 0b01]


@pytest.mark.parametrize("dtype", PACKED)
def test_packed_elements_at_the_models_border(dtype: str) -> None:
    x = _values(dtype, (3, 5))
    found = compile(_transposing(PACKED[dtype], [3, 5])).run({"x": x})
    assert np.array_equal(found["y"], x.T)
    assert np.array_equal(found["z"], x.astype(np.float32))


def test_packed_elements_of_symbolic_shape() -> None:
    model = compile(_transposing(TensorProto.INT4, ["n", "m"]))
    for shape in ((1, 1), (3, 3), (2, 7)):
        x = _values("i4", shape)
        assert np.array_equal(model.run({"x": x})["y"], x.T)


def test_the_interpreter_of_programs_packs_too() -> None:
    module = read_onnx(_transposing(TensorProto.UINT2, [3, 3]))
    PassManager.parse("canonicalize,form-kernels,lower-program", PassContext()).run(module)
    x = _values("u2", (3, 3))
    assert np.array_equal(run_program(module, {"x": x})["y"], x.T)
