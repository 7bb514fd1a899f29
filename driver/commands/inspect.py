"""`planish inspect`: what a model or an artifact contains."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planish.commands.base import Command, add_json, print_json, print_table, size

if TYPE_CHECKING:
    from planish.files import Kind
    from planish.ir.core import Module, Value

DESCRIPTION = """\
Show the inputs, outputs and operators of a model, or the inputs, outputs, kernels, memory and sections of an artifact.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish inspect`."""
    parser.add_argument("file", metavar="MODEL|ARTIFACT", type=Path, help="a model file or an artifact")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Gather the facts, then print them as JSON or as tables."""
    from planish.files import Kind, kind_of

    kind = kind_of(arguments.file)
    facts = model_facts(arguments.file) if kind is Kind.MODEL else artifact_facts(arguments.file, kind)
    if arguments.json:
        print_json(facts)
    else:
        show(facts)
    return 0


def model_facts(file: Path) -> dict[str, Any]:
    """Inputs, outputs, operators and weights of a model, from its graph as it was read."""
    from planish.frontend import open_model
    from planish.ir.state import states_of
    from planish.variants import read_variants

    variants = read_variants(open_model(file))
    graphs = [module.main for module in variants.modules]
    kept = len(states_of(variants.modules[0]))
    own = [slice(len(ports) - kept) for ports in (graphs[0].params, graphs[0].results)]
    operators = Counter(op.text_name for op in graphs[0].walk())
    facts: dict[str, Any] = {
        "file": str(file),
        "kind": "model",
        "inputs": _values([graph.params[own[0]] for graph in graphs], variants.unranked),
        "outputs": _values([graph.results[own[1]] for graph in graphs]),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
    }
    if kept:
        facts["states"] = _values([graphs[0].params[-kept:]])
    if plan := _plan(variants.modules[0]):
        facts["plan"] = plan
    if variants.unranked:
        ports = ({"outputs": _values([graph.results])} for graph in graphs)
        facts["variants"] = [{"ranks": v.ranks, **outputs} for v, outputs in zip(variants.found, ports, strict=True)]
        facts["refusals"] = [asdict(refusal) for refusal in variants.refused]
    return facts


def _plan(module: Module) -> dict[str, Any]:
    """What runs a model that is no single program (`PlanFacts`); nothing for others."""
    from planish.ir.plan import Plan
    from planish.islands import plan_facts
    from planish.passes import PassManager

    copy = module.clone()
    PassManager.parse("split-host").run(copy)
    plan = copy.functions["main"]
    return asdict(plan_facts(plan, len(copy.islands))) if isinstance(plan, Plan) else {}


def artifact_facts(file: Path, kind: Kind) -> dict[str, Any]:
    """The manifest inside an artifact, and the sizes of its sections."""
    from planish.files import sections_of

    sections = sections_of(file)
    roles: Counter[str] = Counter()
    for section in sections:
        roles[section.role] += section.size
    return {
        "file": str(file),
        "kind": kind.value.split(" ", 1)[1],
        "bytes": file.stat().st_size,
        **_manifest(file, kind),
        "sizes": dict(roles),
        "sections": [{"name": s.name, "role": s.role, "bytes": s.size} for s in sections],
    }


def _manifest(file: Path, kind: Kind) -> dict[str, Any]:
    """What the artifact says about itself: a library through the runtime, an executable through `info --json`."""
    from planish.files import Kind, foreign_machine

    if machine := foreign_machine(file):
        return {"machine": machine}
    if kind is Kind.LIBRARY:
        from planish.runtime import load

        return asdict(load(file).manifest)
    if kind is Kind.EXECUTABLE:
        done = subprocess.run([file.resolve(), "info", "--json"], stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
    return {}


def _values(lists: Sequence[Sequence[Value]], unranked: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, dtype and shape of values that several graphs have; no shape for those of the names `unranked`, and where
    the graphs differ."""
    found: list[dict[str, Any]] = []
    for group in zip(*lists, strict=True):
        facts = _value(group[0])
        if facts["name"] in unranked or any(value.type != group[0].type for value in group):
            facts["shape"] = None
        found.append(facts)
    return found


def _value(value: Value) -> dict[str, Any]:
    """Name, dtype and shape of a tensor; the whole type as text for anything else."""
    from planish.ir.types import TensorType

    if not isinstance(value.type, TensorType):
        return {"name": value.name, "dtype": str(value.type), "shape": None}
    shape = value.type.shape
    dims = None if shape is None else [dim if isinstance(dim, int) else str(dim) for dim in shape]
    return {"name": value.name, "dtype": value.type.dtype, "shape": dims}


def show(facts: Mapping[str, Any]) -> None:
    """The facts for a person: what it is, ports, operators or memory and sections."""
    print(f"{facts['file']}: {facts['kind']}" + (f", {size(facts['bytes'])}" if "bytes" in facts else ""))
    if "machine" in facts:
        print(f"made for {facts['machine']}: only there it can say more")
    if "target" in facts:
        target, versions = facts["target"], facts["versions"]
        made = f"planish {versions['planish']}, LLVM {versions['llvm']}"
        print(f"compiled for {target['cpu']} ({target['triple']}) by {made}")
        print(f"needs {' '.join(target['features']) or 'no special features'}")
        print(f"passes {','.join(facts['passes'])}")
    for key in ("inputs", "outputs", "states"):
        if ports := facts.get(key):
            rows = [[port["name"], port["dtype"], _dims(port["shape"])] for port in ports]
            print_table(key.capitalize(), ["name", "type", "shape"], rows)
    if facts.get("variants"):
        ranks = [[_ranks(found["ranks"]), ", ".join(map(_port, found["outputs"]))] for found in facts["variants"]]
        ranks += [[_ranks(refusal["ranks"]), refusal["reason"]] for refusal in facts["refusals"]]
        print_table("Ranks", ["inputs", "outputs, or why there are none"], ranks)
    if plan := facts.get("plan"):
        rows = [[name, plan[name]] for name in ("islands", "branches", "loops")]
        print_table("Plan", ["part", "count"], rows + [[f"{name}()", n] for name, n in plan["functions"].items()])
    if "operators" in facts:
        print_table("Operators", ["operator", "count"], [[name, count] for name, count in facts["operators"].items()])
    if "memory" in facts:
        print_table("Memory", ["part", "bytes"], [[part, count] for part, count in facts["memory"].items()])
    if "sections" in facts:
        rows = [[part["name"], part["role"], part["bytes"]] for part in facts["sections"]]
        rows += [["all", role, count] for role, count in facts["sizes"].items()]
        print_table("Sections", ["name", "role", "bytes"], rows)


def _dims(shape: Sequence[int | str | None] | None) -> str:
    """`1x3x224x224`; symbols by name, a size that is found at run time as ?, an unknown rank as *."""
    return "*" if shape is None else "x".join("?" if d is None else str(d) for d in shape) or "scalar"


def _ranks(ranks: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {rank}" for name, rank in ranks.items())


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['name']} {port['dtype']} {_dims(port['shape'])}"


COMMAND = Command("inspect", "show what a model or an artifact contains", DESCRIPTION, arguments, run)
