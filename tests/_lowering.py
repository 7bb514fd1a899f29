"""Small graphs for tests of layouts, lowering and memory, and the way through these passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.constants import Constant, ConstantData
from planish.ir.core import Graph, Module, Op, Return, Value
from planish.ir.interp import run_graph, run_program
from planish.ir.ops.conv import Conv
from planish.ir.program import Call, Program
from planish.ir.target_info import TargetInfo
from planish.ir.types import TensorType
from planish.passes import PassContext, PassManager

TARGET = TargetInfo("x86_64-unknown-linux-gnu", "test", ("+avx512f",), 64, 32)


class Net:
    """A graph under construction: `net.x` is its input, `net(Relu(v))` adds an operation and gives its result."""

    def __init__(self, *shape: int, dtype: str = "f32", extra: Sequence[TensorType] = ()) -> None:
        names = ["x", *(f"x{i + 1}" for i in range(len(extra)))]
        self.graph = Graph("main", [TensorType(dtype, shape), *extra], names)
        self.x = self.graph.params[0]
        self.rng = np.random.default_rng(5)

    def __call__(self, op: Op) -> Value:
        op.loc = op.loc or f"node{len(self.graph.body)}"
        return self.graph.body.append(op).result

    def constant(self, *shape: int) -> Value:
        """A constant of random values."""
        return self(Constant(ConstantData.of(self.rng.standard_normal(shape).astype(np.float32))))

    def conv(self, x: Value, channels: int, size: int = 1, stride: int = 1, pad: int = 0, groups: int = 1) -> Value:
        """A convolution with random weights."""
        weight = self.constant(channels, int(x.tensor.static_shape[1]) // groups, size, size)
        pads = ((pad, pad), (pad, pad))
        return self(Conv(x, weight, None, (stride, stride), pads, (1, 1), groups))

    def module(self, *results: Value) -> Module:
        """The finished module, which returns `results` as y0, y1, ..."""
        self.graph.result_names = [f"y{i}" for i in range(len(results))]
        self.graph.body.append(Return(tuple(results)))
        return Module([self.graph])


def lowered(module: Module, passes: str = "form-kernels,assign-layouts,lower-program,plan-memory") -> Module:
    """A copy of `module` after `passes`."""
    copy = module.clone()
    PassManager.parse(passes, PassContext(TARGET)).run(copy)
    return copy


def program(module: Module) -> Program:
    """The module's program."""
    found = module.functions["program"]
    assert isinstance(found, Program)
    return found


def count_calls(module: Module) -> int:
    """Calls in the module's program."""
    return sum(isinstance(op, Call) for op in program(module).body)


def agree(module: Module, low: Module) -> None:
    """The lowered program computes what the graph does, with memory that is poisoned where nobody wrote."""
    rng = np.random.default_rng(3)
    inputs = {p.name: rng.standard_normal(p.tensor.static_shape).astype(np.float32) for p in module.main.params}
    want, got = run_graph(module, inputs), run_program(low, inputs)
    assert want.keys() == got.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
