"""The work behind `planish compare`: the outputs of compiled code against another runtime's, and the first layer at
which they part.

Both sides run on the same inputs. To find the layer, values inside the model are made outputs, some at a time: as many
as fit into a budget of bytes. First come those that compiled kernels hand to each other anyway, so that fusion stays as
it is; then those inside of the kernel that is at fault.
"""

from __future__ import annotations

import importlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from planish._lower import Options, available_threads, lower
from planish.as_onnx import write_as_onnx
from planish.codegen.llvm.target import targets_for
from planish.compile import compile_file
from planish.frontend import Source, SourceNode
from planish.ir.core import Module
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph
from planish.ir.program import Call
from planish.ir.state import State, states_of
from planish.ir.types import DTYPES, TensorType
from planish.islands import pieces
from planish.passes import PassContext
from planish.preflight import split_nodes
from planish.runtime import load
from planish.runtime.errors import ArtifactError
from planish.shapes import Given, Shapes

if TYPE_CHECKING:
    import onnx

BUDGET = 256 << 20  # bytes of values inside the model on one side at a time
_UNKNOWN = 1 << 20  # what a value of unknown size is taken for
# Largest relative L2 difference by element type; the largest single difference may be ten times that.
TOLERANCES = {"f64": 1e-6, "f32": 1e-4, "f16": 1e-2, "bf16": 5e-2, "i8": 2e-2, "u8": 2e-2, "c64": 1e-4, "c128": 1e-6}
_QUANTIZED = 2e-2  # of floats, in a model with quantized operators: a step more or less is no error
_RANDOM = ("Random", "Bernoulli", "Multinomial")


@dataclass(frozen=True)
class Difference:
    """How far a value is from the other side's: the largest difference relative to the largest value, and the L2 norm
    of the differences relative to that of the values. `note` says what else differs."""

    name: str
    dtype: str
    largest: float
    l2: float
    tolerance: float
    note: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is within the tolerance."""
        return not self.note and self.l2 <= self.tolerance and self.largest <= 10 * self.tolerance

    def facts(self) -> dict[str, Any]:
        """The object for `--json`."""
        return {**asdict(self), "fits": self.fits}


@dataclass(frozen=True)
class Layer:
    """The first node whose result is too far off: its results, and what the node reads. `inside` are the nodes that run
    in one kernel with it and whose results are right when they are looked at one by one."""

    node: SourceNode
    results: list[Difference]
    inputs: list[Difference]
    inside: list[str] = field(default_factory=list[str])

    @property
    def introduces(self) -> bool:
        """Whether the error is made here: everything that the node reads is right."""
        return all(d.fits for d in self.inputs)


@dataclass
class Comparison:
    """What was found. `layers` are all values that were looked at, in order; `first` is the layer at fault."""

    against: str
    outputs: list[Difference]
    layers: list[Difference] = field(default_factory=list[Difference])
    first: Layer | None = None
    notes: list[str] = field(default_factory=list[str])

    @property
    def fits(self) -> bool:
        """Whether all outputs, and all layers that were looked at, are within their tolerance."""
        return all(d.fits for d in self.outputs) and self.first is None


Values = dict[str, Any]


class Side(ABC):
    """Something that runs a model and can give out values from inside of it."""

    @abstractmethod
    def run(self, names: Sequence[str]) -> Values:
        """The values of these names (none: the model's own outputs) for the inputs of the comparison."""


class PlanishSide(Side):
    """Compiled code."""

    def __init__(
        self,
        source: Source,
        inputs: Values,
        options: Options,
        shapes: Mapping[str, Given],
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        self.source, self.inputs, self.options, self.shapes, self.ranks = source, inputs, options, shapes, ranks

    def run(self, names: Sequence[str]) -> Values:
        """Compile the model with these outputs, and run it."""
        o = self.options
        with tempfile.TemporaryDirectory(prefix="planish-compare-") as folder:
            library = Path(folder) / "model.so"
            compile_file(
                self.source.with_outputs(names), library, cpu=o.cpu, opt=o.opt, threads=o.threads, passes=o.passes,
                disable=o.disable, shapes=self.shapes, ranks=self.ranks, self_test=False,
            )  # fmt: skip
            with load(library, threads=o.threads) as model:
                found = model.run(self.inputs)
        return {name: found[name] for name in names} if names else found


class ReferenceSide(Side):
    """The NumPy interpreter, on the model as it was read."""

    def __init__(self, source: Source, inputs: Values, asked: Shapes, ranks: Mapping[str, int] | None = None) -> None:
        self.source, self.inputs, self.shapes, self.ranks = source, inputs, asked.fixed, ranks

    def run(self, names: Sequence[str]) -> Values:
        """Read the model with these outputs, and interpret it."""
        module = self.source.with_outputs(names).read(shapes=self.shapes, ranks=self.ranks)
        states = states_of(module)
        with np.errstate(all="ignore"):
            found = run_graph(module, {**self.inputs, **{s.input: s.initial.array() for s in states}})
        for state in states:
            del found[state.output]
        return {name: found[name] for name in names} if names else found


class OnnxRuntimeSide(Side):
    """ONNX Runtime on the CPU, without its optimizations."""

    def __init__(self, model: Path | onnx.ModelProto, inputs: Values) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        try:
            self.runtime: Any = importlib.import_module("onnxruntime")
        except ImportError as e:
            raise PlanishError("compare: onnxruntime is not installed: install it, or use --against reference") from e
        self.model, self.inputs = model, inputs

    def run(self, names: Sequence[str]) -> Values:
        """Make these values outputs, and run."""
        options = self.runtime.SessionOptions()
        options.graph_optimization_level = self.runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            session = self.runtime.InferenceSession(
                self._with(names, options), options, providers=["CPUExecutionProvider"]
            )
            wanted = list(names) or [str(o.name) for o in session.get_outputs()]
            taken = {str(i.name) for i in session.get_inputs()}
            found = session.run(wanted, {name: value for name, value in self.inputs.items() if name in taken})
        except Exception as e:  # its errors have no common class
            text = (str(e).splitlines() or [type(e).__name__])[0]
            raise PlanishError(f"compare: onnxruntime cannot run the model: {text}; use --against reference") from e
        return dict(zip(wanted, found, strict=True))

    def _with(self, names: Sequence[str], options: Any) -> str | bytes:
        if not names and isinstance(self.model, Path):
            return str(self.model)
        if isinstance(self.model, Path):
            proto = self.onnx.load(str(self.model), load_external_data=False)
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self.model.resolve().parent)
            )
        else:
            proto = self.onnx.ModelProto()
            proto.CopyFrom(self.model)
        present = {o.name for o in proto.graph.output}
        proto.graph.output.extend(self.onnx.ValueInfoProto(name=name) for name in names if name not in present)
        return proto.SerializeToString()


class ExportedSide(OnnxRuntimeSide):
    """ONNX Runtime on a model of another format, which is written as ONNX for it."""

    def __init__(
        self,
        source: Source,
        inputs: Values,
        asked: Shapes,
        ranks: Mapping[str, int] | None = None,
        states: Sequence[State] = (),
    ) -> None:
        """`states` are those of the model: inputs and outputs of what is written."""
        super().__init__(Path(source.label), {**inputs, **{s.input: s.initial.array() for s in states}})
        self.source, self.shapes, self.ranks, self.states = source, asked.fixed, ranks, states

    def run(self, names: Sequence[str]) -> Values:
        """Write the model with these outputs, and run it."""
        with tempfile.TemporaryDirectory(prefix="planish-compare-") as folder:
            self.model = Path(folder) / "model.onnx"
            write_as_onnx(self.source.with_outputs(names), self.model, shapes=self.shapes, ranks=self.ranks)
            found = super().run(())
        for state in self.states:
            found.pop(state.output, None)
        return {name: found[name] for name in names} if names else found


# -- differences ----------------------------------------------------------------------------------------------------


def difference(name: str, got: Any, want: Any, quantized: bool = False, tolerance: float | None = None) -> Difference:
    """How far `got` is from `want`; sequences by their elements, other values that are no numbers by equality."""
    if isinstance(got, list | tuple) and isinstance(want, list | tuple):
        return _sequence(name, cast("Sequence[Any]", got), cast("Sequence[Any]", want), quantized, tolerance)
    numbers: np.ndarray[Any, np.dtype[Any]] = np.asarray(want)
    dtype: np.dtype[Any] = numbers.dtype
    if not isinstance(want, np.ndarray | np.generic) or dtype.kind in "OSU":
        same = bool(np.array_equal(np.asarray(got, object), np.asarray(want, object)))
        return Difference(name, "", 0.0 if same else np.inf, 0.0 if same else np.inf, 0.0)
    values: np.ndarray[Any, np.dtype[Any]] = np.asarray(cast("Any", got))
    kind = _dtype_name(dtype)
    allowed = TOLERANCES.get(kind, 0.0) if tolerance is None else tolerance
    if tolerance is None and quantized and kind in ("f32", "f64", "f16", "i8", "u8"):
        allowed = max(allowed, _QUANTIZED)
    if values.shape != numbers.shape:
        note = f"expected shape {list(numbers.shape)}, got {list(values.shape)}"
        return Difference(name, kind, np.inf, np.inf, allowed, note)
    largest, l2 = _distance(values, numbers)
    return Difference(name, kind, largest, l2, allowed)


def _sequence(
    name: str, got: Sequence[Any], want: Sequence[Any], quantized: bool, tolerance: float | None
) -> Difference:
    if len(got) != len(want):
        return Difference(name, "", np.inf, np.inf, 0.0, f"expected {len(want)} elements, got {len(got)}")
    parts = [difference(name, g, w, quantized, tolerance) for g, w in zip(got, want, strict=True)]
    return max(parts, key=lambda d: (bool(d.note), d.l2), default=Difference(name, "", 0.0, 0.0, 0.0))


def _distance(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Largest difference and L2, both relative. Equal infinities and NaN on both sides are equal."""
    wide: Any = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = got.astype(wide).reshape(-1), want.astype(wide).reshape(-1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if bool(same.all()):
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        delta = np.where(same, 0, np.abs(a - b))
        finite = np.where(np.isfinite(b), np.abs(b), 0)
        scale, norm = float(finite.max(initial=0.0)), float(np.sqrt(np.sum(finite**2)))
        if not bool(np.isfinite(delta).all()):
            return np.inf, np.inf
        return float(delta.max()) / max(scale, 1e-30), float(np.sqrt(np.sum(delta**2))) / max(norm, 1e-30)


def _dtype_name(dtype: np.dtype[Any]) -> str:
    letters = {"float": "f", "int": "i", "uint": "u", "complex": "c", "bfloat": "bf"}
    kind = dtype.name.rstrip("0123456789")
    return letters.get(kind, kind) + dtype.name[len(kind) :]


# -- the search -----------------------------------------------------------------------------------------------------


class Search:
    """Compares values inside of a model. `say` hears how far it is."""

    def __init__(
        self,
        source: Source,
        sides: tuple[Side, Side],
        budget: int = BUDGET,
        tolerance: float | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.source, self.sides, self.budget, self.tolerance, self.say = source, sides, budget, tolerance, say
        self.nodes = source.nodes()
        self.quantized = any("Quant" in n.operator or n.operator.startswith(("QLinear", "QAttention")) or
                             n.operator.endswith("Integer") for n in self.nodes)  # fmt: skip
        self.sizes: dict[str, int] = {}
        self.known: dict[str, Difference] = {}
        self.notes: list[str] = []

    def differences(self, names: Sequence[str]) -> list[Difference]:
        """Differences of these values (none: the model's outputs), both sides run once."""
        got, want = (side.run(names) for side in self.sides)
        return [difference(name, got[name], want[name], self.quantized, self.tolerance) for name in want]

    def measure(self, module: Module, symbols: Mapping[str, int]) -> None:
        """Learn the sizes of values from the model as it was read."""
        for op in module.main.body:
            for r in op.results:
                if isinstance(r.type, TensorType) and r.type.shape is not None and r.name:
                    count = 1
                    for d in r.type.shape:
                        known = d if isinstance(d, int) else _evaluated(d, symbols)
                        count *= known
                    self.sizes[r.name] = count * max(1, DTYPES[r.type.dtype].bits // 8)

    def groups(self, nodes: Sequence[SourceNode]) -> Iterator[list[SourceNode]]:
        """Nodes in order, in groups whose results fit into the budget."""
        group: list[SourceNode] = []
        used = 0
        for n in nodes:
            size = sum(self.sizes.get(o, _UNKNOWN) for o in n.outputs if o)
            if group and used + size > self.budget:
                yield group
                group, used = [], 0
            group.append(n)
            used += size
        if group:
            yield group

    def look(self, nodes: Sequence[SourceNode], found: list[Difference]) -> SourceNode | None:
        """The first of `nodes`, in their order, whose results are too far off; what was seen is added to `found`."""
        done = 0
        for group in self.groups([n for n in nodes if not n.operator.startswith(_RANDOM)]):
            done += len(group)
            self.say(f"layers {done} of {len(nodes)}")
            self._look_at(group, found)
            for n in group:
                if any(not self.known[o].fits for o in n.outputs if o in self.known):
                    return n
        return None

    def _look_at(self, group: Sequence[SourceNode], found: list[Difference]) -> None:
        names = [o for n in group for o in n.outputs if o and o not in self.known and self._is_used(n, o)]
        if not names:
            return
        try:
            seen = self.differences(names)
        except (PlanishError, ArtifactError) as error:
            if len(group) == 1:  # a value that one of the sides cannot give out
                self.notes.append(f"{group[0].label} was not looked at: {str(error).splitlines()[0]}")
                return
            self._look_at(group[: len(group) // 2], found)
            self._look_at(group[len(group) // 2 :], found)
            return
        self.known.update({d.name: d for d in seen})
        found.extend(seen)

    def _is_used(self, node: SourceNode, output: str) -> bool:
        """Optional results that nobody reads need not be there."""
        return output == node.outputs[0] or any(output in n.inputs for n in self.nodes)

    def first(self, borders: Sequence[SourceNode], kernels: Mapping[str, list[str]]) -> tuple[Layer | None, Any]:
        """The layer at fault among `borders`, or inside of the kernel that makes its result; and what was seen."""
        found: list[Difference] = []
        at = self.look(borders, found)
        if at is None:
            return None, found
        partners = set(kernels.get(at.name, ()))
        inner = [n for n in self.nodes if n.name in partners and n.name != at.name]
        earlier = self.look(inner, found) if inner else None
        node = earlier or at
        makers = {o for n in self.nodes for o in n.outputs if o}
        wanted = [name for name in dict.fromkeys(node.inputs) if name in makers]
        self._look_at([n for n in self.nodes if any(o in wanted and o not in self.known for o in n.outputs)], [])
        inputs = [self.known[name] for name in wanted if name in self.known]
        results = [self.known[o] for o in node.outputs if o in self.known]
        return Layer(node, results, inputs, [] if earlier else [n.name for n in inner]), found


def _evaluated(dim: Any, symbols: Mapping[str, int]) -> int:
    try:
        return max(0, int(dim.evaluate(symbols)))
    except KeyError:
        return 64


def kernels_of(
    source: Source, options: Options, asked: Shapes, ranks: Mapping[str, int] | None
) -> tuple[Module, dict[str, list[str]]]:
    """The model as it was read; and for every node that makes the result of a kernel, all nodes of that kernel."""
    module = source.read(shapes=asked.fixed, ranks=ranks)
    target = targets_for(options.cpu, options.triple)[0]
    lowered = module.clone()
    lower(lowered, PassContext(target, options.threads or available_threads(), options.opt, target, None), options)
    order = {n.name: i for i, n in enumerate(source.nodes())}
    found: dict[str, list[str]] = {}
    for _, program in pieces(lowered).programs:
        for call in (op for op in program.walk() if isinstance(op, Call)):
            names = [n for n in dict.fromkeys(split_nodes(call.loc, order)) if n in order]
            if names:
                last = max(names, key=lambda n: order[n])
                found[last] = list(dict.fromkeys([*found.get(last, []), *names]))
    return module, found


def compare(
    source: Source,
    sides: tuple[Side, Side],
    against: str,
    *,
    options: Options,
    asked: Shapes,
    symbols: Mapping[str, int],
    ranks: Mapping[str, int] | None = None,
    layers: bool = False,
    budget: int = BUDGET,
    tolerance: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Compare the outputs; where one is too far off, or with `layers`, find the first layer. `layers` looks at the
    results of all nodes, not only of those between kernels."""
    search = Search(source, sides, budget, tolerance, say)
    say("outputs")
    result = Comparison(against, search.differences(()), notes=search.notes)
    search.known.update({d.name: d for d in result.outputs})
    if all(d.fits for d in result.outputs) and not layers:
        return result
    module, kernels = kernels_of(source, options, asked, ranks)
    search.measure(module, symbols)
    borders = [n for n in search.nodes if layers or n.name in kernels or any(o in search.known for o in n.outputs)]
    result.first, result.layers = search.first(borders, kernels)
    return result


__all__ = [
    "BUDGET", "Comparison", "Difference", "Layer", "OnnxRuntimeSide", "PlanishSide", "ReferenceSide", "Search",
    "compare", "difference",
]  # fmt: skip
