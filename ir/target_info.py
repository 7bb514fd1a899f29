"""What passes may know about a target: vector width, registers, caches. Never a backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetInfo:
    """A CPU as schedulers see it. `features` are LLVM names with their sign (`+avx2`), sorted; sizes are in bytes;
    `vector_bytes` is the width of a vector register, `vector_registers` their number; `fma_latency` and `fma_ports`
    in cycles and units give the number of independent accumulators that hide latency (their product)."""

    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024
    l3_bytes: int = 16 * 1024 * 1024
    fma_latency: int = 4
    fma_ports: int = 2
    threads: int = 1

    def lanes(self, element_bytes: int) -> int:
        """Elements of one vector register."""
        return max(1, self.vector_bytes // element_bytes)

    @property
    def architecture(self) -> str:
        """`x86_64` or `aarch64`."""
        return self.triple.partition("-")[0]

    @property
    def fused(self) -> bool:
        """Whether there is an instruction for multiply-add."""
        return self.has("fma") or self.architecture == "aarch64"

    def has_masks(self, element_bytes: int) -> bool:
        """Whether loads and stores can leave out lanes of elements of so many bytes."""
        return self.has("avx512bw") or (self.has("avx") and element_bytes >= 4)

    def has(self, feature: str) -> bool:
        """True when LLVM feature `feature` (no sign) is on."""
        return f"+{feature}" in self.features
