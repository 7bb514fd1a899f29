"""When two kernels are the same: equal text up to the names of values and dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ...ir.core import Op, Region, Value
from ...ir.expr import Dim, Expr, sym
from ...ir.kernel.form import LoopDim, Schedule, Stage


def kernel_key(region: Region) -> str:
    """A text that two kernels' regions share exactly when they compute the same in the same way: buffers' types and
    layouts, operations, maps and schedules; names of values and dimensions do not count."""
    return _Key().region(region)


class _Key:
    def __init__(self) -> None:
        self.values: dict[Value, int] = {}
        self.dims: dict[str, Dim] = {}

    def region(self, region: Region) -> str:
        for p in region.params:
            self.values[p] = len(self.values)
        lines = [" ".join(str(p.type) for p in region.params), *(self.op(op) for op in region)]
        return "{" + "\n".join(lines) + "}"

    def op(self, op: Op) -> str:
        operands = ",".join("_" if v is None else str(self.values[v]) for v in op.operands)
        if isinstance(op, Stage):
            for d in op.dims:
                self.dims[d.name] = sym(f"#{len(self.dims)}")
        attributes = " ".join(f"{name}={self.attribute(value)}" for name, value in op.attributes.items())
        regions = "".join(self.region(r) for r in op.regions)
        for r in op.results:
            self.values[r] = len(self.values)
        return f"{op.text_name}({operands}) {attributes} {regions} {' '.join(str(r.type) for r in op.results)}"

    def attribute(self, value: Any) -> str:
        match value:
            case Expr():
                return _renamed(value, self.dims)
            case LoopDim():
                return f"{self.dims[value.name]}:{value.extent}"
            case Schedule():
                loops = ",".join(f"{self.name(n)}/{step}" for n, step in value.loops)
                return f"<{loops};{self.name(value.vector)};{value.parallel};{value.grain};{value.ahead}>"
            case tuple():
                return "(" + ",".join(map(self.attribute, cast("tuple[Any, ...]", value))) + ")"
            case _:
                return repr(value)

    def name(self, dim: str) -> str:
        return str(self.dims.get(dim, dim))


def _renamed(expr: Expr, dims: Mapping[str, Dim]) -> str:
    return str(expr.substitute(dims))
