"""ATen's operators against PyTorch itself: each expression is exported, read, and computed by the interpreter."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from _torch_cases import EXPRESSIONS, MODULES, cases, operands

from planish.frontend.torch.aten import LOWERINGS
from planish.frontend.torch.program import DROPPED
from planish.ir.interp import run_graph
from planish.torch_modules import source_of

torch: Any = pytest.importorskip("torch", reason="needs PyTorch: make test-models")
pytestmark = pytest.mark.models

NAMES: dict[str, Any] = {
    "torch": torch, "F": torch.nn.functional, "nn": torch.nn,
    "weight_norm": torch.nn.utils.parametrizations.weight_norm,
}  # fmt: skip


def _changed(a: Any, b: Any) -> Any:
    """Changes in place, through views."""
    y = a.clone()
    y[b[:, 0], b[:, 1]] = 1.0
    y[..., 1:3] *= 2
    y[y > 1] = 0
    row = y[0]
    row.add_(1)
    return y, row


def _grown(a: Any) -> Any:
    def more(i: Any, v: Any) -> Any:
        return i < 3

    def double(i: Any, v: Any) -> Any:
        return i + 1, v * 2

    return torch._higher_order_ops.while_loop(more, double, (torch.tensor(0), a))


def _expression(text: str) -> Any:
    code = compile(text, text, "eval")
    names = {**NAMES, "changed": _changed, "grown": _grown}

    class Expression(torch.nn.Module):
        def forward(self, a: Any, b: Any = None) -> Any:
            return eval(code, {**names, "a": a, "b": b})

    return Expression()


def agrees(module: Any, arguments: tuple[Any, ...], tolerance: float = 1e-4) -> None:
    """Whether planish gives what the module gives."""
    module = module.eval()
    with torch.no_grad():
        wanted = [t for t in torch.utils._pytree.tree_leaves(module(*arguments)) if t is not None]
    source = source_of(module, arguments)
    graph = source.read()
    ports = [p.name for p in source.program.ports if not p.fixed]
    feeds = {name: a.numpy() for name, a in zip(ports, arguments, strict=False)}
    found = run_graph(graph, feeds)
    for (name, _), want in zip(source.program.outputs, wanted, strict=False):
        got, expected = np.asarray(found[name]), want.detach().numpy()
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("text", "names"), cases(EXPRESSIONS), ids=lambda v: v if isinstance(v, str) else "")
def test_an_expression_computes_what_pytorch_does(text: str, names: tuple[str, ...]) -> None:
    values = operands(torch)
    agrees(_expression(text), tuple(values[n] for n in names))


@pytest.mark.parametrize(("text", "names"), cases(MODULES), ids=lambda v: v if isinstance(v, str) else "")
def test_a_layer_computes_what_pytorch_does(text: str, names: tuple[str, ...]) -> None:
    values = operands(torch)
    agrees(eval(text, NAMES), tuple(values[n] for n in names))


def test_every_lowering_takes_the_arguments_of_its_operator() -> None:
    for target, lower in LOWERINGS.items():
        space, name, *overload = target.split(".")
        packet = getattr(torch.ops.aten, name, None) if space == "aten" else None
        found = getattr(packet, overload[0] if overload else "default", None)
        if found is None:
            continue
        accepted = inspect.signature(lower).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
            continue
        wanted = {"x" if a.name == "self" else a.name for a in found._schema.arguments} - DROPPED
        assert wanted <= accepted.keys(), f"{target}: {sorted(wanted - accepted.keys())}"
