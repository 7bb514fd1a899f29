"""Splitting of a model that is no single program into a plan and islands (docs/HOST.md)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from ..ir.constants import Constant
from ..ir.core import Graph, Module, Op, Region, Return, Value, Yield
from ..ir.errors import UnsupportedError
from ..ir.expr import Dim, Expr, as_dim, sym
from ..ir.ops.host.base import HostOp
from ..ir.ops.host.bind import Bind, Check
from ..ir.ops.host.control import If, Loop
from ..ir.plan import HostCall, Plan, PlanConstant, PlanIf, PlanLoop, Run
from ..ir.types import DTYPES, TensorType, Type, substituted_type
from .analysis.levels import Levels, is_barrier, outer_values, symbols_of, used_symbols
from .base import Pass
from .cse import hashable
from .dce import remove_dead


class SplitHost(Pass, name="split-host"):
    """Turn a model with sizes found at run time, control flow or values that are no tensors into a plan over islands.

    A model that can stay one program only gets its `t.bind` and `t.check` as attributes `bindings` (input, element,
    symbol) and `checks` (zero, nonnegative, message, node), which are read and tested when a run begins.
    """

    def run(self, module: Module) -> bool:
        graph = module.functions.get("main")
        if not isinstance(graph, Graph) or not _has_host_parts(graph):
            return False
        _bind_constants(graph)
        _drop_unused_binds(graph)
        if _is_one_program(graph):
            _to_attributes(graph)
            return True
        islands = _Islands(module)
        plan = Plan("main", [p.type for p in graph.params], [p.name for p in graph.params], graph.result_names)
        values = dict(zip(graph.params, plan.params, strict=True))
        _Splitter(islands, graph.body, plan.body, values, {}).run()
        del module.functions["main"]
        module.add(plan)
        return True


def _is_numeric(type: Type) -> bool:
    return isinstance(type, TensorType) and type.shape is not None and type.dtype != "string"


def _has_host_parts(graph: Graph) -> bool:
    if any(is_barrier(op) or isinstance(op, Bind | Check) for op in graph.body):
        return True
    return not all(_is_numeric(v.type) for v in [*graph.params, *graph.results])


def _is_one_program(graph: Graph) -> bool:
    """Whether nothing but the contents of inputs is needed to know all sizes."""
    if any(is_barrier(op) or (isinstance(op, Bind) and op.x not in graph.params) for op in graph.body):
        return False
    return all(_is_numeric(v.type) for v in [*graph.params, *graph.results])


def _to_attributes(graph: Graph) -> None:
    bindings: list[tuple[int, int, str]] = []
    checks: list[tuple[Any, ...]] = []
    for op in graph.body:
        if isinstance(op, Bind):
            number = graph.params.index(op.x)
            bindings += [(number, element, symbol) for element, symbol in enumerate(op.symbols)]
            op.erase()
        elif isinstance(op, Check):
            checks.append((op.zero, op.nonnegative, op.message, op.loc))
            op.erase()
    graph.attributes["bindings"] = tuple(bindings)
    graph.attributes["checks"] = tuple(checks)


# -- substitution ---------------------------------------------------------------------------------------------------


def _bind_constants(graph: Graph) -> None:
    """Put the numbers in where symbols are bound to constants."""
    known: dict[str, Dim] = {}
    for op in graph.walk():
        if isinstance(op, Bind) and isinstance(op.x.op, Constant):
            known.update(op.values(op.x.op.value.array()))
            op.erase()
    if known:
        for op in graph.walk():
            _substitute(op, known)


def _drop_unused_binds(graph: Graph) -> None:
    """Binds of which nothing uses a symbol, and what only they need, would make islands for nothing."""
    used = set[str]()
    for op in graph.walk():
        if not isinstance(op, Bind):
            values = [*op.results, *(p for region in op.regions for p in region.params)]
            used.update(*map(symbols_of, op.attributes.values()), *(symbols_of(v.type) for v in values))
    unused = [op for op in graph.walk() if isinstance(op, Bind) and not used.intersection(op.symbols)]
    for op in unused:
        op.erase()
    if unused:
        remove_dead(graph)


def _substitute(op: Op, known: Mapping[str, Dim]) -> None:
    """Put in what is known of the symbols in the attributes of `op`, its results' types and its regions' parameters."""
    for name, value in op.attributes.items():
        op.set_attribute(name, _substituted(value, known))
    for v in [*op.results, *(p for region in op.regions for p in region.params)]:
        v.type = substituted_type(v.type, known)


def _substituted(value: Any, known: Mapping[str, Dim]) -> Any:
    match value:
        case Expr():
            found = value.substitute(known)
            return found if found == value else as_dim(found)
        case TensorType():
            return substituted_type(value, known)
        case tuple():
            return tuple(_substituted(v, known) for v in cast("tuple[Any, ...]", value))
        case _:
            return value


# -- islands --------------------------------------------------------------------------------------------------------


class _Islands:
    """The islands of a module; equal ones are there once."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.names: dict[Hashable, str] = {}

    def add(self, graph: Graph) -> str:
        """The name of the island that `graph` is."""
        key = _content(graph)
        if key not in self.names:
            name = self.names[key] = f"island{len(self.names)}"
            island = Module([graph])
            island.attributes = dict(self.module.attributes)
            self.module.islands[name] = island
        return self.names[key]


def _content(graph: Graph) -> Hashable:
    """A key that two graphs share exactly when they are the same but for the names of values."""
    numbers = {p: i for i, p in enumerate(graph.params)}
    lines: list[Hashable] = [tuple(p.type for p in graph.params), repr(graph.attributes)]
    for op in graph.body:
        attributes = tuple((name, hashable(value)) for name, value in op.attributes.items())
        operands = tuple(-1 if v is None else numbers[v] for v in op.operands)
        lines.append((op.op_name, operands, attributes, tuple(r.type for r in op.results), op.loc))
        for r in op.results:
            numbers[r] = len(numbers)
    return tuple(lines)


class _Source(NamedTuple):
    """Where a symbol has its value from: dimension, or flat element, number `at` of `value`."""

    value: Value
    at: int
    is_dim: bool


class _Splitter:
    """Splits one region into steps of a plan. `values` gives the plan's value of each value from outside, `sources`
    where symbols from outside have their values from."""

    def __init__(
        self,
        islands: _Islands,
        region: Region,
        target: Region,
        values: dict[Value, Value],
        sources: dict[str, _Source],
    ) -> None:
        self.islands = islands
        self.region = region
        self.target = target
        self.values = values
        self.sources = dict(sources)
        self.constants: dict[Op, Value] = {}
        self.shapes: dict[Value, Value] = {}

    def run(self) -> None:
        """All steps, in the order of levels."""
        self._learn(self.region.params)
        for op in self.region:
            if isinstance(op, Bind):
                self.sources.update({name: _Source(op.x, i, False) for i, name in enumerate(op.symbols)})
            elif is_barrier(op):
                self._learn(op.results, set(getattr(op, "sizes", ())))
        levels = Levels(self.region)
        groups: list[list[Op]] = [[] for _ in range(levels.count)]
        for op, level in levels.level.items():
            groups[level].append(op)
        for group in groups:
            self.island([op for op in group if not is_barrier(op)])
            for op in group:
                if is_barrier(op):
                    self.barrier(op)
        last = self.region.terminator
        results = tuple(self.value(v) for v in last.inputs)
        self.target.append(Return(results) if isinstance(last, Return) else Yield(results))

    def _learn(self, values: Sequence[Value], only: set[str] | None = None) -> None:
        """Dimensions of `values` that are symbols (of `only`) say what these are."""
        for value in values:
            for symbol, axis in _bare(value.type).items():
                if only is None or symbol in only:
                    self.sources.setdefault(symbol, _Source(value, axis, True))

    def value(self, value: Value) -> Value:
        """The plan's value for `value`."""
        op = value.op
        if isinstance(op, Constant):
            if op not in self.constants:
                self.constants[op] = self.target.append(PlanConstant(op.value, types=[value.type], loc=op.loc)).result
            return self.constants[op]
        return self.values[value]

    # -- islands ----------------------------------------------------------------------------------------------------

    def island(self, ops: Sequence[Op]) -> None:
        """Run `ops`, ordinary operations and checks in the order of the region, as one program."""
        inside = set(ops)
        results = [r for op in ops for r in op.results if any(u.op not in inside for u in r.uses)]
        if not results and not any(isinstance(op, Check) for op in ops):
            return
        for op in ops:
            _check_types(op)
        made = {r for op in ops for r in op.results}
        wanted = [v for op in ops for v in op.inputs if v not in made and not isinstance(v.op, Constant)]
        params = list(dict.fromkeys(wanted))
        needed = frozenset[str]().union(*map(used_symbols, ops))
        types = {v: v.type for v in params}
        arguments = {v: self.value(v) for v in params}
        bound = {symbol for v in params for symbol in _bare(v.type)}
        bindings: list[tuple[Value, int, str]] = []
        for symbol in sorted(needed - bound):
            if symbol not in bound:
                source = self._carrier(symbol)
                if source.value not in arguments:
                    arguments[source.value] = self.value(source.value)
                    types[source.value] = _carried_type(source.value, needed, len(types))
                    bound |= _bare(types[source.value]).keys()
                if not source.is_dim:
                    bindings.append((source.value, source.at, symbol))
        graph = _island_graph(ops, types, bindings, results)
        step = Run(tuple(arguments.values()), self.islands.add(graph), types=[r.type for r in results])
        step.loc = next((op.loc for op in ops if op.loc), "")
        self.target.append(step)
        self.values.update(zip(results, step.results, strict=True))

    def _carrier(self, symbol: str) -> _Source:
        """A source of `symbol` that an island can take as input: the shape of a value that is no tensor of numbers is
        asked for."""
        source = self.sources[symbol]
        type = source.value.type
        if not source.is_dim or (isinstance(type, TensorType) and DTYPES[type.dtype].bits >= 8):
            return source
        shape = self.shapes.get(source.value)
        if shape is None:
            rank = cast("TensorType", type).rank
            call = HostCall((self.value(source.value),), "shape", {}, types=[TensorType("i64", (rank,))])
            shape = self.shapes[source.value] = self.target.append(call).result
        carrier = Value(shape.type)
        self.values[carrier] = shape
        return _Source(carrier, source.at, False)

    # -- barriers ---------------------------------------------------------------------------------------------------

    def barrier(self, op: Op) -> None:
        """One step of the C runtime."""
        match op:
            case If():
                step: Op = self.branch(op)
            case Loop():
                step = self.loop(op)
            case _:
                assert isinstance(op, HostOp)
                options = {k: v for k, v in op.attributes.items() if k != "sizes" and v is not None}
                arguments = tuple(None if v is None else self.value(v) for v in op.operands)
                step = HostCall(arguments, op.function, options, types=[r.type for r in op.results], loc=op.loc)
        self.target.append(step)
        for old, new in zip(op.results, step.results, strict=True):
            new.name = old.name
            self.values[old] = new

    def branch(self, op: If) -> PlanIf:
        """The plans of both branches."""
        captured, sources = self._captures(op)
        regions = [self._nested(r, [], captured, sources) for r in (op.then, op.otherwise)]
        captures = tuple(self.value(v) for v in captured)
        types = [r.type for r in op.results]
        return PlanIf(self.value(op.condition), captures, *regions, types=types, loc=op.loc)

    def loop(self, op: Loop) -> PlanLoop:
        """The plan of the body."""
        captured, sources = self._captures(op)
        body = self._nested(op.body, op.body.params, captured, sources)
        limit, condition = (None if v is None else self.value(v) for v in (op.limit, op.condition))
        carried, captures = (tuple(self.value(v) for v in group) for group in (op.carried, captured))
        return PlanLoop(limit, condition, carried, captures, body, types=[r.type for r in op.results], loc=op.loc)

    def _captures(self, op: Op) -> tuple[list[Value], dict[str, _Source]]:
        """The values that the regions of `op` need from here, and where symbols have their values from there."""
        captured = outer_values(op)
        sources: dict[str, _Source] = {}
        for v in captured:
            for symbol, axis in _bare(v.type).items():
                sources.setdefault(symbol, _Source(v, axis, True))
        for symbol in sorted(used_symbols(op) - sources.keys()):
            source = sources[symbol] = self.sources[symbol]
            if source.value not in captured:
                captured.append(source.value)
        return captured, sources

    def _nested(
        self, region: Region, params: Sequence[Value], captured: Sequence[Value], sources: dict[str, _Source]
    ) -> Region:
        target = Region([v.type for v in [*params, *captured]], [v.name for v in [*params, *captured]])
        values = dict(zip([*params, *captured], target.params, strict=True))
        _Splitter(self.islands, region, target, values, sources).run()
        return target


def _bare(type: Type) -> dict[str, int]:
    """The dimensions that are just a symbol, by symbol."""
    if not isinstance(type, TensorType) or type.shape is None:
        return {}
    return {d.symbol: axis for axis, d in enumerate(type.shape) if isinstance(d, Expr) and d.symbol is not None}


def _check_types(op: Op) -> None:
    """Islands know numbers and ranks."""
    for v in [*op.inputs, *op.results]:
        if not _is_numeric(v.type):
            what = "a tensor of known rank" if isinstance(v.type, TensorType) else "a tensor"
            where = op.loc or op.text_name
            raise UnsupportedError(
                f"{where}: {op.text_name}: expected {what}, got {v.type}, which is found at run time"
            )


def _carried_type(value: Value, needed: frozenset[str], number: int) -> Type:
    """The type of a parameter that only tells the values of symbols: other dimensions may be any size."""
    type = value.tensor
    if type.shape is None:
        raise UnsupportedError(f"{value.name}: expected a tensor of known rank, got {type}")
    dims = [
        d if isinstance(d, int) or d.symbol in needed else sym(f"?n.{number}.{axis}")
        for axis, d in enumerate(type.shape)
    ]
    return TensorType(type.dtype, tuple(dims))


def _island_graph(
    ops: Sequence[Op], types: Mapping[Value, Type], bindings: Sequence[tuple[Value, int, str]], results: Sequence[Value]
) -> Graph:
    """A graph of `ops` over parameters of these types. Symbols that planish made are numbered anew, so that equal
    islands are equal."""
    known = _renamed(types, [symbol for _, _, symbol in bindings])
    graph = Graph("main", [substituted_type(t, known) for t in types.values()], [f"x{i}" for i in range(len(types))])
    graph.result_names = [f"y{i}" for i in range(len(results))]
    mapping = dict(zip(types, graph.params, strict=True))
    checks: list[tuple[Any, ...]] = []
    for op in ops:
        for v in op.inputs:
            if isinstance(v.op, Constant) and v not in mapping:
                graph.body.append(v.op.clone(mapping))
        if isinstance(op, Check):
            tests = (tuple(e.substitute(known) for e in group) for group in (op.zero, op.nonnegative))
            checks.append((*tests, op.message, op.loc))
            continue
        copy = graph.body.append(op.clone(mapping))
        _substitute(copy, known)
    graph.body.append(Return(tuple(mapping[r] for r in results)))
    places = {v: i for i, v in enumerate(types)}
    graph.attributes["bindings"] = tuple(
        (places[v], at, str(cast("Expr", known[name]).symbol) if name in known else name) for v, at, name in bindings
    )
    graph.attributes["checks"] = tuple(checks)
    return graph


def _renamed(types: Mapping[Value, Type], more: Sequence[str]) -> dict[str, Dim]:
    """New names, by number, for the symbols that planish made."""
    names: dict[str, None] = {}
    sizes: set[str] = set()
    for type in types.values():
        assert isinstance(type, TensorType)
        sizes |= _bare(type).keys()
        for d in type.dims:
            names.update(dict.fromkeys(sorted(d.symbols()) if isinstance(d, Expr) else ()))
    names.update(dict.fromkeys(more))
    made = [name for name in names if name.startswith("?")]
    return {name: sym(f"{'?n' if name in sizes else name[:2]}{number}") for number, name in enumerate(made)}
