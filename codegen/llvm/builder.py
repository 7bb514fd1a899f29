"""Writes LLVM IR text. The one module of the code generator that knows its syntax; everything else emits through it.

A `V` is a value with its type (`Ty`: an element type and a number of lanes, 0 for a scalar). Values of different
lanes meet in `same_lanes`. Instructions are appended to the current block of a `Builder`, which writes one function.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

_BITS = {
    "i1": 1,
    "i2": 2,
    "i4": 4,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "i128": 128,
    "half": 16,
    "float": 32,
    "double": 64,
    "ptr": 64,
}
_SHORT = {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}


class Ty(NamedTuple):
    """A first-class LLVM type: element and lanes."""

    elem: str
    lanes: int = 0

    def __str__(self) -> str:
        return f"<{self.lanes} x {self.elem}>" if self.lanes else self.elem

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return _BITS[self.elem]

    @property
    def is_float(self) -> bool:
        """True for `half`, `float`, `double`."""
        return self.elem in ("half", "float", "double")

    @property
    def mangled(self) -> str:
        """The suffix of overloaded intrinsics: `v16f32`."""
        short = _SHORT.get(self.elem, self.elem)
        return f"v{self.lanes}{short}" if self.lanes else short

    def of(self, elem: str) -> Ty:
        """The same lanes of another element type."""
        return Ty(elem, self.lanes)


class V(NamedTuple):
    """A value: its type and how it is written."""

    ty: Ty
    text: str

    def __str__(self) -> str:
        return f"{self.ty} {self.text}"


I1, I8, I32, I64, PTR, F32, F64 = (Ty(e) for e in ("i1", "i8", "i32", "i64", "ptr", "float", "double"))


def number(value: float, ty: Ty) -> V:
    """The constant `value` (in all lanes)."""
    if ty.is_float:
        if ty.elem == "float":
            value = struct.unpack("f", struct.pack("f", value))[0] if abs(value) <= 3.4028235677973366e38 else value
        text = "0x" + struct.pack(">d", value).hex().upper()
    elif ty.elem == "i1":
        text = "true" if value else "false"
    else:
        text = str(int(value))
    return V(ty, f"splat ({ty.elem} {text})" if ty.lanes else text)


def i64(value: int) -> V:
    """An i64 constant."""
    return V(I64, str(value))


def lane_constant(ty: Ty, values: Sequence[int]) -> V:
    """An integer vector constant."""
    if ty.elem == "i1":
        words = ["true" if v else "false" for v in values]
    else:
        words = [str(v) for v in values]
    return V(ty, "<" + ", ".join(f"{ty.elem} {w}" for w in words) + ">")


class Builder:
    """One function body under construction. `declarations` collects the functions that it calls."""

    def __init__(self, declarations: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.entry: list[str] = []  # allocas: they must stand in the entry block to be promoted
        self.declarations = declarations
        self.block = "entry"
        self._values = 0
        self._blocks = 0

    # -- plumbing -----------------------------------------------------------------------------------------------

    def emit(self, ty: Ty, text: str) -> V:
        """Append an instruction that gives a value."""
        self._values += 1
        name = f"%v{self._values}"
        self.lines.append(f"  {name} = {text}")
        return V(ty, name)

    def do(self, text: str) -> None:
        """Append an instruction without a value."""
        self.lines.append("  " + text)

    def new_block(self, hint: str = "b") -> str:
        """A fresh label."""
        self._blocks += 1
        return f"{hint}{self._blocks}"

    def start(self, label: str) -> None:
        """Begin block `label`."""
        self.lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        """Unconditional jump."""
        self.do(f"br label %{label}")

    def branch_if(self, condition: V, yes: str, no: str, cold: bool = False) -> None:
        """Conditional jump; `cold` says that `yes` is unlikely."""
        self.do(f"br i1 {condition.text}, label %{yes}, label %{no}" + (", !prof !1" if cold else ""))

    def call(self, name: str, ty: Ty | None, args: Sequence[V], attributes: Sequence[str] = ()) -> V:
        """Call function `name` (declared on demand); `attributes[i]` is added to argument i."""
        result = str(ty) if ty else "void"
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(str(a.ty) for a in args)})"
        words = [f"{a.ty} {a.text}" for a in args]
        for i, attribute in enumerate(attributes):
            if attribute:
                words[i] = f"{args[i].ty} {attribute} {args[i].text}"
        written = ", ".join(words)
        text = f"call {result} @{name}({written})"
        if ty is None:
            self.do(text)
            return V(I1, "poison")
        return self.emit(ty, text)

    def intrinsic(self, name: str, *args: V) -> V:
        """An LLVM intrinsic overloaded on the type of its arguments, which is its result's type too."""
        return self.call(f"llvm.{name}.{args[0].ty.mangled}", args[0].ty, args)

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def op(self, name: str, a: V, b: V) -> V:
        """A binary instruction on two values of one type."""
        return self.emit(a.ty, f"{name} {a.ty} {a.text}, {b.text}")

    def compare(self, how: str, a: V, b: V) -> V:
        """`icmp` or `fcmp`; gives i1 in the same lanes."""
        return self.emit(a.ty.of("i1"), f"{'fcmp' if a.ty.is_float else 'icmp'} {how} {a.ty} {a.text}, {b.text}")

    def select(self, condition: V, a: V, b: V) -> V:
        """`condition ? a : b`; a scalar condition picks whole vectors."""
        if condition.text in ("true", "false"):
            return a if condition.text == "true" else b
        return self.emit(a.ty, f"select {condition.ty} {condition.text}, {a}, {b}")

    def convert(self, how: str, a: V, elem: str) -> V:
        """A conversion instruction (`zext`, `fptosi`, ...)."""
        ty = a.ty.of(elem)
        return self.emit(ty, f"{how} {a} to {ty}")

    def bitcast(self, a: V, ty: Ty) -> V:
        """The same bits as another type."""
        return a if a.ty == ty else self.emit(ty, f"bitcast {a} to {ty}")

    def negate(self, a: V) -> V:
        """`fneg`."""
        return self.emit(a.ty, f"fneg {a}")

    # -- lanes --------------------------------------------------------------------------------------------------

    def splat(self, a: V, lanes: int) -> V:
        """`a` in all lanes (vectors pass unchanged)."""
        if not lanes or a.ty.lanes:
            return a
        ty = Ty(a.ty.elem, lanes)
        if not a.text.startswith("%"):
            return V(ty, f"splat ({a.ty.elem} {a.text})")
        one = self.emit(ty, f"insertelement {ty} poison, {a}, i64 0")
        return self.emit(ty, f"shufflevector {ty} {one.text}, {ty} poison, <{lanes} x i32> zeroinitializer")

    def same_lanes(self, *values: V) -> list[V]:
        """All values with as many lanes as the widest."""
        lanes = max(v.ty.lanes for v in values)
        return [self.splat(v, lanes) for v in values]

    def extract(self, a: V, lane: int | V) -> V:
        """One lane (scalars pass unchanged)."""
        if not a.ty.lanes:
            return a
        at = lane if isinstance(lane, V) else i64(lane)
        return self.emit(Ty(a.ty.elem), f"extractelement {a}, {at}")

    def insert(self, vector: V, a: V, lane: int) -> V:
        """`vector` with one lane replaced."""
        return self.emit(vector.ty, f"insertelement {vector}, {a}, i64 {lane}")

    def shuffle(self, a: V, lanes: Sequence[int]) -> V:
        """Lanes of `a` picked by number."""
        ty = Ty(a.ty.elem, len(lanes))
        picks = ", ".join(f"i32 {n}" for n in lanes)
        return self.emit(ty, f"shufflevector {a}, {a.ty} poison, <{len(lanes)} x i32> <{picks}>")

    def interleave(self, vectors: Sequence[V]) -> list[V]:
        """The lanes of a power of two of vectors, taken from each in turn, in as many vectors."""
        if len(vectors) == 1:
            return list(vectors)
        found: list[V] = []
        for a, b in zip(self.interleave(vectors[::2]), self.interleave(vectors[1::2]), strict=True):
            n = a.ty.lanes
            for first in (0, n // 2):
                picks = ", ".join(f"i32 {i}, i32 {n + i}" for i in range(first, first + n // 2))
                found.append(self.emit(a.ty, f"shufflevector {a}, {b}, <{n} x i32> <{picks}>"))
        return found

    def per_lane(self, f: Callable[..., V], *args: V) -> V:
        """Apply a scalar function lane by lane."""
        lanes = max(a.ty.lanes for a in args)
        if not lanes:
            return f(*args)
        parts = [f(*(self.extract(a, n) for a in args)) for n in range(lanes)]
        result = V(Ty(parts[0].ty.elem, lanes), "poison")
        for n, part in enumerate(parts):
            result = self.insert(result, part, n)
        return result

    # -- memory -------------------------------------------------------------------------------------------------

    def address(self, base: V, elem: str, offset: V | int) -> V:
        """`base + offset` elements of type `elem`."""
        text = offset.text if isinstance(offset, V) else str(offset)
        if text == "0":
            return base
        return self.emit(PTR, f"getelementptr {elem}, {base}, i64 {text}")

    def load(self, ty: Ty, at: V, align: int, note: str = "") -> V:
        """Load; `align` in bytes; `note` is trailing metadata."""
        return self.emit(ty, f"load {ty}, {at}, align {align}{note}")

    def store(self, a: V, at: V, align: int) -> None:
        """Store; `align` in bytes."""
        self.do(f"store {a}, {at}, align {align}")

    def masked_load(self, ty: Ty, at: V, align: int, mask: V, otherwise: V) -> V:
        """Load the lanes where `mask` holds; the others come from `otherwise`."""
        name = f"llvm.masked.load.{ty.mangled}.p0"
        return self.call(name, ty, [at, mask, otherwise], [f"align {align}"])

    def masked_store(self, a: V, at: V, align: int, mask: V) -> None:
        """Store the lanes where `mask` holds."""
        self.call(f"llvm.masked.store.{a.ty.mangled}.p0", None, [a, at, mask], ["", f"align {align}"])

    def alloca(self, size: int) -> V:
        """`size` bytes on the stack, 64-byte aligned, for the whole function."""
        name = f"%stack{len(self.entry)}"
        self.entry.append(f"  {name} = alloca [{max(1, size)} x i8], align 64")
        return V(PTR, name)

    # -- control flow -------------------------------------------------------------------------------------------

    def loop(
        self, begin: V, end: V, carried: Sequence[V], body: Callable[[V, list[V]], Sequence[V]], guard: bool
    ) -> list[V]:
        """`for iv in begin..end-1`, passing values from iteration to iteration; `guard` tests before the first one
        (else at least one iteration must be certain). Gives the carried values after the last."""
        head, leave = self.new_block("loop"), self.new_block("done")
        before = self.block
        if guard:
            self.branch_if(self.compare("slt", begin, end), head, leave)
        else:
            self.branch(head)
        self.start(head)
        at = len(self.lines)
        iv = self.emit(I64, "phi")
        phis = [self.emit(c.ty, "phi") for c in carried]
        yielded = list(body(iv, phis))
        step = self.emit(I64, f"add nuw nsw i64 {iv.text}, 1")
        again = self.compare("slt", step, end)
        latch = self.block
        self.do(f"br i1 {again.text}, label %{head}, label %{leave}, !llvm.loop !0")
        for n, (phi, first, back) in enumerate(zip([iv, *phis], [begin, *carried], [step, *yielded], strict=True)):
            self.lines[at + n] = f"  {phi.text} = phi {phi.ty} [ {first.text}, %{before} ], [ {back.text}, %{latch} ]"
        self.start(leave)
        if not guard:
            return yielded
        ends = [
            f"phi {c.ty} [ {c.text}, %{before} ], [ {y.text}, %{latch} ]" for c, y in zip(carried, yielded, strict=True)
        ]
        return [self.emit(c.ty, text) for c, text in zip(carried, ends, strict=True)]

    def when(self, condition: V, body: Callable[[], None]) -> None:
        """Run `body` where the i1 `condition` holds."""
        yes, after = self.new_block("then"), self.new_block("after")
        self.branch_if(condition, yes, after)
        self.start(yes)
        body()
        self.branch(after)
        self.start(after)


def function(header: str, b: Builder) -> str:
    """The text of a finished function; `header` is `define ... {` without the brace."""
    return "\n".join([header + " {", "entry:", *b.entry, *b.lines, "}"])
