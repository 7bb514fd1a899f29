"""`torch.compile(module, backend="planish")`.

Dynamo hands over a graph of PyTorch's functions; it is exported to ATen with weights as constants, compiled, and run on
the tensors' own memory. Sizes that Dynamo takes for dynamic stay so. Graph breaks are Dynamo's business: every graph
between them comes here. Registered under the name in `torch_dynamo_backends` (pyproject.toml).

Results carry no gradients. A graph with operators that planish lacks is an error that lists them; with
`options={"fallback": True}` it runs in PyTorch, and a warning names the operators.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from planish.codegen.cache import Cache
from planish.compile import compile_file
from planish.frontend import Reading
from planish.frontend.torch.lower import changed
from planish.frontend.torch.program import Ref
from planish.frontend.torch.source import TorchSource
from planish.identity import library_key
from planish.ir.errors import PlanishError
from planish.runtime import InputError, Model, load
from planish.torch_modules import readable
from planish.torch_tensors import from_array, to_array

_OPTIONS = frozenset({"fallback", "threads", "cpu", "opt"})


def backend(graph_module: Any, example_inputs: Sequence[Any], **keywords: Any) -> Callable[..., Any]:
    """Compile one of Dynamo's graphs. `options` of torch.compile: `threads`, `cpu` and `opt` as in `planish.compile`,
    and `fallback`. Compiles at the first call, which raises `PlanishError` for what cannot be compiled."""
    options = dict(cast("Mapping[str, Any]", keywords.get("options") or {}))
    if unknown := sorted(options.keys() - _OPTIONS):
        raise PlanishError(f"torch.compile: options: expected some of {sorted(_OPTIONS)}, got {unknown}")
    del example_inputs  # the first call has real ones: looking at these would fix sizes that Dynamo leaves open
    return _Compiled(graph_module, options)


@dataclass
class _Variant:
    """Code for some values of the numbers among the inputs: which inputs it takes, and which of them its further
    outputs replace."""

    model: Model
    names: list[str]
    takes: list[int]
    outputs: list[tuple[str, str]]
    written: list[tuple[str, int]]


class _Compiled:
    """A graph with all of its variants. Calling it runs it on the inputs that Dynamo gives."""

    def __init__(self, module: Any, options: Mapping[str, Any]) -> None:
        self.module, self.options = module, dict(options)
        self.fallback = bool(self.options.pop("fallback", False))
        self.in_torch = False
        self.holders = [n for n in module.graph.nodes if n.op == "placeholder"]
        values = [n.meta.get("example_value") for n in self.holders]
        self.numbers = [i for i, (n, v) in enumerate(zip(self.holders, values, strict=True)) if _is_number(n, v)]
        self.weights = [i for i, n in enumerate(self.holders) if i not in self.numbers and _is_weight(n)]
        fixed = {*self.numbers, *self.weights}
        self.tensors = [i for i in range(len(self.holders)) if i not in fixed]
        self.sizes = _sizes(values, self.numbers, self.tensors)
        self.variants: dict[tuple[Any, ...], _Variant] = {}
        self.stamp: tuple[Any, ...] = ()

    def prepare(self, inputs: Sequence[Any]) -> _Variant:
        """The variant for these inputs, compiled if there is none yet."""
        stamp = tuple((id(inputs[i]), inputs[i]._version) for i in self.weights)
        if stamp != self.stamp:  # weights are constants of the code: it is made anew when they change
            self.variants.clear()
            self.stamp = stamp
        key = tuple(_plain(inputs[i]) for i in self.numbers if i not in self.sizes)
        if key not in self.variants:
            self.variants[key] = self.compile(inputs, dynamic=True)
        return self.variants[key]

    def __call__(self, *inputs: Any) -> Any:
        if self.in_torch:
            return self.module(*inputs)
        try:
            variant = self.prepare(inputs)
        except PlanishError as e:
            if not self.fallback:
                raise
            warnings.warn(f"planish: this graph runs in PyTorch: {e}", stacklevel=2)
            self.in_torch = True
            return self.module(*inputs)
        try:
            return self.run(variant, inputs)
        except InputError:
            # Sizes that the code was specialised for while Dynamo's guards let others pass.
            shapes = tuple(tuple(int(d) for d in inputs[i].shape) for i in self.tensors)
            key = ("shapes", *shapes, *(_plain(inputs[i]) for i in self.numbers))
            if key not in self.variants:
                self.variants[key] = self.compile(inputs, dynamic=False)
            return self.run(self.variants[key], inputs)

    def run(self, variant: _Variant, inputs: Sequence[Any]) -> tuple[Any, ...]:
        feeds = {name: to_array(inputs[i]) for name, i in zip(variant.names, variant.takes, strict=True)}
        found = variant.model.run(feeds)
        for name, index in variant.written:
            inputs[index].copy_(from_array(found[name]))
        results: list[Any] = []
        for kind, name in variant.outputs:
            if kind == "input":
                results.append(inputs[int(name)])
            elif kind == "literal":
                results.append(None)
            else:
                value = found[name]
                results.append(from_array(value) if kind == "tensor" else value.item())
        return tuple(results)

    # -- compilation -----------------------------------------------------------------------------------------------

    def compile(self, inputs: Sequence[Any], *, dynamic: bool) -> _Variant:
        """Export the graph with these weights and numbers, and compile it."""
        torch: Any = sys.modules["torch"]
        module, kept = self.wrapped(inputs, dynamic)
        shapes: Any = None
        if dynamic:
            mark = torch.export.Dim.AUTO
            shapes = ([
                {a: mark for a, d in enumerate(self.holders[i].meta["example_value"].shape) if not isinstance(d, int)}
                for i in self.tensors
            ],)  # fmt: skip
        tensors = [inputs[i].detach() for i in self.tensors]
        with torch.no_grad():
            exported = torch.export.export(module, (tensors,), dynamic_shapes=shapes, strict=False)
        source = readable(exported, "torch.compile", {})
        return self.linked(source, kept)

    def linked(self, source: TorchSource, kept: list[tuple[str, Any]]) -> _Variant:
        """The compiled source; `kept` says what each result of the graph is."""
        program = source.program
        ports = [p for p in program.ports if not p.fixed]
        index = {p.name: i for p, i in zip(program.ports, self.tensors, strict=True)}
        written: list[tuple[str, int]] = []
        for name in changed(program, index.keys()):
            program.outputs.append((f"changed.{name}", Ref(program.mutated.get(name, name))))
            written.append((f"changed.{name}", index[name]))
        place = (
            Cache("models").folder / f"{library_key(source, repr(sorted(self.options.items())), Reading(), None)}.so"
        )
        if not place.exists():
            compile_file(source, place, emit="lib", self_test=False, **self.options)
        model = load(place, threads=self.options.get("threads"))
        made = iter(program.outputs)
        outputs = [(kind, next(made)[0] if kind in ("tensor", "number") else str(what)) for kind, what in kept]
        return _Variant(model, [p.name for p in ports], [index[p.name] for p in ports], outputs, written)

    def wrapped(self, inputs: Sequence[Any], dynamic: bool) -> tuple[Any, list[tuple[str, Any]]]:
        """A module of the tensors alone, which gives tensors and sizes alone; and what each of Dynamo's results is."""
        torch: Any = sys.modules["torch"]
        results = _results(self.module)
        kept = [_kind(r, self.holders, self.tensors) for r in results]
        wanted = [i for i, (kind, _) in enumerate(kept) if kind in ("tensor", "number")]
        owner, inner = self, self.with_numbers(inputs)

        class Wrapped(torch.nn.Module):
            """The graph, its weights, and numbers from shapes."""

            def __init__(self) -> None:
                super().__init__()
                self.inner = inner
                for i in owner.weights:
                    self.register_buffer(f"weight_{i}", inputs[i].detach())

            def forward(self, tensors: list[Any]) -> list[Any]:
                at = dict(zip(owner.tensors, tensors, strict=True))
                values: list[Any] = []
                for i in range(len(owner.holders)):
                    if i in at:
                        values.append(at[i])
                    elif i in owner.weights:
                        values.append(getattr(self, f"weight_{i}"))
                    elif i in owner.sizes and dynamic:
                        tensor, axis = owner.sizes[i]
                        values.append(at[tensor].shape[axis])
                    else:
                        values.append(_plain(inputs[i]))
                found = self.inner(*values)
                return [found[i] for i in wanted]

        return Wrapped().eval(), kept

    def with_numbers(self, inputs: Sequence[Any]) -> Any:
        """The graph with the numbers that Dynamo put into tensors in place of what takes them out again."""
        torch: Any = sys.modules["torch"]
        boxed = {self.holders[i]: _plain(inputs[i]) for i in self.numbers if hasattr(inputs[i], "item")}
        if not boxed:
            return self.module
        graph, copies = torch.fx.Graph(), cast("dict[Any, Any]", {})
        graph.output(graph.graph_copy(self.module.graph, copies))
        for holder, number in boxed.items():
            for user in list(copies[holder].users):
                user.replace_all_uses_with(number)
                graph.erase_node(user)
        return torch.fx.GraphModule(self.module, graph)


def _is_number(node: Any, value: Any) -> bool:
    """Whether a placeholder is a size or number: also a float that Dynamo put into a tensor to take it out again."""
    if not hasattr(value, "shape"):
        return True
    users = list(node.users)
    return value.dim() == 0 and bool(users) and all(u.op == "call_method" and u.target == "item" for u in users)


def _is_weight(node: Any) -> bool:
    """Whether a placeholder is a parameter or buffer of a module that the graph does not change."""
    torch: Any = sys.modules["torch"]
    value = node.meta.get("example_value")
    facts = cast("Mapping[str, Any]", node.meta.get("tensor_dict") or {})
    static = isinstance(value, torch.nn.Parameter) or "_dynamo_static_input_type" in facts
    return static and not any(_changes(user) for user in node.users)


def _changes(node: Any) -> bool:
    """Whether a node may change its first argument, or a view of it, in place."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if (name.endswith("_") and not name.endswith("__")) or name in ("setitem", "iadd", "isub", "imul", "itruediv"):
        return True
    views = ("view", "reshape", "getitem", "select", "narrow", "transpose", "permute", "detach", "expand", "chunk")
    if node.kwargs.get("out") is not None:
        return True
    return name in views and any(_changes(user) for user in node.users)


def _sizes(values: Sequence[Any], numbers: Sequence[int], tensors: Sequence[int]) -> dict[int, tuple[int, int]]:
    """For each number that is a size of some tensor: the tensor and the dimension."""
    places = {
        str(d): (i, axis) for i in reversed(tensors) for axis, d in enumerate(values[i].shape) if not isinstance(d, int)
    }
    return {i: places[str(values[i])] for i in numbers if str(values[i]) in places and not isinstance(values[i], int)}


def _plain(value: Any) -> Any:
    """A number as a Python number."""
    return value.item() if hasattr(value, "item") else int(value) if not isinstance(value, float) else value


def _results(module: Any) -> list[Any]:
    """The graph's results: nodes, numbers, None."""
    (output,) = (n for n in module.graph.nodes if n.op == "output")
    return list(output.args[0])


def _kind(result: Any, holders: Sequence[Any], tensors: Sequence[int]) -> tuple[str, Any]:
    """What a result is: a tensor or a number that is computed, an input as it came, or nothing."""
    if not hasattr(result, "meta"):
        return ("literal", None) if result is None else ("number", None)
    for i in tensors:
        if holders[i] is result:
            return "input", i
    value = result.meta.get("example_value")
    return ("tensor" if hasattr(value, "shape") else "number"), None


__all__ = ["backend"]
