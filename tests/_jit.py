"""Runs emitted kernels in this process: objects loaded with LLJIT, buffers in their physical layouts."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from planish.codegen.llvm.kernel import KernelCode, emit_kernel
from planish.codegen.llvm.objects import compile_object, lljit
from planish.ir.expr import as_expr
from planish.ir.kernel.form import Kernel
from planish.ir.packing import packed, unpack
from planish.ir.target_info import TargetInfo
from planish.ir.types import TensorType

_FAIL = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)
_TASK = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32
)
GUARD = 256  # bytes around every buffer that must stay as they are


@dataclass
class Loaded:
    """A kernel as machine code. `failures` collects calls of planish_fail_index: (node, value, low, end)."""

    kernel: Kernel
    code: KernelCode
    symbols: tuple[str, ...]
    object: bytes
    failures: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])

    def __post_init__(self) -> None:
        self._jit = lljit()
        self._callback: Any = _FAIL(self._failed)
        builder = llvm.JITLibraryBuilder().add_object_img(self.object).add_current_process()
        address: int | None = ctypes.cast(self._callback, ctypes.c_void_p).value
        builder.import_symbol("planish_fail_index", address or 0)
        for stage in self.code.stages:
            builder.export_symbol(stage.symbol)
        self._library = builder.link(self._jit, self.code.stages[0].symbol if self.code.stages else "empty")
        addresses: list[Any] = [self._library[s.symbol] for s in self.code.stages]
        self._tasks = [_TASK(a) for a in addresses]

    def _failed(self, env: int, *rest: int) -> int:
        node, value, low, end = rest
        self.failures.append((node, value, low, end))
        return 7

    def run(self, *arrays: np.ndarray, symbols: Mapping[str, int] | None = None, parts: int = 1) -> list[np.ndarray]:
        """The outputs for `arrays`; ranges are cut into `parts`. Raises AssertionError for a nonzero status or a
        write outside a buffer."""
        symbols = dict(symbols or {})
        outs = self.kernel.outputs
        types = [p.tensor for p in self.kernel.params] + list(self.code.locals)
        types = [_fixed(t, symbols) for t in types]
        images = [packed(np.ascontiguousarray(a), t.layout) for a, t in zip(arrays, types, strict=False)]
        first = len(self.kernel.params) - outs
        assert len(images) in (first, first + outs)
        stores = [_guarded(images[n] if n < len(images) else None, t) for n, t in enumerate(types)]
        status = self.call([s[GUARD:] for s in stores], symbols, parts)
        assert status == 0, f"status {status}, failures {self.failures}"
        for s in stores:
            assert (s[:GUARD] == 0xA5).all() and (s[-GUARD:] == 0xA5).all(), "a write outside a buffer"
        results = types[first : len(self.kernel.params)]
        return [unpack(s[GUARD:-GUARD], t) for s, t in zip(stores[first:], results, strict=False)]

    def call(self, buffers: Sequence[np.ndarray], symbols: Mapping[str, int], parts: int = 1) -> int:
        """Run all stages on physical buffers; gives the status."""
        pointers = (ctypes.c_void_p * len(buffers))(*(b.ctypes.data for b in buffers))
        values = (ctypes.c_int64 * (len(self.symbols) + 1))(*(symbols[s] for s in self.symbols), 42)
        for task, stage in zip(self._tasks, self.code.stages, strict=True):
            count = as_expr(stage.count).evaluate(symbols)
            scratch = np.zeros(as_expr(stage.scratch_bytes).evaluate(symbols) + 64, np.uint8)
            env = (ctypes.c_int64 * 8)(0, 0, 0, 0, 0, scratch.ctypes.data, scratch.nbytes, 0)
            cuts = [count * i // parts for i in range(parts + 1)]
            for begin, end in pairwise(cuts):
                status = task(
                    ctypes.addressof(env), ctypes.addressof(pointers), ctypes.addressof(values), begin, end, 0
                )
                if status:
                    return status
        return 0


def load(kernel: Kernel, target: TargetInfo, symbols: Sequence[str] = ()) -> Loaded:
    """Compile `kernel` for `target` and load it."""
    code = emit_kernel(kernel, target, "pk_test", program_symbols=symbols)
    return Loaded(kernel, code, tuple(symbols), compile_object(code.text, target, 2))


def _fixed(t: TensorType, symbols: Mapping[str, int]) -> TensorType:
    return TensorType(t.dtype, tuple(as_expr(d).evaluate(symbols) for d in t.dims), t.layout)


def _guarded(image: bytes | None, t: TensorType) -> np.ndarray:
    size = as_expr(t.storage_bytes).constant
    assert size is not None
    whole = np.full(size + 2 * GUARD, 0xA5, np.uint8)
    if image is not None:
        whole[GUARD:-GUARD] = np.frombuffer(image, np.uint8)[:size]
    return whole
