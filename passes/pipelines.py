"""Pipelines by name, as text that `PassManager.parse` reads: what `-O0` .. `-O3` mean."""

from __future__ import annotations

_NARROW = "integer-products,widen-halves"
_SIMPLIFY = "canonicalize,fold,cse,dce"
_FUSE = "form-kernels,fuse-kernels,share-rows,fuse-local,dce"
_LOWER = "assign-layouts,lower-program,schedule-cpu,plan-memory"

PIPELINES: dict[str, str] = {
    # Only what is needed: every operation its own kernel, row-major buffers, plain loops. Halves are computed in f32
    # here, too: rounded after every operation, results are further from the real numbers than ONNX's tests allow.
    "O0": "widen-halves,split-host,form-kernels,assign-layouts:plain=1,lower-program,schedule-cpu:plain=1,plan-memory",
    "O1": f"integer-products,{_SIMPLIFY},split-host,form-kernels,{_LOWER}",
    "O2": f"{_NARROW},{_SIMPLIFY},fold-batch-norm,{_SIMPLIFY},split-host,form-kernels,fuse-kernels,dce,{_LOWER}",
    "O3": f"{_NARROW},{_SIMPLIFY},fold-batch-norm,{_SIMPLIFY},split-host,{_FUSE},winograd,{_LOWER}",
}
