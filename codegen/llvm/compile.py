"""A planned, scheduled module to ELF objects: one per distinct kernel, one for the program.

A kernel's symbol is derived from its content, so its object can be cached, shared between models, and is the same
whatever the model calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import llvmlite
import llvmlite.binding as llvm

from ...ir.core import Module
from ...ir.errors import PlanishError
from ...ir.expr import Dim, as_expr, bounds_given, maximum
from ...ir.kernel.form import Kernel
from ...ir.program import Alloc, Call, Program, View, Weight
from ...ir.target_info import TargetInfo
from ...ir.text import print_function
from ...runtime.manifest import SelfTest
from ..cache import Cache, digest
from .descriptor import MAIN, Descriptor, emit_variants
from .kernel import KernelCode, emit_kernel
from .objects import compile_object
from .program import StageRef, emit_program
from .worker import Crew, Job

_OBJECTS = Cache("objects")


@dataclass
class CompiledKernels:
    """Objects of all kernels of a program: `objects` in order of first use, stages by kernel name, scratch bytes per
    worker, LLVM IR texts (for `--emit llvm` and `asm`), and how many objects came from the cache."""

    objects: list[bytes] = field(default_factory=list[bytes])
    stages: dict[str, list[StageRef]] = field(default_factory=dict[str, list[StageRef]])
    scratch: Dim = 0
    texts: list[str] = field(default_factory=list[str])
    cached: int = 0


def compile_kernels(
    module: Module, program: Program, target: TargetInfo, *, opt: int = 3, workers: int = 1, cache: bool = True
) -> CompiledKernels:
    """Emit and compile every kernel that `program` calls."""
    return compile_variants([(module, program)], target, opt=opt, workers=workers, cache=cache)[0]


def compile_variants(
    parts: Sequence[tuple[Module, Program]], target: TargetInfo, *, opt: int = 3, workers: int = 1, cache: bool = True
) -> list[CompiledKernels]:
    """The same for several programs that go into one artifact, at once. A kernel that several of them call is among
    the objects of the first; the first also counts what came from the cache."""
    symbols: dict[str, str] = {}  # symbol -> kernel name that made it
    with Crew(target, opt, workers) as crew:
        build = _Build(crew, target, opt, cache)
        done = [_emit_kernels(module, program, target, symbols, build) for module, program in parts]
        objects, cached = build.finish()
    remaining = iter(objects)
    for one in done:
        one.objects = [next(remaining) for _ in one.texts]
    if done:
        done[0].cached = cached
    return done


def _emit_kernels(
    module: Module, program: Program, target: TargetInfo, symbols: dict[str, str], build: _Build
) -> CompiledKernels:
    """Stages and texts of the kernels of a program, compiled by `build` meanwhile; those of which `symbols` has the
    symbol are there already."""
    done = CompiledKernels()
    private = _private_buffers(program)
    for call in (op for op in program.walk() if isinstance(op, Call)):
        if call.kernel in done.stages:
            continue
        kernel = module.functions[call.kernel]
        assert isinstance(kernel, Kernel)
        code, symbol = _emit(kernel, call, program, target, private[call.kernel])
        done.stages[call.kernel] = [StageRef(s.symbol, as_expr(s.count), s.grain) for s in code.stages]
        for stage in code.stages:
            done.scratch = maximum(done.scratch, stage.scratch_bytes)
        if symbol not in symbols:
            symbols[symbol] = call.kernel
            done.texts.append(code.text)
            build.add(call.kernel, code.text, quick=bool(kernel.attributes.get("minor")))
    return done


def _emit(
    kernel: Kernel, call: Call, program: Program, target: TargetInfo, noalias: list[bool]
) -> tuple[KernelCode, str]:
    if len(call.args) != len(kernel.params):
        raise PlanishError(f"{call.loc}: expected {len(kernel.params)} buffers of @{kernel.name}, got {len(call.args)}")
    return kernel_code(kernel, target, noalias, program.symbols)


def kernel_code(
    kernel: Kernel, target: TargetInfo, noalias: Sequence[bool], symbols: Sequence[str]
) -> tuple[KernelCode, str]:
    """The code of `kernel` in a program with these shape symbols, and its name by content. `noalias` is as for
    `emit_kernel`."""
    text = print_function(kernel).replace(f"@{kernel.name}", "@kernel", 1)
    more = repr((list(noalias), tuple(symbols), target.cpu, target.features, *bounds_given(symbols)))
    symbol = "pk_" + digest(text, more)[:20]
    return emit_kernel(kernel, target, symbol, noalias=noalias, program_symbols=symbols), symbol


def private_buffers(program: Program, kernel: str) -> list[bool]:
    """For each parameter of `kernel`, whether it overlaps no other one in any call of it."""
    return _private_buffers(program)[kernel]


def _private_buffers(program: Program) -> dict[str, list[bool]]:
    """For each kernel and parameter, whether it overlaps no other one in any call. The arena and the weights never
    overlap a caller's buffer; two callers' buffers may, and so do an input and an output of a call in place."""
    found: dict[str, list[bool]] = {}
    for call in (op for op in program.walk() if isinstance(op, Call)):
        flags = _private(call)
        known = found.get(call.kernel, flags)
        found[call.kernel] = [a and b for a, b in zip(known, flags, strict=True)]
    return found


def _private(call: Call) -> list[bool]:
    roots = [_root(arg.op) for arg in call.args]
    places = [op.offset if isinstance(op, Alloc) else None for op in roots]
    # Views of one buffer that meet in one call are disjoint boxes of it, or are only read.
    shared = [
        any(p is not None and p == q and a is not b for b, q in zip(roots, places, strict=True))
        for a, p in zip(roots, places, strict=True)
    ]
    return [isinstance(op, Alloc | Weight) and not s for op, s in zip(roots, shared, strict=True)]


def _root(op: object) -> object:
    while isinstance(op, View):
        op = op.source.op
    return op


class _Build:
    """Objects of LLVM IR texts, from the cache or compiled by `crew` from the moment that they are added."""

    def __init__(self, crew: Crew, target: TargetInfo, opt: int, cache: bool) -> None:
        self._crew, self._cache = crew, cache
        features = f"{target.triple} {target.cpu} {target.features}"
        self._version = f"{llvmlite.__version__} {llvm.llvm_version_info} {opt} {features}"
        self._keys: list[str] = []
        self._objects: dict[str, bytes] = {}
        self._missing: list[str] = []

    def add(self, name: str, text: str, quick: bool = False) -> None:
        """One more text; `name` is what an error shows; `quick`: with few of LLVM's passes."""
        key = digest(self._version + " quick" * quick, text)
        self._keys.append(key)
        if key in self._objects or key in self._missing:
            return
        if self._cache and (found := _OBJECTS.get(key)) is not None:
            self._objects[key] = found
        else:
            self._missing.append(key)
            self._crew.add(Job(name, text, quick))

    def finish(self) -> tuple[list[bytes], int]:
        """Objects of the texts in their order, and how many of them the cache had."""
        hits = len(self._objects)
        for key, body in zip(self._missing, self._crew.finish(), strict=True):
            self._objects[key] = body
            if self._cache:
                _OBJECTS.put(key, body)
        if self._cache and self._missing:
            _OBJECTS.trim()
        return [self._objects[key] for key in self._keys], hits


def compile_texts(
    texts: Sequence[str], names: Sequence[str], target: TargetInfo, *, opt: int, workers: int, cache: bool
) -> tuple[list[bytes], int]:
    """Objects of LLVM IR `texts`, and how many of them the cache had."""
    with Crew(target, opt, workers) as crew:
        build = _Build(crew, target, opt, cache)
        for name, text in zip(names, texts, strict=True):
            build.add(name, text)
        return build.finish()


def compile_program(
    program: Program,
    kernels: CompiledKernels,
    target: TargetInfo,
    *,
    manifest: bytes,
    features: Sequence[str],
    selftest: SelfTest | None = None,
    profile: bool = False,
    name: str = MAIN,
) -> tuple[str, bytes]:
    """The program's LLVM IR text and object; `name`: what its descriptor is called; `profile`: with marks for the
    runtime's clock."""
    text = emit_program(
        program,
        kernels.stages,
        target,
        manifest=manifest,
        features=features,
        scratch=kernels.scratch,
        selftest=selftest,
        profile=profile,
        name=name,
    )
    return text, compile_object(text, target, 1, sizes=True)


def compile_descriptor(what: Descriptor, target: TargetInfo, name: str = MAIN) -> tuple[str, bytes]:
    """The LLVM IR text and object of the descriptor, called `name`, of a model that has variants."""
    text = emit_variants(what, target, name)
    return text, compile_object(text, target, 1)


def code_bytes(body: bytes) -> int:
    """Bytes of machine code in an object."""
    sections = cast("Iterable[Any]", llvm.ObjectFileRef.from_data(body).sections())
    return sum(s.size() for s in sections if s.is_text())


def llvm_version() -> str:
    """The version of LLVM that makes the code, as text."""
    version = cast("tuple[int, ...]", llvm.llvm_version_info)
    return ".".join(map(str, version))
