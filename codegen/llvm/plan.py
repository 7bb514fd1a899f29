"""A plan as LLVM IR data: tables of steps that the C runtime walks through (docs/HOST.md, `planish_abi.h`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ...ir.constants import ConstantData
from ...ir.core import Op, Region, Value
from ...ir.errors import PlanishError
from ...ir.plan import HostCall, Plan, PlanConstant, PlanIf, PlanLoop, Run
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES, TensorType
from .descriptor import MAIN, Descriptor, Text, c_bytes, describe, double

INLINE_BYTES = 4096  # constants above stand among the weights
_STEP = "{ i32, i32, i32, i32, ptr, ptr, ptr, i32, i32, ptr, i32, i32, ptr }"
_PLAN = "{ i32, i32, i32, i32, ptr, ptr, ptr }"
_CONSTANT = "{ ptr, i32, i32, ptr, ptr, i64, ptr }"
_ATTRIBUTE = "{ ptr, i32, i32, ptr, ptr }"
_INTS, _FLOATS, _STRINGS, _TENSOR = range(4)


def emit_plan(
    plan: Plan,
    islands: Mapping[str, str],
    what: Descriptor,
    target: TargetInfo,
    *,
    offsets: Mapping[PlanConstant, int],
    name: str = MAIN,
) -> str:
    """LLVM IR of the descriptor `what` and of `plan`. `islands` gives the descriptor's name of each island; `offsets`
    the place among the weights of constants that are not inline."""
    text = Text()
    tables = _Tables(text, islands, offsets)
    place = tables.plan(plan.body)
    describe(text, replace(what, nodes=list(tables.nodes), plan=place), name)
    used = sorted({op.function for op in plan.walk() if isinstance(op, HostCall)})
    externals = [f"declare i32 @{host_symbol(f)}(ptr, ptr, ptr, ptr)" for f in used]
    externals += [f"@{main} = external hidden constant i8" for main in sorted(set(islands.values()))]
    return "\n".join([f'target triple = "{target.triple}"', "", *externals, "", *text.globals]) + "\n"


def host_symbol(function: str) -> str:
    """The C name of a host function."""
    return f"planish_host_{function}"


class _Tables:
    """Writes plans and what they refer to."""

    def __init__(self, text: Text, islands: Mapping[str, str], offsets: Mapping[PlanConstant, int]) -> None:
        self.text = text
        self.islands = islands
        self.offsets = offsets
        self.nodes: dict[str, int] = {}
        self.count = 0

    def plan(self, region: Region) -> str:
        """The name of the plan that `region` is."""
        slots: dict[Value, int] = {}
        for v in [*region.params, *(r for op in region for r in op.results)]:
            if v.uses:
                slots[v] = len(slots)
        ops = [op for op in region if not op.terminator]
        results = region.terminator.inputs
        last: dict[Value, Op] = {v: op for op in ops for v in op.inputs}
        steps = [
            self.step(op, slots, [v for v in dict.fromkeys(op.inputs) if last[v] is op and v not in results])
            for op in ops
        ]
        fields = [
            f"i32 {len(slots)}", f"i32 {len(region.params)}", f"i32 {len(results)}", f"i32 {len(steps)}",
            f"ptr {self.numbers([slots.get(v, -1) for v in region.params])}",
            f"ptr {self.numbers([slots[v] for v in results])}", f"ptr {self.text.table(steps, _STEP)}",
        ]  # fmt: skip
        return self.structure(fields, _PLAN)

    def step(self, op: Op, slots: Mapping[Value, int], free: Sequence[Value]) -> str:
        """One row of a plan's table."""
        code, target = self.target(op)
        attributes = self.attributes(op)
        node = self.nodes.setdefault(op.loc, len(self.nodes)) if op.loc else -1
        operands = [-1 if v is None else slots[v] for v in op.operands]
        results = [slots.get(r, -1) for r in op.results]
        fields = [
            f"i32 {code}", f"i32 {node}", f"i32 {len(operands)}", f"i32 {len(results)}",
            f"ptr {self.numbers(operands)}", f"ptr {self.numbers(results)}", f"ptr {target}",
            f"i32 {len(attributes)}", "i32 0", f"ptr {self.text.table(attributes, _ATTRIBUTE)}",
            f"i32 {len(free)}", "i32 0", f"ptr {self.numbers([slots[v] for v in free])}",
        ]  # fmt: skip
        return "{ " + ", ".join(fields) + " }"

    def target(self, op: Op) -> tuple[int, str]:
        """Code and target of a step."""
        match op:
            case Run():
                return 0, f"@{self.islands[op.island]}"
            case HostCall():
                return 1, f"@{host_symbol(op.function)}"
            case PlanIf():
                return 2, self.text.table([self.plan(op.then), self.plan(op.otherwise)], "ptr")
            case PlanLoop():
                return 3, self.text.table([self.plan(op.body)], "ptr")
            case PlanConstant():
                return 4, self.constant(op.value, self.offsets.get(op))
            case _:
                raise PlanishError(f"plan: {op.text_name} is no step")

    def attributes(self, op: Op) -> list[str]:
        """The rows of a step's attributes."""
        if isinstance(op, HostCall):
            return [self.attribute(name, value) for name, value in op.options.items() if value != ()]
        if isinstance(op, PlanLoop):
            return [self.attribute(name, value) for name, value in loop_options(op).items() if value != ()]
        return []

    def attribute(self, name: str, value: Any) -> str:
        """One row."""
        items = list(cast("list[Any]", value)) if isinstance(value, tuple | list) else [value]
        lengths = "null"
        if isinstance(value, ConstantData):
            kind, data = _TENSOR, self.constant(value, None)
        elif all(isinstance(i, str | bytes) for i in items):
            texts = [i if isinstance(i, bytes) else i.encode("utf-8", "surrogateescape") for i in items]
            kind, data = _STRINGS, self.text.table([self.text.string(t) for t in texts], "ptr")
            lengths = self.text.table([str(len(t)) for t in texts], "i64")
        elif all(isinstance(i, bool | int | np.integer) for i in items):
            kind, data = _INTS, self.text.table([str(int(i)) for i in items], "i64")
        elif all(isinstance(i, bool | int | float | np.number) for i in items):
            kind, data = _FLOATS, self.text.table([double(float(i)) for i in items], "double")
        else:
            raise PlanishError(f"plan: attribute {name}: expected numbers, strings or a constant, got {value!r}")
        key = self.text.string(name.encode())
        return f"{{ ptr {key}, i32 {kind}, i32 {len(items)}, ptr {data}, ptr {lengths} }}"

    # -- data -------------------------------------------------------------------------------------------------------

    def constant(self, value: ConstantData, offset: int | None) -> str:
        """The name of a `planish_constant`."""
        data, lengths = "null", "null"
        if value.dtype == "string":
            flat = [_bytes(item) for item in value.array().reshape(-1)]
            data = self.text.table([self.text.string(item) for item in flat] or ["null"], "ptr")
            lengths = self.text.table([str(len(item)) for item in flat] or ["0"], "i64")
        elif offset is None:
            data = self.bytes(raw_bytes(value))
        fields = [
            f"ptr {self.text.string(value.dtype.encode())}", f"i32 {len(value.shape)}", "i32 0",
            f"ptr {self.text.table([str(d) for d in value.shape], 'i64')}", f"ptr {data}", f"i64 {offset or 0}",
            f"ptr {lengths}",
        ]  # fmt: skip
        return self.structure(fields, _CONSTANT)

    def bytes(self, data: bytes) -> str:
        """Aligned data; never NULL, also where there is nothing."""
        data = data or b"\0"
        name = self.name()
        self.text.globals.append(f"{name} = private unnamed_addr constant [{len(data)} x i8] {c_bytes(data)}, align 64")
        return name

    def numbers(self, items: Sequence[int]) -> str:
        """A table of i32."""
        return self.text.table([str(i) for i in items], "i32")

    def structure(self, fields: Sequence[str], type: str) -> str:
        """A constant of its own."""
        name = self.name()
        self.text.globals.append(f"{name} = private constant {type} {{ {', '.join(fields)} }}, align 8")
        return name

    def name(self) -> str:
        """A new global's name."""
        self.count += 1
        return f"@.h{self.count}"


def loop_options(op: PlanLoop) -> dict[str, Any]:
    """The attributes of a loop's step: how many values are carried; and what is scanned in a round, for loops of no
    rounds: element types, and dimensions of number k (-1: unknown)."""
    stacked = [r.tensor for r in op.results[len(op.carried) :]]
    options: dict[str, Any] = {"carried": len(op.carried), "scanned": tuple(t.dtype for t in stacked)}
    for k, t in enumerate(stacked):
        options[f"dims{k}"] = tuple(d if isinstance(d, int) else -1 for d in (t.shape or ())[1:])
    return options


def raw_bytes(value: ConstantData) -> bytes:
    """The elements, row-major and little endian; those of less than a byte packed, the first in the low bits."""
    array = np.ascontiguousarray(value.array())
    bits = DTYPES[value.dtype].bits
    if bits >= 8:
        return array.tobytes()
    codes = np.unpackbits(array.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    return np.packbits(codes[:, :bits], bitorder="little").tobytes()


def is_inline(type: TensorType) -> bool:
    """Whether a constant of this type stands in the plan itself, not among the weights."""
    info = DTYPES[type.dtype]
    if info.bits < 8:
        return True
    return int(np.prod(type.static_shape, dtype=np.int64)) * info.bytes <= INLINE_BYTES


def _bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")
