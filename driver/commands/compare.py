"""`planish compare`: compiled code against another runtime, and the first layer at which they part."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planish.commands.base import (
    Command,
    add_inputs,
    add_json,
    add_reading,
    add_shape,
    positive,
    print_json,
    print_table,
    progress,
    reading_of,
)

if TYPE_CHECKING:
    import numpy as np

    from planish.comparison import Comparison, Difference, Layer, Side
    from planish.ir.core import Module
    from planish.shapes import Shapes

MOST = 20  # layers that a table shows
SEED = 20240229
_SIZE = 8  # what a symbolic dimension is in random inputs

DESCRIPTION = """\
Compile a model, run it, and compare its outputs with those of another runtime: the largest difference relative to the
largest value, and the relative L2 norm. Where one is beyond the tolerance, the first layer that is gets found: values
inside of the model are made outputs, as many at a time as fit into --max-bytes.

  planish compare net.onnx --inputs inputs.npz
  planish compare net.onnx --against reference --layers

Without --input(s), inputs are seeded random values. The exit status is 0 if everything is within its tolerance.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish compare`."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model file (ONNX)")
    parser.add_argument(
        "--against",
        choices=["onnxruntime", "reference"],
        default="onnxruntime",
        help="ONNX Runtime without optimizations (default), or planish's NumPy interpreter",
    )
    add_inputs(parser)
    parser.add_argument("--layers", action="store_true", help="compare the results of all nodes, not only the outputs")
    parser.add_argument(
        "--tolerance", metavar="L2", type=float, help="relative L2 to accept (default: by type, 1e-4 for f32)"
    )
    parser.add_argument(
        "--max-bytes", metavar="N", type=positive, help="of values inside the model at a time (default: 256 MiB)"
    )
    parser.add_argument("--cpu", default="", metavar="CPU", help="CPU to compile for (default: this one)")
    parser.add_argument("-O", dest="opt", type=int, choices=range(4), default=3, help="optimization level (default: 3)")
    parser.add_argument("-p", "--passes", metavar="PIPELINE", help="run these passes instead of the level's own")
    parser.add_argument(
        "--disable", metavar="PASS", action="append", default=[], help="leave out a pass; may be repeated"
    )
    parser.add_argument("--threads", metavar="N", type=positive, help="threads (default: all CPUs)")
    add_shape(parser)
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, show what was found, and say what is wrong."""
    from planish._lower import Options
    from planish.arrays import read_inputs
    from planish.as_onnx import is_onnx
    from planish.comparison import BUDGET, ExportedSide, OnnxRuntimeSide, PlanishSide, ReferenceSide, compare
    from planish.frontend import open_model
    from planish.ir.errors import PlanishError
    from planish.ir.state import states_of
    from planish.shapes import read_general

    reading = reading_of(arguments)
    source = open_model(arguments.model, reading)
    shapes: dict[str, Any] = dict(arguments.shapes)
    given = read_inputs(arguments.input, arguments.inputs)
    ranks = {name: given[name].ndim for name in source.unranked() if name in given} | dict(arguments.ranks)
    module, asked = read_general(source, shapes, ranks)
    inputs = given or random_inputs(module, asked)
    options = Options(arguments.cpu, arguments.opt, arguments.threads, arguments.passes, tuple(arguments.disable))
    against: Side
    if arguments.against == "reference":
        against = ReferenceSide(source, inputs, asked, ranks)
    elif is_onnx(arguments.model, reading):
        against = OnnxRuntimeSide(arguments.model, inputs)
    else:
        against = ExportedSide(source, inputs, asked, ranks, states_of(module))
    with progress(f"comparing {arguments.model.name}") as say:
        result = compare(
            source,
            (PlanishSide(source, inputs, options, shapes, ranks), against),
            arguments.against,
            options=options,
            asked=asked,
            ranks=ranks,
            symbols=symbols_of(module, inputs),
            layers=arguments.layers,
            budget=arguments.max_bytes or BUDGET,
            tolerance=arguments.tolerance,
            say=lambda text: say(f"{arguments.model.name}: {text}"),
        )
    if arguments.json:
        print_json(facts_of(arguments.model, result))
    else:
        show(arguments.model, result)
    if not result.fits:
        raise PlanishError(message(arguments.model, result))
    return 0


def random_inputs(module: Module, asked: Shapes) -> dict[str, np.ndarray]:
    """Seeded values that the model can take; symbolic dimensions are those of a version, else 8
    if `asked` allows it. Raises `PlanishError` for an input that is no
    tensor of numbers, or whose rank is unknown."""
    from planish._selftest import value_range
    from planish.ir.errors import PlanishError
    from planish.ir.state import states_of
    from planish.ir.types import DTYPES, TensorType
    from planish.runtime.manifest import Port
    from planish.runtime.selftest import seeded_input

    found: dict[str, np.ndarray] = {}
    kept = {s.input for s in states_of(module)}  # the model's own
    for i, p in enumerate(module.main.params):
        if p.name in kept:
            continue
        t = p.type
        if not isinstance(t, TensorType) or t.shape is None or t.dtype == "string" or DTYPES[t.dtype].bits < 8:
            raise PlanishError(f"compare: input {p.name}: no random values of type {t}: give --inputs FILE.npz")
        shape = tuple(
            d if isinstance(d, int) else max(0, d.evaluate({s: asked.choose(s, _SIZE) for s in d.symbols()}))
            for d in t.shape
        )
        found[p.name] = seeded_input(Port(p.name, t.dtype, shape), i, SEED, shape, *value_range(p))
    return found


def symbols_of(module: Module, inputs: dict[str, Any]) -> dict[str, int]:
    """The values of shape symbols for these inputs."""
    from planish.ir.types import TensorType

    found: dict[str, int] = {}
    for p in module.main.params:
        if isinstance(p.type, TensorType) and p.type.shape is not None and p.name in inputs:
            for d, size in zip(p.type.shape, getattr(inputs[p.name], "shape", ()), strict=False):
                if not isinstance(d, int) and d.symbol is not None:
                    found[d.symbol] = int(size)
    return found


def message(model: Path, result: Comparison) -> str:
    """What is wrong, in one message."""
    layer = result.first
    if layer is None:
        bad = next(d for d in result.outputs if not d.fits)
        return f"{model}: output {bad.name} differs from {result.against}: {_words(bad)}; no layer alone does"
    worst = max(layer.results, key=lambda d: d.l2)
    what = "its inputs are right" if layer.introduces else "an input of it is off, too"
    together = f"; the same kernel computes {', '.join(layer.inside[:4])}" if layer.inside else ""
    return (
        f"{model}: the first layer that differs from {result.against} is {layer.node.label} ({layer.node.operator}): "
        f"{_words(worst)}; {what}{together}"
    )


def _words(d: Difference) -> str:
    return d.note or f"relative L2 {d.l2:.3g}, expected at most {d.tolerance:.3g}; largest difference {d.largest:.3g}"


def facts_of(model: Path, result: Comparison) -> dict[str, Any]:
    """The object for `--json`."""
    return {
        "model": str(model),
        "against": result.against,
        "fits": result.fits,
        "outputs": [d.facts() for d in result.outputs],
        "layers": [d.facts() for d in result.layers],
        "first": None if result.first is None else _layer_facts(result.first),
        "notes": result.notes,
    }


def _layer_facts(layer: Layer) -> dict[str, Any]:
    return {
        "node": layer.node.name,
        "operator": layer.node.operator,
        "domain": layer.node.domain,
        "opset": layer.node.opset,
        "introduces": layer.introduces,
        "results": [d.facts() for d in layer.results],
        "inputs": [d.facts() for d in layer.inputs],
        "one_kernel_with": layer.inside,
    }


def show(model: Path, result: Comparison) -> None:
    """The result for a person."""
    print(f"{model}: {'agrees with' if result.fits else 'differs from'} {result.against}")
    _table("Outputs", result.outputs)
    if result.layers:
        bad = next((i for i, d in enumerate(result.layers) if not d.fits), len(result.layers))
        begin = max(0, min(bad + 3, len(result.layers)) - MOST)
        title = (
            f"Layers {begin + 1} to {min(begin + MOST, len(result.layers))} of those looked at, {len(result.layers)}"
        )
        _table(title, result.layers[begin : begin + MOST])
    if result.first is not None:
        node = result.first.node
        _table(f"First layer at fault: {node.label}, {node.operator}: its results", result.first.results)
        if result.first.inputs:
            _table("and its inputs", result.first.inputs)
    for note in result.notes:
        print(f"note: {note}")


def _table(title: str, differences: list[Difference]) -> None:
    rows = [
        [
            d.name,
            d.dtype or "-",
            f"{d.largest:.3g}",
            f"{d.l2:.3g}",
            f"{d.tolerance:.3g}",
            "ok" if d.fits else d.note or "OFF",
        ]
        for d in differences
    ]
    print_table(title, ["value", "type", "largest", "relative L2", "tolerance", ""], rows)


COMMAND = Command(
    "compare", "compare with another runtime, and find the first layer that differs", DESCRIPTION, arguments, run
)
