"""Choices and loops over data: functions of the file, chosen by a Switch; loops call themselves."""

from __future__ import annotations

from ...ir.core import Region
from ...ir.ops.host.bind import Check
from ...ir.ops.host.control import If, Loop
from ...ir.types import TensorType
from ..report import Cannot
from .net import Net, Ref, lowers

_MOST = 1000  # rounds that are written one behind the other


def _scalar(net: Net, ref: Ref) -> Ref:
    """A tensor of one element with shape []."""
    assert ref.type is not None
    if ref.type.shape == ():
        return ref
    return net.prim("Reshape", ref, [], type=TensorType(ref.dtype, ()))


def _branch(net: Net, region: Region, name: str) -> tuple[Net, Ref]:
    """A region without parameters as a function, and that with what it needs."""
    inner = Net(name, net)
    for op in region:
        if not op.terminator:
            inner.write(op)
    results = [inner.of(v) for v in region.terminator.inputs]
    net.function(inner, results)
    return inner, net.closure(inner, inner.captured)


@lowers(If)
def if_(net: Net, op: If) -> list[Ref]:
    """A Switch between two functions."""
    then, otherwise = _branch(net, op.then, "then"), _branch(net, op.otherwise, "else")
    return net.switch(_scalar(net, net.of(op.condition)), then, otherwise, [r.type for r in op.results])


@lowers(Check)
def check(net: Net, op: Check) -> list[Ref]:
    """Nothing: primitives check their own operands."""
    return []


@lowers(Loop)
def loop(net: Net, op: Loop) -> list[Ref]:
    """A function that calls itself while its condition holds. Loops that collect values are unrolled, which needs a
    known number of rounds."""
    if len(op.results) > len(op.carried):
        return _unrolled(net, op)
    state = [net.scalar(0, "i64"), _going(net, op), *map(net.of, op.carried)]
    header = Net("loop", net)
    params = [header.port(p.tensor, "state") for p in (op.body.params[0], *op.body.params[1:])]
    params.insert(1, header.port(TensorType("bool", ()), "going"))
    header.inputs = list(params)
    body = Net("body", header)
    for param, ref in zip(op.body.params, [params[0], *params[2:]], strict=True):
        body.define(param, body.capture(ref))
        header.define(param, ref)
    results = _round(body, op)
    following = body.prim("Add", body.of(op.body.params[0]), body.scalar(1, "i64"), type=TensorType("i64", ()))
    limit = None if op.limit is None else header.of(op.limit)
    # What the header captured so far is what it is called with; the body hands it on.
    again = [
        following,
        _scalar(body, results[0]),
        *results[1:],
        *(body.capture(r) for r in header.inputs[len(params) :]),
    ]
    types = [r.type for r in op.results]
    net.function(body, body.call(header.name, again, types))
    leave = Net("leave", header)
    net.function(leave, [leave.capture(ref) for ref in params[2:]])
    go = params[1]
    if limit is not None:
        below = header.prim("Less", params[0], _scalar(header, limit), type=TensorType("bool", ()))
        go = header.prim("LogicalAnd", go, below, type=TensorType("bool", ()))
    chosen = (body, header.closure(body, body.captured)), (leave, header.closure(leave, leave.captured))
    net.function(header, header.switch(go, *chosen, types))
    return net.call(header.name, [*state, *header.captured], types)


def _going(net: Net, op: Loop) -> Ref:
    return net.scalar(True, "bool") if op.condition is None else _scalar(net, net.of(op.condition))


def _round(net: Net, op: Loop) -> list[Ref]:
    """One round: whether to go on, the carried values, the scanned ones."""
    for inner in op.body:
        if not inner.terminator:
            net.write(inner)
    return [net.of(v) for v in op.body.terminator.inputs]


def _unrolled(net: Net, op: Loop) -> list[Ref]:
    limit = None if op.limit is None else net.data(op.limit)
    going = op.body.terminator.inputs[0]
    endless = net.data(going) is not None or going in op.body.params
    if limit is None or op.condition is not None or not endless or not 0 < int(limit.array().reshape(())) <= _MOST:
        raise Cannot("a loop that collects values of as many rounds as only the run knows")
    carried = [net.of(v) for v in op.carried]
    rows: list[list[Ref]] = []
    for number in range(int(limit.array().reshape(()))):
        net.define(op.body.params[0], net.scalar(number, "i64"))
        for param, ref in zip(op.body.params[1:], carried, strict=True):
            net.define(param, ref)
        results = _round(net, op)
        carried = results[1 : len(carried) + 1]
        rows.append(results[len(carried) + 1 :])
    stacks: list[Ref] = []
    for column, value in zip(zip(*rows, strict=True), op.results[len(carried) :], strict=True):
        dims = value.tensor.dims
        parts = [net.prim("ExpandDims", r, 0, type=TensorType(r.dtype, (1, *dims[1:]))) for r in column]
        stacks.append(net.prim("Concat", parts, 0, type=TensorType(value.tensor.dtype, (len(rows), *dims[1:]))))
    return [*carried, *stacks]
