"""Layout assignment: orders, panels, halos, pitch, relayout; meaning kept down to memory."""

from __future__ import annotations

import numpy as np
import pytest
from _graphs import GraphMaker
from _lowering import Net, agree, lowered, program

from planish.ir.core import Module, Value
from planish.ir.interp import run_graph, run_program
from planish.ir.kernel.form import KernelOp
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Add, Exp
from planish.ir.ops.conv import Conv
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import AveragePool, MaxPool
from planish.ir.ops.norm import Softmax
from planish.ir.ops.reduce import Mean
from planish.ir.ops.shape import Concat, Reshape, Transpose
from planish.ir.program import Alloc, Weight
from planish.ir.types import ROW_MAJOR, Layout
from planish.passes import PassContext, PassManager

NHWC = (0, 2, 3, 1)
ASSIGN = "form-kernels,assign-layouts"


def assigned(module: Module, passes: str = ASSIGN) -> Module:
    """The module after layout assignment; what it computes down to memory is checked on the way."""
    low = lowered(module, passes + ",lower-program,plan-memory")
    agree(module, low)
    return lowered(module, passes)


def layout_of(module: Module, value: Value | str) -> Layout:
    """Layout, in the changed `module`, of a value of the net that was built (or of the result of a node)."""
    loc = value if isinstance(value, str) else value.op.loc if value.op is not None else ""
    (op,) = (op for op in module.main.body if isinstance(op, KernelOp) and op.loc == loc and op.label != "relayout")
    return op.result.tensor.layout


def weights(module: Module) -> list[Layout]:
    """Layouts of the weights of the lowered program, in order."""
    low = lowered(module)
    return [op.result.tensor.layout for op in program(low).body if isinstance(op, Weight)]


def relayouts(module: Module) -> list[KernelOp]:
    return [op for op in module.main.body if isinstance(op, KernelOp) and op.label == "relayout"]


def test_images_have_channels_last_and_the_caller_sees_row_major() -> None:
    net = Net(1, 16, 6, 6)
    a = net.conv(net.x, 24)
    b = net(Relu(net(MaxPool(a, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)))))
    module = net.module(net.conv(b, 8))
    after = assigned(module)
    locs = [op.loc for op in after.main.body if isinstance(op, KernelOp)]
    assert all(layout_of(after, loc).order == NHWC for loc in dict.fromkeys(locs))
    assert len(relayouts(after)) == 1 and relayouts(after)[0].args[0] is after.main.params[0]
    assert after.main.params[0].type == module.main.params[0].type


def test_a_kernel_that_is_no_contraction_writes_the_output_as_the_caller_wants_it() -> None:
    net = Net(1, 16, 6, 6)
    after = assigned(net.module(net(Exp(net.conv(net.x, 24)))))
    assert after.main.results[0].tensor.layout == ROW_MAJOR


def test_opt_0_and_plain_leave_everything_row_major() -> None:
    net = Net(1, 4, 6, 6)
    module = net.module(net.conv(net.conv(net.x, 8, size=3, pad=1), 8, size=3, pad=1))
    plain = lowered(module, "form-kernels,assign-layouts:plain=1,lower-program")
    assert all(op.result.tensor.layout == ROW_MAJOR for op in program(plain).body if op.results)
    zero = module.clone()
    PassManager.parse(ASSIGN, PassContext(opt=0)).run(zero)
    assert all(v.tensor.layout == ROW_MAJOR for op in zero.main.body for v in op.results)


def test_halo_is_the_largest_that_a_reader_needs_and_survives_pooling_with_minus_infinity() -> None:
    net = Net(1, 16, 8, 8)
    a = net.conv(net.x, 16)
    pooled = net(MaxPool(a, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)))
    module = net.module(net.conv(a, 16, size=3, pad=1), net.conv(a, 16, size=5, pad=2, stride=2), pooled)
    layout = layout_of(assigned(module), a)
    assert layout == Layout(NHWC, (), ((0, 0), (0, 0), (2, 1), (2, 1)), ((0, 0), (0, 0), (2, 1), (2, 1)))
    net = Net(1, 16, 8, 8)
    a = net.conv(net.x, 16)
    module = net.module(net(MaxPool(a, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))))
    assert layout_of(assigned(module), a).zero == ()


def test_no_halo_that_costs_several_times_the_image() -> None:
    net = Net(1, 16, 2, 2)
    a = net.conv(net.x, 16)
    module = net.module(net.conv(a, 16, size=7, pad=3))
    assert layout_of(assigned(module), a).zero == ()


def test_halo_of_a_concatenation_serves_its_parts() -> None:
    net = Net(1, 16, 6, 6)
    a, b = net.conv(net.x, 16), net.conv(net.x, 32)
    c = net(Concat((a, b), 1))
    module = net.module(net.conv(a, 8, size=3, pad=1), net.conv(c, 8))
    after = assigned(module)
    assert layout_of(after, c).zero == ((0, 0), (0, 0), (1, 1), (1, 1))
    assert layout_of(after, a).zero == ((0, 0), (0, 0), (1, 1), (1, 1))
    low = lowered(module)
    assert sum(isinstance(op, Alloc) for op in program(low).body) <= 4


def test_the_callers_image_is_copied_into_a_halo_once_for_all_readers() -> None:
    net = Net(1, 3, 9, 9)
    module = net.module(net.conv(net.x, 16, size=3, pad=1), net.conv(net.x, 16, size=5, pad=2))
    (copy,) = relayouts(assigned(module))
    assert copy.result.tensor.layout.order == ()  # three channels: their place does not matter
    assert copy.result.tensor.layout.zero == ((0, 0), (0, 0), (2, 2), (2, 2))


def test_rows_that_would_meet_in_the_cache_are_set_apart() -> None:
    net = Net(1, 8, 2, 2)
    a = net.conv(net.x, 1024)
    module = net.module(net.conv(a, 8))
    assert layout_of(assigned(module), a).pad == ((0, 0), (0, 16), (0, 0), (0, 0))
    assert layout_of(assigned(module, ASSIGN + ":pitch=0"), a).pad == ()


@pytest.mark.parametrize(("outputs", "block"), [(16, 16), (10, 16), (32, 32), (33, 32), (256, 32)])
def test_convolution_weights_are_packed_in_panels(outputs: int, block: int) -> None:
    net = Net(1, 16, 4, 4)
    assert weights(net.module(net.conv(net.x, outputs, size=3, pad=1))) == [Layout(NHWC, ((0, block),))]


def test_grouped_weights_are_packed_where_groups_end_at_panels() -> None:
    net = Net(1, 16, 4, 4)
    assert weights(net.module(net.conv(net.x, 64, groups=2))) == [Layout((0, 2, 3, 1), ((0, 32),))]
    net = Net(1, 16, 4, 4)
    assert weights(net.module(net.conv(net.x, 24, groups=2, size=3))) == [Layout((2, 3, 1, 0))]


def test_depthwise_weights_have_channels_innermost() -> None:
    net = Net(1, 32, 6, 6)
    a = net.conv(net.x, 32)
    b = net.conv(a, 32, size=3, pad=1, groups=32)
    module = net.module(net.conv(b, 8))
    assert weights(module)[1] == Layout((1, 2, 3, 0))
    assert layout_of(assigned(module), b).order == NHWC


def test_matrix_weights_are_packed_in_wider_panels_for_few_rows() -> None:
    for rows, block in ((1, 64), (4, 64), (5, 32), (100, 32)):
        net = Net(rows, 20)
        assert weights(net.module(net(MatMul(net.x, net.constant(20, 96))))) == [Layout((1, 0), ((1, block),))]


def test_matrix_graphs_stay_row_major() -> None:
    net = Net(2, 12, 20)
    a = net(Relu(net(MatMul(net.x, net.constant(20, 96)))))
    module = net.module(net(MatMul(a, net.constant(96, 8))))
    after = assigned(module)
    assert all(op.result.tensor.layout == ROW_MAJOR for op in after.main.body if isinstance(op, KernelOp))


def test_a_classifier_head_flattens_without_a_copy() -> None:
    net = Net(1, 16, 4, 4)
    pooled = net(Mean(net.conv(net.x, 32), (2, 3), True))
    flat = net(Reshape(pooled, (1, 32)))
    module = net.module(net(MatMul(flat, net.constant(32, 10))))
    assigned(module)
    low = lowered(module)
    assert program(low).attributes["arena_bytes"] > 0
    assert [op.loc for op in program(low).body if op.op_name == "p.call"] == ["node1", "node1", "node2", "node5"]


def test_constants_added_to_images_follow_their_order() -> None:
    net = Net(1, 16, 4, 4)
    module = net.module(net.conv(net(Add(net.conv(net.x, 16), net.constant(16, 4, 4))), 16))
    assert weights(module)[1] == ROW_MAJOR  # another rank: read as it is
    net = Net(1, 16, 4, 4)
    module = net.module(net.conv(net(Add(net.conv(net.x, 16), net.constant(1, 16, 4, 4))), 16))
    assert weights(module)[1] == Layout(NHWC)
    assigned(module)


@pytest.mark.parametrize("rank", [3, 5])
def test_other_ranks_have_channels_last_too(rank: int) -> None:
    net = Net(1, 16, *[5] * (rank - 2))
    ones = (1,) * (rank - 2)

    def conv(x: Value, size: int) -> Value:
        weight = net.constant(16, 16, *[size] * (rank - 2))
        return net(Conv(x, weight, None, ones, ((size // 2, size // 2),) * (rank - 2), ones, 1))

    a = conv(net.x, 1)
    layout = layout_of(assigned(net.module(net(Exp(conv(a, 3))))), a)
    assert layout.order == (0, *range(2, rank), 1) and layout.zero == ((0, 0), (0, 0), *[(1, 1)] * (rank - 2))


def test_average_pool_with_zeros_reads_the_halo() -> None:
    net = Net(1, 16, 6, 6)
    a = net.conv(net.x, 16)
    module = net.module(net.conv(net(AveragePool(a, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), True)), 16))
    assigned(module)


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_keep_their_meaning_down_to_memory(seed: int) -> None:
    maker = GraphMaker(1000 + seed)
    module = maker.grow(steps=14)
    inputs = maker.inputs()
    want = run_graph(module, inputs)
    for fuse in ("", "fuse-kernels,"):
        low = lowered(module, f"form-kernels,{fuse}assign-layouts,lower-program,plan-memory")
        got = run_program(low, inputs)
        for name, array in want.items():
            scale = max(1.0, float(np.abs(array).max(initial=0.0)))
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=3e-5 * scale, err_msg=name)


def test_a_transposition_that_only_renames_bytes_is_a_view() -> None:
    net = Net(1, 6, 32)
    a = net(Exp(net.x))
    heads = net(Transpose(net(Reshape(a, (1, 6, 4, 8))), (0, 2, 1, 3)))
    module = net.module(net(Softmax(heads, 3)))
    after = assigned(module, "form-kernels,assign-layouts")
    assert layout_of(after, heads) == Layout((0, 2, 1, 3))
    assert sum(op.op_name == "p.call" for op in program(lowered(module)).body) == 2


def test_a_transposition_that_moves_the_last_dimension_is_copied() -> None:
    net = Net(1, 6, 32)
    swapped = net(Transpose(net(Exp(net.x)), (0, 2, 1)))
    assert layout_of(assigned(net.module(net(Softmax(swapped, 2)))), swapped) == ROW_MAJOR
