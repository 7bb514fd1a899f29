"""A fixed part of ONNX's own backend tests, compiled and run: all of it is `make conformance`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conformance.cases import Case, cases
from conformance.columns import COLUMNS
from conformance.report import markdown, reason_of
from onnx import helper

import planish.onnx_backend as backend

# One test for each of many operators, chosen by hand so that all families of converters run.
CHOSEN = """
test_abs test_add_bcast test_argmax_default_axis_example test_averagepool_2d_pads_count_include_pad
test_batchnorm_example test_bitshift_right_uint8 test_cast_FLOAT_to_FLOAT8E4M3FN test_cast_FLOAT8E5M2_to_FLOAT
test_celu test_clip_default_min test_concat_2d_axis_1 test_conv_with_autopad_same test_convinteger_without_padding
test_convtranspose_group_2 test_cumprod_1d test_cumsum_2d_axis_1 test_depthtospace_crd_mode_example
test_dequantizelinear_axis test_dft_axis_opset19 test_dynamicquantizelinear_expanded test_einsum_batch_matmul
test_expand_dim_changed test_eyelike_with_dtype test_gather_negative_indices test_gathernd_example_int32_batch_dim1
test_gelu_tanh_1 test_gemm_all_attributes test_gridsample_bicubic test_group_normalization_example test_gru_seq_length
test_hardmax_axis_1 test_instancenorm_example test_layer_normalization_4d_axis1 test_logsoftmax_large_number
test_lppool_2d_pads test_lrn test_lstm_with_peepholes test_matmulinteger test_maxpool_2d_ceil test_mish
test_mod_mixed_sign_int32 test_onehot_negative_indices test_pow_types_float32_int32 test_prelu_broadcast
test_qlinearconv test_qlinearmatmul_2D_uint8_float32 test_quantizelinear_axis test_range_float_type_positive_delta
test_reduce_l2_keep_dims_random test_reduce_max_bool_inputs test_reflect_pad test_reshape_reordered_all_dims
test_resize_downsample_scales_cubic test_resize_upsample_sizes_nearest test_reversesequence_batch
test_rms_normalization_2d_axis1 test_roialign_aligned_true test_rotary_embedding test_scan9_sum
test_scatter_elements_with_negative_indices test_simple_rnn_defaults test_slice_neg_steps test_softmax_axis_1
test_split_variable_parts_2d_opset18 test_swish test_tile test_top_k test_transpose_all_permutations_3 test_tril_neg
test_unsqueeze_two_axes test_where_example test_xor4d
""".split()  # noqa: SIM905
DYNAMIC = """
test_add_bcast test_reshape_reordered_all_dims test_nonzero_example test_slice test_reduce_sum_keepdims_random
test_scan9_sum test_constant_pad test_affine_grid_2d test_unsqueeze_two_axes
""".split()  # noqa: SIM905
FOUND = {case.name: case for case in cases()}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_test_of_onnx_passes_with_optimization(name: str) -> None:
    COLUMNS["O3"](FOUND[name])


@pytest.mark.parametrize("name", CHOSEN[::6])
def test_a_test_of_onnx_passes_without_optimization(name: str) -> None:
    COLUMNS["O0"](FOUND[name])


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_test_of_onnx_passes_with_symbols_for_all_dimensions(name: str) -> None:
    COLUMNS["dynamic"](FOUND[name])


@pytest.mark.parametrize(
    "name", [*CHOSEN[5::12], "test_sequence_insert_at_back", "test_string_concat", "test_identity_opt"]
)
def test_a_test_of_onnx_passes_as_an_executable(name: str) -> None:
    COLUMNS["executable"](FOUND[name])


@pytest.mark.parametrize("name", [*CHOSEN[7::16], "test_sequence_map_identity_1_sequence", "test_if_seq"])
def test_a_test_of_onnx_passes_when_all_inputs_are_constants(name: str) -> None:
    COLUMNS["constant"](FOUND[name])


def test_compiled_code_runs_where_the_compiler_cannot_be_imported() -> None:
    code = "import sys; from conformance.isolated import Forbid; sys.meta_path.insert(0, Forbid())"
    check = "import planish.runtime; assert 'onnx' not in sys.modules and 'planish.ir' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True, cwd=Path(__file__).parent)


def test_the_backend_runs_single_nodes_and_knows_its_device() -> None:
    node = helper.make_node("Add", ["x", "y"], ["z"])
    x, y = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    (z,) = backend.run_node(node, [x, y])
    assert (z == x + y).all()
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA:0")


def test_dimensions_are_symbols_on_request() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])],
        )
    )
    prepared = backend.prepare(model, symbolic=True)
    for shape in ((2, 3), (5, 1)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (y,) = prepared.run([x])
        assert (y == np.maximum(x, 0)).all()


def test_a_report_counts_and_groups() -> None:
    case = Case("test_a", "node", FOUND["test_abs"].model, FOUND["test_abs"].data, None, 1e-3, 1e-7)
    text = markdown([case], {"O3": {"test_a": "UnsupportedError: the operator is not supported"}})
    assert "| Abs | 0/1 |" in text and "- the operator is missing (1): `test_a`" in text
    assert reason_of("the process ended with status -11").startswith("the test process ended")
