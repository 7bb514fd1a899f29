"""The way of a model: file -> tensor form -> passes -> objects -> artifact.

Everyone calls `compile_file` or `compile`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from planish._atomic import written_beside
from planish._collecting import few_collections
from planish._lower import Options, available_threads, lower
from planish._selftest import golden_test
from planish._version import __version__
from planish.codegen.link import Emit, link
from planish.codegen.llvm.compile import (
    CompiledKernels,
    code_bytes,
    compile_descriptor,
    compile_program,
    compile_variants,
    llvm_version,
)
from planish.codegen.llvm.descriptor import MAIN
from planish.codegen.llvm.objects import compile_assembly
from planish.codegen.llvm.target import targets_for
from planish.codegen.toolchain import find_compiler, prepare_runtime
from planish.frontend import Reading, Source, open_model
from planish.identity import known_source, library_place
from planish.ir.core import Module
from planish.ir.errors import PlanishError
from planish.ir.expr import Dim, symbol_bounds
from planish.ir.kernel.builder import reserved_names
from planish.ir.packing import weights_image
from planish.ir.plan import Plan
from planish.ir.program import Program
from planish.ir.state import State, states_of
from planish.ir.target_info import TargetInfo
from planish.ir.verifier import module_symbols
from planish.islands import Pieces, Spec, emit_pieces, pieces, plan_facts, port_shape, port_type
from planish.passes import PassContext, PassReport
from planish.preflight import preflight
from planish.runtime import Model, load
from planish.runtime.escape import log_text
from planish.runtime.manifest import Manifest, Memory, Port, SelfTest, Target, Tuned
from planish.shapes import Given
from planish.tuner import Part, TuneOptions, TuneReport
from planish.tuning import Tuning
from planish.variants import Variants, descriptor, join, ranges_of, read_variants, whole_manifest, whole_specs

if TYPE_CHECKING:
    import onnx

LINKED: tuple[Emit, ...] = ("exe", "lib", "static", "obj")


@dataclass(frozen=True)
class Lowered:
    """A module as it was compiled: `program` calls kernels that `module` holds, each of which has `kernels.stages`."""

    module: Module
    program: Program
    kernels: CompiledKernels
    target: TargetInfo


@dataclass
class Level:
    """The model for one CPU: its variants as they were read, then lowered (`parts`), and LLVM IR text and object of
    everything that is not a kernel (`mains`). A variant is one piece with one part, or more if it is a plan."""

    target: TargetInfo
    variants: Variants
    pieces: list[Pieces] = field(default_factory=list[Pieces])
    parts: list[Lowered] = field(default_factory=list[Lowered])
    mains: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])


@dataclass
class CompileReport:
    """What a compilation did: the seconds of each step, the passes, and the sizes in bytes of what came out."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    passes: list[PassReport] = field(default_factory=list[PassReport])
    kernels: int = 0
    cached_kernels: int = 0
    arena_bytes: int = 0
    arena_lower_bound: int = 0
    weights_bytes: int = 0
    code_bytes: int = 0
    lowered: Lowered | None = None
    """Of profiling builds: what the marks of a run stand for."""
    tuned: Tuned | None = None
    """Of builds with measured schedules: how many, and from which database."""
    tuning: TuneReport | None = None
    """What was measured during this build."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def total_seconds(self) -> float:
        """All steps together."""
        return sum(self.seconds.values())


class _Steps:
    """Times the steps of one compilation into its report."""

    def __init__(self, report: CompileReport) -> None:
        self.report = report
        self.last = time.perf_counter()

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.report.seconds[name] = now - self.last
        self.last = now


@few_collections()
def compile_file(
    model: Path | bytes | onnx.ModelProto | Source,
    out: Path,
    *,
    reading: Reading | None = None,
    emit: str = "lib",
    cpu: str = "",
    triple: str = "",
    opt: int = 3,
    threads: int | None = None,
    passes: str | None = None,
    disable: Sequence[str] = (),
    shapes: Mapping[str, Given] | None = None,
    ranks: Mapping[str, int] | None = None,
    workers: int | None = None,
    cache: bool = True,
    profile: bool = False,
    self_test: bool = True,
    strict: bool = False,
    tune: float = 0.0,
    tune_database: Path | None = None,
    on_tune: Callable[[str], None] | None = None,
) -> CompileReport:
    """Compile `model` into `out`; `emit` is exe, lib, static, obj, llvm or asm. `reading` says how the model is opened:
    other weights, a key, one of several graphs.

    `triple` is the machine to compile for, `aarch64-linux-gnu` say (default: this one); `cpu` is one of its CPUs by
    name, `native` (this machine's own, the default here), or `portable`: the artifact then has kernels for x86-64-v2,
    v3 and v4, and takes the best that the CPU can run when it is opened. `opt` 0..3 picks the pipeline, `passes`
    replaces it; `shapes` fixes or limits the shapes of inputs, or sizes by their symbol, and asks for versions
    (`planish.shapes`: {"seq": "1..512@32:128", "x": [1, 3, 224, 224]}), `ranks` the ranks of inputs that the model
    leaves open (of the others, the artifact has code for every rank of 0..6 that fits); `workers` is the number of
    compiler processes (default: one per core). With `profile` each run records the time of every kernel call
    (`runtime.loader.Binding.profile`); without `self_test` the artifact has none; with `strict` slow paths are errors
    that list the nodes. `tune` seconds are spent on measuring schedules, which go into `tune_database` (default: a file
    in the cache); a database given without `tune` is only used. `on_tune` hears how far it is. Raises `PlanishError`
    with one complete message; then `out` is untouched.
    """
    tuning = Tuning.of(tune, tune_database, on_tune)
    options = Options(cpu, opt, threads, passes, tuple(disable), workers, cache, triple, tuning)
    out = Path(out)
    if not out.parent.is_dir():
        raise PlanishError(f"{out}: the folder {out.parent} does not exist: make it, or choose another place")
    targets = targets_for(options.cpu, options.triple)
    if emit in LINKED:
        # That it is missing should be said before the work is done.
        prepare_runtime(find_compiler(targets[0].triple))
    report = CompileReport()
    steps = _Steps(report)
    source = open_model(model, reading)
    if strict:
        preflight(source, targets[0], options, shapes, ranks).require_fast()
    # Passes change modules, so each level reads its own.
    levels = [Level(target, read_variants(source, shapes, ranks)) for target in targets]
    variants = levels[0].variants
    report.notes.extend(notes_of(variants.modules[0]))
    symbols = frozenset[str]().union(*map(module_symbols, variants.modules))  # versions will have those of others, too
    with symbol_bounds(variants.shapes.bounds), reserved_names(symbols):
        if profile:
            _check_profile(levels, options)
        steps.done("read")
        tested = self_test and levels[0].variants.is_single
        selftest = golden_test(levels[0].variants.modules[0]) if tested else None
        steps.done("self-test")
        _lower_all(levels, options, report, steps)
        names = [MAIN] if len(levels) == 1 else [f"planish_level_{i}" for i in range(len(levels))]
        for level, main in zip(levels, names, strict=True):
            level.mains = _descriptors(level, report, selftest, main, profile)
        if profile:
            if levels[0].pieces[0].plan:
                raise PlanishError("profile: expected a model that is one program, got one that runs by a plan")
            report.lowered = levels[0].parts[0]
        _fill(report, levels)
        if emit in LINKED:
            _link(levels, names, emit, out, report.weights_bytes)
        else:
            _write_text(levels, emit, out)
        steps.done("link")
        return report


def notes_of(module: Module) -> list[str]:
    """What reading the model found that the user should know."""
    return [str(line) for line in cast(Sequence[object], module.attributes.get("notes", ()))]


def _check_profile(levels: Sequence[Level], options: Options) -> None:
    """Profiles are of one variant for one CPU."""
    unranked = levels[0].variants.unranked
    if not unranked and not levels[0].variants.is_single:
        raise PlanishError("profile: expected one program, got versions for several sizes: choose one --shape")
    if unranked:
        raise PlanishError(f"profile: the rank of input {log_text(unranked[0])} is unknown: give its rank")
    if len(levels) > 1:
        raise PlanishError(f"profile: --cpu {options.cpu}: expected one CPU, got {len(levels)} levels")


def _link(levels: Sequence[Level], names: Sequence[str], emit: Emit, out: Path, weights_bytes: int) -> None:
    """All objects and the weights into one artifact; `names` are those of the levels' descriptors."""
    parts = [part for level in levels for part in level.parts]
    objects = [body for part in parts for body in part.kernels.objects]
    objects += [body for level in levels for _, body in level.mains]
    weights: Iterable[bytes | memoryview] = weights_image(*(p.program for p in parts)) if parts else ()
    name = str(levels[0].pieces[0].module.attributes.get("name") or out.stem)
    link(objects, weights, weights_bytes, emit, out, name=name, triple=levels[0].target.triple, modules=names)


def _lower_all(levels: Sequence[Level], options: Options, report: CompileReport, steps: _Steps) -> None:
    """Every variant of every level down to kernels in machine code: for an ordinary model one."""
    passes: list[list[PassReport]] = []
    for level in levels:
        measured = options.tuning.database if options.tuning else None
        context = PassContext(
            level.target, options.threads or available_threads(), options.opt, levels[0].target, measured
        )
        passes += level.variants.each(lambda module, context=context: lower(module, context, options))
    report.passes = [replace(p[0], seconds=sum(one.seconds for one in p)) for p in zip(*passes, strict=True)]
    for level in levels:
        level.pieces = [pieces(module) for module in level.variants.modules]
    pairs = [[pair for piece in level.pieces for pair in piece.programs] for level in levels]
    programs = [[program for _, program in group] for group in pairs]
    heads = [piece.head for level in levels for piece in level.pieces]
    for head in heads:
        head.attributes["ranges"] = ranges_of(levels[0].variants.shapes, head.attributes["symbols"])
        head.attributes["states"] = [first_contents(s) for s in states_of(levels[0].variants.modules[0])]
    if len(heads) > 1 or isinstance(heads[0], Plan):
        join(heads, [program for group in programs for program in group])
    steps.done("passes")
    if options.tuning:
        _tune(levels, pairs, options, options.tuning, report)
        steps.done("tune")
    for level, group in zip(levels, pairs, strict=True):
        kernels = compile_variants(
            group,
            level.target,
            opt=max(1, options.opt),
            workers=options.workers or available_threads(),
            cache=options.cache,
        )
        level.parts = [Lowered(m, p, one, level.target) for (m, p), one in zip(group, kernels, strict=True)]
    steps.done("kernels")


def _tune(
    levels: Sequence[Level],
    pairs: Sequence[Sequence[tuple[Module, Program]]],
    options: Options,
    tuning: Tuning,
    report: CompileReport,
) -> None:
    """Measure schedules, if there is time for it, and say which are used."""
    if not any(p.name == "schedule-cpu" for p in report.passes):
        raise PlanishError("tune: expected a pipeline that chooses schedules (schedule-cpu), -O1 or higher")
    if tuning.seconds:
        tuning.database.used = 0
        for level, group in zip(levels, pairs, strict=True):
            parts = [Part(m, p) for m, p in group]
            threads, workers = options.threads or available_threads(), options.workers or available_threads()
            share = tuning.seconds / len(levels)
            tuning.run(parts, level.target, TuneOptions(share, threads, workers, options.opt, options.cache))
        tuning.save()
        report.tuning = tuning.report
    report.tuned, report.notes = tuning.tuned(), [*report.notes, *tuning.notes]


def _descriptors(
    level: Level, report: CompileReport, selftest: SelfTest | None, main: str, profile: bool
) -> list[tuple[str, bytes]]:
    """LLVM IR text and object of everything that is not a kernel: the program, or those of all variants and the
    descriptor of the whole, which is called `main`."""
    target, variants = level.target, level.variants
    features = [f[1:] for f in target.features if f.startswith("+")]
    remaining = iter(level.parts)
    kernels = [[next(remaining).kernels for _ in piece.programs] for piece in level.pieces]
    manifests = [
        make_manifest(piece.module, piece.head, group, target, report, selftest)
        for piece, group in zip(level.pieces, kernels, strict=True)
    ]
    if variants.is_single:
        manifest = manifests[0].to_json().encode()
        return emit_pieces(
            level.pieces[0], kernels[0], target, main,
            lambda program, own: compile_program(
                program, own, target,
                manifest=manifest, features=features, selftest=selftest, profile=profile, name=main,
            ),
            manifest=manifest, features=features, selftest=selftest,
        )  # fmt: skip
    heads = [piece.head for piece in level.pieces]
    names = [f"{main}_variant_{i}" for i in range(len(heads))]
    kept = len(states_of(variants.modules[0]))
    inputs, outputs = (_ports(whole_specs(variants, heads, what), kept) for what in ("inputs", "outputs"))
    whole = replace(whole_manifest(variants, manifests), inputs=inputs, outputs=outputs)
    mains: list[tuple[str, bytes]] = []
    for piece, group, name in zip(level.pieces, kernels, names, strict=True):
        mains += emit_pieces(
            piece, group, target, name,
            lambda program, own, name=name: compile_program(
                program, own, target, manifest=b"", features=(), name=name
            ),
            manifest=b"", features=(),
        )  # fmt: skip
    return [*mains, compile_descriptor(descriptor(variants, heads, names, whole, features), target, main)]


def make_manifest(
    module: Module,
    program: Program | Plan,
    kernels: Sequence[CompiledKernels],
    target: TargetInfo,
    report: CompileReport,
    selftest: SelfTest | None,
) -> Manifest:
    """What the artifact says about itself. Nothing in it depends on where or when it was made."""
    memory = Memory(
        weights=int(program.attributes["weights_bytes"]),
        arena=_fixed(program.attributes["arena_bytes"]),
        lower_bound=_fixed(program.attributes.get("arena_lower_bound", 0)),
        scratch=max((_fixed(one.scratch) for one in kernels), default=0),
        code=sum(code_bytes(o) for one in kernels for o in one.objects),
    )
    kept = len(states_of(module))
    return Manifest(
        name=str(module.attributes.get("name") or "model"),
        inputs=_ports(program.attributes["inputs"], kept),
        outputs=_ports(program.attributes["outputs"], kept),
        states=_ports(program.attributes["inputs"])[-kept:] if kept else (),
        symbols=tuple(program.attributes["symbols"]),
        model_sha256=str(module.attributes.get("sha256", "")),
        passes=tuple(p.name for p in report.passes),
        target=Target(target.triple, target.cpu, tuple(f[1:] for f in target.features if f.startswith("+"))),
        memory=memory,
        versions={"planish": __version__, "llvm": llvm_version()},
        self_test=selftest,
        tuned=report.tuned,
        plan=plan_facts(program, len(module.islands)) if isinstance(program, Plan) else None,
        ranges={name: (low, high) for name, low, high in program.attributes.get("ranges", ())},
    )


def _ports(specs: Sequence[Spec], states: int = 0) -> tuple[Port, ...]:
    """The ports of a model but those of states, which stand at the end."""
    return tuple(Port(name, port_type(type), port_shape(type)) for name, type in specs[: len(specs) - states])


def first_contents(state: State) -> tuple[int, bytes | None]:
    """Bytes of a state, and what they are at first; None for zeros."""
    array = state.initial.array()
    return array.nbytes, np.ascontiguousarray(array).tobytes() if array.any() else None


def _fixed(size: Dim) -> int:
    return size if isinstance(size, int) else size.constant or 0


def _fill(report: CompileReport, levels: Sequence[Level]) -> None:
    parts = [part for level in levels for part in level.parts]
    attributes = [piece.head.attributes for level in levels for piece in level.pieces]
    objects = [body for p in parts for body in p.kernels.objects]
    report.kernels = len(objects)
    report.cached_kernels = sum(p.kernels.cached for p in parts)
    report.arena_bytes = max(_fixed(a["arena_bytes"]) for a in attributes)
    report.arena_lower_bound = max(_fixed(a.get("arena_lower_bound", 0)) for a in attributes)
    report.weights_bytes = int(attributes[0]["weights_bytes"])
    report.code_bytes = sum(code_bytes(o) for o in [*objects, *(body for level in levels for _, body in level.mains)])


def _write_text(levels: Sequence[Level], emit: str, out: Path) -> None:
    """`--emit llvm` and `asm`: all modules after one another, each under a comment line."""
    mark = "#" if emit == "asm" else ";"
    shown: list[str] = []
    for level in levels:
        texts = [text for part in level.parts for text in part.kernels.texts] + [text for text, _ in level.mains]
        shown += [compile_assembly(t, level.target) for t in texts] if emit == "asm" else texts
    with written_beside(out) as place:
        place.write_text("".join(f"{mark} ---- module {i} ----\n{t}\n" for i, t in enumerate(shown)))


def compile(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Any,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
    weights: str | os.PathLike[str] | None = None,
    key: bytes | None = None,
    graph: str = "",
    target: str = "cpu",
    threads: int | None = None,
    cpu: str = "",
    opt: int = 3,
    passes: str | None = None,
    disable: Sequence[str] = (),
    shapes: Mapping[str, Given] | None = None,
    ranks: Mapping[str, int] | None = None,
    workers: int | None = None,
    strict: bool = False,
    tune: float = 0.0,
    tune_database: str | os.PathLike[str] | None = None,
) -> Model:
    """Compile `model` (a path, the bytes of an ONNX file, a `ModelProto`, or a module of PyTorch) and load it.

    A `torch.nn.Module` is exported with `example_inputs` (a tuple of arguments, or a dictionary by their names) and
    `dynamic_shapes`, which are those of `torch.export.export`; a `torch.export.ExportedProgram` has both
    (docs/PYTORCH.md).

    `weights` is a checkpoint whose tensors take the place of the model's own by name; `key` (16, 24 or 32 bytes)
    decrypts the model and its weights; `graph` is one of the graphs of a folder that holds several.

    The library is kept in the cache (unless the model is encrypted), so the second call for the same model and
    options only loads it. The first call with `tune` measures schedules for that many seconds and keeps them in the
    file `tune_database` (docs/TUNING.md). Raises `PlanishError` when the model cannot be compiled.
    """
    if target != "cpu":
        raise PlanishError(f"target: expected cpu, got {target}")
    source = known_source(model, example_inputs, dynamic_shapes)
    reading = Reading(None if weights is None else Path(weights), key, graph)
    base = (
        threads,
        cpu,
        opt,
        passes,
        tuple(disable),
        sorted((shapes or {}).items()),
        sorted((ranks or {}).items()),
        strict,
    )
    database = None if tune_database is None else Path(tune_database)
    tuning = Tuning.of(tune, database, None)
    with library_place(source, repr(base), reading, tuning) as place:
        if not place.exists() or (tuning and tuning.seconds and not tuning.path.exists()):
            compile_file(
                source, place, reading=reading, emit="lib", cpu=cpu, opt=opt, threads=threads, passes=passes,
                disable=disable, shapes=shapes, ranks=ranks, workers=workers, self_test=False, strict=strict,
                tune=tune, tune_database=database,
            )  # fmt: skip
        return load(place, threads=threads)
