"""The pre-flight report: what becomes of every node of a model, before any machine code is made.

The model goes through the passes as for a real compilation. Operations carry the name of their node (`loc`) all the
way into the kernel calls, where fusion joins them with "+": so each node is found in the calls that compute it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from planish._lower import Options, lower
from planish.estimate import CallFacts, estimate
from planish.frontend import Source, SourceNode
from planish.ir.core import Function, Module, Op
from planish.ir.errors import Issue, UnsupportedError
from planish.ir.plan import HostCall, Plan, PlanIf, PlanLoop
from planish.ir.target_info import TargetInfo
from planish.ir.types import TensorType
from planish.islands import pieces
from planish.passes import PassContext
from planish.variants import read_variants

FAST, LOOP, RUNTIME, FREE, REFUSED, UNSEEN = "fast", "loop", "runtime", "free", "refused", "not reached"
PATHS = {
    FAST: "fused kernels with vector lanes",
    LOOP: "plain loops",
    RUNTIME: "functions of the C runtime",
    FREE: "cost nothing: known at compile time, part of another operator, or a view",
    REFUSED: "cannot be compiled",
    UNSEEN: "not looked at: something else cannot be compiled",
}
STRICT_SHARE = 0.01  # of the estimated time, from which on a plain loop counts as slow
_CONTRACTIONS = ("linalg.", "nn.conv", "nn.lstm", "nn.gru", "nn.rnn", "quant.")


@dataclass(frozen=True)
class NodeReport:
    """What becomes of one node. `share` of the time is estimated; of functions of
    the runtime it is None, or what their kernels take. `kernel` names the
    kernel, `with_nodes` tells how many nodes it computes. `detail` says how it runs, or why not better; `advice` what
    can be done about it."""

    node: str
    operator: str
    domain: str
    opset: int
    dtype: str
    path: str
    share: float | None
    kernel: str = ""
    with_nodes: int = 0
    detail: str = ""
    advice: str = ""

    @property
    def is_slow(self) -> bool:
        """Whether `--strict` refuses it."""
        return self.path == RUNTIME or (self.path == LOOP and (self.share or 0.0) >= STRICT_SHARE)


@dataclass
class Preflight:
    """The report. `issues` are nodes, inputs and initializers that cannot be compiled; then shares are unknown."""

    label: str
    nodes: list[NodeReport]
    issues: list[Issue] = field(default_factory=list[Issue])
    notes: list[str] = field(default_factory=list[str])
    error: UnsupportedError | None = None

    @property
    def compiles(self) -> bool:
        """Whether everything can be compiled."""
        return not self.issues

    @property
    def slow(self) -> list[NodeReport]:
        """Nodes that take a slow path, those that take longest first."""
        return sorted((n for n in self.nodes if n.is_slow), key=lambda n: -(n.share or 0.0))

    def require_fast(self) -> None:
        """Raise `UnsupportedError` with all nodes that cannot be compiled, or with all that take a slow path."""
        if self.error is not None:
            raise self.error
        slow = self.slow
        if not slow:
            return
        rows = [("node", "operator", "path", "time", "why")]
        rows += [(n.node, n.operator, n.path, _percent(n.share), f"{n.detail}: {n.advice}") for n in slow]
        widths = [min(60, max(len(row[i]) for row in rows)) for i in range(5)]
        lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        what = "1 node takes a slow path" if len(slow) == 1 else f"{len(slow)} nodes take slow paths"
        raise UnsupportedError("\n".join([f"{self.label}: strict: {what}; compile without strict to go on", *lines]))

    def paths(self) -> dict[str, Counter[str]]:
        """Operators by path, with the number of nodes."""
        found: dict[str, Counter[str]] = {path: Counter() for path in PATHS}
        for n in self.nodes:
            found[n.path][n.operator] += 1
        return {path: counts for path, counts in found.items() if counts}

    def facts(self) -> dict[str, Any]:
        """The object for `--json`."""
        return {
            "model": self.label,
            "compiles": self.compiles,
            "paths": {path: dict(counts.most_common()) for path, counts in self.paths().items()},
            "nodes": [asdict(n) for n in self.nodes],
            "issues": [issue._asdict() for issue in self.issues],
            "notes": self.notes,
        }


def preflight(
    source: Source,
    target: TargetInfo,
    options: Options,
    shapes: Mapping[str, Any] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> Preflight:
    """The report for `source` on `target`. Raises `ModelError` for a model that is damaged; what planish cannot
    compile is in the report."""
    nodes = source.nodes()
    try:
        variants = read_variants(source, shapes, ranks)
        module = variants.general if not variants.unranked else variants.modules[-1]
        imported = _imported(module.functions["main"])
        context = PassContext(target, options.threads or 1, options.opt, target, None)
        lower(module, context, options)
    except UnsupportedError as error:
        return _refused(source.label, nodes, error)
    report = _Report(module, target, options.opt == 0, imported)
    found = Preflight(source.label, [report.node(n) for n in nodes])
    found.notes.extend(str(line) for line in cast(Sequence[object], module.attributes.get("notes", ())))
    if variants.unranked:
        ranks_shown = ", ".join(f"{name}: {rank}" for name, rank in variants.found[-1].ranks.items())
        found.notes.append(f"inputs of unknown rank: estimated for {ranks_shown}")
    if any(piece.attributes["symbols"] for piece in report.programs):
        found.notes.append("sizes that are known at run time only are taken to be 64")
    return found


def _refused(label: str, nodes: Sequence[SourceNode], error: UnsupportedError) -> Preflight:
    issues = [_with_advice(i) for i in error.issues] or [Issue("(model)", "", "", error.reason, "see the message")]
    bad = {issue.node: issue for issue in issues}
    reports: list[NodeReport] = []
    for n in nodes:
        issue = bad.get(n.label)
        base = NodeReport(n.name, n.operator, n.domain, n.opset, "", UNSEEN, None)
        reports.append(replace(base, path=REFUSED, detail=issue.reason, advice=issue.advice) if issue else base)
    return Preflight(label, reports, issues, error=error)


def _with_advice(issue: Issue) -> Issue:
    """Every issue has a way out."""
    if issue.advice:
        return issue
    own = issue.operator.startswith("ai.onnx")
    advice = "compute it before or after the model" if own else "define it in the model as a function"
    return issue._replace(advice=advice)


@dataclass(frozen=True)
class _Imported:
    """What the operations made of one node are: the type of the last one's result, and a weight for their work."""

    dtype: str
    work: float


def _imported(graph: Function) -> dict[str, _Imported]:
    found: dict[str, _Imported] = {}
    for op in graph.body.walk():
        if op.results and op.loc:
            before = found.get(op.loc, _Imported("", 0.0))
            type = op.results[-1].type
            dtype = type.dtype if isinstance(type, TensorType) else str(type).partition("<")[0]
            found[op.loc] = _Imported(dtype, before.work + _work(op))
    return found


def _work(op: Op) -> float:
    """About the operations of `op`: to share the time of a kernel among its nodes."""
    sizes = [_elements(v.type) for v in [*op.inputs, *op.results]]
    if op.op_name.startswith(_CONTRACTIONS) and len(sizes) >= 3:
        return 2.0 * math.sqrt(sizes[0] * sizes[1] * sizes[-1])
    return max(sizes, default=0.0)


def _elements(type: object) -> float:
    if not isinstance(type, TensorType) or type.shape is None:
        return 64.0
    return math.prod(float(d) if isinstance(d, int) else 64.0 for d in type.shape)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


class _Report:
    """Finds nodes in a lowered module."""

    def __init__(self, module: Module, target: TargetInfo, plain: bool, imported: Mapping[str, _Imported]) -> None:
        self.imported = imported
        parts = pieces(module)
        self.programs = [program for _, program in parts.programs]
        self.calls: dict[str, list[tuple[CallFacts, float, int]]] = {}  # node -> calls with its share, and their nodes
        self.total = 0.0
        for holder, program in parts.programs:
            for facts in estimate(holder, program, target, plain):
                self._add(facts)
        self.steps: dict[str, str] = {}
        if parts.plan is not None:
            self._steps(parts.plan)

    def _add(self, facts: CallFacts) -> None:
        self.total += facts.seconds
        names = list(dict.fromkeys(split_nodes(facts.call.loc, self.imported)))
        work = [max(1.0, self.imported[name].work if name in self.imported else 1.0) for name in names]
        for name, own in zip(names, work, strict=True):
            self.calls.setdefault(name, []).append((facts, facts.seconds * own / sum(work), len(names)))

    def _steps(self, plan: Plan) -> None:
        for op in plan.walk():
            if isinstance(op, HostCall):
                self.steps.setdefault(op.loc, f"planish_host_{op.function}")
            elif isinstance(op, PlanIf | PlanLoop):
                self.steps[op.loc] = "a branch" if isinstance(op, PlanIf) else "a loop"

    def node(self, n: SourceNode) -> NodeReport:
        """What became of a node."""
        made = self.imported.get(n.name)
        base = NodeReport(n.name, n.operator, n.domain, n.opset, made.dtype if made else "", FREE, 0.0)
        calls = self.calls.get(n.name, [])
        share = sum(own for _, own, _ in calls) / max(self.total, 1e-12)
        if n.name in self.steps:
            advice = "compute it before or after the model, if it takes long"
            return replace(base, path=RUNTIME, share=share if calls else None, detail=self.steps[n.name], advice=advice)
        if not calls:
            return replace(base, detail="part of another operator, or a view" if made else "known at compile time")
        facts, _, count = max(calls, key=lambda c: c[0].seconds)
        plain = facts.is_plain
        lanes = f"{facts.main.lanes} lanes" + (f", tile {facts.main.tile}" if facts.main.tile else "")
        detail = facts.main.why if plain else lanes if facts.main.lanes > 1 else "a few elements"
        return replace(
            base, path=LOOP if plain else FAST, share=share, kernel=facts.call.kernel, with_nodes=count, detail=detail,
            advice=_advice(facts.main.why) if plain else "",
        )  # fmt: skip


def _advice(why: str) -> str:
    return (
        "compile with -O1 or higher" if why.startswith("-O0") else "another order of dimensions in the model may help"
    )


def split_nodes(loc: str, known: Iterable[str] | Mapping[str, Any]) -> list[str]:
    """The nodes in the `loc` of a kernel; their names may have a "+" in them."""
    parts = loc.split("+")
    found: list[str] = []
    while parts:
        for count in range(len(parts), 0, -1):
            name = "+".join(parts[:count])
            if count == 1 or name in known:
                found.append(name)
                del parts[:count]
                break
    return found


__all__ = ["PATHS", "NodeReport", "Preflight", "preflight", "split_nodes"]
