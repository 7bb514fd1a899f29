"""Choices and loops, symbols from data, and what is only checked."""

from __future__ import annotations

from typing import Any

from ...ir.core import Op, Region
from ...ir.errors import PlanishError
from ...ir.ops.host.bind import Bind, Check
from ...ir.ops.host.control import If, Loop
from ...ir.types import TensorType, Type
from ..report import Cannot, issue_of
from .graph import WRITERS, Scope, Tensor, writes


def write_region(scope: Scope, region: Region) -> None:
    """All operations of a region but its last; what cannot be written becomes an issue of the model."""
    for op in region:
        if not op.terminator:
            write_op(scope, op)


def write_op(scope: Scope, op: Op) -> None:
    """The nodes of one operation."""
    scope.loc = op.loc
    writer = WRITERS.get(type(op))
    try:
        if writer is None:
            raise Cannot("ONNX has no operator for it")
        found = writer(scope, op)
    except Cannot as e:
        scope.model.issues.append(issue_of(op, e))
        found = [Tensor("") for _ in op.results]
        for tensor, value in zip(found, op.results, strict=True):  # so that the next one is not at fault
            tensor.dtype = _dtype(value.type)
    except (AssertionError, PlanishError) as e:
        scope.model.issues.append(issue_of(op, Cannot(f"{e}" or "its rank is unknown", "give shapes or ranks")))
        found = [Tensor(_dtype(value.type)) for value in op.results]
    for value, tensor in zip(op.results, [found] if isinstance(found, Tensor) else found, strict=True):
        scope.define(value, tensor)


def _dtype(type: Type) -> str:
    return type.dtype if isinstance(type, TensorType) else ""


def _branch(scope: Scope, region: Region) -> Scope:
    """A region without parameters as a graph. ONNX wants every output to be made inside."""
    inner = Scope(scope.model, scope)
    write_region(inner, region)
    inner.outputs = [(inner.of(v), v.type) for v in region.terminator.inputs]
    return inner


@writes(If)
def if_(scope: Scope, op: If) -> list[Tensor]:
    """If."""
    loc = scope.loc
    branches: dict[str, Any] = {"then_branch": _branch(scope, op.then), "else_branch": _branch(scope, op.otherwise)}
    scope.loc = loc
    return scope.nodes_of("If", scope.of(op.condition), dtypes=[_dtype(r.type) for r in op.results], **branches)


@writes(Loop)
def loop(scope: Scope, op: Loop) -> list[Tensor]:
    """Loop. ONNX hands the condition to the body as well, where nobody reads it."""
    loc = scope.loc
    body = Scope(scope.model, scope)
    for i, param in enumerate(op.body.params):
        tensor = Tensor(_dtype(param.type), param.name or "carried")
        body.inputs.append((tensor, param.type))
        body.define(param, tensor)
        if i == 0:
            body.inputs.append((Tensor("bool", "going"), TensorType("bool", ())))
    write_region(body, op.body)
    body.outputs = [(body.of(v), v.type) for v in op.body.terminator.inputs]
    scope.loc = loc
    given = [scope.maybe(op.limit), scope.maybe(op.condition), *map(scope.of, op.carried)]
    return scope.nodes_of("Loop", *given, dtypes=[_dtype(r.type) for r in op.results], body=body)


@writes(Bind)
def bind(scope: Scope, op: Bind) -> list[Tensor]:
    """Nothing: symbols are looked up where they are needed."""
    elements = scope.cast(scope.of(op.x), "i64")
    if op.x.tensor.rank != 1:
        elements = scope.node("Reshape", elements, scope.vector([-1]))
    scope.bind(op.symbols, elements)
    return []


@writes(Check)
def check(scope: Scope, op: Check) -> list[Tensor]:
    """Nothing: operators check their own operands."""
    return []
