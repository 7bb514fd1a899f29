"""A planned program as LLVM IR text: `planish_module_data`, the function that runs the calls, and the one for sizes.

The layout of every structure is that of `runtime/native/planish_abi.h`; the order of fields there and here is one fact
written twice, which the tests of the artifacts hold together.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...ir.core import Op, Region, Value
from ...ir.errors import PlanishError
from ...ir.expr import Call as ExprCall
from ...ir.expr import Dim, Expr, Sym, as_expr
from ...ir.program import Alloc, Call, If, Input, Output, Program, View, Weight
from ...ir.target_info import TargetInfo
from ...ir.types import TensorType
from ...runtime.manifest import SelfTest

ABI_VERSION = 1
_ENV = {"arena": 0, "weights": 8, "inputs": 16, "outputs": 24, "symbols": 32, "scratch": 40, "scratch_stride": 48}


@dataclass(frozen=True)
class StageRef:
    """One stage of a kernel as the program calls it: its symbol, the number of parallel iterations, and the least
    number of them worth a thread."""

    symbol: str
    count: Expr
    grain: int


@dataclass
class _Text:
    """The module under construction: top-level lines, the current function's lines, and a counter for names."""

    globals: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    strings: dict[bytes, str] = field(default_factory=dict[bytes, str])
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> str:
        """Append `%vN = text`; gives the name."""
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def string(self, data: bytes) -> str:
        """A private constant with a final NUL; equal strings are shared."""
        if data not in self.strings:
            name = f"@.s{len(self.strings)}"
            self.strings[data] = name
            body = c_bytes(data + b"\0")
            self.globals.append(f"{name} = private unnamed_addr constant [{len(data) + 1} x i8] {body}")
        return self.strings[data]

    def table(self, items: Sequence[str], type: str) -> str:
        """A private constant array; `null` when empty."""
        if not items:
            return "null"
        name = f"@.t{len(self.globals)}"
        body = ", ".join(f"{type} {item}" for item in items)
        self.globals.append(f"{name} = private unnamed_addr constant [{len(items)} x {type}] [{body}]")
        return name


def c_bytes(data: bytes) -> str:
    """LLVM's constant string: the one place where bytes from a model reach LLVM text."""
    return 'c"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in data) + '"'


def emit_program(
    program: Program,
    kernels: Mapping[str, Sequence[StageRef]],
    target: TargetInfo,
    *,
    manifest: bytes,
    features: Sequence[str],
    scratch: Dim = 0,
    selftest: SelfTest | None = None,
    profile: bool = False,
) -> str:
    """LLVM IR of the module's descriptor. `kernels` gives the stages of each kernel by the name that `p.call` uses;
    `scratch` is the number of scratch bytes per worker; `features` are the CPU features to check at load. With
    `profile`, the runtime is told when the run begins (mark 0) and when each stage of each call ends (marks 1, 2 ...
    in the order of `profile_points`)."""
    text = _Text()
    nodes: dict[str, int] = {}
    run = _run_function(text, program, kernels, nodes, profile)
    sizes = _sizes_function(text, program, scratch)
    _descriptor(text, program, list(nodes), features, manifest, selftest)
    declared = sorted({s.symbol for stages in kernels.values() for s in stages})
    externals = [f"declare hidden i32 @{s}(ptr, ptr, ptr, i64, i64, i32)" for s in declared]
    externals.append("declare i32 @planish_parallel(ptr, ptr, ptr, ptr, i64, i64)")
    if profile:
        externals.append("declare void @planish_profile(ptr, i32)")
    head = [f'target triple = "{target.triple}"', "", *externals, ""]
    return "\n".join([*head, *text.globals, "", *run, "", *sizes]) + "\n"


def profile_points(program: Program, kernels: Mapping[str, Sequence[StageRef]]) -> list[tuple[Call, int]]:
    """The call, and the number of the stage in its kernel, of each mark of a profiling build but mark 0."""
    calls = [op for op in program.walk() if isinstance(op, Call)]
    return [(call, stage) for call in calls for stage in range(len(kernels[call.kernel]))]


# -- run ------------------------------------------------------------------------------------------------------------


def _run_function(
    text: _Text, program: Program, kernels: Mapping[str, Sequence[StageRef]], nodes: dict[str, int], profile: bool
) -> list[str]:
    text.lines = []
    body = _Run(text, program, kernels, nodes)
    if profile:
        body.marks = {point: n for n, point in enumerate(profile_points(program, kernels), 1)}
        text.lines.append("  call void @planish_profile(ptr %env, i32 0)")
    body.region(program.body)
    slots = max([body.most_buffers, 1])
    head = [
        "define internal i32 @planish_run(ptr %env) {",
        "entry:",
        f"  %buffers = alloca [{slots} x ptr], align 16",
        f"  %args = alloca [{len(program.symbols) + 1} x i64], align 16",
        *(
            f"  %p_{name} = getelementptr i8, ptr %env, i64 {_ENV[name]}"
            for name in ("arena", "weights", "inputs", "outputs", "symbols")
        ),
        *(f"  %{name} = load ptr, ptr %p_{name}" for name in ("arena", "weights", "inputs", "outputs", "symbols")),
    ]
    for i, name in enumerate(program.symbols):
        head.append(f"  %sp{i} = getelementptr i64, ptr %symbols, i64 {i}")
        head.append(f"  %sym{i} = load i64, ptr %sp{i} ; {name.encode('ascii', 'replace').decode()!r}")
        head.append(f"  %ap{i} = getelementptr i64, ptr %args, i64 {i}")
        head.append(f"  store i64 %sym{i}, ptr %ap{i}")
    head.append(f"  %node = getelementptr i64, ptr %args, i64 {len(program.symbols)}")
    # A program without calls has no failures to collect.
    tail = ["fail:", f"  %status = phi i32 {body.failures()}", "  ret i32 %status"] if body.failed else []
    return [*head, *text.lines, "  ret i32 0", *tail, "}"]


class _Run:
    """Emits the calls of a program in order."""

    def __init__(
        self, text: _Text, program: Program, kernels: Mapping[str, Sequence[StageRef]], nodes: dict[str, int]
    ) -> None:
        self.text = text
        self.kernels = kernels
        self.nodes = nodes
        self.symbols = {name: f"%sym{i}" for i, name in enumerate(program.symbols)}
        self.most_buffers = 0
        self.blocks = 0
        self.block = "entry"
        self.failed: list[tuple[str, str]] = []
        self.marks: dict[tuple[Call, int], int] = {}

    def region(self, region: Region) -> None:
        """All operations of a region. Buffers need no code of their own: each call computes its pointers."""
        for op in region:
            if isinstance(op, Call):
                self.call(op)
            elif isinstance(op, If):
                self.branch(op)

    def call(self, op: Call) -> None:
        """Store the pointers of the buffers, then call every stage of the kernel."""
        self.most_buffers = max(self.most_buffers, len(op.args))
        for i, arg in enumerate(op.args):
            slot = "%buffers" if i == 0 else self.text.emit(f"getelementptr ptr, ptr %buffers, i64 {i}")
            self.text.lines.append(f"  store ptr {self.pointer(arg)}, ptr {slot}")
        number = self.nodes.setdefault(op.loc or op.kernel, len(self.nodes))
        self.text.lines.append(f"  store i64 {number}, ptr %node")
        for index, stage in enumerate(self.kernels[op.kernel]):
            count = stage.count.constant
            if count is not None and count <= max(1, stage.grain):
                call = f"call i32 @{stage.symbol}(ptr %env, ptr %buffers, ptr %args, i64 0, i64 {count}, i32 0)"
            else:
                size = emit_expr(self.text.emit, stage.count, self.symbols)
                call = (
                    f"call i32 @planish_parallel(ptr %env, ptr @{stage.symbol}, ptr %buffers, ptr %args, "
                    f"i64 {size}, i64 {max(1, stage.grain)})"
                )
            self.check(self.text.emit(call))
            if self.marks:
                mark = self.marks[op, index]
                self.text.lines.append(f"  call void @planish_profile(ptr %env, i32 {mark})")

    def check(self, status: str) -> None:
        """Leave the function when a kernel failed."""
        bad = self.text.emit(f"icmp ne i32 {status}, 0")
        self.blocks += 1
        self.text.lines.append(f"  br i1 {bad}, label %fail, label %next{self.blocks}")
        self.failed.append((status, self.block))
        self.start(f"next{self.blocks}")

    def start(self, block: str) -> None:
        """Begin a basic block."""
        self.text.lines.append(f"{block}:")
        self.block = block

    def branch(self, op: If) -> None:
        """An `if` on the first byte of a buffer."""
        self.blocks += 1
        number = self.blocks
        byte = self.text.emit(f"load i8, ptr {self.pointer(op.condition)}")
        taken = self.text.emit(f"icmp ne i8 {byte}, 0")
        self.text.lines.append(f"  br i1 {taken}, label %then{number}, label %else{number}")
        for label, region in ((f"then{number}", op.then), (f"else{number}", op.otherwise)):
            self.start(label)
            self.region(region)
            self.text.lines.append(f"  br label %join{number}")
        self.start(f"join{number}")

    def pointer(self, value: Value) -> str:
        """The address of a buffer, computed here."""
        op = value.op
        match op:
            case View():
                return self.pointer(op.source)
            case Alloc():
                return self.offset("%arena", op.offset, op)
            case Weight():
                return self.offset("%weights", op.offset if op.offset >= 0 else None, op)
            case Input() | Output():
                base = "%inputs" if isinstance(op, Input) else "%outputs"
                slot = self.text.emit(f"getelementptr ptr, ptr {base}, i64 {op.index}") if op.index else base
                return self.text.emit(f"load ptr, ptr {slot}")
            case _:
                raise PlanishError(f"program: {op and op.op_name} does not give a buffer")

    def offset(self, base: str, offset: Dim | None, op: Op) -> str:
        """`base + offset` bytes."""
        if offset is None:
            raise PlanishError(f"program: {op.op_name} has no offset: plan-memory has not run")
        if offset == 0:
            return base
        return self.text.emit(
            f"getelementptr i8, ptr {base}, i64 {emit_expr(self.text.emit, as_expr(offset), self.symbols)}"
        )

    def failures(self) -> str:
        """Operands of the phi that collects the status."""
        return ", ".join(f"[ {status}, %{block} ]" for status, block in self.failed)


def emit_expr(emit: Callable[[str], str], expr: Expr, symbols: Mapping[str, str]) -> str:
    """The value of `expr` as an i64 operand; `emit` appends an instruction and gives its name."""
    total = ""
    for monomial, coefficient in expr.terms:
        value = "" if monomial else str(coefficient)
        for atom in monomial:
            factor = symbols[atom.name] if isinstance(atom, Sym) else _emit_call(emit, atom, symbols)
            value = factor if not value else emit(f"mul i64 {value}, {factor}")
        if monomial and coefficient != 1:
            value = emit(f"mul i64 {value}, {coefficient}")
        total = value if not total else emit(f"add i64 {total}, {value}")
    return total or "0"


def _emit_call(emit: Callable[[str], str], atom: ExprCall, symbols: Mapping[str, str]) -> str:
    a, b = (emit_expr(emit, arg, symbols) for arg in atom.args)
    if atom.fn in ("min", "max"):
        less = emit(f"icmp {'slt' if atom.fn == 'min' else 'sgt'} i64 {a}, {b}")
        return emit(f"select i1 {less}, i64 {a}, i64 {b}")
    # Divisors of shapes are positive: round toward minus infinity by correcting a negative remainder.
    quotient, rest = emit(f"sdiv i64 {a}, {b}"), emit(f"srem i64 {a}, {b}")
    negative = emit(f"icmp slt i64 {rest}, 0")
    if atom.fn == "floordiv":
        return emit(f"add i64 {quotient}, {emit(f'sext i1 {negative} to i64')}")
    return emit(f"add i64 {rest}, {emit(f'select i1 {negative}, i64 {b}, i64 0')}")


# -- sizes ----------------------------------------------------------------------------------------------------------


def _sizes_function(text: _Text, program: Program, scratch: Dim) -> list[str]:
    text.lines = []
    symbols = {name: f"%sym{i}" for i, name in enumerate(program.symbols)}
    for i in range(len(program.symbols)):
        text.lines.append(f"  %sp{i} = getelementptr i64, ptr %symbols, i64 {i}")
        text.lines.append(f"  %sym{i} = load i64, ptr %sp{i}")
    sizes: list[Dim] = [program.attributes["arena_bytes"], scratch]
    for _, type in program.attributes["outputs"]:
        sizes.extend(type.dims)
    for i, size in enumerate(sizes):
        slot = "%sizes" if i == 0 else text.emit(f"getelementptr i64, ptr %sizes, i64 {i}")
        text.lines.append(f"  store i64 {emit_expr(text.emit, as_expr(size), symbols)}, ptr {slot}")
    return ["define internal void @planish_sizes(ptr %symbols, ptr %sizes) {", *text.lines, "  ret void", "}"]


# -- descriptor -----------------------------------------------------------------------------------------------------


def _descriptor(
    text: _Text,
    program: Program,
    nodes: Sequence[str],
    features: Sequence[str],
    manifest: bytes,
    selftest: SelfTest | None,
) -> None:
    inputs: list[tuple[str, TensorType]] = program.attributes["inputs"]
    outputs: list[tuple[str, TensorType]] = program.attributes["outputs"]
    names = [
        text.table([text.string(_c_string(n)) for n in group], "ptr") for group in (program.symbols, nodes, features)
    ]
    symbol_table, node_table, feature_table = names
    fields = [
        f"i32 {ABI_VERSION}", f"i32 {len(inputs)}", f"i32 {len(outputs)}", f"i32 {len(program.symbols)}",
        f"ptr {_io_specs(text, program, inputs)}", f"ptr {_io_specs(text, program, outputs)}", f"ptr {symbol_table}",
        "ptr @planish_run", "ptr @planish_sizes",
        f"i32 {len(nodes)}", "i32 0", f"ptr {node_table}",
        f"i32 {len(features)}", "i32 0", f"ptr {feature_table}",
        f"i64 {program.attributes['weights_bytes']}",
        f"ptr {text.string(manifest)}", f"i64 {len(manifest)}", f"ptr {_selftest(text, selftest)}",
    ]  # fmt: skip
    types = ", ".join(f.split()[0] for f in fields)
    text.globals.append(f"@planish_module_data = hidden constant {{ {types} }} {{ {', '.join(fields)} }}, align 8")


def _c_string(name: str) -> bytes:
    """A name for C: NUL would end it, so it is shown as U+2400."""
    return name.replace("\0", "\u2400").encode("utf-8", "replace")


def _io_specs(text: _Text, program: Program, specs: Sequence[tuple[str, TensorType]]) -> str:
    rows: list[str] = []
    for name, type in specs:
        dims = text.table([str(_io_dim(program, d)) for d in type.dims], "i64")
        fields = [
            f"ptr {text.string(_c_string(name))}",
            f"ptr {text.string(type.dtype.encode())}",
            f"i32 {type.rank}",
            "i32 0",
            f"ptr {dims}",
        ]
        rows.append("{ " + ", ".join(fields) + " }")
    return text.table(rows, "{ ptr, ptr, i32, i32, ptr }")


def _io_dim(program: Program, dim: Dim) -> int:
    """Constant dimensions as they are; symbol number n as -(n + 1). Other expressions occur in outputs only, whose
    dimensions `sizes` gives: they are written as the first symbol of the expression."""
    if isinstance(dim, int):
        return dim
    name = dim.symbol or min(dim.symbols())
    return -(program.symbols.index(name) + 1)


def _selftest(text: _Text, test: SelfTest | None) -> str:
    if test is None:
        return "null"
    symbols = text.table([str(s) for s in test.symbols], "i64")
    ranges = text.table([_double(v) for pair in test.ranges for v in pair], "double")
    sums = text.table([_double(v) for pair in test.sums for v in pair or (math.nan, math.nan)], "double")
    row = "{ i32, i32, i64, double }"
    samples = text.table(
        [f"{{ i32 {s.output}, i32 0, i64 {s.index}, double {_double(s.value)} }}" for s in test.samples], row
    )
    fields = [
        f"i64 {test.seed}", f"ptr {symbols}", f"ptr {ranges}", f"ptr {sums}", f"double {_double(test.rtol)}",
        f"double {_double(test.atol)}", f"i64 {len(test.samples)}", f"ptr {samples}",
    ]  # fmt: skip
    types = ", ".join(f.split()[0] for f in fields)
    text.globals.append(f"@.selftest = private constant {{ {types} }} {{ {', '.join(fields)} }}, align 8")
    return "@.selftest"


def _double(value: float) -> str:
    """LLVM's exact hexadecimal form of a double."""
    return "0x" + struct.pack(">d", value).hex().upper()


__all__ = ["StageRef", "c_bytes", "emit_expr", "emit_program"]
