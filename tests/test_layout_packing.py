"""Physical images of tensors: packing and unpacking in every layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planish.ir.constants import ConstantData
from planish.ir.packing import pack, packed, packed_bytes, storage_index, unpack, weights_image
from planish.ir.program import Program, Weight
from planish.ir.types import DTYPES, Layout, TensorType, tensor


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout]:
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=0, max_size=4)))
    rank = len(shape)
    order = tuple(draw(st.permutations(range(rank)))) if draw(st.booleans()) else ()
    dims = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=2)) if rank else []
    blocks = tuple((d, draw(st.sampled_from([1, 2, 3, 4, 8]))) for d in dims)
    pair = st.tuples(st.integers(0, 3), st.integers(0, 3))
    pad = tuple(draw(pair) for _ in range(rank)) if draw(st.booleans()) else ()
    return shape, Layout(order, blocks, pad)


@given(layouts(), st.sampled_from(["f32", "f16", "i4", "bool", "i64"]), st.sampled_from([1, 16, 100, 1 << 20]))
@settings(max_examples=150, deadline=None)
def test_unpack_inverts_pack_in_any_layout_and_chunk_size(
    case: tuple[tuple[int, ...], Layout], dtype: str, chunk: int
) -> None:
    shape, layout = case
    type = TensorType(dtype, shape, layout)
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(DTYPES[dtype].numpy)
    image = b"".join(bytes(c) for c in pack(array, layout, chunk))
    assert len(image) == packed_bytes(type)
    assert (unpack(image, type) == array).all()


@given(layouts())
@settings(max_examples=60, deadline=None)
def test_image_follows_the_layouts_own_offsets_and_padding_is_zero(case: tuple[tuple[int, ...], Layout]) -> None:
    shape, layout = case
    type = TensorType("i32", shape, layout)
    array = 1 + np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    image = np.frombuffer(packed(array, layout), np.int32)
    for index in np.ndindex(*shape):
        assert image[layout.offset(shape, index).constant] == array[index]
    assert (image != 0).sum() == array.size
    assert (storage_index(type).reshape(-1) < image.size).all()


def test_conv_weight_in_panels() -> None:
    weight = np.arange(5 * 2 * 3 * 3, dtype=np.float32).reshape(5, 2, 3, 3)
    image = np.frombuffer(packed(weight, Layout(order=(0, 2, 3, 1), blocks=((0, 4),))), np.float32).reshape(
        2, 3, 3, 2, 4
    )
    assert (image[0, 1, 2, 1] == weight[:4, 1, 1, 2]).all()
    assert image[1, 1, 2, 1].tolist() == [weight[4, 1, 1, 2], 0, 0, 0]


def test_row_major_chunks_are_views_of_the_array() -> None:
    array = np.arange(1000, dtype=np.float32)
    chunks = [np.frombuffer(c, np.uint8) for c in pack(array, Layout(), 1024)]
    assert len(chunks) == 4 and all(np.shares_memory(c, array) for c in chunks)


def test_chunks_of_a_packed_matrix_stay_small() -> None:
    array = np.broadcast_to(np.float32(1.5), (300, 4096))
    sizes = [len(c) for c in pack(array, Layout(order=(1, 0), blocks=((1, 32),)), 1 << 16)]
    assert max(sizes) <= 1 << 16 and sum(sizes) == array.size * 4


def test_strings_have_no_image() -> None:
    with pytest.raises(ValueError, match="strings have no physical image"):
        list(pack(np.array(["a"], dtype=object), Layout()))


def test_weights_image_fills_gaps_with_zeros() -> None:
    program = Program("program", attributes={"weights_bytes": 200})
    for value, offset in ((1.0, 64), (2.0, 128)):
        program.body.append(Weight(ConstantData.splat(value, "f32", (3,)), offset, types=[tensor("f32", 3)]))
    image = np.frombuffer(b"".join(bytes(c) for c in weights_image(program)), np.float32)
    assert image.size == 50
    assert image[16:19].tolist() == [1, 1, 1] and image[32:35].tolist() == [2, 2, 2] and image.sum() == 9
