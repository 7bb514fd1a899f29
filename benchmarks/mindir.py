"""Do MindSpore's models compute what MindSpore computes? `python -m benchmarks.mindir`, over a folder of samples.

Every network and single operator of the folder is compiled, run on the stored inputs, and compared with the outputs
that MindSpore 2.10 gave. docs/MINDIR.md gets the results and the list of primitives (`--report`). Exit status 1: an
output is beyond its tolerance, or a sample cannot be compiled that should be.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import planish
from planish.frontend.mindir.files import load
from planish.frontend.mindir.kinds import kind_of_primitive
from planish.frontend.mindir.primitive import PRIMITIVES
from planish.frontend.mindir.proto import ModelFile
from planish.frontend.mindir.table import functions, primitives
from planish.ir.errors import PlanishError

SAMPLES = Path(__file__).parent.parent.parent / "shared" / "mindspore" / "samples"
KEY = b"0123456789ABCDEF"
"""The key of the samples that are encrypted."""
ATOL, RTOL = 1e-5, 1e-4
CURVED = ("Tanh", "GeLU", "LSTM", "BasicLSTMCell")
"""Primitives through MindSpore's own tanh, which is up to 9.4e-5 from the true one."""
CURVED_ATOL, HALF = 2e-4, 1e-2  # absolute tolerances for them, and for 16-bit floats
HIDDEN = ("Load", "UpdateState", "Depend", "MakeTuple", "TupleGetItem", "Return", "Partial", "Switch")
"""Primitives that compute nothing."""


@dataclass(frozen=True)
class Sample:
    """A model file, arrays in0, in1 ... and out0, out1 ... of MindSpore (several runs: `calls`), and what it is: a
    network or an operator."""

    name: str
    group: str
    path: Path
    arrays: Path | None
    key: bytes | None = None
    calls: int = 1

    def inputs(self) -> list[np.ndarray]:
        """Inputs in order. Without stored ones: those of the old files, two matrices or one picture."""
        if self.arrays is None:
            shape = (1, 1, 2, 2) if "relu" in self.name else (2, 2)
            rng = np.random.default_rng(0)
            return [rng.standard_normal(shape).astype(np.float32) for _ in range(1 if "relu" in self.name else 2)]
        with np.load(self.arrays) as stored:
            return [stored[f"in{i}"] for i in range(sum(k.startswith("in") for k in stored.files))]

    def outputs(self) -> list[list[np.ndarray]]:
        """Expected outputs of each run."""
        if self.arrays is None:
            x, *rest = self.inputs()
            return [[x + rest[0] if rest else np.maximum(x, 0)]]
        with np.load(self.arrays) as stored:
            prefixes = [f"call{c}_out" for c in range(self.calls)] if self.calls > 1 else ["out"]
            return [[stored[k] for k in _numbered(stored.files, p)] for p in prefixes]


def _numbered(names: Iterable[str], prefix: str) -> list[str]:
    found = [n for n in names if n.startswith(prefix) and n[len(prefix) :].isdigit()]
    return sorted(found, key=lambda n: int(n[len(prefix) :]))


def samples(folder: Path = SAMPLES) -> Iterator[Sample]:
    """All samples of the folder in order of their names, networks first."""
    for path in sorted(folder.glob("*/*.mindir")):
        name = path.stem if path.stem == path.parent.name else f"{path.parent.name}/{path.stem}"
        if path.stem == "enc_custom_xor" or "bprop" in path.stem:
            continue  # encrypted by a function of its user; a gradient
        arrays = path.parent / "io.npz"
        if path.stem == "splitN_graph":
            arrays = path.parent / "splitN_io.npz"
        if path.parent.name == "air_from_ge_serializer":
            arrays = path.parent / f"{path.stem}_io.npz"
        key = KEY if path.stem.startswith(("enc_", "splitE", "add_encrypt")) else None
        yield Sample(name, "network", path, arrays if arrays.is_file() else None, key)
        if path.stem == "state_assign":
            yield Sample(f"{name}, three calls", "network", path, path.parent / "io_3calls.npz", None, 3)
    for path in sorted((folder / "ops").glob("*/*.mindir")):
        yield Sample(path.stem, "operator", path, path.parent / "io.npz")


def operators(model: ModelFile) -> list[str]:
    """The primitives that a model's nodes name, but for those that compute nothing, in order, each once."""
    found: dict[str, None] = {}
    for graph in (model.graph, *model.functions):
        for node in graph.nodes:
            name = node.op_type.removeprefix("REF::")
            primitive = model.primitives.get(name)
            operator = (primitive.op_type if primitive else name).removeprefix("S-Prim-")
            if operator not in ("Constant", *HIDDEN) and (primitive or not node.op_type.startswith("REF::")):
                found[operator] = None
    return list(found)


def tolerances(names: Sequence[str], arrays: Iterable[np.ndarray]) -> tuple[float, float]:
    """Absolute and relative tolerance for outputs of these primitives and element types."""
    if any(a.dtype == np.float16 for a in arrays):
        return HALF, HALF
    return (CURVED_ATOL if any(n in CURVED for n in names) else ATOL), RTOL


@dataclass
class Result:
    """What a sample gave: the largest difference of an element, the tolerance, and what is wrong ("": nothing)."""

    sample: Sample
    operators: list[str]
    largest: float
    tolerance: tuple[float, float]
    problem: str = ""


def distance(got: np.ndarray, want: np.ndarray, tolerance: tuple[float, float]) -> tuple[float, str]:
    """(the largest absolute difference, what is wrong)."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf"), f"expected {want.dtype}{list(want.shape)}, got {got.dtype}{list(got.shape)}"
    if not want.size:
        return 0.0, ""
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    x, y = got.astype(wide), want.astype(wide)
    with np.errstate(invalid="ignore"):
        apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    bound = tolerance[0] + tolerance[1] * np.abs(y)
    inside = bool(np.all(apart <= np.where(np.isfinite(bound), bound, 0)))
    return float(np.nanmax(apart)), "" if inside else "differs"


def check(sample: Sample) -> Result:
    """Compile a sample, run it, compare."""
    names: list[str] = []
    try:
        names = operators(load(sample.path, sample.key))
        wanted = sample.outputs()
        tolerance = tolerances(names, wanted[0])
        model = planish.compile(sample.path, key=sample.key)
        given = dict(zip((i.name for i in model.inputs), sample.inputs(), strict=True))
        largest, problem = 0.0, ""
        for want in wanted:
            got = list(model.run(given).values())
            if len(got) != len(want):
                return Result(sample, names, float("inf"), tolerance, f"{len(want)} outputs, got {len(got)}")
            for g, w in zip(got, want, strict=True):
                apart, wrong = distance(g, w, tolerance)
                largest, problem = max(largest, apart), problem or wrong
        return Result(sample, names, largest, tolerance, problem)
    except (PlanishError, ValueError) as e:
        return Result(sample, names, float("inf"), (ATOL, RTOL), f"{e}".replace(str(sample.path), sample.name))


# -- the page ----------------------------------------------------------------------------------------------------------

HEAD = """# MindIR

Written by `make mindir`. Networks and single operators that MindSpore 2.10 exported (CPU, graph mode) are compiled,
run on the inputs that are stored with them, and compared with the outputs that MindSpore gave. An element may be
{atol:g} + {rtol:g} |expected| off; {curved:g} + {rtol:g} |expected| where MindSpore's own tanh is involved, which is
up to 9.4e-5 from the true one; {half:g} in 16-bit floats. "Difference" is the largest absolute one of all elements.
"""


def _row(result: Result) -> str:
    names = ", ".join(result.operators[:8]) + (" ..." if len(result.operators) > 8 else "")
    verdict = "agrees" if not result.problem else result.problem.splitlines()[0].replace("|", "\\|")
    largest = "" if np.isinf(result.largest) else f"{result.largest:.1e}" if result.largest else "0"
    return f"| {result.sample.name} | {names} | {largest} | {result.tolerance[0]:g} | {verdict} |"


def table(results: Sequence[Result], group: str) -> str:
    """The results of a group."""
    own = [r for r in results if r.sample.group == group]
    good = sum(not r.problem for r in own)
    lines = [f"\n## {group.capitalize()}s\n", f"{good} of {len(own)} agree.\n"]
    lines += [f"| {group} | primitives | difference | tolerance | |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, own)]) + "\n"


def wrapped(names: Iterable[str], width: int = 118) -> str:
    """Names with commas in lines of limited width."""
    lines = [""]
    for name in names:
        word = f"{name}, "
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines).rstrip(", ")


def primitives_text() -> str:
    """Which primitives have a lowering, and what those are that have none."""
    lowered, of_kind_2 = set(PRIMITIVES), functions()
    more = sorted(lowered - of_kind_2)
    text = f"""
## Primitives

MindSpore 2.10 has {len(of_kind_2)} primitives whose arguments are all inputs of nodes, and others whose constructor's
arguments are attributes; {len(primitives())} are known by name, with their arguments in order. A model with primitives
that have no lowering is refused with one message that lists all of their nodes.

### With a lowering

{len(lowered & of_kind_2)} of the {len(of_kind_2)}:

{wrapped(sorted(lowered & of_kind_2))}

{len(more)} others, of older files and in attribute style:

{wrapped(more)}

### Without
"""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(primitives() - lowered):
        groups[kind_of_primitive(name)].append(name)
    for kind, names in sorted(groups.items(), key=lambda item: (item[0] == "others", item[0])):
        own = [n for n in names if n in of_kind_2]
        text += f"\n{kind[0].upper()}{kind[1:]} ({len(own)} of the {len(of_kind_2)}, {len(names) - len(own)} others):\n"
        text += wrapped(names) + "\n"
    return text


def page(results: Sequence[Result]) -> str:
    """docs/MINDIR.md."""
    head = HEAD.format(atol=ATOL, rtol=RTOL, curved=CURVED_ATOL, half=HALF)
    return head + table(results, "network") + table(results, "operator") + primitives_text()


def main() -> int:
    """Check the samples, print results, write the page; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mindir", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="samples (default: all)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, metavar="DIR", help="the folder of samples")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page to this file")
    given = parser.parse_args()
    if not given.samples.is_dir():
        print(f"python -m benchmarks.mindir: no samples: expected a folder {given.samples}", file=sys.stderr)
        return 2
    importlib.import_module("planish.frontend.mindir.lowerings")
    results: list[Result] = []
    for sample in samples(given.samples):
        if given.names and sample.name not in given.names:
            continue
        results.append(check(sample))
        result = results[-1]
        print(f"{sample.name:44} {result.largest:10.2e}  {result.problem or 'agrees'}", flush=True)
    wrong = sum(bool(r.problem) for r in results)
    print(f"{len(results) - wrong} of {len(results)} agree")
    if given.report:
        given.report.write_text(page(results), encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
