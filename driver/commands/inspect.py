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

from planish.commands.base import Command, add_json, add_reading, print_json, print_table, reading_of, size

if TYPE_CHECKING:
    from planish.files import Kind
    from planish.frontend import Reading
    from planish.ir.core import Module, Value

DESCRIPTION = """\
Show the inputs, outputs and operators of a model, the tensors of a checkpoint, or the inputs, outputs, kernels, memory
and sections of an artifact.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish inspect`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a model, a checkpoint or an artifact")
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Gather the facts, then print them as JSON or as tables."""
    from planish.files import Kind, kind_of

    file: Path = arguments.file
    kind = Kind.MODEL if file.is_dir() else kind_of(file)
    if kind is not Kind.MODEL:
        facts = artifact_facts(file, kind)
    elif is_checkpoint(file):
        facts = checkpoint_facts(file, reading_of(arguments))
    else:
        facts = model_facts(file, reading_of(arguments))
    if arguments.json:
        print_json(facts)
    else:
        show(facts)
    return 0


def is_checkpoint(file: Path) -> bool:
    """Whether a file holds tensors only. Of an encrypted one the suffix tells."""
    from planish.frontend.checkpoints import holds_tensors

    return holds_tensors(file)


def checkpoint_facts(file: Path, reading: Reading) -> dict[str, Any]:
    """The tensors of a checkpoint."""
    from planish.frontend.checkpoints import read_checkpoint

    found = read_checkpoint(file, reading.key)
    tensors = [
        {"name": name, "dtype": data.dtype, "shape": list(data.shape), "bytes": data.nbytes}
        for name, data in found.tensors.items()
    ]
    return {
        "file": str(file),
        "kind": "checkpoint",
        "bytes": file.stat().st_size,
        "format": found.kind,
        "cipher": found.cipher,
        "metadata": found.metadata,
        "texts": found.texts,
        "tensors": tensors,
    }


def mindir_facts(file: Path, reading: Reading) -> dict[str, Any]:
    """What a MindIR file says about itself; nothing for other models."""
    from planish.frontend.encryption import cipher_of
    from planish.frontend.mindir.files import is_mindir, load

    if file.is_dir():
        return {}
    with file.open("rb") as opened:
        head = opened.read(64)
    if not (cipher_of(head) or is_mindir(head)):
        return {}
    model = load(file, reading.key)
    parameters = [p for graph in (model.graph, *model.functions) for p in graph.parameters]
    return {
        "mindir": {
            "version": model.mind_ir_version,
            "ir_version": model.ir_version,
            "mindspore": model.model_version,
            "producer": model.producer,
            "cipher": model.cipher,
            "functions": len(model.functions),
            "parameters": len(parameters),
            "parameter_bytes": sum(p.data.nbytes for p in parameters if p.data is not None),
            "preprocess": [asdict(step) for step in model.preprocessor],
            "user_info": model.user_info,
        }
    }


def model_facts(file: Path, reading: Reading) -> dict[str, Any]:
    """Inputs, outputs, operators and weights of a model, from its graph as it was read."""
    from planish.frontend import open_model
    from planish.ir.state import states_of
    from planish.variants import read_variants

    about = mindir_facts(file, reading)
    variants = read_variants(open_model(file, reading))
    graphs = [module.main for module in variants.modules]
    kept = len(states_of(variants.modules[0]))
    own = [slice(len(ports) - kept) for ports in (graphs[0].params, graphs[0].results)]
    operators = Counter(op.text_name for op in graphs[0].walk())
    facts: dict[str, Any] = {
        "file": str(file),
        "kind": "model",
        **about,
        "inputs": _values([graph.params[own[0]] for graph in graphs], variants.unranked),
        "outputs": _values([graph.results[own[1]] for graph in graphs], names=graphs[0].result_names),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
    }
    if kept:
        facts["states"] = _values([graphs[0].params[-kept:]])
    if plan := _plan(variants.modules[0]):
        facts["plan"] = plan
    if variants.unranked:
        ports = ({"outputs": _values([graph.results], names=graph.result_names)} for graph in graphs)
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


def _values(
    lists: Sequence[Sequence[Value]], unranked: Sequence[str] = (), names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Name (the values' own ones, or `names`), dtype and shape of values that several graphs have; no shape for those
    of the names `unranked`, and where the graphs differ."""
    found: list[dict[str, Any]] = []
    for i, group in enumerate(zip(*lists, strict=True)):
        facts = _value(group[0])
        if i < len(names):
            facts["name"] = names[i]
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
    if about := facts.get("mindir"):
        _show_mindir(about)
    if "tensors" in facts:
        _show_tensors(facts)
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


def _show_mindir(about: Mapping[str, Any]) -> None:
    producer, made = about["producer"] or "unknown", about["mindspore"] or "of unknown version"
    cipher = f", encrypted with {about['cipher']}" if about["cipher"] else ""
    print(f"MindIR version {about['version']} ({about['ir_version']}) by {producer} {made}{cipher}")
    print(f"{about['parameters']} parameters ({size(about['parameter_bytes'])}), {about['functions']} functions")
    if about["preprocess"]:
        rows = [[step["input_columns"], line] for step in about["preprocess"] for line in _operations(step)]
        print_table("Preprocessing (not part of the model)", ["columns", "operation"], rows)
    if about["user_info"]:
        print_table("User info", ["key", "value"], list(map(list, about["user_info"].items())))


def _operations(step: Mapping[str, str]) -> list[str]:
    """What a step of a data set does, as lines; the file has it in JSON, or it is told by its kind."""
    try:
        found = json.loads(step["operations"])
        return [f"{op['tensor_op_name']} {json.dumps(op['tensor_op_params'])}" for op in found]
    except (ValueError, TypeError, LookupError, RecursionError):
        return [f"{step['op_type']} {step['operations']}"]


def _show_tensors(facts: Mapping[str, Any]) -> None:
    cipher = f", encrypted with {facts['cipher']}" if facts["cipher"] else ""
    tensors = facts["tensors"]
    print(f"{facts['format']}{cipher}, {len(tensors)} tensors, {size(sum(t['bytes'] for t in tensors))}")
    rows = [[t["name"], t["dtype"], _dims(t["shape"]), t["bytes"]] for t in tensors]
    print_table("Tensors", ["name", "type", "shape", "bytes"], rows)
    texts = {**facts["texts"], **facts["metadata"]}
    if texts:
        print_table("Texts", ["name", "text"], [[name, text] for name, text in texts.items()])


def _dims(shape: Sequence[int | str | None] | None) -> str:
    """`1x3x224x224`; symbols by name, a size that is found at run time as ?, an unknown rank as *."""
    return "*" if shape is None else "x".join("?" if d is None else str(d) for d in shape) or "scalar"


def _ranks(ranks: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {rank}" for name, rank in ranks.items())


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['name']} {port['dtype']} {_dims(port['shape'])}"


COMMAND = Command("inspect", "show what a model or an artifact contains", DESCRIPTION, arguments, run)
