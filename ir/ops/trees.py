"""Ensembles of decision trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np

from ..core import Value
from ..errors import expect
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import DTYPES, TensorType, Type, is_float
from .base import TensorOp, fresh
from .windows import greatest, least

__all__ = ["EQUAL", "GREATER", "LESS", "UNORDERED", "TreeEnsemble"]

LESS, EQUAL, GREATER, UNORDERED = 1, 2, 4, 8  # how a feature compares with a threshold


class TreeEnsemble(TensorOp, name="ml.trees"):
    """What the leaves of all trees that a row of `x` [n, features] reaches say, aggregated: [n, targets].

    Trees are nodes in tables: node i looks at `feature[i]`, compares it with `threshold[i]`, and goes to `yes[i]` where
    the outcome (`LESS`, `EQUAL`, `GREATER`, or `UNORDERED` for NaN) is among the bits of `test[i]`, else to `no[i]`. A
    leaf leads to itself. `roots` are the first nodes; after `depth` steps every row is at a leaf. Node i counts as row
    `leaf[i]` of `weights` [leaves, targets]; `used` says of each weight whether it is there (others count for `sum` as
    0, for `min` and `max` not at all; a target without any is 0).

    Source: ONNX TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier."""

    aggregates: ClassVar[tuple[str, ...]] = ("sum", "min", "max")

    x: Value
    feature: Value
    threshold: Value
    test: Value
    yes: Value
    no: Value
    leaf: Value
    roots: Value
    weights: Value
    used: Value
    depth: int
    aggregate: str = "sum"

    def infer(self) -> Sequence[Type]:
        x, weights = self.x.tensor, self.weights.tensor
        if any(v.tensor.shape is None for v in self.inputs[1:]):
            return [TensorType(weights.dtype, None)]
        expect(is_float(x.dtype), f"expected floats, got {x}")
        expect(x.shape is None or x.rank == 2, f"expected rows of features, got {x}")
        expect(self.threshold.tensor.dtype == x.dtype, f"expected thresholds of {x.dtype}, got {self.threshold.type}")
        expect(weights.rank == 2 and is_float(weights.dtype), f"expected weights [leaves, targets], got {weights}")
        fits = self.used.tensor.dims == weights.dims and self.used.tensor.dtype == "bool"
        expect(fits, f"expected a bool for each weight, got {self.used.type}")
        for table in (self.feature, self.test, self.yes, self.no, self.leaf, self.roots):
            expect(table.tensor.dtype == "i32" and table.tensor.rank == 1, f"expected i32[n], got {table.type}")
        expect(self.aggregate in self.aggregates, f"expected {', '.join(self.aggregates)}, got {self.aggregate}")
        return [TensorType(weights.dtype, None if x.shape is None else (x.dims[0], weights.dims[1]))]

    def kernel(self, k: KernelBuilder) -> None:
        (out,) = k.outputs
        x, feature, threshold, test, yes, no, leaf, roots, weights, used = k.inputs
        trees, targets = roots.tensor.dims[0], weights.tensor.dims[1]
        with k.map(row=x.tensor.dims[0]) as (row,):
            reached = k.local("i32", trees)
            with k.map(tree=trees) as (tree,):
                with k.scan(step=self.depth, init=[k.read(roots, tree)]) as s:
                    (node,) = s.carried
                    value, limit = k.read(x, row, k.read(feature, node)), k.read(threshold, node)
                    there = k.apply(
                        "ne", k.apply("and", k.read(test, node), _outcome(k, value, limit)), k.const(0, "i32")
                    )
                    s.yield_(k.select(there, k.read(yes, node), k.read(no, node)))
                k.write(k.read(leaf, s.results[0]), reached, tree)
            with k.map(target=targets) as (target,):
                self._aggregated(k, reached, weights, used, out, row, target)

    def _aggregated(
        self, k: KernelBuilder, reached: Value, weights: Value, used: Value, out: Value, row: Any, target: Any
    ) -> None:
        dtype = weights.tensor.dtype
        start = {"sum": 0.0, "min": greatest(dtype), "max": least(dtype)}[self.aggregate]
        neutral, zero = k.const(start, dtype), k.const(0.0, dtype)

        def fold(b: KernelBuilder, acc: Sequence[Value], element: Sequence[Value]) -> Sequence[Value]:
            joined = b.add if self.aggregate == "sum" else b.min if self.aggregate == "min" else b.max
            return joined(acc[0], element[0]), b.apply("or", acc[1], element[1])

        with k.reduce(t=reached.tensor.dims[0], init=[neutral, k.const(False, "bool")], combine=fold) as r:
            at = k.read(reached, r.dims[0])
            counts = k.read(used, at, target)
            r.yield_(k.select(counts, k.read(weights, at, target), neutral), counts)
        k.write(k.select(r.results[1], r.results[0], zero), out, row, target)

    def reference(self, *operands: Any) -> Any:
        x, feature, threshold, test, yes, no, leaf, roots, weights, used = operands
        rows = cast(Array, np.arange(len(x)))[:, None]
        node: Array = np.repeat(roots[None, :], len(x), axis=0)
        for _ in range(self.depth):
            value, limit = x[rows, feature[node]], threshold[node]
            outcome = np.select([value < limit, value == limit, value > limit], [LESS, EQUAL, GREATER], UNORDERED)
            node = cast(Array, np.where(test[node] & outcome, yes[node], no[node]))
        found, counts = weights[leaf[node]], used[leaf[node]]
        if self.aggregate == "sum":
            return np.where(counts, found, 0).sum(axis=1, dtype=np.float64).astype(weights.dtype)
        pick, start = (np.min, np.inf) if self.aggregate == "min" else (np.max, -np.inf)
        best = pick(np.where(counts, found, start), axis=1, initial=start)
        return np.where(counts.any(axis=1), best, 0).astype(weights.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for aggregate in cls.aggregates:
            i32 = [fresh("i32", 5) for _ in range(4)]
            yield cls(
                fresh("f32", 7, 3), i32[0], fresh("f32", 5), i32[1], i32[2], i32[3], fresh("i32", 5), fresh("i32", 2),
                fresh("f32", 3, 2), fresh("bool", 3, 2), 2, aggregate,
            )  # fmt: skip

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Two trees that share nodes; a NaN."""
        x = rng.integers(-2, 3, self.x.tensor.static_shape).astype(DTYPES[self.x.tensor.dtype].numpy)
        x[1, 0] = np.nan
        i32: list[Array] = [np.array(a, np.int32) for a in (
            [0, 1, 0, 0, 0], [LESS | EQUAL, GREATER | UNORDERED, 0, 0, 0], [1, 2, 2, 3, 4], [3, 4, 2, 3, 4],
            [0, 0, 0, 1, 2], [0, 1],
        )]  # fmt: skip
        threshold = np.array([0, 1, 0, 0, 0], x.dtype)
        weights = rng.standard_normal((3, 2)).astype(np.float32)
        used = np.array([[True, True], [True, False], [False, False]])
        return [x, i32[0], threshold, *i32[1:], weights, used]


def _outcome(k: KernelBuilder, value: Value, limit: Value) -> Value:
    """How two numbers compare, as a bit."""
    bit = k.select(k.eq(value, limit), k.const(EQUAL, "i32"), k.const(UNORDERED, "i32"))
    bit = k.select(k.gt(value, limit), k.const(GREATER, "i32"), bit)
    return k.select(k.lt(value, limit), k.const(LESS, "i32"), bit)
