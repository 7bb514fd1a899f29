"""LLVM IR text to ELF objects: parse, optimise, emit, and check what the object needs from outside."""

from __future__ import annotations

import struct
import threading

import llvmlite.binding as llvm

from ...ir.errors import PlanishError
from ...ir.target_info import TargetInfo
from .scalars import LIBM_SYMBOLS

_RUNTIME = frozenset({"memcpy", "memset", "memmove"})
_LOCK = threading.Lock()
_ready = False


def initialize() -> None:
    """Make LLVM's targets known, once per process."""
    global _ready
    with _LOCK:
        if not _ready:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            llvm.initialize_native_asmparser()
            _ready = True


def lljit() -> llvm.LLJIT:
    """A linker of objects into this process, for measurements and tests: artifacts are linked ahead of time.

    JITLink keeps the sections of an object together. The older linker may put them more than 2 GB apart, in a process
    that has used much memory, and then aborts."""
    initialize()
    return llvm.create_lljit_compiler(use_jit_link=True)


def target_machine(target: TargetInfo, opt: int = 3) -> llvm.TargetMachine:
    """LLVM's code generator for `target`: position-independent, small code model."""
    initialize()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=base_cpu(target), features=",".join(target.features), opt=opt, reloc="pic", codemodel="small"
    )


def base_cpu(target: TargetInfo) -> str:
    """The CPU whose instructions may be used besides those of the listed features: the oldest one. What `target.cpu`
    implies beyond them may be switched off (in a virtual machine); it is used for tuning only."""
    return "x86-64" if target.triple.startswith("x86_64") else "generic"


_LONG = 3 << 19  # bytes of LLVM IR from which on the passes take more time than anybody waits


def optimise(text: str, machine: llvm.TargetMachine, opt: int, *, sizes: bool = False) -> llvm.ModuleRef:
    """The optimised module. Loops are already blocked, unrolled and in vectors: those passes of LLVM stay off. `sizes`:
    the code calls kernels and computes sizes."""
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise PlanishError(f"code generation: LLVM rejects the code: {error}") from error
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=min(opt, 2))
    if sizes:
        _deduplicate(machine, module, options)
        return module
    if opt == 0:  # a quarter of the time; what the other passes would find is not there in our code, or rare
        _short(machine, module, options)
        return module
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _short(machine: llvm.TargetMachine, module: llvm.ModuleRef, options: llvm.PipelineTuningOptions) -> None:
    """Run the passes that our own code needs most."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(machine, options))


def _deduplicate(machine: llvm.TargetMachine, module: llvm.ModuleRef, options: llvm.PipelineTuningOptions) -> None:
    """Run the passes that find what is computed twice. No more: where sizes are long sums of products of symbols,
    LLVM's search for common factors takes 20 s for what these do in 0.2."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_new_gvn_pass()
    passes.run(module, llvm.create_pass_builder(machine, options))


def compile_object(text: str, target: TargetInfo, opt: int = 3, *, sizes: bool = False) -> bytes:
    """A relocatable ELF object of the LLVM IR `text`, the same for the same text; `opt` 0 takes the fewest passes, and
    `sizes` says that the code calls kernels and computes sizes, no elements. Raises `PlanishError` when LLVM rejects
    the text or the object would need a function that is not there when it is linked."""
    machine = target_machine(target, max(1, opt))
    module = optimise(text, machine, opt if len(text) < _LONG else 0, sizes=sizes)
    body = machine.emit_object(module)
    unknown = sorted(undefined_symbols(body) - LIBM_SYMBOLS - _RUNTIME)
    unknown = [name for name in unknown if not name.startswith(("planish_", "pk_"))]
    if unknown:
        raise PlanishError(
            f"code generation: the object for {target.cpu} needs functions that nobody has: {', '.join(unknown)}"
        )
    return body


def compile_assembly(text: str, target: TargetInfo, opt: int = 3) -> str:
    """Assembly of the LLVM IR `text`, for people and tests."""
    machine = target_machine(target, opt)
    return machine.emit_assembly(optimise(text, machine, opt))


def undefined_symbols(body: bytes) -> set[str]:
    """Names that an ELF64 object refers to and does not define."""
    (table,) = struct.unpack_from("<Q", body, 40)
    entry, count = struct.unpack_from("<HH", body, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", body, table + i * entry) for i in range(count)]
    found: set[str] = set()
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, home = struct.unpack_from("<IBBH", body, at)
            if name and home == 0:
                end = body.index(b"\0", names + name)
                found.add(body[names + name : end].decode())
    return found
