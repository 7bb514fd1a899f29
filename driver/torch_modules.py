"""PyTorch modules as models: `planish.compile(module, example_inputs)` exports them with torch.export.

Only those who pass a module or a program have torch installed; nothing here imports it before that.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from planish.frontend.torch import is_exported
from planish.frontend.torch.lower import unsupported
from planish.frontend.torch.source import TorchSource
from planish.ir.errors import ModelError, PlanishError, UnsupportedError


def source_of(model: Any, example_inputs: Any = None, dynamic_shapes: Any = None) -> TorchSource:
    """The source that a module or an exported program is.

    `example_inputs` are arguments of `forward`: a tuple, or a dictionary by their names. `dynamic_shapes` is that of
    `torch.export.export`; the names of its `Dim`s are those of the symbols. A module is exported in evaluation mode.
    Raises `ModelError` if torch.export cannot do it, `UnsupportedError` for what planish does not have.
    """
    if is_exported(model):
        if example_inputs is not None or dynamic_shapes is not None:
            raise PlanishError(
                "compile: an ExportedProgram has its inputs: example_inputs and dynamic_shapes go to export"
            )
        return readable(model, "ExportedProgram", {})
    label = type(model).__name__
    if example_inputs is None:
        raise PlanishError(f"compile: {label}: expected example_inputs: a tuple of arguments, or a dictionary by name")
    torch: Any = sys.modules["torch"]
    args, kwargs = _arguments(example_inputs)
    with _evaluating(model), torch.no_grad():
        try:
            exported = torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes)
        except Exception as e:  # whatever the module's own code raises
            text = str(e).strip().splitlines() or [""]
            raise ModelError(
                f"{label}: torch.export cannot take it apart: {type(e).__name__}: {text[0][:300]}; see "
                "torch.export.draft_export for all places at once"
            ) from e
    return readable(exported, label, _dim_names(exported, args, kwargs, dynamic_shapes))


def readable(exported: Any, label: str, names: Mapping[str, str]) -> TorchSource:
    """The program, with operators that have no lowering taken apart by PyTorch's own rules, and changes in place too
    where they go beyond what planish follows."""
    source = TorchSource.of(exported, label, names)
    missing = unsupported(source.program)
    if not missing and not source.mutates:
        return source
    if not missing:
        try:
            source.read()
            return source
        except UnsupportedError:
            pass
    return TorchSource.of(_decomposed(exported), label, names)


def _decomposed(exported: Any) -> Any:
    """The program after PyTorch's decompositions of everything that has no lowering."""
    from planish.frontend.torch.aten import LOWERINGS
    from planish.frontend.torch.live import target_name

    torch: Any = sys.modules["torch"]
    table = torch.export.default_decompositions()
    for target in list(table.keys()):
        if target_name(target) in LOWERINGS:
            del table[target]
    try:
        return exported.run_decompositions(table)
    except Exception:  # then the error that lists the operators says more
        return exported


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(cast("Mapping[str, Any]", example))
    if isinstance(example, tuple | list):
        return tuple(cast("Sequence[Any]", example)), {}
    return (example,), {}


@contextmanager
def _evaluating(module: Any) -> Generator[None]:
    """The module in evaluation mode, for a while."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True


def _dim_names(exported: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], spec: Any) -> dict[str, str]:
    """What the user calls the symbols: the names of `Dim`s that stand alone."""
    if spec is None:
        return {}
    specs: Any = dict(cast("Mapping[str, Any]", spec)) if isinstance(spec, Mapping) else tuple(spec)
    if isinstance(specs, dict):
        import inspect

        bound: Mapping[str, Any]
        try:
            bound = inspect.signature(exported.module().forward).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):
            bound = kwargs
        values: list[Any] = list(bound.values()) if not kwargs or args else list(kwargs.values())
        keys = list(bound) if not kwargs or args else list(kwargs)
        parts = [cast("dict[str, Any]", specs).get(k) for k in keys]
    else:
        values, parts = [*args, *kwargs.values()], [*cast("tuple[Any, ...]", specs)]
    leaves: list[Any] = []
    for value, part in zip(values, parts, strict=False):
        _flatten(value, part, leaves)
    holders = {n.name: n.meta.get("val") for n in exported.graph_module.graph.nodes if n.op == "placeholder"}
    user = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    if len(leaves) != len(user):
        return {}
    names: dict[str, str] = {}
    for name, part in zip(user, leaves, strict=True):
        shape: Any = getattr(holders.get(name), "shape", ())
        listed = cast("Any", part or ())
        pairs = cast("Any", listed.items() if isinstance(listed, Mapping) else enumerate(listed))
        entries: dict[int, Any] = dict(pairs)
        for axis, dim in entries.items():
            own, symbol = getattr(dim, "__name__", ""), str(shape[axis])
            if isinstance(own, str) and own.isidentifier() and symbol.isidentifier():
                names[symbol] = own
    return names


def _flatten(value: Any, spec: Any, leaves: list[Any]) -> None:
    """Append the specification of each tensor inside of an argument, in PyTorch's order."""
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            _flatten(inner, spec.get(key) if isinstance(spec, Mapping) else None, leaves)
    elif isinstance(value, tuple | list):
        parts = cast("Any", spec if isinstance(spec, tuple | list) else [None] * len(cast("list[Any]", value)))
        for inner, part in zip(cast("list[Any]", value), parts, strict=False):
            _flatten(inner, part, leaves)
    else:
        leaves.append(spec if isinstance(spec, Mapping | tuple | list) else None)


__all__ = ["readable", "source_of"]
