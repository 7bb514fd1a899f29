"""Random small graphs of the tensor form, for differential tests: every value is used, shapes stay small."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from planish.ir.constants import Constant, ConstantData
from planish.ir.core import Graph, Module, Op, Return, Value
from planish.ir.ops.activation import Clip, Relu, Silu
from planish.ir.ops.arith import Abs, Add, Div, Maximum, Mul, Neg, Pow, Sigmoid, Sub, Tanh
from planish.ir.ops.linalg import MatMul
from planish.ir.ops.nn import AveragePool, BatchNorm, Conv, LayerNorm, MaxPool, Softmax
from planish.ir.ops.reduce import Max, Mean, Sum
from planish.ir.ops.shape import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from planish.ir.types import tensor

LIMIT = 4096  # elements of the largest value


class GraphMaker:
    """Grows a graph; `values` are those that may become operands."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        shapes = [(1, 4, 6, 6), (2, 8, 4), (1, 8, 4, 4), (2, 3, 4, 4), (1, 6, 12)]
        self.graph = Graph("main", [tensor("f32", *self.rng.choice(shapes)) for _ in range(2)], ["x", "y"])
        self.values: list[Value] = list(self.graph.params)

    def add(self, op: Op) -> Value:
        """Insert `op`; its result may be used from now on."""
        self.graph.body.append(op)
        op.loc = f"{type(op).__name__.lower()}{len(self.values)}"
        self.values.append(op.result)
        return op.result

    def constant(self, *shape: int, scale: float = 1.0, low: float | None = None) -> Value:
        """A constant of normally distributed numbers (uniform from `low` to `low + 1`)."""
        data = self.numbers.normal(size=shape) * scale if low is None else self.numbers.random(shape) + low
        return self.graph.body.append(Constant(ConstantData.of(data.astype(np.float32)))).result

    def splat(self, number: float, *shape: int) -> Value:
        """A constant of one number."""
        return self.graph.body.append(Constant(ConstantData.splat(number, "f32", shape))).result

    def pick(self, rank: Sequence[int] = (1, 2, 3, 4, 5)) -> Value | None:
        """A value of one of the ranks; recent ones more often."""
        fitting = [v for v in self.values if v.tensor.rank in rank]
        return self.rng.choice(fitting[-4:] if self.rng.random() < 0.7 else fitting) if fitting else None

    def grow(self, steps: int) -> Module:
        """`steps` operations; the values that nobody uses are the results."""
        kinds: list[Callable[[], Value | None]] = [
            self.unary, self.unary, self.binary, self.binary, self.numeric, self.channel, self.conv, self.pool,
            self.norm, self.matmul, self.reshape, self.transpose, self.slice, self.pad, self.concat, self.reduce,
            self.softmax, self.expand, self.gather,
        ]  # fmt: skip
        for _ in range(steps):
            self.rng.choice(kinds)()
        unused = [v for v in self.values if not v.uses and v.op is not None] or [self.values[0]]
        self.graph.body.append(Return(tuple(unused)))
        self.graph.result_names = [f"r{n}" for n in range(len(unused))]
        return Module([self.graph])

    def inputs(self) -> dict[str, np.ndarray]:
        """Arrays for the graph's parameters."""
        return {p.name: self.numbers.normal(size=p.tensor.static_shape).astype(np.float32) for p in self.graph.params}

    # -- one operation each -------------------------------------------------------------------------------------

    def unary(self) -> Value | None:
        x = self.pick()
        cls = self.rng.choice([Relu, Neg, Abs, Sigmoid, Tanh, Silu])
        return None if x is None else self.add(cls(x))

    def binary(self) -> Value | None:
        x = self.pick()
        fitting = [] if x is None else [v for v in self.values if v.tensor.shape == x.tensor.shape]
        cls = self.rng.choice([Add, Sub, Mul, Maximum])
        return None if x is None else self.add(cls(x, self.rng.choice(fitting)))

    def numeric(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        number = self.splat(self.rng.choice([0.0, 1.0, 2.0, 0.5, -3.0]))
        kind = self.rng.randrange(6)
        if kind == 0:
            return self.add(Clip(x, self.splat(-1.0), self.splat(1.0)))
        if kind == 1:
            return self.add(Pow(x, self.splat(self.rng.choice([2.0, 3.0]))))
        if kind == 2:
            return self.add(Div(x, self.splat(self.rng.choice([4.0, 3.0]))))
        cls = self.rng.choice([Add, Sub, Mul])
        return self.add(cls(number, x) if kind == 3 else cls(x, number))

    def channel(self) -> Value | None:
        x = self.pick((3, 4))
        if x is None:
            return None
        c = self.constant(x.tensor.static_shape[1], *[1] * (x.tensor.rank - 2))
        return self.add(self.rng.choice([Add, Mul])(x, c))

    def conv(self) -> Value | None:
        x = self.pick((4,))
        if x is None or min(x.tensor.static_shape[2:]) < 3:
            return None
        channels = x.tensor.static_shape[1]
        groups = self.rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
        outputs, size, pad = groups * self.rng.choice([1, 2]), self.rng.choice([1, 3]), self.rng.choice([0, 1])
        w = self.constant(outputs, channels // groups, size, size, scale=0.5)
        bias = self.constant(outputs) if self.rng.random() < 0.5 else None
        strides = (self.rng.choice([1, 2]), 1)
        return self.add(Conv(x, w, bias, strides, ((pad, pad), (pad, 0)), (1, 1), groups))

    def pool(self) -> Value | None:
        x = self.pick((4,))
        if x is None or min(x.tensor.static_shape[2:]) < 2:
            return None
        cls = self.rng.choice([MaxPool, AveragePool])
        return self.add(cls(x, (2, 2), (1, 2), ((0, 1), (1, 0)), (1, 1)))

    def norm(self) -> Value | None:
        x = self.pick((3, 4))
        if x is None:
            return None
        if self.rng.random() < 0.4:
            last = x.tensor.static_shape[-1]
            return self.add(LayerNorm(x, self.constant(last), self.constant(last), x.tensor.rank - 1, 1e-5))
        c = x.tensor.static_shape[1]
        scale, bias, mean, var = self.constant(c), self.constant(c), self.constant(c), self.constant(c, low=0.5)
        return self.add(BatchNorm(x, scale, bias, mean, var, 1e-5))

    def matmul(self) -> Value | None:
        x = self.pick((2, 3))
        if x is None:
            return None
        if self.rng.random() < 0.5:
            return self.add(MatMul(x, self.constant(x.tensor.static_shape[-1], 5, scale=0.3)))
        order = (*range(x.tensor.rank - 2), x.tensor.rank - 1, x.tensor.rank - 2)
        return self.add(MatMul(x, self.add(Transpose(x, order))))

    def reshape(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        size = math.prod(x.tensor.static_shape)
        shape: list[int] = []
        while size > 1 and len(shape) < 4:
            factor = self.rng.choice([d for d in (1, 2, 3, 4, 6, 8, size) if size % d == 0])
            shape.append(factor)
            size //= factor
        shape[-1:] = [shape[-1] * size] if shape else [1]
        self.rng.shuffle(shape)
        return self.add(Reshape(x, tuple(shape)))

    def transpose(self) -> Value | None:
        x = self.pick((2, 3, 4))
        if x is None:
            return None
        perm = list(range(x.tensor.rank))
        self.rng.shuffle(perm)
        moved = self.add(Transpose(x, tuple(perm)))
        if self.rng.random() < 0.3:
            back = tuple(perm.index(i) for i in range(len(perm)))
            return self.add(Transpose(self.add(Relu(moved)), back))
        return moved

    def slice(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        axis = self.rng.randrange(x.tensor.rank)
        starts, stops = [0] * x.tensor.rank, list(x.tensor.static_shape)
        steps = [1] * x.tensor.rank
        if stops[axis] > 1:
            starts[axis] = self.rng.randrange(stops[axis] - 1)
            steps[axis] = self.rng.choice([1, 1, 2])
        return self.add(Slice(x, tuple(starts), tuple(stops), tuple(steps)))

    def pad(self) -> Value | None:
        x = self.pick((3, 4))
        if x is None or math.prod(x.tensor.static_shape) > LIMIT // 4:
            return None
        pads = [(0, 0)] * 2 + [(self.rng.randrange(2), self.rng.randrange(2)) for _ in range(x.tensor.rank - 2)]
        return self.add(Pad(x, None, tuple(pads)))

    def concat(self) -> Value | None:
        x = self.pick()
        if x is None or math.prod(x.tensor.static_shape) > LIMIT // 4:
            return None
        fitting = [v for v in self.values if v.tensor.shape == x.tensor.shape]
        return self.add(Concat((x, self.rng.choice(fitting), x), self.rng.randrange(x.tensor.rank)))

    def reduce(self) -> Value | None:
        x = self.pick((2, 3, 4))
        axes = () if x is None else tuple(sorted(self.rng.sample(range(x.tensor.rank), 1)))
        cls = self.rng.choice([Sum, Mean, Max])
        reduced = None if x is None else self.add(cls(x, axes, True))
        return None if x is None or reduced is None else self.add(Sub(x, reduced))

    def softmax(self) -> Value | None:
        x = self.pick()
        return None if x is None else self.add(Softmax(x, self.rng.randrange(x.tensor.rank)))

    def expand(self) -> Value | None:
        x = self.pick((1, 2, 3))
        if x is None or math.prod(x.tensor.static_shape) > LIMIT // 4:
            return None
        return self.add(Expand(x, (2, *x.tensor.static_shape)))

    def gather(self) -> Value | None:
        x = self.pick((2, 3))
        if x is None:
            return None
        size = x.tensor.static_shape[1]
        index = self.graph.body.append(Constant(ConstantData.of(self.numbers.integers(0, size, 3)))).result
        return self.add(Gather(x, index, 1))
