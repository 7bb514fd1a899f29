"""CPUs: the machine we run on, or one chosen by name (`--cpu`), as a `TargetInfo`."""

from __future__ import annotations

import platform
from pathlib import Path

import llvmlite.binding as llvm

from ...ir.errors import PlanishError
from ...ir.target_info import TargetInfo
from .objects import initialize

_V2 = ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
LEVELS: dict[str, tuple[str, ...]] = {"x86-64": (), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
_HASWELL = _V3
_SKYLAKE_X = (
    *_V4,
    "adx",
    "aes",
    "clflushopt",
    "clwb",
    "fsgsbase",
    "pclmul",
    "prfchw",
    "rdrnd",
    "rdseed",
    "xsavec",
    "xsaveopt",
)
# Known CPUs beyond the levels: what their compilers may use is listed, so that an artifact can check it at load.
NAMED: dict[str, tuple[str, ...]] = {
    "haswell": _HASWELL,
    "znver2": _V3,
    "znver3": _V3,
    "skylake-avx512": _SKYLAKE_X,
    "icelake-server": (
        *_SKYLAKE_X,
        "avx512vnni",
        "avx512vbmi",
        "avx512vbmi2",
        "avx512bitalg",
        "avx512vpopcntdq",
        "avx512ifma",
    ),
    "znver4": (
        *_V4,
        "avx512vnni",
        "avx512bf16",
        "avx512vbmi",
        "avx512vbmi2",
        "avx512bitalg",
        "avx512vpopcntdq",
        "avx512ifma",
    ),
}
_HALF_WIDTH = ("znver4",)  # a 512-bit multiply-add takes both 256-bit units
_IGNORED = ("sgx", "pku", "shstk", "amx", "prefer-")  # nothing we generate; not all kernels enable them


def cpu_names() -> list[str]:
    """What `--cpu` takes."""
    return ["native", *LEVELS, *NAMED]


def target_for(cpu: str = "native") -> TargetInfo:
    """The description of CPU `cpu`. Raises `PlanishError` for a name not in `cpu_names()`."""
    if cpu == "native":
        return host()
    features = LEVELS.get(cpu, NAMED.get(cpu))
    if features is None:
        raise PlanishError(f"--cpu {cpu}: expected one of {', '.join(cpu_names())}")
    return describe("x86_64-unknown-linux-gnu", cpu, [f"+{f}" for f in features])


def host() -> TargetInfo:
    """The machine that we run on, with its caches."""
    initialize()
    known: dict[str, bool] = dict(llvm.get_host_cpu_features())
    features = [f"+{name}" for name, on in known.items() if on and not name.startswith(_IGNORED)]
    triple = "x86_64-unknown-linux-gnu" if platform.machine() == "x86_64" else llvm.get_process_triple()
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
        fma_ports=1 if vector == 64 and cpu in _HALF_WIDTH else 2,
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
