"""docs/COVERAGE.md from the outcomes of a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import onnx

from .cases import Case

Outcomes = Mapping[str, Mapping[str, str]]  # column -> test -> reason of its failure ("" when it passed)

# Patterns of "test: reason of its failure"
_REASONS = (
    (r"bernoulli|RandomUniform|RandomNormal", "random numbers: the expected values are those of one generator"),
    (r"ImageDecoder", "decodes image files, which needs a library of codecs; not a computation on tensors"),
    (r"Gradient", "derivatives: training is out of scope"),
    (r"test_dft_inverse", "the expected values have rounding errors of 1.9e-7 where zeros are meant; 1e-7 is allowed"),
    (r"test_maxpool_with_argmax_2d_precomputed_pads: AssertionError: second shape",
     "the reference evaluator's indices are wrong at the second shape (NumPy and ONNX Runtime agree with planish)"),
    (r"second shape: RunError", "the run refuses a second shape that the operator's definition forbids and the "
     "reference evaluator accepts (parts that do not add up, vectors of a wrong length)"),
    (r"expected coordinate|names in scope", "the verifier cannot show that coordinates stay inside"),
    (r"rank of the result|rank of .* is unknown", "a rank that only data decides"),
    (r"depends on the symbol|over a symbolic|symbolic size|shape is symbolic", "a size that must be a number"),
    (r"computed from data|depends on data", "something other than a shape that must not be data"),
    (r"operator is not supported", "the operator is missing"),
    (r"ended with status|takes more than", "the test process ended or ran out of time"),
    (r"AssertionError|Mismatch", "the result differs"),
)  # fmt: skip


def reason_of(text: str) -> str:
    """A failure, as "test: reason", in a few words."""
    return next((short for pattern, short in _REASONS if re.search(pattern, text)), text.split("\n")[0][:100])


def markdown(found: Sequence[Case], outcomes: Outcomes) -> str:
    """The report: a summary, a table per operator, and every failure with its reason."""
    columns = list(outcomes)
    lines = [
        "# Coverage of ONNX",
        "",
        f"Measured with ONNX {onnx.__version__}'s own backend tests by `make conformance`; written by it, do not edit.",
        "",
        "| column | meaning | passed | of |",
        "|---|---|---|---|",
    ]
    for column in columns:
        run = outcomes[column]
        passed = sum(not reason for reason in run.values())
        lines.append(f"| {column} | {_MEANING.get(column, '')} | {passed} | {len(run)} |")
    lines += ["", "## Operators", "", "Tests that pass, of those that contain the operator.", ""]
    lines += ["| operator | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += _operators(found, outcomes)
    for column in columns:
        failed = {name: reason for name, reason in outcomes[column].items() if reason}
        lines += ["", f"## Failures of {column}", ""]
        groups: dict[str, list[str]] = defaultdict(list)
        for name, reason in sorted(failed.items()):
            groups[reason_of(f"{name}: {reason}")].append(name)
        for short, names in sorted(groups.items(), key=lambda item: -len(item[1])):
            lines += [f"- {short} ({len(names)}): " + ", ".join(f"`{n}`" for n in names)]
    return "\n".join(lines) + "\n"


_MEANING = {
    "O0": "plain loops, no optimization",
    "O3": "all optimizations",
    "dynamic": "every dimension of every input is a symbol, lengths that decide ranks too; a second shape where ONNX's "
    "reference evaluator accepts one",
    "constant": "all inputs are initializers",
    "executable": "every ninth test through an executable and `.npz` files",
}


def _operators(found: Sequence[Case], outcomes: Outcomes) -> list[str]:
    cases: dict[str, list[str]] = defaultdict(list)
    for case in found:
        for operator in case.operators:
            cases[operator].append(case.name)
    rows: list[str] = []
    for operator, names in sorted(cases.items()):
        cells: list[str] = []
        for run in outcomes.values():
            ran = [n for n in names if n in run]
            cells.append(f"{sum(not run[n] for n in ran)}/{len(ran)}" if ran else "")
        rows.append(f"| {operator} | " + " | ".join(cells) + " |")
    return rows
