"""The NumPy meaning of all three forms: what every other way of running a model is held against.

Tensor operations run through their own `reference`; no operation is known here by name. Kernels run through
`ir.kernel.interp`. A program runs over flat memory, addressed through layouts and arena offsets, so that a wrong
layout, view or plan shows in the result; memory that nobody wrote holds poison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from .core import Function, Graph, Module, Op, Region, Value
from .errors import PlanishError
from .expr import Expr, as_expr
from .kernel.buffers import Buffer, bind_symbols, concrete, storage_elements
from .kernel.form import Kernel, KernelOp
from .kernel.interp import EvaluationError, execute, run_kernel
from .ops.host.base import HostOp
from .ops.host.bind import Bind, Check
from .ops.host.control import If as PlanIf
from .ops.host.control import Loop
from .ops.symbols import known_symbols
from .program import Alloc, Call, If, Input, Output, Program, View, Weight
from .scalar import cast as cast_scalar
from .state import states_of
from .types import DTYPES, TensorType

Array = Any


def evaluate(op: Op, operands: Sequence[Array | None], symbols: Mapping[str, int] | None = None) -> tuple[Array, ...]:
    """The results of one tensor-form operation for arrays in operand order (None where an optional one is absent).
    `symbols` gives shape symbols that a kernel's inputs do not tell. Raises `EvaluationError` naming the node."""
    if isinstance(op, KernelOp):
        return tuple(run_kernel(op, [np.asarray(a) for a in operands], symbols))
    reference = getattr(op, "reference", None)
    if reference is None:
        raise EvaluationError(f"{op.loc or op.text_name}: {op.text_name} has no NumPy meaning")
    try:
        with np.errstate(all="ignore"), known_symbols(symbols or {}):
            found: Any = reference(*operands)
    except (LookupError, ValueError, ArithmeticError) as e:  # an index in the data that is out of range, for example
        raise EvaluationError(f"{op.loc or op.text_name}: {op.text_name}: {e}") from e
    results: tuple[Any, ...] = cast("tuple[Any, ...]", found) if isinstance(found, tuple) else (found,)
    if len(results) != len(op.results):
        raise EvaluationError(f"{op.loc or op.text_name}: expected {len(op.results)} results, got {len(results)}")
    return tuple(_checked(op, value.type, array) for value, array in zip(op.results, results, strict=True))


def _checked(op: Op, type: Any, array: Array) -> Array:
    if not isinstance(type, TensorType):
        return array
    array = np.asarray(array)
    want = DTYPES[type.dtype].numpy
    shape = type.shape
    fits = shape is None or (
        len(shape) == array.ndim
        and all(not isinstance(d, int) or d == n for d, n in zip(shape, array.shape, strict=True))
    )
    if (array.dtype != want and type.dtype != "string") or not fits:
        raise EvaluationError(
            f"{op.loc or op.text_name}: {op.text_name}: expected {type}, got {array.dtype}{list(array.shape)}"
        )
    return array


def run_graph(graph: Graph | Module, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, by name, of a graph (or of a module's `main`) for inputs by name. A value is freed after its last
    use. Outputs without a name are called `0`, `1`, ... States of a module that are not given are as at first. Raises
    `PlanishError` for inputs that do not fit."""
    if isinstance(graph, Module):
        inputs = {**{s.input: s.initial.array() for s in states_of(graph)}, **inputs}
        graph = graph.main
    names = [p.name or str(i) for i, p in enumerate(graph.params)]
    arrays, symbols = _inputs(graph.params, names, inputs, graph.attributes)
    results = _run_region(graph.body, arrays, symbols)
    names = graph.result_names or [str(i) for i in range(len(results))]
    return dict(zip(names, results, strict=True))


def _inputs(
    params: Sequence[Value], names: Sequence[str], inputs: Mapping[str, Array], attributes: Mapping[str, Any]
) -> tuple[list[Array], dict[str, int]]:
    unknown = sorted(inputs.keys() - set(names))
    missing = [name for name in names if name not in inputs]
    if unknown or missing:
        raise PlanishError(f"inputs: expected {', '.join(names) or 'none'}, got {', '.join(inputs) or 'none'}")
    symbols: dict[str, int] = {}
    arrays: list[Array] = []
    ranked: list[tuple[TensorType, tuple[int, ...], str]] = []
    for p, name in zip(params, names, strict=True):
        array = inputs[name]
        if isinstance(p.type, TensorType):
            array = np.asarray(array)
            want = DTYPES[p.type.dtype].numpy
            if array.dtype != want and p.type.dtype != "string":
                raise PlanishError(f"input {name}: expected element type {p.type.dtype}, got {array.dtype}")
            if p.type.shape is not None:
                ranked.append((p.type, array.shape, f"input {name}"))
        arrays.append(array)
    for number, element, symbol in attributes.get("bindings", ()):
        symbols[symbol] = int(np.asarray(arrays[number]).reshape(-1)[element])
    bind_symbols([t for t, _, _ in ranked], [s for _, s, _ in ranked], [n for _, _, n in ranked], symbols)
    for zero, nonnegative, message, loc in attributes.get("checks", ()):
        Check(zero, nonnegative, message, loc=loc).test(symbols)
    return arrays, symbols


def _run_region(
    region: Region, arguments: Sequence[Array], symbols: dict[str, int], outer: Mapping[Value, Array] | None = None
) -> list[Array]:
    """The results of a region. `symbols` grows by those that its operations give values to; `outer` holds the values
    that are visible around the region."""
    left = {v: len(v.uses) for v in region.params}
    arrays: dict[Value, Array] = {**(outer or {}), **dict(zip(region.params, arguments, strict=True))}
    checks = _test([op for op in region if isinstance(op, Check)], symbols)
    for op in region:
        if op.terminator:
            return [arrays[v] for v in op.inputs]
        results = _run_op(op, arrays, symbols)
        if checks and isinstance(op, Bind | HostOp | PlanIf | Loop):
            checks = _test(checks, symbols)
        for value, array in zip(op.results, results, strict=True):
            left[value] = len(value.uses)
            if left[value]:
                arrays[value] = array
        for v in op.inputs:
            left[v] = left.get(v, 0) - 1
            if not left[v]:
                del arrays[v]
    return []


def _test(checks: Sequence[Check], symbols: Mapping[str, int]) -> list[Check]:
    """Test those whose symbols are known, as compiled code does when a program begins; gives the others."""
    known = [check for check in checks if check.symbols_read <= symbols.keys()]
    for check in known:
        check.test(symbols)
    return [check for check in checks if check not in known]


def _run_op(op: Op, arrays: Mapping[Value, Array], symbols: dict[str, int]) -> Sequence[Array]:
    """The results of one operation; what belongs to plans is done here, everything else by `evaluate`."""
    operands = [None if v is None else arrays[v] for v in op.operands]
    match op:
        case Bind():
            symbols.update(op.values(operands[0]))
            return ()
        case Check():
            op.test(symbols)
            return ()
        case PlanIf():
            chosen = op.then if bool(np.all(operands[0])) else op.otherwise
            results: Sequence[Array] = _run_region(chosen, (), dict(symbols), arrays)
        case Loop():
            results = _run_loop(op, arrays, symbols)
        case _:
            results = evaluate(op, operands, symbols)
            if not isinstance(op, HostOp):
                return results
    for value, array in zip(op.results, results, strict=True):
        _learn(value.type, array, getattr(op, "sizes", ()), symbols)
    return results


def _learn(type: Any, array: Array, sizes: Sequence[str], symbols: dict[str, int]) -> None:
    """Give those symbols of `sizes` that are dimensions of `type` their values."""
    if isinstance(type, TensorType) and type.shape is not None:
        for dim, n in zip(type.shape, np.shape(array), strict=True):
            if isinstance(dim, Expr) and dim.symbol is not None and dim.symbol in sizes:
                symbols[dim.symbol] = int(n)


def _run_loop(op: Loop, arrays: Mapping[Value, Array], symbols: Mapping[str, int]) -> list[Array]:
    """All rounds of a loop."""
    limit = None if op.limit is None else int(np.asarray(arrays[op.limit]).reshape(()))
    going = op.condition is None or bool(np.all(arrays[op.condition]))
    carried = [arrays[v] for v in op.carried]
    scanned: list[list[Array]] = [[] for _ in op.results[len(carried) :]]
    number = 0
    while going and (limit is None or number < limit):
        inner = dict(symbols)
        arguments = [np.array(number, np.int64), *carried]
        for param, array in zip(op.body.params, arguments, strict=True):
            _learn(param.type, array, op.rounds, inner)
        results = _run_region(op.body, arguments, inner, arrays)
        going = bool(np.all(results[0]))
        carried = results[1 : len(carried) + 1]
        for items, item in zip(scanned, results[len(carried) + 1 :], strict=True):
            items.append(np.asarray(item))
        number += 1
    stacks = zip(scanned, op.results[len(carried) :], strict=True)
    return carried + [_stack(items, value.tensor, symbols) for items, value in stacks]


def _stack(items: Sequence[Array], type: TensorType, symbols: Mapping[str, int]) -> Array:
    """Values of all rounds along a new dimension; of no rounds: a tensor without elements."""
    if items:
        return np.stack(items)
    known = [d if isinstance(d, int) else d.evaluate(symbols) if d.symbols() <= symbols.keys() else 0
             for d in (type.shape or (0,))[1:]]  # fmt: skip
    return np.zeros((0, *known), DTYPES[type.dtype].numpy)


# -- programs -------------------------------------------------------------------------------------------------------


def run_program(module: Module, inputs: Mapping[str, Array], name: str = "program") -> dict[str, Array]:
    """The outputs, by label, of program `name` of the module for inputs by label. Buffers with planned offsets lie in
    one arena, as in an artifact. Raises `PlanishError` for inputs that do not fit."""
    program = module.functions.get(name)
    if not isinstance(program, Program):
        programs = [f for f in module.functions.values() if isinstance(f, Program)]
        if len(programs) != 1:
            raise PlanishError(
                f"expected a program @{name} in the module, got {', '.join(module.functions) or 'nothing'}"
            )
        program = programs[0]
    given = sorted((op for op in program.walk() if isinstance(op, Input)), key=lambda op: op.index)
    labels = [op.label or str(op.index) for op in given]
    ports = [_port(op, program.attributes.get("inputs", ())) for op in given]
    arrays, symbols = _inputs(ports, labels, inputs, program.attributes)
    arrays = [pack_bits(a, p.tensor.dtype) if _is_packed(p.type) else a for a, p in zip(arrays, ports, strict=True)]
    machine = _ProgramMachine(module, program, dict(zip(given, arrays, strict=True)), symbols)
    machine.region(program.body)
    types = {name: concrete(type, symbols) for name, type in program.attributes.get("outputs", ()) if _is_packed(type)}
    found = {label: buffer.array() for label, buffer in machine.outputs.items()}
    return found | {n: unpack_bits(found[n], t.dtype, t.static_shape) for n, t in types.items()}


def _is_packed(type: Any) -> bool:
    """True for tensors of which several elements share a byte in the caller's memory."""
    return isinstance(type, TensorType) and 0 < DTYPES[type.dtype].bits < 8


def _port(op: Input, types: Sequence[tuple[str, Any]]) -> Value:
    """An input as the caller sees it: the program's buffer of a packed one holds bytes."""
    logical = types[op.index][1] if op.index < len(types) else op.result.type
    return Value(logical) if _is_packed(logical) else op.result


def pack_bits(array: Array, dtype: str) -> Array:
    """Elements of less than a byte, the first in the low bits of the first byte."""
    bits = DTYPES[dtype].bits
    codes = np.unpackbits(np.asarray(array).reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    return np.packbits(codes[:, :bits], bitorder="little")


def unpack_bits(data: Array, dtype: str, shape: Sequence[int]) -> Array:
    """The inverse of `pack_bits`."""
    bits, count = DTYPES[dtype].bits, int(np.prod(shape, dtype=np.int64))
    codes = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    code = np.packbits(codes, axis=1, bitorder="little").reshape(shape)
    return cast_scalar(code, dtype) if DTYPES[dtype].kind != "float8" else code.view(DTYPES[dtype].numpy)


class _ProgramMachine:
    def __init__(self, module: Module, program: Function, inputs: dict[Op, Array], symbols: dict[str, int]) -> None:
        self.module = module
        self.inputs = inputs
        self.symbols = symbols
        self.buffers: dict[Value, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        size = as_expr(program.attributes.get("arena_bytes") or 0).evaluate(symbols)
        self.arena = np.full(int(size), 0xFF, np.uint8)  # NaN in every float type

    def region(self, region: Region) -> None:
        for op in region:
            if isinstance(op, Call):
                self.call(op)
            elif isinstance(op, If):
                chosen = bool(self.buffers[op.condition].array().reshape(-1)[0])
                self.region(op.then if chosen else op.otherwise)
            elif op.results:
                self.buffers[op.result] = self.buffer(op, concrete(op.result.tensor, self.symbols))

    def buffer(self, op: Op, type: TensorType) -> Buffer:
        match op:
            case Input():
                return Buffer.of(self.inputs[op], type)
            case Output():
                made = self.outputs[op.label or str(op.index)] = Buffer.empty(type)
                return made
            case Weight():
                return _packed(op.value.array(), type)
            case Alloc():
                return Buffer.empty(type) if op.offset is None else self.planned(op, type)
            case View():
                return self.view(op, type)
            case _:
                raise EvaluationError(f"program: {op.text_name} gives no buffer")

    def view(self, op: View, type: TensorType) -> Buffer:
        source = self.buffers[op.source].data
        data = source.view(np.uint8).view(DTYPES[type.dtype].numpy)
        need, rest = storage_elements(type), data.size - op.offset
        if op.offset:  # the padding behind the last element may lie outside
            ends = [n - 1 + type.layout.zeros(d)[1] for d, n in enumerate(type.static_shape)]
            need = min(need, int(type.layout.offset(type.dims, ends).evaluate({})) + 1)
        if op.offset < 0 or (rest < need if op.offset else rest != need):
            raise EvaluationError(f"p.view: expected {need} elements for {type}, got {rest}")
        return Buffer(data[op.offset :], type)

    def planned(self, op: Alloc, type: TensorType) -> Buffer:
        assert op.offset is not None
        start = int(as_expr(op.offset).evaluate(self.symbols))
        stop = start + storage_elements(type) * DTYPES[type.dtype].bytes
        if not 0 <= start <= stop <= self.arena.size:
            raise EvaluationError(f"p.alloc: expected bytes within 0 .. {self.arena.size}, got {start} .. {stop}")
        return Buffer(self.arena[start:stop].view(DTYPES[type.dtype].numpy), type)

    def call(self, op: Call) -> None:
        kernel = self.module.functions[op.kernel]
        assert isinstance(kernel, Kernel)
        buffers = [self.buffers[a] for a in op.args[: len(kernel.params)]]
        # Each buffer is seen through the kernel's own type of it: the two agree, or the verifier says so.
        seen = [Buffer(b.data, concrete(p.tensor, self.symbols)) for b, p in zip(buffers, kernel.params, strict=True)]
        execute(kernel.params, kernel.body, seen, self.symbols, op.loc or op.kernel)


def _packed(array: np.ndarray, type: TensorType) -> Buffer:
    """A weight in the layout of `type`, all padding zero."""
    if type.layout.is_row_major:
        return Buffer(np.ascontiguousarray(array).reshape(-1), type)
    buffer = Buffer(np.zeros(storage_elements(type), DTYPES[type.dtype].numpy), type)
    grid = np.meshgrid(*(np.arange(n) for n in type.static_shape), indexing="ij", sparse=True)
    buffer.data[buffer.index(grid)] = array
    return buffer


__all__ = ["EvaluationError", "evaluate", "run_graph", "run_kernel", "run_program"]
