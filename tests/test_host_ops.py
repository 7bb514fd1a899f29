"""Host operations on their own samples: inference and the C runtime against the references in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from _plans import built
from _samples import assert_close, host_ops, reference

from planish.ir.core import Graph, Module, Return, Value
from planish.ir.expr import Expr
from planish.ir.ops.arith import Neg
from planish.ir.ops.host import HostOp
from planish.ir.types import DTYPES, MapType, OptionalType, SequenceType, TensorType, Type, dtype_of

SAMPLES = [(f"{kind.op_name}-{i}", op) for kind in host_ops() for i, op in enumerate(kind.samples())]
NAMES = [name for name, _ in SAMPLES]


def given(op: HostOp) -> list[Any]:
    """What a sample is called with."""
    found = op.sample_inputs(np.random.default_rng(0))
    assert found is not None
    return [getattr(v, "value", v) for v in found]  # what an optional holds


def fits(value: Any, type: Type, sizes: dict[str, int]) -> None:
    """A value is of a type; symbols mean one size each."""
    match type:
        case OptionalType(item=item):
            assert value is None or fits(value, item, sizes) is None
        case SequenceType(item=item):
            for one in cast("list[Any]", value):
                fits(one, item, sizes)
        case MapType(key=key, item=item):
            for one, other in cast("dict[Any, Any]", value).items():
                assert isinstance(one, str if key == "string" else int)
                fits(np.asarray(other, object if isinstance(other, str) else None), item, sizes)
        case TensorType(dtype=dtype, shape=shape):
            assert ("string" if value.dtype == object else dtype_of(value)) == dtype
            assert shape is None or len(shape) == value.ndim
            for dim, size in zip(shape or (), value.shape, strict=False):
                symbol = dim.symbol if isinstance(dim, Expr) else None
                assert size == (dim if symbol is None else sizes.setdefault(symbol, size))
        case _:
            raise AssertionError(f"{type} is no type of a value")


def same(got: Any, want: Any) -> None:
    """Equal values of any kind."""
    if isinstance(want, list):
        for one, other in zip(got, cast("list[Any]", want), strict=True):
            same(one, other)
    elif isinstance(want, dict):
        assert got == want
    elif want is None or np.asarray(want).dtype == object:
        assert np.array_equal(np.asarray(got, object), np.asarray(want, object))
    elif DTYPES[dtype_of(np.asarray(want))].kind == "complex":
        assert np.array_equal(got, want)
    else:
        assert_close(got, want)


@pytest.mark.parametrize("kind", host_ops(), ids=lambda c: c.op_name)
def test_every_host_operation_has_samples_and_a_docstring(kind: type[HostOp]) -> None:
    assert any(True for _ in kind.samples()), f"{kind.op_name} has no samples"
    assert kind.__doc__
    assert kind.function


@pytest.mark.parametrize("op", [op for _, op in SAMPLES], ids=NAMES)
def test_inference_agrees_with_reference(op: HostOp) -> None:
    sizes: dict[str, int] = {}
    for value, result in zip(reference(op, given(op)), op.results, strict=True):
        fits(value, result.type, sizes)


def test_the_runtime_agrees_with_reference(tmp_path: Path) -> None:
    """All samples in one plan."""
    ops = [op for _, op in SAMPLES]
    types = [TensorType("f32", (2,)), *(v.type for op in ops for v in op.inputs)]
    graph = Graph("main", types, [f"i{i}" for i in range(len(types))], [])
    plain, *rest = graph.params  # a program in the plan, too
    params, inputs, results = iter(rest), {plain.name: np.ones(2, np.float32)}, list[Value]()
    wanted: list[tuple[str, HostOp, Any]] = []
    for name, op in SAMPLES:
        mapping = {v: next(params) for v in op.inputs}
        inputs |= {p.name: v for p, v in zip(mapping.values(), given(op), strict=True)}
        made = graph.body.append(op.clone(mapping))
        results += made.results
        wanted += [(name, op, value) for value in reference(op, given(op))]
    results.append(graph.body.append(Neg(plain)).result)
    graph.result_names = [f"o{i}" for i in range(len(results))]
    graph.body.append(Return(tuple(results)))
    module = Module()
    module.add(graph)
    found = built(module, tmp_path).run(inputs)
    failed: list[str] = []
    for got, (name, op, want) in zip(list(found.values())[:-1], wanted, strict=True):
        try:
            same(got, want) if op.deterministic else fits(got, op.results[0].type, {})
        except AssertionError as error:
            failed.append(f"{name}: expected {want}, got {got}: {error}")
    assert not failed, "\n".join(failed)
