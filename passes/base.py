"""Passes and the pass manager: pipelines as text, options as fields, verification and timing of every pass.

A pass is a class. Its docstring's first line is its description, its annotated fields with defaults are its options:

    class DropDropout(Pass, name="drop-dropout"):
        \"\"\"Remove Dropout: it does nothing at inference.\"\"\"

        limit: int = 64

        def run_graph(self, graph: Graph) -> bool: ...

Subclassing registers it; `PassManager.parse("canonicalize,drop-dropout:limit=3")` finds it by name. A pass gives True
when it changed something. `self.context` tells it about the target.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from ..ir.core import Graph, Module
from ..ir.errors import PlanishError, VerifyError
from ..ir.kernel.builder import reserved_names
from ..ir.kernel.form import Kernel
from ..ir.target_info import TargetInfo
from ..ir.verifier import module_symbols
from ..ir.verifier import verify as verify_module
from .pipelines import PIPELINES

if TYPE_CHECKING:
    from .schedule.database import ScheduleDatabase

PASSES: dict[str, type[Pass]] = {}  # name -> class; filled by subclassing


@dataclass(frozen=True)
class PassContext:
    """What a pass may know beyond the module: the target (None: none chosen yet), threads the model will run on, the
    optimization level 0..3, where one artifact has code for several targets the one that weights are made for, and
    schedules that were measured before."""

    target: TargetInfo | None = None
    threads: int = 1
    opt: int = 3
    weights_for: TargetInfo | None = None
    measured: ScheduleDatabase | None = None

    @property
    def weights_target(self) -> TargetInfo | None:
        """The target that decides how weights are transformed and packed."""
        return self.weights_for or self.target


@dataclass_transform(kw_only_default=True)
class Pass:
    """Base of all passes. Override `run` (whole module) or `run_graph` (each graph of the module)."""

    pass_name: ClassVar[str] = ""
    context: PassContext = PassContext()

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(kw_only=True, eq=False)(cls)
        required = [f.name for f in _options(cls) if f.default is dataclasses.MISSING]
        if required:
            raise TypeError(f"{cls.__name__}: options need defaults: {required}")
        if name:
            if name in PASSES:
                raise RuntimeError(f"two passes are called {name}")
            cls.pass_name = name
            PASSES[name] = cls

    def run(self, module: Module) -> bool:
        """Change `module` in place; True when something changed. By default `run_graph` on each of its graphs."""
        changed = [self.run_graph(f) for f in list(module.functions.values()) if isinstance(f, Graph)]
        return any(changed)

    def run_graph(self, graph: Graph) -> bool:
        """Change `graph` in place; True when something changed."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither run nor run_graph")

    @classmethod
    def description(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Options by name, with their defaults."""
        return {f.name: f.default for f in _options(cls)}

    def __str__(self) -> str:
        """Its text in a pipeline; options at their defaults are left out."""
        given = {k: getattr(self, k) for k, default in self.options().items() if getattr(self, k) != default}
        return ":".join([self.pass_name, *(f"{k.replace('_', '-')}={_show(v)}" for k, v in given.items())])


@dataclass(frozen=True)
class PassReport:
    """What one pass did: `ops_before` and `ops_after` count operations in the bodies of graphs and programs."""

    name: str
    seconds: float
    changed: bool
    ops_before: int
    ops_after: int


_FEW = 10  # passes: pipelines of fewer are being worked on, and are verified after each of them

OnPass = Callable[[Pass, Module, PassReport], None]


class PassManager:
    """A sequence of passes to run over modules. Passes whose name is in `disable` are left out."""

    def __init__(
        self, passes: Iterable[Pass], context: PassContext | None = None, disable: Collection[str] = ()
    ) -> None:
        for name in disable:
            _find(name)
        self.passes = [p for p in passes if p.pass_name not in disable]
        self.context = context or PassContext()

    @staticmethod
    def parse(text: str, context: PassContext | None = None, disable: Collection[str] = ()) -> PassManager:
        """A manager from text: `canonicalize,my-pass:limit=3:deep=1,O2` (the name of a pipeline stands for its
        passes). Raises `PlanishError` that names what is unknown and what is close to it."""
        return PassManager(list(_parse(text)), context, disable)

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    def run(self, module: Module, *, verify: bool = True, on_pass: OnPass | None = None) -> list[PassReport]:
        """Run all passes on `module` in place. With `verify` the module is verified before the first and after every
        pass, and an error names the pass that caused it; `on_pass` is called after each."""
        if verify:
            verify_module(module)
        reports: list[PassReport] = []
        for p in self.passes:
            before = _count(module)
            start = time.perf_counter()
            changed = self._run_one(p, module)
            seconds = time.perf_counter() - start
            report = PassReport(str(p), seconds, changed, before, _count(module))
            if verify:
                _check(report, module, changed or len(self.passes) < _FEW)
            reports.append(report)
            if on_pass is not None:
                on_pass(p, module, report)
        return reports

    def _run_one(self, p: Pass, module: Module) -> bool:
        p.context = self.context
        try:
            with reserved_names(module_symbols(module)):
                changed = p.run(module)
            # An island is a model of its own; `split-host` makes them.
            for island in module.islands.values():
                with reserved_names(module_symbols(island)):
                    changed |= p.run(island)
            return changed
        except VerifyError as e:
            raise VerifyError(f"pass {p}: made an operation that breaks a rule: {e}", e.op) from e
        except PlanishError:
            raise
        except Exception as e:
            raise PlanishError(
                f"pass {p}: failed with {type(e).__name__}: {e}; this is a bug in the pass, "
                f"'--disable {p.pass_name}' leaves it out"
            ) from e


def _check(report: PassReport, module: Module, changed: bool) -> None:
    """Verify what a pass left; in long pipelines only where it says that it changed something."""
    try:
        if changed:
            verify_module(module)
    except VerifyError as e:
        raise VerifyError(f"after pass {report.name}: {e}") from e
    if not report.changed and report.ops_before != report.ops_after:
        raise VerifyError(
            f"pass {report.name}: expected a report of a change, got none: {report.ops_before} operations became "
            f"{report.ops_after}"
        )


def _count(module: Module) -> int:
    own = sum(len(f.body) for f in module.functions.values() if not isinstance(f, Kernel))
    return own + sum(map(_count, module.islands.values()))


def _options(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


# -- text ---------------------------------------------------------------------------------------------------------


def _parse(text: str) -> Iterable[Pass]:
    for item in filter(None, (part.strip() for part in text.split(","))):
        if item in PIPELINES:
            yield from _parse(PIPELINES[item])
            continue
        name, *settings = item.split(":")
        cls = _find(name)
        yield cls(**dict(_setting(cls, s) for s in settings))


def _find(name: str) -> type[Pass]:
    if name not in PASSES:
        known = [*PASSES, *PIPELINES]
        raise PlanishError(f"passes: unknown pass {name!r}: {_suggest(name, known)}")
    return PASSES[name]


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"


def _setting(cls: type[Pass], text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    name = key.replace("-", "_")
    options = cls.options()
    if name not in options:
        raise PlanishError(f"passes: {cls.pass_name} has no option {key!r}: {_suggest(name, list(options))}")
    default = options[name]
    if isinstance(default, bool):
        return name, _bool(cls, key, value) if equals else True
    try:
        return name, type(default)(value)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise PlanishError(f"passes: {cls.pass_name}:{key}: expected {kind}, got {value!r}") from None


def _bool(cls: type[Pass], key: str, value: str) -> bool:
    words = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
    if value.lower() not in words:
        raise PlanishError(f"passes: {cls.pass_name}:{key}: expected 0 or 1, got {value!r}")
    return words[value.lower()]


def _show(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
