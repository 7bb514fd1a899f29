"""A planned program as LLVM IR text: the function that runs the calls, the one for sizes, and the descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ir.core import Op, Region, Value
from ...ir.errors import PlanishError
from ...ir.expr import Call as ExprCall
from ...ir.expr import Dim, Expr, Sym, as_expr, sym
from ...ir.program import Alloc, Call, If, Input, Output, Program, View, Weight
from ...ir.target_info import TargetInfo
from ...ir.types import DTYPES
from ...runtime.manifest import SelfTest
from .descriptor import MAIN, CheckRow, Descriptor, Text, c_bytes, describe

_ENV = {"arena": 0, "weights": 8, "inputs": 16, "outputs": 24, "symbols": 32, "scratch": 40, "scratch_stride": 48}


@dataclass(frozen=True)
class StageRef:
    """One stage of a kernel as the program calls it: its symbol, the number of parallel iterations, and the least
    number of them worth a thread."""

    symbol: str
    count: Expr
    grain: int


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
    name: str = MAIN,
) -> str:
    """LLVM IR of the module's descriptor. `kernels` gives the stages of each kernel by the name that `p.call` uses;
    `scratch` is the number of scratch bytes per worker; `features` are the CPU features to check at load; `name` is
    what the descriptor is called. With `profile`, the runtime is told when the run begins (mark 0) and when each stage
    of each call ends (marks 1, 2 ... in the order of `profile_points`)."""
    text = Text()
    nodes: dict[str, int] = {}
    run = _run_function(text, program, kernels, nodes, profile)
    sizes = _sizes_function(text, program, scratch)
    attributes = program.attributes
    checks = check_rows(attributes, nodes)
    check = _check_function(text, program, checks) if checks else []
    what = Descriptor(
        attributes["inputs"], attributes["outputs"], program.symbols, attributes["weights_bytes"], list(nodes),
        features, manifest, selftest, bindings=attributes.get("bindings", ()), checks=checks,
        ranges=attributes.get("ranges", ()), states=attributes.get("states", ()),
    )  # fmt: skip
    describe(text, what, name)
    declared = sorted({s.symbol for stages in kernels.values() for s in stages})
    externals = [f"declare hidden i32 @{s}(ptr, ptr, ptr, i64, i64, i32)" for s in declared]
    externals.append("declare i32 @planish_parallel(ptr, ptr, ptr, ptr, i64, i64)")
    if profile:
        externals.append("declare void @planish_profile(ptr, i32)")
    externals += [f"declare {{ i64, i1 }} @llvm.s{kind}.with.overflow.i64(i64, i64)" for kind in ("add", "mul")]
    head = [f'target triple = "{target.triple}"', "", *externals, ""]
    return "\n".join([*head, *text.globals, "", *run, "", *sizes, "", *check]) + "\n"


def profile_points(program: Program, kernels: Mapping[str, Sequence[StageRef]]) -> list[tuple[Call, int]]:
    """The call, and the number of the stage in its kernel, of each mark of a profiling build but mark 0."""
    calls = [op for op in program.walk() if isinstance(op, Call)]
    return [(call, stage) for call in calls for stage in range(len(kernels[call.kernel]))]


# -- run ------------------------------------------------------------------------------------------------------------


def _run_function(
    text: Text, program: Program, kernels: Mapping[str, Sequence[StageRef]], nodes: dict[str, int], profile: bool
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
        self, text: Text, program: Program, kernels: Mapping[str, Sequence[StageRef]], nodes: dict[str, int]
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
                size = DTYPES[op.result.tensor.dtype].bytes
                return self.offset(self.pointer(op.source), op.offset * size, op)
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
    if not b.isdecimal() or b == "0":
        # Divisors of shapes are positive: one that was found at run time and is not belongs to a shape that is refused.
        b = emit(f"select i1 {emit(f'icmp sgt i64 {b}, 0')}, i64 {b}, i64 1")
    # Round toward minus infinity by correcting a negative remainder.
    quotient, rest = emit(f"sdiv i64 {a}, {b}"), emit(f"srem i64 {a}, {b}")
    negative = emit(f"icmp slt i64 {rest}, 0")
    if atom.fn == "floordiv":
        return emit(f"add i64 {quotient}, {emit(f'sext i1 {negative} to i64')}")
    return emit(f"add i64 {rest}, {emit(f'select i1 {negative}, i64 {b}, i64 0')}")


# -- sizes ----------------------------------------------------------------------------------------------------------


def _sizes_function(text: Text, program: Program, scratch: Dim) -> list[str]:
    text.lines = _load_symbols(program)
    symbols = {name: f"%sym{i}" for i, name in enumerate(program.symbols)}
    sizes: list[Dim] = [program.attributes["arena_bytes"], scratch]
    for _, type in program.attributes["outputs"]:
        sizes.extend(type.dims)
    # Numbers from data make sizes of any magnitude: those that do not fit in 64 bits are -1, which is refused.
    known = _Checked(text.emit)
    for i, size in enumerate(sizes):
        slot = "%sizes" if i == 0 else text.emit(f"getelementptr i64, ptr %sizes, i64 {i}")
        checked = any(name.startswith("?") for name in as_expr(size).symbols())
        value = known.size(as_expr(size), symbols) if checked else emit_expr(text.emit, as_expr(size), symbols)
        text.lines.append(f"  store i64 {value}, ptr {slot}")
    return ["define internal void @planish_sizes(ptr %symbols, ptr %sizes) {", *text.lines, "  ret void", "}"]


def _load_symbols(program: Program) -> list[str]:
    lines: list[str] = []
    for i in range(len(program.symbols)):
        lines.append(f"  %sp{i} = getelementptr i64, ptr %symbols, i64 {i}")
        lines.append(f"  %sym{i} = load i64, ptr %sp{i}")
    return lines


class _Checked:
    """Emits expressions that notice when 64 bits are too few."""

    def __init__(self, emit: Callable[[str], str]) -> None:
        self._emit = emit
        self._overflow: list[str] = []

    def size(self, expr: Expr, symbols: Mapping[str, str]) -> str:
        """The value of `expr`; -1 when it, or a part of it, does not fit."""
        self._overflow = []
        value = emit_expr(self.emit, expr, symbols)
        for flag in self._overflow:
            value = self._emit(f"select i1 {flag}, i64 -1, i64 {value}")
        return value

    def emit(self, text: str) -> str:
        """Sums and products with a flag, everything else as it is."""
        kind, _, operands = text.partition(" ")
        if kind not in ("mul", "add"):
            return self._emit(text)
        a, b = operands.removeprefix("i64 ").split(", ")
        pair = self._emit(f"call {{ i64, i1 }} @llvm.s{kind}.with.overflow.i64(i64 {a}, i64 {b})")
        self._overflow.append(self._emit(f"extractvalue {{ i64, i1 }} {pair}, 1"))
        return self._emit(f"extractvalue {{ i64, i1 }} {pair}, 0")


# -- checks ---------------------------------------------------------------------------------------------------------


def check_rows(attributes: Mapping[str, Any], nodes: dict[str, int]) -> list[CheckRow]:
    """The conditions under which a program may run, one by one; the names of their nodes are added to `nodes`."""
    rows: list[CheckRow] = []
    for zero, nonnegative, message, loc in attributes.get("checks", ()):
        node = nodes.setdefault(loc, len(nodes)) if loc else -1
        rows += [CheckRow(as_expr(e), False, message, node) for e in zero]
        rows += [CheckRow(as_expr(e), True, message, node) for e in nonnegative]
    for symbol, expr in attributes.get("derived", ()):
        rows.append(
            CheckRow(expr - sym(symbol), False, "a tensor inside the model does not have the size it should have")
        )
    return rows


def _check_function(text: Text, program: Program, rows: Sequence[CheckRow]) -> list[str]:
    """The number of the first row that does not hold, and its value; else -1."""
    text.lines = _load_symbols(program)
    symbols = {name: f"%sym{i}" for i, name in enumerate(program.symbols)}
    for i, row in enumerate(rows):
        value = emit_expr(text.emit, row.expr, symbols)
        bad = text.emit(f"icmp {'slt' if row.least else 'ne'} i64 {value}, 0")
        text.lines += [
            f"  br i1 {bad}, label %bad{i}, label %good{i}",
            f"bad{i}:",
            f"  store i64 {value}, ptr %value",
            f"  ret i32 {i}",
            f"good{i}:",
        ]
    return ["define internal i32 @planish_check(ptr %symbols, ptr %value) {", *text.lines, "  ret i32 -1", "}"]


__all__ = ["StageRef", "c_bytes", "check_rows", "emit_expr", "emit_program"]
