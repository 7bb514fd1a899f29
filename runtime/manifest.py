"""The manifest: what an artifact says about itself, as JSON inside it.

The compiler writes it (`Manifest.to_json`), everybody may read it (`app info --json`, `Model.manifest`). Fields are
only ever added; a reader ignores those that it does not know.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class Port:
    """An input or output: its name, element type ("f32", "bf16", "bool" ...) and shape, symbols by name.

    The shape is None when the model leaves the rank open (or, for an output, when it depends on such an input).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class Target:
    """What the code was compiled for: LLVM triple, CPU name, and the features that it needs (LLVM's names)."""

    triple: str = ""
    cpu: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """Bytes: packed weights, planned arena, its lower bound (largest set of live values), scratch per thread, code.

    With symbolic shapes `arena` and `lower_bound` are those at the smallest sizes, or 0 where unknown.
    """

    weights: int = 0
    arena: int = 0
    lower_bound: int = 0
    scratch: int = 0
    code: int = 0


@dataclass(frozen=True)
class Sample:
    """One expected value of the self-test: number of the output, flat index, value."""

    output: int
    index: int
    value: float


@dataclass(frozen=True)
class SelfTest:
    """A golden test: inputs made from `seed` within `ranges` (see runtime/selftest.py), and what must come out.

    `symbols` are the values of the symbols, in order; `ranges` one (lo, hi) per input; `sums` one (sum, sum of absolute
    values) per output, None where it is not checked.
    """

    seed: int
    symbols: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...]
    sums: tuple[tuple[float, float] | None, ...]
    samples: tuple[Sample, ...]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Variant:
    """The code for one assignment of ranks to the inputs of unknown rank, and for certain `sizes` of symbols (none: for
    all): which ones, and what it takes and gives."""

    ranks: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    memory: Memory
    sizes: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Refusal:
    """Ranks that the model does not take, and why."""

    ranks: dict[str, int]
    reason: str


@dataclass(frozen=True)
class PlanFacts:
    """What runs a model that is no single program: how many islands of machine code, which functions of the runtime and
    how often they occur, how many branches and loops."""

    islands: int
    functions: dict[str, int]
    branches: int
    loops: int


@dataclass(frozen=True)
class Tuned:
    """That schedules were measured: for how many kernels, and the digest of the database that has them (SHA-256)."""

    kernels: int
    database: str


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about an artifact."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    symbols: tuple[str, ...] = ()
    model_sha256: str = ""
    passes: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    memory: Memory = field(default_factory=Memory)
    versions: dict[str, str] = field(default_factory=dict[str, str])
    self_test: SelfTest | None = None
    variants: tuple[Variant, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    tuned: Tuned | None = None
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict[str, "tuple[int, int]"])
    """Least and most size of the symbols that are limited."""
    plan: PlanFacts | None = None
    """None: one program."""
    states: tuple[Port, ...] = ()
    """What the model keeps from run to run."""
    format: int = FORMAT

    def to_json(self) -> str:
        """One line of ASCII JSON; equal manifests give equal text."""
        data = asdict(self)
        if not self.variants:  # nearly always
            del data["variants"], data["refusals"]
        for key in ("ranges", "states"):
            if not data[key]:
                del data[key]
        for key in ("tuned", "plan"):
            if data[key] is None:
                del data[key]
        return json.dumps(data, ensure_ascii=True, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Raises `ValueError` if `text` is not a manifest, or one of a later format."""
        try:
            data = json.loads(text)
            if data.get("format", 0) > FORMAT:
                raise ValueError(f"format: expected at most {FORMAT}, got {data['format']}; update planish")
            return cls(**_convert(data))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error}") from error


def _known(kind: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    return {key: value for key, value in data.items() if key in names}


def _port(data: dict[str, Any]) -> Port:
    shape = data["shape"]
    return Port(data["name"], data["dtype"], None if shape is None else tuple(shape))


def _ports(data: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(map(_port, data))


def _memory(data: dict[str, Any]) -> Memory:
    return Memory(**_known(Memory, data.get("memory", {})))


def _variant(data: dict[str, Any]) -> Variant:
    ports = _ports(data["inputs"]), _ports(data["outputs"])
    return Variant(dict(data["ranks"]), *ports, _memory(data), dict(data.get("sizes", {})))


def _self_test(data: dict[str, Any] | None) -> SelfTest | None:
    if data is None:
        return None
    return SelfTest(
        seed=data["seed"],
        symbols=tuple(data["symbols"]),
        ranges=tuple((lo, hi) for lo, hi in data["ranges"]),
        sums=tuple(None if pair is None else (pair[0], pair[1]) for pair in data["sums"]),
        samples=tuple(Sample(s["output"], s["index"], s["value"]) for s in data["samples"]),
        rtol=data["rtol"],
        atol=data["atol"],
    )


def _convert(data: dict[str, Any]) -> dict[str, Any]:
    target: dict[str, Any] = data.get("target", {})
    return {
        **_known(Manifest, data),
        "inputs": _ports(data["inputs"]),
        "outputs": _ports(data["outputs"]),
        "states": _ports(data.get("states", [])),
        "symbols": tuple(data.get("symbols", ())),
        "passes": tuple(data.get("passes", ())),
        "target": Target(target.get("triple", ""), target.get("cpu", ""), tuple(target.get("features", ()))),
        "memory": _memory(data),
        "self_test": _self_test(data.get("self_test")),
        "tuned": Tuned(**_known(Tuned, data["tuned"])) if data.get("tuned") else None,
        "plan": PlanFacts(**_known(PlanFacts, data["plan"])) if data.get("plan") else None,
        "ranges": {name: (low, high) for name, (low, high) in data.get("ranges", {}).items()},
        "variants": tuple(map(_variant, data.get("variants", ()))),
        "refusals": tuple(Refusal(dict(r["ranks"]), r["reason"]) for r in data.get("refusals", ())),
    }
