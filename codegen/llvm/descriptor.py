"""The descriptor of a compiled model: a `planish_module` as LLVM IR text.

The layout of every structure is that of `runtime/native/planish_abi.h`; the order of fields there and here is one fact
written twice, which the tests of the artifacts hold together.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.expr import Dim, Expr
from ...ir.target_info import TargetInfo
from ...ir.types import TensorType, Type
from ...runtime.manifest import SelfTest

ABI_VERSION = 4
MAIN = "planish_module_data"
Ports = Sequence[tuple[str, Type]]


@dataclass
class Text:
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


@dataclass(frozen=True)
class CheckRow:
    """One condition on symbols: `expr` is 0 (or, with `least`, at least 0). `node` is a number of `nodes`, or -1."""

    expr: Expr
    least: bool
    message: str
    node: int = -1


@dataclass(frozen=True)
class Descriptor:
    """What a `planish_module` says. `variants` are the names of other descriptors, one for each assignment of ranks to
    the inputs of unknown rank; `refusals` the ranks (-1 where the rank is known) that have no variant, and why.
    `bindings` are (input, element, symbol); of `checks` the code is `@planish_check`. `plan` names the plan of a model
    that is no single program: then there is no code. `ranges` are the sizes (symbol, least, most) that it takes,
    `states` bytes and first contents (None: zeros) of the last inputs, which keep what the last outputs were."""

    inputs: Ports
    outputs: Ports
    symbols: Sequence[str]
    weights_bytes: int
    nodes: Sequence[str] = ()
    features: Sequence[str] = ()
    manifest: bytes = b""
    selftest: SelfTest | None = None
    variants: Sequence[str] = ()
    refusals: Sequence[tuple[Sequence[int], str]] = ()
    bindings: Sequence[tuple[int, int, str]] = ()
    checks: Sequence[CheckRow] = ()
    plan: str = ""
    ranges: Sequence[tuple[str, int, int]] = ()
    states: Sequence[tuple[int, bytes | None]] = ()


def describe(text: Text, what: Descriptor, name: str = MAIN) -> None:
    """Add the constant `name` to `text`. The code of one without variants and plan is `@planish_run` and
    `@planish_sizes`."""
    symbol_table, node_table, feature_table = (
        text.table([text.string(_c_string(n)) for n in group], "ptr")
        for group in (what.symbols, what.nodes, what.features)
    )
    code = ["ptr null", "ptr null"] if what.variants or what.plan else ["ptr @planish_run", "ptr @planish_sizes"]
    fields = [
        f"i32 {ABI_VERSION}", f"i32 {len(what.inputs)}", f"i32 {len(what.outputs)}", f"i32 {len(what.symbols)}",
        f"ptr {_io_specs(text, what.symbols, what.inputs)}", f"ptr {_io_specs(text, what.symbols, what.outputs)}",
        f"ptr {symbol_table}", *code,
        f"i32 {len(what.nodes)}", "i32 0", f"ptr {node_table}",
        f"i32 {len(what.features)}", "i32 0", f"ptr {feature_table}",
        f"i64 {what.weights_bytes}",
        f"ptr {text.string(what.manifest)}", f"i64 {len(what.manifest)}", f"ptr {_selftest(text, what.selftest)}",
        f"i32 {len(what.variants)}", f"i32 {len(what.refusals)}",
        f"ptr {text.table([f'@{v}' for v in what.variants], 'ptr')}", f"ptr {_refusals(text, what.refusals)}",
        f"i32 {len(what.bindings)}", f"i32 {len(what.checks)}",
        f"ptr {_bindings(text, what)}", f"ptr {_checks(text, what)}",
        "ptr @planish_check" if what.checks else "ptr null", f"ptr {what.plan or 'null'}",
        f"i32 {len(what.ranges)}", f"i32 {len(what.states)}", f"ptr {_ranges(text, what)}",
        f"ptr {_states(text, what)}",
    ]  # fmt: skip
    types = ", ".join(f.split()[0] for f in fields)
    text.globals.append(f"@{name} = hidden constant {{ {types} }} {{ {', '.join(fields)} }}, align 8")


def _bindings(text: Text, what: Descriptor) -> str:
    rows = [
        f"{{ i32 {number}, i32 -1, i64 {at}, i32 {what.symbols.index(name)}, i32 {int(name.startswith('?n'))} }}"
        for number, at, name in what.bindings
    ]
    return text.table(rows, "{ i32, i32, i64, i32, i32 }")


def _ranges(text: Text, what: Descriptor) -> str:
    rows = [f"{{ i32 {what.symbols.index(name)}, i32 0, i64 {low}, i64 {high} }}" for name, low, high in what.ranges]
    return text.table(rows, "{ i32, i32, i64, i64 }")


def _states(text: Text, what: Descriptor) -> str:
    rows = [f"{{ i64 {size}, ptr {'null' if first is None else text.string(first)} }}" for size, first in what.states]
    return text.table(rows, "{ i64, ptr }")


def _checks(text: Text, what: Descriptor) -> str:
    rows: list[str] = []
    for check in what.checks:
        numbers = [str(what.symbols.index(name)) for name in sorted(check.expr.symbols())]
        words = text.string(_c_string(str(check.expr)))
        rows.append(
            f"{{ i32 {check.node}, i32 {int(check.least)}, ptr {text.string(_c_string(check.message))}, ptr {words}, "
            f"i32 {len(numbers)}, i32 0, ptr {text.table(numbers, 'i32')} }}"
        )
    return text.table(rows, "{ i32, i32, ptr, ptr, i32, i32, ptr }")


def emit_variants(what: Descriptor, target: TargetInfo, name: str = MAIN) -> str:
    """LLVM IR of the descriptor, called `name`, of a model that has variants; theirs are in other modules."""
    text = Text()
    describe(text, what, name)
    externals = [f"@{name} = external hidden constant i8" for name in what.variants]
    return "\n".join([f'target triple = "{target.triple}"', "", *externals, "", *text.globals]) + "\n"


def _refusals(text: Text, refusals: Sequence[tuple[Sequence[int], str]]) -> str:
    rows: list[str] = []
    for ranks, reason in refusals:
        table = text.table([str(rank) for rank in ranks], "i32")
        rows.append(f"{{ ptr {table}, ptr {text.string(_c_string(reason))} }}")
    return text.table(rows, "{ ptr, ptr }")


def _c_string(name: str) -> bytes:
    """A name for C: NUL would end it, so it is shown as U+2400."""
    return name.replace("\0", "\u2400").encode("utf-8", "replace")


def _io_specs(text: Text, symbols: Sequence[str], specs: Ports) -> str:
    rows: list[str] = []
    for name, type in specs:
        shape = type.shape if isinstance(type, TensorType) else None
        dims = text.table([str(_io_dim(symbols, d)) for d in shape or ()], "i64")
        fields = [
            f"ptr {text.string(_c_string(name))}",
            f"ptr {text.string(type_name(type).encode())}",
            f"i32 {-1 if shape is None else len(shape)}",
            "i32 0",
            f"ptr {dims}",
        ]
        rows.append("{ " + ", ".join(fields) + " }")
    return text.table(rows, "{ ptr, ptr, i32, i32, ptr }")


def type_name(type: Type) -> str:
    """The element type of a tensor; of anything else the whole type, in which sizes found at run time are `?`."""
    return type.dtype if isinstance(type, TensorType) else re.sub(r'"\?[^"]*"', "?", str(type))


def _io_dim(symbols: Sequence[str], dim: Dim) -> int:
    """Constant dimensions as they are; symbol number n as -(n + 1). Other expressions occur in outputs only, whose
    dimensions `sizes` gives: they are written as the first symbol of the expression."""
    if isinstance(dim, int):
        return dim
    name = dim.symbol or min(dim.symbols())
    return -(symbols.index(name) + 1)


def _selftest(text: Text, test: SelfTest | None) -> str:
    if test is None:
        return "null"
    symbols = text.table([str(s) for s in test.symbols], "i64")
    ranges = text.table([double(v) for pair in test.ranges for v in pair], "double")
    sums = text.table([double(v) for pair in test.sums for v in pair or (math.nan, math.nan)], "double")
    row = "{ i32, i32, i64, double }"
    samples = text.table(
        [f"{{ i32 {s.output}, i32 0, i64 {s.index}, double {double(s.value)} }}" for s in test.samples], row
    )
    fields = [
        f"i64 {test.seed}", f"ptr {symbols}", f"ptr {ranges}", f"ptr {sums}", f"double {double(test.rtol)}",
        f"double {double(test.atol)}", f"i64 {len(test.samples)}", f"ptr {samples}",
    ]  # fmt: skip
    types = ", ".join(f.split()[0] for f in fields)
    text.globals.append(f"@.selftest = private constant {{ {types} }} {{ {', '.join(fields)} }}, align 8")
    return "@.selftest"


def double(value: float) -> str:
    """LLVM's exact hexadecimal form of a double."""
    return "0x" + struct.pack(">d", value).hex().upper()
