"""The rules that all IR obeys, checked after every pass. Time is linear in the number of operations; no data is read.

- Values are used only where they are visible: below their definition, in the same region or one inside it; regions
  of isolated operations, and functions, see nothing from outside.
- The registered uses of a value are exactly its uses.
- Every region ends in its only terminator: `return` in a graph, `yield` elsewhere (kernels and programs: either).
- `infer` of every operation gives the types its results have, and its own `verify` passes.
- Kernels obey `ir.kernel.verify`; calls in programs fit the kernels they name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from .core import REGISTRY, Function, Graph, Module, Op, Region, Use, Value
from .errors import VerifyError
from .kernel.form import Kernel, KernelOp
from .kernel.verify import KernelError, verify_kernel
from .program import Call, Program
from .text.printer import op_line
from .types import TensorType


def verify(module: Module) -> None:
    """Check a whole module. Raises `VerifyError`: `where: operation: expected X, got Y`, then the operation's text;
    where is `file:line` for IR that was read from a file, else `@function`."""
    symbols = module_symbols(module)
    for function in module.functions.values():
        _Verifier(function, symbols).run()
    for function in module.functions.values():
        if isinstance(function, Program):
            _verify_calls(function, module)
    for name, island in module.islands.items():
        try:
            verify(island)
        except VerifyError as error:
            raise VerifyError(f"island @{name}: {error}") from error


def verify_function(function: Function) -> None:
    """Check one function (calls of other functions are not followed). Raises `VerifyError`."""
    _Verifier(function, module_symbols(Module([function]))).run()


def module_symbols(module: Module) -> frozenset[str]:
    """All shape symbols: those in the functions' parameter types, those that come from the contents of inputs, and
    those that a program lists."""
    found: set[str] = set()
    for f in module.functions.values():
        for p in f.params:
            if isinstance(p.type, TensorType):
                found |= p.type.symbols
        found |= set(f.attributes.get("symbols", ()))
        found |= {symbol for _, _, symbol in f.attributes.get("bindings", ())}
    return frozenset(found)


class _Verifier:
    def __init__(self, function: Function, symbols: frozenset[str]) -> None:
        self.function = function
        self.symbols = symbols
        self.visible: set[Value] = set()
        self.uses: dict[Value, set[Use]] = {}
        self.values: list[Value] = []

    def run(self) -> None:
        f = self.function
        self.region(f.body, f)
        self.check_uses()
        if isinstance(f, Graph) and f.result_names and len(f.result_names) != len(f.results):
            self.fail(None, f"expected {len(f.result_names)} results, got {len(f.results)}")
        if isinstance(f, Kernel):
            self.kernel(None, f.params, f.outputs, f.body)

    def fail(self, op: Op | None, message: str) -> NoReturn:
        if op is None:
            raise VerifyError(f"@{self.function.name}: {message}")
        raise VerifyError(f"{op.position or '@' + self.function.name}: {op.text_name}: {message}", op_line(op))

    # -- structure ----------------------------------------------------------------------------------------------

    def region(self, region: Region, owner: Op | Function) -> None:
        at = owner if isinstance(owner, Op) else None
        if region.parent is not owner:
            self.fail(at, "expected the region to belong to its operation, got another owner")
        defined: list[Value] = []
        self.define(region.params, region, defined)
        for op in region:
            if op.terminator and op is not region.last:
                self.fail(op, "expected the region's last operation, got more behind it")
            self.operation(op)
            self.define(op.results, op, defined)
        self.terminator(region, owner, at)
        self.visible.difference_update(defined)

    def define(self, values: Iterable[Value], owner: Op | Region, defined: list[Value]) -> None:
        for value in values:
            if value.owner is not owner:
                self.fail(owner if isinstance(owner, Op) else None, f"expected to own {value!r}, got another owner")
            self.visible.add(value)
            self.values.append(value)
            defined.append(value)

    def terminator(self, region: Region, owner: Op | Function, at: Op | None) -> None:
        last = region.last
        if last is None or not last.terminator:
            self.fail(at, "expected a region that ends in a terminator, got " + (last.text_name if last else "nothing"))
        wanted = "return" if isinstance(owner, Graph) else "yield"
        if last.op_name != wanted and (isinstance(owner, Op | Graph)):
            self.fail(last, f"expected '{wanted}' at the end of a {'graph' if wanted == 'return' else 'region'}")

    def operation(self, op: Op) -> None:
        if REGISTRY.get(op.op_name) is not type(op):
            self.fail(op, f"expected a registered operation, got class {type(op).__name__}")
        for index, value in enumerate(op.operands):
            if value is None:
                continue
            if value not in self.visible:
                self.fail(op, f"expected an operand that is defined above, got {value!r}")
            self.uses.setdefault(value, set()).add(Use(op, index))
        outer = self.visible
        for region in op.regions:
            if op.isolated:
                self.visible = set()
            self.region(region, op)
        self.visible = outer
        self.types(op)

    def types(self, op: Op) -> None:
        try:
            inferred = list(op.infer())
            op.verify()
        except (VerifyError, AssertionError, ValueError, TypeError, IndexError, KeyError) as error:
            self.fail(op, str(error) or f"expected operands that fit, got {type(error).__name__}")
        if len(inferred) != len(op.results):
            self.fail(op, f"expected {len(inferred)} results, got {len(op.results)}")
        for want, result in zip(inferred, op.results, strict=True):
            if want != result.type:
                self.fail(op, f"expected result type {want}, got {result.type}")
        if isinstance(op, KernelOp):
            self.kernel(op, op.region.params, len(op.outputs), op.region)

    def check_uses(self) -> None:
        for value in self.values:
            want = self.uses.get(value, set())
            if value.uses.keys() != want:
                where = value.owner if isinstance(value.owner, Op) else None
                self.fail(where, f"expected {len(want)} registered uses of {value!r}, got {len(value.uses)}")

    def kernel(self, op: Op | None, params: list[Value], outputs: int, body: Region) -> None:
        try:
            verify_kernel(params, outputs, body, self.symbols)
        except KernelError as error:
            inner = error.at if error.at is not None else op
            self.fail(inner, error.message)


def _verify_calls(program: Program, module: Module) -> None:
    for op in program.walk():
        if not isinstance(op, Call):
            continue
        where = f"{op.position or '@' + program.name}: p.call"
        kernel = module.functions.get(op.kernel)
        if not isinstance(kernel, Kernel):
            raise VerifyError(f"{where}: expected the name of a kernel, got '{op.kernel}'", op_line(op))
        want, got = [p.type for p in kernel.params], [a.type for a in op.args]
        if len(want) != len(got):
            raise VerifyError(f"{where}: expected {len(want)} buffers for @{kernel.name}, got {len(got)}", op_line(op))
        for i, (w, g) in enumerate(zip(want, got, strict=True)):
            if w != g:
                raise VerifyError(f"{where}: expected buffer {i} of @{kernel.name} to be {w}, got {g}", op_line(op))
