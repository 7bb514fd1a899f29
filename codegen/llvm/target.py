"""CPUs: the machine we run on, or one chosen by name (`--triple`, `--cpu`), as a `TargetInfo`."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import llvmlite.binding as llvm

from ...ir.errors import PlanishError
from ...ir.target_info import TargetInfo
from .objects import initialize

# Only what generated code may use is listed, of a named CPU and of the host alike: an artifact refuses to run where one
# of its features is missing, and must not do so for the sake of an instruction that it does not have.
_V2 = ("popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_ICE_LAKE = (*_V4, "avx512bitalg", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512vpopcntdq")
_ARM = ("fp-armv8", "neon")
_ARM_82 = (*_ARM, "dotprod", "fullfp16")
_ARM_86 = (*_ARM_82, "bf16", "i8mm")


@dataclass(frozen=True)
class _Architecture:
    """What is known of one: the CPU names that `--cpu` takes (the first is the default for another machine) with their
    features, and every feature that generated code may use."""

    cpus: dict[str, tuple[str, ...]]
    used: frozenset[str]
    levels: tuple[str, ...] = field(default=())
    """CPU names whose kernels a portable artifact holds, best first."""


_ARCHITECTURES = {
    "x86_64": _Architecture(
        {
            "x86-64-v3": _V3,
            "x86-64": (),
            "x86-64-v2": _V2,
            "x86-64-v4": _V4,
            "haswell": _V3,
            "znver2": _V3,
            "znver3": _V3,
            "skylake-avx512": _V4,
            "icelake-server": _ICE_LAKE,
            "znver4": (*_ICE_LAKE, "avx512bf16"),
        },
        frozenset((*_ICE_LAKE, "avx512bf16", "avxifma", "avxvnni", "avxvnniint8", "avxvnniint16", "gfni")),
        ("x86-64-v4", "x86-64-v3", "x86-64-v2"),
    ),
    "aarch64": _Architecture(
        {
            "generic": _ARM,
            "cortex-a53": _ARM,
            "cortex-a55": _ARM_82,
            "cortex-a72": _ARM,
            "cortex-a76": _ARM_82,
            "neoverse-n1": _ARM_82,
            "neoverse-n2": _ARM_86,
            "neoverse-v1": _ARM_86,
        },
        frozenset(_ARM_86),
    ),
}
_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_TRIPLE = re.compile(r"(?P<arch>\w+?)(-(unknown|pc|none))?-linux(-(?P<libc>gnu|musl))?")
_ONE_FMA = ("znver4", "cortex-a53", "cortex-a55")  # znver4: a 512-bit multiply-add takes both 256-bit units
PORTABLE = "portable"


def cpu_names(triple: str = "") -> list[str]:
    """What `--cpu` takes for `triple` (default: this machine's)."""
    triple = normal_triple(triple)
    known = _ARCHITECTURES[triple.partition("-")[0]]
    native = ["native"] if _is_host(triple) else []
    return [*native, *sorted(known.cpus), *([PORTABLE] if known.levels else [])]


def normal_triple(triple: str = "") -> str:
    """The full name of `triple` (`aarch64-linux-gnu`), or this machine's. Raises `PlanishError` if it is not known."""
    if not triple:
        triple = f"{platform.machine()}-linux-gnu"
    found = _TRIPLE.fullmatch(triple)
    arch = found["arch"].lower() if found else ""
    arch = _ALIASES.get(arch, arch)
    if found is None or arch not in _ARCHITECTURES:
        names = ", ".join(f"{arch}-linux-{libc}" for libc in ("gnu", "musl") for arch in _ARCHITECTURES)
        raise PlanishError(f"--triple {triple}: expected one of {names}")
    return f"{arch}-unknown-linux-{found['libc'] or 'gnu'}"


def _is_host(triple: str) -> bool:
    machine = platform.machine().lower()
    return triple.partition("-")[0] == _ALIASES.get(machine, machine)


def targets_for(cpu: str = "", triple: str = "") -> list[TargetInfo]:
    """The CPUs that one artifact holds code for: the one called `cpu`, or for `portable` several, best first."""
    if cpu != PORTABLE:
        return [target_for(cpu, triple)]
    triple = normal_triple(triple)
    levels = _ARCHITECTURES[triple.partition("-")[0]].levels
    if not levels:
        raise PlanishError(f"--cpu {cpu}: {triple} has no levels to choose from: expected one of {_expected(triple)}")
    return [target_for(level, triple) for level in levels]


def target_for(cpu: str = "", triple: str = "") -> TargetInfo:
    """The description of CPU `cpu` of machine `triple`. Without a name, this machine's, or the default of another.
    Raises `PlanishError` for a name not in `cpu_names()`."""
    triple = normal_triple(triple)
    if not cpu:
        cpu = "native" if _is_host(triple) else next(iter(_ARCHITECTURES[triple.partition("-")[0]].cpus))
    if cpu == "native" and _is_host(triple):
        return replace(host(), triple=triple)
    if cpu == PORTABLE:
        raise PlanishError(f"--cpu {cpu}: expected one CPU here: {_expected(triple)}")
    features = _ARCHITECTURES[triple.partition("-")[0]].cpus.get(cpu)
    if features is None:
        raise PlanishError(f"--cpu {cpu}: expected one of {_expected(triple)}")
    return describe(triple, cpu, [f"+{f}" for f in features])


def _expected(triple: str) -> str:
    return ", ".join(name for name in cpu_names(triple) if name != PORTABLE)


def host() -> TargetInfo:
    """The machine that we run on, with its caches."""
    initialize()
    triple = normal_triple()
    known: dict[str, bool] = dict(llvm.get_host_cpu_features())
    used = _ARCHITECTURES[triple.partition("-")[0]].used
    features = [f"+{name}" for name, on in known.items() if on and name in used]
    caches = _caches(Path("/sys/devices/system/cpu/cpu0/cache"))
    return describe(triple, llvm.get_host_cpu_name(), features, caches)


def describe(triple: str, cpu: str, features: list[str], caches: dict[int, int] | None = None) -> TargetInfo:
    """A `TargetInfo` from LLVM's words. `caches`: bytes of data cache by level."""
    on = set(features)
    vector, registers = 16, 16
    if "+avx512f" in on and "+avx512vl" in on:
        vector, registers = 64, 32
    elif "+avx" in on:
        vector = 32
    elif triple.startswith("aarch64"):
        registers = 32
    caches = caches or {}
    return TargetInfo(
        triple=triple,
        cpu=cpu,
        features=tuple(sorted(on)),
        vector_bytes=vector,
        vector_registers=registers,
        fma_ports=1 if cpu in _ONE_FMA and vector in (16, 64) else 2,
        l1_bytes=caches.get(1, 32 * 1024),
        l2_bytes=caches.get(2, 1024 * 1024),
        l3_bytes=caches.get(3, 16 * 1024 * 1024),
    )


def _caches(folder: Path) -> dict[int, int]:
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level = (index / "type").read_text().strip(), int((index / "level").read_text())
            size = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and size[:-1].isdigit():
            found[level] = int(size[:-1]) * {"K": 1024, "M": 1024 * 1024}.get(size[-1], 1)
    return found
