"""How long each kernel call of a lowered program takes, about, without machine code: for `planish check`.

Contractions and other reductions that lie in vector lanes run at three quarters of the target's multiply-adds, other
stages at the instructions that the scheduler's cost model counts (`passes/schedule/costs.py`); neither is faster than
its bytes come from memory. Only ratios between calls mean something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planish.ir.core import Module
from planish.ir.expr import as_expr
from planish.ir.kernel.form import Kernel, Read, Reduce, Scan, Schedule, Stage, Write
from planish.ir.program import Call, Program, View, Weight
from planish.ir.target_info import TargetInfo
from planish.ir.types import DTYPES
from planish.passes.analysis.cost import KernelCost, kernel_cost
from planish.passes.schedule.costs import UNKNOWN, Costs, lanes_of

_HERTZ = 3.5e9
_EFFICIENCY = 0.75
_INSTRUCTIONS = 3e9  # per second
_WEIGHTS, _VALUES = 25e9, 100e9  # bytes per second: of weights, which come from memory, and of what is in caches
_CALL = 0.2e-6  # seconds of a call that does nothing
_FEW = 256  # points up to which a loop without lanes is no loss


@dataclass(frozen=True)
class StageFacts:
    """How one top-level stage of a kernel runs: `lanes` of vectors (1: none), the `tile` of registers as text, and
    `why` there are no lanes ("" where there are, or where it does not matter)."""

    seconds: float
    lanes: int
    tile: str
    why: str


@dataclass(frozen=True)
class CallFacts:
    """A call with its estimate. `main` is the stage that takes longest."""

    call: Call
    seconds: float
    main: StageFacts

    @property
    def is_plain(self) -> bool:
        """Whether most of it runs as a plain loop."""
        return bool(self.main.why)


def estimate(module: Module, program: Program, target: TargetInfo, plain: bool) -> Iterator[CallFacts]:
    """The calls of `program` in order; symbols are taken to be 64. `plain`: nothing was scheduled."""
    symbols = dict.fromkeys(program.symbols, UNKNOWN)
    for name, expr in program.attributes.get("derived", ()):
        symbols[name] = max(0, as_expr(expr).evaluate(symbols))
    known: dict[str, list[tuple[StageFacts, KernelCost]]] = {}
    for call in (op for op in program.walk() if isinstance(op, Call)):
        if call.kernel not in known:
            kernel = module.functions[call.kernel]
            assert isinstance(kernel, Kernel)
            known[call.kernel] = list(_stages(kernel, symbols, target, plain))
        stages = [_with_memory(facts, cost, call) for facts, cost in known[call.kernel]]
        nothing = StageFacts(0.0, 1, "", "")
        main = max(stages, key=lambda facts: facts.seconds, default=nothing)
        yield CallFacts(call, _CALL + sum(facts.seconds for facts in stages), main)


def _with_memory(facts: StageFacts, cost: KernelCost, call: Call) -> StageFacts:
    seconds = 0.0
    for read, written, arg in zip(cost.reads, cost.writes, call.args, strict=True):
        op = arg.op
        while isinstance(op, View):
            op = op.source.op
        seconds += (read + written) / (_WEIGHTS if isinstance(op, Weight) else _VALUES)
    return StageFacts(max(facts.seconds, seconds), facts.lanes, facts.tile, facts.why)


def _stages(
    kernel: Kernel, symbols: Mapping[str, int], target: TargetInfo, plain: bool
) -> Iterator[tuple[StageFacts, KernelCost]]:
    for number, stage in enumerate(op for op in kernel.body if isinstance(op, Stage)):
        cost = kernel_cost(kernel, symbols, number)
        vector = _vector(stage)
        lanes = lanes_of(stage, target) if vector else 1
        if vector and any(isinstance(op, Reduce) for op in stage.walk()):
            rate = 2 * target.fma_ports * lanes * _HERTZ * _EFFICIENCY
            seconds = cost.flops / rate
        else:
            seconds = Costs(stage, target).best(stage).cost / _INSTRUCTIONS
            if plain:
                seconds = max(seconds, cost.flops / _HERTZ)
        schedule = None if vector is None else vector.schedule
        why = "" if vector else _why(stage, symbols, plain)
        yield StageFacts(seconds, lanes, _tile(schedule), why), cost


def _vector(stage: Stage) -> Stage | None:
    """The stage, or the first inside of it, that lies in lanes."""
    for op in stage.walk():
        if isinstance(op, Stage) and op.schedule is not None and op.schedule.vector:
            return op
    return None


def _tile(schedule: Schedule | None) -> str:
    """`6x64`: the last steps of a schedule that are more than 1."""
    if schedule is None:
        return ""
    steps = [schedule.step(name) for name in dict.fromkeys(name for name, _ in schedule.loops)]
    return "x".join(str(step) for step in steps if step > 1)


def _why(stage: Stage, symbols: Mapping[str, int], plain: bool) -> str:
    """Why nothing of a stage lies in lanes; "" where it is too small to matter."""
    points = 1
    for d in stage.dims:
        points *= max(0, as_expr(d.extent).bounds({n: (v, v) for n, v in symbols.items()})[1] or 0)
    inside = [op for op in stage.walk() if op is not stage]
    if points <= _FEW and not any(isinstance(op, Stage) for op in inside):
        return ""
    if plain:
        return "-O0 uses no vectors"
    accesses = [op for op in stage.walk() if isinstance(op, Read | Write)]
    if any(isinstance(op, Scan) for op in stage.walk()):
        return "each step needs the one before it"
    if any(op.indices for op in accesses):
        return "elements are chosen by data"
    wide = sorted({op.buffer.tensor.dtype for op in accesses if DTYPES[op.buffer.tensor.dtype].bits > 64})
    if wide:
        return f"{wide[0]} has no vectors"
    return "no dimension of it runs through memory in steps of one element"


__all__ = ["CallFacts", "StageFacts", "estimate"]
