"""The golden self-test of an artifact: seeded inputs, and what the reference interpreter makes of them.

The interpreter shares no code with the compiler's kernels, so `app self-test` on another machine checks the compiler,
the machine and the file at once.
"""

from __future__ import annotations

import math

import numpy as np

from planish.ir.core import Module, Value
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph
from planish.ir.state import states_of
from planish.ir.types import DTYPES, TensorType
from planish.runtime.manifest import Port, SelfTest
from planish.runtime.selftest import record, seeded_input

SEED = 20240229
# Reductions in another order, Winograd and vector math stay well inside; a wrong kernel does not.
RTOL = 1e-3
_MOST_BYTES = 1 << 29  # of one value: the interpreter has several at once


def golden_test(module: Module) -> SelfTest | None:
    """The self-test of a model with static shapes; None where shapes are symbolic, or where an input or output has a
    type that seeded numbers cannot fill, or where the model refuses the seeded inputs."""
    graph, states = module.main, states_of(module)
    params = graph.params[: len(graph.params) - len(states)]
    types = [v.type for v in [*graph.params, *graph.results]]
    if not all(isinstance(t, TensorType) and t.is_static and _is_filled(t.dtype) for t in types):
        return None
    if any(_bytes(v) > _MOST_BYTES for op in graph.walk() for v in (*op.inputs, *op.results)):
        return None
    ranges = [value_range(p) for p in params]
    inputs: dict[str, np.ndarray] = {}
    for i, (p, (low, high)) in enumerate(zip(params, ranges, strict=True)):
        shape = p.tensor.static_shape
        inputs[p.name] = seeded_input(Port(p.name, p.tensor.dtype, shape), i, SEED, shape, low, high)
    try:
        with np.errstate(all="ignore"):
            results = run_graph(module, inputs)
    except PlanishError:
        return None
    outputs = [results[name] for name in graph.result_names[: len(graph.result_names) - len(states)]]
    wide = [np.abs(o.astype(np.float64)) for o in outputs if o.size]
    largest = max((float(np.max(w, where=np.isfinite(w), initial=0.0)) for w in wide), default=0.0)
    return record(SEED, (), ranges, outputs, rtol=RTOL, atol=max(1e-30, 1e-4 * largest))


def _is_filled(dtype: str) -> bool:
    return DTYPES[dtype].bits >= 8 and DTYPES[dtype].kind != "complex"


def _bytes(value: Value) -> int:
    """Bytes of a tensor of known shape, 0 for all else and for weights."""
    t = value.type
    if not isinstance(t, TensorType) or not t.is_static or (value.op is not None and value.op.op_name == "constant"):
        return 0
    return math.prod(t.static_shape) * DTYPES[t.dtype].bits // 8


def value_range(parameter: Value) -> tuple[float, float]:
    """Values that the model can take: for token ids and other indices 0 .. size-1, else 0..1 or -1..1."""
    kind = DTYPES[parameter.tensor.dtype].kind
    if kind == "float":
        return -1.0, 1.0
    if kind == "bool":
        return 0.0, 1.0
    limit = _index_limit(parameter, set())
    return 0.0, float(1 if limit is None else limit - 1)


def _index_limit(value: Value, seen: set[Value]) -> int | None:
    """The smallest dimension that `value`, or what is only a copy of it, indexes; None when it indexes nothing."""
    limits: list[int] = []
    for op in value.users:
        if op.op_name in ("shape.gather", "shape.gather_elements") and op.operands[1] is value:
            axis: int = op.attributes["axis"]
            size = op.inputs[0].tensor.dims[axis]
            limits.extend([size] if isinstance(size, int) else [])
        elif op.op_name.startswith("shape.") or op.op_name == "arith.cast":
            for result in op.results:
                if result not in seen and isinstance(result.type, TensorType):
                    seen.add(result)
                    found = _index_limit(result, seen)
                    limits.extend([] if found is None else [found])
    return min(limits, default=None)
