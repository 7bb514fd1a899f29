"""Lowering a graph of kernels to a program: shared kernels, outputs, views, halos."""

from __future__ import annotations

import numpy as np
import pytest
from _lowering import Net, agree, count_calls, lowered, program

from planish.ir.core import Module, Value
from planish.ir.errors import PlanishError
from planish.ir.interp import _ProgramMachine
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel
from planish.ir.ops.activation import Relu
from planish.ir.ops.arith import Add, Exp, Mul
from planish.ir.ops.nn import MaxPool
from planish.ir.ops.shape import Concat, Reshape, Slice, Transpose
from planish.ir.program import Alloc, Call, Output, View
from planish.ir.text import parse_module, print_module
from planish.ir.types import tensor

PLAIN = "form-kernels,lower-program,plan-memory"


def cut(net: Net, x: Value, axis: int, start: int, stop: int) -> Value:
    """x[start:stop] along `axis`."""
    dims = x.tensor.static_shape
    starts = tuple(start if i == axis else 0 for i in range(len(dims)))
    stops = tuple(stop if i == axis else n for i, n in enumerate(dims))
    return net(Slice(x, starts, stops, (1,) * len(dims)))


def check(module: Module, calls: int, passes: str = PLAIN) -> Module:
    """Lower, compare with the graph, count the calls, go through the text form."""
    low = lowered(module, passes)
    agree(module, low)
    text = print_module(low)
    assert print_module(parse_module(text)) == text
    assert count_calls(low) == calls, text
    return low


def test_equal_kernels_are_shared_whatever_their_dimensions_are_called() -> None:
    net = Net(2, 3)
    a = net(Exp(net(Exp(net.x))))
    low = check(net.module(net(Relu(a))), calls=3)
    assert [k for k, f in low.functions.items() if isinstance(f, Kernel)] == ["k0", "k1"]
    assert [op.kernel for op in program(low).body if isinstance(op, Call)] == ["k0", "k0", "k1"]


def test_interface_and_node_names_are_kept() -> None:
    net = Net(2, 3, extra=[tensor("f32", 2, 3)])
    sum_ = net(Add(net.x, net.graph.params[1]))
    low = check(net.module(net(Exp(sum_))), calls=2)
    attributes = program(low).attributes
    assert attributes["inputs"] == [("x", tensor("f32", 2, 3)), ("x1", tensor("f32", 2, 3))]
    assert attributes["outputs"] == [("y0", tensor("f32", 2, 3))]
    assert [op.loc for op in program(low).body if isinstance(op, Call)] == ["node0", "node1"]


def test_what_is_only_an_output_is_written_in_place_everything_else_is_copied() -> None:
    net = Net(2, 3)
    a = net(Exp(net.x))
    b = net(Relu(a))
    weight = net.constant(3)
    # a: used besides; b: once; b again would be used twice; the input; a constant
    low = check(net.module(a, b, net.x, weight), calls=2 + 3)
    outputs = [op for op in program(low).body if isinstance(op, Output)]
    assert sorted(op.index for op in outputs) == [0, 1, 2, 3]


def test_one_value_returned_twice_is_copied_to_both() -> None:
    net = Net(4)
    a = net(Exp(net.x))
    check(net.module(a, a), calls=3)


def test_operands_of_a_concatenation_are_written_into_it() -> None:
    net = Net(1, 4, 5, 5)
    a, b = net(Exp(net.x)), net(Relu(net.x))
    c = net(Concat((a, b), 1))
    low = check(net.module(net(Exp(c))), calls=3)
    views = [op for op in program(low).body if isinstance(op, View)]
    assert [v.offset for v in views] == [0, 4 * 25]
    assert [v.result.tensor.layout.pad[1] for v in views] == [(0, 4), (0, 4)]


def test_kernels_that_differ_only_in_where_they_write_are_one() -> None:
    net = Net(1, 4, 5, 5)
    parts = [net(Exp(net.x)) for _ in range(3)]
    low = check(net.module(net(Relu(net(Concat(tuple(parts), 1))))), calls=4)
    assert [op.kernel for op in program(low).body if isinstance(op, Call)] == ["k0", "k0", "k0", "k1"]


def test_other_readers_of_an_operand_read_it_through_the_view() -> None:
    net = Net(1, 4, 3, 3)
    a = net(Exp(net.x))
    c = net(Concat((a, net(Relu(a))), 1))
    check(net.module(net(Mul(c, c)), net(Relu(a))), calls=4)


def test_inputs_constants_and_what_lies_elsewhere_are_copied_into_a_concatenation() -> None:
    net = Net(1, 4, 3, 3)
    a = net(Exp(net.x))
    first = net(Concat((a, net.x, net.constant(1, 2, 3, 3)), 1))
    second = net(Concat((a, first, a), 1))
    # a lies in `second`, `first` too, so a is copied into `first` along with the input and the constant (one kernel),
    # and once more into `second`
    check(net.module(net(Exp(second))), calls=1 + 1 + 1 + 1)


def test_growing_concatenations_nest_without_copies() -> None:
    net = Net(1, 4, 3, 3)
    x = net(Exp(net.x))
    for _ in range(4):
        x = net(Concat((x, net(Relu(cut(net, x, 1, 0, 2)))), 1))
    low = check(net.module(net(Exp(x))), calls=1 + 4 + 1)
    assert sum(isinstance(op, Alloc) for op in program(low).body) == 1


def test_concatenation_that_is_an_output_is_written_by_its_operands() -> None:
    net = Net(2, 3)
    low = check(net.module(net(Concat((net(Exp(net.x)), net(Relu(net.x))), 0))), calls=2)
    assert not any(isinstance(op, Alloc) for op in program(low).body)


def test_a_value_twice_in_one_concatenation_is_copied_once() -> None:
    net = Net(2, 3)
    a = net(Exp(net.x))
    check(net.module(net(Relu(net(Concat((a, a), 1))))), calls=3)


def test_slices_and_splits_are_views() -> None:
    net = Net(2, 8, 3)
    a = net(Exp(net.x))
    halves = [net(Relu(cut(net, a, 1, 0, 3))), net(Exp(cut(net, a, 1, 3, 8)))]
    check(net.module(*halves), calls=3)


def test_slice_with_steps_is_a_kernel() -> None:
    net = Net(2, 8)
    a = net(Exp(net.x))
    check(net.module(net(Relu(net(Slice(a, (0, 1), (2, 8), (1, 2)))))), calls=3)


def test_a_slice_of_a_slice_and_a_slice_of_a_concatenation() -> None:
    net = Net(2, 8)
    a, b = net(Exp(net.x)), net(Relu(net.x))
    c = net(Concat((a, b), 1))
    inner = cut(net, cut(net, c, 1, 4, 12), 1, 2, 6)
    check(net.module(net(Exp(inner))), calls=3)


@pytest.mark.parametrize("shape", [(48,), (2, 24), (4, 12), (2, 2, 2, 6), (8, 6), (3, 16), (16, 3), (1, 48, 1)])
def test_reshapes_of_contiguous_buffers_are_views(shape: tuple[int, ...]) -> None:
    net = Net(4, 2, 6)
    a = net(Reshape(net(Exp(net.x)), shape))
    low = check(net.module(net(Relu(a))), calls=2)
    assert sum(isinstance(op, View) for op in program(low).body) == 1


def test_transposition_of_dimensions_of_size_one_is_a_view_others_are_kernels() -> None:
    net = Net(4, 1, 6)
    a = net(Exp(net.x))
    check(net.module(net(Relu(net(Transpose(a, (1, 0, 2)))))), calls=2)
    net = Net(4, 2, 6)
    a = net(Exp(net.x))
    check(net.module(net(Relu(net(Transpose(a, (1, 0, 2)))))), calls=3)


def test_reshape_of_an_input_is_a_view_but_as_an_output_a_copy() -> None:
    net = Net(4, 6)
    check(net.module(net(Reshape(net.x, (24,)))), calls=1)
    net = Net(4, 6)
    check(net.module(net(Exp(net(Reshape(net.x, (24,)))))), calls=1)


def test_reshape_of_a_part_of_a_concatenation_is_copied() -> None:
    net = Net(2, 4)
    a = net(Exp(net.x))
    c = net(Concat((a, net(Relu(net.x))), 1))
    check(net.module(net(Exp(c)), net(Relu(net(Reshape(a, (8,)))))), calls=5)


def test_top_level_locals_become_arena_buffers() -> None:
    net = Net(3, 7)
    k = KernelBuilder([net.x.tensor], [net.x.tensor])
    row = k.local("f32", 7)
    with k.map(c=7) as (c,):
        with k.reduce(r=3, init=[k.const(0.0, "f32")]) as total:
            total.yield_(k.read(k.inputs[0], total.dims[0], c))
        k.write(total.result, row, c)
    with k.map(n=3, d=7) as (n, d):
        k.write(k.div(k.read(k.inputs[0], n, d), k.read(row, d)), k.outputs[0], n, d)
    low = check(net.module(net(k.finish([net.x]))), calls=1, passes="lower-program,plan-memory")
    (call,) = (op for op in program(low).body if isinstance(op, Call))
    kernel = low.functions["k0"]
    assert isinstance(kernel, Kernel) and kernel.outputs == 2 and len(call.args) == 3
    assert isinstance(call.args[2].op, Alloc) and not any(op.op_name == "k.local" for op in kernel.body)


def test_halo_of_zeros_is_written_in_every_run() -> None:
    net = Net(1, 16, 6, 6)
    a = net.conv(net.x, 8)
    b = net.conv(a, 8, size=3, pad=1)
    c = net.conv(net(Concat((b, net(Exp(b))), 1)), 8, size=5, pad=2, stride=2)
    module = net.module(c)
    agree(module, lowered(module))
    low = lowered(module, "form-kernels,assign-layouts,lower-program")
    given = np.random.default_rng(0).standard_normal((1, 16, 6, 6)).astype(np.float32)
    body = program(low).body
    inputs = {op: given for op in body if op.op_name == "p.input"}
    machine = _ProgramMachine(low, program(low), inputs, {})
    machine.region(body)
    padded = [v for v in machine.buffers if v.op is not None and v.tensor.layout.zero]
    assert len(padded) >= 3
    for value in padded:
        layout, shape = value.tensor.layout, value.tensor.static_shape
        for index in np.ndindex(*(n + sum(layout.zeros(d)) for d, n in enumerate(shape))):
            at = [i - layout.zeros(d)[0] for d, i in enumerate(index)]
            if any(not 0 <= i < n for i, n in zip(at, shape, strict=True)):
                assert machine.buffers[value].data[layout.offset(shape, at).constant] == 0, (value, at)


def test_pooling_and_windows_read_through_views() -> None:
    net = Net(1, 8, 6, 6)
    a = net.conv(net.x, 16)
    pooled = net(MaxPool(cut(net, a, 1, 4, 12), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)))
    module = net.module(net.conv(net(Concat((pooled, a), 1)), 8, size=3, pad=1))
    agree(module, lowered(module))


def test_what_is_no_kernel_is_named() -> None:
    net = Net(2, 2)
    module = net.module(net(Exp(net.x)))
    with pytest.raises(PlanishError, match=r"lower-program: expected kernels only, got arith.exp \(node0\); run form-"):
        lowered(module, "lower-program")
