"""Plans on their way into an artifact: the islands of a module as parts of it, and the tables that run them.

`pieces` stands between the passes and code generation: an ordinary module is one piece, its program; a plan has one
for each island, and one without code for its large constants, so that they share the section of weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from planish.codegen.llvm.compile import CompiledKernels, compile_program
from planish.codegen.llvm.descriptor import Descriptor, type_name
from planish.codegen.llvm.objects import compile_object
from planish.codegen.llvm.plan import emit_plan, is_inline
from planish.ir.core import Builder, Module, Yield
from planish.ir.errors import PlanishError
from planish.ir.expr import Dim, Expr, as_expr, maximum, sym
from planish.ir.plan import HostCall, Plan, PlanConstant, PlanIf, PlanLoop
from planish.ir.program import Program, Weight
from planish.ir.target_info import TargetInfo
from planish.ir.types import TensorType, Type
from planish.runtime.manifest import PlanFacts, SelfTest

Spec = tuple[str, Type]
port_type = type_name


@dataclass
class Pieces:
    """A lowered module: `head` is its program, or its plan, and has the attributes of the whole (`inputs`, `outputs`,
    `symbols`, sizes); `programs` are those to be compiled, each with the module that has its kernels."""

    module: Module
    head: Program | Plan
    programs: list[tuple[Module, Program]]
    constants: dict[PlanConstant, Weight] = field(default_factory=dict[PlanConstant, Weight])

    @property
    def plan(self) -> Plan | None:
        """The plan, where there is one."""
        return self.head if isinstance(self.head, Plan) else None


def plan_facts(plan: Plan, islands: int) -> PlanFacts:
    """What a plan over so many islands consists of."""
    steps = list(plan.walk())
    functions = Counter(op.function for op in steps if isinstance(op, HostCall))
    branches, loops = (sum(isinstance(op, kind) for op in steps) for kind in (PlanIf, PlanLoop))
    return PlanFacts(islands, dict(sorted(functions.items())), branches, loops)


def pieces(module: Module) -> Pieces:
    """The pieces of a module that went through the pipeline. Raises `PlanishError` if that has not made programs."""
    plan = module.functions.get("main")
    if not isinstance(plan, Plan):
        program = _program(module)
        return Pieces(module, program, [(module, program)])
    programs = [(island, _program(island)) for island in module.islands.values()]
    found = Pieces(module, plan, programs)
    held = [op for op in plan.walk() if isinstance(op, PlanConstant) and not is_inline(op.result.tensor)]
    if held:
        constants = Program("constants", attributes={"symbols": (), "inputs": [], "outputs": [], "arena_bytes": 0})
        builder = Builder(constants.body)
        for op in held:
            found.constants[op] = builder.insert(Weight(op.value, types=[op.result.type]))
        constants.body.append(Yield(()))
        found.programs.append((Module([constants]), constants))
    _describe(found, plan)
    return found


def _program(module: Module) -> Program:
    found = [f for f in module.functions.values() if isinstance(f, Program)]
    if len(found) != 1:
        raise PlanishError(f"the pipeline gives {len(found)} programs, expected one: it must contain lower-program")
    return found[0]


def _describe(found: Pieces, plan: Plan) -> None:
    """The attributes of the whole: what a program has, as far as a plan can say it before it runs."""
    unknown: list[str] = []
    names = plan.result_names or [f"output{i}" for i in range(len(plan.results))]
    inputs = [(p.name, p.type) for p in plan.params]
    bound = {d.symbol for _, t in inputs for d in _dims(t) if isinstance(d, Expr)}
    outputs = [(name, _shown(v.type, bound, unknown)) for name, v in zip(names, plan.results, strict=True)]
    symbols = dict.fromkeys(s for _, t in inputs for d in _dims(t) for s in sorted(as_expr(d).symbols()))
    arena: Dim = 0
    for _, program in found.programs:
        size = program.attributes["arena_bytes"]
        arena = maximum(arena, size) if isinstance(size, int) else arena
    plan.attributes.update(
        symbols=(*symbols, *unknown), inputs=inputs, outputs=outputs, arena_bytes=arena, arena_lower_bound=0
    )


def _dims(type: Type) -> tuple[Dim, ...]:
    return type.shape or () if isinstance(type, TensorType) else ()


def _shown(type: Type, bound: set[str | None], unknown: list[str]) -> Type:
    """The type of an output with a new symbol, added to `unknown`, for each size that no input says."""
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    dims: list[Dim] = []
    for d in type.shape:
        if isinstance(d, Expr) and d.symbol not in bound:
            unknown.append(f"?o{len(unknown)}")
            d = sym(unknown[-1])
        dims.append(d)
    return TensorType(type.dtype, tuple(dims))


def port_shape(type: Type) -> tuple[Any, ...] | None:
    """The shape of an input or output for people: None where the rank is unknown, and for a size found at run time."""
    if not isinstance(type, TensorType) or type.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None if str(d).startswith('"?') else str(d) for d in type.shape)


def emit_pieces(
    found: Pieces,
    kernels: Sequence[CompiledKernels],
    target: TargetInfo,
    name: str,
    emit: Callable[[Program, CompiledKernels], tuple[str, bytes]],
    *,
    manifest: bytes,
    features: Sequence[str],
    selftest: SelfTest | None = None,
) -> list[tuple[str, bytes]]:
    """LLVM IR texts and objects of everything of one module that is no kernel; `name` is what its descriptor is called.
    `emit` makes those of an ordinary program."""
    plan = found.plan
    if plan is None:
        return [emit(found.programs[0][1], kernels[0])]
    islands = {island: f"{name}_{island}" for island in found.module.islands}
    parts = zip(found.programs, kernels, islands.values(), strict=False)
    mains = [
        compile_program(program, one, target, manifest=b"", features=(), name=place)
        for (_, program), one, place in parts
    ]
    a = plan.attributes
    what = Descriptor(
        a["inputs"], a["outputs"], a["symbols"], a["weights_bytes"], (), features, manifest, selftest,
        ranges=a.get("ranges", ()), states=a.get("states", ()),
    )  # fmt: skip
    offsets = {op: weight.offset for op, weight in found.constants.items()}
    text = emit_plan(plan, islands, what, target, offsets=offsets, name=name)
    return [*mains, (text, compile_object(text, target, 1))]
