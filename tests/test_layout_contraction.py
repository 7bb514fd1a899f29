"""Contractions are recognised by their maps, whatever operator they come from."""

from __future__ import annotations

import pytest
from _lowering import Net, lowered

from planish.ir.core import Value
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import KernelOp, LoopDim, Read, Write
from planish.ir.ops.conv import Conv
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import AveragePool
from planish.ir.ops.norm import Softmax
from planish.ir.ops.shape import Transpose
from planish.ir.types import Layout, TensorType, tensor
from planish.passes.analysis.access import accesses, adjacent, stride
from planish.passes.analysis.contraction import Contraction, analyse


def only(net: Net, value: Value, *constants: int, passes: str = "form-kernels") -> Contraction:
    """The only contraction of the only kernel that gives `value`."""
    module = lowered(net.module(value), passes)
    kernel = module.main.results[0].op
    assert isinstance(kernel, KernelOp)
    (found,) = analyse(kernel, [kernel.buffers[i] for i in constants])
    return found


def shown(c: Contraction) -> dict[str, str]:
    """Names of the dimensions of each class, those of extent 1 left out."""

    def names(dims: tuple[LoopDim, ...]) -> str:
        return " ".join(d.name for d in dims if d.extent != 1)

    return {k: names(getattr(c, k)) for k in ("batch", "m", "n", "k", "free") if names(getattr(c, k))}


def test_matrix_product() -> None:
    net = Net(3, 20)
    c = only(net, net(MatMul(net.x, net.constant(20, 96))), 1)
    found = shown(c)
    assert [len(found[k].split()) for k in ("m", "n", "k")] == [1, 1, 1] and "batch" not in found
    assert c.b.constant and not c.a.constant and not c.windowed and c.a.direct and c.b.direct


def test_batched_matrix_product() -> None:
    net = Net(2, 5, 3, 20, extra=[tensor("f32", 2, 5, 20, 7)])
    found = shown(only(net, net(MatMul(net.x, net.graph.params[1]))))
    assert [len(found[k].split()) for k in ("batch", "m", "n", "k")] == [2, 1, 1, 1]


def test_convolution() -> None:
    net = Net(2, 8, 6, 6)
    c = only(net, net.conv(net.x, 16, size=3, pad=1), 1)
    assert shown(c) == {"m": "n h w", "n": "o", "k": "c i j"}
    assert c.windowed


def test_grouped_convolution() -> None:
    net = Net(1, 8, 6, 6)
    assert shown(only(net, net.conv(net.x, 16, size=3, groups=2), 1)) == {
        "batch": "g",
        "m": "h w",
        "n": "o",
        "k": "c i j",
    }


def test_depthwise_convolution_has_channels_as_batch_and_no_columns() -> None:
    net = Net(1, 8, 6, 6)
    assert shown(only(net, net.conv(net.x, 8, size=3, groups=8), 1)) == {"batch": "o", "m": "h w", "k": "i j"}


def test_the_constant_factor_is_b_whichever_comes_first() -> None:
    net = Net(20, 7)
    c = only(net, net(MatMul(net.constant(3, 20), net.x)), 0)
    assert c.b.constant and c.b.main.buffer.index == 0


def test_the_factor_that_is_contiguous_along_columns_is_b() -> None:
    net = Net(3, 20, extra=[tensor("f32", 20, 7)])
    c = only(net, net(MatMul(net.x, net.graph.params[1])))
    assert c.b.main.buffer.index == 1


def test_prologues_belong_to_their_factor() -> None:
    k = KernelBuilder([tensor("u8", 4, 8), tensor("i8", 8, 16), tensor("u8")], [tensor("i32", 4, 16)])
    with k.map(m=4, n=16) as (m, n):
        with k.reduce(r=8, init=[k.const(0, "i32")]) as handle:
            (r,) = handle.dims
            a = k.sub(k.cast(k.read(k.inputs[0], m, r), "i32"), k.cast(k.read(k.inputs[2]), "i32"))
            handle.yield_(k.mul(a, k.cast(k.read(k.inputs[1], r, n), "i32")))
        k.write(handle.result, k.outputs[0], m, n)
    op = k.finish([Value(b.type) for b in k.inputs])
    (c,) = analyse(op, [op.buffers[1]])
    assert shown(c) == {"m": "m", "n": "n", "k": "r"}
    assert len(c.a.reads) == 2 and c.a.main.buffer is op.buffers[0] and not c.a.direct and c.b.constant


def test_transposed_operands_are_followed() -> None:
    net = Net(20, 3)
    c = only(
        net, net(MatMul(net(Transpose(net.x, (1, 0))), net.constant(20, 8))), 1, passes="form-kernels,fuse-kernels"
    )
    assert stride(c.a.main, c.m[0].name) == 1 and stride(c.a.main, c.k[0].name) == 3


@pytest.mark.parametrize("kind", ["softmax", "average pool"])
def test_other_sums_are_no_contractions(kind: str) -> None:
    net = Net(1, 3, 8, 8)
    pool = AveragePool(net.x, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), True)
    module = lowered(net.module(net(Softmax(net.x, 1) if kind == "softmax" else pool)), "form-kernels")
    assert [analyse(op) for op in module.main.body if isinstance(op, KernelOp)] == [[]]


def test_strides_in_a_blocked_layout() -> None:
    x = TensorType("f32", (1, 64, 10, 10), Layout((0, 2, 3, 1), (), ((0, 0), (0, 0), (1, 1), (1, 1))))
    w = TensorType("f32", (48, 64, 3, 3), Layout((0, 2, 3, 1), ((0, 32),)))
    k = KernelBuilder([x, w], [TensorType("f32", (1, 48, 10, 10), Layout((0, 2, 3, 1)))])
    with k.map(o=48, h=10, w=10) as (o, h, v):
        zero = k.const(0.0, "f32")
        with k.reduce(c=64, i=3, j=3, init=[zero]) as r:
            c, i, j = r.dims
            r.yield_(k.mul(k.read(k.inputs[0], 0, c, h + i - 1, v + j - 1, fill=zero), k.read(k.inputs[1], o, c, i, j)))
        k.write(r.result, k.outputs[0], 0, o, h, v)
    op = k.finish([Value(x), Value(w)])
    a, b, out = accesses(op.region)
    assert isinstance(a, Read) and isinstance(out, Write)
    assert [stride(a, d) for d in ("o", "h", "w", "c", "i", "j")] == [0, 12 * 64, 64, 1, 12 * 64, 64]
    assert [stride(b, d) for d in ("o", "h", "c", "i", "j")] == [None, 0, 32, 3 * 64 * 32, 64 * 32]
    assert adjacent(b, "o") == 32 and adjacent(out, "o") > 1000 and adjacent(a, "h") == 0


def test_a_bias_is_no_part_of_the_contraction() -> None:
    net = Net(1, 4, 5, 5)
    bias = net.constant(8)
    conv = Conv(net.x, net.constant(8, 4, 3, 3), bias, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    c = only(net, net(conv), 1)
    assert shown(c) == {"m": "h w", "n": "o", "k": "c i j"} and len(c.a.reads) == len(c.b.reads) == 1
