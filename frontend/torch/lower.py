"""Exported programs to the tensor form: walks through the nodes and calls the lowering of each operator.

Programs as `torch.export` makes them may change tensors in place. A name therefore stands for a `Slot`, which knows
what it is a view of: a change goes through to the tensor below, and views of that are taken again when they are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from ...ir.assume import assume_equal
from ...ir.errors import PlanishError
from ...ir.expr import Expr
from ..assembly import Assembly, Item, Unsupported
from ..text import quote
from . import aten
from .aten.base import LOWERINGS, Build, Lowering
from .aten.views import COPIES, VIEWS, back
from .program import Graph, Node, Program, Ref, walk

ONNX_ROUTE = "export the module with torch.onnx.export(..., dynamo=True) and compile the ONNX file"
_IGNORED = frozenset(
    {
        "aten._assert_async.msg", "aten._assert_tensor_metadata.default",
        "aten.sym_constrain_range_for_size.default", "aten.sym_constrain_range.default", "aten._assert_async.default",
        "aten._functional_sym_constrain_range_for_size.default",
        "aten.set_grad_enabled", "torch._check", "torch.sym_constrain_range_for_size", "_assert.default",
    }
)  # fmt: skip
"""Checks of what follows from the sizes, and hints for PyTorch's own compiler."""

_FAMILIES = aten.FAMILIES  # importing them fills the table


class Missing(Exception):
    """An argument comes from a node that cannot be compiled, which has been noted."""


@dataclass
class Slot:
    """What a name stands for. With a `parent` it is a view of that: `forward` takes it again, `backward` gives the
    parent after a change of the view; `stamp` is the parent's `version` when it was last taken. `kind` is `view`, or
    `copy` where PyTorch may copy or not."""

    item: Item
    version: int = 0
    parent: Slot | None = None
    stamp: int = 0
    forward: Callable[[Item], Item] | None = None
    backward: Callable[[Item, Item], Item] | None = None
    kind: str = "view"

    def read(self) -> Item:
        """The tensor as it is now."""
        if self.parent is not None:
            base = self.parent.read()
            if self.parent.version != self.stamp:
                if self.forward is None or self.kind == "copy":
                    raise Unsupported("a tensor is changed in place while another may share its memory", _FUNCTIONAL)
                self.item, self.stamp = self.forward(base), self.parent.version
                self.version += 1
        return self.item

    def write(self, item: Item) -> None:
        """Change the tensor in place."""
        if self.parent is not None:
            if self.backward is None or self.kind == "copy":
                raise Unsupported("a view is changed in place", _FUNCTIONAL)
            self.parent.write(self.backward(self.parent.read(), item))
            self.stamp = self.parent.version
        self.item = item
        self.version += 1


_FUNCTIONAL = "save the program after run_decompositions({}), which takes changes in place out"


class Lowerer:
    """One walk through a program."""

    def __init__(self, program: Program, assembly: Assembly) -> None:
        self.program = program
        self.a = assembly
        self.build = Build(assembly)
        self.build.call = self.subgraph
        self.values: dict[str, Any] = {}
        self.mutates = any(in_place(node.target) for node in walk(program.graph))

    def run(self, more: Sequence[str] = ()) -> list[Item]:
        """The results of the program, and values by name."""
        self._inputs()
        self._nodes(self.program.graph.nodes, self.values)
        if self.a.issues:
            return [self.build.tensor(0) for _ in (*self.program.outputs, *more)]
        results = [self._tensor(value) for _, value in self.program.outputs]
        results += [self._tensor(Ref(name)) for name in more]
        self._states()
        return results

    # -- what goes in and out --------------------------------------------------------------------------------------

    def _inputs(self) -> None:
        for name, data in self.program.constants.items():
            self.values[name] = Slot(self.a.constant(data, self.program.names[name]))
        for name in changed(self.program, self.program.buffers):
            data = self.program.constants[name]
            self.values[name] = Slot(self.a.state(self.program.names[name], data))
        plain = {d.symbol for p in self.program.ports for d in p.shape or () if isinstance(d, Expr) and d.symbol}
        for port in self.program.ports:
            if port.fixed:
                self.values[port.name] = port.value
                continue
            item = self.a.input(port.name)
            if port.shape is None:
                self.values[port.name] = self.a.dims(item)[0] if port.dtype in ("i64", "bool") else Slot(item)
                continue
            self.values[port.name] = Slot(item)
            for own, said in zip(self.a.shape(item), port.shape, strict=True):
                if isinstance(said, Expr) and not said.symbol and said.symbols() <= plain:
                    assume_equal(own, said.substitute(self.a.symbols.equal))

    def _states(self) -> None:
        for name in changed(self.program, self.program.buffers):
            value = self.values[self.program.mutated.get(name, name)]
            if isinstance(value, Slot):
                initial = self.program.constants[name]
                item = self.build.cast(value.read(), initial.dtype)
                self.a.assign(self.program.names[name], self.build.expand(item, initial.shape))

    def _tensor(self, argument: object) -> Item:
        value = self._value(argument, self.values)
        return self.build.tensor(value if value is not None else 0)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _nodes(self, nodes: Sequence[Node], values: dict[str, Any]) -> None:
        for node in nodes:
            with self.a.at(node.name):
                try:
                    self._node(node, values)
                except Missing:
                    self._bind(node.outputs, None, values, missing=True)
                except Unsupported as e:
                    self.a.refuse(node.name, node.target, e)
                    self._bind(node.outputs, None, values, missing=True)
                except (TypeError, ValueError, AssertionError, LookupError, AttributeError, ArithmeticError) as e:
                    # Arguments of a form that the lowering does not know.
                    if isinstance(e, PlanishError):
                        raise
                    said = f"its arguments: {type(e).__name__}: {e}"
                    self.a.refuse(node.name, node.target, Unsupported(said[:200], ONNX_ROUTE))
                    self._bind(node.outputs, None, values, missing=True)

    def _node(self, node: Node, values: dict[str, Any]) -> None:
        if node.target in _IGNORED:
            return
        lower, target = LOWERINGS.get(node.target), node.target
        written = in_place(target)
        if written and lower is None:
            target = functional(target)
            lower = LOWERINGS.get(target)
        if lower is None:
            raise Unsupported("planish has no lowering of this operator", ONNX_ROUTE)
        inputs = {_parameter(k): self._value(v, values) for k, v in node.inputs.items()}
        inputs = {k: v for k, v in inputs.items() if not (v is None and k not in _accepted(lower))}
        args = [self._value(v, values) for v in node.args]
        if not target.startswith("aten."):  # functions of sizes: their arguments are in order
            args, inputs = [*inputs.values(), *args], {}
        result = lower(self.build, *args, **inputs)
        first = _first(node)
        base = values.get(first) if first is not None else None
        if written and isinstance(base, Slot):
            old = base.read()
            changed = self.build.cast(self.build.tensor(result), self.build.dtype(old))
            changed = self.build.expand(changed, self.build.shape(old))
            base.write(changed)
            for name in names_in(node.outputs):
                values[name] = base
            return
        if self.mutates and isinstance(base, Slot) and target in VIEWS:
            self._views(node, lower, inputs, base, result, values)
            return
        self._bind(node.outputs, result, values)

    def _views(
        self, node: Node, lower: Lowering, inputs: dict[str, Any], base: Slot, result: Any, values: dict[str, Any]
    ) -> None:
        """Bind results that share the memory of `base`."""
        parts = cast("list[Item]", result) if isinstance(result, list) else [cast(Item, result)]
        kind = "copy" if node.target in COPIES else "view"
        if kind == "copy" and parts[0] is base.item:
            kind = "view"
        slots: list[Slot] = []
        for i, part in enumerate(parts):

            def forward(item: Item, i: int = i) -> Item:
                again = lower(self.build, **{**inputs, _parameter(next(iter(node.inputs))): item})
                return cast("list[Item]", again)[i] if isinstance(again, list) else cast(Item, again)

            undo = back(self.build, node.target, inputs, i)
            slots.append(Slot(part, 0, base, base.version, forward, undo, kind))
        self._bind(node.outputs, slots if isinstance(result, list) else slots[0], values)

    def _bind(self, outputs: Sequence[object], result: Any, values: dict[str, Any], missing: bool = False) -> None:
        """Give the results of a node their names."""
        if missing:
            values.update(dict.fromkeys(names_in(outputs), Missing()))
            return
        single = len(outputs) == 1
        parts: Sequence[Any] = [result] if single else cast("Sequence[Any]", result)
        for output, part in zip(outputs, parts, strict=False):
            if isinstance(output, Ref):
                values[output.name] = Slot(part) if isinstance(part, Item) else part
            elif isinstance(output, list):
                names = cast("list[object]", output)
                self._bind(names, part if len(names) != 1 else part[0], values)

    def _value(self, argument: object, values: Mapping[str, Any]) -> Any:
        """An argument with what its references stand for."""
        if isinstance(argument, Ref):
            value = values.get(argument.name, self)
            if value is self:
                raise self.a.error(f"the program uses {argument.name!r} before it is made")
            if isinstance(value, Missing):
                raise value
            return self._read(value)
        if isinstance(argument, list | tuple):
            return [self._value(v, values) for v in cast("Sequence[object]", argument)]
        if isinstance(argument, dict):
            return {k: self._value(v, values) for k, v in cast("dict[str, object]", argument).items()}
        return argument

    def _read(self, value: Any) -> Any:
        if isinstance(value, Slot):
            return value.read()
        if isinstance(value, list):
            return [self._read(v) for v in cast("list[Any]", value)]
        return value

    # -- control flow ----------------------------------------------------------------------------------------------

    def subgraph(self, graph: Graph, operands: Sequence[Any]) -> list[Any]:
        """What a branch or a loop's body gives for these operands."""
        names = [n for n in graph.inputs if n]
        values: dict[str, Any] = {
            n: Slot(v) if isinstance(v, Item) else v for n, v in zip(names, operands, strict=False)
        }
        before = len(self.a.issues)
        self._nodes(graph.nodes, values)
        if len(self.a.issues) > before:
            raise Missing
        return [self._value(r, values) for r in graph.results]


def in_place(target: str) -> bool:
    """Whether an operator changes its first argument: `aten.add_.Tensor`."""
    space, _, rest = target.partition(".")
    name = rest.partition(".")[0]
    return space == "aten" and ((name.endswith("_") and not name.endswith("__")) or name.startswith("__i"))


def functional(target: str) -> str:
    """The operator that gives what one that works in place leaves behind."""
    space, name, overload = (*target.split("."), "")[:3]
    plain = name[:-1] if not name.startswith("__i") else f"__{name[3:]}"
    return f"{space}.{plain}.{overload}"


def _parameter(name: str) -> str:
    return "x" if name == "self" else name


@lru_cache(maxsize=4096)
def _accepted(lower: Lowering) -> frozenset[str]:
    """The names of a lowering's parameters."""
    return frozenset(inspect.signature(lower).parameters)


def _first(node: Node) -> str | None:
    """The name of a node's first argument."""
    first = next(iter(node.inputs.values()), None)
    return first.name if isinstance(first, Ref) else None


def names_in(values: Sequence[object]) -> list[str]:
    """The names that arguments or outputs mention, those inside of lists too."""
    found: list[str] = []
    for value in values:
        if isinstance(value, Ref):
            found.append(value.name)
        elif isinstance(value, list):
            found += names_in(cast("list[object]", value))
    return found


def unsupported(program: Program) -> list[str]:
    """The operators of a program, branches included, that have no lowering."""
    found: set[str] = set()
    for node in walk(program.graph):
        name = functional(node.target) if in_place(node.target) else node.target
        if name not in LOWERINGS and node.target not in LOWERINGS and node.target not in _IGNORED:
            found.add(node.target)
    return sorted(found)


def changed(program: Program, names: Collection[str]) -> list[str]:
    """Those of `names` that operations of the program change in place, in the order of its inputs."""
    found = set(program.mutated)
    roots: dict[str, str] = {}
    for node in program.graph.nodes:
        base = _first(node)
        if base is None:
            continue
        root = roots.get(base, base)
        if in_place(node.target):
            found.add(root)
        if in_place(node.target) or node.target in VIEWS:
            roots.update(dict.fromkeys(names_in(node.outputs), root))
    return [name for name in program.graph.inputs if name in found and name in names]


def changed_inputs(program: Program) -> list[str]:
    """Notes on inputs that PyTorch changes in place, which compiled code does not."""
    names = changed(program, {p.name for p in program.ports})
    return [f"input {quote(name)} is changed in place by PyTorch; here it stays as it is" for name in names]


__all__ = ["ONNX_ROUTE", "Lowerer", "changed", "changed_inputs", "functional", "in_place", "unsupported"]
